//! Running the base function, as the server would have called it.
//!
//! One that returns a set is run to its end, or row by row where the caller asks for rows one by one (`series`).
//!
//! Nothing here owns memory that a destructor frees: the base function's ERROR jumps over these frames.

#![allow(unsafe_code)]

use super::series::{self, Series};
use super::value;
use crate::behalf;
use crate::dependencies::plans::Maker;
use crate::dependencies::session;
use crate::language::function;
use crate::server::{self, guarded};
use pgrx::pg_sys;

/// What the call site keeps of the base function between calls, in the memory of the calling expression.
#[repr(C)]
pub(super) struct CallSite {
    base: pg_sys::Oid,
    /// [`function::epoch`] when `finfo` was filled. What a function keeps in its FmgrInfo (a SQL function its plans) the server
    /// throws away with the statement, or when it plans the call again; the plan of our caller does not know of the base function.
    epoch: u64,
    /// For whom.
    maker: Maker,
    finfo: pg_sys::FmgrInfo,
    arguments: i16,
    /// The set whose rows the caller is asking for.
    pub series: Series,
}

/// What a call of the base function needs to know, as plain data.
#[derive(Clone, Copy)]
struct Plan {
    base: pg_sys::Oid,
    arguments: i16,
    set: bool,
}

/// The most arguments that the server passes.
const MAX_ARGUMENTS: usize = pg_sys::FUNC_MAX_ARGS as usize;

/// An `FunctionCallInfoBaseData` with room for all arguments.
#[repr(C)]
struct Frame {
    fcinfo: std::mem::MaybeUninit<pg_sys::FunctionCallInfoBaseData>,
    arguments: [std::mem::MaybeUninit<pg_sys::NullableDatum>; MAX_ARGUMENTS],
}

/// Calls the base function with the caller's arguments and returns its result the way the caller wants it; a set row by row if the
/// caller asks for it so ([`series::is_open`] then). With `rows`, the rows of a set are also handed to it.
///
/// # Safety
/// `fcinfo` is a call of a cached function; no value with a destructor is alive in the frames up to the server.
pub unsafe fn call(
    fcinfo: pg_sys::FunctionCallInfo,
    rows: Option<value::RowSink>,
) -> pg_sys::Datum {
    // SAFETY: the caller's fcinfo.
    unsafe {
        if !series::is_wanted(fcinfo) {
            return call_to_its_end(fcinfo, rows);
        }
        let plan = guarded(|| plan(fcinfo));
        let site = at_call_site(fcinfo, plan.base);
        (*site).arguments = plan.arguments;
        series::first(fcinfo, site, rows)
    }
}

/// The same; a set is returned when it is complete.
///
/// # Safety
/// As [`call`].
pub unsafe fn call_to_its_end(
    fcinfo: pg_sys::FunctionCallInfo,
    rows: Option<value::RowSink>,
) -> pg_sys::Datum {
    // SAFETY: the caller's fcinfo.
    unsafe {
        let plan = guarded(|| plan(fcinfo));
        let finfo = if plan.set {
            fresh(fcinfo, plan.base)
        } else {
            &raw mut (*at_call_site(fcinfo, plan.base)).finfo
        };
        let mut frame = Frame::EMPTY;
        let inner = frame.fill(fcinfo, finfo, plan.arguments);
        if plan.set {
            return value::run_set(fcinfo, inner, rows);
        }
        let result = invoke(inner);
        (*fcinfo).isnull = (*inner).isnull;
        result
    }
}

/// Calls the base function of a call site with the caller's arguments, and with what it says about its set.
///
/// # Safety
/// As [`call`]; the site is that of `fcinfo`.
pub(super) unsafe fn row(
    fcinfo: pg_sys::FunctionCallInfo,
    site: *mut CallSite,
    info: *mut pg_sys::ReturnSetInfo,
) -> pg_sys::Datum {
    // SAFETY: the caller's.
    unsafe {
        let mut frame = Frame::EMPTY;
        let inner = frame.fill(fcinfo, &raw mut (*site).finfo, (*site).arguments);
        (*inner).resultinfo = info.cast();
        let result = invoke(inner);
        (*fcinfo).isnull = (*inner).isnull;
        result
    }
}

/// What there is to know and to be checked before the base function runs.
unsafe fn plan(fcinfo: pg_sys::FunctionCallInfo) -> Plan {
    // SAFETY: the caller's fcinfo.
    unsafe {
        let function = function::get((*(*fcinfo).flinfo).fn_oid);
        let plan = Plan {
            base: function.base,
            arguments: function.arguments.len() as i16,
            set: function.result.set,
        };
        check_execute(plan.base);
        behalf::about_to_run(function.oid);
        session::runs(plan.base);
        plan
    }
}

