//! The background workers: who they are, what they do by themselves, and that they are in nobody's way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, holds, number, quiet, wait_for, with_accounts,
    with_extension, worker,
};
use pg_query_cache_harness::{Cluster, Signal, wait_until};

#[test]
fn they_show_in_pg_stat_activity() -> Result<()> {
    let cluster = with_accounts(quiet("worker-names"))?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    worker(&cluster)?;
    let mut client = cluster.connect(DATABASE)?;
    let seen: String = client
        .query_one(
            "SELECT string_agg(concat_ws('|', backend_type, datname, usename, application_name, state), E'\\n' ORDER BY backend_type)
             FROM pg_stat_activity WHERE backend_type LIKE 'pg_query_cache%'",
            &[],
        )?
        .get(0);
    assert_eq!(
        seen,
        "pg_query_cache launcher|postgres|\npg_query_cache worker|postgres|postgres|pg_query_cache|idle"
    );
    // One for each database that has the extension, none for others.
    client.batch_execute("CREATE DATABASE none")?;
    for name in ["one", "two"] {
        client.batch_execute(&format!("CREATE DATABASE {name}"))?;
        cluster
            .connect(name)?
            .batch_execute("CREATE EXTENSION pg_query_cache")?;
    }
    wait_for(
        &cluster,
        "three workers",
        "SELECT array_agg(datname ORDER BY datname) = '{one,postgres,two}' FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'",
    )?;
    cluster
        .connect("one")?
        .batch_execute("DROP EXTENSION pg_query_cache")?;
    wait_for(
        &cluster,
        "two workers",
        "SELECT array_agg(datname ORDER BY datname) = '{postgres,two}' FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'",
    )
}

#[test]
fn terminated_they_come_back() -> Result<()> {
    let cluster = with_accounts(quiet("worker-back"))?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    for _ in 0..2 {
        let first = worker(&cluster)?;
        cluster
            .connect(DATABASE)?
            .execute("SELECT pg_terminate_backend($1)", &[&first])?;
        wait_until("another worker", PATIENCE, || {
            worker(&cluster).is_ok_and(|pid| pid != first)
        })?;
    }
    let launcher = || -> Result<i32> {
        Ok(cluster
            .connect(DATABASE)?
            .query_one(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_query_cache launcher'",
                &[],
            )?
            .get(0))
    };
    let first = launcher()?;
    cluster.kill(first, Signal::TERM)?;
    wait_until("another launcher", PATIENCE, || {
        launcher().is_ok_and(|pid| pid != first)
    })?;
    let first = worker(&cluster)?;
    cluster
        .connect(DATABASE)?
        .execute("SELECT pg_terminate_backend($1)", &[&first])?;
    wait_until("another worker from it", PATIENCE, || {
        worker(&cluster).is_ok_and(|pid| pid != first)
    })?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    Ok(())
}

#[test]
fn the_worker_tracks_what_cached_functions_read() -> Result<()> {
    let cluster =
        with_extension(quiet("worker-tracks").setting("pg_query_cache.auto_track", "on"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE seen (id integer, v integer);
         CREATE TABLE parted (id integer) PARTITION BY RANGE (id);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
         CREATE FUNCTION sum_of() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT (SELECT count(*) FROM seen) + (SELECT count(*) FROM parted)';
         SELECT cache_function('sum_of()');",
    )?;
    assert_eq!(number(&mut client, "SELECT sum_of_cached()")?, 0);
    wait_for(
        &cluster,
        "a hit",
        "SELECT sum_of_cached() = 0 AND (SELECT hits > 0 FROM cache_stats())",
    )?;
    client.batch_execute("INSERT INTO seen VALUES (1); INSERT INTO parted_1 VALUES (1)")?;
    assert_eq!(number(&mut client, "SELECT sum_of_cached()")?, 2);

    // Not on behalf of an owner who may not create triggers there.
    client.batch_execute(
        "CREATE ROLE stranger; GRANT USAGE, CREATE ON SCHEMA public TO stranger;
         CREATE TABLE foreign_to_it (id integer); GRANT SELECT ON foreign_to_it TO stranger;
         SET ROLE stranger;
         CREATE FUNCTION count_it() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM foreign_to_it';
         SELECT cache_function('count_it()');
         SELECT count_it_cached();
         RESET ROLE;
         CREATE TABLE marker (id integer);
         CREATE FUNCTION count_marker() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM marker';
         SELECT cache_function('count_marker()');
         SELECT count_marker_cached();",
    )?;
    wait_for(
        &cluster,
        "the next request is served",
        "SELECT count_it_cached() = 0 AND count_marker_cached() = 0
             AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'marker'::regclass)",
    )?;
    assert!(holds(
        &mut client,
        "SELECT NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'foreign_to_it'::regclass)"
    )?);
    Ok(())
}

