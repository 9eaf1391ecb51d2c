//! The private cluster, its programs and its sessions.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster};

/// The database of the subject.
pub(crate) const DATABASE: &str = "bench";

/// The settings of both clusters, where they differ from the harness's.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("jit", "off"),
    // Computations are counted by a sequence.
    ("pg_query_cache.trusted_functions", "nextval(regclass)"),
];

/// Starts a cluster, with the extension preloaded or not.
pub(crate) fn start(name: &str, preload: bool) -> Result<Cluster> {
    describe(name).preload(preload).build()
}

/// Starts a cluster with other settings than most, the cache's size above all.
pub(crate) fn start_with(name: &str, settings: &[(&str, &str)]) -> Result<Cluster> {
    let described = settings
        .iter()
        .fold(describe(name), |builder, (name, value)| {
            builder.setting(name, value)
        });
    described.build()
}

/// Starts a cluster that waits for the disk at each commit, as a server does whose data matter.
pub(crate) fn start_durable(name: &str) -> Result<Cluster> {
    start_with(name, &[("fsync", "on")])
}

fn describe(name: &str) -> Builder {
    SETTINGS
        .iter()
        .fold(Cluster::builder(name), |builder, (name, value)| {
            builder.setting(name, value)
        })
}

/// Fills a database with pgbench's tables.
pub(crate) fn initialize_pgbench(cluster: &Cluster, database: &str, scale: u32) -> Result<()> {
    let status = cluster
        .program("pgbench")
        .args([
            "--initialize",
            "--quiet",
            &format!("--scale={scale}"),
            database,
        ])
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "pgbench --initialize failed");
    Ok(())
}

/// Makes a database with what the scripts put into it.
pub(crate) fn create_database(cluster: &Cluster, name: &str, scripts: &[&str]) -> Result<()> {
    cluster
        .connect("postgres")?
        .batch_execute(&format!("CREATE DATABASE {name}"))?;
    for script in scripts {
        cluster.psql(name, script)?;
    }
    Ok(())
}

/// A load that `pgbench` drives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Host and port, if something stands in front of the cluster.
    pub(crate) place: Option<(&'a Path, u16)>,
    /// The database.
    pub(crate) database: &'a str,
    /// The transaction; the built-in one of this name if it begins with `@`.
    pub(crate) script: &'a str,
    /// How statements are sent, as pgbench calls it.
    pub(crate) protocol: &'a str,
    /// Sessions.
    pub(crate) clients: usize,
    /// How long.
    pub(crate) length: Length,
    /// Settings of the sessions, as `PGOPTIONS` has them.
    pub(crate) settings: &'a str,
}

/// How long a load goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// So many seconds, of which pgbench knows whole ones only.
    Seconds(u32),
    /// So many transactions in each session.
    Transactions(u32),
}

impl<'a> Load<'a> {
    /// A second of prepared statements in one session.
    pub(crate) fn of(cluster: &'a Cluster, database: &'a str, script: &'a str) -> Self {
        Load {
            cluster,
            place: None,
            database,
            script,
            protocol: "prepared",
            clients: 1,
            length: Length::Seconds(1),
            settings: "",
        }
    }

    /// Transactions per second.
    pub(crate) fn tps(&self) -> Result<f64> {
        let (file, text) = match self.script.strip_prefix('@') {
            Some(builtin) => (format!("--builtin={builtin}"), ""),
            None => ("--file=-".to_owned(), self.script),
        };
        let threads = self.clients.min(cores());
        let mut command = self.cluster.program("pgbench");
        command
            .arg("--no-vacuum")
            .arg(file)
            .arg(format!("--protocol={}", self.protocol))
            .arg(format!("--client={}", self.clients))
            .arg(format!("--jobs={threads}"))
            .arg(match self.length {
                Length::Seconds(seconds) => format!("--time={seconds}"),
                Length::Transactions(each) => format!("--transactions={each}"),
            })
            .arg(self.database);
        if !self.settings.is_empty() {
            command.env("PGOPTIONS", self.settings);
        }
        if let Some((host, port)) = self.place {
            command.env("PGHOST", host).env("PGPORT", port.to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run pgbench")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let tps = printed
            .lines()
            .find_map(|line| line.strip_prefix("tps = "))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok());
        match tps {
            Some(tps) if output.status.success() => Ok(tps),
            _ => bail!(
                "pgbench: {printed}{}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

/// The server's socket itself.
pub(crate) fn socket(cluster: &Cluster) -> PathBuf {
    let name = format!(".s.PGSQL.{}", cluster.port());
    cluster.socket_dir().join(name)
}

/// How many processors there are.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs a statement and returns how long it took, in microseconds.
pub(crate) fn timed(client: &mut Client, sql: &str) -> Result<f64> {
    let begin = Instant::now();
    client.simple_query(sql).with_context(|| sql.to_owned())?;
    Ok(begin.elapsed().as_secs_f64() * 1e6)
}

/// The first column of the first row, as text.
pub(crate) fn ask(client: &mut Client, sql: &str) -> Result<String> {
    use pg_query_cache_harness::postgres::SimpleQueryMessage;
    let messages = client.simple_query(sql).with_context(|| sql.to_owned())?;
    messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        })
        .with_context(|| format!("no answer to {sql}"))
}

/// One of the totals of `cache_stats()`.
pub(crate) fn total(client: &mut Client, column: &str) -> Result<f64> {
    Ok(ask(client, &format!("SELECT {column} FROM cache_stats()"))?.parse()?)
}
