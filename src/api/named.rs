//! A function that somebody has written as a literal: its name with the types of its arguments, as `regprocedure` reads it. Whoever leaves
//! the types out is shown how the name is written.

#![allow(unsafe_code)]

use crate::encoding;
use crate::error::Error;
use crate::naming;
use pgrx::pg_sys;
use std::ffi::CStr;

/// So many functions of a name are shown.
const SHOWN: usize = 3;

/// The function that a text names. The server's own errors tell of one that does not exist.
pub fn function(text: &str) -> Result<pg_sys::Oid, Error> {
    let named = encoding::c_string(text).map_err(|_| {
        Error::InvalidParameter(
            "function must be a name with the types of its arguments".into(),
            "The text holds a zero byte.".into(),
        )
    })?;
    if lacks_arguments(text) {
        return Err(Error::InvalidChoice(
            format!("\"{text}\" is not a function with the types of its arguments"),
            hint(text, &named),
        ));
    }
    // SAFETY: takes one C string and returns an oid; what is wrong raises the server's own error.
    let oid = unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::regprocedurein,
            &[Some(pg_sys::Datum::from(named.as_ptr()))],
        )
    };
    Ok(oid.map_or(pg_sys::InvalidOid, |datum| {
        pg_sys::Oid::from(datum.value() as u32)
    }))
}

/// Whether it is a name and no more: an oid in digits, and `-` for none, are read as ever.
fn lacks_arguments(text: &str) -> bool {
    let mut quoted = false;
    let has_parenthesis = text.chars().any(|c| {
        quoted ^= c == '"';
        c == '(' && !quoted
    });
    let text = text.trim();
    !has_parenthesis && text != "-" && !text.is_empty() && !text.chars().all(|c| c.is_ascii_digit())
}

fn hint(text: &str, named: &CStr) -> String {
    let functions = functions(named);
    let form = |function: &str| format!("cache_function('{}')", function.replace('\'', "''"));
    match functions.as_slice() {
        [] => format!(
            "Write them in parentheses, for example {}.",
            form(&format!("{}(integer)", text.trim()))
        ),
        [one] => format!("Write {}.", form(one)),
        several => format!(
            "There are {} functions of this name. Write {}{}.",
            several.len(),
            several
                .iter()
                .take(SHOWN)
                .map(|one| form(one))
                .collect::<Vec<_>>()
                .join(" or "),
            if several.len() > SHOWN { " or …" } else { "" }
        ),
    }
}

/// The functions of a name that the search path finds, with the types of their arguments.
fn functions(named: &CStr) -> Vec<String> {
    crate::attempt::attempt(|| {
        // SAFETY: a C string; a list of candidates in our memory context, each with the next. What is no name raises an ERROR.
        unsafe {
            let names = pg_sys::stringToQualifiedNameList(named.as_ptr());
            let mut candidate = pg_sys::FuncnameGetCandidates(
                names,
                -1,
                std::ptr::null_mut(),
                false,
                false,
                false,
                true,
            );
            let mut found = Vec::new();
            while !candidate.is_null() {
                found.push(naming::regprocedure((*candidate).oid));
                candidate = (*candidate).next;
            }
            found.sort();
            found
        }
    })
    .unwrap_or_default()
}