impl Frame {
    const EMPTY: Frame = Frame {
        fcinfo: std::mem::MaybeUninit::zeroed(),
        arguments: [const { std::mem::MaybeUninit::uninit() }; MAX_ARGUMENTS],
    };

    /// As InitFunctionCallInfoData does, with the first arguments of another call.
    #[inline(always)]
    unsafe fn fill(
        &mut self,
        given: pg_sys::FunctionCallInfo,
        finfo: *mut pg_sys::FmgrInfo,
        arguments: i16,
    ) -> pg_sys::FunctionCallInfo {
        let inner = self.fcinfo.as_mut_ptr();
        // SAFETY: plain memory of ours, with room for all arguments; the caller's call has as many.
        unsafe {
            (*inner).flinfo = finfo;
            (*inner).context = std::ptr::null_mut();
            (*inner).resultinfo = std::ptr::null_mut();
            (*inner).fncollation = (*given).fncollation;
            (*inner).isnull = false;
            (*inner).nargs = arguments;
            std::ptr::copy_nonoverlapping(
                (*given).args.as_ptr(),
                (*inner).args.as_mut_ptr(),
                arguments as usize,
            );
        }
        inner
    }
}

/// Calls through the function pointer.
///
/// # Safety
/// `fcinfo` is complete; no value with a destructor is alive in the frames up to the server.
#[inline(always)]
pub unsafe fn invoke(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    #[allow(
        ffi_unwind_calls,
        reason = "a function of the server's or of a library raises ERRORs"
    )]
    // SAFETY: fmgr_info filled the pointer.
    unsafe {
        match (*(*fcinfo).flinfo).fn_addr {
            Some(address) => address(fcinfo),
            None => pg_sys::Datum::null(),
        }
    }
}

/// The function manager's view of the base function, kept with the call site.
unsafe fn at_call_site(fcinfo: pg_sys::FunctionCallInfo, base: pg_sys::Oid) -> *mut CallSite {
    // SAFETY: fn_extra is ours; its memory lives as long as flinfo.
    unsafe {
        let flinfo = (*fcinfo).flinfo;
        let mut site = (*flinfo).fn_extra.cast::<CallSite>();
        if site.is_null() {
            site = pg_sys::MemoryContextAllocZero((*flinfo).fn_mcxt, size_of::<CallSite>()).cast();
            (*flinfo).fn_extra = site.cast();
        }
        let (epoch, maker) = (function::epoch(), Maker::now());
        if (*site).base != base || (*site).epoch != epoch || (*site).maker != maker {
            if (*flinfo).fn_retset && (*site).base != pg_sys::InvalidOid {
                // What a function that returns a set has registered for its end may point here.
                site =
                    pg_sys::MemoryContextAllocZero((*flinfo).fn_mcxt, size_of::<CallSite>()).cast();
                (*flinfo).fn_extra = site.cast();
            }
            (*site).base = pg_sys::InvalidOid;
            server::fmgr_info_cxt(base, &raw mut (*site).finfo, (*flinfo).fn_mcxt);
            (*site).finfo.fn_expr = (*flinfo).fn_expr;
            (*site).base = base;
            (*site).epoch = epoch;
            (*site).maker = maker;
        }
        site
    }
}

/// A new one, for a set that is returned when it is complete: its state must not outlive a call that was cut short.
unsafe fn fresh(fcinfo: pg_sys::FunctionCallInfo, base: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    // SAFETY: lives in the memory context of the caller, which is that of one evaluation.
    unsafe {
        let finfo = server::palloc(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        std::ptr::write_bytes(finfo, 0, 1);
        server::fmgr_info_cxt(base, finfo, pg_sys::CurrentMemoryContext);
        (*finfo).fn_expr = (*(*fcinfo).flinfo).fn_expr;
        finfo
    }
}

/// Loads the library of the base function's language, if it has one, as its first call does. A library brings settings along, and where
/// all settings are part of the key, the first call of a session would have another key than all that follow.
pub fn load(base: pg_sys::Oid) {
    let mut finfo = pg_sys::FmgrInfo::default();
    // SAFETY: looks the function up; raises the server's own error.
    unsafe { pg_sys::fmgr_info(base, &mut finfo) };
}

/// The caller needs EXECUTE on the base function, as if it had called it.
pub unsafe fn check_execute(base: pg_sys::Oid) {
    // SAFETY: a catalog lookup; aclcheck_error raises.
    unsafe {
        let result = pg_sys::pg_proc_aclcheck(base, server::GetUserId(), pg_sys::ACL_EXECUTE as _);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(
                result,
                pg_sys::ObjectType::OBJECT_FUNCTION,
                pg_sys::get_func_name(base),
            );
        }
    }
}
