//! The part of the model that every configuration shares: writers, snapshots, the slot, and the shell's steps on it.
//!
//! Transaction ids are 1..=writers in the order in which they were assigned (writers are interchangeable, so this loses nothing).
//! A snapshot is the set of writers that had ended when it was taken; PostgreSQL's `xmax` and `xip` follow from it, and `xmin` is
//! the lowest id that is not in it (ids from `xmax` on are never in it).

use crate::subject::Subject;
use pg_query_cache_validity::wide::{Cut, CutView};
use pg_query_cache_validity::{Effect, FullXid, SnapshotView};

/// A set of writers, bit 0 = transaction 1.
pub type Set = u8;

/// What a function would compute: the rows written by `rows` and the effects at commit of `marks`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    pub rows: Set,
    pub marks: Set,
}

/// The rules of the protocol. All true is the protocol; a mutation leaves some out.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub settle_at_publish: bool,
    pub settle_at_serve: bool,
    /// `judge` refuses a view that has seen a pending writer finished.
    pub pending_check: bool,
    /// `judge` looks at the listed members of the last batch.
    pub settled_check: bool,
    /// A settle moves all finished writers; without: one at a time.
    pub all_at_once: bool,
    pub horizon_check: bool,
    pub overflow_check: bool,
    /// Overflow lasts until `xmin` has passed it; without: until its newest member ended.
    pub overflow_waits: bool,
    /// An effect at commit counts for old snapshots too: settle with a snapshot taken now before one's own.
    pub latest_first: bool,
    /// Bypass if that snapshot is in doubt.
    pub latest_sure: bool,
    pub own_bypass: bool,
    /// Registered before the writer itself can see its write; without: at any time before it commits.
    pub register_before_write: bool,
    /// Registered before it ends; without: at any time.
    pub register_before_end: bool,
    /// A transaction that has been prepared is not withdrawn.
    pub prepared_stays: bool,
    /// A result that was computed with several snapshots is judged by the first and the last of them.
    pub judge_last: bool,
    /// An ended writer whose effect is still on its way is not settled.
    pub await_effect: bool,
    /// A fill asks the slot before it computes, not only when it publishes.
    pub ask_before_fill: bool,
    /// A transaction knows by itself that it has written, whatever the slot says.
    pub own_notes: bool,
    /// A wide slot looks at the cut of the view that settled it; without: only at what it names.
    pub cut_check: bool,
    /// Of two cuts with the same `next` the one with fewer running is the later; without: they are taken for the same.
    pub cut_counts: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        settle_at_publish: true,
        settle_at_serve: true,
        pending_check: true,
        settled_check: true,
        all_at_once: true,
        horizon_check: true,
        overflow_check: true,
        overflow_waits: true,
        latest_first: true,
        latest_sure: true,
        own_bypass: true,
        register_before_write: true,
        register_before_end: true,
        prepared_stays: true,
        judge_last: true,
        await_effect: true,
        ask_before_fill: true,
        own_notes: false,
        cut_check: true,
        cut_counts: true,
    };

    /// As transactions register that know by themselves what they have written: any time before they can commit.
    pub const LATE: Self = Self {
        register_before_write: false,
        own_notes: true,
        ..Self::ALL
    };
}

impl Rules {
    /// Nothing that `ask` does is left out.
    fn keeps_ask(&self) -> bool {
        self.pending_check
            && self.settled_check
            && self.all_at_once
            && self.horizon_check
            && self.overflow_check
            && self.overflow_waits
            && self.latest_first
            && self.latest_sure
            && self.cut_check
            && self.cut_counts
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Unborn,
    /// Has its transaction id.
    Running,
    Prepared,
    /// Rolling back: withdrew itself, but others still see it running.
    Doomed,
    Committed,
    /// Rolled back and may still withdraw itself.
    Aborted,
    /// Rolled back for good.
    Gone,
}

const PHASES: [Phase; 7] = [
    Phase::Unborn,
    Phase::Running,
    Phase::Prepared,
    Phase::Doomed,
    Phase::Committed,
    Phase::Aborted,
    Phase::Gone,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    pub phase: Phase,
    /// What it wrote: bit 0 rows, bit 1 something that takes effect at commit.
    wrote: u8,
    /// What it registered, same bits.
    registered: u8,
    /// Everybody sees its effect at commit (only meaningful once it has committed).
    effective: bool,
}

impl Writer {
    const UNBORN: Self = Self {
        phase: Phase::Unborn,
        wrote: 0,
        registered: 0,
        effective: false,
    };

