//! What a fill reads besides tables: settings of the session, facts of its own, things outside of every transaction.
//!
//! The server tells of each function that an expression calls when the expression is made ready (`OAT_FUNCTION_EXECUTE`). Some
//! built-in functions answer from what no snapshot covers; those are told apart here:
//!
//! * [`Reads::SETTINGS`] `current_setting()`, `SHOW`: any setting at all. The settings with a dot and those that change formats are
//!   part of every key; a function that was seen asking gets the rest into its keys too ([`crate::call::scope`]).
//! * [`Reads::SESSION`] `pg_backend_pid()`, `lastval()` and the like: nobody else's answer. The result is not stored.
//! * [`Reads::OUTSIDE`] files, large objects, sizes, rights on what all databases share: nobody marks when they change. Not stored
//!   either, unless age is enough.
//!
//! A fill that calls `set_config()` is not stored: a hit would not change the setting.
//!
//! An expression of PL/pgSQL is made ready once in a transaction and called many times, inside of fills and outside. So what is made
//! ready outside of the start of a query counts for the rest of the transaction; what belongs to a query, for the fill that runs it.
//!
//! Not seen: what functions in C or in other languages read without asking in SQL, and `CURRENT_TIMESTAMP` and its kin. A result
//! that depends on the clock is right by age only.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::compat;
use crate::gate;
use crate::server::guarded;
use pgrx::pg_sys;
use std::cell::Cell;

/// What was read, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads(u8);

impl Reads {
    /// Nothing.
    pub const NONE: Reads = Reads(0);
    /// Any setting of the session.
    pub const SETTINGS: Reads = Reads(1);
    /// Something that only this session has.
    pub const SESSION: Reads = Reads(2);
    /// Something outside of every transaction.
    pub const OUTSIDE: Reads = Reads(4);
    /// Nothing; a setting is changed.
    const CHANGES_SETTINGS: Reads = Reads(8);

    /// Both sets.
    pub fn and(self, other: Reads) -> Reads {
        Reads(self.0 | other.0)
    }

    /// Whether `other` is part of it.
    pub fn has(self, other: Reads) -> bool {
        self.0 & other.0 != 0
    }
}

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Queries that are being started, one inside the other.
static STARTING: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// Local number of a transaction, and what expressions read that it keeps.
static KEPT: Backend<Cell<(u32, Reads)>> = Backend::new(Cell::new((0, Reads::NONE)));

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_accessed);
    }
}

unsafe extern "C-unwind" fn object_accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: the server's arguments, passed on as they are.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, part, argument);
        }
        if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE {
            let reads = reads_of(object.to_u32());
            if reads != Reads::NONE {
                guarded(|| {
                    if gate::is_open() {
                        note(reads);
                    }
                });
            }
        }
    }
}

/// Notes what a function reads.
fn note(reads: Reads) {
    if frames::filling() {
        if reads == Reads::CHANGES_SETTINGS {
            return frames::refuse(Reason::Writes);
        }
        frames::reads(reads);
    }
    if STARTING.get() == 0 {
        KEPT.set((compat::local_transaction(), kept().and(reads)));
    }
}

/// What expressions read that this transaction made ready and may call again.
pub fn kept() -> Reads {
    match KEPT.get() {
        (transaction, reads) if transaction == compat::local_transaction() => reads,
        _ => Reads::NONE,
    }
}

/// A query is being started: expressions that are made ready now are its own.
#[inline(always)]
pub fn query_starts() {
    STARTING.set(STARTING.get() + 1);
}

/// The query has been started.
#[inline(always)]
pub fn query_started() {
    STARTING.set(STARTING.get().saturating_sub(1));
}

/// An ERROR may have cut the start of a query short.
pub fn rolled_back() {
    STARTING.set(0);
}

/// `lo_get(oid)` and `pg_database_size(oid)`; the server's names for them end like those of types, and pgrx takes them for such.
const LO_GET: u32 = pg_sys::F_LO_GET_OID.to_u32();
const DATABASE_SIZE: u32 = pg_sys::F_PG_DATABASE_SIZE_OID.to_u32();

