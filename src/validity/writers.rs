//! Who wrote last: for each slot, the last transactions that registered in it. Told to people (`cache_explain`, the log), never
//! asked by the rules: what is missing or late here makes no answer wrong.
//!
//! Layout: sets of 128 bytes. Word 0 of a set is a sequence number, odd while somebody writes; then follow [`PLACES`] records, the
//! latest first. A slot has one set, in which each record names its slot, so that slots may share a set: then the later writers push
//! the earlier ones out, which are forgotten. The slots of definitions, about which people ask most, have sets of their own.
//!
//! Locks: none for readers (sequence lock). A writer takes a set by making its sequence number odd and keeps it for a few stores that
//! cannot raise an ERROR; one that finds it taken tries for a moment and then leaves its record out: no writer waits for a memory of
//! writers. A backend that dies inside makes the postmaster start over with empty shared memory.

#![allow(unsafe_code)]

use super::tags::RESERVED;
use crate::compat;
use crate::server;
use pg_query_cache_validity::FullXid;
use pgrx::{IntoDatum, pg_sys};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Records in a set.
const PLACES: usize = 3;
/// Words of a record.
const WORDS: usize = 5;
/// How many of the records of a set one slot may have while another slot needs a place: the last writer, and one still running.
const OWN_PLACES: usize = 2;
/// How often a writer or a reader tries before it gives up.
const ATTEMPTS: usize = 200;

#[repr(C, align(64))]
pub struct Set {
    sequence: AtomicU64,
    words: [AtomicU64; PLACES * WORDS],
}

/// Bytes of a set.
pub const SET_BYTES: usize = size_of::<Set>();
const _: () = assert!(SET_BYTES == 128);

/// What a transaction did when it registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Told by a tracking trigger.
    Insert,
    /// Told by a tracking trigger.
    Update,
    /// Told by a tracking trigger.
    Delete,
    /// Told by a tracking trigger.
    Truncate,
    /// A statement that changed rows of a system catalog.
    CatalogChange,
    /// `invalidate_cache()`
    InvalidateTags,
    /// `invalidate_cache_function()`
    InvalidateFunction,
    /// `invalidate_cache_table()`
    InvalidateTable,
    /// `clear_cache()`
    Clear,
    /// The relation began to be tracked.
    Track,
    /// The relation stopped being tracked.
    Untrack,
    /// A command of SQL, by the number of its tag.
    Command(u16),
}

const PLAIN: [Operation; 11] = [
    Operation::Insert,
    Operation::Update,
    Operation::Delete,
    Operation::Truncate,
    Operation::CatalogChange,
    Operation::InvalidateTags,
    Operation::InvalidateFunction,
    Operation::InvalidateTable,
    Operation::Clear,
    Operation::Track,
    Operation::Untrack,
];
/// Codes from here on are commands.
const COMMANDS: u16 = 256;

impl Operation {
    /// A command by its parse tree.
    ///
    /// # Safety
    /// `statement` is the parse tree of a command.
    pub unsafe fn of_command(statement: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller's.
        Operation::Command(unsafe { pg_sys::CreateCommandTag(statement) } as u16)
    }

    fn code(self) -> u16 {
        match self {
            Operation::Command(tag) => COMMANDS.saturating_add(tag),
            plain => PLAIN.iter().position(|known| *known == plain).unwrap_or(0) as u16,
        }
    }

    fn from_code(code: u16) -> Self {
        match code.checked_sub(COMMANDS) {
            Some(tag) => Operation::Command(tag),
            None => PLAIN
                .get(code as usize)
                .copied()
                .unwrap_or(Operation::CatalogChange),
        }
    }

    /// As people call it.
    pub fn name(self) -> String {
        let name = match self {
            Operation::Insert => "INSERT",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Truncate => "TRUNCATE",
            Operation::CatalogChange => "change of a system catalog",
            Operation::InvalidateTags => "invalidate_cache()",
            Operation::InvalidateFunction => "invalidate_cache_function()",
            Operation::InvalidateTable => "invalidate_cache_table()",
            Operation::Clear => "clear_cache()",
            Operation::Track => "start of tracking",
            Operation::Untrack => "end of tracking",
            Operation::Command(tag) => {
                // SAFETY: a constant of the server, by the number of one of its tags.
                return unsafe { compat::text(pg_sys::GetCommandTagName(u32::from(tag))) };
            }
        };
        name.into()
    }
}

