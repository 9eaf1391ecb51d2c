//! Sets whose rows the caller asks for one by one: in a SELECT list the server takes a row, goes on with its query and comes back for the
//! next, or does not.
//!
//! A function in LANGUAGE sql, and some in C, compute each row when it is asked for. What nobody asks for is not computed: no error is
//! raised in it, and a set may be endless. So the base function is called there as its caller calls us, row by row, and what it says of its
//! set is passed on. One that returns all its rows at once (in PL/pgSQL) does so here as well. In FROM the server asks for all rows.
//!
//! A fill is paused between two rows: its frame is no frame then ([`frames::pause`]), and nobody waits for it any more. If the caller comes
//! back and nothing has happened in the session that an uninterrupted fill would not have met, it goes on; after the last row it is
//! published. Whatever else, the rows are passed through and nothing is stored (`Reason::ReadInParts`).
//!
//! Invariants: what is kept at the call site is plain data in the memory of the calling expression. The server tells by a callback of the
//! expression's context that no row will be asked for; it does not after an ERROR, where the expression goes, and the paused fill with the
//! (sub)transaction. No locks.

#![allow(unsafe_code)]

use super::base::{self, CallSite};
use super::value::{self, RowSink};
use super::{frames, publish};
use crate::dependencies::caught;
use crate::server::{fenced, guarded};
use pgrx::pg_sys;

/// A set whose rows are asked for, at its call site.
#[repr(C)]
pub(super) struct Series {
    /// The base function has returned a row and may return more.
    open: bool,
    /// The expression's context tells when it ends.
    watched: bool,
    /// The paused fill; 0 if nothing is stored.
    fill: u64,
    context: *mut pg_sys::ExprContext,
    /// Of a row, as long as rows are kept; or NULL.
    description: pg_sys::TupleDesc,
}

/// Whether the caller asks for rows one by one.
///
/// # Safety
/// `fcinfo` is a call of a cached function.
#[inline(always)]
pub unsafe fn is_wanted(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    use pg_sys::SetFunctionReturnMode as Mode;
    // SAFETY: the caller's; the server passes a ReturnSetInfo to a function that returns a set.
    unsafe {
        let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        (*(*fcinfo).flinfo).fn_retset
            && !info.is_null()
            && (*info).type_ == pg_sys::NodeTag::T_ReturnSetInfo
            && (*info).allowedModes & Mode::SFRM_ValuePerCall as i32 != 0
            && (*info).allowedModes & Mode::SFRM_Materialize_Preferred as i32 == 0
    }
}

/// Whether the call asks for the next row of a set, or its caller will come back for it.
///
/// # Safety
/// As [`is_wanted`].
#[inline(always)]
pub unsafe fn is_open(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: what is kept with the call is ours.
    unsafe {
        let flinfo = (*fcinfo).flinfo;
        (*flinfo).fn_retset
            && !(*flinfo).fn_extra.is_null()
            && (*(*flinfo).fn_extra.cast::<CallSite>()).series.open
    }
}

/// The first row, or all of them.
///
/// # Safety
/// As [`base::call`]; the site is that of `fcinfo`.
pub(super) unsafe fn first(
    fcinfo: pg_sys::FunctionCallInfo,
    site: *mut CallSite,
    rows: Option<RowSink>,
) -> pg_sys::Datum {
    // SAFETY: the caller's.
    unsafe {
        (*site).series.fill = 0;
        row(fcinfo, site, rows)
    }
}

/// The next row of an open set.
///
/// # Safety
/// As [`base::call`]; the set of `fcinfo` is open.
pub unsafe fn next(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's; no value with a destructor is alive in this frame.
    unsafe {
        let site = (*(*fcinfo).flinfo).fn_extra.cast::<CallSite>();
        let fill = std::mem::take(&mut (*site).series.fill);
        if fill == 0 || !guarded(|| publish::resume((*(*fcinfo).flinfo).fn_oid, fill)) {
            return row(fcinfo, site, None);
        }
        let result = caught::watched(|| row(fcinfo, site, Some(frames::collect_rows())));
        guarded(|| has_run(fcinfo, result));
        result
    }
}

/// The base function has returned, in a fill: the fill is over, or paused.
///
/// # Safety
/// As [`publish::finish`].
pub unsafe fn has_run(fcinfo: pg_sys::FunctionCallInfo, result: pg_sys::Datum) {
    // SAFETY: the caller's.
    unsafe {
        if !is_open(fcinfo) {
            return publish::finish(fcinfo, result);
        }
        let site = (*(*fcinfo).flinfo).fn_extra.cast::<CallSite>();
        (*site).series.fill = publish::pause(fcinfo);
    }
}

