//! Restarts: after a clean one the cache is warm, after any other it is empty, and after none it is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, answers_are_right, counters, holds, number, quiet, wait_for, with_accounts, worker,
};
use pg_query_cache_harness::{Cluster, Mode};

#[test]
fn after_a_fast_restart_the_first_call_is_a_hit() -> Result<()> {
    let cluster = with_accounts(quiet("restart-fast"))?;
    let before = answers_are_right(&mut cluster.connect(DATABASE)?)?;
    // It writes what memory has when the server stops.
    worker(&cluster)?;

    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(number(&mut client, "SELECT total_cached()")? == before);
    let now = counters(&mut client, "total_cached")?;
    assert!((now.hits, now.misses) == (1, 0), "{now:?}");
    answers_are_right(&mut client)?;
    let now = counters(&mut client, "balance_cached")?;
    assert!(now.misses == 0, "{now:?}");

    // What is written after the restart is seen like before it, also across another restart.
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    assert!(answers_are_right(&mut client)? == before + 1);
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(number(&mut client, "SELECT total_cached()")? == before + 1);
    assert!(counters(&mut client, "total_cached")?.hits == 1);
    worker(&cluster)?;
    Ok(())
}

#[test]
fn what_was_invalid_stays_invalid_over_a_fast_restart() -> Result<()> {
    let cluster = with_accounts(quiet("restart-invalid"))?;
    let mut client = cluster.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    client.batch_execute("SELECT flush_cache()")?;
    // In the table, and written to afterwards, by a transaction that nobody's snapshot has settled yet.
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    drop(client);
    cluster.restart(Mode::Fast)?;
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? == before + 1);
    Ok(())
}

#[test]
fn after_a_crash_nothing_is_left_of_either_tier() -> Result<()> {
    let cluster = with_accounts(quiet("restart-immediate"))?;
    let mut client = cluster.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    client.batch_execute("SELECT flush_cache()")?;
    assert!(number(&mut client, "SELECT count(*) FROM query_cache")? > 100);
    drop(client);

    cluster.restart(Mode::Immediate)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(number(&mut client, "SELECT count(*) FROM query_cache")? == 0);
    assert!(number(&mut client, "SELECT entries FROM cache_stats()")? == 0);
    assert!(answers_are_right(&mut client)? == before);
    assert!(counters(&mut client, "total_cached")?.hits == 1);
    worker(&cluster)?;
    Ok(())
}

/// A transaction prepared before the restart may write anything when it is committed after it.
fn prepared_across(cluster: &Cluster, mode: Mode) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    for (name, by) in [("one", 1), ("two", 10), ("three", 100)] {
        client.batch_execute(&format!(
            "BEGIN; UPDATE accounts SET balance = balance + {by} WHERE id = {by}; PREPARE TRANSACTION '{name}'"
        ))?;
    }
    assert!(answers_are_right(&mut client)? == before);
    client.batch_execute("SELECT flush_cache()")?;
    drop(client);

    cluster.restart(mode)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(answers_are_right(&mut client)? == before);
    let mut old = cluster.connect(DATABASE)?;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
    client.batch_execute("COMMIT PREPARED 'one'")?;
    assert!(answers_are_right(&mut client)? == before + 1);
    assert!(answers_are_right(&mut old)? == before);

    // Once more, with one that stays.
    old.batch_execute("COMMIT")?;
    client.batch_execute("ROLLBACK PREPARED 'two'")?;
    assert!(answers_are_right(&mut client)? == before + 1);
    drop((client, old));
    cluster.restart(mode)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(answers_are_right(&mut client)? == before + 1);
    client.batch_execute("COMMIT PREPARED 'three'")?;
    assert!(answers_are_right(&mut client)? == before + 101);

    // When none is left, the cache is used again.
    wait_for(
        cluster,
        "the cache is used again",
        "WITH before AS MATERIALIZED (SELECT bypasses, total_cached() FROM cache_stats())
         SELECT s.bypasses = before.bypasses FROM before, LATERAL (SELECT * FROM cache_stats() WHERE before IS NOT NULL) AS s",
    )?;
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? == before + 101);
    Ok(())
}

