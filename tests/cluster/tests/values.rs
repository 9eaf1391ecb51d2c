//! Values of the application across sessions and lives of the server: one computes what many remember, whatever ends it; what is read is
//! what the snapshot sees, whoever writes at the same time; a restart keeps values, a crash does not; a standby has none.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, holds, in_background, number, quiet, wait_for, with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode, Signal, wait_until};

/// `gated()` counts its computations in the sequence `computed`, and waits for whoever holds the advisory lock 1. Whoever waits for a
/// computation does so until it ends, however busy the machine is.
fn cluster(name: &str) -> Result<Cluster> {
    let cluster = with_extension(quiet(name).setting("pg_query_cache.fill_wait", "1h"))?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE SEQUENCE computed;
         CREATE FUNCTION gated() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
         DECLARE n CONSTANT bigint := nextval('computed');
         BEGIN
             -- Not a wait for a lock, behind which nobody would wait.
             WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
             RETURN n;
         END $$;",
    )?;
    Ok(cluster)
}

fn computed(cluster: &Cluster) -> Result<i64> {
    number(
        &mut cluster.connect(DATABASE)?,
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM computed",
    )
}

const REMEMBER: &str = "cache_remember('cold', 'SELECT gated()')";

fn wait_for_waiters(cluster: &Cluster, count: usize) -> Result<()> {
    wait_for(
        cluster,
        &format!("{count} sessions wait for the one that computes"),
        &format!(
            "SELECT count(*) = {count} FROM pg_stat_activity
             WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'"
        ),
    )
}

#[test]
fn fifty_sessions_remember_and_one_computes() -> Result<()> {
    let cluster = cluster("values-fifty")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    let barrier = Arc::new(Barrier::new(50));
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            let barrier = barrier.clone();
            Ok(thread::spawn(move || -> Result<String> {
                client.batch_execute("SELECT 1")?;
                barrier.wait();
                let row = client.query_one(&format!("SELECT {REMEMBER}::text"), &[])?;
                Ok(row.get(0))
            }))
        })
        .collect::<Result<_>>()?;
    wait_for_waiters(&cluster, 49)?;
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    for session in sessions {
        assert_eq!(session.join().unwrap()?, "1");
    }
    assert_eq!(computed(&cluster)?, 1);
    Ok(())
}

/// Whatever ends the one that computes, the others get an answer, and one of them keeps it.
#[test]
fn the_one_that_computes_ends() -> Result<()> {
    let cluster = cluster("values-ends")?;
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let mut gate = cluster.connect(DATABASE)?;
        gate.batch_execute(
            "SELECT clear_cache(), setval('computed', 1, false); SELECT pg_advisory_lock(1)",
        )?;
        let leader = in_background(&cluster, "SET application_name = 'leader'", REMEMBER)?;
        wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
        let waiters: Vec<_> = (0..5)
            .map(|_| in_background(&cluster, "", REMEMBER))
            .collect::<Result<_>>()?;
        wait_for_waiters(&cluster, 5)?;
        gate.execute(
            &format!("SELECT {end}(pid) FROM pg_stat_activity WHERE application_name = 'leader'"),
            &[],
        )?;
        assert!(leader.join().unwrap().is_err());
        // While the gate is still closed. Who has waited once does not wait again.
        wait_for(
            &cluster,
            "the next one computes",
            "SELECT last_value >= 2 FROM computed",
        )?;
        gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
        let answers: Vec<_> = waiters.into_iter().map(|w| w.join().unwrap()).collect();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let kept: String = cluster
            .connect(DATABASE)?
            .query_one("SELECT cache_get('cold')::text", &[])?
            .get(0);
        assert!(answers.contains(&Ok(kept.clone())), "{kept}: {answers:?}");
    }
    Ok(())
}

