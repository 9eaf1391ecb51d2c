//! Self-audit: what is said of a stored result that should not have been served, and how long the function stays in quarantine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, holds, number, quiet, wait_for, with_extension, worker,
};
use pg_query_cache_harness::postgres::{self, error::SqlState};
use pg_query_cache_harness::{Cluster, Mode, Signal, wait_until};

/// `picked()` reads one of two tables, and its owner says that everybody gets the same.
fn cluster(name: &str) -> Result<Cluster> {
    cluster_with(name, "64MB")
}

/// The same with so much memory.
fn cluster_with(name: &str, memory: &str) -> Result<Cluster> {
    let cluster = with_extension(
        quiet(name)
            .setting("pg_query_cache.verify_sample_rate", "1")
            .setting("pg_query_cache.memory", memory),
    )?;
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

/// More functions than there are rows for in shared memory, before and after one of them is found to be wrong.
#[test]
fn quarantine_is_not_lost_where_rows_are_short() -> Result<()> {
    let cluster = cluster_with("verify-short", "4MB")?;
    worker(&cluster)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..200 LOOP
             EXECUTE format('CREATE FUNCTION f%s() RETURNS integer LANGUAGE sql STABLE AS ''SELECT %s + 0''', i, i);
             EXECUTE format('CREATE FUNCTION f%s_cached() RETURNS integer LANGUAGE cached STABLE AS ''{\"function\": \"f%s()\"}''', i, i);
         END LOOP; END $$",
    )?;
    let all: Vec<_> = (1..=200).map(|i| format!("f{i}_cached()")).collect();
    let all = format!("SELECT ({})::bigint", all.join(" + "));
    let press = |client: &mut postgres::Client| -> Result<()> {
        for _ in 0..3 {
            assert_eq!(number(client, &all)?, 200 * 201 / 2);
        }
        Ok(())
    };
    provoke(&cluster)?;
    press(&mut client)?;
    assert!(in_quarantine(&cluster)?);
    wait_for(
        &cluster,
        "the worker has saved it",
        "SELECT count(*) = 1 FROM cache_quarantine",
    )?;
    // What is said of another function is said of that one.
    for i in [1, 150, 200] {
        assert!(!holds(
            &mut client,
            &format!("SELECT cache_function_resume('f{i}_cached()')")
        )?);
    }
    assert!(in_quarantine(&cluster)?);
    assert!(holds(
        &mut client,
        "SELECT count(*) = 1 FROM cache_function_stats WHERE quarantined"
    )?);
    drop(client);
    cluster.restart(Mode::Fast)?;
    // All rows are taken when it is called first.
    let mut client = cluster.connect(DATABASE)?;
    press(&mut client)?;
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SET pick.those = 'yes'")?;
    for _ in 0..2 {
        assert_eq!(number(&mut other, "SELECT picked_cached()::bigint")?, 2);
        assert_eq!(number(&mut client, "SELECT picked_cached()::bigint")?, 1);
        press(&mut client)?;
    }
    assert!(in_quarantine(&cluster)?);
    Ok(())
}

/// A quarantine that cannot be read is not taken for none.
#[test]
fn a_locked_quarantine_is_doubt() -> Result<()> {
    let cluster = cluster("verify-locked")?;
    // Before a writer is under way, so that it is not an unknown one.
    let mut first = cluster.connect(DATABASE)?;
    assert_eq!(number(&mut first, "SELECT picked_cached()::bigint")?, 1);
    let mut locker = cluster.connect(DATABASE)?;
    locker.batch_execute("BEGIN; LOCK TABLE cache_quarantine IN ACCESS EXCLUSIVE MODE")?;
    let mut client = cluster.connect(DATABASE)?;
    for _ in 0..2 {
        assert_eq!(number(&mut client, "SELECT picked_cached()::bigint")?, 1);
    }
    assert!(holds(
        &mut client,
        "SELECT (reasons ->> 'no_row')::integer = 2 AND hits = 0 FROM cache_stats()"
    )?);
    locker.batch_execute("ROLLBACK")?;
    wait_until("it is cached", PATIENCE, || {
        number(&mut client, "SELECT picked_cached()::bigint").unwrap();
        holds(&mut client, "SELECT hits > 0 FROM cache_stats()").unwrap()
    })
}

/// The owner's word counts, and nobody can lend it.
#[test]
fn quarantine_ends_on_the_word_of_the_owner_only() -> Result<()> {
    let cluster = cluster("verify-owner")?;
    provoke(&cluster)?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO alice, bob;
         ALTER FUNCTION picked_cached(interval) OWNER TO alice;
         GRANT SELECT ON these, those TO alice, bob",
    )?;
    let with_role = |role: &str| -> Result<postgres::Client> {
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}"))?;
        Ok(client)
    };
    let resume = "SELECT public.cache_function_resume('public.picked_cached(interval)')";
    let refused = |client: &mut postgres::Client, sql: &str| {
        let error = client.batch_execute(sql).unwrap_err();
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{error}"
        );
    };
    let mut bob = with_role("bob")?;
    refused(&mut bob, resume);
    bob.batch_execute(&format!(
        "CREATE FUNCTION trap() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ {resume} $$"
    ))?;
    let mut alice = with_role("alice")?;
    refused(&mut alice, "SELECT trap()");
    assert!(in_quarantine(&cluster)?);
    // Who owns it says so; a function of the owner's says it for anybody whom the owner lets.
    alice.batch_execute(&format!(
        "CREATE FUNCTION lent() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ {resume} $$"
    ))?;
    assert!(holds(&mut bob, "SELECT lent()")?);
    assert!(!in_quarantine(&cluster)?);
    Ok(())
}
