//! Which settings there are: those of the server and of the libraries that this session has loaded, and names that somebody has given a
//! value without a library (*placeholders*). A placeholder is what applications use to pass on who is asking; and it may be the setting
//! of a library that is loaded later and takes its value over.
//!
//! The server tells nobody when a setting is added or taken over, so its table is looked at with each key: its size, and whether each
//! placeholder still lies where it was found. The server's own settings and those of libraries never move or go. A placeholder that a
//! library has taken over is freed, but its name never becomes a placeholder again: so the same address with the same name is the same
//! setting.

#![allow(unsafe_code)]

use super::indifferent::is_indifferent;
use super::scope::bytes;
use crate::backend::Backend;
use crate::server;
use crate::store::area::area;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::c_char;
use xxhash_rust::xxh3::xxh3_64;

/// The table as it was when it was read.
struct Table {
    size: i32,
    placeholders: Vec<Place>,
    version: u64,
}

/// A place in the table, and which placeholder was found there.
struct Place {
    index: usize,
    setting: *mut pg_sys::config_generic,
    name: Vec<u8>,
}

static TABLE: Backend<RefCell<Table>> = Backend::new(RefCell::new(Table {
    size: 0,
    placeholders: Vec::new(),
    version: 0,
}));

/// All settings of the session. They stay where they are as long as [`version()`] does.
pub fn all() -> impl Iterator<Item = *mut pg_sys::config_generic> {
    // SAFETY: the server's table and its size.
    unsafe {
        let (table, size) = (server::get_guc_variables(), server::GetNumConfigOptions());
        (0..size as usize).map(move |index| *table.add(index))
    }
}

/// The variable of one of the server's own settings that is a text. It stays where it is.
#[cold]
pub fn text_variable(name: &[u8]) -> Option<*const *const c_char> {
    // SAFETY: in the server's table; the type of a setting tells the struct.
    unsafe {
        let setting = all().find(|setting| {
            (**setting).vartype == pg_sys::config_type::PGC_STRING
                && bytes((**setting).name) == name
        })?;
        Some((*setting.cast::<pg_sys::config_string>()).variable.cast())
    }
}

/// Whether no library has brought the setting.
///
/// # Safety
/// It is in the server's table.
pub unsafe fn is_placeholder(setting: *mut pg_sys::config_generic) -> bool {
    // SAFETY: the caller's.
    unsafe { (*setting).flags & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32 != 0 }
}

/// What a list of names has for a name. The server finds a setting in whichever case it was first named.
pub fn hash(name: &[u8]) -> u64 {
    xxh3_64(&name.to_ascii_lowercase())
}

/// Changes whenever the session has other settings than before.
#[inline(always)]
pub fn version() -> u64 {
    TABLE.with_borrow_mut(|table| {
        if !table.is_current() {
            table.read();
        }
        table.version
    })
}

impl Table {
    #[inline(always)]
    fn is_current(&self) -> bool {
        // SAFETY: indexes below the size of the table; a setting that is in it is alive.
        unsafe {
            if self.size != server::GetNumConfigOptions() {
                return false;
            }
            let settings = server::get_guc_variables();
            self.placeholders.iter().all(|place| {
                let setting = *settings.add(place.index);
                setting == place.setting && bytes((*setting).name) == place.name.as_slice()
            })
        }
    }

    #[cold]
    fn read(&mut self) {
        let mut of_libraries = Vec::new();
        let mut size = 0;
        self.version += 1;
        self.size = 0;
        self.placeholders.clear();
        for (index, setting) in all().enumerate() {
            // SAFETY: in the server's table.
            let (name, placeholder) = unsafe { (bytes((*setting).name), is_placeholder(setting)) };
            if placeholder {
                self.placeholders.push(Place {
                    index,
                    setting,
                    name: name.to_vec(),
                });
            } else if name.contains(&b'.') && !is_indifferent(name) {
                of_libraries.push(hash(name));
            }
            size += 1;
        }
        if let Some(area) = area() {
            area.header().library_settings.add(&of_libraries);
        }
        // Last: what an ERROR cuts short is done again.
        self.size = size;
    }
}
