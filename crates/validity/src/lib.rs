//! When is a stored result right for a snapshot? The rules of that decision, without PostgreSQL.
//!
//! # Layout
//!
//! A *tag* (a relation, a relation and a column value, a user's own name) hashes to a [`Slot`]. A slot is plain data:
//!
//! | part         | meaning                                                                                     |
//! |--------------|---------------------------------------------------------------------------------------------|
//! | `generation` | a number that changes whenever the set of settled writers grows                               |
//! | `pending`    | up to `P` transactions that wrote under the tag and that nobody has seen finished yet          |
//! | `overflow`   | the newest transaction that found `pending` full: every id up to it may be a pending writer     |
//! | `settled`    | the transactions whose end made the present generation (at most `S` of them are listed)        |
//! | `horizon`    | the members of that last batch that are not listed: a snapshot must have seen *every* id up to it |
//!
//! # Protocol
//!
//! Every line is one atomic read-compute-write of the slot in the caller's hands; this crate takes no lock and keeps no state.
//!
//! * **write**: [`Slot::register`] the top-level transaction *before* the write can be seen by anyone, the writer itself included.
//! * **roll back**: [`Slot::withdraw`], if the transaction never reached `PREPARE`. Nothing breaks if it is left out.
//! * **serve** an entry of generation `g` to snapshot `V`: bypass if the reader's own transaction wrote
//!   ([`Slot::may_be_writer`]); if [`Slot::needs_latest`], [`Slot::settle`] with a snapshot taken now, and bypass if that snapshot
//!   is in doubt; `settle(V)`; then [`Slot::judge`]`(V)`: `Ok(g)` serve, `Ok(other)` the entry is dead, `Err` bypass.
//!   [`Slot::ask`] is all of it but the bypass for own writes.
//! * **publish** a result computed under `F`: the same with `F`; on `Ok(g)` the entry is stored with `g`.
//!
//! # Why it is exact
//!
//! Snapshots are cuts through one sequence of transaction ends, so of two snapshots one has seen everything that the other has.
//! A writer that `V` has seen finished registered before it ended, hence before `V`: after `settle(V)` it is settled. So `V` sees
//! no writer outside the settled ones; and `judge` makes sure that it sees all of them: whoever is in the last batch ended after
//! the view that made the batch before, so having seen the last batch implies having seen all before. Two snapshots judged to
//! the same generation therefore see the same writers. The proof, the exhaustive exploration behind it and its counterexamples
//! are in `docs/adr/0002-validity-by-snapshot.md`.
//!
//! # Failure
//!
//! No function panics, whatever the words it is given. Doubt is a value ([`Doubt`]) and means that the caller asks the function
//! itself. A slot that nobody knows anything about is [`Slot::UNKNOWN`]: in doubt for ever.

#![forbid(unsafe_code)]

pub mod owners;
pub mod packed;
pub mod wide;

/// A 64-bit transaction id (`epoch << 32 | xid`) of a top-level transaction; 0 means none. Bit 63 is never set in a real one.
pub type FullXid = u64;

/// Marks an [`Effect::AtCommit`] writer in a word of `pending` and in `overflow`.
const AT_COMMIT: u64 = 1 << 63;

/// What a snapshot sees. Answers must not change while one call into this crate lasts.
pub trait SnapshotView {
    /// True when `xid` ended (commit or abort) before the snapshot was taken. The viewer's own transaction is never finished,
    /// a prepared one is not until `COMMIT PREPARED` or `ROLLBACK PREPARED`.
    fn finished(&self, xid: FullXid) -> bool;

    /// Every id below this one was finished before the snapshot was taken.
    fn xmin(&self) -> FullXid;

    /// Asked only about an [`Effect::AtCommit`] writer that is [`finished`](Self::finished): can everybody see its effect by now?
    ///
    /// In PostgreSQL a transaction leaves the set of running ones *before* it broadcasts its invalidation messages and frees its
    /// locks; in between others still work with what it replaced. "Its transaction-id lock is free" answers the question.
    /// While the answer is no the slot settles nothing and every view that has seen the writer finished is in doubt.
    fn effective(&self, _xid: FullXid) -> bool {
        true
    }