/// However closely they follow each other: who comes while the one before commits takes what that one has kept.
#[test]
fn sessions_on_each_others_heels_compute_each_key_once() -> Result<()> {
    let cluster = cluster("values-heels")?;
    const KEYS: i64 = 400;
    let sessions: Vec<_> = (0..6)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            Ok(std::thread::spawn(move || -> Result<Vec<String>> {
                (1..=KEYS)
                    .map(|key| {
                        let row = client.query_one(
                            "SELECT cache_remember($1, 'SELECT nextval(''computed'')')::text",
                            &[&format!("heel {key}")],
                        )?;
                        Ok(row.get(0))
                    })
                    .collect()
            }))
        })
        .collect::<Result<_>>()?;
    let answers: Vec<_> = sessions
        .into_iter()
        .map(|session| session.join().unwrap())
        .collect::<Result<_>>()?;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let computed = number(
        &mut cluster.connect(DATABASE)?,
        "SELECT last_value FROM computed",
    )?;
    assert_eq!(computed, KEYS);
    Ok(())
}

/// The others wait for the end of the transaction, not of the query: before, they could not see the value.
#[test]
fn others_wait_for_the_end_of_the_transaction() -> Result<()> {
    let cluster = cluster("values-transaction")?;
    for (end, answer) in [("COMMIT", "\"first\""), ("ROLLBACK", "\"other\"")] {
        cluster
            .connect(DATABASE)?
            .batch_execute("SELECT clear_cache()")?;
        let mut leader = cluster.connect(DATABASE)?;
        leader.batch_execute(
            "BEGIN; SELECT cache_remember('cold', $$SELECT 'first'$$); SAVEPOINT s; SELECT 1; RELEASE s",
        )?;
        let others: Vec<_> = (0..3)
            .map(|_| in_background(&cluster, "", "cache_remember('cold', $$SELECT 'other'$$)"))
            .collect::<Result<_>>()?;
        wait_for_waiters(&cluster, 3)?;
        leader.batch_execute(end)?;
        for other in others {
            assert_eq!(other.join().unwrap(), Ok(answer.to_owned()), "{end}");
        }
    }
    Ok(())
}

/// A session that is killed takes the server through a crash: the values are gone, and whoever comes back computes.
#[test]
fn the_one_that_computes_is_killed() -> Result<()> {
    let cluster = cluster("values-killed")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute(
        "SELECT cache_set('before', '1'); SELECT cache_get('before'); SELECT pg_advisory_lock(1)",
    )?;
    let leader = in_background(&cluster, "SET application_name = 'leader'", REMEMBER)?;
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
    let waiters: Vec<_> = (0..3)
        .map(|_| in_background(&cluster, "", REMEMBER))
        .collect::<Result<_>>()?;
    wait_for_waiters(&cluster, 3)?;
    let pid = gate
        .query_one(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'leader'",
            &[],
        )?
        .get(0);
    let crashes = || cluster.log().matches("reinitializing").count();
    let before = crashes();
    cluster.kill(pid, Signal::KILL)?;
    wait_until("the server starts anew", PATIENCE, || crashes() > before)?;
    cluster.wait_ready()?;
    assert!(leader.join().unwrap().is_err());
    for waiter in waiters {
        assert!(waiter.join().unwrap().is_err());
    }
    let mut client = cluster.connect(DATABASE)?;
    assert!(holds(
        &mut client,
        "SELECT cache_get('before') IS NULL AND NOT EXISTS (SELECT FROM cache_values)"
    )?);
    let again: Vec<_> = (0..3)
        .map(|_| in_background(&cluster, "", REMEMBER))
        .collect::<Result<_>>()?;
    let answers: Vec<_> = again.into_iter().map(|s| s.join().unwrap()).collect();
    assert!(
        answers
            .iter()
            .all(|answer| answer == &answers[0] && answer.is_ok()),
        "{answers:?}"
    );
    assert!(!cluster.log_contains("PANIC"), "{}", cluster.log());
    Ok(())
}

