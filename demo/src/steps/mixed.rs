//! A mixed load, with the cache and without it: the same operations, in turns.
//!
//! Two questions are asked apart. *How much can the server do?* A fixed number of operations, as fast as the sessions can. *How long does
//! one wait, and what does it cost?* The same arrivals for both sides, at half the rate that the server bears without the
//! cache; latency counts from the moment an operation was due, and the processor time is that of all processes of the server.
//!
//! The cache's figures are those of one that has been in use: what is wanted most is warmed, and before each of its turns it runs other
//! operations that are not measured, because the writes of the side without the cache have invalidated entries, too.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::counters::Counters;
use crate::load::{ALL, Keys, Latency, Outcome, Session, arrivals, run};
use crate::steps::contacts;
use crate::text;
use crate::tour::{Tour, ask, session};

/// So many sessions.
const SESSIONS: usize = 16;

/// Each side is measured so often, in each of the two ways.
const TURNS: u64 = 2;

/// Operations of a turn as fast as the sessions can; of one at a given rate; and of those before that are not measured.
const FAST: usize = 600;
const PACED: usize = 500;
const BEFORE: usize = 600;

/// The rate, as a share of what the server bears without the cache.
const RATE: f64 = 0.5;

/// Of the keys of each sort so many are warmed: those that are wanted most.
const WARM: f64 = 0.25;

/// Answers of each sort that are compared at the end.
const COMPARED: usize = 10;

/// What is claimed: per cent of the calls that are hits, of the database's processor time that is saved, and of the time that the median
/// call of an expert's sessions and of a product takes less.
const HITS: f64 = 70.0;
const SAVED: f64 = 50.0;
const FASTER: [(&str, f64); 2] = [
    ("get_expert_sessions_with_stats", 90.0),
    ("get_product_performance", 85.0),
];

/// And how many times as much the server bears.
const GAIN: f64 = 2.0;

/// After so long a session hands over what it has counted at the end of its next transaction.
const HANDED_OVER: Duration = Duration::from_millis(11);

/// One side, its turns added up.
#[derive(Clone, Debug)]
struct Side {
    operations: usize,
    took: Duration,
    processor: Duration,
    latency: Vec<Latency>,
}

impl Side {
    fn new() -> Result<Self> {
        Ok(Self {
            operations: 0,
            took: Duration::ZERO,
            processor: Duration::ZERO,
            latency: ALL.iter().map(|_| Latency::new()).collect::<Result<_>>()?,
        })
    }

    fn add(&mut self, operations: usize, processor: Duration, outcome: &Outcome) -> Result<()> {
        self.operations += operations;
        self.processor += processor;
        self.took += outcome.took;
        for (all, one) in self.latency.iter_mut().zip(&outcome.latency) {
            all.add(one)?;
        }
        Ok(())
    }

    fn per_second(&self) -> f64 {
        self.operations as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Processor time of the server for one operation.
    fn cost(&self) -> Duration {
        self.processor / u32::try_from(self.operations.max(1)).unwrap_or(u32::MAX)
    }

    /// Latencies of calls, or of writes.
    fn all(&self, writes: bool) -> Result<Latency> {
        let mut all = Latency::new()?;
        for (one, kind) in self.latency.iter().zip(ALL) {
            if kind.writes() == writes {
                all.add(one)?;
            }
        }
        Ok(all)
    }
}

/// Without the cache and with it.
struct Sides {
    without: Side,
    with: Side,
    /// For each sort of operation its calls with the cache, as the cache has counted them.
    counted: Vec<Counters>,
}

impl Sides {
    /// Per cent of the server's processor time.
    fn saved(&self) -> f64 {
        saved(self.without.cost(), self.with.cost())
    }

