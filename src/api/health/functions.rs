//! What concerns single functions and tables. Each kind of finding is there at least once: with "none" if it concerns nobody.

#![allow(unsafe_code)]

use super::remedies::{call, internal_call, row_of};
use super::{ENOUGH_CALLS, Finding, Status, per_cent};
use crate::api::figures::{Figures, FunctionFigures, exists};
use crate::api::looking;
use crate::call::advice as words;
use crate::call::outcome::Reason;
use crate::compat;
use crate::configuration::{self, names};
use crate::dependencies::relations::{self, Tracking};
use crate::language::body::{Binding, Body};
use crate::language::meant::{self, Lost, Misfit, SETTING};
use crate::language::signature::{self, Signature};
use crate::language::{binding, likeness};
use crate::naming;
use crate::settings;
use crate::store::area::Area;
use crate::store::layout::BLOCK;
use crate::store::traits::Trait;
use pg_query_cache_worth::Why;
use pgrx::pg_sys;

/// A computation is slow from this many seconds on.
const SLOW: f64 = 5.0;
/// Share of the calls that find their result invalidated, in per cent.
const INVALIDATED: f64 = 25.0;
/// Share of results not stored, of those stored, in per cent.
const NOT_STORED: u64 = 10;
/// Less time of writers is not worth a word, in nanoseconds.
const NOTICEABLE_NS: u64 = 5_000_000;
/// Writers may be charged so many seconds for a table that nobody reads.
const IN_VAIN: f64 = 1.0;

pub fn examine(area: Area, figures: &Figures) -> Vec<Finding> {
    let functions: Vec<_> = figures
        .functions
        .iter()
        .filter(|own| exists(own.function))
        .collect();
    let database = compat::database();
    let mut findings = Vec::new();
    let mut each =
        |what: &str, threshold: &str, find: &dyn Fn(&FunctionFigures) -> Option<Finding>| {
            let found: Vec<_> = functions.iter().filter_map(|own| find(own)).collect();
            if found.is_empty() {
                findings.push(Finding::new(what, Status::Ok, "none", threshold));
            }
            findings.extend(found);
        };
    each("quarantined function", "none", &|own| {
        let traits = area.functions().learned(database, own.function);
        traits.has(Trait::Quarantined).then(|| quarantined(own))
    });
    each("differences found by verification", "0", &differences);
    each("slow computation", "5 s", &slow);
    each("high invalidation", "25 % of the calls", &invalidated);
    each(COSTS, "0 s", &costs);
    each(RESTING, "none", &|own| resting(area, own));
    each(
        "reads an untracked relation",
        "10 % of the results stored",
        &|own| untracked(area, own),
    );
    each(
        "too large to be stored",
        "10 % of the results stored",
        &|own| too_large(area, own),
    );
    each(NEVER_STORED, "none", &|own| never_stored(area, own));
    each("writes", "none", &|own| {
        complaint(own, Reason::Writes, "writes").map(|finding| {
            finding.advise(
                "A function that writes cannot be cached: call it by itself.",
                call("uncache_function", &name(own)),
            )
        })
    });
    each(
        "too many dependencies",
        "10 % of the results stored",
        &|own| {
            complaint(own, Reason::TooManyDependencies, "too many dependencies").map(|finding| {
            finding.advise(
                "The function reads more than an entry can depend on. Let it read fewer tables, or cache parts of it by themselves.",
                call("uncache_function", &name(own)),
            )
        })
        },
    );
    for (what, found) in MISFITS.iter().zip(misfits()) {
        if found.is_empty() {
            findings.push(Finding::new(*what, Status::Ok, "none", "none"));
        }
        findings.extend(found);
    }
    let in_vain = tracked_in_vain(figures);
    if in_vain.is_empty() {
        findings.push(Finding::new(IN_VAIN_TABLE, Status::Ok, "none", "1 s"));
    }
    findings.extend(in_vain);
    findings
}

/// What can be wrong between a cached function and its base function.
const MISFITS: [&str; 5] = [
    "no base function",
    "base function cannot be cached",
    "body names another function",
    "declared otherwise than its base function",
    "depends_on means something else",
];

