//! What PL/pgSQL has compiled in this session, and under what.
//!
//! PL/pgSQL compiles a function when a session first calls it, and reads the text of a statement when that first runs. What names of types
//! in a DECLARE section mean, where a literal ends, which of two things of one name is meant: that stays so for the session, whatever is
//! set or created later, until the function itself is replaced. What such a function computes is what the session gets from the function
//! itself, and nobody else would.
//!
//! So for each function in PL/pgSQL that it runs the session keeps under what it ran first. One that was run under something else as well is
//! not trusted any more: a fill in which it is called is refused ([`Reason::OthersPlan`](crate::call::outcome::Reason::OthersPlan)).
//!
//! * Of each function matter the settings by which texts are read, PL/pgSQL's own, and whether there are temporary objects, which come first
//!   in each search path.
//! * Of one that declares variables of types which are not the server's own ([`super::declared_types`]) matters the search path too, unless
//!   it has one of its own.
//!
//! Not seen: what a definition that changes later makes of a name (`%TYPE` of a column that gets another type, a type that comes first in
//! the path).

#![allow(unsafe_code)]

use super::functions::{self, Compiles};
use super::temporary;
use crate::backend::Backend;
use crate::language::function;
use crate::numbers::{NumberMap, number_map};
use crate::server;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

/// So many functions are told apart; of others nothing is known, and nothing trusted.
const MOST: usize = 1 << 14;
/// As many schemas of the search path are looked at.
const SCHEMAS: usize = 32;

/// How texts are read, and what comes before every search path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reading {
    standard_strings: bool,
    backslash_quote: i32,
    client_encoding: i32,
    /// How often PL/pgSQL's own settings have changed.
    own: u64,
    temporary: bool,
}

struct Run {
    of: Compiles,
    reading: Reading,
    /// By which path names of types were looked up, if that matters.
    path: Option<Vec<pg_sys::Oid>>,
    /// Under something else as well.
    differs: bool,
}

static RUNS: Backend<RefCell<NumberMap<u32, Run>>> = Backend::new(RefCell::new(number_map()));
/// The last function that was found not to be in PL/pgSQL, and when.
static PLAIN: Backend<Cell<(u32, u64)>> = Backend::new(Cell::new((0, 0)));

/// Whether a function is known not to be in PL/pgSQL.
#[inline(always)]
pub fn is_plain(function: pg_sys::Oid) -> bool {
    PLAIN.get() == (function.to_u32(), function::epoch())
}

/// A function runs, or will. Whether what this session has compiled of it may be other than what another would.
pub fn differs(function: pg_sys::Oid) -> bool {
    let Some(compiles) = functions::of(function).compiles else {
        PLAIN.set((function.to_u32(), function::epoch()));
        return false;
    };
    let reading = Reading::now();
    let path = path(compiles);
    RUNS.with_borrow_mut(|runs| {
        if let Some(run) = runs.get_mut(&function.to_u32())
            && run.of == compiles
        {
            run.differs = run.differs || run.reading != reading || run.path != path;
            return run.differs;
        }
        if runs.len() >= MOST {
            return true;
        }
        let run = Run {
            of: compiles,
            reading,
            path,
            differs: false,
        };
        runs.insert(function.to_u32(), run);
        false
    })
}

/// The settings of PL/pgSQL that a compiled function keeps, with what they are before its library is loaded.
const SETTINGS: [(&CStr, &CStr); 4] = [
    (c"plpgsql.variable_conflict", c"error"),
    (c"plpgsql.print_strict_params", c"off"),
    (c"plpgsql.extra_errors", c"none"),
    (c"plpgsql.extra_warnings", c"none"),
];

/// Their values.
struct Own {
    known: [Option<CString>; 4],
    changes: u64,
}

static OWN: Backend<RefCell<Own>> = Backend::new(RefCell::new(Own {
    known: [const { None }; 4],
    changes: 0,
}));

impl Own {
    fn changes(&mut self) -> u64 {
        for (known, (name, before)) in self.known.iter_mut().zip(SETTINGS) {
            // SAFETY: a C string; returns the value, which lives until the setting is changed, or NULL.
            let value = unsafe {
                let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
                if value.is_null() {
                    before
                } else {
                    CStr::from_ptr(value)
                }
            };
            if known.as_deref() != Some(value) {
                *known = Some(value.to_owned());
                self.changes += 1;
            }
        }
        self.changes
    }
}

impl Reading {
    fn now() -> Self {
        // SAFETY: variables of the backend.
        unsafe {
            Reading {
                standard_strings: pg_sys::standard_conforming_strings,
                backslash_quote: server::backslash_quote,
                client_encoding: server::pg_get_client_encoding(),
                own: OWN.with_borrow_mut(Own::changes),
                temporary: temporary::present(),
            }
        }
    }
}

/// The search path, unless names of types mean the same under each.
fn path(of: Compiles) -> Option<Vec<pg_sys::Oid>> {
    if of.has_path {
        return None;
    }
    let mut schemas = [pg_sys::InvalidOid; SCHEMAS];
    // SAFETY: fills at most as many as there is room for, and returns how many there are.
    let count = unsafe { server::fetch_search_path_array(schemas.as_mut_ptr(), SCHEMAS as i32) };
    let path = schemas.get(..count as usize).unwrap_or(&schemas);
    let is_usual = path.first() == Some(&pg_sys::PG_CATALOG_NAMESPACE.into());
    (of.names_types || !is_usual).then(|| path.to_vec())
}
