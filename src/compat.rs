//! What differs between PostgreSQL versions, and small questions to the catalog.

#![allow(unsafe_code)]

use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CStr;

/// Syscache of functions by oid.
pub const PROC_CACHE: i32 = pg_sys::SysCacheIdentifier::PROCOID as i32;
/// Syscache of functions by name, argument types and schema.
pub const PROC_NAME_CACHE: i32 = pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32;
/// Syscache of schemas by oid.
pub const NAMESPACE_CACHE: i32 = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;

/// Syscache of roles by oid.
pub const ROLE_CACHE: i32 = pg_sys::SysCacheIdentifier::AUTHOID as i32;

/// Number of the timeout of a statement (`TimeoutId`), which pgrx does not bind.
pub const STATEMENT_TIMEOUT: i32 = 3;
/// The number that asks for a timeout of one's own.
pub const USER_TIMEOUT: i32 = 12;

/// Catalogs and columns that pgrx does not bind; the numbers are fixed in the server's catalog headers.
pub mod catalog {
    use pgrx::pg_sys::Oid;
    /// `pg_inherits`.
    pub const INHERITS: Oid = Oid::from_u32(2611);
    /// Its index by `inhrelid`, `inhseqno`.
    pub const INHERITS_BY_CHILD: Oid = Oid::from_u32(2680);
    /// Column `inhrelid`.
    pub const INHERITS_CHILD: u32 = 1;
    /// Column `ev_action` of `pg_rewrite`.
    pub const RULE_ACTION: u32 = 8;
    /// `pg_depend`.
    pub const DEPEND: Oid = Oid::from_u32(2608);
    /// Its index by `classid`, `objid`, `objsubid`.
    pub const DEPEND_BY_DEPENDENT: Oid = Oid::from_u32(2673);
    /// Its index by `refclassid`, `refobjid`, `refobjsubid`.
    pub const DEPEND_BY_REFERENCE: Oid = Oid::from_u32(2674);
    /// Column `classid`.
    pub const DEPENDENT_CLASS: u32 = 1;
    /// Column `objid`.
    pub const DEPENDENT_OBJECT: u32 = 2;
    /// Column `refclassid`.
    pub const DEPEND_CLASS: u32 = 4;
    /// Column `refobjid`.
    pub const DEPEND_OBJECT: u32 = 5;
    /// `pg_init_privs`.
    pub const INIT_PRIVS: Oid = Oid::from_u32(3394);
    /// Its index by `objoid`, `classoid`, `objsubid`.
    pub const INIT_PRIVS_BY_OBJECT: Oid = Oid::from_u32(3395);
    /// Column `objoid`.
    pub const INIT_PRIVS_OBJECT: u32 = 1;
    /// Column `initprivs`.
    pub const INIT_PRIVS_LIST: u32 = 5;
    /// `pg_language`.
    pub const LANGUAGE: Oid = Oid::from_u32(2612);

    /// Column `lanplcallfoid` of `pg_language`.
    pub const LANGUAGE_HANDLER: u32 = 6;
    /// Column `lanacl` of `pg_language`.
    pub const LANGUAGE_ACL: u32 = 9;

    /// `pg_shdepend`.
    pub const SHARED_DEPEND: Oid = Oid::from_u32(1214);
    /// `deptype` of what a role owns.
    pub const OWNER: u8 = b'o';

    /// A row of `pg_shdepend`.
    #[repr(C)]
    pub struct SharedDepend {
        /// The database, 0 for what all databases share.
        pub dbid: Oid,
        /// Catalog of the object that depends.
        pub classid: Oid,
        /// The object that depends.
        pub objid: Oid,
        /// Its part.
        pub objsubid: i32,
        /// Catalog of what it depends on.
        pub refclassid: Oid,
        /// What it depends on.
        pub refobjid: Oid,
        /// In which way.
        pub deptype: std::ffi::c_char,
    }

