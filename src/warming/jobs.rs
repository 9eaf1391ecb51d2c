//! Jobs: warming calls that a background process makes later, as the role that asked for them.
//!
//! A job is a row of `cache_warm_jobs`, so it begins when the transaction that queued it has committed. It holds all that makes the key
//! of a call: the role, the role of the session, and the settings that the session had been given; these are taken out of the row
//! when the job is over, because they may tell who somebody is.
//!
//! The table is written here alone, as its owner and under a search path that nobody else can write to, whoever asks.

#![allow(unsafe_code)]

use super::arguments::{elements, json_type};
use crate::behalf;
use crate::call::carried;
use crate::compat;
use crate::error::{Error, OrRaise};
use crate::server;
use crate::store::progress::{self, Tally};
use crate::table;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::Value;
use std::ffi::CStr;

const TABLE: &CStr = c"cache_warm_jobs";
/// The most jobs that can be waiting in a database.
const MOST_QUEUED: i64 = 1000;
/// How long a job is remembered.
const KEPT: &str = "7 days";

/// A job that is to be run.
pub struct Job {
    /// The cached function.
    pub function: pg_sys::Oid,
    /// The arguments of each call, as JSON.
    pub calls: Vec<String>,
    /// The role that asked.
    pub role: pg_sys::Oid,
    /// Settings with their values.
    pub settings: Vec<(String, String)>,
}

/// Runs `body` as the owner of the table, with the table's name.
fn as_owner<R>(body: impl FnOnce(&str) -> R) -> Option<R> {
    let owner = behalf::owner_of(compat::extension_relation(TABLE)?)?;
    let table = table::qualified(TABLE.to_str().ok()?)?;
    Some(behalf::acting_as(owner, || body(&table)))
}

fn done<T>(result: Result<T, pgrx::spi::Error>) -> T {
    table::done("use table \"cache_warm_jobs\"", result)
}

/// The calls of a JSON text: an object is one, an array holds the arguments of each.
fn calls(json: &str) -> Result<Vec<String>, Error> {
    let wrong = |what: String| {
        Err(Error::InvalidParameter(
            what,
            "They are the arguments of one call as an object, or an array with those of each call."
                .into(),
        ))
    };
    match json_type(json).as_str() {
        "object" => Ok(vec![json.to_owned()]),
        "array" => {
            let calls = elements(json);
            match calls.iter().find(|call| !call.starts_with(['{', '['])) {
                Some(call) => wrong(format!(
                    "arguments of a call are given as {}",
                    call.chars().take(64).collect::<String>()
                )),
                None => Ok(calls),
            }
        }
        kind => wrong(format!("calls are given as a JSON {kind}")),
    }
}

/// Queues a job of the present role. Returns its number.
pub fn queue(function: pg_sys::Oid, json: &str) -> i64 {
    let calls = calls(json).or_raise();
    // SAFETY: variables of the backend; catalog lookups; aclcheck_error raises.
    let (role, session_role) = unsafe {
        let (role, session_role) = (server::GetUserId(), server::GetSessionUserId());
        let may = pg_sys::pg_proc_aclcheck(function, role, pg_sys::ACL_EXECUTE as _);
        if may != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(
                may,
                pg_sys::ObjectType::OBJECT_FUNCTION,
                pg_sys::get_func_name(function),
            );
        }
        // Where it cannot SET ROLE, here or now, what it calls must not get a session in which it can.
        let lent = pg_sys::InLocalUserIdChange() || pg_sys::InSecurityRestrictedOperation();
        if lent || !pg_sys::is_member_of_role(session_role, role) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!(
                    "cannot warm in the background as role \"{}\"",
                    compat::role_name(role)
                ),
                if lent {
                    "This is a SECURITY DEFINER function, or work of the server for the owner of an object.".to_owned()
                } else {
                    format!(
                        "The session's role \"{}\" could not SET ROLE to it.",
                        compat::role_name(session_role)
                    )
                }
            );
        }
        (role, session_role)
    };
    let given = carried::given().into_iter();
    let settings = Value::Object(given.map(|(name, value)| (name, value.into())).collect());
    let settings = settings.to_string();
    let name = compat::regprocedure_qualified(function);
    let total = calls.len() as i64;
    let calls = format!("[{}]", calls.join(", "));
    let id = as_owner(|table| {
        let waiting = done(Spi::get_one::<i64>(&format!(
            "SELECT pg_catalog.count(*) FROM {table} WHERE state = 'queued'"
        )));
        if waiting.unwrap_or(0) >= MOST_QUEUED {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("{MOST_QUEUED} jobs are waiting already"),
                "A job can have any number of calls: give it an array."
            );
        }
        done(Spi::get_one_with_args::<i64>(
            &format!(
                "INSERT INTO {table} (database, function, name, calls, role, session_role, settings, total) \
                 VALUES ($1, $2, $3, $4::pg_catalog.jsonb, $5, $6, $7::pg_catalog.jsonb, $8) RETURNING id"
            ),
            &[
                compat::database().into(),
                function.into(),
                name.into(),
                calls.into(),
                role.into(),
                session_role.into(),
                settings.into(),
                total.into(),
            ],
        ))
    });
    id.flatten().unwrap_or(0)
}

