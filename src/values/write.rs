//! Writing values. Each of these is a statement on the table in the caller's transaction: seen by the caller's next statement, by
//! others at commit, by nobody after a rollback; two who write the same key wait for each other as two UPDATEs of a row do.

#![allow(unsafe_code)]

use super::arguments::{Arguments, check_size, text_array};
use super::statement::{Statement, run};
use super::{Key, Place, check_key, namespace, now, pattern};
use crate::error::{Error, OrRaise};
use crate::settings;
use crate::store::area::area;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::atomic::Ordering;

/// What a statement is given.
type Argument = Option<pg_sys::Datum>;

/// A moment as an argument.
pub fn moment(us: i64) -> Argument {
    Some(pg_sys::Datum::from(us))
}

/// The present namespace as an argument.
fn mine() -> Argument {
    Some(pg_sys::Datum::from(namespace()))
}

/// Where to write, if the library is preloaded and the transaction may write: else the server's own error.
fn writable(command: &CStr, function: pg_sys::Oid) -> Place {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    // SAFETY: raise the server's own errors.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
    }
    crate::transaction::prepare(area);
    let database = crate::compat::database();
    if area
        .database(database)
        .is_none_or(|state| state.wanted.load(Ordering::Relaxed) == 0)
    {
        // The worker removes what expires.
        crate::worker::wake(area, database);
    }
    Place::of_function(function).or_raise()
}

/// `cache_set(key, value, ttl, tags, priority)`
pub fn set(call: Arguments) {
    let place = writable(c"cache_set()", call.function());
    let (key, value, now) = (call.key(0), call.value(1), now());
    let arguments = [
        moment(now),
        mine(),
        Some(key.text),
        Some(value),
        call.expiry(2, now).and_then(moment),
        Some(call.tags(3)),
        Some(call.priority(4)),
    ];
    run(place, Statement::Set, &arguments, |_| ());
}

/// `cache_set_many(entries, ttl, tags, priority)`
pub fn set_many(call: Arguments) -> i32 {
    let place = writable(c"cache_set_many()", call.function());
    let (entries, now) = (call.required(0, "entries"), now());
    if !is_object(entries) {
        Error::InvalidParameter(
            "entries must be an object".into(),
            "Its members are keys and their values.".into(),
        )
        .raise();
    }
    let (ends, tags, priority) = (call.expiry(1, now), call.tags(2), call.priority(3));
    run(place, Statement::Members, &[Some(entries)], |member| {
        let (Some(key), Some(value)) = (member.column(1), member.column(2)) else {
            return;
        };
        // SAFETY: a text and a jsonb, used while the row is.
        unsafe {
            check_key(Key::unchecked(key).bytes).or_raise();
            check_size(value).or_raise();
        }
    });
    let arguments = [
        moment(now),
        mine(),
        Some(entries),
        ends.and_then(moment),
        Some(tags),
        Some(priority),
    ];
    run(place, Statement::SetMany, &arguments, |_| ()) as i32
}

/// Whether a `jsonb` is an object.
fn is_object(value: pg_sys::Datum) -> bool {
    const OBJECT: u32 = 0x2000_0000;
    // SAFETY: a jsonb; its first word tells what it is (JB_FOBJECT).
    unsafe {
        let plain = pg_sys::pg_detoast_datum(value.cast_mut_ptr());
        let root = pgrx::vardata_any(plain).cast::<u32>();
        root.read_unaligned() & OBJECT != 0
    }
}

/// What was kept by a query, in place of nothing or of something that has expired.
pub fn set_if_absent(
    place: Place,
    key: Key<'_>,
    value: pg_sys::Datum,
    ends: Option<i64>,
    tags: pg_sys::Datum,
) {
    let arguments = [
        moment(now()),
        mine(),
        Some(key.text),
        Some(value),
        ends.and_then(moment),
        Some(tags),
        Some(pg_sys::Datum::from(0_i16)),
    ];
    run(place, Statement::SetIfAbsent, &arguments, |_| ());
}

/// `cache_touch(key, ttl)`
pub fn touch(call: Arguments) -> bool {
    let place = writable(c"cache_touch()", call.function());
    let (key, now) = (call.key(0), now());
    let arguments = [
        moment(now),
        mine(),
        Some(key.text),
        call.expiry(1, now).and_then(moment),
    ];
    run(place, Statement::Touch, &arguments, |_| ()) > 0
}

/// `cache_delete(key)`
pub fn delete(call: Arguments) -> bool {
    let place = writable(c"cache_delete()", call.function());
    let arguments = [moment(now()), mine(), Some(call.key(0).text)];
    let mut alive = false;
    run(place, Statement::Delete, &arguments, |row| {
        alive = row.number(1) != 0;
    });
    alive
}

/// Runs a statement that counts what it removed.
fn count(place: Place, statement: Statement, arguments: &[Argument]) -> i64 {
    let mut count = 0;
    run(place, statement, arguments, |row| count = row.number(1));
    count
}

