//! What each command of SQL can change of the results of functions.
//!
//! The lists name the commands that cannot change a result, those that concern this session or this database only, and those that concern
//! one other database; everything else changes the definitions of this database, or those of the whole cluster. A command that a later
//! version of PostgreSQL adds is therefore taken for one that does.
//!
//! Settings of roles and databases (`ALTER ROLE … SET`, `ALTER DATABASE … SET`) reach sessions that begin later, by the values that are
//! part of their keys. Rights on databases, tablespaces and parameters are seen by functions only that are not stored
//! (`session::Reads::OUTSIDE`), and so are large objects. Default privileges are those of objects that are not there yet; what an object
//! goes with when an extension is dropped changes nothing before.

#![allow(unsafe_code)]

use super::touched;
use crate::compat::{self, catalog};
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
    /// Name or owner of a database: definitions there ([`databases`]).
    Database,
    /// Owners: definitions in this database, and in those whose owner changes ([`databases`]).
    Owners,
    /// Roles, memberships, and what else all databases share.
    Cluster,
    /// Definitions in this database, and what all databases share.
    Everything,
    /// The contents of one materialized view.
    Contents(pg_sys::Oid),
}

/// What a command changes, by its kind alone: nothing is looked up, and in doubt it is more. For a command behind a closed gate. What it
/// changes of other databases [`databases`] says.
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
                Change::Definitions | Change::Owners | Change::Contents(_) => Owed::DEFINITIONS,
                Change::Database => Owed::NOTHING,
                Change::Cluster => Owed::CLUSTER,
                Change::Everything => Owed::BOTH,
            },
        }
    }
}

