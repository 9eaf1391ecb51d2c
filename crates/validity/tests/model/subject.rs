//! What is explored: a slot of either kind, with the checks that a mutation leaves out left out, in as few bits as it needs.

use crate::world::{Packer, Rules};
use pg_query_cache_validity::wide::{Cut, CutView, WideSlot};
use pg_query_cache_validity::{Effect, FullXid, Slot};
use std::fmt::Debug;

/// A slot, and how the model keeps it.
pub trait Subject: Copy + PartialEq + Debug {
    /// Nobody has written.
    const EMPTY: Self;

    fn register(&mut self, xid: FullXid, effect: Effect);
    fn withdraw(&mut self, xid: FullXid);
    fn settle(&mut self, view: &impl CutView);
    /// Whether `judge` has an answer, without the checks that are left out.
    fn judge(&self, view: &impl CutView, rules: &Rules) -> bool;
    /// Whether the crate's own composition has an answer.
    fn ask(&mut self, view: &impl CutView, latest: &impl CutView) -> bool;
    fn needs_latest(&self) -> bool;
    fn may_be_writer(&self, xid: FullXid) -> bool;
    fn is_listed(&self, xid: FullXid) -> bool;
    fn overflow(&self) -> FullXid;
    /// Makes the generation 0; whether it was another.
    fn forget_generation(&mut self) -> bool;
    fn pack(&self, into: &mut Packer);
    fn unpack(from: &mut Packer) -> Self;
}

const AT_COMMIT: u64 = 1 << 63;

impl<const P: usize, const S: usize> Subject for Slot<P, S> {
    const EMPTY: Self = Slot::EMPTY;

    fn register(&mut self, xid: FullXid, effect: Effect) {
        Slot::register(self, xid, effect);
    }

    fn withdraw(&mut self, xid: FullXid) {
        Slot::withdraw(self, xid);
    }

    fn settle(&mut self, view: &impl CutView) {
        Slot::settle(self, view);
    }

    fn judge(&self, view: &impl CutView, rules: &Rules) -> bool {
        let mut words: Vec<u64> = self.to_words().collect();
        if !rules.overflow_check {
            words[1] = 0;
        }
        if !rules.horizon_check {
            words[2] = 0;
        }
        if !rules.pending_check {
            words[3..3 + P].fill(0);
        }
        if !rules.settled_check {
            words[3 + P..].fill(0);
        }
        Slot::<P, S>::from_words(&words).judge(view).is_ok()
    }

    fn ask(&mut self, view: &impl CutView, latest: &impl CutView) -> bool {
        Slot::ask(self, view, || latest).is_ok()
    }

    fn needs_latest(&self) -> bool {
        Slot::needs_latest(self)
    }

    fn may_be_writer(&self, xid: FullXid) -> bool {
        Slot::may_be_writer(self, xid)
    }

    fn is_listed(&self, xid: FullXid) -> bool {
        self.is_pending(xid)
    }

    fn overflow(&self) -> FullXid {
        self.overflow & !AT_COMMIT
    }

    fn forget_generation(&mut self) -> bool {
        std::mem::take(&mut self.generation) != 0
    }

    fn pack(&self, into: &mut Packer) {
        for (at, word) in self.to_words().enumerate().skip(1) {
            into.push(3, word & !AT_COMMIT);
            if at == 1 || (3..3 + P).contains(&at) {
                into.push(1, word >> 63);
            }
        }
    }

    fn unpack(from: &mut Packer) -> Self {
        let words: Vec<u64> = (0..Self::WORDS)
            .map(|at| match at {
                0 => 0,
                at if at == 1 || (3..3 + P).contains(&at) => {
                    let xid = from.pull(3);
                    xid | from.pull(1) << 63
                }
                _ => from.pull(3),
            })
            .collect();
        Slot::from_words(&words)
    }
}

