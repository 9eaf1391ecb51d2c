//! What a result depends on: recorded while the function runs, marked when somebody writes.
//!
//! * `executor`: hooks that record every relation that is read during a fill
//! * `relations`: whether a relation is tracked, and under which relations its writes are marked
//! * `session`: what it reads besides tables, and what it does: `functions` says which function does what, `planning` looks after what the
//!   planner calls, `caught` after errors, `system_columns` after where rows lie
//! * `definitions`: whether they stayed the same since the transaction began
//! * `plans`: whether a SQL function's plan was made for somebody else
//! * `compiled`: whether what PL/pgSQL has compiled of a function is what another session would: `declared_types`, the names in its
//!   declarations, and `meaning`, what they mean
//! * `declared`: keyed dependencies and tags that the body names
//! * `tracker`: the trigger function that marks writes
//! * `tracking`: adding and removing its triggers: `rights` to it, `tree_locks`, and the `triggers` themselves; `rows`: how the one for
//!   replication is spared statements
//! * `automatic`: tracking what calls have found untracked; `found`: what a function will read, as far as its text says
//! * `utility`: DDL and other commands that change what functions mean; `commands`: which command changes what; `touched`: whether
//!   it was about temporary objects only; `grants`: GRANT that changes nothing; `trees`: those that change partition and inheritance trees
//! * `clock`: whether a function uses the clock, as far as texts say; `tokens`: the tokens of a text
//! * `attribution`: names of slots and their last writers, for people who ask
//! * `temporary`: temporary objects of the session, which names may mean; `held`: cursors that hold what was read before

#![allow(unsafe_code)]

pub mod attribution;
pub mod automatic;
pub mod caught;
pub mod clock;
mod commands;
pub mod compiled;
pub mod declared;
mod declared_types;
pub mod definitions;
pub mod executor;
pub mod found;
pub mod functions;
pub mod grants;
pub mod held;
pub mod meaning;
pub mod planning;
pub mod plans;
pub mod relations;
pub mod rights;
mod rows;
pub mod session;
mod system_columns;
pub mod temporary;
pub mod tokens;
pub mod touched;
pub mod tracker;
pub mod tracking;
pub mod tree_locks;
mod trees;
mod triggers;
pub mod utility;

use crate::call::frames::Frame;
use crate::call::outcome::{Reason, Refusal};
use crate::language::body::Consistency;
use crate::store::area::Area;
use crate::store::lookup::MAX_DEPENDENCIES;
use crate::validity::places::definitions_slot;
use crate::validity::tags::{CLUSTER_SLOT, Tag, slot_of};
use pgrx::pg_sys;
use relations::Tracking;
use std::collections::BTreeMap;

