//! SIGKILL at every place, while other sessions read and write: the server starts anew, and no answer is ever wrong.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use pg_query_cache_accidents::load::Load;
use pg_query_cache_accidents::scenario::{SCENARIOS, Scenario, Who};
use pg_query_cache_accidents::{Became, cluster, crashes, faults, is_well, wait_for_fault};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE, answers_are_right, worker};
use pg_query_cache_harness::{Cluster, Mode, wait_until};

/// After the kill: the server has started anew, the load goes on, and everything works.
fn comes_back(cluster: &Cluster, load: &Load, before: usize) -> Result<()> {
    wait_until("the server starts anew", PATIENCE, || {
        crashes(cluster) > before
    })?;
    cluster.wait_ready()?;
    is_well(cluster)?;
    load.goes_on()
}

fn kill_session(cluster: &Cluster, load: &Load, scenario: &Scenario) -> Result<()> {
    let (before, acted) = (crashes(cluster), faults(cluster, scenario.point));
    let (became, _) = scenario.begin(cluster, "kill")?.join().unwrap();
    ensure!(became == Became::Closed, "{became:?}");
    ensure!(faults(cluster, scenario.point) > acted, "nobody got there");
    comes_back(cluster, load, before)
}

#[test]
fn sessions() -> Result<()> {
    let cluster = cluster("accidents-sessions")?;
    let load = Load::begin(&cluster);
    load.goes_on()?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.by_session()) {
        kill_session(&cluster, &load, scenario).with_context(|| scenario.point)?;
    }
    worker(&cluster)?;
    println!("{:?} comparisons and writing transactions", load.counts());
    Ok(())
}

#[test]
fn background_processes() -> Result<()> {
    let cluster = cluster("accidents-background")?;
    let load = Load::begin(&cluster);
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.in_background()) {
        let kill = || -> Result<()> {
            worker(&cluster)?;
            let before = crashes(&cluster);
            scenario.bring_background(&cluster, "kill")?;
            comes_back(&cluster, &load, before)?;
            scenario.settle_background(&cluster)
        };
        kill().with_context(|| scenario.point)?;
    }
    worker(&cluster)?;
    println!("{:?} comparisons and writing transactions", load.counts());
    Ok(())
}

/// The postmaster itself, at the end of a shutdown and at a start. What was written between is seen.
#[test]
fn the_postmaster() -> Result<()> {
    let cluster = cluster("accidents-postmaster")?;
    let set = |point: &str| cluster.set("pg_query_cache.fault_point", point);
    for scenario in SCENARIOS {
        let point = scenario.point;
        let before = faults(&cluster, point);
        match scenario.who {
            Who::Stop => {
                is_well(&cluster)?;
                set(point)?;
                worker(&cluster)?;
                ensure!(cluster.stop(Mode::Fast).is_err(), "{point}: it survived");
            }
            Who::Start => {
                is_well(&cluster)?;
                worker(&cluster)?;
                cluster.stop(Mode::Fast)?;
                set(point)?;
                ensure!(cluster.start().is_err(), "{point}: it survived");
            }
            _ => continue,
        }
        wait_for_fault(&cluster, point, before)?;
        set("Nowhere")?;
        cluster.start()?;
        let mut client = cluster.connect(DATABASE)?;
        let total = answers_are_right(&mut client)?;
        client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 100")?;
        ensure!(answers_are_right(&mut client)? == total + 1, "{point}");
        is_well(&cluster).with_context(|| point)?;
    }
    Ok(())
}

/// Nobody adds a place and forgets its scenario.
#[test]
fn every_place_has_a_scenario() -> Result<()> {
    let cluster = cluster("accidents-places")?;
    let places: Vec<String> = cluster
        .connect(DATABASE)?
        .query_one(
            "SELECT enumvals FROM pg_settings WHERE name = 'pg_query_cache.fault_point'",
            &[],
        )?
        .get(0);
    let places: BTreeSet<_> = places.iter().map(String::as_str).collect();
    let mut known: BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.point).collect();
    known.insert("Nowhere");
    assert_eq!(places, known);
    Ok(())
}