/// What a new name or owner of an object changes: what the cluster shares for objects that it shares.
fn owed_for(kind: pg_sys::ObjectType::Type) -> Owed {
    use pg_sys::ObjectType::*;
    match kind {
        OBJECT_DATABASE => Owed::NOTHING,
        OBJECT_ROLE | OBJECT_TABLESPACE | OBJECT_SUBSCRIPTION => Owed::BOTH,
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

/// What a command is about to change.
///
/// # Safety
/// `statement` is the parse tree of a command; inside a transaction that may look at catalogs.
pub unsafe fn change_here(statement: *mut pg_sys::Node) -> Change {
    // SAFETY: the caller's.
    unsafe {
        match change(statement) {
            Change::Owners if databases(statement).is_empty() => Change::Definitions,
            change => change,
        }
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
            | T_ClusterStmt
            | T_CommentStmt
            | T_AlterDefaultPrivilegesStmt
            | T_AlterObjectDependsStmt
            | T_CreateStatsStmt
            | T_AlterStatsStmt
            | T_AlterSystemStmt
            | T_AlterRoleSetStmt
            | T_AlterDatabaseStmt
            | T_AlterDatabaseSetStmt
            | T_CreatedbStmt
            | T_DropdbStmt
            | T_ReplicaIdentityStmt
            | T_CreatePublicationStmt
            | T_AlterPublicationStmt
            | T_CreateSubscriptionStmt
            | T_AlterSubscriptionStmt
            | T_DropSubscriptionStmt
            // By which name foreign tables are read, which are never tracked.
            | T_CreateUserMappingStmt
            | T_AlterUserMappingStmt
            | T_DropUserMappingStmt
            | T_CreateTableSpaceStmt
            | T_DropTableSpaceStmt => Change::Nothing,
            // It gives the index another oid.
            T_ReindexStmt if is_concurrent(&*statement.cast()) => Change::Definitions,
            T_ReindexStmt => Change::Nothing,
            T_ExplainStmt => executed_by_explain(&*statement.cast())
                .map_or(Change::Nothing, |inner| change(inner)),
            T_DiscardStmt => Change::Temporary,
            T_CreateRoleStmt | T_DropRoleStmt | T_GrantRoleStmt => Change::Cluster,
            T_AlterRoleStmt => match changes_login_only(&*statement.cast()) {
                true => Change::Nothing,
                false => Change::Cluster,
            },
            T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                match rename.renameType {
                    pg_sys::ObjectType::OBJECT_DATABASE => Change::Database,
                    kind => change_of_kind(kind),
                }
            }
            T_AlterOwnerStmt => {
                let alter = &*statement.cast::<pg_sys::AlterOwnerStmt>();
                match alter.objectType {
                    // Its owner is the one member of pg_database_owner there.
                    pg_sys::ObjectType::OBJECT_DATABASE => Change::Database,
                    pg_sys::ObjectType::OBJECT_LARGEOBJECT => Change::Nothing,
                    kind => change_of_kind(kind),
                }
            }
            // From version 16 on it revokes memberships too.
            T_DropOwnedStmt if pg_sys::PG_VERSION_NUM < 160_000 => Change::Definitions,
            T_DropOwnedStmt => Change::Everything,
            T_ReassignOwnedStmt => Change::Owners,
            T_GrantStmt => match (*statement.cast::<pg_sys::GrantStmt>()).objtype {
                pg_sys::ObjectType::OBJECT_DATABASE
                | pg_sys::ObjectType::OBJECT_TABLESPACE
                | pg_sys::ObjectType::OBJECT_PARAMETER_ACL
                | pg_sys::ObjectType::OBJECT_LARGEOBJECT => Change::Nothing,
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
            T_CreateForeignTableStmt => {
                let create = &*statement.cast::<pg_sys::CreateForeignTableStmt>();
                temporary_or_definitions(&*create.base.relation)
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
            _ => Change::Definitions,
        }
    }
}

/// Whether REINDEX is to be done CONCURRENTLY, whatever value is given.
unsafe fn is_concurrent(reindex: &pg_sys::ReindexStmt) -> bool {
    // SAFETY: options are a list of DefElem.
    unsafe {
        cells(reindex.params).iter().any(|cell| {
            let name = CStr::from_ptr((*cell.ptr_value.cast::<pg_sys::DefElem>()).defname);
            name.to_bytes() == b"concurrently"
        })
    }
}

/// Whether a command that says that what it makes is temporary can touch nothing that others have.
///
/// # Safety
/// `statement` is the parse tree of a command whose change is [`Change::Temporary`].
pub unsafe fn makes_temporary_only(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    let tag = unsafe { (*statement).type_ };
    matches!(
        tag,
        T_CreateStmt
            | T_CreateForeignTableStmt
            | T_CreateTableAsStmt
            | T_CreateSeqStmt
            | T_IndexStmt
    )
}

/// Whether the objects that a command touched can show that it concerned this session only. Commands are named that the server tells all
/// about: CREATE OPERATOR, for one, changes the operator that it names as its commutator, and says nothing of it. DROP OWNED says
/// nothing of rights: see [`revoked_nothing`].
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn tells_what_it_touches(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    let tag = unsafe { (*statement).type_ };
    matches!(
        tag,
        T_CreateStmt
            | T_CreateForeignTableStmt
            | T_CreateTableAsStmt
            | T_CreateSeqStmt
            | T_ViewStmt
            | T_AlterTableStmt
            | T_IndexStmt
            | T_CreateTrigStmt
            | T_RuleStmt
            | T_CreatePolicyStmt
            | T_AlterPolicyStmt
            | T_CreateFunctionStmt
            | T_AlterFunctionStmt
            | T_CompositeTypeStmt
            | T_CreateEnumStmt
            | T_AlterEnumStmt
            | T_CreateDomainStmt
            | T_AlterDomainStmt
            | T_RenameStmt
            | T_AlterOwnerStmt
            | T_AlterObjectSchemaStmt
            | T_DropStmt
            | T_DiscardStmt
            | T_CreateConversionStmt
            | T_AlterTSDictionaryStmt
            | T_AlterTSConfigurationStmt
            | T_AlterCollationStmt
            | T_AlterOperatorStmt
            | T_CreateRangeStmt
            | T_CreateCastStmt
            | T_CreateTransformStmt
            | T_ReassignOwnedStmt
            | T_DropOwnedStmt // SAFETY: the tag tells the struct.
    ) || tag == T_DefineStmt && unsafe { defines_alone(&*statement.cast()) }
}

/// Whether what is defined leaves everything else as it is.
unsafe fn defines_alone(define: &pg_sys::DefineStmt) -> bool {
    // SAFETY: options are a list of DefElem.
    unsafe {
        cells(define.definition).iter().all(|cell| {
            let name = CStr::from_ptr((*cell.ptr_value.cast::<pg_sys::DefElem>()).defname);
            !name.to_bytes().eq_ignore_ascii_case(b"commutator")
                && !name.to_bytes().eq_ignore_ascii_case(b"negator")
        })
    }
}

/// Whether a command that has run has revoked nothing of concern unheard: DROP OWNED tells of what it drops, not of rights. Of those that
/// it has revoked a row of pg_shdepend tells that this transaction has deleted. (What was granted before it ran need not be what it
/// found.)
///
/// # Safety
/// `statement` is the parse tree of a command that has run.
pub unsafe fn revoked_nothing(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: every node has a tag; all rows of a catalog, deleted ones too, which nobody removes while their transaction runs.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_DropOwnedStmt {
            return true;
        }
        let mut revoked = Vec::new();
        compat::all_versions(catalog::SHARED_DEPEND, |tuple| {
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<catalog::SharedDepend>();
            let right =
                row.refclassid == pg_sys::AuthIdRelationId && row.deptype as u8 != catalog::OWNER;
            if right && compat::is_replaced_here(&*(*tuple).t_data) {
                revoked.push((row.classid, row.objid));
            }
        });
        // What is gone was dropped, and told of.
        revoked.into_iter().all(|object| {
            touched::concerns_nobody(object) || is_gone(object) || touched::is_temporary(object)
        })
    }
}

/// Whether an object is not there any more.
unsafe fn is_gone((class, object): (pg_sys::Oid, pg_sys::Oid)) -> bool {
    let none = || pg_sys::Datum::from(0);
    // SAFETY: a syscache lookup, if the class has a cache by oid.
    unsafe {
        let cache = pg_sys::get_object_catcache_oid(class);
        let object = pg_sys::Datum::from(object);
        cache >= 0 && !pg_sys::SearchSysCacheExists(cache, object, none(), none(), none())
    }
}

/// Whether a command that told of nothing was DROP OWNED, and has revoked nothing of concern.
///
/// # Safety
/// As for [`revoked_nothing`].
pub unsafe fn revoked_at_most(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller's.
    unsafe { (*statement).type_ == pg_sys::NodeTag::T_DropOwnedStmt && revoked_nothing(statement) }
}

/// Whether a command that the server tells nothing about has run on temporary objects only: GRANT, REVOKE and ALTER SEQUENCE.
///
/// # Safety
/// `statement` is the parse tree of a command that has run.
pub unsafe fn names_temporary_only(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::ObjectType::*;
    // SAFETY: the tag tells the struct, and the kind what the list holds; names are looked up that the command has just found.
    unsafe {
        let is_temporary_relation = |name: *mut pg_sys::RangeVar| {
            range_var(name)
                .is_some_and(|oid| touched::is_temporary((pg_sys::RelationRelationId, oid)))
        };
        match (*statement).type_ {
            pg_sys::NodeTag::T_AlterSeqStmt => {
                let alter = &*statement.cast::<pg_sys::AlterSeqStmt>();
                return is_temporary_relation(alter.sequence);
            }
            pg_sys::NodeTag::T_GrantStmt => (),
            _ => return false,
        }
        let grant = &*statement.cast::<pg_sys::GrantStmt>();
        if grant.targtype != pg_sys::GrantTargetType::ACL_TARGET_OBJECT || grant.objects.is_null() {
            return false;
        }
        cells(grant.objects).iter().all(|cell| match grant.objtype {
            OBJECT_TABLE | OBJECT_SEQUENCE => is_temporary_relation(cell.ptr_value.cast()),
            OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE => {
                let function =
                    pg_sys::LookupFuncWithArgs(grant.objtype, cell.ptr_value.cast(), true);
                touched::is_temporary((pg_sys::ProcedureRelationId, function))
            }
            OBJECT_TYPE | OBJECT_DOMAIN => {
                let name = pg_sys::makeTypeNameFromNameList(cell.ptr_value.cast());
                let type_id = pg_sys::LookupTypeNameOid(std::ptr::null_mut(), name, true);
                touched::is_temporary((pg_sys::TypeRelationId, type_id))
            }
            _ => false,
        })
    }
}

unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list of the parse tree, or NIL.
    unsafe {
        match list.is_null() {
            true => &[],
            false => std::slice::from_raw_parts((*list).elements, (*list).length as usize),
        }
    }
}

