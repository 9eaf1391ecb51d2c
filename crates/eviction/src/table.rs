//! Entries in vectors, for the tests of this crate.

use crate::{Entries, Id, NIL};

#[derive(Clone)]
pub(crate) struct Table {
    links: Vec<(Id, Id)>,
    established: Vec<bool>,
    pub(crate) credits: Vec<u8>,
    pub(crate) weights: Vec<u32>,
    pub(crate) hashes: Vec<u64>,
    ghosts: Vec<u64>,
}

impl Table {
    /// With room for so many entries, of weight 1, and so many words for ghosts.
    pub(crate) fn new(entries: usize, words: usize) -> Self {
        Table {
            links: vec![(NIL, NIL); entries],
            established: vec![false; entries],
            credits: vec![0; entries],
            weights: vec![1; entries],
            hashes: (0..entries as u64).collect(),
            ghosts: vec![0; words],
        }
    }
}

impl Entries for Table {
    fn next(&self, id: Id) -> Id {
        self.links[id as usize].0
    }
    fn previous(&self, id: Id) -> Id {
        self.links[id as usize].1
    }
    fn set_next(&mut self, id: Id, next: Id) {
        self.links[id as usize].0 = next;
    }
    fn set_previous(&mut self, id: Id, previous: Id) {
        self.links[id as usize].1 = previous;
    }
    fn credit(&self, id: Id) -> u8 {
        self.credits[id as usize]
    }
    fn set_credit(&mut self, id: Id, credit: u8) {
        self.credits[id as usize] = credit;
    }
    fn established(&self, id: Id) -> bool {
        self.established[id as usize]
    }
    fn set_established(&mut self, id: Id, established: bool) {
        self.established[id as usize] = established;
    }
    fn weight(&self, id: Id) -> u32 {
        self.weights[id as usize]
    }
    fn hash(&self, id: Id) -> u64 {
        self.hashes[id as usize]
    }
    fn ghosts(&mut self) -> &mut [u64] {
        &mut self.ghosts
    }
}
