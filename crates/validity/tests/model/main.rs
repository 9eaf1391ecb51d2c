//! Every interleaving of writers and readers, and for each rule the interleaving that needs it.
//!
//! `cargo test --release -p pg_query_cache_validity --test model -- --nocapture` prints the tables of
//! `docs/adr/0002-validity-by-snapshot.md`. Without optimisation the bounds are smaller.

mod any_readers;
mod search;
mod subject;
mod two_readers;
mod world;

use any_readers::AnyReaders;
use pg_query_cache_validity::Slot;
use search::{Model, Report, explore};
use std::marker::PhantomData;
use subject::{Subject, Wide};
use two_readers::TwoReaders;
use world::Rules;

const FULL: bool = !cfg!(debug_assertions);

fn run(name: &str, model: &impl Model) -> Report {
    let report = explore(model);
    println!("{name}: {report}");
    report
}

fn assert_exact(name: &str, model: &impl Model) {
    let report = run(name, model);
    assert!(report.wrong.is_none(), "{name}: {report}");
    assert!(
        report.servings > 0,
        "{name}: nothing was ever served, so nothing was shown"
    );
}

fn any<T: Subject>(writers: usize, mixed: bool, rules: Rules) -> AnyReaders<T> {
    AnyReaders {
        writers,
        mixed,
        rules,
        slot: PhantomData,
    }
}

#[test]
fn any_readers_get_what_they_would_compute() {
    let writers = if FULL { 3 } else { 2 };
    assert_exact(
        &format!("any readers, {writers} writers, P=1 S=1"),
        &any::<Slot<1, 1>>(writers, false, Rules::ALL),
    );
    assert_exact(
        &format!("any readers, {writers} writers, P=1 S=0"),
        &any::<Slot<1, 0>>(writers, false, Rules::ALL),
    );
    assert_exact(
        &format!("any readers, {writers} writers, P=2 S=2"),
        &any::<Slot<2, 2>>(writers, false, Rules::ALL),
    );
    assert_exact(
        &format!("any readers, {writers} writers, P=3 S=1"),
        &any::<Slot<3, 1>>(writers, false, Rules::ALL),
    );
    assert_exact(
        &format!("any readers, {writers} writers, P=6 S=6"),
        &any::<Slot<6, 6>>(writers, false, Rules::ALL),
    );
}

#[test]
fn results_of_several_snapshots_are_exact_if_the_first_and_the_last_agree() {
    let writers = if FULL { 3 } else { 2 };
    assert_exact(
        &format!("several snapshots, {writers} writers, P=2 S=1"),
        &any::<Slot<2, 1>>(writers, true, Rules::ALL),
    );
    assert_exact(
        &format!("several snapshots, {writers} writers, P=6 S=6"),
        &any::<Slot<6, 6>>(writers, true, Rules::ALL),
    );
}

fn two<T: Subject>(own: Option<usize>, lag: bool, plain: bool) -> TwoReaders<T> {
    TwoReaders {
        writers: 2,
        own,
        lag,
        plain,
        rows_only: false,
        rules: Rules::ALL,
        slot: PhantomData,
    }
}

#[test]
fn two_readers_get_what_they_would_compute() {
    let plain = !FULL;
    let whose: &[Option<usize>] = if FULL {
        &[None, Some(0), Some(1)]
    } else {
        &[Some(0)]
    };
    for own in whose.iter().copied() {
        let who = own.map_or("in no writer's transaction".into(), |own| {
            format!("one in transaction {}", own + 1)
        });
        if FULL {
            let name = format!("two readers ({who}), 2 writers, P=2 S=2");
            assert_exact(&name, &two::<Slot<2, 2>>(own, false, plain));
        }
        assert_exact(
            &format!("two readers ({who}), 2 writers, P=1 S=1"),
            &two::<Slot<1, 1>>(own, false, plain),
        );
    }
}

#[test]
fn effects_that_spread_after_the_commit_are_waited_for() {
    let plain = !FULL;
    assert_exact(
        "two readers, late effects, 2 writers, P=1 S=1",
        &two::<Slot<1, 1>>(None, true, plain),
    );
    if FULL {
        assert_exact(
            "two readers, late effects, 2 writers, P=2 S=2",
            &two::<Slot<2, 2>>(None, true, plain),
        );
        assert_exact(
            "two readers (one in transaction 1), late effects, 2 writers, P=2 S=2",
            &two::<Slot<2, 2>>(Some(0), true, plain),
        );
    }
}

