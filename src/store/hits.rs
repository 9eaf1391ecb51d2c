//! Counting the hits of entries, as a backend hands them over.
//!
//! Under the shared lock nothing leaves, so hits are added there. What is hit again and again comes first in its bucket: that changes the
//! bucket, for which the lock is taken if it is free, and nobody waits: the next time will do.

use super::area::Area;
use super::locks::{Hold, lock_partition_shared, step, try_lock_partition};
use super::lookup::EntryId;

/// So many hits of an entry handed over at once make it the first of its bucket. One alone says little, and where all keys are asked at
/// random nothing is gained by an order.
const OFTEN: u32 = 2;
/// Entries that are counted under one hold.
const COUNTED: usize = 256;
/// Entries that are put first under one hold.
const PUT_FIRST: usize = 16;

/// Adds hits to entries, those that are gone left out.
pub fn add_hits(area: Area, mut hits: Vec<(EntryId, u32)>) {
    hits.sort_unstable_by_key(|(entry, _)| (entry.partition, entry.block));
    for some in hits
        .chunk_by(|(a, _), (b, _)| a.partition == b.partition)
        .flat_map(|of_one| of_one.chunks(COUNTED))
    {
        let partition = area.partition(some[0].0.partition);
        let mut often = [None; PUT_FIRST];
        let mut places = often.iter_mut();
        {
            let _guard = lock_partition_shared(partition.index, Hold::Hits);
            for (entry, more) in some {
                step(1);
                if partition.is_alive(entry.block, entry.serial) {
                    partition.count_hits(entry.block, *more);
                    if *more >= OFTEN
                        && !partition.is_first(entry.block)
                        && let Some(place) = places.next()
                    {
                        *place = Some(*entry);
                    }
                }
            }
        }
        if often[0].is_some()
            && let Some(_guard) = try_lock_partition(partition.index, Hold::Hits)
        {
            for entry in often.iter().flatten() {
                if partition.is_alive(entry.block, entry.serial) {
                    partition.put_first(entry.block);
                }
            }
        }
    }
}
