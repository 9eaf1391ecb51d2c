//! One computation for all who ask for the same at the same time; and nobody waits for it longer than they want to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    ACCOUNTS, DATABASE, PATIENCE, counters, holds, in_background, number, quiet, wait_for,
    wait_for_end, wait_for_gate, with_extension,
};
use pg_query_cache_harness::{Builder, Cluster, wait_until};

/// Longer than any machine takes, so that a session that waits in vain is found.
const IN_VAIN: &str = "SET statement_timeout = '240s'";

/// Whoever waits for a computation does so until it ends, however busy the machine is.
fn patient(name: &str) -> Builder {
    quiet(name).setting("pg_query_cache.fill_wait", "1h")
}

/// `gated()` counts its computations in the sequence `computed`, and waits for whoever holds the advisory lock 1.
fn cluster(name: &str) -> Result<Cluster> {
    let cluster = with_extension(patient(name))?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE SEQUENCE computed;
         CREATE FUNCTION gated(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
         BEGIN
             PERFORM nextval('computed');
             -- Not a wait for a lock, behind which nobody would wait; nor a look at pg_locks, which would be a reason not to store.
             WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
             RETURN n;
         END $$;
         SELECT cache_function('gated(integer)', consistency => 'ttl');",
    )?;
    Ok(cluster)
}

fn computed(cluster: &Cluster) -> Result<i64> {
    number(
        &mut cluster.connect(DATABASE)?,
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM computed",
    )
}

fn wait_for_waiters(cluster: &Cluster, count: usize) -> Result<()> {
    wait_for(
        cluster,
        &format!("{count} sessions wait for the one that computes"),
        &waiting(count),
    )
}

fn waiting(count: usize) -> String {
    format!(
        "SELECT count(*) = {count} FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'"
    )
}

#[test]
fn fifty_sessions_ask_and_one_computes() -> Result<()> {
    let cluster = cluster("flight-fifty")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    let barrier = Arc::new(Barrier::new(50));
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            let barrier = barrier.clone();
            Ok(thread::spawn(move || -> Result<i32> {
                client.batch_execute("SELECT 1")?;
                barrier.wait();
                Ok(client.query_one("SELECT gated_cached(7)", &[])?.get(0))
            }))
        })
        .collect::<Result<_>>()?;
    wait_for_waiters(&cluster, 49)?;
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    for session in sessions {
        assert_eq!(session.join().unwrap()?, 7);
    }
    assert_eq!(computed(&cluster)?, 1);
    let mut client = cluster.connect(DATABASE)?;
    wait_for(
        &cluster,
        "all have handed their counts over",
        "SELECT hits = 49 AND fills = 1 FROM cache_stats()",
    )?;
    assert_eq!(counters(&mut client, "gated_cached")?.fills, 1);
    Ok(())
}

#[test]
fn different_keys_do_not_wait_for_each_other() -> Result<()> {
    let cluster = cluster("flight-keys")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    let sessions: Vec<_> = (0..10)
        .map(|n| in_background(&cluster, "", &format!("gated_cached({n})")))
        .collect::<Result<_>>()?;
    wait_for(
        &cluster,
        "all compute",
        "SELECT last_value = 10 FROM computed",
    )?;
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    for (n, session) in sessions.into_iter().enumerate() {
        assert_eq!(session.join().unwrap(), Ok(n.to_string()));
    }
    assert_eq!(computed(&cluster)?, 10);
    Ok(())
}

/// Whatever ends the one that computes, the others go on: one of them computes.
#[test]
fn the_one_that_computes_ends() -> Result<()> {
    let cluster = cluster("flight-ends")?;
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let mut gate = cluster.connect(DATABASE)?;
        gate.batch_execute(
            "SELECT clear_cache(), setval('computed', 1, false); SELECT pg_advisory_lock(1)",
        )?;
        let filler = in_background(
            &cluster,
            "SET application_name = 'filler'",
            "gated_cached(1)",
        )?;
        wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
        let waiters: Vec<_> = (0..5)
            .map(|_| in_background(&cluster, "", "gated_cached(1)"))
            .collect::<Result<_>>()?;
        wait_for_waiters(&cluster, 5)?;
        assert_eq!(computed(&cluster)?, 1);
        gate.execute(
            &format!("SELECT {end}(pid) FROM pg_stat_activity WHERE application_name = 'filler'"),
            &[],
        )?;
        assert!(filler.join().unwrap().is_err());
        // The next one computes, while the gate is still closed; the others wait for that one.
        wait_for(
            &cluster,
            "the next one computes",
            "SELECT last_value >= 2 FROM computed",
        )?;
        gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok("1".to_owned()));
        }
    }
    Ok(())
}

