//! `cache_analytics()`: the series of what was counted, without gaps, up to this moment.

#![allow(unsafe_code)]

use crate::compat;
use crate::encoding::Text;
use crate::error::Error;
use crate::moments::us_of;
use crate::server;
use crate::store::area::area;
use crate::store::statistics;
use crate::table::trends::{self, Bucket, COUNT, RESOLUTIONS, Resolution};
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// A period up to this long is shown by minute, and up to that long by hour.
const BY_MINUTE: i64 = 2 * 3_600_000_000;
const BY_HOUR: i64 = 4 * 86_400_000_000;

/// What was counted in the last `period`, one row for each minute, hour or day, in order of time.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_analytics(
    period: Interval,
) -> TableIterator<
    'static,
    (
        name!(bucket, Option<TimestampWithTimeZone>),
        name!(resolution, Text),
        name!(calls, i64),
        name!(hits, i64),
        name!(misses, i64),
        name!(bypasses, i64),
        name!(hit_rate, Option<f64>),
        name!(fills, i64),
        name!(waits, i64),
        name!(invalidations, i64),
        name!(expirations, i64),
        name!(evictions, i64),
        name!(no_room, i64),
        name!(entries, Option<i64>),
        name!(memory_bytes, Option<i64>),
        name!(fill_seconds, f64),
        name!(saved_seconds, f64),
        name!(writer_seconds, f64),
    ),
> {
    let period = us_of(&period);
    if period <= 0 {
        Error::InvalidParameter(
            "period must be longer than zero".into(),
            "It is how far back the series goes.".into(),
        )
        .raise();
    }
    let resolution = RESOLUTIONS[if period <= BY_MINUTE {
        0
    } else if period <= BY_HOUR {
        1
    } else {
        2
    }];
    let rows = series(resolution, period).into_iter().map(move |bucket| {
        let [
            hits,
            misses,
            bypasses,
            fills,
            waits,
            invalidations,
            expirations,
            evictions,
            no_room,
            fill,
            saved,
            writer,
        ] = bucket.numbers;
        let seconds = |us: u64| us as f64 / 1e6;
        (
            trends::timestamp(bucket.begin),
            resolution.name.into(),
            (hits + misses + bypasses) as i64,
            hits as i64,
            misses as i64,
            bypasses as i64,
            (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
            fills as i64,
            waits as i64,
            invalidations as i64,
            expirations as i64,
            evictions as i64,
            no_room as i64,
            bucket.gauges.map(|(entries, _)| entries),
            bucket.gauges.map(|(_, memory)| memory),
            seconds(fill),
            seconds(saved),
            seconds(writer),
        )
    });
    TableIterator::new(rows)
}

/// Every bucket from the one that `period` ago lies in up to now, but no more than are kept.
fn series(resolution: Resolution, period: i64) -> Vec<Bucket> {
    let now = trends::now();
    let last = resolution.bucket(now);
    let oldest = last - (resolution.kept - 1) * resolution.us;
    let first = resolution.bucket(now.saturating_sub(period)).max(oldest);
    let mut recorded = trends::read(resolution, first).into_iter().peekable();
    let mut series = Vec::with_capacity(((last - first) / resolution.us + 1) as usize);
    let mut begin = first;
    while begin <= last {
        while recorded.next_if(|row| row.begin < begin).is_some() {}
        series.push(
            recorded
                .next_if(|row| row.begin == begin)
                .unwrap_or(Bucket {
                    begin,
                    gauges: None,
                    numbers: [0; COUNT],
                }),
        );
        begin += resolution.us;
    }
    if let Some(bucket) = series.last_mut() {
        add_unrecorded(bucket);
    }
    series
}

/// What the worker has not recorded yet belongs to the present.
fn add_unrecorded(bucket: &mut Bucket) {
    // SAFETY: asks the server's state.
    let standby = unsafe { server::RecoveryInProgress() };
    let Some(area) = area().filter(|_| !standby) else {
        return;
    };
    statistics::hand_over(area);
    let Some(state) = area.database(compat::database()) else {
        return;
    };
    let new = trends::unrecorded(area, state);
    for (number, more) in bucket.numbers.iter_mut().zip(new.numbers) {
        *number += more;
    }
    let (entries, memory) = trends::gauges(area);
    let (most, highest) = bucket.gauges.unwrap_or((entries, memory));
    bucket.gauges = Some((entries.max(most), memory.max(highest)));
}
