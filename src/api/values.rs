//! SQL functions of the family *values*: raw functions, each handed over to `crate::values`.

#![allow(unsafe_code)]

use crate::call::frames;
use crate::error::{Error, OrRaise};
use crate::server::guarded;
use crate::settings::{self, ValueNamespace};
use crate::store::area::area;
use crate::store::statistics::{self, Counts};
use crate::values::arguments::{Arguments, text};
use crate::values::statement::{Statement, run};
use crate::values::{Place, namespace, now, pattern, read, remember, write};
use pgrx::pg_sys;

/// Defines a function of the server: its record, and its entry, which does `$body` with the [`Arguments`] and returns an
/// `Option<Datum>`.
macro_rules! function {
    ($name:ident, $record:ident, $body:expr) => {
        /// Tells the server that the function follows calling convention version 1.
        #[unsafe(no_mangle)]
        pub extern "C" fn $record() -> &'static pg_sys::Pg_finfo_record {
            const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }

        /// Called by the server.
        ///
        /// # Safety
        /// Only the server calls it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            const BODY: fn(Arguments) -> Option<pg_sys::Datum> = $body;
            // SAFETY: the server's call of a function declared in sql/values.sql; no value with a destructor is alive in this frame.
            unsafe {
                match guarded(|| BODY(Arguments::new(fcinfo))) {
                    Some(value) => value,
                    None => {
                        (*fcinfo).isnull = true;
                        pg_sys::Datum::null()
                    }
                }
            }
        }
    };
}

function!(pgqc_cache_get, pg_finfo_pgqc_cache_get, |call| {
    read::get(call.function(), call.key(0))
});

function!(pgqc_cache_exists, pg_finfo_pgqc_cache_exists, |call| {
    let reader = Place::of_function(call.function()).or_raise().reader();
    Some(pg_sys::Datum::from(read::exists(reader, call.key(0))))
});

function!(pgqc_cache_ttl, pg_finfo_pgqc_cache_ttl, |call| {
    let us = read::ttl(call.function(), call.key(0))?;
    // SAFETY: room for an interval in the memory context of the call. Days, as timestamps that are subtracted have them.
    unsafe {
        const DAY: i64 = 86_400_000_000;
        let interval = pg_sys::palloc(size_of::<pg_sys::Interval>()).cast::<pg_sys::Interval>();
        interval.write(pg_sys::Interval {
            time: us % DAY,
            day: (us / DAY) as i32,
            month: 0,
        });
        Some(pg_sys::Datum::from(interval))
    }
});

function!(pgqc_cache_set, pg_finfo_pgqc_cache_set, |call| {
    write::set(call);
    Some(pg_sys::Datum::null())
});

function!(pgqc_cache_set_many, pg_finfo_pgqc_cache_set_many, |call| {
    Some(pg_sys::Datum::from(write::set_many(call)))
});

function!(pgqc_cache_touch, pg_finfo_pgqc_cache_touch, |call| {
    Some(pg_sys::Datum::from(write::touch(call)))
});

function!(pgqc_cache_delete, pg_finfo_pgqc_cache_delete, |call| {
    Some(pg_sys::Datum::from(write::delete(call)))
});

function!(
    pgqc_cache_delete_many,
    pg_finfo_pgqc_cache_delete_many,
    |call| Some(pg_sys::Datum::from(write::delete_many(call)))
);

function!(
    pgqc_cache_delete_pattern,
    pg_finfo_pgqc_cache_delete_pattern,
    |call| Some(pg_sys::Datum::from(write::delete_pattern(call)))
);

function!(
    pgqc_cache_increment,
    pg_finfo_pgqc_cache_increment,
    |call| Some(pg_sys::Datum::from(write::increment(call)))
);

function!(
    pgqc_cache_value_sum,
    pg_finfo_pgqc_cache_value_sum,
    |call| Some(write::sum(call))
);

function!(
    pgqc_cache_key_matches,
    pg_finfo_pgqc_cache_key_matches,
    |call| {
        let (key, pattern) = (call.text(0, "key"), call.text(1, "pattern"));
        let matches = pattern::with(pattern.bytes, |read| read.matches(key.bytes)).or_raise();
        Some(pg_sys::Datum::from(matches))
    }
);

function!(pgqc_cache_key, pg_finfo_pgqc_cache_key, |call| {
    let parts = call.texts(0);
    if parts.is_empty() {
        Error::InvalidParameter(
            "a key needs at least one part".into(),
            "Parts are joined by \":\".".into(),
        )
        .raise();
    }
    let mut key = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let part = part
            .ok_or_else(|| Error::NullValue("part of a key must not be null".into()))
            .or_raise();
        if number > 0 {
            key.push(b':');
        }
        // SAFETY: a text. In the encodings that a database can have, no character but these two has their bytes in it.
        for byte in unsafe { crate::values::Key::unchecked(part) }.bytes {
            if matches!(byte, b':' | b'\\') {
                key.push(b'\\');
            }
            key.push(*byte);
        }
    }
    Some(text(&key))
});

