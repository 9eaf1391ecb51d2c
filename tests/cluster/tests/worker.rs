//! The background workers: who they are, what they do by themselves, and that they are in nobody's way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

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
    // Two go round, whatever the number of databases, and stay where nobody else waits.
    client.batch_execute("CREATE DATABASE none")?;
    for name in ["one", "two"] {
        client.batch_execute(&format!("CREATE DATABASE {name}"))?;
        cluster
            .connect(name)?
            .batch_execute("CREATE EXTENSION pg_query_cache")?;
        wait_for(
            &cluster,
            "a worker comes",
            &format!(
                "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = '{name}'"
            ),
        )?;
    }
    wait_for(
        &cluster,
        "two workers",
        "SELECT count(*) = 2 AND count(DISTINCT datname) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'",
    )?;
    for (workers, expected) in [("1", 1), ("3", 3)] {
        cluster.set("pg_query_cache.workers", workers)?;
        for name in [DATABASE, "one", "two"] {
            cluster.connect(name)?.batch_execute(&format!(
                "SELECT set_cache_config('class.default.ttl', '{expected} h')"
            ))?;
        }
        wait_for(
            &cluster,
            "as many workers as there may be",
            &format!(
                "SELECT count(*) = {expected} FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker'"
            ),
        )?;
    }
    cluster
        .connect("one")?
        .batch_execute("DROP EXTENSION pg_query_cache")?;
    wait_for(
        &cluster,
        "it goes with the extension",
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
        "SELECT count_marker_cached() = 0
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
    // Whoever comes meanwhile does not wait for who has the table, and with the worker not for long.
    cluster
        .connect(DATABASE)?
        .batch_execute("SET lock_timeout = '240s'; INSERT INTO busy VALUES (2)")?;
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
    other.batch_execute(
        "CREATE EXTENSION IF NOT EXISTS pg_query_cache; SELECT set_cache_config('class.default.ttl', '7 min')",
    )?;
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

/// What a database needs to have a result stored: a function whose table is tracked by the worker.
const TRACKED: &str = "
    CREATE EXTENSION pg_query_cache;
    CREATE TABLE t (v integer); INSERT INTO t VALUES (1);
    CREATE FUNCTION sum_of() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM t';
    SELECT cache_function('sum_of()');";

/// More databases than the server has worker processes, and more than there are places for in shared memory; the settings of the server
/// are its defaults. All are served, and others get their processes.
#[test]
fn any_number_of_databases() -> Result<()> {
    const DATABASES: usize = 72;
    let cluster = quiet("worker-many")
        .setting("max_worker_processes", "8")
        .setting("pg_query_cache.memory", "4MB")
        .setting("pg_query_cache.auto_track", "on")
        .setting("pg_query_cache.flush_interval", "1s")
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE pattern")?;
    cluster.connect("pattern")?.batch_execute(TRACKED)?;
    let names: Vec<String> = (0..DATABASES).map(|i| format!("d{i}")).collect();
    for name in &names {
        client.batch_execute(&format!(
            "CREATE DATABASE {name} TEMPLATE pattern STRATEGY file_copy"
        ))?;
    }
    let most = std::cell::Cell::new(0);
    let mut unserved: Vec<&String> = names.iter().collect();
    wait_until("all databases are served", PATIENCE * 6, || {
        unserved.retain(|name| {
            let served = cluster.connect(name).and_then(|mut own| {
                own.batch_execute("SELECT sum_of_cached()")?;
                holds(&mut own, "SELECT count(*) = 1 FROM query_cache")
            });
            !served.unwrap_or(false)
        });
        let workers = number(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_query_cache%'",
        );
        most.set(most.get().max(workers.unwrap_or(0)));
        unserved.is_empty()
    })?;
    // The launcher and two workers, and two that are about to be gone when others come in their places.
    assert!(most.get() <= 5, "{} processes", most.get());
    client.batch_execute(
        "CREATE TABLE wide AS SELECT i FROM generate_series(1, 200000) AS i;
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
    )?;
    let plan: String = client
        .query(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(*) FROM wide",
            &[],
        )?
        .iter()
        .map(|row| row.get::<_, String>(0))
        .collect();
    assert!(plan.contains("Workers Launched: 2"), "{plan}");
    assert!(!cluster.log_contains("all worker processes are in use"));
    Ok(())
}

/// Databases in which nothing happens are visited, and nobody notices: no transaction id, no WAL.
#[test]
fn idle_is_idle() -> Result<()> {
    let cluster = Cluster::builder("worker-idle")
        .setting("pg_query_cache.flush_interval", "1s")
        .setting("pg_query_cache.cleanup_interval", "1s")
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .setting("autovacuum", "off")
        .setting("checkpoint_timeout", "1d")
        .setting("log_min_messages", "debug1")
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE pattern")?;
    cluster.connect("pattern")?.batch_execute(TRACKED)?;
    for i in 0..12 {
        client.batch_execute(&format!("CREATE DATABASE d{i} TEMPLATE pattern"))?;
        cluster
            .connect(&format!("d{i}"))?
            .batch_execute("SELECT sum_of_cached(); SELECT cache_set('k', '1')")?;
    }
    let visits = || {
        cluster
            .log()
            .matches("starting background worker process \"pg_query_cache worker\"")
            .count()
    };
    // What has happened so far is written: the last of it with the next full minute.
    for i in 0..12 {
        let mut own = cluster.connect(&format!("d{i}"))?;
        wait_until("its history is written", PATIENCE * 4, || {
            holds(&mut own, "SELECT count(*) > 0 FROM cache_trends").unwrap_or(false)
        })?;
    }
    let state = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text || ' ' || pg_current_wal_insert_lsn()";
    let text = |client: &mut pg_query_cache_harness::postgres::Client| -> Result<String> {
        Ok(client.query_one(state, &[])?.get(0))
    };
    // The first look at a catalog tidies its pages up, as anybody's does: two rounds over all of them.
    let seen = visits();
    wait_until("each was looked at", PATIENCE * 4, || visits() >= seen + 26)?;
    let (seen, first) = (visits(), text(&mut client)?);
    wait_until("more visits", PATIENCE * 4, || visits() >= seen + 8)?;
    assert_eq!(text(&mut client)?, first);
    let trends = number(
        &mut cluster.connect("pattern")?,
        "SELECT count(*) FROM cache_trends",
    )?;
    assert_eq!(trends, 0, "nobody ever called there");
    Ok(())
}

/// The worker is what it is, whatever its database and its role were given.
#[test]
fn settings_of_the_database_are_not_its_own() -> Result<()> {
    let cluster =
        with_accounts(quiet("worker-settings").setting("pg_query_cache.flush_interval", "1s"))?;
    let pid = worker(&cluster)?;
    // Whoever connects later has them all.
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!(
        "CREATE ROLE nobody; CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO PUBLIC;
         CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
         CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
         ALTER DATABASE {DATABASE} SET role = 'nobody';
         ALTER DATABASE {DATABASE} SET row_security = off;
         ALTER DATABASE {DATABASE} SET search_path = trap, pg_catalog;
         ALTER DATABASE {DATABASE} SET session_replication_role = replica;
         ALTER DATABASE {DATABASE} SET default_transaction_read_only = on;
         ALTER DATABASE {DATABASE} SET default_transaction_isolation = 'serializable';
         ALTER DATABASE {DATABASE} SET standard_conforming_strings = off;
         ALTER DATABASE {DATABASE} SET backslash_quote = on;
         ALTER DATABASE {DATABASE} SET statement_timeout = 1;
         ALTER DATABASE {DATABASE} SET idle_in_transaction_session_timeout = 1;
         ALTER DATABASE {DATABASE} SET datestyle = 'German';
         ALTER DATABASE {DATABASE} SET bytea_output = 'escape';
         ALTER DATABASE {DATABASE} SET default_tablespace = 'nowhere';
         ALTER DATABASE {DATABASE} SET default_table_access_method = 'heap';
         ALTER DATABASE {DATABASE} SET client_encoding = 'latin1';
         ALTER DATABASE {DATABASE} SET temp_file_limit = 0;
         ALTER DATABASE {DATABASE} SET exit_on_error = on;
         ALTER ROLE postgres SET role = 'nobody';
         ALTER ROLE ALL SET lock_timeout = 1;"
    ))?;
    client.execute("SELECT pg_terminate_backend($1)", &[&pid])?;
    wait_until("another worker", PATIENCE, || {
        holds(
            &mut client,
            &format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND pid <> {pid}"),
        )
        .unwrap_or(false)
    })?;
    answers_are_right(&mut client)?;
    wait_until("its entries are written", PATIENCE, || {
        holds(&mut client, "SELECT count(*) > 100 FROM query_cache").unwrap_or(false)
    })?;
    assert!(!cluster.log_contains("step \""), "{}", cluster.log());
    Ok(())
}

