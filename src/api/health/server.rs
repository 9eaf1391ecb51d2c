//! Whether everything runs that should, and what the server itself is in danger of.

#![allow(unsafe_code)]

use super::remedies::{self, MORE_MEMORY, literal, plain_call};
use super::{Finding, Status};
use crate::api::figures::Figures;
use crate::call::outcome::Reason;
use crate::compat;
use crate::configuration;
use crate::error::PRELOAD_HINT;
use crate::language::signature;
use crate::server;
use crate::settings;
use crate::store::area::Area;
use crate::store::posts::MOST_WORKERS;
use pgrx::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

/// A prepared transaction is left over after so many seconds.
const PREPARED: i64 = 3600;
/// So many of them get a line of their own.
const PREPARED_LINES: usize = 5;
/// Age of the database in transactions that is worrying, and that is dangerous. The server stops at 2^31.
const AGE: (i64, i64) = (1_000_000_000, 1_900_000_000);
const AGE_LIMIT: i64 = 1 << 31;

/// The only finding if there is no cache.
pub fn not_preloaded() -> Finding {
    Finding::new(
        "library not preloaded",
        Status::Critical,
        "nothing is cached",
        "preloaded",
    )
    .advise(PRELOAD_HINT, remedies::preload())
}

pub fn examine(area: Area, figures: &Figures) -> Vec<Finding> {
    let mut findings = vec![enabled(), worker(area), damaged(area), age()];
    findings.extend(place(area));
    findings.extend(switched_off(area));
    findings.extend(prepared(area, figures));
    findings
}

/// What the configuration has switched off: somebody's decision, which is easily forgotten.
fn switched_off(area: Area) -> Vec<Finding> {
    configuration::refresh(area);
    configuration::switched_off()
        .into_iter()
        .map(|name| {
            let status = if name == "enabled" {
                Status::Critical
            } else {
                Status::Warning
            };
            if is_of_nothing(&name) {
                return Finding::new(format!("configured: {name}"), status, "off", "none").advise(
                    "No function has this name any more. If it has another one by now, that one is cached: switch it off by its present name. Then:",
                    remedies::unset(&name),
                );
            }
            let sql = remedies::call_with("set_cache_config", &[&name, "on"]);
            Finding::new(format!("configured: {name}"), status, "off", "on").advise(
                "Calls are answered by the functions themselves. cache_configuration_log says who switched it off; switch it on again.",
                sql,
            )
        })
        .collect()
}

/// Whether a name of the configuration is of a function that is not there: it was dropped, or has another name.
fn is_of_nothing(name: &str) -> bool {
    name.strip_prefix("function.")
        .and_then(|rest| rest.strip_suffix(".enabled"))
        .is_some_and(|function| signature::find(function).is_none())
}

fn enabled() -> Finding {
    let on = settings::enabled();
    let finding = Finding::new(
        "caching switched on",
        Status::critical_if(!on),
        if on { "on" } else { "off" },
        "on",
    );
    if on {
        return finding;
    }
    let source = ask::<crate::encoding::Text>(
        "SELECT pg_catalog.concat_ws('|'::pg_catalog.text, s.source, pg_catalog.quote_ident(pg_catalog.current_database()::pg_catalog.text), \
                                     pg_catalog.quote_ident(session_user::pg_catalog.text)) \
         FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'pg_query_cache.enabled'::pg_catalog.text",
    );
    let source = source.map(|text| text.0).unwrap_or_default();
    let mut parts = source.split('|');
    let mut part = || parts.next().unwrap_or_default();
    let (source, database, role) = (part(), part(), part());
    let scope = match source {
        "session" | "client" => "SET".to_owned(),
        "database" => format!("ALTER DATABASE {database} SET"),
        "user" => format!("ALTER ROLE {role} SET"),
        "global" => "ALTER ROLE ALL SET".to_owned(),
        "database user" => format!("ALTER ROLE {role} IN DATABASE {database} SET"),
        _ => "ALTER SYSTEM SET".to_owned(),
    };
    let words = match source {
        "session" | "client" => "Only this session has switched it off: switch it on again.",
        "database" | "user" | "database user" | "global" => {
            "Switch it on again; new sessions then use the cache."
        }
        _ => "Switch it on again, then SELECT pg_reload_conf().",
    };
    finding.advise(
        format!("Cached functions answer from their base functions. {words}"),
        format!("{scope} pg_query_cache.enabled = on"),
    )
}

/// A database may wait for a worker that it has asked for so long, in seconds.
const WORKER_COMES: i64 = 30;

/// Whether the workers come to this database.
fn worker(area: Area) -> Finding {
    let database = compat::database();
    let state = area.database(database);
    let read = |number: &AtomicI64| number.load(Ordering::Acquire);
    // SAFETY: the clock.
    let now = unsafe { server::GetCurrentTimestamp() };
    let seconds = |since: i64| (now - since).max(0) / 1_000_000;
    let here = area.posts().worker_of(database.to_u32());
    let short = read(&area.header().short_since);
    let asked = state.map_or(0, |state| read(&state.asked_at));
    let visited = state.map_or(0, |state| read(&state.visited_at));
    let waits = asked != 0 && seconds(asked) > WORKER_COMES;
    let well = here.is_some() || visited != 0 && short == 0 && !waits;
    let value = match here {
        Some(process) => format!("process {process}"),
        None if short != 0 => format!("no process is left since {} s", seconds(short)),
        None if asked != 0 => format!("asked for {} s ago", seconds(asked)),
        None if visited != 0 => format!("was here {} s ago", seconds(visited)),
        None => "no".to_owned(),
    };
    let processes: u32 = remedies::setting(c"max_worker_processes")
        .parse()
        .unwrap_or(8);
    let sql = match settings::workers() {
        0 => "ALTER SYSTEM SET pg_query_cache.workers = 2".to_owned(),
        workers if waits && short == 0 && workers < MOST_WORKERS => {
            format!("ALTER SYSTEM SET pg_query_cache.workers = {}", workers + 1)
        }
        _ => format!("ALTER SYSTEM SET max_worker_processes = {}", processes + 8),
    };
    Finding::new(
        "background worker running",
        Status::warning_if(!well),
        value,
        "here or in turn",
    )
    .advise(
        "Without it nothing is cleaned up, written to query_cache, recorded, refreshed or tracked by itself. A worker comes within seconds \
         of the first call; if none does, all worker processes of the server are in use, or the workers have too many databases to go \
         round: allow more. max_worker_processes needs a restart, pg_query_cache.workers SELECT pg_reload_conf().",
        sql,
    )
}

