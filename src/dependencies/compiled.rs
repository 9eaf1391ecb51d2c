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
//! * Of the names in its declarations ([`super::declared_types`]) matters what they mean ([`super::meaning`]): by the search path, its own
//!   if it has one, and by definitions, which may change. They are looked up again when one of these did. If its declarations are not
//!   understood each change counts.
//!
//! A query that is made ready may run later, under another search path or other settings (the query of a cursor). What such a query
//! calls is not trusted either if they are others then ([`query_runs`]).

#![allow(unsafe_code)]

use super::declared_types::Declared;
use super::functions::{self, Compiles};
use super::meaning::{self, Meaning};
use super::{relations, session, temporary};
use crate::backend::Backend;
use crate::call::names;
use crate::call::watched::Variable;
use crate::compat;
use crate::language::function;
use crate::numbers::{NumberMap, number_map};
use crate::server;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

/// So many functions are told apart; of others nothing is known, and nothing trusted.
const MOST: usize = 1 << 14;

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

/// By what a name means what it does: none has changed as long as these are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Names {
    /// How often the text of the search path has changed.
    path: u64,
    /// `$user`, and whom schemas are open to.
    role: pg_sys::Oid,
    /// [`function::epoch`], [`relations::changes`], and [`meaning::changes`].
    definitions: [u64; 3],
}

/// Under what a query is made ready, or runs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Surroundings {
    reading: Reading,
    path: u64,
    role: pg_sys::Oid,
}

struct Run {
    of: Compiles,
    reading: Reading,
    /// What its declarations name; `None` if they are not understood.
    declared: Option<Vec<Declared>>,
    /// What these meant when it ran first.
    meant: Vec<Meaning>,
    /// When they were looked up last.
    names: Names,
    /// Under something else as well.
    differs: bool,
}

impl Run {
    fn first(function: pg_sys::Oid, of: Compiles, reading: Reading, names: Names) -> Self {
        // Where a text ends is told as the standard has it.
        let declared = match reading.standard_strings {
            true => functions::declared(function),
            false => None,
        };
        let meant = declared
            .as_deref()
            .map_or_else(Vec::new, |declared| meaning::of(function, of, declared));
        Run {
            of,
            reading,
            declared,
            meant,
            names,
            differs: false,
        }
    }

    /// Whether its names mean what they did.
    fn means_the_same(&mut self, function: pg_sys::Oid, names: Names) -> bool {
        let before = std::mem::replace(&mut self.names, names);
        match self.declared.as_deref() {
            _ if before == names => true,
            Some([]) => true,
            Some(declared) => meaning::of(function, self.of, declared) == self.meant,
            None => false,
        }
    }
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
    if session::is_starting() {
        SEEN.with_borrow_mut(|seen| seen.push(function.to_u32()));
    }
    let reading = Reading::now();
    let names = Names::now();
    RUNS.with_borrow_mut(|runs| {
        if let Some(run) = runs.get_mut(&function.to_u32())
            && run.of == compiles
        {
            run.differs =
                run.differs || run.reading != reading || !run.means_the_same(function, names);
            return run.differs;
        }
        if runs.len() >= MOST {
            return true;
        }
        runs.insert(
            function.to_u32(),
            Run::first(function, compiles, reading, names),
        );
        false
    })
}

/// Functions that were seen while a query was made ready.
static SEEN: Backend<RefCell<Vec<u32>>> = Backend::new(RefCell::new(Vec::new()));

/// A query that calls functions in PL/pgSQL.
struct Ready {
    /// Its address.
    query: usize,
    /// Under what it was made ready.
    under: Surroundings,
    functions: Vec<u32>,
    /// Of the subtransaction in which it was made ready: with that it is gone, without an end.
    level: i32,
}

/// Those of the transaction.
static READY: Backend<RefCell<Vec<Ready>>> = Backend::new(RefCell::new(Vec::new()));
/// Local number of that transaction; 0 if there is no such query.
static READY_IN: Backend<Cell<u32>> = Backend::new(Cell::new(0));

/// A query is about to be made ready. If an ERROR kept the last one from it, what was seen there has nothing to do with it.
#[inline(always)]
pub fn query_starts() {
    if any_seen() {
        SEEN.with_borrow_mut(Vec::clear);
    }
}

