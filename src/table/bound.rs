//! How much the table tier may hold (`pg_query_cache.table_size`), and what leaves when it holds more.
//!
//! What counts is what its rows take, not how large the files are: room that rows have left is used again once autovacuum has been there.
//! The clean-up counts the rows; who writes adds what it has written, and makes room when the bound is reached. A batch of rows leaves at
//! a time ([`BATCH`]), down to nine tenths of the bound. As long as it is reached nothing new is written, and memory keeps what it has.
//!
//! The owners of functions share the table equally, and so do the functions of an owner: whoever has most loses first, of each function
//! the rows of the lowest priority, of these the ones with the fewest hits, of these the oldest.
//!
//! Locks: the caller has that of those who write the table.

use super::done;
use crate::compat;
use crate::settings;
use crate::store::area::{Area, DatabaseState};
use crate::store::lookup;
use crate::store::partition::LEFT_OUT;
use crate::store::walk::amend;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// What a row takes besides key, value and dependencies: its other columns, its name, its place in the index.
pub const ROW_BYTES: u64 = 256;
/// So many rows leave at a time.
const BATCH: i64 = 20_000;

/// What a row takes, in SQL; whatever the row says of itself.
fn bytes_of_row() -> String {
    format!(
        "(GREATEST(q.size_bytes, 0)::pg_catalog.numeric OPERATOR(pg_catalog.+) {ROW_BYTES}::pg_catalog.numeric)"
    )
}

/// Counts the rows and what they take, for everybody. Returns both.
pub fn count(schema: &str, state: Option<&DatabaseState>) -> (u64, u64) {
    let bytes = bytes_of_row();
    // Not Spi::get_two, which takes a transaction id.
    let counted = Spi::connect(|client| {
        let question = format!(
            "SELECT pg_catalog.count(*), \
                    LEAST(COALESCE(pg_catalog.sum({bytes}), 0), 9000000000000000000)::pg_catalog.int8 \
             FROM {schema}.query_cache AS q"
        );
        client
            .select(crate::encoding::statement(&question).as_c_str(), None, &[])?
            .first()
            .get_two::<i64, i64>()
    });
    let (rows, bytes) = done("read table \"query_cache\"", counted);
    let (rows, bytes) = (rows.unwrap_or(0) as u64, bytes.unwrap_or(0) as u64);
    if let Some(state) = state {
        state.table_rows.store(rows, Ordering::Relaxed);
        state.table_bytes.store(bytes, Ordering::Relaxed);
    }
    (rows, bytes)
}

/// Rows with so many bytes of key, value and dependencies were written.
pub fn wrote(state: Option<&DatabaseState>, rows: u64, payload: u64) {
    if let Some(state) = state {
        state.table_rows.fetch_add(rows, Ordering::Relaxed);
        state
            .table_bytes
            .fetch_add(payload + rows * ROW_BYTES, Ordering::Relaxed);
    }
}

/// How it is with the bound after [`keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Rows that have left.
    pub left: u64,
    /// Whether the table still holds as much as it may.
    pub full: bool,
}

/// If the table holds more than it may, a batch of rows leaves.
pub fn keep(area: Area, schema: &str, database: pg_sys::Oid) -> Kept {
    let (state, bound) = (area.database(database), settings::table_bytes());
    let known = state.map(|state| state.table_bytes.load(Ordering::Relaxed));
    // What was added as it was written counts a row twice that took the place of another.
    let taken = match known {
        Some(known) if known < bound => known,
        _ => count(schema, state).1,
    };
    if taken < bound {
        return Kept {
            left: 0,
            full: false,
        };
    }
    let excess = taken.saturating_sub(bound - bound / 10);
    let bytes = bytes_of_row();
    let command = format!(
        "DELETE FROM {schema}.query_cache AS d \
         USING (SELECT g.cache_key FROM \
             (SELECT o.cache_key, o.bytes, o.of_owner, \
                     pg_catalog.sum(o.bytes) OVER (ORDER BY o.of_owner DESC, o.cache_key) AS gone \
              FROM (SELECT f.cache_key, f.bytes, \
                           pg_catalog.sum(f.bytes) OVER (PARTITION BY f.owner ORDER BY f.of_function, f.cache_key) AS of_owner \
                    FROM (SELECT q.cache_key, {bytes} AS bytes, p.proowner AS owner, \
                                 pg_catalog.sum({bytes}) OVER (PARTITION BY q.function ORDER BY q.priority DESC, \
                                     q.hit_count DESC, q.created_at DESC, q.cache_key) AS of_function \
                          FROM {schema}.query_cache AS q \
                          LEFT JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) q.function) AS f) AS o) AS g \
             WHERE (g.gone OPERATOR(pg_catalog.-) g.bytes) OPERATOR(pg_catalog.<) $1::pg_catalog.numeric \
             ORDER BY g.of_owner DESC, g.cache_key LIMIT $2) AS l \
         WHERE d.cache_key OPERATOR(pg_catalog.=) l.cache_key \
         RETURNING d.key"
    );
    let left = Spi::connect_mut(|client| {
        let rows = client.update(
            crate::encoding::statement(&command).as_c_str(),
            None,
            &[(excess.min(i64::MAX as u64) as i64).into(), BATCH.into()],
        )?;
        let mut left = 0;
        for deleted in rows {
            left += 1;
            if let Some(key) = deleted.get::<Vec<u8>>(1)? {
                leave_out(area, &key);
            }
        }
        Ok(left)
    });
    let left: u64 = done("make room in table \"query_cache\"", left);
    if let Some(state) = state {
        state.table_evictions.fetch_add(left, Ordering::Relaxed);
    }
    Kept {
        left,
        full: count(schema, state).1 >= bound,
    }
}

/// Memory may still have the entry: it is not written again.
fn leave_out(area: Area, key: &[u8]) {
    if let Some(found) = lookup::find(area, xxh3_64(key), key) {
        amend(area, found.id(), |head| {
            if head.persisted == 1 {
                head.persisted = LEFT_OUT;
            }
        });
    }
}

/// As [`keep`], for the database of this session. Returns whether the table is full.
pub fn keep_here(area: Area) -> bool {
    compat::extension_schema().is_some_and(|schema| keep(area, &schema, compat::database()).full)
}
