//! Inside one backend: what a hit costs with neither a client nor a transaction around it.
//!
//! A loop of cached calls less the same loop of a call that returns a constant. A cached function is STABLE, so the server could
//! evaluate it once; the counted hits show that it does not.

use anyhow::Result;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, DATABASE, timed, total};

/// What is called in the loop, how often, what it is called here, and its goal.
const CALLS: [(&str, u32, &str, f64); 5] = [
    ("pg_backend_pid()", 100_000, "", 0.0),
    ("page_cached(1, 100)", 100_000, "a hit, 100 B", 0.35),
    ("page_cached(1, 1024)", 100_000, "a hit, 1 KB", 0.45),
    ("page_cached(1, 102400)", 20_000, "a hit, 100 KB", 15.0),
    (
        "page_cached(i % 1000, 1024)",
        100_000,
        "a hit, 1 KB, 1,000 keys in turn",
        0.45,
    ),
];

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    let mut client = cluster.connect(DATABASE)?;
    let statement = |call: &str, calls: u32| {
        format!("SELECT count({call}) FROM generate_series(1, {calls}) AS loop (i)")
    };
    for (call, ..) in CALLS {
        client.batch_execute(&statement(call, 1000))?;
    }
    let before = total(&mut client, "hits")?;
    let samples: [Sample; 5] = in_turns(options.rounds_of(41), |candidate, _| {
        let (call, calls, ..) = CALLS[candidate];
        Ok(timed(&mut client, &statement(call, calls))? / f64::from(calls))
    })?;
    let calls: u32 = CALLS[1..].iter().map(|(_, calls, ..)| calls).sum();
    expect_at_least(
        "hits",
        total(&mut client, "hits")? - before,
        f64::from(calls) * options.rounds_of(41) as f64,
    )?;
    let figures = samples[1..]
        .iter()
        .zip(&CALLS[1..])
        .map(|(sample, (.., what, goal))| {
            Figure::new(*what, &sample.minus(&samples[0]), Unit::Us).goal(Goal::AtMost(*goal))
        })
        .collect();
    Ok(vec![Section::new(
        "Inside one backend, more than a call that returns a constant",
        figures,
    )])
}
