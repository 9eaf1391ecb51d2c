//! How soon entries are there again after a clean restart.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

use super::MEASURED;
use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::Sample;
use crate::server::{self, DATABASE, ask, total};

/// Entries before the restart.
const ENTRIES: u32 = 100_000;

/// How long to wait for them.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// 1 KB that depends on a table, and a count of how often it was computed.
const COUNTED: &str = "
    CREATE EXTENSION pg_query_cache;
    CREATE SEQUENCE computed;
    CREATE TABLE titles (id int PRIMARY KEY, title text NOT NULL);
    INSERT INTO titles SELECT i, 'title ' || i FROM generate_series(0, 99) i;
    CREATE FUNCTION counted(k int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
    BEGIN
        PERFORM nextval('computed');
        RETURN (SELECT to_jsonb(rpad(title, 1012, 'x')) FROM titles WHERE id = k % 100);
    END $$;
    SELECT cache_function('counted(int)', ttl => '1 day'), cache_track_table('titles');";

/// Seconds from the server's start, as pg_ctl is called.
struct Times {
    accepts: f64,
    first_hit: f64,
    all: f64,
}

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start_with("bench", &[("pg_query_cache.memory", "256MB")])?;
    server::create_database(&cluster, DATABASE, &[COUNTED])?;
    cluster.connect(DATABASE)?.batch_execute(&format!(
        "SELECT count(counted_cached(k)) FROM generate_series(1, {ENTRIES}) k"
    ))?;
    let rounds = if options.quick { 1 } else { 3 };
    let times: Vec<Times> = (0..rounds)
        .map(|_| restart(&cluster))
        .collect::<Result<_>>()?;
    let figure = |what: &str, of: fn(&Times) -> f64| {
        Figure::new(what, &Sample::of(times.iter().map(of).collect()), Unit::S)
    };
    Ok(vec![Section::new(
        "Warm start: 100,000 entries of 1 KB, after a clean restart",
        vec![
            figure("pg_ctl start until connections are accepted", |t| t.accepts),
            figure("from then until the first hit", |t| t.first_hit - t.accepts)
                .goal(Goal::AtMost(1.0)),
            figure("from then until all are in memory", |t| t.all - t.accepts)
                .goal(Goal::AtMost(5.0)),
            figure("pg_ctl start until the first hit", |t| t.first_hit),
            figure("pg_ctl start until all are in memory", |t| t.all),
        ],
    )])
}

/// Restarts, and watches. Whoever asks for an entry that is not there yet has it computed, which is counted.
fn restart(cluster: &Cluster) -> Result<Times> {
    cluster.stop(Mode::Fast)?;
    let begin = Instant::now();
    let (mut client, accepts) = thread::scope(|scope| {
        let starting = scope.spawn(|| cluster.start());
        let client = connect(cluster, begin);
        starting
            .join()
            .ok()
            .context("the server was not started")??;
        client
    })?;
    let seconds = || begin.elapsed().as_secs_f64();
    let mut asked = 0;
    let first_hit = loop {
        asked += 1;
        let before = computed(&mut client)?;
        client.batch_execute(&format!("SELECT counted_cached({asked})"))?;
        if computed(&mut client)? == before {
            break seconds();
        }
        ensure!(begin.elapsed() < PATIENCE, "no hit after the restart");
    };
    let all = loop {
        if total(&mut client, "entries")? >= f64::from(ENTRIES) {
            break seconds();
        }
        ensure!(begin.elapsed() < PATIENCE, "not all entries are back");
        thread::sleep(PAUSE);
    };
    let before = computed(&mut client)?;
    client.batch_execute(&format!(
        "SELECT count(counted_cached(k)) FROM generate_series(1, {ENTRIES}) k"
    ))?;
    let missing = computed(&mut client)? - before;
    ensure!(
        missing <= f64::from(ENTRIES) * MEASURED,
        "{missing} of the entries were not hit"
    );
    Ok(Times {
        accepts,
        first_hit,
        all,
    })
}

/// The first session that the server accepts, and after how many seconds.
fn connect(cluster: &Cluster, begin: Instant) -> Result<(Client, f64)> {
    loop {
        if let Ok(client) = cluster.connect(DATABASE) {
            return Ok((client, begin.elapsed().as_secs_f64()));
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "the server does not accept connections"
        );
        thread::sleep(PAUSE);
    }
}

fn computed(client: &mut Client) -> Result<f64> {
    Ok(ask(client, "SELECT last_value FROM computed")?.parse()?)
}