    /// The same question about every transaction up to `xid`; asked only when more [`Effect::AtCommit`] writers came at once
    /// than the slot can list.
    fn effective_up_to(&self, _xid: FullXid) -> bool {
        true
    }
}

impl<V: SnapshotView> SnapshotView for &V {
    fn finished(&self, xid: FullXid) -> bool {
        (**self).finished(xid)
    }

    fn xmin(&self) -> FullXid {
        (**self).xmin()
    }

    fn effective(&self, xid: FullXid) -> bool {
        (**self).effective(xid)
    }

    fn effective_up_to(&self, xid: FullXid) -> bool {
        (**self).effective_up_to(xid)
    }
}

/// How the work of a transaction becomes visible to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A multi-version write: readers see it according to their snapshot.
    Rows,
    /// `TRUNCATE`, DDL: everybody sees it from the moment it commits, whatever the snapshot.
    AtCommit,
}

/// Why a slot cannot tell what a view sees. The caller answers from the function itself and stores nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// The snapshot is older than a settled write.
    Unseen,
    /// More writers at once than the slot can list, and no snapshot has proved yet that they all ended.
    Overflow,
    /// A writer that the snapshot has seen finished is still pending: [`Slot::settle`] was not called with this view, or it held
    /// back because the effect of an [`Effect::AtCommit`] writer is still on its way.
    Unsettled,
}

/// The writers of the tags that hash to one place: up to `P` pending ones and up to `S` of the last settled batch by name.
///
/// `Eq` and `Hash` compare the words, so two slots that list the same writers in another order are different.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Slot<const P: usize, const S: usize> {
    /// Counts the batches that were settled. Entries store it; equal means that nothing they depend on was settled since.
    pub generation: u64,
    /// The newest writer that found `pending` full; 0 = none. Bit 63 says that an [`Effect::AtCommit`] writer is among them.
    pub overflow: FullXid,
    /// Members of the last settled batch that are not listed have ids up to this one; 0 = none.
    pub horizon: FullXid,
    /// Writers that nobody has seen finished; [`AT_COMMIT`] may be set; 0 = free place, anywhere.
    pending: [u64; P],
    /// The listed members of the last settled batch; 0 = free place, anywhere.
    settled: [FullXid; S],
}

impl<const P: usize, const S: usize> Slot<P, S> {
    /// A slot that nobody has written under. All its words are 0, so zeroed shared memory is an array of empty slots.
    pub const EMPTY: Self = Self {
        generation: 0,
        overflow: 0,
        horizon: 0,
        pending: [0; P],
        settled: [0; S],
    };

    /// A slot whose writers are unknown: it never settles and every judgement is [`Doubt::Overflow`].
    pub const UNKNOWN: Self = Self {
        overflow: u64::MAX,
        ..Self::EMPTY
    };

    /// How many words [`to_words`](Self::to_words) yields and [`from_words`](Self::from_words) reads.
    pub const WORDS: usize = 3 + P + S;

    /// The slot as [`WORDS`](Self::WORDS) plain words: generation, overflow, horizon, pending, settled.
    pub fn to_words(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        (0..Self::WORDS).map(|at| match at {
            0 => self.generation,
            1 => self.overflow,
            2 => self.horizon,
            _ => match self.pending.get(at - 3) {
                Some(word) => *word,
                None => self.settled.get(at - 3 - P).copied().unwrap_or(0),
            },
        })
    }

    /// The slot that [`to_words`](Self::to_words) wrote. Every sequence of words is a slot; one that is too short is
    /// [`UNKNOWN`](Self::UNKNOWN), words too many are ignored.
    pub fn from_words(words: &[u64]) -> Self {
        let Some(([generation, overflow, horizon], lists)) = words.split_first_chunk::<3>() else {
            return Self::UNKNOWN;
        };
        let Some((pending, lists)) = lists.split_first_chunk::<P>() else {
            return Self::UNKNOWN;
        };
        let Some((settled, _)) = lists.split_first_chunk::<S>() else {
            return Self::UNKNOWN;
        };
        Self {
            generation: *generation,
            overflow: *overflow,
            horizon: *horizon,
            pending: *pending,
            settled: *settled,
        }
    }

