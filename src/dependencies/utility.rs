//! Commands that change what functions mean: DDL, rights, policies, roles.
//!
//! Every such command marks the definitions of its database (or the cluster's roles) as written by its transaction, so nothing cached
//! in that database before is served to anyone who can see the change. That is coarse on purpose: which definitions a function rests
//! on (a policy of a table under a view, an operator of a type, a schema in the search path …) is a long list, and an entry served
//! after one of them changed would be a wrong answer. DDL is rare and a cache refills.
//!
//! `commands` says which command changes what. Behind a closed gate ([`crate::gate`]) nothing is marked, and the transaction looks once
//! more before it commits.

#![allow(unsafe_code)]

use super::commands::{self, Change};
use super::session::Reads;
use super::{declared, held, relations, temporary, trees};
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::configuration;
use crate::gate::{self, Owed};
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{CLUSTER_SLOT, Tag, definitions_slot, slot_of};
use crate::validity::writers::{Act, Operation};
use pg_query_cache_validity::Effect;
use pgrx::pg_sys;
use std::cell::Cell;

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Address of the parse tree of a command of ours.
static QUIET: Backend<Cell<usize>> = Backend::new(Cell::new(0));

/// Runs `body`, in which the command `statement` does not mark the definitions: what it concerns is marked by the caller. Others that it
/// brings about, by event triggers, do.
pub fn without_marking<R>(statement: *mut pg_sys::Node, body: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            QUIET.set(self.0);
        }
    }
    let _restore = Restore(QUIET.replace(statement.addr()));
    body()
}

/// Installs the hook. Once, in the postmaster.
pub fn install() {
    // SAFETY: the postmaster is alone while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    pstmt: *mut pg_sys::PlannedStmt,
    query: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server's arguments, passed on as they are; no value with a destructor is alive in this frame.
    unsafe {
        let statement = (*pstmt).utilityStmt;
        let (change, owed) = guarded(|| {
            if !gate::is_open() {
                return (Change::Nothing, behind_closed_gate(statement));
            }
            if commands::creates_extension(statement) {
                // What we know of the gate may be of before a DROP EXTENSION.
                gate::owes(Owed::DEFINITIONS);
            }
            let change = before(statement);
            crate::worker::hold::before(statement);
            if change == Change::Definitions || commands::commits_prepared(statement) {
                configuration::touched();
            }
            (change, Owed::NOTHING)
        });
        #[allow(
            ffi_unwind_calls,
            reason = "another library's hook raises ERRORs, as the server does"
        )]
        match PREVIOUS {
            Some(previous) => {
                previous(pstmt, query, read_only_tree, context, params, env, dest, qc)
            }
            None => server::standard_ProcessUtility(
                pstmt,
                query,
                read_only_tree,
                context,
                params,
                env,
                dest,
                qc,
            ),
        }
        // Once more: it may have ended transactions on its way.
        gate::owes(owed);
        if change != Change::Nothing {
            guarded(|| after(change, statement));
        }
    }
}

/// The extension is not here: nothing is done but what has to be known if it comes. What the command changes of that.
unsafe fn behind_closed_gate(statement: *mut pg_sys::Node) -> Owed {
    // SAFETY: the parse tree of the command.
    unsafe {
        held::before(statement);
        crate::worker::hold::before(statement);
        let owed = commands::owed(statement);
        gate::owes(owed);
        owed
    }
}

unsafe fn before(statement: *mut pg_sys::Node) -> Change {
    // SAFETY: the parse tree of the command.
    let (change, looks_only) =
        unsafe { (commands::change(statement), commands::looks_only(statement)) };
    if !looks_only {
        frames::refuse(Reason::Writes);
    }
    // SAFETY: the parse tree of the command.
    unsafe { held::before(statement) };
    // SAFETY: every node has a tag.
    if frames::filling() && unsafe { (*statement).type_ } == pg_sys::NodeTag::T_VariableShowStmt {
        frames::reads(Reads::SETTINGS);
    }
    if change != Change::Nothing {
        temporary::command_ran();
        // SAFETY: the parse tree of the command.
        unsafe { trees::keep_writers_away(statement) };
        // SAFETY: the parse tree of the command.
        unsafe {
            if !commands::comes_first(statement) {
                register(change, statement);
            }
        }
    }
    change
}