/// Places in shared memory for what is known of a database.
fn place(area: Area) -> Option<Finding> {
    let full = area.header().without_place.load(Ordering::Acquire) != 0;
    (full && area.database(compat::database()).is_none()).then(|| {
        Finding::new(
            "database without a place",
            Status::Warning,
            format!("all {} are taken", area.databases().0.len()),
            "a place",
        )
        .advise(
            format!(
                "The cache works, but without history in cache_trends and without rows that only query_cache has, and with max_entries \
                 nothing is stored: {MORE_MEMORY}."
            ),
            remedies::more_memory(),
        )
    })
}

fn damaged(area: Area) -> Finding {
    let damaged = area.header().damaged.load(Ordering::Relaxed);
    Finding::new(
        "damaged reads",
        Status::critical_if(damaged > 0),
        damaged.to_string(),
        "0",
    )
    .advise(
        "An entry or a row of query_cache did not match its checksum and was ignored; the function answered. Check the machine's memory \
         and disks, then begin with an empty cache.",
        plain_call("clear_cache"),
    )
}

/// The slots keep 64-bit transaction ids, which do not wrap around; what is in danger is the database.
fn age() -> Finding {
    let age = ask::<i64>(
        "SELECT pg_catalog.age(d.datfrozenxid)::pg_catalog.int8 FROM pg_catalog.pg_database AS d \
         WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
    )
    .unwrap_or_default();
    let status = match age {
        age if age >= AGE.1 => Status::Critical,
        age if age >= AGE.0 => Status::Warning,
        _ => Status::Ok,
    };
    Finding::new(
        "transaction id wraparound",
        status,
        format!("database is {age} transactions old, {} are left", AGE_LIMIT - age),
        AGE.0.to_string(),
    )
    .advise(
        "The cache keeps 64-bit transaction ids and is in no danger. The server will stop to accept writes: freeze the tables, and see \
         what keeps autovacuum from it.",
        "VACUUM (FREEZE)".to_owned(),
    )
}

/// Prepared transactions keep snapshots and places in the slots; one from before CREATE EXTENSION keeps everything there from being
/// cached.
fn prepared(area: Area, figures: &Figures) -> Vec<Finding> {
    let unknown = figures.total.reasons[Reason::UnknownWriters as usize];
    let open = open_transactions();
    let blind = area.bounds().are_any() && unknown > 0;
    let left: Vec<_> = open
        .iter()
        .filter(|(_, _, seconds)| blind || *seconds >= PREPARED)
        .take(PREPARED_LINES)
        .collect();
    if left.is_empty() {
        return vec![Finding::new(
            "prepared transactions left open",
            Status::Ok,
            format!("{} open", open.len()),
            "1 hour",
        )];
    }
    left.into_iter()
        .map(|(gid, database, seconds)| {
            Finding::new(
                format!("prepared transaction left open: {gid}"),
                if blind { Status::Critical } else { Status::Warning },
                format!("{seconds} s in database {database}"),
                if blind { "none from before CREATE EXTENSION" } else { "1 hour" },
            )
            .advise(
                if blind {
                    format!(
                        "It may have been prepared before CREATE EXTENSION and have written anything: {unknown} calls were not cached. \
                         Commit or roll it back, in its database."
                    )
                } else {
                    "It keeps old rows, and what it wrote counts as being written. Commit or roll it back, in its database.".to_owned()
                },
                format!("ROLLBACK PREPARED {}", literal(gid)),
            )
        })
        .collect()
}

/// Name, database and age in seconds of the prepared transactions, the oldest first.
fn open_transactions() -> Vec<(String, String, i64)> {
    Spi::connect(|client| {
        let rows = client.select(
            "SELECT p.gid, p.database::pg_catalog.text, \
                    pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.prepared)::pg_catalog.int8 \
             FROM pg_catalog.pg_prepared_xacts AS p ORDER BY p.prepared",
            None,
            &[],
        )?;
        let mut open = Vec::new();
        for row in rows {
            open.push((
                crate::encoding::column(&row, 1)?.unwrap_or_default(),
                crate::encoding::column(&row, 2)?.unwrap_or_default(),
                row.get::<i64>(3)?.unwrap_or_default(),
            ));
        }
        Ok::<_, pgrx::spi::Error>(open)
    })
    .unwrap_or_default()
}

/// Reads only: neither a transaction id, which there is none of on a standby, nor a lock is needed.
fn ask<T: FromDatum + IntoDatum>(question: &str) -> Option<T> {
    Spi::connect(|client| {
        client
            .select(
                crate::encoding::statement(question).as_c_str(),
                Some(1),
                &[],
            )?
            .first()
            .get_one::<T>()
    })
    .ok()
    .flatten()
}
