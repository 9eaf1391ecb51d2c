//! Whether writes to a relation are tracked, and under which relations they are marked.
//!
//! Whoever reads a member of a partition or inheritance tree depends on its tops, of which a table with several parents has several. A
//! statement on a relation changes rows of that relation and of those below it, and is marked under the tops of all of these: what a
//! reader and a writer have in common lies below both, so all tops of the reader's relation are among the writer's.
//!
//! A statement on a member fires that member's triggers only. So a tree is tracked only if all of its members are, and with them all
//! trees that share a member with it: a statement on a top of theirs changes rows of this one.
//!
//! What was found is kept until a relation's definition changes.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat::{self, catalog};
use crate::numbers::{NumberMap, number_map};
use crate::server;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

/// What is known of a relation that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It has no data of its own (a view).
    NoData,
    /// Its writes are marked under `roots`, and for the `key_columns` under their values too.
    Tracked {
        /// Tops of its trees.
        roots: Vec<pg_sys::Oid>,
        /// Columns whose values every member's triggers mark.
        key_columns: Vec<String>,
    },
    /// It could be tracked, but is not.
    Untracked,
    /// It cannot be tracked: a system catalog, a foreign or temporary table, a sequence.
    Never,
}

/// The tracking triggers of one relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// INSERT, UPDATE, DELETE and TRUNCATE are marked, in every session.
    pub statement: bool,
    /// Rows applied by logical replication are marked.
    pub replica: bool,
    /// Columns whose values are marked.
    pub key_columns: Vec<String>,
}

static KNOWN: Backend<RefCell<NumberMap<u32, Tracking>>> = Backend::new(RefCell::new(number_map()));
static ROOTS: Backend<RefCell<NumberMap<u32, Vec<pg_sys::Oid>>>> =
    Backend::new(RefCell::new(number_map()));
static REACHED: Backend<RefCell<NumberMap<u32, Vec<pg_sys::Oid>>>> =
    Backend::new(RefCell::new(number_map()));
static CHANGES: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// Forgets what was found whenever a relation's definition changes. Once, when the library is loaded.
pub fn watch_catalog() {
    // SAFETY: a function with the signature that the server wants.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0))
    };
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, _: pg_sys::Oid) {
    // No fence: one store.
    CHANGES.set(CHANGES.get() + 1);
}

/// Changes whenever this backend learns that the definition of a relation may have changed.
pub fn changes() -> u64 {
    CHANGES.get()
}

/// Remembers in `cache` what `find` finds, unless a definition changed meanwhile; forgets everything after a change.
fn remembered<T: Clone>(
    cache: &'static Backend<RefCell<NumberMap<u32, T>>>,
    relation: pg_sys::Oid,
    find: impl FnOnce() -> T,
) -> T {
    static SEEN: Backend<Cell<u64>> = Backend::new(Cell::new(0));
    if SEEN.get() != CHANGES.get() {
        SEEN.set(CHANGES.get());
        KNOWN.with_borrow_mut(NumberMap::clear);
        ROOTS.with_borrow_mut(NumberMap::clear);
        REACHED.with_borrow_mut(NumberMap::clear);
    }
    if let Some(known) = cache.with_borrow(|known| known.get(&relation.to_u32()).cloned()) {
        return known;
    }
    let before = CHANGES.get();
    let found = find();
    if CHANGES.get() == before {
        cache.with_borrow_mut(|known| known.insert(relation.to_u32(), found.clone()));
    }
    found
}

/// Whether writes to `relation` are tracked.
pub fn tracking(relation: pg_sys::Oid) -> Tracking {
    remembered(&KNOWN, relation, || find_tracking(relation))
}

/// Tops of the trees that `relation` belongs to; itself if it belongs to none.
pub fn roots(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    remembered(&ROOTS, relation, || find_roots(relation).0)
}

/// Tops of the trees of everything that a statement on `relation` can change: its own, and those of what lies below it.
pub fn reached(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    remembered(&REACHED, relation, || {
        let mut roots = Vec::new();
        for member in members(relation) {
            if member == relation || has_parents_of_its_own(member) {
                add_new(&mut roots, find_roots(member).0);
            }
        }
        roots
    })
}

