//! The policy: who leaves, from which ring, and who moves from one to the other.

use crate::ghosts::Ghosts;
use crate::ring::Ring;
use crate::{Entries, Id, MAX_CREDIT, NIL};

/// Probation has one part of so many of the room.
const PROBATION: u64 = 20;
/// So many candidates are compared before the one with the least credit leaves.
const COMPARED: usize = 32;

/// What an entry is to somebody who looks for one of a certain kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Not of that kind.
    Other,
    /// Of that kind.
    Candidate,
    /// Of that kind, and of no use to anybody.
    Worthless,
}

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

    /// All entries: the established ones first, of each kind the one whose turn is next first.
    pub fn ids(&self, entries: &impl Entries) -> impl Iterator<Item = Id> {
        self.main.ids(entries).chain(self.probation.ids(entries))
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

    /// Chooses the entry that leaves next and takes it out; `None` if there is none.
    pub fn evict(&mut self, entries: &mut impl Entries) -> Option<Id> {
        loop {
            let id = self.ring(!self.probation_is_due()).hand;
            if id == NIL {
                return None;
            }
            if entries.credit(id) == 0 {
                self.take_out(entries, id, true);
                return Some(id);
            }
            self.spare(entries, id);
        }
    }

    /// Chooses, among entries of a certain kind only, the one that leaves next, and takes it out. Walks over at most `steps` entries of
    /// each ring and at most once around; `None` if it met none of that kind.
    ///
    /// A worthless one leaves at once, before anybody has paid. Of the candidates that come first the one with the least credit leaves;
    /// the others are spared as if the hand had come to them.
    pub fn evict_among(
        &mut self,
        entries: &mut impl Entries,
        steps: usize,
        mut rank: impl FnMut(Id) -> Rank,
    ) -> Option<Id> {
        let (mut candidates, mut count, mut chosen) = ([NIL; COMPARED], 0, NIL);
        let mut worthless = false;
        let first = !self.probation_is_due();
        'rings: for established in [first, !first] {
            let ring = self.ring(established);
            let start = ring.hand;
            for _ in 0..steps.min(ring.count as usize) {
                let id = ring.hand;
                match rank(id) {
                    Rank::Other => (),
                    Rank::Worthless => {
                        chosen = id;
                        worthless = true;
                        break 'rings;
                    }
                    Rank::Candidate => {
                        candidates[count] = id;
                        count += 1;
                        if chosen == NIL || entries.credit(id) < entries.credit(chosen) {
                            chosen = id;
                        }
                        if count == COMPARED || entries.credit(id) == 0 {
                            break 'rings;
                        }
                    }
                }
                // What was walked over need not be walked over again: it is the end of the queue now.
                ring.hand = entries.next(id);
                if ring.hand == start {
                    break;
                }
            }
        }
        if chosen == NIL {
            return None;
        }
        if worthless {
            self.remove(entries, chosen);
            return Some(chosen);
        }
        for &id in candidates[..count].iter().filter(|id| **id != chosen) {
            self.pay(entries, id);
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
        assert_eq!(queue.evict_among(&mut table, 9, |_| Rank::Candidate), None);
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

    fn even(id: Id) -> Rank {
        if id.is_multiple_of(2) {
            Rank::Candidate
        } else {
            Rank::Other
        }
    }

    #[test]
    fn among_some_the_others_stay() {
        let (mut queue, mut table) = queue(&[0, 1, 2, 3, 4]);
        table.credits[2] = 1;
        let left: Vec<_> = std::iter::from_fn(|| queue.evict_among(&mut table, 64, even)).collect();
        assert_eq!(left, [0, 4, 2]);
        assert_eq!(all(queue, table), [1, 3]);
    }

    #[test]
    fn among_some_a_worthless_one_leaves_first_and_nobody_pays() {
        let (mut queue, mut table) = queue(&[0, 1, 2, 3]);
        table.credits[0] = 1;
        let rank = |id| {
            if id == 2 { Rank::Worthless } else { even(id) }
        };
        assert_eq!(queue.evict_among(&mut table, 64, rank), Some(2));
        assert_eq!(table.credits[0], 1);
        assert!(!table.established(0));
    }

    #[test]
    fn among_some_the_one_with_the_least_credit_leaves_and_the_others_pay() {
        let (mut queue, mut table) = queue(&[0, 2, 4, 5]);
        table.credits[..6].copy_from_slice(&[3, 0, 1, 0, 2, 3]);
        assert_eq!(queue.evict_among(&mut table, 64, even), Some(2));
        assert_eq!(
            (table.credits[0], table.credits[4], table.credits[5]),
            (2, 1, 3)
        );
        assert!(table.established(0) && table.established(4) && !table.established(5));
    }

    #[test]
    fn a_walk_that_was_too_short_goes_on() {
        let (mut queue, mut table) = queue(&[1, 3, 5, 7, 2]);
        assert_eq!(queue.evict_among(&mut table, 3, even), None);
        assert_eq!(queue.evict_among(&mut table, 3, even), Some(2));
    }

    #[test]
    fn a_short_walk_sees_both_rings() {
        let (mut queue, mut table) = queue(&[2, 1, 3, 5, 7]);
        table.credits[2] = 1;
        assert_eq!(queue.evict(&mut table), Some(1));
        assert!(table.established(2));
        assert_eq!(queue.evict_among(&mut table, 2, even), Some(2));
    }

    #[test]
    fn a_damaged_credit_ends_too() {
        let (mut queue, mut table) = queue(&[0, 2]);
        table.credits[0] = u8::MAX;
        table.credits[2] = u8::MAX;
        let (mut among, mut others) = (queue, table.clone());
        assert_eq!(queue.evict(&mut table), Some(0));
        assert_eq!(among.evict_among(&mut others, 64, even), Some(0));
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
                let (kind, modulo) = (random.below(6), random.below(7) as Id + 1);
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
                        let rank = |id: Id| match id % modulo {
                            0 => Rank::Candidate,
                            1 if kind == 5 => Rank::Worthless,
                            _ => Rank::Other,
                        };
                        let steps = [3, 50][credit as usize % 2];
                        let any =
                            (0..50).any(|id: Id| live[id as usize] && rank(id) != Rank::Other);
                        let left = queue.evict_among(&mut table, steps, rank);
                        assert!(left.is_some() || !any || steps == 3);
                        if let Some(id) = left {
                            assert!(std::mem::take(&mut live[id as usize]));
                            assert_ne!(rank(id), Rank::Other);
                        }
                    }
                }
                check(&queue, &table, &live);
            }
        }
    }
}
