//! Replication: on a hot standby cached functions answer from the functions, after promotion they cache; on a logical subscriber what
//! is applied invalidates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, counters, holds, number, quiet, with_accounts,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, wait_until};

/// Waits until `check` holds. What goes wrong in it ends the test.
fn soon(what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut outcome = Ok(());
    wait_until(what, PATIENCE, || match check() {
        Ok(holds) => holds,
        Err(error) => {
            outcome = Err(error);
            true
        }
    })?;
    outcome
}

#[test]
fn a_standby_answers_and_caches_once_it_is_promoted() -> Result<()> {
    let primary = with_accounts(quiet("standby-primary"))?;
    let before = answers_are_right(&mut primary.connect(DATABASE)?)?;
    let standby = quiet("standby-replica").standby_of(&primary).build()?;

    let mut on_primary = primary.connect(DATABASE)?;
    let mut on_standby = standby.connect(DATABASE)?;
    soon("the standby to follow", || {
        Ok(number(&mut on_standby, "SELECT total()")? == before)
    })?;
    for change in 1..=3 {
        on_primary.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 7")?;
        soon("the change to arrive", || {
            Ok(number(&mut on_standby, "SELECT total()")? == before + change)
        })?;
        answers_are_right(&mut on_standby)?;
    }
    let counts = counters(&mut on_standby, "total_cached")?;
    assert!((counts.hits, counts.fills) == (0, 0), "{counts:?}");
    assert!(counts.bypasses > 0, "{counts:?}");

    // What would write says so, in the server's own words.
    for command in [
        "invalidate_cache('{x}')",
        "invalidate_cache_function('total_cached(interval)')",
        "invalidate_cache_table('accounts')",
        "clear_cache()",
        "flush_cache()",
        "cleanup_expired_cache()",
        "cache_track_table('accounts')",
        "cache_function('total()', name => 'another')",
    ] {
        let error = standby
            .connect(DATABASE)?
            .simple_query(&format!("SELECT {command}"))
            .unwrap_err();
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("25006"), "{command}: {error:?}");
    }

    // A snapshot that was taken in recovery and is used after it sees by other rules.
    on_standby.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT total_cached()")?;
    standby
        .connect(DATABASE)?
        .batch_execute("SELECT pg_promote(true, 30)")?;
    soon("the promotion", || {
        holds(
            &mut standby.connect(DATABASE)?,
            "SELECT NOT pg_is_in_recovery()",
        )
    })?;
    let mut new = standby.connect(DATABASE)?;
    new.batch_execute("UPDATE accounts SET balance = balance + 10 WHERE id = 7")?;
    assert!(number(&mut on_standby, "SELECT total_cached()")? == before + 3);
    on_standby.batch_execute("COMMIT")?;

    assert!(answers_are_right(&mut new)? == before + 13);
    assert!(answers_are_right(&mut on_standby)? == before + 13);
    assert!(
        counters(&mut new, "total_cached")?.hits > 0,
        "it caches now"
    );
    Ok(())
}

/// A table `accounts` on the subscriber that follows the publisher's.
fn subscribe(publisher: &Cluster, subscriber: &Cluster) -> Result<()> {
    publisher
        .connect(DATABASE)?
        .batch_execute("CREATE PUBLICATION everything FOR TABLE accounts")?;
    let mut client = subscriber.connect(DATABASE)?;
    client.batch_execute("TRUNCATE accounts")?;
    client.batch_execute(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION '{} dbname={DATABASE}' PUBLICATION everything",
        publisher.conninfo()
    ))?;
    Ok(())
}

/// Compares the answers, of an empty table too.
fn same(client: &mut Client) -> Result<()> {
    assert!(holds(
        client,
        "SELECT total() IS NOT DISTINCT FROM total_cached() AND NOT EXISTS
            (SELECT FROM generate_series(0, 60) AS i WHERE balance(i) IS DISTINCT FROM balance_cached(i))"
    )?);
    Ok(())
}

#[test]
fn what_a_subscriber_applies_invalidates() -> Result<()> {
    let publisher = with_accounts(quiet("logical-publisher").setting("wal_level", "logical"))?;
    let subscriber = with_accounts(quiet("logical-subscriber"))?;
    subscriber
        .connect(DATABASE)?
        .batch_execute("SELECT cache_track_table('accounts', '{id}')")?;
    let mut there = publisher.connect(DATABASE)?;
    let mut here = subscriber.connect(DATABASE)?;
    same(&mut here)?;
    subscribe(&publisher, &subscriber)?;
    let total = number(&mut there, "SELECT total()")?;
    soon("the first copy", || {
        same(&mut here)?;
        Ok(number(&mut here, "SELECT COALESCE(total(), 0)")? == total)
    })?;

    for statement in [
        "INSERT INTO accounts VALUES (1001, 1, 1000)",
        "UPDATE accounts SET balance = balance + 5 WHERE id = 7",
        "DELETE FROM accounts WHERE id = 8",
        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 9; UPDATE accounts SET balance = balance + 1 WHERE id = 10; COMMIT",
        "TRUNCATE accounts",
        "INSERT INTO accounts SELECT i, i % 10, 2 * i FROM generate_series(1, 50) AS i",
    ] {
        same(&mut here)?;
        let hits = counters(&mut here, "total_cached")?.hits;
        assert!(number(&mut here, "SELECT COALESCE(total_cached(), 0)")? >= 0);
        assert!(
            counters(&mut here, "total_cached")?.hits == hits + 1,
            "before: {statement}"
        );
        there.batch_execute(statement)?;
        let total = number(&mut there, "SELECT COALESCE(total(), 0)")?;
        soon("the change to be applied", || {
            Ok(number(&mut here, "SELECT COALESCE(total_cached(), 0)")? == total)
        })?;
        same(&mut here)?;
    }
    Ok(())
}
