//! Removing values that have expired, and those beyond `pg_query_cache.max_values`.

use super::Place;
use super::statement::{Statement, run};
use super::write::moment;
use crate::settings;
use pgrx::pg_sys;

/// Removes what is too old or too much in this database. Returns how many rows.
pub fn clean(now: i64) -> u64 {
    let Some(place) = Place::find() else { return 0 };
    let count = |statement, arguments: &[Option<pg_sys::Datum>]| {
        let mut count = 0;
        run(place, statement, arguments, |row| count = row.number(1));
        count
    };
    // A statement that removes nothing is a write all the same, as triggers see it.
    let mut any = false;
    run(place, Statement::HasExpired, &[moment(now)], |_| any = true);
    let mut removed = 0;
    if any {
        removed = count(Statement::CleanExpired, &[moment(now)]);
    }
    if settings::max_values() > 0 {
        let number = |number: i64| Some(pg_sys::Datum::from(number));
        let most = number(settings::max_values());
        let excess = count(Statement::Excess, &[moment(now), most]);
        if excess > 0 {
            removed += count(Statement::CleanExcess, &[moment(now), number(excess)]);
        }
    }
    removed as u64
}
