//! A slot for effects at commit that lists as many transactions as there can be, and remembers the view that settled it.
//!
//! [`Slot`](crate::Slot) is small: a handful of transactions that are open or overlap put everybody in doubt. That is a fair price for
//! one tag among many, but not for a slot that every result of a database, or of the cluster, depends on: there whoever may write puts
//! everybody else in doubt. A [`WideSlot`] differs in three ways:
//!
//! * Its list of pending writers has room for all transactions that the server can have at once, so it overflows only if its owner
//!   gives it less.
//! * It remembers its last batch by the [`Cut`] of the view that settled it (and by name if the batch was small). Snapshots are cuts
//!   through one sequence of ends, so a view at that cut or after it has seen the whole batch, however many transactions it had and
//!   however old the oldest one that still runs.
//! * All of its writers take effect at commit.
//!
//! Everything else is as for a [`Slot`](crate::Slot), the reasons included; `docs/adr/0030-nobody-bypasses-the-others.md` has what is
//! different, and the model checker explores both kinds.

use crate::{Doubt, FullXid, SnapshotView};

/// Where a snapshot cuts the sequence of transaction ends.
///
/// Of two snapshots of one server the later has the larger `next`, or the same and not more transactions running below it: the highest
/// id that has ended never falls, and as long as it stays the same, transactions below it can only end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Cut {
    /// One more than the highest id that had ended (PostgreSQL's `xmax`).
    pub next: FullXid,
    /// How many top-level transactions below `next` had not ended, the viewer's own included, each counted once.
    pub running: u32,
}

impl Cut {
    /// Before everything.
    pub const NONE: Self = Self {
        next: 0,
        running: 0,
    };

    /// Whether a snapshot with this cut has seen everything that one with the cut `other` has.
    #[inline(always)]
    pub fn reaches(self, other: Cut) -> bool {
        self.next > other.next || self.next == other.next && self.running <= other.running
    }
}

/// A view whose place in the sequence of ends is known.
pub trait CutView: SnapshotView {
    /// Where it cuts. Too many `running` are harmless for a view that is judged, too few never; for one that settles it is the other
    /// way round. So it has to be exact.
    fn cut(&self) -> Cut;
}

impl<V: CutView> CutView for &V {
    fn cut(&self) -> Cut {
        (**self).cut()
    }
}

/// The writers of one wide slot: pending ones in `L`, as many as that has room for, and up to `S` of the last batch by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WideSlot<L, const S: usize> {
    /// Counts the batches that were settled.
    pub generation: u64,
    /// The view that settled the last batch.
    pub cut: Cut,
    /// The newest writer that found the list full; 0 = none.
    pub overflow: FullXid,
    /// The last batch if it had at most `S` members, all of them; else zeros.
    pub settled: [FullXid; S],
    /// How many are pending.
    pub count: u32,
    /// The pending writers are the first `count` of these; the rest is anything.
    pub pending: L,
}

impl<L: AsRef<[FullXid]> + AsMut<[FullXid]>, const S: usize> WideSlot<L, S> {
    /// A slot that nobody has written under, with the places of `pending`.
    pub fn empty(pending: L) -> Self {
        Self {
            generation: 0,
            cut: Cut::NONE,
            overflow: 0,
            settled: [0; S],
            count: 0,
            pending,
        }
    }

    /// The pending writers.
    pub fn pending(&self) -> &[FullXid] {
        let places = self.pending.as_ref();
        places.get(..self.count as usize).unwrap_or(places)
    }

    fn remove(&mut self, at: usize) {
        let last = self.pending().len() - 1;
        self.pending.as_mut().swap(at, last);
        self.count = last as u32;
    }

    /// Notes that the running transaction `xid` writes. Must happen before anybody else can see the write, and before the transaction
    /// ends; its own reading is the caller's concern, who has to bypass it from the write on. True if the slot changed.
    pub fn register(&mut self, xid: FullXid) -> bool {
        if self.pending().contains(&xid) {
            return false;
        }
        let at = self.pending().len();
        match self.pending.as_mut().get_mut(at) {
            Some(place) => {
                *place = xid;
                self.count = at as u32 + 1;
            }
            None => self.overflow = self.overflow.max(xid),
        }
        true
    }

    /// As [`Slot::withdraw`](crate::Slot::withdraw): `xid` rolled back.
    pub fn withdraw(&mut self, xid: FullXid) -> bool {
        let place = self.pending().iter().position(|pending| *pending == xid);
        if let Some(at) = place {
            self.remove(at);
        }
        place.is_some()
    }