    /// Would this step write a second thing, or withdraw before the end?
    pub fn is_past_plain(&self, step: WriterStep) -> bool {
        match step {
            WriterStep::Write(_) => self.wrote != 0,
            WriterStep::Withdraw => self.phase == Phase::Running,
            _ => false,
        }
    }

    fn ended(&self) -> bool {
        matches!(self.phase, Phase::Committed | Phase::Aborted | Phase::Gone)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterStep {
    Begin,
    Write(Effect),
    /// Only where registering is not one step with the write.
    Register(Effect),
    Commit,
    Abort,
    Prepare,
    Withdraw,
    TakeEffect,
}

/// Writers and slot.
#[derive(Clone, Copy, Debug)]
pub struct World<T> {
    pub count: usize,
    pub writers: [Writer; 4],
    pub slot: T,
    /// The one entry, if it is alive. A generation never comes back, so a dead entry may be forgotten and the slot's own number be
    /// kept at 0: see [`World::forget_generation`].
    pub entry: Option<Value>,
}

/// A snapshot as the slot's rules see it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub seen: Set,
    writers: &'a [Writer; 4],
    await_effect: bool,
}

impl SnapshotView for View<'_> {
    fn finished(&self, xid: FullXid) -> bool {
        (1..=4).contains(&xid) && self.seen & (1 << (xid - 1)) != 0
    }

    fn xmin(&self) -> FullXid {
        u64::from(self.seen.trailing_ones()) + 1
    }

    fn effective(&self, xid: FullXid) -> bool {
        let writer = &self.writers[(xid - 1) as usize];
        !self.await_effect || writer.phase != Phase::Committed || writer.effective
    }

    fn effective_up_to(&self, xid: FullXid) -> bool {
        (1..=xid).all(|xid| self.effective(xid))
    }
}

/// Where a snapshot cuts, as PostgreSQL's `xmax` and the running transactions below it have it.
fn cut(seen: Set) -> Cut {
    let highest = Set::BITS - seen.leading_zeros();
    Cut {
        next: u64::from(highest) + 1,
        running: highest - seen.count_ones(),
    }
}

impl CutView for View<'_> {
    fn cut(&self) -> Cut {
        cut(self.seen)
    }
}

impl CutView for OneOf<'_> {
    fn cut(&self) -> Cut {
        self.0.cut()
    }
}

impl CutView for Hasty<'_> {
    fn cut(&self) -> Cut {
        self.0.cut()
    }
}

/// Sees only one pending writer finished: settling out of order.
struct OneOf<'a>(View<'a>, FullXid);

impl SnapshotView for OneOf<'_> {
    fn finished(&self, xid: FullXid) -> bool {
        xid == self.1
    }
    fn xmin(&self) -> FullXid {
        self.0.xmin()
    }
}

/// Takes the end of the newest overflowed writer for the end of all of them.
struct Hasty<'a>(View<'a>, FullXid);

impl SnapshotView for Hasty<'_> {
    fn finished(&self, xid: FullXid) -> bool {
        self.0.finished(xid)
    }
    fn xmin(&self) -> FullXid {
        if self.0.finished(self.1) {
            self.1 + 1
        } else {
            self.0.xmin()
        }
    }
}

const ROWS_BIT: u8 = 1;
const MARK_BIT: u8 = 2;

fn bit(effect: Effect) -> u8 {
    match effect {
        Effect::Rows => ROWS_BIT,
        Effect::AtCommit => MARK_BIT,
    }
}

impl<T: Subject> World<T> {
    pub fn new(count: usize) -> Self {
        assert!(count <= 4);
        Self {
            count,
            writers: [Writer::UNBORN; 4],
            slot: T::EMPTY,
            entry: None,
        }
    }

    /// The snapshot that anybody would take now.
    pub fn latest(&self) -> Set {
        (0..self.count)
            .filter(|at| self.writers[*at].ended())
            .fold(0, |set, at| set | 1 << at)
    }

