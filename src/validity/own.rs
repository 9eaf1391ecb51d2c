//! What the transaction of this backend has written: the slots of its own writes, those that it registered in, and those that it owes.
//!
//! A transaction sees its own uncommitted writes and nobody else does, so it neither takes an entry that depends on one of
//! these slots nor publishes one. The list belongs to the top-level transaction (a rolled-back savepoint leaves it as it is,
//! which bypasses more than it must) and ends with it.
//!
//! **Owed.** A change of definitions takes effect at commit, so nobody else has to know of it before. It is noted here when the command
//! begins, which is enough for the transaction itself, and registered when the transaction is about to commit or to be prepared
//! ([`ends`]). So a transaction that is open costs others nothing. What a savepoint owes goes with it when it is rolled back, a
//! command that is refused included; and a transaction that has no id by then has written nothing, and registers nothing.
//!
//! **Rows of a transaction without an id** are owed as well ([`register_if_it_writes`]): a statement that finds no rows leaves its transaction
//! without one. It takes one before it changes a row, in a savepoint too, so who ends without one has changed none. Others see the
//! rows from the commit on, before which the debt is registered; the next mark of the slot registers it earlier. A savepoint that is rolled
//! back keeps these debts, as it keeps registrations.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::fault::{self, Point};
use crate::numbers::{NumberMap, number_map};
use crate::store::area::Area;
use crate::validity::view::own_xid;
use crate::validity::writers::Act;
use pg_query_cache_validity::{Effect, FullXid};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known about one slot in the present transaction.
#[derive(Clone, Copy, Default)]
struct Mark {
    registered: bool,
    at_commit: bool,
    owed: Option<Debt>,
}

/// What is to be registered when the transaction ends.
#[derive(Clone, Copy)]
struct Debt {
    act: Act,
    effect: Effect,
    /// The nesting level of the transaction that owes it: with a savepoint of that level the debt goes.
    level: i32,
}

/// The level of what the top-level transaction owes, whatever becomes of its savepoints.
const WHOLE_TRANSACTION: i32 = 0;

static MARKS: Backend<RefCell<NumberMap<u32, Mark>>> = Backend::new(RefCell::new(number_map()));

/// Whether `MARKS` holds any. Asked for each dependency of each hit.
static MARKED: AtomicBool = AtomicBool::new(false);

/// Whether the transaction has registered what it owed: what others' callbacks do from then on is registered at once.
static ENDING: Backend<Cell<bool>> = Backend::new(Cell::new(false));

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
                owed: None,
            },
        )
    });
    fault::point(Point::Registered);
}

/// Notes an own write under `slot` that takes effect at commit, and that it is to be registered by then. To be called before the write,
/// for a slot of definitions only. `true` if that was not owed before.
pub fn owe(area: Area, slot: u32, act: Act) -> bool {
    if ENDING.get() {
        // SAFETY: reads a variable of the backend; assigning an id may raise an ERROR, which ends the transaction.
        let xid = unsafe { crate::validity::slots::assign_xid() };
        register(area, slot, xid, Effect::AtCommit, act);
        return false;
    }
    // SAFETY: reads a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    let effect = Effect::AtCommit;
    note_debt(slot, Debt { act, effect, level })
}

/// `true` if nothing was owed there before.
fn note_debt(slot: u32, debt: Debt) -> bool {
    MARKED.store(true, Ordering::Relaxed);
    MARKS.with_borrow_mut(|marks| {
        let mark = marks.entry(slot).or_default();
        if mark.registered || mark.owed.is_some() {
            return false;
        }
        mark.owed = Some(debt);
        true
    })
}

/// Rows under `slot` may be about to change. Registers the present transaction if it has an id, `xid`; with 0, that is owed.
pub fn register_if_it_writes(area: Area, slot: u32, xid: FullXid, act: Act) {
    let effect = Effect::Rows;
    if xid != 0 {
        register(area, slot, xid, effect, act);
    } else if ENDING.get() {
        // Nobody asks once more before the commit.
        // SAFETY: reads a variable of the backend; assigning an id may raise an ERROR, which ends the transaction.
        let xid = unsafe { crate::validity::slots::assign_xid() };
        register(area, slot, xid, effect, act);
    } else {
        let level = WHOLE_TRANSACTION;
        note_debt(slot, Debt { act, effect, level });
    }
}

/// What was said to be owed under `slot` turned out to concern nobody else.
pub fn does_not_owe(slot: u32) {
    MARKS.with_borrow_mut(|marks| {
        if let Some(mark) = marks.get_mut(&slot) {
            mark.owed = None;
        }
    });
}

/// The transaction is about to commit or to be prepared: registers what it owes.
pub fn ends(area: Area) {
    ENDING.set(true);
    if !MARKED.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: reads a variable of the backend.
    let xid = unsafe { own_xid() };
    if xid == 0 {
        return;
    }
    let owed: Vec<(u32, Debt)> = MARKS.with_borrow(|marks| {
        marks
            .iter()
            .filter_map(|(slot, mark)| Some((*slot, mark.owed?)))
            .collect()
    });
    for (slot, debt) in owed {
        register(area, slot, xid, debt.effect, debt.act);
    }
}

/// Whether the transaction has registered what it owed.
pub fn is_ending() -> bool {
    ENDING.get()
}

/// What the present transaction owes under `slot`, and its id, 0 if it has none.
pub fn owed(slot: u32) -> Option<(FullXid, Act)> {
    let debt = MARKS.with_borrow(|marks| marks.get(&slot)?.owed)?;
    // SAFETY: reads a variable of the backend.
    Some((unsafe { own_xid() }, debt.act))
}

/// The savepoint of nesting level `level` ended.
pub fn subtransaction_ended(level: i32, committed: bool) {
    if !MARKED.load(Ordering::Relaxed) {
        return;
    }
    MARKS.with_borrow_mut(|marks| {
        for mark in marks.values_mut() {
            match &mut mark.owed {
                Some(debt) if debt.level >= level && committed => debt.level = level - 1,
                Some(debt) if debt.level >= level => mark.owed = None,
                _ => (),
            }
        }
    });
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
    ENDING.set(false);
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
