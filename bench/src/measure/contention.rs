//! What becomes of hits when many ask at once: on one key, where all touch the same memory, and on many.
//!
//! Asked by `wire.rs`, a thread per session on the same machine: with more sessions than processors it is the scheduling that is measured,
//! of the floor as well as of the hits, so what tells is their ratio.

use std::time::Duration;

use anyhow::Result;

use super::expect_at_least;
use crate::figure::{Figure, Unit};
use crate::options::Options;
use crate::plot::{Plot, Scale};
use crate::report::Section;
use crate::sample::{Sample, each_in_turns};
use crate::server::{self, DATABASE, ask, total};
use crate::wire::Target;

/// Sessions at once.
const SESSIONS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Keys, when there are many.
const KEYS: usize = 10_000;

/// How long everything is asked in a round.
const ROUND: Duration = Duration::from_millis(300);

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!(
        "SELECT count(page_cached(k, 1024)) FROM generate_series(1, {KEYS}) k"
    ))?;
    let answer = ask(&mut client, "SELECT page(1, 1024)")?.replace('\'', "''");
    let socket = server::socket(&cluster);
    let postgres = |statement: &str, parameters: &[String]| {
        Target::postgres(&socket, DATABASE, statement, parameters)
    };
    let keys: Vec<String> = (1..=KEYS).map(|key| key.to_string()).collect();
    let targets = [
        postgres(&format!("SELECT '{answer}'::jsonb"), &[]),
        postgres("SELECT page_cached($1, 1024)", &keys[..1]),
        postgres("SELECT page_cached($1, 1024)", &keys),
    ];
    let counts = if options.quick {
        &SESSIONS[..4]
    } else {
        &SESSIONS
    };
    let mut measured: Vec<Vec<Sample>> = Vec::new();
    for sessions in counts {
        let before = total(&mut client, "hits")?;
        let samples = each_in_turns(&targets, options.rounds_of(5), |target, _| {
            target.rate(*sessions, ROUND)
        })?;
        let asked = ROUND.as_secs_f64() * (samples[1].sum() + samples[2].sum());
        expect_at_least("hits", total(&mut client, "hits")? - before, 0.9 * asked)?;
        measured.push(samples);
    }
    let mut figures = Vec::new();
    for (sessions, samples) in counts.iter().zip(&measured) {
        let s = if *sessions == 1 { "" } else { "s" };
        let name = |what: &str| format!("{what}, {sessions} session{s}");
        figures.extend([
            Figure::new(name("floor"), &samples[0], Unit::Tps),
            Figure::new(
                name("hit ÷ floor, one key"),
                &samples[1].over(&samples[0]),
                Unit::Ratio,
            ),
            Figure::new(
                name("hit ÷ floor, 10,000 keys"),
                &samples[2].over(&samples[0]),
                Unit::Ratio,
            ),
        ]);
    }
    let ratios = |candidate: usize| {
        let points = counts.iter().zip(&measured).map(|(sessions, samples)| {
            let ratio = samples[candidate].over(&samples[0]).spread().median;
            (*sessions as f64, ratio)
        });
        points.collect::<Vec<_>>()
    };
    let plot = Plot::lines(
        "contention",
        "Hits of many sessions at once, compared with as many at the floor",
        "sessions",
        Scale::Log,
        "hit ÷ floor",
    )
    .line("one key", ratios(1))
    .line("10,000 keys at random", ratios(2))
    .goal(1.0, "the floor");
    let title = "Contention: 1 KB, up to 64 sessions at once";
    Ok(vec![Section::new(title, figures).plot(plot)])
}
