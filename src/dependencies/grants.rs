//! GRANT and REVOKE that change nothing.
//!
//! A role that has a right but may not pass it on is told "no privileges were granted", and the server writes the rights of the object all
//! the same, as they were. Everybody can do that to most objects, so it must not concern others. Whether a command changed something is
//! seen by the rows of its objects: their rights before it and after it.
//!
//! *Exact beside others who do the same:* the server takes no lock for GRANT, so the row that it replaced may not be the one that was
//! looked at before. A row counts as unchanged only if it is still the same version, or if our transaction replaced that very version, and
//! the rights are the same. Everything else counts as changed.

#![allow(unsafe_code)]

use super::commands::range_var;
use crate::backend::Backend;
use crate::compat::{self, cells};
use pgrx::pg_sys;
use std::cell::RefCell;

/// Objects of one command that are looked at; one with more of them counts as one that changes something.
const MOST: usize = 1000;
/// The index of pg_attribute by relation and number.
const BY_RELATION: u32 = 2659;

/// Catalog and oid.
type Object = (pg_sys::Oid, pg_sys::Oid);

/// A row of a catalog with rights in it.
struct Row {
    object: Object,
    column: i16,
    place: pg_sys::ItemPointerData,
    by: pg_sys::TransactionId,
    rights: Vec<u8>,
}

/// What commands in progress found before they ran, each by the address of its parse tree: an ERROR may jump over whoever asked.
static LOOKED: Backend<RefCell<Vec<Looked>>> = Backend::new(RefCell::new(Vec::new()));

type Looked = (usize, Vec<Row>);

/// GRANT or REVOKE is about to run.
///
/// # Safety
/// `statement` is the parse tree of a command, inside a transaction.
pub unsafe fn begins(statement: *mut pg_sys::Node) {
    // SAFETY: the caller's; the tag tells the struct.
    let rows = unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_GrantStmt {
            return;
        }
        rows_of(&*statement.cast())
    };
    if let Some(rows) = rows {
        LOOKED.with_borrow_mut(|looked| looked.push((statement.addr(), rows)));
    }
}

/// The command has run: whether the rights of all its objects are what they were.
///
/// # Safety
/// As for [`begins`].
pub unsafe fn changed_nothing(statement: *mut pg_sys::Node) -> bool {
    let before = LOOKED.with_borrow_mut(|looked| {
        let at = looked
            .iter()
            .rposition(|(address, _)| *address == statement.addr())?;
        Some(looked.swap_remove(at).1)
    });
    let Some(before) = before else { return false };
    // SAFETY: the caller's; rows were kept for GRANT only.
    let after = unsafe { rows_of(&*statement.cast()) };
    after.is_some_and(|after| {
        after.len() == before.len() && before.iter().zip(&after).all(|(a, b)| is_unchanged(a, b))
    })
}

/// The transaction ended, and all commands with it.
pub fn transaction_ended() {
    LOOKED.with_borrow_mut(Vec::clear);
}

fn is_unchanged(before: &Row, after: &Row) -> bool {
    if (before.object, before.column) != (after.object, after.column)
        || before.rights != after.rights
    {
        return false;
    }
    let same = place(&before.place) == place(&after.place) && before.by == after.by;
    // SAFETY: a place that a row of this catalog had.
    same || unsafe { we_replaced(before) }
}

fn place(pointer: &pg_sys::ItemPointerData) -> (u16, u16, u16) {
    let block = pointer.ip_blkid;
    (block.bi_hi, block.bi_lo, pointer.ip_posid)
}

/// Whether the version of the row that was seen before was replaced by this transaction.
unsafe fn we_replaced(row: &Row) -> bool {
    let catalog = match row.column {
        0 => row.object.0,
        _ => pg_sys::AttributeRelationId,
    };
    // SAFETY: a catalog; a place that need not have a row any more; the buffer is given back if there is one.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as _);
        let mut tuple = pg_sys::HeapTupleData {
            t_self: row.place,
            ..Default::default()
        };
        let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
        let found = pg_sys::heap_fetch(
            relation,
            &raw mut pg_sys::SnapshotAnyData,
            &mut tuple,
            &mut buffer,
            false,
        );
        let mut ours = false;
        if found {
            let head = &*tuple.t_data;
            ours = head.t_choice.t_heap.t_xmin == row.by && compat::is_replaced_here(head);
            pg_sys::ReleaseBuffer(buffer);
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as _);
        ours
    }
}