/// A table with a long reader and a queue of writers behind the worker would stand still.
#[test]
fn the_worker_does_not_hold_up_the_applications_locks() -> Result<()> {
    let cluster = with_extension(
        quiet("worker-lock")
            .setting("pg_query_cache.auto_track", "on")
            .setting("pg_query_cache.tracking_lock_timeout", "1s"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE busy (id integer);
         CREATE FUNCTION count_busy() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM busy';
         SELECT cache_function('count_busy()');
         CREATE FUNCTION one() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         SELECT cache_function('one()');",
    )?;
    // The first use of the cache waits for the transactions that are running then.
    number(&mut client, "SELECT one_cached()")?;
    let mut writer = cluster.connect(DATABASE)?;
    writer.batch_execute("BEGIN; INSERT INTO busy VALUES (1)")?;
    number(&mut client, "SELECT count_busy_cached()")?;
    wait_for(
        &cluster,
        "the worker waits for the lock",
        "SELECT count_busy_cached() = 0 AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND wait_event_type = 'Lock')",
    )?;
    // Whoever comes meanwhile waits for a moment at most.
    let began = Instant::now();
    cluster
        .connect(DATABASE)?
        .batch_execute("SET lock_timeout = '3s'; INSERT INTO busy VALUES (2)")?;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    writer.batch_execute("COMMIT")?;
    wait_for(
        &cluster,
        "it is tracked in the end",
        "SELECT count_busy_cached() = 2 AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'busy'::regclass)",
    )
}

#[test]
fn it_cleans_up_and_writes_by_itself() -> Result<()> {
    let cluster = with_accounts(
        quiet("worker-upkeep")
            .setting("pg_query_cache.cleanup_interval", "1s")
            .setting("pg_query_cache.flush_interval", "1s"),
    )?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    wait_for(
        &cluster,
        "entries in the table",
        "SELECT count(*) > 100 FROM query_cache",
    )?;
    cluster
        .connect(DATABASE)?
        .batch_execute("UPDATE accounts SET balance = 0")?;
    wait_for(
        &cluster,
        "dead entries are gone, and it is noted",
        "SELECT entries = 0 AND (SELECT count(*) = 0 FROM query_cache) AND EXISTS (SELECT FROM cache_cleanup_log WHERE dead_entries > 100)
         FROM cache_stats()",
    )?;
    // Settings are read again, and a worker that is off stays quiet.
    cluster.set("pg_query_cache.cleanup_interval", "0")?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    Ok(())
}

fn commands_on(cluster: &Cluster, database: &str) -> Result<()> {
    let mut other = cluster.connect(database)?;
    other.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_query_cache")?;
    drop(other);
    wait_for(
        cluster,
        "its worker",
        &format!(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = '{database}')"
        ),
    )
}

#[test]
fn it_is_in_nobodys_way() -> Result<()> {
    let cluster = with_extension(quiet("worker-databases"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE first")?;
    commands_on(&cluster, "first")?;
    client.batch_execute("ALTER DATABASE first RENAME TO second")?;
    commands_on(&cluster, "second")?;
    client.batch_execute("CREATE DATABASE third TEMPLATE second")?;
    commands_on(&cluster, "second")?;
    commands_on(&cluster, "third")?;
    client.batch_execute("DROP DATABASE second")?;
    // The session's own database as a template: only others would be in the way.
    commands_on(&cluster, DATABASE)?;
    client.batch_execute("CREATE DATABASE own TEMPLATE postgres")?;
    commands_on(&cluster, DATABASE)?;
    client.batch_execute("DROP DATABASE third WITH (FORCE)")?;
    // One that fails leaves the worker where it was.
    client.batch_execute("CREATE DATABASE fourth")?;
    commands_on(&cluster, "fourth")?;
    let guest = cluster.connect("fourth")?;
    assert!(client.batch_execute("DROP DATABASE fourth").is_err());
    drop(guest);
    commands_on(&cluster, "fourth")?;
    // template1 with the extension: every new database has it.
    cluster
        .connect("template1")?
        .batch_execute("CREATE EXTENSION pg_query_cache")?;
    client.batch_execute("CREATE DATABASE fifth")?;
    assert!(holds(
        &mut cluster.connect("fifth")?,
        "SELECT count(*) = 1 FROM pg_extension WHERE extname = 'pg_query_cache'"
    )?);
    assert!(!cluster.log_contains("PANIC"));
    Ok(())
}
