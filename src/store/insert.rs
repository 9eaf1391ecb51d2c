//! Adding and removing entries.
//!
//! An entry is added in three steps, so that no lock is held while bytes are copied: *reserve* blocks under the partition's lock
//! (evicting what has to go), *write* the entry into them, *publish* it under the lock. Nothing between reserving and publishing
//! can raise an ERROR; a backend killed there makes the server start over with empty shared memory, so no block is lost.
//!
//! Before that the entry takes one of the places that its database may have in memory (`max_entries`), so there are never more entries
//! than places. If none is left an entry of that database leaves: one under the same key, else one from the same partition, else one
//! from another. The lock of one partition is held at a time.

#![allow(unsafe_code)]

use super::area::{Area, DatabaseState, area};
use super::locks::{lock_partition, lock_partition_shared};
use super::lookup::{EntryId, MAX_DEPENDENCIES};
use super::partition::{EntryHead, Partition, blocks_for};
use crate::fault::{self, Point};
use crate::validity::Dependency;
use pg_query_cache_eviction::Rank;
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
    head.placed = u8::from(place.is_some());
    let Some(block) = reserve(area, partition, head.payload()) else {
        if let Some(state) = place {
            state.places.give_back();
        }
        return Err(NotStored::NoRoom);
    };
    fault::fenced(Point::Reserved);

    // SAFETY: the blocks are reserved for us alone.
    unsafe { partition.entry(block).write(head) };
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

    let _guard = lock_partition(partition.index);
    if let Some(old) = partition.find(head.hash, new.key) {
        remove_locked(partition, old);
    }
    Ok(publish_locked(partition, block, &head))
}

/// An insertion makes room this often at most, then the result is not stored: others are taking each place that it frees.
const MAX_EVICTIONS: usize = 64;
/// How many entries of a partition are walked over to find one of a certain database, before the next partition is tried.
const SHORT_WALK: usize = 1024;

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
        if attempt == 0 {
            let _guard = lock_partition(partition.index);
            if let Some(old) = partition.find(head.hash, key) {
                remove_locked(partition, old);
                continue;
            }
        }
        if !evict_one_of(area, database, partition.index, head.created_at) {
            break;
        }
    }
    Err(NotStored::NoRoom)
}

/// Evicts an entry of a database, one that is expired `now` or invalidated before any other. Looks in the partition `first`, then in
/// the others; a short way into each, then all the way. `false` if there is none.
pub fn evict_one_of(area: Area, database: pg_sys::Oid, first: u32, now: i64) -> bool {
    let count = area.layout.partitions;
    [SHORT_WALK, usize::MAX].into_iter().any(|steps| {
        (0..count).any(|i| {
            let partition = area.partition((first + i) % count);
            evict_in(area, partition, database.to_u32(), steps, now)
        })
    })
}

/// Evicts entries of a database until it has no more than its limit. `stop` is asked between them. Returns how many.
pub fn shrink(area: Area, state: &DatabaseState, now: i64, mut stop: impl FnMut() -> bool) -> u64 {
    let database = state.database.load(Ordering::Acquire).into();
    let mut evicted = 0;
    loop {
        let (limit, taken) = state.places.counts();
        let first = evicted as u32 % area.layout.partitions;
        if limit == 0 || taken <= limit || stop() || !evict_one_of(area, database, first, now) {
            return evicted;
        }
        evicted += 1;
    }
}

/// Removes the entries of a database that were added while it had no state to count them in. For its worker, which has one.
pub fn remove_uncounted(area: Area, database: pg_sys::Oid) {
    for partition in area.partitions() {
        sweep(partition, |head, _| {
            if head.database == database.to_u32() && head.placed == 0 {
                Verdict::Remove
            } else {
                Verdict::Keep
            }
        });
    }
}

fn evict_in(area: Area, partition: Partition, database: u32, steps: usize, now: i64) -> bool {
    let slots = area.slots();
    let mut dependencies = Vec::with_capacity(MAX_DEPENDENCIES);
    let _guard = lock_partition(partition.index);
    // SAFETY: the lock is held.
    let head = unsafe { &mut *partition.head_mut() };
    let rank = |block| {
        // SAFETY: the lock is held; the block heads a live entry.
        let entry = unsafe { *partition.entry(block) };
        if entry.database != database {
            return Rank::Other;
        }
        read_dependencies(partition, block, &entry, &mut dependencies);
        if now >= entry.expires_at || slots.is_dead(&dependencies) {
            Rank::Worthless
        } else {
            Rank::Candidate
        }
    };
    let Some(victim) = head.queue.evict_among(&mut { partition }, steps, rank) else {
        return false;
    };
    fault::fenced(Point::Evicting);
    note_eviction(area, partition, victim);
    unlink(partition, victim);
    release(partition, victim);
    true
}