    /// As [`Slot::settle`](crate::Slot::settle): moves every pending writer that `view` has seen finished, all at once, into a new
    /// batch, unless the effect of one of them is still on its way.
    pub fn settle(&mut self, view: &impl CutView) -> bool {
        let mut moves = false;
        for xid in self.pending() {
            if view.finished(*xid) {
                if !view.effective(*xid) {
                    return false;
                }
                moves = true;
            }
        }
        let clears = self.overflow != 0 && self.overflow < view.xmin();
        if clears && !view.effective_up_to(self.overflow) {
            return false;
        }
        if !moves && !clears {
            return false;
        }

        self.settled = [0; S];
        let mut members = 0;
        let mut at = 0;
        while let Some(xid) = self.pending().get(at).copied() {
            if view.finished(xid) {
                if let Some(place) = self.settled.get_mut(members) {
                    *place = xid;
                }
                members += 1;
                self.remove(at);
            } else {
                at += 1;
            }
        }
        if clears || members > S {
            self.settled = [0; S];
        }
        if clears {
            self.overflow = 0;
        }
        self.cut = view.cut();
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// As [`Slot::judge`](crate::Slot::judge): the generation that `view` sees, or why that cannot be said.
    pub fn judge(&self, view: &impl CutView) -> Result<u64, Doubt> {
        if self.overflow != 0 {
            return Err(Doubt::Overflow);
        }
        if !self.sees_last_batch(view) {
            return Err(Doubt::Unseen);
        }
        if self.pending().iter().any(|xid| view.finished(*xid)) {
            return Err(Doubt::Unsettled);
        }
        Ok(self.generation)
    }

    fn sees_last_batch(&self, view: &impl CutView) -> bool {
        let mut named = self.settled.iter().filter(|xid| **xid != 0).peekable();
        view.cut().reaches(self.cut)
            || named.peek().is_some() && named.all(|xid| view.finished(*xid))
    }

    /// True when somebody is pending: a snapshot taken now is needed to say which of them have ended.
    pub fn needs_latest(&self) -> bool {
        self.count != 0 || self.overflow != 0
    }

    /// As [`Slot::ask`](crate::Slot::ask): the whole check that serving and publishing share.
    ///
    /// `view` settles first, so that what it has seen is settled at its cut and not at a later one, which would put it in doubt.
    pub fn ask<V: CutView>(
        &mut self,
        view: &impl CutView,
        latest: impl FnOnce() -> V,
    ) -> Result<u64, Doubt> {
        self.settle(view);
        if self.needs_latest() {
            let latest = latest();
            self.settle(&latest);
            self.judge(&latest)?;
        }
        self.judge(view)
    }

    /// True when the next new writer would find no place.
    pub fn is_full(&self) -> bool {
        self.pending().len() == self.pending.as_ref().len()
    }

    /// True when `xid` is listed as a writer that nobody has seen finished yet.
    pub fn is_pending(&self, xid: FullXid) -> bool {
        self.pending().contains(&xid)
    }

    /// True when `xid` is listed in the last batch.
    pub fn is_settled_last(&self, xid: FullXid) -> bool {
        xid != 0 && self.settled.contains(&xid)
    }
}

/// Words of the head of a slot that lies in memory beside its list.
pub const HEAD_WORDS: usize = 7;
/// How many of the last batch the head names.
pub const NAMED: usize = 3;

/// A slot as it lies in memory: a head, and a list that may be of any length.
///
/// ```text
/// word 0      generation
/// word 1      cut: next
/// word 2      cut: running in the lower half; number of pending writers in the upper half
/// word 3      overflow
/// words 4..7  settled
/// ```
pub type LaidOut = WideSlot<Vec<FullXid>, NAMED>;

impl LaidOut {
    /// The words of the head.
    pub fn head(&self) -> [u64; HEAD_WORDS] {
        let counts = u64::from(self.cut.running) | u64::from(self.count) << 32;
        let [a, b, c] = self.settled;
        [
            self.generation,
            self.cut.next,
            counts,
            self.overflow,
            a,
            b,
            c,
        ]
    }

    /// The slot of these words; `pending` are the places of its list.
    pub fn from_parts(head: &[u64; HEAD_WORDS], pending: Vec<FullXid>) -> Self {
        let [generation, next, counts, overflow, a, b, c] = *head;
        Self {
            generation,
            cut: Cut {
                next,
                running: counts as u32,
            },
            overflow,
            settled: [a, b, c],
            count: pending_in(head) as u32,
            pending,
        }
    }
}

/// How many writers are pending, by the head.
pub fn pending_in(head: &[u64; HEAD_WORDS]) -> usize {
    (head[2] >> 32) as usize
}

/// Without the list: generation and cut of a slot under which nothing is pending, which most are most of the time.
#[inline(always)]
pub fn quiet(head: &[u64; HEAD_WORDS]) -> Option<(u64, Cut)> {
    let cut = Cut {
        next: head[1],
        running: head[2] as u32,
    };
    (head[2] >> 32 | head[3] == 0).then_some((head[0], cut))
}