/// Findings of each of the [`MISFITS`], of all cached functions, called or not. Those that are bound late are judged at each call.
fn misfits() -> [Vec<Finding>; 5] {
    let mut found = [const { Vec::new() }; 5];
    for function in compat::cached_functions() {
        let Some(own) = Signature::of(function) else {
            continue;
        };
        let Ok(body) = Body::parse(&own.source) else {
            continue;
        };
        found[4].extend(meant::misfit(function).map(|misfit| lost_names(function, &misfit)));
        if body.binding == Binding::Late {
            continue;
        }
        let own_name = naming::regprocedure_qualified(function);
        let critical = |kind: usize, value: String| {
            Finding::new(
                format!("{}: {own_name}", MISFITS[kind]),
                Status::Critical,
                value,
                "none",
            )
        };
        let Some(base) = binding::recorded(&own, &body).and_then(Signature::of) else {
            found[0].push(critical(0, format!("the body says {}", names::shortened(&body.function))).advise(
                "What its body names was not there when it was created, so its calls are errors. Create it anew with CREATE OR REPLACE FUNCTION.",
                row_of("cached_functions", function),
            ));
            continue;
        };
        if let Err(problem) = signature::check_present(&own, &base, &body) {
            found[1].push(critical(1, problem.message()).advise(
                "Calls are answered by the base function. Make it again what it was when it was cached, or do not cache it.",
                call("uncache_function", &own_name),
            ));
        }
        if binding::misnamed(&own, &body, base.oid).is_some() {
            found[2].push(critical(2, format!("calls {}", naming::regprocedure_qualified(base.oid))).advise(
                "The base function was renamed where nobody noticed. Calls are right, but a dump would say the old name, which may be another \
                 function's by now. Write the new one into the body:",
                internal_call("cache_function_follow", &own_name),
            ));
        }
        let unlike = likeness::shows(&own);
        if !unlike.is_nothing() {
            let finding = Finding::new(
                format!("{}: {own_name}", MISFITS[3]),
                Status::Warning,
                unlike.words(),
                "none",
            );
            found[3].push(finding.advise(
                "A call of it means something else than the same call of the base function. If that is not meant, declare it as that is:",
                internal_call("cache_function_follow", &own_name),
            ));
        }
    }
    found
}

/// The result depends on whole tables, since a name of a key column does not mean what it meant.
fn lost_names(function: pg_sys::Oid, misfit: &Misfit) -> Finding {
    let own_name = naming::regprocedure_qualified(function);
    let (value, what) = match misfit.lost {
        Lost::Renamed => (
            "has another name",
            "Where that is what the function reads, let its body say the present names:",
        ),
        Lost::Moved => (
            "is not what it was",
            "Which of the two the function reads nobody can tell. Say which columns are its keys, or let it say none:",
        ),
        Lost::Gone => (
            "is gone",
            "Where the function reads what has the names now, let it mean that:",
        ),
    };
    let sql = match misfit.base {
        None => internal_call("cache_function_follow", &own_name),
        Some(base) => {
            let base_name = naming::regprocedure_qualified(base);
            match signature::setting_of(base, SETTING) {
                Some(text) if misfit.lost == Lost::Gone => format!(
                    "ALTER FUNCTION {base_name} SET {SETTING} = {}",
                    naming::quote_literal(&text)
                ),
                _ => format!("ALTER FUNCTION {base_name} RESET {SETTING}"),
            }
        }
    };
    Finding::new(
        format!("{}: {own_name}", MISFITS[4]),
        Status::Warning,
        format!("what {} named {value}", names::shortened(&misfit.name)),
        "none",
    )
    .advise(
        format!(
            "The function may go on reading what it read, or read what has the name now. Its results are right, as they depend on all rows \
             of the table, and are computed anew with each write to it. {what}"
        ),
        sql,
    )
}

const COSTS: &str = "costs more than it saves";
const RESTING: &str = "resting function";
const NEVER_STORED: &str = "never stored";
const IN_VAIN_TABLE: &str = "table tracked for nothing";

/// What `optimize_cache()` recommends but does not do by itself.
pub fn advice(figures: &Figures) -> Vec<Finding> {
    figures
        .functions
        .iter()
        .filter(|own| exists(own.function))
        .filter_map(costs)
        .chain(tracked_in_vain(figures))
        .collect()
}

fn name(own: &FunctionFigures) -> String {
    naming::regprocedure_qualified(own.function)
}

fn about(what: &str, own: &FunctionFigures) -> String {
    format!("{what}: {}", name(own))
}

