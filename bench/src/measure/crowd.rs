//! Many sessions ask for the same thing that is not there yet, and takes long: one computes, and all have it.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use pg_query_cache_harness::postgres::Client;

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::Sample;
use crate::server::{self, DATABASE, ask};

/// Sessions.
const SESSIONS: usize = 50;

/// Takes half a second, and counts how often it was computed.
const SLOW: &str = "
    CREATE EXTENSION pg_query_cache;
    CREATE SEQUENCE computed;
    CREATE FUNCTION slow(k int) RETURNS int LANGUAGE plpgsql STABLE AS $$
    BEGIN PERFORM nextval('computed'), pg_sleep(0.5); RETURN k; END $$;
    SELECT cache_function('slow(int)');";

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[SLOW])?;
    let mut sessions: Vec<Client> = (0..SESSIONS)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            // As after its first call: the language is loaded, which is part of the key.
            client.batch_execute("SELECT slow_cached(0)")?;
            Ok(client)
        })
        .collect::<Result<_>>()?;
    let mut client = cluster.connect(DATABASE)?;
    let mut computed =
        || -> Result<f64> { Ok(ask(&mut client, "SELECT last_value FROM computed")?.parse()?) };
    let (mut computations, mut last_answers) = (Vec::new(), Vec::new());
    for key in 1..=i32::try_from(options.rounds_of(7))? {
        let before = computed()?;
        last_answers.push(ask_all(&mut sessions, key)?);
        computations.push(computed()? - before);
    }
    let most = computations.into_iter().fold(0.0, f64::max);
    let computations = Figure::new(
        "computations, at most",
        &Sample::of(vec![most]),
        Unit::Count,
    );
    let last = Figure::new("last answer", &Sample::of(last_answers), Unit::Ms);
    Ok(vec![Section::new(
        format!("A crowd: {SESSIONS} sessions ask for a cold key of a function that takes 500 ms"),
        vec![
            computations.goal(Goal::AtMost(1.0)),
            last.goal(Goal::AtMost(600.0)),
        ],
    )])
}

/// All ask at once; how long it takes until the last one has its answer, in milliseconds.
fn ask_all(sessions: &mut [Client], key: i32) -> Result<f64> {
    let start = Barrier::new(sessions.len() + 1);
    thread::scope(|scope| {
        let asking: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                let start = &start;
                scope.spawn(move || -> Result<Instant> {
                    start.wait();
                    session.batch_execute(&format!("SELECT slow_cached({key})"))?;
                    Ok(Instant::now())
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        let mut last = begin;
        for session in asking {
            last = last.max(session.join().ok().context("a session failed")??);
        }
        Ok(last.duration_since(begin).as_secs_f64() * 1e3)
    })
}
