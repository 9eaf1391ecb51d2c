//! More cores: what is measured with the two or so that there are, and what a model makes of it for 64 and 256.
//!
//! The argument is in `docs/scaling.md`: which lines of the cache a hit reads and which are written. Here the model gets its figures, is
//! compared with what threads on this machine do, and is asked about larger ones.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use pg_query_cache_harness::Cluster;

use super::expect_at_least;
use crate::figure::{Figure, Unit};
use crate::lines;
use crate::model::{Counted, Machine, Operation};
use crate::options::Options;
use crate::plot::{Plot, Scale};
use crate::report::Section;
use crate::sample::{Sample, each_in_turns};
use crate::server::{self, DATABASE, Length, Load, ask, total};

/// Sessions, on whatever cores there are.
const SESSIONS: [usize; 5] = [1, 2, 4, 16, 64];

/// Hits of all sessions together in one measurement within statements.
const HITS: usize = 3_200_000;

/// Transactions of one client whose processor time is measured.
const TRANSACTIONS: u32 = 20_000;

/// Steps of work between two additions to a line that two threads share.
const STEPS: [u64; 4] = [0, 100, 400, 2_000];

/// Cores of the machines that the model is asked about.
const CORES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Cores of one of their sockets; and how many times as long a line takes from one socket to another as within one. Measured on pairs of
/// Xeons: 2.1 to 2.8 times (docs/scaling.md).
const SOCKET: usize = 64;
const FAR: f64 = 2.5;

/// Changes to the line of ProcArrayLock in a transaction of one prepared SELECT: it takes two snapshots, and each takes the lock and lets
/// go.
const SNAPSHOTS: f64 = 4.0;

/// What a session counts between two hand-overs: hits of one entry, or of many in the partitions that the default size of the memory has.
const ONE_KEY: Counted = Counted {
    hits: 1.0,
    entries: 1.0,
    locks: 1,
};
const MANY_KEYS: Counted = Counted {
    hits: 1.0,
    entries: 10_000.0,
    locks: 8,
};

const FLOOR: &str = "floor: the same bytes as a constant";
const HIT: &str = "hit, one key";

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(
        &cluster,
        DATABASE,
        &[
            include_str!("../../sql/subject.sql"),
            include_str!("../../sql/classical.sql"),
        ],
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT page_cached(1, 1024), report_classical(1)")?;
    let answer = ask(&mut client, "SELECT page_cached(1, 1024)")?;
    let rounds = options.rounds_of(5);

    let here = costs(rounds)?;
    let (within, hit_in_statement) = within_statements(&cluster, rounds)?;
    let machine = Machine {
        own: here.own.spread().median,
        near: here.transfer.spread().median,
        far: FAR * here.transfer.spread().median,
        socket: SOCKET,
    };
    let checked = checked(machine, rounds)?;
    let asked = Asked::measure(&cluster, &answer, rounds, hit_in_statement)?;
    Ok(vec![
        here.section(),
        within,
        checked,
        asked.transactions(machine),
        asked.statements(machine),
    ])
}

/// What lines cost on this machine.
struct Costs {
    own: Sample,
    transfer: Sample,
}

fn costs(rounds: usize) -> Result<Costs> {
    let measures: [fn() -> f64; 2] = [lines::own, lines::transfer];
    let samples = each_in_turns(&measures, rounds, |measure, _| Ok(measure()))?;
    let [own, transfer] =
        <[Sample; 2]>::try_from(samples).map_err(|_| anyhow!("a sample is missing"))?;
    Ok(Costs { own, transfer })
}

impl Costs {
    fn section(&self) -> Section {
        Section::new(
            "Scaling: what a line of the cache costs here",
            vec![
                Figure::new(
                    "an atomic change to a line that nobody else wants",
                    &self.own,
                    Unit::Ns,
                ),
                Figure::new(
                    "a change that goes to another core, which changes it next",
                    &self.transfer,
                    Unit::Ns,
                ),
            ],
        )
    }
}

