//! What a run is told.

use anyhow::{Context, Result, bail, ensure};

use crate::road;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long scripts are made and run.
    pub seconds: u64,
    /// What the first script comes from; the next comes from the number after it.
    pub seed: u64,
    /// So many scripts at most.
    pub scripts: u64,
    /// A thread ends when it has found so many differences.
    pub findings: usize,
    /// Pairs of servers, each with a thread.
    pub threads: u64,
    /// Roads that are taken; all if there is none.
    pub only: Vec<String>,
    /// Prints each script before it runs.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 100,
            seed: 1,
            scripts: u64::MAX,
            findings: 3,
            threads: 2,
            only: Vec::new(),
            verbose: false,
        }
    }
}

/// What the program prints for `--help`.
pub const HELP: &str = "\
roads: runs random scripts on a server with the cache and on one without, and compares

  --seconds N     how long (100)
  --seed N        what the first script comes from; the next comes from N + 1 (1)
  --scripts N     ends after so many
  --findings N    a thread ends when it has found so many (3)
  --threads N     pairs of servers that work at the same time (2)
  --only A,B      takes these roads only (names of roads/*.sql)
  --verbose       prints each script before it runs

A finding is told with the seed of its script; --seed S --scripts 1, with the same --only, runs that one again.
Ends with status 0 if nothing was found, 1 if something was, 2 if it could not run.
";

impl Options {
    /// Reads the arguments behind the program's name; `None` if they ask for help.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == "--verbose" {
                options.verbose = true;
                continue;
            }
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            let place = match name.as_str() {
                "--seconds" => &mut options.seconds,
                "--seed" => &mut options.seed,
                "--scripts" => &mut options.scripts,
                "--findings" => {
                    options.findings = value.parse().context("--findings")?;
                    continue;
                }
                "--threads" => &mut options.threads,
                "--only" => {
                    options.only = value.split(',').map(str::to_owned).collect();
                    continue;
                }
                _ => bail!("unknown option {name}"),
            };
            *place = value
                .parse()
                .with_context(|| format!("{name}: \"{value}\" is no number"))?;
        }
        for name in &options.only {
            ensure!(road::names().contains(&name.as_str()), "no road \"{name}\"");
        }
        Ok(Some(options))
    }
}