    /// How many times as much is done in the same time.
    fn gain(&self) -> f64 {
        self.with.per_second() / self.without.per_second().max(1e-9)
    }
}

/// The load, its figures, and what is claimed of them.
pub(crate) fn load(tour: &mut Tour<'_>) -> Result<()> {
    let progress = tour.screen.progress("connecting");
    let mut sessions = (0..SESSIONS)
        .map(|_| Session::new(session(tour.cluster)?))
        .collect::<Result<Vec<_>>>()?;
    let keys = Keys::read(&mut tour.client)?;
    progress.now("warming what is wanted most");
    run(&mut sessions, &keys.wanted_most(WARM), None)?;

    progress.now("as fast as it goes");
    let fast = compare(tour, &mut sessions, &keys, FAST, None)?;
    let rate = RATE * fast.without.per_second();
    progress.now(format!("{rate:.0} operations per second"));
    let paced = compare(tour, &mut sessions, &keys, PACED, Some(rate))?;
    drop(progress);

    tour.screen.say(format!(
        "{SESSIONS} sessions. One operation in twenty is a write to what the calls depend on; the key that is wanted"
    ));
    tour.screen
        .say("second is wanted half as often as the first, the third a third as often, and so on.");
    by_kind(tour, &paced);
    as_a_whole(tour, &fast, &paced, rate)?;
    if contacts::is_full_size(tour)? {
        claims(tour, &fast, &paced);
    } else {
        tour.screen
            .note("The sample is a small one: its functions are quick without a cache, too.");
    }
    all_right(tour, &keys)
}

/// Both sides in turns: the same operations, at the same moments if there is a rate.
fn compare(
    tour: &mut Tour<'_>,
    sessions: &mut [Session],
    keys: &Keys,
    count: usize,
    rate: Option<f64>,
) -> Result<Sides> {
    let mut sides = Sides {
        without: Side::new()?,
        with: Side::new()?,
        counted: vec![Counters::default(); ALL.len()],
    };
    for turn in 0..TURNS {
        // The two ways to measure have seeds of their own, and so has what comes before.
        let seed = 10 * turn + u64::from(rate.is_some());
        let operations = keys.draw(count, seed)?;
        let due = rate
            .map(|rate| arrivals(operations.len(), rate, seed))
            .transpose()?;
        let order = if turn % 2 == 0 {
            [true, false]
        } else {
            [false, true]
        };
        for enabled in order {
            switch(sessions, enabled)?;
            if enabled {
                run(sessions, &keys.draw(BEFORE, 1000 + seed)?, None)?;
            }
            let counted = enabled.then(|| settled(tour, sessions)).transpose()?;
            let before = tour.cluster.processor_time()?;
            let outcome = run(sessions, &operations, due.as_deref())?;
            let processor = tour.cluster.processor_time()? - before;
            if let Some(before) = counted {
                let after = settled(tour, sessions)?;
                for ((sum, after), before) in sides.counted.iter_mut().zip(after).zip(before) {
                    *sum = sum.plus(after.minus(before));
                }
            }
            let side = if enabled {
                &mut sides.with
            } else {
                &mut sides.without
            };
            side.add(operations.len(), processor, &outcome)?;
        }
    }
    Ok(sides)
}

fn switch(sessions: &mut [Session], enabled: bool) -> Result<()> {
    for session in sessions {
        session.execute(&format!("SET pg_query_cache.enabled = {enabled}"))?;
    }
    Ok(())
}

/// For each sort of operation its counters, with all that the sessions have counted so far: they hand it over in batches, at the latest
/// at the end of their first transaction after ten milliseconds.
fn settled(tour: &mut Tour<'_>, sessions: &mut [Session]) -> Result<Vec<Counters>> {
    thread::sleep(HANDED_OVER);
    for session in sessions {
        session.execute("SELECT 1")?;
    }
    ALL.iter()
        .map(|kind| match kind.function() {
            Some(function) => Counters::of(&mut tour.client, &format!("{function}_cached")),
            None => Ok(Counters::default()),
        })
        .collect()
}

/// A line for each sort of operation.
fn by_kind(tour: &Tour<'_>, paced: &Sides) {
    let header = ["", "of 1,000", "without", "with the cache", "", "hits"].map(str::to_owned);
    let mut rows = Vec::new();
    for (number, kind) in ALL.iter().enumerate() {
        let (before, after) = (
            paced.without.latency[number].percentile(50.0),
            paced.with.latency[number].percentile(50.0),
        );
        let counted = paced.counted[number];
        let hits = if kind.writes() {
            String::new()
        } else {
            percent(share(counted.hits, counted.calls()))
        };
        rows.push(vec![
            kind.label.to_owned(),
            kind.share.to_string(),
            text::time(before),
            text::time(after),
            change(before, after),
            hits,
        ]);
    }
    tour.screen.table(&header, &rows);
    tour.screen
        .note("Medians of what a client waits, from the moment at which an operation is due.");
}

/// A line for each figure of the whole.
fn as_a_whole(tour: &Tour<'_>, fast: &Sides, paced: &Sides, rate: f64) -> Result<()> {
    let header = ["", "without the cache", "with the cache", ""].map(str::to_owned);
    let mut rows = vec![vec![
        "as fast as it goes".to_owned(),
        format!("{:.0} per second", fast.without.per_second()),
        format!("{:.0} per second", fast.with.per_second()),
        format!("{:.1} times", fast.gain()),
    ]];
    let shown: [(&str, bool, &[f64]); 2] = [
        ("calls", false, &[50.0, 95.0, 99.0]),
        ("writes", true, &[50.0, 95.0]),
    ];
    for (what, writes, percentiles) in shown {
        let (without, with) = (paced.without.all(writes)?, paced.with.all(writes)?);
        for percentile in percentiles {
            let percentile = *percentile;
            let (without, with) = (without.percentile(percentile), with.percentile(percentile));
            rows.push(vec![
                format!("{rate:.0} per second: {what}, p{percentile:.0}"),
                text::time(without),
                text::time(with),
                change(without, with),
            ]);
        }
    }
    rows.push(vec![
        "the server's processor time, of each operation".to_owned(),
        text::time(paced.without.cost()),
        text::time(paced.with.cost()),
        change(paced.without.cost(), paced.with.cost()),
    ]);
    tour.screen.table(&header, &rows);
    Ok(())
}

/// What is claimed.
fn claims(tour: &Tour<'_>, fast: &Sides, paced: &Sides) {
    let counted = paced
        .counted
        .iter()
        .fold(Counters::default(), |sum, one| sum.plus(*one));
    let hits = share(counted.hits, counted.calls());
    let mut claims = vec![
        (
            format!("{} of the calls are hits", percent(hits)),
            hits,
            HITS,
        ),
        (
            format!(
                "{} of the database's processor time is saved",
                percent(paced.saved())
            ),
            paced.saved(),
            SAVED,
        ),
    ];
    for (function, least) in FASTER {
        let kinds = ALL.iter().enumerate();
        for (number, kind) in kinds.filter(|(_, kind)| kind.function() == Some(function)) {
            let faster = saved(
                paced.without.latency[number].percentile(50.0),
                paced.with.latency[number].percentile(50.0),
            );
            claims.push((
                format!("{}: {} faster", kind.label, percent(faster)),
                faster,
                least,
            ));
        }
    }
    for (claim, found, least) in claims {
        tour.screen.check(
            claim,
            found >= least,
            format!("at least {least:.0} %"),
            percent(found),
        );
    }
    tour.screen.check(
        format!("the server bears {:.1} times as much", fast.gain()),
        fast.gain() >= GAIN,
        format!("at least {GAIN:.1} times"),
        format!("{:.1} times", fast.gain()),
    );
}

/// What the calls are answered after all that, compared with the functions.
fn all_right(tour: &mut Tour<'_>, keys: &Keys) -> Result<()> {
    let (mut compared, mut equal) = (0, 0);
    let progress = tour.screen.progress("comparing answers");
    for operation in keys.first(COMPARED) {
        if let Some(call) = operation.call() {
            compared += 1;
            equal += usize::from(ask(&mut tour.client, &call.comparison())? == "t");
        }
    }
    drop(progress);
    tour.screen.expect(
        "then the answers that are wanted most are compared with the functions' own: all equal",
        compared,
        equal,
    );
    Ok(())
}

/// By how many per cent the second is less than the first.
fn saved(before: Duration, after: Duration) -> f64 {
    100.0 * (1.0 - after.as_secs_f64() / before.as_secs_f64().max(1e-9))
}

/// The same in words.
fn change(before: Duration, after: Duration) -> String {
    let less = saved(before, after);
    let direction = if less < 0.0 { "more" } else { "less" };
    format!("{} {direction}", percent(less.abs()))
}

/// So many of all, in per cent.
fn share(some: i64, all: i64) -> f64 {
    100.0 * some as f64 / all.max(1) as f64
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_direction() {
        let change =
            |before, after| change(Duration::from_millis(before), Duration::from_millis(after));
        assert_eq!(change(200, 20), "90.0 % less");
        assert_eq!(change(200, 250), "25.0 % more");
    }

    #[test]
    fn turns_are_added_up() -> Result<()> {
        let mut side = Side::new()?;
        let outcome = Outcome {
            took: Duration::from_secs(2),
            latency: Vec::new(),
        };
        for _ in 0..2 {
            side.add(500, Duration::from_millis(1500), &outcome)?;
        }
        assert_eq!(side.per_second(), 250.0);
        assert_eq!(side.cost(), Duration::from_millis(3));
        Ok(())
    }
}
