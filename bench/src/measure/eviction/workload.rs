//! Requests that are made up, the same for a seed.

use super::random::{Random, Zipf};

/// How many different keys a workload asks for, those of scans not counted.
pub(super) const KEYS: usize = 100_000;
const REQUESTS: usize = 1_000_000;
/// Keys from here on are asked for once.
const SCANNED: u64 = 1 << 40;

/// How what is asked for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Not at all.
    Steady,
    /// In the time in which several times as many keys are asked for as there is room for.
    Shifting,
    /// Before a policy could know what is asked for more than once.
    Hasty,
}

/// A kind of requests.
pub(super) struct Workload {
    /// What it is called.
    pub(super) name: &'static str,
    /// How it changes.
    pub(super) course: Course,
    /// The keys in the order in which they are asked for, of a seed.
    pub(super) requests: fn(u64) -> Vec<u64>,
}

/// All of them.
pub(super) const WORKLOADS: [Workload; 11] = [
    Workload {
        name: "Zipf 0.8",
        course: Course::Steady,
        requests: |seed| zipf(0.8, seed, |rank, _| rank),
    },
    Workload {
        name: "Zipf 1.0",
        course: Course::Steady,
        requests: |seed| zipf(1.0, seed, |rank, _| rank),
    },
    Workload {
        name: "Zipf 1.2",
        course: Course::Steady,
        requests: |seed| zipf(1.2, seed, |rank, _| rank),
    },
    Workload {
        name: "scans in between",
        course: Course::Steady,
        requests: |seed| polluted(seed, |at| at % 30_000 >= 20_000),
    },
    Workload {
        name: "every third never again",
        course: Course::Steady,
        requests: |seed| polluted(seed, |at| at % 3 == 2),
    },
    Workload {
        name: "loop",
        course: Course::Steady,
        requests: |seed| (seed..).take(REQUESTS).map(|at| at % KEYS as u64).collect(),
    },
    Workload {
        name: "sudden shifts",
        course: Course::Shifting,
        requests: |seed| shifts(seed, |at| at / 200_000),
    },
    // A key begins as the hottest of all and slowly sinks, as news do.
    Workload {
        name: "keys that fade",
        course: Course::Shifting,
        requests: |seed| zipf(1.0, seed, |rank, at| newest(at) + KEYS as u64 - rank),
    },
    // A key rises slowly, becomes the hottest of all, and is over: the worst that can happen to who counts.
    Workload {
        name: "keys that rise and end",
        course: Course::Shifting,
        requests: |seed| zipf(1.0, seed, |rank, at| newest(at) + rank),
    },
    Workload {
        name: "shifts twice as often",
        course: Course::Hasty,
        requests: |seed| shifts(seed, |at| at / 100_000),
    },
    Workload {
        name: "shifts four times as often",
        course: Course::Hasty,
        requests: |seed| shifts(seed, |at| at / 50_000),
    },
];

/// The key that is new with a request; the same for twenty requests.
fn newest(at: usize) -> u64 {
    at as u64 / 20
}

/// Ranks after Zipf, made keys by their rank and the number of the request.
fn zipf(exponent: f64, seed: u64, key: fn(u64, usize) -> u64) -> Vec<u64> {
    let (zipf, mut random) = (Zipf::new(KEYS, exponent), Random::new(seed));
    (0..REQUESTS)
        .map(|at| key(zipf.draw(&mut random), at))
        .collect()
}

/// Zipf 1.0 whose ranks move to other keys, all at once, with each shift; `shift` counts them.
fn shifts(seed: u64, shift: fn(usize) -> usize) -> Vec<u64> {
    let requests = zipf(1.0, seed, |rank, _| rank);
    let shifted = |(at, rank)| rank + shift(at) as u64 * 7919;
    requests.into_iter().enumerate().map(shifted).collect()
}

/// Zipf 1.0, with some of the requests for keys that are asked for once.
fn polluted(seed: u64, once: fn(usize) -> bool) -> Vec<u64> {
    let mut requests = zipf(1.0, seed, |rank, _| rank);
    for (at, key) in requests.iter_mut().enumerate() {
        if once(at) {
            *key = SCANNED + at as u64;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn requests(name: &str) -> Vec<u64> {
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.map_or(Vec::new(), |workload| (workload.requests)(1))
    }

    fn counted(requests: &[u64]) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        for key in requests {
            *counts.entry(*key).or_default() += 1;
        }
        counts
    }

    fn hottest(requests: &[u64]) -> u64 {
        let counts = counted(requests);
        counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map_or(0, |(key, _)| key)
    }

    #[test]
    fn a_seed_gives_the_same_requests_again_and_another_gives_others() {
        for Workload { name, requests, .. } in WORKLOADS {
            let [once, again, other] = [1, 1, 2].map(requests);
            assert_eq!(once.len(), REQUESTS, "{name}");
            assert!(once == again && once != other, "{name}");
        }
    }

    #[test]
    fn a_third_of_the_polluted_requests_is_for_keys_that_never_come_again() {
        for name in ["scans in between", "every third never again"] {
            let counts = counted(&requests(name));
            let (scanned, others): (Vec<_>, Vec<_>) =
                counts.into_iter().partition(|(key, _)| *key >= SCANNED);
            assert!(scanned.iter().all(|(_, count)| *count == 1), "{name}");
            assert!((330_000..=333_334).contains(&scanned.len()), "{name}");
            assert!(others.len() <= KEYS, "{name}");
        }
    }

    #[test]
    fn a_loop_asks_for_each_key_as_often_as_for_the_others() {
        let counts = counted(&requests("loop"));
        assert_eq!(counts.len(), KEYS);
        assert!(counts.values().all(|count| *count == REQUESTS / KEYS));
    }

    #[test]
    fn the_hottest_key_changes_as_it_is_called() {
        let sudden = requests("sudden shifts");
        let phases: Vec<u64> = sudden.chunks(200_000).map(hottest).collect();
        assert_eq!(phases, [0, 7919, 2 * 7919, 3 * 7919, 4 * 7919]);

        // Each key as it is asked for before it is the newest, and from then on.
        for (name, sinks) in [("keys that fade", true), ("keys that rise and end", false)] {
            let (mut before, mut after) = (0, 0);
            for (at, key) in requests(name).into_iter().enumerate() {
                let key = if sinks { key - KEYS as u64 } else { key };
                // Of the keys that are the newest in the middle part.
                if (20_000..30_000).contains(&key) {
                    *if newest(at) < key {
                        &mut before
                    } else {
                        &mut after
                    } += 1;
                }
            }
            let (few, many) = if sinks {
                (before, after)
            } else {
                (after, before)
            };
            // The twenty requests while a key is the newest count among the later ones.
            assert!(few < 20_000 && many > 130_000, "{name}: {before}, {after}");
        }
    }
}
