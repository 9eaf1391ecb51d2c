//! Texts of the server as strings of Rust, and back.
//!
//! A text of the server is bytes in the encoding of the database, a string of Rust is UTF-8. The two differ: in a LATIN1 database, in a
//! SQL_ASCII one whose bytes need not be anything, and for names of roles and databases that were made in another encoding. Hence one
//! rule: **a string that came from the server is an image of its bytes**, [`from_server`] makes it and [`to_server`] gives exactly those
//! bytes back. Nothing is looked up, nothing can fail, and equal bytes are equal strings.
//!
//! * Where the encoding is UTF-8 or SQL_ASCII valid UTF-8 is itself. Elsewhere only ASCII is.
//! * Each other byte is a character of [`IMAGES`]. A text that holds such a character itself has each of its bytes as an image, so
//!   nothing has two images.
//! * Characters that are neither come from Rust: words of ours, and escapes of JSON, which are brought into the encoding when they are read
//!   ([`resolved`]).
//!
//! [`Text`] is a text at the border: argument and result of an SQL function, parameter and column of a statement. pgrx's own conversions
//! are for UTF-8 only; `scripts/lint-texts` finds them.

#![allow(unsafe_code)]

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, DatumWithOid, UnboxDatum};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::{CString, NulError};
use std::ops::RangeInclusive;

/// The images of bytes that are no ASCII: for private use, U+F700 and the byte.
const IMAGES: RangeInclusive<char> = '\u{f780}'..='\u{f7ff}';

fn image(byte: u8) -> char {
    char::from_u32(0xf700 + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Whether valid UTF-8 is its own image. A process without a database has SQL_ASCII.
fn is_utf8() -> bool {
    // SAFETY: reads a variable of the process.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() } as u32;
    matches!(
        encoding,
        pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII
    )
}

/// The image of a text of the server.
pub fn from_server(bytes: &[u8]) -> String {
    imaged(bytes, is_utf8())
}

fn imaged(bytes: &[u8], is_utf8: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let images = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().map(|byte| match byte.is_ascii() {
            true => char::from(*byte),
            false => image(*byte),
        }));
    };
    if !is_utf8 {
        images(&mut text, bytes);
        return text;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if IMAGES.contains(&c) {
                images(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        images(&mut text, chunk.invalid());
    }
    text
}

/// The bytes of a text for the server.
pub fn to_server(text: &str) -> Vec<u8> {
    bytes_of(text, is_utf8())
}

fn bytes_of(text: &str, is_utf8: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            bytes.push(c as u8);
        } else if IMAGES.contains(&c) {
            bytes.push(c as u32 as u8);
        } else if is_utf8 {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            // A word of ours.
            bytes.extend_from_slice(in_ascii(c).as_bytes());
        }
    }
    bytes
}

fn in_ascii(c: char) -> &'static str {
    match c {
        '…' => "...",
        '–' | '—' => "-",
        '×' => "x",
        '“' | '”' => "\"",
        _ => "?",
    }
}

/// The same as a C string.
pub fn c_string(text: &str) -> Result<CString, NulError> {
    CString::new(to_server(text))
}

/// A statement for SPI. One with a zero byte is none.
pub fn statement(text: &str) -> CString {
    c_string(text).unwrap_or_default()
}

/// How many bytes a text has in the server.
pub fn length(text: &str) -> usize {
    text.chars().map(server_length).sum()
}

fn server_length(c: char) -> usize {
    match IMAGES.contains(&c) {
        true => 1,
        false => c.len_utf8(),
    }
}

/// The beginning of a text that has at most so many bytes in the server.
pub fn clip(text: &str, most: usize) -> &str {
    let mut bytes = 0;
    let end = text.char_indices().find(|(_, c)| {
        bytes += server_length(*c);
        bytes > most
    });
    end.map_or(text, |(end, _)| &text[..end])
}

/// A text for a message. pgrx hands messages to the server as UTF-8, so where they cannot be that each byte stands as in a `bytea`.
pub fn shown(text: &str) -> String {
    let is_utf8 = is_utf8();
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if IMAGES.contains(&c) {
            shown.push_str(&format!("\\x{:02x}", c as u32 as u8));
        } else if is_utf8 || c.is_ascii() {
            shown.push(c);
        } else {
            shown.push_str(in_ascii(c));
        }
    }
    shown
}

