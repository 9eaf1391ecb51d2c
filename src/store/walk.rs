//! Looking through the entries of a partition.
//!
//! The map of heads says where entries begin. A walk goes through it from block to block, a part under each hold of the lock, which is
//! shared; what it wants of an entry is copied into memory that was there before, and looked at when the lock has been let go. An
//! entry that lives as long as the walk takes is met once; one that comes or goes meanwhile, once or not at all.

#![allow(unsafe_code)]

use super::area::Area;
use super::locks::{Hold, lock_partition, lock_partition_shared, step};
use super::lookup::{EntryId, MAX_DEPENDENCIES};
use super::partition::{EntryHead, Partition};
use super::removal::{NO_DEPENDENCIES, RELEASED, dependencies, discard, remove};
use crate::validity::Dependency;
use pg_query_cache_eviction::NIL;

/// Entries that are looked at under one hold.
const ENTRIES: usize = 64;
/// Blocks whose map is looked through under one hold: a thousand words.
const WINDOW: u32 = 64 * 1024;
/// Entries that are removed under one hold.
const REMOVED: usize = 16;

/// A copy of an entry.
pub struct Seen {
    /// Which one.
    pub id: EntryId,
    /// Its fixed fields.
    pub head: EntryHead,
    /// Its dependencies.
    pub dependencies: Vec<Dependency>,
}

/// An entry as a walk sees it.
pub struct View<'a> {
    /// Which one.
    pub id: EntryId,
    /// A copy of its fixed fields.
    pub head: &'a EntryHead,
    /// A copy of its dependencies.
    pub dependencies: &'a [Dependency],
}

/// What is done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it.
    Keep,
    /// Remove it.
    Remove,
}

/// Shows all entries of a partition that are `wanted`, which is asked under the lock, to `visit`, which is not.
pub fn walk(
    partition: Partition,
    wanted: impl Fn(&EntryHead) -> bool,
    mut visit: impl FnMut(View<'_>),
) {
    let mut heads: Vec<(u32, EntryHead, usize)> = Vec::with_capacity(ENTRIES);
    let mut all: Vec<Dependency> = Vec::with_capacity(ENTRIES * MAX_DEPENDENCIES);
    let (map, mut at) = (partition.heads(), 0);
    while at < partition.blocks() {
        heads.clear();
        all.clear();
        let end = at.saturating_add(WINDOW).min(partition.blocks());
        {
            let _guard = lock_partition_shared(partition.index, Hold::Look);
            step((WINDOW / u64::BITS) as usize);
            for _ in 0..ENTRIES {
                let Some(block) = map.next_taken(at..end) else {
                    at = end;
                    break;
                };
                step(1);
                at = block + 1;
                let head = partition.copy_entry(block);
                if wanted(&head) {
                    let mut room = NO_DEPENDENCIES;
                    all.extend_from_slice(dependencies(partition, block, &head, &mut room));
                    heads.push((block, head, all.len()));
                }
            }
        }
        let mut from = 0;
        for (block, head, until) in &heads {
            visit(View {
                id: EntryId {
                    partition: partition.index,
                    block: *block,
                    serial: head.serial(),
                },
                head,
                dependencies: &all[from..*until],
            });
            from = *until;
        }
    }
}

/// Removes the entries of a partition that are `wanted` and for which `judge` says so. Returns how many.
pub fn sweep(
    partition: Partition,
    wanted: impl Fn(&EntryHead) -> bool,
    mut judge: impl FnMut(View<'_>) -> Verdict,
) -> u64 {
    let (mut doomed, mut removed) = (Vec::with_capacity(REMOVED), 0);
    walk(partition, wanted, |view| {
        let id = view.id;
        if judge(view) == Verdict::Remove {
            doomed.push(id);
            if doomed.len() == REMOVED {
                removed += remove_all(partition, &doomed);
                doomed.clear();
            }
        }
    });
    removed + remove_all(partition, &doomed)
}

/// Removes some entries, those that are gone left out. Returns how many.
fn remove_all(partition: Partition, doomed: &[EntryId]) -> u64 {
    let mut removed = 0;
    for some in doomed.chunks(REMOVED) {
        let mut rests = [NIL; REMOVED];
        {
            let _guard = lock_partition(partition.index, Hold::Remove);
            let mut budget = RELEASED;
            for (id, rest) in some.iter().zip(&mut rests) {
                if partition.is_alive(id.block, id.serial) {
                    *rest = remove(partition, id.block, &mut budget);
                    removed += 1;
                }
            }
        }
        rests.into_iter().for_each(|rest| discard(partition, rest));
    }
    removed
}

/// Removes the entries of a database.
pub fn remove_database(area: Area, database: u32) {
    for partition in area.partitions() {
        sweep(
            partition,
            |head| head.database == database,
            |_| Verdict::Remove,
        );
    }
}

/// Removes the entries of a database that were added while it had no state to count them in. For its worker, which has one.
pub fn remove_uncounted(area: Area, database: u32) {
    for partition in area.partitions() {
        sweep(
            partition,
            |head| head.database == database && head.placed == 0,
            |_| Verdict::Remove,
        );
    }
}

/// Copies of the entries of a partition that are wanted.
pub fn survey(partition: Partition, wanted: impl Fn(&EntryHead) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    walk(partition, wanted, |view| {
        seen.push(Seen {
            id: view.id,
            head: *view.head,
            dependencies: view.dependencies.to_vec(),
        });
    });
    seen
}

/// How many entries of all partitions are wanted.
pub fn count(area: Area, wanted: impl Fn(&EntryHead) -> bool) -> u64 {
    let mut count = 0;
    for partition in area.partitions() {
        walk(partition, &wanted, |_| count += 1);
    }
    count
}

/// Key and value of an entry seen before; `None` if it is gone. The bytes of an entry never change while it lives, so they are copied
/// without the lock, and it is looked whether it still lives.
pub fn contents(area: Area, seen: &Seen) -> Option<(Vec<u8>, Vec<u8>)> {
    let (id, entry) = (seen.id, &seen.head);
    let partition = area.partition(id.partition);
    let mut key = entry.key_start().to_vec();
    let start = key.len();
    key.resize(start + entry.key_rest(), 0);
    let mut value = vec![0; entry.value_length as usize];
    let mut cursor = partition.payload(id.block);
    cursor.skip(entry.dependency_bytes());
    // SAFETY: both have the length that is copied; the partition has a block that an entry was seen at.
    let copied = unsafe {
        cursor.copy_out(key.as_mut_ptr().add(start), entry.key_rest())
            && cursor.copy_out(value.as_mut_ptr(), value.len())
    };
    let _guard = lock_partition_shared(id.partition, Hold::Look);
    (copied && partition.is_alive(id.block, id.serial)).then_some((key, value))
}

/// Changes fixed fields of an entry that say so (`hits_written`, `persisted`). `false` if it is gone.
pub fn amend(area: Area, id: EntryId, change: impl FnOnce(&mut EntryHead)) -> bool {
    let partition = area.partition(id.partition);
    let _guard = lock_partition(id.partition, Hold::Entry);
    let alive = partition.is_alive(id.block, id.serial);
    if alive {
        partition.amend(id.block, change);
    }
    alive
}
