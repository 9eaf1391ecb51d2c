//! Whose result it is: what of the session is part of a key.
//!
//! Three parts, each reduced to a 128-bit digest (BLAKE3, truncated: settings are chosen by users, so the digest has to withstand
//! users who look for two with the same value):
//!
//! * *format*: the server's own settings that change what a function returns, such as `search_path` and `TimeZone`;
//! * *custom*: all settings with a dot in their name, which applications use to pass on who is asking;
//! * *claims*: those of them that PostgREST sets from the token (`request.jwt.…`).
//!
//! The values are compared with those of the last call, byte by byte; only when one differs a digest is made anew.

#![allow(unsafe_code)]

use crate::server;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};

/// Digest of a part.
pub type Digest = [u8; 16];

/// Prefix of the settings that PostgREST derives from the token.
const CLAIMS: &[u8] = b"request.jwt.";
/// Settings with these prefixes belong to extensions that do not change results.
const NEUTRAL: [&[u8]; 4] = [
    b"pg_query_cache.",
    b"plpgsql.",
    b"pg_stat_statements.",
    b"auto_explain.",
];

#[derive(Default)]
struct Format {
    numbers: [i32; 13],
    texts: Vec<Vec<u8>>,
    digest: Digest,
}

#[derive(Default)]
struct Custom {
    /// Number of settings that the server had when `places` was made.
    known: i32,
    /// Indexes of the settings with a dot, and whether they are claims.
    places: Vec<(usize, Vec<u8>, bool)>,
    values: Vec<Option<Vec<u8>>>,
    all: Digest,
    claims: Digest,
}

thread_local! {
    static FORMAT: RefCell<Format> = RefCell::new(Format::default());
    static CUSTOM: RefCell<Custom> = RefCell::new(Custom::default());
}

fn numbers() -> [i32; 13] {
    // SAFETY: variables of the backend.
    unsafe {
        [
            pg_sys::DateStyle,
            pg_sys::DateOrder,
            pg_sys::IntervalStyle,
            pg_sys::extra_float_digits,
            server::bytea_output,
            server::xmlbinary,
            server::xmloption,
            server::backslash_quote,
            i32::from(pg_sys::row_security),
            i32::from(pg_sys::Array_nulls),
            i32::from(pg_sys::Transform_null_equals),
            i32::from(pg_sys::standard_conforming_strings),
            i32::from(pg_sys::quote_all_identifiers),
        ]
    }
}

fn texts() -> [*const c_char; 7] {
    // SAFETY: variables of the backend, C strings or NULL.
    unsafe {
        [
            pg_sys::namespace_search_path,
            server::pg_get_timezone_name(pg_sys::session_timezone),
            pg_sys::TSCurrentConfig,
            server::locale_messages,
            server::locale_monetary,
            server::locale_numeric,
            server::locale_time,
        ]
    }
}

/// Bytes of a C string; of NULL none.
///
/// # Safety
/// `text` is a C string or NULL.
#[inline(always)]
unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Digest of the server's own settings that change results.
#[inline(always)]
pub fn format() -> Digest {
    FORMAT.with_borrow_mut(|format| {
        let (numbers, texts) = (numbers(), texts());
        // SAFETY: C strings or NULL, used at once.
        let is = |text, known: &[u8]| unsafe { bytes(text) } == known;
        let same = format.numbers == numbers
            && format.texts.len() == texts.len()
            && format
                .texts
                .iter()
                .zip(texts)
                .all(|(known, text)| is(text, known));
        if !same {
            format.numbers = numbers;
            // SAFETY: as above.
            format.texts = texts
                .iter()
                .map(|text| unsafe { bytes(*text) }.to_vec())
                .collect();
            let mut digest = Hasher::new();
            numbers
                .iter()
                .for_each(|number| digest.field(&number.to_le_bytes()));
            format.texts.iter().for_each(|text| digest.field(text));
            format.digest = digest.finish();
        }
        format.digest
    })
}

/// Digest of all settings with a dot in their name, or of the claims among them only.
#[inline(always)]
pub fn custom(claims_only: bool) -> Digest {
    CUSTOM.with_borrow_mut(|custom| {
        // SAFETY: the server's table of settings. It only grows, and it is sorted by name, so while its size is the same the
        // places are; the names are compared all the same before a value is read.
        unsafe {
            if custom.known != pg_sys::GetNumConfigOptions() || !custom.still_there() {
                custom.find();
            }
            if !custom.same_values() {
                custom.read();
            }
        }
        if claims_only {
            custom.claims
        } else {
            custom.all
        }
    })
}

