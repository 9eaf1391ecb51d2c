//! SQL functions of the family *warming*: make calls before anybody waits for them, and watch it.

#![allow(unsafe_code)]

use crate::access::given;
use crate::compat;
use crate::encoding::Text;
use crate::error::{Error, OrRaise};
use crate::naming;
use crate::server;
use crate::store::area::{Area, area};
use crate::store::progress::{self, Command, Phase, Tally};
use crate::warming::arguments::{self, Target, elements, json_text, json_type};
use crate::warming::{self, Warmed, jobs};
use crate::worker::hold;
use pgrx::prelude::*;
use pgrx::{AnyElement, PgLogLevel, pg_sys};

fn watched(area: Option<Area>) -> Option<Area> {
    area.inspect(|area| crate::transaction::prepare(*area))
}

/// Makes one call. Whether its result is in the cache.
#[pg_extern(sql = false)]
fn warm_cache(
    function: pg_sys::Oid,
    arguments: AnyElement,
    fcinfo: pg_sys::FunctionCallInfo,
) -> bool {
    // SAFETY: of this call.
    unsafe { given::check(fcinfo, function) };
    let target = Target::of(function).or_raise();
    // SAFETY: the declared type of the argument is jsonb.
    let call = target.call(&unsafe { json_text(arguments) }).or_raise();
    let running = watched(area()).map(|area| {
        let running = area.progress().begin(Command::Warming, function, 0, 1);
        running.phase(Phase::Computing);
        running
    });
    let warmed = warming::warm(function, &call);
    drop(running);
    if !warmed.stored() {
        crate::error::tell(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            &format!(
                "the result of {} is not in the cache: {}",
                naming::regprocedure(function),
                warmed.finding.meaning()
            ),
            crate::error::Besides::Hint(warmed.finding.remedy()),
        );
    }
    warmed.stored()
}

/// The calls of a JSON array of arguments.
fn calls(json: &str) -> Vec<String> {
    let kind = json_type(json);
    if kind != "array" {
        Err(Error::InvalidParameter(
            format!("calls are given as a JSON {kind}"),
            "They are an array with the arguments of each call: [{\"id\": 1}, {\"id\": 2}].".into(),
        ))
        .or_raise()
    }
    elements(json)
}

/// Makes many calls, each in a subtransaction of its own.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn warm_cache_many(
    function: pg_sys::Oid,
    calls: AnyElement,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(arguments, Option<AnyElement>),
        name!(stored, bool),
        name!(reason, Option<Text>),
        name!(cost_ms, Option<f64>),
    ),
> {
    // SAFETY: of this call.
    unsafe { given::check(fcinfo, function) };
    let target = Target::of(function).or_raise();
    // SAFETY: the declared type of the argument is jsonb.
    let all = self::calls(&unsafe { json_text(calls) });
    let total = all.len() as u64;
    let running =
        watched(area()).map(|area| area.progress().begin(Command::Warming, function, 0, total));
    if let Some(running) = &running {
        running.phase(Phase::Computing);
    }
    let mut tally = Tally::default();
    let mut rows = Vec::with_capacity(all.len());
    for given in all {
        pgrx::check_for_interrupts!();
        let warmed = warming::try_warm(function, || target.call(&given).or_raise());
        tally.add(&warmed);
        if let Some(running) = &running {
            running.show(total, tally);
        }
        let (stored, reason, cost_ms) = match warmed {
            Ok(warmed) if warmed.stored() && warmed.took_ms.is_some() => {
                (true, None, warmed.took_ms)
            }
            Ok(warmed) => (
                warmed.stored(),
                Some(warmed.finding.code().into()),
                warmed.took_ms,
            ),
            Err(message) => (false, Some(Text(message)), None),
        };
        rows.push((arguments::jsonb(&given), stored, reason, cost_ms));
    }
    TableIterator::new(rows)
}

impl Tally {
    /// One more call.
    pub fn add(&mut self, warmed: &Result<Warmed, String>) {
        self.done += 1;
        match warmed {
            Ok(warmed) if warmed.stored() => self.stored += 1,
            Ok(_) => (),
            Err(_) => self.failed += 1,
        }
    }
}

/// Queues calls for a background process. Returns the number of the job.
#[pg_extern(sql = false)]
fn warm_cache_in_background(
    function: pg_sys::Oid,
    calls: AnyElement,
    fcinfo: pg_sys::FunctionCallInfo,
) -> i64 {
    // SAFETY: of this call.
    unsafe { given::check(fcinfo, function) };
    // SAFETY: raises the server's own error; the table of jobs cannot be written on a standby.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"warm_cache_in_background()".as_ptr()) };
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    Target::of(function).or_raise();
    // SAFETY: the declared type of the argument is jsonb.
    let id = jobs::queue(function, &unsafe { json_text(calls) });
    hold::wake_at_commit(area);
    id
}

/// Whether the caller may see what a role does.
fn may_see(role: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups; a role that is gone has no members.
    unsafe {
        let own = server::GetUserId();
        pg_sys::has_privs_of_role(own, pg_sys::ROLE_PG_READ_ALL_STATS.into())
            || pg_sys::has_privs_of_role(own, role)
    }
}

/// Who is warming in this database, as far as the caller may see it.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_progress_places() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(role, pg_sys::Oid),
        name!(function, pg_sys::Oid),
        name!(command, &'static str),
        name!(phase, &'static str),
        name!(job, Option<i64>),
        name!(total, i64),
        name!(done, i64),
        name!(stored, i64),
        name!(failed, i64),
        name!(started_at, Option<TimestampWithTimeZone>),
    ),
> {
    let database = compat::database().to_u32();
    TableIterator::new(
        progress::seen()
            .into_iter()
            .filter(move |seen| seen.database == database && may_see(seen.role))
            .map(|seen| {
                (
                    seen.pid,
                    seen.role,
                    seen.function,
                    seen.command,
                    seen.phase,
                    Some(seen.job).filter(|job| *job != 0),
                    seen.total as i64,
                    seen.done as i64,
                    seen.stored as i64,
                    seen.failed as i64,
                    TimestampWithTimeZone::try_from(seen.started_at).ok(),
                )
            })
            .collect::<Vec<_>>(),
    )
}
