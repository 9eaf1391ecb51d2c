//! A queue as a ring with a hand: the oldest entry is under the hand, the newest just behind it.
//!
//! To send an entry back to the end of the queue, the hand moves on over it; nothing else is written.

use crate::{Entries, Id, NIL};

/// A ring. Its links are in the entries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// The entry whose turn is next, [`NIL`] if there is none.
    pub(crate) hand: Id,
    /// Number of entries.
    pub(crate) count: u32,
    /// The room they take together.
    pub(crate) weight: u32,
}

impl Ring {
    pub(crate) const fn new() -> Self {
        Ring {
            hand: NIL,
            count: 0,
            weight: 0,
        }
    }

    /// Adds an entry; its turn comes last.
    pub(crate) fn push(&mut self, entries: &mut impl Entries, id: Id) {
        if self.hand == NIL {
            self.hand = id;
            entries.set_next(id, id);
            entries.set_previous(id, id);
        } else {
            let last = entries.previous(self.hand);
            entries.set_previous(id, last);
            entries.set_next(id, self.hand);
            entries.set_next(last, id);
            entries.set_previous(self.hand, id);
        }
        self.count = self.count.wrapping_add(1);
        self.weight = self.weight.wrapping_add(entries.weight(id));
    }

    /// Takes an entry of this ring out.
    pub(crate) fn remove(&mut self, entries: &mut impl Entries, id: Id) {
        let (next, previous) = (entries.next(id), entries.previous(id));
        if next == id {
            self.hand = NIL;
        } else {
            entries.set_next(previous, next);
            entries.set_previous(next, previous);
            if self.hand == id {
                self.hand = next;
            }
        }
        self.count = self.count.wrapping_sub(1);
        self.weight = self.weight.wrapping_sub(entries.weight(id));
    }

    /// The entries, the one under the hand first.
    #[cfg(test)]
    pub(crate) fn ids(self, entries: &impl Entries) -> impl Iterator<Item = Id> {
        let first = (self.hand != NIL).then_some(self.hand);
        std::iter::successors(first, move |id| Some(entries.next(*id))).take(self.count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn ring(ids: &[Id]) -> (Ring, Table) {
        let mut table = Table::new(8, 0);
        let mut ring = Ring::new();
        for &id in ids {
            table.weights[id as usize] = id + 1;
            ring.push(&mut table, id);
        }
        (ring, table)
    }

    #[test]
    fn first_in_is_first_under_the_hand() {
        let (ring, table) = ring(&[3, 1, 2]);
        assert_eq!(ring.ids(&table).collect::<Vec<_>>(), [3, 1, 2]);
        assert_eq!((ring.count, ring.weight), (3, 9));
    }

    #[test]
    fn the_hand_moves_off_an_entry_that_leaves() {
        let (mut ring, mut table) = ring(&[3, 1, 2]);
        ring.remove(&mut table, 3);
        assert_eq!(ring.ids(&table).collect::<Vec<_>>(), [1, 2]);
        ring.remove(&mut table, 2);
        assert_eq!(ring.ids(&table).collect::<Vec<_>>(), [1]);
        ring.remove(&mut table, 1);
        assert_eq!(ring, Ring::new());
        assert_eq!(ring.ids(&table).count(), 0);
    }

    #[test]
    fn an_entry_that_the_hand_has_passed_is_the_last() {
        let (mut ring, mut table) = ring(&[3, 1, 2]);
        ring.hand = table.next(ring.hand);
        assert_eq!(ring.ids(&table).collect::<Vec<_>>(), [1, 2, 3]);
        ring.push(&mut table, 4);
        assert_eq!(ring.ids(&table).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
