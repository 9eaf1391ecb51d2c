//! What each command of SQL can change of the results of functions.
//!
//! The list names the commands that cannot change a result; everything else changes definitions. A command that a later version of
//! PostgreSQL adds is therefore taken for one that does.

#![allow(unsafe_code)]

use crate::gate::Owed;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What a command changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that a cached result could rest on.
    Nothing,
    /// Temporary objects of this session only.
    Temporary,
    /// Definitions in this database.
    Definitions,
    /// Roles and memberships.
    Roles,
    /// The name, owner or rights of something that the cluster shares, or of anything else.
    Names,
    /// The contents of one materialized view.
    Contents(pg_sys::Oid),
}

/// What a command changes, by its kind alone: nothing is looked up, and in doubt it is more. For a command behind a closed gate.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn owed(statement: *mut pg_sys::Node) -> Owed {
    use pg_sys::NodeTag::*;
    // SAFETY: the caller's; the kinds that a lookup would tell apart are dealt with here.
    unsafe {
        match (*statement).type_ {
            T_RefreshMatViewStmt | T_AlterTableStmt | T_IndexStmt | T_DropStmt => Owed::DEFINITIONS,
            T_RenameStmt => owed_for((*statement.cast::<pg_sys::RenameStmt>()).renameType),
            T_AlterOwnerStmt => owed_for((*statement.cast::<pg_sys::AlterOwnerStmt>()).objectType),
            _ => match change(statement) {
                Change::Nothing | Change::Temporary => Owed::NOTHING,
                Change::Definitions | Change::Contents(_) => Owed::DEFINITIONS,
                Change::Roles => Owed::CLUSTER,
                Change::Names => Owed::BOTH,
            },
        }
    }
}

/// What a new name or owner of an object changes: what the cluster shares for objects that it shares.
fn owed_for(kind: pg_sys::ObjectType::Type) -> Owed {
    use pg_sys::ObjectType::*;
    match kind {
        OBJECT_ROLE | OBJECT_DATABASE | OBJECT_TABLESPACE | OBJECT_SUBSCRIPTION => Owed::BOTH,
        _ => Owed::DEFINITIONS,
    }
}

/// Whether a command makes extensions, this one perhaps.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn creates_extension(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: every node has a tag.
    unsafe { (*statement).type_ == pg_sys::NodeTag::T_CreateExtensionStmt }
}

/// Whether a command does nothing but look, so that a function that runs it can be cached.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn looks_only(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    let tag = unsafe { (*statement).type_ };
    matches!(tag, T_ExplainStmt | T_FetchStmt | T_VariableShowStmt)
}

/// Whether a command refuses to run in a transaction that has an id already. It ends transactions on its way, so what it changes can
/// be marked when it has run: in the last of them, which is the one that removes the index.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn comes_first(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the struct.
    unsafe {
        (*statement).type_ == pg_sys::NodeTag::T_DropStmt
            && (*statement.cast::<pg_sys::DropStmt>()).concurrent
    }
}

/// Whether a command is COMMIT PREPARED.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn commits_prepared(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the struct.
    unsafe {
        (*statement).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*statement.cast::<pg_sys::TransactionStmt>()).kind
                == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

/// What a command changes.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn change(statement: *mut pg_sys::Node) -> Change {
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
            T_ExplainStmt => executed_by_explain(&*statement.cast())
                .map_or(Change::Nothing, |inner| change(inner)),
            T_DiscardStmt => Change::Temporary,
            T_CreateRoleStmt | T_AlterRoleStmt | T_AlterRoleSetStmt | T_DropRoleStmt
            | T_GrantRoleStmt => Change::Roles,
            T_RenameStmt
            | T_AlterOwnerStmt
            | T_DropOwnedStmt
            | T_ReassignOwnedStmt
            | T_AlterDatabaseStmt
            | T_AlterDatabaseSetStmt => Change::Names,
            T_GrantStmt => match (*statement.cast::<pg_sys::GrantStmt>()).objtype {
                pg_sys::ObjectType::OBJECT_DATABASE
                | pg_sys::ObjectType::OBJECT_TABLESPACE
                | pg_sys::ObjectType::OBJECT_PARAMETER_ACL => Change::Names,
                _ => Change::Definitions,
            },
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
            // An index has a name among those of tables.
            T_IndexStmt => {
                let index = &*statement.cast::<pg_sys::IndexStmt>();
                if range_var(index.relation).is_some_and(is_temporary) {
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

/// The command that EXPLAIN ANALYZE carries out, if it is one: CREATE TABLE AS.
unsafe fn executed_by_explain(explain: &pg_sys::ExplainStmt) -> Option<*mut pg_sys::Node> {
    // SAFETY: options are a list of DefElem; the query has been analysed when the command is run.
    unsafe {
        let options = match explain.options.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(
                (*explain.options).elements,
                (*explain.options).length as usize,
            ),
        };
        let analyze = options.iter().any(|cell| {
            let option = cell.ptr_value.cast::<pg_sys::DefElem>();
            CStr::from_ptr((*option).defname) == c"analyze" && pg_sys::defGetBoolean(option)
        });
        if !analyze || (*explain.query).type_ != pg_sys::NodeTag::T_Query {
            return None;
        }
        let command = (*explain.query.cast::<pg_sys::Query>()).utilityStmt;
        (!command.is_null()).then_some(command)
    }
}

/// The relation that a command is about, if its parse tree says so and it exists.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn relation(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag::*;
    // SAFETY: the tag tells the struct.
    unsafe {
        let name = match (*statement).type_ {
            T_RefreshMatViewStmt => (*statement.cast::<pg_sys::RefreshMatViewStmt>()).relation,
            T_AlterTableStmt => (*statement.cast::<pg_sys::AlterTableStmt>()).relation,
            T_CreateTrigStmt => (*statement.cast::<pg_sys::CreateTrigStmt>()).relation,
            T_CreatePolicyStmt => (*statement.cast::<pg_sys::CreatePolicyStmt>()).table,
            T_AlterPolicyStmt => (*statement.cast::<pg_sys::AlterPolicyStmt>()).table,
            _ => std::ptr::null_mut(),
        };
        (!name.is_null()).then(|| range_var(name)).flatten()
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

/// The relation that a name means now, without a lock.
///
/// # Safety
/// `relation` is a name of a parse tree.
pub unsafe fn range_var(relation: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
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
