//! Fills in progress in this backend, innermost last, and what each has read so far.
//!
//! Executor hooks and inner cached calls report here. A frame belongs to the (sub)transaction in which it began: if that is rolled
//! back the frame goes, and the flight that it leads ends (`transaction`).
//!
//! The fill of a set whose rows are asked for one by one (`series`) is paused between two of them: its frame lies aside, nothing is
//! recorded in it, and it leads no flight. It goes on only where an uninterrupted fill could be: the session has begun no query, run no
//! command and made no function ready meanwhile ([`something_begins`]), so it has learned nothing that the fill did not see; role,
//! settings and snapshot are the same; definitions are as they were; the same fill is around it. Every rollback of a savepoint ends all
//! that are paused, and so does the end of the transaction. There are [`MOST_PAUSED`] at most.

#![allow(unsafe_code)]

use super::outcome::Reason;
use super::scope::{self, Digest, Settings};
use super::value;
use crate::backend::Backend;
use crate::dependencies::plans::Maker;
use crate::dependencies::session::{self, Reads};
use crate::dependencies::{caught, definitions, functions};
use crate::language::function::CachedFunction;
use crate::server;
use crate::store::area::area;
use crate::store::flights::Lead;
use crate::store::lookup::{Found, MAX_DEPENDENCIES};
use crate::validity::Dependency;
use crate::verification::{Suspect, clock};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A fill in progress.
pub struct Frame {
    /// The cached function.
    pub function: Rc<CachedFunction>,
    /// Hash of the key.
    pub hash: u64,
    /// The key.
    pub key: Vec<u8>,
    /// The flight that it leads: held for its end, which comes with that of the frame, or when it is paused.
    lead: Option<Lead>,
    /// Relations read, each once.
    pub relations: Vec<pg_sys::Oid>,
    /// Slots that inner cached calls depended on, each once.
    pub inherited: Vec<u32>,
    /// When the oldest part of the result was computed.
    pub oldest: i64,
    /// When the first of the results that it used ends: one of a function whose results are right by age no longer than that.
    pub ends: i64,
    /// The age that the caller accepts.
    pub max_age: i64,
    /// Why the result cannot be stored, as soon as that is known.
    pub refused: Option<Reason>,
    /// What else it read, and did.
    pub reads: Reads,
    /// The first function that made it do so, or invalid.
    pub blamed: pg_sys::Oid,
    /// The settings that are part of the key.
    pub settings: Settings,
    /// How many names of libraries the key knew of.
    pub libraries: u32,
    /// The stored result, if the function is run to verify it and not to fill.
    pub suspect: Option<Suspect>,
    /// Rows of a set, as they will be stored.
    pub rows: Rows,
    /// When the computation began, or went on.
    pub began: Instant,
    /// The time that it took before.
    pub spent: Duration,
    surroundings: Option<Surroundings>,
    /// The number of the fill around it, or 0.
    around: u64,
    /// How much of what it has read its slots were made of.
    told: usize,
    /// What [`EVENTS`] was when it was paused.
    events: u64,
    snapshot: SnapshotIdentity,
    /// Queries that it has started and not ended, each with the level of the subtransaction.
    queries: Vec<(usize, i32)>,
    nest_level: i32,
    parallel_reads: u32,
    errors: u32,
    serial: u64,
}

impl Frame {
    /// Whether an error was caught after which nothing may be stored.
    fn has_caught(&self) -> bool {
        caught::errors() != self.errors
    }

    /// Whether it did something, or read what changes from one call to the next.
    fn acts(&self) -> bool {
        let doing = Reads::VOLATILE
            .and(Reads::ACTS)
            .and(Reads::CHANGES_SETTINGS);
        self.reads.has(doing)
    }

    /// Why its result will not be stored, if that is known before it is complete.
    pub fn cannot_be_stored(&self) -> Option<Reason> {
        match self.rows {
            Rows::TooLarge => self.refused.or(Some(Reason::TooLarge)),
            Rows::Kept(_) => self.refused,
        }
    }

    /// Whether it has read more tables, or used more results, than when this was asked before.
    pub fn has_read_more(&mut self) -> bool {
        let read = 1 + self.relations.len() + self.inherited.len();
        std::mem::replace(&mut self.told, read) != read
    }

