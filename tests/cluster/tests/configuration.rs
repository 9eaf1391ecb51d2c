//! The configuration in whole servers: who learns of a change and when, what outlives what, and the most entries in memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, holds, number, quiet, wait_for, with_accounts, worker,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster, Mode, Signal, wait_until};

/// What a call of `total_cached()` would be, and why.
fn outlook(client: &mut Client) -> Result<String> {
    let row = client.query_one(
        "SELECT outcome || ' ' || reason FROM cache_explain('total_cached()')",
        &[],
    )?;
    Ok(row.get(0))
}

/// Seconds that an entry of `total_cached()` would live.
fn life(client: &mut Client) -> Result<i64> {
    number(
        client,
        "SELECT extract(epoch FROM ttl)::bigint FROM cache_explain('total_cached()')",
    )
}

fn set(client: &mut Client, name: &str, value: &str) -> Result<()> {
    client.batch_execute(&format!("SELECT set_cache_config('{name}', {value})"))?;
    Ok(())
}

#[test]
fn other_sessions_see_a_change_at_their_next_call() -> Result<()> {
    let cluster = with_accounts(quiet("configuration-sessions"))?;
    let (mut one, mut other, mut third) = (
        cluster.connect(DATABASE)?,
        cluster.connect(DATABASE)?,
        cluster.connect(DATABASE)?,
    );
    answers_are_right(&mut other)?;
    third.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    for open in ["", "BEGIN"] {
        other.batch_execute(open)?;
        let call = other.prepare("SELECT total_cached()")?;
        for client in [&mut other, &mut third] {
            ensure!(outlook(client)? == "hit valid");
        }
        one.batch_execute("BEGIN")?;
        set(&mut one, "enabled", "'off'")?;
        ensure!(outlook(&mut one)? == "bypass database_disabled");
        for client in [&mut other, &mut third] {
            ensure!(outlook(client)? == "hit valid", "not before it commits");
        }
        one.batch_execute("COMMIT")?;
        for client in [&mut one, &mut other, &mut third] {
            ensure!(outlook(client)? == "bypass database_disabled");
        }
        let bypasses = "SELECT bypasses FROM cache_stats()";
        let before = number(&mut other, bypasses)?;
        other.query_one(&call, &[])?;
        ensure!(number(&mut other, bypasses)? == before + 1);
        set(&mut one, "enabled", "NULL")?;
        set(&mut one, "class.default.ttl", "'7 s'")?;
        for client in [&mut one, &mut other, &mut third] {
            ensure!(life(client)? == 7);
        }
        set(&mut one, "class.default.ttl", "NULL")?;
    }
    // One that is rolled back has not been.
    one.batch_execute("BEGIN; SELECT set_cache_config('enabled', 'off'); ROLLBACK")?;
    for client in [&mut one, &mut other, &mut third] {
        ensure!(outlook(client)? == "hit valid");
    }
    Ok(())
}

#[test]
fn a_prepared_change_counts_when_it_is_committed() -> Result<()> {
    let cluster =
        with_accounts(quiet("configuration-prepared").setting("max_prepared_transactions", 4))?;
    let (mut one, mut other) = (cluster.connect(DATABASE)?, cluster.connect(DATABASE)?);
    answers_are_right(&mut other)?;
    for (end, seconds) in [("ROLLBACK", 600), ("COMMIT", 7)] {
        one.batch_execute(
            "BEGIN; SELECT set_cache_config('class.default.ttl', '7 s'); PREPARE TRANSACTION 'p'",
        )?;
        for client in [&mut one, &mut other] {
            ensure!(life(client)? == 600, "not before it commits");
        }
        // Whoever it is that commits it.
        cluster
            .connect(DATABASE)?
            .batch_execute(&format!("{end} PREPARED 'p'"))?;
        for client in [&mut one, &mut other] {
            ensure!(life(client)? == seconds, "after {end}");
        }
    }
    Ok(())
}

