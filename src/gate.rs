//! The gate: is the extension in this database? Every hook asks it first, and does nothing of its own behind a closed one: no
//! transaction id, no word of shared memory, no look at the statement's query.
//!
//! **The answer** is a static of the process; asking costs one load. It comes from a look at `pg_extension` and is forgotten when a row
//! of `pg_language` changes. `pg_extension` itself has no system cache, so nobody is told when it changes; but the extension owns a
//! language, which comes with CREATE EXTENSION, goes with DROP EXTENSION, and has a system cache. The server tells of that change this
//! session (at the next command, and again when a savepoint or the transaction is rolled back) and all others (at commit). The row of
//! the extension is there before the language is made, so whoever looks after the message finds it. The name of the language would not
//! do for an answer: a superuser can rename it. Outside of a transaction that may look (aborted, no database, logical decoding) an
//! unknown gate counts as closed, and nothing is kept of that.
//!
//! **A message can be late**: the other session's transaction is over a moment before its messages are out, and a session reads them
//! only when it locks something. So a closed gate is not the last word on a command that changes definitions. The transaction notes
//! what it [`owes`], and [`before_commit`] looks at the catalog itself. If the extension is there by now, the transaction registers as
//! a writer, before anybody can see what it wrote.
//!
//! **And if it is not there yet?** Then the transaction that creates the extension commits later, when ours has its id already. It
//! leaves a *bound* in shared memory: the next id to be assigned, taken right after its commit ([`Bounds`]). Nothing is stored for, or
//! served to, a snapshot that does not see all transactions of this database before the bound finished (but those that the cluster's slot
//! lists, see [`saved`]). Those that run in other databases meanwhile are not waited for: what they have changed of what the cluster shares
//! they mark when they commit, and a command on this database, its name or owner, marks its slot, from wherever it comes and also before the database uses the cache. The same bound covers the calls of a transaction
//! that wrote behind a closed gate. It can not cover a transaction that is prepared, so one that has created the extension is not.
//!
//! **The bound has to be passed when a transaction begins** ([`first_query`]), since what it plans before that it may keep until its end. To
//! be passed means more than to be finished: a transaction holds the lock on its id until its messages are out. One that begins too early
//! does not use the cache, whatever its later snapshots see. The first one of a process that begins behind the bound throws away what
//! the process keeps of the catalogs: not every change is told by a message, and no generation counts those that nobody has marked. The
//! same holds for the writers of before a start without saved slots ([`saved`]).
//!
//! **A gate that opens within a transaction** has not seen how it began: what was planned, which settings expressions read, which
//! temporary objects there are. Such a transaction does not use the cache ([`admits`]).
//!
//! **Roles belong to all databases.** A command on them behind a closed gate marks the cluster's slot if some database of the cluster
//! uses the cache, and only then. The first use sets the cluster's word, with a bound of its own.
//!
//! **An extension that was dropped and created again**: DROP EXTENSION marks the definitions of the database, so every result from
//! before is dead for whoever sees it dropped, in both tiers; generations only grow. What happens until it is created again cannot
//! make a later result wrong: nothing is stored meanwhile.
//!
//! Triggers of tracked tables do not ask: one that fires is there, so somebody wants to know. Callbacks of invalidation do not ask
//! either, as they must not look at catalogs: they set marks in this process and nothing else.
//!
//! Locks: none. The words are atomic; see [`Bounds`] for their order.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::error::Error;
use crate::server;
use crate::store::area::Area;
use crate::validity::places::definitions_slot;
use crate::validity::saved;
use crate::validity::tags::{CLUSTER_SLOT, RESERVED};
use crate::validity::view::{
    PgView, all_effective_before, all_effective_but, all_effective_here_but, own_xid,
    surely_reaches,
};
use pg_query_cache_validity::wide::{Cut, CutView};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