#[test]
fn an_error_of_the_one_that_computes_is_its_own() -> Result<()> {
    let cluster = cluster("flight-error")?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION fails_once() RETURNS integer LANGUAGE plpgsql STABLE AS $$
         BEGIN
             PERFORM pg_sleep(0.5);
             IF nextval('computed') = 1 THEN RAISE EXCEPTION 'the first one fails'; END IF;
             RETURN 5;
         END $$;
         SELECT cache_function('fails_once()');",
    )?;
    let sessions: Vec<_> = (0..5)
        .map(|_| in_background(&cluster, "", "fails_once_cached()"))
        .collect::<Result<_>>()?;
    let answers: Vec<_> = sessions.into_iter().map(|s| s.join().unwrap()).collect();
    assert_eq!(
        answers.iter().filter(|a| **a == Ok("5".into())).count(),
        4,
        "{answers:?}"
    );
    assert_eq!(
        answers
            .iter()
            .filter(|a| **a == Err("P0001".into()))
            .count(),
        1,
        "{answers:?}"
    );
    Ok(())
}

#[test]
fn who_waits_obeys_its_own_timeouts() -> Result<()> {
    let cluster = cluster("flight-timeout")?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    let filler = in_background(&cluster, "", "gated_cached(1)")?;
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;

    let waiter = in_background(
        &cluster,
        "SET statement_timeout = '300ms'",
        "gated_cached(1)",
    )?;
    assert_eq!(waiter.join().unwrap(), Err("57014".to_owned()));
    assert_eq!(computed(&cluster)?, 1);

    // A cancel request, and the end of the session.
    for (end, codes) in [
        ("pg_cancel_backend", ["57014"; 2]),
        ("pg_terminate_backend", ["57P01", "connection closed"]),
    ] {
        let waiter = in_background(
            &cluster,
            "SET application_name = 'waiter'",
            "gated_cached(1)",
        )?;
        wait_for_waiters(&cluster, 1)?;
        gate.execute(
            &format!("SELECT {end}(pid) FROM pg_stat_activity WHERE application_name = 'waiter'"),
            &[],
        )?;
        let error = waiter.join().unwrap().unwrap_err();
        assert!(codes.contains(&error.as_str()), "{error}");
    }
    assert_eq!(computed(&cluster)?, 1);

    // fill_wait: after it, who waits computes by itself; 0 does not wait at all.
    for wait in ["200ms", "0"] {
        let before = computed(&cluster)?;
        let waiter = in_background(
            &cluster,
            &format!("SET application_name = 'waiter'; SET pg_query_cache.fill_wait = '{wait}'"),
            "gated_cached(1)",
        )?;
        wait_for(
            &cluster,
            "it computes by itself",
            &format!("SELECT last_value = {before} + 1 FROM computed"),
        )?;
        gate.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'",
            &[],
        )?;
        assert!(waiter.join().unwrap().is_err());
    }
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    assert_eq!(filler.join().unwrap(), Ok("1".to_owned()));
    Ok(())
}

/// The one that computes waits for a lock: nobody waits for it, whoever has the lock.
#[test]
fn nobody_waits_behind_a_lock() -> Result<()> {
    let cluster = cluster("flight-lock")?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION locked(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
         BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN n; END $$;
         SELECT cache_function('locked(integer)');",
    )?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute(IN_VAIN)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    let filler = in_background(&cluster, "", "locked_cached(1)")?;
    wait_for_gate(&cluster, 1)?;
    let other = in_background(&cluster, "", "locked_cached(1)")?;
    wait_for_gate(&cluster, 2)?;
    assert_eq!(number(&mut gate, "SELECT locked_cached(1)::bigint")?, 1);
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    assert_eq!(filler.join().unwrap(), Ok("1".to_owned()));
    assert_eq!(other.join().unwrap(), Ok("1".to_owned()));
    Ok(())
}