/// The databases whose name or owner a command is about to change.
///
/// # Safety
/// `statement` is the parse tree of a command, which has not run; inside a transaction that may look at catalogs.
pub unsafe fn databases(statement: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    use pg_sys::NodeTag::*;
    let is_database = |kind| kind == pg_sys::ObjectType::OBJECT_DATABASE;
    // SAFETY: the tag tells the struct; names of the parse tree, of databases that need not exist.
    unsafe {
        let name = match (*statement).type_ {
            T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                is_database(rename.renameType).then_some(rename.subname.cast_const())
            }
            T_AlterOwnerStmt => {
                let alter = &*statement.cast::<pg_sys::AlterOwnerStmt>();
                is_database(alter.objectType)
                    .then(|| (*alter.object.cast::<pg_sys::String>()).sval.cast_const())
            }
            T_ReassignOwnedStmt => {
                return owned_by((*statement.cast::<pg_sys::ReassignOwnedStmt>()).roles);
            }
            _ => None,
        };
        name.map(|name| pg_sys::get_database_oid(name, true))
            .filter(|database| *database != pg_sys::InvalidOid)
            .into_iter()
            .collect()
    }
}

/// The databases that belong to any of these roles.
unsafe fn owned_by(roles: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    let mut owned = Vec::new();
    // SAFETY: a list of role specifications, which may name none; all of pg_database.
    unsafe {
        let roles: Vec<pg_sys::Oid> = cells(roles)
            .iter()
            .map(|cell| pg_sys::get_rolespec_oid(cell.ptr_value.cast(), true))
            .collect();
        compat::all_catalog_rows(pg_sys::DatabaseRelationId, |tuple| {
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if roles.contains(&row.datdba) {
                owned.push(row.oid);
            }
        });
    }
    owned
}