/// It has to be looked for.
const UNKNOWN: u8 = 0;
/// It is not here.
const CLOSED: u8 = 1;
/// It is here.
const OPEN: u8 = 2;
/// It is here, but was not at the beginning of the transaction [`LATE_IN`].
const LATE: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
/// How often the answer was forgotten: one that was found meanwhile is not kept.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
/// The last transaction, by its local number, that was told that the gate is closed.
static CLOSED_IN: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// The transaction in which it opened too late.
static LATE_IN: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// Whether there may be something to do at the end of a transaction.
static CONCERNED: AtomicBool = AtomicBool::new(false);
/// What the present transaction has changed behind a closed gate.
static OWED: Backend<Cell<Owed>> = Backend::new(Cell::new(Owed::NOTHING));
/// Other databases of which it has changed name or owner.
static OWED_DATABASES: Backend<RefCell<Vec<pg_sys::Oid>>> = Backend::new(RefCell::new(Vec::new()));
/// The words of the bounds that were passed when the last transaction of this process began: none if it began too early.
static BEHIND: Backend<Cell<Words>> = Backend::new(Cell::new(NONE));
/// The word of this database that a snapshot has passed, and where that was.
static LAST_PASSED: Backend<Cell<(u64, Cut)>> = Backend::new(Cell::new((
    u64::MAX,
    Cut {
        next: 0,
        running: 0,
    },
)));
/// The present transaction creates the extension, and has said so in shared memory.
static CREATING: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// What a command changes, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed(u8);

impl Owed {
    /// Nothing that a result could rest on.
    pub const NOTHING: Owed = Owed(0);
    /// Definitions of the database.
    pub const DEFINITIONS: Owed = Owed(1);
    /// What the cluster shares.
    pub const CLUSTER: Owed = Owed(2);
    /// Both.
    pub const BOTH: Owed = Owed(3);

    /// Both sets.
    pub fn and(self, other: Owed) -> Owed {
        Owed(self.0 | other.0)
    }

    /// What is not in `other`.
    pub fn without(self, other: Owed) -> Owed {
        Owed(self.0 & !other.0)
    }

    /// Whether it has a part of `other`.
    pub fn has(self, other: Owed) -> bool {
        self.0 & other.0 != 0
    }
}

/// Forgets the answer whenever a language changes. Once, when the library is loaded.
pub fn watch_catalog() {
    // SAFETY: a function with the signature that the server wants.
    unsafe {
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::LANGOID as i32,
            Some(language_changed),
            pg_sys::Datum::from(0),
        );
    }
}

unsafe extern "C-unwind" fn language_changed(_: pg_sys::Datum, _: i32, _: u32) {
    // No fence: two stores.
    FORGOTTEN.fetch_add(1, Ordering::Relaxed);
    if STATE.swap(UNKNOWN, Ordering::Relaxed) == LATE {
        // The same transaction is still late when it asks again.
        CLOSED_IN.set(LATE_IN.get());
    }
}

/// Whether the extension is in this database.
#[inline(always)]
pub fn is_open() -> bool {
    match STATE.load(Ordering::Relaxed) {
        CLOSED => closed(),
        UNKNOWN => look(),
        _ => true,
    }
}

/// Whether this session may use the cache now: the extension is here, and was when the transaction began.
#[inline(always)]
pub fn admits() -> bool {
    STATE.load(Ordering::Relaxed) == OPEN || admits_after_a_look()
}

#[cold]
fn admits_after_a_look() -> bool {
    if STATE.load(Ordering::Relaxed) == LATE && LATE_IN.get() != compat::local_transaction() {
        STATE.store(OPEN, Ordering::Relaxed);
    }
    // A call of a cached function behind a closed gate: the message has not come yet.
    if STATE.load(Ordering::Relaxed) == CLOSED {
        closed();
        STATE.store(UNKNOWN, Ordering::Relaxed);
    }
    is_open() && STATE.load(Ordering::Relaxed) == OPEN
}

/// The first query of a transaction begins: it has to begin behind the bounds, or the transaction does not use the cache. Whether it is
/// the first one of this process behind these.
///
/// # Safety
/// `snapshot` is the query's snapshot, or NULL; inside a transaction.
#[inline(always)]
pub unsafe fn first_query(area: Area, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    words_here(area) != BEHIND.get() && unsafe { first_behind(area, snapshot) }
}

