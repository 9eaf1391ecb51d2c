//! Starting and stopping to track a table: adds and removes the triggers of `tracker`, on every member of the table's tree.
//!
//! The state of tracking is the triggers themselves, nothing else: a dump holds them, a restore brings them back. Each depends on the
//! extension (as `ALTER TRIGGER … DEPENDS ON EXTENSION` would say), so that `DROP EXTENSION` takes them along.
//!
//! Starting to track is itself a write that everybody sees at its commit: a snapshot older than it may miss writers that nobody
//! registered, so it must never publish. CREATE TRIGGER's lock lets no writer be in flight meanwhile.

#![allow(unsafe_code)]

use super::{declared, relations, utility};
use crate::behalf;
use crate::compat;
use crate::error::Error;
use crate::fault::{self, Point};
use crate::store::area::area;
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::writers::{Act, Operation};
use pg_query_cache_validity::Effect;
use pgrx::pg_sys;
use pgrx::prelude::*;

const WRITE: &str = "pg_query_cache_write";
/// Name of the row trigger for logical replication.
pub const REPLICA: &str = "pg_query_cache_replica";
const KEYS: [(&str, &str, &str); 3] = [
    (
        "pg_query_cache_keys_insert",
        "INSERT",
        "NEW TABLE AS pg_query_cache_new",
    ),
    (
        "pg_query_cache_keys_update",
        "UPDATE",
        "OLD TABLE AS pg_query_cache_old NEW TABLE AS pg_query_cache_new",
    ),
    (
        "pg_query_cache_keys_delete",
        "DELETE",
        "OLD TABLE AS pg_query_cache_old",
    ),
];

/// Starts to track the tree of `relation`, and the values of `key_columns` in addition to those that are marked already.
/// Returns how many triggers were added or replaced. The caller has checked the right to do it.
pub fn track(relation: pg_sys::Oid, key_columns: &[String]) -> Result<usize, Error> {
    let name = compat::relation_name(relation).unwrap_or_else(|| relation.to_u32().to_string());
    // SAFETY: a syscache lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    if kind == pg_sys::RELKIND_MATVIEW && key_columns.is_empty() {
        // Changed by REFRESH and DDL alone: tracked without triggers.
        return Ok(0);
    }
    if !relations::can_be_tracked(relation) || kind == pg_sys::RELKIND_MATVIEW {
        return Err(Error::NotTrackable(
            format!("relation \"{name}\" cannot be tracked"),
            "Only permanent and unlogged tables, partitioned or not, can be tracked.".into(),
        ));
    }
    for column in key_columns {
        let Some((column_type, collation)) = declared::column_type(relation, column) else {
            return Err(Error::NoSuchColumn(column.clone(), name));
        };
        // SAFETY: asks the type cache only; a hash function is looked up, not called.
        let hashable = unsafe {
            let cache =
                pg_sys::lookup_type_cache(column_type, pg_sys::TYPECACHE_HASH_EXTENDED_PROC as i32);
            (*cache).hash_extended_proc != pg_sys::InvalidOid
        };
        let _ = collation;
        if !hashable {
            return Err(Error::InvalidParameter(
                format!("column \"{column}\" cannot be a key column"),
                format!(
                    "Type {} has no hash function.",
                    compat::type_name(column_type)
                ),
            ));
        }
    }
    let roots = relations::roots(relation);
    let members: Vec<_> = roots
        .iter()
        .flat_map(|root| relations::members(*root))
        .collect();
    if members
        .iter()
        .any(|member| !relations::can_be_tracked(*member))
    {
        return Err(Error::NotTrackable(
            format!("relation \"{name}\" cannot be tracked"),
            "A table of its partition or inheritance tree is a foreign or temporary table.".into(),
        ));
    }
    mark_start(&roots, Operation::Track);
    fault::point(Point::TrackingMarked);
    let function = format!(
        "{}.cache_tracker",
        compat::extension_schema().unwrap_or_default()
    );
    let mut added = 0;
    for member in members {
        added += track_member(member, key_columns, &function)?;
    }
    fault::point(Point::Tracked);
    Ok(added)
}

