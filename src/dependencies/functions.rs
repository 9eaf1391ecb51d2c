//! Which functions may run while a result is computed that is to be stored, and what each of the others does.
//!
//! A built-in function may if it is on the list `pg15.functions`, which is read when the library is loaded: the oid of each, what it
//! does, and its name. It was made from `pg_proc` by these rules, and then read line by line; a test holds it against the catalog, and
//! fails for a function that it does not know.
//!
//! | | |
//! |---|---|
//! | `=` | its result depends on its arguments, on what a snapshot shows, on definitions and rights, on roles and settings in the key, or on the time of the transaction; IMMUTABLE or STABLE, but for `pg_sleep` |
//! | `s` | it reads any setting |
//! | `p` | it reads what only its session has |
//! | `o` | it reads what no transaction covers |
//! | `v` | it is VOLATILE, and only reads |
//! | `e` | it is VOLATILE, and may do something that a hit would not |
//! | `c` | it changes a setting |
//!
//! Of all others the language decides. Functions in SQL and PL/pgSQL are judged by what they run, and if they are declared VOLATILE by
//! that. Those in C, and in languages that this module does not know, may read files, relations and settings without asking anybody:
//! only the ones in [`LIBRARIES`] may run. Whatever is not known is not allowed.

#![allow(unsafe_code)]

use super::declared_types::{self, Declared};
use super::session::Reads;
use crate::backend::Backend;
use crate::compat;
use crate::language::{function, signature};
use crate::naming;
use crate::numbers::{NumberMap, number_map};
use crate::settings;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// The first oid that is not fixed in the server's source.
pub const FIRST_UNFIXED: u32 = 10_000;

const LIST: &str = include_str!("pg15.functions");

/// What each built-in function reads, by its oid.
static BUILT_IN: [AtomicU8; FIRST_UNFIXED as usize] =
    [const { AtomicU8::new(Reads::UNLISTED.bits()) }; FIRST_UNFIXED as usize];

/// Libraries of PostgreSQL's own modules whose functions, those that are VOLATILE apart, depend on their arguments, on settings, which
/// are part of each key, on what they ask in SQL, and on the dictionaries that they were made for.
const LIBRARIES: [&str; 17] = [
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "_int",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "tablefunc",
    "unaccent",
    "uuid-ossp",
];

/// Functions of our own library that take part in the cache: what they read is a dependency.
const OWN: [&CStr; 6] = [
    c"pgqc_cache_exists",
    c"pgqc_cache_get",
    c"pgqc_cache_key",
    c"pgqc_cache_key_matches",
    c"pgqc_cache_keys",
    c"pgqc_cache_ttl",
];

/// Reads the list. Once, in the postmaster.
pub fn install() {
    for line in LIST.lines() {
        let mut words = line.split(' ');
        let (Some(Ok(oid)), Some(class)) = (words.next().map(str::parse::<usize>), words.next())
        else {
            continue;
        };
        let reads = match class {
            "=" => Reads::NONE,
            "s" => Reads::SETTINGS,
            "p" => Reads::SESSION,
            "o" => Reads::OUTSIDE,
            "v" => Reads::VOLATILE,
            "e" => Reads::VOLATILE.and(Reads::ACTS),
            "c" => Reads::CHANGES_SETTINGS,
            _ => Reads::UNLISTED,
        };
        if let Some(one) = BUILT_IN.get(oid) {
            one.store(reads.bits(), Ordering::Relaxed);
        }
    }
}

/// What a built-in function reads.
#[inline(always)]
pub fn built_in(function: u32) -> Reads {
    BUILT_IN
        .get(function as usize)
        .map_or(Reads::UNLISTED, |one| {
            Reads::of_bits(one.load(Ordering::Relaxed))
        })
}

/// What is known of a function.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// What it reads or does by itself.
    pub reads: Reads,
    /// It is in a language in which it calls other functions: these are seen for themselves.
    pub is_code: bool,
    /// The planner may put its result into a plan.
    pub is_immutable: bool,
    /// It is a cached function: what it reads may come without a query.
    pub is_cached: bool,
    /// PL/pgSQL compiles it.
    pub compiles: Option<Compiles>,
}

/// What matters of a function that PL/pgSQL compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiles {
    /// The version of its row, by which PL/pgSQL knows that it was replaced: the transaction that wrote it, and where it lies.
    row: (u32, u64),
    /// It has a search path of its own.
    pub has_path: bool,
    /// It is SECURITY DEFINER.
    pub is_definer: bool,
}