#[cold]
unsafe fn first_behind(area: Area, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's snapshot; reads the backend's state. Messages may be processed where a query begins.
    unsafe {
        let usable = !snapshot.is_null()
            && (*snapshot).snapshot_type == pg_sys::SnapshotType::SNAPSHOT_MVCC
            && !(*snapshot).takenDuringRecovery
            && !compat::is_parallel_worker()
            && !server::RecoveryInProgress();
        if usable {
            area.bounds().first_use();
            saved::known_from_now_on(area);
            let words = words_here(area);
            let [cluster, own, known] = words;
            let last = cluster.max(known);
            // Of those that are listed in the cluster's slot the effect is waited for where they are settled.
            if is_passed(area, cluster, snapshot)
                && is_passed(area, known, snapshot)
                && is_passed_here(area, own, snapshot)
                && (last <= PASSED || all_effective_but(&saved::listed(area), last))
                && (own <= PASSED || all_effective_here_but(&saved::listed(area), own))
            {
                BEHIND.set(words);
                pg_sys::AcceptInvalidationMessages();
                return true;
            }
        }
    }
    BEHIND.set(NONE);
    begins_late();
    false
}

/// The present transaction does not use the cache.
fn begins_late() {
    let transaction = compat::local_transaction();
    // If it is still to be looked for, it is late as well.
    CLOSED_IN.set(transaction);
    if matches!(STATE.load(Ordering::Relaxed), OPEN | LATE) {
        LATE_IN.set(transaction);
        STATE.store(LATE, Ordering::Relaxed);
    }
}

/// The words that concern a process: the cluster's, the one of its database, and the first known transaction since the start.
type Words = [u64; 3];

/// Words that there never are.
const NONE: Words = [u64::MAX; 3];

#[inline(always)]
fn words_here(area: Area) -> Words {
    let [cluster, own] = area.bounds().words_here();
    [
        cluster,
        own,
        area.header().known_from.load(Ordering::Acquire),
    ]
}

/// Whether `snapshot` sees all transactions before a word's bound finished, or they are known to the cluster's slot, and nobody is about
/// to set another.
///
/// # Safety
/// `snapshot` is a valid MVCC snapshot, inside a transaction.
unsafe fn is_passed(area: Area, word: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    word < ONE && (word <= PASSED || unsafe { saved::is_behind(area, word, snapshot) })
}

/// As [`is_passed`], of the word of this database: its own transactions have to be finished. One that runs in another database then, and commits
/// later, does so behind the cluster's bound, so it marks what it has changed of what the cluster shares.
///
/// # Safety
/// As for [`is_passed`].
unsafe fn is_passed_here(area: Area, word: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    word < ONE && (word <= PASSED || unsafe { saved::is_behind_here(area, word, snapshot) })
}

/// Whether a transaction's end may concern us: not behind a closed gate, unless something was done nevertheless.
#[inline(always)]
pub fn is_concerned() -> bool {
    CONCERNED.load(Ordering::Relaxed) || STATE.load(Ordering::Relaxed) != CLOSED
}

/// From now on the ends of transactions concern this process.
#[inline(always)]
pub fn concerns() {
    CONCERNED.store(true, Ordering::Relaxed);
}

#[inline(always)]
fn closed() -> bool {
    CLOSED_IN.set(compat::local_transaction());
    false
}

/// Looks for the extension, and keeps the answer unless it was forgotten meanwhile.
#[cold]
#[inline(never)]
fn look() -> bool {
    if !may_look() {
        return false;
    }
    let before = FORGOTTEN.load(Ordering::Relaxed);
    // SAFETY: a transaction that may look at catalogs.
    let found = unsafe { find() }.is_some();
    let state = match found {
        false => CLOSED,
        true if CLOSED_IN.get() == compat::local_transaction() => {
            LATE_IN.set(compat::local_transaction());
            LATE
        }
        true => OPEN,
    };
    if FORGOTTEN.load(Ordering::Relaxed) == before {
        STATE.store(state, Ordering::Relaxed);
    }
    if found {
        concerns();
        true
    } else {
        closed()
    }
}

