//! Real clients: node-postgres acting as PostgREST does, psycopg; directly and through PgBouncer in transaction mode. The programs are in
//! `tests/clients` and compare each answer with the base function's; `make setup` brings the libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::pool::{PORT, Pool};
use pg_query_cache_cluster_tests::{DATABASE, holds, number, quiet};
use pg_query_cache_harness::Cluster;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

/// Where `make setup` puts the libraries of the clients.
fn libraries() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    target.join("clients")
}

fn shop(name: &str) -> Result<Cluster> {
    let cluster = quiet(name).setting("max_connections", "60").build()?;
    cluster
        .connect(DATABASE)?
        .batch_execute(&fs::read_to_string(here().join("shop.sql"))?)?;
    Ok(cluster)
}

/// Runs a client against the server itself and through a pool, and sees that the cache had to do with it.
fn run(name: &str, command: impl Fn() -> Result<Command>) -> Result<()> {
    let cluster = shop(&format!("client-{name}"))?;
    let pool = Pool::start(&cluster, &["authenticator"])?;
    for (way, folder, port) in [
        ("direct", cluster.socket_dir(), cluster.port()),
        ("pooled", pool.folder(), PORT),
    ] {
        let mut admin = cluster.connect(DATABASE)?;
        let hits = "SELECT coalesce(sum(hits), 0)::bigint FROM cache_function_stats";
        let before = number(&mut admin, hits)?;
        let output = command()?
            .arg(way)
            .env("PGHOST", folder)
            .env("PGPORT", port.to_string())
            .env("PGDATABASE", DATABASE)
            .output()
            .with_context(|| format!("{name} cannot be run; make setup brings it"))?;
        ensure!(
            output.status.success(),
            "{name}, {way}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let hits = number(&mut admin, hits)? - before;
        ensure!(hits > 100, "{name}, {way}: only {hits} hits");
        ensure!(holds(&mut admin, "SELECT damaged = 0 FROM cache_stats()")?);
    }
    Ok(())
}

#[test]
fn node_as_postgrest() -> Result<()> {
    run("node", || {
        let mut command = Command::new("node");
        // Modules are looked for beside the program.
        let program = libraries().join("node/shop.mjs");
        fs::copy(here().join("node/shop.mjs"), &program)
            .with_context(|| format!("{}; make setup", program.display()))?;
        command.arg(program);
        Ok(command)
    })
}

#[test]
fn psycopg() -> Result<()> {
    run("python", || {
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", libraries().join("python"))
            .arg(here().join("python/shop.py"));
        Ok(command)
    })
}
