//! Running under the time of a transaction of the past: what `now()` and `CURRENT_DATE` answer is set back, and restored afterwards,
//! also if an ERROR comes between (`frames::unwind`).

#![allow(unsafe_code)]

use crate::backend::Backend;
use pgrx::pg_sys;
use std::cell::Cell;

/// Start of the transaction and of the statement, while they are set back.
static REAL: Backend<Cell<Option<(i64, i64)>>> = Backend::new(Cell::new(None));

/// Makes `time`, in microseconds since 2000-01-01, the start of the present transaction and statement.
pub fn set_back(time: i64) {
    // SAFETY: variables of the backend. The server sets them so in parallel workers; what reads them otherwise than through SQL
    // (timeouts, statistics) has done so when the statement began.
    unsafe {
        let real = (
            pg_sys::GetCurrentTransactionStartTimestamp(),
            pg_sys::GetCurrentStatementStartTimestamp(),
        );
        REAL.set(Some(REAL.get().unwrap_or(real)));
        crate::compat::set_start_of_transaction(time, time);
    }
}

/// Sets the clock right again, if it was set back.
pub fn restore() {
    if let Some((transaction, statement)) = REAL.take() {
        // SAFETY: as above.
        unsafe { crate::compat::set_start_of_transaction(transaction, statement) };
    }
}
