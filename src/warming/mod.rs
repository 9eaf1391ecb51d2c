//! Warming: calls are made before anybody waits for them.
//!
//! A warming call is an ordinary call, made by the same session and role that asks for it, so it fills exactly the entry that this
//! role's later calls with these settings find. Whether it did is asked of the call itself, in the words of `cache_explain`.
//!
//! * `arguments`: a call written as SQL, its arguments out of JSON
//! * `jobs`: the table of calls that a background process makes later; `runner`: that process; `patience`: how long a call of it may
//!   keep others waiting
//! * `refresher`: the process that computes results anew before they are too old

#![allow(unsafe_code)]

pub mod arguments;
pub mod jobs;
mod patience;
pub mod refresher;
pub mod runner;

use crate::call::adaptive::AskedFor;
use crate::call::advice::Finding;
use crate::call::explain::Node;
use crate::call::outcome::Reason;
use crate::compat;
use crate::encoding;
use crate::error::{self, Error, OrRaise};
use crate::language::expression::Expression;
use crate::store::area::area;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

/// What became of a warming call.
pub struct Warmed {
    /// What a call would find now: [`Finding::Valid`] if the result is in the cache.
    pub finding: Finding,
    /// How long the function took, if it was run.
    pub took_ms: Option<f64>,
}

impl Warmed {
    /// Whether the result is in the cache.
    pub fn stored(&self) -> bool {
        self.finding == Finding::Valid
    }
}

/// Makes a call, written as SQL by [`arguments::Target::call`], unless its result is in the cache or cannot come there.
pub fn warm(function: pg_sys::Oid, call: &str) -> Warmed {
    let _asked_for = AskedFor::begin();
    let before = ask(function, call);
    if before.kind() != "miss" {
        return Warmed {
            finding: before,
            took_ms: None,
        };
    }
    let mut took_ms = 0.0;
    // The first call of all may only have taught us that the function reads settings.
    for last in [false, true] {
        let began = Instant::now();
        run(call);
        took_ms += began.elapsed().as_micros() as f64 / 1000.0;
        let finding = match ask(function, call) {
            finding if finding.kind() == "miss" => refusal(function).unwrap_or(finding),
            finding => finding,
        };
        if last || finding != Finding::Not(Reason::SettingsLearned) {
            return Warmed {
                finding,
                took_ms: Some(took_ms),
            };
        }
    }
    unreachable!("the second call is the last")
}

/// [`warm`] in a subtransaction of its own: an ERROR of the function is the answer, and undoes nothing else. Who does not want to wait
/// any more is heeded.
pub fn try_warm(function: pg_sys::Oid, call: impl FnOnce() -> String) -> Result<Warmed, String> {
    // SAFETY: the usual frame of an internal subtransaction.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let mut call = Some(call);
        let call = AssertUnwindSafe(&mut call);
        let warmed = PgTryBuilder::new(move || {
            let call = call;
            let warmed = call.0.take().map(|call| warm(function, &call()));
            pg_sys::ReleaseCurrentSubTransaction();
            warmed.ok_or_else(String::new)
        })
        .catch_others(|caught| {
            if error::gave_up(&caught) {
                caught.rethrow();
            }
            let message = error::message_of(&caught);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            Err(message)
        })
        .execute();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        warmed
    }
}

/// What a call would find now.
fn ask(function: pg_sys::Oid, call: &str) -> Finding {
    let mut node = Node::brief();
    // SAFETY: in a transaction, whose newest snapshot is what a call in this place would have; the node lives as long as the call.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let expression = Expression::read(call).or_raise();
        if expression.function != function {
            Error::NoCall("It means another function of this name.".into()).raise();
        }
        expression.call((&raw mut node).cast());
        pg_sys::PopActiveSnapshot();
    }
    node.answer().finding.unwrap_or(Finding::Absent)
}

/// Makes a call. Of a set all rows are computed; of what comes only the number is of interest.
fn run(call: &str) {
    let query = format!("SELECT pg_catalog.count(s.r) FROM (SELECT {call} AS r OFFSET 0) AS s");
    let ran = Spi::connect_mut(|client| {
        client
            .update(encoding::statement(&query).as_c_str(), None, &[])
            .map(|_| ())
    });
    if let Err(problem) = ran {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            crate::encoding::shown(&format!("could not call the function: {problem}"))
        );
    }
}

/// Why the last result of a function was not stored.
fn refusal(function: pg_sys::Oid) -> Option<Finding> {
    let refusal = area()?.functions().refusal(compat::database(), function)?;
    Some(Finding::Not(refusal.reason))
}
