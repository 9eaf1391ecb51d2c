//! Server functions that are called without pgrx's guard, and the guard for the rest.
//!
//! pgrx turns an ERROR of a server function into a Rust panic and raises it again at the outermost Rust frame. On the way
//! the fields that it does not know (constraint name, table name, position, context lines …) are lost, and every call costs
//! a `sigsetjmp`. Neither is acceptable where we stand between the user and the user's own statement. Hence two rules:
//!
//! * Calls that pass control to the user's code (`standard_…`, a base function) use the declarations below. An ERROR jumps
//!   straight over our frames, so **no value with a destructor may be alive in a frame across such a call**; whatever has to be
//!   undone is undone by the transaction callbacks (`crate::transaction`).
//! * Everything else of ours runs behind a fence: [`guarded`] turns Rust panics and pgrx errors into ordinary ERRORs; [`fenced`] is for
//!   callbacks in which nothing may be raised (after the commit record, at the end of a process, while messages of invalidation are
//!   processed), says in the log what went wrong and goes on. `scripts/lint-fences` finds a function for C that has neither.
//!
//! An ERROR is no unwinding: it restores the stack where somebody waits for it. The declarations say `extern "C"`, since no panic comes
//! out of the server: whatever of ours it calls is fenced.

use pgrx::pg_sys;
use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; a panic in it, or an error raised through pgrx, becomes a PostgreSQL ERROR raised from this frame.
///
/// # Safety
/// The caller's frames up to the server hold no value with a destructor.
#[allow(unsafe_code)]
#[inline(always)]
pub unsafe fn guarded<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: passed on to the caller.
    unsafe { pg_sys::submodules::panic::pgrx_extern_c_guard(body) }
}

/// Runs `body` where nothing may be raised. If it panics, or the server raised an ERROR in it, the log says so.
///
/// # Safety
/// The caller's frames up to the server hold no value with a destructor.
#[allow(unsafe_code)]
#[inline(always)]
pub unsafe fn fenced(place: &'static str, body: impl FnOnce()) {
    // SAFETY: variables of the backend. An ERROR resets them, and whoever called us counts on them.
    let held = unsafe {
        (
            pg_sys::InterruptHoldoffCount,
            pg_sys::QueryCancelHoldoffCount,
            pg_sys::CurrentMemoryContext,
        )
    };
    if let Err(problem) = catch_unwind(AssertUnwindSafe(body)) {
        // SAFETY: as above.
        unsafe {
            pg_sys::InterruptHoldoffCount = held.0;
            pg_sys::QueryCancelHoldoffCount = held.1;
            pg_sys::CurrentMemoryContext = held.2;
        }
        swallow(place, problem);
    }
}

#[cold]
fn swallow(place: &'static str, problem: Box<dyn std::any::Any + Send>) {
    use pg_sys::panic::CaughtError;
    let message = match problem.downcast_ref::<CaughtError>() {
        Some(error) => crate::error::message_of(error),
        None => match (
            problem.downcast_ref::<&str>(),
            problem.downcast_ref::<String>(),
        ) {
            (Some(message), _) => (*message).to_owned(),
            (_, Some(message)) => message.clone(),
            _ => "unknown panic".to_owned(),
        },
    };
    // Not through the server, which could raise another.
    let _ = writeln!(
        std::io::stderr(),
        "pg_query_cache: {place} failed: {message}"
    );
}

