//! The tracking triggers themselves: making and dropping one.
//!
//! A trigger is ours if it calls `cache_tracker()` and depends on the extension, whatever it is called now. Only such a one is replaced
//! or dropped. Somebody else's that has the name of one of ours stays as it is, and the table is not tracked.
//!
//! Each command is the server's own, run as the present role (`crate::command`), so event triggers see it. The caller holds the lock on
//! the table that the command takes: then the table that the name means is the one that was asked for, unless its schema was renamed
//! meanwhile, which is looked for afterwards.

#![allow(unsafe_code)]

use super::{relations, utility};
use crate::command;
use crate::compat;
use crate::error::Error;
use crate::naming;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A trigger that is to be.
pub struct Wanted<'a> {
    /// How it is called if there is none of ours that does the same.
    pub name: &'a CStr,
    /// FOR EACH ROW.
    pub row: bool,
    /// BEFORE.
    pub before: bool,
    /// INSERT, UPDATE …, as in `pg_trigger.tgtype`.
    pub events: i16,
    /// Its transition tables: name, and whether it has the new rows.
    pub tables: &'a [(&'a CStr, bool)],
    /// Its arguments.
    pub arguments: &'a [String],
    /// `pg_trigger.tgenabled`.
    pub fires: u8,
}

impl Wanted<'_> {
    /// Whether a trigger is of this kind.
    fn resembles(&self, trigger: &relations::TrackerTrigger) -> bool {
        let has = |bit: u32| trigger.kind & bit as i16 != 0;
        has(pg_sys::TRIGGER_TYPE_ROW) == self.row
            && has(pg_sys::TRIGGER_TYPE_BEFORE) == self.before
            && trigger.kind & self.events == self.events
    }

    /// The trigger of ours that this one takes the place of, or the name that is free for it.
    fn place(&self, table: pg_sys::Oid) -> Result<(CString, bool), Error> {
        let ours = relations::tracker_triggers(table)
            .into_iter()
            .find(|trigger| self.resembles(trigger) && is_ours(trigger.oid));
        if let Some(name) = ours.and_then(|trigger| crate::encoding::c_string(&trigger.name).ok()) {
            return Ok((name, true));
        }
        match find(table, self.name) {
            None => Ok((self.name.to_owned(), false)),
            Some(trigger) if is_ours(trigger) => Ok((self.name.to_owned(), true)),
            Some(_) => Err(Error::TriggerInTheWay(
                crate::encoding::from_server(self.name.to_bytes()),
                naming::relation_name(table).unwrap_or_default(),
            )),
        }
    }

    /// Refuses if a trigger of somebody else is in the way.
    pub fn check(&self, table: pg_sys::Oid) -> Result<(), Error> {
        self.place(table).map(drop)
    }

    /// Makes the trigger. The present transaction holds SHARE ROW EXCLUSIVE on the table, or more.
    pub fn create(&self, table: pg_sys::Oid, extension: pg_sys::Oid) -> Result<(), Error> {
        let (name, replace) = self.place(table)?;
        let gone = || Error::NoSuchRelation(table);
        let function = relations::tracker_function().ok_or(Error::NoExtension)?;
        // SAFETY: a parse tree as CREATE TRIGGER has it, of names from the catalog; the table is locked.
        unsafe {
            let statement: *mut pg_sys::CreateTrigStmt =
                command::node(pg_sys::NodeTag::T_CreateTrigStmt);
            let create = &mut *statement;
            create.replace = replace;
            create.trigname = pg_sys::pstrdup(name.as_ptr());
            create.relation = range_of(table).ok_or_else(gone)?;
            create.funcname = command::names(&[
                pg_sys::get_namespace_name(pg_sys::get_func_namespace(function)),
                pg_sys::get_func_name(function),
            ]);
            let arguments: Vec<CString> = self
                .arguments
                .iter()
                .filter_map(|argument| crate::encoding::c_string(argument).ok())
                .collect();
            let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
            create.args = command::names(&arguments);
            create.row = self.row;
            create.timing = if self.before {
                pg_sys::TRIGGER_TYPE_BEFORE as i16
            } else {
                pg_sys::TRIGGER_TYPE_AFTER as i16
            };
            create.events = self.events;
            create.transitionRels = command::list(self.tables.iter().map(|(name, is_new)| {
                let table: *mut pg_sys::TriggerTransition =
                    command::node(pg_sys::NodeTag::T_TriggerTransition);
                (*table).name = pg_sys::pstrdup(name.as_ptr());
                (*table).isNew = *is_new;
                (*table).isTable = true;
                table.cast()
            }));
            utility::without_marking(statement.cast(), || {
                command::run(statement, c"CREATE TRIGGER of pg_query_cache");
            });
            let trigger = find(table, &name).ok_or_else(gone)?;
            fires(table, &name, self.fires);
            belongs_to(trigger, extension);
        }
        Ok(())
    }
}

