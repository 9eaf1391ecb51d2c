//! Which entry leaves when there is no room: SIEVE with credits.
//!
//! SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024) keeps the entries in the order of their
//! arrival. A hand walks from the oldest to the newest: an entry that was hit since the hand last passed is spared and its mark
//! taken off, the first one without a mark leaves. Nothing moves on a hit, so a hit needs no lock, and a scan of keys that never
//! come back passes through without driving out the ones that do.
//!
//! Here the mark is a small number, the *credit*: a hit raises it to at least one, priority gives a new entry some to start
//! with, and the hand takes one off at a time. With credits of 0 and 1 only it is SIEVE to the letter.
//!
//! The list lives in the caller's memory (shared memory in the extension, a `Vec` in the tests), behind [`Entries`].

#![forbid(unsafe_code)]

/// Number of an entry; [`NIL`] is none.
pub type Id = u32;

/// No entry.
pub const NIL: Id = u32::MAX;

/// The most credit an entry can have.
pub const MAX_CREDIT: u8 = 3;

/// The links and the credit of each entry.
pub trait Entries {
    /// The entry that arrived next after this one.
    fn newer(&self, id: Id) -> Id;
    /// The entry that arrived just before this one.
    fn older(&self, id: Id) -> Id;
    /// Sets what [`Entries::newer`] returns.
    fn set_newer(&mut self, id: Id, newer: Id);
    /// Sets what [`Entries::older`] returns.
    fn set_older(&mut self, id: Id, older: Id);
    /// How often the hand still spares the entry.
    fn credit(&self, id: Id) -> u8;
    /// Sets what [`Entries::credit`] returns.
    fn set_credit(&mut self, id: Id, credit: u8);
}

/// The queue: its ends and the hand. Plain data, so that it can lie in shared memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sieve {
    newest: Id,
    oldest: Id,
    hand: Id,
}

impl Default for Sieve {
    fn default() -> Self {
        Self::new()
    }
}

impl Sieve {
    /// An empty queue.
    pub const fn new() -> Self {
        Sieve {
            newest: NIL,
            oldest: NIL,
            hand: NIL,
        }
    }

    /// The oldest entry, [`NIL`] if there is none. From there [`Entries::newer`] leads through all.
    pub fn oldest(&self) -> Id {
        self.oldest
    }

    /// Adds a new entry with the credit that its priority gives it.
    pub fn insert(&mut self, entries: &mut impl Entries, id: Id, credit: u8) {
        entries.set_older(id, self.newest);
        entries.set_newer(id, NIL);
        entries.set_credit(id, credit.min(MAX_CREDIT));
        if self.newest == NIL {
            self.oldest = id;
        } else {
            entries.set_newer(self.newest, id);
        }
        self.newest = id;
    }

    /// Takes an entry out.
    pub fn remove(&mut self, entries: &mut impl Entries, id: Id) {
        let (newer, older) = (entries.newer(id), entries.older(id));
        if self.hand == id {
            self.hand = newer;
        }
        if newer == NIL {
            self.newest = older;
        } else {
            entries.set_older(newer, older);
        }
        if older == NIL {
            self.oldest = newer;
        } else {
            entries.set_newer(older, newer);
        }
    }

    /// Chooses the entry that leaves next and takes it out of the queue; `None` if the queue is empty.
    pub fn evict(&mut self, entries: &mut impl Entries) -> Option<Id> {
        if self.oldest == NIL {
            return None;
        }
        let mut id = if self.hand == NIL {
            self.oldest
        } else {
            self.hand
        };
        loop {
            match entries.credit(id) {
                0 => break,
                credit => entries.set_credit(id, credit.min(MAX_CREDIT) - 1),
            }
            id = match entries.newer(id) {
                NIL => self.oldest,
                newer => newer,
            };
        }
        self.hand = id;
        self.remove(entries, id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Links(Vec<(Id, Id, u8)>);

    impl Entries for Links {
        fn newer(&self, id: Id) -> Id {
            self.0[id as usize].0
        }
        fn older(&self, id: Id) -> Id {
            self.0[id as usize].1
        }
        fn set_newer(&mut self, id: Id, newer: Id) {
            self.0[id as usize].0 = newer;
        }
        fn set_older(&mut self, id: Id, older: Id) {
            self.0[id as usize].1 = older;
        }
        fn credit(&self, id: Id) -> u8 {
            self.0[id as usize].2
        }
        fn set_credit(&mut self, id: Id, credit: u8) {
            self.0[id as usize].2 = credit;
        }
    }

    fn queue(ids: &[Id]) -> (Sieve, Links) {
        let mut links = Links(vec![(NIL, NIL, 0); 64]);
        let mut sieve = Sieve::new();
        for &id in ids {
            sieve.insert(&mut links, id, 0);
        }
        (sieve, links)
    }

    fn in_order(sieve: &Sieve, links: &Links) -> Vec<Id> {
        let mut ids = Vec::new();
        let mut id = sieve.oldest();
        while id != NIL {
            ids.push(id);
            id = links.newer(id);
        }
        ids
    }

    #[test]
    fn nothing_leaves_an_empty_queue() {
        let (mut sieve, mut links) = queue(&[]);
        assert_eq!(sieve.evict(&mut links), None);
    }

    #[test]
    fn without_hits_the_oldest_leaves_first() {
        let (mut sieve, mut links) = queue(&[3, 1, 2]);
        let left: Vec<_> = std::iter::from_fn(|| sieve.evict(&mut links)).collect();
        assert_eq!(left, [3, 1, 2]);
    }

    #[test]
    fn a_hit_entry_is_spared_once() {
        let (mut sieve, mut links) = queue(&[0, 1, 2]);
        links.set_credit(0, 1);
        assert_eq!(sieve.evict(&mut links), Some(1));
        assert_eq!(sieve.evict(&mut links), Some(2));
        assert_eq!(sieve.evict(&mut links), Some(0));
    }

    #[test]
    fn the_hand_goes_on_where_it_stopped() {
        let (mut sieve, mut links) = queue(&[0, 1, 2, 3]);
        links.set_credit(0, 1);
        assert_eq!(sieve.evict(&mut links), Some(1));
        sieve.insert(&mut links, 1, 0);
        assert_eq!(
            sieve.evict(&mut links),
            Some(2),
            "not 0, though its credit is spent: the hand has passed it"
        );
    }

    #[test]
    fn priority_outlives_a_scan_of_that_many_rounds() {
        let (mut sieve, mut links) = queue(&[]);
        sieve.insert(&mut links, 0, 2);
        for id in 1..6 {
            sieve.insert(&mut links, id, 0);
        }
        let left: Vec<_> = std::iter::from_fn(|| sieve.evict(&mut links)).collect();
        assert_eq!(left, [1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn removal_keeps_the_rest_in_order_and_moves_the_hand() {
        let (mut sieve, mut links) = queue(&[0, 1, 2, 3, 4]);
        links.set_credit(0, 1);
        assert_eq!(sieve.evict(&mut links), Some(1));
        sieve.remove(&mut links, 2);
        assert_eq!(in_order(&sieve, &links), [0, 3, 4]);
        assert_eq!(sieve.evict(&mut links), Some(3));
        sieve.remove(&mut links, 4);
        sieve.remove(&mut links, 0);
        assert_eq!(sieve, Sieve::new());
    }

    #[test]
    fn a_damaged_credit_ends_too() {
        let (mut sieve, mut links) = queue(&[0]);
        links.set_credit(0, u8::MAX);
        assert_eq!(sieve.evict(&mut links), Some(0));
    }
}
