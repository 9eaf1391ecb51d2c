//! Reads single rows of `query_cache` by their key.
//!
//! Without SPI: the caller of a cached function may have no right on the table, its transaction may be READ ONLY, and a fill around
//! it must not record the read. The row comes from the newest committed state; whether it is right for the caller's own snapshot its
//! dependencies tell, as with every entry.

#![allow(unsafe_code)]

use super::row::{Column, NoEntry, Row};
use crate::compat;
use pgrx::{IntoDatum, pg_sys};

/// The open table.
pub struct Reader {
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
}

impl Reader {
    /// Opens the table; `None` if it is not there, or somebody has it locked against readers.
    ///
    /// # Safety
    /// Inside a transaction that may take snapshots. The reader is closed before the transaction ends, or dropped with it by an ERROR.
    pub unsafe fn open() -> Option<Reader> {
        // SAFETY: catalog lookups that allow for absence; the lock is taken before the relation is opened, and nobody is waited for.
        unsafe {
            let table = compat::extension_relation(c"query_cache")?;
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            if !pg_sys::ConditionalLockRelationOid(table, lock) {
                return None;
            }
            let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            if relation.is_null() {
                pg_sys::UnlockRelationOid(table, lock);
                return None;
            }
            let index = pg_sys::RelationGetPrimaryKeyIndex(relation);
            if index == pg_sys::InvalidOid {
                pg_sys::relation_close(relation, lock);
                return None;
            }
            Some(Reader {
                relation,
                index,
                snapshot: pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()),
            })
        }
    }

    /// The row named `name`; `None` if there is none.
    pub fn row(&self, name: &str, incarnation: u64) -> Option<Result<Row, NoEntry>> {
        // SAFETY: the relation is open and the snapshot registered for the life of the reader; the tuple is used while the scan is.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                Column::CacheKey as _,
                pg_sys::BTEqualStrategyNumber as _,
                pg_sys::F_TEXTEQ.into(),
                crate::encoding::Text::from(name).into_datum()?,
            );
            let scan = pg_sys::systable_beginscan(
                self.relation,
                self.index,
                true,
                self.snapshot,
                1,
                &mut key,
            );
            let tuple = pg_sys::systable_getnext(scan);
            let row =
                (!tuple.is_null()).then(|| Row::read(tuple, (*self.relation).rd_att, incarnation));
            pg_sys::systable_endscan(scan);
            row
        }
    }

    /// Closes the table.
    pub fn close(self) {
        // SAFETY: opened and registered by `open`.
        unsafe {
            pg_sys::UnregisterSnapshot(self.snapshot);
            pg_sys::relation_close(self.relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        }
    }
}