/// The rows that a command can write, `None` if that is not known.
unsafe fn rows_of(grant: &pg_sys::GrantStmt) -> Option<Vec<Row>> {
    // SAFETY: the parse tree; catalog lookups that allow for absence.
    unsafe {
        let objects = match grant.targtype {
            pg_sys::GrantTargetType::ACL_TARGET_OBJECT => named(grant)?,
            pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA => all_in_schemas(grant)?,
            _ => return None,
        };
        let mut rows = Vec::new();
        for object in objects {
            rows.push(row(object)?);
            if object.0 == pg_sys::RelationRelationId {
                column_rows(object, &mut rows);
            }
        }
        Some(rows)
    }
}

unsafe fn named(grant: &pg_sys::GrantStmt) -> Option<Vec<Object>> {
    use pg_sys::ObjectType::*;
    // SAFETY: the kind tells what the list holds; catalog lookups that allow for absence.
    unsafe {
        let objects = cells(grant.objects);
        if objects.len() > MOST {
            return None;
        }
        let object = |cell: &pg_sys::ListCell| {
            let name = || (*cell.ptr_value.cast::<pg_sys::String>()).sval;
            let object = match grant.objtype {
                OBJECT_TABLE | OBJECT_SEQUENCE => (
                    pg_sys::RelationRelationId,
                    range_var(cell.ptr_value.cast())?,
                ),
                OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE => (
                    pg_sys::ProcedureRelationId,
                    pg_sys::LookupFuncWithArgs(grant.objtype, cell.ptr_value.cast(), true),
                ),
                OBJECT_TYPE | OBJECT_DOMAIN => {
                    let name = pg_sys::makeTypeNameFromNameList(cell.ptr_value.cast());
                    (
                        pg_sys::TypeRelationId,
                        pg_sys::LookupTypeNameOid(std::ptr::null_mut(), name, true),
                    )
                }
                OBJECT_SCHEMA => (
                    pg_sys::NamespaceRelationId,
                    pg_sys::get_namespace_oid(name(), true),
                ),
                OBJECT_LANGUAGE => (
                    compat::catalog::LANGUAGE,
                    pg_sys::get_language_oid(name(), true),
                ),
                OBJECT_FDW => (
                    pg_sys::ForeignDataWrapperRelationId,
                    pg_sys::get_foreign_data_wrapper_oid(name(), true),
                ),
                OBJECT_FOREIGN_SERVER => (
                    pg_sys::ForeignServerRelationId,
                    pg_sys::get_foreign_server_oid(name(), true),
                ),
                _ => return None,
            };
            (object.1 != pg_sys::InvalidOid).then_some(object)
        };
        objects.iter().map(object).collect()
    }
}

/// Everything in the schemas that is of the kind, and other relations with it.
unsafe fn all_in_schemas(grant: &pg_sys::GrantStmt) -> Option<Vec<Object>> {
    use pg_sys::ObjectType::*;
    // SAFETY: the list holds names of schemas; all of a catalog whose rows are those of the struct.
    unsafe {
        let schemas: Vec<pg_sys::Oid> = cells(grant.objects)
            .iter()
            .map(|cell| (*cell.ptr_value.cast::<pg_sys::String>()).sval)
            .map(|name| pg_sys::get_namespace_oid(name, true))
            .collect();
        let mut found = Vec::new();
        let mut keep = |class, oid, schema| {
            if schemas.contains(&schema) && found.len() <= MOST {
                found.push((class, oid));
            }
        };
        match grant.objtype {
            OBJECT_TABLE | OBJECT_SEQUENCE => {
                let class = pg_sys::RelationRelationId;
                compat::all_catalog_rows(class, |tuple| {
                    let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
                    let has_rights = !b"iIt".contains(&(row.relkind as u8));
                    if has_rights {
                        keep(class, row.oid, row.relnamespace);
                    }
                })
            }
            OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE => {
                let class = pg_sys::ProcedureRelationId;
                compat::all_catalog_rows(class, |tuple| {
                    let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
                    keep(class, row.oid, row.pronamespace);
                })
            }
            _ => return None,
        }
        found.sort_unstable_by_key(|(_, oid): &Object| oid.to_u32());
        (found.len() <= MOST).then_some(found)
    }
}

