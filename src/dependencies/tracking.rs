//! Starting and stopping to track a table: adds and removes the triggers of `tracker`, on every member of the table's tree.
//!
//! The state of tracking is the triggers themselves, nothing else: a dump holds them, a restore brings them back. Each depends on the
//! extension (as `ALTER TRIGGER … DEPENDS ON EXTENSION` would say), so that `DROP EXTENSION` takes them along.
//!
//! Starting to track is itself a write that everybody sees at its commit: a snapshot older than it may miss writers that nobody
//! registered, so it must never publish. CREATE TRIGGER's lock lets no writer be in flight meanwhile.
//!
//! All of it is done with the rights of the present role, by the server's own commands (`triggers`).
//! Locks, in this order: ACCESS SHARE on the extension, so that it cannot be dropped meanwhile; then all tables of the tree
//! (`tree_locks`): SHARE ROW EXCLUSIVE to start, ACCESS EXCLUSIVE to stop. The triggers are read when the locks are held.

#![allow(unsafe_code)]

use super::relations::{self, Tree};
use super::tree_locks::{self, Patience};
use super::triggers::{self, Wanted};
use super::{declared, rights};
use crate::compat;
use crate::error::Error;
use crate::fault::{self, Point};
use crate::naming;
use crate::store::area::area;
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::writers::{Act, Operation};
use pg_query_cache_validity::Effect;
use pgrx::pg_sys;
use std::ffi::CStr;

const INSERT: i16 = pg_sys::TRIGGER_TYPE_INSERT as i16;
const UPDATE: i16 = pg_sys::TRIGGER_TYPE_UPDATE as i16;
const DELETE: i16 = pg_sys::TRIGGER_TYPE_DELETE as i16;
const TRUNCATE: i16 = pg_sys::TRIGGER_TYPE_TRUNCATE as i16;
const ALWAYS: u8 = pg_sys::TRIGGER_FIRES_ALWAYS;

/// Marks that some rows, or all, are about to change.
const WRITE: Wanted<'static> = Wanted {
    name: c"pg_query_cache_write",
    row: false,
    before: true,
    events: INSERT | UPDATE | DELETE | TRUNCATE,
    tables: &[],
    arguments: &[],
    fires: ALWAYS,
};

/// The row trigger for logical replication.
const REPLICA: Wanted<'static> = Wanted {
    name: c"pg_query_cache_replica",
    row: true,
    before: false,
    events: INSERT | UPDATE | DELETE,
    tables: &[],
    arguments: &[],
    fires: pg_sys::TRIGGER_FIRES_ON_REPLICA,
};

const OLD: (&CStr, bool) = (c"pg_query_cache_old", false);
const NEW: (&CStr, bool) = (c"pg_query_cache_new", true);

/// The triggers that mark the values of key columns.
fn keys(columns: &[String]) -> [Wanted<'_>; 3] {
    let wanted = |name, events, tables| Wanted {
        name,
        row: false,
        before: false,
        events,
        tables,
        arguments: columns,
        fires: ALWAYS,
    };
    [
        wanted(c"pg_query_cache_keys_insert", INSERT, &[NEW]),
        wanted(c"pg_query_cache_keys_update", UPDATE, &[OLD, NEW]),
        wanted(c"pg_query_cache_keys_delete", DELETE, &[OLD]),
    ]
}

/// What a table of the tree lacks.
struct Lack {
    table: pg_sys::Oid,
    statement: bool,
    replica: bool,
    /// All its key columns, if some are to be marked that are not.
    columns: Vec<String>,
}

impl Lack {
    fn of(table: pg_sys::Oid, key_columns: &[String]) -> Option<Self> {
        let present = relations::triggers(table);
        // SAFETY: a syscache lookup.
        let partitioned =
            unsafe { pg_sys::get_rel_relkind(table) } as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let mut columns = present.key_columns;
        let known = columns.len();
        for column in key_columns {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        if columns.len() == known {
            columns.clear();
        }
        let lack = Lack {
            table,
            statement: !present.statement,
            replica: !partitioned && !present.replica,
            columns,
        };
        (lack.statement || lack.replica || !lack.columns.is_empty()).then_some(lack)
    }

    /// The triggers that would do.
    fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        let keys = (!self.columns.is_empty()).then(|| keys(&self.columns));
        [
            self.statement.then_some(WRITE),
            self.replica.then_some(REPLICA),
        ]
        .into_iter()
        .flatten()
        .chain(keys.into_iter().flatten())
    }
}

