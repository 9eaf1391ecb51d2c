//! Removing rows that can never be served again, and the log of clean-ups.

#![allow(unsafe_code)]

use super::bound;
use super::row::dependencies_of;
use super::{done, is_any, lock_for_writing, qualified};
use crate::compat;
use crate::moments;
use crate::store::area::{Area, area};
use crate::store::partition::EntryHead;
use crate::store::walk::{Verdict, count, sweep};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;

/// What a clean-up removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removed {
    /// Entries in memory that were too old.
    pub expired: u64,
    /// Entries in memory that had been invalidated.
    pub dead: u64,
    /// Rows of the table tier.
    pub rows: u64,
    /// Values of the application.
    pub values: u64,
    /// Entries in memory that the table tier did not have.
    pub only_in_memory: u64,
}

impl Removed {
    /// Entries, those in both tiers counted once.
    pub fn entries(&self) -> u64 {
        self.only_in_memory + self.rows + self.values
    }
}

/// How long a line of the log is kept.
const LOG_KEPT_DAYS: i32 = 90;

/// Whether a row with these dependencies has been invalidated, or is none of ours.
#[pg_extern(sql = false)]
fn cache_row_is_dead(dependencies: &[u8]) -> bool {
    match (area(), dependencies_of(dependencies)) {
        (Some(area), Some(dependencies)) => area.slots().is_dead(&dependencies),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Removes the rows that are expired, invalidated, of another database or of another life of the slots. Rows of dropped functions
/// are invalidated by the drop. Returns how many; none if another session is writing and the caller does not want to `wait`.
pub fn run(area: Area, now: i64, wait: bool) -> u64 {
    let (true, Some(schema), Some(internal)) = (
        lock_for_writing(wait),
        compat::extension_schema(),
        compat::internal_schema(),
    ) else {
        return 0;
    };
    let rows = format!(
        "FROM {schema}.query_cache AS q WHERE q.expires_at OPERATOR(pg_catalog.<=) $1 \
         OR q.incarnation OPERATOR(pg_catalog.<>) $2 OR q.database OPERATOR(pg_catalog.<>) $3 \
         OR NOT pg_catalog.isfinite(q.expires_at) OR NOT pg_catalog.isfinite(q.created_at) \
         OR {internal}.cache_row_is_dead(q.dependencies)"
    );
    let database = compat::database();
    let incarnation = area.header().incarnation.load(Ordering::Relaxed) as i64;
    let oldest = moments::timestamp(now);
    if !is_any(
        &format!("SELECT {rows}"),
        &[oldest.into(), incarnation.into(), database.into()],
    ) {
        count_what_is_left(area, &schema, database);
        if bound::keep(area, &schema, database).left > 0 {
            count_what_is_left(area, &schema, database);
        }
        return 0;
    }
    let command = format!("DELETE {rows}");
    let removed = Spi::connect_mut(|client| {
        let now = moments::timestamp(now);
        client
            .update(
                crate::encoding::statement(&command).as_c_str(),
                None,
                &[now.into(), incarnation.into(), database.into()],
            )
            .map(|rows| rows.len())
    });
    let removed = done("clean table \"query_cache\"", removed) as u64;
    count_what_is_left(area, &schema, database);
    if bound::keep(area, &schema, database).left > 0 {
        count_what_is_left(area, &schema, database);
    }
    removed
}

/// Removes all entries of this database from memory, and all rows. Who writes the table is waited for.
pub fn remove_everything(area: Area) -> Removed {
    let mut removed = Removed::default();
    let database = compat::database();
    for partition in area.partitions() {
        let of_database = |head: &EntryHead| head.database == database.to_u32();
        sweep(partition, of_database, |entry| {
            removed.dead += 1;
            removed.only_in_memory += u64::from(entry.head.is_only_in_memory());
            Verdict::Remove
        });
    }
    if let (true, Some(schema)) = (lock_for_writing(true), compat::extension_schema()) {
        let deleted = Spi::connect_mut(|client| {
            client
                .update(
                    crate::encoding::statement(&format!("DELETE FROM {schema}.query_cache"))
                        .as_c_str(),
                    None,
                    &[],
                )
                .map(|rows| rows.len())
        });
        removed.rows = done("empty table \"query_cache\"", deleted) as u64;
        count_what_is_left(area, &schema, database);
    }
    removed
}

/// Sets the number of rows that are not in memory right: rows that went away are no reason to look.
fn count_what_is_left(area: Area, schema: &str, database: pg_sys::Oid) {
    let (rows, _) = bound::count(schema, area.database(database));
    let in_memory = count(area, |head| {
        head.persisted == 1 && head.database == database.to_u32()
    });
    if let Some(state) = area.database(database) {
        state
            .only_in_table
            .store(rows.saturating_sub(in_memory), Ordering::Relaxed);
    }
}

/// Writes a line to `cache_cleanup_log`, and removes its oldest.
pub fn log(removed: &Removed, by: &str, ms: f64) {
    let Some(table) = qualified("cache_cleanup_log") else {
        return;
    };
    let written = crate::encoding::run(
        &format!(
            "INSERT INTO {table} (removed_by, expired_entries, dead_entries, rows, duration_ms) VALUES ($1, $2, $3, $4, $5)"
        ),
        &[
            crate::encoding::parameter(by),
            (removed.expired as i64).into(),
            (removed.dead as i64).into(),
            ((removed.rows + removed.values) as i64).into(),
            ms.into(),
        ],
    );
    done("write to table \"cache_cleanup_log\"", written);
    let trimmed = crate::encoding::run(
        &format!(
            "DELETE FROM {table} WHERE cleanup_time OPERATOR(pg_catalog.<) \
             (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(days => $1))"
        ),
        &[LOG_KEPT_DAYS.into()],
    );
    done("trim table \"cache_cleanup_log\"", trimmed);
}
