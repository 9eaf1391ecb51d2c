//! SQL functions of the family *invalidation*. Transactional: the transaction itself stops using what it invalidated at once, others
//! at its commit, and a rollback undoes it.

use super::looking;
use crate::dependencies::utility;
use crate::encoding::Text;
use crate::error::{Besides, Error, OrRaise, tell};
use crate::naming;
use crate::store::area::{Area, area};
use crate::validity::tags::{Tag, slot_of};
use crate::validity::writers::Operation;
use crate::values::write;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
use std::sync::atomic::Ordering;

/// The area, if this server may write: what is invalidated is noted under the transaction's id, and a standby assigns none.
#[allow(unsafe_code)]
fn preloaded(command: &CStr) -> Area {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    // SAFETY: raises the server's own error.
    unsafe { pg_sys::PreventCommandDuringRecovery(command.as_ptr()) };
    area
}

/// How often entries depend on one of the slots. They are not looked at for that: each slot has the number of its entries. One that depends
/// on two of them is counted twice.
fn concerned(area: Area, mut slots: Vec<u32>) -> i64 {
    slots.sort_unstable();
    slots.dedup();
    slots
        .into_iter()
        .map(|slot| i64::from(area.tally(slot).load(Ordering::Relaxed)))
        .sum()
}

/// Invalidates all results with one of the tags, and removes the values. Returns how many entries in memory, and how many values, carry
/// one.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn invalidate_cache(tags: Vec<Option<Text>>) -> i64 {
    let area = preloaded(c"invalidate_cache()");
    let database = crate::compat::database();
    let tags: Vec<String> = tags.into_iter().flatten().map(|tag| tag.0).collect();
    let slots: Vec<u32> = tags
        .iter()
        .map(|tag| {
            slot_of(
                database,
                Tag::Named(&crate::dependencies::declared::cut(tag.clone())),
                area.layout.slots,
            )
        })
        .collect();
    let found = concerned(area, slots);
    let values = write::delete_tagged(&tags);
    utility::mark_tags(area, tags.into_iter());
    found + values
}

/// Invalidates all results of a cached function. Returns how many entries in memory it has.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn invalidate_cache_function(function: pg_sys::Oid, fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    // SAFETY: of this call.
    unsafe { crate::access::given::check(fcinfo, function) };
    let area = preloaded(c"invalidate_cache_function()");
    super::caching::cached(function).or_raise();
    let slot = slot_of(
        crate::compat::database(),
        Tag::Function(function),
        area.layout.slots,
    );
    let found = concerned(area, vec![slot]);
    utility::mark_function(area, function);
    found
}

/// Invalidates all results of the cached functions with a matching name. Returns how many entries in memory they have.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn invalidate_cache_pattern(pattern: Text) -> i64 {
    let pattern = pattern.0.as_str();
    let area = preloaded(c"invalidate_cache_pattern()");
    let database = crate::compat::database();
    let with_schema = pattern.contains('.');
    let like = like(pattern);
    let functions: Vec<pg_sys::Oid> = crate::compat::cached_functions()
        .into_iter()
        .filter(|function| {
            crate::compat::function_name(*function).is_some_and(|(schema, name)| {
                let name = if with_schema {
                    format!("{schema}.{name}")
                } else {
                    name
                };
                // SAFETY: textlike takes two texts; every escape in the pattern is followed by what it escapes.
                unsafe {
                    pgrx::direct_function_call::<bool>(
                        pg_sys::textlike,
                        &[
                            Text(name).into_datum(),
                            Text::from(like.as_str()).into_datum(),
                        ],
                    )
                }
                .unwrap_or(false)
            })
        })
        .collect();
    let slots: Vec<u32> = functions
        .iter()
        .map(|function| slot_of(database, Tag::Function(*function), area.layout.slots))
        .collect();
    let found = concerned(area, slots);
    functions
        .into_iter()
        .for_each(|function| utility::mark_function(area, function));
    found
}

/// A pattern of LIKE for one in which `*` stands for any characters, `?` for one, and everything else for itself.
fn like(pattern: &str) -> String {
    let mut like = String::with_capacity(pattern.len() + 8);
    let mut last = None;
    for c in pattern.chars() {
        match c {
            // Two of them say what one says.
            '*' if last == Some('*') => (),
            '*' => like.push('%'),
            '?' => like.push('_'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            _ => like.push(c),
        }
        last = Some(c);
    }
    like
}

/// Invalidates all results that depend on a table. Returns how many entries in memory do.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn invalidate_cache_table(relation: pg_sys::Oid) -> i64 {
    let area = preloaded(c"invalidate_cache_table()");
    // SAFETY: a syscache lookup that allows for absence.
    if unsafe { pg_sys::get_rel_relkind(relation) } as u8 == pg_sys::RELKIND_VIEW {
        tell(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            &format!(
                "{} is a view, on which no result depends",
                naming::relation_name(relation).unwrap_or_default()
            ),
            Besides::Hint("Name the tables that it reads."),
        );
    }
    let database = crate::compat::database();
    let slots: Vec<u32> = crate::dependencies::relations::reached(relation)
        .into_iter()
        .flat_map(|root| {
            [Tag::Relation(root), Tag::WholeRelation(root)]
                .map(|tag| slot_of(database, tag, area.layout.slots))
        })
        .collect();
    let found = concerned(area, slots);
    utility::mark_relation(area, relation);
    found
}

/// Invalidates all results of this database, and removes all values. Returns how many entries in memory, and how many values, it has.
#[pg_extern(sql = false)]
#[allow(unsafe_code)]
fn clear_cache() -> i64 {
    let area = preloaded(c"clear_cache()");
    let found = looking::count_results(area);
    utility::mark_database(area, Operation::Clear);
    found + write::delete_all()
}
