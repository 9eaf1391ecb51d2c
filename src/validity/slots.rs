//! The slots in shared memory.
//!
//! Layout: an array of slots, each a cache line; word 0 is a sequence number, odd while somebody writes, the others hold the slot as
//! `pg_query_cache_validity::packed` has it. A slot that nobody is writing under is read without being unpacked.
//!
//! Locks: none for readers (sequence lock: read, compute, compare the sequence number). A change is computed on a copy and
//! written only if the sequence number has not moved since the copy was taken, so each change is one atomic step, as the model
//! checker assumes. Nothing between taking and releasing a slot can raise an ERROR or call the server.
//!
//! The first [`RESERVED`] are of another kind: see `reserved`.
//!
//! Failure: a backend that dies inside a change (SIGKILL) makes the postmaster start over with empty shared memory.

#![allow(unsafe_code)]

use super::reserved::Reserved;
use super::tags::RESERVED;
use super::view::{PgView, own_xid, surely_before};
use super::{Dependency, Invalid, own};
use crate::fault::{self, Point};
use pg_query_cache_validity::packed::{self, PackedSlot as Rules};
use pg_query_cache_validity::{Doubt, Effect, FullXid, wide};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU64, Ordering, fence};

const WORDS: usize = packed::WORDS;
const _: () = assert!(WORDS == wide::HEAD_WORDS);

/// One slot as it lies in shared memory.
#[repr(C, align(64))]
pub struct SharedSlot {
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// Bytes of one slot in shared memory.
pub const SLOT_BYTES: usize = size_of::<SharedSlot>();
const _: () = assert!(SLOT_BYTES == 64);

/// How a transaction is listed in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Nobody has seen it finished yet.
    Pending,
    /// It made the present generation, alone or with others.
    SettledLast,
    /// Neither: it is no writer, one of an earlier generation, or one too many to be listed.
    Unlisted,
}

impl SharedSlot {
    /// A consistent copy of the words, and their sequence number.
    #[inline(always)]
    pub fn words(&self) -> ([u64; WORDS], u64) {
        let mut spins = 0;
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let words = std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.is_still(before) {
                    return (words, before);
                }
            }
            pause(&mut spins);
        }
    }

    /// Whether nobody has written since `sequence` was read. After an acquire fence.
    #[inline(always)]
    pub fn is_still(&self, sequence: u64) -> bool {
        self.sequence.load(Ordering::Relaxed) == sequence
    }

    /// Takes the slot to write, if nobody has written since `sequence` was read.
    pub fn take(&self, sequence: u64) -> bool {
        let taken = self
            .sequence
            .compare_exchange(sequence, sequence + 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        fence(Ordering::Release);
        taken
    }

    /// Writes the words of a slot that was taken at `sequence`, and gives it back.
    pub fn put(&self, words: [u64; WORDS], sequence: u64) {
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }
}

/// All slots.
#[derive(Clone, Copy)]
pub struct Slots {
    base: *const SharedSlot,
    count: u32,
    /// The lists of the first [`RESERVED`], one after the other.
    lists: *const AtomicU64,
    /// Places in each list.
    places: u32,
}

impl Slots {
    /// The slots at `base`, with their lists at `lists`.
    ///
    /// # Safety
    /// `base` points to `count` slots, more than [`RESERVED`], and `lists` to `places` places for each of those, in shared memory that
    /// live as long as the process; zeroed memory is a valid slot.
    pub unsafe fn at(
        base: *const SharedSlot,
        count: u32,
        lists: *const AtomicU64,
        places: u32,
    ) -> Self {
        Slots {
            base,
            count,
            lists,
            places,
        }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> &SharedSlot {
        debug_assert!(index < self.count);
        // SAFETY: `at` promises `count` slots; an index read from an entry is cut to it, so that no damage leads outside.
        unsafe { &*self.base.add(index.min(self.count - 1) as usize) }
    }

    /// One of the slots of definitions.
    #[inline(always)]
    fn reserved(&self, index: u32) -> Reserved<'_> {
        debug_assert!(index < RESERVED);
        let places = self.places as usize;
        Reserved {
            head: self.slot(index),
            // SAFETY: `at` promises a list for each of these slots.
            list: unsafe {
                std::slice::from_raw_parts(self.lists.add(index as usize * places), places)
            },
        }
    }

    /// A consistent copy of a slot's words and its sequence number.
    #[inline(always)]
    fn words(&self, index: u32) -> ([u64; WORDS], u64) {
        self.slot(index).words()
    }