    fn calls(&mut self, function: pg_sys::Oid, reads: Reads) {
        let reads = match reads {
            Reads::NONE => return,
            reads if self.function.trusts(function) => reads.vouched(),
            reads => reads,
        };
        if reads != Reads::NONE && self.blamed == pg_sys::InvalidOid {
            self.blamed = function;
        }
        self.reads = self.reads.and(reads);
    }
}

/// The rows of a set that a fill has collected.
pub enum Rows {
    /// All so far.
    Kept(Vec<u8>),
    /// More than may be stored: none are kept, and none will be.
    TooLarge,
}

impl Default for Rows {
    fn default() -> Self {
        Rows::Kept(Vec::new())
    }
}

/// What two snapshots have in common that see the same transactions.
#[derive(Clone, PartialEq, Eq)]
struct SnapshotIdentity {
    xmin: u32,
    xmax: u32,
    running: Vec<u32>,
}

impl SnapshotIdentity {
    /// # Safety
    /// `snapshot` is a valid MVCC snapshot.
    unsafe fn of(snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: xcnt ids lie at xip.
        unsafe {
            let running = match (*snapshot).xcnt as usize {
                0 => Vec::new(),
                n => std::slice::from_raw_parts((*snapshot).xip, n)
                    .iter()
                    .map(|xid| u32::from(*xid))
                    .collect(),
            };
            SnapshotIdentity {
                xmin: (*snapshot).xmin.into(),
                xmax: (*snapshot).xmax.into(),
                running,
            }
        }
    }
}

/// Of the session, what a fill was begun in and no query of it can change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Surroundings {
    maker: Maker,
    session_role: pg_sys::Oid,
    settings: Digest,
    command: u32,
}

impl Surroundings {
    /// # Safety
    /// `snapshot` is a valid MVCC snapshot.
    unsafe fn of(settings: Settings, snapshot: pg_sys::Snapshot) -> Self {
        Surroundings {
            maker: Maker::now(),
            // SAFETY: a variable of the backend.
            session_role: unsafe { server::GetSessionUserId() },
            settings: settings.digest(),
            // SAFETY: the caller's.
            command: unsafe { (*snapshot).curcid },
        }
    }
}

/// So many fills may be paused in a session at once.
pub const MOST_PAUSED: usize = 64;

static PAUSED: Backend<RefCell<Vec<Frame>>> = Backend::new(RefCell::new(Vec::new()));

/// How many queries and commands this session has begun, and functions made ready.
static EVENTS: Backend<Cell<u64>> = Backend::new(Cell::new(0));

static FRAMES: Backend<RefCell<Vec<Frame>>> = Backend::new(RefCell::new(Vec::new()));

/// How many fills there have been in this backend.
static SERIAL: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// Whether `FRAMES` holds any. Asked on each hit and for each query of every session.
static FILLING: AtomicBool = AtomicBool::new(false);

/// Whether this backend is filling an entry.
#[inline(always)]
pub fn filling() -> bool {
    FILLING.load(Ordering::Relaxed)
}

/// Whether this backend is verifying a stored result.
#[inline(always)]
pub fn verifying() -> bool {
    filling() && FRAMES.with_borrow(|frames| frames.iter().any(|frame| frame.suspect.is_some()))
}

/// What a call is about, for the frame in which its function runs.
pub struct Call<'a> {
    /// The cached function.
    pub function: &'a Rc<CachedFunction>,
    /// Hash of the key.
    pub hash: u64,
    /// The key.
    pub key: &'a [u8],
    /// The settings that are part of it.
    pub settings: Settings,
    /// The caller's snapshot.
    pub snapshot: pg_sys::Snapshot,
    /// The age that the caller accepts.
    pub max_age: i64,
    /// When the call came.
    pub now: i64,
    /// The same by another clock, if the time that it takes is measured.
    pub began: Option<Instant>,
}