    /// The beginning of a row of `pg_language`.
    #[repr(C)]
    pub struct Language {
        /// Its oid.
        pub oid: Oid,
        /// Its name.
        pub name: pgrx::pg_sys::NameData,
        /// Its owner.
        pub owner: Oid,
    }

    /// The beginning of a row of `pg_init_privs`.
    #[repr(C)]
    pub struct InitPrivs {
        /// The object.
        pub object: Oid,
        /// Its catalog.
        pub class: Oid,
    }

    /// The beginning of a row of `pg_depend`.
    #[repr(C)]
    pub struct Depend {
        /// Catalog of the object that depends.
        pub class: Oid,
        /// The object that depends.
        pub object: Oid,
        /// Its part.
        pub part: i32,
        /// Catalog of the object that is depended on.
        pub referenced_class: Oid,
        /// The object that is depended on.
        pub referenced: Oid,
        /// Its part.
        pub referenced_part: i32,
        /// How.
        pub kind: std::ffi::c_char,
    }

    /// A row of `pg_inherits`.
    #[repr(C)]
    pub struct Inherits {
        /// The child.
        pub child: Oid,
        /// The parent.
        pub parent: Oid,
        /// Order of the parents.
        pub number: i32,
        /// `DETACH PARTITION CONCURRENTLY` is under way.
        pub detach_pending: bool,
    }
}

/// `AddinShmemInitLock`, the lock that guards the table of shared memory segments.
pub fn addin_shmem_init_lock() -> *mut pg_sys::LWLock {
    const NUMBER: usize = 21;
    // SAFETY: the main array holds the server's individual locks at fixed places (lwlocknames.txt).
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(NUMBER)).lock }
}

/// Index of this backend's PGPROC.
pub fn my_process_number() -> i32 {
    // SAFETY: MyProc is set in every backend that has shared memory.
    unsafe { (*pg_sys::MyProc).pgprocno }
}

/// Number of the present transaction among those of this backend.
#[inline(always)]
pub fn local_transaction() -> u32 {
    // SAFETY: as above.
    unsafe { (*pg_sys::MyProc).lxid }
}

/// Whether the process, or a parallel worker that it waits for, waits for a heavyweight lock right now, or the process for its client. Read
/// without a lock: the answer may be a moment old.
pub fn waits_for_others(number: i32, pid: i32) -> bool {
    // SAFETY: `number` came from `my_process_number` of a backend; PGPROCs are never freed, and there are `allProcCount` of them.
    unsafe {
        let all = (*pg_sys::ProcGlobal).allProcs;
        let waits = |process: *mut pg_sys::PGPROC| {
            !std::ptr::read_volatile(&raw const (*process).waitLock).is_null()
        };
        let leader = |process: *mut pg_sys::PGPROC| {
            std::ptr::read_volatile(&raw const (*process).lockGroupLeader)
        };
        let process = all.add(number as usize);
        // It waits for its client to read, in the middle of something; not for its next command.
        let event = std::ptr::read_volatile(&raw const (*process).wait_event_info);
        std::ptr::read_volatile(&raw const (*process).pid) != pid
            || event == pg_sys::WaitEventClient::WAIT_EVENT_CLIENT_WRITE
            || waits(process)
            || leader(process) == process
                && (0..(*pg_sys::ProcGlobal).allProcCount as usize)
                    .map(|index| all.add(index))
                    .any(|member| leader(member) == process && waits(member))
    }
}

/// Whether the top-level transaction `xid` holds no lock on its id any more. If that cannot be found out, because the server has no
/// memory left for locks, it does.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn has_freed_its_locks(xid: pg_sys::TransactionId) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: xid.into(),
        locktag_field2: 0,
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_TRANSACTION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    let mode = pg_sys::ShareLock as pg_sys::LOCKMODE;
    // SAFETY: a lock tag as SET_LOCKTAG_TRANSACTION makes it; nothing is waited for, and what was got is given back.
    unsafe {
        let got = pg_sys::LockAcquireExtended(&tag, mode, false, true, false, std::ptr::null_mut());
        if got == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return false;
        }
        pg_sys::LockRelease(&tag, mode, false);
    }
    true
}

