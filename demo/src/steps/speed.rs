//! Functions become cached ones, and fast.

use std::time::Duration;

use anyhow::{Context, Result};
use pg_query_cache_harness::postgres::Client;

use crate::counters::Counters;
use crate::text;
use crate::tour::{Tour, ask, timed};

/// How often a warm call is timed.
const WARM_CALLS: usize = 2_000;

/// How long all warm calls of one function may take, in case they are not warm.
const BUDGET: Duration = Duration::from_secs(3);

/// A hit may cost this many times a prepared SELECT of the same constant. It is about 1 on an idle machine; a demo
/// runs where other things run too.
const NOISE: f64 = 2.0;

/// `cache_function`, for three functions over the flights.
pub(crate) fn create(tour: &mut Tour<'_>) -> Result<()> {
    for (function, cached) in [
        (
            "flights.carrier_delay_summary(text)",
            "flights.carrier_delay_summary_cached(text,interval)",
        ),
        (
            "flights.route_performance(text, text)",
            "flights.route_performance_cached(text,text,interval)",
        ),
        (
            "flights.airport_day(text, date)",
            "flights.airport_day_cached(text,date,interval)",
        ),
    ] {
        let answer = tour.shown(&format!("SELECT cache_function('{function}')"))?;
        tour.screen.expect(&answer, cached, &answer);
    }
    let signature = ask(
        &mut tour.client,
        "SELECT pg_get_function_arguments(to_regprocedure('flights.carrier_delay_summary_cached(text,interval)'))",
    )?;
    tour.screen
        .note(format!("flights.carrier_delay_summary_cached({signature})"));
    tour.screen.check(
        "the arguments are the function's own, and how old an answer may be",
        signature.starts_with("carrier text, cache_duration interval"),
        "carrier text, cache_duration interval …",
        &signature,
    );
    let domain = ask(
        &mut tour.client,
        "SELECT count(*) FROM pg_proc WHERE oid IN \
         (to_regprocedure('get_expert_sessions_with_stats_cached(uuid,interval)'), \
          to_regprocedure('get_product_performance_cached(uuid,interval)'))",
    )?;
    tour.screen.expect(
        "the marketplace's two functions came cached with the extension",
        "2",
        &domain,
    );
    Ok(())
}

/// Cold, warm, and how they compare.
pub(crate) fn measure(tour: &mut Tour<'_>) -> Result<()> {
    tour.shown("SELECT clear_cache()")?;
    let header = ["", "itself", "first call", "next calls", "faster"].map(str::to_owned);
    let mut rows = Vec::new();
    let (mut equal, mut cold_filled, mut warm_hits) = (0, 0, 0);
    let mut shares = Vec::new();
    let progress = tour.screen.progress("measuring");
    for call in &tour.calls {
        progress.now(call.label.clone());
        let client = &mut tour.client;
        let (base, _) = median(client, &call.statement(&call.base()), 3, BUDGET)?;

        let before = Counters::read(client)?;
        let (_, cold) = timed(|| Ok(client.query(&call.statement(&call.cached()), &[])?))?;
        cold_filled += usize::from(before.since(client, |added| added.fills > 0)?.fills == 1);

        let before = Counters::read(client)?;
        let (warm, made) = median(client, &call.statement(&call.cached()), WARM_CALLS, BUDGET)?;
        let added = before.since(client, |added| added.calls() >= made)?;
        warm_hits += usize::from(added.hits == made && added.fills == 0);

        equal += usize::from(ask(client, &call.comparison())? == "t");
        shares.push((
            call.function,
            warm.as_secs_f64() / base.as_secs_f64().max(1e-9),
        ));
        rows.push(vec![
            call.label.clone(),
            text::time(base),
            text::time(cold),
            text::time(warm),
            text::ratio(base, warm),
        ]);
    }
    drop(progress);
    tour.screen.table(&header, &rows);
    tour.screen.note(format!(
        "Times are a client's, round trip included; next calls: the median of {} through a prepared statement.",
        text::number(WARM_CALLS)
    ));
    let calls = tour.calls.len();
    tour.screen.expect(
        "every first call was computed once, and stored",
        calls,
        cold_filled,
    );
    tour.screen
        .expect("every next call was a hit", calls, warm_hits);
    tour.screen.expect(
        "every answer equals the function's own, compared in one statement",
        calls,
        equal,
    );
    for (function, what, target) in [
        ("get_expert_sessions_with_stats", "sessions", 90.0),
        ("get_product_performance", "products", 85.0),
    ] {
        let saved = shares
            .iter()
            .filter(|(name, _)| *name == function)
            .map(|(_, share)| 100.0 * (1.0 - share))
            .fold(f64::INFINITY, f64::min);
        tour.screen.check(
            format!("{what}: a hit is {saved:.2} % faster than the function"),
            saved >= target && saved.is_finite(),
            format!("at least {target} %"),
            format!("{saved:.2} %"),
        );
    }
    compare_with_constant(tour)
}

/// A hit next to the cheapest statements there are, in turns, so that all of them meet the same weather.
fn compare_with_constant(tour: &mut Tour<'_>) -> Result<()> {
    let call = tour
        .calls
        .first()
        .context("there is no cached function to measure")?;
    let cached = call.statement(&call.cached());
    let answer = ask(&mut tour.client, &cached)?;
    let constant = format!("SELECT '{}'::jsonb", answer.replace('\'', "''"));
    let statements = ["SELECT 1", &constant, &cached];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let prepared = statements.map(|sql| tour.client.prepare(sql));
    for _ in 0..40 {
        for (statement, times) in prepared.iter().zip(&mut times) {
            let statement = match statement {
                Ok(statement) => statement,
                Err(error) => anyhow::bail!("cannot prepare: {error}"),
            };
            for _ in 0..50 {
                times.push(timed(|| Ok(tour.client.query(statement, &[])?))?.1);
            }
        }
    }
    let [one, same, hit] = times.map(middle);
    tour.screen.say(format!(
        "SELECT 1: {}    SELECT the same {} as a constant: {}    a hit: {}",
        text::time(one),
        text::bytes(answer.len() as f64),
        text::time(same),
        text::time(hit)
    ));
    let ratio = hit.as_secs_f64() / same.as_secs_f64().max(1e-9);
    tour.screen.check(
        format!("a hit costs {ratio:.2} times what selecting its answer as a constant costs"),
        ratio <= NOISE,
        format!("at most {NOISE:.1}"),
        format!("{ratio:.2}"),
    );

    let loops = 100_000_u32;
    let inside =
        |argument: &str| format!("SELECT count({argument}) FROM generate_series(1, {loops})");
    let call = call.cached();
    let (_, bare) = timed(|| ask(&mut tour.client, &inside("1")))?;
    let (_, full) = timed(|| ask(&mut tour.client, &inside(&call)))?;
    tour.screen.note(format!(
        "Within one statement, without round trips, a hit takes {}.",
        text::time(full.saturating_sub(bare) / loops)
    ));
    Ok(())
}

/// The median time of a prepared statement over so many calls, or as many as the budget allows; and how many they were.
pub(crate) fn median(
    client: &mut Client,
    sql: &str,
    calls: usize,
    budget: Duration,
) -> Result<(Duration, i64)> {
    let statement = client.prepare(sql)?;
    let mut times = Vec::with_capacity(calls);
    let mut spent = Duration::ZERO;
    while times.len() < calls && (spent < budget || times.is_empty()) {
        let (_, took) = timed(|| Ok(client.query(&statement, &[])?))?;
        spent += took;
        times.push(took);
    }
    let calls = i64::try_from(times.len())?;
    Ok((middle(times), calls))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
