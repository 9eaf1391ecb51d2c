//! What a session was given in settings, to be taken along to another process that makes the same call.
//!
//! What the database and the role have by themselves a session of that role in another process has too.

#![allow(unsafe_code)]

use super::{names, scope};
use crate::compat;
use crate::encoding;
use crate::server;
use pgrx::pg_sys;

/// Who may only read has this one among what is taken along: it belongs to the transaction, so it is put on with each ([`begin`]).
const READ_ONLY: &str = "transaction_read_only";

/// They belong to a transaction or to the session as such.
const OTHERS: [&[u8]; 8] = [
    b"role",
    b"session_authorization",
    b"is_superuser",
    b"transaction_isolation",
    b"transaction_read_only",
    b"transaction_deferrable",
    b"seed",
    b"client_encoding",
];

/// Names and values of the settings that this session was given: by SET, by `set_config`, or when it connected. A name of an application
/// whose value was reset is there still, and shows as the empty text.
pub fn given() -> Vec<(String, String)> {
    let mut given: Vec<_> = names::all()
        // SAFETY: in the server's table of settings; name and value are copied.
        .filter_map(|setting| unsafe {
            let name = scope::bytes((*setting).name);
            if OTHERS.contains(&name) || scope::starts_with(name, scope::OWN) {
                return None;
            }
            let given = (*setting).source >= pg_sys::GucSource::PGC_S_CLIENT
                && (*setting).context >= pg_sys::GucContext::PGC_SUSET;
            let left_over = names::is_placeholder(setting)
                && (*setting).source == pg_sys::GucSource::PGC_S_DEFAULT;
            let value = pg_sys::GetConfigOption((*setting).name, true, false);
            let value = if value.is_null() {
                String::new()
            } else {
                compat::text(value)
            };
            (given || left_over).then(|| (compat::text((*setting).name), value))
        })
        .collect();
    // SAFETY: a variable of the backend.
    if unsafe { pg_sys::XactReadOnly } {
        given.push((READ_ONLY.into(), "on".into()));
    }
    given
}

/// A transaction begins that is made for who had these settings: it may do no more than theirs.
pub fn begin(settings: &[(String, String)]) {
    if settings.iter().any(|(name, _)| name == READ_ONLY) {
        // SAFETY: a variable of the backend; the transaction has written nothing, and ends with what was before.
        unsafe { pg_sys::XactReadOnly = true };
    }
}

/// Names and values of the settings that the database and the role have by themselves, besides those that the session was given itself.
pub fn declared(given: &[(String, String)]) -> Vec<(String, String)> {
    use pg_sys::GucSource::*;
    // SAFETY: the server's table of settings; name and value are copied.
    let mut declared: Vec<_> = unsafe {
        (0..pg_sys::GetNumConfigOptions() as usize)
            .map(|index| *pg_sys::get_guc_variables().add(index))
            .filter(|setting| {
                [
                    PGC_S_GLOBAL,
                    PGC_S_DATABASE,
                    PGC_S_USER,
                    PGC_S_DATABASE_USER,
                ]
                .contains(&(**setting).source)
            })
            .filter(|setting| {
                let name = scope::bytes((**setting).name);
                !OTHERS.contains(&name)
                    && !given
                        .iter()
                        .any(|(known, _)| encoding::to_server(known) == name)
            })
            .filter_map(|setting| {
                let value = pg_sys::GetConfigOption((*setting).name, true, false);
                (!value.is_null()).then(|| (compat::text((*setting).name), compat::text(value)))
            })
            .collect()
    };
    declared.sort_unstable();
    declared
}

/// As bytes: each name and each value with a zero byte at its end.
pub fn write(settings: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in settings {
        for text in [name, value] {
            bytes.extend(encoding::to_server(text));
            bytes.push(0);
        }
    }
    bytes
}

/// What [`write()`] wrote.
pub fn read(bytes: &[u8]) -> Vec<(String, String)> {
    let texts: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .map(encoding::from_server)
        .collect();
    texts
        .chunks_exact(2)
        .map(|pair| (pair[0].to_string(), pair[1].to_string()))
        .collect()
}

/// Gives this session the settings, and then the role.
pub fn put_on(settings: &[(String, String)], role: pg_sys::Oid) {
    for (name, value) in settings {
        if name != READ_ONLY {
            set(name, value);
        }
    }
    // SAFETY: a variable of the backend.
    if role == unsafe { server::GetSessionUserId() } {
        // It may have been declared with another one: ALTER ROLE … SET role.
        set("role", "none");
    } else {
        set("role", &compat::role_name(role));
    }
}

/// Takes everything off that [`put_on`] put on.
pub fn take_off() {
    set("role", "none");
    // SAFETY: `RESET ALL`.
    unsafe { pg_sys::ResetAllOptions() };
}

/// `SET name = value`, with the rights of the present role.
fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (encoding::c_string(name), encoding::c_string(value)) else {
        return;
    };
    // SAFETY: C strings; inside a transaction; raises the server's own error.
    unsafe {
        let context = if pg_sys::superuser() {
            pg_sys::GucContext::PGC_SUSET
        } else {
            pg_sys::GucContext::PGC_USERSET
        };
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            context,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            0,
            false,
        );
    }
}