/// Locks an object of this database that is no relation, without waiting. Whether that was possible.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn try_lock_object(
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    mode: pg_sys::LOCKMODE,
) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: database().to_u32(),
        locktag_field2: class.to_u32(),
        locktag_field3: object.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: a lock tag as SET_LOCKTAG_OBJECT makes it; nothing is waited for; kept until the transaction ends.
    unsafe {
        let got = pg_sys::LockAcquireExtended(&tag, mode, false, true, true, std::ptr::null_mut());
        pg_sys::AcceptInvalidationMessages();
        got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// Index of the PGPROC of the leader of this parallel worker's group.
pub fn lock_group_leader_number() -> Option<i32> {
    // SAFETY: as in `my_process_number`.
    unsafe {
        let leader = (*pg_sys::MyProc).lockGroupLeader;
        (!leader.is_null()).then(|| (*leader).pgprocno)
    }
}

/// The present database.
#[inline(always)]
pub fn database() -> pg_sys::Oid {
    // SAFETY: a variable of the backend, set once when it connects.
    unsafe { pg_sys::MyDatabaseId }
}

/// Whether a function is in the catalog.
pub fn function_exists(function: pg_sys::Oid) -> bool {
    let (oid, none) = (pg_sys::Datum::from(function), pg_sys::Datum::from(0));
    // SAFETY: a syscache lookup that allows for absence.
    unsafe { pg_sys::SearchSysCacheExists(PROC_CACHE, oid, none, none, none) }
}

/// Whether this is a parallel worker.
#[inline(always)]
pub fn is_parallel_worker() -> bool {
    // SAFETY: a variable of the backend.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Sets what the transaction and the statement take for their start, in microseconds since 2000-01-01.
///
/// # Safety
/// Inside a transaction; the caller sets them right again.
pub unsafe fn set_start_of_transaction(transaction: i64, statement: i64) {
    // SAFETY: sets two variables of the backend. Servers built with assertions allow it to parallel workers only.
    unsafe {
        if !assertions_enabled() {
            pg_sys::SetParallelStartTimestamps(transaction, statement);
        }
    }
}

/// Whether the server was built with assertions.
fn assertions_enabled() -> bool {
    // SAFETY: returns a C string that lives until the setting changes.
    unsafe {
        let value = pg_sys::GetConfigOption(c"debug_assertions".as_ptr(), true, false);
        !value.is_null() && CStr::from_ptr(value) == c"on"
    }
}

/// Whether the role owns the function, or may do everything.
pub fn owns_function(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup for an existing function.
    unsafe { pg_sys::pg_proc_ownercheck(function, role) }
}

/// Whether the role is the owner of the function, whatever else it may do.
pub fn is_owner_of_function(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        pg_sys::ReleaseSysCache(tuple);
        owner == role
    }
}

/// Length and by-value mark of a type.
pub fn type_length(type_id: pg_sys::Oid) -> (i16, bool) {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: out parameters; raises an ERROR for a type that does not exist.
    unsafe { pg_sys::get_typlenbyval(type_id, &mut length, &mut by_value) };
    (length, by_value)
}

/// Length, by-value mark and alignment of a type.
pub fn type_storage(type_id: pg_sys::Oid) -> (i16, bool, std::ffi::c_char) {
    let (mut length, mut by_value, mut align) = (0, false, 0);
    // SAFETY: out parameters; raises an ERROR for a type that does not exist.
    unsafe { pg_sys::get_typlenbyvalalign(type_id, &mut length, &mut by_value, &mut align) };
    (length, by_value, align)
}

/// Whether the type is a polymorphic pseudo-type.
pub fn is_polymorphic(type_id: pg_sys::Oid) -> bool {
    [
        pg_sys::ANYELEMENTOID,
        pg_sys::ANYARRAYOID,
        pg_sys::ANYNONARRAYOID,
        pg_sys::ANYENUMOID,
        pg_sys::ANYRANGEOID,
        pg_sys::ANYMULTIRANGEOID,
        pg_sys::ANYCOMPATIBLEOID,
        pg_sys::ANYCOMPATIBLEARRAYOID,
        pg_sys::ANYCOMPATIBLENONARRAYOID,
        pg_sys::ANYCOMPATIBLERANGEOID,
        pg_sys::ANYCOMPATIBLEMULTIRANGEOID,
    ]
    .contains(&type_id)
}

/// Whether the type is a pseudo-type.
pub fn is_pseudo(type_id: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup.
    unsafe { pg_sys::get_typtype(type_id) as u8 == pg_sys::TYPTYPE_PSEUDO }
}

/// Whether values of a type are, or contain, values of another: in an array, a domain, a composite type.
pub fn contains_type(type_id: pg_sys::Oid, wanted: pg_sys::Oid) -> bool {
    let (mut seen, mut next) = (Vec::new(), vec![type_id]);
    while let Some(one) = next.pop() {
        // SAFETY: syscache lookups; a row type's columns are copied before the description is let go.
        unsafe {
            let base = pg_sys::getBaseType(one);
            if base == wanted {
                return true;
            }
            if seen.contains(&base) {
                continue;
            }
            seen.push(base);
            let element = pg_sys::get_element_type(base);
            if element != pg_sys::InvalidOid {
                next.push(element);
            }
            if pg_sys::get_typ_typrelid(base) != pg_sys::InvalidOid {
                let columns = pgrx::PgTupleDesc::from_pg(pg_sys::lookup_rowtype_tupdesc(base, -1));
                next.extend(
                    columns
                        .iter()
                        .filter(|column| !column.attisdropped)
                        .map(|column| column.atttypid),
                );
            }
        }
    }
    false
}

/// Whether an expression of a scan reads a system column of its relation other than `tableoid`.
///
/// # Safety
/// `expression` is an expression, or a list of some, of the scan of `relation`.
pub unsafe fn reads_system_columns(expression: *mut pg_sys::Node, relation: pg_sys::Index) -> bool {
    let mut columns = std::ptr::null_mut();
    // SAFETY: the caller's; the set is freed.
    unsafe {
        pg_sys::pull_varattnos(expression, relation, &mut columns);
        let read = (pg_sys::MaxCommandIdAttributeNumber..=pg_sys::SelfItemPointerAttributeNumber)
            .any(|column| {
                pg_sys::bms_is_member(column - pg_sys::FirstLowInvalidHeapAttributeNumber, columns)
            });
        pg_sys::bms_free(columns);
        read
    }
}

/// Schema and name of a function as the catalog has them; `None` if it does not exist.
pub fn function_name(oid: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: syscache lookups that return C strings in our memory context, or NULL.
    unsafe {
        let name = pg_sys::get_func_name(oid);
        let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(oid));
        (!name.is_null() && !schema.is_null()).then(|| (text(schema), text(name)))
    }
}

