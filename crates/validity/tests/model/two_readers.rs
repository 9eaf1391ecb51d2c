//! Two readers with up to three snapshots each, kept and used as late as they like, and one result under way each.
//!
//! The literal form of the question. Here a fill has its own steps (ask the slot, compute, publish), so that effects which spread
//! only some time after the end of their transaction (`lag`) can be told: while one spreads, some readers meet it and others do not.

use crate::search::{Model, Outcome};
use crate::subject::Subject;
use crate::world::{Packer, Phase, Rules, Set, Value, World, WriterStep};
use pg_query_cache_validity::Effect;
use std::marker::PhantomData;

pub struct TwoReaders<T> {
    pub writers: usize,
    /// The writer in whose transaction the second reader runs, until that ends.
    pub own: Option<usize>,
    /// Effects at commit reach others some time after the commit.
    pub lag: bool,
    /// A writer writes one thing at most, and withdraws only after its end: fewer states for the same questions.
    pub plain: bool,
    /// Nobody writes anything that takes effect at commit.
    pub rows_only: bool,
    pub rules: Rules,
    /// The kind of slot.
    pub slot: PhantomData<T>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fill {
    None,
    /// May compute (only with `lag`).
    Begun {
        seen: Set,
    },
    Computed {
        seen: Set,
        rows: Set,
        marks: Set,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Reader {
    /// Bit `n`: has a snapshot that sees the set `n`.
    snapshots: u8,
    fill: Fill,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read by Debug, in the counterexamples")]
pub enum Step {
    Writer {
        xid: usize,
        step: WriterStep,
    },
    SettleNow,
    Snapshot {
        reader: usize,
        seen: Set,
    },
    BeginFill {
        reader: usize,
        seen: Set,
    },
    Compute {
        reader: usize,
        seen: Set,
        value: Value,
    },
    Publish {
        reader: usize,
    },
    Serve {
        reader: usize,
        seen: Set,
    },
}

#[derive(Clone, Copy)]
struct State<T> {
    world: World<T>,
    readers: [Reader; 2],
}

const SNAPSHOTS: u32 = 3;
const IDLE: Reader = Reader {
    snapshots: 0,
    fill: Fill::None,
};

const WRITER_STEPS: [WriterStep; 8] = [
    WriterStep::Begin,
    WriterStep::Write(Effect::Rows),
    WriterStep::Write(Effect::AtCommit),
    WriterStep::Prepare,
    WriterStep::Commit,
    WriterStep::Abort,
    WriterStep::Withdraw,
    WriterStep::TakeEffect,
];

impl<T: Subject> TwoReaders<T> {
    fn pack(&self, state: &State<T>) -> u128 {
        let mut packer = Packer::new(0);
        state.world.pack(&mut packer);
        let mut readers = state.readers;
        if self.own.is_none() {
            readers.sort();
        }
        for reader in readers {
            packer.push(8, u64::from(reader.snapshots));
            let (stage, seen, rows, marks) = match reader.fill {
                Fill::None => (0, 0, 0, 0),
                Fill::Begun { seen } => (1, seen, 0, 0),
                Fill::Computed { seen, rows, marks } => (2, seen, rows, marks),
            };
            packer.push(2, stage);
            for set in [seen, rows, marks] {
                packer.push(self.writers, u64::from(set));
            }
        }
        packer.bits
    }

    fn unpack(&self, bits: u128) -> State<T> {
        let mut packer = Packer::new(bits);
        let world = World::unpack(self.writers, &mut packer);
        let readers = [(); 2].map(|()| {
            let snapshots = packer.pull(8) as u8;
            let stage = packer.pull(2);
            let [seen, rows, marks] = [(); 3].map(|()| packer.pull(self.writers) as Set);
            let fill = match stage {
                0 => Fill::None,
                1 => Fill::Begun { seen },
                _ => Fill::Computed { seen, rows, marks },
            };
            Reader { snapshots, fill }
        });
        State { world, readers }
    }

    /// The writer whose transaction `reader` runs in now.
    fn own(&self, world: &World<T>, reader: usize) -> Option<usize> {
        self.own.filter(|own| {
            reader == 1 && matches!(world.writers[*own].phase, Phase::Unborn | Phase::Running)
        })
    }

    fn read(&self, state: &State<T>, at: usize, take: &mut dyn FnMut(Step, Outcome)) -> u64 {
        let mut servings = 0;
        let world = state.world;
        let reader = state.readers[at];
        let own = self.own(&world, at);
        let own_work = own.map_or(Value { rows: 0, marks: 0 }, |own| world.own(own));
        let with = |world: World<T>, reader: Reader| {
            let mut next = State { world, ..*state };
            next.readers[at] = reader;
            Outcome::State(self.pack(&next))
        };

        let latest = world.latest();
        if reader.snapshots & (1 << latest) == 0 && reader.snapshots.count_ones() < SNAPSHOTS {
            let snapshots = reader.snapshots | 1 << latest;
            take(
                Step::Snapshot {
                    reader: at,
                    seen: latest,
                },
                with(
                    world,
                    Reader {
                        snapshots,
                        ..reader
                    },
                ),
            );
        }

        for seen in (0..8).filter(|seen| reader.snapshots & (1 << seen) != 0) {
            if self.lag {
                let mut asked = world;
                let may = !self.rules.ask_before_fill
                    || asked.check(seen, own, self.rules.settle_at_publish, &self.rules);
                let fill = if may {
                    Fill::Begun { seen }
                } else {
                    reader.fill
                };
                take(
                    Step::BeginFill { reader: at, seen },
                    with(asked, Reader { fill, ..reader }),
                );
            } else {
                let value = Value {
                    rows: world.rows(seen) | own_work.rows,
                    marks: world.marks() | own_work.marks,
                };
                let fill = Fill::Computed {
                    seen,
                    rows: value.rows,
                    marks: value.marks,
                };
                take(
                    Step::Compute {
                        reader: at,
                        seen,
                        value,
                    },
                    with(world, Reader { fill, ..reader }),
                );
            }

            let mut asked = world;
            let fits = asked.check(seen, own, self.rules.settle_at_serve, &self.rules);
            let step = Step::Serve { reader: at, seen };
            if fits && let Some(served) = asked.entry {
                let rows = world.rows(seen) | own_work.rows;
                let marks = world.marks() | own_work.marks;
                let either = world.marks_under_way();
                if served.rows != rows || served.marks & !either != marks {
                    let right = Value { rows, marks };
                    take(
                        step,
                        Outcome::Wrong(format!("served {served:?}, computed {right:?}")),
                    );
                    return servings;
                }
                servings += 1;
            }
            take(step, with(asked, reader));
        }

        match reader.fill {
            Fill::None => {}
            Fill::Begun { seen } => {
                let either = world.marks_under_way();
                for met in (0..=either).filter(|met| met & !either == 0) {
                    let rows = world.rows(seen) | own_work.rows;
                    let marks = world.marks() | met | own_work.marks;
                    let fill = Fill::Computed { seen, rows, marks };
                    let value = Value { rows, marks };
                    take(
                        Step::Compute {
                            reader: at,
                            seen,
                            value,
                        },
                        with(world, Reader { fill, ..reader }),
                    );
                }
            }
            Fill::Computed { seen, rows, marks } => {
                let mut asked = world;
                if asked.check(seen, own, self.rules.settle_at_publish, &self.rules) {
                    asked.entry = Some(Value { rows, marks });
                }
                take(
                    Step::Publish { reader: at },
                    with(
                        asked,
                        Reader {
                            fill: Fill::None,
                            ..reader
                        },
                    ),
                );
            }
        }
        servings
    }
}

impl<T: Subject> Model for TwoReaders<T> {
    type Step = Step;

    fn initial(&self) -> u128 {
        assert!(self.writers <= 3);
        self.pack(&State {
            world: World::new(self.writers),
            readers: [IDLE; 2],
        })
    }

    fn steps(&self, state: u128, take: &mut dyn FnMut(Step, Outcome)) -> u64 {
        let state = self.unpack(state);
        for at in 0..self.writers {
            for step in WRITER_STEPS {
                if self.rows_only && matches!(step, WriterStep::Write(Effect::AtCommit)) {
                    continue;
                }
                if self.plain && state.world.writers[at].is_past_plain(step) {
                    continue;
                }
                if let Some(world) = state.world.write(at, step, &self.rules, self.lag) {
                    let mut readers = state.readers;
                    if self.own(&state.world, 1) == Some(at) && self.own(&world, 1).is_none() {
                        readers[1] = IDLE;
                    }
                    take(
                        Step::Writer { xid: at + 1, step },
                        Outcome::State(self.pack(&State { world, readers })),
                    );
                }
            }
        }
        let mut world = state.world;
        world.settle(world.latest(), &self.rules);
        take(
            Step::SettleNow,
            Outcome::State(self.pack(&State { world, ..state })),
        );

        self.read(&state, 0, take) + self.read(&state, 1, take)
    }
}
