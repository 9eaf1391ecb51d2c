//! Refreshing: a hit of a result that is soon too old leaves a request, and a process of ours makes the same call again.
//!
//! The reader's part is here: when to ask, and what for. In a refresher the call is told apart here too: it computes what it was sent
//! for whatever the cache has, and any other key it leaves alone.

#![allow(unsafe_code)]

use super::carried;
use super::frames::{self, Call};
use super::outcome::Outcome;
use crate::backend::Backend;
use crate::behalf::Pledge;
use crate::compat;
use crate::server;
use crate::store::area::Area;
use crate::store::lookup::Found;
use crate::store::refreshes::Request;
use crate::store::statistics::count;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of the hits that an entry must have had: one that nobody asks for is not kept young.
const HITS: u32 = 1;

/// Whether this process refreshes. Asked on each call.
static REFRESHER: AtomicBool = AtomicBool::new(false);

/// A key, and whether its call came.
type SentFor = (Vec<u8>, bool);

/// What this process was sent for.
static SENT_FOR: Backend<RefCell<Option<SentFor>>> = Backend::new(RefCell::new(None));

/// Whether this process computes results anew.
#[inline(always)]
pub fn is_refresher() -> bool {
    REFRESHER.load(Ordering::Relaxed)
}

/// A hit of an entry in the last part of its life.
#[cold]
pub fn hit(area: Area, call: &Call<'_>, found: &Found) {
    let function = call.function;
    let stale = call.now >= function.end_of_life(&found.head) - function.stale_us;
    if stale {
        count(function.oid, Outcome::Stale);
    }
    let wanted = stale || found.head.hits >= HITS;
    if !wanted
        || is_refresher()
        || is_lent(function.oid)
        || function
            .arguments
            .iter()
            .any(|argument| argument.polymorphic)
        || area.refreshes().knows(call.hash)
    {
        return;
    }
    // The role that the session has outside of SECURITY DEFINER functions, because that is what another session can take on.
    // SAFETY: variables of the backend.
    let (role, session_role) = unsafe { (server::GetOuterUserId(), server::GetSessionUserId()) };
    let database = compat::database();
    let settings = carried::given();
    let Some(pledge) = Pledge::of(function.oid, role, session_role, &settings) else {
        return;
    };
    let asked = area.refreshes().ask(&Request {
        hash: call.hash,
        database: database.to_u32(),
        pledge,
        key: call.key.to_vec(),
        settings: carried::write(&settings),
    });
    if asked {
        crate::worker::wake(area, database);
    }
}

/// Whether the session's role is not the one that the call is made with: in a SECURITY DEFINER function, or in work of the server for
/// the owner of an object, such as an index on an expression. The session is trusted with less there than the session's role is, so
/// nothing is called again with that role. A function that is SECURITY DEFINER itself has its owner's role wherever it is called.
fn is_lent(function: pg_sys::Oid) -> bool {
    // SAFETY: variables of the backend; the tuple is pinned while it is read.
    unsafe {
        if pg_sys::InSecurityRestrictedOperation() || !pg_sys::InLocalUserIdChange() {
            return pg_sys::InSecurityRestrictedOperation();
        }
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return true;
        }
        let lifts = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).prosecdef;
        pg_sys::ReleaseSysCache(tuple);
        !lifts
    }
}

/// What a refresher is to do with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// This is no refresher, or the call is part of what it was sent for.
    None,
    /// Computes it, whatever the cache has.
    This,
    /// Leaves it: the key is another one than it was sent for.
    Another,
}

/// What is to be done with a call.
#[inline(always)]
pub fn errand(call: &Call<'_>) -> Errand {
    if !is_refresher() || frames::filling() {
        return Errand::None;
    }
    SENT_FOR.with_borrow_mut(|sent_for| match sent_for {
        Some((_, true)) => Errand::None,
        Some((key, came)) if key == call.key => {
            *came = true;
            Errand::This
        }
        _ => Errand::Another,
    })
}

/// Whether this is a refresher whose call has not come to its key: a function that cannot use the cache here is not run.
pub fn on_errand() -> bool {
    is_refresher()
        && !frames::filling()
        && SENT_FOR.with_borrow(|sent_for| !matches!(sent_for, Some((_, true))))
}

/// This process computes one key, while `make` makes its call. Whether the call had that key.
pub fn send_for(key: Vec<u8>, make: impl FnOnce()) -> bool {
    REFRESHER.store(true, Ordering::Relaxed);
    SENT_FOR.replace(Some((key, false)));
    make();
    SENT_FOR.take().is_some_and(|(_, came)| came)
}
