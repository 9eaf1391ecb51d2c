//! Adding entries.
//!
//! An entry is added in three steps, so that no lock is held while bytes are copied: *reserve* blocks under the partition's lock
//! (evicting what has to go, `super::eviction`), *write* the entry into them, *publish* it under the lock. Nothing between reserving and
//! publishing can raise an ERROR; a backend killed there makes the server start over with empty shared memory, so no block is lost.
//!
//! Before that the entry takes one of the places that its database may have in memory (`max_entries`), so there are never more entries
//! than places. If none is left an entry of that database leaves: one under the same key, else one from the same partition, else one
//! from another. The lock of one partition is held at a time.

#![allow(unsafe_code)]

use super::area::{Area, DatabaseState};
use super::eviction::{evict_one_of, note_eviction, reserve};
use super::locks::{Hold, lock_partition, step};
use super::lookup::{EntryId, MAX_DEPENDENCIES};
use super::partition::{EntryHead, Partition, blocks_for};
use super::removal::{RELEASED, discard, remove};
use crate::fault::{self, Point};
use crate::validity::Dependency;
use pg_query_cache_eviction::NIL;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;

/// A result to be stored.
pub struct NewEntry<'a> {
    /// Its fixed fields; lengths and counts are filled in from the slices.
    pub head: EntryHead,
    /// What it depends on.
    pub dependencies: &'a [Dependency],
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// What bounds the memory tier besides its size.
#[derive(Clone, Copy)]
pub struct Limits {
    /// The largest entry, in bytes.
    pub bytes: usize,
    /// The most entries of the database, 0 for no limit. Asked only if the database has no place among those that share a state, where
    /// the limit that counts is kept.
    pub entries: u32,
}

/// Why a result was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// Larger than `pg_query_cache.max_entry_size`, or than a partition can hold.
    TooLarge,
    /// No blocks could be had, or no place below `max_entries`.
    NoRoom,
}

/// Stores an entry; it takes the place of one with the same key.
pub fn insert(area: Area, new: NewEntry<'_>, limits: Limits) -> Result<EntryId, NotStored> {
    let mut head = new.head;
    let Some(key_rest) = head.rest_of(new.key) else {
        return Err(NotStored::TooLarge); // Cannot be: a key begins with its database and its function.
    };
    let count = new.dependencies.len();
    if !head.measure(count, key_rest.len(), new.value.len()) || count > MAX_DEPENDENCIES {
        return Err(NotStored::TooLarge);
    }
    let partition = area.partition_of(head.hash);
    // An entry takes at most a quarter of its partition: one large result must not drive out everything else.
    if head.payload() > limits.bytes || blocks_for(head.payload()) > partition.blocks() / 4 {
        return Err(NotStored::TooLarge);
    }
    let place = take_place(area, partition, &head, new.key, limits)?;
    head.placed = place.map_or(0, |state| area.place_of(state));
    let Some(block) = reserve(area, partition, head.payload()) else {
        if let Some(state) = place {
            state.places.give_back();
        }
        return Err(NotStored::NoRoom);
    };
    fault::fenced(Point::Reserved);

    partition.write_entry(block, &head);
    let mut cursor = partition.payload(block);
    // SAFETY: a Dependency is one word without padding.
    let dependencies = unsafe {
        std::slice::from_raw_parts(
            new.dependencies.as_ptr().cast::<u8>(),
            size_of_val(new.dependencies),
        )
    };
    cursor.write(dependencies);
    cursor.write(key_rest);
    cursor.write(new.value);
    Ok(publish(area, partition, block, &head, &new))
}

/// An insertion makes room this often at most, then the result is not stored: others are taking each place that it frees.
const MAX_EVICTIONS: usize = 64;

/// Takes a place for an entry of its database. `None` if the database has no state to count them in, and no limit.
fn take_place(
    area: Area,
    partition: Partition,
    head: &EntryHead,
    key: &[u8],
    limits: Limits,
) -> Result<Option<&'static DatabaseState>, NotStored> {
    let database = pg_sys::Oid::from(head.database);
    let Some(state) = area.database_or_new(database) else {
        return match limits.entries {
            0 => Ok(None),
            _ => Err(NotStored::NoRoom),
        };
    };
    for attempt in 0..MAX_EVICTIONS {
        if state.places.take() {
            if state.database.load(Ordering::Acquire) == head.database {
                return Ok(Some(state));
            }
            // The state has become another database's in between.
            state.places.give_back();
            return Err(NotStored::NoRoom);
        }
        if attempt == 0 && remove_key(partition, head.hash, key) {
            continue;
        }
        if !evict_one_of(area, state, partition.index, head.created_at) {
            break;
        }
    }
    Err(NotStored::NoRoom)
}

/// Removes the entry of a key. Whether there was one.
fn remove_key(partition: Partition, hash: u64, key: &[u8]) -> bool {
    let mut budget = RELEASED;
    let rest = {
        let _guard = lock_partition(partition.index, Hold::Entry);
        match partition.find(hash, key) {
            None => return false,
            Some(old) => remove(partition, old, &mut budget),
        }
    };
    discard(partition, rest);
    true
}

/// Makes a written entry visible in the place of the one that its key had, and of the last one of its bucket if that is full.
fn publish(
    area: Area,
    partition: Partition,
    block: u32,
    entry: &EntryHead,
    new: &NewEntry<'_>,
) -> EntryId {
    let (mut budget, mut rests) = (RELEASED / 2, [NIL; 2]);
    let serial = {
        let _guard = lock_partition(partition.index, Hold::Entry);
        if let Some(old) = partition.find(entry.hash, new.key) {
            rests[0] = remove(partition, old, &mut budget);
        } else if let Some(last) = partition.last_of_full_bucket(entry.hash) {
            note_eviction(area, &partition.copy_entry(last));
            rests[1] = remove(partition, last, &mut budget);
        }
        let head = partition.head();
        partition.with_queue(|queue, entries| queue.insert(entries, block, entry.priority));
        partition.add_to_owner(block, entry.placed);
        head.entries.fetch_add(1, Ordering::Relaxed);
        head.changes.fetch_add(1, Ordering::Relaxed);
        step(new.dependencies.len());
        for dependency in new.dependencies {
            area.tally(dependency.slot())
                .fetch_add(1, Ordering::Relaxed);
        }
        let serial = partition.number(block);
        fault::fenced(Point::Linking);
        partition.heads().take(block..block + 1);
        partition.link(block, entry.hash);
        fault::fenced(Point::Linked);
        serial
    };
    rests.into_iter().for_each(|rest| discard(partition, rest));
    EntryId {
        partition: partition.index,
        block,
        serial,
    }
}
