//! What has been learned of a cached function since the server started: a few bits beside its counters, in a cache line of their own
//! that is seldom written and read by each call.
//!
//! A function without a row of its own has none of it, and does not use the cache.

use std::sync::atomic::{AtomicU32, Ordering};

/// A bit.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// It was seen asking for settings: all of them are part of its keys.
    ReadsSettings = 1,
    /// A stored result differed from the function's own: nothing is served or stored.
    Quarantined = 2,
    /// The table `cache_quarantine` has it.
    QuarantineSaved = 4,
    /// Caching it does not pay: it runs by itself (`super::worth`).
    Resting = 8,
    /// … except for the keys of one share, whose number is in the same word.
    OnTrial = 16,
    /// Running it is known to take clearly longer than a hit.
    Dear = 32,
}

/// Into so many shares the keys of a resting function are divided.
pub const SHARES: u32 = 16;
/// Where the number of the share begins.
const SHARE_AT: u32 = 8;

/// The bits of one function in shared memory.
#[repr(transparent)]
#[derive(Debug)]
pub struct Traits(AtomicU32);

/// All bits of a function at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned(u32);

impl Learned {
    /// Whether it is so.
    #[inline(always)]
    pub fn has(self, one: Trait) -> bool {
        self.0 & one as u32 != 0
    }

    /// Whether a key, by its hash, is in the share that is on trial.
    pub fn tries(self, hash: u64) -> bool {
        self.has(Trait::OnTrial) && (hash >> 40) as u32 % SHARES == self.share()
    }

    /// The share that is or was on trial last.
    pub fn share(self) -> u32 {
        self.0 >> SHARE_AT & (SHARES - 1)
    }
}

impl Traits {
    /// Whether it is so.
    #[inline(always)]
    pub fn has(&self, one: Trait) -> bool {
        self.all().has(one)
    }

    /// All bits.
    #[inline(always)]
    pub fn all(&self) -> Learned {
        Learned(self.0.load(Ordering::Acquire))
    }

    /// It is so from now on. Returns whether that is new.
    pub fn set(&self, one: Trait) -> bool {
        self.0.fetch_or(one as u32, Ordering::AcqRel) & one as u32 == 0
    }

    /// It is not so any more. Returns whether it was.
    pub fn clear(&self, one: Trait) -> bool {
        self.0.fetch_and(!(one as u32), Ordering::AcqRel) & one as u32 != 0
    }

    /// Nothing is known any more.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// It rests, and the keys of a share are on trial; in one step, so that no call takes another share for it.
    pub fn rest_and_try(&self, share: u32) {
        let wanted = Trait::Resting as u32 | Trait::OnTrial as u32 | (share % SHARES) << SHARE_AT;
        let others = !((SHARES - 1) << SHARE_AT);
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
                Some(bits & others | wanted)
            });
    }
}
