//! A role whose functions are run by a superuser's session, which keeps them in check, wants them to be run in the background, where
//! nobody does; and one that puts tables where the extension of an earlier version has none.

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, number, quiet, sees_clock, set_clock, wait_for, worker, worker_turns,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster};

/// Whoever runs a function of ann's leaves a name in `caught` if it is a superuser's. A function that is called more than an hour
/// after it was computed is computed anew.
const ANN: &str = "
    CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO ann; SET SESSION AUTHORIZATION ann;
    CREATE TABLE caught (who name, how text); GRANT ALL ON caught TO PUBLIC;
    CREATE FUNCTION catch(how text) RETURNS void LANGUAGE plpgsql AS
        $$BEGIN IF pg_has_role('pg_write_server_files', 'USAGE') THEN INSERT INTO public.caught VALUES (current_user, how); END IF; END$$;
    CREATE FUNCTION caught() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.catch(TG_TABLE_NAME); RETURN NEW; END$$;";

fn ground(builder: Builder, extension: &str) -> Result<(Cluster, Client)> {
    let cluster = builder.build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(extension)?;
    admin.batch_execute(ANN)?;
    admin.batch_execute("RESET SESSION AUTHORIZATION")?;
    worker(&cluster)?;
    Ok((cluster, admin))
}

fn nobody_was_caught(client: &mut Client) -> Result<()> {
    let rows = client.query("SELECT DISTINCT who || ' by ' || how FROM caught", &[])?;
    let caught: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(caught.is_empty(), "{caught:?}");
    Ok(())
}

