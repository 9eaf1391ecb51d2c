//! Commands that change what functions mean: DDL, rights, policies, roles.
//!
//! Every such command marks the definitions of its database (or the cluster's roles) as written by its transaction, so nothing cached
//! in that database before is served to anyone who can see the change. That is coarse on purpose: which definitions a function rests
//! on (a policy of a table under a view, an operator of a type, a schema in the search path …) is a long list, and an entry served
//! after one of them changed would be a wrong answer. DDL is rare and a cache refills.
//!
//! The list below names the commands that cannot change a result; everything else marks. A command that a later version adds marks.

#![allow(unsafe_code)]

use super::{declared, relations, temporary, tracking};
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{CLUSTER_SLOT, Tag, definitions_slot, slot_of};
use pg_query_cache_validity::Effect;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// Whether a command adds a table to a partition or inheritance tree.
unsafe fn grows_tree(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the struct.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_CreateStmt => !(*statement.cast::<pg_sys::CreateStmt>())
                .inhRelations
                .is_null(),
            pg_sys::NodeTag::T_AlterTableStmt => {
                let commands = (*statement.cast::<pg_sys::AlterTableStmt>()).cmds;
                !commands.is_null()
                    && std::slice::from_raw_parts((*commands).elements, (*commands).length as usize)
                        .iter()
                        .any(|cell| {
                            let kind = (*cell.ptr_value.cast::<pg_sys::AlterTableCmd>()).subtype;
                            kind == pg_sys::AlterTableType::AT_AttachPartition
                                || kind == pg_sys::AlterTableType::AT_AddInherit
                        })
            }
            _ => false,
        }
    }
}

/// A tree that was tracked stays tracked when it gets a new member. If that cannot be (a foreign table), the tree is not tracked any
/// more and its readers are no longer stored.
unsafe fn track_new_member(statement: *mut pg_sys::Node) {
    // SAFETY: the parse tree of the command, one of the two kinds.
    let relation = unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_CreateStmt => {
                range_var((*statement.cast::<pg_sys::CreateStmt>()).relation)
            }
            _ => range_var((*statement.cast::<pg_sys::AlterTableStmt>()).relation),
        }
    };
    let Some(relation) = relation else { return };
    // SAFETY: the catalog rows of the command become visible.
    unsafe { pg_sys::CommandCounterIncrement() };
    let key_columns: Vec<Vec<String>> = relations::roots(relation)
        .into_iter()
        .map(relations::triggers)
        .filter(|triggers| triggers.statement)
        .map(|triggers| triggers.key_columns)
        .collect();
    for columns in key_columns {
        let _ = tracking::track(relation, &columns);
    }
}

/// Runs `body`, whose commands do not mark the definitions: what they concern is marked by the caller.
pub fn without_marking<R>(body: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            QUIET.set(QUIET.get() - 1);
        }
    }
    QUIET.set(QUIET.get() + 1);
    let _restore = Restore;
    body()
}

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    pstmt: *mut pg_sys::PlannedStmt,
    query: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server's arguments, passed on as they are; no value with a destructor is alive in this frame.
    unsafe {
        let statement = (*pstmt).utilityStmt;
        let change = guarded(|| {
            let change = before(statement);
            crate::worker::hold::before(statement);
            change
        });
        match PREVIOUS {
            Some(previous) => {
                previous(pstmt, query, read_only_tree, context, params, env, dest, qc)
            }
            None => server::standard_ProcessUtility(
                pstmt,
                query,
                read_only_tree,
                context,
                params,
                env,
                dest,
                qc,
            ),
        }
        if change != Change::Nothing {
            guarded(|| after(change, statement));
        }
    }
}

/// What a command changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing that a cached result could rest on.
    Nothing,
    /// Temporary objects of this session only.
    Temporary,
    /// Definitions in this database.
    Definitions,
    /// Roles and memberships.
    Roles,
    /// The name or owner of something that the cluster shares, or of anything else.
    Names,
    /// The contents of one materialized view.
    Contents(pg_sys::Oid),
}

unsafe fn before(statement: *mut pg_sys::Node) -> Change {
    // SAFETY: the parse tree of the command.
    let (change, looks_only) = unsafe { (change(statement), looks_only(statement)) };
    if !looks_only {
        frames::refuse(Reason::Writes);
    }
    if change != Change::Nothing {
        temporary::command_ran();
        // SAFETY: the parse tree of the command.
        unsafe { keep_writers_away(statement) };
        register(change);
    }
    change
}

/// What has to be looked at again once the command has run: planning it can have called cached functions, which have asked for
/// temporary objects before there were any; and the name of a materialized view can have changed hands while REFRESH waited.
unsafe fn after(change: Change, statement: *mut pg_sys::Node) {
    temporary::command_ran();
    // SAFETY: a variable of the backend; a command that ends its own transactions (VACUUM, CLUSTER) is of no concern here.
    if !unsafe { pg_sys::IsTransactionState() } {
        return;
    }
    if let Change::Contents(_) = change {
        // SAFETY: the parse tree of the command. REFRESH still holds its lock, so the name means what was refreshed.
        let refreshed = unsafe { self::change(statement) };
        if refreshed != change {
            register(refreshed);
        }
    }
    // SAFETY: the parse tree of the command.
    unsafe {
        if grows_tree(statement) {
            track_new_member(statement);
        }
    }
}

