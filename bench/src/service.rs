//! A server of somebody else's that runs as long as its value, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use pg_query_cache_harness::{Cluster, wait_until};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running server. Ends with this value, and its folder with it.
#[derive(Debug)]
pub(crate) struct Service {
    process: Child,
    folder: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Asked first: it may have processes and shared memory of its own to end.
        let asked = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let ended = || self.process.try_wait().is_ok_and(|status| status.is_some());
        if asked.is_err() || wait_until("it ends", Duration::from_secs(5), ended).is_err() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Service {
    /// Starts `program` with arguments that may name its folder, and waits until it `answers`.
    pub(crate) fn start(
        program: &Path,
        folder: PathBuf,
        arguments: impl FnOnce(&Path) -> Result<Vec<String>>,
        answers: impl Fn(&Path) -> bool,
    ) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let arguments = arguments(&folder)?;
        let log = fs::File::create(folder.join("log"))?;
        let process = Command::new(program)
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let service = Service { process, folder };
        let what = format!("{} answers", program.display());
        wait_until(&what, PATIENCE, || answers(&service.folder))
            .with_context(|| fs::read_to_string(service.folder.join("log")).unwrap_or_default())?;
        Ok(service)
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A folder for a service beside the socket of a cluster: private and with a short name, as sockets need it.
pub(crate) fn folder_beside(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.socket_dir().join(name)
}

/// Where a program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}
