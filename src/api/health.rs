//! `analyze_cache_health()`: what is well and what is not, each with its figure, the threshold and what to do.

#![allow(unsafe_code)]

use crate::call::outcome::Reason;
use crate::store::area::{Area, area};
use crate::store::insert::{Seen, survey};
use crate::store::layout::BLOCK;
use crate::store::partition::blocks_for;
use crate::store::statistics::{self, Counts};
use crate::values::Place;
use crate::{compat, settings};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;

/// Fewer calls than this say nothing about a rate.
const ENOUGH_CALLS: u64 = 100;
/// Hit rate below which the cache does little, and below which it does harm, in per cent.
const HIT_RATE: (f64, f64) = (70.0, 30.0);
/// Memory in use, in per cent.
const MEMORY: f64 = 80.0;
/// Share of entries that are expired or dead but not removed yet, in per cent.
const WORTHLESS: f64 = 20.0;
/// An entry is large from this many bytes on.
const LARGE: u64 = 100 * 1024;
/// Share of the memory in use that large entries may have, in per cent.
const LARGE_SHARE: f64 = 25.0;
/// A computation is slow from this many seconds on.
const SLOW: f64 = 5.0;
/// Share of stored results that leave for lack of room, in per cent.
const EVICTED: f64 = 50.0;

/// A line of the answer.
struct Finding {
    finding: String,
    status: &'static str,
    value: String,
    threshold: String,
    recommendation: String,
}

/// The lines so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        finding: impl Into<String>,
        status: &'static str,
        value: impl Into<String>,
        threshold: impl Into<String>,
        recommendation: &str,
    ) {
        let recommendation = if status == "ok" { "" } else { recommendation };
        self.0.push(Finding {
            finding: finding.into(),
            status,
            value: value.into(),
            threshold: threshold.into(),
            recommendation: recommendation.into(),
        });
    }
}

/// `warning` if so.
fn warning_if(bad: bool) -> &'static str {
    if bad { "warning" } else { "ok" }
}

fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// Findings about the cache in this database, one row each.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn analyze_cache_health() -> TableIterator<
    'static,
    (
        name!(finding, String),
        name!(status, String),
        name!(value, String),
        name!(threshold, String),
        name!(recommendation, String),
    ),
> {
    let mut findings = Findings::default();
    match area() {
        None => findings.add(
            "library not preloaded",
            "critical",
            "nothing is cached",
            "preloaded",
            crate::error::PRELOAD_HINT,
        ),
        Some(area) => examine(area, &mut findings),
    }
    TableIterator::new(findings.0.into_iter().map(|f| {
        (
            f.finding,
            f.status.to_owned(),
            f.value,
            f.threshold,
            f.recommendation,
        )
    }))
}

fn examine(area: Area, findings: &mut Findings) {
    statistics::hand_over(area);
    let database = crate::compat::database();
    // A key without a value is no call that could have been cached, and a value is read anew after each write: neither is a finding.
    let values = Place::find().map(|place| place.reader());
    let mut functions = area.functions().read_all(database);
    functions.retain(|(function, _)| Some(*function) != values);
    let mut total = Counts::default();
    functions.iter().for_each(|(_, counts)| total.add(counts));
    let entries: Vec<Seen> = area
        .partitions()
        .flat_map(|partition| survey(partition, |head| head.database == database.to_u32()))
        .collect();
    running(area, database, &total, findings);
    rates(area, &total, findings);
    contents(area, &entries, findings);
    by_function(&functions, findings);
}

/// Whether everything that should run does.
fn running(area: Area, database: pg_sys::Oid, total: &Counts, findings: &mut Findings) {
    let on = settings::enabled();
    findings.add(
        "caching switched on",
        if on { "ok" } else { "critical" },
        if on { "on" } else { "off" },
        "on",
        "Set pg_query_cache.enabled to on; cached functions answer from their base functions now.",
    );
    let worker = area
        .database(database)
        .map_or(0, |state| state.worker_pid.load(Ordering::Acquire));
    findings.add(
        "background worker running",
        warning_if(worker == 0),
        if worker == 0 {
            "no".to_owned()
        } else {
            format!("process {worker}")
        },
        "yes",
        "Without it nothing is cleaned up, written to query_cache or tracked by itself. It starts within seconds unless \
         max_worker_processes is used up: see the server's log.",
    );
    let unknown = total.reasons[Reason::UnknownWriters as usize];
    let waiting = area.header().known_from.load(Ordering::Acquire) != 0 && unknown > 0;
    findings.add(
        "transactions prepared before the start",
        warning_if(waiting),
        format!("{unknown} calls not cached"),
        "none open",
        "Commit or roll back what pg_prepared_xacts lists: until then nobody knows what those transactions wrote, and calls are not \
         cached.",
    );
    let damaged = area.header().damaged.load(Ordering::Relaxed);
    findings.add(
        "damaged reads",
        if damaged > 0 { "critical" } else { "ok" },
        damaged.to_string(),
        "0",
        "An entry or a row of query_cache did not match its checksum and was ignored. Check the machine's memory and disks.",
    );
}