/// What a function reads. The first oid that is not fixed in the server's source is 10,000.
#[inline(always)]
fn reads_of(function: u32) -> Reads {
    if function >= 10_000 {
        return Reads::NONE;
    }
    match function {
        pg_sys::F_CURRENT_SETTING_TEXT | pg_sys::F_CURRENT_SETTING_TEXT_BOOL => Reads::SETTINGS,
        pg_sys::F_SET_CONFIG => Reads::CHANGES_SETTINGS,
        pg_sys::F_CURRENT_QUERY
        | pg_sys::F_CURRVAL
        | pg_sys::F_INET_CLIENT_ADDR
        | pg_sys::F_INET_CLIENT_PORT
        | pg_sys::F_INET_SERVER_ADDR
        | pg_sys::F_INET_SERVER_PORT
        | pg_sys::F_LASTVAL
        | pg_sys::F_PG_BACKEND_PID
        | pg_sys::F_PG_CLIENT_ENCODING
        | pg_sys::F_PG_CURRENT_SNAPSHOT
        | pg_sys::F_PG_CURRENT_XACT_ID
        | pg_sys::F_PG_CURRENT_XACT_ID_IF_ASSIGNED
        | pg_sys::F_PG_CURSOR
        | pg_sys::F_PG_EXPORT_SNAPSHOT
        | pg_sys::F_PG_GET_BACKEND_MEMORY_CONTEXTS
        | pg_sys::F_PG_LISTENING_CHANNELS
        | pg_sys::F_PG_LOCK_STATUS
        | pg_sys::F_PG_MY_TEMP_SCHEMA
        | pg_sys::F_PG_PREPARED_STATEMENT
        | pg_sys::F_PG_SHOW_ALL_SETTINGS
        | pg_sys::F_PG_STAT_GET_ACTIVITY
        | pg_sys::F_PG_TRIGGER_DEPTH
        | pg_sys::F_TXID_CURRENT
        | pg_sys::F_TXID_CURRENT_IF_ASSIGNED
        | pg_sys::F_TXID_CURRENT_SNAPSHOT => Reads::SESSION,
        pg_sys::F_LOREAD
        | LO_GET
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_NAME_OID_TEXT
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_NAME_TEXT_TEXT
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_OID_OID_TEXT
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_OID_TEXT
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_OID_TEXT_TEXT
        | pg_sys::F_HAS_DATABASE_PRIVILEGE_TEXT_TEXT
        | pg_sys::F_HAS_PARAMETER_PRIVILEGE_NAME_TEXT_TEXT
        | pg_sys::F_HAS_PARAMETER_PRIVILEGE_OID_TEXT_TEXT
        | pg_sys::F_HAS_PARAMETER_PRIVILEGE_TEXT_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_NAME_OID_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_NAME_TEXT_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_OID_OID_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_OID_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_OID_TEXT_TEXT
        | pg_sys::F_HAS_TABLESPACE_PRIVILEGE_TEXT_TEXT
        | pg_sys::F_LO_GET_OID_INT8_INT4
        | pg_sys::F_LO_OPEN
        | pg_sys::F_PG_BLOCKING_PIDS
        | pg_sys::F_PG_CONF_LOAD_TIME
        | pg_sys::F_PG_CURRENT_WAL_FLUSH_LSN
        | pg_sys::F_PG_CURRENT_WAL_INSERT_LSN
        | pg_sys::F_PG_CURRENT_WAL_LSN
        | pg_sys::F_PG_DATABASE_SIZE_NAME
        | pg_sys::F_PG_DESCRIBE_OBJECT
        | pg_sys::F_PG_IDENTIFY_OBJECT
        | pg_sys::F_PG_IDENTIFY_OBJECT_AS_ADDRESS
        | DATABASE_SIZE
        | pg_sys::F_PG_INDEXES_SIZE
        | pg_sys::F_PG_LS_DIR_TEXT
        | pg_sys::F_PG_LS_DIR_TEXT_BOOL_BOOL
        | pg_sys::F_PG_READ_BINARY_FILE_TEXT
        | pg_sys::F_PG_READ_BINARY_FILE_TEXT_INT8_INT8
        | pg_sys::F_PG_READ_BINARY_FILE_TEXT_INT8_INT8_BOOL
        | pg_sys::F_PG_READ_FILE_TEXT
        | pg_sys::F_PG_READ_FILE_TEXT_INT8_INT8
        | pg_sys::F_PG_READ_FILE_TEXT_INT8_INT8_BOOL
        | pg_sys::F_PG_RELATION_SIZE_REGCLASS
        | pg_sys::F_PG_RELATION_SIZE_REGCLASS_TEXT
        | pg_sys::F_PG_SEQUENCE_LAST_VALUE
        | pg_sys::F_PG_STAT_FILE_TEXT
        | pg_sys::F_PG_STAT_FILE_TEXT_BOOL
        | pg_sys::F_PG_TABLE_SIZE
        | pg_sys::F_PG_TOTAL_RELATION_SIZE => Reads::OUTSIDE,
        _ => Reads::NONE,
    }
}