/// Takes room for an entry with so many bytes of payload; evicts as many entries as that takes.
fn reserve(area: Area, mut partition: Partition, payload: usize) -> Option<u32> {
    let _guard = lock_partition(partition.index);
    // SAFETY: the lock is held.
    let head = unsafe { &mut *partition.head_mut() };
    loop {
        if let Some(block) = partition.allocate(payload) {
            return Some(block);
        }
        let victim = head.queue.evict(&mut partition)?;
        fault::fenced(Point::Evicting);
        note_eviction(area, partition, victim);
        unlink(partition, victim);
        release(partition, victim);
    }
}

/// Counts an eviction; an entry that the table tier has can come back from there. The lock is held.
fn note_eviction(area: Area, partition: Partition, block: u32) {
    area.header().evictions.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the lock is held; the block heads a live entry.
    let entry = unsafe { &*partition.entry(block) };
    if entry.persisted == 1
        && let Some(state) = area.database(entry.database.into())
    {
        state.left_memory(1);
    }
}

/// Makes a written entry visible. The lock is held.
fn publish_locked(mut partition: Partition, block: u32, entry: &EntryHead) -> EntryId {
    // SAFETY: the lock is held.
    let head = unsafe { &mut *partition.head_mut() };
    head.queue.insert(&mut partition, block, entry.priority);
    head.entries.fetch_add(1, Ordering::Relaxed);
    head.changes.fetch_add(1, Ordering::Relaxed);
    let serial = partition.number(block);
    fault::fenced(Point::Linking);
    partition.heads().take(block..block + 1);
    partition.link(block, entry.hash);
    fault::fenced(Point::Linked);
    EntryId {
        partition: partition.index,
        block,
        serial,
    }
}

/// Takes an entry out of everything and frees its blocks. The lock is held.
fn remove_locked(mut partition: Partition, block: u32) {
    // SAFETY: the lock is held.
    let head = unsafe { &mut *partition.head_mut() };
    head.queue.remove(&mut partition, block);
    unlink(partition, block);
    release(partition, block);
}

/// Takes an entry, already out of the queue, out of its bucket. The lock is held.
fn unlink(partition: Partition, block: u32) {
    // SAFETY: the lock is held.
    let (entry, head) = unsafe { (*partition.entry(block), &*partition.head_mut()) };
    partition.unlink(block, entry.hash);
    head.entries.fetch_sub(1, Ordering::Relaxed);
    head.changes.fetch_add(1, Ordering::Relaxed);
    if entry.placed == 1
        && let Some(state) = area().and_then(|area| area.database(entry.database.into()))
    {
        state.places.give_back();
    }
}

/// Frees the blocks of an entry that is in no list any more. The lock is held.
fn release(partition: Partition, block: u32) {
    partition.heads().free(block..block + 1);
    fault::fenced(Point::Releasing);
    partition.release(block);
}

/// What a walk wants done with an entry.
pub enum Verdict {
    /// Leave it.
    Keep,
    /// Remove it.
    Remove,
}

/// A copy of an entry, taken under the lock.
pub struct Seen {
    /// Which one.
    pub id: EntryId,
    /// Its fixed fields.
    pub head: EntryHead,
    /// Its dependencies.
    pub dependencies: Vec<Dependency>,
}

/// Walks through all entries of a partition under its lock and removes those for which `judge` says so. Returns how many.
pub fn sweep(
    partition: Partition,
    mut judge: impl FnMut(&EntryHead, &[Dependency]) -> Verdict,
) -> u64 {
    let mut dependencies = Vec::with_capacity(MAX_DEPENDENCIES);
    let _guard = lock_partition(partition.index);
    let mut removed = 0;
    for block in live_blocks(partition) {
        // SAFETY: the lock is held; the block heads a live entry.
        let entry = unsafe { *partition.entry(block) };
        read_dependencies(partition, block, &entry, &mut dependencies);
        if matches!(judge(&entry, &dependencies), Verdict::Remove) {
            remove_locked(partition, block);
            removed += 1;
        }
    }
    removed
}

