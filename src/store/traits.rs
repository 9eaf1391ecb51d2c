//! What has been learned of a cached function since the server started: a few bits beside its counters, in a cache line of their own
//! that is seldom written and read by each call.
//!
//! Functions that have no row of their own share one: what was learned of one of them then holds for all, which costs hits and
//! nothing else.

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
}

/// The bits of one function in shared memory.
#[repr(transparent)]
#[derive(Debug)]
pub struct Traits(AtomicU32);

impl Traits {
    /// Whether it is so.
    #[inline(always)]
    pub fn has(&self, one: Trait) -> bool {
        self.0.load(Ordering::Acquire) & one as u32 != 0
    }

    /// It is so from now on. Returns whether that is new.
    pub fn set(&self, one: Trait) -> bool {
        self.0.fetch_or(one as u32, Ordering::AcqRel) & one as u32 == 0
    }

    /// It is not so any more. Returns whether it was.
    pub fn clear(&self, one: Trait) -> bool {
        self.0.fetch_and(!(one as u32), Ordering::AcqRel) & one as u32 != 0
    }
}