/// Begins a fill, or the verification of a stored result.
pub fn begin(call: &Call<'_>, lead: Option<Lead>, suspect: Option<Suspect>) {
    // SAFETY: the active snapshot; a variable of the backend.
    let (snapshot, nest_level) = unsafe {
        (
            SnapshotIdentity::of(call.snapshot),
            pg_sys::GetCurrentTransactionNestLevel(),
        )
    };
    let mut frame = Frame {
        function: call.function.clone(),
        hash: call.hash,
        key: call.key.to_vec(),
        lead,
        relations: Vec::new(),
        inherited: suspect.as_ref().map_or_else(Vec::new, |suspect| {
            suspect.dependencies.iter().map(|d| d.slot()).collect()
        }),
        oldest: call.now,
        ends: i64::MAX,
        max_age: call.max_age,
        refused: None,
        reads: Reads::NONE,
        blamed: pg_sys::InvalidOid,
        settings: call.settings,
        libraries: call.settings.known_libraries(),
        suspect,
        rows: Rows::default(),
        began: Instant::now(),
        spent: Duration::ZERO,
        surroundings: (call.function.result.set)
            // SAFETY: the caller's snapshot.
            .then(|| unsafe { Surroundings::of(call.settings, call.snapshot) }),
        around: serial(),
        told: 0,
        events: 0,
        snapshot,
        queries: Vec::new(),
        nest_level,
        parallel_reads: area().map_or(0, |area| area.parallel_reads()),
        errors: caught::errors(),
        serial: SERIAL.get() + 1,
    };
    SERIAL.set(frame.serial);
    session::fill_begins();
    let base = frame.function.base;
    let reads = functions::reads_of(base);
    if reads != Reads::NONE && functions::is_trusted(base) {
        frame.calls(base, reads.vouched());
    } else {
        frame.calls(base, reads);
    }
    FILLING.store(true, Ordering::Relaxed);
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
}

/// Ends the innermost fill. What it read, the fill around it has read too.
pub fn end() -> Option<Frame> {
    with_innermost(|frame| {
        // A cursor that it has opened is open still.
        if !frame.queries.is_empty() {
            frame.refused = frame.refused.or(Some(Reason::OpenCursor));
        }
    });
    pop_if(|_| true)
}

/// Takes the innermost fill out, if `wanted` says so, and hands what it read up to the fill around it.
fn pop_if(wanted: impl FnOnce(&Frame) -> bool) -> Option<Frame> {
    FRAMES.with_borrow_mut(|frames| {
        let mut frame = frames.pop_if(|frame| wanted(frame))?;
        FILLING.store(!frames.is_empty(), Ordering::Relaxed);
        if area().is_some_and(|area| area.parallel_reads() != frame.parallel_reads) {
            frame.refused = frame.refused.or(Some(Reason::ParallelReads));
        }
        if frame.has_caught() {
            frame.refused = frame.refused.or(Some(Reason::CaughtError));
        }
        if let Some(outer) = frames.last_mut() {
            for relation in &frame.relations {
                add(&mut outer.relations, *relation);
            }
            for slot in &frame.inherited {
                add(&mut outer.inherited, *slot);
            }
            outer.oldest = outer.oldest.min(frame.oldest);
            let end = frame.oldest.saturating_add(frame.function.ttl_us);
            outer.ends = outer.ends.min(frame.ends).min(end);
            outer.refused = outer.refused.or(frame.refused);
            outer.calls(frame.blamed, frame.reads);
        }
        Some(frame)
    })
}

/// The session begins something: a query, a command; or makes a function ready, and may know more of it than a fill that is paused.
#[inline(always)]
pub fn something_begins() {
    EVENTS.set(EVENTS.get().wrapping_add(1));
}

/// Takes the innermost fill out that is to be paused. What it read so far, the fill around it has read too.
pub fn pause() -> Option<Frame> {
    let mut frame = pop_if(|_| true)?;
    frame.lead = None;
    frame.spent += frame.began.elapsed();
    Some(frame)
}

/// Lays a fill aside, and returns its number; or the fill, if there are too many.
pub fn keep(mut frame: Frame) -> Result<u64, Box<Frame>> {
    frame.events = EVENTS.get();
    PAUSED.with_borrow_mut(|paused| {
        if paused.len() >= MOST_PAUSED {
            return Err(Box::new(frame));
        }
        let number = frame.serial;
        paused.push(frame);
        Ok(number)
    })
}