/// Takes a job that waits; `None` if somebody has taken it. For the process that runs it.
pub fn claim(id: i64) -> Option<Job> {
    as_owner(|table| {
        done(Spi::connect_mut(|client| {
            // SAFETY: a variable of the process.
            let pid = unsafe { pg_sys::MyProcPid };
            let rows = client.update(
                format!(
                    "UPDATE {table} SET state = 'running', pid = $2, started_at = pg_catalog.clock_timestamp() \
                     WHERE id = $1 AND state = 'queued' \
                     RETURNING function, name, calls::pg_catalog.text, role, settings::pg_catalog.text"
                )
                .as_str(),
                None,
                &[id.into(), pid.into()],
            )?;
            let Some(row) = rows.into_iter().next() else {
                return Ok(None);
            };
            let calls: Option<String> = row.get(3)?;
            let settings: Option<String> = row.get(5)?;
            let function: Option<pg_sys::Oid> = row.get(1)?;
            let name: Option<String> = row.get(2)?;
            Ok(Some(Job {
                function: function
                    .filter(|function| Some(named(*function)) == name)
                    .unwrap_or(pg_sys::InvalidOid),
                calls: elements(&calls.unwrap_or_default()),
                role: row.get(4)?.unwrap_or(pg_sys::InvalidOid),
                settings: texts(&settings.unwrap_or_default()),
            }))
        }))
    })
    .flatten()
}

/// The name under which a job has a function; of none if it is gone.
fn named(function: pg_sys::Oid) -> String {
    match crate::language::signature::Signature::of(function) {
        Some(_) => compat::regprocedure_qualified(function),
        None => String::new(),
    }
}

fn texts(json: &str) -> Vec<(String, String)> {
    match serde_json::from_str(json) {
        Ok(Value::Object(settings)) => settings
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
            .collect(),
        _ => Vec::new(),
    }
}

/// A job is over: how it went.
pub fn finish(id: i64, tally: Tally, error: Option<&str>, failed: bool) {
    as_owner(|table| {
        done(Spi::run_with_args(
            &format!(
                "UPDATE {table} SET state = $2, done = $3, stored = $4, failed = $5, error = $6, settings = NULL, \
                 finished_at = pg_catalog.clock_timestamp() WHERE id = $1 AND state = 'running'"
            ),
            &[
                id.into(),
                if failed { "failed" } else { "done" }.into(),
                (tally.done as i64).into(),
                (tally.stored as i64).into(),
                (tally.failed as i64).into(),
                error.into(),
            ],
        ))
    });
}

/// A job whose process is gone is over; so is one that came with another database. For the worker.
pub fn bury(id: i64) {
    as_owner(|table| {
        done(Spi::run_with_args(
            &format!(
                "UPDATE {table} SET state = 'failed', error = 'interrupted: the background process ended, see the server''s log', \
                 settings = NULL, finished_at = pg_catalog.clock_timestamp() WHERE id = $1 AND state IN ('queued', 'running')"
            ),
            &[id.into()],
        ))
    });
}

/// Jobs that are said to be running, and nobody runs them. For the worker.
pub fn abandoned() -> Vec<i64> {
    let alive: Vec<i64> = progress::seen().iter().map(|seen| seen.job).collect();
    let running = numbers("SELECT id, NULL::pg_catalog.oid FROM {table} WHERE state = 'running'");
    running
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| !alive.contains(id))
        .collect()
}

/// The next job, with the role of its session. For the worker.
pub fn next() -> Option<(i64, pg_sys::Oid)> {
    let database = compat::database().to_u32();
    numbers(&format!(
        "SELECT id, session_role FROM {{table}} WHERE state = 'queued' AND database = {database} ORDER BY id LIMIT 1"
    ))
    .pop()
}

/// Forgets jobs that have been over for long, and what came with a template database.
pub fn clean_up() {
    let database = compat::database();
    as_owner(|table| {
        done(Spi::run_with_args(
            &format!(
                "DELETE FROM {table} WHERE finished_at < pg_catalog.now() - interval '{KEPT}' OR database <> $1"
            ),
            &[database.into()],
        ))
    });
}

fn numbers(question: &str) -> Vec<(i64, pg_sys::Oid)> {
    as_owner(|table| {
        let question = question.replace("{table}", table);
        done(Spi::connect(|client| {
            client
                .select(question.as_str(), None, &[])?
                .map(|row| {
                    Ok((
                        row.get(1)?.unwrap_or(0),
                        row.get(2)?.unwrap_or(pg_sys::InvalidOid),
                    ))
                })
                .collect()
        }))
    })
    .unwrap_or_default()
}
