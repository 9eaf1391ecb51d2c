//! Step: starts to track the tables that backends asked for.
//!
//! The owner of the cached function needs the TRIGGER privilege on the table, as if it had said `cache_track_table`. The lock on the
//! table is waited for shortly only; a later call of the function asks again.

#![allow(unsafe_code)]

use crate::dependencies::{relations, tracking};
use crate::settings;
use crate::store::area::{Area, TrackingRequest};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

/// Serves the requests of this database.
pub fn run(area: Area) {
    let requests = area.take_requests(crate::compat::database());
    if requests.is_empty() || !settings::auto_track() {
        return;
    }
    let _ = Spi::run(&format!(
        "SET LOCAL lock_timeout = {}",
        settings::tracking_lock_timeout_ms()
    ));
    for request in requests {
        serve(&request);
    }
}

fn serve(request: &TrackingRequest) {
    let (relation, function) = (
        pg_sys::Oid::from(request.relation),
        pg_sys::Oid::from(request.function),
    );
    if !may_track(relation, function) {
        return;
    }
    let column =
        String::from_utf8_lossy(&request.column.0[..request.column_length as usize]).into_owned();
    let columns: Vec<String> = if column.is_empty() {
        Vec::new()
    } else {
        vec![column]
    };
    // SAFETY: a subtransaction of its own, so that one table that cannot be locked does not undo the others.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        PgTryBuilder::new(|| {
            if let Err(error) = tracking::track(relation, &columns) {
                error.raise();
            }
            pg_sys::ReleaseCurrentSubTransaction();
        })
        .catch_others(|error| {
            let message = crate::error::message_of(&error);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            log!(
                "pg_query_cache: could not track relation {}: {message}",
                relation.to_u32()
            );
        })
        .execute();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
}

/// Whether the owner of the function may create triggers on the relation and its tree.
fn may_track(relation: pg_sys::Oid, function: pg_sys::Oid) -> bool {
    // SAFETY: syscache lookups that allow for objects that are gone.
    unsafe {
        if pg_sys::get_rel_relkind(relation) == 0 || pg_sys::get_func_name(function).is_null() {
            return false;
        }
        let tuple = pg_sys::SearchSysCache1(
            crate::compat::PROC_CACHE as _,
            pg_sys::Datum::from(function),
        );
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        pg_sys::ReleaseSysCache(tuple);
        relations::roots(relation).into_iter().all(|root| {
            pg_sys::pg_class_aclcheck(root, owner, pg_sys::ACL_TRIGGER as pg_sys::AclMode)
                == pg_sys::AclResult::ACLCHECK_OK
        })
    }
}