/// What ends the one that computes is its own affair: its time is over, not that of those who wait.
#[test]
fn who_computes_obeys_its_own_timeouts() -> Result<()> {
    let cluster = cluster("flight-own-timeout")?;
    let mut gate = cluster.connect(DATABASE)?;
    // On a busy machine its time may be over before the others wait: then it has more.
    for seconds in [1, 4, 16, 64] {
        gate.batch_execute(
            "SELECT clear_cache(), setval('computed', 1, false); SELECT pg_advisory_lock(1)",
        )?;
        let filler = in_background(
            &cluster,
            &format!("SET statement_timeout = '{seconds}s'"),
            "gated_cached(1)",
        )?;
        wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
        // To wait for another session is not to wait for a lock.
        let waiters: Vec<_> = ["SET lock_timeout = '50ms'", "SET lock_timeout = 0"]
            .into_iter()
            .map(|setup| in_background(&cluster, setup, "gated_cached(1)"))
            .collect::<Result<_>>()?;
        let mut looking = cluster.connect(DATABASE)?;
        let mut both_wait = false;
        wait_until("both wait, or it has ended", PATIENCE, || {
            both_wait = holds(&mut looking, &waiting(2)).unwrap_or(false);
            both_wait || filler.is_finished()
        })?;
        assert_eq!(filler.join().unwrap(), Err("57014".to_owned()));
        wait_for(
            &cluster,
            "the next one computes",
            "SELECT last_value >= 2 FROM computed",
        )?;
        gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok("1".to_owned()));
        }
        if both_wait {
            return Ok(());
        }
    }
    anyhow::bail!("this machine is too busy")
}

/// `lock_timeout` of the one that computes ends its statement; the others have long gone on by themselves, each with its own.
#[test]
fn each_has_its_own_lock_timeout() -> Result<()> {
    let cluster = cluster("flight-lock-timeout")?;
    cluster.connect(DATABASE)?.batch_execute(LOCKED)?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("BEGIN; SELECT FROM gate WHERE id = 1 FOR UPDATE")?;
    let session = |timeout: &str| {
        in_background(
            &cluster,
            &format!("SET lock_timeout = '{timeout}'"),
            "by_row_cached()",
        )
    };
    let filler = session("1s")?;
    let mut looking = cluster.connect(DATABASE)?;
    wait_until("it waits for the lock, or no longer", PATIENCE, || {
        filler.is_finished() || holds(&mut looking, &waiting_for_locks(1)).unwrap_or(false)
    })?;
    let (short, patient) = (session("300ms")?, session("0")?);
    assert_eq!(short.join().unwrap(), Err("55P03".to_owned()));
    assert_eq!(filler.join().unwrap(), Err("55P03".to_owned()));
    wait_for_locks(&cluster, 1)?;
    gate.batch_execute("COMMIT")?;
    assert_eq!(patient.join().unwrap(), Ok("1".to_owned()));
    Ok(())
}

/// A computation ends with the savepoint in which it began, however that ends.
#[test]
fn a_savepoint_ends_what_began_in_it() -> Result<()> {
    let cluster = cluster("flight-savepoint")?;
    let mut gate = cluster.connect(DATABASE)?;
    // With PL/pgSQL a session has settings of it, which are part of the key: all have it from the start.
    gate.batch_execute("LOAD 'plpgsql'; SELECT pg_advisory_lock(1)")?;
    let mut filler = cluster.connect(DATABASE)?;
    filler.batch_execute("LOAD 'plpgsql'; BEGIN; SAVEPOINT s")?;
    let pid: i32 = filler.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let filler = thread::spawn(move || {
        let failed = filler.batch_execute("SELECT gated_cached(1)").is_err();
        (failed, filler)
    });
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
    let waiter = in_background(&cluster, "LOAD 'plpgsql'", "gated_cached(1)")?;
    wait_for_waiters(&cluster, 1)?;
    gate.execute("SELECT pg_cancel_backend($1)", &[&pid])?;
    let (failed, mut filler) = filler.join().unwrap();
    assert!(failed);
    // Its transaction goes on, and holds nobody up.
    wait_for(
        &cluster,
        "the waiter computes",
        "SELECT last_value >= 2 FROM computed",
    )?;
    gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
    assert_eq!(waiter.join().unwrap(), Ok("1".to_owned()));
    filler.batch_execute("ROLLBACK TO s")?;
    assert_eq!(number(&mut filler, "SELECT gated_cached(1)::bigint")?, 1);
    assert_eq!(computed(&cluster)?, 2);

    // One that was complete before its savepoint was rolled back: it is right for everybody.
    filler.batch_execute("SAVEPOINT t")?;
    assert_eq!(number(&mut filler, "SELECT gated_cached(2)::bigint")?, 2);
    filler.batch_execute("ROLLBACK TO t")?;
    assert_eq!(number(&mut gate, "SELECT gated_cached(2)::bigint")?, 2);
    assert_eq!(computed(&cluster)?, 3);

    // One whose error is caught, in a transaction that stays.
    filler.batch_execute(
        "ROLLBACK TO s;
         CREATE FUNCTION pg_temp.caught() RETURNS text LANGUAGE plpgsql AS $$
         BEGIN PERFORM fails_cached(); EXCEPTION WHEN division_by_zero THEN RETURN 'caught'; END $$",
    )?;
    gate.batch_execute(
        "CREATE FUNCTION fails() RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1 / 0; END';
         SELECT cache_function('fails()')",
    )?;
    filler.batch_execute("SELECT pg_temp.caught()")?;
    gate.batch_execute(IN_VAIN)?;
    let error = gate.batch_execute("SELECT fails_cached()").unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22012"));
    Ok(())
}

