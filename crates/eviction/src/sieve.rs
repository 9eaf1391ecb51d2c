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

/// Number of an entry; [`NIL`] is none.
pub type Id = u32;

/// No entry.
pub const NIL: Id = u32::MAX;

/// The most credit an entry can have.
pub const MAX_CREDIT: u8 = 3;

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

/// So many candidates are compared before the one with the least credit leaves.
const COMPARED: usize = 32;

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

    /// Chooses, among entries of a certain kind only, the one that leaves next, and takes it out of the queue. The hand walks over at
    /// most `steps` entries and at most once around; `None` if it met none of that kind.
    ///
    /// A worthless one leaves at once. Of the candidates that come first the one with the least credit leaves; the others pay what
    /// they would have paid had the hand walked on until it found that one without any.
    pub fn evict_among(
        &mut self,
        entries: &mut impl Entries,
        steps: usize,
        mut rank: impl FnMut(Id) -> Rank,
    ) -> Option<Id> {
        if self.oldest == NIL {
            return None;
        }
        let start = if self.hand == NIL {
            self.oldest
        } else {
            self.hand
        };
        let (mut candidates, mut count, mut chosen) = ([NIL; COMPARED], 0, None);
        let mut id = start;
        for _ in 0..steps {
            match rank(id) {
                Rank::Other => (),
                Rank::Worthless => {
                    chosen = Some(id);
                    count = 0;
                    break;
                }
                Rank::Candidate => {
                    candidates[count] = id;
                    count += 1;
                    if chosen.is_none_or(|best| entries.credit(id) < entries.credit(best)) {
                        chosen = Some(id);
                    }
                    if count == COMPARED || entries.credit(id) == 0 {
                        break;
                    }
                }
            }
            id = match entries.newer(id) {
                NIL => self.oldest,
                newer => newer,
            };
            if id == start {
                break;
            }
        }
        let Some(chosen) = chosen else {
            // What was walked over need not be walked over again.
            self.hand = id;
            return None;
        };
        let (rounds, mut one_more) = (entries.credit(chosen), 1);
        for &id in &candidates[..count] {
            if id == chosen {
                one_more = 0;
            } else {
                let left = entries
                    .credit(id)
                    .min(MAX_CREDIT)
                    .saturating_sub(rounds.saturating_add(one_more));
                entries.set_credit(id, left);
            }
        }
        self.hand = chosen;
        self.remove(entries, chosen);
        Some(chosen)
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

    fn even(id: Id) -> Rank {
        if id.is_multiple_of(2) {
            Rank::Candidate
        } else {
            Rank::Other
        }
    }

    #[test]
    fn among_some_the_others_stay() {
        let (mut sieve, mut links) = queue(&[0, 1, 2, 3, 4]);
        let left: Vec<_> = std::iter::from_fn(|| sieve.evict_among(&mut links, 64, even)).collect();
        assert_eq!(left, [0, 2, 4]);
        assert_eq!(in_order(&sieve, &links), [1, 3]);
    }

    #[test]
    fn among_some_a_worthless_one_leaves_first() {
        let (mut sieve, mut links) = queue(&[0, 1, 2, 3]);
        links.set_credit(0, 1);
        let rank = |id| {
            if id == 2 { Rank::Worthless } else { even(id) }
        };
        assert_eq!(sieve.evict_among(&mut links, 64, rank), Some(2));
        assert_eq!(links.credit(0), 1, "nothing was paid");
    }

    #[test]
    fn among_all_it_is_the_same_as_for_everybody() {
        for credits in 0..4u32.pow(5) {
            let (mut one, mut links) = queue(&[0, 1, 2, 3, 4]);
            for id in 0..5 {
                links.set_credit(id, (credits / 4u32.pow(id) % 4) as u8);
            }
            let (mut other, mut others) = (one, links.clone());
            while let Some(left) = one.evict(&mut links) {
                assert_eq!(
                    other.evict_among(&mut others, 64, |_| Rank::Candidate),
                    Some(left),
                    "credits {credits}"
                );
            }
        }
    }

    #[test]
    fn a_walk_that_was_too_short_goes_on() {
        let (mut sieve, mut links) = queue(&[1, 3, 5, 7, 2]);
        assert_eq!(sieve.evict_among(&mut links, 3, even), None);
        assert_eq!(sieve.evict_among(&mut links, 3, even), Some(2));
    }

    #[test]
    fn a_damaged_credit_ends_too() {
        let (mut sieve, mut links) = queue(&[0]);
        links.set_credit(0, u8::MAX);
        assert_eq!(sieve.evict(&mut links), Some(0));
    }
}
