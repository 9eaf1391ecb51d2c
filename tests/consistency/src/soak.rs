//! A soak: the classical cache as a short trial, the same workload without any cache, then the product for long; compared.
//!
//! A deadlock or a serialization failure of the product's run is the cache's doing
//!
//! * if its cycle holds anything but rows of the writers' own tables ([`invariants::ordinary_deadlock`]): none is allowed;
//! * or if there are more of them, in proportion to the transactions tried, than chance allows ([`more_than_chance`]).
//!
//! [`invariants::ordinary_deadlock`]: crate::invariants::ordinary_deadlock

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::options::{Cache, Options};
use crate::report::Report;
use crate::run;

/// The run without a cache takes this part of the time.
const REFERENCE: u64 = 4;

/// How long the classical cache has to fail.
const TRIAL_SECONDS: u64 = 15;

/// As many stale answers prove that the oracle sees; that such a cache does not know who asks is seen in the first second.
const TRIAL_DIFFERENCES: u64 = 20;

/// The least share of hits.
const HIT_RATE: f64 = 0.3;

/// A soak that takes at least so long …
const LONG: u64 = 1200;

/// … has to make so many comparisons.
const COMPARISONS_OF_LONG: u64 = 1_000_000;

/// Seconds between two restarts, about.
const RESTART_EVERY: u64 = 200;

/// The three runs.
#[derive(Debug, Serialize)]
pub struct Soak {
    /// The classical cache.
    pub trial: Report,
    /// No cache.
    pub reference: Report,
    /// The cache that `options` named.
    pub product: Report,
}

/// Runs all three.
pub fn soak(options: &Options) -> Result<Soak> {
    let restarts = match options.restarts {
        0 => (options.seconds / RESTART_EVERY).max(2),
        given => given,
    };
    let trial = run(&Options {
        cache: Cache::Classical,
        seconds: TRIAL_SECONDS,
        max_differences: u64::MAX,
        min_comparisons: 0,
        restarts: 0,
        ..options.clone()
    })?;
    let reference = run(&Options {
        cache: Cache::None,
        seconds: (options.seconds / REFERENCE).max(1),
        min_comparisons: 0,
        restarts: 1,
        ..options.clone()
    })?;
    let product = run(&Options {
        restarts,
        ..options.clone()
    })?;
    Ok(Soak {
        trial,
        reference,
        product,
    })
}

/// Whether `count` events in `tried` are more than a rate explains that brought `other` in `other_tried`: more than four standard
/// deviations of the difference between two Poisson numbers above it. One that was not seen in the reference counts as
/// seen once there.
pub fn more_than_chance(count: u64, tried: u64, other: u64, other_tried: u64) -> bool {
    let ratio = tried as f64 / other_tried.max(1) as f64;
    let expected = ratio * other.max(1) as f64;
    count as f64 > expected + 4.0 * (expected * (1.0 + ratio)).sqrt()
}

/// Events of readers, writers.
type Events = fn(&Report) -> (u64, u64);

/// What is compared.
const EVENTS: [(&str, Events); 2] = [
    ("deadlocks", |report| report.deadlocks),
    ("serialization failures", |report| {
        report.serialization_failures
    }),
];

impl Soak {
    /// Everything that was wrong, in words; empty if the soak passes.
    pub fn failures(&self) -> Vec<String> {
        let (product, reference) = (&self.product, &self.reference);
        let mut failures = product.failures();
        if self.trial.stale() < TRIAL_DIFFERENCES {
            failures.push("the classical cache passed: the oracle is blind".to_owned());
        }
        if reference.differences > 0 {
            failures.push("the oracle sees differences where no cache is".to_owned());
        }
        for report in [reference, product] {
            if !report.never_committed.is_empty() {
                let names = report.never_committed.join(", ");
                failures.push(format!("{}: never committed: {names}", report.cache));
            }
        }
        if product.hit_rate <= HIT_RATE {
            failures.push(format!("only {:.1} % hits", 100.0 * product.hit_rate));
        }
        if product.seconds >= LONG as f64 && product.comparisons < COMPARISONS_OF_LONG {
            failures.push(format!("only {} comparisons", product.comparisons));
        }
        for (name, count, tried, other, other_tried) in self.events() {
            if more_than_chance(count, tried, other, other_tried) {
                failures.push(format!(
                    "{name}: {count} in {tried} transactions, without the cache {other} in {other_tried}"
                ));
            }
        }
        failures
    }

