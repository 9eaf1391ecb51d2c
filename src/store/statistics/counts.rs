//! The counters of a function as plain numbers: collected by a backend, or read from shared memory.
//!
//! Invariants: every call is counted as a hit, a miss or a bypass. [`Counts::fields`] and [`Counts::from_fields`] have the same order,
//! which is that of the counters in shared memory; the longest time, which is no sum, goes beside them.
//!
//! Locks: none, they belong to whoever has them. Read from shared memory, the numbers may be of slightly different moments.

use crate::call::outcome::{REASONS, Reason};
use crate::store::fill_times::{BUCKETS, FillTimes};
use pg_query_cache_worth::Counted;

/// Counters of a function: plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Calls answered from the cache.
    pub hits: u64,
    /// Calls that found nothing, or nothing valid.
    pub misses: u64,
    /// Results stored.
    pub fills: u64,
    /// Microseconds spent in the function by misses.
    pub fill_us: u64,
    /// Misses that found an entry which a write had invalidated.
    pub invalidations: u64,
    /// Misses that found an entry which was too old.
    pub expirations: u64,
    /// Calls that waited for another session's computation.
    pub waits: u64,
    /// Microseconds that hits would have spent in the function, by the cost of the entry.
    pub saved_us: u64,
    /// Results from the cache that were computed again and compared.
    pub verified: u64,
    /// … that differed, and neither chance nor the clock explains it.
    pub differences: u64,
    /// … that differed because the function depends on the clock.
    pub time_dependent: u64,
    /// … that differed because the function does not repeat itself.
    pub nondeterministic: u64,
    /// Results computed anew before they were too old.
    pub refreshes: u64,
    /// Hits of results past their time to live.
    pub stale: u64,
    /// Results stored on account of a call, and not because somebody warms or refreshes.
    pub stored: u64,
    /// Nanoseconds that the function took for these.
    pub computing_ns: u64,
    /// Nanoseconds that storing these took.
    pub storing_ns: u64,
    /// Hits that were measured.
    pub measured_hits: u64,
    /// Nanoseconds that these took.
    pub hits_ns: u64,
    /// Runs of the function with nothing recorded that were measured.
    pub runs: u64,
    /// Nanoseconds that these took.
    pub runs_ns: u64,
    /// Calls answered by the function on purpose, and misses not stored, by reason.
    pub reasons: [u64; REASONS],
    /// How long the function took, computation by computation.
    pub fill_times: FillTimes,
}

/// Counters besides the reasons and the fill times.
const PLAIN: usize = 21;
pub(super) const FIELDS: usize = PLAIN + REASONS + BUCKETS;

impl Default for Counts {
    fn default() -> Self {
        Self::from_fields([0; FIELDS], 0)
    }
}

impl Counts {
    pub(super) fn fields(&self) -> [u64; FIELDS] {
        let mut fields = [0; FIELDS];
        fields[..PLAIN].copy_from_slice(&[
            self.hits,
            self.misses,
            self.fills,
            self.fill_us,
            self.invalidations,
            self.expirations,
            self.waits,
            self.saved_us,
            self.verified,
            self.differences,
            self.time_dependent,
            self.nondeterministic,
            self.refreshes,
            self.stale,
            self.stored,
            self.computing_ns,
            self.storing_ns,
            self.measured_hits,
            self.hits_ns,
            self.runs,
            self.runs_ns,
        ]);
        fields[PLAIN..PLAIN + REASONS].copy_from_slice(&self.reasons);
        fields[PLAIN + REASONS..].copy_from_slice(&self.fill_times.buckets);
        fields
    }

    pub(super) fn from_fields(fields: [u64; FIELDS], longest_us: u64) -> Self {
        let mut reasons = [0; REASONS];
        reasons.copy_from_slice(&fields[PLAIN..PLAIN + REASONS]);
        let mut fill_times = FillTimes::default();
        fill_times
            .buckets
            .copy_from_slice(&fields[PLAIN + REASONS..]);
        fill_times.longest_us = longest_us;
        Counts {
            hits: fields[0],
            misses: fields[1],
            fills: fields[2],
            fill_us: fields[3],
            invalidations: fields[4],
            expirations: fields[5],
            waits: fields[6],
            saved_us: fields[7],
            verified: fields[8],
            differences: fields[9],
            time_dependent: fields[10],
            nondeterministic: fields[11],
            refreshes: fields[12],
            stale: fields[13],
            stored: fields[14],
            computing_ns: fields[15],
            storing_ns: fields[16],
            measured_hits: fields[17],
            hits_ns: fields[18],
            runs: fields[19],
            runs_ns: fields[20],
            reasons,
            fill_times,
        }
    }

    /// Adds the counts of another function.
    pub fn add(&mut self, other: &Counts) {
        let mut fields = self.fields();
        for (field, more) in fields.iter_mut().zip(other.fields()) {
            *field += more;
        }
        let longest = self.fill_times.longest_us.max(other.fill_times.longest_us);
        *self = Self::from_fields(fields, longest);
    }

    /// All calls: each was a hit, a miss or a bypass.
    pub fn calls(&self) -> u64 {
        self.hits + self.misses + self.bypasses()
    }

    /// What of it says whether caching pays.
    pub fn worth(&self) -> Counted {
        Counted {
            hits: self.hits,
            stored: self.stored,
            invalidated: self.invalidations,
            expired: self.expirations,
            computing_ns: self.computing_ns,
            storing_ns: self.storing_ns,
            measured_hits: self.measured_hits,
            hits_ns: self.hits_ns,
            runs: self.runs,
            runs_ns: self.runs_ns,
        }
    }

    /// Hits of the calls that looked, if there were any.
    pub fn hit_rate(&self) -> Option<f64> {
        let looked = self.hits + self.misses;
        (looked > 0).then(|| self.hits as f64 / looked as f64)
    }

    /// Calls answered by the function on purpose: reasons that kept the call from looking at all.
    pub fn bypasses(&self) -> u64 {
        Reason::ALL
            .iter()
            .filter(|reason| reason.is_bypass())
            .map(|reason| self.reasons[*reason as usize])
            .sum()
    }
}
