//! Functions that are not worth caching: each is judged by what its calls have counted, and rests as long as it does not pay.
//!
//! The rules are in the crate `pg_query_cache_worth`. Here is what they need to know, beside the function's counters in shared memory:
//! the counters at the beginning of the present stretch and, of a function that rests, why. That it rests is a bit in its traits, which
//! each call reads anyway. Whoever hands over what it has counted of a function judges it; a call never does.
//!
//! While a function rests the keys of one share in [`SHARES`] are on trial: calls with them look, store and are counted as always. Each
//! share has its turn for [`TURN_US`], so that a function with one key only is tried too. A trial that has failed pauses to the end of
//! its turn, in which calls do not even build a key: so a busy function stores at most some hundred results in each turn.
//!
//! Locks: all numbers are atomic, and written by the session that holds `busy`; who finds it held leaves the judging to the other. Nothing
//! in between can fail or wait. Who reads to show may see numbers of two judgements side by side.

use super::traits::{SHARES, Trait, Traits};
use pg_query_cache_worth::{
    Counted, FIELDS, Judgement, Rest, Trial, Why, has_become_dear, is_clearly_dear, judge,
    try_again,
};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// How long a share of the keys has its turn, in microseconds. All have theirs within about a minute.
const TURN_US: i64 = 4_000_000;

/// What was found in a judgement, as numbers.
const FOUND: usize = 5;

/// Part of a function's row in shared memory.
#[repr(C)]
pub struct WorthRow {
    busy: AtomicU32,
    /// Number of the reason for its rest, plus one; 0 if it does not rest.
    why: AtomicU32,
    /// Since when it rests.
    since: AtomicI64,
    /// When the turn of the present share ends.
    turn_ends: AtomicI64,
    /// The counters when the present stretch began.
    began: [AtomicU64; FIELDS],
    /// Why it rests, in figures.
    found: [AtomicU64; FOUND],
}

impl WorthRow {
    /// Why the function rests and since when; `None` if it does not.
    pub fn rest(&self) -> Option<(Rest, i64)> {
        let why = self.why.load(Ordering::Acquire).checked_sub(1)?;
        let found = |i: usize| self.found[i].load(Ordering::Relaxed);
        let rest = Rest {
            why: *Why::ALL.get(why as usize)?,
            stored: found(0),
            hits: found(1),
            run_ns: found(2) as f64,
            hit_ns: found(3) as f64,
            storing_ns: found(4) as f64,
        };
        Some((rest, self.since.load(Ordering::Relaxed)))
    }

    /// Judges the function by its counters. One that is not to be judged does not rest, and begins anew when it is. Memory has room for
    /// `room` results.
    pub fn consider(
        &self,
        traits: &Traits,
        counters: &Counted,
        adaptive: bool,
        room: u64,
        now: i64,
    ) {
        if self.busy.swap(1, Ordering::Acquire) != 0 {
            return;
        }
        let began: [u64; FIELDS] = std::array::from_fn(|i| self.began[i].load(Ordering::Relaxed));
        let counted = counters.since(&Counted::from_fields(began));
        match self.rest() {
            _ if !adaptive => self.store_again(traits, counters),
            None => self.consider_stored(traits, counters, judge(&counted, room), &counted, now),
            Some((rest, _)) => self.consider_resting(traits, counters, &counted, &rest, now),
        }
        self.busy.store(0, Ordering::Release);
    }

    fn consider_stored(
        &self,
        traits: &Traits,
        counters: &Counted,
        judgement: Judgement,
        counted: &Counted,
        now: i64,
    ) {
        match judgement {
            Judgement::Open => {
                if !traits.has(Trait::Dear) && is_clearly_dear(counted) {
                    traits.set(Trait::Dear);
                }
            }
            Judgement::Pays => self.store_again(traits, counters),
            Judgement::Rest(rest) => {
                let found = [
                    rest.stored,
                    rest.hits,
                    rest.run_ns as u64,
                    rest.hit_ns as u64,
                    rest.storing_ns as u64,
                ];
                for (number, value) in self.found.iter().zip(found) {
                    number.store(value, Ordering::Relaxed);
                }
                self.since.store(now, Ordering::Relaxed);
                self.why.store(rest.why as u32 + 1, Ordering::Release);
                self.begin_stretch(counters);
                if rest.why == Why::CheapToRun {
                    traits.set(Trait::Resting);
                } else {
                    self.begin_turn(traits, now);
                }
            }
        }
    }

    fn consider_resting(
        &self,
        traits: &Traits,
        counters: &Counted,
        counted: &Counted,
        rest: &Rest,
        now: i64,
    ) {
        if rest.why == Why::CheapToRun {
            match has_become_dear(counted, rest) {
                Some(true) => self.store_again(traits, counters),
                Some(false) => self.begin_stretch(counters),
                None => (),
            }
            return;
        }
        match try_again(counted, rest) {
            Trial::Succeeded => return self.store_again(traits, counters),
            Trial::Failed => {
                traits.clear(Trait::OnTrial);
                self.begin_stretch(counters);
            }
            // What speaks for it may be spread over many turns.
            Trial::Open => (),
        }
        // A clock that was set back does not prolong a turn.
        let left = self.turn_ends.load(Ordering::Relaxed).saturating_sub(now);
        if !(1..=TURN_US).contains(&left) {
            self.begin_turn(traits, now);
        }
    }

    /// The next share has its turn.
    fn begin_turn(&self, traits: &Traits, now: i64) {
        self.turn_ends
            .store(now.saturating_add(TURN_US), Ordering::Relaxed);
        traits.rest_and_try((traits.all().share() + 1) % SHARES);
    }

    fn begin_stretch(&self, counters: &Counted) {
        for (number, value) in self.began.iter().zip(counters.fields()) {
            number.store(value, Ordering::Relaxed);
        }
    }

    /// Its results are stored from now on, and judged anew.
    fn store_again(&self, traits: &Traits, counters: &Counted) {
        self.why.store(0, Ordering::Release);
        for one in [Trait::Resting, Trait::OnTrial, Trait::Dear] {
            if traits.has(one) {
                traits.clear(one);
            }
        }
        self.begin_stretch(counters);
    }

    /// The extension is gone from the database.
    pub fn forget(&self, traits: &Traits) {
        self.store_again(traits, &Counted::default());
    }
}
