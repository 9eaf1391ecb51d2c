//! Values measured in turn, and what is made of them.
//!
//! Other things run on the machine too, so nothing is measured once and nothing alone: candidates take turns (A B, B A, A B …),
//! two of them are compared round by round, and what is told is the median with the middle half of the rounds around it.

use anyhow::Result;

/// One value per round.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<f64>);

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the values is below.
    pub(crate) low: f64,
    /// Half of the values is below.
    pub(crate) median: f64,
    /// A quarter of the values is above.
    pub(crate) high: f64,
    /// How many values there are.
    pub(crate) rounds: usize,
}

/// Measures each candidate once per round, the order reversed every other round.
pub(crate) fn in_turns<const N: usize>(
    rounds: usize,
    measure: impl FnMut(usize, usize) -> Result<f64>,
) -> Result<[Sample; N]> {
    let mut samples = [const { Sample(Vec::new()) }; N];
    fill_in_turns(&mut samples, rounds, measure)?;
    Ok(samples)
}

/// The same for as many candidates as there are.
pub(crate) fn each_in_turns<C>(
    candidates: &[C],
    rounds: usize,
    mut measure: impl FnMut(&C, usize) -> Result<f64>,
) -> Result<Vec<Sample>> {
    let mut samples = vec![Sample(Vec::new()); candidates.len()];
    fill_in_turns(&mut samples, rounds, |candidate, round| {
        measure(&candidates[candidate], round)
    })?;
    Ok(samples)
}

fn fill_in_turns(
    samples: &mut [Sample],
    rounds: usize,
    mut measure: impl FnMut(usize, usize) -> Result<f64>,
) -> Result<()> {
    let count = samples.len();
    for round in 0..rounds {
        for turn in 0..count {
            let candidate = if round % 2 == 0 {
                turn
            } else {
                count - 1 - turn
            };
            samples[candidate].0.push(measure(candidate, round)?);
        }
    }
    Ok(())
}

impl Sample {
    /// Of values that were measured otherwise than in turns.
    pub(crate) fn of(values: Vec<f64>) -> Self {
        Sample(values)
    }

    /// Both of each round put together.
    pub(crate) fn with(&self, other: &Sample, combine: impl Fn(f64, f64) -> f64) -> Sample {
        Sample(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(a, b)| combine(*a, *b))
                .collect(),
        )
    }

    /// This divided by the other, round by round.
    pub(crate) fn over(&self, other: &Sample) -> Sample {
        self.with(other, |a, b| a / b)
    }

    /// What this has more than the other, round by round.
    pub(crate) fn minus(&self, other: &Sample) -> Sample {
        self.with(other, |a, b| a - b)
    }

    /// The average of several, round by round.
    pub(crate) fn average(samples: &[Sample]) -> Sample {
        let rounds = samples.iter().map(|sample| sample.0.len()).min();
        let average = |round| {
            let sum: f64 = samples.iter().map(|sample| sample.0[round]).sum();
            sum / samples.len() as f64
        };
        Sample((0..rounds.unwrap_or(0)).map(average).collect())
    }

    /// All values together.
    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Median and quartiles.
    pub(crate) fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len().max(1) - 1) as f64;
            let below = sorted.get(place as usize).copied().unwrap_or(f64::NAN);
            let above = sorted
                .get(place.ceil() as usize)
                .copied()
                .unwrap_or(f64::NAN);
            below + (above - below) * place.fract()
        };
        Spread {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
            rounds: sorted.len(),
        }
    }
}

/// How far the medians of samples lie apart: the largest divided by the smallest. Noise makes it larger, never smaller.
pub(crate) fn flatness(samples: &[Sample]) -> Sample {
    let medians = samples.iter().map(|sample| sample.spread().median);
    let (low, high) = medians.fold((f64::INFINITY, 0.0_f64), |(low, high), median| {
        (low.min(median), high.max(median))
    });
    Sample(vec![high / low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        let spread = Sample(vec![4.0, 1.0, 3.0, 2.0]).spread();
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
    }

    #[test]
    fn flat_is_one() {
        let samples = [vec![1.0, 9.0, 2.0], vec![3.0], vec![2.5]].map(Sample::of);
        assert_eq!(flatness(&samples).spread().median, 1.5);
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        let mut order = Vec::new();
        let samples = in_turns::<2>(2, |candidate, round| {
            order.push(candidate);
            Ok(((candidate + 1) * (round + 1)) as f64)
        });
        let Ok([a, b]) = samples else {
            unreachable!("{samples:?}")
        };
        assert_eq!(order, [0, 1, 1, 0]);
        assert_eq!(b.over(&a).spread().median, 2.0);
        assert_eq!(b.minus(&a).sum(), 3.0);
        assert_eq!(Sample::average(&[a, b]).0, [1.5, 3.0]);
    }
}
