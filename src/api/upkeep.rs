//! SQL functions of the family *upkeep*: clean up, write and put in order by hand.

#![allow(unsafe_code)]

use super::figures::{Figures, bytes_of, entries_of_database};
use super::health;
use crate::compat;
use crate::encoding::{self, Text};
use crate::error::{Error, OrRaise};
use crate::store::area::{Area, area};
use crate::table::write_behind::{self, Extent};
use crate::worker::cleanup::{self, By};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// The area, if this server may write.
pub fn preloaded(command: &CStr) -> Area {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    // SAFETY: raises the server's own error; the table tier cannot be written on a standby.
    unsafe { pg_sys::PreventCommandDuringRecovery(command.as_ptr()) };
    crate::transaction::prepare(area);
    area
}

/// Name of the role outside of this SECURITY DEFINER function.
pub fn caller() -> String {
    // SAFETY: a variable of the backend.
    compat::role_name(unsafe { pg_sys::GetOuterUserId() })
}

/// Removes expired and invalidated entries from both tiers. Returns how many, those in both tiers counted once.
#[pg_extern(sql = false)]
fn cleanup_expired_cache() -> i32 {
    let area = preloaded(c"cleanup_expired_cache()");
    let removed = cleanup::run(area, By::Role(&caller()));
    i32::try_from(removed.entries()).unwrap_or(i32::MAX)
}

/// Writes everything in memory to the table tier. Returns how many entries were new there.
#[pg_extern(sql = false)]
fn flush_cache() -> i64 {
    write_behind::flush(preloaded(c"flush_cache()"), Extent::Everything, || false).written
}

/// A line of what was done, or is recommended.
type Step = (Text, Text, i64, i64, Option<Text>);

/// Puts the cache in order: what is worthless goes, what is new is written, what the planner knows of the table is brought up to date.
/// What would change more than the cache is recommended only.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn optimize_cache() -> TableIterator<
    'static,
    (
        name!(action, Text),
        name!(detail, Text),
        name!(affected, i64),
        name!(bytes, i64),
        name!(sql, Option<Text>),
    ),
> {
    let area = preloaded(c"optimize_cache()");
    let bytes = || -> u64 { entries_of_database(area).iter().map(bytes_of).sum() };
    let before = bytes();
    let removed = cleanup::run(area, By::Role(&caller()));
    let freed = before.saturating_sub(bytes());
    let written = write_behind::flush(area, Extent::Everything, || false).written;
    let mut steps: Vec<Step> = Vec::new();
    let mut done = |action: &str, detail: &str, affected: i64, bytes: u64| {
        if affected > 0 {
            steps.push((action.into(), detail.into(), affected, bytes as i64, None));
        }
    };
    done(
        "removed entries",
        &format!(
            "{} expired, {} invalidated, from memory",
            removed.expired, removed.dead
        ),
        (removed.expired + removed.dead) as i64,
        freed,
    );
    done(
        "removed rows",
        "expired, invalidated or of another life of the cache, from query_cache",
        removed.rows as i64,
        0,
    );
    done(
        "removed values",
        "expired or beyond pg_query_cache.max_values, from cache_values",
        removed.values as i64,
        0,
    );
    done("wrote entries", "from memory to query_cache", written, 0);
    if removed.rows > 0 || written > 0 {
        analyze();
        steps.push((
            "analyzed".into(),
            "table query_cache, for the planner".into(),
            1,
            0,
            None,
        ));
    }
    if steps.is_empty() {
        steps.push(("nothing to do".into(), "all is in order".into(), 0, 0, None));
    }
    for finding in health::advice(&Figures::of_database(area)) {
        steps.push((
            "recommended".into(),
            finding.recommendation.into(),
            0,
            0,
            finding.sql.map(Text),
        ));
    }
    TableIterator::new(steps)
}

fn analyze() {
    let Some(schema) = compat::extension_schema() else {
        return;
    };
    if let Err(problem) = encoding::run(&format!("ANALYZE {schema}.query_cache"), &[]) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            crate::encoding::shown(&format!(
                "could not analyze table \"query_cache\": {problem}"
            ))
        );
    }
}
