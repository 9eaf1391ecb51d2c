//! Sizes and offsets of the shared memory area. Pure arithmetic: the same numbers in the postmaster and in every backend.

use super::charges::CHARGE_BYTES;
use super::flights::FLIGHTS_BYTES;
use super::statistics::FUNCTION_BYTES;
use crate::validity::slots::SLOT_BYTES;
use crate::validity::writers::SET_BYTES;

/// Bytes of a block, the unit of allocation.
pub const BLOCK: usize = 128;
/// Bytes for the header of the area.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Bytes for the head of a partition.
pub const PARTITION_HEAD_BYTES: usize = 128;
/// The most partitions, one lock each.
pub const MAX_PARTITIONS: usize = 64;
/// A partition is at least this large, so that a large result still fits into one.
const PARTITION_MIN_BYTES: usize = 4 * 1024 * 1024;
/// What one block costs besides its own bytes: next (4), state (4), credit (1), a quarter of a bucket (1), rounding (2).
const BLOCK_OVERHEAD: usize = 12;

/// Where everything lies in an area of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole area.
    pub total: usize,
    /// Number of validity slots, a power of two.
    pub slots: u32,
    /// Offset of the slots.
    pub slots_at: usize,
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
    /// Offset of the `next` words in a partition.
    pub next_at: usize,
    /// Offset of the `state` words in a partition.
    pub state_at: usize,
    /// Offset of the credits in a partition.
    pub credit_at: usize,
    /// Offset of the blocks in a partition.
    pub blocks_at: usize,
}

impl Layout {
    /// The layout of an area of `total` bytes, at least 4 MB.
    pub fn new(total: usize) -> Self {
        // A sixteenth of the area for slots: 64 MB give 32,768 of them.
        let slots = previous_power_of_two(total / 16 / SLOT_BYTES).clamp(1024, 65_536);
        let functions = (total / 128 / FUNCTION_BYTES).clamp(64, 4096);
        let slots_at = HEADER_BYTES;
        // A set of writers for four slots: most slots are written rarely or never.
        let writers = slots / 4;
        let writers_at = align(slots_at + slots * SLOT_BYTES);
        let functions_at = align(writers_at + writers * SET_BYTES);
        let charges = (total / 1024 / CHARGE_BYTES).clamp(128, 8192);
        let charges_at = align(functions_at + functions * FUNCTION_BYTES);
        let flights_at = align(charges_at + charges * CHARGE_BYTES);
        let partitions_at = align(flights_at + FLIGHTS_BYTES);
        let room = total - partitions_at;
        let partitions = previous_power_of_two(room / PARTITION_MIN_BYTES).clamp(1, MAX_PARTITIONS);
        let partition_bytes = (room / partitions) & !(BLOCK - 1);

        let estimate = (partition_bytes - PARTITION_HEAD_BYTES) / (BLOCK + BLOCK_OVERHEAD);
        let buckets = previous_power_of_two(estimate / 4).max(64);
        let buckets_at = PARTITION_HEAD_BYTES;
        let next_at = align(buckets_at + buckets * 4);
        let blocks = (partition_bytes - next_at - 4 * BLOCK) / (BLOCK + 9);
        let state_at = align(next_at + blocks * 4);
        let credit_at = align(state_at + blocks * 4);
        let blocks_at = align(credit_at + blocks);
        Layout {
            total,
            slots: slots as u32,
            slots_at,
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
            next_at,
            state_at,
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
    bytes.next_multiple_of(BLOCK)
}

fn previous_power_of_two(n: usize) -> usize {
    if n == 0 { 1 } else { 1 << n.ilog2() }
}
