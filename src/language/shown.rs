//! Bodies as the view `cached_functions` shows them.
//!
//! The view reads the bodies of all functions, whoever wrote them, so nothing in a body may be an error. What a text of this database
//! cannot hold (a zero byte, a character outside of its encoding) can stand in JSON as an escape; it is shown as `?`. A body that is
//! no JSON is shown as none.

#![allow(unsafe_code)]

use crate::warming::arguments;
use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys};

/// A longer body is not shown. The options of a function are far shorter.
const LONGEST: usize = 1 << 20;

/// The body of a cached function as `jsonb`; NULL if it cannot be shown.
#[pg_extern(sql = false)]
fn cached_body(source: AnyElement) -> Option<AnyElement> {
    // SAFETY: the declared type of the argument is text; the copy, if one is made, lives as long as our memory context.
    let (bytes, encoding) = unsafe {
        let text = pg_sys::pg_detoast_datum_packed(source.datum().cast_mut_ptr());
        let bytes = std::slice::from_raw_parts(
            pgrx::vardata_any(text).cast::<u8>(),
            pgrx::varsize_any_exhdr(text),
        );
        (bytes, pg_sys::GetDatabaseEncoding())
    };
    if bytes.len() > LONGEST {
        return None;
    }
    let largest = match encoding as u32 {
        pg_sys::pg_enc::PG_UTF8 => char::MAX as u32,
        pg_sys::pg_enc::PG_LATIN1 => 0xff,
        _ => 0x7f,
    };
    arguments::jsonb_of_bytes(&showable(bytes, largest)?)
}

/// A JSON text with `?` for each escape of a character that is zero or larger than `largest`; `None` if the text is no JSON. In every
/// encoding of a database a byte below 128 is an ASCII character, and nothing else.
fn showable(text: &[u8], largest: u32) -> Option<Vec<u8>> {
    let mut shown = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            shown.push(*byte);
            continue;
        }
        let (escaped, after) = rest.split_first()?;
        rest = after;
        if *escaped != b'u' {
            shown.extend([b'\\', *escaped]);
            continue;
        }
        let unit = unit(rest)?;
        rest = &rest[4..];
        let mut character = unit;
        if (0xd800..0xdc00).contains(&unit) {
            let low = rest.strip_prefix(b"\\u").and_then(self::unit)?;
            character = 0x10000 + ((unit - 0xd800) << 10) + low.checked_sub(0xdc00)?;
            rest = &rest[6..];
        }
        match char::from_u32(character) {
            Some('\0') => shown.push(b'?'),
            Some(_) if character > largest => shown.push(b'?'),
            Some(character) => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    shown.extend(format!("\\u{unit:04x}").bytes());
                }
            }
            None => return None,
        }
    }
    let is_json = {
        let ascii: Vec<u8> = shown
            .iter()
            .map(|byte| if byte.is_ascii() { *byte } else { b'x' })
            .collect();
        serde_json::from_slice::<serde_json::Value>(&ascii).is_ok()
    };
    is_json.then_some(shown)
}

/// The number that four hexadecimal digits are.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
