//! The background process that runs a job: connected as the role of the session that queued it, like a session of that role, with
//! its settings; so that it fills the entries that such sessions find.
//!
//! Each call is a transaction of its own. The process ends with its job. Whatever ends it before (SIGTERM, a crash, a role that may not
//! log in any more), the worker of the database notes that the job was interrupted.

#![allow(unsafe_code)]

use super::arguments::Target;
use super::jobs::{self, Job};
use crate::call::carried;
use crate::compat;
use crate::error::OrRaise;
use crate::server;
use crate::store::area::{Area, area};
use crate::store::progress::{Command, Phase, Running, Tally};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

/// Asks for a process for a job; `None` if there is no free one.
pub fn start(job: i64, session_role: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    process("warming", job, session_role)
}

/// Asks for a process of ours, by what it does, that connects as a role.
pub(super) fn process(
    does: &str,
    argument: i64,
    session_role: pg_sys::Oid,
) -> Option<DynamicBackgroundWorker> {
    // SAFETY: variables of the process; what is kept of the process outlives the present transaction.
    unsafe {
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let started = BackgroundWorkerBuilder::new(&format!("pg_query_cache {does}"))
            .set_type(&format!("pg_query_cache {does}"))
            .set_library("pg_query_cache")
            .set_function(&format!("pg_query_cache_{does}"))
            .set_argument(Some(pg_sys::Datum::from(argument)))
            .set_extra(&format!(
                "{} {}",
                pg_sys::MyDatabaseId.to_u32(),
                session_role.to_u32()
            ))
            .enable_spi_access()
            .set_restart_time(None)
            .set_notify_pid(pg_sys::MyProcPid)
            .load_dynamic();
        pg_sys::MemoryContextSwitchTo(context);
        started.ok()
    }
}

/// The start of such a process: connected, and obedient like a session. The area and the role.
pub(super) fn connect() -> Option<(Area, pg_sys::Oid)> {
    let mut numbers = BackgroundWorker::get_extra()
        .split(' ')
        .filter_map(|number| number.parse::<u32>().ok());
    let (database, role, area) = (numbers.next()?, numbers.next()?, area()?);
    // SAFETY: the start of a background worker.
    unsafe {
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(server::die));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), role.into(), 0);
    }
    crate::transaction::prepare(area);
    Some((area, role.into()))
}

/// Entry point of the process; the argument is the number of the job.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_query_cache_warming(argument: pg_sys::Datum) {
    let id = argument.value() as i64;
    let Some((area, _)) = connect() else { return };
    let mut job = None;
    let claimed = transaction("claim", Writes::Table, || job = jobs::claim(id));
    let Some(job) = job.filter(|_| claimed.is_ok()) else {
        return;
    };
    let running = area.progress().begin(
        Command::BackgroundWarming,
        job.function,
        id,
        job.calls.len() as u64,
    );
    let mut tally = Tally::default();
    let outcome = run(&job, &running, &mut tally);
    running.phase(Phase::Finishing);
    let (error, failed) = match &outcome {
        Ok(error) => (error.as_deref(), false),
        Err(error) => (Some(error.as_str()), true),
    };
    let _ = transaction("finish", Writes::Table, || {
        jobs::finish(id, tally, error, failed)
    });
}

/// Makes the calls of a job. What went wrong with a call in the end, or why none can be made.
fn run(job: &Job, running: &Running, tally: &mut Tally) -> Result<Option<String>, String> {
    let mut target = None;
    transaction("prepare", Writes::Nothing, || {
        carried::put_on(&job.settings, job.role);
        running.serves();
    })?;
    // A transaction of its own: the settings may say how transactions are to be.
    transaction("prepare", Writes::Nothing, || {
        target = Some(Target::of(job.function).or_raise());
    })?;
    let Some(target) = target else {
        return Ok(None);
    };
    running.phase(Phase::Computing);
    let mut error = None;
    for arguments in &job.calls {
        let mut warmed = None;
        let made = transaction("warming", Writes::Nothing, || {
            let call = target.call(arguments).or_raise();
            warmed = Some(super::warm(job.function, &call));
        });
        tally.done += 1;
        match (made, warmed) {
            (Ok(()), Some(warmed)) => {
                tally.stored += u64::from(warmed.stored());
                if !warmed.stored() {
                    error = error.or_else(|| {
                        Some(format!(
                            "not stored ({}): {arguments}",
                            warmed.finding.code()
                        ))
                    });
                }
            }
            (Err(message), _) => {
                tally.failed += 1;
                error = error.or_else(|| Some(format!("{message}: {arguments}")));
            }
            (Ok(()), None) => (),
        }
        running.show(job.calls.len() as u64, *tally);
    }
    Ok(error)
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// The user's function, as the settings have it.
    Nothing,
    /// The table of jobs, whatever settings the session has.
    Table,
}

/// Runs `body` in a transaction. An ERROR is the answer; the process goes on, unless it was told to end.
pub(super) fn transaction(name: &str, writes: Writes, body: impl FnOnce()) -> Result<(), String> {
    let activity = std::ffi::CString::new(format!("pg_query_cache: {name}")).unwrap_or_default();
    // SAFETY: the usual frame of a background worker's transaction; after an ERROR the transaction is aborted.
    unsafe {
        pgrx::check_for_interrupts!();
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, activity.as_ptr());
        if writes == Writes::Table {
            pg_sys::XactReadOnly = false;
            pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as c_int;
        }
        // Nobody escapes a statement_timeout by way of the background.
        if writes == Writes::Nothing && pg_sys::StatementTimeout > 0 {
            server::enable_timeout_after(compat::STATEMENT_TIMEOUT, pg_sys::StatementTimeout);
        }
        let mut body = Some(body);
        let body = AssertUnwindSafe(&mut body);
        let result = PgTryBuilder::new(move || {
            let body = body;
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            if let Some(body) = body.0.take() {
                body();
            }
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(())
        })
        .catch_others(|error| {
            let message = crate::error::message_of(&error);
            pg_sys::AbortCurrentTransaction();
            Err(message)
        })
        .execute();
        server::disable_timeout(compat::STATEMENT_TIMEOUT, false);
        // One that came too late is not for the next transaction.
        pg_sys::QueryCancelPending = 0;
        pg_sys::pgstat_report_stat(true);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        result
    }
}