/// Drops one of our triggers. The present transaction holds ACCESS EXCLUSIVE on the table.
pub fn drop_trigger(table: pg_sys::Oid, name: &str) -> Result<(), Error> {
    let gone = || Error::NoSuchRelation(table);
    let name = crate::encoding::c_string(name).map_err(|_| gone())?;
    // SAFETY: a parse tree as DROP TRIGGER has it, of names from the catalog.
    unsafe {
        let range = range_of(table).ok_or_else(gone)?;
        let object = command::names(&[(*range).schemaname, (*range).relname, name.as_ptr()]);
        let statement: *mut pg_sys::DropStmt = command::node(pg_sys::NodeTag::T_DropStmt);
        (*statement).objects = command::list([object.cast()]);
        (*statement).removeType = pg_sys::ObjectType::OBJECT_TRIGGER;
        (*statement).behavior = pg_sys::DropBehavior::DROP_RESTRICT;
        utility::without_marking(statement.cast(), || {
            command::run(statement, c"DROP TRIGGER of pg_query_cache");
        });
    }
    match find(table, &name) {
        None => Ok(()),
        Some(_) => Err(gone()),
    }
}

/// Whether the trigger depends on the extension. Of those that call `cache_tracker()` these are ours.
pub fn is_ours(trigger: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup.
    let extensions = unsafe {
        compat::oids(pg_sys::getAutoExtensionsOfObject(
            pg_sys::TriggerRelationId,
            trigger,
        ))
    };
    compat::extension().is_some_and(|extension| extensions.contains(&extension))
        && relations::calls_tracker(trigger)
}

/// Oid of a trigger.
fn find(table: pg_sys::Oid, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog lookup that allows for its absence.
    let oid = unsafe { pg_sys::get_trigger_oid(table, name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The name of a table, as parse trees have it; `None` if it is gone.
unsafe fn range_of(table: pg_sys::Oid) -> Option<*mut pg_sys::RangeVar> {
    // SAFETY: syscache lookups that return C strings in our memory context, or NULL.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        (!name.is_null() && !schema.is_null()).then(|| pg_sys::makeRangeVar(schema, name, -1))
    }
}

/// In which sessions the trigger fires, as ALTER TABLE … ENABLE would say it. ALTER TABLE itself is refused while a statement of the
/// session has the table open.
unsafe fn fires(table: pg_sys::Oid, name: &CStr, when: u8) {
    // SAFETY: the trigger is there, and the table is locked.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::NoLock as _);
        pg_sys::EnableDisableTrigger(
            relation,
            name.as_ptr(),
            when as std::ffi::c_char,
            false,
            pg_sys::ShareRowExclusiveLock as _,
        );
        pg_sys::table_close(relation, pg_sys::NoLock as _);
        pg_sys::CommandCounterIncrement();
    }
}

/// `ALTER TRIGGER … DEPENDS ON EXTENSION`, which only the owner of the table may say.
unsafe fn belongs_to(trigger: pg_sys::Oid, extension: pg_sys::Oid) {
    if is_ours(trigger) {
        return;
    }
    let address = |class: pg_sys::Oid, oid| pg_sys::ObjectAddress {
        classId: class,
        objectId: oid,
        objectSubId: 0,
    };
    // SAFETY: both objects exist; the present transaction holds a lock on the extension.
    unsafe {
        pg_sys::recordDependencyOn(
            &address(pg_sys::TriggerRelationId, trigger),
            &address(pg_sys::ExtensionRelationId, extension),
            pg_sys::DependencyType::DEPENDENCY_AUTO_EXTENSION,
        );
        pg_sys::CommandCounterIncrement();
    }
}
