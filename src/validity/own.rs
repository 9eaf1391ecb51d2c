//! What the transaction of this backend has written: the slots of its own writes, and those that it registered in.
//!
//! A transaction sees its own uncommitted writes and nobody else does, so it neither takes an entry that depends on one of
//! these slots nor publishes one. The list belongs to the top-level transaction (a rolled-back savepoint leaves it as it is,
//! which bypasses more than it must) and ends with it.

use crate::backend::Backend;
use crate::fault::{self, Point};
use crate::numbers::{NumberMap, number_map};
use crate::store::area::Area;
use crate::validity::writers::Act;
use pg_query_cache_validity::{Effect, FullXid};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known about one slot in the present transaction.
#[derive(Clone, Copy, Default)]
struct Mark {
    registered: bool,
    at_commit: bool,
}

static MARKS: Backend<RefCell<NumberMap<u32, Mark>>> = Backend::new(RefCell::new(number_map()));

/// Whether `MARKS` holds any. Asked for each dependency of each hit.
static MARKED: AtomicBool = AtomicBool::new(false);

/// Notes an own write under `slot` for this backend alone: other sessions learn of it by other slots.
pub fn note(slot: u32) {
    MARKED.store(true, Ordering::Relaxed);
    MARKS.with_borrow_mut(|marks| {
        marks.entry(slot).or_default();
    });
}

/// Registers the present transaction, `xid`, as a writer under `slot`. To be called before the write can be seen by anyone. `act` is
/// what people are told about it.
pub fn register(area: Area, slot: u32, xid: FullXid, effect: Effect, act: Act) {
    let known = MARKS
        .with_borrow(|marks| marks.get(&slot).copied())
        .unwrap_or_default();
    let at_commit = effect == Effect::AtCommit;
    if known.registered && (known.at_commit || !at_commit) {
        return;
    }
    MARKED.store(true, Ordering::Relaxed);
    fault::point(Point::Registering);
    area.slots().register(slot, xid, effect);
    area.writers().note(slot, xid, act);
    MARKS.with_borrow_mut(|marks| {
        marks.insert(
            slot,
            Mark {
                registered: true,
                at_commit: known.at_commit || at_commit,
            },
        )
    });
    fault::point(Point::Registered);
}

/// Whether the present transaction has written under `slot`.
#[inline(always)]
pub fn wrote(slot: u32) -> bool {
    MARKED.load(Ordering::Relaxed) && MARKS.with_borrow(|marks| marks.contains_key(&slot))
}

/// Number of slots that the present transaction has marked.
pub fn count() -> usize {
    MARKS.with_borrow(NumberMap::len)
}

/// The transaction committed or was prepared: its registrations stay, the next transaction starts with none.
pub fn forget() {
    if !MARKED.swap(false, Ordering::Relaxed) {
        return;
    }
    MARKS.with_borrow_mut(|marks| {
        if marks.capacity() > 4096 {
            *marks = number_map()
        } else {
            marks.clear()
        }
    });
}

/// The transaction is about to be prepared. From here on its registrations are never taken out: should the preparation fail, an
/// invalidation too many is the price.
pub fn keep_registered() {
    MARKS.with_borrow_mut(|marks| marks.values_mut().for_each(|mark| mark.registered = false));
}

/// The transaction `xid` rolled back: its registrations are taken out again.
pub fn withdraw(area: Area, xid: FullXid) {
    MARKS.with_borrow(|marks| {
        for (slot, mark) in marks {
            if mark.registered {
                fault::fenced(Point::Withdrawing);
                area.slots().withdraw(*slot, xid);
                area.writers().withdraw(*slot, xid);
            }
        }
    });
    forget();
}