/// Takes a paused fill, if it is still there.
pub fn take_paused(number: u64) -> Option<Frame> {
    PAUSED.with_borrow_mut(|paused| {
        let at = paused.iter().position(|frame| frame.serial == number)?;
        Some(paused.swap_remove(at))
    })
}

/// A paused fill goes on, as the innermost one. Otherwise it is returned, if it is still there.
pub fn resume(number: u64) -> Result<(), Option<Box<Frame>>> {
    let settings = PAUSED.with_borrow(|paused| {
        let frame = paused.iter().find(|frame| frame.serial == number);
        frame.map(|frame| (frame.settings, frame.events))
    });
    let Some((settings, events)) = settings else {
        return Err(None);
    };
    // Asked first, since asking may count.
    let disturbed = events != EVENTS.get() || !scope::is_ordinary();
    // SAFETY: in a backend, in a call of a cached function; the active snapshot. An ERROR leaves the fill where it is.
    let now = unsafe {
        match super::usable() {
            Ok((area, snapshot)) if !disturbed => {
                let settled = definitions::settle(area, snapshot);
                matches!(settled, Ok(false)).then(|| {
                    (
                        Surroundings::of(settings, snapshot),
                        SnapshotIdentity::of(snapshot),
                        pg_sys::GetCurrentTransactionNestLevel(),
                    )
                })
            }
            _ => None,
        }
    };
    let Some(mut frame) = take_paused(number) else {
        return Err(None);
    };
    match now {
        Some((surroundings, snapshot, level))
            if frame.surroundings == Some(surroundings)
                && frame.snapshot == snapshot
                && frame.around == serial() =>
        {
            frame.nest_level = level;
            frame.began = Instant::now();
            session::fill_begins();
            FILLING.store(true, Ordering::Relaxed);
            FRAMES.with_borrow_mut(|frames| frames.push(frame));
            Ok(())
        }
        _ => Err(Some(Box::new(frame))),
    }
}

/// A paused fill ends without a result. Queries of it go on in the fill around it, which has read what they read.
pub fn leave_queries(frame: Frame) {
    with_innermost(|outer| {
        if outer.serial == frame.around {
            outer.queries.extend(&frame.queries);
        }
    });
}

/// The transaction ended: nothing is paused any more.
pub fn transaction_ended() {
    PAUSED.with_borrow_mut(|paused| *paused = Vec::new());
}

/// Where the rows of a set go.
pub fn collect_rows() -> value::RowSink {
    fn fits(bytes: usize) -> bool {
        let largest = crate::settings::max_entry_bytes();
        FRAMES.with_borrow_mut(|frames| {
            let Some(frame) = frames.last_mut() else {
                return false;
            };
            if let Rows::Kept(rows) = &frame.rows
                && rows.len().saturating_add(bytes) > largest
            {
                frame.rows = Rows::TooLarge;
            }
            matches!(frame.rows, Rows::Kept(_))
        })
    }
    fn take(row: pg_sys::MinimalTuple) {
        with_innermost(|frame| {
            if let Rows::Kept(rows) = &mut frame.rows {
                // SAFETY: `value` hands over minimal tuples.
                unsafe { value::append_row(rows, row) };
            }
        });
    }
    value::RowSink { fits, take }
}