#[test]
fn prepared_transactions_survive_a_fast_restart() -> Result<()> {
    let cluster = with_accounts(quiet("restart-prepared-fast"))?;
    prepared_across(&cluster, Mode::Fast)
}

#[test]
fn prepared_transactions_survive_a_crash() -> Result<()> {
    let cluster = with_accounts(quiet("restart-prepared-crash"))?;
    prepared_across(&cluster, Mode::Immediate)
}

/// Nobody waits for it, in no database, and what it wrote is seen when it ends.
#[test]
fn a_transaction_prepared_before_a_crash_keeps_nobody_from_the_cache() -> Result<()> {
    let cluster =
        with_accounts(quiet("restart-prepared-used").setting("max_prepared_transactions", 4))?;
    let mut client = cluster.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    for name in ["kept", "undone"] {
        client.batch_execute(&format!(
            "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = length('{name}'); PREPARE TRANSACTION '{name}'"
        ))?;
    }
    drop(client);
    cluster.restart(Mode::Immediate)?;
    let mut old = cluster.connect(DATABASE)?;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
    let is_used = |expected: i64, when: &str| -> Result<()> {
        let mut client = cluster.connect(DATABASE)?;
        assert_eq!(answers_are_right(&mut client)?, expected, "{when}");
        let before = counters(&mut client, "total_cached")?;
        assert_eq!(number(&mut client, "SELECT total_cached()")?, expected);
        let after = counters(&mut client, "total_cached")?;
        assert_eq!(
            (after.hits, after.bypasses),
            (before.hits + 1, before.bypasses),
            "{when}"
        );
        Ok(())
    };
    is_used(before, "both are prepared")?;
    cluster
        .connect(DATABASE)?
        .batch_execute("COMMIT PREPARED 'kept'")?;
    is_used(before + 1, "one is committed")?;
    assert_eq!(answers_are_right(&mut old)?, before);
    // Neither a clean restart nor another crash forgets the one that is left.
    for mode in [Mode::Fast, Mode::Immediate] {
        cluster.restart(mode)?;
        is_used(before + 1, "one is left")?;
    }
    cluster
        .connect(DATABASE)?
        .batch_execute("ROLLBACK PREPARED 'undone'")?;
    is_used(before + 1, "none is left")?;
    Ok(())
}

/// A transaction that has planned what the prepared one changes keeps its plans until it ends.
#[test]
fn definitions_prepared_before_a_crash_are_not_missed_by_who_has_planned() -> Result<()> {
    let cluster =
        with_accounts(quiet("restart-prepared-ddl").setting("max_prepared_transactions", 4))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION inner_v() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         CREATE FUNCTION outer_sql() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT inner_v() + 0 * id FROM accounts WHERE id = 1';
         CREATE FUNCTION base() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN outer_sql(); END';
         SELECT cache_function('base()')",
    )?;
    client.batch_execute(
        "BEGIN;
         CREATE OR REPLACE FUNCTION inner_v() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 2::bigint';
         PREPARE TRANSACTION 'p'",
    )?;
    drop(client);
    cluster.restart(Mode::Immediate)?;
    let mut planned = cluster.connect(DATABASE)?;
    planned.batch_execute("BEGIN")?;
    assert_eq!(number(&mut planned, "SELECT base()")?, 1);
    let mut client = cluster.connect(DATABASE)?;
    assert_eq!(number(&mut client, "SELECT base_cached()")?, 1);
    client.batch_execute("COMMIT PREPARED 'p'")?;
    // Whatever it gets with what it has planned, nobody else may.
    number(&mut planned, "SELECT base()")?;
    number(&mut planned, "SELECT base_cached()")?;
    for _ in 0..2 {
        assert_eq!(number(&mut client, "SELECT base_cached()")?, 2);
        assert_eq!(
            number(&mut cluster.connect(DATABASE)?, "SELECT base_cached()")?,
            2
        );
    }
    Ok(())
}

