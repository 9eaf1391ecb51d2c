//! What a run is told.

use anyhow::{Context, Result, bail};

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long they attack.
    pub seconds: u64,
    /// What all statements come from.
    pub seed: u64,
    /// Threads that attack the database with the extension.
    pub attackers: u64,
    /// Threads that attack the database without it.
    pub elsewhere: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 120,
            seed: 1,
            attackers: 4,
            elsewhere: 2,
        }
    }
}

/// What the program prints for `--help`.
pub const HELP: &str = "\
hostile: lets random attackers at a server that has the library preloaded

  --seconds N     how long (120)
  --seed N        what all statements come from (1)
  --attackers N   threads in the database that has the extension (4)
  --elsewhere N   threads in one that has not (2)

Ends with status 0 if nothing was found, 1 if something was, 2 if it could not run.
";

impl Options {
    /// Reads the arguments behind the program's name; `None` if they ask for help.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let place = match name.as_str() {
                "--seconds" => &mut options.seconds,
                "--seed" => &mut options.seed,
                "--attackers" => &mut options.attackers,
                "--elsewhere" => &mut options.elsewhere,
                _ => bail!("unknown option {name}"),
            };
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            *place = value
                .parse()
                .with_context(|| format!("{name}: \"{value}\" is no number"))?;
        }
        Ok(Some(options))
    }
}
