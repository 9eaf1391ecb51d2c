//! From memory to the table.
//!
//! An entry counts as written only once the transaction that wrote it has committed ([`committed`], from the transaction callback).
//! If that rolls back, also partly, the entries are written again next time; a row written twice is the same row.
//! Nothing is written for entries that are dead or expired, and nothing new while the table holds as much as it may ([`bound`]).
//!
//! An entry that cannot be written does not keep the others from it: it is counted and left out for good.

#![allow(unsafe_code)]

use super::bound;
use super::row::{bytes_of, checksum, key_name};
use super::{done, lock_for_writing, qualified};
use crate::backend::Backend;
use crate::error::without_data;
use crate::fault::{self, Point};
use crate::moments::timestamp;
use crate::settings;
use crate::store::area::{Area, DatabaseState};
use crate::store::lookup::EntryId;
use crate::store::partition::{EntryHead, LEFT_OUT};
use crate::store::statistics;
use crate::store::walk::{Seen, amend, contents, survey};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

/// Rows in one statement.
const BATCH_ROWS: usize = 1000;
/// Bytes of values in one statement, more or less.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Hit counts in one statement.
const BATCH_HITS: usize = 10_000;

/// How thoroughly to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In the background: if somebody else is writing, not now; hit counts only once they have grown by a sixteenth, so that a hot
    /// entry costs a few updates, not one every turn.
    Background,
    /// Everything, to the last hit.
    Everything,
}

/// An entry written by the present transaction.
struct Written {
    entry: EntryId,
    hits: u32,
    /// The level of subtransaction with which it is undone.
    level: i32,
}

static WRITTEN: Backend<RefCell<Vec<Written>>> = Backend::new(RefCell::new(Vec::new()));

/// The transaction committed: what it wrote is written.
pub fn committed(area: Area) {
    let state = area.database(crate::compat::database());
    for Written { entry, hits, .. } in WRITTEN.take() {
        fault::fenced(Point::FlushCommitted);
        let here = amend(area, entry, |head| {
            head.persisted = 1;
            head.hits_written = hits;
        });
        if let (false, Some(state)) = (here, state) {
            state.left_memory(1);
        }
    }
}

/// The transaction rolled back, or was prepared.
pub fn forget() {
    if WRITTEN.with_borrow(|written| !written.is_empty()) {
        WRITTEN.take();
    }
}

/// The subtransaction at `level` ended.
pub fn subtransaction_ended(level: i32, committed: bool) {
    WRITTEN.with_borrow_mut(|written| {
        if committed {
            written
                .iter_mut()
                .for_each(|one| one.level = one.level.min(level - 1));
        } else {
            written.retain(|one| one.level < level);
        }
    });
}

/// What a flush has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    /// How many entries were written.
    pub written: i64,
    /// Whether that was all there was to be written.
    pub complete: bool,
}

/// Writes what memory has and the table has not. `stop` is asked between batches.
pub fn flush(area: Area, extent: Extent, mut stop: impl FnMut() -> bool) -> Flushed {
    statistics::hand_over(area);
    if !lock_for_writing(extent == Extent::Everything) {
        return Flushed::default();
    }
    let Some(table) = qualified("query_cache") else {
        return Flushed::default();
    };
    // SAFETY: the clock; a variable of the backend.
    let (now, database) = unsafe {
        (
            pg_sys::GetCurrentTimestamp() + settings::clock_offset_us(),
            pg_sys::MyDatabaseId.to_u32(),
        )
    };
    let wanted = |head: &EntryHead| {
        head.database == database
            && head.expires_at > now
            && (head.persisted == 0 || head.persisted == 1 && hits_grown(head, extent))
    };
    let state = area.database(crate::compat::database());
    let mut rows = Rows::new(&table, area, state);
    let mut hits = Hits::new(&table);
    let mut full_table = bound::keep_here(area);
    for partition in area.partitions() {
        for seen in survey(partition, wanted) {
            let is_new = seen.head.persisted == 0;
            if area.slots().is_dead(&seen.dependencies) || is_new && full_table {
                continue;
            }
            let full = if seen.head.persisted != 0 {
                hits.add(&seen)
            } else if let Some((key, value)) = contents(area, &seen) {
                rows.add(&seen, key, value)
            } else {
                false
            };
            if full {
                rows.write();
                hits.write();
                pgrx::check_for_interrupts!();
                full_table = bound::keep_here(area);
                if stop() {
                    return Flushed {
                        written: rows.total,
                        complete: false,
                    };
                }
            }
        }
    }
    rows.write();
    hits.write();
    bound::keep_here(area);
    Flushed {
        written: rows.total,
        complete: true,
    }
}

