//! Names of objects as SQL writes them: for texts that are kept, compared with what others have kept, or shown.
//!
//! A name is quoted where it has to be, and nowhere else, whatever `quote_all_identifiers` says in this session: what one session has written
//! down (a switch of a function in the configuration, a quarantine, a job) is found by every other.

#![allow(unsafe_code)]

use crate::compat::text;
use crate::encoding;
use pgrx::pg_sys;

/// As long as it lives, names are quoted where they have to be.
struct Plain(bool);

impl Plain {
    fn begin() -> Self {
        // SAFETY: a variable of the backend, which the server sets nowhere but in SET.
        unsafe {
            let before = pg_sys::quote_all_identifiers;
            pg_sys::quote_all_identifiers = false;
            Plain(before)
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: as above. An ERROR of what is called meanwhile comes by here too: pgrx makes it a panic.
        unsafe { pg_sys::quote_all_identifiers = self.0 };
    }
}

fn plain<R>(write: impl FnOnce() -> R) -> R {
    let _plain = Plain::begin();
    write()
}

/// A type.
pub fn type_name(type_id: pg_sys::Oid) -> String {
    // SAFETY: returns a C string in our memory context.
    plain(|| unsafe { text(pg_sys::format_type_be(type_id)) })
}

/// A type with its schema.
pub fn type_name_qualified(type_id: pg_sys::Oid) -> String {
    // SAFETY: returns a C string in our memory context.
    plain(|| unsafe { text(pg_sys::format_type_be_qualified(type_id)) })
}

/// A function as `regprocedure` shows it.
pub fn regprocedure(oid: pg_sys::Oid) -> String {
    // SAFETY: returns a C string in our memory context.
    plain(|| unsafe { text(pg_sys::format_procedure(oid)) })
}

/// A function with its schema, as `regprocedure` reads it under every search path.
pub fn regprocedure_qualified(oid: pg_sys::Oid) -> String {
    // SAFETY: returns a C string in our memory context.
    plain(|| unsafe { text(pg_sys::format_procedure_qualified(oid)) })
}

/// A function with its schema and without its arguments; `None` if it does not exist.
pub fn qualified_function(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: syscache lookups that return C strings in our memory context, or NULL.
    let (schema, name) = unsafe {
        (
            pg_sys::get_namespace_name(pg_sys::get_func_namespace(oid)),
            pg_sys::get_func_name(oid),
        )
    };
    qualified(schema, name)
}

/// A relation with its schema; `None` if it does not exist.
pub fn relation_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: syscache lookups that return C strings in our memory context, or NULL.
    let (schema, name) = unsafe {
        (
            pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)),
            pg_sys::get_rel_name(relation),
        )
    };
    qualified(schema, name)
}

fn qualified(schema: *const std::ffi::c_char, name: *const std::ffi::c_char) -> Option<String> {
    (!schema.is_null() && !name.is_null()).then(|| {
        // SAFETY: C strings; returns one in our memory context.
        plain(|| unsafe { text(pg_sys::quote_qualified_identifier(schema, name)) })
    })
}

/// An identifier.
pub fn quote_identifier(name: &str) -> String {
    match encoding::c_string(name) {
        // SAFETY: returns a C string: the argument itself or one in our memory context.
        Ok(name) => plain(|| unsafe { text(pg_sys::quote_identifier(name.as_ptr())) }),
        Err(_) => String::new(),
    }
}

/// A text as a literal that is read the same under all settings.
pub fn quote_literal(value: &str) -> String {
    match encoding::c_string(value) {
        // SAFETY: returns a C string in our memory context.
        Ok(value) => unsafe { text(pg_sys::quote_literal_cstr(value.as_ptr())) },
        Err(_) => "''".into(),
    }
}