fn with_innermost(change: impl FnOnce(&mut Frame)) {
    FRAMES.with_borrow_mut(|frames| {
        if let Some(frame) = frames.last_mut() {
            change(frame);
        }
    });
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The innermost fill reads something besides tables.
pub fn reads(reads: Reads) {
    with_innermost(|frame| frame.reads = frame.reads.and(reads));
}

/// The innermost fill calls a function.
pub fn calls(function: pg_sys::Oid, reads: Reads) {
    with_innermost(|frame| frame.calls(function, reads));
}

/// The number of the innermost fill; 0 if there is none.
pub fn serial() -> u64 {
    FRAMES.with_borrow(|frames| frames.last().map_or(0, |frame| frame.serial))
}

/// The innermost fill's function and the rows collected so far, which start over.
pub fn take_rows() -> Option<(Rc<CachedFunction>, Rows)> {
    FRAMES.with_borrow_mut(|frames| {
        let frame = frames.last_mut()?;
        Some((frame.function.clone(), std::mem::take(&mut frame.rows)))
    })
}

/// What `look` finds in the stored result that is being verified.
pub fn with_suspect<R: Default>(look: impl FnOnce(&mut Suspect) -> R) -> R {
    FRAMES.with_borrow_mut(|frames| {
        let suspect = frames.last_mut().and_then(|frame| frame.suspect.as_mut());
        suspect.map(look).unwrap_or_default()
    })
}

/// Whether the innermost fill was refused, so that what it computed says nothing about what others have.
pub fn is_refused() -> bool {
    FRAMES.with_borrow(|frames| {
        frames
            .last()
            .is_some_and(|frame| frame.refused.is_some() || frame.has_caught() || frame.acts())
    })
}

/// The innermost fill cannot be stored.
pub fn refuse(reason: Reason) {
    with_innermost(|frame| frame.refused = frame.refused.or(Some(reason)));
}

/// The innermost fill uses a result that is right by age only. A function that is itself kept by age may.
pub fn rests_on_age() {
    use crate::language::body::Consistency;
    with_innermost(|frame| {
        if frame.function.consistency == Consistency::Strict {
            frame.refused = frame.refused.or(Some(Reason::RestsOnAge));
        }
    });
}

/// A query of the innermost fill begins: the relations it reads and the snapshot it reads under.
pub fn query_begins(query: usize, snapshot: pg_sys::Snapshot, relations: &[pg_sys::Oid]) {
    with_innermost(|frame| {
        // SAFETY: a variable of the backend.
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
        frame.queries.push((query, level));
        for relation in relations {
            add(&mut frame.relations, *relation);
        }
        // SAFETY: the query's snapshot.
        if !snapshot.is_null() && unsafe { SnapshotIdentity::of(snapshot) } != frame.snapshot {
            frame.refused = frame.refused.or(Some(Reason::NewerSnapshot));
        }
    });
}

/// A query runs: it must be one that began inside the fill, or nobody knows what it reads.
pub fn query_runs(query: usize) {
    with_innermost(|frame| {
        if !frame.queries.iter().any(|(begun, _)| *begun == query) {
            frame.refused = frame.refused.or(Some(Reason::ForeignCursor));
        }
    });
}

/// A query ends.
pub fn query_ends(query: usize) {
    with_innermost(|frame| frame.queries.retain(|(begun, _)| *begun != query));
}

/// A fill inside the innermost one depended on these slots: not only what it read, its tags and its function too.
pub fn inherit_slots(slots: &[u32]) {
    with_innermost(|frame| {
        slots
            .iter()
            .for_each(|slot| add(&mut frame.inherited, *slot))
    });
}

/// A hit inside a fill hands its dependencies up, and the settings that its key held because its function had asked for them.
pub fn inherit(found: &Found, settings: Settings, now: i64) {
    if !filling() {
        return;
    }
    if settings == Settings::All {
        reads(Reads::SETTINGS);
    }
    let mut buffer = [const { MaybeUninit::<Dependency>::uninit() }; MAX_DEPENDENCIES];
    let dependencies = found.dependencies(&mut buffer);
    with_innermost(|frame| match dependencies {
        Some(dependencies) => {
            for dependency in dependencies {
                add(&mut frame.inherited, dependency.slot());
            }
            frame.oldest = frame.oldest.min(found.head.created_at.min(now));
            frame.ends = frame.ends.min(found.head.expires_at);
        }
        // The entry went away after its value was copied: what it depended on is not known any more.
        None => frame.refused = frame.refused.or(Some(Reason::OldSnapshot)),
    });
}

/// The (sub)transaction at `level` was rolled back: its fills are over, and the flights that they lead. A fill around them that goes
/// on has read what they read: whoever catches an error knows by it what was there.
pub fn unwind(level: i32) {
    transaction_ended();
    while let Some(frame) = pop_if(|frame| frame.nest_level >= level) {
        drop(frame);
    }
    // The queries of the subtransaction are gone, without an end.
    FRAMES.with_borrow_mut(|frames| {
        for frame in frames {
            frame.queries.retain(|(_, begun)| *begun < level);
        }
    });
    if !verifying() {
        clock::restore();
    }
}
