//! How a cluster comes to be: folder, `initdb`, settings, start.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::{Cluster, Layout, run};
use crate::installation::Installation;
use crate::place::{ServerUser, clusters_folder, socket_folder};
use crate::wait::wait_until;

/// How long to wait for another process that uses the cluster of the same name.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// What every cluster starts from; a [`Builder::setting`] of the same name wins.
const DEFAULT_SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("max_connections", "200"),
    ("max_prepared_transactions", "20"),
    ("max_worker_processes", "16"),
    ("shared_buffers", "128MB"),
    // The machine does not lose power in the middle of a test, and a killed server loses nothing without fsync.
    ("fsync", "off"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a: "),
    ("log_checkpoints", "off"),
];

/// Describes a cluster before it exists; made by [`Cluster::builder`], ended by [`Builder::build`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    port: Option<u16>,
    settings: BTreeMap<String, String>,
    preload: bool,
    fresh: bool,
    origin: Origin,
    stopped: bool,
}

/// Where the data folder of a new cluster comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// `initdb`.
    Nothing,
    /// `pg_basebackup` of the running server with this connection string; to be its standby or not.
    Backup { primary: String, standby: bool },
    /// A copy of this data folder, whose server is down; to be the standby of a server or not.
    Copy {
        of: PathBuf,
        standby_of: Option<String>,
    },
    /// `pg_upgrade` of this data folder, whose server is down.
    Upgrade(PathBuf),
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: None,
            settings: BTreeMap::new(),
            preload: true,
            fresh: true,
            origin: Origin::Nothing,
            stopped: false,
        }
    }

    /// The port (default: a free one). It names the socket; set `listen_addresses` to be reached through TCP as well.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A server setting, over the harness's own.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Whether `shared_preload_libraries` names the extension (default: yes).
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Whether to begin with an empty cluster (default), or to go on with the one an earlier run kept, if there is one.
    ///
    /// A kept cluster that still runs with the same settings is taken over as it is.
    #[must_use]
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Makes the cluster a streaming hot standby of `primary`, copied from it by `pg_basebackup`.
    #[must_use]
    pub fn standby_of(mut self, primary: &Cluster) -> Self {
        self.origin = Origin::Backup {
            primary: primary.conninfo(),
            standby: true,
        };
        self
    }

    /// Makes the cluster from a base backup of `original`, which runs and goes on.
    #[must_use]
    pub fn backup_of(mut self, original: &Cluster) -> Self {
        self.origin = Origin::Backup {
            primary: original.conninfo(),
            standby: false,
        };
        self
    }

    /// Makes the cluster from a copy of the files of `original`, which is down.
    #[must_use]
    pub fn copy_of(mut self, original: &Cluster) -> Self {
        self.origin = Origin::Copy {
            of: original.data_dir().to_owned(),
            standby_of: None,
        };
        self
    }

    /// Makes the cluster from a copy of the files of `primary`, which is down, and its standby as soon as both run.
    #[must_use]
    pub fn standby_from_copy_of(mut self, primary: &Cluster) -> Self {
        self.origin = Origin::Copy {
            of: primary.data_dir().to_owned(),
            standby_of: Some(primary.conninfo()),
        };
        self
    }

    /// Makes the cluster from `original`, which is down, by `pg_upgrade`.
    #[must_use]
    pub fn upgrade_of(mut self, original: &Cluster) -> Self {
        self.origin = Origin::Upgrade(original.data_dir().to_owned());
        self
    }

    /// Leaves the new cluster down.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.stopped = true;
        self
    }

    /// Creates the cluster and starts it; returns when it accepts connections.
    pub fn build(self) -> Result<Cluster> {
        let name = self.name.clone();
        self.build_inner()
            .with_context(|| format!("cluster \"{name}\""))
    }

    fn build_inner(self) -> Result<Cluster> {
        if self.name.is_empty()
            || !self
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            bail!("a cluster's name consists of ASCII letters, digits, hyphens and underscores");
        }
        let installation = Installation::find()?;
        let user = ServerUser::find()?;
        let all = clusters_folder(&user)?;
        let lock = lock(&all.join(format!("{}.lock", self.name)))?;
        let folder = all.join(&self.name);
        let data = folder.join("data");
        let layout = Layout {
            installation,
            user,
            socket: socket_folder(&data),
            log: folder.join("server.log"),
            data,
        };

        if self.fresh {
            layout.stop_leftover()?;
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        layout.user.own_folder(&folder)?;
        layout.user.own_folder(&layout.socket)?;
        let created = !layout.data.join("PG_VERSION").exists();
        if created {
            match &self.origin {
                Origin::Nothing | Origin::Upgrade(_) => initdb(&layout)?,
                Origin::Backup { primary, standby } => base_backup(&layout, primary, *standby)?,
                Origin::Copy { of, standby_of } => copy(&layout, of, standby_of.as_deref())?,
            }
        }

        let port = match self.port.or_else(|| layout.port_written()) {
            Some(port) => port,
            None => free_port()?,
        };
        let settings = self.all_settings(&layout.socket, port);
        let changed = layout.write_settings(&settings)?;
        if let (true, Origin::Upgrade(old)) = (created, &self.origin) {
            upgrade(&layout, old)?;
        }
        let cluster = Cluster::new(self.name, layout, port, settings, lock, self.fresh);
        if self.stopped {
            return Ok(cluster);
        }
        if !cluster.is_running() {
            cluster.start()?;
        } else if changed {
            cluster.restart(crate::Mode::Fast)?;
        } else {
            cluster.wait_ready()?;
        }
        Ok(cluster)
    }

    fn all_settings(&self, socket: &Path, port: u16) -> BTreeMap<String, String> {
        let mut settings: BTreeMap<String, String> = DEFAULT_SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let preloaded = if self.preload { "pg_query_cache" } else { "" };
        settings.insert("shared_preload_libraries".to_owned(), preloaded.to_owned());
        settings.extend(self.settings.clone());
        // These two are how the harness finds its server again; nobody overrides them.
        settings.insert(
            "unix_socket_directories".to_owned(),
            socket.display().to_string(),
        );
        settings.insert("port".to_owned(), port.to_string());
        settings
    }
}

