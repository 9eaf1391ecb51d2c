//! Shared memory hooks: request the area, then create it and bring the slots of the last clean shutdown back.

#![allow(unsafe_code)]

use super::area;
use crate::server::{fenced, guarded};
use crate::validity::saved;
use pgrx::pg_sys;

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Installs the hooks. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

unsafe extern "C-unwind" fn request() {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        guarded(area::request);
    }
}

unsafe extern "C-unwind" fn startup() {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        guarded(|| {
            if area::attach()
                && let Some(area) = area::area()
            {
                saved::restore(area);
                if !pg_sys::IsUnderPostmaster {
                    pg_sys::on_shmem_exit(Some(shutdown), pg_sys::Datum::from(0));
                }
            }
        });
    }
}

/// The postmaster ends. After a clean shutdown (`code` 0) the slots are written to their file.
unsafe extern "C-unwind" fn shutdown(code: i32, _: pg_sys::Datum) {
    // SAFETY: no value with a destructor is alive in this frame.
    unsafe {
        fenced("end of the postmaster", || {
            if code == 0
                && let Some(area) = area::area()
            {
                saved::save(area);
            }
        });
    }
}