fn hits_grown(head: &EntryHead, extent: Extent) -> bool {
    let more = head.hits.saturating_sub(head.hits_written);
    more > 0 && (extent == Extent::Everything || more > head.hits_written / 16)
}

fn note_written(seen: &[(EntryId, u32)]) {
    // SAFETY: a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    let written = seen.iter().map(|(entry, hits)| Written {
        entry: *entry,
        hits: *hits,
        level,
    });
    WRITTEN.with_borrow_mut(|all| all.extend(written));
}

/// A new row.
struct New {
    id: EntryId,
    head: EntryHead,
    created_at: TimestampWithTimeZone,
    expires_at: TimestampWithTimeZone,
    name: String,
    key: Vec<u8>,
    value: Vec<u8>,
    dependencies: Vec<u8>,
    checksum: i64,
}

/// New rows.
struct Rows<'a> {
    area: Area,
    state: Option<&'a DatabaseState>,
    command: String,
    incarnation: u64,
    total: i64,
    bytes: usize,
    known: HashSet<String>,
    rows: Vec<New>,
}

impl<'a> Rows<'a> {
    fn new(table: &str, area: Area, state: Option<&'a DatabaseState>) -> Self {
        // A row is replaced as a whole: a newer result of the same call.
        let command = format!(
            "INSERT INTO {table} AS q (cache_key, function, hit_count, created_at, expires_at, cost_ms, size_bytes, priority, \
             kind, by_age, database, incarnation, key, value, dependencies, checksum) \
             SELECT n.cache_key, n.function, n.hit_count, n.created_at, n.expires_at, n.cost_ms, n.size_bytes, n.priority, n.kind, \
             n.by_age, $14, $15, n.key, n.value, n.dependencies, n.checksum \
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), \
             pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9), \
             pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13), pg_catalog.unnest($16)) \
             AS n (cache_key, function, hit_count, created_at, expires_at, cost_ms, size_bytes, priority, kind, by_age, key, value, \
             dependencies, checksum) \
             ON CONFLICT (cache_key) DO UPDATE SET function = EXCLUDED.function, hit_count = EXCLUDED.hit_count, \
             created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at, cost_ms = EXCLUDED.cost_ms, \
             size_bytes = EXCLUDED.size_bytes, priority = EXCLUDED.priority, kind = EXCLUDED.kind, by_age = EXCLUDED.by_age, \
             database = EXCLUDED.database, incarnation = EXCLUDED.incarnation, key = EXCLUDED.key, value = EXCLUDED.value, \
             dependencies = EXCLUDED.dependencies, checksum = EXCLUDED.checksum"
        );
        Rows {
            area,
            state,
            command,
            incarnation: area.header().incarnation.load(Ordering::Relaxed),
            total: 0,
            bytes: 0,
            known: HashSet::new(),
            rows: Vec::new(),
        }
    }

