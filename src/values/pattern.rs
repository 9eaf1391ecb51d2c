//! Patterns of keys, in the encoding of the database.

#![allow(unsafe_code)]

use crate::backend::Backend;
use crate::error::Error;
use pg_query_cache_glob::{Malformed, Pattern};
use pgrx::pg_sys;
use std::cell::RefCell;

/// Longest pattern in bytes: room for a key with each character escaped.
const MAX_PATTERN_BYTES: usize = 2048;

/// A pattern as it was given, and as it was read.
type Read = (Vec<u8>, Pattern);

/// The pattern that was read last: a statement asks for the same one for each key.
static LAST: Backend<RefCell<Option<Read>>> = Backend::new(RefCell::new(None));

/// Length of the character at the start of some bytes. The server's own function looks further than they reach if one is cut short.
fn length(bytes: &[u8]) -> usize {
    // SAFETY: variables of the backend; the server reads as many bytes as its longest character has, at most four.
    unsafe {
        if bytes[0] < 0x80 || pg_sys::pg_database_encoding_max_length() == 1 {
            return 1;
        }
        let mut copy = [0_u8; 8];
        let some = bytes.len().min(4);
        copy[..some].copy_from_slice(&bytes[..some]);
        pg_sys::pg_mblen(copy.as_ptr().cast()) as usize
    }
}

/// Hands a pattern, read, to `look`.
pub fn with<R>(text: &[u8], look: impl FnOnce(&Pattern) -> R) -> Result<R, Error> {
    LAST.with_borrow_mut(|last| {
        if let Some((same, pattern)) = last
            && same == text
        {
            return Ok(look(pattern));
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(Error::InvalidParameter(
                "pattern is too long".into(),
                format!(
                    "A pattern has at most {MAX_PATTERN_BYTES} bytes, this one has {}.",
                    text.len()
                ),
            ));
        }
        let pattern = Pattern::new(text, length).map_err(|malformed| {
            let (message, detail) = match malformed {
                Malformed::OpenClass => (
                    "pattern has a [ without a ]",
                    "A \\ before it takes it as it is.",
                ),
                Malformed::LoneEscape => (
                    "pattern ends with a \\ that takes nothing",
                    "Two of them stand for one.",
                ),
            };
            Error::InvalidParameter(message.into(), detail.into())
        })?;
        let result = look(&pattern);
        *last = Some((text.to_vec(), pattern));
        Ok(result)
    })
}
