//! The key of a call: database, function, scope, period of the clock, arguments, as bytes. Equal bytes mean the same call.
//!
//! Values are compared as they are stored, after decompression: two values that are equal to `=` but print differently (1.0 and
//! 1.00) are different keys, because a function can tell them apart.

#![allow(unsafe_code)]

use super::outcome::Reason;
use super::period::Clock;
use super::scope::{Digest, Settings};
use crate::language::function::CachedFunction;
use crate::server;
use crate::settings;
use pgrx::pg_sys;
use xxhash_rust::xxh3::xxh3_64;

/// Length that marks NULL.
const NULL: u32 = u32::MAX;

/// Where in the byte of the settings the unit of the clock begins.
const CLOCK_AT: u8 = 4;

/// Writes the key of a call into `key` and returns its hash; or why there can be none: an argument is a row without a named type, whose
/// bytes mean something in this session only, or larger than anything that is stored.
///
/// # Safety
/// `fcinfo` is a call of `function`.
#[inline(always)]
pub unsafe fn build(
    function: &CachedFunction,
    format: Digest,
    of_session: Settings,
    fcinfo: pg_sys::FunctionCallInfo,
    key: &mut Vec<u8>,
) -> Result<u64, Reason> {
    key.clear();
    let largest = settings::max_entry_bytes();
    // SAFETY: variables of the backend; the caller's fcinfo.
    unsafe {
        let number = |key: &mut Vec<u8>, oid: pg_sys::Oid| {
            key.extend_from_slice(&oid.to_u32().to_le_bytes())
        };
        number(key, pg_sys::MyDatabaseId);
        number(key, function.oid);
        number(key, function.base);
        number(key, (*fcinfo).fncollation);
        key.extend_from_slice(&format);
        key.push(of_session as u8 | function.clock.map_or(0, Clock::number) << CLOCK_AT);
        key.extend_from_slice(&of_session.digest());
        if of_session != Settings::None {
            number(key, server::GetUserId());
            number(key, server::GetSessionUserId());
        }
        if let Some(clock) = function.clock {
            key.extend_from_slice(&clock.period().bytes());
        }
        for (i, argument) in function.arguments.iter().enumerate() {
            let (mut length, mut by_value) = (argument.length, argument.by_value);
            if argument.polymorphic {
                let actual = pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, i as i32);
                if actual == pg_sys::RECORDOID || actual == pg_sys::RECORDARRAYOID {
                    return Err(Reason::AnonymousRow);
                }
                number(key, actual);
                (length, by_value) = crate::compat::type_length(actual);
            }
            let value = &*(*fcinfo).args.as_ptr().add(i);
            if value.isnull {
                key.extend_from_slice(&NULL.to_le_bytes());
                continue;
            }
            if !append(key, value.value, length, by_value, largest) {
                return Err(Reason::TooLarge);
            }
        }
    }
    Ok(xxh3_64(key))
}

/// Appends the bytes of a value that is not NULL, with their length. `false` if they are more than `largest`: then nothing is fetched
/// or copied.
///
/// # Safety
/// `value` is a value of a type with that length and by-value mark.
#[inline(always)]
unsafe fn append(
    key: &mut Vec<u8>,
    value: pg_sys::Datum,
    length: i16,
    by_value: bool,
    largest: usize,
) -> bool {
    let mut field = |bytes: &[u8]| {
        let fits = bytes.len() <= largest;
        if fits {
            key.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            key.extend_from_slice(bytes);
        }
        fits
    };
    // SAFETY: the caller's; lengths follow the rules of pg_type.typlen.
    unsafe {
        if by_value {
            field(&value.value().to_le_bytes()[..(length as usize).min(8)])
        } else if length > 0 {
            field(std::slice::from_raw_parts(
                value.cast_mut_ptr::<u8>(),
                length as usize,
            ))
        } else if length == -2 {
            field(std::ffi::CStr::from_ptr(value.cast_mut_ptr()).to_bytes())
        } else {
            let given = value.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pgrx::varatt_is_4b_u(given)
                || pgrx::varatt_is_1b(given) && !pgrx::varatt_is_1b_e(given);
            if !plain && pg_sys::toast_raw_datum_size(value) > largest {
                return false;
            }
            let packed = if plain {
                given
            } else {
                pg_sys::pg_detoast_datum_packed(given)
            };
            let fits = field(std::slice::from_raw_parts(
                pgrx::vardata_any(packed).cast::<u8>(),
                pgrx::varsize_any_exhdr(packed),
            ));
            if packed != given {
                pg_sys::pfree(packed.cast());
            }
            fits
        }
    }
}

/// Collation and arguments of a call, out of its key; the values are made in the present memory context. `None` if they are not all
/// there, as with polymorphic arguments, whose types the key only numbers.
pub fn take_apart(
    function: &CachedFunction,
    key: &[u8],
) -> Option<(pg_sys::Oid, Vec<Option<pg_sys::Datum>>)> {
    const COLLATION: usize = 12;
    const SETTINGS: usize = 32;
    const DIGEST: usize = 16;
    const ROLES: usize = 8;
    const FIRST: u8 = (1 << CLOCK_AT) - 1;
    let number = |at: usize| Some(u32::from_le_bytes(key.get(at..at + 4)?.try_into().ok()?));
    let collation = number(COLLATION)?.into();
    let mut at = SETTINGS + 1 + DIGEST;
    let (settings, clock) = (key.get(SETTINGS)? & FIRST, key.get(SETTINGS)? >> CLOCK_AT);
    if settings != Settings::None as u8 {
        at += ROLES;
    }
    if clock != 0 {
        at += pg_query_cache_clock::BYTES;
    }
    let mut values = Vec::with_capacity(function.arguments.len());
    for argument in &function.arguments {
        let length = number(at)?;
        at += 4;
        if argument.polymorphic {
            return None;
        } else if length == NULL {
            values.push(None);
            continue;
        }
        let bytes = key.get(at..at + length as usize)?;
        at += bytes.len();
        // SAFETY: the bytes are those that `append` took from a value of this type.
        values.push(Some(unsafe {
            value_of(bytes, argument.length, argument.by_value)
        }));
    }
    (at == key.len()).then_some((collation, values))
}

/// The value whose bytes [`append`] has written.
///
/// # Safety
/// They are of a type with that length and by-value mark.
unsafe fn value_of(bytes: &[u8], length: i16, by_value: bool) -> pg_sys::Datum {
    if by_value {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        return pg_sys::Datum::from(u64::from_le_bytes(word) as usize);
    }
    let head = if length == -1 { size_of::<u32>() } else { 0 };
    // SAFETY: room for a length, the bytes and a zero at the end of a C string, in zeroed memory that any type may begin in.
    unsafe {
        let value = pg_sys::palloc0(head + bytes.len() + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.add(head), bytes.len());
        if length == -1 {
            pgrx::set_varsize_4b(value.cast(), (head + bytes.len()) as i32);
        }
        pg_sys::Datum::from(value)
    }
}
