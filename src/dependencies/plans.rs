//! Plans of SQL functions that outlive the role and the search path that they were made for.
//!
//! What a SQL function has planned the server keeps with the expression that calls it, in PL/pgSQL until the transaction ends, and it
//! does not ask again who calls (before PostgreSQL 18). A transaction that changes its role, or in which one function is called both
//! inside and outside of a SECURITY DEFINER function, can so run a query with the policies of somebody else or on the tables of
//! another schema. That is what the function itself does in this session, but the result must not be stored under the present role.
//!
//! A plan runs for the first time right after it was made, so who runs it then is who it was made for.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::call::scope::{self, Digest};
use crate::compat;
use crate::numbers::{NumberMap, number_map};
use crate::server;
use pgrx::pg_sys;
use std::cell::RefCell;

/// After so many plans in one transaction the others are not told apart any more, and taken for somebody else's.
const MANY: usize = 10_000;

/// For whom a plan is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    role: u32,
    format: Digest,
}

impl Maker {
    /// The present role and settings.
    pub fn now() -> Self {
        Maker {
            // SAFETY: reads a variable of the backend.
            role: unsafe { server::GetUserId() }.to_u32(),
            format: scope::format(),
        }
    }
}

struct Plans {
    transaction: u32,
    makers: NumberMap<u64, Maker>,
}

static PLANS: Backend<RefCell<Plans>> = Backend::new(RefCell::new(Plans {
    transaction: 0,
    makers: number_map(),
}));

/// A query begins. If it is one of a SQL function and its plan was made for somebody else, the innermost fill is not stored.
///
/// # Safety
/// The server's query.
#[inline(always)]
pub unsafe fn query_begins(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the caller's; a query has a plan, and a destination unless nobody wants its rows.
    unsafe {
        let destination = (*query).dest;
        if !destination.is_null()
            && (*destination).mydest == pg_sys::CommandDest::DestSQLFunction
            && !made_for_us((*query).plannedstmt.addr() as u64)
        {
            frames::refuse(Reason::OthersPlan);
        }
    }
}

/// Never forgets, within a transaction, whom it has once seen with a plan: at worst a new plan in the place of one that is gone is
/// taken for somebody else's.
fn made_for_us(plan: u64) -> bool {
    let (transaction, now) = (compat::local_transaction(), Maker::now());
    PLANS.with_borrow_mut(|plans| {
        if plans.transaction != transaction {
            plans.transaction = transaction;
            plans.makers.clear();
        }
        match plans.makers.get(&plan) {
            Some(maker) => *maker == now,
            None if plans.makers.len() >= MANY => false,
            None => {
                plans.makers.insert(plan, now);
                true
            }
        }
    })
}