/// Rebuilding an index runs its owner's functions as the owner. What is asked for in the background then would be run with the role of
/// the session.
#[test]
fn work_for_the_owner_of_an_object() -> Result<()> {
    let (cluster, mut admin) = ground(quiet("security-lent"), "CREATE EXTENSION pg_query_cache")?;
    admin.batch_execute(
        "GRANT EXECUTE ON FUNCTION warm_cache_in_background TO PUBLIC; SET SESSION AUTHORIZATION ann;
         CREATE FUNCTION shared(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
             $$BEGIN RETURN current_user || CASE WHEN pg_has_role('pg_write_server_files', 'USAGE') THEN ' caught' ELSE '' END; END$$;
         CREATE FUNCTION once_more(x integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS
             $$BEGIN PERFORM set_config('role', 'none', false), public.catch('a job'); RETURN x; END$$;
         SELECT cache_function('shared(integer)', scope => 'shared', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day'),
             cache_function('once_more(integer)', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day');
         CREATE FUNCTION key(x integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
         BEGIN
             PERFORM public.shared_cached(1);
             BEGIN
                 PERFORM public.warm_cache_in_background('public.once_more_cached(integer, interval)', '[[1]]');
             EXCEPTION WHEN insufficient_privilege THEN NULL;
             END;
             RETURN x;
         END$$;
         CREATE TABLE trap (a integer); INSERT INTO trap VALUES (1); CREATE INDEX ON trap (key(a));
         CREATE FUNCTION lifted() RETURNS integer LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT key(1)';
         RESET SESSION AUTHORIZATION",
    )?;
    // What this role's sessions may ask for.
    admin.batch_execute(
        "CREATE SEQUENCE runs;
         CREATE FUNCTION own() RETURNS text LANGUAGE plpgsql VOLATILE AS $$BEGIN RETURN nextval('runs'); END$$;
         SELECT cache_function('own()', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day')",
    )?;
    admin.batch_execute("SELECT own_cached()")?;
    let mut hours = 0;
    for run in ["REINDEX TABLE trap", "SELECT lifted()"] {
        for _ in 0..3 {
            hours += 2;
            set_clock(&cluster, hours * 3600)?;
            sees_clock(&mut admin, hours * 3600)?;
            admin.batch_execute(run)?;
        }
    }
    // What is asked for first comes first, so anything from before would be done.
    let old: String = admin.query_one("SELECT own_cached()", &[])?.get(0);
    wait_for(
        &cluster,
        "the own one is computed anew",
        &format!("SELECT own_cached() <> '{old}'"),
    )?;
    worker_turns(&cluster)?;
    wait_for(
        &cluster,
        "nothing is done any more",
        "SELECT count(*) = 0 FROM cache_progress",
    )?;
    nobody_was_caught(&mut admin)?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    let told: String = ann.query_one("SELECT shared_cached(1)", &[])?.get(0);
    ensure!(told == "ann", "{told}");
    ensure!(
        number(
            &mut admin,
            "SELECT count(*) FROM cache_warm_jobs WHERE session_role <> role"
        )? == 0
    );
    // By itself ann may do either, and so may who calls ann's functions.
    ensure!(
        number(
            &mut ann,
            "SELECT warm_cache_in_background('once_more_cached(integer, interval)', '[[1]]')"
        )? > 0
    );
    Ok(())
}

/// A SECURITY DEFINER function of ann's hits two results of ann's while a superuser calls it; before the second is computed anew ann
/// replaces what it rests on. What is run then would be run with the role of the session.
#[test]
fn functions_that_become_others() -> Result<()> {
    for change in [
        "CREATE OR REPLACE FUNCTION second(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
             $$BEGIN PERFORM public.catch('the base'); RETURN 'x'; END$$;
         ALTER FUNCTION second_cached(integer, interval) SECURITY INVOKER",
        "ALTER FUNCTION second_cached(integer, interval) SECURITY INVOKER; ALTER FUNCTION second(integer) VOLATILE",
        "CREATE OR REPLACE FUNCTION second(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
             $$BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 'x'; END$$",
        "ALTER FUNCTION second_cached(integer, interval) SET role = 'postgres'",
    ] {
        let (cluster, mut admin) = ground(
            quiet("security-becomes").setting("pg_query_cache.workers", "1"),
            "CREATE EXTENSION pg_query_cache",
        )?;
        admin.batch_execute(
            "SET SESSION AUTHORIZATION ann;
             CREATE TABLE ran (who name);
             CREATE FUNCTION first(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
                 $$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN clock_timestamp(); END$$;
             CREATE FUNCTION second(x integer) RETURNS text LANGUAGE plpgsql VOLATILE AS
                 $$BEGIN PERFORM public.catch('the first base'); RETURN clock_timestamp(); END$$;
             SELECT cache_function('first(integer)', scope => 'shared', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day'),
                 cache_function('second(integer)', scope => 'shared', ttl => '1 hour', consistency => 'ttl', stale_while_revalidate => '1 day');
             ALTER FUNCTION first_cached(integer, interval) SECURITY DEFINER;
             ALTER FUNCTION second_cached(integer, interval) SECURITY DEFINER;
             CREATE FUNCTION trap() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
                 $$BEGIN RETURN public.first_cached(1) || public.second_cached(1); END$$;
             RESET SESSION AUTHORIZATION",
        )?;
        admin.batch_execute("SELECT trap(); SELECT trap()")?;
        set_clock(&cluster, 2 * 3600)?;
        sees_clock(&mut admin, 2 * 3600)?;
        let mut ann = cluster.connect_as(DATABASE, "ann")?;
        ann.batch_execute("SELECT pg_advisory_lock(1)")?;
        admin.batch_execute("SELECT trap()")?;
        wait_for(
            &cluster,
            "the first is being computed anew",
            "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted",
        )?;
        ann.batch_execute(change)?;
        ann.batch_execute("SELECT pg_advisory_unlock(1)")?;
        wait_for(
            &cluster,
            "nothing is done any more",
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_query_cache refreshing'",
        )?;
        nobody_was_caught(&mut admin)?;
        ensure!(
            number(&mut admin, "SELECT count(*) FROM ran")? == 0,
            "{change}"
        );
    }
    Ok(())
}

/// Tables of the names that the present version has, where an earlier one is installed: the worker, a superuser, leaves them alone.
#[test]
fn tables_in_the_place_of_the_extensions() -> Result<()> {
    let builder = quiet("security-squatter").setting("pg_query_cache.cleanup_interval", "1s");
    let (cluster, mut admin) = ground(builder, "CREATE EXTENSION pg_query_cache VERSION '0.1.0'")?;
    admin.batch_execute(
        "SET SESSION AUTHORIZATION ann;
         CREATE FUNCTION own(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM public.catch(''a job''); RETURN x; END';
         SELECT cache_function('own(integer)');
         CREATE TABLE cache_warm_jobs (id bigserial, state text DEFAULT 'queued', function oid, name text, role oid, session_role oid,
             total bigint, done bigint, stored bigint, failed bigint, error text, queued_at timestamptz, started_at timestamptz,
             finished_at timestamptz, pid integer, database oid, calls jsonb, settings jsonb);
         INSERT INTO cache_warm_jobs (function, name, role, session_role, total, database, calls, settings)
             SELECT p.oid, p.oid::regprocedure, 10, 10, 1, d.oid, '[[1]]', '{}' FROM pg_proc AS p, pg_database AS d
             WHERE p.proname = 'own_cached' AND d.datname = current_database();
         CREATE TABLE cache_trends (resolution text, bucket timestamptz, hits bigint, misses bigint, bypasses bigint, fills bigint,
             waits bigint, invalidations bigint, expirations bigint, evictions bigint, no_room bigint, entries bigint, memory_bytes bigint,
             fill_us bigint, saved_us bigint, writer_us bigint);
         CREATE TABLE cache_configuration_log (changed_at timestamptz); INSERT INTO cache_configuration_log VALUES ('2001-01-01');
         CREATE TABLE cache_values (namespace oid, key text, value text, expires_at timestamptz, created_at timestamptz, updated_at timestamptz,
             tags text[], owner oid);
         CREATE TABLE cache_configuration (name bigint, value bigint, changed_at text, changed_by bigint);
         INSERT INTO cache_configuration VALUES (1, 1, 'x', 1);
         DO $$
         DECLARE name text;
         BEGIN
             FOREACH name IN ARRAY ARRAY['cache_warm_jobs', 'cache_trends', 'cache_configuration_log', 'cache_values', 'cache_configuration'] LOOP
                 EXECUTE format('CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION caught()', name);
             END LOOP;
         END $$;
         SELECT own_cached(1); RESET SESSION AUTHORIZATION",
    )?;
    // A worker that begins looks at the jobs at once, and a new minute is recorded.
    cluster.restart(pg_query_cache_harness::Mode::Fast)?;
    worker(&cluster)?;
    let mut admin = cluster.connect(DATABASE)?;
    for minute in 1..=2 {
        set_clock(&cluster, 60 * minute)?;
        worker_turns(&cluster)?;
    }
    nobody_was_caught(&mut admin)?;
    ensure!(
        number(
            &mut admin,
            "SELECT count(*) FROM cache_warm_jobs WHERE state = 'queued'"
        )? == 1
    );
    ensure!(number(&mut admin, "SELECT count(*) FROM cache_trends")? == 0);
    ensure!(number(&mut admin, "SELECT own_cached(1)::bigint")? == 1);
    let log = cluster.log();
    ensure!(!log.contains("step \""), "{log}");
    Ok(())
}
