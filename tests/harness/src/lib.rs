//! A private PostgreSQL cluster for tests, demo and benchmarks.
//!
//! Nothing of the user's is touched: the cluster has its own data folder below the build folder, its own socket
//! folder below the system's temporary folder and listens on no network address. It lives as long as its
//! [`Cluster`] value, unless [`Cluster::keep`] says otherwise.
//!
//! ```no_run
//! use pg_query_cache_harness::{Cluster, Mode};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::builder("example").setting("work_mem", "16MB").build()?;
//! cluster.connect("postgres")?.batch_execute("CREATE EXTENSION pg_query_cache")?;
//! cluster.restart(Mode::Immediate)?;
//! println!("{}", cluster.psql("postgres", "SELECT version()")?);
//! # Ok(())
//! # }
//! ```
//!
//! Folders (`<name>` is the cluster's):
//!
//! | what | where |
//! |---|---|
//! | data | `<target>/clusters/<name>/data`; below the temporary folder if the server's user cannot get there |
//! | server log | `<target>/clusters/<name>/server.log` |
//! | settings | `harness.conf` in the data folder, included last by `postgresql.conf`; `ALTER SYSTEM` still wins |
//! | socket | `<tmp>/pgqc-<hash>`, short because a socket's path ends at 107 bytes |
//!
//! `PG_CONFIG` chooses the PostgreSQL installation, else the `pg_config` found in `PATH`. PostgreSQL refuses to run as
//! root, so root runs the server programs as the operating system's user `postgres`.

mod builder;
mod cluster;
mod installation;
mod place;
mod process;
mod wait;

pub use builder::Builder;
pub use cluster::{Cluster, Mode};
pub use installation::Installation;
/// The client library that [`Cluster::connect`] returns connections of.
pub use postgres;
pub use rustix::process::Signal;
pub use wait::wait_until;