/// The question as it was first put: three writers of rows, two readers, three snapshots each.
#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn three_writers_and_two_readers() {
    let model = TwoReaders::<Slot<2, 2>> {
        writers: 3,
        own: None,
        lag: false,
        plain: true,
        rows_only: true,
        rules: Rules::ALL,
        slot: PhantomData,
    };
    assert_exact("two readers, 3 writers of rows, P=2 S=2", &model);
}

/// Larger than a test run should be; `-- --ignored`.
#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn four_writers() {
    assert_exact(
        "any readers, 4 writers, P=2 S=2",
        &any::<Slot<2, 2>>(4, false, Rules::ALL),
    );
}

/// A rule, what is left when it is left out, and where to look.
fn assert_needed(name: &str, model: &impl Model) {
    let report = run(&format!("without: {name}"), model);
    assert!(
        report.wrong.is_some(),
        "the checker does not see that this rule is gone: {name}"
    );
}

#[test]
fn every_rule_is_needed() {
    let all = Rules::ALL;
    let three = |rules| any::<Slot<6, 6>>(3, false, rules);
    let small = |rules| any::<Slot<1, 1>>(3, false, rules);
    let spill = |rules| any::<Slot<3, 1>>(3, false, rules);

    assert_needed(
        "settle at publish (nor the check of pending writers)",
        &three(Rules {
            settle_at_publish: false,
            pending_check: false,
            ..all
        }),
    );
    assert_needed(
        "settle at serve",
        &three(Rules {
            settle_at_serve: false,
            ..all
        }),
    );
    assert_needed(
        "settled check",
        &three(Rules {
            settled_check: false,
            ..all
        }),
    );
    assert_needed(
        "all at once",
        &three(Rules {
            all_at_once: false,
            ..all
        }),
    );
    assert_needed(
        "horizon check",
        &small(Rules {
            horizon_check: false,
            ..all
        }),
    );
    assert_needed(
        "horizon check, batch larger than S",
        &spill(Rules {
            horizon_check: false,
            ..all
        }),
    );
    assert_needed(
        "overflow check",
        &small(Rules {
            overflow_check: false,
            ..all
        }),
    );
    assert_needed(
        "overflow waits for xmin",
        &small(Rules {
            overflow_waits: false,
            ..all
        }),
    );
    assert_needed(
        "latest snapshot first",
        &three(Rules {
            latest_first: false,
            ..all
        }),
    );
    assert_needed(
        "own writes bypass",
        &three(Rules {
            own_bypass: false,
            ..all
        }),
    );
    assert_needed(
        "registered before its own transaction sees it",
        &three(Rules {
            register_before_write: false,
            ..all
        }),
    );
    assert_needed(
        "registered before its end",
        &three(Rules {
            register_before_end: false,
            ..all
        }),
    );
    assert_needed(
        "prepared transactions are not withdrawn",
        &three(Rules {
            prepared_stays: false,
            ..all
        }),
    );
    assert_needed(
        "judged by the last snapshot too",
        &any::<Slot<6, 6>>(
            3,
            true,
            Rules {
                judge_last: false,
                ..all
            },
        ),
    );

    let late = |rules| TwoReaders::<Slot<2, 2>> {
        writers: 2,
        own: None,
        lag: true,
        plain: true,
        rows_only: false,
        rules,
        slot: PhantomData,
    };
    assert_needed(
        "check of pending writers",
        &late(Rules {
            pending_check: false,
            ..all
        }),
    );
    assert_needed(
        "latest snapshot in doubt, so bypass",
        &late(Rules {
            latest_sure: false,
            ..all
        }),
    );
    assert_needed(
        "await effects at commit",
        &late(Rules {
            await_effect: false,
            ..all
        }),
    );
    assert_needed(
        "ask before the fill",
        &late(Rules {
            ask_before_fill: false,
            ..all
        }),
    );
}

/// Two nets under one rope: `judge` refuses a view that has seen a pending writer finished, so a settle that was forgotten at
/// publish is noticed. Shown here so that nobody wonders why that mutation comes as a pair. (With late effects the check of pending
/// writers is needed by itself.)
#[test]
fn the_check_of_pending_writers_stands_in_for_a_missing_settle() {
    let writers = if FULL { 3 } else { 2 };
    let all = Rules::ALL;
    for (name, rules) in [
        (
            "settle at publish",
            Rules {
                settle_at_publish: false,
                ..all
            },
        ),
        (
            "check of pending writers",
            Rules {
                pending_check: false,
                ..all
            },
        ),
    ] {
        assert_exact(
            &format!("redundant alone: {name}"),
            &any::<Slot<2, 2>>(writers, false, rules),
        );
    }
}

