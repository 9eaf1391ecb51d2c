//! Which objects a command has created, changed and dropped: whether they were temporary ones only.
//!
//! What a command is about cannot always be told from its text: a view over a temporary table is temporary, so is a table that is
//! created while `pg_temp` comes first in the search path, and a type of the session may be a column of somebody's table. The server
//! tells of each object (`object_access_hook`); the events of a command are kept until it has run, and looked up then.
//!
//! An object counts as temporary if it, or what it is a part of, lies in a temporary schema and nothing that does not lie in one depends
//! on it, directly or not. Everything else is permanent, and so is what is not known here.
//!
//! Not seen: a function of the session that a superuser calls by the name of another session's temporary schema (`pg_temp_3.f()`),
//! which nobody else may use.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::server::guarded;
use crate::validity::own;
use pgrx::{FromDatum, pg_sys};
use std::cell::{Cell, RefCell};

/// Catalog and oid of an object.
type Object = (pg_sys::Oid, pg_sys::Oid);

/// Events of one command that are kept; with more of them it is not looked whether all were about temporary objects.
const MOST_EVENTS: usize = 10_000;
/// Objects that depend on one; with more of them it is not looked whether all are temporary.
const MOST_DEPENDENTS: usize = 200;

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Commands whose events are kept, one inside the other.
static RECORDING: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// Created and changed objects that have not been looked up yet.
static EVENTS: Backend<RefCell<Vec<Object>>> = Backend::new(RefCell::new(Vec::new()));
/// How many temporary objects the present command has touched, and how often something else was changed.
static TEMPORARY: Backend<Cell<u64>> = Backend::new(Cell::new(0));
static PERMANENT: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// What a command has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Temporary objects, and nothing else.
    TemporaryOnly,
    /// Something else too.
    Permanent,
    /// The server told of nothing.
    Unknown,
}

/// The beginning of a command.
#[derive(Clone, Copy)]
pub struct Since {
    events: usize,
    temporary: u64,
    permanent: u64,
}

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_accessed);
    }
}

unsafe extern "C-unwind" fn object_accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: the server's arguments, passed on as they are; no value with a destructor is alive in this frame.
    unsafe {
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, part, argument);
        }
        if RECORDING.get() > 0 {
            guarded(|| record(access, (class, object), part));
        } else if access == pg_sys::ObjectAccessType::OAT_DROP && without_command() {
            guarded(|| dropped((class, object)));
        }
    }
}

/// Whether what is dropped now is dropped by no command: the end of a session takes its temporary objects along, and whatever rests on
/// them; so does the end of a transaction (ON COMMIT DROP), and autovacuum for sessions that crashed.
fn without_command() -> bool {
    // SAFETY: variables of the process.
    unsafe {
        pg_sys::proc_exit_inprogress
            || pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
            || own::is_ending()
    }
}

/// Something was dropped by no command.
fn dropped(object: Object) {
    if !concerns_nobody(object) && !lies_in_temporary_schema(object) {
        super::utility::dropped_without_command();
    }
}

fn record(access: pg_sys::ObjectAccessType::Type, (class, object): Object, part: i32) {
    // A default that is made is told of as a part of its table, one that is dropped by its own oid; a parent by its child.
    let object = match class.to_u32() {
        DEFAULTS if part != 0 => (pg_sys::RelationRelationId, object),
        PARENTS => (pg_sys::RelationRelationId, object),
        _ => (class, object),
    };
    match access {
        pg_sys::ObjectAccessType::OAT_POST_CREATE | pg_sys::ObjectAccessType::OAT_POST_ALTER => {
            keep(object)
        }
        // A column: what it is part of changes.
        pg_sys::ObjectAccessType::OAT_DROP if part != 0 => keep(object),
        // The last moment to look. What depends on it is dropped as well, and told of by itself.
        pg_sys::ObjectAccessType::OAT_DROP => {
            count(concerns_nobody(object) || lies_in_temporary_schema(object))
        }
        _ => (),
    }
}

fn keep(object: Object) {
    EVENTS.with_borrow_mut(|events| {
        if events.len() == MOST_EVENTS {
            changed_something_else();
        } else if events.last() != Some(&object) {
            events.push(object);
        }
    });
}

