//! What hits and runs take, without what the machine adds to it.
//!
//! A process that loses its processor while a hit is measured gets it back some milliseconds later, ten thousand times as long as the hit
//! takes; a page fault or an interrupt is a hundred times as long. One such sample among hundreds would decide what a function is said to
//! cost. So samples are taken in groups, and the longest of each group is left out: that is also the first of a session, which looks up
//! what later ones know. A function that takes long for one call in a hundred, and for no more, is thought to be cheaper than it is.

/// Samples in a group, of which all but the longest count.
const GROUP: u32 = 4;

/// A group that is not complete yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Samples {
    taken: u32,
    sum_ns: u64,
    longest_ns: u64,
}

/// What a complete group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// How many samples count.
    pub samples: u64,
    /// Their sum in nanoseconds.
    pub ns: u64,
}

impl Samples {
    /// Takes a sample. The group is told when it is complete, and a new one begins.
    pub fn take(&mut self, ns: u64) -> Option<Said> {
        self.taken += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.longest_ns = self.longest_ns.max(ns);
        if self.taken < GROUP {
            return None;
        }
        let said = Said {
            samples: u64::from(GROUP - 1),
            ns: self.sum_ns - self.longest_ns,
        };
        *self = Samples::default();
        Some(said)
    }
}
