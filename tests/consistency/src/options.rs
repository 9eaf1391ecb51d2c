//! What a run of the oracle is told.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::operations;

/// Which cache is behind the cached functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The extension.
    Product,
    /// A table and triggers that delete its rows.
    Classical,
    /// None: the cached function calls the function.
    None,
}

impl FromStr for Cache {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "product" => Ok(Self::Product),
            "classical" => Ok(Self::Classical),
            "none" => Ok(Self::None),
            _ => bail!("unknown cache \"{text}\""),
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Product => "product",
            Self::Classical => "classical",
            Self::None => "none",
        })
    }
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest time.
    pub seconds: u64,
    /// What all sequences come from.
    pub seed: u64,
    /// Sessions that compare.
    pub readers: u64,
    /// Sessions that write.
    pub writers: u64,
    /// Ends the run before its time, once so many comparisons are made and every operation has been committed.
    pub min_comparisons: u64,
    /// How often the server is restarted on the way, in turns fast and like a crash.
    pub restarts: u64,
    /// Ends the run at so many differences.
    pub max_differences: u64,
    /// The share of hits that the product computes again and compares by itself; it must find nothing either.
    pub verify: f64,
    /// The cache.
    pub cache: Cache,
    /// Operations to be left out, by name: to find which one a difference needs.
    pub skip: Vec<String>,
    /// Tells how it goes on standard error.
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 20,
            seed: 1,
            readers: 4,
            writers: 3,
            min_comparisons: 0,
            restarts: 0,
            max_differences: u64::MAX,
            verify: 0.0,
            cache: Cache::Product,
            skip: Vec::new(),
            progress: false,
        }
    }
}

/// What the program prints for `--help`.
pub const HELP: &str = "\
consistency: compares cached functions with the functions themselves while other sessions write

  --seconds N           the longest time (20)
  --seed N              what all sequences come from (1)
  --readers N           sessions that compare (4)
  --writers N           sessions that write (3)
  --min-comparisons N   end as soon as so many are made and every kind of write was committed; fail if they are not reached
  --restarts N          restart the server so often, in turns fast and like a crash (0)
  --max-differences N   end at so many differences
  --verify SHARE        let the product verify this share of its hits by itself, 0 to 1; it must find nothing either (0)
  --cache WHAT          product (default), classical: a table with triggers, none: the oracle itself on trial
  --skip NAME           leave out a kind of write; may be repeated
  --only NAME           leave out all others; may be repeated
  --soak                three runs: the classical cache, which must fail, a quarter of the time without a cache, then the
                        product; compares deadlocks and serialization failures
  --json                the report as JSON

Ends with status 0 if nothing was wrong, 1 if something was, 2 if it could not run.
";

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// A run, and whether its report is JSON.
    Run(Options, bool),
    /// A soak, likewise.
    Soak(Options, bool),
    /// The help text.
    Help,
}

impl Request {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Options {
            progress: true,
            ..Options::default()
        };
        let (mut json, mut soak) = (false, false);
        let mut only: Vec<String> = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| arguments.next())
                    .with_context(|| format!("{name} needs a value"))
            };
            let number = |text: String| {
                text.parse()
                    .with_context(|| format!("{name}: \"{text}\" is no number"))
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--json" => json = true,
                "--soak" => soak = true,
                "--seconds" => options.seconds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--readers" => options.readers = number(value()?)?,
                "--writers" => options.writers = number(value()?)?,
                "--min-comparisons" => options.min_comparisons = number(value()?)?,
                "--restarts" => options.restarts = number(value()?)?,
                "--max-differences" => options.max_differences = number(value()?)?,
                "--verify" => {
                    let share = value()?;
                    options.verify = share
                        .parse()
                        .with_context(|| format!("{name}: \"{share}\" is no number"))?;
                }
                "--cache" => options.cache = value()?.parse()?,
                "--skip" => options.skip.push(operation(value()?)?),
                "--only" => only.push(operation(value()?)?),
                _ => bail!("unknown option {name}"),
            }
        }
        if !only.is_empty() {
            let others = operations::all()
                .filter(|operation| !only.iter().any(|name| name == operation.name));
            options
                .skip
                .extend(others.map(|operation| operation.name.to_owned()));
        }
        Ok(if soak {
            Self::Soak(options, json)
        } else {
            Self::Run(options, json)
        })
    }
}

fn operation(name: String) -> Result<String> {
    if operations::all().any(|operation| operation.name == name) {
        return Ok(name);
    }
    let names: Vec<&str> = operations::all().map(|operation| operation.name).collect();
    bail!(
        "no kind of write is called \"{name}\"; there are: {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request> {
        Request::parse(line.split_whitespace().map(ToOwned::to_owned))
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let request = parse("--seconds 7 --seed=9 --cache classical --json --only TRUNCATE");
        let Ok(Request::Run(options, json)) = request else {
            unreachable!("{request:?}")
        };
        assert_eq!(
            (options.seconds, options.seed, options.cache, json),
            (7, 9, Cache::Classical, true)
        );
        assert_eq!(options.skip.len(), operations::all().count() - 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--sekunden 3",
            "--seconds",
            "--seconds many",
            "--cache other",
            "--skip nothing",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
