//! A call of a cached function written as SQL, its arguments out of JSON: an object by name, or an array by position.
//!
//! Each value becomes one of the argument's type as `jsonb_to_record` makes it: a string through the type's input function, arrays and
//! rows element by element, JSON's null as NULL. Values have the types of the arguments.
//!
//! What is not given is left out, as callers leave it out: a default does not take part in the collation of a call, which is part of
//! its key. If there are more functions of the name the defaults are written out, so that the call can mean no other one.
//!
//! The SQL is run by the session that asks, with its rights and its search path; every name in it is qualified.

#![allow(unsafe_code)]

use crate::call::base;
use crate::compat;
use crate::encoding;
use crate::error::Error;
use crate::language::function;
use crate::naming;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys, spi};
use std::ffi::CString;

/// A cached function that is to be called.
pub struct Target {
    /// Its oid.
    pub function: pg_sys::Oid,
    /// Its name with its schema, quoted where that is needed.
    name: String,
    arguments: Vec<Argument>,
    variadic: bool,
    /// Name of the argument for the greatest age, if there is one; it may have none.
    duration: Option<Option<String>>,
    /// No other function in its schema has its name.
    only_one: bool,
}

struct Argument {
    name: Option<String>,
    type_name: String,
    default: Option<String>,
}

impl Target {
    /// Reads a function from the catalog; an error if it is no cached one, or one that JSON has no values for.
    pub fn of(function: pg_sys::Oid) -> Result<Self, Error> {
        let own = crate::api::caching::cached(function)?;
        let cached = function::get(function);
        base::load(cached.base);
        if cached.arguments.iter().any(|argument| argument.polymorphic) {
            return Err(Error::InvalidParameter(
                format!(
                    "function {} cannot be warmed by arguments in JSON",
                    naming::regprocedure(function)
                ),
                "The type of a polymorphic argument is known only at a call; call the function itself.".into(),
            ));
        }
        let mut arguments = inputs(function);
        let duration = arguments.drain(cached.arguments.len()..).next();
        Ok(Target {
            function,
            name: naming::qualified_function(function).unwrap_or_default(),
            arguments,
            variadic: own.variadic != pg_sys::InvalidOid,
            duration: duration.map(|argument| argument.name),
            only_one: is_only_one(function),
        })
    }

    /// The call with these arguments, as an expression.
    pub fn call(&self, arguments: &str) -> Result<String, Error> {
        let mut given = vec![None; self.arguments.len()];
        match json_type(arguments).as_str() {
            "object" => {
                for (name, value) in members(arguments) {
                    let place = self
                        .arguments
                        .iter()
                        .position(|argument| argument.name.as_deref() == Some(name.as_str()));
                    let place = place.ok_or_else(|| self.unknown(&name))?;
                    given[place] = Some(value);
                }
            }
            "array" => {
                let values = elements(arguments);
                if values.len() > given.len() {
                    return Err(self.wrong(format!("{} arguments are given", values.len())));
                }
                for (place, value) in given.iter_mut().zip(values) {
                    *place = Some(value);
                }
            }
            other => return Err(self.wrong(format!("arguments are given as a JSON {other}"))),
        }
        for (place, (argument, value)) in self.arguments.iter().zip(&given).enumerate() {
            if value.is_none() && argument.default.is_none() {
                return Err(self.wrong(format!("argument {} is missing", argument.shown(place))));
            }
        }
        let omitted = self.only_one && self.can_omit(&given);
        let mut written = Vec::with_capacity(given.len() + 1);
        let mut all_before = true;
        for (place, (argument, value)) in self.arguments.iter().zip(given).enumerate() {
            let value = match (value, &argument.default) {
                (Some(value), _) => argument.value(&value)?,
                (None, Some(default)) if !omitted => {
                    format!("({default})::{}", argument.type_name)
                }
                (None, _) => {
                    all_before = false;
                    continue;
                }
            };
            let name = argument.name.as_deref().filter(|_| !all_before);
            let name = name.map(|name| format!("{} => ", naming::quote_identifier(name)));
            let variadic = self.variadic && place + 1 == self.arguments.len();
            written.push(format!(
                "{}{}{value}",
                if variadic { "VARIADIC " } else { "" },
                name.unwrap_or_default()
            ));
        }
        if let Some(duration) = &self.duration {
            let name = duration.as_deref().filter(|_| !all_before);
            let name = name.map(|name| format!("{} => ", naming::quote_identifier(name)));
            written.push(format!(
                "{}NULL::pg_catalog.interval",
                name.unwrap_or_default()
            ));
        }
        Ok(format!("{}({})", self.name, written.join(", ")))
    }

    /// Whether what follows an argument that is not given has names, so that it can be left out.
    fn can_omit(&self, given: &[Option<String>]) -> bool {
        let after = given
            .iter()
            .position(Option::is_none)
            .unwrap_or(given.len());
        let named = self.arguments[after.min(given.len())..]
            .iter()
            .zip(&given[after..])
            .all(|(argument, value)| value.is_none() || argument.name.is_some());
        named && (after == given.len() || self.duration.as_ref().is_none_or(Option::is_some))
    }

    fn unknown(&self, name: &str) -> Error {
        self.wrong(format!(
            "there is no argument \"{}\"",
            name.chars().take(64).collect::<String>()
        ))
    }

    fn wrong(&self, what: String) -> Error {
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .enumerate()
            .map(|(place, argument)| format!("{} {}", argument.shown(place), argument.type_name))
            .collect();
        Error::InvalidParameter(
            format!(
                "arguments do not fit function {}: {what}",
                naming::regprocedure(self.function)
            ),
            if arguments.is_empty() {
                "The function takes none, which is written {}.".into()
            } else {
                format!(
                    "They are an object by name, or an array by position, of: {}.",
                    arguments.join(", ")
                )
            },
        )
    }
}