/// A C string of the server; see [`crate::encoding`].
///
/// # Safety
/// `pointer` is a C string.
pub unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    // SAFETY: the caller's.
    crate::encoding::from_server(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// Oid of a function by schema, name and argument types.
pub fn find_function(
    schema: pg_sys::Oid,
    name: &CStr,
    arguments: &[pg_sys::Oid],
) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the vector lives until it is over.
    unsafe {
        let vector = pg_sys::buildoidvector(arguments.as_ptr(), arguments.len() as i32);
        let tuple = pg_sys::SearchSysCache3(
            PROC_NAME_CACHE as _,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(vector),
            pg_sys::Datum::from(schema),
        );
        if tuple.is_null() {
            return None;
        }
        let oid = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).oid;
        pg_sys::ReleaseSysCache(tuple);
        Some(oid)
    }
}

/// Whether the caller owns the database, or may do everything.
pub fn owns_database(database: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup for an existing database.
    unsafe { pg_sys::pg_database_ownercheck(database, pg_sys::GetUserId()) }
}

/// The bytes of a catalog row, with the transaction that wrote it; `None` if there is no such row.
///
/// # Safety
/// `cache` has one key, an oid.
pub unsafe fn catalog_row(cache: i32, oid: pg_sys::Oid) -> Option<Vec<u8>> {
    // SAFETY: the caller's; the tuple is pinned while it is copied: `t_len` bytes, of which the header says where the data begin.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as _, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let header = (*tuple).t_data;
        let begin = usize::from((*header).t_hoff);
        let data = header.cast::<u8>().add(begin);
        let length = ((*tuple).t_len as usize).saturating_sub(begin);
        let mut bytes = (*header)
            .t_choice
            .t_heap
            .t_xmin
            .into_inner()
            .to_le_bytes()
            .to_vec();
        // Of the header how many columns there are, and which are NULL.
        let columns = (*header).t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16;
        bytes.extend_from_slice(&columns.to_le_bytes());
        let nulls = std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits);
        bytes.extend_from_slice(std::slice::from_raw_parts(
            header.cast::<u8>().add(nulls),
            begin.saturating_sub(nulls),
        ));
        bytes.extend_from_slice(std::slice::from_raw_parts(data, length));
        pg_sys::ReleaseSysCache(tuple);
        Some(bytes)
    }
}