#[allow(unsafe_code, missing_docs)]
mod declared {
    use super::*;
    unsafe extern "C" {
        pub static am_walsender: bool;
        pub fn check_stack_depth();
        pub fn palloc(size: usize) -> *mut c_void;
        pub fn palloc_extended(size: usize, flags: c_int) -> *mut c_void;
        pub fn pfree(pointer: *mut c_void);
        pub fn enable_timeout_after(timeout: c_int, delay_ms: c_int);
        pub fn enable_timeout_every(timeout: c_int, first: i64, delay_ms: c_int);
        pub fn disable_timeout(timeout: c_int, keep_indicator: bool);
        pub fn RegisterTimeout(timeout: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
        pub fn strcmp(one: *const c_char, other: *const c_char) -> c_int;
        pub fn pg_get_client_encoding() -> c_int;
        pub fn fetch_search_path_array(oids: *mut pg_sys::Oid, length: c_int) -> c_int;
        pub fn GetNumConfigOptions() -> c_int;
        pub fn get_guc_variables() -> *mut *mut pg_sys::config_generic;
        pub fn lookup_type_cache(type_id: pg_sys::Oid, flags: c_int)
        -> *mut pg_sys::TypeCacheEntry;
        pub fn FunctionCall2Coll(
            function: *mut pg_sys::FmgrInfo,
            collation: pg_sys::Oid,
            one: pg_sys::Datum,
            other: pg_sys::Datum,
        ) -> pg_sys::Datum;
        pub fn MakeSingleTupleTableSlot(
            description: pg_sys::TupleDesc,
            operations: *const pg_sys::TupleTableSlotOps,
        ) -> *mut pg_sys::TupleTableSlot;
        pub fn ExecDropSingleTupleTableSlot(slot: *mut pg_sys::TupleTableSlot);
        pub fn slot_getsomeattrs_int(slot: *mut pg_sys::TupleTableSlot, number: c_int);
        pub fn tuplestore_rescan(store: *mut pg_sys::Tuplestorestate);
        pub fn tuplestore_gettupleslot(
            store: *mut pg_sys::Tuplestorestate,
            forward: bool,
            copy: bool,
            slot: *mut pg_sys::TupleTableSlot,
        ) -> bool;
        pub fn GetActiveSnapshot() -> pg_sys::Snapshot;
        pub fn ActiveSnapshotSet() -> bool;
        pub fn RecoveryInProgress() -> bool;
        pub fn PostmasterIsAliveInternal() -> bool;
        pub fn GetUserId() -> pg_sys::Oid;
        pub fn GetSessionUserId() -> pg_sys::Oid;
        pub fn GetOuterUserId() -> pg_sys::Oid;
        pub fn GetUserIdAndSecContext(user: *mut pg_sys::Oid, context: *mut c_int);
        pub fn InNoForceRLSOperation() -> bool;
        pub fn GetCurrentTransactionStartTimestamp() -> pg_sys::TimestampTz;
        pub fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
        pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        pub fn GetTopFullTransactionIdIfAny() -> pg_sys::FullTransactionId;
        pub fn pg_localtime(time: *const i64, tz: *const pg_sys::pg_tz) -> *mut pg_sys::pg_tm;
        pub fn pg_get_timezone_name(tz: *mut pg_sys::pg_tz) -> *const c_char;
        pub fn standard_ProcessUtility(
            pstmt: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            env: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            qc: *mut pg_sys::QueryCompletion,
        );
        pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, eflags: c_int);
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            execute_once: bool,
        );
        pub fn standard_ExecutorEnd(query: *mut pg_sys::QueryDesc);
        pub fn standard_planner(
            query: *mut pg_sys::Query,
            text: *const c_char,
            options: c_int,
            parameters: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
        pub fn planstate_tree_walker(
            state: *mut pg_sys::PlanState,
            walker: unsafe extern "C" fn(*mut pg_sys::PlanState, *mut c_void) -> bool,
            context: *mut c_void,
        ) -> bool;
        pub fn query_tree_walker(
            query: *mut pg_sys::Query,
            walker: unsafe extern "C" fn(*mut pg_sys::Node, *mut c_void) -> bool,
            context: *mut c_void,
            flags: c_int,
        ) -> bool;
        pub fn expression_tree_walker(
            node: *mut pg_sys::Node,
            walker: unsafe extern "C" fn(*mut pg_sys::Node, *mut c_void) -> bool,
            context: *mut c_void,
        ) -> bool;
        pub fn check_functions_in_node(
            node: *mut pg_sys::Node,
            checker: unsafe extern "C" fn(pg_sys::Oid, *mut c_void) -> bool,
            context: *mut c_void,
        ) -> bool;
        pub fn geterrcode() -> c_int;
        pub fn fmgr_info_cxt(
            function: pg_sys::Oid,
            finfo: *mut pg_sys::FmgrInfo,
            context: pg_sys::MemoryContext,
        );
        pub fn SPI_connect() -> c_int;
        pub fn SPI_prepare(
            query: *const c_char,
            arguments: c_int,
            types: *mut pg_sys::Oid,
        ) -> pg_sys::SPIPlanPtr;
        pub fn SPI_execute_plan(
            plan: pg_sys::SPIPlanPtr,
            values: *mut pg_sys::Datum,
            nulls: *const c_char,
            read_only: bool,
            count: std::ffi::c_long,
        ) -> c_int;
        pub fn SPI_finish() -> c_int;
        pub fn SetTuplestoreDestReceiverParams(
            receiver: *mut pg_sys::DestReceiver,
            store: *mut pg_sys::Tuplestorestate,
            context: pg_sys::MemoryContext,
            detoast: bool,
            target: pg_sys::TupleDesc,
            map_failure_message: *const c_char,
        );
        pub fn find_all_inheritors(
            parent: pg_sys::Oid,
            lockmode: c_int,
            numparents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
        pub fn find_inheritance_children(parent: pg_sys::Oid, lockmode: c_int)
        -> *mut pg_sys::List;
        pub fn prepare_sql_fn_parse_info(
            function: pg_sys::HeapTuple,
            call: *mut pg_sys::Node,
            collation: pg_sys::Oid,
        ) -> *mut c_void;
        pub static max_prepared_xacts: c_int;
        pub static bytea_output: c_int;
        pub static xmlbinary: c_int;
        pub static xmloption: c_int;
        pub static backslash_quote: c_int;
        pub static locale_messages: *const c_char;
        pub static locale_monetary: *const c_char;
        pub static locale_numeric: *const c_char;
        pub static locale_time: *const c_char;
    }
    // Given to the server as the handler of a signal, never called by us.
    unsafe extern "C-unwind" {
        pub fn die(signal: c_int);
    }
}
pub use declared::*;
