//! An ERROR, or the end of the session, at every place: it is that session's own affair.

use anyhow::{Context, Result, ensure};
use pg_query_cache_accidents::scenario::{SCENARIOS, Scenario, Who};
use pg_query_cache_accidents::{Became, cluster, crashes, faults, is_well, right, run};
use pg_query_cache_cluster_tests::{DATABASE, number, wait_for, worker};
use pg_query_cache_harness::Cluster;

/// SQLSTATE of an injected error.
const INJECTED: &str = "58000";

/// A row of the table that cannot be read is a miss.
fn is_caught(scenario: &Scenario) -> bool {
    scenario.point == "RowRead"
}

/// What may become of a session at the end of whose transaction or wait the signal is obeyed.
fn expected(scenario: &Scenario, action: &str) -> Vec<Became> {
    match action {
        "error" if is_caught(scenario) => vec![Became::Done],
        "error" => vec![Became::Failed(INJECTED.to_owned())],
        _ => vec![Became::Closed, Became::Done],
    }
}

/// Nothing is left of the entries, and all memory is free.
fn gives_everything_back(cluster: &Cluster) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT clear_cache()")?;
    client.batch_execute("SELECT cleanup_expired_cache()")?;
    let left = number(
        &mut client,
        "SELECT entries + memory_bytes FROM cache_stats()",
    )?;
    ensure!(left == 0, "{left} bytes are lost");
    Ok(())
}

fn end_session(cluster: &Cluster, scenario: &Scenario, action: &str) -> Result<()> {
    let acted = faults(cluster, scenario.point);
    let mut bystander = cluster.connect(DATABASE)?;
    bystander.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    right(&mut bystander)?;
    let total = number(&mut bystander, "SELECT total_cached()")?;

    let (became, mut client) = scenario.begin(cluster, action)?.join().unwrap();
    let expected = expected(scenario, action);
    ensure!(expected.contains(&became), "{became:?}");
    ensure!(faults(cluster, scenario.point) > acted, "nobody got there");

    // The session that failed goes on, the one beside it has noticed nothing.
    if let Became::Failed(_) = became {
        client.batch_execute("ROLLBACK; SET pg_query_cache.fault_point = nowhere")?;
        right(&mut client)?;
    }
    right(&mut bystander)?;
    ensure!(number(&mut bystander, "SELECT total_cached()")? == total);
    bystander.batch_execute("COMMIT")?;
    is_well(cluster)?;
    // The same once more, without the fault: nothing is held by the one that is gone.
    let mut again = cluster.connect(DATABASE)?;
    again.batch_execute("SET statement_timeout = '240s'")?;
    if let Who::Session { first, last } = scenario.who {
        ensure!(run(&mut again, &[first, "BEGIN", last, "COMMIT"]) == Became::Done);
    }
    Ok(())
}

fn every_session(name: &str, action: &str, may: impl Fn(&Scenario) -> bool) -> Result<()> {
    let cluster = cluster(name)?;
    let postmaster = cluster.postmaster_pid()?;
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| scenario.by_session() && may(scenario))
    {
        end_session(&cluster, scenario, action).with_context(|| scenario.point)?;
    }
    gives_everything_back(&cluster)?;
    ensure!(crashes(&cluster) == 0 && cluster.postmaster_pid()? == postmaster);
    Ok(())
}

#[test]
fn an_error_ends_the_statement() -> Result<()> {
    every_session("accidents-error", "error", |scenario| scenario.may_fail)
}

#[test]
fn a_terminated_session_ends_alone() -> Result<()> {
    every_session("accidents-terminate", "terminate", |_| true)
}

/// The worker logs an error and tries again; terminated it is started again. Either way its work is done in the end.
#[test]
fn the_worker_tries_again() -> Result<()> {
    let cluster = cluster("accidents-worker")?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.in_background()) {
        for action in ["error", "terminate"] {
            if action == "error" && !scenario.may_fail {
                continue;
            }
            let check = || -> Result<()> {
                is_well(&cluster)?;
                worker(&cluster)?;
                let began = text(&cluster, "SELECT clock_timestamp()::text")?;
                scenario.bring_background(&cluster, action)?;
                cluster.wait_ready()?;
                worker(&cluster)?;
                is_well(&cluster)?;
                does_its_work(&cluster, scenario, &began)?;
                scenario.settle_background(&cluster)
            };
            check().with_context(|| format!("{} {action}", scenario.point))?;
        }
    }
    ensure!(crashes(&cluster) == 0);
    gives_everything_back(&cluster)
}

fn text(cluster: &Cluster, sql: &str) -> Result<String> {
    Ok(cluster.connect(DATABASE)?.query_one(sql, &[])?.get(0))
}

/// Does what was to be done since `began`.
fn does_its_work(cluster: &Cluster, scenario: &Scenario, began: &str) -> Result<()> {
    let Who::Worker {
        setting: (name, _), ..
    } = scenario.who
    else {
        return Ok(());
    };
    match name {
        "pg_query_cache.flush_interval" => wait_for(
            cluster,
            "what was new is in the table",
            &format!("SELECT count(*) > 0 FROM query_cache WHERE created_at > '{began}'"),
        ),
        "pg_query_cache.auto_track" => wait_for(
            cluster,
            "the table is tracked",
            "SELECT new_rows_cached() = 1 AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'new'::regclass)",
        ),
        _ => {
            cluster
                .connect(DATABASE)?
                .batch_execute("SELECT clear_cache()")?;
            wait_for(
                cluster,
                "a clean-up is noted",
                &format!(
                    "SELECT EXISTS (SELECT FROM cache_cleanup_log WHERE removed_by = 'worker' AND cleanup_time > '{began}')"
                ),
            )
        }
    }
}
