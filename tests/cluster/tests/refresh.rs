//! Refreshing: hot results are computed anew before they are too old, by somebody else than their readers, and for nobody else.
//!
//! Times to live are hours, and the tests move the clock; so nothing here depends on how fast the machine is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Instant;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    Counters, DATABASE, PATIENCE, counters, holds, number, quiet, sees_clock, set_clock, wait_for,
    with_extension, worker,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster, Mode, wait_until};

/// `runs` counts the runs of base functions. `ahead(x)`, `rows_of(x)` and `slow(x)` are refreshed in the second of their two hours,
/// `swr(x)` and `lifts()` are served for a day after their hour. `slow(x)` waits as long as anybody has the advisory lock 1.
const GROUND: &str = "
    CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE gate LOGIN NOINHERIT; GRANT ann, bob TO gate;
    CREATE SEQUENCE runs; GRANT ALL ON runs TO PUBLIC;
    CREATE TABLE notes (id integer, owner text); INSERT INTO notes VALUES (1, 'ann'), (2, 'bob'), (3, 'bob');
    GRANT ALL ON notes TO PUBLIC;
    CREATE FUNCTION ahead(x integer, t text DEFAULT 'ü') RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) + x FROM notes$$;
    CREATE FUNCTION rows_of(x integer[]) RETURNS SETOF notes LANGUAGE sql STABLE AS $$SELECT * FROM notes WHERE id = ANY (x)$$;
    CREATE FUNCTION slow(x integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
    DECLARE n CONSTANT bigint := nextval('runs');
    BEGIN
        FOR i IN 1..24000 LOOP
            IF pg_try_advisory_xact_lock_shared(1) THEN RETURN n; END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
        RAISE 'nobody opens the gate';
    END$$;
    CREATE FUNCTION swr(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
        $$BEGIN RETURN format('%s for %s at %s', nextval('runs'), current_user, '2026-01-02 03:04+00'::timestamptz); END$$;
    CREATE FUNCTION lifts() RETURNS text LANGUAGE plpgsql VOLATILE AS
        $$BEGIN RETURN format('%s for %s in %s', nextval('public.runs'), current_user, current_setting('search_path')); END$$;
    SELECT cache_track_table('notes'), cache_function('ahead(integer, text)', ttl => '2 hours', refresh_ahead => '50%'),
        cache_function('rows_of(integer[])', ttl => '2 hours', refresh_ahead => '1 hour'),
        cache_function('slow(integer)', ttl => '2 hours', consistency => 'ttl', refresh_ahead => '1 hour', tags => '{slow}'),
        cache_function('lifts()', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day'),
        cache_function('swr(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day');
    ALTER FUNCTION lifts_cached(interval) OWNER TO bob; ALTER FUNCTION lifts_cached(interval) SECURITY DEFINER SET search_path = pg_catalog;
    ALTER FUNCTION lifts() OWNER TO bob;";

/// The step by which the tests move the clock: what was computed at one of its ticks is in the second half of two hours at the next one,
/// past one hour, and after two of them past two.
const TICK: u32 = 90 * 60;

/// A cluster whose refreshing is not ended for its time.
fn patient(name: &str) -> Builder {
    quiet(name).setting("pg_query_cache.refresh_timeout", "1h")
}

fn ground(name: &str) -> Result<Cluster> {
    let cluster = with_extension(patient(name))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    worker(&cluster)?;
    Ok(cluster)
}

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.try_get(0)?)
}

/// Moves the clock to a tick. What is being refreshed has its end before, so that nothing has the earlier clock.
fn tick(cluster: &Cluster, ticks: u32, sessions: &mut [&mut Client]) -> Result<()> {
    nothing_is_refreshed(cluster)?;
    set_clock(cluster, ticks * TICK)?;
    for session in sessions {
        sees_clock(session, ticks * TICK)?;
    }
    Ok(())
}

fn nothing_is_refreshed(cluster: &Cluster) -> Result<()> {
    wait_for(
        cluster,
        "nothing is refreshed",
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache refreshing'",
    )
}

/// Counts of a function once all others are gone.
fn counted(cluster: &Cluster, function: &str) -> Result<Counters> {
    wait_for(
        cluster,
        "sessions end",
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('client backend', 'pg_query_cache refreshing') AND pid <> pg_backend_pid()",
    )?;
    counters(
        &mut cluster.connect(DATABASE)?,
        &format!("{function}_cached"),
    )
}

/// How many results of a function were computed since a tick.
fn computed_since(ticks: u32, function: &str) -> String {
    format!(
        "SELECT count(*) FROM cache_memory_entries() AS e JOIN pg_proc AS p ON p.oid = e.function
         WHERE p.proname = '{function}_cached' AND e.created_at > now() + interval '{} seconds'",
        ticks * TICK - TICK / 2
    )
}

/// Calls until something is true, which another session looks at.
fn call_until(
    cluster: &Cluster,
    client: &mut Client,
    call: &str,
    what: &str,
    sql: &str,
) -> Result<()> {
    let mut other = cluster.connect(DATABASE)?;
    let mut failure = None;
    wait_until(what, PATIENCE, || {
        failure = client.batch_execute(call).err();
        failure.is_some() || holds(&mut other, sql).unwrap_or(false)
    })?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Whether `slow` is being computed anew.
const SLOW_RUNS: &str =
    "SELECT count(*) = 1 FROM cache_progress WHERE command = 'refreshing' AND phase = 'computing'
    AND function = 'slow_cached(integer,interval)'::regprocedure";

/// Whoever asks again and again never meets a miss, and waits for nobody.
#[test]
fn a_hot_result_is_never_missed() -> Result<()> {
    let cluster = ground("refresh-hot")?;
    let mut gate = cluster.connect(DATABASE)?;
    let mut client = cluster.connect_as(DATABASE, "ann")?;
    client.batch_execute("SET app.tenant = 'a'; SET TimeZone = 'Asia/Tokyo'")?;
    // Two that have their default left out, one that has it given, a set, and one whose computation does not end.
    let calls = "SELECT ahead_cached(1), ahead_cached(2, 'x'); SELECT * FROM rows_of_cached('{1,NULL,3}'); SELECT slow_cached(-7)";
    client.batch_execute("SELECT slow_cached(-7)")?;
    client.batch_execute(calls)?;
    let functions = [("ahead", 2), ("rows_of", 1), ("slow", 1)];
    const ROUNDS: u32 = 4;
    for round in 1..=ROUNDS {
        tick(&cluster, round, &mut [&mut client])?;
        gate.batch_execute("SELECT pg_advisory_lock(1)")?;
        call_until(
            &cluster,
            &mut client,
            calls,
            "the slow one is computed anew",
            SLOW_RUNS,
        )?;
        // Whoever waited for it would not come back.
        for _ in 0..20 {
            client.batch_execute(calls)?;
        }
        gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
        for (function, results) in functions {
            call_until(
                &cluster,
                &mut client,
                calls,
                "it is new",
                &format!("SELECT ({}) = {results}", computed_since(round, function)),
            )?;
        }
        for _ in 0..20 {
            client.batch_execute(calls)?;
        }
    }
    drop(client);
    drop(gate);
    for (function, results) in functions {
        let counted = counted(&cluster, function)?;
        ensure!(counted.misses == results, "{function}: {counted:?}");
        // A reader that has found the old result may ask just after it was served.
        let anew = results * i64::from(ROUNDS);
        ensure!(
            (results + anew..=results + 2 * anew).contains(&counted.fills),
            "{function}: {counted:?}"
        );
    }
    Ok(())
}

/// Nobody asks: nothing is done.
#[test]
fn a_cold_result_is_left_alone() -> Result<()> {
    let cluster = ground("refresh-cold")?;
    let mut client = cluster.connect(DATABASE)?;
    // Hit in the first half of its life only; and in the second half, but for the first time. The third is hit in both.
    client.batch_execute("SELECT ahead_cached(1); SELECT ahead_cached(1); SELECT ahead_cached(1); SELECT ahead_cached(2)")?;
    client.batch_execute("SELECT ahead_cached(3); SELECT ahead_cached(3)")?;
    tick(&cluster, 1, &mut [&mut client])?;
    client.batch_execute("SELECT ahead_cached(2)")?;
    client.batch_execute("SELECT ahead_cached(3)")?;
    // What is asked for first comes first.
    wait_for(
        &cluster,
        "the third is new",
        &format!("SELECT ({}) = 1", computed_since(1, "ahead")),
    )?;
    tick(&cluster, 2, &mut [&mut client])?;
    client.batch_execute("SELECT ahead_cached(1); SELECT ahead_cached(2)")?;
    drop(client);
    let counted = counted(&cluster, "ahead")?;
    ensure!((counted.fills, counted.misses) == (6, 5), "{counted:?}");
    Ok(())
}

/// An invalidation counts at once, whatever is being computed, and before and after the time to live.
#[test]
fn an_invalidated_result_is_not_served() -> Result<()> {
    let cluster = ground("refresh-strict")?;
    let mut reader = cluster.connect(DATABASE)?;
    let mut writer = cluster.connect(DATABASE)?;
    let mut rows = 3;
    for round in 1..=20 {
        set_clock(&cluster, round * TICK)?;
        sees_clock(&mut reader, round * TICK)?;
        // Refreshed, or about to be, in the midst of it, or not yet.
        for _ in 0..round {
            let seen = number(&mut reader, "SELECT ahead_cached(0)")?;
            ensure!(seen == rows, "{seen} instead of {rows}");
        }
        writer.batch_execute("INSERT INTO notes VALUES (9, 'x')")?;
        rows += 1;
        for _ in 0..5 {
            let seen = number(&mut reader, "SELECT ahead_cached(0)")?;
            ensure!(seen == rows, "{seen} instead of {rows}");
        }
    }
    // One that is hit all along, then invalidated while it is being computed anew.
    let call = "SELECT slow_cached(1)";
    let old = number(&mut reader, call)?;
    ensure!(number(&mut reader, call)? == old);
    tick(&cluster, 21, &mut [&mut reader])?;
    writer.batch_execute("SELECT pg_advisory_lock(1)")?;
    call_until(
        &cluster,
        &mut reader,
        call,
        "it is computed anew",
        SLOW_RUNS,
    )?;
    writer.batch_execute("SELECT invalidate_cache('{slow}')")?;
    let meanwhile = number(&mut writer, "SELECT last_value FROM runs")?;
    writer.batch_execute("SELECT pg_advisory_unlock(1)")?;
    let new = number(&mut reader, call)?;
    ensure!(new > meanwhile, "{new} after {old} and {meanwhile}");
    nothing_is_refreshed(&cluster)?;
    ensure!(number(&mut reader, call)? > meanwhile);
    Ok(())
}

/// Past its time to live: served at once while it is computed anew, but not to who wants it younger, and not for ever.
#[test]
fn stale_while_it_is_computed_anew() -> Result<()> {
    let cluster = ground("refresh-stale")?;
    let mut client = cluster.connect(DATABASE)?;
    let first = text(&mut client, "SELECT swr_cached(1)")?;
    tick(&cluster, 1, &mut [&mut client])?;
    ensure!(text(&mut client, "SELECT swr_cached(1)")? == first);
    wait_for(
        &cluster,
        "a new result, which no reader computed",
        &format!("SELECT swr_cached(1) <> '{first}'"),
    )?;
    tick(&cluster, 2, &mut [&mut client])?;
    let second = text(&mut client, "SELECT swr_cached(1)")?;
    // A cache_duration is the greatest age that the caller accepts.
    tick(&cluster, 4, &mut [&mut client])?;
    let young = text(&mut client, "SELECT swr_cached(1, '1 hour')")?;
    ensure!(young != second, "{young}");
    drop(client);
    let counted = counted(&cluster, "swr")?;
    ensure!(counted.misses == 2, "{counted:?}");
    // Beyond the day: an ordinary miss.
    let mut client = cluster.connect(DATABASE)?;
    tick(&cluster, 4 + 17, &mut [&mut client])?;
    let late = text(&mut client, "SELECT swr_cached(1)")?;
    ensure!(late != young, "{late}");
    // Exact functions cannot have it.
    for wrong in [
        r#"{"function": "ahead(integer,text)", "stale_while_revalidate": "1 minute"}"#,
        r#"{"function": "ahead(integer,text)", "refresh_ahead": "51%"}"#,
        r#"{"function": "ahead(integer,text)", "refresh_ahead": "0%"}"#,
        r#"{"function": "ahead(integer,text)", "consistency": "ttl", "stale_while_revalidate": "-1 minute"}"#,
    ] {
        let refused = client
            .batch_execute(&format!(
                "CREATE FUNCTION wrong(integer, text) RETURNS bigint LANGUAGE cached AS '{wrong}'"
            ))
            .unwrap_err();
        let code = refused.code().unwrap().code();
        ensure!(code == "42P13" || code == "22023", "{wrong}: {refused}");
    }
    Ok(())
}

/// What is computed anew is for the role and settings that asked, whoever they are.
#[test]
fn for_whom() -> Result<()> {
    let cluster = ground("refresh-roles")?;
    let people = [
        ("ann", "", "for ann at 2026-01-02 03:04:00+00"),
        ("bob", "", "for bob at 2026-01-02 03:04:00+00"),
        ("gate", "SET ROLE ann", "for ann at 2026-01-02 03:04:00+00"),
        (
            "gate",
            "SET ROLE bob; SET TimeZone = 'Asia/Tokyo'",
            "for bob at 2026-01-02 12:04:00+09",
        ),
        (
            "bob",
            "SET app.tenant = 'x'; SET DateStyle = 'German'",
            "for bob at 02.01.2026 03:04:00 UTC",
        ),
        (
            "postgres",
            "SET SESSION AUTHORIZATION ann; SET search_path = pg_catalog, public",
            "for ann at 2026-01-02 03:04:00+00",
        ),
    ];
    let mut sessions = Vec::new();
    for (login, setup, answer) in people {
        let mut client = cluster.connect_as(DATABASE, login)?;
        client.batch_execute(setup)?;
        let first = text(&mut client, "SELECT swr_cached(1)")?;
        sessions.push((client, answer, vec![first]));
    }
    for round in 1..=3 {
        tick(&cluster, round, &mut [])?;
        for (client, _, _) in &mut sessions {
            sees_clock(client, round * TICK)?;
        }
        wait_until("each has a new result", PATIENCE, || {
            let mut all = true;
            for (client, _, seen) in &mut sessions {
                let told = text(client, "SELECT swr_cached(1)").unwrap_or_default();
                if !seen.contains(&told) {
                    seen.push(told);
                }
                all &= seen.len() > round as usize;
            }
            all
        })?;
    }
    let people = sessions.len();
    for (_, answer, seen) in sessions {
        ensure!(
            seen.iter().all(|told| told.ends_with(answer)),
            "{answer}: {seen:?}"
        );
    }
    let counted = counted(&cluster, "swr")?;
    ensure!(counted.misses == people as i64, "{counted:?}");
    Ok(())
}

/// Who asked in a READ ONLY transaction is made to write nothing.
#[test]
fn who_may_only_read_writes_nothing() -> Result<()> {
    let cluster = ground("refresh-reads")?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE TABLE told (who name); ALTER TABLE told OWNER TO ann; CREATE TABLE says (write boolean);
         GRANT SELECT ON says TO PUBLIC;
         CREATE FUNCTION tells(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
         BEGIN
             IF EXISTS (SELECT FROM says) THEN INSERT INTO told VALUES (current_user); END IF;
             RETURN clock_timestamp()::text;
         END$$;
         SELECT cache_function('tells(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day')",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let mut other = cluster.connect(DATABASE)?;
    let ask = |client: &mut Client, begin: &str| -> Result<String> {
        client.batch_execute(begin)?;
        let told = text(client, "SELECT tells_cached(1)");
        client.batch_execute("ROLLBACK")?;
        told
    };
    let first = ask(&mut ann, "BEGIN READ ONLY")?;
    // It is refreshed as long as it only reads.
    tick(&cluster, 1, &mut [&mut ann])?;
    wait_until("a new result", PATIENCE, || {
        ask(&mut ann, "BEGIN READ ONLY").is_ok_and(|told| told != first)
    })?;
    other.batch_execute("INSERT INTO says VALUES (true)")?;
    tick(&cluster, 2, &mut [&mut ann])?;
    wait_until("it was refused", PATIENCE, || {
        ask(&mut ann, "BEGIN READ ONLY").is_ok()
            && cluster.log_contains("cannot execute INSERT in a read-only transaction")
    })?;
    nothing_is_refreshed(&cluster)?;
    let written = "SELECT count(*) FROM told";
    ensure!(
        number(&mut other, written)? == 0,
        "written for who only read"
    );
    // Who may write may do so in the background too.
    tick(&cluster, 3, &mut [&mut ann])?;
    wait_until("it was written", PATIENCE, || {
        ask(&mut ann, "BEGIN").is_ok() && number(&mut other, written).is_ok_and(|rows| rows > 0)
    })?;
    Ok(())
}

/// A cached function that is SECURITY DEFINER itself, with a search path of its own.
#[test]
fn lifted_by_its_own_declaration() -> Result<()> {
    let cluster = ground("refresh-lifted")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    // The first call of all learns that the function reads settings, and is not stored.
    text(&mut ann, "SELECT lifts_cached()")?;
    let first = text(&mut ann, "SELECT lifts_cached()")?;
    ensure!(first.ends_with("for bob in pg_catalog"), "{first}");
    tick(&cluster, 1, &mut [&mut ann])?;
    let mut last = first.clone();
    wait_until("a new result", PATIENCE, || {
        last = text(&mut ann, "SELECT lifts_cached()").unwrap_or_default();
        last != first
    })?;
    ensure!(last.ends_with("for bob in pg_catalog"), "{last}");
    drop(ann);
    let counted = counted(&cluster, "lifts")?;
    ensure!(counted.misses == 2 && counted.fills > 1, "{counted:?}");
    Ok(())
}

/// A session whose call cannot be made by another: nothing is filled, and the readers do not ask again and again.
#[test]
fn what_cannot_be_made_again() -> Result<()> {
    let cluster = ground("refresh-gives-up")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION lifted() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT swr_cached(5)'; ALTER FUNCTION lifted() OWNER TO bob;
         CREATE FUNCTION fails(x integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS
             $$BEGIN IF nextval('runs') > 1 THEN RAISE 'it fails'; END IF; RETURN x; END$$;
         SELECT cache_function('fails(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day'), setval('runs', 1, false);",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ensure!(number(&mut ann, "SELECT fails_cached(1)::bigint")? == 1);
    let first = text(&mut ann, "SELECT lifted()")?;
    ensure!(first.contains("for bob"), "{first}");
    tick(&cluster, 1, &mut [&mut ann])?;
    let began = Instant::now();
    // What is asked for first comes first.
    let calls = "SELECT lifted(); SELECT fails_cached(1)";
    wait_until("it has failed", PATIENCE, || {
        ann.batch_execute(calls).is_err() || cluster.log_contains("could not refresh")
    })?;
    for _ in 0..200 {
        ann.batch_execute(calls)?;
    }
    ensure!(text(&mut ann, "SELECT lifted()")? == first);
    drop(ann);
    drop(client);
    for function in ["swr", "fails"] {
        let counted = counted(&cluster, function)?;
        ensure!(
            (counted.fills, counted.misses) == (1, 1),
            "{function}: {counted:?}"
        );
    }
    // A minute later they may ask again.
    let log = cluster.log();
    let failed = log.matches("could not refresh").count() as u64;
    ensure!(failed <= 1 + began.elapsed().as_secs() / 60, "{log}");
    ensure!(log.contains("it fails"), "{log}");
    Ok(())
}

#[test]
fn accidents() -> Result<()> {
    let cluster = ground("refresh-accidents")?;
    let mut client = cluster.connect(DATABASE)?;
    let mut gate = cluster.connect(DATABASE)?;
    // At the next tick, behind the gate.
    let is_computed = |client: &mut Client, gate: &mut Client, ticks: u32| -> Result<()> {
        let call = "SELECT slow_cached(1)";
        client.batch_execute(call)?;
        client.batch_execute(call)?;
        tick(&cluster, ticks, &mut [client])?;
        gate.batch_execute("SELECT pg_advisory_lock(1)")?;
        call_until(&cluster, client, call, "it is computed anew", SLOW_RUNS)
    };
    is_computed(&mut client, &mut gate, 1)?;
    gate.batch_execute("SELECT pg_terminate_backend(pid) FROM cache_progress")?;
    wait_for(
        &cluster,
        "it is gone",
        "SELECT count(*) = 0 FROM cache_progress",
    )?;
    ensure!(number(&mut client, "SELECT slow_cached(1)")? > 0);
    gate.batch_execute("SELECT pg_advisory_unlock(1), clear_cache()")?;

    // Dropped while it is computed: the readers' own error, and nothing else.
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SELECT slow_cached(2)")?;
    other.batch_execute("SELECT slow_cached(2)")?;
    tick(&cluster, 2, &mut [&mut other])?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    call_until(
        &cluster,
        &mut other,
        "SELECT slow_cached(2)",
        "it is computed anew",
        SLOW_RUNS,
    )?;
    client.batch_execute("DROP FUNCTION slow_cached(integer, interval)")?;
    ensure!(other.batch_execute("SELECT slow_cached(2)").is_err());
    drop(other);
    gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
    client.batch_execute("SELECT cache_function('slow(integer)', ttl => '2 hours', consistency => 'ttl', refresh_ahead => '1 hour')")?;

    // The process is killed: the server starts over, and goes on.
    is_computed(&mut client, &mut gate, 3)?;
    let pid: i32 = gate
        .query_one("SELECT pid FROM cache_progress", &[])?
        .get(0);
    cluster.kill(pid, pg_query_cache_harness::Signal::KILL)?;
    wait_until("the sessions are gone", PATIENCE, || {
        client.is_closed() || client.batch_execute("SELECT").is_err()
    })?;
    drop((client, gate));
    wait_for(
        &cluster,
        "the server is back",
        "SELECT count(*) = 0 FROM cache_progress",
    )?;
    let mut client = cluster.connect(DATABASE)?;
    let mut gate = cluster.connect(DATABASE)?;
    is_computed(&mut client, &mut gate, 4)?;
    gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
    call_until(
        &cluster,
        &mut client,
        "SELECT slow_cached(1)",
        "it is new",
        &format!("SELECT ({}) = 1", computed_since(4, "slow")),
    )?;
    nothing_is_refreshed(&cluster)?;
    is_computed(&mut client, &mut gate, 5)?;
    // A stop while it is computed ends it.
    drop((client, gate));
    cluster.restart(Mode::Fast)?;
    ensure!(!cluster.log_contains("PANIC"));
    Ok(())
}

/// The readers of a database that has no process to refresh with leave as many requests as there is room for; then it is dropped.
#[test]
fn requests_that_nobody_will_serve() -> Result<()> {
    // For two of the server, and the workers of two databases.
    let cluster = with_extension(patient("refresh-left").setting("max_worker_processes", "4"))?;
    let function = "
        CREATE FUNCTION tick(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN clock_timestamp()::text; END';
        SELECT cache_function('tick(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day')";
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(function)?;
    worker(&cluster)?;
    client.batch_execute("CREATE DATABASE gone")?;
    let mut other = cluster.connect("gone")?;
    other.batch_execute("CREATE EXTENSION pg_query_cache")?;
    other.batch_execute(function)?;
    other.batch_execute("SELECT tick_cached(i) FROM generate_series(1, 99) AS i")?;
    wait_for(
        &cluster,
        "both databases have a worker",
        "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'",
    )?;
    let first = text(&mut client, "SELECT tick_cached(1)")?;
    tick(&cluster, 1, &mut [&mut other, &mut client])?;
    other.batch_execute("SELECT tick_cached(i) FROM generate_series(1, 99) AS i")?;
    drop(other);
    client.batch_execute("DROP DATABASE gone")?;
    // A minute later their places are for others.
    set_clock(&cluster, TICK + 61)?;
    sees_clock(&mut client, TICK + 61)?;
    ensure!(text(&mut client, "SELECT tick_cached(1)")? == first);
    wait_for(
        &cluster,
        "a new result",
        &format!("SELECT tick_cached(1) <> '{first}'"),
    )
}

/// The longest intervals that there are do not add up to a negative one.
#[test]
fn served_for_ever() -> Result<()> {
    let cluster = ground("refresh-for-ever")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION ever(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN clock_timestamp()::text; END';
         SELECT cache_function('ever(integer)', ttl => '170000000 years', consistency => 'ttl', stale_while_revalidate => '170000000 years')",
    )?;
    let first = text(&mut client, "SELECT ever_cached(1)")?;
    ensure!(text(&mut client, "SELECT ever_cached(1)")? == first);
    client.batch_execute("SELECT flush_cache(); SELECT cleanup_expired_cache(); SELECT * FROM get_top_cache_entries(); SELECT cache_metrics()")?;
    ensure!(text(&mut client, "SELECT ever_cached(1)")? == first);
    Ok(())
}

/// A role whose computation sleeps has one process, for a time; those of others are refreshed meanwhile.
#[test]
fn a_role_that_sleeps_holds_up_nobody_else() -> Result<()> {
    let cluster = ground("refresh-sleepers")?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE TABLE naps (x integer); GRANT ALL ON naps TO PUBLIC;
         CREATE FUNCTION nap(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
         $$BEGIN
             IF EXISTS (SELECT FROM naps WHERE naps.x = nap.x) THEN
                 LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
             END IF;
             RETURN clock_timestamp();
         END$$;
         SELECT cache_function('nap(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day')",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("SELECT nap_cached(i) FROM generate_series(1, 40) AS i")?;
    ann.batch_execute("INSERT INTO naps SELECT generate_series(1, 40)")?;
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let first = text(&mut bob, "SELECT swr_cached(1)")?;
    // More than there are places for requests, and all of them sleep.
    tick(&cluster, 1, &mut [&mut ann, &mut bob])?;
    ann.batch_execute("SELECT nap_cached(i) FROM generate_series(1, 40) AS i")?;
    wait_for(
        &cluster,
        "ann's sleeps",
        "SELECT count(*) = 1 FROM cache_progress WHERE role = 'ann' AND phase = 'computing'",
    )?;
    wait_until("a new result", PATIENCE, || {
        text(&mut bob, "SELECT swr_cached(1)").is_ok_and(|new| new != first)
    })?;
    let sleeper = number(
        &mut admin,
        "SELECT pid::bigint FROM cache_progress WHERE role = 'ann'",
    )?;
    // The next one does not let itself be cancelled, and is ended when its time is over.
    cluster.set("pg_query_cache.refresh_timeout", "1s")?;
    wait_for(
        &cluster,
        "new processes have less time",
        "SELECT current_setting('pg_query_cache.refresh_timeout') = '1s'",
    )?;
    admin.batch_execute(&format!("SELECT pg_terminate_backend({sleeper})"))?;
    let mut next = None;
    wait_until("the next one", PATIENCE, || {
        next = admin
            .query_opt(
                "SELECT pid FROM cache_progress WHERE role = 'ann' AND pid <> $1::bigint",
                &[&sleeper],
            )
            .ok()
            .flatten()
            .map(|row| row.get::<_, i32>(0));
        next.is_some()
    })?;
    wait_for(
        &cluster,
        "it is ended",
        &format!(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ({sleeper}, {})",
            next.unwrap_or_default()
        ),
    )
}
