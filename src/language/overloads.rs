//! Functions of one name whose calls could not be told apart.
//!
//! A cached function takes one argument more than its base function, which may be left out. So two that are cached under one name can
//! accept the same call though their base functions do not: `f_cached(1, '1 minute')` of `f(integer)` and of `f(integer, text)`. The server
//! would take another one than before without a word, or none. Such a name is refused.

#![allow(unsafe_code)]

use super::signature::Signature;
use crate::command;
use crate::encoding;
use crate::naming;
use pgrx::pg_sys;

/// What a function can be called with.
struct Calls {
    types: Vec<pg_sys::Oid>,
    /// Fewer arguments than this it does not take.
    least: usize,
    /// The place of `cache_duration`.
    duration: Option<usize>,
    /// Type of what may follow, any number of times.
    variadic: Option<pg_sys::Oid>,
}

impl Calls {
    /// Calls of a function that is there.
    fn of(function: &Signature, is_cached: bool) -> Self {
        let types = function.arguments.clone();
        let last = types.len().checked_sub(1);
        Calls {
            least: types.len().saturating_sub(function.defaults),
            duration: last.filter(|last| is_cached && types[*last] == pg_sys::INTERVALOID),
            variadic: None,
            types,
        }
        .with_variadic(function)
    }

    /// Calls of the cached function that a function is to get.
    fn of_cached(base: &Signature) -> Self {
        let mut types = base.arguments.clone();
        let least = types.len().saturating_sub(base.defaults);
        let duration = (base.variadic == pg_sys::InvalidOid).then(|| {
            types.push(pg_sys::INTERVALOID);
            types.len() - 1
        });
        Calls {
            types,
            least,
            duration,
            variadic: None,
        }
        .with_variadic(base)
    }

    fn with_variadic(mut self, function: &Signature) -> Self {
        if function.variadic != pg_sys::InvalidOid {
            self.variadic = Some(function.variadic);
            self.types.pop();
            self.least = self.least.min(self.types.len());
        }
        self
    }

    fn takes(&self, count: usize) -> bool {
        count >= self.least && (count <= self.types.len() || self.variadic.is_some())
    }

    fn type_at(&self, place: usize) -> Option<pg_sys::Oid> {
        self.types.get(place).copied().or(self.variadic)
    }

    /// Whether there is a call of `other`, which is there already, that this one would accept too; but not one that gives it each of its
    /// arguments, none of them `cache_duration`: the server prefers the function for which no default is needed.
    fn collide(&self, other: &Calls) -> bool {
        let longest = self.types.len().max(other.types.len());
        (0..=longest).any(|count| {
            let is_duration = |place| self.duration == Some(place) || other.duration == Some(place);
            let is_complete = count == other.types.len()
                && other.variadic.is_none()
                && !(0..count).any(is_duration);
            !is_complete
                && self.takes(count)
                && other.takes(count)
                && (0..count)
                    .all(|place| self.type_at(place) == other.type_at(place) || is_duration(place))
        })
    }
}

/// The function of that name in that schema whose calls the cached function of `base` would make ambiguous. One of exactly its arguments is
/// none: the server refuses a second one itself.
pub fn in_the_way(
    base: &Signature,
    schema: &str,
    name: &str,
    language: pg_sys::Oid,
) -> Option<pg_sys::Oid> {
    let (schema, name) = (
        encoding::c_string(schema).ok()?,
        encoding::c_string(name).ok()?,
    );
    let new = Calls::of_cached(base);
    let mut found = Vec::new();
    // SAFETY: names as the catalog has them; the list is the server's, in our memory context.
    unsafe {
        let names = command::names(&[schema.as_ptr(), name.as_ptr()]);
        let mut candidate = pg_sys::FuncnameGetCandidates(
            names,
            -1,
            std::ptr::null_mut(),
            false,
            false,
            false,
            true,
        );
        while !candidate.is_null() {
            found.push((*candidate).oid);
            candidate = (*candidate).next;
        }
    }
    found.sort_by_key(|oid| oid.to_u32());
    let mut types = base.arguments.clone();
    if new.duration.is_some() {
        types.push(pg_sys::INTERVALOID);
    }
    found.into_iter().find(|oid| {
        Signature::of(*oid).is_some_and(|other| {
            other.arguments != types && new.collide(&Calls::of(&other, other.language == language))
        })
    })
}

/// The cached function of `base` in words, before it is there.
pub fn words(base: &Signature, schema: &str, name: &str) -> String {
    let mut types: Vec<String> = base
        .arguments
        .iter()
        .map(|type_id| naming::type_name(*type_id))
        .collect();
    if base.variadic == pg_sys::InvalidOid {
        types.push(naming::type_name(pg_sys::INTERVALOID));
    }
    format!(
        "{}.{}({})",
        naming::quote_identifier(schema),
        naming::quote_identifier(name),
        types.join(",")
    )
}