/// The row of an object.
unsafe fn row(object: Object) -> Option<Row> {
    let (class, oid) = object;
    // SAFETY: a syscache lookup; the server knows the columns of the class; the copy is given back.
    unsafe {
        let cache = pg_sys::get_object_catcache_oid(class);
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let owner = pg_sys::SysCacheGetAttr(
            cache,
            tuple,
            pg_sys::get_object_attnum_owner(class),
            &mut is_null,
        );
        let kind = kind(object);
        let owner = pg_sys::Oid::from_u32(owner.value() as u32);
        let number = pg_sys::get_object_attnum_acl(class);
        let value = pg_sys::SysCacheGetAttr(cache, tuple, number, &mut is_null);
        let rights = (!is_null).then_some(value);
        let found = copied(object, 0, tuple, rights, || pg_sys::acldefault(kind, owner));
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}

/// The rows of the columns of a relation, system columns included, in their order.
unsafe fn column_rows(object: Object, into: &mut Vec<Row>) {
    // SAFETY: pg_attribute and its index by relation; a column without rights of its own has none.
    unsafe {
        let nobody = pg_sys::Oid::from_u32(pg_sys::BOOTSTRAP_SUPERUSERID);
        compat::catalog_rows(
            pg_sys::AttributeRelationId,
            pg_sys::Oid::from_u32(BY_RELATION),
            pg_sys::Anum_pg_attribute_attrelid,
            object.1,
            |tuple, description| {
                let mut is_null = false;
                let number = pg_sys::Anum_pg_attribute_attacl as i32;
                let value = pg_sys::heap_getattr(tuple, number, description, &mut is_null);
                let column =
                    (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>()).attnum;
                let rights = (!is_null).then_some(value);
                let none = || pg_sys::acldefault(pg_sys::ObjectType::OBJECT_COLUMN, nobody);
                into.push(copied(object, column, tuple, rights, none));
            },
        );
    }
}

/// What `acldefault` wants to know.
unsafe fn kind((class, oid): Object) -> pg_sys::ObjectType::Type {
    use pg_sys::ObjectType::*;
    match class {
        // SAFETY: a syscache lookup.
        pg_sys::RelationRelationId => match unsafe { pg_sys::get_rel_relkind(oid) } as u8 {
            pg_sys::RELKIND_SEQUENCE => OBJECT_SEQUENCE,
            _ => OBJECT_TABLE,
        },
        pg_sys::ProcedureRelationId => OBJECT_FUNCTION,
        pg_sys::TypeRelationId => OBJECT_TYPE,
        pg_sys::NamespaceRelationId => OBJECT_SCHEMA,
        compat::catalog::LANGUAGE => OBJECT_LANGUAGE,
        pg_sys::ForeignDataWrapperRelationId => OBJECT_FDW,
        _ => OBJECT_FOREIGN_SERVER,
    }
}

/// A row with its rights, those that hold by default where none are written.
unsafe fn copied(
    object: Object,
    column: i16,
    tuple: pg_sys::HeapTuple,
    rights: Option<pg_sys::Datum>,
    by_default: impl Fn() -> *mut pg_sys::Acl,
) -> Row {
    // SAFETY: a row of a catalog; rights are an array without pointers, compared byte by byte.
    unsafe {
        let rights = match rights {
            None => by_default().cast::<pg_sys::varlena>(),
            Some(value) => pg_sys::pg_detoast_datum(value.cast_mut_ptr()),
        };
        let bytes = std::slice::from_raw_parts(
            pgrx::vardata_any(rights).cast::<u8>(),
            pgrx::varsize_any_exhdr(rights),
        );
        Row {
            object,
            column,
            place: (*tuple).t_self,
            by: (*(*tuple).t_data).t_choice.t_heap.t_xmin,
            rights: bytes.to_vec(),
        }
    }
}