    /// Takes an entry along; `true` if the batch is full.
    fn add(&mut self, seen: &Seen, key: Vec<u8>, value: Vec<u8>) -> bool {
        let name = key_name(seen.head.function, seen.head.hash);
        // Two calls with one hash share a row, and a statement cannot write a row twice.
        if !self.known.insert(name.clone()) {
            return false;
        }
        let head = seen.head;
        let times = timestamp(head.created_at).zip(timestamp(head.expires_at));
        let Some((created_at, expires_at)) = times else {
            self.leave_out(seen.id);
            return false;
        };
        let dependencies = bytes_of(&seen.dependencies).to_vec();
        let checksum = checksum(&head, self.incarnation, &key, &value, &dependencies);
        self.bytes += head.payload();
        self.rows.push(New {
            id: seen.id,
            head,
            created_at,
            expires_at,
            name,
            key,
            value,
            dependencies,
            checksum,
        });
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Writes the rows; if one of them cannot be written, each by itself and without that one.
    fn write(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        self.known.clear();
        self.bytes = 0;
        if rows.is_empty() {
            return;
        }
        fault::point(Point::Flushing);
        if self.try_to_write(&rows).is_err() {
            let before = self.area.header().not_written.load(Ordering::Relaxed);
            let mut reason = String::new();
            for row in &rows {
                pgrx::check_for_interrupts!();
                if let Err(message) = self.try_to_write(std::slice::from_ref(row)) {
                    self.leave_out(row.id);
                    reason = message;
                }
            }
            let left_out = self.area.header().not_written.load(Ordering::Relaxed) - before;
            crate::error::log(&format!(
                "could not write {left_out} of {} rows of \"query_cache\": {reason}",
                rows.len()
            ));
        }
        fault::point(Point::Flushed);
    }

    /// Writes rows in a subtransaction. What is wrong, if it is the fault of a row; any other ERROR goes on.
    fn try_to_write(&mut self, rows: &[New]) -> Result<(), String> {
        // SAFETY: the usual frame of an internal subtransaction; SPI is connected and left inside of it.
        let written = unsafe {
            let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            let this = AssertUnwindSafe(&*self);
            let written = PgTryBuilder::new(move || {
                let this = this;
                let written = this.0.insert(rows);
                pg_sys::ReleaseCurrentSubTransaction();
                Ok(written)
            })
            .catch_others(|error| {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
                if !crate::error::is_of_data(&error) {
                    error.rethrow();
                }
                Err(crate::error::message_of(&error))
            })
            .execute();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
            written?
        };
        self.total += written;
        bound::wrote(
            self.state,
            rows.len() as u64,
            rows.iter().map(|row| row.head.payload() as u64).sum(),
        );
        let entries: Vec<_> = rows.iter().map(|row| (row.id, row.head.hits)).collect();
        note_written(&entries);
        Ok(())
    }

    fn insert(&self, rows: &[New]) -> i64 {
        let this = AssertUnwindSafe((self, rows));
        let written = without_data(move || {
            let AssertUnwindSafe((this, rows)) = this;
            Spi::connect_mut(|client| {
                client
                    .update(
                        crate::encoding::statement(&this.command).as_c_str(),
                        None,
                        &[
                            crate::encoding::parameters(column(rows, |r| r.name.clone())),
                            column(rows, |r| pg_sys::Oid::from(r.head.function)).into(),
                            column(rows, |r| i64::from(r.head.hits)).into(),
                            column(rows, |r| r.created_at).into(),
                            column(rows, |r| r.expires_at).into(),
                            column(rows, |r| f64::from(r.head.cost_us) / 1000.0).into(),
                            column(rows, |r| r.head.payload() as i64).into(),
                            column(rows, |r| i16::from(r.head.priority)).into(),
                            column(rows, |r| i16::from(r.head.kind)).into(),
                            column(rows, |r| r.head.by_age != 0).into(),
                            column(rows, |r| r.key.clone()).into(),
                            column(rows, |r| r.value.clone()).into(),
                            column(rows, |r| r.dependencies.clone()).into(),
                            crate::compat::database().into(),
                            (this.incarnation as i64).into(),
                            column(rows, |r| r.checksum).into(),
                        ],
                    )
                    .map(|rows| rows.len())
            })
        });
        done("write to table \"query_cache\"", written) as i64
    }

    /// Counts an entry that cannot be written, and does not try again.
    fn leave_out(&self, id: EntryId) {
        self.area
            .header()
            .not_written
            .fetch_add(1, Ordering::Relaxed);
        amend(self.area, id, |head| head.persisted = LEFT_OUT);
    }
}

fn column<T>(rows: &[New], value: impl Fn(&New) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// New hit counts of rows that the table has.
struct Hits {
    command: String,
    entries: Vec<(EntryId, u32)>,
    names: Vec<String>,
    counts: Vec<i64>,
}

impl Hits {
    fn new(table: &str) -> Self {
        Hits {
            command: format!(
                "UPDATE {table} AS q SET hit_count = n.hit_count \
                 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n (cache_key, hit_count) \
                 WHERE q.cache_key OPERATOR(pg_catalog.=) n.cache_key"
            ),
            entries: Vec::new(),
            names: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn add(&mut self, seen: &Seen) -> bool {
        self.entries.push((seen.id, seen.head.hits));
        self.names
            .push(key_name(seen.head.function, seen.head.hash));
        self.counts.push(i64::from(seen.head.hits));
        self.names.len() >= BATCH_HITS
    }

    fn write(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let written = Spi::connect_mut(|client| {
            client
                .update(
                    crate::encoding::statement(&self.command).as_c_str(),
                    None,
                    &[
                        crate::encoding::parameters(std::mem::take(&mut self.names)),
                        std::mem::take(&mut self.counts).into(),
                    ],
                )
                .map(|rows| rows.len())
        });
        done("write hit counts to table \"query_cache\"", written);
        note_written(&self.entries);
        self.entries.clear();
    }
}
