//! The rows of `cache_configuration`.
//!
//! Without SPI: the caller of a cached function may have no right on the table, its transaction may be READ ONLY, and a fill around
//! it must not record the read. The rows come from the newest committed state, and from the transaction's own.

#![allow(unsafe_code)]

use crate::compat;
use crate::encoding::Text;
use pgrx::{FromDatum, pg_sys};

const TABLE: &std::ffi::CStr = c"cache_configuration";

/// A row.
#[derive(Clone, Debug)]
pub struct Line {
    /// What is configured.
    pub name: String,
    /// Its value.
    pub value: String,
    /// When it was changed, microseconds since 2000-01-01.
    pub changed_at: Option<i64>,
    /// Who changed it.
    pub changed_by: Option<String>,
}

/// All rows; none if there is no such table. `None` if somebody has it locked against readers: nobody is waited for.
pub fn read() -> Option<Vec<Line>> {
    // SAFETY: catalog lookups that allow for absence; the lock is taken before the relation is opened; tuples are used while the scan
    // is. A scan without a snapshot takes a new one, also where none could be kept (in parallel mode).
    unsafe {
        let Some(table) = compat::extension_relation(TABLE) else {
            return Some(Vec::new());
        };
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        if !pg_sys::ConditionalLockRelationOid(table, lock) {
            return None;
        }
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if relation.is_null() {
            pg_sys::UnlockRelationOid(table, lock);
            return Some(Vec::new());
        }
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        let mut lines = Vec::new();
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let column = |number: i32| {
                let mut is_null = false;
                let value = pg_sys::heap_getattr(tuple, number, (*relation).rd_att, &mut is_null);
                (!is_null).then_some(value)
            };
            let text = |number| {
                column(number)
                    .and_then(|value| Text::from_datum(value, false))
                    .map(|text| text.0)
            };
            if let (Some(name), Some(value)) = (text(1), text(2)) {
                lines.push(Line {
                    name,
                    value,
                    changed_at: column(3).map(|value| value.value() as i64),
                    changed_by: column(4).map(|value| compat::text(value.cast_mut_ptr())),
                });
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::relation_close(relation, lock);
        Some(lines)
    }
}