/// What a registration is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// What was done.
    pub operation: Operation,
    /// The relation concerned, or invalid.
    pub relation: pg_sys::Oid,
    /// By logical replication, or another session that applies what was done elsewhere.
    pub applied: bool,
}

impl Act {
    /// Something that concerns `relation`.
    pub fn on(operation: Operation, relation: pg_sys::Oid) -> Self {
        Act {
            operation,
            relation,
            applied: false,
        }
    }

    /// Something that concerns no relation in particular.
    pub fn new(operation: Operation) -> Self {
        Self::on(operation, pg_sys::InvalidOid)
    }
}

/// A transaction that registered in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The slot.
    slot: u32,
    /// The top-level transaction.
    pub xid: FullXid,
    /// Start of the statement that registered first, microseconds since 2000-01-01.
    pub at: i64,
    /// What the statement did.
    pub act: Act,
    /// Its database.
    pub database: pg_sys::Oid,
    /// The session's role, as SET ROLE has it.
    pub role: pg_sys::Oid,
    /// Process id of the backend.
    pub pid: i32,
}

const APPLIED: u64 = 1 << 16;

impl Record {
    const NONE: [u64; WORDS] = [0; WORDS];

    /// This transaction in `slot`.
    pub fn of_this_transaction(slot: u32, xid: FullXid, act: Act) -> Self {
        // SAFETY: variables of the backend.
        unsafe {
            Record {
                slot,
                xid,
                at: server::GetCurrentStatementStartTimestamp(),
                act,
                database: pg_sys::MyDatabaseId,
                role: server::GetOuterUserId(),
                pid: pg_sys::MyProcPid,
            }
        }
    }

    fn to_words(self) -> [u64; WORDS] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let applied = if self.act.applied { APPLIED } else { 0 };
        [
            self.xid,
            self.at as u64,
            pair(self.slot, self.act.relation.to_u32()),
            pair(self.database.to_u32(), self.role.to_u32()),
            pair(self.pid as u32, 0) | applied | u64::from(self.act.operation.code()),
        ]
    }

    /// `None` for a place that is free.
    fn from_words(words: &[u64]) -> Option<Self> {
        let [xid, at, place, who, what]: [u64; WORDS] = words.try_into().ok()?;
        (xid != 0).then(|| Record {
            slot: (place >> 32) as u32,
            xid,
            at: at as i64,
            act: Act {
                operation: Operation::from_code(what as u16),
                relation: (place as u32).into(),
                applied: what & APPLIED != 0,
            },
            database: ((who >> 32) as u32).into(),
            role: (who as u32).into(),
            pid: (what >> 32) as i32,
        })
    }

    /// What became of the transaction.
    pub fn state(&self) -> State {
        // SAFETY: the server's function takes an xid8 and returns a text, or NULL for a transaction about which nothing is kept any
        // more. It raises an ERROR for one that is yet to come; this one has been.
        let status = unsafe {
            pgrx::direct_function_call::<crate::encoding::Text>(
                pg_sys::pg_xact_status,
                &[(self.xid as i64).into_datum()],
            )
        };
        match status.as_ref().map(|status| status.0.as_str()) {
            Some("in progress") => State::InProgress,
            Some("committed") => State::Committed,
            Some(_) => State::RolledBack,
            None => State::LongAgo,
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or is prepared.
    InProgress,
    /// It committed.
    Committed,
    /// It rolled back.
    RolledBack,
    /// It ended so long ago that the server has forgotten how.
    LongAgo,
}

impl State {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            State::InProgress => "in progress",
            State::Committed => "committed",
            State::RolledBack => "rolled back",
            State::LongAgo => "ended long ago",
        }
    }
}

