//! Time per hit as the tags of an entry grow: each has a slot that is checked against the reader's snapshot.

use std::time::Duration;

use anyhow::Result;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::plot::{Plot, Scale};
use crate::report::Section;
use crate::sample::{Sample, each_in_turns, flatness, in_turns};
use crate::server::{self, DATABASE, timed, total};
use crate::wire::Target;

/// Tags per entry, beside those that every entry has.
const TAGS: [u32; 5] = [1, 2, 4, 8, 16];

/// Calls of a loop.
const CALLS: u32 = 200_000;

/// How long a client asks in a round.
const ROUND: Duration = Duration::from_millis(300);

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &["CREATE EXTENSION pg_query_cache"])?;
    let mut client = cluster.connect(DATABASE)?;
    for tags in TAGS {
        client.batch_execute(&format!(
            "CREATE FUNCTION tagged{tags}(k int) RETURNS jsonb LANGUAGE sql STABLE AS
                 $$ SELECT to_jsonb(k || repeat('x', 1012)) $$;
             SELECT cache_function('tagged{tags}(int)', tags =>
                 (SELECT array_agg('tag ' || i || ' of {tags}') FROM generate_series(1, {tags}) i))"
        ))?;
    }
    // After all of them: a definition empties the cache of its database.
    for tags in TAGS {
        client.batch_execute(&format!("SELECT tagged{tags}_cached(1)"))?;
    }
    let rounds = options.rounds_of(15);
    let before = total(&mut client, "hits")?;
    let inside: [Sample; 6] = in_turns(rounds, |candidate, _| {
        let call = match TAGS.get(candidate) {
            Some(tags) => format!("tagged{tags}_cached(1)"),
            None => "pg_backend_pid()".to_owned(),
        };
        let loop_of_calls =
            format!("SELECT count({call}) FROM generate_series(1, {CALLS}) AS loop (i)");
        Ok(timed(&mut client, &loop_of_calls)? / f64::from(CALLS))
    })?;
    expect_at_least(
        "hits",
        total(&mut client, "hits")? - before,
        (TAGS.len() * rounds) as f64 * f64::from(CALLS),
    )?;
    let [hits @ .., nothing] = inside;
    let hits = hits.map(|hit| hit.minus(&nothing));

    let socket = server::socket(&cluster);
    let targets = TAGS.map(|tags| {
        let statement = format!("SELECT tagged{tags}_cached($1)");
        Target::postgres(&socket, DATABASE, &statement, &["1".to_owned()])
    });
    let through = each_in_turns(&targets, options.rounds_of(15), |target, _| {
        Ok(1e6 / target.rate(1, ROUND)?)
    })?;

    let mut figures = Vec::new();
    let name = |tags: u32| {
        if tags == 1 {
            "1 tag".to_owned()
        } else {
            format!("{tags} tags")
        }
    };
    for (tags, sample) in TAGS.iter().zip(&hits) {
        figures.push(Figure::new(
            format!("a hit, {}, inside one backend", name(*tags)),
            sample,
            Unit::Us,
        ));
    }
    for (tags, sample) in TAGS.iter().zip(&through) {
        figures.push(Figure::new(
            format!("a hit, {}, through a client", name(*tags)),
            sample,
            Unit::Us,
        ));
    }
    let more = f64::from(TAGS[4] - TAGS[0]);
    let slope = hits[4].with(&hits[0], |most, one| (most - one) * 1e3 / more);
    figures.push(
        Figure::new("each tag more, inside one backend", &slope, Unit::Ns).goal(Goal::AtMost(40.0)),
    );
    let flat = Figure::new(
        "largest ÷ smallest, through a client",
        &flatness(&through),
        Unit::Ratio,
    );
    figures.push(flat.goal(Goal::AtMost(1.2)));
    let points = |samples: &[Sample]| {
        let medians = samples.iter().map(|sample| sample.spread().median);
        TAGS.iter()
            .map(|tags| f64::from(*tags))
            .zip(medians)
            .collect()
    };
    let plot = Plot::lines(
        "tags",
        "Time per hit of 1 KB as its tags grow, inside one backend",
        "tags, beside those that every entry has",
        Scale::Linear,
        "µs",
    )
    .line("a hit", points(&hits));
    Ok(vec![
        Section::new("As the tags of an entry grow: 1 KB, one session", figures).plot(plot),
    ])
}