fn quarantined(own: &FunctionFigures) -> Finding {
    Finding::new(
        about("quarantined function", own),
        Status::Critical,
        format!("{} calls not cached", own.counts.reasons[Reason::Quarantined as usize]),
        "none",
    )
    .advise(
        "A stored result was wrong, so the function is not cached any more. The server's log says what it read that it does not depend on; \
         when that is mended:",
        call("cache_function_resume", &name(own)),
    )
}

fn differences(own: &FunctionFigures) -> Option<Finding> {
    (own.counts.differences > 0).then(|| {
        Finding::new(
            about("differences found by verification", own),
            Status::Warning,
            format!("{} of {} verified", own.counts.differences, own.counts.verified),
            "0",
        )
        .advise(
            "Stored results were wrong since the server started; the log has each with its call. Most often the function reads what it does not \
             say: another scope or \"consistency\": \"ttl\" tells so.",
            row_of("cached_functions", own.function),
        )
    })
}

fn slow(own: &FunctionFigures) -> Option<Finding> {
    let times = &own.counts.fill_times;
    let longest = times.longest_us as f64 / 1e6;
    (longest > SLOW).then(|| {
        Finding::new(
            about("slow computation", own),
            Status::Warning,
            format!(
                "longest {longest:.1} s, 95 % below {:.1} s, of {}",
                times.percentile_us(0.95).unwrap_or_default() / 1e6,
                times.total()
            ),
            "5 s",
        )
        .advise(
            "Its first caller after each invalidation waits that long. Look at its plan and its indexes; a longer ttl and a priority keep its \
             results longer.",
            row_of("cached_functions", own.function),
        )
    })
}

fn invalidated(own: &FunctionFigures) -> Option<Finding> {
    let looked_up = own.counts.hits + own.counts.misses;
    let share = per_cent(own.counts.invalidations, looked_up);
    (looked_up >= ENOUGH_CALLS && share > INVALIDATED).then(|| {
        Finding::new(
            about("high invalidation", own),
            Status::Warning,
            format!("{share:.1} % of {looked_up} calls"),
            "25 % of the calls",
        )
        .advise(
            "Writes invalidate it before it is asked for again. If a call needs some rows only, create the cached function anew with the key \
             columns of its tables in depends_on; if all rows matter, it is not worth caching.",
            row_of("cached_functions", own.function),
        )
    })
}

fn costs(own: &FunctionFigures) -> Option<Finding> {
    let worth_a_word = own.counts.calls() >= ENOUGH_CALLS && own.writer_ns >= NOTICEABLE_NS;
    (worth_a_word && own.net_benefit() < 0.0).then(|| {
        Finding::new(
            about(COSTS, own),
            Status::Warning,
            format!(
                "saved {:.3} s, writers were charged {:.3} s",
                own.counts.saved_us as f64 / 1e6,
                own.writer_ns as f64 / 1e9
            ),
            "0 s",
        )
        .advise(
            "Tracking its tables takes writers longer than its callers are spared. Do not cache it; the function itself stays.",
            call("uncache_function", &name(own)),
        )
    })
}

fn resting(area: Area, own: &FunctionFigures) -> Option<Finding> {
    let (rest, _) = area.functions().rest(compat::database(), own.function)?;
    if !configuration::is_adaptive(own.function) {
        return None;
    }
    let what = match rest.why {
        Why::Invalidated => {
            "Writes invalidate its results before they are hit. If a call needs some rows only, create the cached function anew with the key \
             columns of its tables in depends_on; else do not cache it."
        }
        Why::Expired => {
            "Its results become too old before they are hit. If they may be kept for longer, give it a longer ttl; else do not cache it."
        }
        Why::NotAskedAgain => {
            "It is asked with ever new arguments, so there is nothing to hit. Do not cache it."
        }
        Why::CheapToRun => "Looking for its result takes longer than running it. Do not cache it.",
    };
    let back = words::return_of(&rest);
    Some(
        Finding::new(
            about(RESTING, own),
            Status::Warning,
            format!("{}. {}", rest.why.words(), words::figures(&rest)),
            "none",
        )
        .advise(
            format!("{what} {back} With \"adaptive\" off in its configuration it is stored all the same."),
            call("uncache_function", &name(own)),
        ),
    )
}

