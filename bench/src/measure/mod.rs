//! What is measured, a file per section.

mod breakeven;
mod fills;
mod inside;
mod peers;
mod unused;
mod writers;

use anyhow::{Result, bail};

use crate::options::Options;
use crate::report::Section;

/// A section's name on the command line, and what measures it.
type Measurement = (&'static str, fn(&Options) -> Result<Vec<Section>>);

/// All sections, in the order of the page.
const ALL: &[Measurement] = &[
    ("peers", peers::measure),
    ("inside", inside::measure),
    ("fills", fills::measure),
    ("breakeven", breakeven::measure),
    ("writers", writers::measure),
    ("unused", unused::measure),
];

/// Measures what was asked for.
pub(crate) fn all(options: &Options) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for (name, measure) in ALL.iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("measuring: {name}");
        sections.extend(measure(options)?);
    }
    Ok(sections)
}

/// A figure about cached calls means nothing unless they were what it says.
fn expect_at_least(counter: &str, counted: f64, expected: f64) -> Result<()> {
    if counted < expected {
        bail!("{counter}: {counted} counted, at least {expected} expected");
    }
    Ok(())
}