    /// Notes that the running transaction `xid` writes. Must happen before the write can be seen by anyone. True if the slot
    /// changed.
    ///
    /// A transaction that is listed already is not listed again, but [`Effect::Rows`] becomes [`Effect::AtCommit`] if it now is.
    /// When the list is full an `AtCommit` writer takes the place of a `Rows` writer if there is one, and who is left without a
    /// place goes to `overflow`. An `xid` that cannot be one (0, or bit 63 set) makes the slot [`UNKNOWN`](Self::UNKNOWN).
    pub fn register(&mut self, xid: FullXid, effect: Effect) -> bool {
        let before = *self;
        let mark = match effect {
            Effect::Rows => 0,
            Effect::AtCommit => AT_COMMIT,
        };
        if xid == 0 || xid & AT_COMMIT != 0 {
            self.overflow = u64::MAX;
        } else if let Some(word) = self
            .pending
            .iter_mut()
            .find(|word| **word & !AT_COMMIT == xid)
        {
            *word |= mark;
        } else if let Some(place) = self.pending.iter_mut().find(|word| **word == 0) {
            *place = xid | mark;
        } else {
            let displaced = self
                .pending
                .iter_mut()
                .find(|word| mark != 0 && **word & AT_COMMIT == 0);
            let homeless = match displaced {
                Some(word) => std::mem::replace(word, xid | mark),
                None => xid | mark,
            };
            let newest = (self.overflow & !AT_COMMIT).max(homeless & !AT_COMMIT);
            self.overflow = newest | (self.overflow | homeless) & AT_COMMIT;
        }
        *self != before
    }

    /// Notes that `xid` rolled back: it leaves `pending` without a new generation. True if the slot changed.
    ///
    /// Only an optimisation, and harmless whether other views have seen the end already or not. One that went to `overflow`
    /// cannot be withdrawn. Never call it for a transaction that may still commit: not for a rolled back savepoint, not once
    /// `PREPARE TRANSACTION` has begun.
    pub fn withdraw(&mut self, xid: FullXid) -> bool {
        match self
            .pending
            .iter_mut()
            .find(|word| xid != 0 && **word & !AT_COMMIT == xid)
        {
            Some(word) => {
                *word = 0;
                true
            }
            None => false,
        }
    }