/// Whether a member of a tree can have other parents than that tree has: a partition has one.
fn has_parents_of_its_own(member: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup that allows for absence.
    !unsafe { pg_sys::get_rel_relispartition(member) }
}

fn add_new(known: &mut Vec<pg_sys::Oid>, found: Vec<pg_sys::Oid>) {
    for relation in found {
        if !known.contains(&relation) {
            known.push(relation);
        }
    }
}

/// The trees that a relation belongs to, and those that share a member with one of these, as the catalog has them now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Tops of the trees.
    pub roots: Vec<pg_sys::Oid>,
    /// All members of all of them, in the order of their oids: the one in which they are locked.
    pub members: Vec<pg_sys::Oid>,
}

impl Tree {
    /// The trees of `relation`.
    pub fn of(relation: pg_sys::Oid) -> Self {
        let (mut roots, _) = find_roots(relation);
        let mut all: HashSet<u32> = HashSet::new();
        let mut next = 0;
        while next < roots.len() {
            for member in members(roots[next]) {
                if all.insert(member.to_u32()) && has_parents_of_its_own(member) {
                    add_new(&mut roots, find_roots(member).0);
                }
            }
            next += 1;
        }
        roots.sort_unstable_by_key(|root| root.to_u32());
        let mut members: Vec<_> = all.into_iter().map(pg_sys::Oid::from).collect();
        members.sort_unstable_by_key(|member| member.to_u32());
        Tree { roots, members }
    }

    /// What lies below `relation`, itself included, as far as this is a tree by itself.
    pub fn below(relation: pg_sys::Oid) -> Self {
        let mut members = members(relation);
        members.sort_unstable_by_key(|member| member.to_u32());
        Tree {
            roots: reached(relation),
            members,
        }
    }

    /// All its tables.
    pub fn tables(&self) -> impl Iterator<Item = pg_sys::Oid> + '_ {
        self.members.iter().copied()
    }
}

fn find_tracking(relation: pg_sys::Oid) -> Tracking {
    // SAFETY: syscache lookups.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    match kind {
        // The server's own views show its state, or the session's, by functions.
        pg_sys::RELKIND_VIEW if relation.to_u32() >= pg_sys::FirstNormalObjectId => {
            return Tracking::NoData;
        }
        _ if !can_be_tracked(relation) => return Tracking::Never,
        // Changed by REFRESH and DDL alone, which the utility hook marks.
        pg_sys::RELKIND_MATVIEW => {
            return Tracking::Tracked {
                roots: vec![relation],
                key_columns: Vec::new(),
            };
        }
        _ => (),
    }
    let (roots, detaching) = find_roots(relation);
    if detaching {
        return Tracking::Untracked;
    }
    let mut key_columns: Option<Vec<String>> = None;
    for member in Tree::of(relation).members {
        if !can_be_tracked(member) {
            return Tracking::Never;
        }
        let triggers = triggers(member);
        // SAFETY: a syscache lookup.
        let partitioned =
            unsafe { pg_sys::get_rel_relkind(member) } as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        if !triggers.statement || !partitioned && !triggers.replica {
            return Tracking::Untracked;
        }
        key_columns = Some(match key_columns {
            None => triggers.key_columns,
            Some(columns) => columns
                .into_iter()
                .filter(|column| triggers.key_columns.contains(column))
                .collect(),
        });
    }
    Tracking::Tracked {
        roots,
        key_columns: key_columns.unwrap_or_default(),
    }
}

/// Whether tracking triggers, or the utility hook, can follow the relation at all.
pub fn can_be_tracked(relation: pg_sys::Oid) -> bool {
    // SAFETY: syscache lookups.
    let (kind, persistence, schema) = unsafe {
        (
            pg_sys::get_rel_relkind(relation) as u8,
            if pg_sys::get_rel_relkind(relation) == 0 {
                0
            } else {
                pg_sys::get_rel_persistence(relation) as u8
            },
            pg_sys::get_rel_namespace(relation),
        )
    };
    relation.to_u32() >= pg_sys::FirstNormalObjectId
        && schema != pg_sys::PG_CATALOG_NAMESPACE.into()
        && matches!(
            kind,
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE | pg_sys::RELKIND_MATVIEW
        )
        && matches!(
            persistence,
            pg_sys::RELPERSISTENCE_PERMANENT | pg_sys::RELPERSISTENCE_UNLOGGED
        )
}

