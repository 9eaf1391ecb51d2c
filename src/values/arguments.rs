//! Raw functions of the server: without pgrx's conversions, which cost more than a hit does, and which decode `jsonb` that they then
//! cannot hold.

#![allow(unsafe_code)]

use super::{Key, MAX_PRIORITY};
use crate::error::{Error, OrRaise};
use crate::language::body::{MAX_TAG_BYTES, MAX_TAGS};
use crate::moments::{self, interval_us};
use crate::settings;
use pgrx::pg_sys;

/// The arguments of a call. All of them are of the types that the function is declared with.
#[derive(Clone, Copy)]
pub struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// Those of a call by the server.
    ///
    /// # Safety
    /// `fcinfo` is one, and the function is declared with the types that it asks for.
    #[inline(always)]
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Arguments(fcinfo)
    }

    /// The call.
    pub fn call(&self) -> pg_sys::FunctionCallInfo {
        self.0
    }

    /// The function that is called.
    #[inline(always)]
    pub fn function(&self) -> pg_sys::Oid {
        // SAFETY: the server's call.
        unsafe { (*(*self.0).flinfo).fn_oid }
    }

    /// An argument; `None` for NULL.
    #[inline(always)]
    pub fn given(&self, number: usize) -> Option<pg_sys::Datum> {
        // SAFETY: the server's call; a function declared with fewer arguments has none of this number.
        unsafe {
            if number >= (*self.0).nargs as usize {
                return None;
            }
            let argument = &*(*self.0).args.as_ptr().add(number);
            (!argument.isnull).then_some(argument.value)
        }
    }

    /// An argument that must not be NULL.
    pub fn required(&self, number: usize, name: &str) -> pg_sys::Datum {
        self.given(number)
            .ok_or_else(|| Error::NullValue(format!("{name} must not be null")))
            .or_raise()
    }

    /// A key.
    #[inline(always)]
    pub fn key<'a>(&self, number: usize) -> Key<'a> {
        let text = match self.given(number) {
            Some(text) => text,
            None => self.required(number, "key"),
        };
        // SAFETY: a text; what is read lives as long as the memory context of the call.
        unsafe { Key::new(text) }.or_raise()
    }

    /// A text as it is.
    pub fn text<'a>(&self, number: usize, name: &str) -> Key<'a> {
        // SAFETY: as above.
        unsafe { Key::unchecked(self.required(number, name)) }
    }

    /// A value that is small enough.
    pub fn value(&self, number: usize) -> pg_sys::Datum {
        let value = self.required(number, "value");
        // SAFETY: a jsonb.
        unsafe { check_size(value) }.or_raise();
        value
    }

    /// When something ends that begins now and lives for the `ttl` in the argument; `None` if it never does.
    pub fn expiry(&self, number: usize, now: i64) -> Option<i64> {
        let ttl = self.given(number)?;
        // SAFETY: an interval.
        let us = interval_us(unsafe { &*ttl.cast_mut_ptr::<pg_sys::Interval>() });
        let refused = |message: &str| {
            Error::InvalidParameter(
                message.into(),
                "A time to live is longer than zero and ends before the year 294277; without one a value lives for good."
                    .into(),
            )
        };
        if us <= 0 {
            refused("ttl must be longer than zero").raise();
        }
        match now.checked_add(us) {
            Some(end) if end <= moments::LAST => Some(end),
            _ => refused("ttl is too long").raise(),
        }
    }

    /// A priority.
    pub fn priority(&self, number: usize) -> pg_sys::Datum {
        let priority = self.given(number).map_or(0, |p| p.value() as i32);
        if !(0..=MAX_PRIORITY).contains(&priority) {
            Error::InvalidParameter(
                format!("priority {priority} is out of range"),
                format!("Priorities are 0 to {MAX_PRIORITY}."),
            )
            .raise();
        }
        pg_sys::Datum::from(priority as i16)
    }

    /// The elements of a `text[]`; none for NULL.
    pub fn texts(&self, number: usize) -> Vec<Option<pg_sys::Datum>> {
        // SAFETY: a text[].
        self.given(number)
            .map_or_else(Vec::new, |array| unsafe { texts(array) })
    }

    /// Tags, as an array of one dimension.
    pub fn tags(&self, number: usize) -> pg_sys::Datum {
        let elements = self.texts(number);
        if elements.len() > MAX_TAGS {
            Error::InvalidParameter(
                "too many tags".into(),
                format!("At most {MAX_TAGS} tags are allowed."),
            )
            .raise();
        }
        let tags: Vec<pg_sys::Datum> = elements
            .into_iter()
            .map(|tag| {
                let tag = tag
                    .ok_or_else(|| Error::NullValue("tag must not be null".into()))
                    .or_raise();
                // SAFETY: a text.
                let length = unsafe { Key::unchecked(tag) }.bytes.len();
                if !(1..=MAX_TAG_BYTES).contains(&length) {
                    Error::InvalidParameter(
                        "tag is empty or too long".into(),
                        format!("A tag has 1 to {MAX_TAG_BYTES} bytes, this one has {length}."),
                    )
                    .raise();
                }
                tag
            })
            .collect();
        // SAFETY: texts.
        unsafe { text_array(tags) }
    }
}

/// Refuses a value that is larger than the largest entry.
///
/// # Safety
/// `value` is a jsonb.
pub unsafe fn check_size(value: pg_sys::Datum) -> Result<(), Error> {
    // SAFETY: the caller's.
    let bytes = unsafe { pg_sys::toast_raw_datum_size(value) };
    if bytes > settings::max_entry_bytes() {
        return Err(Error::TooLarge(
            "value is too large".into(),
            format!(
                "It has {bytes} bytes; pg_query_cache.max_entry_size allows {}.",
                settings::max_entry_bytes()
            ),
        ));
    }
    Ok(())
}

/// The elements of a `text[]`.
///
/// # Safety
/// `array` is one.
pub unsafe fn texts(array: pg_sys::Datum) -> Vec<Option<pg_sys::Datum>> {
    let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the caller's.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast(),
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as _,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        (0..count as usize)
            .map(|i| (!*nulls.add(i)).then(|| *elements.add(i)))
            .collect()
    }
}

/// A `text[]`.
///
/// # Safety
/// The elements are texts.
pub unsafe fn text_array(mut elements: Vec<pg_sys::Datum>) -> pg_sys::Datum {
    // SAFETY: the caller's.
    unsafe {
        pg_sys::Datum::from(pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as _,
        ))
    }
}

/// A text of these bytes, which are in the encoding of the database.
pub fn text(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: copies the bytes into the present memory context.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            bytes.as_ptr().cast(),
            bytes.len() as i32,
        ))
    }
}
