//! Many clients at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use pg_query_cache_harness::postgres::{Client, NoTls};

use crate::counters::Counters;
use crate::tour::{Tour, ask, timed};
use crate::{DATABASE, SUPERUSER, text};

/// So many clients.
const CLIENTS: usize = 50;

/// The notice that the function below sends to the client it computes for, so that computations can be counted
/// without asking the cache.
const NOTICE: &str = "computing";

/// Looks at every flight and at the one its plane made before.
const FUNCTION: &str = "
CREATE OR REPLACE FUNCTION flights.knock_on_delays() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE NOTICE 'computing';
    RETURN (
        SELECT jsonb_object_agg(carrier, jsonb_build_object('after a late arrival', late, 'after a punctual one', punctual))
        FROM (SELECT carrier,
                     round(avg(dep_delay) FILTER (WHERE before > 60), 1) AS late,
                     round(avg(dep_delay) FILTER (WHERE before <= 0), 1) AS punctual
              FROM (SELECT carrier, dep_delay,
                           lag(arr_delay) OVER (PARTITION BY tailnum ORDER BY time_hour, carrier, flight) AS before
                    FROM flights.flights
                    WHERE tailnum IS NOT NULL) f
              GROUP BY carrier) c);
END
$$";

/// A cold key, and a crowd that wants it at the same moment.
pub(crate) fn single_flight(tour: &mut Tour<'_>) -> Result<()> {
    tour.client
        .batch_execute("DROP FUNCTION IF EXISTS flights.knock_on_delays_cached(interval)")?;
    tour.client.batch_execute(FUNCTION)?;
    tour.shown("SELECT cache_function('flights.knock_on_delays()')")?;
    let (own, alone) = timed(|| ask(&mut tour.client, "SELECT flights.knock_on_delays()"))?;

    let crowd = gather(tour, "SELECT flights.knock_on_delays_cached()")?;
    tour.screen.say(format!(
        "the function alone: {}    the last of {CLIENTS} answers: {}    computed {CLIENTS} times it would be about {}",
        text::time(alone),
        text::time(crowd.last()),
        text::time(alone * CLIENTS as u32 / cores())
    ));
    tour.screen
        .expect("the function ran once", 1, crowd.computed);
    tour.screen
        .expect("the cache counts one fill", 1, crowd.added.fills);
    tour.screen.expect(
        "all clients have the function's own answer",
        CLIENTS,
        crowd.equal_to(&own),
    );
    Ok(())
}

/// What came of it.
pub(crate) struct Crowd {
    /// Each client's answer, and how long it took.
    pub(crate) answers: Vec<(String, Duration)>,
    /// The notice was sent so often.
    pub(crate) computed: usize,
    /// What the cache has counted.
    pub(crate) added: Counters,
}

impl Crowd {
    /// When the last one had its answer.
    pub(crate) fn last(&self) -> Duration {
        let times = self.answers.iter().map(|(_, took)| *took);
        times.max().unwrap_or_default()
    }

    /// How many got this answer.
    pub(crate) fn equal_to(&self, own: &str) -> usize {
        let equal = self.answers.iter().filter(|(answer, _)| answer == own);
        equal.count()
    }
}

/// [`CLIENTS`] clients ask at the same moment.
pub(crate) fn gather(tour: &mut Tour<'_>, sql: &str) -> Result<Crowd> {
    let progress = tour.screen.progress("connecting 50 clients");
    let computed = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let counter = Arc::clone(&computed);
        let mut config = tour.cluster.config(DATABASE, SUPERUSER);
        config.notice_callback(move |notice| {
            if notice.message() == NOTICE {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut client = config.connect(NoTls).context("cannot connect 50 clients")?;
        client.batch_execute("SET statement_timeout = '60s'")?;
        clients.push(client);
    }
    progress.now("50 clients wait for one answer");
    let before = Counters::read(&mut tour.client)?;
    let start_line = Arc::new(Barrier::new(CLIENTS));
    let threads: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let start_line = Arc::clone(&start_line);
            let sql = sql.to_owned();
            thread::spawn(move || call(client, &start_line, &sql))
        })
        .collect();
    let mut answers = Vec::with_capacity(CLIENTS);
    for thread in threads {
        answers.push(thread.join().map_err(|_| anyhow!("a client died"))??);
    }
    drop(progress);
    let added = before.since(&mut tour.client, |added| added.calls() >= CLIENTS as i64)?;

    Ok(Crowd {
        answers,
        computed: computed.load(Ordering::Relaxed),
        added,
    })
}

fn call(mut client: Client, start_line: &Barrier, sql: &str) -> Result<(String, Duration)> {
    start_line.wait();
    let start = Instant::now();
    let answer = ask(&mut client, sql)?;
    Ok((answer, start.elapsed()))
}

fn cores() -> u32 {
    thread::available_parallelism()
        .ok()
        .and_then(|cores| u32::try_from(cores.get()).ok())
        .unwrap_or(1)
}