impl Custom {
    unsafe fn setting(place: usize) -> *mut pg_sys::config_generic {
        // SAFETY: `place` is below the number of settings.
        unsafe { *pg_sys::get_guc_variables().add(place) }
    }

    /// Value of a setting with a dot: all that matter are strings; of others the pointer's bytes would mean nothing.
    unsafe fn value<'a>(place: usize) -> Option<&'a [u8]> {
        // SAFETY: as above; the type of the setting tells the struct.
        unsafe {
            let generic = Self::setting(place);
            match (*generic).vartype {
                pg_sys::config_type::PGC_STRING => {
                    let text = *(*generic.cast::<pg_sys::config_string>()).variable;
                    (!text.is_null()).then(|| bytes(text))
                }
                pg_sys::config_type::PGC_BOOL => {
                    let variable = (*generic.cast::<pg_sys::config_bool>()).variable;
                    Some(std::slice::from_raw_parts(
                        variable.cast::<u8>(),
                        size_of::<bool>(),
                    ))
                }
                pg_sys::config_type::PGC_INT => {
                    let variable = (*generic.cast::<pg_sys::config_int>()).variable;
                    Some(std::slice::from_raw_parts(
                        variable.cast::<u8>(),
                        size_of::<i32>(),
                    ))
                }
                pg_sys::config_type::PGC_REAL => {
                    let variable = (*generic.cast::<pg_sys::config_real>()).variable;
                    Some(std::slice::from_raw_parts(
                        variable.cast::<u8>(),
                        size_of::<f64>(),
                    ))
                }
                _ => {
                    let variable = (*generic.cast::<pg_sys::config_enum>()).variable;
                    Some(std::slice::from_raw_parts(
                        variable.cast::<u8>(),
                        size_of::<i32>(),
                    ))
                }
            }
        }
    }

    unsafe fn still_there(&self) -> bool {
        // SAFETY: as above.
        self.places.iter().all(
            |(place, name, _)| unsafe { bytes((*Self::setting(*place)).name) } == name.as_slice(),
        )
    }

    unsafe fn find(&mut self) {
        // SAFETY: as above.
        unsafe {
            self.known = pg_sys::GetNumConfigOptions();
            self.places.clear();
            for place in 0..self.known as usize {
                let name = bytes((*Self::setting(place)).name);
                if name.contains(&b'.') && !NEUTRAL.iter().any(|prefix| name.starts_with(prefix)) {
                    self.places
                        .push((place, name.to_vec(), name.starts_with(CLAIMS)));
                }
            }
            self.read();
        }
    }

    unsafe fn same_values(&self) -> bool {
        // SAFETY: as above.
        let is = |place, known: &Option<Vec<u8>>| unsafe { Self::value(place) } == known.as_deref();
        let mut pairs = self.places.iter().zip(&self.values);
        self.values.len() == self.places.len()
            && pairs.all(|((place, ..), known)| is(*place, known))
    }

    unsafe fn read(&mut self) {
        // SAFETY: as above.
        self.values = self
            .places
            .iter()
            .map(|(place, ..)| unsafe { Self::value(*place) }.map(<[u8]>::to_vec))
            .collect();
        let (mut all, mut claims) = (Hasher::new(), Hasher::new());
        for ((_, name, is_claim), value) in self.places.iter().zip(&self.values) {
            // A setting that was reset is an empty string where it once was set, and absent elsewhere: the same to a function
            // that asks for it with `missing_ok`, and different keys cost a computation at most.
            let Some(value) = value else { continue };
            all.field(name);
            all.field(value);
            if *is_claim {
                claims.field(name);
                claims.field(value);
            }
        }
        (self.all, self.claims) = (all.finish(), claims.finish());
    }
}

/// Digest over fields; each is preceded by its length, so that no two lists of fields look the same.
struct Hasher(blake3::Hasher);

impl Hasher {
    fn new() -> Self {
        Hasher(blake3::Hasher::new())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(&self) -> Digest {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        digest
    }
}
