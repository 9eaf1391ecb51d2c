//! SQL functions of the family *looking*: what the cache holds and what it did.

#![allow(unsafe_code)]

use crate::call::outcome::Reason;
use crate::error::{Error, OrRaise};
use crate::store::area::{Area, area};
use crate::store::insert::{self, Seen};
use crate::store::layout::BLOCK;
use crate::store::partition::{NEVER_PERSISTED, blocks_for};
use crate::store::statistics::{self, Counts};
use crate::store::traits::Trait;
use crate::validity::Dependency;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;

/// Entries of this database.
fn entries_of_database(area: Area) -> Vec<Seen> {
    let database = crate::compat::database().to_u32();
    area.partitions()
        .flat_map(|partition| insert::survey(partition, |head| head.database == database))
        .collect()
}

/// How many entries of this database have dependencies for which `wanted` says so.
pub fn count_entries(area: Area, wanted: impl Fn(&[Dependency]) -> bool) -> i64 {
    entries_of_database(area)
        .iter()
        .filter(|seen| wanted(&seen.dependencies))
        .count() as i64
}

/// How many results of this database memory has; values of the application are in a table of their own.
pub fn count_results(area: Area) -> i64 {
    entries_of_database(area)
        .iter()
        .filter(|seen| seen.head.persisted != NEVER_PERSISTED)
        .count() as i64
}

fn preloaded() -> Area {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    statistics::hand_over(area);
    area
}

/// Counters of this database, one row. Memory, evictions and limits are those of the cluster.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_stats() -> TableIterator<
    'static,
    (
        name!(hits, i64),
        name!(misses, i64),
        name!(bypasses, i64),
        name!(fills, i64),
        name!(waits, i64),
        name!(invalidations, i64),
        name!(expirations, i64),
        name!(evictions, i64),
        name!(entries, i64),
        name!(dead_entries, i64),
        name!(memory_bytes, i64),
        name!(memory_limit_bytes, i64),
        name!(hit_rate, Option<f64>),
        name!(saved_seconds, f64),
        name!(damaged, i64),
        name!(verified, i64),
        name!(differences, i64),
        name!(time_dependent, i64),
        name!(nondeterministic, i64),
        name!(since, TimestampWithTimeZone),
    ),
> {
    let area = preloaded();
    let database = crate::compat::database();
    let mut total = Counts::default();
    for (_, counts) in area.functions().read_all(database) {
        total.add(&counts);
    }
    let header = area.header();
    let seen = entries_of_database(area);
    let dead = seen
        .iter()
        .filter(|entry| area.slots().is_dead(&entry.dependencies))
        .count();
    let used: u64 = area
        .partitions()
        .map(|partition| u64::from(partition.blocks() - partition.counts().1) * BLOCK as u64)
        .sum();
    let looked_up = total.hits + total.misses;
    let since = TimestampWithTimeZone::try_from(
        header.started_at.load(Ordering::Relaxed) as pg_sys::TimestampTz
    );
    TableIterator::once((
        total.hits as i64,
        total.misses as i64,
        total.bypasses() as i64,
        total.fills as i64,
        total.waits as i64,
        total.invalidations as i64,
        total.expirations as i64,
        header.evictions.load(Ordering::Relaxed) as i64,
        seen.len() as i64,
        dead as i64,
        used as i64,
        area.layout.entry_bytes() as i64,
        (looked_up > 0).then(|| total.hits as f64 / looked_up as f64),
        total.saved_us as f64 / 1e6,
        header.damaged.load(Ordering::Relaxed) as i64,
        total.verified as i64,
        total.differences as i64,
        total.time_dependent as i64,
        total.nondeterministic as i64,
        match since {
            Ok(since) => since,
            Err(_) => pgrx::datum::datetime_support::now(),
        },
    ))
}

/// Counters per cached function of this database.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_function_stats() -> TableIterator<
    'static,
    (
        name!(function, pg_sys::Oid),
        name!(hits, i64),
        name!(misses, i64),
        name!(bypasses, i64),
        name!(fills, i64),
        name!(waits, i64),
        name!(invalidations, i64),
        name!(expirations, i64),
        name!(fill_seconds, f64),
        name!(saved_seconds, f64),
        name!(entries, i64),
        name!(memory_bytes, i64),
        name!(verified, i64),
        name!(differences, i64),
        name!(quarantined, bool),
        name!(reasons, pgrx::JsonB),
    ),
> {
    let area = preloaded();
    let database = crate::compat::database();
    let seen = entries_of_database(area);
    let rows: Vec<_> = area
        .functions()
        .read_all(database)
        .into_iter()
        .map(|(function, counts)| {
            let own = || {
                seen.iter()
                    .filter(|entry| entry.head.function == function.to_u32())
            };
            let reasons = Reason::ALL
                .iter()
                .filter(|reason| counts.reasons[**reason as usize] > 0)
                .map(|reason| {
                    (
                        reason.code().to_owned(),
                        counts.reasons[*reason as usize].into(),
                    )
                })
                .collect();
            (
                function,
                counts.hits as i64,
                counts.misses as i64,
                counts.bypasses() as i64,
                counts.fills as i64,
                counts.waits as i64,
                counts.invalidations as i64,
                counts.expirations as i64,
                counts.fill_us as f64 / 1e6,
                counts.saved_us as f64 / 1e6,
                own().count() as i64,
                own()
                    .map(|entry| i64::from(blocks_for(entry.head.payload())) * BLOCK as i64)
                    .sum(),
                counts.verified as i64,
                counts.differences as i64,
                area.functions()
                    .traits(database, function)
                    .has(Trait::Quarantined),
                pgrx::JsonB(serde_json::Value::Object(reasons)),
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// The entries of this database in memory.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_entries() -> TableIterator<
    'static,
    (
        name!(cache_key, String),
        name!(function, pg_sys::Oid),
        name!(hit_count, i64),
        name!(created_at, TimestampWithTimeZone),
        name!(expires_at, TimestampWithTimeZone),
        name!(size_bytes, i64),
        name!(cost_ms, f64),
        name!(priority, i32),
        name!(dead, bool),
    ),
> {
    let area = preloaded();
    let time = |us: i64| TimestampWithTimeZone::try_from(us as pg_sys::TimestampTz);
    let rows: Vec<_> = entries_of_database(area)
        .into_iter()
        .filter_map(|seen| {
            let head = seen.head;
            Some((
                crate::table::row::key_name(head.function, head.hash),
                pg_sys::Oid::from(head.function),
                i64::from(head.hits),
                time(head.created_at).ok()?,
                time(head.expires_at).ok()?,
                i64::from(blocks_for(head.payload())) * BLOCK as i64,
                f64::from(head.cost_us) / 1000.0,
                i32::from(head.priority),
                area.slots().is_dead(&seen.dependencies),
            ))
        })
        .collect();
    TableIterator::new(rows)
}
