//! Answers are the function's own: after a change, after a rollback, in an old snapshot.

use anyhow::{Context, Result};
use pg_query_cache_harness::postgres::Client;

use crate::counters::Answer;
use crate::tour::{Call, Tour, ask, session};

const CANCELLED: &str = "SELECT flights.carrier_delay_summary_cached('UA') ->> 'cancelled'";

/// One flight is cancelled, and the summary knows.
pub(crate) fn change(tour: &mut Tour<'_>) -> Result<()> {
    warm_up(tour)?;
    let (before, answer) = tour.observed(CANCELLED)?;
    tour.screen.statement(&format!("{CANCELLED};"));
    tour.screen.expect(
        format!("{before} cancelled flights of United, from the cache"),
        Answer::Hit,
        answer,
    );

    let update = cancel_a_flight(&mut tour.client)?;
    tour.screen.statement(&format!("{update};"));
    tour.client.batch_execute(&update)?;

    let (after, answer) = tour.observed(CANCELLED)?;
    tour.screen.statement(&format!("{CANCELLED};"));
    let expected = (before.parse::<i64>()? + 1).to_string();
    tour.screen.expect(
        format!("{after} cancelled flights, at once"),
        expected.as_str(),
        &after,
    );
    tour.screen
        .expect("computed, and stored again", Answer::Filled, answer);
    agrees(tour, "the new answer equals the function's own")?;
    let (again, answer) = tour.observed(CANCELLED)?;
    tour.screen.check(
        "and the call after that is a hit",
        answer == Answer::Hit && again == after,
        format!("{after}, {}", Answer::Hit),
        format!("{again}, {answer}"),
    );
    Ok(())
}

/// One flight is cancelled and is not: the writer sees its own world, everybody else notices nothing.
pub(crate) fn rollback(tour: &mut Tour<'_>) -> Result<()> {
    warm_up(tour)?;
    let (before, _) = tour.observed(CANCELLED)?;
    let mut writer = session(tour.cluster)?;
    let update = cancel_a_flight(&mut writer)?;
    for statement in ["BEGIN", &update] {
        tour.screen.statement(&format!("{statement};"));
        writer.batch_execute(statement)?;
    }
    let own = ask(&mut writer, CANCELLED)?;
    let expected = (before.parse::<i64>()? + 1).to_string();
    tour.screen.expect(
        format!("inside the transaction the answer has its own change: {own}"),
        expected.as_str(),
        &own,
    );
    let (others, answer) = tour.observed(CANCELLED)?;
    tour.screen.check(
        format!("other sessions have {others} meanwhile, and it is a hit"),
        others == before && answer == Answer::Hit,
        format!("{before}, {}", Answer::Hit),
        format!("{others}, {answer}"),
    );
    tour.screen.statement("ROLLBACK;");
    writer.batch_execute("ROLLBACK")?;
    let (after, answer) = tour.observed(CANCELLED)?;
    tour.screen.check(
        format!("after the rollback: {after}, and still a hit"),
        after == before && answer == Answer::Hit,
        format!("{before}, {}", Answer::Hit),
        format!("{after}, {answer}"),
    );
    agrees(tour, "it equals the function's own answer")
}

/// An old snapshot and a new one ask for the same key.
pub(crate) fn repeatable_read(tour: &mut Tour<'_>) -> Result<()> {
    let call = tour
        .calls
        .iter()
        .find(|call| call.function == "get_product_performance" && call.arguments != "NULL")
        .cloned()
        .context("there is no product to order")?;
    let orders = format!("SELECT {} ->> 'orders'", call.cached());
    let own = format!("SELECT {} ->> 'orders'", call.base());

    let mut reader = session(tour.cluster)?;
    tour.screen.note("the reader:");
    tour.screen
        .statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;");
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    tour.screen
        .statement("SELECT get_product_performance_cached(…) ->> 'orders';");
    let seen = ask(&mut reader, &orders)?;
    tour.screen.say(&seen);

    tour.screen.note("another session:");
    let insert = format!(
        "INSERT INTO marketplace.orders (product_id, client_id, quantity, unit_price) \
         VALUES ({}, gen_random_uuid(), 1, 9.95)",
        call.arguments
    );
    tour.screen.statement("INSERT INTO marketplace.orders …;");
    tour.client.batch_execute(&insert)?;
    let expected = (seen.parse::<i64>()? + 1).to_string();
    let new = ask(&mut tour.client, &orders)?;
    tour.screen.expect(
        format!("it has {new} orders at once"),
        expected.as_str(),
        &new,
    );
    let hit = tour.observed(&orders)?.1;
    tour.screen
        .expect("and then from the cache", Answer::Hit, hit);

    let kept = ask(&mut reader, &orders)?;
    let recomputed = ask(&mut reader, &own)?;
    tour.screen.expect(
        format!("the reader still has {kept}, as its snapshot says"),
        &seen,
        &kept,
    );
    tour.screen.expect(
        "which is what the function itself gives it",
        &recomputed,
        &kept,
    );
    tour.screen.note("the reader:");
    tour.screen.statement("COMMIT;");
    reader.batch_execute("COMMIT")?;
    let then = ask(&mut reader, &orders)?;
    tour.screen
        .expect(format!("its next transaction has {then}"), &new, &then);
    let comparison = ask(&mut tour.client, &call.comparison())?;
    tour.screen
        .expect("all answers equal the function's own", "t", &comparison);
    Ok(())
}

/// Two calls, so that the next one is a hit whatever happened in the steps before.
fn warm_up(tour: &mut Tour<'_>) -> Result<()> {
    ask(&mut tour.client, CANCELLED)?;
    ask(&mut tour.client, CANCELLED)?;
    Ok(())
}

fn agrees(tour: &mut Tour<'_>, claim: &str) -> Result<()> {
    let call = Call {
        label: String::new(),
        function: "flights.carrier_delay_summary",
        arguments: "'UA'".to_owned(),
        rows: false,
    };
    let same = ask(&mut tour.client, &call.comparison())?;
    tour.screen.expect(claim, "t", &same);
    Ok(())
}

/// The statement that cancels United's first flight that was flown.
fn cancel_a_flight(client: &mut Client) -> Result<String> {
    let key = ask(
        client,
        "SELECT format('time_hour = %L AND carrier = %L AND flight = %s', time_hour, carrier, flight) \
         FROM flights.flights WHERE carrier = 'UA' AND dep_time IS NOT NULL ORDER BY time_hour, flight LIMIT 1",
    )?;
    Ok(format!(
        "UPDATE flights.flights SET dep_time = NULL, dep_delay = NULL, arr_time = NULL, arr_delay = NULL, \
         air_time = NULL WHERE {key}"
    ))
}
