//! Reading a value: memory, then the table, both through the caller's snapshot.
//!
//! ```text
//! get ── usable ─ in memory, valid, young enough ─▶ a copy
//!           │                └ not ─▶ the row ─▶ a copy, and into memory if the slots say the same before and after
//!           └ not usable ─▶ the row
//! ```
//!
//! The row is read by its index like any scan of the caller's snapshot reads it, without SPI: in a SERIALIZABLE transaction it is
//! followed as every read is. Rights on the table are not asked for; what a caller may see the namespace in the key says.
//!
//! Inside a fill a value is a part of what the function reads: its slots are handed up. One that ends by age makes a strict result
//! impossible, as any result kept by age does.

#![allow(unsafe_code)]

use super::{Key, Place, memory_key, namespace, now};
use crate::backend::Backend;
use crate::call;
use crate::call::frames;
use crate::call::outcome::{Outcome, Reason};
use crate::call::scope::Settings;
use crate::compat;
use crate::configuration;
use crate::dependencies::relations::{self, Tracking};
use crate::dependencies::{declared, definitions};
use crate::error::{Error, OrRaise};
use crate::server;
use crate::settings;
use crate::store::area::{Area, area};
use crate::store::insert::{Limits, NewEntry, NotStored, insert};
use crate::store::lookup::{self, Found, MAX_DEPENDENCIES};
use crate::store::partition::{EntryHead, Kind, NEVER_PERSISTED};
use crate::store::rows::Owner;
use crate::store::statistics::{Getting, count, count_hit};
use crate::validity::places::definitions_slot;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::{Dependency, Invalid};
use pgrx::pg_sys;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

/// Memory has a value at most this long before it looks at the table again, in microseconds.
const LONGEST_IN_MEMORY: i64 = 86_400 * 1_000_000;

/// Room for a key in memory, taken out while it is used.
static ROOM: Backend<Cell<Vec<u8>>> = Backend::new(Cell::new(Vec::new()));

/// A row of the table that has not expired.
#[derive(Clone, Copy)]
pub struct Stored {
    /// The value, in the present memory context.
    pub value: pg_sys::Datum,
    /// When it ends, if it does.
    pub expires_at: Option<i64>,
    priority: u8,
}

/// What memory has to say.
enum Memory {
    Has(Found),
    Misses(Outcome),
    Not(Reason),
}

/// The value of a key, by the function `reader`, which is `cache_get`; `None` if there is none.
#[inline(always)]
pub fn get(reader: pg_sys::Oid, key: Key<'_>) -> Option<pg_sys::Datum> {
    look(reader, key, |found| {
        // SAFETY: on the backend's main thread; the value is a jsonb as it was put there.
        unsafe { found.value() }.map(pg_sys::Datum::from)
    })
}

/// Whether there is a value.
pub fn exists(reader: pg_sys::Oid, key: Key<'_>) -> bool {
    look(reader, key, |_| Some(pg_sys::Datum::from(true))).is_some()
}

/// What is to be had from the entry in memory by `take`, or else the value in the table.
#[inline(always)]
fn look(
    reader: pg_sys::Oid,
    key: Key<'_>,
    take: impl Fn(&Found) -> Option<pg_sys::Datum>,
) -> Option<pg_sys::Datum> {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    let namespace = namespace();
    let now = now();
    let mut room = ROOM.take();
    let hash = memory_key(reader, namespace, key.bytes, &mut room);
    configuration::refresh(area);
    // SAFETY: the backend's state.
    let usable = unsafe { call::usable() };
    let memory = match usable.and_then(|usable| configuration::off().map_or(Ok(usable), Err)) {
        // SAFETY: as above.
        Ok((area, snapshot)) => unsafe { in_memory(area, snapshot, hash, &room, now) },
        Err(reason) => Memory::Not(reason),
    };
    let value = match memory {
        Memory::Has(found) => match take(&found) {
            Some(value) => {
                found.touch();
                if found.head.by_age != 0 {
                    frames::rests_on_age();
                }
                frames::inherit(&found, Settings::None, now);
                count_hit(reader, found.id(), 0);
                Some(value)
            }
            // It went away while it was copied.
            None => {
                count(reader, Outcome::Miss);
                in_table(area, reader, namespace, key, now, None)
            }
        },
        Memory::Misses(outcome) => {
            count(reader, outcome);
            in_table(area, reader, namespace, key, now, Some((hash, &room)))
        }
        Memory::Not(reason) => {
            count(reader, Outcome::Not(reason));
            in_table(area, reader, namespace, key, now, None)
        }
    };
    if room.capacity() <= call::KEPT_ROOM {
        ROOM.set(room);
    }
    value
}