/// The owner of a function that is SECURITY DEFINER.
pub fn definer(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return None;
        }
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let owner = row.prosecdef.then_some(row.proowner);
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Whether a transaction runs now in a session of another database: `false` may be a doubt (a prepared one is in no session), `true` never is.
pub fn runs_elsewhere(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: looks into the server's list of processes; what is found there stays in its place as long as the server runs. The process
    // has had the transaction from before its database is read until after that, so the one is of the other: an id is not used again.
    unsafe {
        let pid = pg_sys::BackendXidGetPid(xid);
        if pid == 0 {
            return false;
        }
        let process = pg_sys::BackendPidGetProc(pid);
        if process.is_null() {
            return false;
        }
        let database = (&raw const (*process).databaseId).read_volatile();
        database != pg_sys::InvalidOid
            && database != pg_sys::MyDatabaseId
            && pg_sys::BackendXidGetPid(xid) == pid
    }
}

/// Whether a database may be copied by who may create databases.
pub fn is_template(database: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as _,
            pg_sys::Datum::from(database),
        );
        if tuple.is_null() {
            return false;
        }
        let is = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>()).datistemplate;
        pg_sys::ReleaseSysCache(tuple);
        is
    }
}

/// Whether the caller may create databases.
pub fn may_create_databases() -> bool {
    // SAFETY: a syscache lookup of the present role.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::AUTHOID as _,
            pg_sys::Datum::from(pg_sys::GetUserId()),
        );
        if tuple.is_null() {
            return false;
        }
        let may = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>()).rolcreatedb;
        pg_sys::ReleaseSysCache(tuple);
        may
    }
}

