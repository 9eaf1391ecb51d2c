//! The call handler of `LANGUAGE cached`. Written without pgrx's wrapper, so that a hit costs neither its conversions nor its guard.

#![allow(unsafe_code)]

use crate::call;
use pgrx::pg_sys;

/// Tells the server that the handler follows calling convention version 1.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_cached_call_handler() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// Called by the server for every call of a function in `LANGUAGE cached`.
///
/// # Safety
/// Only the server calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cached_call_handler(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // Fence: parts of `cached_call`, since the base function runs outside of any.
    // SAFETY: the server's fcinfo; no value with a destructor is alive in this frame.
    unsafe { call::cached_call(fcinfo) }
}
