//! Validity by snapshot: the rules of `crates/validity` bound to shared memory and to PostgreSQL's snapshots.
//!
//! * `tags`: what a write can be about, and the slot it hashes to
//! * `slots`: the slots in shared memory, read without a lock; `reserved`: those of definitions, which every result depends on;
//!   `places`: which of them belongs to which database
//! * `view`: what a snapshot sees, in 64-bit transaction ids
//! * `imported`: snapshots that need not be cuts through the order of ends, for which there is no validity
//! * `own`: what the transaction of this backend has written
//! * `saved`: the slots across a clean restart
//! * `writers`: who wrote last under each slot, for people who ask

pub mod imported;
pub mod own;
pub mod places;
pub mod reserved;
pub mod saved;
pub mod slots;
pub mod tags;
pub mod view;
pub mod writers;

/// One dependency of an entry: a slot and the generation under which the entry is right, in one word. 44 bits of the generation are
/// enough: an entry would have to live through 17 million million writes under one slot before it was taken for another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency(u64);

/// Bits of the number of a slot.
const SLOT_BITS: u32 = 20;
/// The most slots that dependencies can tell apart.
pub const MAX_SLOTS: u32 = 1 << SLOT_BITS;

impl Dependency {
    /// The dependency on `slot` at `generation`.
    #[inline(always)]
    pub fn new(slot: u32, generation: u64) -> Self {
        Dependency(generation << SLOT_BITS | u64::from(slot & (MAX_SLOTS - 1)))
    }

    /// Number of the slot.
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        self.0 as u32 & (MAX_SLOTS - 1)
    }

    /// Whether it is `generation` under which the entry is right.
    #[inline(always)]
    pub fn has(&self, generation: u64) -> bool {
        self.0 >> SLOT_BITS == generation << SLOT_BITS >> SLOT_BITS
    }
}

/// Why an entry cannot be served to, or a result not be published from, the caller's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The entry's generation is gone: for this snapshot it is dead.
    Dead,
    /// The caller's own transaction has written what the result depends on.
    OwnWrites,
    /// The snapshot is older than a write that others see already.
    OldSnapshot,
    /// More writers at once than the slot can tell apart.
    Crowded,
}
