//! Sizes and offsets of the shared memory area. Pure arithmetic: the same numbers in the postmaster and in every backend.

use super::charges::CHARGE_BYTES;
use super::flights::FLIGHTS_BYTES;
use super::partition::OWNERS_BYTES;
use super::statistics::FUNCTION_BYTES;
use crate::validity::MAX_SLOTS;
use crate::validity::slots::SLOT_BYTES;
use crate::validity::tags::RESERVED;
use crate::validity::writers::SET_BYTES;
use pg_query_cache_space::words_for;

/// Bytes of a block, the unit of allocation.
pub const BLOCK: usize = 64;
/// Everything begins at a multiple of this.
const ALIGNMENT: usize = 128;
/// Bytes for the header of the area.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Bytes for the head of a partition.
pub const PARTITION_HEAD_BYTES: usize = 128;
/// The most partitions, one lock each.
pub const MAX_PARTITIONS: usize = 64;
/// A partition is at least this large, so that a large result still fits into one.
const PARTITION_MIN_BYTES: usize = 4 * 1024 * 1024;
/// Blocks for each bucket, before their number is rounded down to a power of two: an entry of 1 KB has nineteen, the smallest two.
const BLOCKS_OF_BUCKET: usize = 16;
/// Bits for the ghosts of the eviction queue for each block: seven bytes for an entry of 1 KB.
const GHOST_BITS: usize = 3;
/// Slots for each set of writers: most slots are written rarely or never.
const SLOTS_OF_WRITERS: usize = 16;

/// Where everything lies in an area of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole area.
    pub total: usize,
    /// Number of validity slots.
    pub slots: u32,
    /// Offset of the slots.
    pub slots_at: usize,
    /// Offset of the numbers of entries that depend on each slot.
    pub tallies_at: usize,
    /// Number of sets of writers.
    pub writers: u32,
    /// Offset of the sets of writers.
    pub writers_at: usize,
    /// Number of functions with statistics of their own.
    pub functions: u32,
    /// Offset of the function statistics.
    pub functions_at: usize,
    /// Number of relations whose writers' time is kept.
    pub charges: u32,
    /// Offset of these times.
    pub charges_at: usize,
    /// Offset of the flights.
    pub flights_at: usize,
    /// Number of partitions, a power of two.
    pub partitions: u32,
    /// Offset of the first partition.
    pub partitions_at: usize,
    /// Bytes of one partition.
    pub partition_bytes: usize,
    /// Blocks in one partition.
    pub blocks: u32,
    /// Buckets in one partition, a power of two.
    pub buckets: u32,
    /// Offset of the buckets in a partition.
    pub buckets_at: usize,
    /// Offset of the map of taken blocks in a partition.
    pub used_at: usize,
    /// Offset of the map of blocks at which an entry begins in a partition.
    pub heads_at: usize,
    /// Offset of the ghosts of the eviction queue in a partition.
    pub ghosts_at: usize,
    /// Words of ghosts in one partition.
    pub ghosts: usize,
    /// Offset of the credits in a partition.
    pub credit_at: usize,
    /// Offset of the blocks in a partition.
    pub blocks_at: usize,
}

impl Layout {
    /// The layout of an area of `total` bytes, at least 4 MB.
    pub fn new(total: usize) -> Self {
        // A forty-eighth of the area for slots: 64 MB give 21,845 of them.
        let slots = (total / 48 / SLOT_BYTES).clamp(1024, MAX_SLOTS as usize);
        // A thirty-second of the area for functions: 64 MB have rows for more than two thousand of them.
        let functions = (total / 32 / FUNCTION_BYTES).clamp(64, 8192);
        let slots_at = HEADER_BYTES;
        let writers = (slots / SLOTS_OF_WRITERS).max(RESERVED as usize * 2);
        let tallies_at = align(slots_at + slots * SLOT_BYTES);
        let writers_at = align(tallies_at + slots * size_of::<u32>());
        let functions_at = align(writers_at + writers * SET_BYTES);
        let charges = (total / 1024 / CHARGE_BYTES).clamp(128, 8192);
        let charges_at = align(functions_at + functions * FUNCTION_BYTES);
        let flights_at = align(charges_at + charges * CHARGE_BYTES);
        let partitions_at = align(flights_at + FLIGHTS_BYTES);
        let room = total - partitions_at;
        let partitions = previous_power_of_two(room / PARTITION_MIN_BYTES).clamp(1, MAX_PARTITIONS);
        let partition_bytes = (room / partitions) & !(ALIGNMENT - 1);

        let buckets = previous_power_of_two(partition_bytes / BLOCK / BLOCKS_OF_BUCKET).max(64);
        let buckets_at = align(PARTITION_HEAD_BYTES + OWNERS_BYTES);
        let used_at = align(buckets_at + buckets * size_of::<u64>());
        // A block, its bits in both maps and for ghosts, its half of a credit; and what aligning may cost.
        let room = partition_bytes - used_at - 5 * ALIGNMENT;
        let blocks = room * 8 / (BLOCK * 8 + 2 + GHOST_BITS + 4);
        let map = words_for(blocks as u32) * size_of::<u64>();
        let heads_at = align(used_at + map);
        let ghosts_at = align(heads_at + map);
        let ghosts = blocks * GHOST_BITS / u64::BITS as usize;
        let credit_at = align(ghosts_at + ghosts * size_of::<u64>());
        let blocks_at = align(credit_at + blocks.div_ceil(2));
        Layout {
            total,
            slots: slots as u32,
            slots_at,
            tallies_at,
            writers: writers as u32,
            writers_at,
            functions: functions as u32,
            functions_at,
            charges: charges as u32,
            charges_at,
            flights_at,
            partitions: partitions as u32,
            partitions_at,
            partition_bytes,
            blocks: blocks as u32,
            buckets: buckets as u32,
            buckets_at,
            used_at,
            heads_at,
            ghosts_at,
            ghosts,
            credit_at,
            blocks_at,
        }
    }

    /// How many results fit into memory: a small one takes two blocks.
    pub fn room(&self) -> u64 {
        u64::from(self.partitions) * u64::from(self.blocks) / 2
    }

    /// Bytes in which entries live, all partitions together.
    pub fn entry_bytes(&self) -> usize {
        self.partitions as usize * self.blocks as usize * BLOCK
    }
}

fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

fn previous_power_of_two(n: usize) -> usize {
    if n == 0 { 1 } else { 1 << n.ilog2() }
}
