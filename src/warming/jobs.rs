//! Jobs: warming calls that a background process makes later, as the role that asked for them.
//!
//! A job is a row of `cache_warm_jobs`, so it begins when the transaction that queued it has committed. It holds all that makes the key
//! of a call: the role, the role of the session, and the settings that the session had been given; these are taken out of the row
//! when the job is over, because they may tell who somebody is; and so are the arguments, which can be large. A job can have several turns: between two it is queued as before the
//! first, and its row has how far it came.
//!
//! The table is written here alone, as its owner and under a search path that nobody else can write to, whoever asks.

#![allow(unsafe_code)]

use super::arguments::{elements, json_type};
use crate::behalf::{self, Pledge};
use crate::call::carried;
use crate::compat;
use crate::dependencies::touched;
use crate::encoding;
use crate::error::{Error, OrRaise};
use crate::language::{binding, signature};
use crate::moments;
use crate::naming;
use crate::server;
use crate::settings;
use crate::store::progress::Tally;
use crate::table;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::Value;
use std::ffi::CStr;

const TABLE: &CStr = c"cache_warm_jobs";
/// The most jobs that can be waiting in a database.
const MOST_QUEUED: i64 = 1000;
/// What a job's right rested on has changed.
const CHANGED: &str =
    "the function, what it caches, a role or its settings have changed since the job was queued";
/// Characters of an error that are remembered.
const MOST_SAID: usize = 1000;
/// How long a job is remembered.
const KEPT_DAYS: i32 = 7;

/// A job that is to be run.
pub struct Job {
    /// The cached function.
    pub function: pg_sys::Oid,
    /// The arguments of each call, as JSON.
    pub calls: Vec<String>,
    /// The role that asked, with its word.
    pub pledge: Pledge,
    /// Settings with their values.
    pub settings: Vec<(String, String)>,
    /// How far earlier turns came.
    pub account: Account,
}

/// What has come of a job so far.
#[derive(Clone, Default)]
pub struct Account {
    /// The calls made, from the first on.
    pub tally: Tally,
    /// What went wrong first.
    pub error: Option<String>,
    /// The microseconds that its turns have taken.
    pub used_us: i64,
    /// How often the next call was begun and did not come to its end, because others waited.
    pub cut_short: u32,
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
    if !compat::is_this_version() {
        Error::Outdated("warm_cache_in_background()").raise();
    }
    refuse_temporary(function);
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
                encoding::shown(&format!(
                    "cannot warm in the background as role \"{}\"",
                    compat::role_name(role)
                )),
                if lent {
                    "This is a SECURITY DEFINER function, or work of the server for the owner of an object.".to_owned()
                } else {
                    encoding::shown(&format!(
                        "The session's role \"{}\" could not SET ROLE to it.",
                        compat::role_name(session_role)
                    ))
                }
            );
        }
        (role, session_role)
    };
    let given = carried::given();
    let Some(pledge) = Pledge::of(function, role, session_role, &given) else {
        signature::not_cached(function).raise();
    };
    let given = given.into_iter();
    let settings = Value::Object(given.map(|(name, value)| (name, value.into())).collect());
    let settings = settings.to_string();
    let name = naming::regprocedure_qualified(function);
    let total = calls.len() as i64;
    let calls = format!("[{}]", calls.join(", "));
    let bytes = (calls.len() + settings.len()) as i64;
    let id = as_owner(|table| {
        let waiting = |of: &str| {
            let waiting = done(encoding::number(
                &format!(
                    "SELECT pg_catalog.count(*) FROM {table} WHERE state OPERATOR(pg_catalog.=) 'queued'::pg_catalog.text {of}"
                ),
                &[session_role.into()],
            ));
            waiting.unwrap_or(0)
        };
        let own = settings::warm_jobs_per_role();
        let refuse = |what: String, advice: &'static str| {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                what,
                advice
            );
        };
        const ADVICE: &str = "A job can have any number of calls: give it an array.";
        if own > 0 && waiting("AND session_role OPERATOR(pg_catalog.=) $1") >= own {
            refuse(
                format!("{own} jobs of this role are waiting already"),
                ADVICE,
            );
        }
        if waiting("AND $1 IS NOT NULL") >= MOST_QUEUED {
            refuse(format!("{MOST_QUEUED} jobs are waiting already"), ADVICE);
        }
        let most = settings::warm_jobs_bytes();
        if most > 0 && bytes.saturating_add(taken_by(table, session_role)) > most {
            refuse(
                format!("jobs of this role would take more than {} kB", most / 1024),
                "The arguments and settings of jobs that wait or run count. Queue fewer calls at a time, or raise pg_query_cache.warm_jobs_size.",
            );
        }
        done(encoding::number(
            &format!(
                "INSERT INTO {table} (database, function, name, calls, role, session_role, settings, total, rests_on) \
                 VALUES ($1, $2, $3, $4::pg_catalog.jsonb, $5, $6, $7::pg_catalog.jsonb, $8, $9) RETURNING id"
            ),
            &[
                compat::database().into(),
                function.into(),
                encoding::parameter(&name),
                encoding::parameter(&calls),
                role.into(),
                session_role.into(),
                encoding::parameter(&settings),
                total.into(),
                pledge.digest.to_vec().into(),
            ],
        ))
    });
    id.flatten().unwrap_or(0)
}

