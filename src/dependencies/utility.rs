//! Commands that change what functions mean: DDL, rights, policies, roles.
//!
//! The transaction of such a command owes a mark on the definitions of its database (or on what the cluster shares), so nothing cached
//! in that database before is served to anyone who can see the change; see `own` for what owing is. A command that has changed nothing,
//! or temporary objects only, owes nothing. That is coarse on purpose: which definitions a function rests
//! on (a policy of a table under a view, an operator of a type, a schema in the search path …) is a long list, and an entry served
//! after one of them changed would be a wrong answer. DDL is rare and a cache refills.
//!
//! `commands` says which command changes what, `touched` what one has touched. Behind a closed gate ([`crate::gate`]) nothing is marked,
//! and the transaction looks once more before it commits.

#![allow(unsafe_code)]

use super::commands::{self, Change};
use super::session::Reads;
use super::touched::{self, Since, Touched};
use super::{declared, grants, held, relations, temporary, trees};
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::configuration;
use crate::gate::{self, Owed};
use crate::language::{binding, likeness};
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use crate::validity::places::{self, definitions_slot, slot_to_mark};
use crate::validity::slots::assign_xid;
use crate::validity::tags::{CLUSTER_SLOT, RESERVED, Tag, slot_of};
use crate::validity::writers::{Act, Operation};
use crate::validity::{imported, own};
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
        imported::before(statement);
        let (begun, behind) = guarded(|| {
            if (*statement).type_ == pg_sys::NodeTag::T_DropdbStmt {
                places::dropping(&*statement.cast());
            }
            if !gate::is_open() {
                return (
                    Begun::of(Change::Nothing),
                    Some(behind_closed_gate(statement)),
                );
            }
            // FETCH is how rows are asked for.
            if (*statement).type_ != pg_sys::NodeTag::T_FetchStmt {
                frames::something_begins();
            }
            if commands::creates_extension(statement) {
                // What we know of the gate may be of before a DROP EXTENSION.
                gate::owes(Owed::DEFINITIONS);
            }
            let begun = before(statement);
            crate::worker::hold::before(statement);
            if begun.change == Change::Definitions || commands::commits_prepared(statement) {
                configuration::touched();
            }
            (begun, None)
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
        if let Some(behind) = behind {
            guarded(|| behind.ends());
        }
        if begun.change != Change::Nothing {
            guarded(|| {
                let renamed =
                    binding::renames(statement).then(|| begun.since.and_then(touched::changed));
                after(begun, statement);
                if pg_sys::IsTransactionState() {
                    likeness::ends(statement);
                    if let Some(objects) = renamed {
                        binding::follow(objects.as_deref());
                    }
                }
            });
        }
    }
}

/// The extension is not here: nothing is done but what has to be known if it comes, or is elsewhere.
unsafe fn behind_closed_gate(statement: *mut pg_sys::Node) -> Behind {
    // SAFETY: the parse tree of the command.
    unsafe {
        held::before(statement);
        crate::worker::hold::before(statement);
        let owed = commands::owed(statement);
        gate::owes(owed.without(Owed::CLUSTER));
        gate::owes_databases(|| commands::databases(statement));
        Behind {
            owed,
            moment: owed.has(Owed::CLUSTER).then(moment),
        }
    }
}

/// A command behind a closed gate.
#[derive(Clone, Copy)]
struct Behind {
    owed: Owed,
    /// If it can change what the cluster shares: such a command ends no transactions on its way.
    moment: Option<(u32, u32)>,
}

impl Behind {
    /// The command has run. What the cluster shares concerns all databases, so it is owed only if it was written.
    fn ends(self) {
        let wrote = self.moment.is_none_or(|before| before != moment());
        // The rest once more: it may have ended transactions.
        gate::owes(match wrote {
            true => self.owed,
            false => self.owed.without(Owed::CLUSTER),
        });
    }
}

/// What is known of a command before it runs.
#[derive(Clone, Copy)]
struct Begun {
    change: Change,
    /// What its transaction owes because of this command, and did not owe before.
    owes: Owes,
    /// If it is looked at what the command touches.
    since: Option<Since>,
    /// The transaction, and how many of its commands had written: whether this one does is seen by that.
    moment: (u32, u32),
}

impl Begun {
    /// Nothing is owed yet.
    fn of(change: Change) -> Self {
        Begun {
            change,
            owes: Owes::default(),
            since: None,
            moment: (0, 0),
        }
    }
}