/// Hits of one key in long statements of so many sessions at once; and the nanoseconds of one in one session.
fn within_statements(cluster: &Cluster, rounds: usize) -> Result<(Section, f64)> {
    let mut client = cluster.connect(DATABASE)?;
    let before = total(&mut client, "hits")?;
    let samples = each_in_turns(&SESSIONS, rounds, |sessions, _| {
        let statement = |call: &str| {
            format!(
                "SELECT count({call}) FROM generate_series(1, {})",
                HITS / sessions
            )
        };
        let hits = together(cluster, *sessions, &statement("page_cached(1, 1024)"))?;
        let loops = together(cluster, *sessions, &statement("pg_backend_pid()"))?;
        Ok((hits.as_secs_f64() - loops.as_secs_f64()) * 1e9 / HITS as f64)
    })?;
    expect_at_least(
        "hits",
        total(&mut client, "hits")? - before,
        0.99 * (HITS * rounds * SESSIONS.len()) as f64,
    )?;
    let one = samples
        .first()
        .map_or(f64::NAN, |sample| sample.spread().median);
    let figures = SESSIONS
        .iter()
        .zip(&samples)
        .map(|(sessions, sample)| {
            Figure::new(
                format!(
                    "processor time of a hit, {sessions} session{}",
                    if *sessions == 1 { "" } else { "s" }
                ),
                sample,
                Unit::Ns,
            )
        })
        .collect();
    let section = Section::new("Scaling: one key within statements, measured", figures).note(
        "All sessions at once, less the same loops of a call that returns a constant. It would grow if they were in each other's way.",
    );
    Ok((section, one))
}

/// Processor time that the server takes until all sessions have run the statement.
fn together(cluster: &Cluster, sessions: usize, statement: &str) -> Result<Duration> {
    let mut clients = (0..sessions)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            client.simple_query("SELECT page_cached(1, 1024)")?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    let before = cluster.processor_time()?;
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.simple_query(statement)))
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(cluster.processor_time()? - before)
}

/// The floor, and a hit of one key.
fn scripts(answer: &str) -> [String; 2] {
    [
        format!("SELECT '{answer}'::jsonb;"),
        "SELECT page_cached(1, 1024);".to_owned(),
    ]
}

/// The model beside what two threads do that share a line.
fn checked(machine: Machine, rounds: usize) -> Result<Section> {
    let samples = each_in_turns(&STEPS, rounds, |steps, _| {
        let alone = Operation {
            own: lines::steps(*steps),
            changes: vec![1.0],
            serial: 0.0,
            counted: None,
        };
        let gain = lines::additions(2, *steps) / lines::additions(1, *steps);
        Ok(alone.gain(machine, 2) / gain)
    })?;
    let figures = STEPS
        .iter()
        .zip(&samples)
        .map(|(steps, sample)| {
            let own = lines::steps(*steps);
            Figure::new(
                format!("modelled ÷ measured gain of a second thread, {own:.0} ns between changes"),
                sample,
                Unit::Ratio,
            )
        })
        .collect();
    Ok(Section::new("Scaling: the model beside two threads", figures).note(
        "Both threads add to one line, with work of their own in between. Where they do little else the model is too pessimistic: a core \
         that has the line adds several times before it has to give it away. A hit takes some 250 ns.",
    ))
}

/// What the model is asked about.
struct Asked {
    floor: f64,
    hit: f64,
    classical: f64,
    serial: f64,
    hit_in_statement: f64,
}

impl Asked {
    fn measure(
        cluster: &Cluster,
        answer: &str,
        rounds: usize,
        hit_in_statement: f64,
    ) -> Result<Self> {
        let [floor, hit] = scripts(answer);
        let classical = "SELECT report_classical(1);".to_owned();
        let scripts = [floor, hit, classical];
        let costs = each_in_turns(&scripts, rounds, |script, _| processor(cluster, script))?;
        let median = |sample: &Sample| sample.spread().median;
        let crowded = each_in_turns(&scripts[2..], rounds, |script, _| {
            Load {
                clients: 8,
                ..Load::of(cluster, DATABASE, script)
            }
            .tps()
        })?;
        let [floor, hit, classical] =
            <[Sample; 3]>::try_from(costs).map_err(|_| anyhow!("a sample is missing"))?;
        Ok(Asked {
            floor: median(&floor),
            hit: median(&hit),
            classical: median(&classical),
            serial: 1e9 / crowded.first().map_or(f64::NAN, median),
            hit_in_statement,
        })
    }