/// A wide slot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wide<const P: usize, const S: usize>(WideSlot<[FullXid; P], S>);

/// Takes cuts with the same `next` for the same.
struct Coarse<'a, V>(&'a V, u32);

impl<V: CutView> pg_query_cache_validity::SnapshotView for Coarse<'_, V> {
    fn finished(&self, xid: FullXid) -> bool {
        self.0.finished(xid)
    }
    fn xmin(&self) -> FullXid {
        self.0.xmin()
    }
}

impl<V: CutView> CutView for Coarse<'_, V> {
    fn cut(&self) -> Cut {
        Cut {
            running: self.1,
            ..self.0.cut()
        }
    }
}

impl<const P: usize, const S: usize> Wide<P, S> {
    /// The list without what is left over behind its end, so that equal slots are equal.
    fn tidy(&mut self) {
        let count = self.0.count as usize;
        self.0.pending[count..].fill(0);
        self.0.pending[..count].sort_unstable();
    }
}

impl<const P: usize, const S: usize> Subject for Wide<P, S> {
    const EMPTY: Self = Wide(WideSlot {
        generation: 0,
        cut: Cut::NONE,
        overflow: 0,
        settled: [0; S],
        count: 0,
        pending: [0; P],
    });

    fn register(&mut self, xid: FullXid, _effect: Effect) {
        self.0.register(xid);
        self.tidy();
    }

    fn withdraw(&mut self, xid: FullXid) {
        self.0.withdraw(xid);
        self.tidy();
    }

    fn settle(&mut self, view: &impl CutView) {
        self.0.settle(view);
        self.tidy();
    }

    fn judge(&self, view: &impl CutView, rules: &Rules) -> bool {
        let mut slot = self.0;
        if !rules.overflow_check {
            slot.overflow = 0;
        }
        if !rules.pending_check {
            slot.count = 0;
        }
        if !rules.settled_check {
            slot.cut = Cut::NONE;
        }
        if !rules.cut_check {
            // Nothing named is taken for nothing to see.
            slot.cut = match slot.settled.iter().all(|xid| *xid == 0) {
                true => Cut::NONE,
                false => Cut {
                    next: FullXid::MAX,
                    running: 0,
                },
            };
        }
        if !rules.cut_counts {
            let running = slot.cut.running;
            return slot.judge(&Coarse(view, running)).is_ok();
        }
        slot.judge(view).is_ok()
    }

    fn ask(&mut self, view: &impl CutView, latest: &impl CutView) -> bool {
        let fits = self.0.ask(view, || latest).is_ok();
        self.tidy();
        fits
    }

    fn needs_latest(&self) -> bool {
        self.0.needs_latest()
    }

    fn may_be_writer(&self, xid: FullXid) -> bool {
        self.0.is_pending(xid) || xid <= self.0.overflow
    }

    fn is_listed(&self, xid: FullXid) -> bool {
        self.0.is_pending(xid)
    }

    fn overflow(&self) -> FullXid {
        self.0.overflow
    }

    fn forget_generation(&mut self) -> bool {
        std::mem::take(&mut self.0.generation) != 0
    }

    fn pack(&self, into: &mut Packer) {
        into.push(3, self.0.cut.next);
        into.push(3, u64::from(self.0.cut.running));
        into.push(3, self.0.overflow);
        for xid in self.0.settled.iter().chain(&self.0.pending) {
            into.push(3, *xid);
        }
    }

    fn unpack(from: &mut Packer) -> Self {
        let mut slot = Self::EMPTY;
        slot.0.cut.next = from.pull(3);
        slot.0.cut.running = from.pull(3) as u32;
        slot.0.overflow = from.pull(3);
        for xid in slot.0.settled.iter_mut().chain(&mut slot.0.pending) {
            *xid = from.pull(3);
        }
        slot.0.count = slot.0.pending.iter().filter(|xid| **xid != 0).count() as u32;
        slot
    }
}
