//! From the table to memory: all that fits at a start, single rows on a miss.

#![allow(unsafe_code)]

use super::reader::Reader;
use super::row::{NoEntry, Row, key_name};
use super::{done, is_any, lock_for_writing, qualified};
use crate::configuration;
use crate::fault::{self, Point};
use crate::settings;
use crate::store::area::Area;
use crate::store::insert::{Limits, NewEntry, insert};
use crate::store::lookup;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::sync::atomic::Ordering;

/// Names fetched at once, hottest first.
const BATCH: usize = 1000;
/// Where a key has the oid of its function.
const FUNCTION_IN_KEY: std::ops::Range<usize> = 4..8;

/// Loads the rows that a clean shutdown left, hottest first, until memory is three quarters full; removes all others. `stop` is
/// asked between batches. Returns how many entries were loaded, or `None` if it was stopped before it was through.
pub fn load(area: Area, mut stop: impl FnMut() -> bool) -> Option<u64> {
    if !lock_for_writing(true) {
        return Some(0);
    }
    let table = qualified("query_cache")?;
    let header = area.header();
    let incarnation = header.incarnation.load(Ordering::Relaxed);
    remove_foreign(&table, incarnation);
    if header.restored.load(Ordering::Relaxed) == 0 {
        return Some(0);
    }
    // SAFETY: inside the worker's transaction; closed below.
    let reader = unsafe { Reader::open() }?;
    let loaded = Spi::connect(|client| {
        let names = format!(
            "SELECT cache_key FROM {table} WHERE expires_at OPERATOR(pg_catalog.>) pg_catalog.now() \
             AND pg_catalog.isfinite(expires_at) ORDER BY hit_count DESC, created_at DESC"
        );
        let mut cursor =
            client.try_open_cursor(crate::encoding::statement(&names).as_c_str(), &[])?;
        let (mut loaded, mut left) = (0, 0);
        loop {
            let batch = cursor.fetch(BATCH as _)?;
            let count = batch.len();
            for row in batch {
                pgrx::check_for_interrupts!();
                match crate::encoding::column(&row, 1)? {
                    Some(name) if has_room(area) => {
                        loaded += u64::from(take(area, &reader, &name, incarnation));
                    }
                    _ => left += 1,
                }
            }
            if count < BATCH {
                break;
            }
            if stop() {
                return Ok(None);
            }
        }
        if let Some(state) = area.database(crate::compat::database()) {
            state.left_memory(left);
        }
        Ok(Some(loaded))
    });
    reader.close();
    done("read table \"query_cache\"", loaded)
}

/// Removes the rows of other databases and of other lives of the slots.
fn remove_foreign(table: &str, incarnation: u64) {
    let database = crate::compat::database();
    let rows = format!(
        "FROM {table} WHERE incarnation OPERATOR(pg_catalog.<>) $1 OR database OPERATOR(pg_catalog.<>) $2"
    );
    let arguments = [(incarnation as i64).into(), database.into()];
    if !is_any(&format!("SELECT {rows}"), &arguments) {
        return;
    }
    let removed = crate::encoding::run(&format!("DELETE {rows}"), &arguments);
    done("clean table \"query_cache\"", removed);
}

/// Whether memory is less than three quarters full, and has less entries of this database than it may have.
fn has_room(area: Area) -> bool {
    let places = area
        .database(crate::compat::database())
        .map(|state| state.places.counts());
    if places.is_some_and(|(limit, taken)| limit != 0 && taken >= limit) {
        return false;
    }
    let (mut blocks, mut free) = (0, 0);
    for partition in area.partitions() {
        blocks += u64::from(partition.blocks());
        free += u64::from(partition.counts().1);
    }
    free * 4 > blocks
}

/// Loads one row by its name.
fn take(area: Area, reader: &Reader, name: &str, incarnation: u64) -> bool {
    fault::point(Point::WarmLoading);
    match reader.row(name, incarnation) {
        Some(Ok(row)) => keep(area, &row),
        Some(Err(NoEntry::Damaged)) => {
            area.header().damaged.fetch_add(1, Ordering::Relaxed);
            false
        }
        Some(Err(NoEntry::Foreign)) | None => false,
    }
}

