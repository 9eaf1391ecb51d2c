//! Errors that a function catches while a result is computed that is to be stored.
//!
//! What a function returns after it has caught an error depends on why there was one. If the data made it, what the failed part read is
//! known, as all that a fill reads is, and the result is as right as any. If time, memory, a lock, a file or the session made it, nothing
//! tells when it would not come again: the result is not stored.
//!
//! Nobody is told of an error that is caught. But the server asks for its context first, of whoever has put a callback on the stack; each
//! fill does. An error that nobody catches ends the fill anyway.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::call::frames;
use crate::server;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_void;

/// Errors so far that a fill must not survive.
static ERRORS: Backend<Cell<u32>> = Backend::new(Cell::new(0));
/// Whether the innermost fill has heard of an error.
static SEEN: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// How many errors there were that a fill must not survive.
pub fn errors() -> u32 {
    ERRORS.get()
}

fn one_more() {
    ERRORS.set(ERRORS.get().wrapping_add(1));
}

/// Runs the function of a fill, and hears of its errors.
///
/// # Safety
/// As `call::base::call`: an ERROR jumps over this frame, and whoever catches it restores the stack of callbacks.
#[inline(always)]
pub unsafe fn watched<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: the callback is taken off again before this frame goes.
    unsafe {
        let mut callback = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(raised),
            arg: std::ptr::null_mut(),
        };
        pg_sys::error_context_stack = &mut callback;
        let seen = SEEN.replace(false);
        let result = run();
        SEEN.set(seen | SEEN.get());
        pg_sys::error_context_stack = callback.previous;
        result
    }
}

unsafe extern "C-unwind" fn raised(_: *mut c_void) {
    // No fence: reads a number of the error that is being raised, and sets two.
    // SAFETY: called while an error, or a message, is being made.
    let code = unsafe { server::geterrcode() };
    if !is_message(code) {
        SEEN.set(true);
    }
    if !is_of_data(code) {
        one_more();
    }
}

/// A subtransaction was rolled back: for an error that was heard of, or for one that was raised again (`RAISE` without a word), which is
/// not told twice. If none was heard, not for a known reason.
pub fn subtransaction_rolled_back() {
    if frames::filling() && !SEEN.get() {
        one_more();
    }
}

/// The first two letters of an SQLSTATE, as the server packs them: six bits each, from the lowest on.
const fn class(letters: &[u8; 2]) -> i32 {
    packed(letters[0]) | packed(letters[1]) << 6
}

const fn code(letters: &[u8; 5]) -> i32 {
    packed(letters[0])
        | packed(letters[1]) << 6
        | packed(letters[2]) << 12
        | packed(letters[3]) << 18
        | packed(letters[4]) << 24
}

const fn packed(letter: u8) -> i32 {
    (letter.wrapping_sub(b'0') & 0x3f) as i32
}

fn class_of(code: i32) -> i32 {
    code & 0xfff
}

/// Success, warning, no data.
fn is_message(code: i32) -> bool {
    [class(b"00"), class(b"01"), class(b"02")].contains(&class_of(code))
}

/// Whether an error comes of data, of definitions and rights, or of the function's own doing, so that it comes again while they are
/// what they were.
fn is_of_data(of: i32) -> bool {
    /// CASE without a match, cardinality, data, constraints, names and rights, WITH CHECK OPTION, and PL/pgSQL's RAISE.
    const CLASSES: [i32; 7] = [
        class(b"20"),
        class(b"21"),
        class(b"22"),
        class(b"23"),
        class(b"42"),
        class(b"44"),
        class(b"P0"),
    ];
    /// Cursors and prepared statements are the session's; and a regular expression is said to be wrong where the stack has no room to read
    /// it.
    const EXCEPT: [i32; 3] = [code(b"42P03"), code(b"42P05"), code(b"2201B")];
    /// A quote after a backslash, which is an error in an encoding that only clients can have; else a warning of what settings in the key say.
    const ESCAPED: i32 = code(b"22P06");
    is_message(of)
        || CLASSES.contains(&class_of(of))
            && !EXCEPT.contains(&of)
            && (of != ESCAPED || !is_encoding_of_clients())
}

fn is_encoding_of_clients() -> bool {
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { server::pg_get_client_encoding() };
    encoding > pg_sys::pg_enc::PG_KOI8U as i32
}
