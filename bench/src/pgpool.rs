//! pgpool-II in front of a cluster, with its query cache in shared memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::{Client, NoTls, SimpleQueryMessage};

use crate::service::{self, Service};

/// The port that names its socket.
const PORT: u16 = 9999;

/// The running proxy.
#[derive(Debug)]
pub(crate) struct Pgpool(Service);

impl Pgpool {
    /// Starts it in front of the cluster; nothing if it is not installed.
    pub(crate) fn start(cluster: &Cluster) -> Result<Option<Self>> {
        let Some(program) = service::program("pgpool") else {
            return Ok(None);
        };
        let folder = service::folder_beside(cluster, "pgpool");
        let service = Service::start(
            &program,
            folder,
            |folder| {
                let text = |name: &str| folder.join(name).display().to_string();
                fs::create_dir_all(folder.join("oids"))?;
                fs::write(folder.join("pgpool.conf"), settings(cluster, folder))?;
                fs::write(folder.join("pcp.conf"), "")?;
                let words = ["-n", "-f", &text("pgpool.conf"), "-F", &text("pcp.conf")];
                Ok(words.map(str::to_owned).to_vec())
            },
            |folder| connect(folder, "postgres").is_ok(),
        )?;
        Ok(Some(Pgpool(service)))
    }

    /// The folder of its socket, and its port: what clients call host and port.
    pub(crate) fn place(&self) -> (&Path, u16) {
        (self.0.folder(), PORT)
    }

    /// How many answers have come out of its cache so far.
    pub(crate) fn hits(&self, database: &str) -> Result<f64> {
        let mut client = connect(self.0.folder(), database)?;
        let messages = client.simple_query("SHOW pool_cache")?;
        messages
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get("num_cache_hits"),
                _ => None,
            })
            .and_then(|number| number.trim().parse().ok())
            .context("pgpool does not say how often its cache was hit")
    }
}

fn connect(folder: &Path, database: &str) -> Result<Client> {
    let mut config = Client::configure();
    config
        .host_path(folder)
        .port(PORT)
        .user("postgres")
        .dbname(database);
    Ok(config.connect(NoTls)?)
}

fn settings(cluster: &Cluster, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "backend_clustering_mode = 'raw'
         backend_hostname0 = '{host}'
         backend_port0 = {port}
         backend_flag0 = 'DISALLOW_TO_FAILOVER'
         listen_addresses = ''
         pcp_listen_addresses = ''
         port = {PORT}
         socket_dir = '{folder}'
         unix_socket_directories = '{folder}'
         pcp_socket_dir = '{folder}'
         work_dir = '{folder}'
         logdir = '{folder}'
         pid_file_name = '{folder}/pid'
         num_init_children = 16
         max_pool = 2
         enable_pool_hba = off
         sr_check_period = 0
         health_check_period = 0
         memory_cache_enabled = on
         memqcache_method = 'shmem'
         memqcache_total_size = 64MB
         memqcache_expire = 0
         memqcache_oiddir = '{folder}/oids'
         ",
        host = cluster.socket_dir().display(),
        port = cluster.port(),
    )
}
