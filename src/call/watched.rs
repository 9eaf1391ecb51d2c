//! The values of settings, looked at with each key: what was found is kept, and compared with what is there now.
//!
//! The server tells nobody when a setting changes, so the variables themselves are read: numbers as they are, texts byte by byte. Only
//! when one differs a digest is made anew.
//!
//! A function that asks for a setting gets what is *shown*, which for some is not what the variable holds: `tcp_keepalives_idle` is 0 over
//! a socket and the system's default over TCP, `role` can be that of before SET SESSION AUTHORIZATION. So where all settings are part of the
//! key it is what is shown that counts.

#![allow(unsafe_code)]

use super::indifferent::is_indifferent;
use super::names;
use super::scope::{self, CLAIMS, Digest, Hasher, Settings, bytes, starts_with};
use crate::store::area::area;
use crate::store::library_settings::LibrarySettings;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

/// The settings that are part of a kind of key.
pub struct Watched {
    /// What the settings of the session were when they were found.
    version: u64,
    /// How many names of libraries were known then, as far as that matters.
    libraries: u32,
    settings: Vec<Watch>,
    /// The variable of each.
    variables: Vec<Variable>,
    /// What is shown in another way than the variable says, and can change while that does not: how it is shown, and the last time.
    shown: Vec<(Show, CString)>,
    digest: Digest,
}

struct Watch {
    setting: *mut pg_sys::config_generic,
    concern: Concern,
    /// How it is shown, if that is not what the variable holds and counts.
    show: Option<Show>,
}

/// The server's function that shows a setting.
type Show = unsafe extern "C-unwind" fn() -> *const c_char;

/// Settings whose variable, and what does not change as long as the session lasts, say what is shown.
const SHOWN_BY_VARIABLE: &[&str] = &[
    "TimeZone",
    "archive_command",
    "data_directory_mode",
    "log_file_mode",
    "log_timezone",
    "seed",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "unix_socket_permissions",
];

/// How a setting is shown, if not by its variable.
///
/// # Safety
/// It is in the server's table.
unsafe fn show_of(setting: *mut pg_sys::config_generic) -> Option<Show> {
    // SAFETY: the type of the setting tells the struct.
    unsafe {
        match (*setting).vartype {
            pg_sys::config_type::PGC_BOOL => (*setting.cast::<pg_sys::config_bool>()).show_hook,
            pg_sys::config_type::PGC_INT => (*setting.cast::<pg_sys::config_int>()).show_hook,
            pg_sys::config_type::PGC_REAL => (*setting.cast::<pg_sys::config_real>()).show_hook,
            pg_sys::config_type::PGC_STRING => (*setting.cast::<pg_sys::config_string>()).show_hook,
            _ => (*setting.cast::<pg_sys::config_enum>()).show_hook,
        }
    }
}

/// What is shown now.
///
/// # Safety
/// The setting is still in the server's table.
unsafe fn shown(show: Show) -> &'static CStr {
    #[allow(
        ffi_unwind_calls,
        reason = "a function of the server's or of a library that shows a setting"
    )]
    // SAFETY: the caller's; a C string, or NULL, which lives until the next call.
    unsafe {
        let text = show();
        if text.is_null() {
            c""
        } else {
            CStr::from_ptr(text)
        }
    }
}

/// When a setting is part of a key, which its name decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// Always.
    Always,
    /// If it has another value than it was defined with: libraries bring settings with them when they are loaded, and to a function
    /// that asks for none, one that nobody has changed is as good as none.
    Changed,
    /// If it has a value, which a library is going to take over.
    Given,
}

/// The variable of a setting, and its last value.
pub enum Variable {
    Text(*const *const c_char, Option<CString>),
    Byte(*const u8, u8),
    Word(*const u32, u32),
    Double(*const u64, u64),
}