/// The slots that the result of a finished fill depends on, or why it cannot be stored.
///
/// # Safety
/// `fcinfo` is the call that the frame belongs to.
pub unsafe fn slots_of(
    area: Area,
    frame: &Frame,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Vec<u32>, Refusal> {
    let database = crate::compat::database();
    let count = area.layout.slots;
    let mut slots = vec![
        CLUSTER_SLOT,
        definitions_slot(),
        slot_of(database, Tag::Function(frame.function.oid), count),
    ];
    let mut depend = |slot| {
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    };
    frame.inherited.iter().for_each(|slot| depend(*slot));
    // SAFETY: the caller's fcinfo.
    unsafe {
        for tag in declared::tags(&frame.function, fcinfo) {
            depend(slot_of(database, Tag::Named(&tag), count));
        }
        let function = &frame.function;
        let declared = declared::relations(function);
        let mut read = frame.relations.clone();
        declared
            .iter()
            .filter(|_| !function.said_by_base)
            .map(|(relation, _)| *relation)
            .for_each(|relation| {
                if !read.contains(&relation) {
                    read.push(relation);
                }
            });
        // Who says that a column is a key wants it marked, and has to be allowed to.
        let speaker = if function.said_by_base {
            function.base
        } else {
            function.oid
        };
        let mut untracked = None;
        for relation in read {
            let columns = declared
                .iter()
                .find(|(named, _)| *named == relation)
                .map(|(_, columns)| *columns);
            match relations::tracking(relation) {
                Tracking::NoData => (),
                Tracking::Tracked { roots, key_columns } => {
                    for root in &roots {
                        area.functions()
                            .note_relation(database, frame.function.oid, *root);
                    }
                    let slots =
                        marked_slots(area, frame, fcinfo, relation, &roots, &key_columns, columns);
                    slots.into_iter().for_each(&mut depend);
                    // Declared keys that the triggers do not mark yet: right already, by the whole relation; better soon.
                    if let Some(columns) = columns {
                        for column in columns.keys().filter(|column| {
                            !key_columns.contains(column) && declared::can_be_key(relation, column)
                        }) {
                            automatic::untracked(area, relation, speaker, column);
                        }
                    }
                }
                Tracking::Untracked if frame.function.consistency == Consistency::Ttl => (),
                Tracking::Untracked => {
                    untracked = Some(relation);
                    let keys: Vec<_> = columns
                        .into_iter()
                        .flat_map(BTreeMap::keys)
                        .filter(|column| declared::can_be_key(relation, column))
                        .collect();
                    if function.said_by_base || keys.is_empty() {
                        automatic::untracked(area, relation, function.oid, "");
                    }
                    for column in keys {
                        automatic::untracked(area, relation, speaker, column);
                    }
                }
                Tracking::Never if frame.function.consistency == Consistency::Ttl => (),
                Tracking::Never => untracked = Some(relation),
            }
        }
        if let Some(relation) = untracked {
            return Err(Refusal {
                reason: Reason::Untracked,
                relation,
            });
        }
    }
    if slots.len() > MAX_DEPENDENCIES {
        return Err(Reason::TooManyDependencies.into());
    }
    Ok(slots)
}

/// The slots under which writes to a tracked relation are marked that concern this call.
unsafe fn marked_slots(
    area: Area,
    frame: &Frame,
    fcinfo: pg_sys::FunctionCallInfo,
    relation: pg_sys::Oid,
    roots: &[pg_sys::Oid],
    key_columns: &[String],
    columns: Option<&BTreeMap<String, String>>,
) -> Vec<u32> {
    let slot = |tag| slot_of(crate::compat::database(), tag, area.layout.slots);
    let mut slots = Vec::new();
    for root in roots {
        // SAFETY: the caller's fcinfo.
        let keys = columns.and_then(|columns| unsafe {
            declared::keys(relation, columns, key_columns, &frame.function, fcinfo)
        });
        let Some(keys) = keys else {
            slots.push(slot(Tag::Relation(*root)));
            continue;
        };
        slots.push(slot(Tag::WholeRelation(*root)));
        slots.extend(keys.iter().map(|(column, value)| {
            slot(Tag::Key {
                relation: *root,
                column,
                value: *value,
            })
        }));
    }
    slots
}

/// The slots under which writes to a relation are marked that concern this call; `None` if nobody marks them.
///
/// # Safety
/// `fcinfo` is the call that the frame belongs to.
pub unsafe fn slots_of_relation(
    area: Area,
    frame: &Frame,
    relation: pg_sys::Oid,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Option<Vec<u32>> {
    let Tracking::Tracked { roots, key_columns } = relations::tracking(relation) else {
        return None;
    };
    // SAFETY: the caller's.
    unsafe {
        let declared = declared::relations(&frame.function);
        let columns = declared.iter().find(|(named, _)| *named == relation);
        let columns = columns.map(|(_, columns)| *columns);
        Some(marked_slots(
            area,
            frame,
            fcinfo,
            relation,
            &roots,
            &key_columns,
            columns,
        ))
    }
}
