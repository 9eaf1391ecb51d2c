//! Commands that need a database without our processes: DROP DATABASE, CREATE DATABASE … TEMPLATE, ALTER DATABASE … RENAME or SET
//! TABLESPACE. The server refuses them while anybody else is connected, and does not know that ours would go.
//!
//! Before such a command they are asked to leave, and none is started until the command's transaction, or the part of it that the
//! command was in, has ended. Nobody is sent away by a command that the server will refuse anyhow: who may not do it, or not here.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::fault::{self, Point};
use crate::store::area::{Area, area};
use crate::store::posts::{Duty, Present};
use crate::store::walk;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::sync::atomic::Ordering;

/// How long our processes are waited for, in steps of 10 ms. The server itself waits 5 s more.
const PATIENCE: u32 = 500;

/// A database that a command of this session needs for itself.
#[derive(Clone, Copy)]
struct Held {
    database: pg_sys::Oid,
    /// It is to be dropped.
    dropped: bool,
    /// The level of the subtransaction that the command is in.
    level: i32,
}

/// What a command does to the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Drop,
    Copy,
    Move,
    Rename,
}

static HELD: Backend<RefCell<Vec<Held>>> = Backend::new(RefCell::new(Vec::new()));
static WAKE: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// Before a command: sends our processes away if the command needs its database; notes if the extension comes or goes.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn before(statement: *mut pg_sys::Node) {
    // SAFETY: the tag tells the struct; names are C strings of the parse tree.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropdbStmt => {
                hold((*statement.cast::<pg_sys::DropdbStmt>()).dbname, Deed::Drop);
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let create = &*statement.cast::<pg_sys::CreatedbStmt>();
                let template = option(create.options, c"template");
                hold(
                    template.unwrap_or(c"template1".as_ptr().cast_mut()),
                    Deed::Copy,
                );
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = &*statement.cast::<pg_sys::AlterDatabaseStmt>();
                if option(alter.options, c"tablespace").is_some() {
                    hold(alter.dbname, Deed::Move);
                }
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                if rename.renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    hold(rename.subname, Deed::Rename);
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

/// Sends our processes in a database away, if the server will let the caller do to it what it is about to.
unsafe fn hold(name: *const std::ffi::c_char, deed: Deed) {
    let Some(area) = area() else { return };
    // SAFETY: a C string; catalog lookups.
    let database = unsafe {
        let database = pg_sys::get_database_oid(name, true);
        if database == pg_sys::InvalidOid || !may(database, deed) {
            return;
        }
        database
    };
    let Some(state) = area.database_or_new(database) else {
        empty(area, database);
        return;
    };
    crate::transaction::prepare(area);
    // SAFETY: a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    state.held.fetch_add(1, Ordering::AcqRel);
    HELD.with_borrow_mut(|held| {
        held.push(Held {
            database,
            dropped: deed == Deed::Drop,
            level,
        });
    });
    fault::point(Point::Holding);
    empty(area, database);
}

/// Sends our processes in a database away, and waits until they are gone; not for itself, and not for ever. An interrupt ends the
/// command, and with it the hold.
pub fn empty(area: Area, database: pg_sys::Oid) {
    // SAFETY: a variable of the process.
    let own = unsafe { pg_sys::MyProcPid };
    for turn in 0..PATIENCE {
        let present: Vec<Present> = area
            .posts()
            .present()
            .into_iter()
            .filter(|one| one.order.database == database.to_u32() && one.pid != own)
            .collect();
        if present.is_empty() {
            return;
        }
        for one in present {
            match one.order.duty {
                Duty::Worker => super::wake_process(one.pid),
                // They obey at once; again and again would not make them faster.
                _ if turn % 50 == 0 => super::kill(one.pid),
                _ => (),
            }
        }
        // SAFETY: a short sleep.
        unsafe { pg_sys::pg_usleep(10_000) };
        pgrx::check_for_interrupts!();
    }
}

/// Whether the server will let the caller do it, as far as that is known beforehand. Nobody else can send our processes away.
fn may(database: pg_sys::Oid, deed: Deed) -> bool {
    // SAFETY: a variable of the backend. What cannot be in a transaction block is refused there.
    if deed != Deed::Rename && unsafe { pg_sys::IsTransactionBlock() } {
        return false;
    }
    let (owns, creates) = (
        compat::owns_database(database),
        compat::may_create_databases(),
    );
    let is_own = database == compat::database();
    match deed {
        Deed::Drop => owns && !is_own && !compat::is_template(database),
        Deed::Move => owns && !is_own,
        Deed::Rename => owns && creates && !is_own,
        Deed::Copy => creates && (owns || compat::is_template(database)),
    }
}

/// The worker of this database is to look what there is to do once this transaction has committed.
pub fn wake_at_commit(area: Area) {
    crate::transaction::prepare(area);
    WAKE.set(true);
}

/// A subtransaction at `level` has ended.
pub fn subtransaction_ended(area: Area, level: i32, committed: bool) {
    if HELD.with_borrow(Vec::is_empty) {
        return;
    }
    let mut released = Vec::new();
    HELD.with_borrow_mut(|held| {
        if committed {
            for one in held.iter_mut() {
                one.level = one.level.min(level - 1);
            }
        } else {
            held.retain(|one| {
                let keeps = one.level < level;
                if !keeps {
                    released.push(*one);
                }
                keeps
            });
        }
    });
    for one in released {
        release(area, one, false);
    }
}

/// Nobody is kept away any more.
fn release(area: Area, held: Held, committed: bool) {
    let Some(state) = area.database(held.database) else {
        return;
    };
    let _ = state
        .held
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1));
    if committed && held.dropped {
        walk::remove_database(area, held.database.to_u32());
        area.forget_database(held.database);
    } else if state.wanted.load(Ordering::Acquire) == 1 {
        super::wake(area, held.database);
    }
}

/// The transaction has ended.
pub fn transaction_ended(area: Area, committed: bool) {
    for held in HELD.take() {
        if committed && held.dropped {
            area.functions().forget(held.database);
            area.charges().forget(held.database);
        }
        release(area, held, committed);
    }
    if WAKE.take() && committed {
        if let Some(state) = area.database_or_new(compat::database()) {
            state.jobs.store(1, Ordering::Release);
        }
        super::wake(area, compat::database());
    }
}