/// Whether, and when, a setting is part of a kind of key.
///
/// # Safety
/// It is in the server's table.
unsafe fn concern(
    which: Settings,
    setting: *mut pg_sys::config_generic,
    libraries: Option<&LibrarySettings>,
) -> Option<Concern> {
    // SAFETY: the caller's.
    let (name, placeholder) = unsafe { (bytes((*setting).name), names::is_placeholder(setting)) };
    if which == Settings::All {
        return (!starts_with(name, scope::OWN)).then_some(Concern::Always);
    }
    if is_indifferent(name) {
        return None;
    }
    if !placeholder {
        // Those of the format are part of every key by themselves.
        let format = scope::FORMAT.iter().any(|known| known.to_bytes() == name);
        return (!format).then_some(Concern::Changed);
    }
    // What an application says: that a name is there at all can be told, even when its value was reset and is the empty text.
    if which == Settings::Custom || which == Settings::Claims && starts_with(name, CLAIMS) {
        return Some(Concern::Always);
    }
    let of_library = libraries.is_some_and(|known| known.may_have(names::hash(name)));
    of_library.then_some(Concern::Given)
}

/// The settings of the session that are part of a kind of key, and have been given a value.
pub fn given(which: Settings) -> Vec<*mut pg_sys::config_generic> {
    let libraries = area().map(|area| &area.header().library_settings);
    names::all()
        .filter(|setting| {
            // SAFETY: in the server's table.
            unsafe {
                concern(which, *setting, libraries).is_some()
                    && (**setting).source != pg_sys::GucSource::PGC_S_DEFAULT
            }
        })
        .collect()
}

impl Watched {
    /// Not looked at yet.
    pub const fn new() -> Self {
        Watched {
            version: 0,
            libraries: 0,
            settings: Vec::new(),
            variables: Vec::new(),
            shown: Vec::new(),
            digest: [0; 16],
        }
    }

    /// Digest of their names and values.
    #[inline(always)]
    pub fn digest(&mut self, which: Settings) -> Digest {
        let version = names::version();
        let libraries = which.libraries();
        let count = libraries.map_or(0, LibrarySettings::count);
        if self.version != version || self.libraries != count {
            self.find(which, version, libraries);
        }
        // SAFETY: the settings are those of this version of the table, so they are alive.
        unsafe {
            let is_same =
                self.variables.iter().all(|variable| variable.is_same()) && { self.shown.iter() }
                    .all(|(show, known)| shown(*show) == known.as_c_str());
            if !is_same {
                self.read(which);
            }
        }
        self.digest
    }

    /// How many names of libraries were known to the last digest.
    pub fn libraries(&self) -> u32 {
        self.libraries
    }

    #[cold]
    fn find(&mut self, which: Settings, version: u64, libraries: Option<&LibrarySettings>) {
        *self = Watched::new();
        let count = libraries.map_or(0, LibrarySettings::count);
        // SAFETY: settings in the server's table.
        unsafe {
            for setting in names::all() {
                if let Some(concern) = concern(which, setting, libraries) {
                    let show = match which {
                        Settings::All => show_of(setting),
                        _ => None,
                    };
                    self.settings.push(Watch {
                        setting,
                        concern,
                        show,
                    });
                    self.variables.push(Variable::of(setting));
                }
            }
            self.libraries = count;
            self.read(which);
        }
        self.version = version;
    }

    /// Reads the values.
    ///
    /// # Safety
    /// The settings are alive.
    #[cold]
    unsafe fn read(&mut self, which: Settings) {
        let mut digest = Hasher::new();
        self.shown.clear();
        if let Some(libraries) = which.libraries() {
            // What a session with fewer names has left out of its keys is not found by one with more.
            let mut known: Vec<u64> = libraries.hashes().collect();
            known.sort_unstable();
            let known: Vec<u8> = known.into_iter().flat_map(u64::to_le_bytes).collect();
            digest.field(&known);
        }
        for (watch, variable) in self.settings.iter().zip(&mut self.variables) {
            // SAFETY: the caller's.
            let name = unsafe {
                variable.read();
                let left_out = match watch.concern {
                    Concern::Always => false,
                    Concern::Changed => variable.is_default_of(watch.setting),
                    Concern::Given => matches!(variable, Variable::Text(_, None)),
                };
                if left_out {
                    continue;
                }
                bytes((*watch.setting).name)
            };
            digest.field(&name.to_ascii_lowercase());
            if let Some(show) = watch.show {
                // SAFETY: the caller's.
                let (text, name) = unsafe { (shown(show), CStr::from_ptr((*watch.setting).name)) };
                digest.field(text.to_bytes());
                if !{ SHOWN_BY_VARIABLE.iter() }.any(|known| known.as_bytes() == name.to_bytes()) {
                    self.shown.push((show, text.to_owned()));
                }
            }
            match variable {
                // Reset, it shows as the empty text.
                Variable::Text(_, value) => {
                    digest.field(value.as_ref().map_or(&[], |v| v.to_bytes()))
                }
                Variable::Byte(_, value) => digest.field(&[*value]),
                Variable::Word(_, value) => digest.field(&value.to_le_bytes()),
                Variable::Double(_, value) => digest.field(&value.to_le_bytes()),
            }
        }
        self.digest = digest.finish();
    }
}

