//! SQL functions of the family *looking*: what the cache holds and what it did.

#![allow(unsafe_code)]

use super::figures::{Figures, FunctionFigures, bytes_of, entries_of_database, reasons};
use crate::access::given;
use crate::call::outcome::{Reason, Refusal};
use crate::compat;
use crate::configuration;
use crate::encoding::Text;
use crate::error::{Error, OrRaise};
use crate::language::body::Body;
use crate::language::signature::Signature;
use crate::store::area::{Area, area};
use crate::store::partition::NEVER_PERSISTED;
use crate::store::statistics;
use crate::store::traits::Trait;
use crate::store::walk;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;

/// How many results of this database memory has; values of the application are in a table of their own.
pub fn count_results(area: Area) -> i64 {
    let database = compat::database().to_u32();
    walk::count(area, |head| {
        head.database == database && head.persisted != NEVER_PERSISTED
    }) as i64
}

fn preloaded() -> Area {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    statistics::hand_over(area);
    area
}

/// Counters of this database, one row. Memory, evictions and limits are those of the cluster.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_stats_v0_2() -> TableIterator<
    'static,
    (
        name!(calls, i64),
        name!(hits, i64),
        name!(misses, i64),
        name!(bypasses, i64),
        name!(fills, i64),
        name!(waits, i64),
        name!(refreshes, i64),
        name!(stale, i64),
        name!(invalidations, i64),
        name!(expirations, i64),
        name!(evictions, i64),
        name!(no_room, i64),
        name!(entries, i64),
        name!(dead_entries, i64),
        name!(memory_bytes, i64),
        name!(memory_limit_bytes, i64),
        name!(hit_rate, Option<f64>),
        name!(fill_seconds, f64),
        name!(saved_seconds, f64),
        name!(writer_seconds, f64),
        name!(net_benefit_seconds, f64),
        name!(damaged, i64),
        name!(verified, i64),
        name!(differences, i64),
        name!(time_dependent, i64),
        name!(nondeterministic, i64),
        name!(reasons, Option<pgrx::AnyElement>),
        name!(since, TimestampWithTimeZone),
    ),
> {
    let area = preloaded();
    let figures = Figures::of_database(area);
    let total = &figures.total;
    let header = area.header();
    let dead = figures
        .entries
        .iter()
        .filter(|entry| area.slots().is_dead(&entry.dependencies))
        .count();
    let since = TimestampWithTimeZone::try_from(
        header.started_at.load(Ordering::Relaxed) as pg_sys::TimestampTz
    );
    TableIterator::once((
        total.calls() as i64,
        total.hits as i64,
        total.misses as i64,
        total.bypasses() as i64,
        total.fills as i64,
        total.waits as i64,
        total.refreshes as i64,
        total.stale as i64,
        total.invalidations as i64,
        total.expirations as i64,
        header.evictions.load(Ordering::Relaxed) as i64,
        header.no_room.load(Ordering::Relaxed) as i64,
        figures.entries.len() as i64,
        dead as i64,
        figures.used as i64,
        area.layout.entry_bytes() as i64,
        total.hit_rate(),
        total.fill_us as f64 / 1e6,
        total.saved_us as f64 / 1e6,
        figures.writer_ns as f64 / 1e9,
        figures.net_benefit(),
        header.damaged.load(Ordering::Relaxed) as i64,
        total.verified as i64,
        total.differences as i64,
        total.time_dependent as i64,
        total.nondeterministic as i64,
        reasons(total),
        match since {
            Ok(since) => since,
            Err(_) => pgrx::datum::datetime_support::now(),
        },
    ))
}

/// Counters per cached function of this database: of the caller's own, or of all for those who were given this by name.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_function_counters_v0_2(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(function, pg_sys::Oid),
        name!(calls, i64),
        name!(hits, i64),
        name!(misses, i64),
        name!(bypasses, i64),
        name!(hit_rate, Option<f64>),
        name!(fills, i64),
        name!(waits, i64),
        name!(refreshes, i64),
        name!(stale, i64),
        name!(invalidations, i64),
        name!(expirations, i64),
        name!(fill_seconds, f64),
        name!(fill_p50_ms, Option<f64>),
        name!(fill_p95_ms, Option<f64>),
        name!(fill_p99_ms, Option<f64>),
        name!(fill_max_ms, Option<f64>),
        name!(saved_seconds, f64),
        name!(writer_seconds, f64),
        name!(net_benefit_seconds, f64),
        name!(entries, i64),
        name!(memory_bytes, i64),
        name!(verified, i64),
        name!(differences, i64),
        name!(quarantined, bool),
        name!(storing, Text),
        name!(resting_since, Option<TimestampWithTimeZone>),
        name!(run_us, Option<f64>),
        name!(hit_us, Option<f64>),
        name!(store_us, Option<f64>),
        name!(reasons, Option<pgrx::AnyElement>),
    ),