/// Oid of this extension in the present database, if it is there.
pub fn extension() -> Option<pg_sys::Oid> {
    // SAFETY: a catalog lookup that allows for its absence.
    let oid = unsafe { pg_sys::get_extension_oid(c"pg_query_cache".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Oid of the schema of this extension in the present database.
pub fn extension_namespace() -> Option<pg_sys::Oid> {
    let mut schema = None;
    // SAFETY: pg_extension and its index by oid.
    unsafe {
        catalog_rows(
            pg_sys::ExtensionRelationId,
            pg_sys::Oid::from_u32(pg_sys::ExtensionOidIndexId),
            pg_sys::Anum_pg_extension_oid,
            extension()?,
            |tuple, _| {
                schema = Some(
                    (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_extension>())
                        .extnamespace,
                );
            },
        );
    }
    schema
}

/// A table of this extension; see [`own_relation`].
pub fn extension_relation(name: &CStr) -> Option<pg_sys::Oid> {
    own_relation(name, extension_namespace()?)
}

/// A table of this extension, in its schema. The name alone would not do: where objects are of an earlier version, or the owner has
/// renamed a table, anybody who may create tables there could put one in its place, and the worker, a superuser, would write it.
pub fn own_relation(name: &CStr, schema: pg_sys::Oid) -> Option<pg_sys::Oid> {
    /// Those found to belong to the extension.
    static OWN: crate::backend::Backend<RefCell<Vec<pg_sys::Oid>>> =
        crate::backend::Backend::new(RefCell::new(Vec::new()));
    // SAFETY: a syscache lookup that allows for its absence.
    let relation = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
    if relation == pg_sys::InvalidOid || OWN.with_borrow(|own| own.contains(&relation)) {
        return (relation != pg_sys::InvalidOid).then_some(relation);
    }
    // SAFETY: a catalog lookup that allows for absence.
    let belongs_to = unsafe { pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, relation) };
    if Some(belongs_to) != extension() {
        return None;
    }
    OWN.with_borrow_mut(|own| own.push(relation));
    Some(relation)
}

/// Schema of this extension, quoted where that is needed.
pub fn extension_schema() -> Option<String> {
    let schema = extension_namespace()?;
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL.
    let name = unsafe {
        let name = pg_sys::get_namespace_name(schema);
        if name.is_null() {
            return None;
        }
        text(name)
    };
    Some(crate::naming::quote_identifier(&name))
}

/// The schema of what only the extension itself calls. In a database whose objects are of an earlier version that is the extension's
/// own.
pub fn internal_schema() -> Option<String> {
    match is_this_version() {
        true => Some("query_cache_internal".to_owned()),
        false => extension_schema(),
    }
}

/// Whether the extension's objects in this database are those of this version: they have the schema `query_cache_internal`, which
/// earlier ones have not. One of the name that does not belong to the extension is somebody else's.
pub fn is_this_version() -> bool {
    /// The schema that is known to belong to the extension.
    static OWN: crate::backend::Backend<std::cell::Cell<pg_sys::Oid>> =
        crate::backend::Backend::new(std::cell::Cell::new(pg_sys::InvalidOid));
    // SAFETY: catalog lookups that allow for absence.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"query_cache_internal".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return false;
        }
        let of = || pg_sys::getExtensionOfObject(pg_sys::NamespaceRelationId, schema);
        if OWN.get() != schema && Some(of()) == extension() {
            OWN.set(schema);
        }
        OWN.get() == schema
    }
}

/// Locks the row of a catalog at a place for a change; `false` if somebody else is changing it or has changed it.
///
/// # Safety
/// `catalog` is open for changes, inside a transaction that writes; `place` is that of one of its rows.
pub unsafe fn lock_row_or_skip(catalog: pg_sys::Relation, place: pg_sys::ItemPointerData) -> bool {
    let mut tuple = pg_sys::HeapTupleData {
        t_self: place,
        ..Default::default()
    };
    let (mut buffer, mut failure) = (
        pg_sys::InvalidBuffer as pg_sys::Buffer,
        pg_sys::TM_FailureData::default(),
    );
    // SAFETY: the caller's; the buffer is pinned whatever the answer is.
    unsafe {
        let answer = pg_sys::heap_lock_tuple(
            catalog,
            &mut tuple,
            pg_sys::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleExclusive,
            pg_sys::LockWaitPolicy::LockWaitSkip,
            false,
            &mut buffer,
            &mut failure,
        );
        pg_sys::ReleaseBuffer(buffer);
        answer == pg_sys::TM_Result::TM_Ok
    }
}

/// Name of a role; its number if it is gone.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            role.to_u32().to_string()
        } else {
            text(name)
        }
    }
}

