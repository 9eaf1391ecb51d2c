//! A session that stands still at a place where it holds no lock of ours: nobody else waits for it, and everybody's answers are right,
//! its own included when it goes on.

use std::fs;

use anyhow::{Context, Result, ensure};
use pg_query_cache_accidents::scenario::{SCENARIOS, Scenario};
use pg_query_cache_accidents::{Became, close_gate, cluster, right, wait_for_computation};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, counters, holds, in_background, number, wait_for,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Signal, wait_until};

fn pid(client: &mut Client) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[])?.get(0))
}

/// Whether a process stands still.
fn stands(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// The session that stands still; there is one.
fn standing(cluster: &Cluster) -> Result<i32> {
    let mut client = cluster.connect(DATABASE)?;
    let mut found = None;
    wait_until("a session stands still", PATIENCE, || {
        let pids: Vec<i32> = client
            .query(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'",
                &[],
            )
            .map(|rows| rows.iter().map(|row| row.get(0)).collect())
            .unwrap_or_default();
        found = pids.into_iter().find(|pid| stands(*pid));
        found.is_some()
    })?;
    found.context("nobody stands still")
}

fn others_go_on(cluster: &Cluster) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SET statement_timeout = '240s'")?;
    for _ in 0..2 {
        right(&mut client)?;
        client.batch_execute(
            "UPDATE accounts SET balance = balance + 1, owner = (owner + 1) % 10 WHERE id IN (1, 2)",
        )?;
        right(&mut client)?;
    }
    Ok(())
}

fn pause(cluster: &Cluster, scenario: &Scenario) -> Result<()> {
    let session = scenario.begin(cluster, "pause")?;
    let pid = standing(cluster)?;
    let others = others_go_on(cluster);
    // Whatever came of it, the session goes on, so that the server can end.
    cluster.kill(pid, Signal::CONT)?;
    let (became, mut client) = session.join().unwrap();
    others?;
    ensure!(became == Became::Done, "{became:?}");
    right(&mut client)?;
    others_go_on(cluster)
}

#[test]
fn nobody_waits_for_who_stands_still() -> Result<()> {
    let cluster = cluster("accidents-pause")?;
    // Before and after the end of a transaction no lock is held either.
    let open = |scenario: &&Scenario| {
        scenario.by_session() && (scenario.may_fail || scenario.point == "Committed")
    };
    for scenario in SCENARIOS.iter().filter(open) {
        pause(&cluster, scenario).with_context(|| scenario.point)?;
    }
    Ok(())
}

/// One that reads the table in a fill, and stands still between reading and storing, while a writer commits.
#[test]
fn what_was_overtaken_by_a_write_is_stored_for_nobody() -> Result<()> {
    let cluster = cluster("accidents-overtaken")?;
    let mut client = cluster.connect(DATABASE)?;
    for point in ["Computed", "Publishing"] {
        client.batch_execute("SELECT clear_cache()")?;
        let before = number(&mut client, "SELECT total()")?;
        let filler = in_background(
            &cluster,
            &format!(
                "SET pg_query_cache.fault_action = pause; SET pg_query_cache.fault_point = {point}"
            ),
            "total_cached()",
        )?;
        let pid = standing(&cluster)?;
        // Seen before and after by the same snapshot.
        let mut old = cluster.connect(DATABASE)?;
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
        client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
        cluster.kill(pid, Signal::CONT)?;
        ensure!(filler.join().unwrap() == Ok(before.to_string()), "{point}");
        ensure!(
            number(&mut client, "SELECT total_cached()")? == before + 1,
            "{point}"
        );
        ensure!(
            number(&mut old, "SELECT total_cached()")? == before,
            "{point}"
        );
    }
    Ok(())
}

/// The lock of the only partition is held: hits do not need it. Handing the counts over does, at the end of the transaction.
#[test]
fn a_hit_needs_no_lock() -> Result<()> {
    let cluster = cluster("accidents-lock")?;
    for point in ["Linking", "Linked"] {
        let scenario = SCENARIOS
            .iter()
            .find(|scenario| scenario.point == point)
            .context("no scenario")?;
        let mut client = cluster.connect(DATABASE)?;
        right(&mut client)?;
        let hits = counters(&mut client, "twice_cached")?.hits;
        let session = scenario.begin(&cluster, "pause")?;
        let pid = standing(&cluster)?;
        client.batch_execute("BEGIN")?;
        let asked = std::thread::spawn(move || {
            let answer = number(
                &mut client,
                "SELECT twice_cached(1) + total_cached() - total()",
            );
            (answer, client)
        });
        // One that does need it would stand as long as the other one.
        let answered = wait_until("an answer", PATIENCE, || asked.is_finished());
        cluster.kill(pid, Signal::CONT)?;
        let (answer, mut client) = asked.join().unwrap();
        client.batch_execute("COMMIT")?;
        ensure!(session.join().unwrap().0 == Became::Done);
        answered.context(point)?;
        ensure!(answer? == 2, "{point}");
        ensure!(
            counters(&mut client, "twice_cached")?.hits == hits + 1,
            "{point}"
        );
    }
    Ok(())
}

/// Waiters look for themselves: a leader that is through and has not told them, and one that stands still.
#[test]
fn who_waits_is_not_left_behind() -> Result<()> {
    let cluster = cluster("accidents-left")?;
    for (point, wait) in [("FlightEnding", "1h"), ("FillBegins", "300ms")] {
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute("SELECT clear_cache()")?;
        let mut leader = cluster.connect(DATABASE)?;
        let leader_pid = pid(&mut leader)?;
        // The first fill of a session may begin twice, when it has seen the definitions.
        leader.batch_execute("SELECT gated_cached(0)")?;
        leader.batch_execute(&format!(
            "SET pg_query_cache.fault_action = pause; SET pg_query_cache.fault_point = {point}"
        ))?;
        let gate = close_gate(&cluster)?;
        let leader =
            std::thread::spawn(move || leader.batch_execute("SELECT gated_cached(1)").is_ok());
        if point == "FlightEnding" {
            wait_for_computation(&cluster)?;
        } else {
            standing(&cluster)?;
        }
        let waiter = || {
            in_background(
                &cluster,
                &format!("SET pg_query_cache.fill_wait = '{wait}'; SET statement_timeout = '240s'"),
                "gated_cached(1)",
            )
        };
        let waiters = [waiter()?, waiter()?];
        wait_for(
            &cluster,
            "both have asked",
            "SELECT count(*) >= 2 FROM pg_stat_activity WHERE query LIKE '%gated_cached(1))::text%' AND pid <> pg_backend_pid()
                 AND wait_event_type IN ('Extension', 'Timeout')",
        )?;
        drop(gate);
        let stood = standing(&cluster)?;
        ensure!(stood == leader_pid, "another one stands still");
        let answers = waiters.map(|waiter| waiter.join().unwrap());
        let still = stands(leader_pid);
        cluster.kill(leader_pid, Signal::CONT)?;
        ensure!(leader.join().unwrap(), "the leader failed");
        ensure!(still, "{point}: the leader went on by itself");
        ensure!(
            answers == [Ok("1".to_owned()), Ok("1".to_owned())],
            "{point}: {answers:?}"
        );
        ensure!(holds(&mut client, "SELECT damaged = 0 FROM cache_stats()")?);
    }
    Ok(())
}
