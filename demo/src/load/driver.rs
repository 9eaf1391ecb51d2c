//! Sessions that carry operations out.
//!
//! Each session takes the next operation that nobody has taken. At a given rate it waits until the operation is due; what is told as
//! its latency begins at that moment, not when a session came to it: if all sessions are kept waiting by the server, the time
//! in which operations had to queue counts. (To measure from when it was sent would leave out what a slow answer does to the ones
//! behind it: coordinated omission.) As fast as it goes there is no such moment and hence no latency, only a throughput.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use pg_query_cache_harness::postgres::types::ToSql;
use pg_query_cache_harness::postgres::{Client, Statement};

use crate::load::kinds::ALL;
use crate::load::plan::Operation;

/// Latencies are kept with so many significant digits.
const DIGITS: u8 = 3;

/// A sleeping thread may wake up so much too late: for the last bit before an operation is due it stays awake.
const AWAKE: Duration = Duration::from_micros(150);

/// A session with the statements of all sorts of operation prepared.
pub(crate) struct Session {
    client: Client,
    statements: Vec<Statement>,
}

impl Session {
    /// Takes over a session.
    pub(crate) fn new(mut client: Client) -> Result<Self> {
        let statements = ALL
            .iter()
            .map(|kind| client.prepare(&kind.statement()).context(kind.label))
            .collect::<Result<_>>()?;
        Ok(Self { client, statements })
    }

    /// Runs something else in between.
    pub(crate) fn execute(&mut self, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .with_context(|| sql.to_owned())
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<()> {
        let arguments: Vec<&(dyn ToSql + Sync)> = operation
            .arguments
            .iter()
            .map(|argument| argument as &(dyn ToSql + Sync))
            .collect();
        self.client
            .query(&self.statements[operation.kind], &arguments)
            .with_context(|| operation.kind().label)?;
        Ok(())
    }
}

/// Times from when operations were due until they were done.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    /// None yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(DIGITS)?))
    }

    fn record(&mut self, latency: Duration) -> Result<()> {
        Ok(self.0.record(u64::try_from(latency.as_nanos())?)?)
    }

    /// Those of another one, too.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// So many per cent took at most so long.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// From the first operation to the end of the last.
    pub(crate) took: Duration,
    /// By sort of operation, in the order of [`ALL`]; empty unless there was a rate.
    pub(crate) latency: Vec<Latency>,
}

/// Carries out all operations: each when it is due, or as fast as the sessions can.
pub(crate) fn run(
    sessions: &mut [Session],
    operations: &[Operation],
    due: Option<&[Duration]>,
) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let work = |session: &mut Session| -> Result<Vec<Latency>> {
        let mut latency = empty()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(operation) = operations.get(index) else {
                return Ok(latency);
            };
            let due = due.and_then(|due| due.get(index));
            if let Some(due) = due {
                wait(start, *due);
            }
            session.carry_out(operation)?;
            if let Some(due) = due {
                latency[operation.kind].record(start.elapsed().saturating_sub(*due))?;
            }
        }
    };
    let done: Vec<Result<Vec<Latency>>> = thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter_mut()
            .map(|session| scope.spawn(|| work(session)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    });
    let took = start.elapsed();
    let mut latency = empty()?;
    for one in done {
        for (all, one) in latency.iter_mut().zip(&one?) {
            all.add(one)?;
        }
    }
    Ok(Outcome { took, latency })
}

fn empty() -> Result<Vec<Latency>> {
    ALL.iter().map(|_| Latency::new()).collect()
}

fn wait(start: Instant, due: Duration) {
    let left = |now: Instant| due.saturating_sub(now - start);
    if let Some(sleep) = left(Instant::now()).checked_sub(AWAKE) {
        thread::sleep(sleep);
    }
    while !left(Instant::now()).is_zero() {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_begins_before_it_is_due() {
        let start = Instant::now();
        wait(start, Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
        wait(start, Duration::ZERO);
    }

    #[test]
    fn percentiles_are_those_of_all_sessions() -> Result<()> {
        let (mut some, mut others) = (Latency::new()?, Latency::new()?);
        for millis in 1..=50 {
            some.record(Duration::from_millis(millis))?;
            others.record(Duration::from_millis(50 + millis))?;
        }
        some.add(&others)?;
        let near = |percent, millis: f64| {
            let found = some.percentile(percent).as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.002, "{percent}: {found}");
        };
        near(50.0, 50.0);
        near(99.0, 99.0);
        Ok(())
    }
}