/// Starts to track the tree of `relation`, and the values of `key_columns` in addition to those that are marked already, with the
/// rights of the present role. Returns how many triggers were added or replaced; `None` if a lock could not be got with so much
/// patience, or if who is not to wait may not do it either. Whoever waits is refused with an ERROR.
pub fn track(
    relation: pg_sys::Oid,
    key_columns: &[String],
    patience: Patience,
) -> Result<Option<usize>, Error> {
    let tree = Tree::of(relation);
    let asks = patience == Patience::Waits;
    if asks {
        rights::check_may_track(&tree);
    }
    // SAFETY: a syscache lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    if kind == pg_sys::RELKIND_MATVIEW && key_columns.is_empty() {
        // Changed by REFRESH and DDL alone: tracked without triggers.
        return Ok(Some(0));
    }
    check(relation, &tree, key_columns)?;
    let Some(extension) = hold_extension(patience)? else {
        return Ok(None);
    };
    let admit = |tree: &Tree| {
        if asks {
            rights::check_may_track(tree);
            return Ok(true);
        }
        // SAFETY: a variable of the backend.
        Ok(rights::may_track(
            unsafe { crate::server::GetUserId() },
            tree,
        ))
    };
    let locked = tree_locks::lock(
        || Tree::of(relation),
        pg_sys::ShareRowExclusiveLock,
        patience,
        admit,
    )?;
    let Some(locked) = locked else {
        return Ok(None);
    };
    check(relation, &locked.tree, key_columns)?;
    let lacks = lacks(&locked.tree, key_columns)?;
    if lacks.is_empty() {
        locked.release();
        return Ok(Some(0));
    }
    mark_start(&locked.tree.roots, Operation::Track);
    fault::point(Point::TrackingMarked);
    let added = supply(&lacks, extension)?;
    fault::point(Point::Tracked);
    Ok(Some(added))
}

/// A table has joined a tracked tree: it, and what lies below it, gets the triggers that the others have. The present command has the
/// locks already. `None` if it has not.
pub fn track_below(relation: pg_sys::Oid, key_columns: &[String]) -> Result<Option<usize>, Error> {
    check(relation, &Tree::of(relation), key_columns)?;
    let Some(extension) = hold_extension(Patience::Never)? else {
        return Ok(None);
    };
    let locked = tree_locks::lock(
        || Tree::below(relation),
        pg_sys::ShareRowExclusiveLock,
        Patience::Never,
        |_| Ok(true),
    )?;
    let Some(locked) = locked else {
        return Ok(None);
    };
    let lacks = lacks(&locked.tree, key_columns)?;
    if lacks.is_empty() {
        locked.release();
        return Ok(Some(0));
    }
    mark_start(&locked.tree.roots, Operation::Track);
    supply(&lacks, extension).map(Some)
}

/// What the tables of a tree lack; refuses if something of somebody else's is in the way.
fn lacks(tree: &Tree, key_columns: &[String]) -> Result<Vec<Lack>, Error> {
    let lacks: Vec<_> = tree
        .tables()
        .filter_map(|table| Lack::of(table, key_columns))
        .collect();
    for lack in &lacks {
        for wanted in lack.wanted() {
            wanted.check(lack.table)?;
        }
    }
    Ok(lacks)
}

fn supply(lacks: &[Lack], extension: pg_sys::Oid) -> Result<usize, Error> {
    let mut added = 0;
    for lack in lacks {
        for wanted in lack.wanted() {
            wanted.create(lack.table, extension)?;
            added += 1;
        }
    }
    Ok(added)
}

