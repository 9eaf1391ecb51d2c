//! Whose result it is: what of the session is part of a key.
//!
//! Two parts, each reduced to a 128-bit digest (BLAKE3, truncated: settings are chosen by users, so the digest has to withstand
//! users who look for two with the same value):
//!
//! * *format*: the settings that sessions differ in most, such as `search_path` and `TimeZone`, and whose values `cache_get` would read;
//! * *settings*: in every scope all others of the server and of libraries, but for those that cannot change a result (`indifferent`).
//!   Besides, as the scope has it, those that PostgREST sets from the token (`request.jwt.…`), or all that an application has named to
//!   pass on who is asking; and all there are once the function was seen asking for one.
//!
//! The scope `shared` leaves out who asks, never what a setting makes of the result. A name with a dot that no library has claimed in this
//! session says who asks, unless it is known to be the setting of a library (`names`).
//!
//! The values are compared with those of the last call, byte by byte (`watched`); only when one differs a digest is made anew.

#![allow(unsafe_code)]

use super::names;
use super::watched::{self, Watched};
use crate::backend::Backend;
use crate::language::body::Scope;
use crate::language::function::CachedFunction;
use crate::server;
use crate::store::area::area;
use crate::store::library_settings::LibrarySettings;
use crate::store::traits::Trait;
use crate::values;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// Digest of a part.
pub type Digest = [u8; 16];

/// Prefix of the settings that PostgREST derives from the token.
pub(super) const CLAIMS: &[u8] = b"request.jwt.";
/// Prefix of our own settings.
pub(super) const OWN: &[u8] = b"pg_query_cache.";
/// As many schemas of the search path are looked at.
const SCHEMAS: usize = 32;

/// The settings in [`format()`], by name.
pub const FORMAT: [&CStr; 20] = [
    c"DateStyle",
    c"IntervalStyle",
    c"extra_float_digits",
    c"bytea_output",
    c"xmlbinary",
    c"xmloption",
    c"backslash_quote",
    c"row_security",
    c"array_nulls",
    c"transform_null_equals",
    c"standard_conforming_strings",
    c"quote_all_identifiers",
    c"pg_query_cache.value_namespace",
    c"search_path",
    c"TimeZone",
    c"default_text_search_config",
    c"lc_messages",
    c"lc_monetary",
    c"lc_numeric",
    c"lc_time",
];

/// What the digest was made of.
struct Format {
    numbers: [i32; 14],
    texts: [Option<CString>; TEXTS],
    /// The server keeps each time zone that it has ever loaded where it is: another zone is another address.
    zone: usize,
    /// The schemas of the search path that are there for this role: `"$user"` is another one to each.
    schemas: [pg_sys::Oid; SCHEMAS],
    /// How many they are; more than there is room for are not looked at.
    schema_count: i32,
    digest: Digest,
}

/// Settings whose values are texts, but the time zone.
const TEXTS: usize = 6;

static FORMATS: Backend<RefCell<Format>> = Backend::new(RefCell::new(Format {
    numbers: [0; 14],
    texts: [const { None }; TEXTS],
    zone: 0,
    schemas: [pg_sys::InvalidOid; SCHEMAS],
    schema_count: -1,
    digest: [0; 16],
}));
static GENERAL: Backend<RefCell<Watched>> = Backend::new(RefCell::new(Watched::new()));
static CLAIMED: Backend<RefCell<Watched>> = Backend::new(RefCell::new(Watched::new()));
static CUSTOM: Backend<RefCell<Watched>> = Backend::new(RefCell::new(Watched::new()));
static ALL: Backend<RefCell<Watched>> = Backend::new(RefCell::new(Watched::new()));

#[inline(always)]
fn numbers() -> [i32; 14] {
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
            // The last, which `reading` leaves out. Whose values a function reads: with values of their own, roles do not share what "scope": "shared" would let them share.
            values::namespace().to_u32() as i32,
        ]
    }
}