#[test]
fn it_outlives_restarts_and_crashes() -> Result<()> {
    let cluster = with_accounts(quiet("configuration-restart"))?;
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    set(&mut client, "class.default.ttl", "'7 s'")?;
    for mode in [Mode::Fast, Mode::Immediate] {
        cluster.restart(mode)?;
        ensure!(life(&mut cluster.connect(DATABASE)?)? == 7);
    }

    // A session is killed in the middle of a change; another one right after its commit.
    for (end, seconds) in [("", 7), ("COMMIT;", 8)] {
        let mut client = cluster.connect(DATABASE)?;
        let pid = number(&mut client, "SELECT pg_backend_pid()::bigint")?;
        client.batch_execute(&format!(
            "BEGIN; SELECT set_cache_config('class.default.ttl', '8 s'); {end}"
        ))?;
        let crashes = || cluster.log().matches("reinitializing").count();
        let before = crashes();
        cluster.kill(pid as i32, Signal::KILL)?;
        wait_until("the server starts anew", PATIENCE, || crashes() > before)?;
        drop(client);
        cluster.wait_ready()?;
        ensure!(life(&mut cluster.connect(DATABASE)?)? == seconds);
        answers_are_right(&mut cluster.connect(DATABASE)?)?;
    }
    Ok(())
}

#[test]
fn a_new_extension_begins_with_the_defaults() -> Result<()> {
    let cluster = with_accounts(quiet("configuration-anew"))?;
    let (mut one, mut other) = (cluster.connect(DATABASE)?, cluster.connect(DATABASE)?);
    set(&mut one, "class.default.ttl", "'7 s'")?;
    set(&mut one, "max_entries", "'3'")?;
    ensure!(life(&mut other)? == 7);
    one.batch_execute(
        "DROP EXTENSION pg_query_cache CASCADE; CREATE EXTENSION pg_query_cache;
         SELECT cache_track_table('accounts'), cache_function('total()'), cache_function('balance(integer)')",
    )?;
    ensure!(life(&mut other)? == 600);
    answers_are_right(&mut other)?;
    ensure!(number(&mut other, "SELECT entries FROM cache_stats()")? == 103);
    Ok(())
}

#[test]
fn nobody_waits_for_a_lock_on_the_table() -> Result<()> {
    let cluster = with_accounts(quiet("configuration-locked"))?;
    let (mut one, mut old) = (cluster.connect(DATABASE)?, cluster.connect(DATABASE)?);
    answers_are_right(&mut old)?;
    one.batch_execute("BEGIN; LOCK TABLE cache_configuration IN ACCESS EXCLUSIVE MODE")?;
    // Who knows it goes on, who does not know it asks the function.
    ensure!(outlook(&mut old)? == "hit valid");
    let mut new = cluster.connect(DATABASE)?;
    ensure!(outlook(&mut new)? == "bypass configuration_locked");
    answers_are_right(&mut new)?;
    one.batch_execute("COMMIT")?;
    ensure!(outlook(&mut new)? == "hit valid");
    Ok(())
}

/// Numbers to count things in memory by: `number_of(i)`, cached.
fn with_numbers(builder: Builder) -> Result<Cluster> {
    let cluster = with_accounts(builder)?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION number_of(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i + 0 * count(*)::integer FROM accounts';
         SELECT cache_function('number_of(integer)', scope => 'shared');
         SELECT number_of_cached(0);
         -- How many there are at most is to be seen, whether they are worth it or not.
         SELECT set_cache_config('adaptive', 'off')",
    )?;
    Ok(cluster)
}

const ENTRIES: &str = "SELECT count(*) FROM cache_memory_entries()";

fn call_numbers(client: &mut Client, from: i64, to: i64) -> Result<()> {
    let sum = number(
        client,
        &format!("SELECT sum(number_of_cached(i)) FROM generate_series({from}, {to}) AS i"),
    )?;
    ensure!(sum == (from + to) * (to - from + 1) / 2, "{sum}");
    Ok(())
}