/// Whether all tables can be tracked, and the columns can be keys.
fn check(relation: pg_sys::Oid, tree: &Tree, key_columns: &[String]) -> Result<(), Error> {
    let name = naming::relation_name(relation).unwrap_or_else(|| relation.to_u32().to_string());
    // SAFETY: a syscache lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    if kind == 0 {
        return Err(Error::NoSuchRelation(relation));
    }
    if !relations::can_be_tracked(relation) || kind == pg_sys::RELKIND_MATVIEW {
        return Err(Error::NotTrackable(
            format!("relation \"{name}\" cannot be tracked"),
            "Only permanent and unlogged tables, partitioned or not, can be tracked.".into(),
        ));
    }
    for column in key_columns {
        let Some((column_type, _)) = declared::column_type(relation, column) else {
            return Err(Error::NoSuchColumn(column.clone(), name));
        };
        if declared::hash_function(column_type).is_none() {
            return Err(Error::InvalidParameter(
                format!("column \"{column}\" cannot be a key column"),
                format!(
                    "Type {} has no hash function that nobody can replace.",
                    naming::type_name(column_type)
                ),
            ));
        }
    }
    if tree
        .tables()
        .any(|member| !relations::can_be_tracked(member))
    {
        return Err(Error::NotTrackable(
            format!("relation \"{name}\" cannot be tracked"),
            "A table of its partition or inheritance tree is a foreign or temporary table.".into(),
        ));
    }
    Ok(())
}

/// Stops to track the tree of `relation`, with the rights of the present role. Returns how many triggers were dropped.
pub fn untrack(relation: pg_sys::Oid) -> Result<usize, Error> {
    // SAFETY: a syscache lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    if kind == 0 {
        return Err(Error::NoSuchRelation(relation));
    }
    rights::check_may_untrack(&Tree::of(relation));
    if !relations::can_be_tracked(relation) || kind == pg_sys::RELKIND_MATVIEW {
        return Ok(0);
    }
    hold_extension(Patience::Waits)?;
    let admit = |tree: &Tree| {
        rights::check_may_untrack(tree);
        Ok(true)
    };
    let locked = tree_locks::lock(
        || Tree::of(relation),
        pg_sys::AccessExclusiveLock,
        Patience::Waits,
        admit,
    )?;
    let Some(locked) = locked else { return Ok(0) };
    let ours: Vec<_> = locked
        .tree
        .tables()
        .flat_map(|table| {
            relations::tracker_triggers(table)
                .into_iter()
                .filter(|trigger| triggers::is_ours(trigger.oid))
                .map(move |trigger| (table, trigger.name))
        })
        .collect();
    if ours.is_empty() {
        locked.release();
        return Ok(0);
    }
    mark_start(&locked.tree.roots, Operation::Untrack);
    for (table, name) in &ours {
        triggers::drop_trigger(*table, name)?;
    }
    Ok(ours.len())
}

/// Keeps the extension from being dropped until this transaction ends. `None` if somebody is about to, and it is not to be waited for.
fn hold_extension(patience: Patience) -> Result<Option<pg_sys::Oid>, Error> {
    let extension = compat::extension().ok_or(Error::NoExtension)?;
    let (class, mode) = (
        pg_sys::ExtensionRelationId,
        pg_sys::AccessShareLock as pg_sys::LOCKMODE,
    );
    // SAFETY: inside a transaction; an object that is gone can be locked too.
    unsafe {
        if patience == Patience::Waits {
            pg_sys::LockDatabaseObject(class, extension, 0, mode);
        } else if !compat::try_lock_object(class, extension, mode) {
            return Ok(None);
        }
    }
    if compat::extension() == Some(extension) {
        Ok(Some(extension))
    } else {
        Err(Error::NoExtension)
    }
}

/// Everybody sees the start, or the end, of tracking at its commit.
fn mark_start(roots: &[pg_sys::Oid], operation: Operation) {
    let Some(area) = area() else { return };
    // SAFETY: inside the transaction that adds the triggers; a variable of the backend.
    let (xid, database) = unsafe { (assign_xid(), pg_sys::MyDatabaseId) };
    crate::transaction::prepare(area);
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