/// Tops of the trees of a relation, and whether a partition on the way is being detached.
fn find_roots(relation: pg_sys::Oid) -> (Vec<pg_sys::Oid>, bool) {
    let (mut roots, mut detaching) = (Vec::new(), false);
    let mut open = vec![relation];
    while let Some(member) = open.pop() {
        let mut parents = Vec::new();
        // SAFETY: pg_inherits and its index by inhrelid.
        unsafe {
            compat::catalog_rows(
                catalog::INHERITS,
                catalog::INHERITS_BY_CHILD,
                catalog::INHERITS_CHILD,
                member,
                |tuple, _| {
                    let row = &*pg_sys::GETSTRUCT(tuple).cast::<catalog::Inherits>();
                    // Indexes of partitions are in pg_inherits too, but nobody reads or writes them by name.
                    parents.push(row.parent);
                    detaching |= row.detach_pending;
                },
            );
        }
        if parents.is_empty() {
            if !roots.contains(&member) {
                roots.push(member);
            }
        } else {
            open.append(&mut parents);
        }
    }
    (roots, detaching)
}

/// All members of the tree below `root`, itself included.
pub fn members(root: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut members = vec![root];
    let mut next = 0;
    while next < members.len() {
        // SAFETY: a syscache lookup, and a catalog scan that takes no lock on the children and wants the parent to exist.
        let children = unsafe {
            if pg_sys::get_rel_relkind(members[next]) == 0 {
                Vec::new()
            } else {
                let parent = members[next];
                compat::oids(pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    server::find_inheritance_children(parent, pg_sys::NoLock as i32)
                }))
            }
        };
        for child in children {
            if !members.contains(&child) {
                members.push(child);
            }
        }
        next += 1;
    }
    members
}

/// `pg_class.relhastriggers`.
fn has_triggers(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return false;
        }
        let has = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relhastriggers;
        pg_sys::ReleaseSysCache(tuple);
        has
    }
}

/// The tracking triggers of a relation.
pub fn triggers(relation: pg_sys::Oid) -> Triggers {
    const ROW: i16 = pg_sys::TRIGGER_TYPE_ROW as i16;
    const BEFORE: i16 = pg_sys::TRIGGER_TYPE_BEFORE as i16;
    const WRITES: i16 = (pg_sys::TRIGGER_TYPE_INSERT
        | pg_sys::TRIGGER_TYPE_UPDATE
        | pg_sys::TRIGGER_TYPE_DELETE) as i16;
    const ALL: i16 = WRITES | pg_sys::TRIGGER_TYPE_TRUNCATE as i16;
    let mut found = Triggers::default();
    // Without this mark the server does not look for any: somebody has written the catalog by hand.
    if !has_triggers(relation) {
        return found;
    }
    // Of INSERT, UPDATE and DELETE: the columns that triggers mark with all rows that the event has.
    let mut keyed: [(i16, Vec<String>); 3] = [
        pg_sys::TRIGGER_TYPE_INSERT,
        pg_sys::TRIGGER_TYPE_UPDATE,
        pg_sys::TRIGGER_TYPE_DELETE,
    ]
    .map(|event| (event as i16, Vec::new()));
    for trigger in tracker_triggers(relation) {
        // One with a condition or for some columns only does not mark everything.
        if trigger.partial {
            continue;
        }
        let (kind, always) = (
            trigger.kind,
            trigger.enabled == pg_sys::TRIGGER_FIRES_ALWAYS,
        );
        if kind & ROW != 0 {
            let fires = always || trigger.enabled == pg_sys::TRIGGER_FIRES_ON_REPLICA;
            found.replica |= fires && kind & BEFORE == 0 && kind & WRITES == WRITES;
        } else if kind & BEFORE != 0 {
            found.statement |= always && kind & ALL == ALL;
        } else if always {
            for (event, columns) in &mut keyed {
                if kind & *event != 0 && trigger.has_rows_of(*event) {
                    columns.extend(trigger.arguments.iter().cloned());
                }
            }
        }
    }
    let [(_, inserted), (_, updated), (_, deleted)] = keyed;
    found.key_columns = inserted
        .into_iter()
        .filter(|column| updated.contains(column) && deleted.contains(column))
        .collect();
    found
}