> {
    // SAFETY: of this call.
    let sees_all = given::is_given(unsafe { (*(*fcinfo).flinfo).fn_oid });
    let area = preloaded();
    let database = crate::compat::database();
    let figures = Figures::of_database(area);
    configuration::refresh(area);
    let rows: Vec<_> = figures
        .functions
        .into_iter()
        .filter(|own| sees_all || given::owns(own.function))
        .map(|own| {
            let counts = &own.counts;
            let times = &counts.fill_times;
            let percentile_ms = |share| times.percentile_us(share).map(|us| us / 1e3);
            let (worth, us) = (counts.worth(), |ns| ns / 1e3);
            let (storing, resting_since) = storing(area, &own);
            (
                own.function,
                counts.calls() as i64,
                counts.hits as i64,
                counts.misses as i64,
                counts.bypasses() as i64,
                counts.hit_rate(),
                counts.fills as i64,
                counts.waits as i64,
                counts.refreshes as i64,
                counts.stale as i64,
                counts.invalidations as i64,
                counts.expirations as i64,
                counts.fill_us as f64 / 1e6,
                percentile_ms(0.5),
                percentile_ms(0.95),
                percentile_ms(0.99),
                (times.total() > 0).then_some(times.longest_us as f64 / 1e3),
                counts.saved_us as f64 / 1e6,
                own.writer_ns as f64 / 1e9,
                own.net_benefit(),
                own.entries as i64,
                own.bytes as i64,
                counts.verified as i64,
                counts.differences as i64,
                area.functions()
                    .learned(database, own.function)
                    .has(Trait::Quarantined),
                storing,
                resting_since,
                worth.run_ns().map(us),
                worth.hit_ns().map(us),
                worth.storing_one_ns().map(us),
                reasons(counts),
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// Whether results of a function are stored, in words: `yes`; `no` and the code of the reason, also if none was ever stored for what the
/// function does; or `resting` and why, and since when.
fn storing(area: Area, own: &FunctionFigures) -> (Text, Option<TimestampWithTimeZone>) {
    let database = compat::database();
    let functions = area.functions();
    let class = || {
        let body = Body::parse(&Signature::of(own.function)?.source).ok()?;
        Some(body.class().to_owned())
    };
    let disabled = if functions
        .learned(database, own.function)
        .has(Trait::Quarantined)
    {
        Some(Reason::Quarantined)
    } else {
        class().and_then(|class| configuration::disabled(own.function, &class))
    };
    if let Some(reason) = disabled {
        return (format!("no: {}", reason.code()).into(), None);
    }
    match functions.rest(database, own.function) {
        Some((rest, since)) if configuration::is_adaptive(own.function) => (
            format!("resting: {}", rest.why.words()).into(),
            TimestampWithTimeZone::try_from(since as pg_sys::TimestampTz).ok(),
        ),
        _ => match never_stored(area, own) {
            Some(refusal) => (format!("no: {}", refusal.reason.code()).into(), None),
            None => ("yes".into(), None),
        },
    }
}

/// Why no result of a function was ever stored, if that is so for what it does in each call, and not for what was so once.
pub fn never_stored(area: Area, own: &FunctionFigures) -> Option<Refusal> {
    area.functions()
        .refusal(compat::database(), own.function)
        .filter(|last| {
            own.counts.fills == 0
                && (last.reason.blames_function()
                    || matches!(last.reason, Reason::OpenCursor | Reason::ReadInParts))
        })
}

/// The entries of this database in memory.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_entries() -> TableIterator<
    'static,
    (
        name!(cache_key, Text),
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
    // What a write has invalidated that nobody has asked for since is dead all the same.
    area.slots().settle_all();
    let time = |us: i64| TimestampWithTimeZone::try_from(us as pg_sys::TimestampTz);
    let rows: Vec<_> = entries_of_database(area)
        .into_iter()
        .filter_map(|seen| {
            let (head, bytes) = (seen.head, bytes_of(&seen) as i64);
            Some((
                Text(crate::table::row::key_name(head.function, head.hash)),
                pg_sys::Oid::from(head.function),
                i64::from(head.hits),
                time(head.created_at).ok()?,
                time(head.expires_at).ok()?,
                bytes,
                f64::from(head.cost_us) / 1000.0,
                i32::from(head.priority),
                area.slots().is_dead(&seen.dependencies),
            ))
        })
        .collect();
    TableIterator::new(rows)
}

/// By what entries can be ranked.
const RANKINGS: [&str; 3] = ["hits", "bytes", "saved"];

/// The word itself, if entries can be ranked by it.
#[pg_extern(sql = false)]
fn cache_ranking(by: Option<Text>) -> Text {
    let by = by.as_ref().map(|by| by.0.as_str());
    match by.filter(|by| RANKINGS.contains(by)) {
        Some(by) => by.into(),
        None => Error::InvalidChoice(
            format!("entries cannot be ranked by \"{}\"", by.unwrap_or("NULL")),
            "Rank them by 'hits', 'bytes' or 'saved'.".into(),
        )
        .raise(),
    }
}