#[test]
fn a_restart_keeps_values_and_a_crash_does_not() -> Result<()> {
    let cluster = cluster("values-restart")?;
    let filled =
        "SELECT cache_set('k' || g, to_jsonb(g), '1 day') FROM generate_series(1, 100) AS g;
                  SELECT count(cache_get('k' || g)) FROM generate_series(1, 100) AS g";
    cluster.connect(DATABASE)?.batch_execute(filled)?;
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    let right = "SELECT count(*) = 100 AND bool_and(cache_get('k' || g) = to_jsonb(g)) FROM generate_series(1, 100) AS g";
    assert!(holds(&mut client, right)?);
    assert!(holds(&mut client, right)?);
    client.batch_execute("SELECT cache_set('k7', '\"new\"')")?;
    assert!(holds(&mut client, "SELECT cache_get('k7') = '\"new\"'")?);
    // None of them has become a row of the table tier.
    assert_eq!(number(&mut client, "SELECT count(*) FROM query_cache")?, 0);
    drop(client);
    cluster.restart(Mode::Immediate)?;
    let mut client = cluster.connect(DATABASE)?;
    assert!(holds(
        &mut client,
        "SELECT cache_get('k7') IS NULL AND NOT cache_exists('k8')"
    )?);
    client.batch_execute("SELECT cache_set('k7', '8')")?;
    assert!(holds(&mut client, "SELECT cache_get('k7') = '8'")?);
    assert!(holds(&mut client, "SELECT cache_get('k7') = '8'")?);
    Ok(())
}

#[test]
fn a_standby_has_no_values_and_answers() -> Result<()> {
    let primary = cluster("values-primary")?;
    primary
        .connect(DATABASE)?
        .batch_execute("SELECT cache_set('k', '1'); SELECT cache_get('k')")?;
    let standby = quiet("values-standby").standby_of(&primary).build()?;
    let mut client = standby.connect(DATABASE)?;
    assert!(holds(
        &mut client,
        "SELECT cache_get('k') IS NULL AND NOT cache_exists('k') AND cache_ttl('k') IS NULL
            AND cache_remember('k', 'SELECT 2') = '2' AND (SELECT count(*) FROM cache_keys()) = 0
            AND (SELECT keys FROM cache_value_stats()) = 0 AND (SELECT count(*) FROM cache_get_many('{k}')) = 0"
    )?);
    for command in [
        "cache_set('k', '1')",
        "cache_set_many('{}')",
        "cache_touch('k', NULL)",
        "cache_delete('k')",
        "cache_delete_many('{k}')",
        "cache_delete_pattern('*')",
        "cache_increment('k')",
    ] {
        let error = client
            .simple_query(&format!("SELECT {command}"))
            .unwrap_err();
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("25006"), "{command}: {error:?}");
    }
    client.batch_execute("SELECT pg_promote()")?;
    let mut client = standby.connect(DATABASE)?;
    assert!(holds(&mut client, "SELECT cache_get('k') IS NULL")?);
    client.batch_execute("SELECT cache_set('k', '3')")?;
    assert!(holds(&mut client, "SELECT cache_get('k') = '3'")?);
    assert!(holds(&mut client, "SELECT cache_get('k') = '3'")?);
    Ok(())
}

/// Created without the library, the extension refuses values; once the library is there, they are kept in memory and exact.
#[test]
fn created_without_the_library() -> Result<()> {
    let cluster = with_extension(quiet("values-not-preloaded").preload(false))?;
    let mut client = cluster.connect(DATABASE)?;
    for command in [
        "cache_set('k', '1')",
        "cache_set_many('{}')",
        "cache_get('k')",
        "cache_exists('k')",
        "cache_ttl('k')",
        "cache_touch('k', NULL)",
        "cache_delete('k')",
        "cache_delete_many('{k}')",
        "cache_delete_pattern('*')",
        "cache_keys()",
        "cache_increment('k')",
        "cache_remember('k', 'SELECT 1')",
        "cache_value_stats()",
    ] {
        let error = client
            .simple_query(&format!("SELECT {command}"))
            .unwrap_err();
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("55000"), "{command}: {error:?}");
    }
    assert!(holds(&mut client, "SELECT cache_key('a', 'b') = 'a:b'")?);
    drop(client);
    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    // Each in a transaction of its own: what one has set itself it reads from the table.
    for call in ["cache_set('k', '1')", "cache_get('k')", "cache_get('k')"] {
        client.batch_execute(&format!("SELECT {call}"))?;
    }
    assert!(holds(
        &mut client,
        "SELECT hits = 1 AND fills = 1 FROM cache_value_stats()"
    )?);
    client.batch_execute("UPDATE cache_values SET value = '2'")?;
    assert!(holds(&mut client, "SELECT cache_get('k') = '2'")?);
    Ok(())
}

