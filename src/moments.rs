//! Durations and moments in microseconds: here an interval becomes a number and a number a moment, and nothing overflows on the way.
//!
//! A moment is a timestamp as the server keeps it, from 2000-01-01 on. One that the server can write down lies between [`FIRST`] and
//! [`LAST`]; what calculates one keeps to that, so nothing that the cache stores is ever infinite.

#![allow(unsafe_code)]

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys;

/// The first moment that the server knows, and the last.
pub const FIRST: i64 = -211_813_488_000_000_000;
/// See [`FIRST`].
pub const LAST: i64 = 9_223_371_331_200_000_000 - 1;

/// The longest time to live, and the longest time for which more is allowed: their sum is a number, and so is a moment that lies
/// so far ahead.
pub const LONGEST: i64 = i64::MAX / 4;

/// An interval in microseconds, with days of 24 hours and months of 30 days as `extract(epoch …)` has months. What is no such number is
/// the largest, or the smallest, that there is.
#[inline(always)]
pub fn interval_us(interval: &pg_sys::Interval) -> i64 {
    const DAY: i128 = 86_400_000_000;
    let us = i128::from(interval.month) * 30 * DAY
        + i128::from(interval.day) * DAY
        + i128::from(interval.time);
    us.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// As [`interval_us`].
pub fn us_of(interval: &Interval) -> i64 {
    interval_us(&pg_sys::Interval {
        time: interval.micros(),
        day: interval.days(),
        month: interval.months(),
    })
}

/// The moment so many microseconds after another one, or the last that there is.
pub fn after(moment: i64, us: i64) -> i64 {
    moment.saturating_add(us).clamp(FIRST, LAST)
}

/// Whether it is a moment that the server can write down.
pub fn is_moment(us: i64) -> bool {
    (FIRST..=LAST).contains(&us)
}

/// A moment for SPI; `None` if it is none.
pub fn timestamp(us: i64) -> Option<TimestampWithTimeZone> {
    is_moment(us)
        .then(|| TimestampWithTimeZone::try_from(us as pg_sys::TimestampTz).ok())
        .flatten()
}