/// Functions that need a lock in the middle: a row's, a table's, an advisory one, that of a transaction, and a table's in a parallel
/// worker. Each waits before that as long as anybody has the advisory lock 2.
const LOCKED: &str = "
    CREATE TABLE gate (id integer PRIMARY KEY);
    INSERT INTO gate VALUES (1);
    CREATE TABLE door (id integer);
    CREATE FUNCTION wait_for_two() RETURNS void LANGUAGE plpgsql STABLE AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
    END $$;
    CREATE FUNCTION lock_row() RETURNS void LANGUAGE plpgsql VOLATILE AS
        'BEGIN PERFORM FROM gate WHERE id = 1 FOR UPDATE; END';
    CREATE FUNCTION take_key() RETURNS void LANGUAGE plpgsql VOLATILE AS
        'BEGIN INSERT INTO gate VALUES (2) ON CONFLICT DO NOTHING; DELETE FROM gate WHERE id = 2; END';
    CREATE FUNCTION look(n integer) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS
        'BEGIN RETURN (SELECT count(*) FROM door); END';
    CREATE FUNCTION by_row() RETURNS integer LANGUAGE plpgsql STABLE AS
        'BEGIN PERFORM wait_for_two(); PERFORM lock_row(); RETURN 1; END';
    CREATE FUNCTION by_key() RETURNS integer LANGUAGE plpgsql STABLE AS
        'BEGIN PERFORM wait_for_two(); PERFORM take_key(); RETURN 1; END';
    CREATE FUNCTION by_table() RETURNS integer LANGUAGE plpgsql STABLE AS
        'BEGIN PERFORM wait_for_two(); PERFORM FROM door; RETURN 1; END';
    CREATE FUNCTION by_advisory() RETURNS integer LANGUAGE plpgsql STABLE AS
        'BEGIN PERFORM wait_for_two(); PERFORM pg_advisory_xact_lock(1); RETURN 1; END';
    CREATE FUNCTION by_worker() RETURNS integer LANGUAGE plpgsql STABLE SET force_parallel_mode = on AS
        'BEGIN PERFORM wait_for_two(); PERFORM sum(look(i)) FROM generate_series(1, 2) AS i; RETURN 1; END';
    SELECT cache_function('by_row()'), cache_function('by_key()'), cache_function('by_table()'),
           cache_function('by_advisory()'), cache_function('by_worker()');";

fn wait_for_locks(cluster: &Cluster, sessions: usize) -> Result<()> {
    wait_for(
        cluster,
        &format!("{sessions} sessions wait for a lock"),
        &waiting_for_locks(sessions),
    )
}

