//! Any number of readers, each holding every snapshot that there ever was and every result that could have been computed.
//!
//! Taking a snapshot or computing a result changes nothing that others can see, so nothing is lost by assuming that somebody did it
//! at every moment: which snapshots and results exist follows from the order in which the writers ended. This covers every run of
//! two readers with three snapshots, in far fewer states. Every writer's transaction reads as well.

use crate::search::{Model, Outcome};
use crate::subject::Subject;
use crate::world::{Packer, Phase, Rules, Set, Value, World, WriterStep};
use pg_query_cache_validity::Effect;
use std::marker::PhantomData;

pub struct AnyReaders<T> {
    pub writers: usize,
    /// Results may be computed with several snapshots (a function that calls a volatile one).
    pub mixed: bool,
    pub rules: Rules,
    /// The kind of slot.
    pub slot: PhantomData<T>,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read by Debug, in the counterexamples")]
pub enum Step {
    Writer {
        xid: usize,
        step: WriterStep,
    },
    /// Anybody settles with a snapshot taken now.
    SettleNow,
    Publish {
        seen: Set,
        last_seen: Set,
        value: Value,
        own: Option<usize>,
    },
    Serve {
        seen: Set,
        own: Option<usize>,
    },
}

#[derive(Clone, Copy)]
struct State<T> {
    world: World<T>,
    /// Who ended, in that order.
    ends: [u8; 4],
}

const WRITER_STEPS: [WriterStep; 9] = [
    WriterStep::Begin,
    WriterStep::Write(Effect::Rows),
    WriterStep::Write(Effect::AtCommit),
    WriterStep::Register(Effect::Rows),
    WriterStep::Register(Effect::AtCommit),
    WriterStep::Prepare,
    WriterStep::Commit,
    WriterStep::Abort,
    WriterStep::Withdraw,
];

impl<T: Subject> AnyReaders<T> {
    fn pack(&self, state: &State<T>) -> u128 {
        let mut packer = Packer::new(0);
        state.world.pack(&mut packer);
        for end in &state.ends[..self.writers] {
            packer.push(2, u64::from(*end));
        }
        packer.bits
    }

    fn unpack(&self, bits: u128) -> State<T> {
        let mut packer = Packer::new(bits);
        let world = World::unpack(self.writers, &mut packer);
        let mut ends = [0; 4];
        for end in &mut ends[..self.writers] {
            *end = packer.pull(2) as u8;
        }
        State { world, ends }
    }

    /// What every reader can do, in no writer's transaction or in that of `own`.
    fn read(
        &self,
        state: &State<T>,
        own: Option<usize>,
        take: &mut dyn FnMut(Step, Outcome),
    ) -> u64 {
        let mut servings = 0;
        let ended = state.world.latest().count_ones() as usize;
        let mut snapshots: [Set; 5] = [0; 5];
        for number in 0..ended {
            snapshots[number + 1] = snapshots[number] | 1 << state.ends[number];
        }
        let snapshots = &snapshots[..=ended];
        let nothing = Value { rows: 0, marks: 0 };
        // Its own work as it sees it now, and as it saw it before it wrote.
        let own_now = own.map_or(nothing, |own| state.world.own(own));
        let own_then = if own_now == nothing {
            &[nothing][..]
        } else {
            &[nothing, own_now]
        };

        for (first, seen) in snapshots.iter().copied().enumerate() {
            let mut world = state.world;
            let fits = world.check(seen, own, self.rules.settle_at_serve, &self.rules);
            let step = Step::Serve { seen, own };
            if fits && let Some(served) = world.entry {
                let right = Value {
                    rows: world.rows(seen) | own_now.rows,
                    marks: world.marks() | own_now.marks,
                };
                if served != right {
                    take(
                        step,
                        Outcome::Wrong(format!("served {served:?}, computed {right:?}")),
                    );
                    return servings;
                }
                servings += 1;
            }
            take(step, Outcome::State(self.pack(&State { world, ..*state })));

            for (last, last_seen) in snapshots.iter().copied().enumerate().skip(first) {
                if last > first && !self.mixed {
                    break;
                }
                let mut world = state.world;
                let fits = world.check(seen, own, self.rules.settle_at_publish, &self.rules)
                    && {
                        let before = world.slot;
                        !self.rules.judge_last
                        || last == first
                        // The same generation: the second settle must not have moved anything.
                        || world.check(last_seen, own, self.rules.settle_at_publish, &self.rules) && world.slot == before
                    };
                if !fits {
                    take(
                        Step::Publish {
                            seen,
                            last_seen,
                            value: nothing,
                            own,
                        },
                        Outcome::State(self.pack(&State { world, ..*state })),
                    );
                    continue;
                }
                for computed in &snapshots[last..] {
                    for own_part in own_then {
                        // Each writer that only the later snapshots see may have been met or missed.
                        let between = state.world.rows(last_seen) & !state.world.rows(seen);
                        for met in (0..=between).filter(|met| met & !between == 0) {
                            let value = Value {
                                rows: state.world.rows(seen) | met | own_part.rows,
                                marks: state.world.marks_of(*computed) | own_part.marks,
                            };
                            let published = World {
                                entry: Some(value),
                                ..world
                            };
                            take(
                                Step::Publish {
                                    seen,
                                    last_seen,
                                    value,
                                    own,
                                },
                                Outcome::State(self.pack(&State {
                                    world: published,
                                    ..*state
                                })),
                            );
                        }
                    }
                }
            }
        }
        servings
    }
}

impl<T: Subject> Model for AnyReaders<T> {
    type Step = Step;

    fn initial(&self) -> u128 {
        self.pack(&State {
            world: World::new(self.writers),
            ends: [0; 4],
        })
    }

    fn steps(&self, state: u128, take: &mut dyn FnMut(Step, Outcome)) -> u64 {
        let state = self.unpack(state);
        for at in 0..self.writers {
            for step in WRITER_STEPS {
                if let Some(world) = state.world.write(at, step, &self.rules, false) {
                    let mut ends = state.ends;
                    let ended = state.world.latest().count_ones() as usize;
                    if world.latest() != state.world.latest() {
                        ends[ended] = at as u8;
                    }
                    take(
                        Step::Writer { xid: at + 1, step },
                        Outcome::State(self.pack(&State { world, ends })),
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

        let mut servings = self.read(&state, None, take);
        // Registering late hurts others too: look for that, not for the writer's own reading.
        let owns = if self.rules.register_before_end {
            0..self.writers
        } else {
            0..0
        };
        for own in owns.filter(|own| state.world.writers[*own].phase == Phase::Running) {
            servings += self.read(&state, Some(own), take);
        }
        servings
    }
}