#[test]
fn the_worker_removes_what_has_expired() -> Result<()> {
    let cluster =
        with_extension(quiet("values-worker").setting("pg_query_cache.cleanup_interval", "1"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT cache_set('short', '1', '1 millisecond'), cache_set('locked', '1', '1 millisecond'), cache_set('good', '1')",
    )?;
    // Somebody is about to change one of them: the clean-up does not wait.
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("BEGIN; SELECT cache_set('locked', '2', '1 hour')")?;
    wait_for(
        &cluster,
        "it is removed",
        "SELECT count(*) = 2 FROM cache_values",
    )?;
    other.batch_execute("COMMIT")?;
    assert!(holds(
        &mut client,
        "SELECT cache_get('locked') = '2' AND cache_get('good') = '1'"
    )?);
    Ok(())
}

/// What a session reads of some keys, compared with the table in the same statement.
fn read(client: &mut Client) -> Result<i64> {
    number(
        client,
        "SELECT count(*) FROM generate_series(1, 4) AS g, LATERAL (SELECT cache_get('k' || g) AS got OFFSET 0) AS c
         WHERE c.got IS DISTINCT FROM (SELECT v.value FROM cache_values AS v WHERE v.namespace = 0 AND v.key = 'k' || g)",
    )
}

/// Random writers, and readers in each isolation level: what memory answers is what the table has for the same snapshot.
#[test]
fn what_is_read_is_what_the_snapshot_sees() -> Result<()> {
    let cluster = cluster("values-oracle")?;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new([const { AtomicU64::new(0) }; 7]);
    let writers: Vec<_> = (0..3)
        .map(|seed: u64| {
            let mut client = cluster.connect(DATABASE)?;
            let (stop, done) = (stop.clone(), done.clone());
            Ok(thread::spawn(move || -> Result<()> {
                let mut state = seed + 1;
                let mut random = |below: u64| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 33) % below
                };
                while !stop.load(Ordering::Relaxed) {
                    client.batch_execute("BEGIN")?;
                    // One after the other, so that nobody waits in a circle.
                    for key in 1..=4 {
                        let write = match random(8) {
                            0 => format!("SELECT cache_set('k{key}', '{}')", random(1000)),
                            1 => format!("SELECT cache_delete('k{key}')"),
                            2 => format!("SELECT cache_increment('k{key}')"),
                            3 => format!(
                                "SAVEPOINT s; SELECT cache_set('k{key}', '-1'); ROLLBACK TO s"
                            ),
                            4 => format!(
                                "UPDATE cache_values SET value = '{}' WHERE key = 'k{key}'",
                                random(1000)
                            ),
                            _ => continue,
                        };
                        client.batch_execute(&write)?;
                    }
                    assert_eq!(read(&mut client)?, 0, "own writes");
                    let commits = random(4) > 0;
                    client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" })?;
                    done[seed as usize].fetch_add(u64::from(commits), Ordering::Relaxed);
                }
                Ok(())
            }))
        })
        .collect::<Result<_>>()?;
    let readers: Vec<_> = [
        "READ COMMITTED",
        "REPEATABLE READ",
        "READ COMMITTED",
        "SERIALIZABLE, READ ONLY",
    ]
    .into_iter()
    .enumerate()
    .map(|(index, level)| {
        let mut client = cluster.connect(DATABASE)?;
        let (stop, done) = (stop.clone(), done.clone());
        Ok(thread::spawn(move || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))?;
                for _ in 0..20 {
                    assert_eq!(read(&mut client)?, 0, "{level}");
                    done[3 + index].fetch_add(1, Ordering::Relaxed);
                }
                client.batch_execute("COMMIT")?;
            }
            Ok(())
        }))
    })
    .collect::<Result<_>>()?;
    let mut looking = cluster.connect(DATABASE)?;
    let enough = wait_until("all have done much, and memory answered", PATIENCE, || {
        let ended = writers.iter().chain(&readers).any(|one| one.is_finished());
        let each = |index: usize| done[index].load(Ordering::Relaxed);
        ended
            || (0..3).all(|writer| each(writer) >= 200)
                && (3..7).all(|reader| each(reader) >= 1000)
                && holds(&mut looking, "SELECT hits > 100 FROM cache_value_stats()")
                    .unwrap_or(false)
    });
    stop.store(true, Ordering::Relaxed);
    for one in writers.into_iter().chain(readers) {
        one.join().unwrap()?;
    }
    enough
}