fn waiting_for_locks(sessions: usize) -> String {
    format!("SELECT count(*) = {sessions} FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
}

/// The one that waits has what the one that computes needs. PostgreSQL's deadlock detector sees nothing of it, and `fill_wait` is too
/// long to help.
#[test]
fn a_waiter_and_a_filler_cannot_deadlock() -> Result<()> {
    let cluster = cluster("flight-deadlock")?;
    cluster.connect(DATABASE)?.batch_execute(LOCKED)?;
    for (function, hold) in [
        ("by_row", "SELECT FROM gate WHERE id = 1 FOR UPDATE"),
        ("by_key", "INSERT INTO gate VALUES (2)"),
        ("by_table", "LOCK TABLE door IN ACCESS EXCLUSIVE MODE"),
        ("by_advisory", "SELECT pg_advisory_xact_lock(1)"),
        ("by_worker", "LOCK TABLE door IN ACCESS EXCLUSIVE MODE"),
    ] {
        let call = format!("{function}_cached()");
        let holder = format!("{IN_VAIN}; BEGIN; {hold}");

        // It is stuck already when the other one asks.
        let mut holding = cluster.connect(DATABASE)?;
        holding.batch_execute(&holder)?;
        let filler = in_background(&cluster, IN_VAIN, &call)?;
        wait_for_locks(&cluster, 1)?;
        assert_eq!(
            number(&mut holding, &format!("SELECT {call}::bigint"))?,
            1,
            "{function}"
        );
        holding.batch_execute("ROLLBACK")?;
        assert_eq!(filler.join().unwrap(), Ok("1".to_owned()), "{function}");

        // It gets stuck while the other one waits for it.
        let mut gate = cluster.connect(DATABASE)?;
        gate.batch_execute("SELECT clear_cache(); SELECT pg_advisory_lock(2)")?;
        let filler = in_background(&cluster, IN_VAIN, &call)?;
        wait_for(
            &cluster,
            "it computes",
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')",
        )?;
        let waiter = in_background(&cluster, &holder, &call)?;
        wait_for_waiters(&cluster, 1)?;
        gate.batch_execute("SELECT pg_advisory_unlock_all()")?;
        assert_eq!(waiter.join().unwrap(), Ok("1".to_owned()), "{function}");
        assert_eq!(filler.join().unwrap(), Ok("1".to_owned()), "{function}");
    }
    Ok(())
}

/// However closely they follow each other: who comes while the one before stores its result takes that.
#[test]
fn sessions_on_each_others_heels_compute_each_call_once() -> Result<()> {
    // What so cheap a function is worth is not the matter here.
    let cluster = with_extension(patient("flight-heels"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT set_cache_config('adaptive', 'off')")?;
    client.batch_execute(
        "CREATE FUNCTION work(i integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM generate_series(1, i % 50)';
         SELECT cache_function('work(integer)')",
    )?;
    const CALLS: i32 = 5_000;
    let mut pids = Vec::new();
    let sessions: Vec<_> = (0..6)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            pids.push(number(&mut client, "SELECT pg_backend_pid()::bigint")?);
            Ok(thread::spawn(move || -> Result<()> {
                for call in 1..=CALLS {
                    client.query_one("SELECT work_cached($1)", &[&call])?;
                }
                Ok(())
            }))
        })
        .collect::<Result<_>>()?;
    for session in sessions {
        session.join().unwrap()?;
    }
    wait_for_end(&cluster, &pids)?;
    let found = counters(&mut client, "work_cached")?;
    ensure!(found.fills == i64::from(CALLS), "{found:?}");
    Ok(())
}

/// `watched()` waits as `gated()` does, and reads `accounts`; it has been computed once, so it is known what it reads. This session has the
/// gate, and comes through it; there is no result in memory.
fn with_watched(name: &str) -> Result<(Cluster, pg_query_cache_harness::postgres::Client)> {
    let cluster = cluster(name)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(ACCOUNTS)?;
    client.batch_execute(
        "CREATE FUNCTION watched() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
         BEGIN
             PERFORM nextval('computed');
             WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
             RETURN (SELECT sum(balance) FROM accounts);
         END $$;
         SELECT cache_function('watched()', consistency => 'ttl')",
    )?;
    // A transaction each.
    for step in [
        "SELECT pg_advisory_lock(1)",
        "SELECT watched_cached()",
        "UPDATE accounts SET balance = balance + 1 WHERE id = 1",
        "SELECT cleanup_expired_cache()",
        "SELECT setval('computed', 1, false)",
        IN_VAIN,
    ] {
        client.batch_execute(step)?;
    }
    assert_eq!(counters(&mut client, "watched_cached")?.fills, 1);
    assert_eq!(number(&mut client, "SELECT entries FROM cache_stats()")?, 0);
    Ok((cluster, client))
}

/// A transaction that has written what the function reads could not take what another one computes: it does not wait for it.
#[test]
fn who_has_written_does_not_wait() -> Result<()> {
    let (cluster, mut client) = with_watched("flight-written")?;
    let other = in_background(&cluster, "", "watched_cached()")?;
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
    client.batch_execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2")?;
    let own = number(&mut client, "SELECT watched_cached()")?;
    assert_eq!(own, number(&mut client, "SELECT total()")?);
    client.batch_execute("ROLLBACK; SELECT pg_advisory_unlock_all()")?;
    assert_eq!(other.join().unwrap(), Ok((own - 1).to_string()));
    Ok(())
}

/// Nor does one whose snapshot is older than the last write.
#[test]
fn who_has_an_old_snapshot_does_not_wait() -> Result<()> {
    let (cluster, mut client) = with_watched("flight-old")?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    let before = number(&mut client, "SELECT total()")?;
    let mut writer = cluster.connect(DATABASE)?;
    writer.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 2")?;
    let other = in_background(&cluster, "", "watched_cached()")?;
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
    assert_eq!(number(&mut client, "SELECT watched_cached()")?, before);
    client.batch_execute("COMMIT; SELECT pg_advisory_unlock_all()")?;
    assert_eq!(other.join().unwrap(), Ok((before + 1).to_string()));
    Ok(())
}

/// Transactions that remember very many keys take the flights that they may, and leave the others to the others.
#[test]
fn a_session_and_a_role_have_their_share() -> Result<()> {
    let cluster = cluster("flight-share")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE ROLE greedy LOGIN; CREATE ROLE modest LOGIN; SELECT grant_cache_access('greedy', 'greedy');
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO greedy, modest; GRANT ALL ON SEQUENCE computed TO modest",
    )?;
    let remember = |session: i32| {
        format!(
            "SELECT count(cache_remember('k' || {session} || '.' || i, 'SELECT 1')) FROM generate_series(1, 300) AS i"
        )
    };
    let mut sessions = Vec::new();
    for session in 0..6 {
        let mut greedy = cluster.connect(DATABASE)?;
        greedy.batch_execute("SET SESSION AUTHORIZATION greedy; BEGIN")?;
        assert_eq!(number(&mut greedy, &remember(session))?, 300);
        sessions.push(greedy);
    }
    // One of another role computes, and another session waits for it.
    let gate = "SET SESSION AUTHORIZATION modest";
    client.batch_execute("SELECT pg_advisory_lock(1)")?;
    let first = in_background(&cluster, gate, "gated_cached(1)")?;
    wait_for(&cluster, "it computes", "SELECT is_called FROM computed")?;
    let second = in_background(&cluster, gate, "gated_cached(1)")?;
    wait_for_waiters(&cluster, 1)?;
    client.batch_execute("SELECT pg_advisory_unlock_all()")?;
    assert_eq!(first.join().unwrap(), Ok("1".to_owned()));
    assert_eq!(second.join().unwrap(), Ok("1".to_owned()));
    assert_eq!(computed(&cluster)?, 1);
    for mut greedy in sessions {
        greedy.batch_execute("COMMIT")?;
    }
    // Only who leads keeps: sixteen of a session, four sessions of the role.
    let kept = number(&mut client, "SELECT count(*) FROM cache_values")?;
    assert_eq!(kept, 64);
    Ok(())
}

