//! `cache_metrics()`: all figures in the text format of Prometheus, version 0.0.4. Counters count since the server started, times are
//! in seconds. What is known by function has `function` in its name and as a label, and is not part of another metric's sum.

use super::figures::{Figures, FunctionFigures};
use crate::call::outcome::Reason;
use crate::compat;
use crate::configuration;
use crate::encoding::Text;
use crate::naming;
use crate::settings;
use crate::store::area::{Area, DatabaseState, area};
use crate::store::statistics::Counts;
use crate::store::traits::Trait;
use pg_query_cache_worth::Why;
use pgrx::prelude::*;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the histogram's buckets are powers of four, from a microsecond to 18 minutes; these are the exponents of two.
const BOUNDS: std::ops::RangeInclusive<usize> = 0..=30;

/// Seconds between 1970-01-01 and 2000-01-01.
const EPOCH: f64 = 946_684_800.0;

/// All figures of this database.
#[pg_extern(sql = false)]
fn cache_metrics() -> Text {
    let mut page = Page::default();
    page.gauge(
        "preloaded",
        "Whether the library is preloaded; if not, nothing is cached.",
        u8::from(area().is_some()),
    );
    if let Some(area) = area() {
        let figures = Figures::of_database(area);
        whole(area, &figures, &mut page);
        by_function(area, &figures.functions, &mut page);
        page.family(
            "relation_writer_seconds_total",
            "counter",
            "Time that writers spent in the tracking triggers of a relation.",
            figures.relations.iter().filter_map(|own| {
                let name = naming::relation_name(own.relation)?;
                Some((vec![("relation", name)], own.charge.ns as f64 / 1e9))
            }),
        );
    }
    Text(page.text)
}

fn whole(area: Area, figures: &Figures, page: &mut Page) {
    let (header, total) = (area.header(), &figures.total);
    let worker = area
        .posts()
        .worker_of(compat::database().to_u32())
        .is_some();
    page.gauge(
        "worker_running",
        "Whether a background worker is in the database right now; the workers go round.",
        u8::from(worker),
    );
    page.gauge(
        "start_time_seconds",
        "When counting began, as Unix time.",
        header.started_at.load(Ordering::Relaxed) as f64 / 1e6 + EPOCH,
    );
    page.gauge("entries", "Entries in memory.", figures.entries.len());
    page.gauge(
        "memory_bytes",
        "Memory in use by entries, of the whole server.",
        figures.used,
    );
    page.gauge(
        "memory_limit_bytes",
        "Memory that entries can use, of the whole server.",
        area.layout.entry_bytes(),
    );
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let state = area.database(compat::database());
    let table = |number: fn(&DatabaseState) -> &AtomicU64| {
        state.map_or(0, |state| number(state).load(Ordering::Relaxed))
    };
    page.gauge(
        "table_rows",
        "Rows of the table query_cache, as the last clean-up found them.",
        table(|state| &state.table_rows),
    );
    page.gauge(
        "table_bytes",
        "What these rows take.",
        table(|state| &state.table_bytes),
    );
    page.gauge(
        "table_limit_bytes",
        "What they may take.",
        settings::table_bytes(),
    );
    let usage = area.functions().usage(compat::database());
    page.gauge(
        "function_rows",
        "Rows in shared memory that are taken, by functions and one by each database.",
        usage.taken,
    );
    page.gauge(
        "function_rows_limit",
        "Rows that there are for them.",
        usage.rows,
    );
    for (name, help, value) in [
        ("hits_total", "Calls answered from the cache.", total.hits),
        (
            "misses_total",
            "Calls that found nothing valid.",
            total.misses,
        ),
        ("fills_total", "Results stored.", total.fills),
        (
            "waits_total",
            "Calls that waited for another session's computation.",
            total.waits,
        ),
        (
            "invalidations_total",
            "Misses that found an entry which a write had invalidated.",
            total.invalidations,
        ),
        (
            "expirations_total",
            "Misses that found an entry which was too old.",
            total.expirations,
        ),
        (
            "verified_total",
            "Hits that were computed again and compared.",
            total.verified,
        ),
        (
            "differences_total",
            "Hits that differed when computed again, without an explanation.",
            total.differences,
        ),
        (
            "evictions_total",
            "Entries that left for lack of room, of the whole server.",
            load(&header.evictions),
        ),
        (
            "no_room_total",
            "Results that found no room, of the whole server.",
            load(&header.no_room),
        ),
        (
            "damaged_total",
            "Reads that made no sense and were not used, of the whole server.",
            load(&header.damaged),
        ),
        (
            "not_written_total",
            "Entries that the table query_cache could not take, of the whole server.",
            load(&header.not_written),
        ),
        (
            "table_evictions_total",
            "Rows that left the table query_cache because it was full.",
            table(|state| &state.table_evictions),
        ),
    ] {
        page.counter(name, help, value);
    }
    page.counter(
        "fill_seconds_total",
        "Time spent in the functions by misses.",
        seconds(total.fill_us),
    );
    page.counter(
        "saved_seconds_total",
        "Time that hits would have spent in the functions.",
        seconds(total.saved_us),
    );
    page.counter(
        "writer_seconds_total",
        "Time that writers spent in tracking triggers.",
        figures.writer_ns as f64 / 1e9,
    );
    page.family(
        "bypasses_total",
        "counter",
        "Calls answered by the function on purpose.",
        by_reason(total, true),
    );
    page.family(
        "not_stored_total",
        "counter",
        "Computed results that were not stored.",
        by_reason(total, false),
    );
}

