//! What sends a function to rest, what does not, and what brings it back.

#![allow(clippy::panic)]

use pg_query_cache_worth::{
    Counted, ENOUGH_HITS, ENOUGH_REPLACED, ENOUGH_STORED, Judgement, Rest, TRIAL_HITS,
    TRIAL_STORED, Trial, Why, has_become_dear, is_clearly_dear, try_again,
};

const US: u64 = 1000;

/// Of a memory that is soon full.
fn judge(counted: &Counted) -> Judgement {
    pg_query_cache_worth::judge(counted, 1000)
}

/// A function that takes `run_us`, with results stored, replaced by invalidation, and hit.
fn counted(run_us: u64, stored: u64, invalidated: u64, hits: u64) -> Counted {
    Counted {
        hits,
        stored,
        invalidated,
        computing_ns: stored * run_us * US,
        storing_ns: stored * 10 * US,
        measured_hits: hits / 256,
        hits_ns: hits / 256 * 400,
        ..Counted::default()
    }
}

fn why(judgement: Judgement) -> Option<Why> {
    match judgement {
        Judgement::Rest(rest) => Some(rest.why),
        _ => None,
    }
}

fn resting(counted: &Counted) -> Rest {
    match judge(counted) {
        Judgement::Rest(rest) => rest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_that_die_before_they_are_hit_end_in_rest() {
    let dying = counted(100, 600, 600, 3);
    let rest = resting(&dying);
    assert_eq!(rest.why, Why::Invalidated);
    assert_eq!((rest.stored, rest.hits), (600, 3));
    assert_eq!(rest.run_ns, 100_000.0);
    let expiring = Counted {
        invalidated: 100,
        expired: 500,
        ..dying
    };
    assert_eq!(why(judge(&expiring)), Some(Why::Expired));
    // One less is not enough to tell.
    let fewer = counted(100, ENOUGH_REPLACED - 1, ENOUGH_REPLACED - 1, 3);
    assert_eq!(judge(&fewer), Judgement::Open);
}

#[test]
fn break_even_is_where_hits_save_what_storing_costs() {
    // 512 results cost (10 + 0.5) µs each; a hit saves 20 − 0.5 µs: 276 hits are break-even.
    let with = |hits| judge(&counted(20, 512, 512, hits));
    let unmeasured = |hits| match with(hits) {
        Judgement::Rest(rest) => Some(rest.why),
        _ => None,
    };
    assert_eq!(unmeasured(255), Some(Why::Invalidated));
    assert_eq!(with(300), Judgement::Pays);
}

#[test]
fn a_cache_that_fills_for_the_first_time_is_left_alone() {
    assert_eq!(judge(&counted(100, 16_000, 0, 0)), Judgement::Open);
    // Also with a few that were invalidated meanwhile.
    assert_eq!(judge(&counted(100, 16_000, 400, 0)), Judgement::Open);
}

#[test]
fn what_is_never_asked_again_rests_if_storing_it_is_noticed() {
    assert_eq!(
        why(judge(&counted(100, ENOUGH_STORED, 0, 20))),
        Some(Why::NotAskedAgain)
    );
    // As long as memory has room they may be hit later.
    let stored = counted(100, ENOUGH_STORED, 0, 20);
    assert_eq!(
        pg_query_cache_worth::judge(&stored, ENOUGH_STORED + 1),
        Judgement::Open
    );
    // 10 µs on top of 10 ms are not.
    assert_eq!(
        judge(&counted(10_000, ENOUGH_STORED, 0, 20)),
        Judgement::Pays
    );
    assert_eq!(
        judge(&counted(100, ENOUGH_STORED, 0, 10_000)),
        Judgement::Pays
    );
}

#[test]
fn what_is_cheaper_to_run_than_to_look_up_rests() {
    // Few results, and dear ones: the first call of a session plans.
    let hot = Counted {
        runs: 16,
        runs_ns: 16 * 200,
        ..counted(300, 1, 0, 10_000)
    };
    assert_eq!(why(judge(&hot)), Some(Why::CheapToRun));
    assert!(!is_clearly_dear(&hot));
    let few = Counted {
        runs: 15,
        runs_ns: 15 * 200,
        ..hot
    };
    assert_eq!(judge(&few), Judgement::Open);
    let dear = Counted {
        runs_ns: 16 * 10 * US,
        ..hot
    };
    assert_eq!(judge(&dear), Judgement::Open);
    assert!(is_clearly_dear(&dear));
    // A few runs may have been held up by the machine.
    let held_up = |runs| Counted {
        runs,
        runs_ns: runs * US,
        ..hot
    };
    assert!(!is_clearly_dear(&held_up(16)));
    assert!(is_clearly_dear(&held_up(128)));
    // What takes very much longer is not run sixteen times to know it.
    let very = |runs| Counted {
        runs,
        runs_ns: runs * 100 * US,
        ..hot
    };
    assert!(!is_clearly_dear(&very(2)));
    assert!(is_clearly_dear(&very(3)));
}

#[test]
fn a_long_stretch_ends() {
    assert_eq!(judge(&counted(100, 10, 0, ENOUGH_HITS)), Judgement::Pays);
}

#[test]
fn a_trial_succeeds_only_by_a_margin() {
    let rest = resting(&counted(100, 600, 600, 3));
    // 100 results cost 1,040 µs; a hit saves about 99.6 µs.
    let trial = |hits| try_again(&counted(100, 100, 100, hits), &rest);
    assert_eq!(trial(0), Trial::Open);
    assert_eq!(trial(TRIAL_HITS - 1), Trial::Open);
    assert_eq!(trial(TRIAL_HITS), Trial::Succeeded);
    let cheap = resting(&counted(12, 600, 600, 100));
    let trial = |stored, hits| try_again(&counted(12, stored, stored, hits), &cheap);
    // Break-even at 91, twice that is asked for.
    assert_eq!(trial(100, 150), Trial::Open);
    assert_eq!(trial(100, 200), Trial::Succeeded);
    assert_eq!(trial(TRIAL_STORED, 200), Trial::Failed);
}

#[test]
fn one_key_that_nobody_writes_to_any_more_comes_back() {
    let rest = resting(&counted(100, 600, 600, 3));
    // Even from a result that was stored before: nothing is stored, all is hit.
    assert_eq!(try_again(&counted(100, 0, 0, 100), &rest), Trial::Succeeded);
    assert_eq!(try_again(&counted(100, 1, 0, 100), &rest), Trial::Succeeded);
}

#[test]
fn what_was_cheap_comes_back_when_it_is_dear() {
    let rest = Rest {
        why: Why::CheapToRun,
        stored: 1,
        hits: 10_000,
        run_ns: 200.0,
        hit_ns: 400.0,
        storing_ns: 10_000.0,
    };
    let ran = |runs, ns| Counted {
        runs,
        runs_ns: runs * ns,
        ..Counted::default()
    };
    assert_eq!(has_become_dear(&ran(10, 900), &rest), None);
    assert_eq!(has_become_dear(&ran(64, 500), &rest), Some(false));
    assert_eq!(has_become_dear(&ran(64, 900), &rest), Some(true));
}

#[test]
fn counters_that_were_set_back_have_counted_nothing() {
    let before = counted(100, 600, 600, 3);
    assert_eq!(Counted::default().since(&before), Counted::default());
    assert_eq!(before.since(&Counted::default()), before);
}

/// A function under a load that stays as it is does not swing: whatever it is judged to be, the trial or the next stretch agrees.
#[test]
fn a_steady_load_does_not_swing() {
    for run_us in [1, 2, 5, 10, 20, 50, 100, 1000] {
        for hits_per_hundred in [0, 1, 5, 10, 20, 50, 80, 100, 120, 200, 500, 1000] {
            let load =
                |stored: u64| counted(run_us, stored, stored, stored * hits_per_hundred / 100);
            if let Judgement::Rest(rest) = judge(&load(ENOUGH_REPLACED)) {
                for stored in 1..=TRIAL_STORED {
                    assert_ne!(
                        try_again(&load(stored), &rest),
                        Trial::Succeeded,
                        "{run_us} µs, {hits_per_hundred} hits for 100 results"
                    );
                }
            }
        }
    }
}
