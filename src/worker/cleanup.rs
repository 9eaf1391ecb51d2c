//! Step: removes what can never be served again.

#![allow(unsafe_code)]

use crate::settings;
use crate::store::area::Area;
use crate::store::insert::{Verdict, sweep};
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// What a clean-up removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removed {
    /// Entries in memory that were too old.
    pub expired: u64,
    /// Entries in memory that had been invalidated.
    pub dead: u64,
    /// Rows of the table tier.
    pub rows: u64,
}

/// Cleans both tiers of this database up and writes a line to `cache_cleanup_log`.
pub fn run(area: Area, by: &str) -> Removed {
    let began = std::time::Instant::now();
    // SAFETY: the clock; a variable of the backend.
    let (now, database) = unsafe {
        (
            pg_sys::GetCurrentTimestamp() + settings::clock_offset_us(),
            pg_sys::MyDatabaseId.to_u32(),
        )
    };
    let mut removed = Removed::default();
    for partition in area.partitions() {
        sweep(partition, |head, dependencies| {
            if head.database != database {
                Verdict::Keep
            } else if now >= head.expires_at {
                removed.expired += 1;
                Verdict::Remove
            } else if area.slots().is_dead(dependencies) {
                removed.dead += 1;
                Verdict::Remove
            } else {
                Verdict::Keep
            }
        });
    }
    area.header()
        .expirations
        .fetch_add(removed.expired, Ordering::Relaxed);
    area.header()
        .dead_removed
        .fetch_add(removed.dead, Ordering::Relaxed);
    removed.rows = crate::table::cleanup::run(area, now);
    crate::table::cleanup::log(&removed, by, began.elapsed().as_secs_f64() * 1000.0);
    removed
}

/// Once every running transaction began after the last start, there are no unknown writers left.
pub fn forget_unknown_writers(area: Area) {
    let known_from = area.header().known_from.load(Ordering::Acquire);
    if known_from == 0 || known_from == crate::validity::saved::NOT_KNOWN_YET {
        return;
    }
    // SAFETY: asks the server for the oldest transaction that anybody can still see as running.
    let oldest =
        u32::from(unsafe { pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut()) });
    if (oldest.wrapping_sub(known_from as u32) as i32) >= 0 {
        let _ = area.header().known_from.compare_exchange(
            known_from,
            0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
}
