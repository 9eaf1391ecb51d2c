//! Making room: blocks for an entry, and a place for it among those of its database.
//!
//! Which entry leaves the eviction queue says (`pg_query_cache_eviction`). Entries leave a few at a time, and the partition's lock is let
//! go in between; what a claim has taken by then stays its own. The map of blocks is searched only once as much is free as is wanted,
//! and again only once clearly more is: the work grows with what leaves, not with its square.
//!
//! A database that has as many entries as it may finds one of its own by the ring of its entries (`super::partition`), however many
//! there are of others.
//!
//! The lock of one partition is held at a time.

#![allow(unsafe_code)]

use super::area::{Area, DatabaseState};
use super::locks::{Hold, lock_partition};
use super::partition::{Claim, EntryHead, Partition};
use super::removal::{NO_DEPENDENCIES, RELEASED, dependencies, discard, remove, unlink};
use crate::fault::{self, Point};
use pg_query_cache_eviction::NIL;
use std::sync::atomic::Ordering;

/// So many entries leave under one hold.
const LEAVING: usize = 16;
/// So many parts of the map are searched before anything leaves for it: free blocks may be further on.
const SEARCHES: u32 = 4;
/// Of the entries of a database so many are compared before the one with the least credit leaves.
const COMPARED: usize = 16;

/// Takes room for an entry with so many bytes of payload; evicts as many entries as that takes. Returns its first block.
pub fn reserve(area: Area, partition: Partition, payload: usize) -> Option<u32> {
    let mut claim = Claim::new(payload);
    // Others take what is freed, too: after so many turns they have it.
    let turns = 256 + claim.blocks();
    // The rest of an entry that has left, how much has to be free before it is worth a search, and how often there was none.
    let (mut rest, mut goal, mut searched) = (NIL, 0, 0);
    let mut empty = false;
    for _ in 0..turns {
        let _guard = lock_partition(partition.index, Hold::Room);
        let mut budget = RELEASED;
        rest = partition.release(rest, &mut budget);
        for _ in 0..LEAVING {
            if rest != NIL || partition.counts().1 >= goal.max(claim.blocks()) {
                break;
            }
            let Some(victim) = evict(area, partition) else {
                empty = true;
                break;
            };
            rest = partition.release(victim, &mut budget);
        }
        let free = partition.counts().1;
        if free >= goal.max(claim.blocks()) || empty {
            let wanted = claim.blocks();
            partition.claim(&mut claim, empty || free / 2 >= wanted);
            searched += 1;
            if claim.blocks() < wanted {
                (goal, searched) = (0, 0);
            }
        }
        if claim.is_whole() || empty && (free < claim.blocks() || searched > partition.windows()) {
            break;
        }
        if !empty && searched >= SEARCHES.min(partition.windows()) {
            searched = 0;
            goal = free.saturating_add((claim.blocks() / 8).max(32));
        }
    }
    discard(partition, rest);
    if claim.is_whole() {
        return Some(claim.first());
    }
    discard(partition, claim.first());
    None
}

/// Takes the entry out that leaves next; `None` if there is none. Its chain is the caller's. The lock is held.
fn evict(area: Area, partition: Partition) -> Option<u32> {
    let victim = partition.with_queue(|queue, entries| queue.evict(entries))?;
    leave(area, partition, victim);
    Some(victim)
}

/// An entry that is out of the queue leaves. The lock is held.
fn leave(area: Area, partition: Partition, victim: u32) {
    fault::fenced(Point::Evicting);
    let entry = partition.copy_entry(victim);
    note_eviction(area, &entry);
    unlink(partition, victim, &entry);
    fault::fenced(Point::Releasing);
}

/// Counts an eviction; an entry that the table tier has can come back from there.
pub fn note_eviction(area: Area, entry: &EntryHead) {
    area.header().evictions.fetch_add(1, Ordering::Relaxed);
    if entry.persisted == 1
        && let Some(state) = area.with_place(entry.placed)
    {
        state.left_memory(1);
    }
}

/// Evicts an entry of a database, one that is expired `now` or invalidated before any other. Looks in the partition `first`, then in
/// the others. `false` if there is none.
pub fn evict_one_of(area: Area, state: &DatabaseState, first: u32, now: i64) -> bool {
    let (place, count) = (area.place_of(state), area.layout.partitions);
    (0..count)
        .map(|i| area.partition((first + i) % count))
        .filter(|partition| partition.may_have_of(place))
        .any(|partition| evict_in(area, partition, place, now))
}

/// Evicts entries of a database until it has no more than its limit. `stop` is asked between them. Returns how many.
pub fn shrink(area: Area, state: &DatabaseState, now: i64, mut stop: impl FnMut() -> bool) -> u64 {
    let mut evicted = 0;
    loop {
        let (limit, taken) = state.places.counts();
        let first = evicted as u32 % area.layout.partitions;
        if limit == 0 || taken <= limit || stop() || !evict_one_of(area, state, first, now) {
            return evicted;
        }
        evicted += 1;
    }
}

fn evict_in(area: Area, partition: Partition, place: u16, now: i64) -> bool {
    let slots = area.slots();
    let (mut some, mut count, mut worthless) = ([NIL; COMPARED], 0, None);
    let mut rest = NIL;
    let found = {
        let _guard = lock_partition(partition.index, Hold::Room);
        partition.next_of_owner(place, |block| {
            let entry = partition.copy_entry(block);
            let mut room = NO_DEPENDENCIES;
            if now >= entry.expires_at
                || slots.is_dead(dependencies(partition, block, &entry, &mut room))
            {
                worthless = Some(block);
                return false;
            }
            some[count] = block;
            count += 1;
            count < COMPARED && partition.has_credit(block)
        });
        let mut budget = RELEASED;
        if let Some(block) = worthless {
            note_eviction(area, &partition.copy_entry(block));
            rest = remove(partition, block, &mut budget);
        } else if let Some(victim) =
            partition.with_queue(|queue, entries| queue.evict_one_of(entries, &some[..count]))
        {
            leave(area, partition, victim);
            rest = partition.release(victim, &mut budget);
        }
        count > 0 || worthless.is_some()
    };
    discard(partition, rest);
    found
}
