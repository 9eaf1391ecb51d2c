//! Tracking what calls have found untracked, without anybody having asked for it.
//!
//! * If the role of the session may do it itself, the transaction of the call does it when it commits: the lock on the table, which keeps
//!   writers out, is held for the commit only, and it is not waited for. Not in a transaction block, nor in one that is READ ONLY.
//! * Else a worker is asked to do it as the owner of the cached function (`worker::tracking`).
//!
//! Whatever fails lets the table rest for a while (`store::requests`), and is told in the log once for each reason.

#![allow(unsafe_code)]

use super::relations::Tree;
use super::rights;
use super::tracking;
use super::tree_locks::Patience;
use crate::attempt::attempt;
use crate::backend::Backend;
use crate::behalf;
use crate::compat;
use crate::error::{code_of, message_of};
use crate::naming;
use crate::numbers::{NumberMap, number_map};
use crate::server;
use crate::settings;
use crate::store::area::{Area, TrackingRequest};
use crate::store::requests::NO_RIGHT;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};

/// A session asks for the same thing at most once in so many microseconds.
const AGAIN_US: i64 = 1_000_000;
/// So many things it remembers to have asked for.
const REMEMBERED: usize = 1000;
/// So many tables a transaction tracks at its end, at most.
const MANY: usize = 16;
/// A tree of more tables is left to a worker: no call is to take long because it was the first.
const LARGEST_TREE: usize = 16;

/// What the present transaction is to track when it commits, and the role that its call ran as.
static WISHES: Backend<RefCell<Vec<(TrackingRequest, pg_sys::Oid)>>> =
    Backend::new(RefCell::new(Vec::new()));

/// What was asked for, and when.
static ASKED: Backend<RefCell<NumberMap<u64, i64>>> = Backend::new(RefCell::new(number_map()));

/// The clock.
pub fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() }
}

/// A call has read a table that is not tracked, or whose column is not. `function` is the one whose owner wants it.
pub fn untracked(area: Area, relation: pg_sys::Oid, function: pg_sys::Oid, column: &str) {
    if !settings::auto_track() {
        return;
    }
    let database = compat::database().to_u32();
    let Some(request) = TrackingRequest::new(database, relation, function, column) else {
        return;
    };
    if asked(&request) {
        return;
    }
    // SAFETY: a variable of the backend.
    let role = unsafe { server::GetUserId() };
    if may_do_it_itself() && !area.tracking_requests().rests(&request, now()) {
        let tree = Tree::of(relation);
        if tree.members.len() <= LARGEST_TREE
            && rights::may_track(role, &tree)
            && speaker_may(&request, &tree)
        {
            let noted = WISHES.with_borrow_mut(|wishes| {
                let room = wishes.len() < MANY;
                if room {
                    wishes.push((request, role));
                }
                room
            });
            if noted {
                return;
            }
        }
    }
    ask(area, &request);
}

/// Whether the session asked for it a moment ago.
fn asked(request: &TrackingRequest) -> bool {
    let mut hasher = std::hash::DefaultHasher::new();
    request.hash(&mut hasher);
    let (hash, now) = (hasher.finish(), now());
    ASKED.with_borrow_mut(|asked| {
        if asked
            .get(&hash)
            .is_some_and(|then| (0..AGAIN_US).contains(&(now - then)))
        {
            return true;
        }
        if asked.len() >= REMEMBERED {
            asked.clear();
        }
        asked.insert(hash, now);
        false
    })
}

/// Whether this is a transaction of a client's that may track a table at its end.
pub fn may_do_it_itself() -> bool {
    // SAFETY: variables of the backend.
    unsafe {
        pg_sys::MyBackendType == pg_sys::BackendType::B_BACKEND
            && !pg_sys::IsTransactionBlock()
            && !pg_sys::XactReadOnly
            && !pg_sys::IsInParallelMode()
            && !server::RecoveryInProgress()
    }
}

/// Whoever says that a column is a key has to be allowed to have it marked.
fn speaker_may(request: &TrackingRequest, tree: &Tree) -> bool {
    request.column().is_none()
        || rights::owner_of_function(request.function.into())
            .is_some_and(|owner| rights::may_track(owner, tree))
}

/// Asks a worker.
fn ask(area: Area, request: &TrackingRequest) {
    if let Some(owner) = rights::owner_of_function(request.function.into())
        && area
            .tracking_requests()
            .ask(*request, owner.to_u32(), now())
    {
        crate::worker::wake(area, compat::database());
    }
}