    /// The rows that a snapshot sees.
    pub fn rows(&self, seen: Set) -> Set {
        self.set_of(|writer| writer.phase == Phase::Committed && writer.wrote & ROWS_BIT != 0)
            & seen
    }

    /// Effects at commit that everybody sees now.
    pub fn marks(&self) -> Set {
        self.set_of(|writer| {
            writer.phase == Phase::Committed && writer.wrote & MARK_BIT != 0 && writer.effective
        })
    }

    /// Effects at commit that some see now and others do not.
    pub fn marks_under_way(&self) -> Set {
        self.set_of(|writer| {
            writer.phase == Phase::Committed && writer.wrote & MARK_BIT != 0 && !writer.effective
        })
    }

    /// Effects at commit that count for everybody once the writers in `ended` have ended.
    pub fn marks_of(&self, ended: Set) -> Set {
        self.set_of(|writer| writer.phase == Phase::Committed && writer.wrote & MARK_BIT != 0)
            & ended
    }

    fn set_of(&self, is_in: impl Fn(&Writer) -> bool) -> Set {
        (0..self.count)
            .filter(|at| is_in(&self.writers[*at]))
            .fold(0, |set, at| set | 1 << at)
    }

    /// What the writer's own transaction sees of itself.
    pub fn own(&self, at: usize) -> Value {
        let wrote = self.writers[at].wrote;
        Value {
            rows: if wrote & ROWS_BIT != 0 { 1 << at } else { 0 },
            marks: if wrote & MARK_BIT != 0 { 1 << at } else { 0 },
        }
    }

    /// The world after `step` of writer `at`; none if it cannot take that step.
    pub fn write(&self, at: usize, step: WriterStep, rules: &Rules, lag: bool) -> Option<Self> {
        let mut next = *self;
        let writer = &mut next.writers[at];
        let xid = at as FullXid + 1;
        match (step, writer.phase) {
            (WriterStep::Begin, Phase::Unborn) => {
                if at > 0 && self.writers[at - 1].phase == Phase::Unborn {
                    return None;
                }
                writer.phase = Phase::Running;
            }
            (WriterStep::Write(effect), Phase::Running) if writer.wrote & bit(effect) == 0 => {
                writer.wrote |= bit(effect);
                if rules.register_before_write && rules.register_before_end {
                    writer.registered |= bit(effect);
                    next.slot.register(xid, effect);
                }
            }
            (WriterStep::Register(effect), phase)
                if writer.wrote & !writer.registered & bit(effect) != 0 =>
            {
                let late = phase == Phase::Committed && !rules.register_before_end;
                if phase != Phase::Running && !late {
                    return None;
                }
                writer.registered |= bit(effect);
                next.slot.register(xid, effect);
            }
            (WriterStep::Prepare, Phase::Running) if writer.wrote == writer.registered => {
                writer.phase = Phase::Prepared
            }
            (WriterStep::Commit, Phase::Running | Phase::Prepared) => {
                if writer.wrote != writer.registered && rules.register_before_end {
                    return None;
                }
                writer.phase = Phase::Committed;
                writer.effective = !lag || writer.wrote & MARK_BIT == 0;
            }
            (WriterStep::Abort, Phase::Running) => {
                writer.phase = if writer.registered == 0 {
                    Phase::Gone
                } else {
                    Phase::Aborted
                };
            }
            (WriterStep::Abort, Phase::Prepared | Phase::Doomed) => writer.phase = Phase::Gone,
            (WriterStep::Withdraw, Phase::Running) if writer.registered != 0 => {
                writer.phase = Phase::Doomed;
                next.slot.withdraw(xid);
            }
            (WriterStep::Withdraw, Phase::Aborted) => {
                writer.phase = Phase::Gone;
                next.slot.withdraw(xid);
            }
            (WriterStep::Withdraw, Phase::Prepared) if !rules.prepared_stays => {
                next.slot.withdraw(xid);
            }
            (WriterStep::TakeEffect, Phase::Committed) if !writer.effective => {
                writer.effective = true
            }
            _ => return None,
        }
        // What an ended transaction tried to write can no longer matter unless it committed.
        let writer = &mut next.writers[at];
        if writer.phase == Phase::Gone {
            (writer.wrote, writer.registered) = (0, 0);
        }
        Some(next)
    }