fn track_member(
    member: pg_sys::Oid,
    key_columns: &[String],
    function: &str,
) -> Result<usize, Error> {
    let present = relations::triggers(member);
    let Some(table) = compat::relation_name(member) else {
        return Ok(0);
    };
    // SAFETY: a syscache lookup.
    let partitioned =
        unsafe { pg_sys::get_rel_relkind(member) } as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
    let mut added = 0;
    if !present.statement {
        run(&format!(
            "CREATE OR REPLACE TRIGGER {WRITE} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ));
        run(&format!(
            "ALTER TABLE ONLY {table} ENABLE ALWAYS TRIGGER {WRITE}"
        ));
        belongs_to_extension(member, WRITE);
        added += 1;
    }
    if !partitioned && !present.replica {
        run(&format!(
            "CREATE OR REPLACE TRIGGER {REPLICA} AFTER INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION {function}()"
        ));
        run(&format!(
            "ALTER TABLE ONLY {table} ENABLE REPLICA TRIGGER {REPLICA}"
        ));
        belongs_to_extension(member, REPLICA);
        added += 1;
    }
    let mut columns = present.key_columns.clone();
    columns.extend(
        key_columns
            .iter()
            .filter(|column| !present.key_columns.contains(column))
            .cloned(),
    );
    if columns.len() > present.key_columns.len() {
        let list = columns
            .iter()
            .map(|column| literal(column))
            .collect::<Vec<_>>()
            .join(", ");
        for (name, event, tables) in KEYS {
            if trigger(member, name).is_some() {
                run(&format!("DROP TRIGGER {name} ON {table}"));
            }
            run(&format!(
                "CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {tables} \
                 FOR EACH STATEMENT EXECUTE FUNCTION {function}({list})"
            ));
            run(&format!(
                "ALTER TABLE ONLY {table} ENABLE ALWAYS TRIGGER {name}"
            ));
            belongs_to_extension(member, name);
            added += 1;
        }
    }
    Ok(added)
}

/// Stops to track the tree of `relation`. Returns how many triggers were dropped.
pub fn untrack(relation: pg_sys::Oid) -> usize {
    let roots = relations::roots(relation);
    mark_start(&roots, Operation::Untrack);
    let mut dropped = 0;
    for member in roots.iter().flat_map(|root| relations::members(*root)) {
        let Some(table) = compat::relation_name(member) else {
            continue;
        };
        for trigger in relations::tracker_triggers(member) {
            run(&format!(
                "DROP TRIGGER {} ON {table}",
                compat::quote_identifier(&trigger.name)
            ));
            dropped += 1;
        }
    }
    dropped
}

/// Everybody sees the start, or the end, of tracking at its commit.
fn mark_start(roots: &[pg_sys::Oid], operation: Operation) {
    let Some(area) = area() else { return };
    // SAFETY: inside the transaction that adds the triggers; a variable of the backend.
    let (xid, database) = unsafe { (assign_xid(), pg_sys::MyDatabaseId) };
    for root in roots {
        for tag in [Tag::Relation(*root), Tag::WholeRelation(*root)] {
            own::register(
                area,
                slot_of(database, tag, area.layout.slots),
                xid,
                Effect::AtCommit,
                Act::on(operation, *root),
            );
        }
    }
}

/// Runs a command as the owner of the cluster, with nothing of the caller's search path, and without marking the definitions of the
/// database as changed: [`mark_start`] has marked what this command concerns.
fn run(command: &str) {
    behalf::acting_as(pg_sys::BOOTSTRAP_SUPERUSERID.into(), || {
        utility::without_marking(|| {
            if let Err(problem) = Spi::run(command) {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    format!("could not run \"{command}\": {problem}")
                );
            }
        })
    });
}

/// Oid of a trigger.
fn trigger(relation: pg_sys::Oid, name: &str) -> Option<pg_sys::Oid> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a catalog lookup that allows for its absence.
    let oid = unsafe { pg_sys::get_trigger_oid(relation, name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// `ALTER TRIGGER … DEPENDS ON EXTENSION`, which only the owner of the table may say.
fn belongs_to_extension(relation: pg_sys::Oid, name: &str) {
    let (Some(trigger), Some(extension)) = (trigger(relation, name), compat::extension()) else {
        return;
    };
    let address = |class: pg_sys::Oid, oid| pg_sys::ObjectAddress {
        classId: class,
        objectId: oid,
        objectSubId: 0,
    };
    // SAFETY: both objects exist.
    unsafe {
        pg_sys::recordDependencyOn(
            &address(pg_sys::TriggerRelationId, trigger),
            &address(pg_sys::ExtensionRelationId, extension),
            pg_sys::DependencyType::DEPENDENCY_AUTO_EXTENSION,
        );
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