/// Slots that a command made its transaction owe.
#[derive(Clone, Copy, Default)]
struct Owes {
    cluster: bool,
    definitions: bool,
    /// Of other databases: a bit for each slot.
    elsewhere: u128,
}

// A slot of definitions has a bit.
const _: () = assert!(RESERVED <= u128::BITS);

fn moment() -> (u32, u32) {
    // SAFETY: variables of the backend; ends the present command, if it has written.
    unsafe {
        if pg_sys::IsTransactionState() && !pg_sys::IsInParallelMode() {
            pg_sys::CommandCounterIncrement();
        }
        (
            crate::compat::local_transaction(),
            pg_sys::GetCurrentCommandId(false),
        )
    }
}

unsafe fn before(statement: *mut pg_sys::Node) -> Begun {
    // SAFETY: the parse tree of the command.
    let (change, looks_only) = unsafe {
        (
            commands::change_here(statement),
            commands::looks_only(statement),
        )
    };
    if !looks_only {
        frames::refuse(Reason::Writes);
    }
    // SAFETY: the parse tree of the command.
    unsafe { held::before(statement) };
    // SAFETY: every node has a tag.
    match unsafe { (*statement).type_ } {
        pg_sys::NodeTag::T_VariableShowStmt => frames::reads(Reads::SETTINGS),
        // A plan rests on statistics.
        pg_sys::NodeTag::T_ExplainStmt => frames::reads(Reads::OUTSIDE),
        _ => (),
    }
    let mut begun = Begun::of(change);
    if change != Change::Nothing {
        temporary::command_ran();
        // SAFETY: the parse tree of the command.
        unsafe {
            trees::keep_writers_away(statement);
            let known = change == Change::Temporary && commands::makes_temporary_only(statement);
            if !known && commands::tells_what_it_touches(statement) {
                begun.since = Some(touched::begin());
            }
            if change == Change::Definitions {
                grants::begins(statement);
            }
            likeness::begins(statement);
            begun.moment = moment();
            begun.owes = owe(change, statement);
        }
    }
    begun
}

/// What has to be looked at again once the command has run: planning it can have called cached functions, which have asked for
/// temporary objects before there were any; what it has touched can be less or more than its text says; and the name of a
/// materialized view can have changed hands while REFRESH waited.
unsafe fn after(begun: Begun, statement: *mut pg_sys::Node) {
    temporary::command_ran();
    // SAFETY: a variable of the backend; a command that ends its own transactions (VACUUM, CLUSTER) is of no concern here.
    if !unsafe { pg_sys::IsTransactionState() } {
        return;
    }
    let touched = begun.since.map_or(Touched::Unknown, touched::end);
    match begun.change {
        Change::Nothing => (),
        Change::Temporary => {
            if touched == Touched::Permanent {
                // Something permanent rested on it.
                // SAFETY: the parse tree of the command.
                unsafe { owe(Change::Definitions, statement) };
            }
        }
        Change::Contents(_) => {
            // SAFETY: the parse tree of the command. REFRESH still holds its lock, so the name means what was refreshed.
            let refreshed = unsafe { commands::change(statement) };
            if refreshed != begun.change {
                // SAFETY: as above.
                unsafe { owe(refreshed, statement) };
            }
        }
        Change::Definitions
        | Change::Database
        | Change::Owners
        | Change::Cluster
        | Change::Everything => {
            // SAFETY: the parse tree of the command, which has run.
            let nothing = unsafe { grants::changed_nothing(statement) };
            // SAFETY: as above.
            let temporary = nothing
                || touched == Touched::TemporaryOnly
                    && unsafe { commands::revoked_nothing(statement) }
                || touched == Touched::Unknown && unsafe { commands::revoked_at_most(statement) }
                || unsafe { commands::names_temporary_only(statement) };
            let now = moment();
            if now == begun.moment || begun.change == Change::Definitions && temporary {
                begun.owes.no_more();
            } else {
                touched::changed_something_else();
            }
            if now.0 != begun.moment.0 {
                // The command has committed on its way (DETACH PARTITION CONCURRENTLY, DROP INDEX CONCURRENTLY), and changed more in
                // the transaction after that.
                // SAFETY: the parse tree of the command.
                unsafe { owe(begun.change, statement) };
            }
        }
    }
    // SAFETY: the parse tree of the command.
    unsafe {
        if trees::grows_tree(statement) {
            trees::track_new_member(statement);
        }
    }
}