/// A function of which no result was ever stored, for what it does itself. It answers as the base function does, so nothing is wrong; but
/// nothing is gained either.
fn never_stored(area: Area, own: &FunctionFigures) -> Option<Finding> {
    let refusal = looking::never_stored(area, own)?;
    let reason = refusal.reason;
    let called = if reason.blames_function() && compat::function_exists(refusal.relation) {
        format!(" It called {}.", naming::regprocedure(refusal.relation))
    } else {
        String::new()
    };
    Some(
        Finding::new(
            about(NEVER_STORED, own),
            Status::Info,
            format!(
                "{}: {} results, none stored",
                reason.code(),
                own.counts.reasons[reason as usize]
            ),
            "none",
        )
        .advise(
            format!(
                "The reason: {}.{called} {}",
                reason.meaning(),
                reason.remedy()
            ),
            call("uncache_function", &name(own)),
        ),
    )
}

/// A reason for which many results are not stored.
fn complaint(own: &FunctionFigures, reason: Reason, what: &str) -> Option<Finding> {
    let calls = own.counts.reasons[reason as usize];
    // What a first call read is tracked a moment later; only what goes on is worth a word.
    (calls > 0 && calls * 100 > own.counts.fills * NOT_STORED).then(|| {
        Finding::new(
            about(what, own),
            Status::Warning,
            format!("{calls} results not stored, {} stored", own.counts.fills),
            format!("{NOT_STORED} % of the results stored"),
        )
    })
}

fn untracked(area: Area, own: &FunctionFigures) -> Option<Finding> {
    let refusal = area
        .functions()
        .refusal(compat::database(), own.function)
        .filter(|refusal| refusal.reason == Reason::Untracked)?;
    let finding = complaint(own, Reason::Untracked, "reads an untracked relation")?;
    let relation = refusal.relation;
    let table = naming::relation_name(relation)?;
    match relations::tracking(relation) {
        Tracking::Untracked => Some(finding.advise(
            format!(
                "Nobody would notice a write to {table}, so the result is not stored. Track it; with the TRIGGER privilege on the table the \
                 function's owner lets the worker do so."
            ),
            call("cache_track_table", &table),
        )),
        Tracking::Never => Some(finding.advise(
            format!(
                "{table} cannot be tracked. If age alone may decide, create the cached function anew with \"consistency\": \"ttl\"; else do not \
                 cache it."
            ),
            call("uncache_function", &name(own)),
        )),
        // It is by now.
        Tracking::Tracked { .. } | Tracking::NoData => None,
    }
}

fn too_large(area: Area, own: &FunctionFigures) -> Option<Finding> {
    let finding = complaint(own, Reason::TooLarge, "too large to be stored")?;
    let largest = settings::max_entry_bytes();
    let partition = area.layout.blocks as usize / 4 * BLOCK;
    Some(if largest < partition {
        finding.advise(
            "Raise pg_query_cache.max_entry_size, then SELECT pg_reload_conf(); or let the function return less.",
            format!(
                "ALTER SYSTEM SET pg_query_cache.max_entry_size = '{}kB'",
                (largest / 1024 * 2).min(512 * 1024)
            ),
        )
    } else {
        finding.advise(
            "An entry takes at most a quarter of a partition: raise pg_query_cache.memory and restart the server, or let the function return less.",
            super::remedies::more_memory(),
        )
    })
}

/// Tables that cost writers time although no cached function has read them since the start.
fn tracked_in_vain(figures: &Figures) -> Vec<Finding> {
    figures
        .relations
        .iter()
        .filter(|own| own.readers == 0 && own.charge.ns as f64 / 1e9 > IN_VAIN)
        .filter_map(|own| {
            let table = naming::relation_name(own.relation)?;
            is_tracked(own.relation).then(|| {
                Finding::new(
                    format!("{IN_VAIN_TABLE}: {table}"),
                    Status::Warning,
                    format!("writers were charged {:.3} s", own.charge.ns as f64 / 1e9),
                    "1 s",
                )
                .advise(
                    "No cached function has read it since the server started. If none is meant to, stop to track it.",
                    call("cache_untrack_table", &table),
                )
            })
        })
        .collect()
}

fn is_tracked(relation: pg_sys::Oid) -> bool {
    matches!(relations::tracking(relation), Tracking::Tracked { .. })
}