    /// Moves every pending writer that `view` has seen finished, all at once, into a new settled batch with a generation of its
    /// own. True if the slot changed.
    ///
    /// The batch before is dropped: every writer of the new one ended after the view that settled the old one was taken. Writers
    /// in `overflow` are settled once every id up to it is finished. If an [`Effect::AtCommit`] writer has ended without being
    /// [`effective`](SnapshotView::effective) nothing moves, because moving those that ended after it would break the order.
    pub fn settle(&mut self, view: &impl SnapshotView) -> bool {
        let mut moves = false;
        for word in self.pending.iter().filter(|word| **word != 0) {
            let xid = word & !AT_COMMIT;
            if view.finished(xid) {
                if word & AT_COMMIT != 0 && !view.effective(xid) {
                    return false;
                }
                moves = true;
            }
        }
        let unlisted = self.overflow & !AT_COMMIT;
        let clears = self.overflow != 0 && unlisted < view.xmin();
        if clears && self.overflow & AT_COMMIT != 0 && !view.effective_up_to(unlisted) {
            return false;
        }
        if !moves && !clears {
            return false;
        }

        self.settled = [0; S];
        self.horizon = 0;
        if clears {
            self.horizon = unlisted;
            self.overflow = 0;
        }
        for at in 0..P {
            let xid = self.pending[at] & !AT_COMMIT;
            if self.pending[at] != 0 && view.finished(xid) {
                self.pending[at] = 0;
                self.list_settled(xid);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// Adds `xid` to the present batch: the newest `S` are listed, the others are covered by the horizon.
    fn list_settled(&mut self, xid: FullXid) {
        if xid <= self.horizon {
            return;
        }
        match self.settled.iter_mut().min() {
            Some(oldest) if *oldest < xid => {
                let covered = std::mem::replace(oldest, xid);
                self.horizon = self.horizon.max(covered);
            }
            _ => self.horizon = xid,
        }
    }

    /// True when an [`Effect::AtCommit`] writer is pending: its end counts for old snapshots too, so the caller must settle with
    /// a snapshot taken now before it settles with its own.
    pub fn needs_latest(&self) -> bool {
        self.pending.iter().any(|word| word & AT_COMMIT != 0)
    }

    /// After [`settle`](Self::settle)`(view)`: the generation that `view` sees, or why that cannot be said.
    pub fn judge(&self, view: &impl SnapshotView) -> Result<u64, Doubt> {
        if self.overflow != 0 {
            return Err(Doubt::Overflow);
        }
        if self.horizon != 0 && self.horizon >= view.xmin() {
            return Err(Doubt::Unseen);
        }
        if self
            .settled
            .iter()
            .any(|xid| *xid != 0 && !view.finished(*xid))
        {
            return Err(Doubt::Unseen);
        }
        if self
            .pending
            .iter()
            .any(|word| *word != 0 && view.finished(word & !AT_COMMIT))
        {
            return Err(Doubt::Unsettled);
        }
        Ok(self.generation)
    }

    /// The whole check that serving and publishing share: what generation does `view` see? The slot is settled on the way, so the
    /// caller must write it back if it changed, also when the answer is a doubt. `latest` takes a snapshot; it is called only if
    /// [`needs_latest`](Self::needs_latest).
    ///
    /// If even the latest snapshot leaves the slot in doubt, an effect at commit is spreading, and what another writer did before
    /// it may be waiting behind it: then a view that has seen neither would be judged wrongly.
    pub fn ask<L: SnapshotView>(
        &mut self,
        view: &impl SnapshotView,
        latest: impl FnOnce() -> L,
    ) -> Result<u64, Doubt> {
        if self.needs_latest() {
            let latest = latest();
            self.settle(&latest);
            self.judge(&latest)?;
        }
        self.settle(view);
        self.judge(view)
    }

    /// True when nothing is pending: there is nothing to settle and nobody's own writes to look for. [`judge`](Self::judge) is
    /// still needed, because the view may be older than the last batch.
    pub fn is_quiet(&self) -> bool {
        self.overflow == 0 && self.pending.iter().all(|word| *word == 0)
    }

    /// True when the next new writer would go to `overflow`. A writer that finds the slot full does well to settle it with a
    /// snapshot taken now before it registers: otherwise writers that ended long ago hold the places, and the overflow lasts as
    /// long as the oldest transaction of the whole cluster.
    pub fn is_full(&self) -> bool {
        self.pending.iter().all(|word| *word != 0)
    }

    /// True when `xid` is pending here, or may be one of the writers that could not be listed.
    pub fn may_be_writer(&self, xid: FullXid) -> bool {
        xid != 0
            && (xid <= self.overflow & !AT_COMMIT
                || self.pending.iter().any(|word| word & !AT_COMMIT == xid))
    }

    /// True when `xid` is listed as a writer that nobody has seen finished yet.
    pub fn is_pending(&self, xid: FullXid) -> bool {
        xid != 0 && self.pending.iter().any(|word| word & !AT_COMMIT == xid)
    }

    /// True when `xid` is listed in the last settled batch: its end made the present generation.
    pub fn is_settled_last(&self, xid: FullXid) -> bool {
        xid != 0 && self.settled.contains(&xid)
    }

    /// The newest member of the last settled batch, 0 if nothing was ever settled. A snapshot whose `xmin` is above it has seen
    /// everything that is settled here.
    pub fn newest_settled(&self) -> FullXid {
        self.settled
            .iter()
            .copied()
            .fold(self.horizon, FullXid::max)
    }
}
