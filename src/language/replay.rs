//! A call made again from its key: a query of one expression, whose arguments are the values themselves.
//!
//! No text is parsed and no name is looked up. The executor checks the right to EXECUTE, as in any query of the session's role.

#![allow(unsafe_code)]

use crate::compat;
use crate::server;
use pgrx::pg_sys;

/// A value and its type.
pub struct Value {
    /// Type.
    pub type_id: pg_sys::Oid,
    /// The value; `None` is NULL.
    pub datum: Option<pg_sys::Datum>,
}

/// Calls a function and throws away what comes.
///
/// # Safety
/// In a transaction with an active snapshot; the values are of the function's argument types.
pub unsafe fn call(function: pg_sys::Oid, collation: pg_sys::Oid, values: &[Value]) {
    const SOURCE: &std::ffi::CStr = c"SELECT NULL";
    // SAFETY: nodes of the parser and the planner live in the present memory context.
    unsafe {
        let mut arguments = std::ptr::null_mut();
        for value in values {
            let (length, by_value) = compat::type_length(value.type_id);
            let node = pg_sys::makeConst(
                value.type_id,
                -1,
                pg_sys::get_typcollation(value.type_id),
                i32::from(length),
                value.datum.unwrap_or(pg_sys::Datum::null()),
                value.datum.is_none(),
                by_value,
            );
            arguments = pg_sys::lappend(arguments, node.cast());
        }
        let call = pg_sys::makeFuncExpr(
            function,
            pg_sys::get_func_rettype(function),
            arguments,
            pg_sys::InvalidOid,
            collation,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        (*call).funcretset = pg_sys::get_func_retset(function);
        let parsed = pg_sys::raw_parser(SOURCE.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(
            (*(*parsed).elements).ptr_value.cast(),
            SOURCE.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let query = (*(*queries).elements).ptr_value.cast::<pg_sys::Query>();
        let column = pg_sys::makeTargetEntry(call.cast(), 1, c"result".as_ptr().cast_mut(), false);
        (*query).targetList = pg_sys::lappend(std::ptr::null_mut(), column.cast());
        (*query).hasTargetSRFs = (*call).funcretset;
        let plan = pg_sys::pg_plan_query(query, SOURCE.as_ptr(), 0, std::ptr::null_mut());
        let run = pg_sys::CreateQueryDesc(
            plan,
            SOURCE.as_ptr(),
            server::GetActiveSnapshot(),
            std::ptr::null_mut(),
            pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(run, 0);
        pg_sys::ExecutorRun(run, pg_sys::ScanDirection::ForwardScanDirection, 0, true);
        pg_sys::ExecutorFinish(run);
        pg_sys::ExecutorEnd(run);
        pg_sys::FreeQueryDesc(run);
    }
}
