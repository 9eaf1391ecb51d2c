//! Warming: for whose key, in the background over commits, restarts and accidents, and how it is watched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::thread;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    Counters, DATABASE, PATIENCE, counters, holds, number, quiet, wait_for, with_extension, worker,
    worker_turns, worker_turns_in,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode, wait_until};

/// `whose(x)` says who asks and what of the session it can see; `slow(x)` takes half a second; `gated(x)` waits as long as anybody has the
/// advisory lock x; `fails(x)` fails for 0.
const GROUND: &str = "
    CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE gate LOGIN NOINHERIT; GRANT ann, bob TO gate; CREATE ROLE nologin;
    GRANT EXECUTE ON FUNCTION warm_cache(regprocedure, jsonb), warm_cache_many(regprocedure, jsonb),
        warm_cache_in_background(regprocedure, jsonb) TO PUBLIC, ann, bob, gate, nologin;
    GRANT SELECT ON cache_progress TO PUBLIC;
    GRANT SELECT (id, state, role, total, done, stored, failed, error) ON cache_warm_jobs TO PUBLIC;
    CREATE TABLE notes (id integer, owner text); INSERT INTO notes VALUES (1, 'ann'), (2, 'bob'), (3, 'bob');
    GRANT SELECT ON notes TO PUBLIC;
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
    SELECT cache_track_table('notes');
    CREATE FUNCTION whose(x integer) RETURNS text LANGUAGE sql STABLE AS
        $$SELECT format('%s %s of %s, %s', x, count(*), current_user, '2026-01-02 03:04+00'::timestamptz) FROM notes$$;
    CREATE FUNCTION slow(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN PERFORM pg_sleep(0.5); RETURN x; END$$;
    CREATE FUNCTION gated(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS
        $$BEGIN WHILE NOT pg_try_advisory_xact_lock_shared(x) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN x; END$$;
    CREATE FUNCTION fails(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 1 / x; END$$;
    SELECT cache_function('whose(integer)'), cache_function('slow(integer)'), cache_function('gated(integer)'),
        cache_function('fails(integer)');";

/// Whether a job waits in `gated()`.
const AT_THE_GATE: &str =
    "SELECT count(*) = 1 FROM cache_progress AS p JOIN pg_stat_activity AS a USING (pid)
    WHERE p.command = 'background warming' AND p.phase = 'computing' AND a.wait_event = 'PgSleep'";

fn ground(name: &str) -> Result<Cluster> {
    ground_with(name, "16")
}

fn ground_with(name: &str, worker_processes: &str) -> Result<Cluster> {
    let cluster = with_extension(quiet(name).setting("max_worker_processes", worker_processes))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    worker(&cluster)?;
    Ok(cluster)
}

fn queue(client: &mut Client, function: &str, calls: &str) -> Result<i64> {
    let sql = format!(
        "SELECT warm_cache_in_background('{function}_cached(integer, interval)', '{calls}')"
    );
    number(client, &sql)
}

/// Waits until a job is over; its state, counts and error.
fn outcome(cluster: &Cluster, job: i64) -> Result<String> {
    wait_for(
        cluster,
        "the job is over",
        &format!(
            "SELECT state IN ('done', 'failed') AND settings IS NULL AND finished_at IS NOT NULL FROM cache_warm_jobs WHERE id = {job}"
        ),
    )?;
    let row = cluster.connect(DATABASE)?.query_one(
        "SELECT concat_ws(' ', state, total, done, stored, failed, error) FROM cache_warm_jobs WHERE id = $1",
        &[&job],
    )?;
    Ok(row.get(0))
}

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.try_get(0)?)
}

/// Hits and misses of a function once the counts of everybody else have arrived.
fn seen(cluster: &Cluster, function: &str) -> Result<Counters> {
    wait_for(
        cluster,
        "sessions end",
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('client backend', 'pg_query_cache warming') AND pid <> pg_backend_pid()",
    )?;
    counters(
        &mut cluster.connect(DATABASE)?,
        &format!("{function}_cached"),
    )
}

/// A job fills the entry that sessions like the one that queued it find, and nobody else's.
#[test]
fn a_job_is_for_the_role_and_settings_that_queued_it() -> Result<()> {
    let cluster = ground("warm-roles")?;
    let mut before = Counters::default();
    // Login, then what the session sets for itself, then the answer of `whose`.
    for (login, setup, answer) in [
        ("ann", "", "7 1 of ann, 2026-01-02 03:04:00+00"),
        ("bob", "", "7 2 of bob, 2026-01-02 03:04:00+00"),
        ("gate", "SET ROLE ann", "7 1 of ann, 2026-01-02 03:04:00+00"),
        (
            "gate",
            "SET ROLE bob; SET TimeZone = 'Asia/Tokyo'",
            "7 2 of bob, 2026-01-02 12:04:00+09",
        ),
        (
            "ann",
            "SET DateStyle = 'German'; SET search_path = pg_catalog, public",
            "7 1 of ann, 02.01.2026 03:04:00 UTC",
        ),
        (
            "ann",
            "SET app.tenant = 'x'",
            "7 1 of ann, 2026-01-02 03:04:00+00",
        ),
        (
            "ann",
            "SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read'; SET extra_float_digits = 0; SET app.tenant = 'y'; BEGIN READ WRITE",
            "7 1 of ann, 2026-01-02 03:04:00+00",
        ),
    ] {
        let mut client = cluster.connect_as(DATABASE, login)?;
        client.batch_execute(setup)?;
        let job = queue(&mut client, "whose", r#"{"x": 7}"#)?;
        if setup.ends_with("WRITE") {
            client.batch_execute("COMMIT")?;
        }
        ensure!(
            outcome(&cluster, job)? == "done 1 1 1 0",
            "{login} {setup}: {}",
            outcome(&cluster, job)?
        );
        drop(client);
        let filled = seen(&cluster, "whose")?;
        ensure!(
            filled.fills == before.fills + 1 && filled.hits == before.hits,
            "{login} {setup}: {before:?} {filled:?}"
        );

        // The same again, in a new session: a hit.
        let mut client = cluster.connect_as(DATABASE, login)?;
        client.batch_execute(setup)?;
        ensure!(
            text(&mut client, "SELECT whose_cached(7)")? == answer,
            "{login} {setup}: {}",
            text(&mut client, "SELECT whose_cached(7)")?
        );
        drop(client);
        before = seen(&cluster, "whose")?;
        ensure!(
            before.fills == filled.fills && before.hits == filled.hits + 1,
            "{login} {setup}: {filled:?} {before:?}"
        );
    }
    // What was stored for one is nobody else's: a fill for each of them, and the right answer.
    for (login, setup, answer) in [
        (
            "bob",
            "SET app.tenant = 'x'",
            "7 2 of bob, 2026-01-02 03:04:00+00",
        ),
        ("gate", "SET ROLE bob", "7 2 of bob, 2026-01-02 03:04:00+00"),
        ("gate", "", "7 0 of gate, 2026-01-02 03:04:00+00"),
        (
            "postgres",
            "SET ROLE ann",
            "7 1 of ann, 2026-01-02 03:04:00+00",
        ),
    ] {
        let mut client = cluster.connect_as(DATABASE, login)?;
        client.batch_execute(setup)?;
        ensure!(
            text(&mut client, "SELECT whose_cached(7)")? == answer,
            "{login} {setup}"
        );
        drop(client);
        let after = seen(&cluster, "whose")?;
        ensure!(
            after.fills == before.fills + 1 && after.hits == before.hits,
            "{login} {setup}: {before:?} {after:?}"
        );
        before = after;
    }
    Ok(())
}

#[test]
fn who_may_queue_and_see_what() -> Result<()> {
    let cluster = ground("warm-rights")?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "REVOKE EXECUTE ON FUNCTION slow_cached(integer, interval) FROM PUBLIC; GRANT EXECUTE ON FUNCTION slow_cached(integer, interval) TO bob;
         CREATE FUNCTION lifted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
             $$SELECT warm_cache_in_background('whose_cached(integer, interval)', '{\"x\": 1}')$$;",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let error = |result: Result<i64>| format!("{:#}", result.unwrap_err());
    let refused = error(queue(&mut ann, "slow", "{}"));
    ensure!(
        refused.contains("permission denied for function slow_cached"),
        "{refused}"
    );
    // The effective role of a SECURITY DEFINER function is one that ann could not become.
    let refused = error(number(&mut ann, "SELECT lifted()"));
    ensure!(
        refused.contains("cannot warm in the background as role \"postgres\""),
        "{refused}"
    );
    for wrong in ["7", "[7]", "[[], null]"] {
        let refused = error(queue(&mut ann, "whose", wrong));
        ensure!(refused.contains("given as"), "{refused}");
    }
    let own = queue(&mut ann, "whose", r#"[[1], {"x": 2}, [3, 4]]"#)?;
    let told = outcome(&cluster, own)?;
    ensure!(
        told.starts_with("done 3 3 2 1 arguments do not fit"),
        "{told}"
    );
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let foreign = queue(&mut bob, "whose", "[[1]]")?;
    outcome(&cluster, foreign)?;
    ensure!(number(&mut ann, "SELECT count(*) FROM cache_warm_jobs")? == 1);
    ensure!(number(&mut bob, "SELECT count(*) FROM cache_warm_jobs")? == 1);
    for secret in [
        "SELECT calls FROM cache_warm_jobs",
        "SELECT settings FROM cache_warm_jobs",
        "DELETE FROM cache_warm_jobs",
    ] {
        ensure!(ann.batch_execute(secret).is_err(), "{secret}");
    }
    // Nobody becomes a role by writing into the session what a job takes along.
    ann.batch_execute("SET app.role = 'postgres'")?;
    let job = queue(&mut ann, "whose", "[[5]]")?;
    ensure!(outcome(&cluster, job)?.starts_with("done 1 1 1 0"));
    ensure!(text(&mut ann, "SELECT whose_cached(5)")?.contains("of ann"));
    Ok(())
}

#[test]
fn a_job_begins_with_the_commit() -> Result<()> {
    let cluster = ground("warm-commit")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("BEGIN")?;
    queue(&mut client, "whose", r#"{"x": 1}"#)?;
    client.batch_execute("ROLLBACK; BEGIN; SAVEPOINT s")?;
    queue(&mut client, "whose", r#"{"x": 2}"#)?;
    client.batch_execute("ROLLBACK TO s")?;
    let job = queue(&mut client, "whose", r#"{"x": 3}"#)?;
    ensure!(
        number(
            &mut cluster.connect(DATABASE)?,
            "SELECT count(*) FROM cache_warm_jobs"
        )? == 0
    );
    client.batch_execute("COMMIT")?;
    ensure!(outcome(&cluster, job)? == "done 1 1 1 0");
    ensure!(number(&mut client, "SELECT count(*) FROM cache_warm_jobs")? == 1);
    Ok(())
}

#[test]
fn what_goes_wrong_is_in_its_row() -> Result<()> {
    let cluster = ground("warm-errors")?;
    let mut client = cluster.connect(DATABASE)?;
    let job = queue(
        &mut client,
        "fails",
        r#"[{"x": 0}, {"x": 1}, {"x": "y"}, {"x": 2}]"#,
    )?;
    ensure!(
        outcome(&cluster, job)? == r#"done 4 4 2 2 division by zero: {"x": 0}"#,
        "{}",
        outcome(&cluster, job)?
    );
    ensure!(
        number(
            &mut client,
            "SELECT sum(x)::bigint FROM (SELECT fails_cached(2) + fails_cached(1) AS x) AS s"
        )? == 1
    );

    // The function goes away before the job begins, and another one comes in its place.
    client.batch_execute("BEGIN")?;
    let job = queue(&mut client, "fails", r#"{"x": 1}"#)?;
    client.batch_execute("DROP FUNCTION fails_cached(integer, interval); COMMIT")?;
    let told = outcome(&cluster, job)?;
    ensure!(
        told == "failed 1 0 0 0 function with OID 0 does not exist",
        "{told}"
    );

    // A role that cannot log in.
    client.batch_execute("BEGIN; SET LOCAL SESSION AUTHORIZATION nologin")?;
    let job = queue(&mut client, "whose", r#"{"x": 1}"#)?;
    client.batch_execute("COMMIT")?;
    let told = outcome(&cluster, job)?;
    ensure!(told.starts_with("failed 1 0 0 0 interrupted"), "{told}");
    ensure!(cluster.log_contains("is not permitted to log in"));
    // The time that the role has for a statement.
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    // Set in the statement that queues, which began without one.
    let job = number(
        &mut ann,
        "SELECT job FROM (SELECT set_config('statement_timeout', '100ms', true) OFFSET 0) AS s,
            LATERAL (SELECT warm_cache_in_background('slow_cached(integer, interval)', '[[1], [2]]') AS job WHERE s.set_config <> '') AS j",
    )?;
    let told = outcome(&cluster, job)?;
    ensure!(
        told == "failed 2 2 0 2 canceling statement due to statement timeout: [1]",
        "{told}"
    );
    // The one after it is run all the same.
    let job = queue(&mut client, "whose", r#"{"x": 1}"#)?;
    ensure!(outcome(&cluster, job)? == "done 1 1 1 0");
    Ok(())
}

#[test]
fn it_can_be_watched() -> Result<()> {
    let cluster = ground("warm-progress")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(3), pg_advisory_lock(13)")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let job = queue(&mut ann, "gated", "[[1], [2], [3], [4]]")?;
    wait_for(
        &cluster,
        "the job is shown",
        &format!(
            "SELECT count(*) = 1 FROM cache_progress WHERE command = 'background warming' AND phase = 'computing' AND job = {job} AND role = 'ann'
             AND function = 'gated_cached(integer,interval)'::regprocedure AND total = 4 AND done = 2 AND stored = done AND failed = 0
             AND database = current_database() AND started_at <= clock_timestamp()
             AND pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_query_cache warming' AND usename = 'ann')"
        ),
    )?;
    ensure!(number(&mut ann, "SELECT count(*) FROM cache_progress")? == 1);
    ensure!(
        number(
            &mut cluster.connect_as(DATABASE, "bob")?,
            "SELECT count(*) FROM cache_progress"
        )? == 0
    );
    gate.batch_execute("SELECT pg_advisory_unlock(3)")?;
    ensure!(outcome(&cluster, job)? == "done 4 4 4 0");

    // A session; it is gone from the view after an error, a cancel, and when its process ends.
    for how in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut client = cluster.connect(DATABASE)?;
        let busy = thread::spawn(move || {
            client.batch_execute("SELECT * FROM warm_cache_many('gated_cached(integer, interval)', '[[11], [12], [13], [14], [15], [16]]')")
        });
        wait_for(
            &cluster,
            "it is shown",
            "SELECT count(*) = 1 FROM cache_progress WHERE command = 'warming' AND done = 2",
        )?;
        ensure!(holds(
            &mut cluster.connect(DATABASE)?,
            &format!("SELECT {how}(pid) FROM cache_progress")
        )?);
        ensure!(busy.join().unwrap().is_err());
        wait_for(
            &cluster,
            "it is gone",
            "SELECT count(*) = 0 FROM cache_progress",
        )?;
        cluster
            .connect(DATABASE)?
            .batch_execute("SELECT clear_cache()")?;
    }
    Ok(())
}

#[test]
fn accidents() -> Result<()> {
    let cluster = ground("warm-accidents")?;
    let mut client = cluster.connect(DATABASE)?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(x) FROM unnest('{1,21,31,41}'::integer[]) AS x")?;
    // The process is ended by hand.
    let first = queue(&mut client, "gated", "[[1], [2], [3], [4], [5], [6]]")?;
    let second = queue(&mut client, "gated", "[[7]]")?;
    wait_for(&cluster, "it runs", AT_THE_GATE)?;
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM cache_progress")?;
    let told = outcome(&cluster, first)?;
    ensure!(told.starts_with("failed 6 0 0 0 interrupted"), "{told}");
    ensure!(outcome(&cluster, second)? == "done 1 1 1 0");

    // A cancel ends one call, and the job goes on.
    let job = queue(&mut client, "gated", "[[21], [22]]")?;
    wait_for(&cluster, "it runs", AT_THE_GATE)?;
    client.batch_execute("SELECT pg_cancel_backend(pid) FROM cache_progress")?;
    let told = outcome(&cluster, job)?;
    ensure!(
        told.starts_with("done 2 2 1 1 canceling statement"),
        "{told}"
    );

    // The worker of the database is ended: the job goes on, and the next one is started by another worker.
    let job = queue(&mut client, "gated", "[[31], [32], [33], [34], [35], [36]]")?;
    let after = queue(&mut client, "gated", "[[37]]")?;
    wait_for(&cluster, "it runs", AT_THE_GATE)?;
    let old = worker(&cluster)?;
    client.batch_execute(&format!("SELECT pg_terminate_backend({old})"))?;
    wait_until("another worker", PATIENCE, || {
        worker(&cluster).is_ok_and(|pid| pid != old)
    })?;
    gate.batch_execute("SELECT pg_advisory_unlock(31)")?;
    ensure!(outcome(&cluster, job)? == "done 6 6 6 0");
    ensure!(outcome(&cluster, after)? == "done 1 1 1 0");

    // A database can be dropped while a job runs in it.
    client.batch_execute("CREATE DATABASE other")?;
    let mut other = cluster.connect("other")?;
    other.batch_execute("CREATE EXTENSION pg_query_cache")?;
    other.batch_execute(
        "CREATE FUNCTION slow(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN PERFORM pg_sleep(3600); RETURN x; END$$;
         SELECT cache_function('slow(integer)')",
    )?;
    queue(&mut other, "slow", "[[1], [2], [3], [4]]")?;
    wait_until("it runs", PATIENCE, || {
        holds(&mut other, AT_THE_GATE).unwrap_or(false)
    })?;
    drop(other);
    client.batch_execute("DROP DATABASE other")?;

    // The server stops, and another time it crashes: what ran was interrupted, what waited is run.
    for mode in [Mode::Fast, Mode::Immediate] {
        let first = queue(&mut client, "gated", "[[41], [42], [43], [44], [45], [46]]")?;
        let second = queue(&mut client, "gated", "[[47]]")?;
        wait_for(&cluster, "it runs", AT_THE_GATE)?;
        cluster.restart(mode)?;
        let told = outcome(&cluster, first)?;
        ensure!(told.starts_with("failed 6 0 0 0 interrupted"), "{told}");
        let told = outcome(&cluster, second)?;
        ensure!(told == "done 1 1 1 0", "{told}");
        client = cluster.connect(DATABASE)?;
        client.batch_execute("SELECT clear_cache()")?;
        gate = cluster.connect(DATABASE)?;
        gate.batch_execute("SELECT pg_advisory_lock(41)")?;
    }
    ensure!(!cluster.log_contains("PANIC"));
    Ok(())
}

/// Without a free worker process a job waits, and the log says so once.
#[test]
fn it_waits_for_a_worker_process() -> Result<()> {
    // Logical replication's launcher, ours, two workers.
    let cluster = ground_with("warm-exhausted", "4")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE other")?;
    cluster
        .connect("other")?
        .batch_execute("CREATE EXTENSION pg_query_cache")?;
    wait_for(
        &cluster,
        "all worker processes are taken",
        "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'",
    )?;
    let job = queue(&mut client, "whose", "[[1]]")?;
    // It looks more than once.
    worker_turns(&cluster)?;
    ensure!(text(&mut client, "SELECT state FROM cache_warm_jobs")? == "queued");
    ensure!(
        cluster
            .log()
            .matches("all worker processes are in use")
            .count()
            == 1
    );
    client.batch_execute("DROP DATABASE other")?;
    ensure!(outcome(&cluster, job)? == "done 1 1 1 0");
    Ok(())
}

/// A function that reads settings has all of them in its key, and a language's library brings some along: they are there before.
#[test]
fn a_function_that_reads_settings() -> Result<()> {
    let cluster = ground("warm-settings")?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION setting() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_setting('work_mem'); END$$;
         SELECT cache_function('setting()');",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let job = number(
        &mut ann,
        "SELECT warm_cache_in_background('setting_cached(interval)')",
    )?;
    ensure!(outcome(&cluster, job)? == "done 1 1 1 0");
    drop(ann);
    ensure!(seen(&cluster, "setting")?.fills == 1);
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("DO 'BEGIN END'; SELECT setting_cached()")?;
    drop(ann);
    let counted = seen(&cluster, "setting")?;
    ensure!((counted.fills, counted.hits) == (1, 1), "{counted:?}");
    Ok(())
}

/// Sessions that warm the same at the same time compute it once.
#[test]
fn once_for_many() -> Result<()> {
    let cluster = ground("warm-once")?;
    cluster.set("pg_query_cache.fill_wait", "1h")?;
    wait_for(
        &cluster,
        "sessions wait however long it takes",
        "SELECT current_setting('pg_query_cache.fill_wait') = '1h'",
    )?;
    let busy: Vec<_> = (0..6)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            Ok(thread::spawn(move || {
                holds(
                    &mut client,
                    "SELECT warm_cache('slow_cached(integer, interval)', '[1]')",
                )
            }))
        })
        .collect::<Result<_>>()?;
    for one in busy {
        ensure!(one.join().unwrap()?);
    }
    let counted = seen(&cluster, "slow")?;
    ensure!(counted.fills == 1, "{counted:?}");
    Ok(())
}

/// A job is run as what it was when it was queued, or not at all: each way in which it can become something else.
#[test]
fn a_job_that_has_become_another() -> Result<()> {
    let cluster = ground("warm-changed")?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE TABLE ran (what text); GRANT ALL ON ran TO PUBLIC;
         CREATE SCHEMA hers AUTHORIZATION ann; ALTER FUNCTION whose(integer) SET search_path = public, pg_temp",
    )?;
    let evil = "CREATE OR REPLACE FUNCTION whose(x integer) RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp AS
                $$BEGIN INSERT INTO ran VALUES (current_user); RETURN x; END$$";
    let good = "CREATE OR REPLACE FUNCTION whose(x integer) RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS
                $$SELECT format('%s %s of %s, %s', x, count(*), current_user, '2026-01-02 03:04+00'::timestamptz) FROM notes$$";
    let cached = "whose_cached(integer, interval)";
    for (change, back, told) in [
        (evil.to_owned(), good.to_owned(), "have changed"),
        (
            "ALTER FUNCTION whose(integer) SECURITY DEFINER".into(),
            "ALTER FUNCTION whose(integer) SECURITY INVOKER".into(),
            "have changed",
        ),
        (
            "ALTER FUNCTION whose(integer) SET work_mem = '1MB'".into(),
            "ALTER FUNCTION whose(integer) RESET work_mem".into(),
            "have changed",
        ),
        (
            "ALTER FUNCTION whose(integer) OWNER TO ann".into(),
            "ALTER FUNCTION whose(integer) OWNER TO postgres".into(),
            "have changed",
        ),
        (
            format!("ALTER FUNCTION {cached} SECURITY DEFINER"),
            format!("ALTER FUNCTION {cached} SECURITY INVOKER"),
            "have changed",
        ),
        (
            format!("ALTER FUNCTION {cached} SET search_path = hers"),
            format!("ALTER FUNCTION {cached} RESET search_path"),
            "have changed",
        ),
        (
            format!("REVOKE EXECUTE ON FUNCTION {cached} FROM PUBLIC"),
            format!("GRANT EXECUTE ON FUNCTION {cached} TO PUBLIC"),
            "have changed",
        ),
        (
            "ALTER ROLE bob SUPERUSER".into(),
            "ALTER ROLE bob NOSUPERUSER".into(),
            "have changed",
        ),
        (
            "ALTER ROLE gate SET search_path = hers".into(),
            "ALTER ROLE gate RESET search_path".into(),
            "have changed",
        ),
        (
            format!("ALTER DATABASE {DATABASE} SET TimeZone = 'Asia/Tokyo'"),
            format!("ALTER DATABASE {DATABASE} RESET TimeZone"),
            "have changed",
        ),
        (
            "REVOKE bob FROM gate".into(),
            "GRANT bob TO gate".into(),
            "permission denied to set role",
        ),
        (
            "ALTER ROLE gate NOLOGIN".into(),
            "ALTER ROLE gate LOGIN".into(),
            "interrupted",
        ),
    ] {
        let mut gate = cluster.connect_as(DATABASE, "gate")?;
        gate.batch_execute("SET ROLE bob; BEGIN")?;
        let job = queue(&mut gate, "whose", "[[1]]")?;
        admin.batch_execute(&change)?;
        gate.batch_execute("COMMIT")?;
        let outcome = outcome(&cluster, job)?;
        ensure!(
            outcome.starts_with("failed 1 0 0 0") && outcome.contains(told),
            "{change}: {outcome}"
        );
        admin.batch_execute(&back)?;
        drop(gate);
    }
    ensure!(number(&mut admin, "SELECT count(*) FROM ran")? == 0);
    // And a role that is gone.
    admin.batch_execute(
        "CREATE ROLE passing LOGIN; BEGIN; GRANT EXECUTE ON FUNCTION warm_cache_in_background(regprocedure, jsonb) TO passing; SET LOCAL SESSION AUTHORIZATION passing",
    )?;
    let job = queue(&mut admin, "whose", "[[1]]")?;
    admin.batch_execute(
        "RESET SESSION AUTHORIZATION; DROP OWNED BY passing; DROP ROLE passing; COMMIT",
    )?;
    let outcome = outcome(&cluster, job)?;
    ensure!(outcome.starts_with("failed 1 0 0 0"), "{outcome}");
    Ok(())
}

/// A role has so many jobs that wait, one that runs, and so much time for it; others do not notice.
#[test]
fn what_a_role_can_take() -> Result<()> {
    let cluster = with_extension(
        quiet("warm-limits")
            .setting("pg_query_cache.warm_jobs_per_role", "3")
            // Two jobs at the same time.
            .setting("pg_query_cache.workers", "4")
            .setting("pg_query_cache.warm_job_timeout", "1h"),
    )?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION sleeps(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS
             $$BEGIN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
         CREATE FUNCTION naps(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN PERFORM pg_sleep(3600); RETURN x; END$$;
         SELECT cache_function('sleeps(integer)'), cache_function('naps(integer)')",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("BEGIN")?;
    let jobs = [0, 1, 2].map(|_| queue(&mut ann, "sleeps", "[[1], [2]]"));
    ann.batch_execute("SAVEPOINT s")?;
    let refused = format!("{:#}", queue(&mut ann, "whose", "[[1]]").unwrap_err());
    ensure!(
        refused.contains("3 jobs of this role are waiting"),
        "{refused}"
    );
    ann.batch_execute("ROLLBACK TO s; COMMIT")?;
    // Bob's runs beside ann's first, and her second does not.
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let other = queue(&mut bob, "whose", "[[1]]")?;
    ensure!(outcome(&cluster, other)? == "done 1 1 1 0");
    let waiting = number(
        &mut cluster.connect(DATABASE)?,
        "SELECT count(*) FROM cache_warm_jobs WHERE state = 'queued'",
    )?;
    ensure!(waiting == 2, "{waiting}");
    // From now on there is less time. Hers end although they do not want to, the first by hand.
    cluster.set("pg_query_cache.warm_job_timeout", "1s")?;
    wait_for(
        &cluster,
        "new processes have less time",
        "SELECT current_setting('pg_query_cache.warm_job_timeout') = '1s'",
    )?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("SELECT pg_terminate_backend(pid) FROM cache_progress")?;
    for job in jobs {
        let told = outcome(&cluster, job?)?;
        ensure!(told.starts_with("failed 2 0 0 0 interrupted"), "{told}");
    }
    // One that can be cancelled says why it was.
    let long = queue(&mut bob, "naps", "[[1], [2], [3], [4], [5], [6], [7], [8]]")?;
    let told = outcome(&cluster, long)?;
    ensure!(told.starts_with("failed 8"), "{told}");
    Ok(())
}

/// `step(x)` says in the log that it is run, waits as long as anybody has the advisory lock |x|, and fails for what is negative.
const STEP: &str = "CREATE FUNCTION step(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS
    $$BEGIN
        RAISE LOG 'step <%> in %', x, current_database();
        WHILE NOT pg_try_advisory_xact_lock_shared(abs(x)) LOOP PERFORM pg_sleep(0.01); END LOOP;
        RETURN 1 / greatest(x, 0);
    END$$;
    SELECT cache_function('step(integer)')";

/// A cluster in which one job runs at a time, and its turn is over after each call if somebody waits.
fn turns(name: &str) -> Result<Cluster> {
    let cluster = with_extension(
        quiet(name)
            .setting("pg_query_cache.warm_job_turn", "1ms")
            .setting("pg_query_cache.warm_call_turn", "0")
            .setting("pg_query_cache.workers", "3")
            .setting("max_worker_processes", "16"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(GROUND)?;
    client.batch_execute(STEP)?;
    worker(&cluster)?;
    Ok(cluster)
}

/// Waits until a job has made so many calls and makes the next one.
fn is_at(cluster: &Cluster, database: &str, job: i64, done: i64) -> Result<()> {
    let mut client = cluster.connect(database)?;
    wait_until("the job is there", PATIENCE, || {
        let sql = format!(
            "SELECT count(*) = 1 FROM cache_progress AS p JOIN pg_stat_activity AS a USING (pid)
             WHERE p.job = {job} AND p.phase = 'computing' AND p.done = {done} AND a.wait_event = 'PgSleep'"
        );
        holds(&mut client, &sql).unwrap_or(false)
    })
}

fn row_of(cluster: &Cluster, database: &str, job: i64) -> Result<String> {
    text(
        &mut cluster.connect(database)?,
        &format!(
            "SELECT concat_ws(' ', state, total, done, stored, failed, error) FROM cache_warm_jobs WHERE id = {job}"
        ),
    )
}

/// A long job gives way to another role's and to another database's, and goes on behind them where it stopped.
#[test]
fn jobs_take_turns() -> Result<()> {
    let cluster = turns("warm-turns")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(x) FROM unnest('{1,2,3,11}'::integer[]) AS x")?;
    gate.batch_execute("CREATE DATABASE other")?;
    gate.batch_execute("CREATE ROLE cat LOGIN")?;
    let mut far_gate = cluster.connect("other")?;
    far_gate.batch_execute(
        "CREATE EXTENSION pg_query_cache; GRANT EXECUTE ON FUNCTION warm_cache_in_background(regprocedure, jsonb) TO cat;
         SELECT pg_advisory_lock(x) FROM unnest('{21,22}'::integer[]) AS x",
    )?;
    far_gate.batch_execute(STEP)?;

    let long = queue(
        &mut cluster.connect_as(DATABASE, "ann")?,
        "step",
        "[[-9], [1], [2], [3], [4]]",
    )?;
    is_at(&cluster, DATABASE, long, 1)?;
    let short = queue(&mut cluster.connect_as(DATABASE, "bob")?, "step", "[[11]]")?;
    worker_turns(&cluster)?;
    let far = queue(
        &mut cluster.connect_as("other", "cat")?,
        "step",
        "[[21], [22], [23]]",
    )?;
    worker_turns_in(&cluster, "other")?;

    // To bob, who waits for longest.
    gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
    is_at(&cluster, DATABASE, short, 0)?;
    let told = row_of(&cluster, DATABASE, long)?;
    ensure!(told == "queued 5 2 1 1 division by zero: [-9]", "{told}");
    worker_turns(&cluster)?;
    // To the other database, which has waited for longer than what is left of ann's.
    gate.batch_execute("SELECT pg_advisory_unlock(11)")?;
    is_at(&cluster, "other", far, 0)?;
    ensure!(outcome(&cluster, short)? == "done 1 1 1 0");
    let told = row_of(&cluster, DATABASE, long)?;
    ensure!(told.starts_with("queued 5 2 1 1"), "{told}");
    worker_turns(&cluster)?;
    // And back, and forth.
    far_gate.batch_execute("SELECT pg_advisory_unlock(21)")?;
    is_at(&cluster, DATABASE, long, 2)?;
    let told = row_of(&cluster, "other", far)?;
    ensure!(told == "queued 3 1 1 0", "{told}");
    worker_turns_in(&cluster, "other")?;
    gate.batch_execute("SELECT pg_advisory_unlock(2)")?;
    is_at(&cluster, "other", far, 1)?;
    let told = row_of(&cluster, DATABASE, long)?;
    ensure!(told.starts_with("queued 5 3 2 1"), "{told}");

    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    far_gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    let told = outcome(&cluster, long)?;
    ensure!(told == "done 5 5 4 1 division by zero: [-9]", "{told}");
    wait_until("the other's is over", PATIENCE, || {
        row_of(&cluster, "other", far).is_ok_and(|told| told == "done 3 3 3 0")
    })?;
    let log = cluster.log();
    for call in [-9, 1, 2, 3, 4, 11, 21, 22, 23] {
        let times = log.matches(&format!("step <{call}> in")).count();
        ensure!(times == 1, "{call}: {times}");
    }
    Ok(())
}

/// Between two turns a job is as one that waits: it survives a crash, and what it may do and for how long is looked at again.
#[test]
fn between_two_turns() -> Result<()> {
    let cluster = turns("warm-between")?;
    let mut admin = cluster.connect(DATABASE)?;
    for (change, back, expected) in [
        ("", "", "done 4 4 3 1 division by zero: [-9]"),
        (
            "UPDATE cache_warm_jobs SET used_us = 600000000 WHERE state = 'queued' AND used_us > 0",
            "",
            "failed 4 2 1 1 canceling the job due to pg_query_cache.warm_job_timeout",
        ),
        (
            "ALTER FUNCTION step(integer) SET work_mem = '1MB'",
            "ALTER FUNCTION step(integer) RESET work_mem",
            "failed 4 2 1 1 the function, what it caches, a role or its settings have changed since the job was queued",
        ),
        (
            "ALTER ROLE ann NOLOGIN",
            "ALTER ROLE ann LOGIN",
            "failed 4 2 1 1 interrupted: the background process ended, see the server's log",
        ),
        ("crash", "", "done 4 4 3 1 division by zero: [-9]"),
    ] {
        admin.batch_execute("SELECT clear_cache()")?;
        let mut gate = cluster.connect(DATABASE)?;
        gate.batch_execute("SELECT pg_advisory_lock(1), pg_advisory_lock(11)")?;
        let long = queue(
            &mut cluster.connect_as(DATABASE, "ann")?,
            "step",
            "[[-9], [1], [2], [3]]",
        )?;
        is_at(&cluster, DATABASE, long, 1)?;
        let short = queue(&mut cluster.connect_as(DATABASE, "bob")?, "step", "[[11]]")?;
        worker_turns(&cluster)?;
        gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
        is_at(&cluster, DATABASE, short, 0)?;
        let told = row_of(&cluster, DATABASE, long)?;
        ensure!(
            told == "queued 4 2 1 1 division by zero: [-9]",
            "{change}: {told}"
        );
        if change == "crash" {
            cluster.restart(Mode::Immediate)?;
            admin = cluster.connect(DATABASE)?;
            let told = outcome(&cluster, short)?;
            ensure!(told.starts_with("failed 1 0 0 0 interrupted"), "{told}");
        } else {
            admin.batch_execute(change)?;
            gate.batch_execute("SELECT pg_advisory_unlock(11)")?;
            outcome(&cluster, short)?;
        }
        let told = outcome(&cluster, long)?;
        ensure!(told == expected, "{change}: {told}");
        admin.batch_execute(back)?;
    }
    Ok(())
}

/// A call that takes long does not keep others waiting: it is cancelled and made again later with more time, and in the end given up.
#[test]
fn long_calls_give_way() -> Result<()> {
    let cluster = with_extension(
        quiet("warm-calls")
            .setting("pg_query_cache.warm_call_turn", "400ms")
            .setting("pg_query_cache.workers", "3")
            .setting("max_worker_processes", "16"),
    )?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute(GROUND)?;
    gate.batch_execute(STEP)?;
    gate.batch_execute(
        "CREATE FUNCTION sleeps(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS
             $$BEGIN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
         SELECT cache_function('sleeps(integer)')",
    )?;
    worker(&cluster)?;
    let (mut ann, mut bob) = (
        cluster.connect_as(DATABASE, "ann")?,
        cluster.connect_as(DATABASE, "bob")?,
    );

    // One that waits for what does not come.
    gate.batch_execute("SELECT pg_advisory_lock(x) FROM unnest('{1,3,13}'::integer[]) AS x")?;
    let long = queue(&mut ann, "step", "[[-9], [1], [2]]")?;
    is_at(&cluster, DATABASE, long, 1)?;
    let short = queue(&mut bob, "step", "[[11]]")?;
    let told = outcome(&cluster, short)?;
    ensure!(told == "done 1 1 1 0", "{told}");
    // Nobody waits any more, so it has all the time.
    is_at(&cluster, DATABASE, long, 1)?;
    gate.batch_execute("SELECT pg_advisory_unlock(1)")?;
    let told = outcome(&cluster, long)?;
    ensure!(told == "done 3 3 2 1 division by zero: [-9]", "{told}");

    // Of two that are longer than a turn none keeps the other from its end.
    let one = queue(&mut ann, "slow", "[[1], [2]]")?;
    let other = queue(&mut bob, "slow", "[[3], [4]]")?;
    for job in [one, other] {
        let told = outcome(&cluster, job)?;
        ensure!(told == "done 2 2 2 0", "{told}");
    }

    // One that is given up does not take the rest of its job along.
    let one = queue(&mut ann, "step", "[[3], [4]]")?;
    is_at(&cluster, DATABASE, one, 0)?;
    let other = queue(&mut bob, "step", "[[13], [14]]")?;
    let told = outcome(&cluster, one)?;
    ensure!(
        told == "done 2 2 1 1 canceling the call due to pg_query_cache.warm_call_turn: [3]",
        "{told}"
    );
    gate.batch_execute("SELECT pg_advisory_unlock(13)")?;
    let told = outcome(&cluster, other)?;
    ensure!(told == "done 2 2 2 0", "{told}");

    // One that does not want to end.
    let one = queue(&mut ann, "sleeps", "[[1], [2]]")?;
    is_at(&cluster, DATABASE, one, 0)?;
    let other = queue(&mut bob, "step", "[[15]]")?;
    let told = outcome(&cluster, other)?;
    ensure!(told == "done 1 1 1 0", "{told}");
    let told = outcome(&cluster, one)?;
    ensure!(told.starts_with("failed 2 0 0 0 interrupted"), "{told}");
    Ok(())
}

/// What waits for a role has a size, whoever else has how much; and nothing waits that no background process can do.
#[test]
fn what_can_be_queued() -> Result<()> {
    let cluster =
        with_extension(quiet("warm-size").setting("pg_query_cache.warm_jobs_size", "64kB"))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let calls = |bytes: usize| {
        let digits: Vec<String> = (0..bytes / 10)
            .map(|x| format!("[{:07}]", 1_000_000 + x))
            .collect();
        format!("[{}]", digits.join(","))
    };
    for client in [&mut ann, &mut bob] {
        client.batch_execute("BEGIN")?;
        queue(client, "gated", &calls(50_000))?;
        client.batch_execute("SAVEPOINT s")?;
        let refused = format!("{:#}", queue(client, "gated", &calls(50_000)).unwrap_err());
        ensure!(
            refused.contains("jobs of this role would take more than 64 kB"),
            "{refused}"
        );
        client.batch_execute("ROLLBACK TO s")?;
        queue(client, "gated", "[[1]]")?;
        client.batch_execute("SELECT set_config('app.large', repeat('x', 64 * 1024), false)")?;
        let refused = format!("{:#}", queue(client, "gated", "[[1]]").unwrap_err());
        ensure!(refused.contains("would take more than 64 kB"), "{refused}");
        client.batch_execute("ROLLBACK")?;
    }
    ann.batch_execute(
        "CREATE FUNCTION pg_temp.mine(x integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT x';
         CREATE FUNCTION pg_temp.mine_cached(x integer, cache_duration interval DEFAULT NULL) RETURNS integer
             LANGUAGE cached STABLE AS '{\"function\": \"pg_temp.mine(integer)\"}'",
    )?;
    let refused = format!(
        "{:#}",
        number(
            &mut ann,
            "SELECT warm_cache_in_background('pg_temp.mine_cached(integer, interval)', '{\"x\": 1}')"
        )
        .unwrap_err()
    );
    ensure!(
        refused.contains("cannot warm temporary function"),
        "{refused}"
    );
    Ok(())
}