/// All sets.
#[derive(Clone, Copy)]
pub struct Writers {
    base: *const Set,
    count: u32,
}

impl Writers {
    /// The sets at `base`.
    ///
    /// # Safety
    /// `base` points to `count` sets, more than [`RESERVED`], in shared memory that live as long as the process, zeroed at creation.
    pub unsafe fn at(base: *const Set, count: u32) -> Self {
        Writers { base, count }
    }

    fn set(&self, slot: u32) -> &'static Set {
        let index = if slot < RESERVED {
            slot
        } else {
            RESERVED + slot % (self.count - RESERVED)
        };
        // SAFETY: below `count`, as `at` promises; all fields are atomic.
        unsafe { &*self.base.add(index as usize) }
    }

    /// Notes that this transaction, `xid`, registered in `slot`.
    pub fn note(&self, slot: u32, xid: FullXid, act: Act) {
        let record = Record::of_this_transaction(slot, xid, act).to_words();
        self.set(slot).change(|words| {
            let place = place_for(words, slot, xid);
            words.copy_within(..place * WORDS, WORDS);
            words[..WORDS].copy_from_slice(&record);
        });
    }

    /// Forgets that `xid` registered in `slot`: it rolled back.
    pub fn withdraw(&self, slot: u32, xid: FullXid) {
        self.set(slot).change(|words| {
            if let Some(place) = place_of(words, slot, xid) {
                words.copy_within((place + 1) * WORDS.., place * WORDS);
                words[(PLACES - 1) * WORDS..].copy_from_slice(&Record::NONE);
            }
        });
    }

    /// The transactions that are known to have registered in `slot`, the latest first.
    pub fn of(&self, slot: u32) -> Vec<Record> {
        let Some(words) = self.set(slot).read() else {
            return Vec::new();
        };
        words
            .chunks_exact(WORDS)
            .filter_map(Record::from_words)
            .filter(|record| record.slot == slot)
            .collect()
    }
}

fn slot_at(words: &[u64], place: usize) -> Option<u32> {
    (words[place * WORDS] != 0).then(|| (words[place * WORDS + 2] >> 32) as u32)
}

fn place_of(words: &[u64], slot: u32, xid: FullXid) -> Option<usize> {
    (0..PLACES).find(|place| {
        words[place * WORDS] == xid && xid != 0 && slot_at(words, *place) == Some(slot)
    })
}

/// The place that a new record takes: its own from before, a free one, the slot's oldest if it has its share, or else the oldest.
fn place_for(words: &[u64], slot: u32, xid: FullXid) -> usize {
    let free = || (0..PLACES).find(|place| slot_at(words, *place).is_none());
    let oldest_own = || {
        let mut own = (0..PLACES).filter(|place| slot_at(words, *place) == Some(slot));
        own.nth(OWN_PLACES - 1)
    };
    place_of(words, slot, xid)
        .or_else(free)
        .or_else(oldest_own)
        .unwrap_or(PLACES - 1)
}

impl Set {
    /// Changes the records as one step, unless somebody else keeps the set for longer than a moment.
    fn change(&self, change: impl FnOnce(&mut [u64; PLACES * WORDS])) {
        for _ in 0..ATTEMPTS {
            let sequence = self.sequence.load(Ordering::Relaxed);
            if sequence & 1 == 0
                && self
                    .sequence
                    .compare_exchange_weak(
                        sequence,
                        sequence + 1,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                fence(Ordering::Release);
                let mut words = self.load();
                change(&mut words);
                for (word, value) in self.words.iter().zip(words) {
                    word.store(value, Ordering::Relaxed);
                }
                self.sequence.store(sequence + 2, Ordering::Release);
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn load(&self) -> [u64; PLACES * WORDS] {
        std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed))
    }

    /// A consistent copy of the records; `None` if they never held still.
    fn read(&self) -> Option<[u64; PLACES * WORDS]> {
        for _ in 0..ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let words = self.load();
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return Some(words);
                }
            }
            std::thread::yield_now();
        }
        None
    }
}
