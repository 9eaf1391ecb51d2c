//! `cache_trends`: what was counted, by minute, hour and day. Kept by the worker, which adds to the row of the minute, the hour and the
//! day in one transaction, so the rows of each resolution sum up to the same and nothing has to be rolled up later.
//!
//! What has been recorded already is kept in shared memory beside the counters, and moves only when the transaction has committed.
//! Both begin at zero together, at a start or after a crash; a worker that is started again goes on where the last one was. So nothing
//! is counted twice, and nothing is lost but what a crash takes along.
//!
//! There may be more than one row for a time, which are summed up: one that came with a dump, beside one that the worker had written
//! before the dump was loaded. A unique key would make the loading fail.

#![allow(unsafe_code)]

use super::{done, qualified};
use crate::compat;
use crate::settings;
use crate::store::area::{Area, DatabaseState};
use crate::store::layout::BLOCK;
use crate::store::statistics::Counts;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Columns of `cache_trends` that count, in the order of [`Numbers`].
pub const COLUMNS: [&str; COUNT] = [
    "hits",
    "misses",
    "bypasses",
    "fills",
    "waits",
    "invalidations",
    "expirations",
    "evictions",
    "no_room",
    "fill_us",
    "saved_us",
    "writer_us",
];
/// Those that count what the whole server does: a database is idle whatever they say.
const OF_SERVER: [&str; 2] = ["evictions", "no_room"];
/// Number of these columns.
pub const COUNT: usize = 12;

/// Values of these columns.
pub type Numbers = [u64; COUNT];

/// A resolution: its name, the microseconds of a bucket, and for how many of them rows are kept. Buckets begin at full UTC times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What the column `resolution` says.
    pub name: &'static str,
    /// Length of a bucket.
    pub us: i64,
    /// Buckets that are kept.
    pub kept: i64,
}

/// 48 hours of minutes, 60 days of hours, 2 years of days.
pub const RESOLUTIONS: [Resolution; 3] = [
    Resolution {
        name: "minute",
        us: MINUTE,
        kept: 48 * 60,
    },
    Resolution {
        name: "hour",
        us: 60 * MINUTE,
        kept: 60 * 24,
    },
    Resolution {
        name: "day",
        us: 24 * 60 * MINUTE,
        kept: 2 * 366,
    },
];

/// Microseconds of a minute.
pub const MINUTE: i64 = 60_000_000;

impl Resolution {
    /// Begin of the bucket that a time lies in.
    pub fn bucket(&self, time: i64) -> i64 {
        time.div_euclid(self.us) * self.us
    }
}

/// What has been recorded, in shared memory.
#[repr(C)]
pub struct Recorded {
    /// When, microseconds since 2000-01-01.
    at: AtomicU64,
    numbers: [AtomicU64; COUNT],
}

impl Recorded {
    /// Nothing has been recorded yet.
    pub fn forget(&self) {
        self.set(0, &[0; COUNT]);
    }

    fn set(&self, at: i64, numbers: &Numbers) {
        for (number, value) in self.numbers.iter().zip(numbers) {
            number.store(*value, Ordering::Relaxed);
        }
        self.at.store(at as u64, Ordering::Release);
    }

    fn at(&self) -> i64 {
        self.at.load(Ordering::Acquire) as i64
    }
}

/// The clock of trends.
pub fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }.saturating_add(settings::clock_offset_us())
}

/// Number of the minute that a time lies in.
pub fn minute(time: i64) -> i64 {
    time.div_euclid(MINUTE)
}

/// What has been counted in this database since the start; evictions and results without room of the whole server.
fn counted(area: Area) -> Numbers {
    let database = compat::database();
    let mut total = Counts::default();
    for (_, counts) in area.functions().read_all(database) {
        total.add(&counts);
    }
    let charges = area.charges().read_all(database);
    let writer_ns: u64 = charges.iter().map(|(_, charge)| charge.ns).sum();
    let header = area.header();
    [
        total.hits,
        total.misses,
        total.bypasses(),
        total.fills,
        total.waits,
        total.invalidations,
        total.expirations,
        header.evictions.load(Ordering::Relaxed),
        header.no_room.load(Ordering::Relaxed),
        total.fill_us,
        total.saved_us,
        writer_ns / 1000,
    ]
}

/// What was counted and not recorded yet.
pub struct Unrecorded {
    now: i64,
    counted: Numbers,
    /// By column.
    pub numbers: Numbers,
}

/// What was counted and not recorded yet.
pub fn unrecorded(area: Area, state: &DatabaseState) -> Unrecorded {
    let counted = counted(area);
    let mut numbers = counted;
    for (number, recorded) in numbers.iter_mut().zip(&state.recorded.numbers) {
        *number = number.saturating_sub(recorded.load(Ordering::Relaxed));
    }
    Unrecorded {
        now: now(),
        counted,
        numbers,
    }
}

impl Unrecorded {
    /// Whether a row is worth it: something happened here.
    fn is_worth_a_row(&self) -> bool {
        COLUMNS
            .iter()
            .zip(self.numbers)
            .any(|(column, number)| number > 0 && !OF_SERVER.contains(column))
    }

    /// A time in the minute that this belongs to. The worker comes at the first moment of the next minute; if it was away for longer
    /// nobody knows, and it is the minute before.
    fn belongs_to(&self, state: &DatabaseState) -> i64 {
        let last = state.recorded.at();
        if minute(last) == minute(self.now) {
            self.now
        } else {
            last.clamp(self.now - MINUTE, self.now)
        }
    }

    /// The transaction that wrote it has committed.
    pub fn committed(&self, state: &DatabaseState) {
        state.recorded.set(self.now, &self.counted);
    }
}

