//! Whole transactions through a client: a hit beside the floor and beside what people use instead.
//!
//! The floor is a prepared SELECT of the same bytes as a constant: the same answer, with no work done for it.

use anyhow::Result;
use pg_query_cache_harness::Cluster;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::pgpool::Pgpool;
use crate::plot::Plot;
use crate::report::Section;
use crate::sample::{Sample, each_in_turns};
use crate::server::{self, DATABASE, Length, Load, ask, total};

/// Keys of the figures with many of them.
const KEYS: usize = 10_000;

/// How long each of the goals' candidates has a turn: half a second or less, so that many turns fit in, and long enough that it does not
/// matter what a session has to learn first.
const SHORT: Length = Length::Transactions(12_000);

/// What is asked, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The same bytes as a constant.
    Floor,
    /// A hit, always of the same key.
    Hit,
    /// The floor of a client that thinks up a key each time, and does not send it.
    FloorOfMany,
    /// The floor of a client that sends it, too, to a statement that has no use for it.
    FloorWithParameter,
    /// Hits of all keys at random.
    HitOfMany,
    Row,
    View,
    Classical,
    /// The classical cache, its commits not waiting for the disk.
    Hurried,
    /// pgpool's query cache, asked as everything else is.
    PoolPrepared,
    /// The same, asked with the text of the statement each time, which it likes better.
    PoolSimple,
    /// The function itself.
    Bare,
}

use Peer::*;

/// Those of the goals, which take turns more often.
const GOALS: [Peer; 5] = [Floor, Hit, FloorOfMany, FloorWithParameter, HitOfMany];

/// What people use instead, beside a hit.
const OTHERS: [Peer; 8] = [
    Hit,
    Row,
    View,
    Classical,
    Hurried,
    PoolPrepared,
    PoolSimple,
    Bare,
];

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Floor => "floor: the same bytes as a constant",
            Hit => "hit, one key",
            FloorOfMany => "floor, 10,000 keys at random",
            FloorWithParameter => "floor that is sent the key",
            HitOfMany => "hit, 10,000 keys at random",
            Row => "a table's row by its primary key",
            View => "a materialized view's row by its unique index",
            Classical => "classical table cache, one key",
            Hurried => "classical, commits not waiting for the disk",
            PoolPrepared => "pgpool-II's query cache, prepared",
            PoolSimple => "pgpool-II's query cache, simple protocol",
            Bare => "the function itself",
        }
    }

    fn script(self, answer: &str) -> String {
        let random = format!("\\set k random(1, {KEYS})\n");
        match self {
            Floor => format!("SELECT '{answer}'::jsonb;"),
            Hit => "SELECT report_cached(1);".to_owned(),
            FloorOfMany => format!("{random}SELECT '{answer}'::jsonb;"),
            FloorWithParameter => {
                format!("{random}SELECT CASE WHEN :k > 0 THEN '{answer}'::jsonb END;")
            }
            HitOfMany => format!("{random}SELECT report_cached(:k);"),
            // pgpool does not keep what calls functions that are not immutable, so it reads the row, too.
            Row | PoolPrepared | PoolSimple => {
                "SELECT answer FROM answers WHERE id = 1;".to_owned()
            }
            View => "SELECT answer FROM answers_view WHERE id = 1;".to_owned(),
            Classical | Hurried => "SELECT report_classical(1);".to_owned(),
            Bare => "SELECT report(1);".to_owned(),
        }
    }

    fn through_pgpool(self) -> bool {
        matches!(self, PoolPrepared | PoolSimple)
    }
}

/// The servers, and the text of the answer.
struct Setting {
    cluster: Cluster,
    pgpool: Option<Pgpool>,
    answer: String,
}

impl Setting {
    fn tps(&self, peer: Peer, clients: usize, length: Length) -> Result<f64> {
        let through = self.pgpool.as_ref().filter(|_| peer.through_pgpool());
        Load {
            place: through.map(Pgpool::place),
            protocol: if peer == PoolSimple {
                "simple"
            } else {
                "prepared"
            },
            clients,
            length,
            settings: if peer == Hurried {
                "-c synchronous_commit=off"
            } else {
                ""
            },
            ..Load::of(&self.cluster, DATABASE, &peer.script(&self.answer))
        }
        .tps()
    }
}

/// Samples by peer.
struct Measured(Vec<(Peer, Sample)>);

impl Measured {
    fn run(
        setting: &Setting,
        peers: &[Peer],
        clients: usize,
        (length, rounds): (Length, usize),
    ) -> Result<Self> {
        let there = peers
            .iter()
            .filter(|peer| !peer.through_pgpool() || setting.pgpool.is_some());
        let peers: Vec<Peer> = there.copied().collect();
        let mut client = setting.cluster.connect(DATABASE)?;
        let pool_hits = || {
            setting
                .pgpool
                .as_ref()
                .map_or(Ok(0.0), |pgpool| pgpool.hits(DATABASE))
        };
        let (hits, from_pool) = (total(&mut client, "hits")?, pool_hits()?);
        let samples = each_in_turns(&peers, rounds, |peer, _| {
            setting.tps(*peer, clients, length)
        })?;
        let measured = Measured(peers.into_iter().zip(samples).collect());
        // The first transactions of each run find nothing in their session yet.
        let asked = |of: fn(Peer) -> bool| match length {
            Length::Seconds(seconds) => measured.sum(of) * f64::from(seconds),
            Length::Transactions(each) => {
                let sessions = measured.0.iter().filter(|(peer, _)| of(*peer)).count() * clients;
                (sessions * rounds) as f64 * f64::from(each)
            }
        };
        expect_at_least(
            "hits",
            total(&mut client, "hits")? - hits,
            0.9 * asked(|peer| matches!(peer, Hit | HitOfMany)),
        )?;
        expect_at_least(
            "answers from pgpool's cache",
            pool_hits()? - from_pool,
            0.9 * asked(Peer::through_pgpool),
        )?;
        Ok(measured)
    }