/// What the arguments and settings of a role's jobs take that are not over, in bytes.
fn taken_by(table: &str, session_role: pg_sys::Oid) -> i64 {
    let taken = encoding::number(
        &format!(
            "SELECT COALESCE(pg_catalog.sum(pg_catalog.pg_column_size(calls) OPERATOR(pg_catalog.+)              COALESCE(pg_catalog.pg_column_size(settings), 0)), 0)::pg_catalog.int8 FROM {table}              WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['queued'::pg_catalog.text, 'running'::pg_catalog.text])              AND session_role OPERATOR(pg_catalog.=) $1"
        ),
        &[session_role.into()],
    );
    done(taken).unwrap_or(0)
}

/// Refuses a function of the session: that, what it caches, or a type of its arguments is temporary. No other process can use it.
fn refuse_temporary(function: pg_sys::Oid) {
    let objects = signature::Signature::of(function).map_or_else(Vec::new, |own| {
        let types = own.arguments.iter();
        let types = types.map(|type_id| (pg_sys::TypeRelationId, *type_id));
        let base = binding::marked(function).map(|base| (pg_sys::ProcedureRelationId, base));
        [(pg_sys::ProcedureRelationId, function)]
            .into_iter()
            .chain(base)
            .chain(types)
            .collect()
    });
    if objects.into_iter().any(touched::lies_in_temporary_schema) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            encoding::shown(&format!(
                "cannot warm temporary function {} in the background",
                naming::regprocedure(function)
            )),
            "A background process cannot use the temporary objects of this session."
        );
    }
}

/// Takes a job that waits and was queued by a session of the role; `None` if somebody has taken it. For the process that runs it.
pub fn claim(id: i64, session_role: pg_sys::Oid) -> Option<Job> {
    as_owner(|table| {
        done(Spi::connect_mut(|client| {
            // SAFETY: a variable of the process.
            let pid = unsafe { pg_sys::MyProcPid };
            let rows = client.update(
                encoding::statement(&format!(
                    "UPDATE {table} SET state = 'running', pid = $2, started_at = pg_catalog.clock_timestamp() \
                     WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'queued'::pg_catalog.text AND session_role OPERATOR(pg_catalog.=) $3 \
                     RETURNING function, name, calls::pg_catalog.text, role, settings::pg_catalog.text, rests_on, done, stored, failed, error, used_us, cut_short"
                ))
                .as_c_str(),
                None,
                &[id.into(), pid.into(), session_role.into()],
            )?;
            let Some(row) = rows.into_iter().next() else {
                return Ok(None);
            };
            let calls = encoding::column(&row, 3)?;
            let settings = encoding::column(&row, 5)?;
            let function: Option<pg_sys::Oid> = row.get(1)?;
            let name = encoding::column(&row, 2)?;
            let function = function
                .filter(|function| Some(named(*function)) == name)
                .unwrap_or(pg_sys::InvalidOid);
            let digest: Option<Vec<u8>> = row.get(6)?;
            let count = |column| -> Result<u64, pgrx::spi::Error> {
                Ok(row.get::<i64>(column)?.unwrap_or(0).max(0) as u64)
            };
            let account = Account {
                tally: Tally {
                    done: count(7)?,
                    stored: count(8)?,
                    failed: count(9)?,
                },
                error: encoding::column(&row, 10)?,
                used_us: row.get(11)?.unwrap_or(0),
                cut_short: row.get::<i32>(12)?.unwrap_or(0).max(0) as u32,
            };
            Ok(Some(Job {
                function,
                calls: elements(&calls.unwrap_or_default()),
                pledge: Pledge {
                    function,
                    role: row.get(4)?.unwrap_or(pg_sys::InvalidOid),
                    session_role,
                    // A job without one rests on nothing, and is refused.
                    digest: digest
                        .and_then(|digest| digest.try_into().ok())
                        .unwrap_or_default(),
                },
                settings: texts(&settings.unwrap_or_default()),
                account,
            }))
        }))
    })
    .flatten()
}

