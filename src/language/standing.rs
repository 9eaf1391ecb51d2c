//! The row of a cached function in shared memory, as a session gets it: found or given to it when the function is first used, and when
//! the row has become another's. A function that has none does not use the cache, so that nothing that is known of it, its quarantine
//! above all, can be lost without a word.
//!
//! A function among temporary objects gets none: its session does not use the cache anyway, and anybody can make any number of them.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::compat;
use crate::store::area::{Area, area};
use crate::store::gone;
use crate::store::rows::Owner;
use crate::store::statistics::{FunctionRow, Getting, OwnRow};
use crate::store::traits::Trait;
use crate::verification::quarantine;
use pgrx::pg_sys;
use std::cell::Cell;

/// When rows are short a session looks for those of what is gone this often, in microseconds; at once again if it has found some.
const LOOKS_US: i64 = 1_000_000;

/// When this session has last found nothing that is gone.
static LOOKED_IN_VAIN: Backend<Cell<i64>> = Backend::new(Cell::new(i64::MIN));

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { crate::server::GetCurrentTimestamp() }
}

fn owner(function: pg_sys::Oid) -> Owner {
    Owner::new(compat::database().to_u32(), function.to_u32())
}

/// The row of a function that this session uses for the first time.
pub fn of(function: pg_sys::Oid) -> OwnRow {
    OwnRow::of(owner(function), find(function), now())
}

/// The row of a function, if it has one or gets one, and it is known whether it is in quarantine.
pub fn find(function: pg_sys::Oid) -> Option<&'static FunctionRow> {
    let area = area()?;
    let database = compat::database();
    let known = area.functions().learned(database, function);
    let quarantined = known.has(Trait::Quarantined) || quarantine::is_in_table(function)?;
    let row = get(
        area,
        function,
        if quarantined {
            Getting::InNeed
        } else {
            Getting::Idle
        },
    )?;
    if quarantined && !known.has(Trait::Quarantined) {
        area.functions()
            .learn(database, function, Trait::QuarantineSaved);
        area.functions()
            .learn(database, function, Trait::Quarantined)?;
    }
    Some(row)
}

/// The row of a function, whatever is known of it.
pub fn get(area: Area, function: pg_sys::Oid, how: Getting) -> Option<&'static FunctionRow> {
    let (functions, now) = (area.functions(), now());
    let role = role_of(function)?;
    let find = |how| functions.find_or_get(owner(function), role, now, how);
    find(Getting::Free).or_else(|| {
        if !(0..LOOKS_US).contains(&now.saturating_sub(LOOKED_IN_VAIN.get()))
            && gone::functions(area) == 0
        {
            LOOKED_IN_VAIN.set(now);
        }
        find(how)
    })
}

/// The owner of a function that can have a row; `None` if it is gone, or among temporary objects.
fn role_of(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return None;
        }
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let (schema, owner) = (row.pronamespace, row.proowner);
        pg_sys::ReleaseSysCache(tuple);
        (!pg_sys::isAnyTempNamespace(schema)).then_some(owner)
    }
}
