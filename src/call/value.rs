//! Results as bytes, and bytes as results.
//!
//! A scalar is kept as the bytes of its Datum: eight for a value passed by value, the value itself else (decompressed, nothing
//! outside). A set is kept as a sequence of rows, each a length, padded to eight bytes, and a `MinimalTuple` without anything
//! outside; sets of scalars are rows of one column, as tuplestores keep them.
//!
//! Nothing is fetched or copied for the cache before it is known that it may fit: a size is asked for first, which costs no memory.
//! What a row of a set needs on the way is freed before the next row.

#![allow(unsafe_code)]

use super::base;
use crate::error::Error;
use crate::language::function::{CachedFunction, ResultShape};
use crate::naming;
use crate::server::{self, guarded};
use crate::store::area::area;
use crate::store::lookup::Found;
use crate::store::partition::Kind;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// Where the rows of a set go while a fill runs.
#[derive(Clone, Copy)]
pub struct RowSink {
    /// Whether a row of at least so many bytes may be kept. If one may not, none of the set is.
    pub fits: fn(usize) -> bool,
    /// Takes a row.
    pub take: fn(pg_sys::MinimalTuple),
}

/// Bytes before each row: its length, and padding, so that rows stay aligned.
const ROW_PREFIX: usize = 8;

/// A row's bytes for the cache, appended to `to`.
///
/// # Safety
/// `row` is a minimal tuple.
pub unsafe fn append_row(to: &mut Vec<u8>, row: pg_sys::MinimalTuple) {
    // SAFETY: `t_len` bytes belong to the tuple.
    unsafe {
        let length = (*row).t_len as usize;
        to.extend_from_slice(&(length as u64).to_ne_bytes());
        to.extend_from_slice(std::slice::from_raw_parts(row.cast::<u8>(), length));
        to.resize(to.len().next_multiple_of(8), 0);
    }
}

/// How many bytes [`encode`] would append. Nothing is fetched or copied for that.
///
/// # Safety
/// As there.
pub unsafe fn size(
    shape: &ResultShape,
    flinfo: *mut pg_sys::FmgrInfo,
    datum: pg_sys::Datum,
) -> usize {
    // SAFETY: the caller's; lengths follow the rules of pg_type.typlen.
    unsafe {
        match actual_length(shape, flinfo) {
            (_, true) => size_of::<pg_sys::Datum>(),
            (-1, _) => pg_sys::toast_raw_datum_size(datum),
            (-2, _) => std::ffi::CStr::from_ptr(datum.cast_mut_ptr())
                .count_bytes()
                .saturating_add(1),
            (length, _) => usize::try_from(length).unwrap_or(usize::MAX),
        }
    }
}

/// The bytes of a scalar result.
///
/// # Safety
/// `datum` is a value of the result type of `function`.
pub unsafe fn encode(
    shape: &ResultShape,
    flinfo: *mut pg_sys::FmgrInfo,
    datum: pg_sys::Datum,
    to: &mut Vec<u8>,
) {
    // SAFETY: the caller's; lengths follow the rules of pg_type.typlen.
    unsafe {
        let (length, by_value) = actual_length(shape, flinfo);
        if by_value {
            to.extend_from_slice(&datum.value().to_ne_bytes());
        } else if length > 0 {
            to.extend_from_slice(std::slice::from_raw_parts(
                datum.cast_mut_ptr::<u8>(),
                length as usize,
            ));
        } else if length == -2 {
            to.extend_from_slice(
                std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).to_bytes_with_nul(),
            );
        } else {
            let given = datum.cast_mut_ptr::<pg_sys::varlena>();
            let flat = pg_sys::pg_detoast_datum(given);
            to.extend_from_slice(std::slice::from_raw_parts(
                flat.cast::<u8>(),
                pgrx::varsize_any(flat),
            ));
            if flat != given {
                pg_sys::pfree(flat.cast());
            }
        }
    }
}

/// Length and by-value mark of the result, with polymorphic types resolved.
unsafe fn actual_length(shape: &ResultShape, flinfo: *mut pg_sys::FmgrInfo) -> (i16, bool) {
    if !shape.polymorphic {
        return (shape.length, shape.by_value);
    }
    // SAFETY: the expression of the call.
    crate::compat::type_length(unsafe { pg_sys::get_fn_expr_rettype(flinfo) })
}

