//! Time per hit as the entries grow: the same few keys asked while the others are there, and all of them asked at random.
//!
//! All at random is bound by the processor's caches, not by what is computed: each hit touches memory that nobody has touched for long.
//! A table's rows by primary key, all in shared buffers, are asked in the same two ways beside it.
//!
//! The sizes are measured minutes apart, in which a machine of many tenants becomes faster and slower. So at each size another server
//! takes part in the turns whose cache has a thousand entries throughout, and what is compared is how many times as long a hit takes.

use anyhow::{Result, ensure};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

use super::expect_at_least;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::plot::{Plot, Scale};
use crate::report::Section;
use crate::sample::{Sample, each_in_turns, flatness, in_turns};
use crate::server::{self, DATABASE, Load, ask, timed, total};

/// Entries, growing.
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Those of a quick run.
const FEW: usize = 2;

/// Calls of a loop.
const CALLS: u32 = 100_000;

/// Rows of the table.
const ROWS: u32 = 1_000_000;

/// As large as the values that are kept.
const TABLE: &str = "
    CREATE UNLOGGED TABLE million (id int PRIMARY KEY, answer jsonb NOT NULL);
    INSERT INTO million SELECT i, page(i, 1024) FROM generate_series(0, 999999) i;
    VACUUM ANALYZE million;";

/// What a loop asks for: nothing, an entry, or a row; a thousand keys, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    what: What,
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A call that returns its argument: what a loop costs.
    Nothing,
    Entry,
    /// An entry of the server that has a thousand of them throughout.
    Reference,
    Row,
}

const ASKED: [Ask; 7] = [
    Ask {
        what: What::Reference,
        all: false,
    },
    Ask {
        what: What::Nothing,
        all: false,
    },
    Ask {
        what: What::Entry,
        all: false,
    },
    Ask {
        what: What::Row,
        all: false,
    },
    Ask {
        what: What::Nothing,
        all: true,
    },
    Ask {
        what: What::Entry,
        all: true,
    },
    Ask {
        what: What::Row,
        all: true,
    },
];

impl Ask {
    /// A loop over keys below `size`. All at random: a multiple of a number that has no divisor in common with the sizes.
    fn statement(self, size: u32, round: usize) -> String {
        let key = if self.all {
            format!("(i::bigint * 48271 % {size})::int")
        } else {
            "(i % 1000)".to_owned()
        };
        let call = match self.what {
            What::Nothing => format!("abs({key})"),
            What::Entry | What::Reference => format!("page_cached({key}, 1024)"),
            What::Row => format!("(SELECT answer FROM million WHERE id = {key})"),
        };
        // Another part of the keys in each round, or the few that are asked stay in the processor's caches.
        let first = round as u64 * u64::from(CALLS) + 1;
        let last = first + u64::from(CALLS) - 1;
        format!("SELECT count({call}) FROM generate_series({first}, {last}) AS loop (i)")
    }
}

/// What was measured with so many entries, in microseconds, and hits through a client divided by the floor.
struct Level {
    few: Sample,
    all: Sample,
    /// Divided by what a hit takes where there are a thousand entries, in the same round.
    few_relative: Sample,
    all_relative: Sample,
    few_rows: Sample,
    all_rows: Sample,
    client: Sample,
}

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let sizes = if options.quick { &SIZES[..FEW] } else { &SIZES };
    let cluster = server::start_with(
        "bench",
        &[
            (
                "pg_query_cache.memory",
                if options.quick { "64MB" } else { "2GB" },
            ),
            // The rows all fit.
            (
                "shared_buffers",
                if options.quick { "256MB" } else { "2GB" },
            ),
            // Nobody writes to the table tier meanwhile.
            ("pg_query_cache.flush_interval", "0"),
        ],
    )?;
    let reference =
        server::start_with("bench-reference", &[("pg_query_cache.flush_interval", "0")])?;
    for cluster in [&cluster, &reference] {
        server::create_database(cluster, DATABASE, &[include_str!("../../sql/subject.sql")])?;
    }
    let mut client = cluster.connect(DATABASE)?;
    let mut thousand = reference.connect(DATABASE)?;
    thousand.batch_execute(&fill(SIZES[0]))?;
    if !options.quick {
        cluster.psql(DATABASE, TABLE)?;
        client.batch_execute(
            "CREATE EXTENSION pg_prewarm; SELECT pg_prewarm('million'), pg_prewarm('million_pkey')",
        )?;
    }
    let mut levels = Vec::new();
    for size in sizes {
        client.batch_execute(&fill(*size))?;
        levels.push(level(
            &cluster,
            [&mut client, &mut thousand],
            *size,
            options,
        )?);
    }
    let evicted = total(&mut client, "evictions")? + total(&mut client, "no_room")?;
    let entries = total(&mut client, "entries")?;
    let most = sizes.last().copied().map_or(0.0, f64::from);
    ensure!(
        evicted == 0.0 && entries >= most,
        "{entries} entries, {evicted} evicted: not all are kept"
    );
    Ok(vec![section(sizes, &levels, options)])
}

/// Has so many entries stored.
fn fill(size: u32) -> String {
    format!("SELECT count(page_cached(k, 1024)) FROM generate_series(0, {size} - 1) k")
}

