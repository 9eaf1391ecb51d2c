//! Two minutes of attacks: nothing is found, and what was tried says something.
//!
//! Needs the extension installed into the PostgreSQL that `pg_config` names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_hostile::{Options, run};

#[test]
fn attackers_find_nothing() {
    let report = run(&Options::default()).unwrap();
    println!("{report}");
    assert_eq!(report.findings, Vec::<String>::new());
    assert!(
        report.record.sessions > 10,
        "{} sessions",
        report.record.sessions
    );
    assert!(
        report.record.compared > 100,
        "{} compared",
        report.record.compared
    );
    assert!(report.hits > 50, "{} hits", report.hits);
    // Half of the kinds of statements succeed now and then; the others are tries at what is forbidden.
    assert!(
        report.record.templates.len() * 3 > report.templates,
        "{} of {} kinds succeeded",
        report.record.templates.len(),
        report.templates
    );
}
