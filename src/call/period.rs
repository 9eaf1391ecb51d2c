//! The period of the clock that is part of a key (`"clock"` in the body): which minute, hour or day it is.
//!
//! By the start of the transaction, which is what `now()` answers: a transaction from before midnight has yesterday's results as long as it
//! lasts. In the time zone of the session, or in that of the base function if it sets one for itself.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::error::Error;
use crate::language::body::Body;
use crate::language::signature;
use crate::moments;
use crate::naming;
use crate::server;
use pg_query_cache_clock::{Period, Unit};
use pgrx::pg_sys;
use std::cell::Cell;

/// How a function's keys hold the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    unit: Unit,
    /// The base function's own time zone, or NULL. The server keeps each that it has loaded where it is.
    zone: *mut pg_sys::pg_tz,
}

/// The last that was asked for: start of the transaction, zone, and its offset.
static LAST: Backend<Cell<(i64, usize, i32)>> = Backend::new(Cell::new((0, 0, 0)));

impl Clock {
    /// What the body of a cached function of `base` says.
    pub fn of(body: &Body, base: pg_sys::Oid) -> Result<Option<Clock>, Error> {
        let Some(clock) = body.clock else {
            return Ok(None);
        };
        Ok(Some(Clock {
            unit: clock.unit(),
            zone: zone_of(base)?,
        }))
    }

    /// The unit as a number that is not 0.
    #[inline(always)]
    pub fn number(self) -> u8 {
        self.unit as u8
    }

    /// The name of the unit.
    pub fn name(self) -> &'static str {
        self.unit.name()
    }

    /// The period in which the transaction began.
    #[inline]
    pub fn period(self) -> Period {
        // SAFETY: variables of the backend.
        let (began, zone) = unsafe {
            let zone = match self.zone.is_null() {
                true => pg_sys::session_timezone,
                false => self.zone,
            };
            (server::GetCurrentTransactionStartTimestamp(), zone)
        };
        let (known, of, offset) = LAST.get();
        let offset = match known == began && of == zone.addr() && of != 0 {
            true => offset,
            false => {
                let offset = offset_at(began, zone);
                LAST.set((began, zone.addr(), offset));
                offset
            }
        };
        Period::of(self.unit, began, offset)
    }

    /// Until when a result of `period` is kept that was computed at `now`: as long as it is of use. Who still asks for it after its end
    /// began before, and does not ask for longer than a period either.
    pub fn keeps_until(self, now: i64, clock_offset: i64) -> i64 {
        let end = moments::after(self.period().end(), clock_offset);
        match end > now {
            true => end,
            false => moments::after(now, self.unit.us()),
        }
    }
}

/// Seconds east of UTC in a zone at a moment; 0 beyond the times that the server has zones for.
fn offset_at(moment: i64, zone: *mut pg_sys::pg_tz) -> i32 {
    const SECONDS_TO_2000: i64 = 946_684_800;
    let seconds = moment.div_euclid(1_000_000) + SECONDS_TO_2000;
    // SAFETY: a zone of the server's; what is returned is a static variable of the server's, or NULL.
    unsafe {
        let local = server::pg_localtime(&seconds, zone);
        if local.is_null() {
            0
        } else {
            (*local).tm_gmtoff as i32
        }
    }
}

/// The time zone in a function's SET clause, or NULL if there is none.
fn zone_of(function: pg_sys::Oid) -> Result<*mut pg_sys::pg_tz, Error> {
    let Some(name) = signature::setting_of(function, "TimeZone") else {
        return Ok(std::ptr::null_mut());
    };
    let zone = match name.trim().parse::<f64>() {
        // Hours to the east, as the setting takes them.
        Ok(hours) if hours.abs() < 168.0 => {
            // SAFETY: makes a zone, or returns NULL.
            unsafe { pg_sys::pg_tzset_offset((-hours * 3_600.0) as std::ffi::c_long) }
        }
        _ => crate::encoding::c_string(&name).map_or(std::ptr::null_mut(), |name| {
            // SAFETY: a C string; returns NULL for what is no name of a zone.
            unsafe { pg_sys::pg_tzset(name.as_ptr()) }
        }),
    };
    if zone.is_null() {
        return Err(Error::NotCacheable(
            format!(
                "function {} sets a time zone that has no name",
                naming::regprocedure(function)
            ),
            "\"clock\" goes by the local time of the base function.".into(),
            "Give the zone by its name: ALTER FUNCTION … SET TimeZone = '…'.".into(),
        ));
    }
    Ok(zone)
}