fn level(
    cluster: &Cluster,
    [client, thousand]: [&mut Client; 2],
    size: u32,
    options: &Options,
) -> Result<Level> {
    let asked: Vec<Ask> = ASKED
        .into_iter()
        .filter(|ask| !options.quick || ask.what != What::Row)
        .collect();
    let rounds = options.rounds_of(5);
    let before = total(client, "hits")?;
    let samples = each_in_turns(&asked, rounds, |ask, round| {
        let client = match ask.what {
            What::Reference => &mut *thousand,
            _ => &mut *client,
        };
        Ok(timed(client, &ask.statement(size, round))? / f64::from(CALLS))
    })?;
    expect_at_least(
        "hits",
        total(client, "hits")? - before,
        2.0 * f64::from(CALLS) * rounds as f64,
    )?;
    let of = |what: What, all: bool| {
        let place = asked.iter().position(|ask| *ask == Ask { what, all });
        place.map_or(Sample::of(vec![f64::NAN]), |place| samples[place].clone())
    };
    let net = |what, all| of(what, all).minus(&of(What::Nothing, all));
    let reference = of(What::Reference, false).minus(&of(What::Nothing, false));

    let answer = ask(client, "SELECT page(1, 1024)")?.replace('\'', "''");
    let random = format!("\\set k random(0, {size} - 1)\n");
    let scripts = [
        format!("{random}SELECT '{answer}'::jsonb;"),
        format!("{random}SELECT page_cached(:k, 1024);"),
    ];
    let [floor, hit]: [Sample; 2] = in_turns(options.rounds_of(5), |candidate, _| {
        Load::of(cluster, DATABASE, &scripts[candidate]).tps()
    })?;
    let (few, all) = (net(What::Entry, false), net(What::Entry, true));
    Ok(Level {
        few_relative: few.over(&reference),
        all_relative: all.over(&reference),
        few,
        all,
        few_rows: net(What::Row, false),
        all_rows: net(What::Row, true),
        client: hit.over(&floor),
    })
}

fn section(sizes: &[u32], levels: &[Level], options: &Options) -> Section {
    let grown = |of: fn(&Level) -> &Sample| levels.iter().map(of).cloned().collect::<Vec<_>>();
    let (few, all, client) = (grown(|l| &l.few), grown(|l| &l.all), grown(|l| &l.client));
    let (few_relative, all_relative) = (grown(|l| &l.few_relative), grown(|l| &l.all_relative));
    let (few_rows, all_rows) = (grown(|l| &l.few_rows), grown(|l| &l.all_rows));
    let mut figures = Vec::new();
    for (name, samples, unit) in [
        ("a hit, the same 1,000 keys", &few, Unit::Us),
        ("a hit, all keys at random", &all, Unit::Us),
        (
            "a hit, the same 1,000 keys ÷ where there are 1,000",
            &few_relative,
            Unit::Ratio,
        ),
        (
            "a hit, all keys at random ÷ where there are 1,000",
            &all_relative,
            Unit::Ratio,
        ),
        (
            "hit ÷ floor through a client, all keys at random",
            &client,
            Unit::Ratio,
        ),
        (
            "a row by primary key, the same 1,000 rows",
            &few_rows,
            Unit::Us,
        ),
        (
            "a row by primary key, as many rows at random",
            &all_rows,
            Unit::Us,
        ),
    ] {
        let shown = sizes
            .iter()
            .zip(samples)
            .filter(|(_, sample)| sample.sum().is_finite());
        figures.extend(shown.map(|(size, sample)| {
            Figure::new(
                format!(
                    "{name}, {} entries",
                    crate::figure::grouped(f64::from(*size))
                ),
                sample,
                unit,
            )
        }));
    }
    let flat = |what: &str, samples: &[Sample]| {
        Figure::new(
            format!("largest ÷ smallest: {what}"),
            &flatness(samples),
            Unit::Ratio,
        )
    };
    let goal = |figure: Figure| figure.goal(Goal::AtMost(1.2));
    figures.push(goal(flat("a hit, the same 1,000 keys", &few_relative)));
    let random = flat("a hit, all keys at random", &all_relative);
    // A machine's caches decide it, which differ.
    figures.push(if options.quick { random } else { goal(random) });
    figures.push(goal(flat("hit ÷ floor through a client", &client)));
    if !options.quick {
        figures.push(flat("a row by primary key, the same 1,000 rows", &few_rows));
        figures.push(flat(
            "a row by primary key, as many rows at random",
            &all_rows,
        ));
    }
    let points = |samples: &[Sample]| {
        let medians = samples.iter().map(|sample| sample.spread().median);
        sizes
            .iter()
            .map(|size| f64::from(*size))
            .zip(medians)
            .collect::<Vec<_>>()
    };
    let mut plot = Plot::lines(
        "growth",
        "Time per hit of 1 KB as the entries grow, inside one backend",
        "entries",
        Scale::Log,
        "µs",
    )
    .line("hit, the same 1,000 keys", points(&few))
    .line("hit, all keys at random", points(&all));
    if !options.quick {
        plot = plot
            .line("row by primary key, the same 1,000", points(&few_rows))
            .line("row by primary key, as many at random", points(&all_rows));
    }
    let title = "As the entries grow: 1 KB, one session";
    Section::new(title, figures).plot(plot).note(format!(
        "Inside one backend: loops of {} calls, less the same loop of a call that returns its argument. The table has {} rows, all of \
         them in shared buffers.",
        crate::figure::grouped(f64::from(CALLS)),
        crate::figure::grouped(f64::from(ROWS)),
    ))
}
