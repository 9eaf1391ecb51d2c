//! What is measured, a file per section.

mod breakeven;
mod contention;
mod crowd;
mod eviction;
mod fills;
mod growth;
mod inside;
mod instructions;
mod memory;
mod peers;
mod redis;
mod scaling;
mod tags;
mod unrelated;
mod unused;
mod warm;
mod writers;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::options::Options;
use crate::report::Section;

/// A section's name on the command line, and what measures it.
type Measurement = (&'static str, fn(&Options) -> Result<Vec<Section>>);

/// All sections, in the order of the page.
const ALL: &[Measurement] = &[
    ("peers", peers::measure),
    ("redis", redis::measure),
    ("inside", inside::measure),
    ("instructions", instructions::measure),
    ("growth", growth::measure),
    ("tags", tags::measure),
    ("unrelated", unrelated::measure),
    ("contention", contention::measure),
    ("fills", fills::measure),
    ("crowd", crowd::measure),
    ("breakeven", breakeven::measure),
    ("writers", writers::measure),
    ("memory", memory::measure),
    ("warm", warm::measure),
    ("unused", unused::measure),
    ("eviction", eviction::measure),
    ("scaling", scaling::measure),
];

/// Left out of a quick run unless asked for by name: they have no ratio that is to be kept to, or take long.
const NOT_QUICK: &[&str] = &["instructions", "contention", "warm", "scaling"];

/// The names of all sections.
pub(crate) fn names() -> String {
    let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Measures what was asked for.
pub(crate) fn all(options: &Options) -> Result<Vec<Section>> {
    let left_out = |name| options.quick && options.only.is_none() && NOT_QUICK.contains(name);
    let wanted = || {
        ALL.iter()
            .filter(|(name, _)| options.wants(name) && !left_out(name))
    };
    ensure!(
        wanted().next().is_some(),
        "there is no such section, only {}",
        names()
    );
    let mut sections = Vec::new();
    for (name, measure) in wanted() {
        eprint!("measuring: {name} …");
        let begin = Instant::now();
        let measured = measure(options).with_context(|| format!("section \"{name}\""));
        eprintln!(" {:.0} s", begin.elapsed().as_secs_f64());
        sections.extend(measured?);
    }
    Ok(sections)
}

/// The few calls that are no hits because the function is run instead, to learn what it costs, as a share.
pub(crate) const MEASURED: f64 = 0.001;

/// A figure about cached calls means nothing unless they were what it says.
pub(crate) fn expect_at_least(counter: &str, counted: f64, expected: f64) -> Result<()> {
    if counted < expected * (1.0 - MEASURED) {
        bail!("{counter}: {counted} counted, at least {expected} expected");
    }
    Ok(())
}