/// What changes with the name or owner of an object of a kind. Kinds are named that a database has for itself.
fn change_of_kind(kind: pg_sys::ObjectType::Type) -> Change {
    use pg_sys::ObjectType::*;
    match kind {
        OBJECT_ACCESS_METHOD
        | OBJECT_AGGREGATE
        | OBJECT_ATTRIBUTE
        | OBJECT_COLLATION
        | OBJECT_COLUMN
        | OBJECT_CONVERSION
        | OBJECT_DOMAIN
        | OBJECT_DOMCONSTRAINT
        | OBJECT_EVENT_TRIGGER
        | OBJECT_EXTENSION
        | OBJECT_FDW
        | OBJECT_FOREIGN_SERVER
        | OBJECT_FOREIGN_TABLE
        | OBJECT_FUNCTION
        | OBJECT_INDEX
        | OBJECT_LANGUAGE
        | OBJECT_MATVIEW
        | OBJECT_OPCLASS
        | OBJECT_OPERATOR
        | OBJECT_OPFAMILY
        | OBJECT_POLICY
        | OBJECT_PROCEDURE
        | OBJECT_PUBLICATION
        | OBJECT_ROUTINE
        | OBJECT_RULE
        | OBJECT_SCHEMA
        | OBJECT_SEQUENCE
        | OBJECT_STATISTIC_EXT
        | OBJECT_SUBSCRIPTION
        | OBJECT_TABCONSTRAINT
        | OBJECT_TABLE
        | OBJECT_TRIGGER
        | OBJECT_TSCONFIGURATION
        | OBJECT_TSDICTIONARY
        | OBJECT_TSPARSER
        | OBJECT_TSTEMPLATE
        | OBJECT_TYPE
        | OBJECT_USER_MAPPING
        | OBJECT_VIEW => Change::Definitions,
        _ => Change::Everything,
    }
}

/// Whether ALTER ROLE changes nothing but how the role logs in. Everybody may change their own password.
unsafe fn changes_login_only(alter: &pg_sys::AlterRoleStmt) -> bool {
    // SAFETY: options are a list of DefElem.
    unsafe {
        cells(alter.options).iter().all(|cell| {
            let name = CStr::from_ptr((*cell.ptr_value.cast::<pg_sys::DefElem>()).defname);
            [c"password", c"connectionlimit", c"validUntil"].contains(&name)
        })
    }
}

/// The command that EXPLAIN ANALYZE carries out, if it is one: CREATE TABLE AS.
unsafe fn executed_by_explain(explain: &pg_sys::ExplainStmt) -> Option<*mut pg_sys::Node> {
    // SAFETY: options are a list of DefElem; the query has been analysed when the command is run.
    unsafe {
        let analyze = cells(explain.options).iter().any(|cell| {
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