/// A text of JSON in which the escapes of characters beyond ASCII are the characters; or the one that the encoding of the database does not
/// have.
pub fn resolved(json: &str) -> Result<String, char> {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (escaped, length) = match escaped(rest) {
            Some((c, length)) if !c.is_ascii() => (Some(c), length),
            _ => (None, 1 + rest[1..].chars().next().map_or(0, char::len_utf8)),
        };
        match escaped {
            Some(c) => text.push_str(&from_server(&in_encoding(c).ok_or(c)?)),
            None => text.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    Ok(text + rest)
}

/// The character of an escape at the beginning of a text, and how long the escape is.
fn escaped(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let first = unit(text)?;
    match char::from_u32(first) {
        Some(c) => Some((c, 6)),
        None => {
            let low = unit(text.get(6..)?)?.checked_sub(0xdc00)?;
            let high = first.checked_sub(0xd800).filter(|high| *high < 0x400)?;
            Some((char::from_u32(0x10000 + (high << 10) + low)?, 12))
        }
    }
}

fn in_encoding(c: char) -> Option<Vec<u8>> {
    let mut source = [0; 4];
    let source = c.encode_utf8(&mut source);
    if is_utf8() {
        return Some(source.as_bytes().to_vec());
    }
    let mut bytes = [0u8; 64];
    // SAFETY: inside a transaction. The conversion writes one character and a zero byte, for which the buffer is large enough, and says
    // how much of the character it has read instead of raising an error.
    let read = unsafe {
        let utf8 = pg_sys::pg_enc::PG_UTF8 as i32;
        let encoding = pg_sys::GetDatabaseEncoding();
        let conversion = pg_sys::FindDefaultConversionProc(utf8, encoding);
        if conversion == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::pg_do_encoding_conversion_buf(
            conversion,
            utf8,
            encoding,
            source.as_bytes().as_ptr().cast_mut(),
            source.len() as i32,
            bytes.as_mut_ptr(),
            bytes.len() as i32,
            true,
        )
    };
    (read as usize == source.len())
        .then(|| bytes.into_iter().take_while(|byte| *byte != 0).collect())
}

/// A `jsonb` of a value.
pub fn json(value: &serde_json::Value) -> Option<pgrx::AnyElement> {
    crate::warming::arguments::jsonb(&value.to_string())
}

/// A text of the server at the border; see above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(text)
    }
}

/// A text as parameter of a statement.
pub fn parameter<'a>(text: &str) -> DatumWithOid<'a> {
    Text::from(text).into()
}

/// Texts as parameter of a statement.
pub fn parameters<'a>(texts: Vec<String>) -> DatumWithOid<'a> {
    texts.into_iter().map(Text).collect::<Vec<_>>().into()
}

/// The column of a row as text.
pub fn column(
    row: &pgrx::spi::SpiHeapTupleData<'_>,
    number: usize,
) -> pgrx::spi::SpiResult<Option<String>> {
    Ok(row.get::<Text>(number)?.map(|text| text.0))
}

/// Runs a statement.
pub fn run(text: &str, parameters: &[DatumWithOid<'_>]) -> pgrx::spi::SpiResult<()> {
    let statement = statement(text);
    Spi::connect_mut(|client| {
        client
            .update(statement.as_c_str(), None, parameters)
            .map(drop)
    })
}

/// Runs a statement. Returns the number in the first column of the first row.
pub fn number(text: &str, parameters: &[DatumWithOid<'_>]) -> pgrx::spi::SpiResult<Option<i64>> {
    let statement = statement(text);
    Spi::connect_mut(|client| {
        client
            .update(statement.as_c_str(), Some(1), parameters)?
            .first()
            .get_one()
    })
}

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null || datum.is_null() {
            return None;
        }
        // SAFETY: the caller's datum is a text; its bytes are copied.
        unsafe {
            let given = datum.cast_mut_ptr();
            let text = pg_sys::pg_detoast_datum_packed(given);
            let image = from_server(pgrx::varlena_to_byte_slice(text));
            if text != given {
                pg_sys::pfree(text.cast());
            }
            Some(Text(image))
        }
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        to_server(&self.0).as_slice().into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }

    fn is_compatible_with(other: pg_sys::Oid) -> bool {
        other == pg_sys::TEXTOID || other == pg_sys::VARCHAROID
    }
}

// SAFETY: the datum of a text.
unsafe impl UnboxDatum for Text {
    type As<'src> = Text;
    unsafe fn unbox<'src>(datum: Datum<'src>) -> Self::As<'src>
    where
        Self: 'src,
    {
        // SAFETY: the caller's.
        unsafe { Text::from_datum(datum.sans_lifetime(), false) }
            .unwrap_or_else(|| Text(String::new()))
    }
}

// SAFETY: declared as text.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller's.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or_else(|| Text(String::new()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: the caller's.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: declared as text.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum of a text.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: it is a text.
unsafe impl SqlTranslatable for Text {
    const TYPE_IDENT: &'static str = <String as SqlTranslatable>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = <String as SqlTranslatable>::TYPE_ORIGIN;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        <String as SqlTranslatable>::ARGUMENT_SQL;
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = <String as SqlTranslatable>::RETURN_SQL;
}
