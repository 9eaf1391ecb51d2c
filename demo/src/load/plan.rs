//! Which operations, in which order, and when: drawn from a seed, the same for the same seed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pg_query_cache_harness::postgres::Client;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, Zipf};

use crate::load::kinds::{ALL, Kind};
use crate::tour::{Call, rows};

/// How much less the second is wanted than the first, and so on: rank r has a weight of 1 / r. So it is with pages of the web.
const EXPONENT: f64 = 1.0;

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Its place in [`ALL`].
    pub(crate) kind: usize,
    /// The arguments of its statement.
    pub(crate) arguments: Vec<String>,
}

impl Operation {
    /// Its sort.
    pub(crate) fn kind(&self) -> &'static Kind {
        &ALL[self.kind]
    }

    /// The call that it is; none if it is a write.
    pub(crate) fn call(&self) -> Option<Call> {
        let literals: Vec<String> = self
            .arguments
            .iter()
            .map(|argument| format!("'{}'", argument.replace('\'', "''")))
            .collect();
        self.kind().call(&literals)
    }
}

/// What operations are done for: for each of [`ALL`] rows of arguments, the most wanted first.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Vec<Vec<String>>>);

impl Keys {
    /// Asks the database.
    pub(crate) fn read(client: &mut Client) -> Result<Self> {
        let mut known: HashMap<&str, Vec<Vec<String>>> = HashMap::new();
        let mut all = Vec::with_capacity(ALL.len());
        for kind in ALL {
            let keys = match known.get(kind.keys) {
                Some(keys) => keys.clone(),
                None => rows(client, kind.keys)?.1,
            };
            if keys.is_empty() {
                bail!("{}: there is nothing to do it for", kind.label);
            }
            known.insert(kind.keys, keys.clone());
            all.push(keys);
        }
        Ok(Self(all))
    }

    /// For each sort of call those that are wanted most, this share of them.
    pub(crate) fn wanted_most(&self, share: f64) -> Vec<Operation> {
        self.calls(|keys| (keys as f64 * share).ceil() as usize)
    }

    /// For each sort of call the first so many.
    pub(crate) fn first(&self, count: usize) -> Vec<Operation> {
        self.calls(|_| count)
    }

    fn calls(&self, count: impl Fn(usize) -> usize) -> Vec<Operation> {
        let mut calls = Vec::new();
        for (kind, keys) in self
            .0
            .iter()
            .enumerate()
            .filter(|(kind, _)| !ALL[*kind].writes())
        {
            let wanted = keys.iter().take(count(keys.len()));
            calls.extend(
                wanted
                    .cloned()
                    .map(|arguments| Operation { kind, arguments }),
            );
        }
        calls
    }

    /// So many operations in the shares of [`ALL`], shuffled.
    pub(crate) fn draw(&self, count: usize, seed: u64) -> Result<Vec<Operation>> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut operations = Vec::with_capacity(count);
        for (kind, keys) in self.0.iter().enumerate() {
            let ranks = Zipf::new(keys.len() as f64, EXPONENT).context("popularity")?;
            for _ in 0..count * ALL[kind].share / 1000 {
                let rank = ranks.sample(&mut rng) as usize;
                let mut arguments = keys[rank.clamp(1, keys.len()) - 1].clone();
                if ALL[kind].writes() {
                    arguments.push(rng.random_range(0..100).to_string());
                }
                operations.push(Operation { kind, arguments });
            }
        }
        operations.shuffle(&mut rng);
        Ok(operations)
    }
}

/// When each of so many operations is due: at random, as independent users come, on average so many in a second.
pub(crate) fn arrivals(count: usize, per_second: f64, seed: u64) -> Result<Vec<Duration>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let gaps = Exp::new(per_second).context("the rate of arrivals")?;
    let mut now = 0.0;
    Ok((0..count)
        .map(|_| {
            now += gaps.sample(&mut rng);
            Duration::from_secs_f64(now)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys(vec![
            (0..500).map(|key| vec![key.to_string()]).collect();
            ALL.len()
        ])
    }

    fn drawn(seed: u64) -> Vec<Operation> {
        keys().draw(1000, seed).unwrap_or_default()
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(drawn(1).len(), 1000);
    }

    #[test]
    fn the_shares_are_exact_and_mixed() {
        let writes: Vec<bool> = drawn(3).iter().map(|one| one.kind().writes()).collect();
        assert_eq!(writes.iter().filter(|write| **write).count(), 50);
        assert!(writes[..500].contains(&true) && writes[500..].contains(&true));
    }

    #[test]
    fn the_first_is_wanted_most() {
        let mut count = [0; 500];
        for seed in 0..20 {
            for operation in drawn(seed).iter().filter(|one| one.kind == 0) {
                count[operation.arguments[0].parse::<usize>().unwrap_or_default()] += 1;
            }
        }
        // 8,800 draws; the first has a share of 1 / (1 + 1/2 + … + 1/500), about 0.147; the second half of that.
        assert!((1100..1500).contains(&count[0]), "{}", count[0]);
        assert!((520..780).contains(&count[1]), "{}", count[1]);
    }

    #[test]
    fn calls_alone_are_warmed() {
        let half = keys().wanted_most(0.5);
        assert!(half.iter().all(|one| !one.kind().writes()));
        assert_eq!(half.len(), 7 * 250);
        assert_eq!(keys().first(3).len(), 7 * 3);
    }

    #[test]
    fn arrivals_have_the_rate_and_are_not_even() {
        let due = arrivals(2000, 100.0, 5).unwrap_or_default();
        let last = due.last().map_or(0.0, Duration::as_secs_f64);
        assert!((18.0..22.0).contains(&last), "{last}");
        assert!(due.is_sorted());
        assert!(
            due.windows(2)
                .any(|two| two[1] - two[0] > Duration::from_millis(30))
        );
    }
}
