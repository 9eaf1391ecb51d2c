//! Configuration: what can be changed while the server runs, for all sessions of a database at once.
//!
//! The table `cache_configuration` has what differs from the defaults. Each session keeps a copy of it, and with the copy the number of
//! changes that had been committed before it was read ([`Area::configuration`]). A call compares that number with the present one and
//! reads the table again if they differ; a hit pays one load and one comparison. What the copy says of a cached function is worked into
//! what the session keeps of that function (`crate::language::function`).
//!
//! * `names`: what can be configured, its values and their defaults
//! * `reader`: the rows of the table, without SPI and whatever rights the caller has
//!
//! Order: a writer commits, then counts its change; a session takes the number, then reads. So a copy is never older than its number.
//! A transaction that has written the table reads it at each call until it ends, and what it has written counts for its own calls
//! only. Whatever else may have changed the table counts as a change too: definitions (a dropped extension, a trigger switched off),
//! and any COMMIT PREPARED.

#![allow(unsafe_code)]

pub mod names;
pub mod reader;

use crate::backend::Backend;
use crate::call::outcome::Reason;
use crate::compat;
use crate::language::function;
use crate::naming;
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use names::Name;
use pgrx::pg_sys;
use pgrx::prelude::*;
use reader::Line;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a session knows of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Copy {
    disabled: bool,
    max_entries: u32,
    /// Times to live of classes that differ from the built-in ones, in microseconds.
    ttl: BTreeMap<String, i64>,
    disabled_classes: BTreeSet<String>,
    disabled_functions: BTreeSet<String>,
    not_adaptive: bool,
    not_adaptive_functions: BTreeSet<String>,
}

impl Copy {
    /// What cannot be read counts as the default.
    fn of(lines: &[Line]) -> Self {
        let mut copy = Copy::default();
        for Line { name, value, .. } in lines {
            let off = value == "off";
            match Name::read(name).filter(|name| name.is_sound(value)) {
                Some(Name::Enabled) => copy.disabled = off,
                Some(Name::MaxEntries) => copy.max_entries = value.parse().unwrap_or(0),
                Some(Name::ClassTtl(class)) => {
                    copy.ttl
                        .insert(class, names::duration_us(value).unwrap_or_default());
                }
                Some(Name::ClassEnabled(class)) if off => {
                    copy.disabled_classes.insert(class);
                }
                Some(Name::FunctionEnabled(function)) if off => {
                    copy.disabled_functions.insert(function);
                }
                Some(Name::Adaptive) => copy.not_adaptive = off,
                Some(Name::FunctionAdaptive(function)) if off => {
                    copy.not_adaptive_functions.insert(function);
                }
                _ => (),
            }
        }
        copy
    }
}

/// The copy; none if the table could not be read when it had to be.
static COPY: Backend<RefCell<Option<Copy>>> = Backend::new(RefCell::new(None));
/// The number of changes that the copy is from, plus one; 0 if it is to be read at the next call.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// This transaction has written the table.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// This transaction may have changed the table in another way.
static TOUCHED: AtomicBool = AtomicBool::new(false);

/// Whether nothing has changed since this session read the configuration.
pub fn is_known(area: Area) -> bool {
    is_current(
        area.configuration(compat::database())
            .load(Ordering::Acquire),
    )
}

#[inline(always)]
fn is_current(generation: u64) -> bool {
    SEEN.load(Ordering::Relaxed) == generation.wrapping_add(1)
}

/// Reads the configuration again if it has changed.
#[inline(always)]
pub fn refresh(area: Area) {
    let generation = area
        .configuration(compat::database())
        .load(Ordering::Acquire);
    if !is_current(generation) {
        read_again(area, generation);
    }
}

#[cold]
#[inline(never)]
fn read_again(area: Area, generation: u64) {
    // SAFETY: variables of the backend. Such calls do not use the cache, and a SERIALIZABLE transaction is not to depend on this read.
    let not_now = unsafe {
        server::RecoveryInProgress()
            || pg_sys::XactIsoLevel as u32 == pg_sys::XACT_SERIALIZABLE
            || compat::is_parallel_worker()
    };
    if not_now {
        return;
    }
    let copy = reader::read().map(|lines| Copy::of(&lines));
    let limit = copy.as_ref().map(|copy| copy.max_entries);
    if COPY.with_borrow_mut(|present| std::mem::replace(present, copy.clone()) != copy) {
        function::forget();
    }
    let Some(limit) = limit.filter(|_| !WRITTEN.load(Ordering::Relaxed)) else {
        return;
    };
    SEEN.store(generation.wrapping_add(1), Ordering::Relaxed);
    let database = compat::database();
    let state = match limit {
        0 => area.database(database),
        _ => area.database_or_new(database),
    };
    if let Some(state) = state {
        state.places.limit(limit, generation);
    }
}

/// The most entries of this database in memory, 0 for no limit.
pub fn max_entries() -> u32 {
    COPY.with_borrow(|copy| copy.as_ref().map_or(0, |copy| copy.max_entries))
}

