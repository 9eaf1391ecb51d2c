//! From which cost of a function, and from how many hits for each result stored, caching pays; and what becomes of a function for which
//! it does not.

use anyhow::{Result, ensure};
use pg_query_cache_harness::postgres::Client;

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, DATABASE, ask, timed};

/// Calls of functions that cost more and more: a name, the function and its first arguments, how many calls are timed at once.
const COSTS: [(&str, &str, &str, usize); 8] = [
    ("int4um, in C", "negated", "", 20_000),
    ("a lookup by primary key, in SQL", "looked_up", "", 2_000),
    ("PL/pgSQL, 0 turns of a loop", "turned", "0, ", 5_000),
    ("PL/pgSQL, 10 turns", "turned", "10, ", 5_000),
    ("PL/pgSQL, 100 turns", "turned", "100, ", 2_000),
    ("PL/pgSQL, 300 turns", "turned", "300, ", 1_000),
    ("PL/pgSQL, 1,000 turns", "turned", "1000, ", 500),
    ("PL/pgSQL, 10,000 turns", "turned", "10000, ", 100),
];

/// So many hits are timed at once.
const HITS_TIMED: usize = 20_000;

/// Turns of the loop in the mixed loads: a cheap function and a dear one.
const TURNS: [usize; 2] = [100, 2_000];
/// Hits for each result stored.
const HITS: [f64; 6] = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Writes in a statement; a statement is short, as those of applications are.
const CYCLES: usize = 50;
/// After so many statements a function that does not pay has come to rest.
const SETTLED: usize = 15;

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(
        &cluster,
        DATABASE,
        &[include_str!("../../sql/breakeven.sql")],
    )?;
    let mut client = cluster.connect(DATABASE)?;
    let mut sections = vec![costs(&mut client, options)?];
    for turns in TURNS {
        sections.push(mixed(&mut client, options, turns)?);
    }
    Ok(sections)
}

fn adaptive(client: &mut Client, value: &str) -> Result<()> {
    client.batch_execute(&format!("SELECT set_cache_config('adaptive', '{value}')"))?;
    Ok(())
}

/// The function itself, a hit, and a miss with all it stores; nothing rests.
fn costs(client: &mut Client, options: &Options) -> Result<Section> {
    adaptive(client, "off")?;
    let mut figures = Vec::new();
    for (name, function, first, calls) in COSTS {
        let statement = |function: &str| {
            format!("SELECT count({function}({first}k)) FROM generate_series(1, {calls}) k")
        };
        let (bare, cached) = (
            statement(function),
            statement(&format!("{function}_cached")),
        );
        // A hit takes the same whatever the function costs, and less than most: more of them are timed.
        let again = |call: &str| {
            format!("SELECT count({call}k % {calls} + 1)) FROM generate_series(1, {HITS_TIMED}) k")
        };
        let (hits, empty) = (again(&format!("{function}_cached({first}")), again("abs("));
        client.batch_execute(&format!("{bare}; {cached}; {empty}"))?;
        let [loops, run, hit, miss]: [Sample; 4] = in_turns(options.rounds(), |candidate, _| {
            let (statement, calls) = match candidate {
                0 => (&empty, HITS_TIMED),
                1 => (&bare, calls),
                2 => {
                    client.batch_execute(&cached)?;
                    (&hits, HITS_TIMED)
                }
                _ => {
                    client.batch_execute("SELECT clear_cache()")?;
                    (&cached, calls)
                }
            };
            Ok(timed(client, statement)? / calls as f64)
        })?;
        let [run, hit, miss] = [run, hit, miss].map(|sample| sample.minus(&loops));
        figures.push(Figure::new(format!("{name}: the function"), &run, Unit::Us));
        figures.push(Figure::new(format!("{name}: a hit"), &hit, Unit::Us));
        let pays = miss
            .minus(&run)
            .with(&run.minus(&hit), |costs, saves| costs / saves.max(1e-9));
        if run.spread().median > hit.spread().median {
            figures.push(Figure::new(
                format!("{name}: hits that pay for storing one result"),
                &pays,
                Unit::Ratio,
            ));
        }
    }
    Ok(Section::new(
        "Break-even: what a function has to cost, in one backend",
        figures,
    ))
}

/// Reads between writes: the time of the reads alone, of the function itself and of the cached one with and without its right to rest.
fn mixed(client: &mut Client, options: &Options, turns: usize) -> Result<Section> {
    let mut figures = Vec::new();
    let [run]: [Sample; 1] = in_turns(options.rounds(), |_, _| {
        Ok(timed(
            client,
            &format!("SELECT count(over_written({turns}, k)) FROM generate_series(1, 500) k"),
        )? / 500.0)
    })?;
    figures.push(Figure::new("the function", &run, Unit::Us));
    let statements = if options.quick { 5 } else { 15 };
    for hits in HITS {
        let call = |what: usize| format!("CALL mixed({what}, {turns}, {hits}, {CYCLES})");
        let [none, bare, stored, adapted]: [Sample; 4] = in_turns(
            options.rounds(),
            |candidate, _| {
                let what = candidate.min(2);
                adaptive(client, if candidate == 3 { "on" } else { "off" })?;
                for _ in 0..if candidate == 3 { SETTLED } else { 1 } {
                    client.batch_execute(&call(what))?;
                }
                let mut us = 0.0;
                for _ in 0..statements {
                    us += ask(client, &call(what))?.parse::<f64>()?;
                }
                if candidate == 3 && hits == 0.0 {
                    let state = ask(
                        client,
                        "SELECT storing FROM cache_function_stats WHERE function::text ~ '^over_written_cached'",
                    )?;
                    ensure!(
                        state.starts_with("resting"),
                        "nothing is hit, and storing is {state}"
                    );
                }
                Ok(us / (statements * CYCLES) as f64)
            },
        )?;
        let [bare, stored, adapted] = [bare, stored, adapted].map(|sample| sample.minus(&none));
        let adapted = Figure::new(
            format!("{hits} hits for each result: speed of the reads, adaptive on"),
            &bare.over(&adapted),
            Unit::Ratio,
        );
        figures.push(Figure::new(
            format!("{hits} hits for each result: speed of the reads, adaptive off"),
            &bare.over(&stored),
            Unit::Ratio,
        ));
        figures.push(if hits == 0.0 {
            adapted.goal(Goal::AtLeast(0.95))
        } else {
            adapted
        });
    }
    Ok(Section::new(
        format!(
            "Break-even: reads between writes, {turns} turns of a loop; the function itself is 1"
        ),
        figures,
    ))
}
