//! The command line.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Shows what pg_query_cache does, on real data, in a private PostgreSQL cluster.

  pg_query_cache_demo [options]          load the data and run the tour
  pg_query_cache_demo psql [argument …]  a shell into the cluster that the tour left running

  --scale NUMBER   size of the samples, 0.001 to 100 (default 1: 500,000 sessions, 1,000,000 orders, 1,000,000 contacts;
                   of contacts no more than that)
  --keep           go on with the data of the last run instead of loading it anew
  --data-only      load the data, leave the tour out
  --no-color       plain text (NO_COLOR in the environment does the same)
  --help           this text
";

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// The text above.
    Help,
    /// The tour.
    Tour(Options),
    /// A shell, with these arguments for psql.
    Psql(Vec<OsString>),
}

/// How the tour is to run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) scale: f64,
    pub(crate) keep: bool,
    pub(crate) data_only: bool,
    pub(crate) color: bool,
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut options = Options {
        scale: 1.0,
        keep: false,
        data_only: false,
        color: true,
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("scale") => {
                options.scale = parser.value()?.parse().context("--scale takes a number")?;
                if !(0.001..=100.0).contains(&options.scale) {
                    bail!("--scale takes a number from 0.001 to 100");
                }
            }
            Long("keep") => options.keep = true,
            Long("data-only") => options.data_only = true,
            Long("no-color") => options.color = false,
            Value(word) if word == "psql" => {
                return Ok(Command::Psql(parser.raw_args()?.collect()));
            }
            other => bail!("{}; see --help", other.unexpected()),
        }
    }
    Ok(Command::Tour(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read() -> Result<()> {
        let Command::Tour(options) = parse_words(&["--scale", "0.5", "--keep"])? else {
            bail!("not a tour");
        };
        assert_eq!(options.scale, 0.5);
        assert!(options.keep && options.color && !options.data_only);
        Ok(())
    }

    #[test]
    fn everything_behind_psql_is_for_psql() -> Result<()> {
        let Command::Psql(arguments) = parse_words(&["psql", "-c", "SELECT 1"])? else {
            bail!("not a shell");
        };
        assert_eq!(arguments, ["-c", "SELECT 1"]);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["--scale", "0"][..],
            &["--scale", "much"],
            &["--scael"],
            &["tour"],
        ] {
            assert!(parse_words(words).is_err(), "{words:?}");
        }
    }
}