/// Copies of the fixed fields and dependencies of the entries of a partition for which `wanted` says so.
pub fn survey(partition: Partition, mut wanted: impl FnMut(&EntryHead) -> bool) -> Vec<Seen> {
    let mut seen = Vec::with_capacity(partition.counts().0 as usize + 16);
    let _guard = lock_partition_shared(partition.index);
    for block in live_blocks(partition) {
        // SAFETY: the lock is held; the block heads a live entry.
        let head = unsafe { *partition.entry(block) };
        if wanted(&head) {
            let mut dependencies = Vec::new();
            read_dependencies(partition, block, &head, &mut dependencies);
            seen.push(Seen {
                id: EntryId {
                    partition: partition.index,
                    block,
                    serial: head.serial(),
                },
                head,
                dependencies,
            });
        }
    }
    seen
}

/// How many entries of a partition are wanted.
pub fn count(partition: Partition, wanted: impl Fn(&EntryHead) -> bool) -> u64 {
    let _guard = lock_partition_shared(partition.index);
    live_blocks(partition)
        .into_iter()
        // SAFETY: the lock is held; the block heads a live entry.
        .filter(|block| wanted(unsafe { &*partition.entry(*block) }))
        .count() as u64
}

/// Key and value of an entry seen before; `None` if it is gone.
pub fn contents(area: Area, id: EntryId) -> Option<(Vec<u8>, Vec<u8>)> {
    let partition = area.partition(id.partition);
    let _guard = lock_partition_shared(id.partition);
    if !partition.is_alive(id.block, id.serial) {
        return None;
    }
    // SAFETY: the lock is held; the entry lives.
    let entry = unsafe { *partition.entry(id.block) };
    let mut cursor = partition.payload(id.block);
    cursor.skip(entry.dependency_bytes());
    let mut key = entry.key_start().to_vec();
    let start = key.len();
    key.resize(start + entry.key_rest(), 0);
    let mut value = vec![0; entry.value_length as usize];
    // SAFETY: both have the length that is copied.
    unsafe {
        (cursor.copy_out(key.as_mut_ptr().add(start), entry.key_rest())
            && cursor.copy_out(value.as_mut_ptr(), value.len()))
        .then_some((key, value))
    }
}

/// Changes fixed fields of an entry that nobody reads without the lock (`hits`, `hits_written`, `persisted`). `false` if it is gone.
pub fn amend(area: Area, id: EntryId, change: impl FnOnce(&mut EntryHead)) -> bool {
    let partition = area.partition(id.partition);
    let _guard = lock_partition(id.partition);
    let alive = partition.is_alive(id.block, id.serial);
    if alive {
        // SAFETY: the lock is held; the entry lives.
        change(unsafe { &mut *partition.entry(id.block) });
    }
    alive
}

/// So many hits of an entry handed over at once make it the first of its bucket. One alone says little, and where all keys are asked at
/// random nothing is gained by an order.
const OFTEN: u32 = 2;

/// Adds hits to entries, those that are gone left out. The lock of each partition is taken once.
pub fn add_hits(area: Area, mut hits: Vec<(EntryId, u32)>) {
    hits.sort_unstable_by_key(|(entry, _)| (entry.partition, entry.block));
    for of_one in hits.chunk_by(|(a, _), (b, _)| a.partition == b.partition) {
        let partition = area.partition(of_one[0].0.partition);
        let _guard = lock_partition(partition.index);
        for (entry, more) in of_one {
            if partition.is_alive(entry.block, entry.serial) {
                // SAFETY: the lock is held; the entry lives.
                let hits = unsafe { &mut (*partition.entry(entry.block)).hits };
                *hits = hits.saturating_add(*more);
                if *more >= OFTEN {
                    partition.put_first(entry.block);
                }
            }
        }
    }
}

fn read_dependencies(
    partition: Partition,
    block: u32,
    entry: &EntryHead,
    into: &mut Vec<Dependency>,
) {
    let count = (entry.dependencies as usize).min(MAX_DEPENDENCIES);
    into.clear();
    into.reserve(count);
    // SAFETY: room for `count` was reserved; any bytes make a Dependency.
    unsafe {
        if partition
            .payload(block)
            .copy_out(into.as_mut_ptr().cast(), count * size_of::<Dependency>())
        {
            into.set_len(count);
        }
    }
}

/// First blocks of all entries. The lock is held until the last one is used.
fn live_blocks(partition: Partition) -> Vec<u32> {
    // SAFETY: the lock is held.
    let queue = unsafe { &(*partition.head_mut()).queue };
    let mut blocks = Vec::with_capacity(partition.counts().0 as usize);
    blocks.extend(queue.ids(&partition));
    blocks
}