/// A transaction from before CREATE EXTENSION has marked nothing. It outlives a clean restart, and what it has changed is seen.
#[test]
fn what_was_prepared_before_the_extension_is_not_missed_after_a_restart() -> Result<()> {
    let cluster = quiet("restart-prepared-before")
        .setting("max_prepared_transactions", 4)
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION inner_v() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         CREATE FUNCTION base() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN inner_v(); END'",
    )?;
    client.batch_execute(
        "BEGIN;
         CREATE OR REPLACE FUNCTION inner_v() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 2::bigint';
         PREPARE TRANSACTION 'p'",
    )?;
    client.batch_execute("CREATE EXTENSION pg_query_cache; SELECT cache_function('base()')")?;
    drop(client);
    for _ in 0..2 {
        cluster.restart(Mode::Fast)?;
        let mut client = cluster.connect(DATABASE)?;
        for _ in 0..3 {
            assert_eq!(number(&mut client, "SELECT base_cached()")?, 1);
        }
    }
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("COMMIT PREPARED 'p'")?;
    assert_eq!(number(&mut client, "SELECT base_cached()")?, 2);
    assert_eq!(
        number(&mut cluster.connect(DATABASE)?, "SELECT base_cached()")?,
        2
    );
    Ok(())
}

#[test]
fn what_was_written_without_the_library_is_seen_with_it() -> Result<()> {
    let cluster = with_accounts(quiet("restart-without"))?;
    let before = answers_are_right(&mut cluster.connect(DATABASE)?)?;

    cluster.set("shared_preload_libraries", "")?;
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("UPDATE accounts SET balance = balance + 5 WHERE id = 1")?;
    assert!(answers_are_right(&mut client)? == before + 5);
    drop(client);

    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Fast)?;
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? == before + 5);

    // The same with a crash on the way, and without a write: then nobody can know that there was none.
    cluster.set("shared_preload_libraries", "")?;
    cluster.restart(Mode::Fast)?;
    cluster
        .connect(DATABASE)?
        .batch_execute("DELETE FROM accounts WHERE id = 1")?;
    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Immediate)?;
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? < before);
    Ok(())
}

/// An older copy of the data folder, with the newer slots: as a restore from a backup does it.
#[test]
fn slots_of_another_time_are_not_taken() -> Result<()> {
    let cluster = with_accounts(quiet("restart-old-slots"))?;
    let before = answers_are_right(&mut cluster.connect(DATABASE)?)?;
    cluster.stop(Mode::Fast)?;
    let slots: Vec<_> = std::fs::read_dir(cluster.data_dir())?
        .chain(std::fs::read_dir(cluster.data_dir().join("pg_stat"))?)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().contains("pg_query_cache"))
        .collect();
    assert!(!slots.is_empty(), "the slots are not saved");
    let kept: Vec<_> = slots
        .iter()
        .map(|path| Ok((path, std::fs::read(path)?)))
        .collect::<Result<_>>()?;
    cluster.start()?;
    for (path, _) in &kept {
        assert!(!path.exists(), "{} outlives the start", path.display());
    }
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    client.batch_execute("UPDATE accounts SET balance = balance + 5 WHERE id = 1")?;
    drop(client);
    cluster.stop(Mode::Fast)?;
    for (path, bytes) in &kept {
        // Into the file that is there, so that it belongs to the server's user.
        std::fs::write(path, bytes)?;
    }
    cluster.start()?;
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? == before + 5);

    // Bytes that are none.
    cluster.stop(Mode::Fast)?;
    for (path, bytes) in &kept {
        std::fs::write(path, &bytes[..bytes.len() / 2])?;
    }
    cluster.start()?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(answers_are_right(&mut client)? == before + 5);
    assert!(holds(
        &mut client,
        "SELECT hits > 0 AND damaged = 0 FROM cache_stats()"
    )?);
    Ok(())
}