#[inline(always)]
fn texts() -> [*const c_char; TEXTS] {
    // SAFETY: variables of the backend, C strings or NULL.
    unsafe {
        [
            pg_sys::namespace_search_path,
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
pub unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Digest of the server's own settings that change results. May raise an ERROR that passes by: no value with a destructor may be alive
/// in the caller's frames.
#[inline(always)]
pub fn format() -> Digest {
    let mut schemas = [pg_sys::InvalidOid; SCHEMAS];
    // SAFETY: fills at most as many as there is room for, and returns how many there are; variables of the backend.
    let (count, zone) = unsafe {
        (
            server::fetch_search_path_array(schemas.as_mut_ptr(), SCHEMAS as i32),
            pg_sys::session_timezone.addr(),
        )
    };
    let (numbers, texts) = (numbers(), texts());
    FORMATS.with_borrow_mut(|format| {
        let filled = (count as usize).min(SCHEMAS);
        // SAFETY: C strings or NULL.
        let same = format.zone == zone
            && format.schema_count == count
            && format.numbers == numbers
            && format.schemas[..filled] == schemas[..filled]
            && (format.texts.iter().zip(texts)).all(|(known, text)| unsafe { is(known, text) });
        if !same {
            format.zone = zone;
            format.schema_count = count;
            format.numbers = numbers;
            format.schemas = schemas;
            // SAFETY: C strings or NULL.
            format.texts = texts
                .map(|text| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned()));
            format.digest = format.digest_anew();
        }
        format.digest
    })
}

/// The settings by which constants are read when a query is parsed, and by which it is parsed: numbers, the time zone, and how often the
/// texts among them have changed.
#[inline(always)]
pub fn reading() -> ([i32; 13], usize, u64) {
    let mut read = [0; 13];
    read.copy_from_slice(&numbers()[..13]);
    let words = WORDS.with_borrow_mut(Words::changes);
    // SAFETY: a variable of the backend.
    (read, unsafe { pg_sys::session_timezone.addr() }, words)
}

/// Texts by which constants are read (amounts of money, abbreviations of time zones), and which relations a query may name.
struct Words {
    known: [Option<CString>; 3],
    /// The server's variables of `timezone_abbreviations` and `restrict_nonsystem_relation_kind`, once they were looked for. The first minor
    /// versions do not have the second.
    variables: Option<[Option<*const *const c_char>; 2]>,
    changes: u64,
}

static WORDS: Backend<RefCell<Words>> = Backend::new(RefCell::new(Words {
    known: [const { None }; 3],
    variables: None,
    changes: 0,
}));

impl Words {
    #[inline(always)]
    fn changes(&mut self) -> u64 {
        let variables = self.variables.get_or_insert_with(|| {
            [
                names::text_variable(b"timezone_abbreviations"),
                names::text_variable(b"restrict_nonsystem_relation_kind"),
            ]
        });
        // SAFETY: variables of the backend, C strings or NULL.
        unsafe {
            let [abbreviations, kinds] =
                variables.map(|variable| variable.map_or(std::ptr::null(), |text| *text));
            let now = [server::locale_monetary, abbreviations, kinds];
            if !(self.known.iter().zip(now)).all(|(known, text)| is(known, text)) {
                self.known =
                    now.map(|text| (!text.is_null()).then(|| CStr::from_ptr(text).to_owned()));
                self.changes += 1;
            }
        }
        self.changes
    }
}

/// Whether the role is all there is to know of what the present code may read: nobody's code, or that of a SECURITY DEFINER function. In
/// any other context (an action of a foreign key, which FORCE ROW LEVEL SECURITY does not bind; maintenance for the owner of an object)
/// a function may see other rows, or be refused what it could do elsewhere, and no key tells.
#[inline(always)]
pub fn is_ordinary() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads variables of the backend.
    unsafe { server::GetUserIdAndSecContext(&mut user, &mut context) };
    context & !(pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32) == 0
}

/// Whether a text is the one that was read before.
///
/// # Safety
/// `text` is a C string or NULL.
#[inline(always)]
pub unsafe fn is(known: &Option<CString>, text: *const c_char) -> bool {
    match known {
        None => text.is_null(),
        // Most texts are empty.
        // SAFETY: the caller's.
        Some(known) if known.is_empty() => !text.is_null() && unsafe { *text == 0 },
        // SAFETY: the caller's.
        Some(known) => !text.is_null() && unsafe { server::strcmp(known.as_ptr(), text) == 0 },
    }
}

impl Format {
    fn digest_anew(&self) -> Digest {
        let mut digest = Hasher::new();
        for number in self.numbers {
            digest.field(&number.to_le_bytes());
        }
        for text in &self.texts {
            digest.field(text.as_ref().map_or(&[], |text| text.to_bytes()));
        }
        // SAFETY: the session's time zone, whose name is a C string.
        digest.field(unsafe { bytes(server::pg_get_timezone_name(pg_sys::session_timezone)) });
        digest.field(&self.schema_count.to_le_bytes());
        for schema in self.schemas {
            digest.field(&schema.to_u32().to_le_bytes());
        }
        digest.finish()
    }
}

/// Which settings are part of a key, beside those of the format and those of the server and of libraries that change results.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// No others: the owner says that the result is everybody's.
    None,
    /// Those that PostgREST sets from the token.
    Claims,
    /// All with a dot in their name.
    Custom,
    /// All.
    All,
}