/// The transaction did not commit.
pub fn forget() {
    WISHES.with_borrow_mut(Vec::clear);
}

/// The transaction is about to commit, and does what it has noted. Nothing in it fails for that.
pub fn transaction_commits(area: Area) {
    let wishes = WISHES.with_borrow_mut(std::mem::take);
    if wishes.is_empty() {
        return;
    }
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: out parameters.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut role, &mut context) };
    let itself = may_do_it_itself() && context == 0;
    let mut done: Vec<u32> = Vec::new();
    for (request, of) in &wishes {
        if !itself || *of != role {
            ask(area, request);
        } else if !done.contains(&request.relation) {
            done.push(request.relation);
            let same: Vec<_> = wishes
                .iter()
                .map(|(wish, _)| wish)
                .filter(|wish| wish.relation == request.relation)
                .collect();
            let columns: Vec<String> = same.iter().filter_map(|wish| wish.column()).collect();
            if track(area, request, role, &columns, Patience::Never) == Became::Busy {
                same.into_iter().for_each(|wish| ask(area, wish));
            }
        }
    }
    // Event triggers may have left a cursor WITH HOLD.
    // SAFETY: at the place in a commit where the server does the same.
    while unsafe { pg_sys::PreCommit_Portals(false) } {}
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The table is tracked.
    Tracked,
    /// Somebody else has it in use. Not noted: the caller does.
    Busy,
    /// It failed, which is noted.
    Failed,
}

/// Tracks the table of a request as `role`, with that role's rights. Nothing is raised. Who has no patience is about to commit.
pub fn track(
    area: Area,
    request: &TrackingRequest,
    role: pg_sys::Oid,
    columns: &[String],
    patience: Patience,
) -> Became {
    let relation = pg_sys::Oid::from(request.relation);
    let requests = area.tracking_requests();
    // SAFETY: syscache lookups; a variable of the backend.
    let (gone, present) = unsafe { (pg_sys::get_rel_relkind(relation) == 0, server::GetUserId()) };
    if gone {
        requests.served(request);
        return Became::Failed;
    }
    if !rights::may_track(role, &Tree::of(relation)) {
        requests.failed(request, role.to_u32(), NO_RIGHT, now());
        return Became::Failed;
    }
    let body = || {
        let tracked = tracking::track(relation, columns, patience);
        if patience == Patience::Never {
            // The transaction commits, and has done what was deferred; event triggers may have deferred something again.
            // SAFETY: at the place in a commit where the server does the same; what it raises ends the subtransaction.
            unsafe { pg_sys::AfterTriggerFireDeferred() };
        }
        tracked
    };
    let outcome = attempt(|| {
        if role == present {
            body()
        } else {
            behalf::acting_as(role, body)
        }
    });
    let (reason, message) = match outcome {
        Ok(Ok(Some(_))) => {
            requests.served(request);
            return Became::Tracked;
        }
        Ok(Ok(None)) => return Became::Busy,
        Ok(Err(error)) => (error.code(), error.message()),
        Err(error) => (code_of(&error), message_of(&error)),
    };
    failed(area, request, role, reason, &message);
    Became::Failed
}

/// The tables of a request could not be locked.
pub fn failed_for_lock(area: Area, request: &TrackingRequest, role: pg_sys::Oid) {
    failed(
        area,
        request,
        role,
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE as u32,
        "could not obtain locks on all tables of its tree",
    );
}

fn failed(area: Area, request: &TrackingRequest, role: pg_sys::Oid, reason: u32, message: &str) {
    if area
        .tracking_requests()
        .failed(request, role.to_u32(), reason, now())
    {
        let relation = pg_sys::Oid::from(request.relation);
        let name = naming::relation_name(relation).unwrap_or_else(|| request.relation.to_string());
        crate::error::log(&format!("could not track relation {name}: {message}"));
    }
}

/// No lock is waited for longer than the setting allows, until the transaction ends.
pub fn wait_shortly() {
    let Ok(value) = std::ffi::CString::new(settings::tracking_lock_timeout_ms().to_string()) else {
        return;
    };
    // SAFETY: C strings; a setting that the role may change.
    unsafe {
        pg_sys::set_config_option(
            c"lock_timeout".as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}
