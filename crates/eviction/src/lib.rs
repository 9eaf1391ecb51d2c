//! Which entry leaves when there is no room: S3-FIFO with credits.
//!
//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO Queues are All You Need for Cache Eviction", SOSP 2023) keeps three queues in the
//! order of arrival. New entries are *on probation*, in a small queue: most of what is asked for once is never asked for again, and
//! leaves from there soon. What was hit meanwhile is *established*: it moves to the main queue, where each hit buys one more round
//! (CLOCK: Corbató, 1968). And of the entries that left lately their *ghosts* are remembered, a few bits each: a key that comes
//! back while it has one was asked for twice within the time that the cache covers, and is established at once.
//!
//! Nothing moves on a hit, so a hit needs no lock. A scan of keys that never come back passes through the probation and leaves
//! the main queue alone. And nothing stays for hits of long ago, as it does where hits are counted: when people begin to ask for
//! something else, ghosts let it in as soon as it has been asked for twice, and the old leaves within two rounds.
//!
//! Differences from the paper, each measured (ADR 0020):
//!
//! * What counts hits is a small number, the *credit*: a hit raises it to at least one, and does not write if it is not zero.
//!   Priority gives a new entry some to start with, each is worth a round.
//! * Probation has a twentieth of the room, not a tenth.
//! * An entry leaves a ghost from either queue, as in ARC (Megiddo, Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache",
//!   FAST 2003).
//! * Ghosts are bits in three Bloom filters that take turns, not fingerprints with the time (`ghosts.rs`).
//! * No operation takes more steps than a constant, however many entries there are: all of them run under a lock that others wait for.
//!
//! Everything lives in the caller's memory (shared memory in the extension, vectors in tests and in the benchmark), behind
//! [`Entries`]. Whoever calls a method of [`Queue`] holds the lock that guards it; only credits may be raised by others meanwhile.

#![forbid(unsafe_code)]

mod ghosts;
mod queue;
mod ring;

pub use queue::{MOST_SPARED, Queue};

/// Number of an entry; [`NIL`] is none.
pub type Id = u32;

/// No entry.
pub const NIL: Id = u32::MAX;

/// The most credit an entry can have.
pub const MAX_CREDIT: u8 = 3;

/// What the caller keeps for each entry, and the memory for ghosts.
pub trait Entries {
    /// The next entry of the ring that this one is in, away from the hand.
    fn next(&self, id: Id) -> Id;
    /// The one before.
    fn previous(&self, id: Id) -> Id;
    /// Sets what [`Entries::next`] returns.
    fn set_next(&mut self, id: Id, next: Id);
    /// Sets what [`Entries::previous`] returns.
    fn set_previous(&mut self, id: Id, previous: Id);
    /// How often the entry is still spared. The only part that others may change meanwhile, and they only raise it.
    fn credit(&self, id: Id) -> u8;
    /// Sets what [`Entries::credit`] returns.
    fn set_credit(&mut self, id: Id, credit: u8);
    /// Whether the entry is in the main queue, not on probation.
    fn established(&self, id: Id) -> bool;
    /// Sets what [`Entries::established`] returns.
    fn set_established(&mut self, id: Id, established: bool);
    /// The room that the entry takes, in any unit. The same from its insertion to its removal.
    fn weight(&self, id: Id) -> u32;
    /// Hash of the entry's key.
    fn hash(&self, id: Id) -> u64;
    /// Memory for ghosts, all zero at first. Never of another length; may be empty, then there are none.
    fn ghosts(&mut self) -> &mut [u64];
}

#[cfg(test)]
mod table;