/// Nobody is sent away by a command that fails, for longer than it takes; nor by one that will be refused.
#[test]
fn commands_that_fail() -> Result<()> {
    let cluster = with_extension(quiet("worker-refused"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE plain LOGIN")?;
    client.batch_execute("CREATE DATABASE mine OWNER maker")?;
    commands_on(&cluster, "mine")?;
    let here = "SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = 'mine'";
    let first = number(&mut client, here)?;
    let mut plain = cluster.connect_as(DATABASE, "plain")?;
    let mut maker = cluster.connect_as(DATABASE, "maker")?;
    for refused in [
        "DROP DATABASE mine",
        "ALTER DATABASE mine RENAME TO yours",
        "CREATE DATABASE own TEMPLATE mine",
    ] {
        assert!(plain.batch_execute(refused).is_err(), "{refused}");
        assert_eq!(number(&mut client, here)?, first, "{refused}");
    }
    maker.batch_execute("BEGIN")?;
    for refused in ["DROP DATABASE mine", "CREATE DATABASE own TEMPLATE mine"] {
        maker.batch_execute("SAVEPOINT s")?;
        assert!(maker.batch_execute(refused).is_err(), "{refused}");
        maker.batch_execute("ROLLBACK TO s")?;
        assert_eq!(number(&mut client, here)?, first, "{refused}");
    }
    // This one is tried; and its transaction goes on when it has failed.
    maker.batch_execute("SAVEPOINT s")?;
    assert!(
        maker
            .batch_execute("ALTER DATABASE mine RENAME TO postgres")
            .is_err()
    );
    maker.batch_execute("ROLLBACK TO s")?;
    wait_for(
        &cluster,
        "the worker is back",
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = 'mine'",
    )?;
    // One that succeeded in a part that is rolled back.
    maker.batch_execute(
        "SAVEPOINT s; ALTER DATABASE mine RENAME TO yours; SAVEPOINT t; RELEASE t; ROLLBACK TO s",
    )?;
    wait_for(
        &cluster,
        "the worker is back",
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = 'mine'",
    )?;
    maker.batch_execute("COMMIT")?;
    Ok(())
}

/// SIGTERM is heard in the middle of a statement, and what can be written then is written.
#[test]
fn it_ends_wherever_it_is() -> Result<()> {
    let cluster =
        with_accounts(quiet("worker-sigterm").setting("pg_query_cache.flush_interval", "1s"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE SEQUENCE naps;
         CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN IF nextval('public.naps') = 1 THEN PERFORM pg_sleep(3600); END IF; RETURN NEW; END$$;
         CREATE TRIGGER nap BEFORE INSERT ON query_cache FOR EACH STATEMENT EXECUTE FUNCTION nap();",
    )?;
    let pid = worker(&cluster)?;
    answers_are_right(&mut client)?;
    wait_for(
        &cluster,
        "it sleeps",
        &format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {pid}"),
    )?;
    client.execute("SELECT pg_terminate_backend($1)", &[&pid])?;
    wait_for(
        &cluster,
        "it is gone",
        &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}"),
    )?;
    assert!(number(&mut client, "SELECT count(*) FROM query_cache")? > 100);
    Ok(())
}
