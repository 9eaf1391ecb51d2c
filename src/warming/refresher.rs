//! The process that computes results anew before they are too old: connected as the role of a session that hit them, it takes that
//! session's settings and role on, makes the call again out of the key's own bytes, and stores what comes in the place of what is there.
//!
//! It was sent for one key. The call builds its own, and if that differs by a byte, because something of the session could not be taken
//! along, nothing is computed (`call::refresh`): so it never fills anybody else's entry.
//!
//! A session that might only read asked for no more: the call is made in a READ ONLY transaction then.
//!
//! What the right to make the call rested on when it was asked for has to be as it was then (`behalf::Pledge`), when the transaction begins
//! and when the base function is about to be run.
//!
//! It ends when nothing is left to do, or others wait; and after a request with a setting of an extension or an application, because not even RESET ALL
//! makes a session forget that there was one.

#![allow(unsafe_code)]

use super::runner::{self, Until, Writes, transaction};
use crate::call::{base, carried, key, refresh};
use crate::compat;
use crate::language::function;
use crate::language::replay::{self, Value};
use crate::settings;
use crate::store::area::Area;
use crate::store::lookup;
use crate::store::progress::{Command, Phase, Tally};
use crate::store::refreshes::Request;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// It takes no further request after this time, so that it is the turn of others who wait.
const TURN: Duration = Duration::from_secs(5);

/// Entry point of the process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_query_cache_refreshing(argument: pg_sys::Datum) {
    let Some((area, post, order)) = runner::connect(argument) else {
        return;
    };
    let session_role = pg_sys::Oid::from(order.role);
    let began = Instant::now();
    let requests = area.refreshes();
    requests.arrived(compat::database().to_u32(), session_role);
    while began.elapsed() < TURN
        && let Some(taken) = requests.take(compat::database().to_u32(), session_role)
    {
        post.has_until(settings::refresh_us());
        let settings = carried::read(&taken.request.settings);
        let stored = refresh(area, &taken.request, &settings);
        requests.done(&taken, stored);
        if settings.iter().any(|(name, _)| name.contains('.')) {
            break;
        }
        if transaction("reset", Writes::Nothing, carried::take_off).is_err() {
            break;
        }
    }
}

/// Serves a request. Whether there is a new result.
fn refresh(area: Area, request: &Request, settings: &[(String, String)]) -> bool {
    let running = area
        .progress()
        .begin(Command::Refreshing, request.pledge.function, 0, 1);
    let computed_at =
        || lookup::find(area, request.hash, &request.key).map_or(i64::MIN, |e| e.head.created_at);
    let before = computed_at();
    let made = transaction("prepare", Writes::Nothing, || {
        carried::put_on(settings, request.pledge.role);
        running.serves();
    })
    .and_then(|()| {
        running.phase(Phase::Computing);
        let mut came = false;
        let until = Until::after(settings::refresh_us());
        transaction("refreshing", Writes::Function(until), || {
            carried::begin(settings);
            came = make(request, settings);
        })
        .map(|()| came)
    });
    let stored = computed_at() > before;
    let failed = u64::from(made.is_err());
    running.show(
        1,
        Tally {
            done: 1,
            stored: u64::from(stored),
            failed,
        },
    );
    if let Err(message) = made {
        crate::error::log(&format!(
            "could not refresh a result of function {}: {message}",
            request.pledge.function.to_u32()
        ));
    }
    stored
}

/// Makes the call of a request, if its word stands. Whether it had its key.
fn make(request: &Request, settings: &[(String, String)]) -> bool {
    if !request.pledge.stands(settings) {
        return false;
    }
    let function = function::get(request.pledge.function);
    base::load(function.base);
    let Some((collation, values)) = key::take_apart(&function, &request.key) else {
        return false;
    };
    let mut values: Vec<Value> = function
        .arguments
        .iter()
        .zip(values)
        .map(|(argument, datum)| Value {
            type_id: argument.type_id,
            datum,
        })
        .collect();
    if function.has_duration {
        values.push(Value {
            type_id: pg_sys::INTERVALOID,
            datum: None,
        });
    }
    refresh::send_for(request.key.clone(), || {
        request.pledge.keep(settings, || {
            // SAFETY: in a transaction with an active snapshot; the values were taken out of a key of this function.
            unsafe { replay::call(request.pledge.function, collation, &values) }
        });
    })
}
