//! The oracle on trial, without the extension: it finds the faults of the usual table cache, and none where no cache is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_consistency::{Cache, Options, run};

/// A run ends when it has compared enough; on a busy machine that takes its time.
const PATIENCE_S: u64 = 900;

#[test]
fn the_usual_table_cache_is_caught() {
    let options = Options {
        seconds: PATIENCE_S,
        cache: Cache::Classical,
        max_differences: 200,
        ..Options::default()
    };
    let report = run(&options).unwrap();
    println!("{report}");
    assert!(report.stale() >= 20, "the oracle is blind");
    assert!(report.hits > 0, "nothing was cached");
    assert!(!report.failures().is_empty());
}

#[test]
fn without_a_cache_nothing_differs() {
    let options = Options {
        seconds: PATIENCE_S,
        cache: Cache::None,
        min_comparisons: 40_000,
        ..Options::default()
    };
    let report = run(&options).unwrap();
    println!("{report}");
    assert_eq!(report.failures(), Vec::<String>::new());
    assert_eq!(report.never_committed, Vec::<String>::new());
    assert!(report.repeated > 1000 && report.acknowledged > 1000);
    assert_eq!(report.hits, 0);
}
