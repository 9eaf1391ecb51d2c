//! The background process that runs a job: connected as the role of the session that queued it, like a session of that role, with
//! its settings; so that it fills the entries that such sessions find.
//!
//! Each call is a transaction of its own, in which it is looked anew whether what the job's right rests on is as it was. The process ends
//! with its job, with the job's time, and with its turn if somebody waits: then the job is put back, and goes on later where it stopped.
//! A call that takes too long for who waits is cancelled and made again in the next turn (`patience`). All turns together have the job's
//! time. Whatever ends it before (SIGTERM, a crash, a role that may not
//! log in any more), the worker of the database notes that the job was interrupted.

#![allow(unsafe_code)]

use super::arguments::Target;
use super::jobs::{self, Account, Job};
use super::patience;
use crate::call::carried;
use crate::compat;
use crate::error::OrRaise;
use crate::server;
use crate::settings;
use crate::store::area::{Area, area};
use crate::store::posts::{Order, Post};
use crate::store::progress::{Command, Phase, Running};
use crate::store::turns;
use crate::worker::process;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// The start of such a process: at its post, connected, and obedient like a session. `None` if it is not wanted any more.
pub(super) fn connect(argument: pg_sys::Datum) -> Option<(Area, &'static Post, Order)> {
    let area = area()?;
    // SAFETY: the start of a background worker.
    unsafe { pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(server::die)) };
    let (post, order) = process::arrive(area, argument)?;
    // SAFETY: as above. Until it is connected nobody can tell it to end, but by force.
    unsafe {
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            order.database.into(),
            order.role.into(),
            0,
        );
    }
    crate::transaction::prepare(area);
    Some((area, post, order))
}

/// Entry point of the process; the argument is the number of its ticket.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_query_cache_warming(argument: pg_sys::Datum) {
    let Some((area, post, order)) = connect(argument) else {
        return;
    };
    let id = order.job;
    let turn = Turn {
        area,
        order,
        began: Instant::now(),
    };
    let most = settings::warm_job_us();
    post.has_until(most);
    let mut job = None;
    let claimed = transaction("claim", Writes::Table, || {
        job = jobs::claim(id, order.role.into());
    });
    let Some(job) = job.filter(|_| claimed.is_ok()) else {
        return;
    };
    let mut account = job.account.clone();
    let left = match most {
        0 => 0,
        most => most.saturating_sub(account.used_us).max(1),
    };
    post.has_until(left);
    let running = area.progress().begin(
        Command::BackgroundWarming,
        job.function,
        id,
        job.calls.len() as u64,
    );
    running.show(job.calls.len() as u64, account.tally);
    let outcome = run(&job, &running, &mut account, Until::after(left), &turn);
    running.phase(Phase::Finishing);
    let used = turn.began.elapsed().as_micros() as i64;
    account.used_us = account.used_us.saturating_add(used);
    let failed = match outcome {
        Ok(End::OfTurn) => {
            let _ = transaction("put back", Writes::Table, || jobs::put_back(id, &account));
            return;
        }
        // A job of which no call succeeded has failed.
        Ok(End::OfCalls) => account.tally.failed > 0 && account.tally.failed == account.tally.done,
        Err(error) => {
            account.error = Some(error);
            true
        }
    };
    let _ = transaction("finish", Writes::Table, || {
        jobs::finish(id, &account, failed)
    });
}

/// The turn of a job.
struct Turn {
    area: Area,
    order: Order,
    began: Instant,
}

impl Turn {
    /// Whether it is somebody else's.
    fn is_over(&self) -> bool {
        settings::warm_job_turn().is_some_and(|turn| self.began.elapsed() >= turn)
            && turns::somebody_waits(self.area, self.order, settings::warm_processes())
    }
}

/// Why no further call is made.
enum End {
    /// All are made.
    OfCalls,
    /// It is the turn of others.
    OfTurn,
}

