//! Refreshing: hot results are computed anew before they are too old, by somebody else than their readers, and for nobody else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    Counters, DATABASE, PATIENCE, counters, number, quiet, wait_for, with_extension, worker,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode, wait_until};

/// `calls` counts the runs of base functions. `ahead(x)` is refreshed in the second half of its two seconds, `swr(x)` is served for a
/// minute after its second, `slow(x)` takes half a second.
const GROUND: &str = "
    CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE gate LOGIN NOINHERIT; GRANT ann, bob TO gate;
    CREATE SEQUENCE runs; GRANT ALL ON runs TO PUBLIC;
    CREATE TABLE notes (id integer, owner text); INSERT INTO notes VALUES (1, 'ann'), (2, 'bob'), (3, 'bob');
    GRANT ALL ON notes TO PUBLIC;
    CREATE FUNCTION ahead(x integer, t text DEFAULT 'ü') RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) + x FROM notes$$;
    CREATE FUNCTION rows_of(x integer[]) RETURNS SETOF notes LANGUAGE sql STABLE AS $$SELECT * FROM notes WHERE id = ANY (x)$$;
    CREATE FUNCTION slow(x integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$BEGIN PERFORM pg_sleep(0.5); RETURN nextval('runs'); END$$;
    CREATE FUNCTION swr(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
        $$BEGIN RETURN format('%s for %s at %s', nextval('runs'), current_user, '2026-01-02 03:04+00'::timestamptz); END$$;
    CREATE FUNCTION lifts() RETURNS text LANGUAGE plpgsql VOLATILE AS
        $$BEGIN RETURN format('%s for %s in %s', nextval('public.runs'), current_user, current_setting('search_path')); END$$;
    SELECT cache_track_table('notes'), cache_function('ahead(integer, text)', ttl => '2 seconds', refresh_ahead => '50%'),
        cache_function('rows_of(integer[])', ttl => '2 seconds', refresh_ahead => '1 second'),
        cache_function('slow(integer)', ttl => '2 seconds', consistency => 'ttl', refresh_ahead => '1 second'),
        cache_function('lifts()', ttl => '1 second', consistency => 'ttl', stale_while_revalidate => '1 minute'),
        cache_function('swr(integer)', ttl => '1 second', consistency => 'ttl', stale_while_revalidate => '1 minute', tags => '{swr}');
    ALTER FUNCTION lifts_cached(interval) OWNER TO bob; ALTER FUNCTION lifts_cached(interval) SECURITY DEFINER SET search_path = pg_catalog;
    ALTER FUNCTION lifts() OWNER TO bob;";

fn ground(name: &str) -> Result<Cluster> {
    let cluster = with_extension(quiet(name))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    worker(&cluster)?;
    Ok(cluster)
}

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.try_get(0)?)
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

/// Calls for so long, a call every 20 ms, and returns the longest.
fn call_for(client: &mut Client, sql: &str, seconds: u64) -> Result<Duration> {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(seconds) {
        let call = Instant::now();
        client.batch_execute(sql)?;
        longest = longest.max(call.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(longest)
}

/// Whoever asks again and again never meets a miss, and waits for nobody.
#[test]
fn a_hot_result_is_never_missed() -> Result<()> {
    let cluster = ground("refresh-hot")?;
    let mut client = cluster.connect_as(DATABASE, "ann")?;
    client.batch_execute("SET app.tenant = 'a'; SET TimeZone = 'Asia/Tokyo'")?;
    client.batch_execute("SELECT slow_cached(-7)")?;
    // Two that have their default left out, one that has it given, a set, and one whose computation takes longer than a reader may wait.
    let longest = call_for(
        &mut client,
        "SELECT ahead_cached(1), ahead_cached(2, 'x'); SELECT * FROM rows_of_cached('{1,NULL,3}'); SELECT slow_cached(-7)",
        7,
    )?;
    drop(client);
    for (function, fills) in [("ahead", 2), ("rows_of", 1), ("slow", 1)] {
        let counted = counted(&cluster, function)?;
        ensure!(counted.misses == fills, "{function}: {counted:?}");
        ensure!(
            counted.fills >= 3 * fills && counted.fills <= 12 * fills,
            "{function}: {counted:?}"
        );
    }
    ensure!(longest < Duration::from_millis(400), "{longest:?}");
    Ok(())
}

/// Nobody asks: nothing is done.
#[test]
fn a_cold_result_is_left_alone() -> Result<()> {
    let cluster = ground("refresh-cold")?;
    let mut client = cluster.connect(DATABASE)?;
    // Hit in the first half of its life only; and in the second half, but for the first time.
    client.batch_execute("SELECT ahead_cached(1); SELECT ahead_cached(1); SELECT ahead_cached(1); SELECT ahead_cached(2)")?;
    thread::sleep(Duration::from_millis(1300));
    client.batch_execute("SELECT ahead_cached(2)")?;
    thread::sleep(Duration::from_secs(2));
    client.batch_execute("SELECT ahead_cached(1); SELECT ahead_cached(2)")?;
    drop(client);
    let counted = counted(&cluster, "ahead")?;
    ensure!((counted.fills, counted.misses) == (4, 4), "{counted:?}");
    Ok(())
}

/// An invalidation counts at once, whatever is being computed, and before and after the time to live.
#[test]
fn an_invalidated_result_is_not_served() -> Result<()> {
    let cluster = ground("refresh-strict")?;
    let mut reader = cluster.connect(DATABASE)?;
    let mut writer = cluster.connect(DATABASE)?;
    let began = Instant::now();
    let mut rows = 3;
    while began.elapsed() < Duration::from_secs(5) {
        for _ in 0..20 {
            let seen = number(&mut reader, "SELECT ahead_cached(0)")?;
            ensure!(seen == rows, "{seen} instead of {rows}");
            thread::sleep(Duration::from_millis(5));
        }
        writer.batch_execute("INSERT INTO notes VALUES (9, 'x')")?;
        rows += 1;
    }
    // One that is hit all along, then invalidated while it is being computed anew.
    reader.batch_execute("SELECT swr_cached(1)")?;
    call_for(&mut reader, "SELECT swr_cached(1)", 2)?;
    let old = text(&mut reader, "SELECT swr_cached(1)")?;
    writer.batch_execute("SELECT invalidate_cache('{swr}')")?;
    let new = text(&mut reader, "SELECT swr_cached(1)")?;
    ensure!(old != new, "{old}");
    Ok(())
}

/// Past its time to live: served at once while it is computed anew, but not to who wants it younger, and not for ever.
#[test]
fn stale_while_it_is_computed_anew() -> Result<()> {
    let cluster = ground("refresh-stale")?;
    let mut client = cluster.connect(DATABASE)?;
    let first = text(&mut client, "SELECT swr_cached(1)")?;
    thread::sleep(Duration::from_millis(1500));
    ensure!(text(&mut client, "SELECT swr_cached(1)")? == first);
    wait_for(
        &cluster,
        "a new result, which no reader computed",
        &format!("SELECT swr_cached(1) <> '{first}'"),
    )?;
    let second = text(&mut client, "SELECT swr_cached(1)")?;
    thread::sleep(Duration::from_millis(1500));
    // A cache_duration is the greatest age that the caller accepts.
    let young = text(&mut client, "SELECT swr_cached(1, '1 second')")?;
    ensure!(young != second, "{young}");
    drop(client);
    let counted = counted(&cluster, "swr")?;
    ensure!(counted.misses == 2, "{counted:?}");
    // Beyond the minute: an ordinary miss.
    cluster.set("pg_query_cache.clock_offset", "62s")?;
    let mut client = cluster.connect(DATABASE)?;
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
        sessions.push((client, answer, Vec::<String>::new()));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        for (client, answer, seen) in &mut sessions {
            let told = text(client, "SELECT swr_cached(1)")?;
            ensure!(told.ends_with(*answer), "{told} instead of {answer}");
            if !seen.contains(&told) {
                seen.push(told);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    let people = sessions.len();
    for (_, answer, seen) in sessions {
        ensure!(seen.len() >= 3, "{answer}: {seen:?}");
    }
    let counted = counted(&cluster, "swr")?;
    ensure!(counted.misses == people as i64, "{counted:?}");
    Ok(())
}

/// A cached function that is SECURITY DEFINER itself, with a search path of its own.
#[test]
fn lifted_by_its_own_declaration() -> Result<()> {
    let cluster = ground("refresh-lifted")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let first = text(&mut ann, "SELECT lifts_cached()")?;
    ensure!(first.ends_with("for bob in pg_catalog"), "{first}");
    call_for(&mut ann, "SELECT lifts_cached()", 3)?;
    let last = text(&mut ann, "SELECT lifts_cached()")?;
    ensure!(
        last != first && last.ends_with("for bob in pg_catalog"),
        "{last}"
    );
    drop(ann);
    let counted = counted(&cluster, "lifts")?;
    // The first call of all learns that the function reads settings, and is not stored.
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
         SELECT cache_function('fails(integer)', ttl => '1 second', consistency => 'ttl', stale_while_revalidate => '1 minute'), setval('runs', 1, false);",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ensure!(number(&mut ann, "SELECT fails_cached(1)::bigint")? == 1);
    let first = text(&mut ann, "SELECT lifted()")?;
    ensure!(first.contains("for bob"), "{first}");
    call_for(&mut ann, "SELECT fails_cached(1), lifted()", 3)?;
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
    let log = cluster.log();
    ensure!(log.matches("could not refresh").count() == 1, "{log}");
    ensure!(log.contains("it fails"), "{log}");
    Ok(())
}

#[test]
fn accidents() -> Result<()> {
    let cluster = ground("refresh-accidents")?;
    let mut client = cluster.connect(DATABASE)?;
    let runs = "SELECT count(*) = 1 FROM cache_progress WHERE command = 'refreshing' AND function = 'slow_cached(integer,interval)'::regprocedure";
    let heat = |client: &mut Client| {
        let busy = "SELECT slow_cached(1)";
        client.batch_execute(busy)?;
        call_for(client, busy, 1)?;
        client
            .batch_execute("SELECT slow_cached(1)")
            .map_err(anyhow::Error::from)
    };
    heat(&mut client)?;
    wait_for(
        &cluster,
        "it is computed anew",
        &format!("SELECT slow_cached(1) > 0 AND ({runs})"),
    )?;
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM cache_progress")?;
    wait_for(
        &cluster,
        "it is gone",
        "SELECT count(*) = 0 FROM cache_progress",
    )?;
    ensure!(number(&mut client, "SELECT slow_cached(1)")? > 0);

    // Dropped while it is computed: the readers' own error, and nothing else.
    client.batch_execute("SELECT clear_cache()")?;
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SELECT slow_cached(2)")?;
    call_for(&mut other, "SELECT slow_cached(2)", 1)?;
    wait_for(
        &cluster,
        "it is computed anew",
        &format!("SELECT slow_cached(2) > 0 AND ({runs})"),
    )?;
    client.batch_execute("DROP FUNCTION slow_cached(integer, interval)")?;
    ensure!(other.batch_execute("SELECT slow_cached(2)").is_err());
    drop(other);
    // The process is killed: the server starts over, and goes on.
    client.batch_execute("SELECT cache_function('slow(integer)', ttl => '2 seconds', consistency => 'ttl', refresh_ahead => '1 second')")?;
    heat(&mut client)?;
    wait_for(
        &cluster,
        "it is computed anew",
        &format!("SELECT slow_cached(1) > 0 AND ({runs})"),
    )?;
    // It may have come to its end meanwhile; then the next one.
    let mut pid = None;
    wait_until("a process that computes", PATIENCE, || {
        pid = client
            .batch_execute("SELECT slow_cached(1)")
            .and_then(|()| client.query_opt("SELECT pid FROM cache_progress LIMIT 1", &[]))
            .ok()
            .flatten()
            .map(|row| row.get::<_, i32>(0));
        pid.is_some()
    })?;
    let pid = pid.unwrap_or_default();
    cluster.kill(pid, pg_query_cache_harness::Signal::KILL)?;
    drop(client);
    wait_for(
        &cluster,
        "the server is back",
        "SELECT count(*) = 0 FROM cache_progress",
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT slow_cached(1)")?;
    call_for(&mut client, "SELECT slow_cached(1)", 4)?;
    drop(client);
    let seen = counted(&cluster, "slow")?;
    ensure!(seen.misses == 1 && seen.fills > 2, "{seen:?}");
    // A stop while it is computed takes no longer than otherwise.
    cluster.restart(Mode::Fast)?;
    ensure!(!cluster.log_contains("PANIC"));
    Ok(())
}

/// The readers of a database that has no process to refresh with leave as many requests as there is room for; then it is dropped.
#[test]
fn requests_that_nobody_will_serve() -> Result<()> {
    // For two of the server, and the workers of two databases.
    let cluster = with_extension(quiet("refresh-left").setting("max_worker_processes", "4"))?;
    let function = "
        CREATE FUNCTION tick(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN clock_timestamp()::text; END';
        SELECT cache_function('tick(integer)', ttl => '1 second', consistency => 'ttl', stale_while_revalidate => '1 hour')";
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
    thread::sleep(Duration::from_millis(1200));
    other.batch_execute("SELECT tick_cached(i) FROM generate_series(1, 99) AS i")?;
    drop(other);
    client.batch_execute("DROP DATABASE gone")?;
    thread::sleep(Duration::from_secs(61));
    let first = text(&mut client, "SELECT tick_cached(1)")?;
    thread::sleep(Duration::from_millis(1200));
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
    let cluster =
        with_extension(quiet("refresh-sleepers").setting("pg_query_cache.refresh_timeout", "3s"))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    worker(&cluster)?;
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
         SELECT cache_function('nap(integer)', ttl => '1 second', consistency => 'ttl', stale_while_revalidate => '1 hour')",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("SELECT nap_cached(i) FROM generate_series(1, 40) AS i")?;
    ann.batch_execute("INSERT INTO naps SELECT generate_series(1, 40)")?;
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let first = text(&mut bob, "SELECT swr_cached(1)")?;
    // More than there are places for requests, and all of them sleep.
    thread::sleep(Duration::from_millis(1200));
    ann.batch_execute("SELECT nap_cached(i) FROM generate_series(1, 40) AS i")?;
    wait_for(
        &cluster,
        "ann's sleeps",
        "SELECT count(*) = 1 FROM cache_progress WHERE role = 'ann' AND phase = 'computing'",
    )?;
    wait_until_new(&mut bob, &first)?;
    ensure!(
        number(
            &mut admin,
            "SELECT count(*) FROM cache_progress WHERE role = 'ann'"
        )? <= 1
    );
    // The one that does not let itself be cancelled is ended.
    let sleeper = number(
        &mut admin,
        "SELECT coalesce(min(pid), 0)::bigint FROM cache_progress WHERE role = 'ann'",
    )?;
    wait_for(
        &cluster,
        "it is ended",
        &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {sleeper}"),
    )
}

fn wait_until_new(client: &mut Client, first: &str) -> Result<()> {
    pg_query_cache_harness::wait_until(
        "a new result",
        pg_query_cache_cluster_tests::PATIENCE,
        || text(client, "SELECT swr_cached(1)").is_ok_and(|new| new != first),
    )
}
