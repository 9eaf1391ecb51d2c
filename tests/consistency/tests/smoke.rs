//! The extension under the oracle: at least 100,000 comparisons, more than 30 % of them hits, no difference; on the way a restart and
//! a crash.
//!
//! Needs the extension installed into the PostgreSQL that `pg_config` names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_consistency::{Cache, Options, run};

/// A run ends when it has compared enough; on a busy machine that takes its time.
const PATIENCE_S: u64 = 900;

#[test]
fn a_cached_answer_is_the_functions_own() {
    let options = Options {
        seconds: PATIENCE_S,
        cache: Cache::Product,
        min_comparisons: 100_000,
        restarts: 2,
        verify: 0.02,
        ..Options::default()
    };
    let report = run(&options).unwrap();
    println!("{report}");
    assert_eq!(report.failures(), Vec::<String>::new());
    assert_eq!(report.never_committed, Vec::<String>::new());
    assert_eq!(report.restarts.len(), 2);
    assert!(report.verified > 100, "{} verified", report.verified);
    assert!(report.hit_rate > 0.3, "hit rate {:.3}", report.hit_rate);
}
