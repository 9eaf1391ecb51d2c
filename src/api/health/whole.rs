//! Rates, memory and entries of the whole.

#![allow(unsafe_code)]

use super::remedies::{self, MORE_MEMORY, plain_call};
use super::{ENOUGH_CALLS, Finding, Status, per_cent};
use crate::api::figures::{Figures, FunctionFigures, bytes_of, exists};
use crate::call::outcome::Reason;
use crate::compat;
use crate::configuration;
use crate::language::body::Body;
use crate::language::signature::Signature;
use crate::naming;
use crate::settings;
use crate::store::area::{Area, DatabaseState};
use crate::store::layout::BLOCK;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hit rate below which the cache does little, and below which it does harm, in per cent.
const HIT_RATE: (f64, f64) = (70.0, 30.0);
/// Memory in use, in per cent.
const MEMORY: f64 = 80.0;
/// Bytes of the table tier in use, in per cent.
const TABLE: f64 = 95.0;
/// Share of stored results that leave for lack of room, in per cent.
const EVICTED: f64 = 50.0;
/// Share of entries that are expired or dead but not removed yet, in per cent.
const WORTHLESS: f64 = 20.0;
/// An entry is large if it takes more than this part of a partition …
const LARGE_PART: u32 = 16;
/// … and large entries are too many if they have more than this share of the bytes, in per cent.
const LARGE_SHARE: f64 = 25.0;

pub fn examine(area: Area, figures: &Figures) -> Vec<Finding> {
    let mut findings = vec![hit_rate(figures)];
    findings.extend(memory(area, figures));
    findings.extend(table(area));
    findings.extend(contents(area, figures));
    findings
}

fn hit_rate(figures: &Figures) -> Finding {
    let total = &figures.total;
    let looked_up = total.hits + total.misses;
    let rate = per_cent(total.hits, looked_up);
    let status = if looked_up < ENOUGH_CALLS || rate >= HIT_RATE.0 {
        Status::Ok
    } else if rate >= HIT_RATE.1 {
        Status::Warning
    } else {
        Status::Critical
    };
    let finding = Finding::new(
        "hit rate",
        status,
        if looked_up < ENOUGH_CALLS {
            format!("{looked_up} calls, too few to tell")
        } else {
            format!("{rate:.1} % of {looked_up} calls")
        },
        format!("{:.0} %", HIT_RATE.0),
    );
    let worst = figures
        .functions
        .iter()
        .filter(|own| exists(own.function))
        .max_by_key(|own| own.counts.misses);
    match worst {
        Some(worst) => {
            let (why, sql) = why_misses(worst);
            let share = per_cent(worst.counts.misses, total.misses);
            finding.advise(
                format!(
                    "{share:.0} % of the misses are those of {}. {why}",
                    naming::regprocedure_qualified(worst.function)
                ),
                sql,
            )
        }
        None => finding.advise(
            "The functions that missed have been dropped since; the rate is that of the whole time since the server started.",
            None,
        ),
    }
}

/// Why a function misses most often, with what to do.
fn why_misses(own: &FunctionFigures) -> (String, String) {
    let counts = &own.counts;
    let (not_stored, reason) = Reason::ALL
        .into_iter()
        .filter(|reason| !reason.is_bypass())
        .map(|reason| (counts.reasons[reason as usize], reason))
        .max_by_key(|(count, _)| *count)
        .unwrap_or((0, Reason::Untracked));
    let first = counts
        .misses
        .saturating_sub(counts.invalidations + counts.expirations + not_stored);
    let most = [counts.invalidations, counts.expirations, not_stored, first]
        .into_iter()
        .max();
    let look = remedies::row_of("cache_function_stats", own.function);
    if most == Some(first) {
        return (
            "Most were asked for the first time, or again after an eviction: more different calls than are repeated. Cache a function with \
             fewer different arguments, or see the findings on memory."
                .into(),
            look,
        );
    }
    if most == Some(not_stored) {
        return (
            format!(
                "Most were not stored, by reason \"{}\": cache_reasons() says what it means and what to do.",
                reason.code()
            ),
            look,
        );
    }
    if most == Some(counts.invalidations) {
        return (
            "Most had been invalidated by writes: give the key columns in depends_on, so that only what a write touches is computed anew."
                .into(),
            remedies::row_of("cached_functions", own.function),
        );
    }
    match longer_ttl(own.function) {
        Some(sql) => (
            "Most were too old. The result stays exact however long it is kept: give its class a longer time to live."
                .into(),
            sql,
        ),
        None => (
            "Most were too old for the function's own ttl, or for the caller's cache_duration: create the cached function with a longer ttl."
                .into(),
            remedies::row_of("cached_functions", own.function),
        ),
    }
}