    /// Name, number and transactions with the cache, the same without.
    fn events(&self) -> impl Iterator<Item = (String, u64, u64, u64, u64)> {
        let (with, without) = (&self.product, &self.reference);
        EVENTS.iter().flat_map(move |(name, of)| {
            let ((readers, writers), (other_readers, other_writers)) = (of(with), of(without));
            [
                (
                    format!("{name} of readers"),
                    readers,
                    with.transactions.0,
                    other_readers,
                    without.transactions.0,
                ),
                (
                    format!("{name} of writers"),
                    writers,
                    with.transactions.1,
                    other_writers,
                    without.transactions.1,
                ),
            ]
        })
    }
}

fn per_thousand(count: u64, of: u64) -> f64 {
    1000.0 * count as f64 / of.max(1) as f64
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== the classical cache\n{}", self.trial)?;
        writeln!(f, "== without a cache\n{}", self.reference)?;
        writeln!(f, "== {}\n{}", self.product.cache, self.product)?;
        let product = &self.product;
        writeln!(
            f,
            "== all in all\n\
             comparisons      {} in {:.0} s, {:.1} % hits\n\
             differences      {} (classical cache: {} in {} comparisons, {} of them stale answers)",
            product.comparisons,
            product.seconds,
            100.0 * product.hit_rate,
            product.differences,
            self.trial.differences,
            self.trial.comparisons,
            self.trial.stale(),
        )?;
        for (name, count, tried, other, other_tried) in self.events() {
            writeln!(
                f,
                "{name:34} {count:6} in {tried:8} transactions ({:.3} in 1000), without the cache {other:6} in {other_tried:8} ({:.3})",
                per_thousand(count, tried),
                per_thousand(other, other_tried),
            )?;
        }
        writeln!(
            f,
            "deadlocks over other things than the writers' own rows: {}, without the cache {}",
            product.foreign_deadlocks, self.reference.foreign_deadlocks
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_stays_the_same_is_chance() {
        assert!(!more_than_chance(40, 4000, 10, 1000));
        assert!(!more_than_chance(60, 4000, 10, 1000));
        assert!(!more_than_chance(0, 4000, 0, 1000));
        assert!(!more_than_chance(4, 4000, 0, 1000));
    }

    #[test]
    fn a_rate_that_grows_is_none() {
        assert!(more_than_chance(120, 4000, 10, 1000));
        assert!(more_than_chance(40, 4000, 0, 1000));
        assert!(more_than_chance(20, 1000, 1, 1000));
    }

    #[test]
    fn each_fault_is_named() {
        let report = |differences| Report {
            differences,
            hit_rate: 0.5,
            ..Report::default()
        };
        let passing = || Soak {
            trial: Report {
                by_subject: [("beacon".to_owned(), TRIAL_DIFFERENCES)].into(),
                ..report(TRIAL_DIFFERENCES + 1)
            },
            reference: report(0),
            product: report(0),
        };
        let faults: [fn(&mut Soak); 8] = [
            |soak| soak.trial.by_subject = [("secrets_of".to_owned(), 21)].into(),
            |soak| soak.reference.differences = 1,
            |soak| soak.reference.never_committed = vec!["TRUNCATE".to_owned()],
            |soak| soak.product.differences = 1,
            |soak| soak.product.foreign_deadlocks = 1,
            |soak| soak.product.hit_rate = 0.3,
            |soak| soak.product.seconds = 1200.0,
            |soak| soak.product.deadlocks = (50, 0),
        ];
        assert_eq!(passing().failures(), Vec::<String>::new());
        for fault in faults {
            let mut soak = passing();
            fault(&mut soak);
            assert_eq!(soak.failures().len(), 1);
        }
    }
}