/// All reasons of one kind: one that never occurred is there with zero, so that no series begins in the middle.
fn by_reason(counts: &Counts, bypass: bool) -> impl Iterator<Item = Sample> {
    Reason::ALL
        .into_iter()
        .filter(move |reason| reason.is_bypass() == bypass)
        .map(|reason| {
            (
                vec![("reason", reason.code().to_owned())],
                counts.reasons[reason as usize] as f64,
            )
        })
}

fn by_function(area: Area, functions: &[FunctionFigures], page: &mut Page) {
    let database = compat::database();
    let named: Vec<_> = functions
        .iter()
        .filter(|own| super::figures::exists(own.function))
        .map(|own| (naming::regprocedure_qualified(own.function), own))
        .collect();
    type Value = fn(&FunctionFigures) -> f64;
    let families: [(&str, &str, &str, Value); 11] = [
        (
            "hits_total",
            "counter",
            "Calls answered from the cache",
            |own| own.counts.hits as f64,
        ),
        (
            "misses_total",
            "counter",
            "Calls that found nothing valid",
            |own| own.counts.misses as f64,
        ),
        (
            "bypasses_total",
            "counter",
            "Calls answered by the function on purpose",
            |own| own.counts.bypasses() as f64,
        ),
        ("fills_total", "counter", "Results stored", |own| {
            own.counts.fills as f64
        }),
        (
            "invalidations_total",
            "counter",
            "Misses that found an entry which a write had invalidated",
            |own| own.counts.invalidations as f64,
        ),
        (
            "expirations_total",
            "counter",
            "Misses that found an entry which was too old",
            |own| own.counts.expirations as f64,
        ),
        (
            "differences_total",
            "counter",
            "Hits that differed when computed again, without an explanation",
            |own| own.counts.differences as f64,
        ),
        (
            "saved_seconds_total",
            "counter",
            "Time that hits would have spent in the function",
            |own| seconds(own.counts.saved_us),
        ),
        // A gauge: the share changes when another function begins to read the relation.
        (
            "writer_seconds",
            "gauge",
            "Share of the time that writers spent in tracking triggers",
            |own| own.writer_ns as f64 / 1e9,
        ),
        ("entries", "gauge", "Entries in memory", |own| {
            own.entries as f64
        }),
        ("memory_bytes", "gauge", "Bytes of these entries", |own| {
            own.bytes as f64
        }),
    ];
    for (name, kind, help, value) in families {
        page.family(
            &format!("function_{name}"),
            kind,
            &format!("{help}, by cached function."),
            named
                .iter()
                .map(|(function, own)| (vec![("function", function.clone())], value(own))),
        );
    }
    page.family(
        "function_quarantined",
        "gauge",
        "Whether the cached function is in quarantine.",
        named.iter().map(|(function, own)| {
            let traits = area.functions().learned(database, own.function);
            let quarantined = traits.has(Trait::Quarantined);
            (
                vec![("function", function.clone())],
                f64::from(u8::from(quarantined)),
            )
        }),
    );
    page.family(
        "function_resting",
        "gauge",
        "Whether the cached function rests because caching it does not pay, by reason.",
        named.iter().flat_map(|(function, own)| {
            let rest = area.functions().rest(database, own.function);
            let why = rest
                .filter(|_| configuration::is_adaptive(own.function))
                .map(|(rest, _)| rest.why);
            Why::ALL.map(|one| {
                let labels = vec![
                    ("function", function.clone()),
                    ("reason", one.words().replace(' ', "_")),
                ];
                (labels, f64::from(u8::from(why == Some(one))))
            })
        }),
    );
    histogram(&named, page);
}

fn histogram(named: &[(String, &FunctionFigures)], page: &mut Page) {
    let name = page.head(
        "function_fill_seconds",
        "histogram",
        "How long computations took, by cached function.",
    );
    for (function, own) in named {
        let times = &own.counts.fill_times;
        let label = |le: &str| vec![("function", function.clone()), ("le", le.to_owned())];
        for exponent in BOUNDS.step_by(2) {
            let bound = (1u64 << exponent) as f64 / 1e6;
            page.sample(
                &format!("{name}_bucket"),
                &label(&bound.to_string()),
                times.below(exponent),
            );
        }
        page.sample(&format!("{name}_bucket"), &label("+Inf"), times.total());
        let own_label = [("function", function.clone())];
        page.sample(
            &format!("{name}_sum"),
            &own_label,
            seconds(own.counts.fill_us),
        );
        page.sample(&format!("{name}_count"), &own_label, times.total());
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Labels and value of a line.
type Sample = (Vec<(&'static str, String)>, f64);

/// The text so far.
#[derive(Default)]
struct Page {
    text: String,
    database: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        let name = self.head(name, "gauge", help);
        self.sample(&name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        let name = self.head(name, "counter", help);
        self.sample(&name, &[], value);
    }

    /// A metric with a line for each set of labels.
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Iterator<Item = Sample>,
    ) {
        let name = self.head(name, kind, help);
        for (labels, value) in samples {
            self.sample(&name, &labels, value);
        }
    }

    /// The two lines before a metric's values. Returns its whole name.
    fn head(&mut self, name: &str, kind: &str, help: &str) -> String {
        let name = format!("pg_query_cache_{name}");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name
    }

    fn sample(&mut self, name: &str, labels: &[(&'static str, String)], value: impl Display) {
        if self.database.is_empty() {
            self.database = escaped(&compat::database_name());
        }
        let _ = write!(self.text, "{name}{{database=\"{}\"", self.database);
        for (label, of) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(of));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// As the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