/// Figures of the whole.
fn rates(area: Area, total: &Counts, findings: &mut Findings) {
    let looked_up = total.hits + total.misses;
    let rate = per_cent(total.hits, looked_up);
    let status = if looked_up < ENOUGH_CALLS || rate >= HIT_RATE.0 {
        "ok"
    } else if rate >= HIT_RATE.1 {
        "warning"
    } else {
        "critical"
    };
    findings.add(
        "hit rate",
        status,
        if looked_up < ENOUGH_CALLS {
            format!("{looked_up} calls, too few to tell")
        } else {
            format!("{rate:.1} %")
        },
        format!("{:.0} %", HIT_RATE.0),
        "See cache_function_stats: many invalidations call for keyed dependencies (depends_on), many expirations for a longer ttl, \
         many evictions for more pg_query_cache.memory.",
    );
    let (mut used, mut all) = (0, 0);
    for partition in area.partitions() {
        all += u64::from(partition.blocks());
        used += u64::from(partition.blocks() - partition.counts().1);
    }
    let share = per_cent(used, all);
    findings.add(
        "memory in use",
        warning_if(share > MEMORY),
        format!("{share:.1} %"),
        format!("{MEMORY:.0} %"),
        "Raise pg_query_cache.memory if entries are evicted that are still asked for.",
    );
    let evictions = area.header().evictions.load(Ordering::Relaxed);
    let share = per_cent(evictions, total.fills);
    findings.add(
        "evictions",
        warning_if(total.fills >= ENOUGH_CALLS && share > EVICTED),
        format!("{evictions} of {} results stored", total.fills),
        format!("{EVICTED:.0} %"),
        "Memory is too small for what is asked for: raise pg_query_cache.memory, or cache fewer different calls.",
    );
    let no_room = area.header().no_room.load(Ordering::Relaxed);
    findings.add(
        "results without room",
        warning_if(no_room > 0),
        no_room.to_string(),
        "0",
        "Raise pg_query_cache.memory.",
    );
}

/// What the entries are like.
fn contents(area: Area, entries: &[Seen], findings: &mut Findings) {
    // SAFETY: the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() } + settings::clock_offset_us();
    let count = entries.len() as u64;
    let size = |seen: &Seen| u64::from(blocks_for(seen.head.payload())) * BLOCK as u64;
    let expired = entries.iter().filter(|e| e.head.expires_at <= now).count() as u64;
    let dead = entries
        .iter()
        .filter(|e| e.head.expires_at > now && area.slots().is_dead(&e.dependencies))
        .count() as u64;
    let share = per_cent(expired, count);
    findings.add(
        "expired entries",
        warning_if(share > WORTHLESS),
        format!("{expired} of {count}"),
        format!("{WORTHLESS:.0} %"),
        "Call cleanup_expired_cache(), or lower pg_query_cache.cleanup_interval.",
    );
    let share = per_cent(dead, count);
    findings.add(
        "invalidated entries",
        warning_if(share > WORTHLESS),
        format!("{dead} of {count}"),
        format!("{WORTHLESS:.0} %"),
        "Writes invalidate much of what is cached: declare keyed dependencies (depends_on), or do not cache what changes that often.",
    );
    let bytes: u64 = entries.iter().map(size).sum();
    let large: Vec<u64> = entries.iter().map(size).filter(|b| *b >= LARGE).collect();
    let share = per_cent(large.iter().sum(), bytes);
    findings.add(
        "large entries",
        warning_if(bytes > 0 && share > LARGE_SHARE),
        format!("{} with {share:.1} % of the bytes", large.len()),
        format!("{LARGE_SHARE:.0} %"),
        "Results of 100 kB and more push out many small ones: return less, or lower pg_query_cache.max_entry_size.",
    );
    let slowest = entries.iter().map(|e| e.head.cost_us).max().unwrap_or(0);
    let seconds = f64::from(slowest) / 1e6;
    findings.add(
        "slowest computation",
        warning_if(seconds > SLOW),
        format!("{seconds:.3} s"),
        format!("{SLOW:.0} s"),
        "See get_top_cache_entries() and tune the function: its first caller after each invalidation waits that long.",
    );
}

/// Functions that do not get cached, or not well.
fn by_function(functions: &[(pg_sys::Oid, Counts)], findings: &mut Findings) {
    let complaints = [
        (
            Reason::Untracked,
            "results not stored: reads an untracked relation",
            "Call cache_track_table() for the tables that it reads, or give the function's owner the TRIGGER privilege on them; for \
             foreign tables only \"consistency\": \"ttl\" helps.",
        ),
        (
            Reason::TooLarge,
            "results not stored: too large",
            "Raise pg_query_cache.max_entry_size or return less.",
        ),
        (
            Reason::Writes,
            "results not stored: the function writes",
            "A function that writes cannot be cached: uncache_function().",
        ),
        (
            Reason::TooManyDependencies,
            "results not stored: too many dependencies",
            "The function reads more relations than an entry can depend on. Split it.",
        ),
    ];
    for (reason, what, recommendation) in complaints {
        let concerned: Vec<_> = functions
            .iter()
            .filter(|(_, counts)| counts.reasons[reason as usize] > 0)
            .collect();
        if concerned.is_empty() {
            findings.add(what, "ok", "none", "none", "");
        }
        for (function, counts) in concerned {
            // A relation that a first call read is tracked a moment later; only what goes on is worth a word.
            let going_on = counts.reasons[reason as usize] * 10 > counts.fills;
            findings.add(
                format!("{what}: {}", compat::regprocedure(*function)),
                warning_if(going_on),
                format!("{} calls", counts.reasons[reason as usize]),
                "10 % of the results stored",
                recommendation,
            );
        }
    }
}
