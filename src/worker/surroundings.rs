//! What a worker must not inherit: it is a superuser, it writes, and what it does has to be the same in each database. Settings of the
//! server it keeps; those that somebody has given to the database or to its role (ALTER DATABASE, ALTER ROLE … SET) it takes back, all of
//! them; and those that decide what its statements mean have one value here, whatever the server's file says.

#![allow(unsafe_code)]

use crate::server;
use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// Settings with the values that the worker's own statements are written for.
const KNOWN: [(&CStr, &CStr); 35] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"role", c"none"),
    (c"row_security", c"on"),
    (c"session_replication_role", c"origin"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"standard_conforming_strings", c"on"),
    (c"escape_string_warning", c"on"),
    (c"backslash_quote", c"safe_encoding"),
    (c"quote_all_identifiers", c"off"),
    (c"array_nulls", c"on"),
    (c"transform_null_equals", c"off"),
    (c"lo_compat_privileges", c"off"),
    (c"check_function_bodies", c"on"),
    // Nobody waits for long because of the upkeep.
    (c"lock_timeout", c"1s"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"idle_session_timeout", c"0"),
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"TimeZone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    (c"xmlbinary", c"base64"),
    (c"xmloption", c"content"),
    (c"default_tablespace", c""),
    (c"temp_tablespaces", c""),
    (c"default_table_access_method", c"heap"),
    (c"gin_fuzzy_search_limit", c"0"),
    (c"exit_on_error", c"off"),
    (c"plan_cache_mode", c"auto"),
    // Processes are for the queries of others.
    (c"max_parallel_workers_per_gather", c"0"),
    (c"max_parallel_maintenance_workers", c"0"),
    (c"jit", c"off"),
];

/// The settings as the server has them.
pub struct OfServer(HashMap<CString, CString>);

fn each(mut look: impl FnMut(&pg_sys::config_generic)) {
    // SAFETY: the server's table of settings, which is not changed meanwhile.
    unsafe {
        for index in 0..server::GetNumConfigOptions() as usize {
            look(&**server::get_guc_variables().add(index));
        }
    }
}

/// Reads them, before the process is connected to a database.
pub fn of_server() -> OfServer {
    let mut values = HashMap::new();
    each(|setting| {
        // SAFETY: the name is a C string; the value one that lives until the next call, or NULL.
        unsafe {
            let value = pg_sys::GetConfigOption(setting.name, true, false);
            if !value.is_null() {
                values.insert(
                    CStr::from_ptr(setting.name).to_owned(),
                    CStr::from_ptr(value).to_owned(),
                );
            }
        }
    });
    OfServer(values)
}

/// Whether a setting has a value that was given to the database or to the role.
fn was_given(setting: &pg_sys::config_generic) -> bool {
    use pg_sys::GucSource::*;
    [
        PGC_S_GLOBAL,
        PGC_S_DATABASE,
        PGC_S_USER,
        PGC_S_DATABASE_USER,
    ]
    .contains(&setting.source)
        && setting.context >= pg_sys::GucContext::PGC_SUSET
}

/// Gives the process that has been connected the surroundings that it is to have. `false` if it has not become who it should be.
pub fn take_back(of_server: &OfServer) -> bool {
    let mut given = Vec::new();
    each(|setting| {
        if was_given(setting) {
            // SAFETY: a C string.
            given.push(unsafe { CStr::from_ptr(setting.name) }.to_owned());
        }
    });
    // SAFETY: the start of a background worker; C strings. Who it is comes first, since other settings ask for its rights.
    unsafe {
        let bootstrap = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        pg_sys::SetSessionAuthorization(bootstrap, true);
        set(c"role", c"none");
        for name in given {
            if name.as_c_str() != c"session_authorization" && name.as_c_str() != c"role" {
                set(&name, of_server.0.get(&name).map_or(c"", CString::as_c_str));
            }
        }
        for (name, value) in KNOWN {
            set(name, value);
        }
        set(
            c"client_encoding",
            CStr::from_ptr(pg_sys::GetDatabaseEncodingName()),
        );
        server::GetUserId() == bootstrap && server::GetSessionUserId() == bootstrap
    }
}

/// # Safety
/// Outside of a transaction, or in one that goes on.
unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: C strings.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
}