    /// A consistent copy of a slot and its sequence number.
    fn read(&self, index: u32) -> (Rules, u64) {
        let (words, sequence) = self.words(index);
        (Rules::unpack(&words), sequence)
    }

    /// Writes `rules` if nobody has written since `sequence` was read.
    fn write(&self, index: u32, rules: &Rules, sequence: u64) -> bool {
        let shared = self.slot(index);
        if !shared.take(sequence) {
            return false;
        }
        fault::fenced(Point::SlotChanging);
        shared.put(rules.pack(), sequence);
        true
    }

    /// Applies `change` as one atomic step; `change` says whether it changed anything.
    fn update<R>(&self, index: u32, mut change: impl FnMut(&mut Rules) -> (bool, R)) -> R {
        let mut spins = 0;
        loop {
            let (mut rules, sequence) = self.read(index);
            let (changed, result) = change(&mut rules);
            if !changed || self.write(index, &rules, sequence) {
                return result;
            }
            pause(&mut spins);
        }
    }

    /// Registers the transaction `xid` as a writer. Settles what has ended if the slot has no room.
    pub fn register(&self, index: u32, xid: FullXid, effect: Effect) {
        if index < RESERVED {
            return self.reserved(index).register(xid);
        }
        let made_room = self.update(index, |rules| match rules.is_full() {
            true => (false, false),
            false => (rules.register(xid, effect), true),
        });
        if !made_room {
            self.settle_latest(index);
            self.update(index, |rules| (rules.register(xid, effect), ()));
        }
    }

    /// Takes a transaction out that rolled back.
    pub fn withdraw(&self, index: u32, xid: FullXid) {
        if index < RESERVED {
            return self.reserved(index).withdraw(xid);
        }
        self.update(index, |rules| (rules.withdraw(xid), ()));
    }