/// Whether catalogs can be looked at: a process with a database, in a transaction that goes on, not decoding the WAL of another time.
fn may_look() -> bool {
    // SAFETY: reads variables of the backend.
    unsafe {
        pg_sys::MyDatabaseId != pg_sys::InvalidOid
            && pg_sys::IsTransactionState()
            && !pg_sys::HistoricSnapshotActive()
    }
}

/// The row of the extension, under a snapshot taken now: whether this transaction has written it. The server takes a new snapshot for
/// each look at a catalog without a system cache.
unsafe fn find() -> Option<bool> {
    let mut name = pg_sys::NameData::default();
    // SAFETY: a plain scan of a catalog by its index; the tuple is used while the scan is.
    unsafe {
        pg_sys::namestrcpy(&mut name, c"pg_query_cache".as_ptr());
        let relation =
            pg_sys::table_open(pg_sys::ExtensionRelationId, pg_sys::AccessShareLock as _);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_extension_extname as _,
            pg_sys::BTEqualStrategyNumber as _,
            pg_sys::F_NAMEEQ.into(),
            pg_sys::Datum::from(&raw mut name),
        );
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::Oid::from_u32(pg_sys::ExtensionNameIndexId),
            true,
            std::ptr::null_mut(),
            1,
            &mut key,
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| {
            let head = &*(*tuple).t_data;
            let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
            head.t_infomask & frozen != frozen
                && pg_sys::TransactionIdIsCurrentTransactionId(head.t_choice.t_heap.t_xmin)
        });
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
        found
    }
}

/// The present transaction changes something that nobody has marked.
pub fn owes(what: Owed) {
    if what != Owed::NOTHING {
        OWED.set(OWED.get().and(what));
        concerns();
    }
}

/// It changes name or owner of these databases.
pub fn owes_databases(databases: impl FnOnce() -> Vec<pg_sys::Oid>) {
    if !may_look() {
        return;
    }
    let databases = databases();
    if !databases.is_empty() {
        OWED_DATABASES.with_borrow_mut(|owed| {
            owed.extend(databases);
            owed.sort_unstable_by_key(|database| database.to_u32());
            owed.dedup();
        });
        concerns();
    }
}

/// The transaction is about to commit, or to be prepared: what has to be marked after all, if anything, here and in other databases. Raises
/// an ERROR if it has created the extension and is to be prepared.
pub fn before_commit(area: Area, preparing: bool) -> (Owed, Vec<pg_sys::Oid>) {
    let owed = OWED.replace(Owed::NOTHING);
    let mut databases = OWED_DATABASES.take();
    // SAFETY: a variable of the backend. Who has no id has changed nothing.
    if owed == Owed::NOTHING && databases.is_empty() || unsafe { own_xid() } == 0 {
        return (Owed::NOTHING, Vec::new());
    }
    // Our id was assigned before the word is read; who sets the word reads the next id after that.
    fence(Ordering::SeqCst);
    let somewhere = area.bounds().is_used_somewhere();
    if !somewhere {
        databases.clear();
    }
    let mut marks = Owed(owed.0 & (Owed::CLUSTER.0 * u8::from(somewhere)));
    if owed.has(Owed::DEFINITIONS) && may_look() {
        // SAFETY: a transaction that may look at catalogs.
        if let Some(ours) = unsafe { find() } {
            marks = marks.and(Owed::DEFINITIONS);
            if ours && preparing {
                Error::CreatedHere.raise();
            }
            if ours && !CREATING.replace(true) {
                area.bounds().begin(definitions_slot());
            }
        }
    }
    (marks, databases)
}

/// The transaction has ended.
pub fn transaction_ended(area: Area) {
    OWED.set(Owed::NOTHING);
    OWED_DATABASES.take();
    if CREATING.take() {
        area.bounds().end(definitions_slot());
    }
}

/// Ids below which every transaction has to be finished for a snapshot that is to use the cache: one word for the cluster, and one for
/// each slot of definitions, the last of which databases may share. Sharing one bypasses too much, never too little.
///
/// A word holds the bound, and in its upper byte how many transactions are about to set one: nobody uses the cache meanwhile. It is
/// raised before their commit and lowered after the bound is set, so who sees the extension sees one or the other. A cluster's word of
/// 0 says that nobody has used the cache yet.
#[repr(C)]
pub struct Bounds {
    words: [AtomicU64; RESERVED as usize],
}

