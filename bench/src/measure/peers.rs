//! Whole transactions through a client: a hit beside the floor and beside what people use instead.
//!
//! The floor is a prepared SELECT of the same bytes as a constant: the same answer, with no work done for it.

use anyhow::Result;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::plot::Plot;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, DATABASE, Load, ask, total};

/// Keys of the figure with many of them.
const KEYS: usize = 10_000;

/// The candidates, as the plot calls them.
const NAMES: [&str; 8] = [
    "floor, one key",
    "hit, one key",
    "floor, 10,000 keys",
    "hit, 10,000 keys",
    "row by primary key",
    "classical table cache",
    "the same, not waiting for the disk",
    "the function itself",
];

/// The candidate whose commits do not wait for the disk.
const HURRIED: usize = 6;

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    // A cache in a table writes on each hit, so here it matters how commits are.
    let cluster = server::start_durable("bench")?;
    server::create_database(
        &cluster,
        DATABASE,
        &[
            include_str!("../../sql/subject.sql"),
            include_str!("../../sql/classical.sql"),
        ],
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!(
        "SELECT count(report_cached(k)) FROM generate_series(1, {KEYS}) k"
    ))?;
    let answer = ask(&mut client, "SELECT report(1)")?.replace('\'', "''");
    let random = format!("\\set k random(1, {KEYS})\n");
    let scripts = [
        format!("SELECT '{answer}'::jsonb;"),
        "SELECT report_cached(1);".to_owned(),
        format!("{random}SELECT '{answer}'::jsonb;"),
        format!("{random}SELECT report_cached(:k);"),
        "SELECT answer FROM answers WHERE id = 1;".to_owned(),
        "SELECT report_classical(1);".to_owned(),
        "SELECT report_classical(1);".to_owned(),
        "SELECT report(1);".to_owned(),
    ];
    let mut sections = Vec::new();
    let mut rates = Vec::new();
    for clients in [1, 4] {
        let before = total(&mut client, "hits")?;
        let samples: [Sample; 8] = in_turns(options.rounds(), |candidate, _| {
            Load {
                cluster: &cluster,
                database: DATABASE,
                script: &scripts[candidate],
                clients,
                seconds: 1,
                settings: if candidate == HURRIED {
                    "-c synchronous_commit=off"
                } else {
                    ""
                },
            }
            .tps()
        })?;
        rates.push(samples.each_ref().map(|sample| sample.spread().median));
        let [
            floor,
            hot,
            floor_random,
            many,
            row,
            classical,
            hurried,
            bare,
        ] = samples;
        expect_at_least(
            "hits",
            total(&mut client, "hits")? - before,
            0.9 * (hot.sum() + many.sum()),
        )?;
        let mut figures = vec![
            Figure::new("floor: the same bytes as a constant", &floor, Unit::Tps),
            Figure::new("hit, one key", &hot, Unit::Tps),
            Figure::new("a table's row by its primary key", &row, Unit::Tps),
            Figure::new("classical table cache, one key", &classical, Unit::Tps),
            Figure::new(
                "the same, commits not waiting for the disk",
                &hurried,
                Unit::Tps,
            ),
            Figure::new("the function itself", &bare, Unit::Tps),
            Figure::new("hit ÷ floor, one key", &hot.over(&floor), Unit::Ratio)
                .goal(Goal::AtLeast(0.9)),
            Figure::new(
                "hit ÷ floor, 10,000 keys",
                &many.over(&floor_random),
                Unit::Ratio,
            )
            .goal(Goal::AtLeast(0.9)),
            Figure::new("hit ÷ primary key", &hot.over(&row), Unit::Ratio),
        ];
        let classical = Figure::new(
            "hit ÷ classical table cache, one key",
            &hot.over(&classical),
            Unit::Ratio,
        );
        figures.push(if clients == 4 && !options.quick {
            classical.goal(Goal::AtLeast(12.0))
        } else {
            classical
        });
        figures.push(Figure::new(
            "hit ÷ the same, commits not waiting for the disk",
            &hot.over(&hurried),
            Unit::Ratio,
        ));
        figures.push(Figure::new(
            "hit ÷ the function itself",
            &hot.over(&bare),
            Unit::Ratio,
        ));
        let s = if clients == 1 { "" } else { "s" };
        sections.push(Section::new(
            format!("Through a client: 1 KB jsonb, prepared, {clients} session{s}"),
            figures,
        ));
    }
    let plot = NAMES.iter().enumerate().fold(
        Plot::bars(
            "peers",
            "1 KB of jsonb through a client",
            ["1 session", "4 sessions"],
            "transactions per second",
        ),
        |plot, (candidate, name)| {
            plot.group(*name, rates.iter().map(|rates| rates[candidate]).collect())
        },
    );
    let last = sections.pop().map(|section: Section| section.plot(plot));
    sections.extend(last);
    Ok(sections)
}
