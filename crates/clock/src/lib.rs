//! Periods of the clock: which minute, hour or day a moment lies in, by the local time of a zone.
//!
//! A zone is known here by its offset from UTC at the moment, in seconds to the east. The offset is part of a period: where clocks are set
//! back, the hour that comes twice is two periods, and a day on which clocks are set forward or back has two parts. So two moments of one
//! period have the same local date (hour, minute), and so the same beginning of it, whatever a zone's clocks do.

#![forbid(unsafe_code)]

use std::fmt;

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Unit {
    /// A minute.
    Minute = 1,
    /// An hour.
    Hour = 2,
    /// A day.
    Day = 3,
}

const SECOND: i64 = 1_000_000;

impl Unit {
    /// Its length in microseconds.
    pub const fn us(self) -> i64 {
        match self {
            Unit::Minute => 60 * SECOND,
            Unit::Hour => 3_600 * SECOND,
            Unit::Day => 86_400 * SECOND,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
        }
    }
}

/// A minute, an hour, or a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    unit: Unit,
    /// How many have passed since 2000-01-01 by local time.
    number: i64,
    offset: i32,
}

/// How many bytes a period takes in a key.
pub const BYTES: usize = 12;

impl Period {
    /// The period that a moment lies in: microseconds since 2000-01-01 in UTC, in a zone with that offset at the moment.
    pub fn of(unit: Unit, moment: i64, offset: i32) -> Period {
        let local = moment.saturating_add(i64::from(offset) * SECOND);
        Period {
            unit,
            number: local.div_euclid(unit.us()),
            offset,
        }
    }

    /// Its end, if the zone keeps its offset so long: microseconds since 2000-01-01 in UTC.
    pub fn end(self) -> i64 {
        let local = self.number.saturating_add(1).saturating_mul(self.unit.us());
        local.saturating_sub(i64::from(self.offset) * SECOND)
    }

    /// Bytes that no other period of the unit has.
    pub fn bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }
}

impl fmt::Display for Period {
    /// Local time of the beginning, as far as it tells, and the offset: `2026-03-29 02:00 UTC+05:45`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.number.saturating_mul(self.unit.us()) / (60 * SECOND);
        let (year, month, day) = date(minutes.div_euclid(1_440));
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        if self.unit != Unit::Day {
            let minute = minutes.rem_euclid(1_440);
            write!(f, " {:02}:{:02}", minute / 60, minute % 60)?;
        }
        let (sign, offset) = (
            if self.offset < 0 { '-' } else { '+' },
            self.offset.unsigned_abs(),
        );
        write!(f, " UTC{sign}{:02}:{:02}", offset / 3_600, offset / 60 % 60)?;
        match offset % 60 {
            0 => Ok(()),
            seconds => write!(f, ":{seconds:02}"),
        }
    }
}

/// Year, month and day of a day counted from 2000-01-01, by the Gregorian calendar.
fn date(day: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01: a year that begins in March has its leap day at its end.
    let day = day + 730_425;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    (year + era * 400 + i64::from(month <= 2), month, day)
}
