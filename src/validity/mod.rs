//! Validity by snapshot: the rules of `crates/validity` bound to shared memory and to PostgreSQL's snapshots.
//!
//! * `tags`: what a write can be about, and the slot it hashes to
//! * `slots`: the slots in shared memory, read without a lock
//! * `view`: what a snapshot sees, in 64-bit transaction ids
//! * `own`: what the transaction of this backend has written
//! * `saved`: the slots across a clean restart
//! * `writers`: who wrote last under each slot, for people who ask

pub mod own;
pub mod saved;
pub mod slots;
pub mod tags;
pub mod view;
pub mod writers;

/// One dependency of an entry: a slot and the generation under which the entry is right.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Index of the slot.
    pub slot: u32,
    /// Low half of the generation.
    generation_low: u32,
    /// High half of the generation. Two halves keep the struct at 12 bytes without padding.
    generation_high: u32,
}

const _: () = assert!(size_of::<Dependency>() == 12);

impl Dependency {
    /// The dependency on `slot` at `generation`.
    pub fn new(slot: u32, generation: u64) -> Self {
        Dependency {
            slot,
            generation_low: generation as u32,
            generation_high: (generation >> 32) as u32,
        }
    }

    /// The generation under which the entry is right.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        u64::from(self.generation_low) | u64::from(self.generation_high) << 32
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