    /// Each operation a transaction of a client that has a machine of its own.
    fn transactions(&self, machine: Machine) -> Section {
        let transaction = |own: f64, changes: &[f64], counted| Operation {
            own,
            changes: [&[SNAPSHOTS], changes].concat(),
            serial: 0.0,
            counted,
        };
        let operations = [
            (HIT, transaction(self.hit, &[], Some(ONE_KEY))),
            (FLOOR, transaction(self.floor, &[], None)),
            (
                "hit, 10,000 keys",
                transaction(self.hit, &[], Some(MANY_KEYS)),
            ),
            (
                "with a lock, shared, in each hit",
                transaction(self.hit, &[2.0], None),
            ),
            (
                "classical table cache, one key",
                Operation {
                    own: (self.classical - self.serial).max(0.0),
                    changes: vec![SNAPSHOTS],
                    serial: self.serial,
                    counted: None,
                },
            ),
        ];
        modelled(
            "Scaling: one transaction for each hit, modelled",
            "scaling-transactions",
            machine,
            &operations,
        )
        .note(format!(
            "Processor time of the server for a transaction, measured here: floor {:.1} µs, hit {:.1} µs, classical {:.1} µs, of which others \
             wait for {:.1} µs. What all but the last share is the lock that PostgreSQL takes for its snapshots.",
            self.floor / 1e3,
            self.hit / 1e3,
            self.classical / 1e3,
            self.serial / 1e3
        ))
    }

    /// Hits in statements that make many.
    fn statements(&self, machine: Machine) -> Section {
        let hit = |changes: &[f64], counted| Operation {
            own: self.hit_in_statement,
            changes: changes.to_vec(),
            serial: 0.0,
            counted,
        };
        let operations = [
            (HIT, hit(&[], Some(ONE_KEY))),
            ("hit, 10,000 keys", hit(&[], Some(MANY_KEYS))),
            (
                "hit, 10,000 keys, counts handed over without locks",
                hit(
                    &[],
                    Some(Counted {
                        locks: 0,
                        ..MANY_KEYS
                    }),
                ),
            ),
            ("with a counter in each hit", hit(&[1.0], None)),
            ("with a lock, shared, in each hit", hit(&[2.0], None)),
        ];
        modelled(
            "Scaling: many hits in each statement, modelled",
            "scaling-statements",
            machine,
            &operations,
        )
        .note(format!(
            "A hit takes {:.0} ns, measured here. Counts are handed over every 10 ms.",
            self.hit_in_statement
        ))
    }
}

/// What the model says, as a table for two machines and a plot.
fn modelled(
    title: &str,
    plot: &'static str,
    machine: Machine,
    operations: &[(&str, Operation)],
) -> Section {
    let mut figures = Vec::new();
    let mut drawn = Plot::lines(
        plot,
        title,
        "cores, 64 to a socket",
        Scale::Log,
        "times as much as one core",
    );
    for (name, operation) in operations {
        for cores in [64, 256] {
            figures.push(Figure::new(
                format!("{name}: {cores} cores ÷ one"),
                &Sample::of(vec![operation.gain(machine, cores)]),
                Unit::Ratio,
            ));
        }
        let gains = CORES
            .iter()
            .map(|cores| (*cores as f64, operation.gain(machine, *cores)));
        drawn = drawn.line(*name, gains.collect());
    }
    Section::new(title, figures).plot(drawn)
}

/// Nanoseconds of the server's processor time for one transaction of one client.
fn processor(cluster: &Cluster, script: &str) -> Result<f64> {
    let before = cluster.processor_time()?;
    Load {
        length: Length::Transactions(TRANSACTIONS),
        ..Load::of(cluster, DATABASE, script)
    }
    .tps()?;
    let used = cluster.processor_time()? - before;
    Ok(used.as_secs_f64() * 1e9 / f64::from(TRANSACTIONS))
}
