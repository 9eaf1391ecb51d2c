//! From memory to the table.
//!
//! An entry counts as written only once the transaction that wrote it has committed ([`committed`], from the transaction callback).
//! If that rolls back, also partly, the entries are written again next time; a row written twice is the same row.
//! Nothing is written for entries that are dead or expired.

#![allow(unsafe_code)]

use super::row::{bytes_of, checksum, key_name};
use super::{done, lock_for_writing, qualified};
use crate::backend::Backend;
use crate::error::without_data;
use crate::fault::{self, Point};
use crate::settings;
use crate::store::area::Area;
use crate::store::lookup::EntryId;
use crate::store::partition::EntryHead;
use crate::store::statistics;
use crate::store::walk::{Seen, amend, contents, survey};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;
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

/// Entries written by the present transaction, with their hits.
static WRITTEN: Backend<RefCell<Vec<(EntryId, u32)>>> = Backend::new(RefCell::new(Vec::new()));

/// The transaction committed: what it wrote is written.
pub fn committed(area: Area) {
    let state = area.database(crate::compat::database());
    for (entry, hits) in WRITTEN.take() {
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

/// The transaction, or a part of it, rolled back, or was prepared.
pub fn forget() {
    if WRITTEN.with_borrow(|written| !written.is_empty()) {
        WRITTEN.take();
    }
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
    let mut rows = Rows::new(&table, area.header().incarnation.load(Ordering::Relaxed));
    let mut hits = Hits::new(&table);
    for partition in area.partitions() {
        for seen in survey(partition, wanted) {
            if area.slots().is_dead(&seen.dependencies) {
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
    WRITTEN.with_borrow_mut(|written| written.extend_from_slice(seen));
}

/// New rows, column by column.
#[derive(Default)]
struct Rows {
    command: String,
    incarnation: u64,
    total: i64,
    bytes: usize,
    known: HashSet<String>,
    entries: Vec<(EntryId, u32)>,
    heads: Vec<EntryHead>,
    names: Vec<String>,
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    dependencies: Vec<Vec<u8>>,
    checksums: Vec<i64>,
}

impl Rows {
    fn new(table: &str, incarnation: u64) -> Self {
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
            command,
            incarnation,
            ..Rows::default()
        }
    }

    /// Takes an entry along; `true` if the batch is full.
    fn add(&mut self, seen: &Seen, key: Vec<u8>, value: Vec<u8>) -> bool {
        let name = key_name(seen.head.function, seen.head.hash);
        // Two calls with one hash share a row, and a statement cannot write a row twice.
        if !self.known.insert(name.clone()) {
            return false;
        }
        let dependencies = bytes_of(&seen.dependencies).to_vec();
        let sum = checksum(&seen.head, self.incarnation, &key, &value, &dependencies);
        self.bytes += seen.head.payload();
        self.entries.push((seen.id, seen.head.hits));
        self.heads.push(seen.head);
        self.names.push(name);
        self.keys.push(key);
        self.values.push(value);
        self.dependencies.push(dependencies);
        self.checksums.push(sum);
        self.names.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn write(&mut self) {
        if self.names.is_empty() {
            return;
        }
        fault::point(Point::Flushing);
        let heads = &self.heads;
        let written = without_data(AssertUnwindSafe(|| {
            Spi::connect_mut(|client| {
                client
                    .update(
                        self.command.as_str(),
                        None,
                        &[
                            std::mem::take(&mut self.names).into(),
                            column(heads, |h| pg_sys::Oid::from(h.function)).into(),
                            column(heads, |h| i64::from(h.hits)).into(),
                            column(heads, |h| time(h.created_at)).into(),
                            column(heads, |h| time(h.expires_at)).into(),
                            column(heads, |h| f64::from(h.cost_us) / 1000.0).into(),
                            column(heads, |h| h.payload() as i64).into(),
                            column(heads, |h| i16::from(h.priority)).into(),
                            column(heads, |h| i16::from(h.kind)).into(),
                            column(heads, |h| h.by_age != 0).into(),
                            std::mem::take(&mut self.keys).into(),
                            std::mem::take(&mut self.values).into(),
                            std::mem::take(&mut self.dependencies).into(),
                            crate::compat::database().into(),
                            (self.incarnation as i64).into(),
                            std::mem::take(&mut self.checksums).into(),
                        ],
                    )
                    .map(|rows| rows.len())
            })
        }));
        self.total += done("write to table \"query_cache\"", written) as i64;
        note_written(&self.entries);
        fault::point(Point::Flushed);
        self.entries.clear();
        self.heads.clear();
        self.known.clear();
        self.bytes = 0;
    }
}

fn column<T>(heads: &[EntryHead], value: impl Fn(&EntryHead) -> T) -> Vec<T> {
    heads.iter().map(value).collect()
}

/// A timestamp for SPI; NULL, which the table refuses, if it is none.
fn time(us: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(us as pg_sys::TimestampTz).ok()
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
                    self.command.as_str(),
                    None,
                    &[
                        std::mem::take(&mut self.names).into(),
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
