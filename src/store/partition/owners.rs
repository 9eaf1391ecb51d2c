//! The entries of each database: a ring for each database that has a state, so that one that has as many entries as it may finds one of
//! its own without a look at those of others.
//!
//! Invariants: a live entry that has a place of its database ([`EntryHead::placed`]) is in the ring of that place, and no other. The
//! hand is at the one whose turn is next, the newest is just behind it.
//!
//! Locks: under the partition's lock, except that whether a ring has entries may be asked without it.
//!
//! [`EntryHead::placed`]: super::EntryHead::placed

use super::Partition;
use super::racing::Field;
use crate::store::area::MOST_PLACES;
use crate::store::layout::PARTITION_HEAD_BYTES;
use crate::store::locks::step;
use pg_query_cache_eviction::{Id, NIL};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the hands, after the head of the partition.
pub const OWNERS_BYTES: usize = MOST_PLACES * size_of::<AtomicU32>();
const _: () = assert!(MOST_PLACES < u16::MAX as usize);

impl Partition {
    fn hand(&self, place: u16) -> &'static AtomicU32 {
        let index = (place as usize).wrapping_sub(1).min(MOST_PLACES - 1);
        // SAFETY: the layout reserves as many words after the head.
        unsafe {
            &*self
                .base
                .add(PARTITION_HEAD_BYTES)
                .cast::<AtomicU32>()
                .add(index)
        }
    }

    pub(super) fn initialise_owners(&self) {
        for place in 1..=MOST_PLACES as u16 {
            self.hand(place).store(NIL, Ordering::Relaxed);
        }
    }

    /// Whether the database with this place has entries here. Without a lock: the answer may be a moment old.
    pub fn may_have_of(&self, place: u16) -> bool {
        self.hand(place).load(Ordering::Relaxed) != NIL
    }

    fn links(&self, id: Id) -> (Id, Id) {
        // SAFETY: the first block of a live entry.
        unsafe {
            let entry = self.entry(id);
            (
                Field::get(&raw mut (*entry).owner_next),
                Field::get(&raw mut (*entry).owner_previous),
            )
        }
    }

    fn join(&self, one: Id, next: Id) {
        // SAFETY: as above; the lock is held.
        unsafe {
            Field::set(&raw mut (*self.entry(one)).owner_next, next);
            Field::set(&raw mut (*self.entry(next)).owner_previous, one);
        }
    }

    /// Adds an entry to the ring of its database; its turn comes last.
    pub fn add_to_owner(&self, id: Id, place: u16) {
        if place == 0 {
            return;
        }
        let hand = self.hand(place);
        match hand.load(Ordering::Relaxed) {
            NIL => {
                self.join(id, id);
                hand.store(id, Ordering::Relaxed);
            }
            first => {
                let (_, last) = self.links(first);
                self.join(last, id);
                self.join(id, first);
            }
        }
    }

    /// Takes an entry out of the ring of its database.
    pub fn take_from_owner(&self, id: Id, place: u16) {
        if place == 0 {
            return;
        }
        let (next, previous) = self.links(id);
        let hand = self.hand(place);
        if next == id {
            hand.store(NIL, Ordering::Relaxed);
            return;
        }
        self.join(previous, next);
        if hand.load(Ordering::Relaxed) == id {
            hand.store(next, Ordering::Relaxed);
        }
    }

    /// The next entries of a database in the order of their turns, each once, while `wanted`. The hand moves on over them: they are the
    /// last ones now.
    pub fn next_of_owner(&self, place: u16, mut wanted: impl FnMut(Id) -> bool) {
        let hand = self.hand(place);
        let first = hand.load(Ordering::Relaxed);
        let mut id = first;
        while id != NIL {
            step(1);
            let (next, _) = self.links(id);
            hand.store(next, Ordering::Relaxed);
            if !wanted(id) || next == first {
                break;
            }
            id = next;
        }
    }
}