/// A trigger that calls the trigger function which marks writes.
pub struct TrackerTrigger {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its name, whatever it is called now.
    pub name: String,
    /// `pg_trigger.tgtype`.
    pub kind: i16,
    /// `pg_trigger.tgenabled`.
    enabled: u8,
    /// It has a WHEN condition or a list of columns.
    partial: bool,
    /// Its arguments.
    arguments: Vec<String>,
    /// It has a transition table of the old rows, of the new ones.
    old_table: bool,
    new_table: bool,
}

impl TrackerTrigger {
    /// Whether a trigger for whole statements gets all rows that the event touches.
    fn has_rows_of(&self, event: i16) -> bool {
        let insert = event == pg_sys::TRIGGER_TYPE_INSERT as i16;
        let delete = event == pg_sys::TRIGGER_TYPE_DELETE as i16;
        (insert || self.old_table) && (delete || self.new_table)
    }
}

/// All triggers of a relation that mark writes.
pub fn tracker_triggers(relation: pg_sys::Oid) -> Vec<TrackerTrigger> {
    let Some(function) = tracker_function() else {
        return Vec::new();
    };
    let mut triggers = Vec::new();
    // SAFETY: pg_trigger and its index by tgrelid.
    unsafe {
        compat::catalog_rows(
            pg_sys::TriggerRelationId,
            pg_sys::Oid::from_u32(pg_sys::TriggerRelidNameIndexId),
            pg_sys::Anum_pg_trigger_tgrelid,
            relation,
            |tuple, description| {
                let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
                if row.tgfoid != function {
                    return;
                }
                let condition = pg_sys::Anum_pg_trigger_tgqual as i32;
                let has = |column: u32| !pg_sys::heap_attisnull(tuple, column as i32, description);
                triggers.push(TrackerTrigger {
                    oid: row.oid,
                    name: compat::text(row.tgname.data.as_ptr()),
                    kind: row.tgtype,
                    enabled: row.tgenabled as u8,
                    partial: row.tgattr.dim1 != 0
                        || !pg_sys::heap_attisnull(tuple, condition, description),
                    arguments: arguments(tuple, description, row.tgnargs as usize),
                    old_table: has(pg_sys::Anum_pg_trigger_tgoldtable),
                    new_table: has(pg_sys::Anum_pg_trigger_tgnewtable),
                });
            },
        );
    }
    triggers
}

/// Whether a trigger calls the trigger function that marks writes.
pub fn calls_tracker(trigger: pg_sys::Oid) -> bool {
    let (tracker, mut calls) = (tracker_function(), false);
    // SAFETY: pg_trigger and its index by oid.
    unsafe {
        compat::catalog_rows(
            pg_sys::TriggerRelationId,
            pg_sys::Oid::from_u32(pg_sys::TriggerOidIndexId),
            pg_sys::Anum_pg_trigger_oid,
            trigger,
            |tuple, _| {
                let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
                calls = Some(row.tgfoid) == tracker;
            },
        );
    }
    calls
}

/// The arguments of a trigger: C strings one after the other.
unsafe fn arguments(
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
    count: usize,
) -> Vec<String> {
    let mut is_null = false;
    // SAFETY: a bytea column of the row.
    unsafe {
        let datum = pg_sys::heap_getattr(
            tuple,
            pg_sys::Anum_pg_trigger_tgargs as _,
            description,
            &mut is_null,
        );
        if is_null || count == 0 {
            return Vec::new();
        }
        let packed = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        let bytes = pgrx::varlena_to_byte_slice(packed);
        bytes
            .split(|byte| *byte == 0)
            .take(count)
            .map(crate::encoding::from_server)
            .collect()
    }
}

/// Oid of the trigger function that marks writes, in the present database.
pub fn tracker_function() -> Option<pg_sys::Oid> {
    compat::find_function(compat::extension_namespace()?, c"cache_tracker", &[])
}