/// Whether a function was seen.
#[inline(always)]
pub fn any_seen() -> bool {
    SEEN.with_borrow(|seen| !seen.is_empty())
}

/// A query was made ready, which calls the functions that were seen.
pub fn query_started(query: usize) {
    let seen = SEEN.with_borrow_mut(std::mem::take);
    let transaction = compat::local_transaction();
    READY.with_borrow_mut(|ready| {
        if READY_IN.replace(transaction) != transaction {
            ready.clear();
        }
        // The same place, and no end was told of.
        ready.retain(|other| other.query != query);
        ready.push(Ready {
            query,
            under: Surroundings::now(),
            functions: seen,
            // SAFETY: a variable of the backend.
            level: unsafe { pg_sys::GetCurrentTransactionNestLevel() },
        });
    });
}

/// The subtransaction at `level` ended. Its queries are gone with it, or those of the one around it.
pub fn subtransaction_ended(level: i32, committed: bool) {
    READY.with_borrow_mut(|ready| match committed {
        true => {
            for one in ready {
                one.level = one.level.min(level - 1);
            }
        }
        false => ready.retain(|one| one.level < level),
    });
}

/// Whether a query of this transaction calls a function in PL/pgSQL.
#[inline(always)]
pub fn any_ready() -> bool {
    READY_IN.get() == compat::local_transaction()
}

/// A query runs, for the first time or on.
pub fn query_runs(query: usize) {
    let surroundings = Surroundings::now();
    READY.with_borrow(|ready| {
        let Some(ready) =
            { ready.iter() }.find(|one| one.query == query && one.under != surroundings)
        else {
            return;
        };
        RUNS.with_borrow_mut(|runs| {
            for function in &ready.functions {
                if let Some(run) = runs.get_mut(function) {
                    run.differs = true;
                }
            }
        });
    });
}

/// A query ended.
pub fn query_ends(query: usize) {
    READY.with_borrow_mut(|ready| ready.retain(|other| other.query != query));
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
    /// [`names::version`] when the variables were found.
    version: u64,
    variables: Vec<Variable>,
}

static OWN: Backend<RefCell<Own>> = Backend::new(RefCell::new(Own {
    known: [const { None }; 4],
    changes: 0,
    version: 0,
    variables: Vec::new(),
}));

impl Own {
    #[inline(always)]
    fn changes(&mut self) -> u64 {
        // SAFETY: the settings are in the server's table as long as the version is the same.
        let is_same = self.version == names::version() && { self.variables.iter() }
            .all(|variable| unsafe { variable.is_same() });
        if !is_same {
            self.read();
        }
        self.changes
    }

    #[cold]
    fn read(&mut self) {
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
        self.version = names::version();
        // SAFETY: settings in the server's table.
        self.variables = unsafe {
            names::all()
                .filter(|setting| {
                    { SETTINGS.iter() }.any(|(name, _)| CStr::from_ptr((**setting).name) == *name)
                })
                .map(|setting| {
                    let mut variable = Variable::of(setting);
                    variable.read();
                    variable
                })
                .collect()
        };
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

static PATH: Backend<RefCell<(Option<CString>, u64)>> = Backend::new(RefCell::new((None, 0)));

/// How often the text of the search path was found to have changed.
fn path() -> u64 {
    PATH.with_borrow_mut(|(known, changes)| {
        // SAFETY: a setting's text, which the server keeps until it is changed; NULL before it is set.
        let path = unsafe {
            match pg_sys::namespace_search_path {
                path if path.is_null() => c"",
                path => CStr::from_ptr(path),
            }
        };
        if known.as_deref() != Some(path) {
            *known = Some(path.to_owned());
            *changes += 1;
        }
        *changes
    })
}

impl Names {
    fn now() -> Self {
        Names {
            path: path(),
            // SAFETY: reads a variable of the backend.
            role: unsafe { server::GetUserId() },
            definitions: [function::epoch(), relations::changes(), meaning::changes()],
        }
    }
}

impl Surroundings {
    fn now() -> Self {
        let Names { path, role, .. } = Names::now();
        Surroundings {
            reading: Reading::now(),
            path,
            role,
        }
    }
}
