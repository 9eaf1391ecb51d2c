//! A hit beside Redis, both asked by the same client program over a socket each (`wire.rs`).
//!
//! PostgreSQL does more for an answer than Redis whatever is cached: a transaction, a snapshot, a portal. The floor shows how much, and
//! with that the most that a cache inside PostgreSQL can reach.

use std::time::Duration;

use anyhow::{Result, ensure};
use pg_query_cache_harness::Cluster;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::plot::Plot;
use crate::redis::Redis;
use crate::report::Section;
use crate::sample::each_in_turns;
use crate::server::{self, DATABASE, ask, total};
use crate::wire::Target;

/// Keys of the figures with many of them.
const KEYS: usize = 10_000;

/// How long everything is asked in a round.
const ROUND: Duration = Duration::from_millis(300);

/// The candidates: name, and which target.
const FLOOR: usize = 0;
const HIT: usize = 1;
const HITS: usize = 2;
const GET: usize = 3;
const GETS: usize = 4;
const NAMES: [&str; 5] = [
    "floor: the same bytes as a constant",
    "hit, one key",
    "hit, 10,000 keys at random",
    "Redis GET, one key",
    "Redis GET, 10,000 keys at random",
];

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    let title = "Beside Redis: 1 KB, one client program for both";
    let Some(redis) = Redis::start(&cluster)? else {
        let section = Section::new(title, Vec::new());
        return Ok(vec![section.note(
            "redis-server is not installed here, so it is not compared.",
        )]);
    };
    server::create_database(&cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    let targets = targets(&cluster, &redis)?;
    let mut client = cluster.connect(DATABASE)?;
    let mut figures = Vec::new();
    let mut rates = Vec::new();
    for sessions in [1, 4] {
        let before = total(&mut client, "hits")?;
        let samples = each_in_turns(&targets, options.rounds_of(15), |target, _| {
            target.rate(sessions, ROUND)
        })?;
        expect_at_least(
            "hits",
            total(&mut client, "hits")? - before,
            0.95 * ROUND.as_secs_f64() * (samples[HIT].sum() + samples[HITS].sum()),
        )?;
        let s = if sessions == 1 { "" } else { "s" };
        for (name, sample) in NAMES.iter().zip(&samples) {
            figures.push(Figure::new(
                format!("{name}, {sessions} session{s}"),
                sample,
                Unit::Tps,
            ));
        }
        let ratio = |what: &str, of: usize, over: usize| {
            let what = format!("{what}, {sessions} session{s}");
            Figure::new(what, &samples[of].over(&samples[over]), Unit::Ratio)
        };
        let beside_redis = ratio("hit ÷ Redis GET, one key", HIT, GET);
        figures.extend([
            // How two servers compare depends on the machine; what we can do about it, the ratio to the floor shows.
            if options.quick {
                beside_redis
            } else {
                beside_redis.goal(Goal::AtLeast(1.0))
            },
            ratio("floor ÷ Redis GET: the most that is possible", FLOOR, GET),
            ratio("hit ÷ Redis GET, 10,000 keys", HITS, GETS),
            ratio("hit ÷ floor, one key", HIT, FLOOR),
        ]);
        rates.push(samples);
    }
    let plot = Plot::bars(
        "redis",
        "1 KB by the same client program",
        ["1 session", "4 sessions"],
        "answers per second",
    );
    let plot = NAMES
        .iter()
        .enumerate()
        .fold(plot, |plot, (candidate, name)| {
            let values = rates
                .iter()
                .map(|samples| samples[candidate].spread().median);
            plot.group(*name, values.collect())
        });
    Ok(vec![Section::new(title, figures).plot(plot)])
}

/// What is asked, all of it with the same answer to the first request.
fn targets(cluster: &Cluster, redis: &Redis) -> Result<[Target; 5]> {
    let mut client = cluster.connect(DATABASE)?;
    let values: Vec<(String, String)> = client
        .query(
            "SELECT k::text, report_cached(k)::text FROM generate_series(1, $1::int) k",
            &[&i32::try_from(KEYS)?],
        )?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    redis.set(
        values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    )?;
    let keys: Vec<String> = values.into_iter().map(|(key, _)| key).collect();
    let answer = ask(&mut client, "SELECT report(1)")?;
    let postgres = |statement: &str, parameters: &[String]| {
        Target::postgres(&server::socket(cluster), DATABASE, statement, parameters)
    };
    let constant = format!("SELECT '{}'::jsonb", answer.replace('\'', "''"));
    let targets = [
        postgres(&constant, &[]),
        postgres("SELECT report_cached($1)", &keys[..1]),
        postgres("SELECT report_cached($1)", &keys),
        Target::redis(&redis.socket(), &keys[..1]),
        Target::redis(&redis.socket(), &keys),
    ];
    for (target, name) in targets.iter().zip(NAMES) {
        ensure!(target.value()? == answer, "{name} does not give the answer");
    }
    Ok(targets)
}
