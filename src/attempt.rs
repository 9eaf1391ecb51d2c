//! Something that may fail without failing what it is part of: it runs in a subtransaction.
//!
//! Nobody's wish to stop is swallowed: a cancelled query and the end of the server pass through.

#![allow(unsafe_code)]

use crate::error::gave_up;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs `body` in a subtransaction, which is rolled back if it fails. Inside a transaction that may write.
pub fn attempt<R>(body: impl FnOnce() -> R) -> Result<R, Box<CaughtError>> {
    // SAFETY: the usual frame of an internal subtransaction; memory context and resource owner are those from before afterwards.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let body = AssertUnwindSafe(body);
        let result = PgTryBuilder::new(move || {
            let body = body;
            let result = (body.0)();
            pg_sys::ReleaseCurrentSubTransaction();
            AssertUnwindSafe(Ok(result))
        })
        .catch_others(move |error| {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            AssertUnwindSafe(Err(error))
        })
        .execute()
        .0;
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        match result {
            Ok(result) => Ok(result),
            Err(error) if gave_up(&error) => error.rethrow(),
            Err(error) => Err(Box::new(error)),
        }
    }
}
