//! Self-audit: what is said of a stored result that should not have been served, and how long the function stays in quarantine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, holds, number, quiet, wait_for, with_extension, worker,
};
use pg_query_cache_harness::{Cluster, Mode, Signal, wait_until};

/// `picked()` reads one of two tables, and its owner says that everybody gets the same.
fn cluster(name: &str) -> Result<Cluster> {
    let cluster = with_extension(quiet(name).setting("pg_query_cache.verify_sample_rate", "1"))?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE TABLE these AS SELECT 1 AS id;
         CREATE TABLE those AS SELECT 2 AS id;
         SELECT cache_track_table('these'), cache_track_table('those');
         CREATE FUNCTION picked() RETURNS integer LANGUAGE plpgsql STABLE AS $$
         BEGIN
             IF current_setting('pick.those', true) = 'yes' THEN RETURN (SELECT id FROM those); END IF;
             RETURN (SELECT id FROM these);
         END $$;
         SELECT cache_function('picked()', scope => 'shared');",
    )?;
    cluster
        .connect(DATABASE)?
        .batch_execute("UPDATE these SET id = 1")?;
    Ok(cluster)
}

/// Another session gets an answer from the cache that is not its own; it is given the right one.
fn provoke(cluster: &Cluster) -> Result<()> {
    let mut one = cluster.connect(DATABASE)?;
    // The first call since the start brings PL/pgSQL, with settings that no key knew, and is not stored.
    for _ in 0..2 {
        assert_eq!(number(&mut one, "SELECT picked_cached()::bigint")?, 1);
    }
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SET pick.those = 'yes'")?;
    assert_eq!(number(&mut other, "SELECT picked_cached()::bigint")?, 2);
    // All sessions, at once.
    for _ in 0..2 {
        assert_eq!(number(&mut one, "SELECT picked_cached()::bigint")?, 1);
        assert_eq!(number(&mut other, "SELECT picked_cached()::bigint")?, 2);
    }
    Ok(())
}

/// Whether `picked_cached()` is in quarantine, for a session that has not used it before, and answers all the same.
fn in_quarantine(cluster: &Cluster) -> Result<bool> {
    let mut client = cluster.connect(DATABASE)?;
    for _ in 0..3 {
        assert_eq!(number(&mut client, "SELECT picked_cached()::bigint")?, 1);
    }
    holds(
        &mut client,
        "SELECT quarantined FROM cache_function_stats WHERE function = 'picked_cached(interval)'::regprocedure",
    )
}

#[test]
fn a_difference_is_logged_with_what_was_read() -> Result<()> {
    let cluster = cluster("verify-log")?;
    provoke(&cluster)?;
    let log = cluster.log();
    for part in [
        "stored result of function public.picked_cached(interval) differs from what the function returns",
        "It reads now what the stored result does not depend on: public.those",
        "It depends on public.these; last written: UPDATE",
        "Its scope may be too wide",
        "SELECT cache_function_resume('public.picked_cached(interval)')",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
    let mut client = cluster.connect(DATABASE)?;
    assert_eq!(
        number(&mut client, "SELECT differences FROM cache_stats()")?,
        1
    );
    Ok(())
}

#[test]
fn quarantine_outlives_restarts_and_crashes() -> Result<()> {
    let cluster = cluster("verify-restart")?;
    worker(&cluster)?;
    provoke(&cluster)?;
    let saved = "SELECT count(*) = 1 FROM cache_quarantine WHERE function = 'public.picked_cached(interval)'";
    wait_for(&cluster, "the worker has saved it", saved)?;
    assert!(in_quarantine(&cluster)?);
    cluster.restart(Mode::Fast)?;
    assert!(in_quarantine(&cluster)?);
    // A crash of the server.
    let mut victim = cluster.connect(DATABASE)?;
    let pid = number(&mut victim, "SELECT pg_backend_pid()::bigint")?;
    cluster.kill(pid as i32, Signal::KILL)?;
    wait_until("the server noticed", PATIENCE, || {
        cluster.log_contains("all server processes terminated; reinitializing")
    })?;
    cluster.wait_ready()?;
    assert!(in_quarantine(&cluster)?);
    // Until somebody says so, and then for good.
    let mut client = cluster.connect(DATABASE)?;
    assert!(holds(
        &mut client,
        "SELECT cache_function_resume('picked_cached(interval)')"
    )?);
    assert!(!in_quarantine(&cluster)?);
    cluster.restart(Mode::Fast)?;
    assert!(!in_quarantine(&cluster)?);
    Ok(())
}

/// A stop before the worker had its turn.
#[test]
fn a_fast_stop_saves_the_quarantine() -> Result<()> {
    let cluster = cluster("verify-stop")?;
    worker(&cluster)?;
    provoke(&cluster)?;
    cluster.restart(Mode::Fast)?;
    assert!(in_quarantine(&cluster)?);
    Ok(())
}