fn initdb(layout: &Layout) -> Result<()> {
    let mut command = layout.server_program("initdb");
    command.args([
        "-A",
        "trust",
        "-U",
        "postgres",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "-D",
    ]);
    run(command.arg(&layout.data))?;
    layout.include_settings()
}

fn base_backup(layout: &Layout, primary: &str, standby: bool) -> Result<()> {
    let mut command = layout.server_program("pg_basebackup");
    if standby {
        command.arg("--write-recovery-conf");
    }
    command.args(["--checkpoint=fast", "--no-sync", "-d", primary, "-D"]);
    run(command.arg(&layout.data))?;
    forget_settings(layout)
}

fn copy(layout: &Layout, original: &Path, standby_of: Option<&str>) -> Result<()> {
    let mut command = layout.user.command(Path::new("cp"));
    run(command.arg("-a").arg(original).arg(&layout.data))?;
    if let Some(primary) = standby_of {
        let mut command = layout.user.command(Path::new("touch"));
        run(command.arg(layout.data.join("standby.signal")))?;
        let auto = layout.data.join("postgresql.auto.conf");
        let mut file = File::options().append(true).open(auto)?;
        writeln!(file, "primary_conninfo = '{primary}'")?;
    }
    forget_settings(layout)
}

/// The copy brought the original's settings along, its port and socket included.
fn forget_settings(layout: &Layout) -> Result<()> {
    fs::remove_file(layout.settings_file()).context("the original was not made by the harness")
}

fn upgrade(layout: &Layout, old: &Path) -> Result<()> {
    let mut command = layout.server_program("pg_upgrade");
    let bindir = layout.installation.bindir();
    for (option, value) in [
        ("--old-bindir", bindir),
        ("--new-bindir", bindir),
        ("--old-datadir", old),
        ("--new-datadir", &layout.data),
        ("--socketdir", &layout.socket),
        ("--username", Path::new("postgres")),
    ] {
        command.arg(option).arg(value);
    }
    // It leaves a script behind where it is.
    run(command.current_dir(layout.data.parent().unwrap_or(old)))
}

fn lock(path: &PathBuf) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut failure = None;
    wait_until(
        &format!("{} is held by another process", path.display()),
        LOCK_TIMEOUT,
        || match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => {
                failure = Some(error);
                true
            }
        },
    )?;
    match failure {
        Some(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        None => Ok(file),
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
