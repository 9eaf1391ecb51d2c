//! A run from beginning to end.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pg_query_cache_harness::{Cluster, Mode, wait_until};

use crate::comparison::{Seen, Session, Way};
use crate::install::{self, DATABASE};
use crate::options::Options;
use crate::plan::Question;
use crate::report::Report;
use crate::restart::Statistics;
use crate::shared::{Shared, in_full};
use crate::subject::SUBJECTS;
use crate::{monitor, publisher, reader, restart, writer};

/// How often the end of the run is considered.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// After so many unexpected errors nothing is learned from more of them.
const HOPELESS: u64 = 200;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a log does not contain unless something terrible happened.
const CRASH_SIGNS: &[&str] = &[
    "PANIC:",
    "was terminated by signal",
    "TRAP:",
    "server process was terminated",
];

/// What the product says when it finds a stored result of its own to be wrong.
const ALARM: &str = "differs from what the function returns";

/// Starts a cluster, installs everything, lets readers and writers run, and reports.
pub fn run(options: &Options) -> Result<Report> {
    let cluster = install::cluster(options.cache, options.verify)?;
    install::install(&cluster, options.cache)?;
    run_on(&cluster, options)
}

fn run_on(cluster: &Cluster, options: &Options) -> Result<Report> {
    install::settle_replication(cluster)?;
    let mut statistics = Statistics::new(cluster)?;
    let shared = Shared::new(cluster, options);
    let start = Instant::now();
    let ended = sessions(&shared, start, &mut statistics);
    let seconds = start.elapsed().as_secs_f64();
    let crashes = lines_of_log(cluster, CRASH_SIGNS);
    if let Err(error) = ended {
        // After a crash the sessions' own errors say little; the report says more, if there is one.
        if crashes.is_empty() {
            return Err(error);
        }
        return Ok(Report {
            seconds,
            crashes,
            ..shared.into_report()
        });
    }
    wait_until("all sessions have ended", Duration::from_secs(240), || {
        sessions_left(cluster).is_ok_and(|left| left == 0)
    })?;
    install::settle_replication(cluster)?;
    statistics.add(cluster)?;
    if let Err(error) = quiescent(&shared) {
        let mut tally = shared.tally();
        tally.unexpected_errors += 1;
        tally.unexpected.push(error.to_string());
    }
    let mut report = shared.into_report();
    let [hits, misses, bypasses, verified] = statistics.sums;
    report.hit_rate = hits as f64 / report.comparisons.max(1) as f64;
    Ok(Report {
        seconds,
        crashes,
        hits,
        misses,
        bypasses,
        verified,
        alarms: lines_of_log(cluster, &[ALARM]),
        ..report
    })
}

/// Runs all sessions until the end; the first error that a session could not go on after.
fn sessions(shared: &Shared<'_>, start: Instant, statistics: &mut Statistics) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| stopping(shared, monitor::watch(shared)))];
        threads.push(scope.spawn(|| stopping(shared, publisher::publish(shared))));
        threads.push(scope.spawn(move || stopping(shared, writer::resolve(shared, &receiver))));
        for index in 0..shared.options.readers {
            threads.push(scope.spawn(move || stopping(shared, reader::read(shared, index))));
        }
        for index in 0..shared.options.writers {
            let sender = sender.clone();
            threads
                .push(scope.spawn(move || stopping(shared, writer::write(shared, index, &sender))));
        }
        // The writers' copies are the last ones: with them ends the one who waits for prepared transactions.
        drop(sender);
        let waited = wait_for_the_end(shared, start, statistics);
        shared.hold(false);
        shared.stop();
        let results: Vec<Result<()>> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a session panicked")))
            })
            .collect();
        results.into_iter().collect::<Result<()>>()?;
        waited
    })
}

fn stopping(shared: &Shared<'_>, result: Result<()>) -> Result<()> {
    if result.is_err() {
        shared.stop();
    }
    result
}

fn wait_for_the_end(
    shared: &Shared<'_>,
    start: Instant,
    statistics: &mut Statistics,
) -> Result<()> {
    let options = shared.options;
    let mut told = Instant::now();
    while !shared.stopped() && start.elapsed().as_secs() < options.seconds {
        let done = shared.epoch();
        if done < options.restarts {
            let share = |of: u64| of * (done + 1) / (options.restarts + 1);
            let due = start.elapsed().as_secs() >= share(options.seconds)
                || options.min_comparisons > 0
                    && shared.comparisons() >= share(options.min_comparisons);
            if due {
                let mode = if done.is_multiple_of(2) {
                    Mode::Fast
                } else {
                    Mode::Immediate
                };
                restart::restart(shared, mode, statistics)?;
            }
        }
        let enough = options.min_comparisons > 0
            && shared.epoch() >= options.restarts
            && shared.comparisons() >= options.min_comparisons
            && shared.never_committed().is_empty();
        if shared.tally().unexpected_errors > HOPELESS {
            return Ok(());
        }
        if enough || shared.differences() >= options.max_differences {
            return Ok(());
        }
        if options.progress && told.elapsed() >= PROGRESS {
            told = Instant::now();
            let (comparisons, differences) = (shared.comparisons(), shared.differences());
            eprintln!(
                "{:4} s: {comparisons} comparisons, {differences} differences",
                start.elapsed().as_secs()
            );
        }
        thread::sleep(HEARTBEAT);
    }
    Ok(())
}

/// Nobody writes any more: everything must be equal, before and after it is cached again.
fn quiescent(shared: &Shared<'_>) -> Result<()> {
    let mut session = Session::new(shared, "quiescent".to_owned(), "")?;
    let acknowledged = shared.acknowledged();
    for context in ["first look", "second look"] {
        for subject in SUBJECTS {
            let question = Question::whole(subject);
            let rows = session
                .ask(&question, Way::Prepared)
                .map_err(|error| anyhow!("when all was quiet: {}", in_full(&error)))?;
            let seen = Seen {
                question: &question,
                mode: "quiescent",
                context,
                rows: &rows,
                whole: true,
                acknowledged: Some(&acknowledged),
                remark: "nobody was writing any more",
            };
            session.examine(shared, &seen);
        }
    }
    Ok(())
}

fn sessions_left(cluster: &Cluster) -> Result<i64> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'oracle %'";
    Ok(cluster.connect(DATABASE)?.query_one(sql, &[])?.try_get(0)?)
}

/// The first lines of the server's log that hold one of the signs.
fn lines_of_log(cluster: &Cluster, signs: &[&str]) -> Vec<String> {
    let log = cluster.log();
    let lines = log
        .lines()
        .filter(|line| signs.iter().any(|sign| line.contains(sign)));
    lines.map(ToOwned::to_owned).take(10).collect()
}
