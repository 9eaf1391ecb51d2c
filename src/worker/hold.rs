//! Commands that need a database without our worker: DROP DATABASE, CREATE DATABASE … TEMPLATE, ALTER DATABASE … RENAME or SET
//! TABLESPACE. The server refuses them while anybody else is connected, and does not know that our worker would go.
//!
//! Before such a command the worker is asked to leave and none is started until the command's transaction has ended. If it failed,
//! the launcher starts the worker again.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::fault::{self, Point};
use crate::store::area::{Area, area};
use crate::store::insert::{Verdict, sweep};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::Ordering;

/// How long the worker is waited for, in steps of 10 ms. The server itself waits 5 s more.
const PATIENCE: u32 = 500;

/// A database that this session's command needs for itself.
#[derive(Clone, Copy)]
struct Held {
    database: pg_sys::Oid,
    /// It is to be dropped.
    dropped: bool,
}

static HELD: Backend<Cell<Option<Held>>> = Backend::new(Cell::new(None));
static WAKE: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// Before a command: sends the worker away if the command needs its database; notes if the extension comes or goes.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn before(statement: *mut pg_sys::Node) {
    // SAFETY: the tag tells the struct; names are C strings of the parse tree.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropdbStmt => {
                hold((*statement.cast::<pg_sys::DropdbStmt>()).dbname, true);
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let create = &*statement.cast::<pg_sys::CreatedbStmt>();
                let template = option(create.options, c"template");
                hold(template.unwrap_or(c"template1".as_ptr().cast_mut()), false);
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = &*statement.cast::<pg_sys::AlterDatabaseStmt>();
                if option(alter.options, c"tablespace").is_some() {
                    hold(alter.dbname, false);
                }
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                if rename.renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    hold(rename.subname, false);
                }
            }
            pg_sys::NodeTag::T_CreateExtensionStmt => {
                let create = &*statement.cast::<pg_sys::CreateExtensionStmt>();
                if CStr::from_ptr(create.extname) == c"pg_query_cache" {
                    WAKE.set(true);
                }
            }
            pg_sys::NodeTag::T_DropStmt => {
                let drop = &*statement.cast::<pg_sys::DropStmt>();
                if drop.removeType == pg_sys::ObjectType::OBJECT_EXTENSION {
                    WAKE.set(true);
                }
            }
            _ => (),
        }
    }
}

/// The value of an option of a command; `None` if it is not given, or given as DEFAULT.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut std::ffi::c_char> {
    if options.is_null() {
        return None;
    }
    // SAFETY: a list of DefElems.
    unsafe {
        let cells = std::slice::from_raw_parts((*options).elements, (*options).length as usize);
        cells
            .iter()
            .map(|cell| cell.ptr_value.cast::<pg_sys::DefElem>())
            .find(|element| {
                CStr::from_ptr((**element).defname) == name && !(**element).arg.is_null()
            })
            .map(|element| pg_sys::defGetString(element))
    }
}

/// Sends the worker of a database away, if the caller may do to the database what it is about to.
unsafe fn hold(name: *const std::ffi::c_char, dropped: bool) {
    let Some(area) = area() else { return };
    // SAFETY: a C string; catalog lookups.
    let database = unsafe {
        let database = pg_sys::get_database_oid(name, true);
        if database == pg_sys::InvalidOid || HELD.get().is_some() || !may_hold(database) {
            return;
        }
        database
    };
    let Some(state) = area.database_or_new(database) else {
        return;
    };
    crate::transaction::prepare(area);
    state.held.fetch_add(1, Ordering::AcqRel);
    HELD.set(Some(Held { database, dropped }));
    fault::point(Point::Holding);
    for _ in 0..PATIENCE {
        let worker = state.worker_pid.load(Ordering::Acquire);
        if worker == 0 {
            return;
        }
        // SAFETY: sets a latch; a short sleep; an interrupt ends the command, and with it the hold.
        unsafe {
            super::set_latch(worker);
            pg_sys::pg_usleep(10_000);
        }
        pgrx::check_for_interrupts!();
    }
}

/// Whether the caller may copy, change or drop the database. Nobody else can send its worker away.
fn may_hold(database: pg_sys::Oid) -> bool {
    compat::owns_database(database) || compat::may_create_databases()
}

/// The worker of this database is to look what there is to do once this transaction has committed.
pub fn wake_at_commit(area: Area) {
    crate::transaction::prepare(area);
    WAKE.set(true);
}

/// The transaction has ended.
pub fn transaction_ended(area: Area, committed: bool) {
    if let Some(held) = HELD.take()
        && let Some(state) = area.database(held.database)
    {
        let _ = state
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1));
        if committed && held.dropped {
            for partition in area.partitions() {
                sweep(partition, |head, _| {
                    if head.database == held.database.to_u32() {
                        Verdict::Remove
                    } else {
                        Verdict::Keep
                    }
                });
            }
            area.forget_database(held.database);
        } else if state.wanted.load(Ordering::Acquire) == 1 {
            super::wake(area, held.database);
        }
    }
    if WAKE.take() && committed {
        if let Some(state) = area.database_or_new(compat::database()) {
            state.jobs.store(1, Ordering::Release);
        }
        super::wake(area, compat::database());
    }
}
