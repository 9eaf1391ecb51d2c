//! The extension's policy, from its own crate, over vectors in place of shared memory.

use std::collections::HashMap;

use pg_query_cache_eviction::{Entries, Id, NIL, Queue};

use super::Cache;
use super::random::mixed;

/// Memory for ghosts per entry: two bits for each of the nineteen blocks that an entry of 1 KB has in the extension.
const GHOST_BITS: usize = 38;

/// Caches for a part of the keys each, as the extension has them.
pub(super) struct Partitions(Vec<Partition>);

impl Partitions {
    /// With room for so many keys together.
    pub(super) fn new(partitions: usize, room: usize) -> Self {
        Partitions(
            (0..partitions)
                .map(|_| Partition::new(room / partitions))
                .collect(),
        )
    }
}

impl Cache for Partitions {
    fn request(&mut self, key: u64) -> bool {
        let hash = mixed(key ^ 0x5851_f42d);
        let partition = (hash >> 58) as usize % self.0.len();
        self.0[partition].request(hash)
    }
}

struct Partition {
    queue: Queue,
    slots: Slots,
    /// The entry of each key; keys are known by their hashes.
    entries: HashMap<u64, Id>,
    room: usize,
}

impl Partition {
    fn new(room: usize) -> Self {
        Partition {
            queue: Queue::new(),
            slots: Slots {
                slots: Vec::with_capacity(room),
                ghosts: vec![0; room * GHOST_BITS / 64],
            },
            entries: HashMap::new(),
            room,
        }
    }

    fn request(&mut self, hash: u64) -> bool {
        if let Some(id) = self.entries.get(&hash) {
            // As the extension does without a lock.
            if self.slots.credit(*id) == 0 {
                self.slots.set_credit(*id, 1);
            }
            return true;
        }
        let slot = Slot {
            hash,
            next: NIL,
            previous: NIL,
            credit: 0,
            established: false,
        };
        let full = self.slots.slots.len() == self.room;
        let id = if full && let Some(id) = self.queue.evict(&mut self.slots) {
            self.entries.remove(&self.slots.hash(id));
            self.slots.slots[id as usize] = slot;
            id
        } else {
            self.slots.slots.push(slot);
            self.slots.slots.len() as Id - 1
        };
        self.entries.insert(hash, id);
        self.queue.insert(&mut self.slots, id, 0);
        false
    }
}

struct Slot {
    hash: u64,
    next: Id,
    previous: Id,
    credit: u8,
    established: bool,
}

struct Slots {
    slots: Vec<Slot>,
    ghosts: Vec<u64>,
}

impl Entries for Slots {
    fn next(&self, id: Id) -> Id {
        self.slots[id as usize].next
    }
    fn previous(&self, id: Id) -> Id {
        self.slots[id as usize].previous
    }
    fn set_next(&mut self, id: Id, next: Id) {
        self.slots[id as usize].next = next;
    }
    fn set_previous(&mut self, id: Id, previous: Id) {
        self.slots[id as usize].previous = previous;
    }
    fn credit(&self, id: Id) -> u8 {
        self.slots[id as usize].credit
    }
    fn set_credit(&mut self, id: Id, credit: u8) {
        self.slots[id as usize].credit = credit;
    }
    fn established(&self, id: Id) -> bool {
        self.slots[id as usize].established
    }
    fn set_established(&mut self, id: Id, established: bool) {
        self.slots[id as usize].established = established;
    }
    fn weight(&self, _: Id) -> u32 {
        1
    }
    fn hash(&self, id: Id) -> u64 {
        self.slots[id as usize].hash
    }
    fn ghosts(&mut self) -> &mut [u64] {
        &mut self.ghosts
    }
}