/// Name of the present database.
pub fn database_name() -> String {
    // SAFETY: a catalog lookup that returns a C string in our memory context, or NULL.
    unsafe {
        let name = pg_sys::get_database_name(database());
        if name.is_null() {
            database().to_u32().to_string()
        } else {
            text(name)
        }
    }
}

/// The functions in `LANGUAGE cached` of the present database.
pub fn cached_functions() -> Vec<pg_sys::Oid> {
    // SAFETY: a catalog lookup that allows for its absence.
    let language = unsafe { pg_sys::get_language_oid(c"cached".as_ptr(), true) };
    dependents(catalog::LANGUAGE, language, pg_sys::ProcedureRelationId)
}

/// Objects of the catalog `of` that depend on an object.
pub fn dependents(class: pg_sys::Oid, object: pg_sys::Oid, of: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    each_dependent(class, object, |dependent, object| {
        if dependent == of && known.insert(object.to_u32()) {
            found.push(object);
        }
    });
    found
}

/// Catalog and oid of what depends on an object, once for each dependency.
pub fn each_dependent(
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    mut visit: impl FnMut(pg_sys::Oid, pg_sys::Oid),
) {
    // SAFETY: the index by what is depended on, and its first columns.
    unsafe {
        dependencies(
            catalog::DEPEND_BY_REFERENCE,
            [catalog::DEPEND_CLASS, catalog::DEPEND_OBJECT],
            [class, object],
            |row| visit(row.class, row.object),
        );
    }
}

/// Functions that a function depends on so that they cannot be dropped without it, and the parts of them that are recorded.
pub fn each_referenced_function(function: pg_sys::Oid, mut visit: impl FnMut(pg_sys::Oid, i32)) {
    // SAFETY: the index by what depends, and its first columns.
    unsafe {
        dependencies(
            catalog::DEPEND_BY_DEPENDENT,
            [catalog::DEPENDENT_CLASS, catalog::DEPENDENT_OBJECT],
            [pg_sys::ProcedureRelationId, function],
            |row| {
                if row.referenced_class == pg_sys::ProcedureRelationId && row.kind as u8 == b'n' {
                    visit(row.referenced, row.referenced_part);
                }
            },
        );
    }
}

/// What a function's dependencies on the language of cached functions say beside that.
pub fn each_part_of_language(function: pg_sys::Oid, mut visit: impl FnMut(i32)) {
    // SAFETY: the index by what depends, and its first columns.
    unsafe {
        dependencies(
            catalog::DEPEND_BY_DEPENDENT,
            [catalog::DEPENDENT_CLASS, catalog::DEPENDENT_OBJECT],
            [pg_sys::ProcedureRelationId, function],
            |row| {
                if row.referenced_class == catalog::LANGUAGE && row.kind as u8 == b'n' {
                    visit(row.referenced_part);
                }
            },
        );
    }
}

/// Writes a function's dependencies on the language of cached functions anew: on the whole, as the server writes it, and these parts.
pub fn write_parts_of_language(function: pg_sys::Oid, parts: &[i32]) {
    let address = |class, object, part| pg_sys::ObjectAddress {
        classId: class,
        objectId: object,
        objectSubId: part,
    };
    let own = address(pg_sys::ProcedureRelationId, function, 0);
    // SAFETY: inside a transaction that writes; both objects exist.
    unsafe {
        let language = pg_sys::get_language_oid(c"cached".as_ptr(), true);
        if language == pg_sys::InvalidOid {
            return;
        }
        pg_sys::deleteDependencyRecordsForClass(
            pg_sys::ProcedureRelationId,
            function,
            catalog::LANGUAGE,
            b'n' as _,
        );
        for part in std::iter::once(&0).chain(parts) {
            pg_sys::recordDependencyOn(
                &own,
                &address(catalog::LANGUAGE, language, *part),
                pg_sys::DependencyType::DEPENDENCY_NORMAL,
            );
        }
        pg_sys::CommandCounterIncrement();
    }
}

