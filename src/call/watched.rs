//! The values of settings, looked at with each key: what was found is kept, and compared with what is there now.
//!
//! The server tells nobody when a setting changes, so the variables themselves are read: numbers as they are, texts byte by byte. Only
//! when one differs a digest is made anew.

#![allow(unsafe_code)]

use super::scope::{self, Digest, Hasher, Settings, bytes};
use crate::server;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

/// The settings that are part of a kind of key.
pub struct Watched {
    /// Number of settings that the server had when they were found.
    known: i32,
    settings: Vec<*mut pg_sys::config_generic>,
    /// The variable of each.
    variables: Vec<Variable>,
    /// Those with a dot: others can come to lie where they lie. The server's own stay where they are.
    movable: Vec<Place>,
    digest: Digest,
}

/// A place in the server's table of settings, and which setting was found there.
struct Place {
    index: usize,
    setting: *mut pg_sys::config_generic,
    name: Vec<u8>,
}

/// The variable of a setting, and its last value.
pub enum Variable {
    Text(*const *const c_char, Option<CString>),
    Byte(*const u8, u8),
    Word(*const u32, u32),
    Double(*const u64, u64),
}

impl Watched {
    /// Not looked at yet.
    pub const fn new() -> Self {
        Watched {
            known: 0,
            settings: Vec::new(),
            variables: Vec::new(),
            movable: Vec::new(),
            digest: [0; 16],
        }
    }

    /// Digest of their names and values.
    #[inline(always)]
    pub fn digest(&mut self, which: Settings) -> Digest {
        // SAFETY: the server's table of settings, sorted by name. While its size is the same the places are; that the settings in
        // them are the same ones is looked at all the same, before a value is read.
        unsafe {
            if self.known != server::GetNumConfigOptions() || !self.still_there() {
                self.find(which);
            }
            if !self.variables.iter().all(|variable| variable.is_same()) {
                self.read(which);
            }
        }
        self.digest
    }

    #[inline(always)]
    unsafe fn still_there(&self) -> bool {
        // SAFETY: indexes below the number of settings; a setting in the table is alive.
        unsafe {
            let settings = server::get_guc_variables();
            self.movable.iter().all(|place| {
                let setting = *settings.add(place.index);
                setting == place.setting && bytes((*setting).name) == place.name.as_slice()
            })
        }
    }

    unsafe fn find(&mut self, which: Settings) {
        *self = Watched::new();
        // SAFETY: as above.
        unsafe {
            self.known = server::GetNumConfigOptions();
            for index in 0..self.known as usize {
                let setting = *server::get_guc_variables().add(index);
                let name = bytes((*setting).name);
                if !which.include(name) {
                    continue;
                }
                self.settings.push(setting);
                self.variables.push(Variable::of(setting));
                if name.contains(&b'.') {
                    self.movable.push(Place {
                        index,
                        setting,
                        name: name.to_vec(),
                    });
                }
            }
            self.read(which);
        }
    }

    unsafe fn read(&mut self, which: Settings) {
        let mut digest = Hasher::new();
        for (setting, variable) in self.settings.iter().zip(&mut self.variables) {
            // SAFETY: as above.
            let (name, at_default) = unsafe {
                variable.read();
                (bytes((**setting).name), variable.is_default_of(*setting))
            };
            // Libraries bring settings with them when they are loaded. To a function that asks for none, one that nobody has changed
            // is as good as none.
            if which != Settings::All && at_default {
                continue;
            }
            // A setting that was reset is an empty string where it once was set, and absent elsewhere: the same to a function
            // that asks for it with `missing_ok`, and different keys cost a computation at most.
            if matches!(variable, Variable::Text(_, None)) {
                continue;
            }
            digest.field(name);
            match variable {
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
    unsafe fn is_same(&self) -> bool {
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
