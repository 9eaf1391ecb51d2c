//! A `redis-server` that nobody else uses: memory only, reached through its socket only.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::Result;
use pg_query_cache_harness::Cluster;

use crate::service::{self, Service};
use crate::wire;

/// The running server.
#[derive(Debug)]
pub(crate) struct Redis(Service);

impl Redis {
    /// Starts it beside the cluster; nothing if it is not installed.
    pub(crate) fn start(cluster: &Cluster) -> Result<Option<Self>> {
        let Some(program) = service::program("redis-server") else {
            return Ok(None);
        };
        let folder = service::folder_beside(cluster, "redis");
        let service = Service::start(
            &program,
            folder,
            |folder| {
                let socket = folder.join("socket").display().to_string();
                let settings = [
                    "--port",
                    "0",
                    "--unixsocket",
                    &socket,
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ];
                Ok(settings.map(str::to_owned).to_vec())
            },
            |folder| UnixStream::connect(folder.join("socket")).is_ok(),
        )?;
        Ok(Some(Redis(service)))
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.folder().join("socket")
    }

    /// Stores values under keys.
    pub(crate) fn set<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<()> {
        let commands = values.into_iter().map(|(key, value)| ["SET", key, value]);
        wire::redis_commands(&self.socket(), commands)
    }
}
