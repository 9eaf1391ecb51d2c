//! Many scripts, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::options::Options;
use crate::play::Pair;
use crate::road::{Road, common, roads};
use crate::script::Script;
use crate::shrink::shrink;
use crate::vocabulary::Vocabulary;

/// How long a script is made shorter.
const SHRINKING: Duration = Duration::from_secs(120);

/// What a road has brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Scripts that took it.
    pub scripts: u64,
    /// Answers that the function itself has judged.
    pub by_own: u64,
    /// Answers that the other server has judged.
    pub by_other: u64,
    /// Answers of functions that were those of a plan that the session had kept.
    pub old_plans: u64,
    /// Scripts in which the servers have parted.
    pub parted: u64,
    /// Hits.
    pub hits: i64,
}

/// What a run has done and found.
#[derive(Debug, Default)]
pub struct Report {
    /// Statements that settings and built-in functions are made of: how many of each there are.
    pub vocabulary: (usize, usize),
    /// By road; a script of two roads counts for its first.
    pub roads: BTreeMap<&'static str, Tally>,
    /// Differences that did not come again, which are nobody's fault but the machine's.
    pub once: Vec<String>,
    /// What was found.
    pub findings: Vec<String>,
}

/// Runs scripts.
pub fn run(options: &Options) -> Result<Report> {
    let next = AtomicU64::new(0);
    let (roads, common) = (roads(&options.only), common());
    let mut report = Report::default();
    let outcomes: Vec<Result<Report>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads)
            .map(|number| {
                let (next, roads, common) = (&next, &roads, &common);
                scope.spawn(move || work(options, number, next, roads, common))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    });
    for outcome in outcomes {
        report.add(outcome?);
    }
    Ok(report)
}

fn work(
    options: &Options,
    number: u64,
    next: &AtomicU64,
    roads: &[Road],
    common: &Road,
) -> Result<Report> {
    let mut pair = Pair::new(&format!("roads-{number}"))?;
    let vocabulary = Vocabulary::read(&mut pair.here.admin()?)?;
    let mut report = Report {
        vocabulary: vocabulary.size(),
        ..Report::default()
    };
    let mut hits = pair.hits()?;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    while report.findings.len() < options.findings {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        // However slow the machine is, each road is taken.
        if turn >= options.scripts || Instant::now() >= until && turn >= 2 * roads.len() as u64 {
            break;
        }
        let script = Script::new(options.seed.wrapping_add(turn), roads, common, &vocabulary);
        if options.verbose {
            println!("{script}");
        }
        let played = pair.play(&script)?;
        let tally = report.roads.entry(script.roads[0]).or_default();
        tally.scripts += 1;
        tally.by_own += played.by_own;
        tally.by_other += played.by_other;
        tally.old_plans += played.old_plans;
        tally.parted += u64::from(played.parted && script.other);
        // A crash begins to count anew.
        let now = pair.hits()?;
        tally.hits += if now < hits { now } else { now - hits };
        hits = now;
        if let Some(why) = played.no_world {
            report
                .findings
                .push(format!("seed {}: no world: {why}", script.seed));
        }
        if let Some(difference) = played.difference {
            match shrink(&mut pair, &script, &difference, Instant::now() + SHRINKING)? {
                Some((shortest, shown)) => {
                    report.findings.push(format!("{shortest}-- {shown}"));
                }
                None => report
                    .once
                    .push(format!("seed {}: {difference}", script.seed)),
            }
            hits = pair.hits()?;
        }
    }
    if !report.findings.is_empty() {
        pair.here.keep();
    }
    Ok(report)
}

impl Report {
    /// All roads' together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in self.roads.values() {
            total.add(*tally);
        }
        total
    }

    fn add(&mut self, other: Self) {
        self.vocabulary = other.vocabulary;
        for (name, tally) in other.roads {
            self.roads.entry(name).or_default().add(tally);
        }
        self.once.extend(other.once);
        self.findings.extend(other.findings);
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.by_own += other.by_own;
        self.by_other += other.by_other;
        self.old_plans += other.old_plans;
        self.parted += other.parted;
        self.hits += other.hits;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6} scripts, {:7} answers judged by the function itself, {:7} by the other server ({} parted, {} old plans), {:7} hits",
            self.scripts, self.by_own, self.by_other, self.parted, self.old_plans, self.hits
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (settings, builtins) = self.vocabulary;
        writeln!(f, "{settings} settings, {builtins} built-in functions")?;
        for (name, tally) in &self.roads {
            writeln!(f, "{name:12} {tally}")?;
        }
        writeln!(f, "{:12} {}", "all", self.total())?;
        for once in &self.once {
            writeln!(f, "did not come again: {once}")?;
        }
        for finding in &self.findings {
            writeln!(f, "FOUND\n{finding}")?;
        }
        Ok(())
    }
}
