//! What is said of a cached function's dependencies: key columns, by its body or by its base function, and tags.

#![allow(unsafe_code)]

use crate::compat;
use crate::error::Error;
use crate::language::body::{Body, MAX_TAG_BYTES, argument_number};
use crate::language::function::CachedFunction;
use crate::language::meant;
use crate::language::signature::Signature;
use crate::naming;
use crate::server;
use pgrx::pg_sys;
use std::collections::BTreeMap;

/// Key columns of a relation, each with the argument (`$1` …) that holds its value.
pub type Columns = BTreeMap<String, String>;

/// The relations that `depends_on` names, as the present search path finds them. A name that means nothing is passed over: what is
/// read is recorded anyway. Of a relation whose columns do not mean what they meant, the whole is depended on.
pub fn relations(function: &CachedFunction) -> Vec<(pg_sys::Oid, &Columns)> {
    static NONE: Columns = Columns::new();
    function
        .depends_on
        .iter()
        .filter_map(|(name, columns)| {
            let usable = meant::may_use(&function.meant, name, columns);
            Some((find_relation(name)?, if usable { columns } else { &NONE }))
        })
        .collect()
}

/// A relation by name, without a lock, and without an ERROR for a name that is none or a schema that the caller may not use: this
/// runs in calls of others.
pub fn find_relation(name: &str) -> Option<pg_sys::Oid> {
    let name = crate::encoding::c_string(name).ok()?;
    // SAFETY: the copy is scribbled over and pointed into, and lives in the caller's memory context; catalog lookups that allow for
    // absence.
    unsafe {
        let mut parts = std::ptr::null_mut();
        let well_formed = pg_sys::SplitIdentifierString(
            pg_sys::pstrdup(name.as_ptr()),
            b'.' as std::ffi::c_char,
            &mut parts,
        );
        if !well_formed || parts.is_null() {
            return None;
        }
        let part = |i: i32| pg_sys::list_nth(parts, i).cast::<std::ffi::c_char>();
        let relation = match (*parts).length {
            1 => pg_sys::RelnameGetRelid(part(0)),
            2 => match pg_sys::get_namespace_oid(part(0), true) {
                pg_sys::InvalidOid => pg_sys::InvalidOid,
                schema => pg_sys::get_relname_relid(part(1), schema),
            },
            _ => pg_sys::InvalidOid,
        };
        (relation != pg_sys::InvalidOid).then_some(relation)
    }
}

/// What the text of `pg_query_cache.depends_on` says; nothing if it cannot be read.
pub fn parse(text: &str) -> BTreeMap<String, Columns> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Whether a column can be marked: it exists, and its values can be hashed.
pub fn can_be_key(relation: pg_sys::Oid, column: &str) -> bool {
    column_type(relation, column).is_some_and(|(type_id, _)| same_hash(type_id, type_id))
}

/// Checks `depends_on` at CREATE FUNCTION: the relations and columns exist, and values of the arguments can be compared with them.
pub fn check(body: &Body, function: &Signature) -> Result<(), Error> {
    for (name, columns) in &body.depends_on {
        let Some(relation) = find_relation(name) else {
            return Err(Error::InvalidBody(
                format!("relation \"{name}\" of \"depends_on\" does not exist"),
                "Give the names of the tables that the function reads, with their schemas if those are not in the search path."
                    .into(),
            ));
        };
        for (column, argument) in columns {
            let Some((column_type, _)) = column_type(relation, column) else {
                return Err(Error::NoSuchColumn(column.clone(), name.clone()));
            };
            let Some(argument_type) =
                argument_number(argument).and_then(|i| function.arguments.get(i))
            else {
                continue;
            };
            if !same_hash(column_type, *argument_type) {
                return Err(Error::InvalidBody(
                    format!(
                        "column \"{column}\" of \"{name}\" has type {}, argument {argument} has type {}",
                        naming::type_name(column_type),
                        naming::type_name(*argument_type)
                    ),
                    "A key column and its argument need types whose values are hashed alike."
                        .into(),
                ));
            }
        }
    }
    Ok(())
}

/// Number of a column of the user's; `None` if there is none of the name.
pub fn column_number(relation: pg_sys::Oid, column: &str) -> Option<i16> {
    let name = crate::encoding::c_string(column).ok()?;
    // SAFETY: a syscache lookup; a dropped column has no name.
    let number = unsafe { pg_sys::get_attnum(relation, name.as_ptr()) };
    (number > 0).then_some(number)
}

/// Name of a column; `None` if it is gone.
pub fn column_name(relation: pg_sys::Oid, number: i16) -> Option<String> {
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        let name = (!name.is_null()).then(|| compat::text(name))?;
        // That of a dropped one is made up, and is found by no name.
        (column_number(relation, &name) == Some(number)).then_some(name)
    }
}