/// Calls the base function once, and passes on what it returns.
unsafe fn row(
    fcinfo: pg_sys::FunctionCallInfo,
    site: *mut CallSite,
    rows: Option<RowSink>,
) -> pg_sys::Datum {
    use pg_sys::{ExprDoneCond, SetFunctionReturnMode};
    // SAFETY: as ExecMakeFunctionResultSet calls; everything is plain data.
    unsafe {
        let outer = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let mut info: pg_sys::ReturnSetInfo = std::mem::zeroed();
        info.type_ = pg_sys::NodeTag::T_ReturnSetInfo;
        info.econtext = (*outer).econtext;
        info.expectedDesc = (*outer).expectedDesc;
        info.allowedModes = (*outer).allowedModes;
        info.returnMode = SetFunctionReturnMode::SFRM_ValuePerCall;
        info.isDone = ExprDoneCond::ExprSingleResult;
        let datum = base::row(fcinfo, site, &raw mut info);
        (*outer).isDone = info.isDone;
        let returned = info.returnMode == SetFunctionReturnMode::SFRM_ValuePerCall;
        guarded(|| {
            if returned {
                if let Some(rows) = rows
                    && info.isDone != ExprDoneCond::ExprEndResult
                {
                    keep(fcinfo, site, datum, rows);
                }
            } else if info.returnMode == SetFunctionReturnMode::SFRM_Materialize {
                value::pass_on(fcinfo, &raw mut info, rows);
            } else {
                (*outer).returnMode = info.returnMode;
            }
            match returned && info.isDone == ExprDoneCond::ExprMultipleResult {
                true => goes_on(site, info.econtext),
                false => ends(site),
            }
        });
        if returned {
            return datum;
        }
        (*fcinfo).isnull = true;
        pg_sys::Datum::null()
    }
}

/// Hands a row to those that are kept for the fill.
unsafe fn keep(
    fcinfo: pg_sys::FunctionCallInfo,
    site: *mut CallSite,
    datum: pg_sys::Datum,
    rows: RowSink,
) {
    // SAFETY: the row of the call; the description lives as long as the call site.
    unsafe {
        let series = &raw mut (*site).series;
        if (*series).description.is_null() {
            let around = pg_sys::MemoryContextSwitchTo((*(*fcinfo).flinfo).fn_mcxt);
            (*series).description = pg_sys::CreateTupleDescCopy(value::result_description(fcinfo));
            pg_sys::MemoryContextSwitchTo(around);
        }
        value::hand_over(datum, (*fcinfo).isnull, (*series).description, rows);
    }
}

/// The caller may come back for more.
unsafe fn goes_on(site: *mut CallSite, context: *mut pg_sys::ExprContext) {
    // SAFETY: the context of the expression that calls, which lives as long as the call site.
    unsafe {
        let series = &raw mut (*site).series;
        if !(*series).watched {
            pg_sys::RegisterExprContextCallback(
                context,
                Some(cut_short),
                pg_sys::Datum::from(site.cast::<u8>()),
            );
            (*series).watched = true;
            (*series).context = context;
        }
        (*series).open = true;
    }
}

/// There are no more rows.
unsafe fn ends(site: *mut CallSite) {
    // SAFETY: as registered above.
    unsafe {
        let series = &raw mut (*site).series;
        (*series).open = false;
        if std::mem::take(&mut (*series).watched) {
            pg_sys::UnregisterExprContextCallback(
                (*series).context,
                Some(cut_short),
                pg_sys::Datum::from(site.cast::<u8>()),
            );
        }
        forget_description(series);
    }
}

unsafe fn forget_description(series: *mut Series) {
    // SAFETY: a copy of ours.
    unsafe {
        let description = std::mem::replace(&mut (*series).description, std::ptr::null_mut());
        if !description.is_null() {
            pg_sys::FreeTupleDesc(description);
        }
    }
}

/// No row will be asked for any more: the query ends, or begins anew.
unsafe extern "C-unwind" fn cut_short(site: pg_sys::Datum) {
    // SAFETY: the call site that was registered, in the memory of the expression, which goes after this; no value with a destructor is
    // alive in this frame.
    unsafe {
        fenced("end of a set", || {
            let series = &raw mut (*site.cast_mut_ptr::<CallSite>()).series;
            (*series).open = false;
            (*series).watched = false;
            publish::abandon(std::mem::take(&mut (*series).fill));
            forget_description(series);
        });
    }
}
