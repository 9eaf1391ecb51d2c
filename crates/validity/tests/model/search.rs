//! Breadth-first exploration of everything that can happen, so that the first wrong answer found is a shortest one.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::hash::{BuildHasherDefault, Hasher};

/// What one step leads to.
pub enum Outcome {
    State(u128),
    /// A reader was served this entry, where the function would have answered otherwise.
    Wrong(String),
}

/// A set of states and steps.
pub trait Model {
    type Step: Debug;
    fn initial(&self) -> u128;
    /// Hands every step from `state` to `take`; returns how many of them served an entry rightly.
    fn steps(&self, state: u128, take: &mut dyn FnMut(Self::Step, Outcome)) -> u64;
}

/// What an exploration found.
pub struct Report {
    pub states: usize,
    pub servings: u64,
    /// The steps of a shortest way to a wrong answer.
    pub wrong: Option<Vec<String>>,
}

impl Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} states, {} servings", self.states, self.servings)?;
        if let Some(steps) = &self.wrong {
            write!(f, ", wrong after {} steps", steps.len())?;
            for (number, step) in steps.iter().enumerate() {
                write!(f, "\n    {}. {step}", number + 1)?;
            }
        }
        Ok(())
    }
}

/// Multiplies and folds; the keys are dense bit fields, nobody attacks them.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    fn write_u128(&mut self, value: u128) {
        let low = u128::from(value as u64 ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        let high = u128::from((value >> 64) as u64 ^ 0xC2B2_AE3D_27D4_EB4F) * 0xA076_1D64_78BD_642F;
        self.0 =
            (low as u64 ^ (low >> 64) as u64).rotate_left(29) ^ high as u64 ^ (high >> 64) as u64;
    }
}

/// Visits every reachable state, or stops at the first wrong answer.
pub fn explore<M: Model>(model: &M) -> Report {
    let mut seen: HashSet<u128, BuildHasherDefault<Fold>> = HashSet::default();
    // In the order of discovery: the queue, and the way back.
    let mut states = vec![model.initial()];
    let mut parents = vec![0u32];
    seen.insert(states[0]);
    let mut servings = 0;
    let mut at = 0;
    while at < states.len() {
        let state = states[at];
        let mut wrong = None;
        servings += model.steps(state, &mut |step, outcome| match outcome {
            Outcome::State(next) => {
                if seen.insert(next) {
                    states.push(next);
                    parents.push(at as u32);
                }
            }
            Outcome::Wrong(what) => {
                wrong.get_or_insert_with(|| format!("{step:?}: {what}"));
            }
        });
        if let Some(last) = wrong {
            let steps = way_to(model, &states, &parents, at, last);
            return Report {
                states: states.len(),
                servings,
                wrong: Some(steps),
            };
        }
        at += 1;
    }
    Report {
        states: states.len(),
        servings,
        wrong: None,
    }
}

fn way_to<M: Model>(
    model: &M,
    states: &[u128],
    parents: &[u32],
    mut at: usize,
    last: String,
) -> Vec<String> {
    let mut steps = vec![last];
    while at != 0 {
        let from = parents[at] as usize;
        let mut label = None;
        model.steps(states[from], &mut |step, outcome| {
            if matches!(outcome, Outcome::State(next) if next == states[at]) {
                label.get_or_insert_with(|| format!("{step:?}"));
            }
        });
        steps.push(label.unwrap_or_default());
        at = from;
    }
    steps.reverse();
    steps
}
