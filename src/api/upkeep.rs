//! SQL functions of the family *upkeep*: clean up and write by hand.

#![allow(unsafe_code)]

use crate::compat;
use crate::error::{Error, OrRaise};
use crate::store::area::{Area, area};
use crate::table::write_behind::{self, Extent};
use crate::worker::cleanup::{self, By};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

fn preloaded(command: &CStr) -> Area {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    // SAFETY: raises the server's own error; the table tier cannot be written on a standby.
    unsafe { pg_sys::PreventCommandDuringRecovery(command.as_ptr()) };
    crate::transaction::prepare(area);
    area
}

/// Removes expired and invalidated entries from both tiers. Returns how many, those in both tiers counted once.
#[pg_extern(sql = false)]
fn cleanup_expired_cache() -> i32 {
    let area = preloaded(c"cleanup_expired_cache()");
    // SAFETY: the role outside of this SECURITY DEFINER function; NULL if it was dropped.
    let role = unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetOuterUserId(), true);
        if name.is_null() {
            String::new()
        } else {
            compat::text(name)
        }
    };
    let removed = cleanup::run(area, By::Role(&role));
    i32::try_from(removed.entries()).unwrap_or(i32::MAX)
}

/// Writes everything in memory to the table tier. Returns how many entries were new there.
#[pg_extern(sql = false)]
fn flush_cache() -> i64 {
    write_behind::flush(preloaded(c"flush_cache()"), Extent::Everything, || false)
}