/// Time to live of a class in microseconds. A class that does not exist, because a dump is being restored or somebody wrote the table
/// by hand, has that of the class `default`.
pub fn class_ttl_us(class: &str) -> i64 {
    let one = |class: &str| {
        let configured = COPY.with_borrow(|copy| copy.as_ref()?.ttl.get(class).copied());
        configured.or_else(|| names::default_ttl_us(class))
    };
    one(class)
        .or_else(|| one(names::DEFAULT_CLASS))
        .unwrap_or_default()
}

/// Why nothing in this database uses the cache, if the configuration says so, or is not known.
pub fn off() -> Option<Reason> {
    COPY.with_borrow(|copy| match copy {
        None => Some(Reason::ConfigurationLocked),
        Some(copy) => copy.disabled.then_some(Reason::DatabaseDisabled),
    })
}

/// Why a cached function does not use the cache, if the configuration says so, or is not known.
pub fn disabled(function: pg_sys::Oid, class: &str) -> Option<Reason> {
    COPY.with_borrow(|copy| match copy {
        None => Some(Reason::ConfigurationLocked),
        Some(copy) if copy.disabled => Some(Reason::DatabaseDisabled),
        Some(copy) if copy.disabled_classes.contains(class) => Some(Reason::ClassDisabled),
        Some(copy)
            if !copy.disabled_functions.is_empty()
                && copy
                    .disabled_functions
                    .contains(&naming::regprocedure_qualified(function)) =>
        {
            Some(Reason::FunctionDisabled)
        }
        Some(_) => None,
    })
}

/// Whether a cached function may rest when caching it does not pay.
pub fn is_adaptive(function: pg_sys::Oid) -> bool {
    COPY.with_borrow(|copy| {
        copy.as_ref().is_some_and(|copy| {
            !copy.not_adaptive
                && (copy.not_adaptive_functions.is_empty()
                    || !copy
                        .not_adaptive_functions
                        .contains(&naming::regprocedure_qualified(function)))
        })
    })
}

/// The names that the configuration has switched off, as [`crate::api`] shows them: `enabled`, `class.….enabled`, `function.….enabled`.
pub fn switched_off() -> Vec<String> {
    COPY.with_borrow(|copy| {
        let Some(copy) = copy else { return Vec::new() };
        let mut names: Vec<String> = copy
            .disabled_classes
            .iter()
            .map(|class| format!("class.{class}.enabled"))
            .chain(
                copy.disabled_functions
                    .iter()
                    .map(|function| format!("function.{function}.enabled")),
            )
            .collect();
        names.sort_unstable();
        if copy.disabled {
            names.insert(0, "enabled".into());
        }
        names
    })
}

/// The classes that exist: the built-in ones and those that were given a time to live. `None` if the table cannot be read now.
pub fn classes() -> Option<Vec<String>> {
    let built_in = names::CLASSES.iter().map(|(class, _)| (*class).to_owned());
    let own = reader::read()?;
    let own = own.iter().filter_map(|line| match Name::read(&line.name) {
        Some(Name::ClassTtl(class)) if names::default_ttl_us(&class).is_none() => Some(class),
        _ => None,
    });
    Some(built_in.chain(own).collect())
}

/// How long a line of the log is kept.
const LOG_KEPT_DAYS: i32 = 400;

/// Removes the oldest lines of the log. For the clean-up.
pub fn trim_log() {
    let Some(table) = crate::table::qualified("cache_configuration_log") else {
        return;
    };
    let rows = format!(
        "FROM {table} WHERE changed_at OPERATOR(pg_catalog.<) \
         (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(days => $1))"
    );
    if !crate::table::is_any(&format!("SELECT {rows}"), &[LOG_KEPT_DAYS.into()]) {
        return;
    }
    let trimmed = crate::encoding::run(&format!("DELETE {rows}"), &[LOG_KEPT_DAYS.into()]);
    if let Err(problem) = trimmed {
        crate::error::log(&format!(
            "could not trim table \"cache_configuration_log\": {problem}"
        ));
    }
}

/// Definitions change, or a prepared transaction commits: either may concern the table.
pub fn touched() {
    TOUCHED.store(true, Ordering::Relaxed);
}

/// The transaction committed: if it changed the configuration all sessions read it at their next call.
pub fn committed(area: Area) {
    let written = WRITTEN.load(Ordering::Relaxed);
    if written || TOUCHED.load(Ordering::Relaxed) {
        forget();
        area.configuration(compat::database())
            .fetch_add(1, Ordering::AcqRel);
    }
    if written {
        crate::worker::wake(area, compat::database());
    }
}

/// The transaction was rolled back, or prepared.
pub fn forget() {
    TOUCHED.store(false, Ordering::Relaxed);
    if WRITTEN.swap(false, Ordering::Relaxed) {
        SEEN.store(0, Ordering::Relaxed);
    }
}

/// Tells the server that the trigger function follows calling convention version 1.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_cache_configuration_changed() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// The trigger function of `cache_configuration`.
///
/// # Safety
/// Only the server calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cache_configuration_changed(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the server's fcinfo; no value with a destructor is alive in this frame.
    unsafe {
        guarded(|| {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                    "function \"cache_configuration_changed\" was not called by trigger manager"
                );
            }
            // Without the area nobody is told when the transaction ends, and nobody keeps a copy.
            if area().is_some() {
                WRITTEN.store(true, Ordering::Relaxed);
                SEEN.store(0, Ordering::Relaxed);
            }
        });
    }
    pg_sys::Datum::null()
}
