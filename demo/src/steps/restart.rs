//! A restart in between.

use anyhow::{Context, Result};
use pg_query_cache_harness::Mode;

use crate::counters::{Answer, Counters};
use crate::text;
use crate::tour::{Tour, ask, session, timed};

/// The server stops and starts; what was stored is good.
pub(crate) fn warm(tour: &mut Tour<'_>) -> Result<()> {
    let call = tour
        .calls
        .iter()
        .find(|call| call.arguments == "NULL")
        .cloned()
        .context("there is no slow call")?;
    let sql = call.statement(&call.cached());
    let (answer, _) = tour.observed(&sql)?;
    let (_, own) = timed(|| ask(&mut tour.client, &call.statement(&call.base())))?;

    let progress = tour.screen.progress("restarting");
    let ((), took) = timed(|| tour.cluster.restart(Mode::Fast))?;
    tour.client = session(tour.cluster)?;
    drop(progress);
    tour.screen.done("pg_ctl restart -m fast", took);

    let before = Counters::read(&mut tour.client)?;
    let (first, took) = timed(|| ask(&mut tour.client, &sql))?;
    let added = before.since(&mut tour.client, |added| added.calls() > 0)?;
    tour.screen.expect(
        format!(
            "{}: the first call of the new server is a hit, {} instead of {}",
            call.label,
            text::time(took),
            text::time(own)
        ),
        Answer::Hit,
        Answer::from(added),
    );
    tour.screen.check(
        "with the same answer",
        first == answer,
        "the answer from before",
        "another one",
    );
    let same = ask(&mut tour.client, &call.comparison())?;
    tour.screen
        .expect("which is the function's own", "t", &same);
    Ok(())
}