/// Type and collation of a column.
pub fn column_type(relation: pg_sys::Oid, column: &str) -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    let number = column_number(relation, column)?;
    let (mut type_id, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
    // SAFETY: a syscache lookup with out parameters.
    unsafe {
        pg_sys::get_atttypetypmodcoll(
            relation,
            number,
            &mut type_id,
            &mut modifier,
            &mut collation,
        );
    }
    Some((type_id, collation))
}

/// The function that hashes values of a type, if it does so for good. What an open transaction has marked must be what a call depends on
/// that hashes later: a function in SQL or PL/pgSQL can be replaced meanwhile, and so can the function of a type that another is made of.
pub fn hash_function(type_id: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the type cache's entries live as long as the backend; syscache lookups.
    unsafe {
        let flags = pg_sys::TYPECACHE_HASH_EXTENDED_PROC as i32;
        let function = (*pg_sys::lookup_type_cache(type_id, flags)).hash_extended_proc;
        let is_compiled = || {
            let function = Signature::of(function)?;
            let language = function.language.to_u32();
            (language == INTERNAL || language == C).then_some(())
        };
        if function == pg_sys::InvalidOid
            || function.to_u32() >= pg_sys::FirstNormalObjectId && is_compiled().is_none()
        {
            return None;
        }
        let type_id = pg_sys::getBaseType(type_id);
        let element = pg_sys::get_element_type(type_id);
        let part = if element != pg_sys::InvalidOid {
            element
        } else {
            match pg_sys::get_typtype(type_id) as u8 {
                pg_sys::TYPTYPE_RANGE => pg_sys::get_range_subtype(type_id),
                pg_sys::TYPTYPE_MULTIRANGE => {
                    pg_sys::get_range_subtype(pg_sys::get_multirange_range(type_id))
                }
                pg_sys::TYPTYPE_COMPOSITE | pg_sys::TYPTYPE_PSEUDO => return None,
                _ => return Some(function),
            }
        };
        let part = pg_sys::getBaseType(part);
        let for_good = part.to_u32() < pg_sys::FirstUnpinnedObjectId && !compat::is_pseudo(part)
            || pg_sys::get_typtype(part) as u8 == pg_sys::TYPTYPE_ENUM;
        for_good.then_some(function)
    }
}

/// `LANGUAGE internal` and `LANGUAGE c` in `pg_language`.
const INTERNAL: u32 = 12;
const C: u32 = 13;

/// Whether values that are equal under a collation are the same bytes; also if there is no collation.
fn is_deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: a lookup of a collation that exists.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// Whether equal values of the two types have equal hashes: they are in the same hash operator family. Whether their functions ask for the
/// collation is not said by that: under one that calls different texts equal, the two have to be one function.
fn same_hash_under(collation: pg_sys::Oid, a: pg_sys::Oid, b: pg_sys::Oid) -> bool {
    same_hash(a, b) && (is_deterministic(collation) || hash_function(a) == hash_function(b))
}

/// The same under a collation by which equal texts are the same bytes.
fn same_hash(a: pg_sys::Oid, b: pg_sys::Oid) -> bool {
    if hash_function(a).is_none() || hash_function(b).is_none() {
        return false;
    }
    // SAFETY: the type cache's entries live as long as the backend.
    unsafe {
        let flags = (pg_sys::TYPECACHE_HASH_OPFAMILY | pg_sys::TYPECACHE_HASH_EXTENDED_PROC) as i32;
        let (a, b) = (
            &*pg_sys::lookup_type_cache(a, flags),
            &*pg_sys::lookup_type_cache(b, flags),
        );
        a.hash_opf != pg_sys::InvalidOid
            && a.hash_opf == b.hash_opf
            && a.hash_extended_proc != pg_sys::InvalidOid
            && b.hash_extended_proc != pg_sys::InvalidOid
    }
}

/// Hash of a value that is not NULL, equal for equal values of the types of one hash operator family.
///
/// # Safety
/// `value` is a value of the type.
pub unsafe fn hash(
    type_id: pg_sys::Oid,
    collation: pg_sys::Oid,
    value: pg_sys::Datum,
) -> Option<u64> {
    let function = hash_function(type_id)?;
    // SAFETY: the caller's; the closure has nothing to drop.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| hash_unguarded(type_id, function, collation, value))
    }
}