/// Twice the time to live of the function's class, if it has none of its own.
fn longer_ttl(function: pg_sys::Oid) -> Option<String> {
    let body = Body::parse(&Signature::of(function)?.source).ok()?;
    if body.ttl.is_some() {
        return None;
    }
    let class = body.class();
    let seconds = configuration::class_ttl_us(class) / 1_000_000;
    let longer = seconds.saturating_mul(2).min(86_400 * 365);
    Some(remedies::call_with(
        "set_cache_config",
        &[&format!("class.{class}.ttl"), &format!("{longer}s")],
    ))
}

fn memory(area: Area, figures: &Figures) -> [Finding; 5] {
    let limit = area.layout.entry_bytes() as u64;
    let share = per_cent(figures.used, limit);
    let header = area.header();
    let evictions = header.evictions.load(Ordering::Relaxed);
    let evicted = per_cent(evictions, figures.total.fills);
    let no_room = header.no_room.load(Ordering::Relaxed);
    let usage = area.functions().usage(compat::database());
    let uncounted = header.uncounted.load(Ordering::Relaxed);
    let (charge_rows, charge_rows_taken) = area.charges().usage();
    let without_row = figures.total.reasons[Reason::NoRow as usize];
    [
        Finding::new(
            "memory in use",
            Status::warning_if(share > MEMORY),
            format!("{share:.1} % of {} MB", limit / (1024 * 1024)),
            format!("{MEMORY:.0} %"),
        )
        .advise(
            format!("If entries are evicted that are still asked for (see evictions), {MORE_MEMORY}; else a full cache is a good one."),
            remedies::more_memory(),
        ),
        Finding::new(
            "evictions",
            Status::warning_if(figures.total.fills >= ENOUGH_CALLS && evicted > EVICTED),
            format!("{evictions} of {} results stored", figures.total.fills),
            format!("{EVICTED:.0} %"),
        )
        .advise(
            format!("Memory is too small for what is asked for: {MORE_MEMORY}, or cache fewer different calls."),
            remedies::more_memory(),
        ),
        Finding::new(
            "results without room",
            Status::warning_if(no_room > 0),
            no_room.to_string(),
            "0",
        )
        .advise(
            format!("No room could be made for them: {MORE_MEMORY}."),
            remedies::more_memory(),
        ),
        Finding::new(
            "functions without a row",
            Status::warning_if(without_row + uncounted > 0),
            format!(
                "{without_row} calls not cached, {uncounted} more in databases without any; of {} rows {} are taken by databases, {} by \
                 functions, {} by those of this database",
                usage.rows, usage.taken - usage.functions, usage.functions, usage.own
            ),
            "0 calls",
        )
        .advise(
            format!(
                "A function without a row in shared memory is answered by itself. The owners of databases, their databases, and the roles of a \
                 database share the rows equally: drop cached functions that nobody needs (those in temporary schemas get none), or {MORE_MEMORY}."
            ),
            remedies::more_memory(),
        ),
        Finding::new(
            "written tables without a row",
            Status::warning_if(charge_rows_taken >= charge_rows - charge_rows / 10),
            format!("of {charge_rows} rows {charge_rows_taken} are taken"),
            "90 %",
        )
        .advise(
            format!(
                "What tracking costs the writers of a table is counted in a row of its own; what finds none is counted for the database as a \
                 whole. Untrack tables that no cached function reads, or {MORE_MEMORY}."
            ),
            remedies::more_memory(),
        ),
    ]
}