impl Settings {
    /// What the keys of a function hold now.
    #[inline(always)]
    pub fn of(function: &CachedFunction) -> Settings {
        match function.scope {
            Scope::Shared => Settings::None,
            Scope::Claims => Settings::Claims,
            Scope::Role if function.has(Trait::ReadsSettings) => Settings::All,
            Scope::Role => Settings::Custom,
        }
    }

    #[inline(always)]
    fn watched(self) -> &'static Backend<RefCell<Watched>> {
        match self {
            Settings::None => &GENERAL,
            Settings::Claims => &CLAIMED,
            Settings::Custom => &CUSTOM,
            Settings::All => &ALL,
        }
    }

    /// Digest of their names and values.
    #[inline(always)]
    pub fn digest(self) -> Digest {
        self.watched()
            .with_borrow_mut(|watched| watched.digest(self))
    }

    /// The list of names that libraries have brought, if such a key holds only those of the names that nobody has claimed here.
    #[inline(always)]
    pub(super) fn libraries(self) -> Option<&'static LibrarySettings> {
        match self {
            Settings::None | Settings::Claims => area().map(|area| &area.header().library_settings),
            Settings::Custom | Settings::All => None,
        }
    }

    /// How many names of libraries the last digest knew of.
    pub fn known_libraries(self) -> u32 {
        self.watched().with_borrow(Watched::libraries)
    }

    /// Whether libraries have brought names of which a key that knew of `known` did not know: what a library that was loaded since
    /// made of a value that such a name had is not in the key.
    pub fn libraries_came_since(self, known: u32) -> bool {
        names::version();
        self.libraries()
            .is_some_and(|libraries| libraries.count() != known)
    }

    /// Names of those with a dot that have been given a value.
    pub fn given(self) -> Vec<String> {
        watched::given(self)
            .into_iter()
            // SAFETY: settings in the server's table; names and values are C strings.
            .filter_map(|setting| unsafe {
                let name = bytes((*setting).name);
                let value = pg_sys::GetConfigOption((*setting).name, true, false);
                (name.contains(&b'.') && !bytes(value).is_empty())
                    .then(|| crate::encoding::from_server(name))
            })
            .collect()
    }
}

/// Whether a name begins so. The server finds a setting in whichever case it was first named.
pub(super) fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Digest over fields; each is preceded by its length, so that no two lists of fields look the same.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Of nothing yet.
    pub fn new() -> Self {
        Hasher(blake3::Hasher::new())
    }

    /// Adds a field.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest.
    pub fn finish(&self) -> Digest {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        digest
    }
}