/// A change of inheritance changes the tops of trees, under which writes are marked, for all that lies below. The server locks the
/// table alone; writers of the tables below it, which have marked the old tops, have to end first. (For partitions the server
/// itself locks all that lies below.)
unsafe fn keep_writers_away(statement: *mut pg_sys::Node) {
    // SAFETY: the tag tells the struct; the list holds commands of ALTER TABLE.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_AlterTableStmt {
            return;
        }
        let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
        if alter.cmds.is_null() {
            return;
        }
        let cells =
            std::slice::from_raw_parts((*alter.cmds).elements, (*alter.cmds).length as usize);
        let concerned = cells.iter().any(|cell| {
            matches!(
                (*cell.ptr_value.cast::<pg_sys::AlterTableCmd>()).subtype,
                pg_sys::AlterTableType::AT_AddInherit | pg_sys::AlterTableType::AT_DropInherit
            )
        });
        if !concerned {
            return;
        }
        let table = pg_sys::RangeVarGetRelidExtended(
            alter.relation,
            pg_sys::AccessExclusiveLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            Some(must_own),
            std::ptr::null_mut(),
        );
        if table != pg_sys::InvalidOid {
            server::find_all_inheritors(
                table,
                pg_sys::ShareRowExclusiveLock as i32,
                std::ptr::null_mut(),
            );
        }
    }
}

/// Refuses to lock somebody else's table, in the server's words.
unsafe extern "C-unwind" fn must_own(
    range: *const pg_sys::RangeVar,
    table: pg_sys::Oid,
    _before: pg_sys::Oid,
    _argument: *mut std::ffi::c_void,
) {
    // SAFETY: called by the server while it looks the name up; aclcheck_error raises.
    unsafe {
        if table != pg_sys::InvalidOid && !pg_sys::pg_class_ownercheck(table, server::GetUserId()) {
            pg_sys::aclcheck_error(
                pg_sys::AclResult::ACLCHECK_NOT_OWNER,
                pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(table)),
                (*range).relname,
            );
        }
    }
}

/// Registers the present transaction under what a command changes.
fn register(change: Change) {
    // SAFETY: a variable of the backend.
    let may_write = unsafe { !server::RecoveryInProgress() && pg_sys::IsTransactionState() };
    if change == Change::Temporary || QUIET.get() > 0 || !may_write {
        return;
    }
    let Some(area) = area() else { return };
    // SAFETY: a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    match change {
        Change::Definitions => mark(area, &[definitions_slot(database)]),
        // Memberships decide what a role may do in every database.
        Change::Roles => mark(area, &[CLUSTER_SLOT]),
        Change::Names => mark(area, &[CLUSTER_SLOT, definitions_slot(database)]),
        Change::Contents(view) => {
            let slot = |tag| slot_of(database, tag, area.layout.slots);
            mark(
                area,
                &[slot(Tag::Relation(view)), slot(Tag::WholeRelation(view))],
            );
        }
        Change::Nothing | Change::Temporary => (),
    }
}

fn mark(area: Area, slots: &[u32]) {
    // SAFETY: inside a transaction that may write (checked by the caller).
    let xid = unsafe { assign_xid() };
    crate::transaction::prepare(area);
    for slot in slots {
        own::register(&area.slots(), *slot, xid, Effect::AtCommit);
    }
}

/// Marks all results of the present database as invalid from the commit of this transaction on.
pub fn mark_database(area: Area) {
    // SAFETY: a variable of the backend.
    mark(area, &[definitions_slot(unsafe { pg_sys::MyDatabaseId })]);
}

/// Whether a command does nothing but look, so that a function that runs it can be cached.
unsafe fn looks_only(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    matches!(
        unsafe { (*statement).type_ },
        T_ExplainStmt | T_FetchStmt | T_VariableShowStmt
    )
}