fn count(temporary: bool) {
    let counter = if temporary { &TEMPORARY } else { &PERMANENT };
    counter.set(counter.get() + 1);
}

/// A command has changed more than temporary objects: so have those that it runs inside of.
pub fn changed_something_else() {
    count(false);
}

/// A command begins.
pub fn begin() -> Since {
    RECORDING.set(RECORDING.get() + 1);
    Since {
        events: EVENTS.with_borrow(Vec::len),
        temporary: TEMPORARY.get(),
        permanent: PERMANENT.get(),
    }
}

/// What a command that has run has created and changed, before it is ended; `None` if that was too much to keep.
pub fn changed(since: Since) -> Option<Vec<Object>> {
    EVENTS.with_borrow(|events| {
        let kept = events.len() < MOST_EVENTS && events.len() >= since.events;
        kept.then(|| events[since.events..].to_vec())
    })
}

/// The command has run.
pub fn end(since: Since) -> Touched {
    RECORDING.set(RECORDING.get().saturating_sub(1));
    let events = EVENTS.with_borrow_mut(|events| match events.len() > since.events {
        true => events.split_off(since.events),
        false => Vec::new(),
    });
    if !events.is_empty() {
        // SAFETY: inside a transaction; the catalog rows of the command become visible.
        unsafe { pg_sys::CommandCounterIncrement() };
    }
    for event in events {
        if PERMANENT.get() == since.permanent {
            count(is_temporary(event));
        }
    }
    // What it ran inside says nothing of the command that it runs inside of, unless it was permanent.
    let temporary = TEMPORARY.replace(since.temporary);
    if PERMANENT.get() != since.permanent {
        Touched::Permanent
    } else if temporary != since.temporary {
        Touched::TemporaryOnly
    } else {
        Touched::Unknown
    }
}

/// The transaction ended. What a command did that goes on in another one is not known.
pub fn transaction_ended() {
    if RECORDING.replace(0) > 0 {
        changed_something_else();
    }
    EVENTS.with_borrow_mut(Vec::clear);
}

/// Whether an object is of a kind that no result can rest on, what is stored at least: see the head of `commands`.
pub fn concerns_nobody((class, _): Object) -> bool {
    /// pg_default_acl, pg_largeobject, pg_database, pg_tablespace, pg_parameter_acl
    const KINDS: [u32; 5] = [826, 2613, 1262, 1213, 6243];
    KINDS.contains(&class.to_u32())
}

/// Whether an object is temporary, with everything that depends on it.
pub fn is_temporary(object: Object) -> bool {
    let mut known = vec![object];
    let mut at = 0;
    while let Some(object) = known.get(at).copied() {
        if known.len() > MOST_DEPENDENTS || !lies_in_temporary_schema(object) {
            return false;
        }
        // A rule, a default, a policy: what it belongs to is changed.
        if let Some(Home::Relation(relation)) = home(object) {
            push(&mut known, (pg_sys::RelationRelationId, relation));
        }
        for dependent in dependents(object) {
            push(&mut known, dependent);
        }
        at += 1;
    }
    true
}

fn push(known: &mut Vec<Object>, object: Object) {
    if !known.contains(&object) {
        known.push(object);
    }
}

/// Whether an object, or what it is a part of, lies in a temporary schema.
pub fn lies_in_temporary_schema(object: Object) -> bool {
    let schema = match home(object) {
        Some(Home::Schema(schema)) => schema,
        // SAFETY: a syscache lookup.
        Some(Home::Relation(relation)) => unsafe { pg_sys::get_rel_namespace(relation) },
        None => return false,
    };
    // SAFETY: a syscache lookup.
    schema != pg_sys::InvalidOid && unsafe { pg_sys::isAnyTempNamespace(schema) }
}

/// Where an object lies.
enum Home {
    Schema(pg_sys::Oid),
    Relation(pg_sys::Oid),
}

/// A catalog, its index by oid, and the column that says where the object lies.
#[derive(Clone, Copy)]
struct Catalog {
    class: u32,
    index: u32,
    column: i32,
    of_relation: bool,
}

const fn catalog(class: u32, index: u32, column: i32, of_relation: bool) -> Catalog {
    Catalog {
        class,
        index,
        column,
        of_relation,
    }
}

