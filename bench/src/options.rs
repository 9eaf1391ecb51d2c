//! The command line.

use std::ffi::OsString;

use anyhow::{Result, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};

/// What `--help` prints, before the names of the sections.
pub(crate) const HELP: &str = "\
Measures what cached calls cost, in a private PostgreSQL cluster, and compares within the same run.

  pg_query_cache_bench [options]

  --quick        a short run that only looks whether the goals hold within wide margins; writes nothing (implies --check)
  --check        exit status 1 if a goal is clearly missed
  --only NAME    only the sections whose name begins so (leaves plots in target/benchmarks, and the page as it is)
  --flame NAME   measures nothing, but draws where the time of hits goes: docs/benchmarks/flame-NAME.svg (build
                 with CARGO_PROFILE_RELEASE_DEBUG=line-tables-only for the names of functions)
  --help         this text

Sections: ";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The text above.
    Help,
    /// A flame graph of this name.
    Flame(String),
    /// A run.
    Run(Options),
}

/// How to measure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Few short rounds.
    pub(crate) quick: bool,
    /// A goal that is clearly missed is a failure.
    pub(crate) check: bool,
    /// Only the sections of this name.
    pub(crate) only: Option<String>,
}

impl Options {
    /// How often everything is measured in turn, unless a section knows better.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds_of(11)
    }

    /// So many rounds, or the few of a quick run.
    pub(crate) fn rounds_of(&self, rounds: usize) -> usize {
        if self.quick { 3 } else { rounds }
    }

    /// How far beyond its goal a figure has to be to be clearly missed, as a share of the goal.
    pub(crate) fn margin(&self) -> f64 {
        if self.quick { 0.5 } else { 0.1 }
    }

    /// Whether a section is to be measured.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only
            .as_deref()
            .is_none_or(|only| section.starts_with(only))
    }
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("quick") => (options.quick, options.check) = (true, true),
            Long("check") => options.check = true,
            Long("flame") => return Ok(Command::Flame(parser.value()?.string()?)),
            Long("only") => options.only = Some(parser.value()?.string()?),
            Value(value) => bail!("what is \"{}\"? See --help", value.display()),
            Long(_) | Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(Command::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_checks() {
        let parsed = parse(["--quick".into()]);
        let Ok(Command::Run(options)) = parsed else {
            unreachable!("{parsed:?}")
        };
        assert!(options.check && options.wants("inside"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(["--slow".into()]).is_err());
        assert!(parse(["fast".into()]).is_err());
    }
}