/// A transaction that has remembered a key stays open: others wait for it once, all together, and not for each call again.
#[test]
fn a_transaction_that_stays_open_is_waited_for_once() -> Result<()> {
    let cluster = cluster("flight-open")?;
    let mut open = cluster.connect(DATABASE)?;
    open.batch_execute("BEGIN; SELECT cache_remember('k', 'SELECT 1')")?;
    wait_for(
        &cluster,
        "the flight is older than others wait",
        "SELECT clock_timestamp() - xact_start > '5s' FROM pg_stat_activity WHERE state = 'idle in transaction'",
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SET pg_query_cache.fill_wait = '5s'; SET statement_timeout = '240s';
         DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM cache_remember('k', 'SELECT 2'); END LOOP; END $$",
    )?;
    open.batch_execute("ROLLBACK")?;
    Ok(())
}

/// Who would wait in vain, or make others wait, does not: with row locks, or with one snapshot for the whole transaction.
#[test]
fn a_transaction_with_locks_or_one_snapshot_does_not_wait_for_a_value() -> Result<()> {
    let cluster = cluster("flight-value")?;
    let mut open = cluster.connect(DATABASE)?;
    open.batch_execute("CREATE TABLE work (id integer)")?;
    open.batch_execute("BEGIN; SELECT cache_remember('k', 'SELECT 1')")?;
    for begin in [
        "BEGIN; INSERT INTO work VALUES (1)",
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM work",
    ] {
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute(IN_VAIN)?;
        client.batch_execute(begin)?;
        let value = number(
            &mut client,
            "SELECT cache_remember('k', 'SELECT 2')::bigint",
        )?;
        assert_eq!(value, 2, "{begin}");
        client.batch_execute("COMMIT")?;
    }
    open.batch_execute("COMMIT")?;
    let mut client = cluster.connect(DATABASE)?;
    assert_eq!(number(&mut client, "SELECT cache_get('k')::bigint")?, 1);
    Ok(())
}