static KNOWN: Backend<RefCell<NumberMap<u32, Known>>> = Backend::new(RefCell::new(number_map()));
/// [`function::epoch`] of what is there.
static EPOCH: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// What is known of a function that is not built in. Remembered until a definition changes.
pub fn of(function: pg_sys::Oid) -> Known {
    let epoch = function::epoch();
    if EPOCH.replace(epoch) != epoch {
        KNOWN.with_borrow_mut(NumberMap::clear);
    }
    if let Some(known) = KNOWN.with_borrow(|all| all.get(&function.to_u32()).copied()) {
        return known;
    }
    let known = look_up(function);
    if EPOCH.get() == function::epoch() {
        KNOWN.with_borrow_mut(|all| all.insert(function.to_u32(), known));
    }
    known
}

/// What the declarations of a function in PL/pgSQL name, if they are understood.
pub fn declared(function: pg_sys::Oid) -> Option<Vec<Declared>> {
    // Under another role its names would mean something else.
    if signature::setting_of(function, "role").is_some() {
        return None;
    }
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return None;
        }
        let source = attribute(tuple, pg_sys::Anum_pg_proc_prosrc);
        pg_sys::ReleaseSysCache(tuple);
        declared_types::declared(source?.to_bytes())
    }
}

/// What a function reads, built in or not.
pub fn reads_of(function: pg_sys::Oid) -> Reads {
    match function.to_u32() {
        fixed if fixed < FIRST_UNFIXED => built_in(fixed),
        _ => of(function).reads,
    }
}

/// Whether the server's administrator vouches for a function (`pg_query_cache.trusted_functions`).
pub fn is_trusted(function: pg_sys::Oid) -> bool {
    settings::with_trusted_functions(|trusted| {
        let name = plain_name(function);
        names(trusted).any(|one| plain(one) == name)
    })
    .unwrap_or(false)
}

/// The name of a function that exists, as [`plain`] makes it; else one that none has.
pub fn plain_name(function: pg_sys::Oid) -> String {
    match compat::function_exists(function) {
        true => plain(&naming::regprocedure_qualified(function)),
        false => String::new(),
    }
}

/// The name of a function without `pg_catalog`, and without blanks between arguments.
pub fn plain(name: &str) -> String {
    name.strip_prefix("pg_catalog.")
        .unwrap_or(name)
        .replace(", ", ",")
        .replace(",pg_catalog.", ",")
        .replace("(pg_catalog.", "(")
}

/// The names in a list of functions: a comma between parentheses parts arguments.
fn names(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    list.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => (),
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
}

fn look_up(function: pg_sys::Oid) -> Known {
    let mut known = Known {
        reads: Reads::UNLISTED,
        is_code: false,
        is_immutable: false,
        is_cached: false,
        compiles: None,
    };
    // SAFETY: syscache lookups; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return known;
        }
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        known.is_immutable = row.provolatile as u8 == pg_sys::PROVOLATILE_IMMUTABLE;
        let is_volatile = row.provolatile as u8 == pg_sys::PROVOLATILE_VOLATILE;
        if row.prokind as u8 == pg_sys::PROKIND_AGGREGATE {
            // The functions that it is made of are seen for themselves.
            known.reads = Reads::NONE;
        } else {
            match language(row.prolang, tuple) {
                Language::Sql => (known.reads, known.is_code) = (Reads::NONE, true),
                Language::PlPgSql { tells_stack } => {
                    known.is_code = true;
                    known.compiles = Some(compiles(function, tuple));
                    known.reads = match tells_stack {
                        true => Reads::SESSION,
                        false => Reads::NONE,
                    };
                }
                // It looks after itself, whatever it is declared.
                Language::Cached => {
                    (known.reads, known.is_code, known.is_cached) = (Reads::NONE, true, true);
                }
                Language::Internal(of) => known.reads = built_in(of),
                Language::C { listed: true } => known.reads = Reads::NONE,
                Language::C { listed: false } => (),
                Language::Other => known.is_code = true,
            }
            if is_volatile && !known.is_cached {
                known.reads = known.reads.and(Reads::VOLATILE);
            }
        }
        pg_sys::ReleaseSysCache(tuple);
    }
    known
}

