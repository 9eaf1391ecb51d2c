//! Tables are tracked: by a statement, or by the background worker after the first call.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::counters::Answer;
use crate::text;
use crate::tour::Tour;

/// How long the background worker may take to add its triggers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The flights by hand, the marketplace by itself.
pub(crate) fn track(tour: &mut Tour<'_>) -> Result<()> {
    for arguments in [
        "'flights.flights', '{carrier,dest,flight_date}'",
        "'flights.weather'",
        "'flights.airlines'",
        "'flights.planes'",
    ] {
        tour.shown(&format!("SELECT cache_track_table({arguments})"))?;
    }
    let tracked = "SELECT count(DISTINCT tgrelid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid \
                   WHERE relnamespace = '{}'::regnamespace AND NOT tgisinternal";
    let by_hand = crate::tour::ask(&mut tour.client, &tracked.replace("{}", "flights"))?;
    tour.screen.expect(
        "the four tables the functions read have their triggers",
        "4",
        &by_hand,
    );

    tour.screen.say(
        "Whoever says nothing is served too: after the first call the background worker does it.",
    );
    let (products, experts): (Vec<_>, Vec<_>) = tour
        .calls
        .iter()
        .filter(|call| !call.function.starts_with("flights.") && call.arguments != "NULL")
        .cloned()
        .partition(|call| call.function == "get_product_performance");
    for (call, tables) in products.iter().zip(["2"]).chain(experts.iter().zip(["6"])) {
        let sql = call.statement(&call.cached());
        let start = Instant::now();
        let (_, first) = tour.observed(&sql)?;
        let mut last = first;
        let progress = tour.screen.progress("waiting for the background worker");
        while last != Answer::Hit && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            last = tour.observed(&sql)?.1;
        }
        drop(progress);
        let took = text::time(start.elapsed());
        tour.screen.check(
            format!("{}: first call {first}, after {took} {last}", call.label),
            last == Answer::Hit,
            format!("a hit within {}", text::time(PATIENCE)),
            last,
        );
        let found = crate::tour::ask(&mut tour.client, &tracked.replace("{}", "marketplace"))?;
        tour.screen.expect(
            format!("{tables} tables of the marketplace have triggers now"),
            tables,
            &found,
        );
    }
    Ok(())
}