    fn view<'a>(seen: Set, writers: &'a [Writer; 4], rules: &Rules) -> View<'a> {
        View {
            seen,
            writers,
            await_effect: rules.await_effect,
        }
    }

    /// One settle, with the rules that are left out left out.
    pub fn settle(&mut self, seen: Set, rules: &Rules) {
        let writers = self.writers;
        let view = Self::view(seen, &writers, rules);
        if !rules.overflow_waits && self.slot.overflow() != 0 {
            self.slot.settle(&Hasty(view, self.slot.overflow()));
        } else if !rules.all_at_once {
            let one = (1..=4)
                .find(|xid| view.finished(*xid) && self.slot.is_listed(*xid))
                .unwrap_or(0);
            self.slot.settle(&OneOf(view, one));
        } else {
            self.slot.settle(&view);
        }
        self.forget_generation();
    }

    /// A step up of the generation kills the entry, once and for all.
    fn forget_generation(&mut self) {
        if self.slot.forget_generation() {
            self.entry = None;
        }
    }

    /// `judge`, with the rules that are left out left out.
    fn judge(&self, seen: Set, rules: &Rules) -> bool {
        self.slot
            .judge(&Self::view(seen, &self.writers, rules), rules)
    }

    /// The check that serving and publishing share; `own` is the writer whose transaction the reader runs in. True means that the
    /// present generation is the one that the snapshot sees.
    pub fn check(&mut self, seen: Set, own: Option<usize>, settles: bool, rules: &Rules) -> bool {
        if let Some(own) = own
            && (rules.own_bypass && self.slot.may_be_writer(own as FullXid + 1)
                || rules.own_notes && self.writers[own].wrote != 0)
        {
            return false;
        }
        if settles && rules.keeps_ask() {
            // The crate's own composition.
            let (latest, writers) = (self.latest(), self.writers);
            let view = Self::view(seen, &writers, rules);
            let latest = Self::view(latest, &writers, rules);
            let fits = self.slot.ask(&view, &latest);
            self.forget_generation();
            return fits;
        }
        if settles {
            if rules.latest_first && self.slot.needs_latest() {
                let latest = self.latest();
                self.settle(latest, rules);
                if rules.latest_sure && !self.judge(latest, rules) {
                    return false;
                }
            }
            self.settle(seen, rules);
        }
        self.judge(seen, rules)
    }

    /// Everything that may differ, in as few bits as it needs.
    pub fn pack(&self, into: &mut Packer) {
        for writer in &self.writers[..self.count] {
            into.push(
                3,
                PHASES
                    .iter()
                    .position(|phase| *phase == writer.phase)
                    .unwrap_or(7) as u64,
            );
            into.push(2, u64::from(writer.wrote));
            into.push(2, u64::from(writer.registered));
            into.push(1, u64::from(writer.effective));
        }
        self.slot.pack(into);
        into.push(1, u64::from(self.entry.is_some()));
        let value = self.entry.unwrap_or(Value { rows: 0, marks: 0 });
        into.push(self.count, u64::from(value.rows));
        into.push(self.count, u64::from(value.marks));
    }

    pub fn unpack(count: usize, from: &mut Packer) -> Self {
        let mut world = Self::new(count);
        for writer in &mut world.writers[..count] {
            writer.phase = PHASES[from.pull(3) as usize];
            writer.wrote = from.pull(2) as u8;
            writer.registered = from.pull(2) as u8;
            writer.effective = from.pull(1) != 0;
        }
        world.slot = T::unpack(from);
        let alive = from.pull(1) != 0;
        let value = Value {
            rows: from.pull(count) as Set,
            marks: from.pull(count) as Set,
        };
        world.entry = alive.then_some(value);
        world
    }
}

/// A state as 128 bits, written and read in the same order.
#[derive(Clone, Copy)]
pub struct Packer {
    pub bits: u128,
    at: u32,
}

impl Packer {
    pub fn new(bits: u128) -> Self {
        Self { bits, at: 0 }
    }

    pub fn push(&mut self, width: usize, value: u64) {
        assert!(value < 1 << width && self.at + width as u32 <= 128);
        self.bits |= u128::from(value) << self.at;
        self.at += width as u32;
    }

    pub fn pull(&mut self, width: usize) -> u64 {
        let value = (self.bits >> self.at) as u64 & ((1 << width) - 1);
        self.at += width as u32;
        value
    }
}