/// Makes the present transaction owe marks for what a command changes. What it did not owe before.
unsafe fn owe(change: Change, statement: *mut pg_sys::Node) -> Owes {
    let mut owes = Owes::default();
    // SAFETY: a variable of the backend.
    let may_write = unsafe { !server::RecoveryInProgress() && pg_sys::IsTransactionState() };
    if change == Change::Temporary || QUIET.get() == statement.addr() || !may_write {
        return owes;
    }
    let Some(area) = area() else { return owes };
    // SAFETY: the parse tree of the command.
    let act = unsafe {
        Act::on(
            Operation::of_command(statement),
            commands::relation(statement).unwrap_or(pg_sys::InvalidOid),
        )
    };
    crate::transaction::prepare(area);
    if matches!(
        change,
        Change::Definitions | Change::Owners | Change::Everything
    ) {
        owes.definitions = own::owe(area, definitions_slot(), act);
    }
    if matches!(change, Change::Cluster | Change::Everything) {
        owes.cluster = own::owe(area, CLUSTER_SLOT, act);
    }
    match change {
        Change::Database | Change::Owners => {
            // SAFETY: the parse tree of the command.
            for database in unsafe { commands::databases(statement) } {
                // Before it uses the cache too: it does not wait for transactions of other databases.
                let slot = slot_to_mark(area, database);
                if own::owe(area, slot, act) {
                    owes.elsewhere |= 1 << slot;
                }
            }
        }
        Change::Contents(view) => {
            let slot = |tag| slot_of(crate::compat::database(), tag, area.layout.slots);
            mark(
                area,
                &[slot(Tag::Relation(view)), slot(Tag::WholeRelation(view))],
                act,
            );
        }
        _ => (),
    }
    owes
}

impl Owes {
    /// The command has changed nothing that concerns others.
    fn no_more(self) {
        let slots = [
            self.definitions.then(definitions_slot),
            self.cluster.then_some(CLUSTER_SLOT),
        ];
        slots.into_iter().flatten().for_each(own::does_not_owe);
        (0..RESERVED)
            .filter(|slot| self.elsewhere & 1 << slot != 0)
            .for_each(own::does_not_owe);
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
pub fn mark_owed(area: Area, owed: Owed, databases: &[pg_sys::Oid]) {
    let act = Act::new(Operation::CatalogChange);
    for database in databases {
        mark(area, &[slot_to_mark(area, *database)], act);
    }
    if owed.has(Owed::DEFINITIONS) {
        mark(area, &[definitions_slot()], act);
    }
    if owed.has(Owed::CLUSTER) {
        mark(area, &[CLUSTER_SLOT], act);
    }
}

/// Marks all results of the present database as invalid from the commit of this transaction on.
pub fn mark_database(area: Area, operation: Operation) {
    // SAFETY: inside a transaction that may write (checked by the caller). Without an id it would owe nothing.
    unsafe { assign_xid() };
    crate::transaction::prepare(area);
    own::owe(area, definitions_slot(), Act::new(operation));
}

/// A statement that changes rows of a system catalog directly: the definitions change without any command.
pub fn catalog_written() {
    if let Some(area) = area() {
        crate::transaction::prepare(area);
        for slot in [CLUSTER_SLOT, definitions_slot()] {
            own::owe(area, slot, Act::new(Operation::CatalogChange));
        }
        touched::changed_something_else();
    }
}

/// A permanent object was dropped by no command, since it rested on a temporary one.
pub fn dropped_without_command() {
    if !gate::is_open() {
        return gate::owes(Owed::DEFINITIONS);
    }
    if let Some(area) = area() {
        crate::transaction::prepare(area);
        let act = Act::new(Operation::CatalogChange);
        own::owe(area, definitions_slot(), act);
    }
}

/// Roots under which `relation`'s writes are marked, by name; for `invalidate_cache_table`.
pub fn mark_relation(area: Area, relation: pg_sys::Oid) {
    let database = crate::compat::database();
    let slot = |tag| slot_of(database, tag, area.layout.slots);
    let slots: Vec<u32> = relations::reached(relation)
        .into_iter()
        .flat_map(|root| [slot(Tag::Relation(root)), slot(Tag::WholeRelation(root))])
        .collect();
    mark(area, &slots, Act::on(Operation::InvalidateTable, relation));
}

/// Marks all results of a cached function as invalid. A temporary one has none, and others share its slot.
pub fn mark_function(area: Area, function: pg_sys::Oid) {
    // SAFETY: a syscache lookup of a function that exists, and a comparison with the names of temporary schemas.
    if unsafe { pg_sys::isAnyTempNamespace(pg_sys::get_func_namespace(function)) } {
        return;
    }
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