impl Argument {
    fn shown(&self, place: usize) -> String {
        match &self.name {
            Some(name) => format!("\"{name}\""),
            None => format!("${}", place + 1),
        }
    }

    /// An expression for a value in JSON.
    fn value(&self, json: &str) -> Result<String, Error> {
        let row = crate::encoding::c_string(&format!("{{\"a\": {json}}}")).map_err(|_| {
            Error::InvalidParameter(
                "arguments hold a zero byte".into(),
                "No text of this server can.".into(),
            )
        })?;
        // SAFETY: returns a C string in our memory context.
        let literal = unsafe { compat::text(pg_sys::quote_literal_cstr(row.as_ptr())) };
        Ok(format!(
            "(SELECT r.a FROM pg_catalog.jsonb_to_record({literal}::pg_catalog.jsonb) AS r (a {}))",
            self.type_name
        ))
    }
}

/// Whether a function is the only one of its name in its schema.
fn is_only_one(function: pg_sys::Oid) -> bool {
    asked(
        "SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_proc AS own \
         ON own.proname OPERATOR(pg_catalog.=) p.proname AND own.pronamespace OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE own.oid OPERATOR(pg_catalog.=) $1",
        &[function.into()],
    )
    .pop()
    .is_some_and(|(_, count)| count.as_deref() == Some("1"))
}

/// The input arguments of a function, with the texts of their defaults.
fn inputs(function: pg_sys::Oid) -> Vec<Argument> {
    let (mut types, mut names, mut modes) = (
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: the tuple is pinned while it is read; the arrays are copies in our memory context, as long as the count says, or NULL.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return Vec::new();
        }
        let count = pg_sys::get_func_arg_info(tuple, &mut types, &mut names, &mut modes) as usize;
        pg_sys::ReleaseSysCache(tuple);
        (0..count)
            .filter(|i| modes.is_null() || [b'i', b'b', b'v'].contains(&(*modes.add(*i) as u8)))
            .map(|i| Argument {
                name: (!names.is_null())
                    .then(|| compat::text(*names.add(i)))
                    .filter(|name| !name.is_empty()),
                type_name: naming::type_name_qualified(*types.add(i)),
                default: asked(
                    "SELECT pg_catalog.pg_get_function_arg_default($1, $2)",
                    &[function.into(), (i as i32 + 1).into()],
                )
                .pop()
                .and_then(|(_, default)| default),
            })
            .collect()
    }
}

/// The kind of a JSON text.
pub fn json_type(json: &str) -> String {
    asked(
        "SELECT pg_catalog.jsonb_typeof($1::pg_catalog.jsonb)",
        &[encoding::parameter(json)],
    )
    .pop()
    .and_then(|(_, kind)| kind)
    .unwrap_or_default()
}

/// Names and values of a JSON object.
fn members(json: &str) -> Vec<(String, String)> {
    asked(
        "SELECT e.value::pg_catalog.text, e.key FROM pg_catalog.jsonb_each($1::pg_catalog.jsonb) AS e",
        &[encoding::parameter(json)],
    )
    .into_iter()
    .filter_map(|(key, value)| Some((key?, value?)))
    .collect()
}

/// The elements of a JSON array.
pub fn elements(json: &str) -> Vec<String> {
    asked(
        "SELECT e.value::pg_catalog.text FROM pg_catalog.jsonb_array_elements($1::pg_catalog.jsonb) AS e",
        &[encoding::parameter(json)],
    )
    .into_iter()
    .filter_map(|(_, value)| value)
    .collect()
}

/// Rows of texts: the second column, if there is one, and the first.
fn asked(
    question: &str,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
) -> Vec<(Option<String>, Option<String>)> {
    let rows = Spi::connect(|client| -> Result<_, spi::Error> {
        let mut rows = Vec::new();
        for row in client.select(encoding::statement(question).as_c_str(), None, arguments)? {
            let second = if row.columns() > 1 {
                encoding::column(&row, 2)?
            } else {
                None
            };
            rows.push((second, encoding::column(&row, 1)?));
        }
        Ok(rows)
    });
    match rows {
        Ok(rows) => rows,
        Err(problem) => {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                crate::encoding::shown(&format!("could not read arguments: {problem}"))
            );
            #[allow(unreachable_code)]
            Vec::new()
        }
    }
}

/// A `jsonb` as text. It may hold what JSON in Rust cannot.
///
/// # Safety
/// `value` is a `jsonb`.
pub unsafe fn json_text(value: pgrx::AnyElement) -> String {
    // SAFETY: the caller's; an output function returns a C string.
    unsafe {
        compat::text(pg_sys::OidOutputFunctionCall(
            pg_sys::F_JSONB_OUT.into(),
            value.datum(),
        ))
    }
}

/// A text of JSON as `jsonb`.
pub fn jsonb(json: &str) -> Option<pgrx::AnyElement> {
    jsonb_of_bytes(&encoding::to_server(json))
}

/// A text of JSON in the encoding of the database as `jsonb`; `None` if it holds a zero byte.
pub fn jsonb_of_bytes(json: &[u8]) -> Option<pgrx::AnyElement> {
    let source = CString::new(json).ok()?;
    // SAFETY: the input function takes a C string and returns a jsonb in our memory context.
    unsafe {
        let datum = pg_sys::OidInputFunctionCall(
            pg_sys::F_JSONB_IN.into(),
            source.as_ptr().cast_mut(),
            pg_sys::InvalidOid,
            -1,
        );
        pgrx::FromDatum::from_polymorphic_datum(datum, false, pg_sys::JSONBOID)
    }
}
