//! Starting background processes of ours: each has a post (`store::posts`), taken before it is asked for, so that there are never more
//! than there may be, and given back when it exits.

#![allow(unsafe_code)]

use crate::server::{self, fenced};
use crate::store::area::{Area, area};
use crate::store::posts::{Duty, Order, Post, Present, Ticket};
use crate::store::turns;
use pgrx::pg_sys;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Takes a post, if `may` says so of those who are there, and asks the server for the process. Returns whether it will come.
pub fn start(area: Area, order: Order, may: impl FnOnce(&[Present]) -> bool) -> Started {
    let Some(ticket) = area.posts().take(order, may) else {
        return Started::NoPost;
    };
    if ask_for(order, ticket) {
        area.header().short_since.store(0, Ordering::Relaxed);
        return Started::Comes;
    }
    area.posts().give_back(ticket);
    // SAFETY: the clock.
    let now = unsafe { server::GetCurrentTimestamp() };
    let header = area.header();
    let _ = header
        .short_since
        .compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
    let logged = header.short_logged_at.load(Ordering::Relaxed);
    if (now - logged).abs() > LOGGED_US
        && header
            .short_logged_at
            .compare_exchange(logged, now, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    {
        crate::error::log_no_process();
    }
    Started::NoProcess
}

/// That there is no process is written to the log at most this often.
const LOGGED_US: i64 = 3_600_000_000;

/// What became of the wish for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It comes.
    Comes,
    /// There are as many as there may be.
    NoPost,
    /// The server has none left: `max_worker_processes`.
    NoProcess,
}

fn ask_for(order: Order, ticket: Ticket) -> bool {
    let (name, entry) = match order.duty {
        Duty::Worker => ("pg_query_cache worker", "pg_query_cache_worker"),
        Duty::Warming => ("pg_query_cache warming", "pg_query_cache_warming"),
        Duty::Refreshing => ("pg_query_cache refreshing", "pg_query_cache_refreshing"),
    };
    // SAFETY: plain data, for which zeros are a value; without a place for a handle none is allocated.
    unsafe {
        let mut worker: pg_sys::BackgroundWorker = std::mem::zeroed();
        write(&mut worker.bgw_name, name);
        write(&mut worker.bgw_type, name);
        write(&mut worker.bgw_library_name, "pg_query_cache");
        write(&mut worker.bgw_function_name, entry);
        worker.bgw_flags =
            (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int;
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
        worker.bgw_main_arg = pg_sys::Datum::from(ticket.number());
        worker.bgw_notify_pid = pg_sys::MyProcPid;
        pg_sys::RegisterDynamicBackgroundWorker(&mut worker, std::ptr::null_mut())
    }
}

fn write(field: &mut [c_char], text: &str) {
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte as c_char;
    }
}

/// The post of this process.
static OWN: AtomicPtr<Post> = AtomicPtr::new(std::ptr::null_mut());

/// The post of this process, if it has one.
pub fn own() -> Option<&'static Post> {
    // SAFETY: set once, to a post in shared memory.
    unsafe { OWN.load(Ordering::Relaxed).as_ref() }
}

/// Takes the post over that this process was started for, and what for. `None` if it is not wanted any more.
pub fn arrive(area: Area, argument: pg_sys::Datum) -> Option<(&'static Post, Order)> {
    let post = area.posts().arrive(Ticket::of(argument.value() as u64))?;
    OWN.store(std::ptr::from_ref(post).cast_mut(), Ordering::Relaxed);
    // SAFETY: a function with the signature that the server wants.
    unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(0)) };
    Some((post, post.what()?))
}

/// The process exits. Whoever waits for that is told.
unsafe extern "C-unwind" fn leave(_code: c_int, _: pg_sys::Datum) {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        fenced("end of a process", || {
            let (Some(area), Some(post)) = (area(), own()) else {
                return;
            };
            let what = post.what();
            post.leave();
            let Some(what) = what else { return };
            if what.duty == Duty::Warming {
                for database in turns::offer(area, 0, &area.posts().present(), 1) {
                    super::wake(area, database.into());
                }
            }
            if what.duty != Duty::Worker
                && let Some(state) = area.database(what.database.into())
            {
                state.jobs.store(1, Ordering::Release);
                super::wake(area, what.database.into());
            }
            super::wake_launcher(area);
        })
    }
}