/// # Safety
/// `snapshot` is the active one.
#[inline(always)]
unsafe fn in_memory(
    area: Area,
    snapshot: pg_sys::Snapshot,
    hash: u64,
    key: &[u8],
    now: i64,
) -> Memory {
    let Some(found) = lookup::find(area, hash, key) else {
        return Memory::Misses(Outcome::Miss);
    };
    if now >= found.head.expires_at {
        return Memory::Misses(Outcome::Expired);
    }
    let mut buffer = [const { MaybeUninit::uninit() }; MAX_DEPENDENCIES];
    let Some(dependencies) = found.dependencies(&mut buffer) else {
        return Memory::Misses(Outcome::Miss);
    };
    // SAFETY: the caller's snapshot.
    match unsafe { area.slots().check(dependencies, snapshot) } {
        Ok(()) => Memory::Has(found),
        Err(Invalid::Dead) => Memory::Misses(Outcome::Invalidated),
        Err(invalid) => Memory::Not(invalid.into()),
    }
}

/// The value of a key in the table, which goes to memory under `memory` if it may.
#[cold]
#[inline(never)]
fn in_table(
    area: Area,
    reader: pg_sys::Oid,
    namespace: pg_sys::Oid,
    key: Key<'_>,
    now: i64,
    memory: Option<(u64, &[u8])>,
) -> Option<pg_sys::Datum> {
    let place = Place::of_function(reader).or_raise();
    crate::transaction::prepare(area);
    // SAFETY: inside a transaction; the active snapshot where `memory` is given, which says that it is usable.
    unsafe {
        let before = memory.and_then(|_| {
            let snapshot = server::GetActiveSnapshot();
            // What this backend knows of the triggers may be older than what the snapshot sees of them.
            definitions::settle(area, snapshot).ok()?;
            dependencies_on(area, place, key, snapshot)?.ok()
        });
        let stored = row(place, namespace, key, now);
        hand_up(area, place, key, stored);
        let stored = stored?;
        if let (Some(before), Some((hash, bytes))) = (before, memory) {
            let snapshot = server::GetActiveSnapshot();
            if let Some(Ok(after)) = dependencies_on(area, place, key, snapshot)
                && before == after
            {
                keep(area, reader, hash, bytes, now, stored, &after);
            }
        }
        Some(stored.value)
    }
}

/// What an entry for a key has to depend on to be right for `snapshot`; `None` if writes to the table are not tracked.
///
/// # Safety
/// `snapshot` is the active MVCC snapshot.
unsafe fn dependencies_on(
    area: Area,
    place: Place,
    key: Key<'_>,
    snapshot: pg_sys::Snapshot,
) -> Option<Result<Vec<Dependency>, Invalid>> {
    let slots = slots_of(area, place, key)?;
    let generations = slots.into_iter().map(|slot| {
        // SAFETY: the caller's snapshot.
        let generation = unsafe { area.slots().generation_for(slot, snapshot) }?;
        Ok(Dependency::new(slot, generation))
    });
    Some(generations.collect())
}

/// The slots under which writes to a key are marked; `None` if nobody marks them.
fn slots_of(area: Area, place: Place, key: Key<'_>) -> Option<Vec<u32>> {
    const COLUMN: &str = "key";
    let database = compat::database();
    let slot = |tag| slot_of(database, tag, area.layout.slots);
    let Tracking::Tracked { roots, key_columns } = relations::tracking(place.table) else {
        return None;
    };
    // SAFETY: a text; the column is compared by its bytes.
    let value = unsafe { declared::hash(pg_sys::TEXTOID, pg_sys::C_COLLATION_OID, key.text) };
    let mut slots = vec![definitions_slot()];
    for root in roots {
        match value {
            Some(value) if key_columns.iter().any(|column| column == COLUMN) => {
                slots.push(slot(Tag::WholeRelation(root)));
                slots.push(slot(Tag::Key {
                    relation: root,
                    column: COLUMN,
                    value,
                }));
            }
            _ => slots.push(slot(Tag::Relation(root))),
        }
    }
    Some(slots)
}

/// If a fill has read a key: what that depends on, or why its result cannot be stored.
///
/// # Safety
/// Inside a transaction that has snapshots.
unsafe fn hand_up(area: Area, place: Place, key: Key<'_>, stored: Option<Stored>) {
    // The fill is the leader's. A function that reads a value and says that it is safe in parallel is wrong, its callers are not to be.
    if compat::is_parallel_worker() {
        return area.note_parallel_read();
    }
    if !frames::filling() {
        return;
    }
    if stored.is_some_and(|stored| stored.expires_at.is_some()) {
        frames::rests_on_age();
    }
    // SAFETY: asked for before it is taken.
    let snapshot = unsafe { server::ActiveSnapshotSet().then(|| server::GetActiveSnapshot()) };
    // SAFETY: the active snapshot.
    match snapshot.map(|snapshot| unsafe { dependencies_on(area, place, key, snapshot) }) {
        Some(Some(Ok(dependencies))) => {
            let slots: Vec<u32> = dependencies.iter().map(|d| d.slot()).collect();
            frames::inherit_slots(&slots);
        }
        Some(Some(Err(invalid))) => frames::refuse(invalid.into()),
        Some(None) => frames::refuse(Reason::Untracked),
        None => frames::refuse(Reason::NoSnapshot),
    }
}