/// The table tier: how full it is, and what it could not take.
fn table(area: Area) -> [Finding; 2] {
    let state = area.database(compat::database());
    let load = |number: fn(&DatabaseState) -> &AtomicU64| {
        state.map_or(0, |state| number(state).load(Ordering::Relaxed))
    };
    let (rows, bytes) = (
        load(|state| &state.table_rows),
        load(|state| &state.table_bytes),
    );
    let left = load(|state| &state.table_evictions);
    let bound = settings::table_bytes();
    let share = per_cent(bytes, bound);
    let not_written = area.header().not_written.load(Ordering::Relaxed);
    [
        Finding::new(
            "table query_cache in use",
            Status::warning_if(share > TABLE),
            format!(
                "{share:.1} % of {} MB with {rows} rows; {left} rows have left to make room",
                bound / (1024 * 1024)
            ),
            format!("{TABLE:.0} %"),
        )
        .advise(
            "What is least useful leaves, nothing new is written meanwhile. If it is worth keeping, raise pg_query_cache.table_size, then \
             SELECT pg_reload_conf(); else give functions with ever new arguments a shorter ttl, or do not cache them.",
            format!(
                "ALTER SYSTEM SET pg_query_cache.table_size = '{}MB'",
                (bound / (1024 * 1024) * 2).min(i32::MAX as u64)
            ),
        ),
        Finding::new(
            "entries that could not be written",
            Status::warning_if(not_written > 0),
            not_written.to_string(),
            "0",
        )
        .advise(
            "The table query_cache refused them, the server's log says why. They stay in memory and are lost with it; all others are written.",
            None,
        ),
    ]
}

fn contents(area: Area, figures: &Figures) -> [Finding; 3] {
    // SAFETY: the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() } + settings::clock_offset_us();
    let entries = &figures.entries;
    let count = entries.len() as u64;
    let expired = entries.iter().filter(|e| e.head.expires_at <= now).count() as u64;
    let dead = entries
        .iter()
        .filter(|e| e.head.expires_at > now && area.slots().is_dead(&e.dependencies))
        .count() as u64;
    let threshold = u64::from(area.layout.blocks / LARGE_PART) * BLOCK as u64;
    let largest = entries.iter().max_by_key(|entry| bytes_of(entry));
    let (mut large, mut large_bytes, mut bytes) = (0, 0, 0);
    for entry in entries {
        let own = bytes_of(entry);
        bytes += own;
        if own > threshold || entry.head.payload() > settings::max_entry_bytes() {
            large += 1;
            large_bytes += own;
        }
    }
    let share = per_cent(large_bytes, bytes);
    [
        Finding::new(
            "expired entries",
            Status::warning_if(per_cent(expired, count) > WORTHLESS),
            format!("{expired} of {count}"),
            format!("{WORTHLESS:.0} %"),
        )
        .advise(
            "They take room until they are removed. The worker does so every pg_query_cache.cleanup_interval.",
            plain_call("cleanup_expired_cache"),
        ),
        Finding::new(
            "invalidated entries",
            Status::warning_if(per_cent(dead, count) > WORTHLESS),
            format!("{dead} of {count}"),
            format!("{WORTHLESS:.0} %"),
        )
        .advise(
            "They take room until they are removed. If there are many again soon, writes invalidate much of what is cached: give key columns \
             in depends_on, or do not cache what changes that often.",
            plain_call("cleanup_expired_cache"),
        ),
        Finding::new(
            "large entries",
            Status::warning_if(share > LARGE_SHARE),
            format!(
                "{large} above {} kB with {share:.1} % of the bytes, the largest has {} kB",
                threshold / 1024,
                largest.map_or(0, bytes_of) / 1024
            ),
            format!("{LARGE_SHARE:.0} % of the bytes"),
        )
        .advise(
            format!(
                "Each pushes out many small ones. Let {} return less, or do not store what is that large, then SELECT pg_reload_conf().",
                largest.map_or_else(String::new, |entry| naming::regprocedure_qualified(entry.head.function.into()))
            ),
            format!(
                "ALTER SYSTEM SET pg_query_cache.max_entry_size = '{}kB'",
                (threshold / 1024).max(1)
            ),
        ),
    ]
}
