//! Table tier: `query_cache`, behind the memory tier. Reads of the cache never write it; the worker does.
//!
//! * `row`: one row, one entry; the checksum over it
//! * `reader`: a row by its key, without SPI and whatever rights the caller has
//! * `write_behind`: from memory to the table
//! * `warm`: from the table to memory, at a start and after an eviction
//! * `cleanup`: removing rows that can never be served again
//! * `bound`: how much it may hold, and what leaves when it holds more
//! * `trends`: another table, of what was counted by minute, hour and day
//! * `here`: keeps rows of other servers out of the tables where a publication brings them
//!
//! Locks: whoever writes the table holds the lock on the extension ([`lock_for_writing`]) until its transaction ends, so two writers
//! never meet in different orders. Who reads waits for nobody.
//!
//! Failure: a row that is cut short, damaged, of another database or of another life of the slots is not an entry. A crash empties
//! the table, which is unlogged, together with memory.

#![allow(unsafe_code)]

pub mod bound;
pub mod cleanup;
mod here;
mod reader;
pub mod row;
pub mod trends;
pub mod warm;
pub mod write_behind;

use crate::compat;
use pgrx::pg_sys;

/// Takes the lock of those who write the table, until the end of the transaction. `false` without it: the extension is gone, or
/// somebody else has the lock and the caller does not want to `wait`.
fn lock_for_writing(wait: bool) -> bool {
    let Some(extension) = compat::extension() else {
        return false;
    };
    // SAFETY: a lock tag as SET_LOCKTAG_OBJECT makes it; a variable of the backend.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: pg_sys::ExtensionRelationId.to_u32(),
            locktag_field3: extension.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
        pg_sys::LockAcquire(&tag, mode, false, !wait)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// The table's name with its schema; `None` without the extension, or if its objects are of an earlier version that has no such table.
pub fn qualified(table: &str) -> Option<String> {
    compat::extension_relation(&crate::encoding::c_string(table).ok()?)?;
    Some(format!("{}.{table}", compat::extension_schema()?))
}

/// Whether a question has an answer. For who writes only if there is something to be written: SPI takes a transaction id for each
/// statement that may write, whether it finds rows or not.
pub fn is_any(question: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> bool {
    let any = pgrx::Spi::connect(|client| {
        client
            .select(
                crate::encoding::statement(question).as_c_str(),
                Some(1),
                arguments,
            )
            .map(|rows| !rows.is_empty())
    });
    done("look for rows", any)
}

/// Raises what SPI could not do.
pub fn done<T>(what: &str, result: Result<T, pgrx::spi::Error>) -> T {
    match result {
        Ok(value) => value,
        Err(problem) => {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                crate::encoding::shown(&format!("could not {what}: {problem}"))
            );
            #[allow(unreachable_code)]
            {
                unreachable!("an ERROR does not return")
            }
        }
    }
}