    fn get(&self, peer: Peer) -> Option<&Sample> {
        self.0
            .iter()
            .find(|(other, _)| *other == peer)
            .map(|(_, sample)| sample)
    }

    fn sum(&self, of: impl Fn(Peer) -> bool) -> f64 {
        self.0
            .iter()
            .filter(|(peer, _)| of(*peer))
            .map(|(_, sample)| sample.sum())
            .sum()
    }

    fn rate(&self, peer: Peer) -> Option<Figure> {
        Some(Figure::new(peer.name(), self.get(peer)?, Unit::Tps))
    }

    fn ratio(&self, of: Peer, over: Peer, what: &str) -> Option<Figure> {
        Some(Figure::new(
            what,
            &self.get(of)?.over(self.get(over)?),
            Unit::Ratio,
        ))
    }
}

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
    let setting = Setting {
        answer: ask(&mut client, "SELECT report(1)")?.replace('\'', "''"),
        pgpool: match options.quick {
            true => None,
            false => Pgpool::start(&cluster)?,
        },
        cluster,
    };
    drop(client);
    let mut sections = Vec::new();
    let mut rates = Vec::new();
    for clients in [1, 4] {
        let goals = Measured::run(&setting, &GOALS, clients, (SHORT, options.rounds_of(21)))?;
        // What others do is not to be kept to, and takes half of the time.
        let others = match options.quick {
            true => Measured(Vec::new()),
            false => Measured::run(&setting, &OTHERS, clients, (Length::Seconds(1), 3))?,
        };
        rates.push(median_rates(&goals, &others));
        let s = if clients == 1 { "" } else { "s" };
        sections.push(Section::new(
            format!("Through a client: 1 KB jsonb, prepared, {clients} session{s}"),
            figures(&goals, &others, clients),
        ));
    }
    let last = sections.pop().map(|section: Section| {
        let section = section.plot(plot(&rates));
        match setting.pgpool {
            None if !options.quick => {
                section.note("pgpool-II is not installed here, so it is not compared.")
            }
            _ => section,
        }
    });
    sections.extend(last);
    Ok(sections)
}

fn figures(goals: &Measured, others: &Measured, clients: usize) -> Vec<Figure> {
    let at_least = |goal: f64| move |figure: Figure| figure.goal(Goal::AtLeast(goal));
    let classical = others.ratio(Hit, Classical, "hit ÷ classical table cache, one key");
    let mut figures: Vec<Option<Figure>> = GOALS.iter().map(|peer| goals.rate(*peer)).collect();
    figures.extend(OTHERS[1..].iter().map(|peer| others.rate(*peer)));
    figures.extend([
        goals
            .ratio(Hit, Floor, "hit ÷ floor, one key")
            .map(at_least(0.95)),
        goals
            .ratio(HitOfMany, FloorOfMany, "hit ÷ floor, 10,000 keys")
            .map(at_least(0.95)),
        goals.ratio(
            HitOfMany,
            FloorWithParameter,
            "hit ÷ floor that is sent the key, 10,000 keys",
        ),
        others.ratio(Hit, Row, "hit ÷ primary key"),
        others.ratio(Hit, View, "hit ÷ materialized view"),
        if clients == 4 {
            classical.map(at_least(12.0))
        } else {
            classical
        },
        others.ratio(
            Hit,
            Hurried,
            "hit ÷ classical, commits not waiting for the disk",
        ),
        others.ratio(Hit, PoolPrepared, "hit ÷ pgpool-II, prepared"),
        others.ratio(Hit, PoolSimple, "hit ÷ pgpool-II, simple protocol"),
        others.ratio(Hit, Bare, "hit ÷ the function itself"),
    ]);
    figures.into_iter().flatten().collect()
}

fn median_rates(goals: &Measured, others: &Measured) -> Vec<(Peer, f64)> {
    let peers = GOALS
        .into_iter()
        .chain(OTHERS.into_iter().filter(|peer| *peer != Hit));
    peers
        .filter_map(|peer| {
            let sample = goals.get(peer).or_else(|| others.get(peer))?;
            Some((peer, sample.spread().median))
        })
        .collect()
}

/// The rates, a list for each number of sessions.
fn plot(rates: &[Vec<(Peer, f64)>]) -> Plot {
    let plot = Plot::bars(
        "peers",
        "1 KB of jsonb through a client",
        ["1 session", "4 sessions"],
        "transactions per second",
    );
    let peers = rates.first().map_or(&[][..], Vec::as_slice);
    peers
        .iter()
        .enumerate()
        .fold(plot, |plot, (number, (peer, _))| {
            let values = rates.iter().filter_map(|rates| rates.get(number));
            plot.group(peer.name(), values.map(|(_, rate)| *rate).collect())
        })
}