/// The same for those who hash by the thousand, by the function that [`hash_function`] has found for the type; `None` if that is another by
/// now. An ERROR passes by: no value with a destructor may be alive in the caller's frames.
///
/// # Safety
/// As [`hash`].
pub unsafe fn hash_unguarded(
    type_id: pg_sys::Oid,
    function: pg_sys::Oid,
    collation: pg_sys::Oid,
    value: pg_sys::Datum,
) -> Option<u64> {
    // SAFETY: the type cache's entries live as long as the backend; the function takes a value and a seed.
    unsafe {
        let cache =
            server::lookup_type_cache(type_id, pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO as i32);
        if (*cache).hash_extended_proc != function {
            return None;
        }
        let finfo = &raw mut (*cache).hash_extended_proc_finfo;
        Some(
            server::FunctionCall2Coll(finfo, collation, value, pg_sys::Datum::from(0)).value()
                as u64,
        )
    }
}

/// The keys that a call depends on in `relation`: column and hash of the argument. `None` if it depends on the whole relation:
/// no columns, one that the triggers do not mark, or a NULL argument.
///
/// # Safety
/// `fcinfo` is a call of `function`.
pub unsafe fn keys<'a>(
    relation: pg_sys::Oid,
    columns: &'a Columns,
    marked: &[String],
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Option<Vec<(&'a str, u64)>> {
    if columns.is_empty() || !columns.keys().all(|column| marked.contains(column)) {
        return None;
    }
    columns
        .iter()
        .map(|(column, argument)| {
            let number = argument_number(argument)?;
            let (column_type, collation) = column_type(relation, column)?;
            let declared = function.arguments.get(number)?;
            // SAFETY: the caller's fcinfo has the arguments of the base function.
            unsafe {
                let value = &*(*fcinfo).args.as_ptr().add(number);
                // The collation of the call, where it is not the column's, may be the one by which the function compares.
                let given = (*fcinfo).fncollation;
                let compares_alike = collation == pg_sys::InvalidOid
                    || given == collation
                    || is_deterministic(given);
                if value.isnull
                    || declared.polymorphic
                    || !compares_alike
                    || !same_hash_under(collation, column_type, declared.type_id)
                {
                    return None;
                }
                let hash = hash(declared.type_id, collation, value.value);
                Some((column.as_str(), hash?))
            }
        })
        .collect()
}

/// The tags of a call: those of the body with `$1` … replaced by the arguments as text (NULL by nothing), cut to the longest allowed.
///
/// # Safety
/// `fcinfo` is a call of `function`.
pub unsafe fn tags(function: &CachedFunction, fcinfo: pg_sys::FunctionCallInfo) -> Vec<String> {
    function
        .tags
        .iter()
        .map(|template| {
            // SAFETY: the caller's fcinfo.
            let text = |number| unsafe { argument_text(function, fcinfo, number) };
            cut(filled_in(template, |number| {
                (number < function.arguments.len()).then(|| text(number))
            }))
        })
        .collect()
}

/// The first `$n` in a template that names none of so many arguments.
pub fn names_no_argument(template: &str, arguments: usize) -> Option<String> {
    let parts = template.split('$').skip(1);
    parts
        .map(|part| &part[..digits(part)])
        .find(|number| !number.is_empty() && index(number).is_none_or(|index| index >= arguments))
        .map(|number| format!("${number}"))
}

/// How many digits a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The index, from 0, of the argument with a number.
fn index(number: &str) -> Option<usize> {
    number.parse::<usize>().ok()?.checked_sub(1)
}

/// `template` with each `$n` replaced by its argument; what is filled in is not looked at again. One that names no argument stays.
fn filled_in(template: &str, argument: impl Fn(usize) -> Option<String>) -> String {
    let mut parts = template.split('$');
    let mut tag = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = digits(part);
        match index(&part[..digits]).and_then(&argument) {
            Some(text) => tag.push_str(&(text + &part[digits..])),
            None => tag.push_str(&format!("${part}")),
        }
    }
    tag
}

/// An argument of a call as text; nothing for NULL.
///
/// # Safety
/// `fcinfo` is a call of `function`, which has the argument.
pub unsafe fn argument_text(
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
) -> String {
    // SAFETY: the caller's fcinfo has the arguments of the base function; output functions return C strings.
    unsafe {
        let value = &*(*fcinfo).args.as_ptr().add(number);
        if value.isnull {
            return String::new();
        }
        let declared = function.arguments[number];
        let type_id = if declared.polymorphic {
            pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, number as i32)
        } else {
            declared.type_id
        };
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(type_id, &mut output, &mut is_varlena);
        compat::text(pg_sys::OidOutputFunctionCall(output, value.value))
    }
}

/// Cuts a tag to the longest that is allowed; `invalidate_cache` does the same, so the two still meet.
pub fn cut(mut tag: String) -> String {
    if tag.len() > MAX_TAG_BYTES {
        let end = crate::encoding::clip(&tag, MAX_TAG_BYTES).len();
        tag.truncate(end);
    }
    tag
}