/// One transaction about to set a bound.
const ONE: u64 = 1 << 56;
/// A bound that every snapshot has passed.
const PASSED: u64 = 1;

impl Bounds {
    /// Whether some database of the cluster uses the cache, or has since its slots are counted.
    pub fn is_used_somewhere(&self) -> bool {
        self.words[CLUSTER_SLOT as usize].load(Ordering::SeqCst) != 0
    }

    /// Says that some database uses the cache and that all writers are known, but for those that `saved` waits for. At the start, with the
    /// slots of a clean shutdown.
    pub fn restore(&self) {
        self.words[CLUSTER_SLOT as usize].store(PASSED, Ordering::SeqCst);
    }

    /// Whether every writer that did not mark what it wrote is finished for `snapshot`.
    ///
    /// # Safety
    /// `snapshot` is the active MVCC snapshot.
    #[inline(always)]
    pub unsafe fn are_passed(&self, area: Area, snapshot: pg_sys::Snapshot) -> bool {
        let [cluster, own] = self.words_here();
        // SAFETY: the caller's snapshot.
        cluster == PASSED && own == 0 || unsafe { self.are_passed_slowly(area, snapshot) }
    }

    #[cold]
    unsafe fn are_passed_slowly(&self, area: Area, snapshot: pg_sys::Snapshot) -> bool {
        self.first_use();
        let [cluster, own] = self.words_here();
        let (last, cut) = LAST_PASSED.get();
        // SAFETY: the caller's snapshot. What one snapshot has seen finished, a later one does too.
        unsafe {
            if !is_passed(area, cluster, snapshot) {
                return false;
            }
            if last == own && surely_reaches(cut, snapshot) {
                return true;
            }
            let passed = is_passed_here(area, own, snapshot);
            if passed {
                LAST_PASSED.set((own, PgView::new(snapshot).cut()));
            }
            passed
        }
    }

    /// The cluster's word, and the one of this database.
    #[inline(always)]
    fn words_here(&self) -> [u64; 2] {
        [CLUSTER_SLOT, definitions_slot()]
            .map(|slot| self.words[slot as usize].load(Ordering::Acquire))
    }

    /// Sets the cluster's word if nobody has used the cache yet.
    fn first_use(&self) {
        let word = &self.words[CLUSTER_SLOT as usize];
        let first = word.compare_exchange(0, ONE, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_ok() {
            self.end(CLUSTER_SLOT);
        }
    }

    fn begin(&self, slot: u32) {
        self.words[slot as usize].fetch_add(ONE, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Sets the bound to the next id, which nobody has yet.
    fn end(&self, slot: u32) {
        fence(Ordering::SeqCst);
        // SAFETY: reads a shared variable.
        let next = unsafe { pg_sys::ReadNextFullTransactionId().value };
        let word = &self.words[slot as usize];
        let _ = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
            let bound = (word % ONE).max(next % ONE);
            Some((word / ONE).saturating_sub(1) * ONE + bound)
        });
    }

    /// Whether there are any that not every snapshot has passed.
    pub fn are_any(&self) -> bool {
        self.words
            .iter()
            .any(|word| word.load(Ordering::Relaxed) > PASSED)
    }

    /// Forgets the bounds that every snapshot has passed, now that no transaction before `oldest` is running and all their messages are
    /// out. For the worker.
    pub fn forget_before(&self, oldest: pg_sys::TransactionId) {
        for (slot, word) in self.words.iter().enumerate() {
            let bound = word.load(Ordering::SeqCst);
            let passed = u32::from(oldest).wrapping_sub(bound as u32) as i32 >= 0;
            if bound > PASSED && bound < ONE && passed && all_effective_before(bound) {
                let known = if slot == CLUSTER_SLOT as usize {
                    PASSED
                } else {
                    0
                };
                let _ = word.compare_exchange(bound, known, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    }
}
