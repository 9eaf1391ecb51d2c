//! `emergency_clear_cache()`: everything of this database out of both tiers, at once, by who says the words.
//!
//! The invalidation is transactional as that of `clear_cache()`; the removal from memory is not, and need not be: an entry that is not
//! there is computed. If the transaction rolls back, the rows of the table are there again, and as good as before.
//!
//! Nobody is waited for who is changing a value: that one stays, and the caller is told.

#![allow(unsafe_code)]

use super::upkeep::{caller, preloaded};
use crate::dependencies::utility;
use crate::encoding::Text;
use crate::error::{Besides, Error, tell};
use crate::table::cleanup;
use crate::validity::writers::Operation;
use crate::values;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

/// What the caller has to say.
const CONFIRMATION: &str = "EMERGENCY_CLEAR_CONFIRMED";

/// Removes and invalidates everything of this database. Returns how many entries, those in both tiers counted once.
#[pg_extern(sql = false)]
fn emergency_clear_cache(confirmation: Option<Text>) -> i64 {
    let confirmation = confirmation.as_ref().map(|text| text.0.as_str());
    let by = caller();
    if confirmation != Some(CONFIRMATION) {
        crate::error::log(&format!(
            "refused emergency_clear_cache() to role \"{by}\", which did not confirm it"
        ));
        Error::InvalidChoice(
            "emergency_clear_cache() was not confirmed".into(),
            "Confirm it with the words \"emergency clear confirmed\" in capitals, joined by underscores.".into(),
        )
        .raise();
    }
    let area = preloaded(c"emergency_clear_cache()");
    // SAFETY: raises the server's own error.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"emergency_clear_cache()".as_ptr()) };
    let began = std::time::Instant::now();
    utility::mark_database(area, Operation::Clear);
    let mut removed = cleanup::remove_everything(area);
    let (gone, left) = values::write::delete_free();
    removed.values = gone as u64;
    if left > 0 {
        tell(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            &format!("{left} values are being changed by other transactions, and stay"),
            Besides::Hint("clear_cache() waits for these transactions."),
        );
    }
    cleanup::log(
        &removed,
        &format!("{by} (emergency_clear_cache)"),
        began.elapsed().as_micros() as f64 / 1000.0,
    );
    crate::error::log(&format!(
        "emergency_clear_cache() by role \"{by}\" removed {} entries",
        removed.entries()
    ));
    removed.entries() as i64
}