/// Rows of `pg_depend`.
///
/// # Safety
/// `index` is one of its indexes, `columns` the first two columns of that.
unsafe fn dependencies(
    index: pg_sys::Oid,
    columns: [u32; 2],
    values: [pg_sys::Oid; 2],
    mut visit: impl FnMut(&catalog::Depend),
) {
    // SAFETY: pg_depend and an index of it; the first columns are fixed.
    unsafe {
        let relation = pg_sys::table_open(catalog::DEPEND, pg_sys::AccessShareLock as _);
        let key = |column: u32, oid: pg_sys::Oid| {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                column as _,
                pg_sys::BTEqualStrategyNumber as _,
                pg_sys::F_OIDEQ.into(),
                pg_sys::Datum::from(oid),
            );
            key
        };
        let mut keys = [key(columns[0], values[0]), key(columns[1], values[1])];
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            true,
            std::ptr::null_mut(),
            2,
            keys.as_mut_ptr(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            visit(&*pg_sys::GETSTRUCT(tuple).cast::<catalog::Depend>());
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
    }
}

/// All rows of a catalog.
///
/// # Safety
/// `catalog` is a system catalog.
pub unsafe fn all_catalog_rows(catalog: pg_sys::Oid, visit: impl FnMut(pg_sys::HeapTuple)) {
    // SAFETY: the caller's.
    unsafe { rows_under(std::ptr::null_mut(), catalog, visit) }
}

/// All versions of all rows of a system catalog, those included that nobody sees.
///
/// # Safety
/// As for [`all_catalog_rows`].
pub unsafe fn all_versions(catalog: pg_sys::Oid, visit: impl FnMut(pg_sys::HeapTuple)) {
    // SAFETY: the caller's; a constant of the server.
    unsafe { rows_under(&raw mut pg_sys::SnapshotAnyData, catalog, visit) }
}

/// Whether this transaction has deleted or replaced a version of a row.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn is_replaced_here(head: &pg_sys::HeapTupleHeaderData) -> bool {
    let none = pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMAX_IS_MULTI | pg_sys::HEAP_XMAX_LOCK_ONLY;
    // SAFETY: the header of a row; reads the backend's state.
    unsafe {
        u32::from(head.t_infomask) & none == 0
            && pg_sys::TransactionIdIsCurrentTransactionId(head.t_choice.t_heap.t_xmax)
    }
}

unsafe fn rows_under(
    snapshot: pg_sys::Snapshot,
    catalog: pg_sys::Oid,
    mut visit: impl FnMut(pg_sys::HeapTuple),
) {
    // SAFETY: a plain systable scan; tuples are used only during the visit.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as _);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            visit(tuple);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
    }
}

/// Catalog rows whose column `column` equals `oid`, by an index, under the newest catalog snapshot.
///
/// # Safety
/// `catalog` and `index` are a system catalog and an index whose first column is `column`.
pub unsafe fn catalog_rows(
    catalog: pg_sys::Oid,
    index: pg_sys::Oid,
    column: u32,
    oid: pg_sys::Oid,
    mut visit: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc),
) {
    // SAFETY: a plain systable scan; tuples are used only during the visit.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as _);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            column as _,
            pg_sys::BTEqualStrategyNumber as _,
            pg_sys::F_OIDEQ.into(),
            pg_sys::Datum::from(oid),
        );
        let scan =
            pg_sys::systable_beginscan(relation, index, true, std::ptr::null_mut(), 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            visit(tuple, (*relation).rd_att);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
    }
}

/// Oids of a server list, which is freed.
///
/// # Safety
/// `list` is a list of oids, or NULL for an empty one.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: the caller's.
    unsafe {
        let oids = cells(list).iter().map(|cell| cell.oid_value).collect();
        pg_sys::list_free(list);
        oids
    }
}

/// The cells of a list of the server's, none of NULL.
///
/// # Safety
/// `list` is a list that outlives the cells, or NULL.
pub unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: the caller's list.
    unsafe { std::slice::from_raw_parts((*list).elements, (*list).length as usize) }
}