/// Makes the calls of a job that are left, one of them at least unless it takes too long for who waits. What came of them is in the account; or why none can be made.
fn run(
    job: &Job,
    running: &Running,
    account: &mut Account,
    until: Until,
    turn: &Turn,
) -> Result<End, String> {
    until.holds()?;
    let mut target = None;
    transaction("prepare", Writes::Nothing, || {
        carried::put_on(&job.settings, job.pledge.role);
        running.serves();
    })?;
    // A transaction of its own: the settings may say how transactions are to be.
    let mut stands = false;
    transaction("prepare", Writes::Function(until), || {
        target = Some(Target::of(job.function).or_raise());
        stands = job.pledge.stands(&job.settings);
    })
    // What ended by the time that the job had left is told as such.
    .map_err(|problem| until.holds().err().unwrap_or(problem))?;
    if !stands {
        return Err(jobs::changed());
    }
    let Some(target) = target else {
        return Ok(End::OfCalls);
    };
    running.phase(Phase::Computing);
    let first = usize::try_from(account.tally.done).unwrap_or(usize::MAX);
    for (index, arguments) in job.calls.iter().enumerate().skip(first) {
        until.holds()?;
        if index > first && turn.is_over() {
            return Ok(End::OfTurn);
        }
        let mut warmed = None;
        let mut stands = true;
        let (mut made, told_to_end) = patience::during(account.cut_short, || {
            transaction("warming", Writes::Function(until), || {
                stands = job.pledge.stands(&job.settings);
                if stands {
                    let call = target.call(arguments).or_raise();
                    job.pledge.keep(&job.settings, || {
                        warmed = Some(super::warm(job.function, &call))
                    });
                }
            })
        });
        if !stands {
            return Err(jobs::changed());
        }
        if told_to_end && made.is_err() {
            if patience::tries_again(account.cut_short) {
                account.cut_short += 1;
                return Ok(End::OfTurn);
            }
            made = Err(patience::given_up());
        }
        account.cut_short = 0;
        account.tally.done += 1;
        let wrong = match (made, warmed) {
            (Ok(()), Some(warmed)) if warmed.stored() => {
                account.tally.stored += 1;
                None
            }
            (Ok(()), Some(warmed)) => Some(format!(
                "not stored ({}): {arguments}",
                warmed.finding.code()
            )),
            (Err(message), _) => {
                account.tally.failed += 1;
                Some(format!("{message}: {arguments}"))
            }
            (Ok(()), None) => None,
        };
        account.error = account.error.take().or(wrong);
        running.show(job.calls.len() as u64, account.tally);
    }
    Ok(End::OfCalls)
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// Nothing.
    Nothing,
    /// The user's function, as the settings have it, and not for longer.
    Function(Until),
    /// The table of jobs, whatever settings the session has.
    Table,
}

/// When something has to be over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Until(Option<Instant>);

impl Until {
    /// After so many microseconds; never, if they are 0.
    pub(super) fn after(us: i64) -> Self {
        Until((us > 0).then(|| Instant::now() + Duration::from_micros(us as u64)))
    }

    /// Whether there is time left; what is said of a job if not.
    fn holds(self) -> Result<(), String> {
        match self.0 {
            Some(until) if Instant::now() >= until => {
                Err("canceling the job due to pg_query_cache.warm_job_timeout".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The milliseconds that a statement has: what the role has for one, or what is left; 0 for any time.
    fn statement_ms(self, of_role: c_int) -> c_int {
        let Some(until) = self.0 else { return of_role };
        let left = until
            .saturating_duration_since(Instant::now())
            .as_millis()
            .clamp(1, c_int::MAX as u128) as c_int;
        if of_role > 0 { of_role.min(left) } else { left }
    }
}

/// Runs `body` in a transaction. An ERROR is the answer; the process goes on, unless it was told to end.
pub(super) fn transaction(name: &str, writes: Writes, body: impl FnOnce()) -> Result<(), String> {
    let activity = crate::encoding::statement(&format!("pg_query_cache: {name}"));
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
        let most = match writes {
            Writes::Table => 0,
            Writes::Nothing => pg_sys::StatementTimeout,
            Writes::Function(until) => until.statement_ms(pg_sys::StatementTimeout),
        };
        if most > 0 {
            server::enable_timeout_after(compat::STATEMENT_TIMEOUT, most);
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