/// What has to be looked at again once the command has run: planning it can have called cached functions, which have asked for
/// temporary objects before there were any; and the name of a materialized view can have changed hands while REFRESH waited.
unsafe fn after(change: Change, statement: *mut pg_sys::Node) {
    temporary::command_ran();
    // SAFETY: a variable of the backend; a command that ends its own transactions (VACUUM, CLUSTER) is of no concern here.
    if !unsafe { pg_sys::IsTransactionState() } {
        return;
    }
    if change == Change::Definitions && !own::wrote(definitions_slot(crate::compat::database())) {
        // The command has committed on its way (DETACH PARTITION CONCURRENTLY), and changed more in the transaction after that; or it
        // had to come first (DROP INDEX CONCURRENTLY).
        // SAFETY: the parse tree of the command.
        unsafe { register(change, statement) };
    }
    if let Change::Contents(_) = change {
        // SAFETY: the parse tree of the command. REFRESH still holds its lock, so the name means what was refreshed.
        let refreshed = unsafe { commands::change(statement) };
        if refreshed != change {
            // SAFETY: as above.
            unsafe { register(refreshed, statement) };
        }
    }
    // SAFETY: the parse tree of the command.
    unsafe {
        if trees::grows_tree(statement) {
            trees::track_new_member(statement);
        }
    }
}

/// Registers the present transaction under what a command changes.
unsafe fn register(change: Change, statement: *mut pg_sys::Node) {
    // SAFETY: a variable of the backend.
    let may_write = unsafe { !server::RecoveryInProgress() && pg_sys::IsTransactionState() };
    if change == Change::Temporary || QUIET.get() == statement.addr() || !may_write {
        return;
    }
    let Some(area) = area() else { return };
    let database = crate::compat::database();
    // SAFETY: the parse tree of the command.
    let act = unsafe {
        Act::on(
            Operation::of_command(statement),
            commands::relation(statement).unwrap_or(pg_sys::InvalidOid),
        )
    };
    match change {
        Change::Definitions => mark(area, &[definitions_slot(database)], act),
        // Memberships decide what a role may do in every database.
        Change::Roles => mark(area, &[CLUSTER_SLOT], act),
        Change::Names => mark(area, &[CLUSTER_SLOT, definitions_slot(database)], act),
        Change::Contents(view) => {
            let slot = |tag| slot_of(database, tag, area.layout.slots);
            mark(
                area,
                &[slot(Tag::Relation(view)), slot(Tag::WholeRelation(view))],
                act,
            );
        }
        Change::Nothing | Change::Temporary => (),
    }
}

fn mark(area: Area, slots: &[u32], act: Act) {
    // SAFETY: inside a transaction that may write (checked by the caller).
    let xid = unsafe { assign_xid() };
    crate::transaction::prepare(area);
    for slot in slots {
        own::register(area, *slot, xid, Effect::AtCommit, act);
    }
}

/// Marks what commands behind a closed gate have changed, now that the transaction is about to end with the gate open.
pub fn mark_owed(area: Area, owed: Owed) {
    let act = Act::new(Operation::CatalogChange);
    if owed.has(Owed::DEFINITIONS) {
        mark(area, &[definitions_slot(crate::compat::database())], act);
    }
    if owed.has(Owed::CLUSTER) {
        mark(area, &[CLUSTER_SLOT], act);
    }
}

/// Marks all results of the present database as invalid from the commit of this transaction on.
pub fn mark_database(area: Area, operation: Operation) {
    mark(
        area,
        &[definitions_slot(crate::compat::database())],
        Act::new(operation),
    );
}

/// A statement that changes rows of a system catalog directly: the definitions change without any command.
pub fn catalog_written() {
    if let Some(area) = area() {
        mark_database(area, Operation::CatalogChange);
        mark(area, &[CLUSTER_SLOT], Act::new(Operation::CatalogChange));
    }
}

/// Roots under which `relation`'s writes are marked, by name; for `invalidate_cache_table`.
pub fn mark_relation(area: Area, relation: pg_sys::Oid) {
    let database = crate::compat::database();
    let slot = |tag| slot_of(database, tag, area.layout.slots);
    let slots: Vec<u32> = relations::roots(relation)
        .into_iter()
        .flat_map(|root| [slot(Tag::Relation(root)), slot(Tag::WholeRelation(root))])
        .collect();
    mark(area, &slots, Act::on(Operation::InvalidateTable, relation));
}

/// Marks all results of a cached function as invalid.
pub fn mark_function(area: Area, function: pg_sys::Oid) {
    let database = crate::compat::database();
    mark(
        area,
        &[slot_of(
            database,
            Tag::Function(function),
            area.layout.slots,
        )],
        Act::new(Operation::InvalidateFunction),
    );
}

/// Marks all results with one of the tags as invalid.
pub fn mark_tags(area: Area, tags: impl Iterator<Item = String>) {
    let database = crate::compat::database();
    let slots: Vec<u32> = tags
        .map(|tag| slot_of(database, Tag::Named(&declared::cut(tag)), area.layout.slots))
        .collect();
    mark(area, &slots, Act::new(Operation::InvalidateTags));
}