/// Adds what is not recorded yet to the rows of its minute, hour and day, and removes rows that are too old. `None` if there was
/// nothing to write.
pub fn record(area: Area, state: &DatabaseState) -> Option<Unrecorded> {
    let new = unrecorded(area, state);
    if !new.is_worth_a_row() {
        return None;
    }
    let table = qualified("cache_trends")?;
    let (entries, memory) = gauges(area);
    let time = new.belongs_to(state);
    for resolution in RESOLUTIONS {
        let row = Row {
            table: &table,
            resolution,
            numbers: &new.numbers,
            entries,
            memory,
        };
        row.add(resolution.bucket(time));
        row.remove_old(resolution.bucket(new.now));
    }
    Some(new)
}

/// Entries of this database in memory, and bytes in use of the whole server.
pub fn gauges(area: Area) -> (i64, i64) {
    let database = compat::database().to_u32();
    let entries = crate::store::walk::count(area, |head| head.database == database);
    let mut used = 0;
    for partition in area.partitions() {
        used += u64::from(partition.blocks() - partition.counts().1) * BLOCK as u64;
    }
    (entries as i64, used as i64)
}

/// What is written for one resolution.
struct Row<'a> {
    table: &'a str,
    resolution: Resolution,
    numbers: &'a Numbers,
    entries: i64,
    memory: i64,
}

impl Row<'_> {
    fn add(&self, bucket: i64) {
        // What is counted begins with the fifth parameter.
        let sums: Vec<_> = COLUMNS
            .iter()
            .zip(5..)
            .map(|(column, place)| format!("{column} = {column} OPERATOR(pg_catalog.+) ${place}"))
            .collect();
        let table = self.table;
        let updated = self.write(
            &format!(
                "UPDATE {table} SET entries = GREATEST(entries, $3), memory_bytes = GREATEST(memory_bytes, $4), {} \
                 WHERE ctid OPERATOR(pg_catalog.=) (SELECT ctid FROM {table} \
                 WHERE resolution OPERATOR(pg_catalog.=) $1 AND bucket OPERATOR(pg_catalog.=) $2 LIMIT 1)",
                sums.join(", ")
            ),
            bucket,
        );
        if updated == 0 {
            let values: Vec<_> = (5..5 + COUNT).map(|place| format!("${place}")).collect();
            self.write(
                &format!(
                    "INSERT INTO {table} (resolution, bucket, entries, memory_bytes, {}) VALUES ($1, $2, $3, $4, {})",
                    COLUMNS.join(", "),
                    values.join(", ")
                ),
                bucket,
            );
        }
    }

    /// Returns the number of rows.
    fn write(&self, command: &str, bucket: i64) -> usize {
        let written = Spi::connect_mut(|client| {
            let mut arguments = vec![
                self.resolution.name.into(),
                timestamp(bucket).into(),
                self.entries.into(),
                self.memory.into(),
            ];
            arguments.extend(self.numbers.iter().map(|number| (*number as i64).into()));
            client
                .update(
                    crate::encoding::statement(command).as_c_str(),
                    None,
                    &arguments,
                )
                .map(|rows| rows.len())
        });
        done("write to table \"cache_trends\"", written)
    }

    fn remove_old(&self, bucket: i64) {
        let oldest = bucket.saturating_sub((self.resolution.kept - 1) * self.resolution.us);
        let removed = crate::encoding::run(
            &format!(
                "DELETE FROM {} WHERE resolution OPERATOR(pg_catalog.=) $1 AND bucket OPERATOR(pg_catalog.<) $2",
                self.table
            ),
            &[self.resolution.name.into(), timestamp(oldest).into()],
        );
        done("trim table \"cache_trends\"", removed);
    }
}

/// A time as the server has it.
pub fn timestamp(us: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(us as pg_sys::TimestampTz).ok()
}

/// A row that was recorded.
pub struct Bucket {
    /// Its begin.
    pub begin: i64,
    /// The most entries seen, and bytes in use.
    pub gauges: Option<(i64, i64)>,
    /// What was counted.
    pub numbers: Numbers,
}

/// The rows of a resolution from `first` on, in order of time.
pub fn read(resolution: Resolution, first: i64) -> Vec<Bucket> {
    let Some(table) = qualified("cache_trends") else {
        return Vec::new();
    };
    let rows = Spi::connect(|client| {
        let sums = COLUMNS.map(|column| format!("pg_catalog.sum({column})::pg_catalog.int8"));
        let rows = client.select(
            crate::encoding::statement(&format!(
                "SELECT bucket, pg_catalog.max(entries), pg_catalog.max(memory_bytes), {} FROM {table} \
                 WHERE resolution OPERATOR(pg_catalog.=) $1 AND bucket OPERATOR(pg_catalog.>=) $2 \
                 GROUP BY bucket ORDER BY bucket",
                sums.join(", ")
            ))
            .as_c_str(),
            None,
            &[resolution.name.into(), timestamp(first).into()],
        )?;
        let mut buckets = Vec::new();
        for row in rows {
            let number = |at: usize| row.get::<i64>(at).map(Option::unwrap_or_default);
            let mut numbers = [0; COUNT];
            for (at, value) in numbers.iter_mut().enumerate() {
                *value = number(at + 4)?.max(0) as u64;
            }
            let Some(begin) = row.get::<TimestampWithTimeZone>(1)? else {
                continue;
            };
            buckets.push(Bucket {
                begin: begin.into(),
                gauges: Some((number(2)?, number(3)?)),
                numbers,
            });
        }
        Ok(buckets)
    });
    done("read table \"cache_trends\"", rows)
}