unsafe fn change(statement: *mut pg_sys::Node) -> Change {
    use pg_sys::NodeTag::*;
    // SAFETY: the tag tells the struct.
    unsafe {
        match (*statement).type_ {
            T_TransactionStmt
            | T_DeclareCursorStmt
            | T_ClosePortalStmt
            | T_FetchStmt
            | T_PrepareStmt
            | T_ExecuteStmt
            | T_DeallocateStmt
            | T_CopyStmt
            | T_ExplainStmt
            | T_VariableSetStmt
            | T_VariableShowStmt
            | T_LockStmt
            | T_ListenStmt
            | T_UnlistenStmt
            | T_NotifyStmt
            | T_CheckPointStmt
            | T_VacuumStmt
            | T_LoadStmt
            | T_DoStmt
            | T_CallStmt
            | T_ConstraintsSetStmt
            | T_TruncateStmt
            | T_IndexStmt
            | T_ReindexStmt
            | T_ClusterStmt
            | T_CommentStmt
            | T_CreateStatsStmt
            | T_AlterStatsStmt
            | T_AlterSystemStmt
            | T_CreatedbStmt
            | T_DropdbStmt
            | T_ReplicaIdentityStmt
            | T_CreatePublicationStmt
            | T_AlterPublicationStmt
            | T_CreateSubscriptionStmt
            | T_AlterSubscriptionStmt
            | T_DropSubscriptionStmt
            | T_CreateTableSpaceStmt
            | T_DropTableSpaceStmt => Change::Nothing,
            T_DiscardStmt => Change::Temporary,
            T_CreateRoleStmt | T_AlterRoleStmt | T_AlterRoleSetStmt | T_DropRoleStmt
            | T_GrantRoleStmt => Change::Roles,
            T_RenameStmt | T_AlterOwnerStmt | T_AlterDatabaseStmt | T_AlterDatabaseSetStmt => {
                Change::Names
            }
            T_RefreshMatViewStmt => {
                let view = &*statement.cast::<pg_sys::RefreshMatViewStmt>();
                range_var(view.relation).map_or(Change::Definitions, Change::Contents)
            }
            T_CreateStmt => {
                let create = &*statement.cast::<pg_sys::CreateStmt>();
                temporary_or_definitions(&(*create.relation))
            }
            T_CreateTableAsStmt => {
                let create = &*statement.cast::<pg_sys::CreateTableAsStmt>();
                temporary_or_definitions(&*(*create.into).rel)
            }
            T_CreateSeqStmt => {
                let create = &*statement.cast::<pg_sys::CreateSeqStmt>();
                temporary_or_definitions(&*create.sequence)
            }
            T_ViewStmt => temporary_or_definitions(&*(*statement.cast::<pg_sys::ViewStmt>()).view),
            T_AlterTableStmt => {
                let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
                if range_var(alter.relation).is_some_and(is_temporary) {
                    Change::Temporary
                } else {
                    Change::Definitions
                }
            }
            T_DropStmt => {
                let drop = &*statement.cast::<pg_sys::DropStmt>();
                if drop.removeType == pg_sys::ObjectType::OBJECT_TABLE && drops_temporary_only(drop)
                {
                    Change::Temporary
                } else {
                    Change::Definitions
                }
            }
            _ => Change::Definitions,
        }
    }
}

unsafe fn temporary_or_definitions(relation: &pg_sys::RangeVar) -> Change {
    let in_temporary_schema = !relation.schemaname.is_null()
        // SAFETY: a C string of the parse tree.
        && unsafe { CStr::from_ptr(relation.schemaname) } == c"pg_temp";
    if relation.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP || in_temporary_schema {
        Change::Temporary
    } else {
        Change::Definitions
    }
}

unsafe fn range_var(relation: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    // SAFETY: a name of the parse tree, looked up without a lock; may be missing.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            relation,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

fn is_temporary(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup of an existing relation.
    unsafe { pg_sys::get_rel_persistence(relation) as u8 == pg_sys::RELPERSISTENCE_TEMP }
}

unsafe fn drops_temporary_only(drop: &pg_sys::DropStmt) -> bool {
    // SAFETY: a list of names, each a list of strings.
    unsafe {
        let cells =
            std::slice::from_raw_parts((*drop.objects).elements, (*drop.objects).length as usize);
        cells.iter().all(|cell| {
            let name = pg_sys::makeRangeVarFromNameList(cell.ptr_value.cast());
            range_var(name).is_some_and(is_temporary)
        })
    }
}

/// A statement that changes rows of a system catalog directly: the definitions change without any command.
pub fn catalog_written() {
    if let Some(area) = area() {
        mark_database(area);
        mark(area, &[CLUSTER_SLOT]);
    }
}

/// Roots under which `relation`'s writes are marked, by name; for `invalidate_cache_table`.
pub fn mark_relation(area: Area, relation: pg_sys::Oid) {
    // SAFETY: a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    let slot = |tag| slot_of(database, tag, area.layout.slots);
    let slots: Vec<u32> = relations::roots(relation)
        .into_iter()
        .flat_map(|root| [slot(Tag::Relation(root)), slot(Tag::WholeRelation(root))])
        .collect();
    mark(area, &slots);
}

/// Marks all results of a cached function as invalid.
pub fn mark_function(area: Area, function: pg_sys::Oid) {
    // SAFETY: a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    mark(
        area,
        &[slot_of(
            database,
            Tag::Function(function),
            area.layout.slots,
        )],
    );
}

/// Marks all results with one of the tags as invalid.
pub fn mark_tags(area: Area, tags: impl Iterator<Item = String>) {
    // SAFETY: a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    let slots: Vec<u32> = tags
        .map(|tag| slot_of(database, Tag::Named(&declared::cut(tag)), area.layout.slots))
        .collect();
    mark(area, &slots);
}
