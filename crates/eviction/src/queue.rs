//! The policy: who leaves, from which ring, and who moves from one to the other.

use crate::ghosts::Ghosts;
use crate::ring::Ring;
use crate::{Entries, Id, MAX_CREDIT, NIL};

/// Probation has one part of so many of the room.
const PROBATION: u64 = 20;
/// So many entries are spared at most before one leaves that should be spared too. Where all have been hit, none is less worth than the
/// one whose turn it is, and no eviction takes longer than that.
pub const MOST_SPARED: usize = 256;

/// The queues of a set of entries. Plain data, so that it can lie in shared memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    probation: Ring,
    main: Ring,
    ghosts: Ghosts,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// Without entries.
    pub const fn new() -> Self {
        Queue {
            probation: Ring::new(),
            main: Ring::new(),
            ghosts: Ghosts::new(),
        }
    }

    /// Adds a new entry with the credit that its priority gives it.
    pub fn insert(&mut self, entries: &mut impl Entries, id: Id, credit: u8) {
        let hash = entries.hash(id);
        let established = self.ghosts.know(entries.ghosts(), hash);
        entries.set_established(id, established);
        entries.set_credit(id, credit.min(MAX_CREDIT));
        self.ring(established).push(entries, id);
    }

    /// Takes an entry out that has to go for another reason than lack of room. If it was of use, its key is known when it comes back.
    pub fn remove(&mut self, entries: &mut impl Entries, id: Id) {
        let of_use = entries.established(id) || entries.credit(id) > 0;
        self.take_out(entries, id, of_use);
    }

    /// Chooses the entry that leaves next and takes it out; `None` if there is none. Looks at [`MOST_SPARED`] others at most.
    pub fn evict(&mut self, entries: &mut impl Entries) -> Option<Id> {
        let mut spared = 0;
        loop {
            let id = self.ring(!self.probation_is_due()).hand;
            if id == NIL {
                return None;
            }
            if entries.credit(id) == 0 || spared == MOST_SPARED {
                self.take_out(entries, id, true);
                return Some(id);
            }
            spared += 1;
            self.spare(entries, id);
        }
    }

    /// Of some entries, given in the order in which their turn comes, takes out the one with the least credit, of several the first; the
    /// others are spared as if the hand had come to them. `None` if none is given.
    pub fn evict_one_of(&mut self, entries: &mut impl Entries, some: &[Id]) -> Option<Id> {
        let chosen = *some.iter().min_by_key(|id| entries.credit(**id))?;
        for id in some.iter().filter(|id| **id != chosen) {
            self.pay(entries, *id);
        }
        self.take_out(entries, chosen, true);
        Some(chosen)
    }

    /// Whether the next to leave is one on probation: they take more than their share, or there are no others.
    fn probation_is_due(&self) -> bool {
        let (probation, main) = (
            u64::from(self.probation.weight),
            u64::from(self.main.weight),
        );
        self.main.hand == NIL
            || self.probation.hand != NIL && probation * PROBATION > probation + main
    }

    fn ring(&mut self, established: bool) -> &mut Ring {
        if established {
            &mut self.main
        } else {
            &mut self.probation
        }
    }

    /// The hand passes an entry.
    fn spare(&mut self, entries: &mut impl Entries, id: Id) {
        if entries.established(id) {
            self.main.hand = entries.next(id);
        }
        self.pay(entries, id);
    }

    /// An entry pays for being spared with one credit, and is established from then on.
    fn pay(&mut self, entries: &mut impl Entries, id: Id) {
        let left = entries.credit(id).min(MAX_CREDIT).saturating_sub(1);
        entries.set_credit(id, left);
        if !entries.established(id) {
            self.probation.remove(entries, id);
            entries.set_established(id, true);
            self.main.push(entries, id);
        }
    }

    fn take_out(&mut self, entries: &mut impl Entries, id: Id, with_ghost: bool) {
        if with_ghost {
            let all = self.probation.count.saturating_add(self.main.count);
            let hash = entries.hash(id);
            // A quarter more keys than entries: with fewer, rising keys are noticed later than LRU would keep them.
            self.ghosts
                .note(entries.ghosts(), hash, all.saturating_add(all / 4));
        }
        let established = entries.established(id);
        self.ring(established).remove(entries, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn queue(ids: &[Id]) -> (Queue, Table) {
        let mut table = Table::new(64, 1024);
        let mut queue = Queue::new();
        for &id in ids {
            queue.insert(&mut table, id, 0);
        }
        (queue, table)
    }

    fn all(mut queue: Queue, mut table: Table) -> Vec<Id> {
        std::iter::from_fn(|| queue.evict(&mut table)).collect()
    }

    #[test]
    fn nothing_leaves_an_empty_queue() {
        let (mut queue, mut table) = queue(&[]);
        assert_eq!(queue.evict(&mut table), None);
        assert_eq!(queue.evict_one_of(&mut table, &[]), None);
    }

    #[test]
    fn without_hits_the_oldest_leaves_first() {
        let (queue, table) = queue(&[3, 1, 2]);
        assert_eq!(all(queue, table), [3, 1, 2]);
    }

    #[test]
    fn a_hit_entry_is_established_and_outlives_those_that_are_not() {
        let (mut queue, mut table) = queue(&[0, 1, 2]);
        table.credits[0] = 1;
        assert_eq!(queue.evict(&mut table), Some(1));
        assert!(table.established(0));
        assert_eq!(all(queue, table), [2, 0]);
    }

    #[test]
    fn each_round_of_the_main_queue_costs_a_hit() {
        let (mut queue, mut table) = queue(&[0, 1, 2]);
        table.credits[..3].fill(1);
        assert_eq!(queue.evict(&mut table), Some(0), "all are established");
        table.credits[1] = 1;
        assert_eq!(all(queue, table), [2, 1]);
    }

    #[test]
    fn a_scan_passes_through_probation() {
        let (mut queue, mut table) = queue(&(0..40).collect::<Vec<_>>());
        table.credits[..37].fill(1);
        for scanned in 0..1000 {
            let id = queue.evict(&mut table).unwrap_or(NIL);
            assert!(id >= 37, "{id} was hit and leaves");
            table.hashes[id as usize] = 1000 + scanned;
            queue.insert(&mut table, id, 0);
        }
    }

    #[test]
    fn a_key_that_comes_back_soon_is_established_at_once() {
        let (mut queue, mut table) = queue(&[0, 1]);
        assert_eq!(queue.evict(&mut table), Some(0));
        queue.insert(&mut table, 0, 0);
        assert!(table.established(0));
        assert_eq!(all(queue, table), [1, 0]);
    }

    #[test]
    fn a_removed_key_is_known_if_it_was_of_use() {
        let (mut queue, mut table) = queue(&[0, 1]);
        table.credits[0] = 1;
        for id in 0..2 {
            queue.remove(&mut table, id);
            queue.insert(&mut table, id, 0);
        }
        assert!(table.established(0) && !table.established(1));
    }

    #[test]
    fn probation_has_its_share_by_weight() {
        let (mut queue, mut table) = queue(&[]);
        table.weights[0] = 94;
        table.weights[1..4].fill(2);
        for id in 0..4 {
            queue.insert(&mut table, id, u8::from(id == 0));
        }
        // 0 is established, then 6 of 100 are too much for probation, and 4 of 98 are not.
        assert_eq!(queue.evict(&mut table), Some(1));
        assert_eq!(queue.evict(&mut table), Some(0));
    }

    #[test]
    fn priority_outlives_a_scan_of_that_many_rounds() {
        let (mut queue, mut table) = queue(&[]);
        for id in 0..6 {
            queue.insert(&mut table, id, if id < 3 { id as u8 + 1 } else { 0 });
        }
        assert_eq!(all(queue, table), [3, 4, 5, 0, 1, 2]);
    }

    #[test]
    fn of_some_the_one_with_the_least_credit_leaves_and_the_others_pay() {
        let (mut queue, mut table) = queue(&[0, 2, 4, 5]);
        table.credits[..6].copy_from_slice(&[3, 0, 1, 0, 2, 3]);
        assert_eq!(queue.evict_one_of(&mut table, &[0, 2, 4]), Some(2));
        assert_eq!(
            (table.credits[0], table.credits[4], table.credits[5]),
            (2, 1, 3)
        );
        assert!(table.established(0) && table.established(4) && !table.established(5));
    }

    #[test]
    fn of_equals_the_first_leaves() {
        let (mut queue, mut table) = queue(&[1, 3, 5]);
        assert_eq!(queue.evict_one_of(&mut table, &[3, 5]), Some(3));
        assert_eq!(all(queue, table), [1, 5]);
    }

    #[test]
    fn one_leaves_though_all_should_be_spared() {
        let count = MOST_SPARED as Id + 10;
        let mut table = Table::new(count as usize, 0);
        let mut queue = Queue::new();
        for id in 0..count {
            queue.insert(&mut table, id, MAX_CREDIT);
        }
        let left = queue.evict(&mut table);
        assert!(left.is_some_and(|id| table.credits[id as usize] > 0));
        let credits: usize = table.credits.iter().map(|credit| *credit as usize).sum();
        assert_eq!(credits, count as usize * MAX_CREDIT as usize - MOST_SPARED);
    }

    #[test]
    fn a_damaged_credit_ends_too() {
        let (mut queue, mut table) = queue(&[0, 2]);
        table.credits[0] = u8::MAX;
        table.credits[2] = u8::MAX;
        let (mut of_some, mut others) = (queue, table.clone());
        assert_eq!(queue.evict(&mut table), Some(0));
        assert_eq!(of_some.evict_one_of(&mut others, &[0, 2]), Some(0));
        assert!(others.credits[2] < MAX_CREDIT);
    }

    /// A generator of numbers (xorshift64, Marsaglia 2003).
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// Both rings lead around in both directions, hold who they should, and add up.
    fn check(queue: &Queue, table: &Table, live: &[bool]) {
        let mut seen = vec![false; live.len()];
        for (ring, established) in [(queue.probation, false), (queue.main, true)] {
            let (mut count, mut weight) = (0, 0);
            for id in ring.ids(table) {
                assert!(!seen[id as usize], "{id} twice");
                seen[id as usize] = true;
                assert_eq!(table.previous(table.next(id)), id);
                assert_eq!(table.established(id), established);
                count += 1;
                weight += table.weight(id);
            }
            assert_eq!((ring.count, ring.weight), (count, weight));
        }
        assert_eq!(seen, live, "entries lost or found");
    }

    #[test]
    fn whatever_happens_the_rings_stay_whole_and_no_entry_is_lost() {
        for seed in 1..=40 {
            let mut random = Random(seed);
            let mut table = Table::new(50, [0, 1, 2, 64][seed as usize % 4]);
            let (mut queue, mut live) = (Queue::new(), vec![false; 50]);
            for _ in 0..5000 {
                let id = random.below(50) as Id;
                let credit = random.below(256) as u8;
                let (kind, modulo) = (random.below(5), random.below(7) as Id + 1);
                match (kind, live[id as usize]) {
                    (0..3, false) => {
                        table.hashes[id as usize] = random.below(200);
                        table.weights[id as usize] = random.below(30) as u32 + 1;
                        queue.insert(&mut table, id, credit);
                        live[id as usize] = true;
                    }
                    (0..2, true) => table.credits[id as usize] = credit,
                    (2, true) => {
                        queue.remove(&mut table, id);
                        live[id as usize] = false;
                    }
                    (3, _) => {
                        let left = queue.evict(&mut table);
                        assert_eq!(left.is_none(), live.iter().all(|live| !live));
                        if let Some(id) = left {
                            assert!(std::mem::take(&mut live[id as usize]));
                        }
                    }
                    _ => {
                        let some: Vec<Id> = (0..50)
                            .filter(|id: &Id| live[*id as usize] && id.is_multiple_of(modulo))
                            .collect();
                        let left = queue.evict_one_of(&mut table, &some);
                        assert_eq!(left.is_some(), !some.is_empty());
                        if let Some(id) = left {
                            assert!(some.contains(&id));
                            assert!(std::mem::take(&mut live[id as usize]));
                        }
                    }
                }
                check(&queue, &table, &live);
            }
        }
    }
}
