//! SQL functions of the family *explaining*: what a call would do and why, and what the codes mean.

#![allow(unsafe_code)]

use crate::call::advice::Finding;
use crate::call::explain::Node;
use crate::encoding::{self, Text};
use crate::error::OrRaise;
use crate::language::expression::Expression;
use crate::store::area::area;
use crate::store::statistics;
use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys};

/// What a call would do now. Nothing is computed, counted or changed, but the arguments are evaluated.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_explain(
    call: Text,
) -> TableIterator<
    'static,
    (
        name!(function, pg_sys::Oid),
        name!(outcome, Option<&'static str>),
        name!(reason, Option<&'static str>),
        name!(detail, Text),
        name!(hint, Text),
        name!(scope, &'static str),
        name!(session, Option<AnyElement>),
        name!(tags, Option<Vec<Text>>),
        name!(tier, Option<&'static str>),
        name!(computed_at, Option<TimestampWithTimeZone>),
        name!(age, Option<Interval>),
        name!(max_age, Option<Interval>),
        name!(ttl, Option<Interval>),
        name!(expires_in, Option<Interval>),
        name!(size_bytes, Option<i64>),
        name!(hits, Option<i64>),
        name!(cost_ms, Option<f64>),
        name!(invalidated_by, Option<AnyElement>),
    ),
> {
    if let Some(area) = area() {
        statistics::hand_over(area);
    }
    // SAFETY: called by a query. The node lives through the call.
    let (function, told) = unsafe {
        let expression = Expression::read(&call.0).or_raise();
        let function = expression.function;
        let mut node = Node::new();
        expression.call((&raw mut node).cast());
        (function, node.answer())
    };
    let entry = told.entry;
    let head = entry.as_ref().map(|entry| entry.head);
    TableIterator::once((
        function,
        told.finding.map(Finding::kind),
        told.finding.map(Finding::code),
        Text(told.detail),
        Text(told.hint),
        told.scope,
        encoding::json(&told.session),
        told.tags.map(|tags| tags.into_iter().map(Text).collect()),
        entry.as_ref().map(|entry| entry.tier),
        head.and_then(|head| TimestampWithTimeZone::try_from(head.created_at).ok()),
        entry.as_ref().and_then(|entry| interval(entry.age)),
        told.max_age.and_then(interval),
        interval(told.ttl),
        entry.as_ref().and_then(|entry| interval(entry.left)),
        entry.as_ref().map(|entry| entry.size),
        head.map(|head| i64::from(head.hits)),
        head.map(|head| f64::from(head.cost_us) / 1000.0),
        told.writer.as_ref().and_then(encoding::json),
    ))
}

/// Microseconds as an interval of days and time.
fn interval(us: i64) -> Option<Interval> {
    const DAY: i64 = 86_400_000_000;
    Interval::new(0, i32::try_from(us / DAY).ok()?, us % DAY).ok()
}

/// The codes of outcomes and reasons, what each means and what to do about it.
#[pg_extern(sql = false)]
fn cache_reasons() -> TableIterator<
    'static,
    (
        name!(code, &'static str),
        name!(kind, &'static str),
        name!(meaning, &'static str),
        name!(remedy, &'static str),
    ),
> {
    TableIterator::new(Finding::all().map(|finding| {
        (
            finding.code(),
            finding.kind(),
            finding.meaning(),
            finding.remedy(),
        )
    }))
}
