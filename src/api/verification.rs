//! SQL functions of the family *verification*.

#![allow(unsafe_code)]

use crate::compat;
use crate::dependencies::utility;
use crate::error::{Error, OrRaise};
use crate::store::area::area;
use crate::verification::quarantine;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Caches a function again that was in quarantine, from the commit of this transaction on; what is stored of it is invalidated.
/// Returns whether it was in quarantine. For the owner of the function: the present role, also inside of a SECURITY DEFINER function of
/// somebody, so the SQL function is SECURITY INVOKER.
#[pg_extern(sql = false)]
fn cache_function_resume_v0_3(function: pg_sys::Oid) -> bool {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    super::caching::cached(function).or_raise();
    // SAFETY: raises the server's own errors; a variable of the backend.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(c"cache_function_resume()".as_ptr());
        if !compat::owns_function(function, crate::server::GetUserId()) {
            pg_sys::aclcheck_error(
                pg_sys::AclResult::ACLCHECK_NOT_OWNER,
                pg_sys::ObjectType::OBJECT_FUNCTION,
                pg_sys::get_func_name(function),
            );
        }
    }
    crate::transaction::prepare(area);
    utility::mark_function(area, function);
    quarantine::end(area, function)
}
