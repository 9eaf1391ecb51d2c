//! What a miss costs on top of the function: looking up, recording what is read, storing.

use anyhow::Result;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, DATABASE, timed, total};

/// Calls in a round, each with a key of its own; the entries of a round fit into memory.
const CALLS: usize = 5_000;

/// The size that the goal is about.
const GOAL_SIZE: usize = 1024;

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    let mut client = cluster.connect(DATABASE)?;
    // What is stored in vain for as long as this comes to rest, and then nothing is stored.
    client.batch_execute("SELECT set_cache_config('adaptive', 'off')")?;
    let mut figures = Vec::new();
    for (size, name) in [(100, "100 B"), (GOAL_SIZE, "1 KB"), (10_240, "10 KB")] {
        // Both functions are known to the session before anything is measured.
        client.batch_execute(&format!("SELECT page(-1, {size}), page_cached(-1, {size})"))?;
        let before = total(&mut client, "fills")?;
        let [bare, cold]: [Sample; 2] = in_turns(options.rounds(), |candidate, _| {
            client.batch_execute("SELECT clear_cache()")?;
            let function = ["page", "page_cached"][candidate];
            let took = timed(
                &mut client,
                &format!("SELECT count({function}(k, {size})) FROM generate_series(1, {CALLS}) k"),
            )?;
            Ok(took / CALLS as f64)
        })?;
        expect_at_least(
            "fills",
            total(&mut client, "fills")? - before,
            (CALLS * options.rounds()) as f64,
        )?;
        let overhead = Figure::new(
            format!("a fill, more than the function itself, {name}"),
            &cold.minus(&bare),
            Unit::Us,
        );
        if size != GOAL_SIZE {
            figures.push(overhead);
            continue;
        }
        figures.push(Figure::new(
            format!("the function itself, {name}"),
            &bare,
            Unit::Us,
        ));
        figures.push(overhead.goal(Goal::AtMost(15.0)));
    }
    Ok(vec![Section::new("Fills, in one backend", figures)])
}
