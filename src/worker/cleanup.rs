//! Step: removes what can never be served again.

#![allow(unsafe_code)]

use crate::configuration;
use crate::fault::{self, Point};
use crate::settings;
use crate::store::area::Area;
use crate::store::gone;
use crate::store::partition::EntryHead;
use crate::store::walk::{Verdict, sweep};
use crate::table;
use crate::table::cleanup::Removed;
use crate::validity::view::all_effective_before;
use crate::values;
use crate::verification::quarantine;
use crate::warming::jobs;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// Who cleans up.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The worker: every so often, and not while somebody else writes the table.
    Worker,
    /// A role, by hand.
    Role(&'a str),
}

/// Cleans both tiers of this database up and writes a line to `cache_cleanup_log`: always if it was asked for by hand, else if there
/// was something to remove.
pub fn run(area: Area, by: By<'_>) -> Removed {
    let began = std::time::Instant::now();
    // SAFETY: the clock; a variable of the backend.
    let (now, database) = unsafe {
        (
            pg_sys::GetCurrentTimestamp() + settings::clock_offset_us(),
            pg_sys::MyDatabaseId.to_u32(),
        )
    };
    let mut removed = Removed::default();
    area.slots().settle_all();
    for partition in area.partitions() {
        let of_database = |head: &EntryHead| head.database == database;
        sweep(partition, of_database, |entry| {
            if now >= entry.head.expires_at {
                removed.expired += 1;
            } else if area.slots().is_dead(entry.dependencies) {
                removed.dead += 1;
            } else {
                return Verdict::Keep;
            }
            removed.only_in_memory += u64::from(entry.head.is_only_in_memory());
            Verdict::Remove
        });
    }
    area.header()
        .expirations
        .fetch_add(removed.expired, Ordering::Relaxed);
    area.header()
        .dead_removed
        .fetch_add(removed.dead, Ordering::Relaxed);
    let (name, by_hand) = match by {
        By::Worker => ("worker", false),
        By::Role(name) => (name, true),
    };
    fault::point(Point::CleaningTable);
    removed.rows = table::cleanup::run(area, now, by_hand);
    removed.values = values::cleanup::clean(now);
    jobs::clean_up();
    quarantine::clean_up();
    gone::functions(area);
    gone::relations(area);
    fault::point(Point::Cleaned);
    configuration::trim_log();
    if by_hand || removed.expired + removed.dead + removed.rows + removed.values > 0 {
        table::cleanup::log(&removed, name, began.elapsed().as_micros() as f64 / 1000.0);
    }
    removed
}

/// Once every running transaction began after the last start, there are no unknown writers left. The same of the bounds of the gate.
pub fn forget_unknown_writers(area: Area) {
    let known_from = area.header().known_from.load(Ordering::Acquire);
    let from_start = known_from != 0 && known_from != crate::validity::saved::NOT_KNOWN_YET;
    if !from_start && !area.bounds().are_any() {
        return;
    }
    // SAFETY: asks the server for the oldest transaction that anybody can still see as running.
    let oldest = unsafe { pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut()) };
    area.bounds().forget_before(oldest);
    let passed = || {
        u32::from(oldest).wrapping_sub(known_from as u32) as i32 >= 0
            && all_effective_before(known_from)
    };
    if from_start && passed() {
        let _ = area.header().known_from.compare_exchange(
            known_from,
            0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
}
