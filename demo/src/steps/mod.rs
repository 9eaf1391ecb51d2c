//! The steps of the tour, in order. Each one shows something, and checks it.

mod contacts;
mod crowd;
mod exact;
mod mixed;
mod overview;
mod restart;
mod speed;
mod tracking;

use std::time::Duration;

use anyhow::Result;
use console::style;

use crate::screen::Screen;
use crate::text;
use crate::tour::Tour;

type Step = fn(&mut Tour<'_>) -> Result<()>;

/// Title and work of each step.
pub(crate) const ALL: &[(&str, Step)] = &[
    ("One statement makes a function a cached one", speed::create),
    (
        "What is stored is watched: writes announce themselves through triggers",
        tracking::track,
    ),
    (
        "The first call computes, the next ones cost about as much as SELECT 1",
        speed::measure,
    ),
    ("One row changes: the next answer is new", exact::change),
    (
        "A rollback: nothing changes, nothing is forgotten",
        exact::rollback,
    ),
    (
        "A REPEATABLE READ reader keeps its view",
        exact::repeatable_read,
    ),
    (
        "50 clients ask for the same cold key: one of them computes",
        crowd::single_flight,
    ),
    (
        "Summaries of all enterprises and departments are kept in less than 100 MB",
        contacts::keep_all,
    ),
    (
        "A write concerns the summaries that it is in",
        contacts::keys,
    ),
    (
        "The largest enterprise: one computation for 50 clients, and what a hit saves",
        contacts::largest,
    ),
    (
        "A mixed load with 5 % writes: the same operations without the cache and with it",
        mixed::load,
    ),
    (
        "The server restarts: the cache is still warm",
        restart::warm,
    ),
    ("Looking at it", overview::look),
];

/// Statements to go on with; the last step tries them.
const TO_TRY: [&str; 3] = [
    "SELECT * FROM flights.airport_day_cached('JFK', '2013-12-25');",
    "SELECT invalidate_cache_table('flights.weather');",
    "SELECT pg_size_pretty(memory_bytes) AS used, hits, fills, invalidations FROM cache_stats();",
];

/// The last lines: the verdict, and how to go on.
pub(crate) fn farewell(screen: &Screen, took: Duration) {
    let (held, failed) = screen.tally();
    let took = text::time(took);
    if failed == 0 {
        screen.heading(&format!(
            "{} All {held} claims hold.  {took}",
            style("✓").green()
        ));
    } else {
        screen.heading(&format!(
            "{} {failed} of {} claims do not hold.  {took}",
            style("✗").red(),
            held + failed
        ));
    }
    screen.heading("How to go on");
    screen.say("The server is still there: make psql is a shell into it. Try");
    for statement in TO_TRY {
        screen.statement(statement);
    }
    screen.note("make demo builds it anew, make clean stops and removes it.");
}