/// Puts a value into memory.
fn keep(
    area: Area,
    reader: pg_sys::Oid,
    hash: u64,
    key: &[u8],
    now: i64,
    stored: Stored,
    dependencies: &[Dependency],
) {
    let ends = stored.expires_at.unwrap_or(i64::MAX);
    let mut head = EntryHead::new(
        hash,
        now,
        ends.min(now.saturating_add(LONGEST_IN_MEMORY)),
        compat::database().to_u32(),
        reader.to_u32(),
        Kind::Scalar,
    );
    head.priority = stored.priority;
    head.by_age = u8::from(stored.expires_at.is_some());
    head.persisted = NEVER_PERSISTED;
    // SAFETY: a jsonb, decompressed, with its header of four bytes.
    let value = unsafe {
        let varlena = stored.value.cast_mut_ptr::<pg_sys::varlena>();
        std::slice::from_raw_parts(varlena.cast::<u8>(), pgrx::varsize_any(varlena))
    };
    let new = NewEntry {
        head,
        dependencies,
        key,
        value,
    };
    // SAFETY: the clock.
    let clock = unsafe { crate::server::GetCurrentTimestamp() };
    area.functions().find_or_get(
        Owner::new(head.database, head.function),
        pg_sys::InvalidOid,
        clock,
        Getting::Idle,
    );
    configuration::refresh(area);
    let limits = Limits {
        bytes: settings::max_entry_bytes(),
        entries: configuration::max_entries(),
    };
    let outcome = match insert(area, new, limits) {
        Ok(_) => Outcome::Stored,
        Err(NotStored::TooLarge) => Outcome::Not(Reason::TooLarge),
        Err(NotStored::NoRoom) => {
            area.header().no_room.fetch_add(1, Ordering::Relaxed);
            Outcome::Not(Reason::NoRoom)
        }
    };
    count(reader, outcome);
}

/// Numbers of the columns of `cache_values`.
const NAMESPACE: u32 = 1;
const KEY: u32 = 2;
const VALUE: i32 = 3;
const EXPIRES_AT: i32 = 4;
const PRIORITY: i32 = 6;

/// The row of a key through the active snapshot, unless it has expired. On a standby there is none: an unlogged table has no rows there.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn row(place: Place, namespace: pg_sys::Oid, key: Key<'_>, now: i64) -> Option<Stored> {
    // SAFETY: the relation is open, and the snapshot active or registered, while they are used; the lock stays until the end of the
    // transaction, as after any query. Without the index the scan reads the table.
    unsafe {
        if server::RecoveryInProgress() {
            return None;
        }
        let registered = !server::ActiveSnapshotSet();
        let snapshot = if registered {
            pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot())
        } else {
            server::GetActiveSnapshot()
        };
        let relation = pg_sys::table_open(place.table, pg_sys::AccessShareLock as _);
        let index = pg_sys::RelationGetPrimaryKeyIndex(relation);
        let mut keys = [pg_sys::ScanKeyData::default(); 2];
        let equals = |into: &mut pg_sys::ScanKeyData, column: u32, function, value| {
            pg_sys::ScanKeyInit(
                into,
                column as _,
                pg_sys::BTEqualStrategyNumber as _,
                function,
                value,
            );
        };
        let [first, second] = &mut keys;
        equals(
            first,
            NAMESPACE,
            pg_sys::F_OIDEQ.into(),
            pg_sys::Datum::from(namespace),
        );
        equals(second, KEY, pg_sys::F_TEXTEQ.into(), key.text);
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            index != pg_sys::InvalidOid,
            snapshot,
            2,
            keys.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let stored = (!tuple.is_null())
            .then(|| read(tuple, (*relation).rd_att, now))
            .flatten();
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as _);
        if registered {
            pg_sys::UnregisterSnapshot(snapshot);
        }
        stored
    }
}

/// # Safety
/// `tuple` is a row of `cache_values`, described by `description`.
unsafe fn read(
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    now: i64,
) -> Option<Stored> {
    // SAFETY: the caller's; the value is copied, since the row goes with the scan.
    unsafe {
        let column = |number: i32| {
            let mut is_null = false;
            let value = pg_sys::heap_getattr(tuple, number, description, &mut is_null);
            (!is_null).then_some(value)
        };
        let expires_at = column(EXPIRES_AT).map(|at| at.value() as i64);
        if expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        Some(Stored {
            value: pg_sys::Datum::from(pg_sys::pg_detoast_datum_copy(
                column(VALUE)?.cast_mut_ptr(),
            )),
            expires_at,
            priority: column(PRIORITY)
                .map_or(0, |priority| priority.value() as u8)
                .min(super::MAX_PRIORITY as u8),
        })
    }
}

/// How long a value has to live; `None` if for good, or if there is none.
pub fn ttl(function: pg_sys::Oid, key: Key<'_>) -> Option<i64> {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    let (place, now) = (Place::of_function(function).or_raise(), now());
    // SAFETY: inside a transaction.
    unsafe {
        let stored = row(place, namespace(), key, now);
        hand_up(area, place, key, stored);
        stored?.expires_at.map(|end| end - now)
    }
}