const CATALOGS: [Catalog; 12] = [
    // pg_type.typnamespace, pg_constraint.connamespace
    catalog(1247, 2703, 3, false),
    catalog(2606, 2667, 3, false),
    // pg_attrdef.adrelid, pg_rewrite.ev_class, pg_trigger.tgrelid, pg_policy.polrelid, pg_statistic_ext.stxrelid
    catalog(DEFAULTS, 2657, 2, true),
    catalog(2618, 2692, 3, true),
    catalog(2620, 2702, 2, true),
    catalog(3256, 3257, 3, true),
    catalog(3381, 3380, 2, true),
    // pg_operator.oprnamespace, pg_collation.collnamespace, pg_ts_config.cfgnamespace, pg_ts_dict.dictnamespace, pg_conversion.connamespace
    catalog(2617, 2688, 3, false),
    catalog(3456, 3085, 3, false),
    catalog(3602, 3712, 3, false),
    catalog(3600, 3605, 3, false),
    catalog(2607, 2670, 3, false),
];
/// pg_cast.castsource, pg_cast.casttarget, pg_transform.trftype: of a type.
const CASTS: Catalog = catalog(2605, 2660, 2, false);
const CASTS_BY_TARGET: Catalog = catalog(2605, 2660, 3, false);
const TRANSFORMS: Catalog = catalog(3576, 3574, 2, false);
const OID_COLUMN: u32 = 1;
/// pg_attrdef
const DEFAULTS: u32 = 2604;
/// pg_inherits
const PARENTS: u32 = 2611;

/// Where an object lies; `None` if that is not known of its kind, or if there is none.
fn home((class, object): Object) -> Option<Home> {
    // SAFETY: catalog lookups that allow for its absence; the catalogs and their columns are those of all supported versions.
    unsafe {
        match class {
            pg_sys::NamespaceRelationId => Some(Home::Schema(object)),
            pg_sys::RelationRelationId => Some(Home::Schema(pg_sys::get_rel_namespace(object))),
            pg_sys::ProcedureRelationId => Some(Home::Schema(pg_sys::get_func_namespace(object))),
            _ if class.to_u32() == CASTS.class => {
                // Whoever uses it names both types.
                let [source, target] = [CASTS, CASTS_BY_TARGET].map(|of| named_by(&of, object));
                let (source, target) = (type_schema(source?), type_schema(target?));
                match pg_sys::isAnyTempNamespace(source) {
                    true => Some(Home::Schema(source)),
                    false => Some(Home::Schema(target)),
                }
            }
            _ if class.to_u32() == TRANSFORMS.class => {
                named_by(&TRANSFORMS, object).map(|of| Home::Schema(type_schema(of)))
            }
            _ => {
                let catalog = CATALOGS
                    .iter()
                    .find(|catalog| catalog.class == class.to_u32())?;
                named_by(catalog, object).map(match catalog.of_relation {
                    true => Home::Relation,
                    false => Home::Schema,
                })
            }
        }
    }
}

/// What a row of a catalog names in its column.
unsafe fn named_by(catalog: &Catalog, object: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let mut found = None;
    // SAFETY: a catalog with that column, and its index by oid.
    unsafe {
        compat::catalog_rows(
            pg_sys::Oid::from_u32(catalog.class),
            pg_sys::Oid::from_u32(catalog.index),
            OID_COLUMN,
            object,
            |tuple, description| {
                let mut is_null = false;
                let value = pg_sys::heap_getattr(tuple, catalog.column, description, &mut is_null);
                found = pg_sys::Oid::from_datum(value, is_null);
            },
        );
    }
    found
}

fn type_schema(of: pg_sys::Oid) -> pg_sys::Oid {
    const TYPES: Catalog = CATALOGS[0];
    // SAFETY: pg_type, as the list has it.
    unsafe { named_by(&TYPES, of) }.unwrap_or(pg_sys::InvalidOid)
}

/// What depends on an object.
fn dependents((class, object): Object) -> Vec<Object> {
    let mut found = Vec::new();
    compat::each_dependent(class, object, |class, object| found.push((class, object)));
    found
}
