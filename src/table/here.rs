//! `cache_stays_here()`: the trigger function that keeps what another server's cache has written out of our tables.
//!
//! `CREATE PUBLICATION … FOR ALL TABLES` publishes every logged table of a database, those of the extension too. Configuration, history
//! and jobs belong to the server that wrote them; a subscriber that has the extension has rows of its own, under the same keys. So the
//! subscriber leaves out what comes: a row trigger that fires for replicated changes only, before the row is written, and says no. A
//! restore that sets session_replication_role is no subscriber, and is let through.

#![allow(unsafe_code)]

use crate::server::guarded;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Tells the server that the trigger function follows calling convention version 1.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_cache_stays_here() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// The trigger function.
///
/// # Safety
/// Only the server calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cache_stays_here(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the server's fcinfo; the context of a trigger's call is its TriggerData; no value with a destructor is alive in this
    // frame.
    unsafe {
        guarded(|| {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                    "function \"cache_stays_here\" was not called by trigger manager"
                );
            }
            let data = &*context.cast::<pg_sys::TriggerData>();
            if pg_sys::IsLogicalWorker() {
                return pg_sys::Datum::null();
            }
            let is_update =
                data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
            pg_sys::Datum::from(if is_update {
                data.tg_newtuple
            } else {
                data.tg_trigtuple
            })
        })
    }
}