/// Where the rows of a set go, described as the function declares them.
struct Rows(*mut pg_sys::ReturnSetInfo);

impl Rows {
    /// # Safety
    /// The call is one of a function that returns a set.
    unsafe fn new(call: Arguments) -> Self {
        // SAFETY: the server's call; it raises an ERROR where no set is accepted. A scalar is described by the caller only.
        unsafe {
            pg_sys::InitMaterializedSRF(call.call(), pg_sys::MAT_SRF_USE_EXPECTED_DESC);
            Rows((*call.call()).resultinfo.cast())
        }
    }

    fn put(&self, values: &mut [pg_sys::Datum], nulls: &mut [bool]) {
        // SAFETY: as many as the description has; the store copies them.
        unsafe {
            pg_sys::tuplestore_putvalues(
                (*self.0).setResult,
                (*self.0).setDesc,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}

function!(pgqc_cache_keys, pg_finfo_pgqc_cache_keys, |call| {
    area().ok_or(Error::NotPreloaded).or_raise();
    let place = Place::of_function(call.function()).or_raise();
    let [pattern, from, to] = write::bounds(call.text(0, "pattern"));
    let most = call.required(1, "most").value() as i32;
    if most < 0 {
        Error::InvalidParameter(
            "most must not be negative".into(),
            "It is the number of keys to return.".into(),
        )
        .raise();
    }
    // SAFETY: the function returns a set.
    let rows = unsafe { Rows::new(call) };
    // SAFETY: reads the backend's state. An unlogged table has no rows on a standby.
    if unsafe { crate::server::RecoveryInProgress() } {
        return None;
    }
    frames::rests_on_age();
    let arguments = [
        write::moment(now()),
        Some(pg_sys::Datum::from(namespace())),
        pattern,
        from,
        to,
        Some(pg_sys::Datum::from(i64::from(most))),
    ];
    run(place, Statement::Keys, &arguments, |row| {
        if let Some(key) = row.column(1) {
            rows.put(&mut [key], &mut [false]);
        }
    });
    None
});

function!(
    pgqc_cache_value_stats,
    pg_finfo_pgqc_cache_value_stats,
    |call| {
        let area = area().ok_or(Error::NotPreloaded).or_raise();
        let place = Place::of_function(call.function()).or_raise();
        statistics::hand_over(area);
        // SAFETY: the function returns a set; syscache lookups.
        let (rows, may_see_all, recovery) = unsafe {
            (
                Rows::new(call),
                pg_sys::has_privs_of_role(
                    crate::server::GetUserId(),
                    pg_sys::Oid::from_u32(pg_sys::ROLE_PG_READ_ALL_STATS),
                ),
                crate::server::RecoveryInProgress(),
            )
        };
        // Who may not see all is told of the present namespace only, and what cannot be told apart only where all share one.
        let own = settings::value_namespace() == ValueNamespace::Role && !may_see_all;
        let mut figures = [0; 3];
        if !recovery {
            frames::rests_on_age();
            let arguments = [
                write::moment(now()),
                (!may_see_all).then(|| pg_sys::Datum::from(namespace())),
            ];
            run(place, Statement::Figures, &arguments, |row| {
                figures = [row.number(1), row.number(2), row.number(3)];
            });
        }
        let reader = place.reader();
        let counts = area
            .functions()
            .read_all(crate::compat::database())
            .into_iter()
            .find(|(function, _)| *function == reader)
            .map_or_else(Counts::default, |(_, counts)| counts);
        let counts = [
            counts.hits as i64,
            counts.misses as i64,
            counts.bypasses() as i64,
            counts.fills as i64,
        ];
        let mut values: Vec<pg_sys::Datum> = figures
            .into_iter()
            .chain(counts)
            .map(pg_sys::Datum::from)
            .collect();
        let mut nulls = [false, false, false, own, own, own, own];
        rows.put(&mut values, &mut nulls);
        None
    }
);

/// Tells the server that the function follows calling convention version 1.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_pgqc_cache_remember() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// Called by the server.
///
/// # Safety
/// Only the server calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgqc_cache_remember(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // Fence: parts of `remember`, since the query runs outside of any.
    // SAFETY: the server's call; no value with a destructor is alive in this frame.
    unsafe { remember::remember(fcinfo) }
}
