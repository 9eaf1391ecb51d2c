//! The SQL that findings recommend: one statement each, to be run as it stands, under every search path and with every name.
//!
//! Whoever runs it may be a superuser, and what it names may have become something else by then, at the will of its owner. So none of
//! it creates or replaces what somebody else defines: it calls functions of ours, which can do no more for one object than for another,
//! and changes settings of the server.

#![allow(unsafe_code)]

use crate::compat;
use crate::naming;
use crate::settings;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A call of one of the extension's functions with a text.
pub fn call(function: &str, argument: &str) -> String {
    call_with(function, &[argument])
}

/// A call of one of the functions that only the extension and administrators call, with a text.
pub fn internal_call(function: &str, argument: &str) -> String {
    let schema = compat::internal_schema().unwrap_or_default();
    format!("SELECT {schema}.{function}({})", literal(argument))
}

/// A call of one of the extension's functions with several texts.
pub fn call_with(function: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|text| literal(text)).collect();
    format!("SELECT {}.{function}({})", schema(), arguments.join(", "))
}

/// Takes a name out of the configuration.
pub fn unset(name: &str) -> String {
    format!(
        "SELECT {}.set_cache_config({}, NULL)",
        schema(),
        literal(name)
    )
}

/// A call of one of the extension's functions without arguments.
pub fn plain_call(function: &str) -> String {
    format!("SELECT {}.{function}()", schema())
}

/// The row of a function in one of the extension's views.
pub fn row_of(view: &str, function: pg_sys::Oid) -> String {
    format!(
        "SELECT * FROM {}.{view} WHERE function = {}::regprocedure",
        schema(),
        literal(&naming::regprocedure_qualified(function))
    )
}

/// Twice the memory. Takes a restart.
pub fn more_memory() -> String {
    format!(
        "ALTER SYSTEM SET pg_query_cache.memory = '{}MB'",
        (settings::memory_bytes() / (1024 * 1024) * 2).min(settings::MEMORY_MAX_MB as usize)
    )
}

/// The words that go with [`more_memory`].
pub const MORE_MEMORY: &str = "raise pg_query_cache.memory and restart the server";

/// The library in addition to what is preloaded.
pub fn preload() -> String {
    let present = setting(c"shared_preload_libraries");
    let libraries = present
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
        .chain(["pg_query_cache"])
        .map(literal)
        .collect::<Vec<_>>();
    format!(
        "ALTER SYSTEM SET shared_preload_libraries = {}",
        libraries.join(", ")
    )
}

/// A setting of the server, whoever asks.
pub fn setting(name: &CStr) -> String {
    // SAFETY: returns a C string that lives until the setting changes, or NULL.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            String::new()
        } else {
            compat::text(value)
        }
    }
}

/// A literal.
pub fn literal(text: &str) -> String {
    match crate::encoding::c_string(text) {
        // SAFETY: returns a C string in our memory context.
        Ok(text) => unsafe { compat::text(pg_sys::quote_literal_cstr(text.as_ptr())) },
        Err(_) => String::from("NULL"),
    }
}

fn schema() -> String {
    compat::extension_schema().unwrap_or_default()
}
