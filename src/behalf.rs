//! Acting for somebody else: for a moment, as the owner of one of our tables, so that a caller needs no right on it; or later, in another
//! process, as the role that has asked.
//!
//! *For a moment.* Nothing of the caller's counts meanwhile: operators, functions and tables are found in the catalog only, and what the other role has
//! put on an object of its own (a trigger, a default) cannot outlive the moment, because it runs as a security-restricted operation.
//! An ERROR takes role and search path back with the (sub)transaction, as it does for a SECURITY DEFINER function.
//!
//! *Later.* Whoever calls a function knows, or could, what it is and as whom it runs; and may do so now. Of a call that is made later by
//! another process nobody has said that it may run something else, or as somebody else. So the wish for it carries a digest of all that it
//! rests on ([`Pledge`]): both functions as the catalog has them (owner, body, SECURITY DEFINER, settings, rights), both roles as the catalog
//! has them, and the settings that they and the database were given. It is compared in the transaction in which the call is made, when it
//! begins and again right before the base function is run, where no lock is taken, and hence no change of definitions learned of, in
//! between; there the role is looked at too. What differs is not run.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::carried;
use crate::compat;
use crate::error::Error;
use crate::language::function;
use crate::naming;
use crate::server;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is to be called later, for whom, and a digest of what that rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pledge {
    /// The cached function.
    pub function: pg_sys::Oid,
    /// The role for which it is called.
    pub role: pg_sys::Oid,
    /// The role of the session.
    pub session_role: pg_sys::Oid,
    /// Of what it rests on.
    pub digest: [u8; 16],
}

/// A pledge that this process keeps, with the settings that were taken along.
type Kept = (Pledge, Vec<(String, String)>);

/// What this process is doing for somebody.
static KEPT: Backend<RefCell<Option<Kept>>> = Backend::new(RefCell::new(None));
/// Whether it does. Asked whenever a base function is run.
static KEEPS: AtomicBool = AtomicBool::new(false);

/// Before the base function of a cached function is run: if that is what this process was sent for, what it rests on is as it was.
#[inline(always)]
pub fn about_to_run(function: pg_sys::Oid) {
    if KEEPS.load(Ordering::Relaxed) {
        check(function);
    }
}

#[cold]
fn check(function: pg_sys::Oid) {
    let stands = KEPT.with_borrow(|kept| {
        kept.as_ref().is_none_or(|(pledge, settings)| {
            pledge.function != function || pledge.stands(settings) && pledge.is_its_role()
        })
    });
    if !stands {
        Error::Changed(naming::regprocedure(function)).raise();
    }
}

impl Pledge {
    /// The pledge of a call of a cached function as things are; `None` if something of it is not there. `given` are the settings that
    /// the session was given itself, which are taken along.
    pub fn of(
        function: pg_sys::Oid,
        role: pg_sys::Oid,
        session_role: pg_sys::Oid,
        given: &[(String, String)],
    ) -> Option<Pledge> {
        let base = function::get(function).base;
        let mut digest = blake3::Hasher::new();
        for (cache, oid) in [
            (compat::PROC_CACHE, function),
            (compat::PROC_CACHE, base),
            (compat::ROLE_CACHE, role),
            (compat::ROLE_CACHE, session_role),
        ] {
            // SAFETY: caches whose key is one oid.
            let row = unsafe { compat::catalog_row(cache, oid) }?;
            for part in [&oid.to_u32().to_le_bytes()[..], &row] {
                digest.update(&(part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        for (name, value) in carried::declared(given) {
            for text in [name, value] {
                digest.update(&(text.len() as u64).to_le_bytes());
                digest.update(text.as_bytes());
            }
        }
        let mut short = [0; 16];
        short.copy_from_slice(&digest.finalize().as_bytes()[..16]);
        Some(Pledge {
            function,
            role,
            session_role,
            digest: short,
        })
    }

    /// Whether what it rests on is as it was.
    pub fn stands(&self, given: &[(String, String)]) -> bool {
        // SAFETY: a syscache lookup.
        let exists = unsafe { !pg_sys::get_func_name(self.function).is_null() };
        exists && Pledge::of(self.function, self.role, self.session_role, given) == Some(*self)
    }

    /// Whether the base function would be run as who it was to be run as: the owner of a cached function that is SECURITY DEFINER, else
    /// the role.
    fn is_its_role(&self) -> bool {
        // SAFETY: a variable of the backend.
        let present = unsafe { server::GetUserId() };
        present == compat::definer(self.function).unwrap_or(self.role)
    }

    /// Makes the call: while `call` runs the base function is not run if the pledge does not stand.
    pub fn keep(&self, given: &[(String, String)], call: impl FnOnce()) {
        struct Done;
        impl Drop for Done {
            fn drop(&mut self) {
                KEEPS.store(false, Ordering::Relaxed);
                KEPT.take();
            }
        }
        KEPT.replace(Some((*self, given.to_vec())));
        KEEPS.store(true, Ordering::Relaxed);
        let _done = Done;
        call();
    }
}

/// Runs `body` as `role`.
pub fn acting_as<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    const RESTRICTED: i32 =
        (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    under(Some((role, RESTRICTED)), Some(c"pg_catalog, pg_temp"), body)
}

/// Runs `body`, which only looks names up, as the owner and under the search path that a function has of its own.
pub fn looking_as<R>(
    role: Option<pg_sys::Oid>,
    path: Option<&CStr>,
    body: impl FnOnce() -> R,
) -> R {
    let role = role.map(|role| (role, pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32));
    under(role, path, body)
}

/// Runs `body` as a role, in a security context, under a search path.
fn under<R>(role: Option<(pg_sys::Oid, i32)>, path: Option<&CStr>, body: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: inside a transaction; what is changed here is set right below, or by the end of the (sub)transaction after an ERROR.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let level = pg_sys::NewGUCNestLevel();
        if let Some((role, more)) = role {
            pg_sys::SetUserIdAndSecContext(role, context | more);
        }
        if let Some(path) = path {
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                path.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = body();
    // SAFETY: as above.
    unsafe {
        pg_sys::AtEOXact_GUC(true, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

/// Owner of a relation; `None` if there is no such relation.
pub fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as _,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}
