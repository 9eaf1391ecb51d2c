//! A server that has the extension preloaded and caches nothing, beside one without it.

use anyhow::Result;

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, Length, Load};

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let clusters = [
        server::start("bench-without", false)?,
        server::start("bench", true)?,
    ];
    for cluster in &clusters {
        server::initialize_pgbench(cluster, "postgres", 5)?;
    }
    // Many short rounds, because little is to be told from nothing.
    let [without, preloaded]: [Sample; 2] = in_turns(options.rounds_of(61), |candidate, _| {
        Load {
            clients: 2,
            length: Length::Transactions(15_000),
            ..Load::of(&clusters[candidate], "postgres", "@select-only")
        }
        .tps()
    })?;
    Ok(vec![Section::new(
        "Preloaded and unused: pgbench select-only, 2 sessions",
        vec![
            Figure::new("without the extension", &without, Unit::Tps),
            Figure::new(
                "preloaded ÷ without",
                &preloaded.over(&without),
                Unit::Ratio,
            )
            .goal(Goal::AtLeast(0.99)),
        ],
    )])
}
