//! How long a call of a job may keep others waiting.
//!
//! A call that has run for `pg_query_cache.warm_call_turn` while a job of another role waits for its process is cancelled, and made again in
//! the job's next turn with twice the time; after [`MOST_TRIES`] it is given up. As long as nobody waits it has all the time that its job
//! has. So a call that is longer than a turn, but no longer than the last one, comes to its end whatever others queue, and nobody waits for
//! another's call for longer than that.
//!
//! A timer of the process looks while the call runs, in a handler of its signal: the function cannot keep it from that. One that
//! catches the cancel and goes on ends with its process.
//!
//! Locks: none. The handler reads atomic words of shared memory and allocates nothing.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::server;
use crate::settings;
use crate::store::area::area;
use crate::store::turns;
use crate::worker::process;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often a call is begun, each time with twice the time of the last.
const MOST_TRIES: u32 = 4;
/// How often the timer looks once the call's time is over.
const LOOK_MS: c_int = 1000;
/// A function that goes on although it was cancelled so many times ends with its process.
const MOST_CANCELS: u32 = 5;

/// How often the present call was told to end.
static TOLD: AtomicU32 = AtomicU32::new(0);
/// The number of our timer, once it is registered.
static TIMER: Backend<Cell<Option<c_int>>> = Backend::new(Cell::new(None));

/// What is said of a call that was given up.
pub fn given_up() -> String {
    "canceling the call due to pg_query_cache.warm_call_turn".to_owned()
}

/// Whether a call that was cancelled so many times before, and now again, is begun once more.
pub fn tries_again(cut_short: u32) -> bool {
    cut_short + 1 < MOST_TRIES
}

/// Makes a call that was cancelled so many times before. Whether it was told to end now, besides what came of it.
pub fn during<R>(cut_short: u32, call: impl FnOnce() -> R) -> (R, bool) {
    let Some(time) = settings::warm_call_turn() else {
        return (call(), false);
    };
    let time = time.saturating_mul(1 << cut_short.min(MOST_TRIES));
    start(time);
    let made = call();
    // SAFETY: a timer that was registered.
    unsafe { server::disable_timeout(timer(), false) };
    (made, TOLD.load(Ordering::Relaxed) > 0)
}

fn timer() -> c_int {
    TIMER.get().unwrap_or_else(|| {
        // SAFETY: a background worker has made room for timers; the handler has the signature that the server wants.
        let number = unsafe { server::RegisterTimeout(compat::USER_TIMEOUT, is_over) };
        TIMER.set(Some(number));
        number
    })
}

fn start(time: Duration) {
    TOLD.store(0, Ordering::Relaxed);
    let us = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    // SAFETY: the clock; a timer that was registered.
    unsafe {
        let first = server::GetCurrentTimestamp().saturating_add(us);
        server::enable_timeout_every(timer(), first, LOOK_MS);
    }
}

/// The call's time is over.
unsafe extern "C-unwind" fn is_over() {
    // No fence: a signal handler, which reads atomic words of shared memory and stores words.
    if !somebody_waits() {
        return;
    }
    // SAFETY: words that signal handlers of the server write in the same way; the latch is the process's own.
    unsafe {
        if TOLD.fetch_add(1, Ordering::Relaxed) < MOST_CANCELS {
            (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        } else {
            (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        }
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// Whether a job of another role could run if the one of this process did not.
fn somebody_waits() -> bool {
    let own = process::own().and_then(|post| post.what());
    area()
        .zip(own)
        .is_some_and(|(area, own)| turns::another_role_waits(area, own, settings::warm_processes()))
}
