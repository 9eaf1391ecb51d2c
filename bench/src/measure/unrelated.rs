//! Time per hit while somebody else writes at full speed to a table that the entry does not depend on.
//!
//! The writer keeps the machine busy whatever it writes, so it is compared with itself: writing to a tracked table, and to one that is not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use pg_query_cache_harness::postgres::Client;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, DATABASE, timed, total};

/// Calls of a loop.
const CALLS: u32 = 400_000;

/// What the writer writes to: a table that is tracked, and one that is not.
const TABLES: [&str; 2] = ["tracked", "untracked"];

/// How long it writes to the other table before anything is measured.
const SETTLED: Duration = Duration::from_millis(20);

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    let mut client = cluster.connect(DATABASE)?;
    for table in TABLES {
        client.batch_execute(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int NOT NULL) WITH (fillfactor = 20);
             INSERT INTO {table} SELECT i, 0 FROM generate_series(0, 99) i"
        ))?;
    }
    client.batch_execute("SELECT cache_track_table('tracked'); SELECT page_cached(1, 1024)")?;
    let writer = cluster.connect(DATABASE)?;
    let (table, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let written = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let samples = thread::scope(|scope| {
        let writing = scope.spawn(|| write(writer, &table, &written, &stop));
        let samples = hits(&mut client, &table, options);
        stop.store(true, Ordering::Relaxed);
        writing.join().ok().context("the writer failed")??;
        samples
    })?;
    for (table, count) in TABLES.iter().zip(&written) {
        let count = count.load(Ordering::Relaxed) as f64;
        expect_at_least(&format!("writes to the {table} table"), count, 1_000.0)?;
    }
    let [tracked, nothing, untracked, nothing_either] = samples;
    let (tracked, untracked) = (tracked.minus(&nothing), untracked.minus(&nothing_either));
    let ratio = Figure::new(
        "tracked ÷ untracked",
        &tracked.over(&untracked),
        Unit::Ratio,
    );
    Ok(vec![Section::new(
        "While an unrelated table is written at full speed: 1 KB, inside one backend",
        vec![
            Figure::new(
                "a hit while an untracked table is written",
                &untracked,
                Unit::Us,
            ),
            Figure::new("a hit while a tracked table is written", &tracked, Unit::Us),
            ratio.goal(Goal::AtMost(1.05)),
        ],
    )])
}

/// A loop of hits and one of nothing, while each of the tables is written.
fn hits(client: &mut Client, table: &AtomicUsize, options: &Options) -> Result<[Sample; 4]> {
    let calls = ["page_cached(1, 1024)", "pg_backend_pid()"];
    let rounds = options.rounds_of(25);
    let before = total(client, "hits")?;
    let samples = in_turns(rounds, |candidate, _| {
        table.store(candidate / 2, Ordering::Relaxed);
        thread::sleep(SETTLED);
        let call = calls[candidate % 2];
        let loop_of_calls = format!("SELECT count({call}) FROM generate_series(1, {CALLS}) i");
        Ok(timed(client, &loop_of_calls)? / f64::from(CALLS))
    })?;
    expect_at_least(
        "hits",
        total(client, "hits")? - before,
        2.0 * f64::from(CALLS) * rounds as f64,
    )?;
    Ok(samples)
}

/// Writes to one table or the other, a row and a transaction at a time, until it is to stop.
fn write(
    mut client: Client,
    table: &AtomicUsize,
    written: &[AtomicUsize; 2],
    stop: &AtomicBool,
) -> Result<()> {
    let mut update =
        |table: &str| client.prepare(&format!("UPDATE {table} SET n = n + 1 WHERE id = $1"));
    let updates = [update(TABLES[0])?, update(TABLES[1])?];
    let mut row = 0;
    while !stop.load(Ordering::Relaxed) {
        let number = table.load(Ordering::Relaxed);
        client.execute(&updates[number], &[&row])?;
        written[number].fetch_add(1, Ordering::Relaxed);
        row = (row + 1) % 100;
    }
    Ok(())
}