/// A slot for effects at commit alone, whose writers register only when they are about to end.
mod wide {
    use super::*;

    #[test]
    fn any_readers_get_what_they_would_compute() {
        let writers = if FULL { 3 } else { 2 };
        for (when, rules) in [("", Rules::ALL), (" late", Rules::LATE)] {
            let name = |places| format!("any readers, {writers}{when} writers, wide {places}");
            assert_exact(&name("P=3 S=0"), &any::<Wide<3, 0>>(writers, false, rules));
            assert_exact(&name("P=3 S=1"), &any::<Wide<3, 1>>(writers, false, rules));
            assert_exact(&name("P=1 S=1"), &any::<Wide<1, 1>>(writers, false, rules));
        }
    }

    /// What the small slot does not need, it does not mind either.
    #[test]
    fn late_writers_do_no_harm_to_a_small_slot() {
        let writers = if FULL { 3 } else { 2 };
        assert_exact(
            &format!("any readers, {writers} late writers, P=2 S=2"),
            &any::<Slot<2, 2>>(writers, false, Rules::LATE),
        );
    }

    #[test]
    fn results_of_several_snapshots_are_exact_if_the_first_and_the_last_agree() {
        let writers = if FULL { 3 } else { 2 };
        assert_exact(
            &format!("several snapshots, {writers} late writers, wide P=3 S=1"),
            &any::<Wide<3, 1>>(writers, true, Rules::LATE),
        );
    }

    #[test]
    fn two_readers_get_what_they_would_compute() {
        assert_exact(
            "two readers (one in transaction 1), 2 writers, wide P=2 S=1",
            &two::<Wide<2, 1>>(Some(0), false, !FULL),
        );
    }

    #[test]
    fn effects_that_spread_after_the_commit_are_waited_for() {
        assert_exact(
            "two readers, late effects, 2 writers, wide P=2 S=1",
            &two::<Wide<2, 1>>(None, true, !FULL),
        );
        if FULL {
            assert_exact(
                "two readers, late effects, 2 writers, wide P=1 S=0",
                &two::<Wide<1, 0>>(None, true, !FULL),
            );
        }
    }

    #[test]
    fn every_rule_is_needed() {
        let late = Rules::LATE;
        let three = |rules| any::<Wide<3, 0>>(3, false, rules);
        let small = |rules| any::<Wide<1, 0>>(3, false, rules);
        assert_needed(
            "cut of the view that settled",
            &three(Rules {
                cut_check: false,
                ..late
            }),
        );
        assert_needed(
            "number of running transactions in the cut",
            &three(Rules {
                cut_counts: false,
                ..late
            }),
        );
        assert_needed(
            "wide: cut and names",
            &any::<Wide<3, 1>>(
                3,
                false,
                Rules {
                    settled_check: false,
                    ..late
                },
            ),
        );
        assert_needed(
            "wide: all at once, what is named",
            &any::<Wide<3, 1>>(
                3,
                false,
                Rules {
                    all_at_once: false,
                    ..late
                },
            ),
        );
        assert_needed(
            "wide: overflow check",
            &small(Rules {
                overflow_check: false,
                ..late
            }),
        );
        assert_needed(
            "wide: overflow waits for xmin",
            &small(Rules {
                overflow_waits: false,
                ..late
            }),
        );
        assert_needed(
            "wide: latest snapshot first",
            &three(Rules {
                latest_first: false,
                ..late
            }),
        );
        assert_needed(
            "wide: settle at serve",
            &three(Rules {
                settle_at_serve: false,
                pending_check: false,
                ..late
            }),
        );
        assert_needed(
            "wide: own writes are known",
            &three(Rules {
                own_notes: false,
                ..late
            }),
        );
        assert_needed(
            "wide: registered before its end",
            &three(Rules {
                register_before_end: false,
                ..late
            }),
        );
        assert_needed(
            "wide: prepared transactions are not withdrawn",
            &three(Rules {
                prepared_stays: false,
                ..late
            }),
        );
        let spreading = |rules| TwoReaders::<Wide<2, 1>> {
            rules,
            ..two(None, true, true)
        };
        assert_needed(
            "wide: latest snapshot in doubt, so bypass",
            &spreading(Rules {
                latest_sure: false,
                ..Rules::ALL
            }),
        );
        assert_needed(
            "wide: await effects at commit",
            &spreading(Rules {
                await_effect: false,
                ..Rules::ALL
            }),
        );
        assert_needed(
            "wide: ask before the fill",
            &spreading(Rules {
                ask_before_fill: false,
                ..Rules::ALL
            }),
        );
    }
}