    /// Settles an ordinary slot with a snapshot taken now.
    fn settle_latest(&self, index: u32) {
        // SAFETY: inside a transaction. The snapshot is registered, so that it stays valid while it is used.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let view = PgView::new(snapshot);
            self.update(index, |rules| (rules.settle(&view), ()));
            pg_sys::UnregisterSnapshot(snapshot);
        }
    }

    /// Settles all slots with a snapshot taken now, so that entries whose writers have ended are known to be dead. For clean-up: an
    /// entry that nobody asks for is settled by nobody else.
    pub fn settle_all(&self) {
        // SAFETY: inside a transaction. The snapshot is registered, so that it stays valid while it is used.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let view = PgView::new(snapshot);
            for index in 0..RESERVED {
                self.reserved(index).settle(&view);
            }
            for index in (RESERVED..self.count).filter(|index| !self.read(*index).0.is_quiet()) {
                self.update(index, |rules| (rules.settle(&view), ()));
            }
            pg_sys::UnregisterSnapshot(snapshot);
        }
    }

    /// The generation that a slot has, whoever sees it.
    pub fn generation(&self, index: u32) -> u64 {
        self.words(index).0[0]
    }

    /// The generation of a slot that `snapshot` sees.
    ///
    /// # Safety
    /// `snapshot` is the active MVCC snapshot of a transaction.
    #[inline(always)]
    pub unsafe fn generation_for(
        &self,
        index: u32,
        snapshot: pg_sys::Snapshot,
    ) -> Result<u64, Invalid> {
        if own::wrote(index) {
            return Err(Invalid::OwnWrites);
        }
        if index < RESERVED {
            // SAFETY: the caller's snapshot.
            return unsafe { self.reserved(index).generation_for(snapshot) };
        }
        // SAFETY: the caller's snapshot.
        let seen = |newest| unsafe { surely_before(newest, snapshot) };
        match Rules::quiet(&self.words(index).0) {
            Some((generation, newest)) if generation == 0 || seen(newest) => Ok(generation),
            // SAFETY: the caller's snapshot.
            _ => unsafe { self.generation_slowly(index, snapshot) },
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn generation_slowly(
        &self,
        index: u32,
        snapshot: pg_sys::Snapshot,
    ) -> Result<u64, Invalid> {
        // SAFETY: reads the backend's state; the caller's snapshot and the registered one are valid through this call.
        unsafe {
            let (rules, _) = self.read(index);
            let needs_latest = rules.needs_latest();
            if needs_latest && pg_sys::IsInParallelMode() {
                // No snapshot can be taken now.
                return Err(Invalid::Crowded);
            }
            let latest = if needs_latest {
                pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())
            } else {
                snapshot
            };
            let (view, latest_view) = (PgView::new(snapshot), PgView::new(latest));
            // A writer of the kind that needs the latest snapshot may have registered meanwhile. Then the next turn takes one.
            let judgement = self.update(index, |rules| {
                if rules.needs_latest() && !needs_latest {
                    return (false, None);
                }
                let before = *rules;
                let judgement = rules.ask(&view, || &latest_view);
                (*rules != before, Some(judgement))
            });
            if needs_latest {
                pg_sys::UnregisterSnapshot(latest);
            }
            match judgement {
                None => return self.generation_slowly(index, snapshot),
                Some(judgement) => judgement,
            }
        }
        .map_err(|doubt| match doubt {
            Doubt::Unseen => Invalid::OldSnapshot,
            Doubt::Overflow | Doubt::Unsettled => Invalid::Crowded,
        })
    }

    /// Whether an entry with these dependencies is right for `snapshot`.
    ///
    /// # Safety
    /// `snapshot` is the active MVCC snapshot of a transaction.
    #[inline(always)]
    pub unsafe fn check(
        &self,
        dependencies: &[Dependency],
        snapshot: pg_sys::Snapshot,
    ) -> Result<(), Invalid> {
        for dependency in dependencies {
            // SAFETY: the caller's snapshot.
            let generation = unsafe { self.generation_for(dependency.slot(), snapshot) }?;
            if !dependency.has(generation) {
                return Err(Invalid::Dead);
            }
        }
        Ok(())
    }

    /// Whether an entry with these dependencies can ever be served again. Settles nothing; for clean-up.
    pub fn is_dead(&self, dependencies: &[Dependency]) -> bool {
        dependencies
            .iter()
            .any(|dependency| !dependency.has(self.generation(dependency.slot())))
    }

    /// How `xid` is listed in a slot. For people who ask; the rules have their own questions.
    pub fn listing(&self, index: u32, xid: FullXid) -> Listing {
        let (pending, settled_last) = if index < RESERVED {
            let rules = self.reserved(index).copy();
            (rules.is_pending(xid), rules.is_settled_last(xid))
        } else {
            let rules = self.read(index).0;
            (rules.is_pending(xid), rules.is_settled_last(xid))
        };
        if pending {
            Listing::Pending
        } else if settled_last {
            Listing::SettledLast
        } else {
            Listing::Unlisted
        }
    }

    /// The transactions that one of the slots of definitions lists as pending.
    pub fn pending(&self, index: u32) -> Vec<FullXid> {
        debug_assert!(index < RESERVED);
        self.reserved(index).copy().pending().to_vec()
    }

    /// All words of all slots, then the list of each of the slots of definitions, with its length before it. For saving at shutdown, when
    /// nobody writes any more.
    pub fn export(&self) -> Vec<u64> {
        let mut words: Vec<u64> = (0..self.count)
            .flat_map(|index| self.words(index).0)
            .collect();
        for index in 0..RESERVED {
            let slot = self.reserved(index).copy();
            words.push(slot.pending().len() as u64);
            words.extend(slot.pending());
        }
        words
    }

    /// Takes saved words over. `false` if they do not fit.
    pub fn import(&self, words: &[u64]) -> bool {
        let Some((slots, mut lists)) = words.split_at_checked(self.count as usize * WORDS) else {
            return false;
        };
        for (index, words) in slots.as_chunks::<WORDS>().0.iter().enumerate() {
            let index = index as u32;
            if index < RESERVED {
                let Some((length, rest)) = lists.split_first() else {
                    return false;
                };
                let Some((pending, rest)) = rest.split_at_checked(*length as usize) else {
                    return false;
                };
                lists = rest;
                self.reserved(index).restore(words, pending);
            } else {
                let (_, sequence) = self.words(index);
                self.write(index, &Rules::unpack(words), sequence);
            }
        }
        lists.is_empty()
    }
}

/// Waits a moment for another process's change: spins, then gives the processor away.
#[cold]
pub fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < 100 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// The present transaction's id, assigned now if it has none.
///
/// # Safety
/// Inside a transaction that may write.
pub unsafe fn assign_xid() -> FullXid {
    // SAFETY: the caller's transaction; assigning may raise an ERROR, which pgrx turns into a panic.
    unsafe {
        match own_xid() {
            0 => pg_sys::GetTopFullTransactionId().value,
            xid => xid,
        }
    }
}