impl Variable {
    /// The variable of `setting`, not read yet.
    ///
    /// # Safety
    /// `setting` is in the server's table.
    pub unsafe fn of(setting: *mut pg_sys::config_generic) -> Variable {
        // SAFETY: the type of the setting tells the struct; enums are integers, `bool` is a byte that may be read as one.
        unsafe {
            match (*setting).vartype {
                pg_sys::config_type::PGC_STRING => {
                    let variable = (*setting.cast::<pg_sys::config_string>()).variable;
                    Variable::Text(variable.cast(), None)
                }
                pg_sys::config_type::PGC_BOOL => {
                    Variable::Byte((*setting.cast::<pg_sys::config_bool>()).variable.cast(), 0)
                }
                pg_sys::config_type::PGC_INT => {
                    Variable::Word((*setting.cast::<pg_sys::config_int>()).variable.cast(), 0)
                }
                pg_sys::config_type::PGC_REAL => {
                    Variable::Double((*setting.cast::<pg_sys::config_real>()).variable.cast(), 0)
                }
                _ => Variable::Word((*setting.cast::<pg_sys::config_enum>()).variable.cast(), 0),
            }
        }
    }

    /// Whether the value is the one that was read.
    ///
    /// # Safety
    /// The setting is still in the server's table.
    #[inline(always)]
    pub unsafe fn is_same(&self) -> bool {
        // SAFETY: a setting's variable lives as long as the setting; texts are C strings or NULL.
        unsafe {
            match self {
                Variable::Text(variable, known) => scope::is(known, **variable),
                Variable::Byte(variable, known) => **variable == *known,
                Variable::Word(variable, known) => **variable == *known,
                Variable::Double(variable, known) => **variable == *known,
            }
        }
    }

    /// Whether the value that was read is the one that the setting was defined with.
    ///
    /// # Safety
    /// `setting` is the one in the server's table that this is the variable of.
    unsafe fn is_default_of(&self, setting: *mut pg_sys::config_generic) -> bool {
        // SAFETY: the type of the setting tells the struct.
        unsafe {
            match ((*setting).vartype, self) {
                (pg_sys::config_type::PGC_BOOL, Variable::Byte(_, value)) => {
                    (*setting.cast::<pg_sys::config_bool>()).boot_val as u8 == *value
                }
                (pg_sys::config_type::PGC_INT, Variable::Word(_, value)) => {
                    (*setting.cast::<pg_sys::config_int>()).boot_val as u32 == *value
                }
                (pg_sys::config_type::PGC_REAL, Variable::Double(_, value)) => {
                    (*setting.cast::<pg_sys::config_real>()).boot_val.to_bits() == *value
                }
                (pg_sys::config_type::PGC_ENUM, Variable::Word(_, value)) => {
                    (*setting.cast::<pg_sys::config_enum>()).boot_val as u32 == *value
                }
                (_, Variable::Text(_, value)) => {
                    let default = (*setting.cast::<pg_sys::config_string>()).boot_val;
                    match value {
                        None => default.is_null(),
                        Some(value) => {
                            !default.is_null() && CStr::from_ptr(default) == value.as_c_str()
                        }
                    }
                }
                _ => false,
            }
        }
    }

    /// Reads the value.
    ///
    /// # Safety
    /// As [`Variable::is_same`].
    pub unsafe fn read(&mut self) {
        // SAFETY: as above.
        unsafe {
            match self {
                Variable::Text(variable, known) => {
                    *known =
                        (!(**variable).is_null()).then(|| CStr::from_ptr(**variable).to_owned());
                }
                Variable::Byte(variable, known) => *known = **variable,
                Variable::Word(variable, known) => *known = **variable,
                Variable::Double(variable, known) => *known = **variable,
            }
        }
    }
}
