//! A session that is killed: the server comes back, answers right, has all its memory, and its worker.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, in_background, number, quiet, wait_for, wait_for_gate,
    with_accounts, worker,
};
use pg_query_cache_harness::{Cluster, Signal, wait_until};

/// A function that waits in its middle for whoever holds the advisory lock 1.
const GATED: &str = "
    CREATE FUNCTION gated(id integer) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
    DECLARE b bigint;
    BEGIN
        SELECT a.balance INTO b FROM accounts AS a WHERE a.id = $1;
        PERFORM pg_advisory_xact_lock_shared(1);
        RETURN b;
    END $$;
    SELECT cache_function('gated(integer)');";

fn waiting_pid(cluster: &Cluster) -> Result<i32> {
    let row = cluster.connect(DATABASE)?.query_one(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
        &[],
    )?;
    Ok(row.get(0))
}

fn memory(cluster: &Cluster) -> Result<i64> {
    number(
        &mut cluster.connect(DATABASE)?,
        "SELECT memory_bytes FROM cache_stats()",
    )
}

/// Kills a session, and returns when the server has noticed and is up again.
fn crash(cluster: &Cluster, pid: i32) -> Result<()> {
    let crashes = || cluster.log().matches("reinitializing").count();
    let before = crashes();
    cluster.kill(pid, Signal::KILL)?;
    wait_until("the server starts anew", PATIENCE, || crashes() > before)?;
    cluster.wait_ready()
}

/// After the crash: right, with all its memory, and the worker back.
fn is_well(cluster: &Cluster, total: i64) -> Result<()> {
    assert!(
        memory(cluster)? < 64 * 1024,
        "memory is not free after the crash"
    );
    assert!(answers_are_right(&mut cluster.connect(DATABASE)?)? == total);
    worker(cluster)?;
    assert!(
        !cluster.log_contains("PANIC"),
        "the server panicked:\n{}",
        cluster.log()
    );
    Ok(())
}

#[test]
fn killed_in_the_middle_of_a_fill() -> Result<()> {
    let cluster = with_accounts(quiet("crash-fill"))?;
    cluster.connect(DATABASE)?.batch_execute(GATED)?;
    for round in 0..3 {
        let total = answers_are_right(&mut cluster.connect(DATABASE)?)?;
        let mut gate = cluster.connect(DATABASE)?;
        gate.batch_execute("SELECT clear_cache(), pg_advisory_lock(1)")?;
        let filler = in_background(&cluster, "", "gated_cached(1)")?;
        wait_for_gate(&cluster, 1)?;
        crash(&cluster, waiting_pid(&cluster)?)?;
        assert!(filler.join().unwrap().is_err(), "round {round}");
        drop(gate);
        is_well(&cluster, total)?;
        // The key is free again: nobody waits for the one that died.
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute("SET statement_timeout = '240s'")?;
        assert!(number(&mut client, "SELECT gated_cached(1)")? == 1);
    }
    Ok(())
}

#[test]
fn killed_in_the_middle_of_a_write() -> Result<()> {
    let cluster = with_accounts(quiet("crash-write"))?;
    let total = answers_are_right(&mut cluster.connect(DATABASE)?)?;
    for _ in 0..3 {
        let mut writer = cluster.connect(DATABASE)?;
        writer.batch_execute("BEGIN; UPDATE accounts SET balance = 0; TRUNCATE accounts")?;
        let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        crash(&cluster, pid)?;
        assert!(writer.simple_query("COMMIT").is_err());
        is_well(&cluster, total)?;
    }
    Ok(())
}

#[test]
fn many_killed_while_they_fill_and_write() -> Result<()> {
    let cluster = with_accounts(quiet("crash-many"))?;
    let work = "DO $$ BEGIN LOOP
        UPDATE accounts SET balance = balance + 1 WHERE id = (random() * 99)::int + 1;
        PERFORM total_cached(), balance_cached((random() * 99)::int + 1);
        COMMIT;
    END LOOP; END $$";
    for _ in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = cluster.connect(DATABASE)?;
            let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
            clients.push((
                pid,
                std::thread::spawn(move || client.batch_execute(work).is_err()),
            ));
        }
        let written = number(
            &mut cluster.connect(DATABASE)?,
            "SELECT sum(balance)::bigint FROM accounts",
        )?;
        wait_for(
            &cluster,
            "something is written",
            &format!("SELECT sum(balance) > {written} + 100 FROM accounts"),
        )?;
        crash(&cluster, clients[0].0)?;
        for (_, client) in clients {
            assert!(client.join().unwrap());
        }
        answers_are_right(&mut cluster.connect(DATABASE)?)?;
        worker(&cluster)?;
    }
    assert!(!cluster.log_contains("PANIC"));
    Ok(())
}

/// Terminated and cancelled sessions are no crash: what they held is free, what others stored is there.
#[test]
fn terminated_in_the_middle_of_a_fill() -> Result<()> {
    let cluster = with_accounts(quiet("crash-terminate"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(GATED)?;
    answers_are_right(&mut client)?;
    let before = memory(&cluster)?;
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    for (end, code) in [
        ("pg_terminate_backend", "57P01"),
        ("pg_cancel_backend", "57014"),
    ] {
        for _ in 0..20 {
            let filler = in_background(&cluster, "", "gated_cached(1)")?;
            wait_for_gate(&cluster, 1)?;
            client.execute(
                &format!(
                    "SELECT {end}(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ),
                &[],
            )?;
            let error = filler.join().unwrap().unwrap_err();
            assert!(error == code || error.contains("closed"), "{error}");
        }
    }
    drop(gate);
    assert!(memory(&cluster)? == before);
    client.batch_execute("SET statement_timeout = '240s'")?;
    assert!(number(&mut client, "SELECT gated_cached(1)")? == 1);
    Ok(())
}

/// Fault injection (`src/fault.rs`) is for tests: the library that is installed has neither its settings nor its words.
#[test]
fn the_library_holds_no_fault_injection() -> Result<()> {
    let cluster = with_accounts(quiet("crash-release"))?;
    let mut client = cluster.connect(DATABASE)?;
    let error = client
        .batch_execute("SET pg_query_cache.fault_point = 'nowhere'")
        .unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42602"));
    let library = Path::new(&cluster.installation().ask("--pkglibdir")?).join("pg_query_cache.so");
    let bytes = std::fs::read(library)?;
    let has = |word: &str| {
        bytes
            .windows(word.len())
            .any(|window| window == word.as_bytes())
    };
    assert!(has("pg_query_cache.fill_wait"), "this is another library");
    for word in [
        "fault_point",
        "fault_action",
        "fault at ",
        "SlotChanging",
        "fault injected",
    ] {
        assert!(!has(word), "the library says \"{word}\"");
    }
    Ok(())
}
