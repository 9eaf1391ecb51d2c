//! A run of all roads finds nothing, and has taken each of them.
//!
//! Needs the extension installed into the PostgreSQL that `pg_config` names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_roads::{Options, names, run};

#[test]
fn no_road_leads_to_another_answer() {
    let report = run(&Options::default()).unwrap();
    println!("{report}");
    assert_eq!(report.findings, Vec::<String>::new());
    for name in names() {
        let tally = report.roads.get(name).copied().unwrap_or_default();
        assert!(tally.by_own > 0, "{name}: {tally}");
    }
    // What is not a hit says nothing.
    let total = report.total();
    assert!(total.by_other > 0, "{total}");
    assert!(
        total.hits.cast_unsigned() * 5 > total.by_own + total.by_other,
        "{total}"
    );
}
