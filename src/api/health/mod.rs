//! `analyze_cache_health()`: what is well and what is not, each with its figure, the threshold and what to do, in words and as SQL.
//!
//! * `server`: whether everything runs that should
//! * `whole`: rates, memory, entries
//! * `functions`: what concerns single functions and tables
//! * `remedies`: the SQL

mod functions;
mod remedies;
mod server;
mod whole;

pub use functions::advice;

use super::figures::Figures;
use crate::encoding::Text;
use crate::store::area::area;
use crate::values::Place;
use pgrx::prelude::*;

/// Fewer calls than this say nothing about a rate.
const ENOUGH_CALLS: u64 = 100;

/// How bad it is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Critical,
    Warning,
    Info,
    Ok,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Critical => "critical",
            Status::Warning => "warning",
            Status::Info => "info",
            Status::Ok => "ok",
        }
    }

    fn warning_if(bad: bool) -> Self {
        if bad { Status::Warning } else { Status::Ok }
    }

    fn critical_if(bad: bool) -> Self {
        if bad { Status::Critical } else { Status::Ok }
    }
}

/// A line of the answer.
pub struct Finding {
    finding: String,
    status: Status,
    value: String,
    threshold: String,
    /// What to do, in words.
    pub recommendation: String,
    /// What to do, as SQL.
    pub sql: Option<String>,
}

impl Finding {
    fn new(
        finding: impl Into<String>,
        status: Status,
        value: impl Into<String>,
        threshold: impl Into<String>,
    ) -> Self {
        Finding {
            finding: finding.into(),
            status,
            value: value.into(),
            threshold: threshold.into(),
            recommendation: String::new(),
            sql: None,
        }
    }

    /// What to do about it, unless it is well.
    fn advise(mut self, words: impl Into<String>, sql: impl Into<Option<String>>) -> Self {
        if self.status != Status::Ok {
            self.recommendation = words.into();
            self.sql = sql.into();
        }
        self
    }
}

fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// Findings about the cache in this database, one row each, the worst first.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn analyze_cache_health_v0_2() -> TableIterator<
    'static,
    (
        name!(finding, Text),
        name!(status, Text),
        name!(value, Text),
        name!(threshold, Text),
        name!(recommendation, Text),
        name!(sql, Option<Text>),
    ),
> {
    let mut findings = match area() {
        None => vec![server::not_preloaded()],
        Some(area) => {
            let mut figures = Figures::of_database(area);
            // A key without a value is no call that could have been cached, and a value is read anew after each write: neither is a
            // finding.
            if let Some(values) = Place::find() {
                figures = figures.without(values.reader());
            }
            let mut findings = server::examine(area, &figures);
            findings.extend(whole::examine(area, &figures));
            findings.extend(functions::examine(area, &figures));
            findings
        }
    };
    findings.sort_by_key(|finding| finding.status);
    TableIterator::new(findings.into_iter().map(|f| {
        (
            Text(f.finding),
            f.status.name().into(),
            Text(f.value),
            Text(f.threshold),
            Text(f.recommendation),
            f.sql.map(Text),
        )
    }))
}
