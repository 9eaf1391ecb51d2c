//! Periods against what zones have done: each has its offsets around a change, in seconds, from the tz database.

use pg_query_cache_clock::{Period, Unit};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Seconds since 2000-01-01 of a time in UTC.
fn utc(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = |year: i64| {
        let february = if leap(year) { 29 } else { 28 };
        [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    };
    let days = (2000..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum::<i64>()
        + months(year).iter().take(month as usize - 1).sum::<i64>()
        + day
        - 1;
    days * DAY + hour * HOUR + minute * 60
}

/// A zone around the moment at which its offset changes.
struct Zone {
    change: i64,
    before: i64,
    after: i64,
}

impl Zone {
    fn offset(&self, moment: i64) -> i64 {
        if moment < self.change {
            self.before
        } else {
            self.after
        }
    }

    fn period(&self, unit: Unit, moment: i64) -> Period {
        Period::of(unit, moment * 1_000_000, self.offset(moment) as i32)
    }

    /// Local time in seconds, and the offset: what a function can tell of a moment, to the unit.
    fn seen(&self, unit: Unit, moment: i64) -> (i64, i64) {
        let length = unit.us() / 1_000_000;
        let offset = self.offset(moment);
        ((moment + offset).div_euclid(length), offset)
    }
}

fn zones() -> Vec<Zone> {
    vec![
        // Europe/Berlin, forward and back.
        Zone {
            change: utc(2026, 3, 29, 1, 0),
            before: HOUR,
            after: 2 * HOUR,
        },
        Zone {
            change: utc(2026, 10, 25, 1, 0),
            before: 2 * HOUR,
            after: HOUR,
        },
        // America/New_York.
        Zone {
            change: utc(2026, 11, 1, 6, 0),
            before: -4 * HOUR,
            after: -5 * HOUR,
        },
        // Australia/Lord_Howe: half an hour.
        Zone {
            change: utc(2026, 4, 4, 15, 0),
            before: 11 * HOUR,
            after: 10 * HOUR + 1_800,
        },
        Zone {
            change: utc(2026, 10, 3, 15, 30),
            before: 10 * HOUR + 1_800,
            after: 11 * HOUR,
        },
        // America/St_Johns in 2010: from 00:01 back to 23:01, so a day ends twice.
        Zone {
            change: utc(2010, 11, 7, 2, 31),
            before: -(2 * HOUR + 1_800),
            after: -(3 * HOUR + 1_800),
        },
        // America/Sao_Paulo in 2018: a day without midnight; one that has 23 o'clock twice.
        Zone {
            change: utc(2018, 11, 4, 3, 0),
            before: -3 * HOUR,
            after: -2 * HOUR,
        },
        Zone {
            change: utc(2018, 2, 18, 2, 0),
            before: -2 * HOUR,
            after: -3 * HOUR,
        },
        // Pacific/Apia left out 2011-12-30.
        Zone {
            change: utc(2011, 12, 30, 10, 0),
            before: -10 * HOUR,
            after: 14 * HOUR,
        },
        // Asia/Kathmandu left a half for three quarters; Pyongyang left and came back; Kiritimati is a day ahead.
        Zone {
            change: utc(2000, 6, 1, 0, 0),
            before: 5 * HOUR + 1_800,
            after: 5 * HOUR + 2_700,
        },
        Zone {
            change: utc(2018, 5, 4, 15, 0),
            before: 8 * HOUR + 1_800,
            after: 9 * HOUR,
        },
        Zone {
            change: utc(2026, 1, 1, 0, 0),
            before: 14 * HOUR,
            after: 14 * HOUR,
        },
        // Local mean time has seconds.
        Zone {
            change: utc(2001, 1, 1, 0, 0),
            before: 3_208,
            after: HOUR,
        },
    ]
}

/// Two moments share a period if and only if no function can tell them apart that looks at local time to the unit, and at the offset.
#[test]
fn a_period_is_what_a_function_can_tell() {
    for zone in zones() {
        let moments: Vec<i64> = (-3 * DAY..3 * DAY)
            .step_by(607)
            .chain(-7_300..7_300)
            .map(|seconds| zone.change + seconds)
            .collect();
        for unit in [Unit::Minute, Unit::Hour, Unit::Day] {
            let mut sorted = moments.clone();
            sorted.sort_unstable();
            for pair in sorted.windows(2) {
                let (one, other) = (pair[0], pair[1]);
                assert_eq!(
                    zone.period(unit, one) == zone.period(unit, other),
                    zone.seen(unit, one) == zone.seen(unit, other),
                    "{unit:?} at {one}"
                );
            }
            let last = sorted[sorted.len() - 1];
            for moment in &sorted {
                assert_eq!(
                    zone.period(unit, *moment).bytes() == zone.period(unit, last).bytes(),
                    zone.seen(unit, *moment) == zone.seen(unit, last),
                );
            }
        }
    }
}

#[test]
fn an_hour_that_comes_twice_is_two() {
    let berlin = &zones()[1];
    let (first, second) = (berlin.change - HOUR, berlin.change);
    let (first, second) = (
        berlin.period(Unit::Hour, first),
        berlin.period(Unit::Hour, second),
    );
    assert_eq!(first.to_string(), "2026-10-25 02:00 UTC+02:00");
    assert_eq!(second.to_string(), "2026-10-25 02:00 UTC+01:00");
    assert_ne!(first.bytes(), second.bytes());
}

#[test]
fn a_day_that_ends_twice_comes_back() {
    let st_johns = &zones()[5];
    let days: Vec<String> = [-90, -30, 30, HOUR + 30]
        .iter()
        .map(|seconds| {
            st_johns
                .period(Unit::Day, st_johns.change + seconds)
                .to_string()
        })
        .collect();
    assert_eq!(
        days,
        [
            "2010-11-06 UTC-02:30",
            "2010-11-07 UTC-02:30",
            "2010-11-06 UTC-03:30",
            "2010-11-07 UTC-03:30"
        ]
    );
}

#[test]
fn a_day_that_is_left_out() {
    let apia = &zones()[8];
    let day = |seconds| apia.period(Unit::Day, apia.change + seconds).to_string();
    assert_eq!(day(-1), "2011-12-29 UTC-10:00");
    assert_eq!(day(0), "2011-12-31 UTC+14:00");
}

#[test]
fn an_end_is_the_beginning_of_the_next() {
    for zone in zones() {
        for unit in [Unit::Minute, Unit::Hour, Unit::Day] {
            for moment in (-2 * DAY..2 * DAY).step_by(1_009).map(|s| zone.change + s) {
                let period = zone.period(unit, moment);
                let end = period.end();
                assert!(end > moment * 1_000_000 && end <= moment * 1_000_000 + unit.us());
                let offset = zone.offset(moment) as i32;
                assert_eq!(Period::of(unit, end - 1, offset), period);
                assert_ne!(Period::of(unit, end, offset), period);
            }
        }
    }
}

#[test]
fn days_before_2000_and_the_ends_of_time() {
    let day = |moment| Period::of(Unit::Day, moment, 0).to_string();
    assert_eq!(day(-1), "1999-12-31 UTC+00:00");
    assert_eq!(day(0), "2000-01-01 UTC+00:00");
    assert_eq!(day(59 * DAY * 1_000_000), "2000-02-29 UTC+00:00");
    assert_eq!(day(-36_524 * DAY * 1_000_000), "1900-01-01 UTC+00:00");
    assert_eq!(
        Period::of(Unit::Minute, 0, 3_208).to_string(),
        "2000-01-01 00:53 UTC+00:53:28"
    );
    for moment in [i64::MIN, i64::MAX] {
        for unit in [Unit::Minute, Unit::Hour, Unit::Day] {
            for offset in [i32::MIN, 0, i32::MAX] {
                let period = Period::of(unit, moment, offset);
                let _ = (period.end(), period.to_string(), period.bytes());
            }
        }
    }
}