/// Puts a row into memory, unless it is dead or memory has something newer under its key.
fn keep(area: Area, row: &Row) -> bool {
    if area.slots().is_dead(&row.dependencies)
        || lookup::find(area, row.head.hash, &row.key).is_some()
    {
        return false;
    }
    let new = NewEntry {
        head: row.head,
        dependencies: &row.dependencies,
        key: &row.key,
        value: &row.value,
    };
    let limits = Limits {
        bytes: settings::max_entry_bytes(),
        entries: configuration::max_entries(),
    };
    let Ok(entry) = insert(area, new, limits) else {
        return false;
    };
    if row.head.hits > 0 {
        area.partition(entry.partition).touch(entry.block);
    }
    true
}

/// On a miss: takes the entry of `key` out of the table, if that can have it. `true` if memory may have it now.
///
/// The caller looks it up again and checks it like any entry, so nothing is decided here. Problems with the table are a miss.
pub fn try_load(area: Area, hash: u64, key: &[u8]) -> bool {
    may_have(area)
        && with_row(area, hash, key, |row| {
            let kept = keep(area, &row);
            if let (true, Some(state)) = (kept, area.database(crate::compat::database())) {
                state.came_back();
            }
            kept
        })
        .unwrap_or(false)
}

/// What [`try_load`] would put into memory, without doing so.
pub fn peek(area: Area, hash: u64, key: &[u8]) -> Option<Row> {
    if !may_have(area) {
        return None;
    }
    with_row(area, hash, key, |row| {
        (!area.slots().is_dead(&row.dependencies)).then_some(row)
    })
    .flatten()
}

/// Whether the table may have entries that memory has not.
#[inline(always)]
fn may_have(area: Area) -> bool {
    let database = crate::compat::database();
    let state = area.database(database);
    if state.is_none_or(|state| state.wanted.load(Ordering::Relaxed) == 0) {
        // The extension came with a template or a restore, so nobody has asked for a worker yet.
        crate::worker::wake(area, database);
    }
    let starting = state.is_none_or(|state| state.warm.load(Ordering::Relaxed) == 0)
        && area.header().restored.load(Ordering::Relaxed) == 1;
    starting || state.is_some_and(|state| state.only_in_table.load(Ordering::Relaxed) > 0)
}

/// Reads the row of `key` and hands it to `take`; `None` if there is none to be had.
#[cold]
#[inline(never)]
fn with_row<R>(area: Area, hash: u64, key: &[u8], take: impl FnOnce(Row) -> R) -> Option<R> {
    let function = u32::from_le_bytes(key.get(FUNCTION_IN_KEY)?.try_into().ok()?);
    // SAFETY: a subtransaction of its own, so that whatever is wrong with the table ends in a miss with every pin and lock given
    // back. Interrupts are held meanwhile (an ERROR lets them go by itself), so a cancelled statement is not taken for a bad table.
    unsafe {
        if pg_sys::IsInParallelMode() {
            // Neither a subtransaction nor a snapshot can be had now.
            return None;
        }
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let holds = pg_sys::InterruptHoldoffCount;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        let taken = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
            pg_sys::InterruptHoldoffCount = holds + 1;
            let taken = read_one(area, function, hash, key).map(take);
            pg_sys::ReleaseCurrentSubTransaction();
            taken
        }))
        .catch_others(|_| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            area.header().damaged.fetch_add(1, Ordering::Relaxed);
            None
        })
        .execute();
        pg_sys::InterruptHoldoffCount = holds;
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        taken
    }
}

/// # Safety
/// Inside a transaction that may take snapshots.
unsafe fn read_one(area: Area, function: u32, hash: u64, key: &[u8]) -> Option<Row> {
    // SAFETY: the caller's.
    let reader = unsafe { Reader::open() }?;
    let incarnation = area.header().incarnation.load(Ordering::Relaxed);
    let row = reader.row(&key_name(function, hash), incarnation);
    fault::point(Point::RowRead);
    reader.close();
    match row {
        // Another call with the same hash may have the row: only the very same bytes will do.
        Some(Ok(row)) if row.key == key => Some(row),
        Some(Err(NoEntry::Damaged)) => {
            area.header().damaged.fetch_add(1, Ordering::Relaxed);
            None
        }
        _ => None,
    }
}
