//! Which owner has which of a few places, each a thing of its own, and one more that all late ones share.
//!
//! Who has a place keeps it until it is taken back, because what was stored names places, not owners. Hence the rule for those that
//! come too late: as soon as one found no place free, all that come later share the last place, also when one becomes free meanwhile.
//! Else two of them, or two sessions of one, could have different ideas of where an owner's things are.
//!
//! [`Owners::find`] needs no lock; [`Owners::give`] and [`Owners::take_back`] are called under one.

use std::sync::atomic::{AtomicU32, Ordering};

/// The places `0..N`. Owners are numbers but 0. Zeroed memory is a map without owners.
#[repr(C)]
pub struct Owners<const N: usize> {
    /// 1 once somebody found no place free.
    full: AtomicU32,
    /// The owner of each place, 0 where one is free.
    owners: [AtomicU32; N],
}

/// Where an owner's things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The place of this number is its own.
    Own(usize),
    /// It shares one with all others that came too late.
    Shared,
}

impl<const N: usize> Owners<N> {
    fn at(&self, owner: u32) -> Option<usize> {
        let has = |place: &AtomicU32| owner != 0 && place.load(Ordering::Acquire) == owner;
        self.owners.iter().position(has)
    }

    /// The place of `owner`, if it has one.
    pub fn find(&self, owner: u32) -> Option<Place> {
        match self.at(owner) {
            Some(at) => Some(Place::Own(at)),
            None => (self.full.load(Ordering::Acquire) != 0).then_some(Place::Shared),
        }
    }

    /// The place of `owner`, given one now if it has none. Under the lock.
    pub fn give(&self, owner: u32) -> Place {
        if let Some(place) = self.find(owner) {
            return place;
        }
        let free = |place: &AtomicU32| place.load(Ordering::Relaxed) == 0;
        match self.owners.iter().position(free) {
            Some(at) if owner != 0 => {
                self.owners[at].store(owner, Ordering::Release);
                Place::Own(at)
            }
            Some(_) => Place::Shared,
            None => {
                self.full.store(1, Ordering::Release);
                Place::Shared
            }
        }
    }

    /// The owner is gone: its place may be given to another. Under the lock.
    pub fn take_back(&self, owner: u32) {
        if let Some(at) = self.at(owner) {
            self.owners[at].store(0, Ordering::Release);
        }
    }

    /// The map as words.
    pub fn export(&self) -> Vec<u64> {
        std::iter::once(&self.full)
            .chain(&self.owners)
            .map(|word| u64::from(word.load(Ordering::Relaxed)))
            .collect()
    }

    /// Takes over the map that these words begin with. The rest of them; `None` if they are too few.
    pub fn import<'a>(&self, words: &'a [u64]) -> Option<&'a [u64]> {
        let (map, rest) = words.split_at_checked(1 + N)?;
        for (word, value) in std::iter::once(&self.full).chain(&self.owners).zip(map) {
            word.store(*value as u32, Ordering::Relaxed);
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty<const N: usize>() -> Owners<N> {
        Owners {
            full: AtomicU32::new(0),
            owners: [const { AtomicU32::new(0) }; N],
        }
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        let owners = empty::<3>();
        assert_eq!(owners.find(5), None);
        for (at, owner) in [5, 68, 131].into_iter().enumerate() {
            assert_eq!(owners.give(owner), Place::Own(at));
            assert_eq!(owners.give(owner), Place::Own(at));
            assert_eq!(owners.find(owner), Some(Place::Own(at)));
        }
        owners.take_back(68);
        owners.take_back(99);
        assert_eq!(owners.find(68), None);
        assert_eq!(owners.give(7), Place::Own(1));
        assert_eq!(owners.find(5), Some(Place::Own(0)), "nobody else moves");
    }

    #[test]
    fn who_comes_too_late_shares_for_good() {
        let owners = empty::<1>();
        owners.give(1);
        assert_eq!(owners.find(2), None);
        assert_eq!(owners.give(2), Place::Shared);
        owners.take_back(1);
        assert_eq!(owners.find(2), Some(Place::Shared));
        assert_eq!(owners.give(2), Place::Shared, "though one is free");
        assert_eq!(owners.give(3), Place::Shared);
    }

    #[test]
    fn nobody_is_no_owner() {
        let owners = empty::<2>();
        assert_eq!(owners.find(0), None);
        assert_eq!(owners.give(0), Place::Shared);
        owners.take_back(0);
        assert_eq!(owners.give(4), Place::Own(0));
    }

    #[test]
    fn the_words_are_the_map() {
        let (owners, other) = (empty::<2>(), empty::<2>());
        for owner in [3, 4, 5] {
            owners.give(owner);
        }
        let mut words = owners.export();
        words.extend([7, 8]);
        assert_eq!(other.import(&words), Some(&[7, 8][..]));
        for owner in [3, 4, 5] {
            assert_eq!(other.find(owner), owners.find(owner));
        }
        assert_eq!(other.import(&[0, 3]), None);
    }
}
