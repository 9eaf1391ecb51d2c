//! PgBouncer in transaction mode before a cluster: each transaction of a client may run in another session of the server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use pg_query_cache_harness::postgres::{Client, Config, NoTls};
use pg_query_cache_harness::{Cluster, wait_until};

use crate::{DATABASE, PATIENCE};

/// A running PgBouncer; ends with this value.
#[derive(Debug)]
pub struct Pool {
    process: Child,
    folder: PathBuf,
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The port of its socket.
pub const PORT: u16 = 6432;

impl Pool {
    /// Starts PgBouncer before `cluster`, with two server sessions for each of `users`, besides `postgres`.
    ///
    /// # Errors
    /// If it is not installed or does not answer.
    pub fn start(cluster: &Cluster, users: &[&str]) -> Result<Self> {
        let program = [
            "/usr/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
            "/usr/local/bin/pgbouncer",
        ]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .context("pgbouncer is not installed; make setup does that")?;
        // Below the cluster's socket, which is short and belongs to the server's user.
        let folder = cluster.socket_dir().join("pool");
        fs::create_dir_all(&folder)?;
        let owner = fs::metadata(cluster.socket_dir())?;
        let (uid, gid) = (owner.uid(), owner.gid());
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            chown(&path, Some(uid), Some(gid))?;
            Ok(path)
        };
        let users: String = ["postgres"]
            .iter()
            .chain(users)
            .map(|user| format!("\"{user}\" \"\"\n"))
            .collect();
        let users = write("users.txt", users)?;
        let settings = write(
            "pgbouncer.ini",
            format!(
                "[databases]\n{DATABASE} = host={} port={} dbname={DATABASE}\n\
                 [pgbouncer]\nlisten_port = {PORT}\nunix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n\
                 pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n\
                 ignore_startup_parameters = extra_float_digits\nlogfile = {}\n",
                cluster.socket_dir().display(),
                cluster.port(),
                folder.display(),
                users.display(),
                folder.join("log").display(),
            ),
        )?;
        chown(&folder, Some(uid), Some(gid))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        // As the server's user: like PostgreSQL it refuses root.
        let mut command = Command::new(program);
        if uid != fs::metadata("/proc/self")?.uid() {
            // It becomes that user by itself, in this process, so that ending the process ends it.
            command.args(["-u", "postgres"]);
        }
        let process = command
            .arg("-q")
            .arg(&settings)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pool = Self { process, folder };
        wait_until("PgBouncer answers", PATIENCE, || {
            pool.connect("postgres").is_ok()
        })?;
        Ok(pool)
    }

    /// The folder of its socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A session of its.
    ///
    /// # Errors
    /// If there is none to be had.
    pub fn connect(&self, user: &str) -> Result<Client> {
        Ok(Config::new()
            .host_path(&self.folder)
            .port(PORT)
            .user(user)
            .dbname(DATABASE)
            .connect(NoTls)?)
    }
}