/// The result that an entry holds; `None` if the entry went away while it was read.
///
/// # Safety
/// `fcinfo` is a call of `function`.
#[inline(always)]
pub unsafe fn read(
    found: &Found,
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Option<(pg_sys::Datum, bool)> {
    // SAFETY: the entry belongs to this function, so its bytes are those of its result type.
    unsafe {
        let Some(kind) = found.kind() else {
            return damaged();
        };
        match kind {
            Kind::Null => Some((pg_sys::Datum::null(), true)),
            Kind::Scalar => {
                let value = found.value()?;
                let (length, by_value) = actual_length(&function.result, (*fcinfo).flinfo);
                if !is_scalar(value, found.head.value_length as usize, length, by_value) {
                    server::pfree(value.cast());
                    return damaged();
                }
                if by_value {
                    let datum = pg_sys::Datum::from(value.cast::<usize>().read_unaligned());
                    server::pfree(value.cast());
                    return Some((datum, false));
                }
                if function.result.record {
                    let header = value.cast::<pg_sys::HeapTupleHeaderData>();
                    let description = result_description(fcinfo);
                    (*header).t_choice.t_datum.datum_typmod = (*description).tdtypmod;
                }
                Some((pg_sys::Datum::from(value), false))
            }
            Kind::Rows => {
                let rows = found.value()?;
                if !are_rows(rows, found.head.value_length as usize) {
                    server::pfree(rows.cast());
                    return damaged();
                }
                let store = begin_store(fcinfo, function);
                let slot = pg_sys::MakeSingleTupleTableSlot(
                    store.description,
                    &raw const pg_sys::TTSOpsMinimalTuple,
                );
                let (mut at, end) = (0, found.head.value_length as usize);
                while at + ROW_PREFIX <= end {
                    let length = rows.add(at).cast::<u64>().read_unaligned() as usize;
                    pg_sys::ExecStoreMinimalTuple(rows.add(at + ROW_PREFIX).cast(), slot, false);
                    pg_sys::tuplestore_puttupleslot(store.store, slot);
                    at = (at + ROW_PREFIX + length).next_multiple_of(8);
                }
                pg_sys::ExecDropSingleTupleTableSlot(slot);
                server::pfree(rows.cast());
                Some((pg_sys::Datum::null(), true))
            }
        }
    }
}

/// Bytes that make no sense are counted, and the call goes on as if there were no entry.
#[cold]
fn damaged<T>() -> Option<T> {
    if let Some(area) = area() {
        area.header().damaged.fetch_add(1, Ordering::Relaxed);
    }
    None
}

/// Whether `bytes` bytes at `value` can be one value of a type with this length and by-value mark.
///
/// # Safety
/// `bytes` bytes lie at `value`.
#[inline(always)]
unsafe fn is_scalar(value: *const u8, bytes: usize, length: i16, by_value: bool) -> bool {
    // SAFETY: only bytes of the value are looked at.
    unsafe {
        match length {
            _ if by_value => bytes == size_of::<pg_sys::Datum>(),
            -1 => bytes >= pg_sys::VARHDRSZ && pgrx::varsize_any(value.cast()) == bytes,
            -2 => bytes > 0 && *value.add(bytes - 1) == 0,
            length => bytes == length as usize,
        }
    }
}

/// Whether `bytes` bytes at `rows` are a sequence of rows, as [`append_row`] writes them.
///
/// # Safety
/// `bytes` bytes lie at `rows`.
unsafe fn are_rows(rows: *const u8, bytes: usize) -> bool {
    let mut at = 0;
    while at + ROW_PREFIX + size_of::<pg_sys::MinimalTupleData>() <= bytes {
        // SAFETY: prefix and head of a row lie before the end.
        let (length, says) = unsafe {
            let row = rows.add(at + ROW_PREFIX).cast::<pg_sys::MinimalTupleData>();
            (rows.add(at).cast::<u64>().read_unaligned(), (*row).t_len)
        };
        if length != u64::from(says) || length as usize > bytes - at - ROW_PREFIX {
            return false;
        }
        at = (at + ROW_PREFIX + length as usize).next_multiple_of(8);
    }
    at == bytes
}

/// The rows in the bytes that [`append_row`] wrote, one after the other.
pub fn rows(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = bytes;
    std::iter::from_fn(move || {
        let (prefix, rest) = left.split_at_checked(ROW_PREFIX)?;
        let length = u64::from_ne_bytes(prefix.try_into().ok()?) as usize;
        let row = rest.get(..length)?;
        left = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
        Some(row)
    })
}

/// The result of a strict function for NULL: NULL, or the empty set.
///
/// # Safety
/// `fcinfo` is a call of `function`.
pub unsafe fn empty(
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
) -> (pg_sys::Datum, bool) {
    if function.result.set {
        // SAFETY: the caller's.
        unsafe { begin_store(fcinfo, function) };
    }
    (pg_sys::Datum::null(), true)
}

/// A tuplestore that the caller reads the set from, or none if the rows go to the caller otherwise.
struct Store {
    store: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
}

/// Makes the tuplestore of a base function that has run to its end the result of the call; its rows go to `rows` as well.
///
/// # Safety
/// `info` is what the base function, called for this call, has said of its set.
pub unsafe fn pass_on(
    fcinfo: pg_sys::FunctionCallInfo,
    info: *mut pg_sys::ReturnSetInfo,
    rows: Option<RowSink>,
) {
    // SAFETY: the caller's.
    unsafe {
        let function = crate::language::function::get((*(*fcinfo).flinfo).fn_oid);
        let target = begin_store(fcinfo, &function);
        copy_store((*info).setResult, (*info).setDesc, &target, rows);
    }
}

/// Hands a row that the base function has returned by itself to `rows`.
///
/// # Safety
/// `datum` is a row of the set that `description` describes.
pub unsafe fn hand_over(
    datum: pg_sys::Datum,
    is_null: bool,
    description: pg_sys::TupleDesc,
    rows: RowSink,
) {
    let target = Store {
        store: std::ptr::null_mut(),
        description,
    };
    // SAFETY: the caller's.
    unsafe { put_value(datum, is_null, &target, Some(rows)) };
}

/// Makes the result of the call a new, empty tuplestore.
unsafe fn begin_store(fcinfo: pg_sys::FunctionCallInfo, _function: &CachedFunction) -> Store {
    // SAFETY: the caller's fcinfo; the server passes a ReturnSetInfo to a function that returns a set.
    unsafe {
        let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        if result.is_null()
            || (*result).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0
        {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "set-valued function called in context that cannot accept a set"
            );
        }
        let context = (*(*result).econtext).ecxt_per_query_memory;
        let previous = pg_sys::MemoryContextSwitchTo(context);
        let description = pg_sys::CreateTupleDescCopy(result_description(fcinfo));
        let random = (*result).allowedModes
            & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32
            != 0;
        let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
        pg_sys::MemoryContextSwitchTo(previous);
        (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        (*result).setResult = store;
        (*result).setDesc = description;
        Store { store, description }
    }
}

/// Description of the rows of the result: of the composite type, or of one column.
///
/// # Safety
/// `fcinfo` is a call of a cached function.
pub unsafe fn result_description(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::TupleDesc {
    // SAFETY: the caller's fcinfo.
    unsafe {
        let (mut type_id, mut description) = (pg_sys::InvalidOid, std::ptr::null_mut());
        let class = pg_sys::get_call_result_type(fcinfo, &mut type_id, &mut description);
        match class {
            pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE
            | pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE_DOMAIN => {
                pg_sys::BlessTupleDesc(description)
            }
            _ => {
                let description = pg_sys::CreateTemplateTupleDesc(1);
                pg_sys::TupleDescInitEntry(description, 1, std::ptr::null(), type_id, -1, 0);
                description
            }
        }
    }
}

/// Runs a set-returning base function to its end; its rows become the result of the call, and go to `rows`.
///
/// # Safety
/// `inner` is a complete call of the base function without its ReturnSetInfo; no value with a destructor is alive in the frames
/// up to the server.
pub unsafe fn run_set(
    fcinfo: pg_sys::FunctionCallInfo,
    inner: pg_sys::FunctionCallInfo,
    rows: Option<RowSink>,
) -> pg_sys::Datum {
    // SAFETY: follows ExecMakeTableFunctionResult; everything is plain data.
    unsafe {
        let outer = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let target = guarded(|| {
            let function = crate::language::function::get((*(*fcinfo).flinfo).fn_oid);
            begin_store(fcinfo, &function)
        });
        let mut info: pg_sys::ReturnSetInfo = std::mem::zeroed();
        info.type_ = pg_sys::NodeTag::T_ReturnSetInfo;
        info.econtext = (*outer).econtext;
        info.expectedDesc = target.description;
        info.allowedModes = (pg_sys::SetFunctionReturnMode::SFRM_ValuePerCall
            | pg_sys::SetFunctionReturnMode::SFRM_Materialize
            | pg_sys::SetFunctionReturnMode::SFRM_Materialize_Preferred)
            as i32;
        info.returnMode = pg_sys::SetFunctionReturnMode::SFRM_ValuePerCall;
        (*inner).resultinfo = (&raw mut info).cast();
        // What a call leaves behind for one row is freed before the next; after an ERROR with the context around it.
        let per_row = row_context();
        let around = pg_sys::MemoryContextSwitchTo(per_row);
        loop {
            pg_sys::MemoryContextReset(per_row);
            (*inner).isnull = false;
            info.isDone = pg_sys::ExprDoneCond::ExprSingleResult;
            let datum = base::invoke(inner);
            if info.returnMode == pg_sys::SetFunctionReturnMode::SFRM_Materialize {
                guarded(|| copy_store(info.setResult, info.setDesc, &target, rows));
                break;
            }
            if info.isDone == pg_sys::ExprDoneCond::ExprEndResult {
                break;
            }
            let is_null = (*inner).isnull;
            guarded(|| put_value(datum, is_null, &target, rows));
            if info.isDone != pg_sys::ExprDoneCond::ExprMultipleResult {
                break;
            }
        }
        pg_sys::MemoryContextSwitchTo(around);
        pg_sys::MemoryContextDelete(per_row);
        (*fcinfo).isnull = true;
        pg_sys::Datum::null()
    }
}

/// A memory context below the present one for what is made of one row.
unsafe fn row_context() -> pg_sys::MemoryContext {
    // SAFETY: on the backend's main thread.
    unsafe {
        pg_sys::AllocSetContextCreateExtended(
            pg_sys::CurrentMemoryContext,
            c"cached function rows".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// Moves the rows of the base function's tuplestore over. In a memory context of the caller's, which goes after that.
unsafe fn copy_store(
    from: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
    target: &Store,
    rows: Option<RowSink>,
) {
    if from.is_null() {
        return;
    }
    // SAFETY: the base function's tuplestore, described by its own description.
    unsafe {
        let description = if description.is_null() {
            target.description
        } else {
            check_rows(description, target.description);
            description
        };
        let slot =
            pg_sys::MakeSingleTupleTableSlot(description, &raw const pg_sys::TTSOpsMinimalTuple);
        // The slot frees the row that it was given before: that one is not in the context of what is made of a row.
        let per_row = row_context();
        pg_sys::tuplestore_rescan(from);
        while pg_sys::tuplestore_gettupleslot(from, true, false, slot) {
            let around = pg_sys::MemoryContextSwitchTo(per_row);
            pg_sys::slot_getallattrs(slot);
            put_row((*slot).tts_values, (*slot).tts_isnull, target, rows);
            pg_sys::MemoryContextSwitchTo(around);
            pg_sys::MemoryContextReset(per_row);
        }
        pg_sys::MemoryContextDelete(per_row);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::tuplestore_end(from);
    }
}

/// Adds one value of a set: a scalar, or a row as a composite value, which says itself what it is made of.
unsafe fn put_value(datum: pg_sys::Datum, is_null: bool, target: &Store, rows: Option<RowSink>) {
    // SAFETY: `target.description` describes the rows; a composite value is a HeapTupleHeader, whose type is known as long as its
    // description is pinned.
    unsafe {
        let description = target.description;
        let columns = (*description).natts as usize;
        let composite = (*description).tdtypeid != pg_sys::InvalidOid
            && (*description).tdtypeid != pg_sys::RECORDOID
            || columns != 1
            || (*description).tdtypmod >= 0;
        if !composite {
            let (mut value, mut null) = (datum, is_null);
            return put_row(&mut value, &mut null, target, rows);
        }
        let values = pg_sys::palloc(columns * size_of::<pg_sys::Datum>()).cast::<pg_sys::Datum>();
        let nulls = pg_sys::palloc(columns).cast::<bool>();
        if is_null {
            nulls.write_bytes(1, columns);
            values.write_bytes(0, columns);
        } else {
            let header = pg_sys::pg_detoast_datum(datum.cast_mut_ptr())
                .cast::<pg_sys::HeapTupleHeaderData>();
            let mut tuple: pg_sys::HeapTupleData = std::mem::zeroed();
            tuple.t_len = pgrx::varsize(header.cast()) as u32;
            tuple.t_data = header;
            let row = (*header).t_choice.t_datum;
            let own = pg_sys::lookup_rowtype_tupdesc(row.datum_typeid, row.datum_typmod);
            check_rows(own, description);
            pg_sys::heap_deform_tuple(&mut tuple, own, values, nulls);
            release(own);
        }
        put_row(values, nulls, target, rows);
        server::pfree(values.cast());
        server::pfree(nulls.cast());
    }
}

/// Gives back what `lookup_rowtype_tupdesc` returned.
unsafe fn release(description: pg_sys::TupleDesc) {
    // SAFETY: the caller's.
    unsafe {
        if (*description).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(description);
        }
    }
}

/// Raises the server's ERROR unless rows that `returned` describes are what `expected` says. Nobody else compares them: what the server
/// gets from us is described as it expects. And a query can expect anything of a function that returns records.
unsafe fn check_rows(returned: pg_sys::TupleDesc, expected: pg_sys::TupleDesc) {
    // SAFETY: descriptions with as many attributes as they say.
    unsafe {
        let (returned, expected) = (&*returned, &*expected);
        if returned.natts != expected.natts {
            Error::OtherRow(format!(
                "Returned row contains {} attribute{}, but query expects {}.",
                returned.natts,
                if returned.natts == 1 { "" } else { "s" },
                expected.natts
            ))
            .raise();
        }
        let attributes = |of: &pg_sys::TupleDescData| {
            std::slice::from_raw_parts(of.attrs.as_ptr(), of.natts as usize)
        };
        let pairs = attributes(returned).iter().zip(attributes(expected));
        for (position, (given, wanted)) in pairs.enumerate() {
            if given.atttypid == wanted.atttypid {
                continue;
            }
            if wanted.attisdropped {
                if given.attlen != wanted.attlen || given.attalign != wanted.attalign {
                    Error::OtherRow(format!(
                        "Physical storage mismatch on dropped attribute at ordinal position {}.",
                        position + 1
                    ))
                    .raise();
                }
            } else if !pg_sys::IsBinaryCoercible(given.atttypid, wanted.atttypid) {
                Error::OtherRow(format!(
                    "Returned type {} at ordinal position {}, but query expects {}.",
                    naming::type_name(given.atttypid),
                    position + 1,
                    naming::type_name(wanted.atttypid)
                ))
                .raise();
            }
        }
    }
}

/// Adds a row to the result, and hands it to `rows` with nothing left outside of it.
unsafe fn put_row(
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    target: &Store,
    rows: Option<RowSink>,
) {
    // SAFETY: as many values as the description has columns.
    unsafe {
        if !target.store.is_null() {
            pg_sys::tuplestore_putvalues(target.store, target.description, values, nulls);
        }
        let Some(sink) = rows else { return };
        let description = &*target.description;
        let outside = |i: &usize| {
            let attribute = &*description.attrs.as_ptr().add(*i);
            attribute.attlen == -1 && !*nulls.add(*i)
        };
        let columns = 0..description.natts as usize;
        let bytes = (columns.clone().filter(outside))
            .map(|i| pg_sys::toast_raw_datum_size(*values.add(i)))
            .fold(0, usize::saturating_add);
        if !(sink.fits)(bytes) {
            return;
        }
        for i in columns.filter(outside) {
            let given = (*values.add(i)).cast_mut_ptr::<pg_sys::varlena>();
            *values.add(i) = pg_sys::Datum::from(pg_sys::pg_detoast_datum(given));
        }
        let row = pg_sys::heap_form_minimal_tuple(target.description, values, nulls);
        (sink.take)(row);
        pg_sys::heap_free_minimal_tuple(row);
    }
}