/// # Safety
/// `tuple` is the row of `function` in pg_proc.
unsafe fn compiles(function: pg_sys::Oid, tuple: pg_sys::HeapTuple) -> Compiles {
    // SAFETY: the caller's.
    unsafe {
        let place = (*tuple).t_self;
        let block = u64::from(place.ip_blkid.bi_hi) << 16 | u64::from(place.ip_blkid.bi_lo);
        Compiles {
            row: (
                (*(*tuple).t_data).t_choice.t_heap.t_xmin.into_inner(),
                block << 16 | u64::from(place.ip_posid),
            ),
            has_path: signature::setting_of(function, "search_path").is_some(),
            is_definer: (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).prosecdef,
        }
    }
}

/// Languages that `pg_language` has with fixed oids.
const INTERNAL: u32 = 12;
const C: u32 = 13;
const SQL: u32 = 14;

/// How a function is written, as far as that matters.
enum Language {
    Sql,
    PlPgSql { tells_stack: bool },
    Cached,
    Internal(u32),
    C { listed: bool },
    Other,
}

/// # Safety
/// `tuple` is a row of pg_proc in that language.
unsafe fn language(language: pg_sys::Oid, tuple: pg_sys::HeapTuple) -> Language {
    // SAFETY: the caller's tuple; syscache lookups, whose tuples are pinned while they are read.
    unsafe {
        match language.to_u32() {
            SQL => return Language::Sql,
            INTERNAL => {
                let built_in = attribute(tuple, pg_sys::Anum_pg_proc_prosrc)
                    .map_or(pg_sys::InvalidOid, |name| {
                        pg_sys::fmgr_internal_function(name.as_ptr())
                    });
                return Language::Internal(built_in.to_u32());
            }
            C => {
                let listed = match symbol(tuple) {
                    Some((b"pg_query_cache", name)) => OWN.contains(&name),
                    Some((library, _)) => LIBRARIES.iter().any(|one| one.as_bytes() == library),
                    None => false,
                };
                return Language::C { listed };
            }
            _ => (),
        }
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::LANGOID as i32,
            pg_sys::Datum::from(language),
        );
        if row.is_null() {
            return Language::Other;
        }
        let mut is_null = false;
        let handler = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::LANGOID as i32,
            row,
            compat::catalog::LANGUAGE_HANDLER as pg_sys::AttrNumber,
            &mut is_null,
        );
        pg_sys::ReleaseSysCache(row);
        let handler = pg_sys::SearchSysCache1(compat::PROC_CACHE, handler);
        if handler.is_null() {
            return Language::Other;
        }
        let found = match symbol(handler) {
            Some((b"plpgsql", name)) if name == c"plpgsql_call_handler" => Language::PlPgSql {
                tells_stack: attribute(tuple, pg_sys::Anum_pg_proc_prosrc)
                    .is_none_or(|source| tells_stack(source.to_bytes())),
            },
            Some((b"pg_query_cache", _)) => Language::Cached,
            _ => Language::Other,
        };
        pg_sys::ReleaseSysCache(handler);
        found
    }
}

/// Whether the text of a PL/pgSQL function may ask for the stack of its callers: the keywords have to stand there as they are.
fn tells_stack(source: &[u8]) -> bool {
    let has = |word: &[u8]| {
        source
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
    };
    has(b"pg_context") || has(b"pg_exception_context")
}

/// The library of a function in C, without its folder, and the symbol.
///
/// # Safety
/// `tuple` is a row of pg_proc.
unsafe fn symbol<'a>(tuple: pg_sys::HeapTuple) -> Option<(&'a [u8], &'a CStr)> {
    // SAFETY: the caller's.
    unsafe {
        let path = attribute(tuple, pg_sys::Anum_pg_proc_probin)?.to_bytes();
        let name = attribute(tuple, pg_sys::Anum_pg_proc_prosrc)?;
        // A library of the server's own folder: another folder may have another one of that name.
        let library = path.strip_prefix(b"$libdir/").unwrap_or(path);
        if library.contains(&b'/') {
            return None;
        }
        Some((library.strip_suffix(b".so").unwrap_or(library), name))
    }
}

/// A text of a row of pg_proc, in memory of the present context.
///
/// # Safety
/// `tuple` is a row of pg_proc, and the column a text.
unsafe fn attribute<'a>(tuple: pg_sys::HeapTuple, number: u32) -> Option<&'a CStr> {
    let mut is_null = false;
    // SAFETY: the caller's.
    unsafe {
        let value = pg_sys::SysCacheGetAttr(
            compat::PROC_CACHE,
            tuple,
            number as pg_sys::AttrNumber,
            &mut is_null,
        );
        (!is_null).then(|| CStr::from_ptr(pg_sys::text_to_cstring(value.cast_mut_ptr())))
    }
}