/// Eight sessions store, some invalidate and clean up, and one looks: there are never more than may be. Who looks at several partitions,
/// or at more than 64 entries of one, looks at one part after the other and may see an entry leave and the one in its place come: then only
/// the end is looked at.
fn never_more_than(limit: i64, memory: &str, at_once: bool) -> Result<()> {
    let name = format!("configuration-most-{limit}-{memory}");
    let cluster = with_numbers(quiet(&name).setting("pg_query_cache.memory", memory))?;
    let mut client = cluster.connect(DATABASE)?;
    set(&mut client, "max_entries", &format!("'{limit}'"))?;
    wait_for(
        &cluster,
        "what is too much has left",
        &format!("SELECT ({ENTRIES}) <= {limit}"),
    )?;
    let (done, looked) = (&AtomicBool::new(false), &AtomicI64::new(0));
    let looks = thread::scope(|scope| -> Result<i64> {
        let sessions: Vec<_> = (0..8i64)
            .map(|n| {
                let mut client = cluster.connect(DATABASE)?;
                Ok(scope.spawn(move || -> Result<()> {
                    // As long as it takes to be looked at often enough.
                    for round in
                        (0..).take_while(|round| *round < 6 || looked.load(Ordering::Relaxed) < 20)
                    {
                        let from = (n * 3 + round) % 8 * 300;
                        call_numbers(&mut client, from, from + 499)?;
                        if n < 2 {
                            client.batch_execute(
                                "UPDATE accounts SET balance = balance WHERE id = 1",
                            )?;
                        } else if n == 2 {
                            client.batch_execute("SELECT cleanup_expired_cache()")?;
                        }
                    }
                    Ok(())
                }))
            })
            .collect::<Result<_>>()?;
        let (cluster, limit) = (&cluster, limit);
        let looking = scope.spawn(move || -> Result<i64> {
            let mut client = cluster.connect(DATABASE)?;
            let mut looks = 0;
            let mut found = Ok(());
            while found.is_ok() && !done.load(Ordering::Relaxed) {
                found =
                    number(&mut client, "SELECT entries FROM cache_stats()").and_then(|entries| {
                        ensure!(entries <= limit || !at_once, "{entries} entries");
                        Ok(())
                    });
                looks += 1;
                looked.store(looks, Ordering::Relaxed);
            }
            // Nobody waits for more.
            looked.store(i64::MAX, Ordering::Relaxed);
            found.map(|()| looks)
        });
        let ended: Vec<Result<()>> = sessions.into_iter().map(|s| s.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().collect::<Result<()>>()?;
        looking.join().unwrap()
    })?;
    ensure!(looks > 10, "only {looks} looks");
    // Nothing was counted twice or lost: exactly so many fit, and these are hits.
    call_numbers(&mut client, 10_000, 10_000 + 2 * limit)?;
    ensure!(number(&mut client, ENTRIES)? == limit);
    client.batch_execute("SELECT clear_cache()")?;
    client.batch_execute("SELECT cleanup_expired_cache()")?;
    ensure!(number(&mut client, ENTRIES)? == 0);
    call_numbers(&mut client, 1, limit)?;
    ensure!(number(&mut client, ENTRIES)? == limit);
    let fills = "SELECT sum(fills)::bigint FROM cache_function_stats";
    let before = number(&mut client, fills)?;
    call_numbers(&mut client, 1, limit)?;
    ensure!(number(&mut client, fills)? == before, "all are hits");
    answers_are_right(&mut client)?;
    Ok(())
}

#[test]
fn never_more_than_a_thousand_entries() -> Result<()> {
    never_more_than(60, "4MB", true)?;
    never_more_than(1000, "4MB", false)?;
    never_more_than(1000, "64MB", false)
}

#[test]
fn never_more_than_one_entry() -> Result<()> {
    never_more_than(1, "4MB", true)?;
    never_more_than(1, "64MB", false)
}

#[test]
fn a_lower_limit_makes_memory_smaller() -> Result<()> {
    let cluster = with_numbers(quiet("configuration-lower"))?;
    let mut client = cluster.connect(DATABASE)?;
    worker(&cluster)?;
    // Another database has many, which are none of its business.
    client.batch_execute("CREATE DATABASE neighbour")?;
    let mut neighbour = cluster.connect("neighbour")?;
    neighbour.batch_execute(
        "CREATE EXTENSION pg_query_cache; CREATE TABLE accounts ();
         CREATE FUNCTION number_of(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i + 0 * count(*)::integer FROM accounts';
         SELECT cache_track_table('accounts'), cache_function('number_of(integer)', scope => 'shared')",
    )?;
    call_numbers(&mut neighbour, 1, 20_000)?;
    call_numbers(&mut client, 1, 3000)?;
    // Those that were asked for again are spared, once.
    call_numbers(&mut client, 2001, 2100)?;
    ensure!(number(&mut client, ENTRIES)? == 3000);
    let lower = |client: &mut Client, limit: i32| -> Result<()> {
        set(client, "max_entries", &format!("'{limit}'"))?;
        wait_for(
            &cluster,
            "the worker makes memory smaller",
            &format!("SELECT ({ENTRIES}) = {limit}"),
        )
    };
    lower(&mut client, 300)?;
    let misses = "SELECT sum(misses)::bigint FROM cache_function_stats";
    let before = number(&mut client, misses)?;
    call_numbers(&mut client, 2001, 2100)?;
    let gone = number(&mut client, misses)? - before;
    // By chance nine of ten would be gone. Partitions differ in how many there are, and each loses as many.
    ensure!(gone <= 60, "{gone} of 100");
    lower(&mut client, 100)?;
    // One that is new finds its place between all those of the neighbour.
    for i in 5000..5200 {
        call_numbers(&mut client, i, i)?;
    }
    ensure!(number(&mut client, ENTRIES)? == 100);
    ensure!(number(&mut neighbour, ENTRIES)? == 20_000);

    // After a restart there are not more.
    client.batch_execute("SELECT flush_cache()")?;
    drop((client, neighbour));
    cluster.restart(Mode::Fast)?;
    wait_for(
        &cluster,
        "the warm start is over",
        &format!("SELECT ({ENTRIES}) = 100"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    set(&mut client, "max_entries", "'10'")?;
    cluster.restart(Mode::Fast)?;
    wait_for(
        &cluster,
        "the warm start is over",
        &format!("SELECT ({ENTRIES}) = 10"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    call_numbers(&mut client, 5100, 5199)?;
    ensure!(number(&mut client, ENTRIES)? == 10);
    ensure!(holds(
        &mut client,
        "SELECT value = '10' AND source = 'configuration' FROM cache_config() WHERE name = 'max_entries'"
    )?);
    answers_are_right(&mut client)?;
    Ok(())
}

/// Sixty-four databases share their state; what comes after them is configured all the same, and stores nothing that it could not count.
#[test]
fn a_database_too_many_is_configured_as_well() -> Result<()> {
    let cluster =
        with_numbers(quiet("configuration-many").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE last TEMPLATE template0")?;
    let setup = "CREATE EXTENSION pg_query_cache; CREATE TABLE accounts ();
         CREATE FUNCTION number_of(i integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT i + 0 * count(*)::integer FROM accounts';
         SELECT cache_track_table('accounts'), cache_function('number_of(integer)', scope => 'shared')";
    client.batch_execute("CREATE DATABASE pattern TEMPLATE template0")?;
    cluster.connect("pattern")?.batch_execute(setup)?;
    for i in 0..64 {
        client.batch_execute(&format!("CREATE DATABASE d{i} TEMPLATE pattern"))?;
        call_numbers(&mut cluster.connect(&format!("d{i}"))?, 1, 1)?;
    }
    let mut last = cluster.connect("last")?;
    last.batch_execute(setup)?;
    call_numbers(&mut last, 1, 5)?;
    ensure!(number(&mut last, ENTRIES)? == 5);
    set(&mut last, "max_entries", "'2'")?;
    call_numbers(&mut last, 6, 10)?;
    ensure!(number(&mut last, ENTRIES)? == 5, "nothing is added");
    ensure!(
        number(
            &mut last,
            "SELECT (reasons ->> 'no_room')::bigint FROM cache_function_stats"
        )? == 5
    );
    set(&mut last, "enabled", "'off'")?;
    let mut other = cluster.connect("last")?;
    let off = "SELECT reason = 'database_disabled' FROM cache_explain('number_of_cached(1)')";
    ensure!(holds(&mut last, off)? && holds(&mut other, off)?);
    Ok(())
}
