//! Commands that change partition and inheritance trees, whose tops are what writes are marked under.

#![allow(unsafe_code)]

use super::commands::range_var;
use super::{relations, tracking};
use crate::attempt::attempt;
use crate::error::message_of;
use crate::naming;
use crate::server;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Whether a command adds a table to a partition or inheritance tree.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn grows_tree(statement: *mut pg_sys::Node) -> bool {
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
/// more and its readers are no longer stored. The command itself stands, whatever comes of this.
///
/// # Safety
/// `statement` is the parse tree of a command for which [`grows_tree`] is true.
pub unsafe fn track_new_member(statement: *mut pg_sys::Node) {
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
        if let Err(error) = attempt(|| tracking::track_below(relation, &columns)) {
            let name = naming::relation_name(relation).unwrap_or_default();
            crate::error::tell(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                &format!(
                    "could not track relation \"{name}\": {}",
                    message_of(&error)
                ),
                crate::error::Besides::Detail(
                    "Results that read its partition or inheritance tree are not cached any more.",
                ),
            );
        }
    }
}

/// A change of inheritance changes the tops of trees, under which writes are marked, for all that lies below. The server locks the
/// table alone; writers of the tables below it, which have marked the old tops, have to end first. (For partitions the server
/// itself locks all that lies below.)
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn keep_writers_away(statement: *mut pg_sys::Node) {
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
        if let Some(table) = lock_own(alter.relation) {
            server::find_all_inheritors(
                table,
                pg_sys::ShareRowExclusiveLock as i32,
                std::ptr::null_mut(),
            );
        }
    }
}

/// Locks the table that a name means as the command itself will, if it is the caller's. If it is not, or is one of the server's own, the
/// command says so itself, before it locks anything.
unsafe fn lock_own(name: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    const LOCK: pg_sys::LOCKMODE = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: the caller's name of a parse tree; catalog lookups.
    unsafe {
        loop {
            let table = range_var(name)?;
            if table.to_u32() < pg_sys::FirstNormalObjectId
                || !pg_sys::pg_class_ownercheck(table, server::GetUserId())
            {
                return None;
            }
            pg_sys::LockRelationOid(table, LOCK);
            // The name may have come to mean another table while the lock was waited for.
            if range_var(name) == Some(table) {
                return Some(table);
            }
            pg_sys::UnlockRelationOid(table, LOCK);
        }
    }
}