/// The name under which a job has a function; of none if it is gone.
fn named(function: pg_sys::Oid) -> String {
    match crate::language::signature::Signature::of(function) {
        Some(_) => naming::regprocedure_qualified(function),
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

/// The turn of a job is over: it is queued again, behind the others.
pub fn put_back(id: i64, account: &Account) {
    note(id, account, "queued", "pid = NULL");
}

/// A job is over: how it went.
pub fn finish(id: i64, account: &Account, failed: bool) {
    note(
        id,
        account,
        if failed { "failed" } else { "done" },
        "settings = NULL, calls = '[]'::pg_catalog.jsonb, finished_at = pg_catalog.clock_timestamp()",
    );
}

fn note(id: i64, account: &Account, state: &str, and: &str) {
    as_owner(|table| {
        done(encoding::run(
            &format!(
                "UPDATE {table} SET state = $2, done = $3, stored = $4, failed = $5, error = $6, used_us = $7, cut_short = $8, {and} \
                 WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running'::pg_catalog.text"
            ),
            &[
                id.into(),
                state.into(),
                (account.tally.done as i64).into(),
                (account.tally.stored as i64).into(),
                (account.tally.failed as i64).into(),
                // What a role keeps here for days is no more than a line.
                account
                    .error
                    .as_deref()
                    .map(|error| encoding::Text(error.chars().take(MOST_SAID).collect()))
                    .into(),
                account.used_us.into(),
                (account.cut_short as i32).into(),
            ],
        ))
    });
}

/// A job whose process is gone is over, unless that process has put it back. With the time when the process was asked for, also one that
/// it did not take. For the worker.
pub fn bury(id: i64, asked_at: Option<i64>) {
    let asked_at = asked_at.and_then(moments::timestamp);
    as_owner(|table| {
        done(encoding::run(
            &format!(
                "UPDATE {table} SET state = 'failed', error = $2, settings = NULL, calls = '[]'::pg_catalog.jsonb, finished_at = pg_catalog.clock_timestamp() \
                 WHERE id OPERATOR(pg_catalog.=) $1 AND (state OPERATOR(pg_catalog.=) 'running'::pg_catalog.text \
                     OR state OPERATOR(pg_catalog.=) 'queued'::pg_catalog.text AND $3 IS NOT NULL \
                     AND (started_at IS NULL OR started_at OPERATOR(pg_catalog.<) $3))"
            ),
            &[
                id.into(),
                "interrupted: the background process ended, see the server's log".into(),
                asked_at.into(),
            ],
        ))
    });
}

/// Jobs that are said to be running, and that nobody runs as far as `is_run` knows. For the worker.
pub fn abandoned(is_run: impl Fn(i64) -> bool) -> Vec<i64> {
    let running = numbers(
        "SELECT id, NULL::pg_catalog.oid FROM {table} WHERE state OPERATOR(pg_catalog.=) 'running'::pg_catalog.text",
        &[],
    );
    running
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| !is_run(*id))
        .collect()
}

/// The next job, with the role of its session, besides those of roles that are `busy`: the oldest of the role whose last job was
/// started longest ago. For the worker.
pub fn next(busy: &[pg_sys::Oid]) -> Option<(i64, pg_sys::Oid)> {
    let database = compat::database();
    as_owner(|table| {
        done(Spi::connect(|client| {
            client
                .select(
                    encoding::statement(&format!(
                        "SELECT j.id, j.session_role FROM {table} AS j \
                         WHERE j.state OPERATOR(pg_catalog.=) 'queued'::pg_catalog.text AND j.database OPERATOR(pg_catalog.=) $1 AND j.session_role OPERATOR(pg_catalog.<>) ALL ($2) \
                         ORDER BY (SELECT pg_catalog.max(o.started_at) FROM {table} AS o WHERE o.session_role OPERATOR(pg_catalog.=) j.session_role) \
                         NULLS FIRST, j.id LIMIT 1"
                    ))
                    .as_c_str(),
                    None,
                    &[database.into(), busy.to_vec().into()],
                )?
                .map(|row| {
                    Ok((
                        row.get(1)?.unwrap_or(0),
                        row.get(2)?.unwrap_or(pg_sys::InvalidOid),
                    ))
                })
                .collect::<Result<Vec<_>, pgrx::spi::Error>>()
        }))
    })?
    .pop()
}

/// What is said of a job whose right rested on something that has changed.
pub fn changed() -> String {
    CHANGED.to_owned()
}

/// Forgets jobs that have been over for long, and what came with a template database.
pub fn clean_up() {
    let database = compat::database();
    as_owner(|table| {
        let rows = format!(
            "FROM {table} WHERE finished_at OPERATOR(pg_catalog.<) \
             (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(days => $2)) \
             OR database OPERATOR(pg_catalog.<>) $1"
        );
        let arguments = [database.into(), KEPT_DAYS.into()];
        if table::is_any(&format!("SELECT {rows}"), &arguments) {
            done(encoding::run(&format!("DELETE {rows}"), &arguments));
        }
    });
}

fn numbers(question: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> Vec<(i64, pg_sys::Oid)> {
    as_owner(|table| {
        let question = question.replace("{table}", table);
        done(Spi::connect(|client| {
            client
                .select(encoding::statement(&question).as_c_str(), None, arguments)?
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
