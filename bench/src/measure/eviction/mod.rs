//! The eviction policy by itself: which share of the requests it answers, beside other policies, on requests that are made up.
//!
//! Each policy gets the same requests and has room for 1 % or 10 % of the keys; what is not there is brought in at once. The
//! first tenth of the requests fills the cache and does not count. A round is another seed; nothing depends on the machine.

mod moka;
mod product;
mod queue;
mod random;
mod workload;

use std::fmt::Write as _;

use anyhow::Result;

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::plot::Plot;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use workload::{Course, KEYS, WORKLOADS, Workload};

/// A cache of keys with a policy.
trait Cache {
    /// Asks for a key, and brings it in if it is not there. Whether it was.
    fn request(&mut self, key: u64) -> bool;
}

/// A policy: its name, and a cache with room for so many keys.
type Policy = (&'static str, fn(usize) -> Box<dyn Cache>);

/// How many partitions the product's cache has in the figures with goals; each evicts for itself.
const PARTITIONS: usize = 8;

/// The first is what the others are compared with.
const POLICIES: [Policy; 5] = [
    ("pg_query_cache, 8 partitions", |room| {
        Box::new(product::Partitions::new(PARTITIONS, room))
    }),
    ("pg_query_cache, 1 partition", |room| {
        Box::new(product::Partitions::new(1, room))
    }),
    ("W-TinyLFU (moka)", |room| Box::new(moka::Moka::new(room))),
    ("LRU", |room| Box::new(queue::Queue::lru(room))),
    ("FIFO", |room| Box::new(queue::Queue::fifo(room))),
];
const TINY_LFU: usize = 2;
const LRU: usize = 3;

/// The shares of the keys that there is room for: per cent, and the plot's name.
const ROOMS: [(usize, &str); 2] = [(1, "eviction-1"), (10, "eviction-10")];

/// The hit ratios of all policies on one workload with one size of cache, in per cent.
struct Cell {
    workload: &'static Workload,
    room: usize,
    ratios: [Sample; POLICIES.len()],
}

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let seeds = if options.quick { 1 } else { 3 };
    let mut cells = Vec::new();
    for workload in &WORKLOADS {
        let requests: Vec<Vec<u64>> = (1..=seeds).map(workload.requests).collect();
        for (room, _) in ROOMS {
            let ratios = in_turns(requests.len(), |policy, seed| {
                let (_, new) = POLICIES[policy];
                Ok(hit_ratio(&mut *new(KEYS * room / 100), &requests[seed]))
            })?;
            cells.push(Cell {
                workload,
                room,
                ratios,
            });
        }
    }
    let section = Section::new(
        "Hit ratio of the eviction policy, in points more than others have",
        figures(&cells, options),
    )
    .note(table(&cells))
    .note(
        "Where shifts come more often the goal is missed: LRU takes in what is new at the first request, whatever it drives out. A \
         policy that waits for the second, which is what keeps scans out, has one miss more for each new key, and has to earn that \
         back before the next shift. The averages are without these, of which W-TinyLFU answers far fewer.",
    );
    Ok(vec![ROOMS.into_iter().fold(section, |section, room| {
        section.plot(plot(&cells, room))
    })])
}

/// The share of the requests after the first tenth that a cache answers, in per cent.
fn hit_ratio(cache: &mut dyn Cache, requests: &[u64]) -> f64 {
    let (warming, counted) = requests.split_at(requests.len() / 10);
    for key in warming {
        cache.request(*key);
    }
    let hits = counted.iter().filter(|key| cache.request(**key)).count();
    100.0 * hits as f64 / counted.len() as f64
}

fn figures(cells: &[Cell], options: &Options) -> Vec<Figure> {
    let without_hasty = || {
        cells
            .iter()
            .filter(|cell| cell.workload.course != Course::Hasty)
    };
    // A short run looks for what has become worse; that these are missed is known.
    let mut figures: Vec<Figure> = cells
        .iter()
        .filter(|cell| !options.quick || cell.workload.course != Course::Hasty)
        .map(|cell| {
            let more = cell.ratios[0].minus(&cell.ratios[LRU]);
            let what = format!("{}, cache {} %: than LRU", cell.workload.name, cell.room);
            Figure::new(what, &more, Unit::Points).goal(Goal::AtLeast(0.0))
        })
        .collect();
    let steady = without_hasty().filter(|cell| cell.workload.course == Course::Steady);
    figures.extend([
        over_tiny_lfu("average", without_hasty()),
        over_tiny_lfu("average of what does not shift", steady),
    ]);
    figures
}

/// What the product has more than W-TinyLFU on average.
fn over_tiny_lfu<'a>(what: &str, cells: impl Iterator<Item = &'a Cell>) -> Figure {
    let more: Vec<Sample> = cells
        .map(|cell| cell.ratios[0].minus(&cell.ratios[TINY_LFU]))
        .collect();
    Figure::new(
        format!("{what}: than W-TinyLFU (moka)"),
        &Sample::average(&more),
        Unit::Points,
    )
    .goal(Goal::AtLeast(-1.0))
}

/// All hit ratios, a row per workload and size.
fn table(cells: &[Cell]) -> String {
    let names = POLICIES.map(|(name, _)| name);
    let mut text = format!(
        "| hit ratio in per cent, median of the seeds | cache | {} |\n|---|--:|{}",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    for cell in cells {
        let ratios = cell
            .ratios
            .each_ref()
            .map(|ratio| format!("{:.2}", ratio.spread().median));
        let _ = write!(
            text,
            "\n| {} | {} % | {} |",
            cell.workload.name,
            cell.room,
            ratios.join(" | ")
        );
    }
    text
}

/// The hit ratios with one size of cache.
fn plot(cells: &[Cell], (room, name): (usize, &'static str)) -> Plot {
    let plot = Plot::bars(
        name,
        format!("Hit ratio with room for {room} % of the keys"),
        POLICIES.map(|(name, _)| name),
        "per cent of the requests",
    );
    cells
        .iter()
        .filter(|cell| cell.room == room)
        .fold(plot, |plot, cell| {
            let ratios = cell.ratios.iter().map(|ratio| ratio.spread().median);
            plot.group(cell.workload.name, ratios.collect())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every policy answers all requests for as many keys as there is room for, and none for keys that never come back.
    #[test]
    fn a_cache_holds_what_there_is_room_for() {
        let all: Vec<u64> = (0..50).cycle().take(1000).collect();
        let once: Vec<u64> = (0..1000).collect();
        for (name, new) in POLICIES {
            if name != "pg_query_cache, 8 partitions" {
                assert_eq!(hit_ratio(&mut *new(50), &all), 100.0, "{name}");
            }
            assert_eq!(hit_ratio(&mut *new(50), &once), 0.0, "{name}");
        }
    }
}