/// `cache_delete_many(keys)`
pub fn delete_many(call: Arguments) -> i64 {
    let place = writable(c"cache_delete_many()", call.function());
    // SAFETY: texts.
    let keys = unsafe { text_array(call.texts(0).into_iter().flatten().collect()) };
    count(
        place,
        Statement::DeleteMany,
        &[moment(now()), mine(), Some(keys)],
    )
}

/// A pattern and the bounds of the keys that it can match, as arguments.
pub fn bounds(pattern: Key<'_>) -> [Argument; 3] {
    let prefix = pattern::with(pattern.bytes, |read| read.prefix()).or_raise();
    // The index compares bytes; that the upper bound may be no text in the encoding does not matter to it.
    let after = pg_query_cache_glob::after_prefix(&prefix);
    [
        Some(pattern.text),
        Some(super::arguments::text(&prefix)),
        after.map(|after| super::arguments::text(&after)),
    ]
}

/// `cache_delete_pattern(pattern)`
pub fn delete_pattern(call: Arguments) -> i64 {
    let place = writable(c"cache_delete_pattern()", call.function());
    let [pattern, from, to] = bounds(call.text(0, "pattern"));
    count(
        place,
        Statement::DeletePattern,
        &[moment(now()), mine(), pattern, from, to],
    )
}

/// `cache_increment(key, delta, ttl)`
pub fn increment(call: Arguments) -> i64 {
    let place = writable(c"cache_increment()", call.function());
    let (key, now) = (call.key(0), now());
    let offset = settings::clock_offset_us() as f64 / 1e6;
    let arguments = [
        moment(now),
        mine(),
        Some(key.text),
        Some(call.required(1, "delta")),
        call.expiry(2, now).and_then(moment),
        Some(pg_sys::Datum::from(offset.to_bits())),
    ];
    count(place, Statement::Increment, &arguments)
}

/// `cache_value_sum(value, delta)`: the sum as a `jsonb`.
pub fn sum(call: Arguments) -> pg_sys::Datum {
    /// More than a number of 19 digits and its sign takes.
    const SMALL: usize = 64;
    let (value, delta) = (
        call.required(0, "value"),
        call.required(1, "delta").value() as i64,
    );
    // SAFETY: a jsonb; output and input functions of the server.
    unsafe {
        let text = if pg_sys::toast_raw_datum_size(value) <= SMALL {
            crate::compat::text(pg_sys::OidOutputFunctionCall(
                pg_sys::F_JSONB_OUT.into(),
                value,
            ))
        } else {
            String::new()
        };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let is_integer = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_integer {
            Error::InvalidParameter(
                "value is not an integer".into(),
                "cache_increment() adds to integers only.".into(),
            )
            .raise();
        }
        let number = text.parse::<i64>().ok();
        let sum = number
            .and_then(|number| number.checked_add(delta))
            .ok_or_else(|| Error::OutOfRange("bigint out of range".into()))
            .or_raise();
        let sum = crate::encoding::c_string(&sum.to_string()).unwrap_or_default();
        pg_sys::OidInputFunctionCall(
            pg_sys::F_JSONB_IN.into(),
            sum.as_ptr().cast_mut(),
            pg_sys::InvalidOid,
            -1,
        )
    }
}

/// Removes the caller's values with one of the tags; returns how many there were. In a READ ONLY transaction there must be none.
pub fn delete_tagged(tags: &[String]) -> i64 {
    let tags = tags
        .iter()
        .map(|tag| super::arguments::text(&crate::encoding::to_server(tag)))
        .collect();
    // SAFETY: texts.
    let tags = unsafe { text_array(tags) };
    delete_if_any(
        c"invalidate_cache()",
        Statement::HasTagged,
        Statement::DeleteTagged,
        &[moment(now()), mine(), Some(tags)],
    )
}

/// Removes all values of this database; returns how many there were. In a READ ONLY transaction there must be none.
pub fn delete_all() -> i64 {
    delete_if_any(
        c"clear_cache()",
        Statement::HasAny,
        Statement::DeleteAll,
        &[moment(now())],
    )
}

/// Removes the values of this database that nobody is changing; returns how many there were, and how many are left.
pub fn delete_free() -> (i64, i64) {
    let Some(place) = Place::find() else {
        return (0, 0);
    };
    let now = moment(now());
    let gone = count(place, Statement::DeleteFree, &[now]);
    let none = Some(pg_sys::Datum::from(0_i64));
    (gone, count(place, Statement::Excess, &[now, none]))
}

fn delete_if_any(command: &CStr, has: Statement, delete: Statement, arguments: &[Argument]) -> i64 {
    let Some(place) = Place::find() else { return 0 };
    if read_only() {
        if run(place, has, arguments, |_| ()) == 0 {
            return 0;
        }
        // SAFETY: raises the server's own error.
        unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
    }
    count(place, delete, arguments)
}

/// Whether the transaction must not write.
pub fn read_only() -> bool {
    // SAFETY: a variable of the backend.
    unsafe { pg_sys::XactReadOnly }
}
