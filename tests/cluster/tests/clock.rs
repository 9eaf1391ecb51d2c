//! `"clock"`: the time is part of the key. Zones are made up so that a day ends, or clocks are set back, a moment from now.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, wait_until};

const GROUND: &str = "
    CREATE FUNCTION today() RETURNS text LANGUAGE sql STABLE AS $$SELECT to_char(CURRENT_DATE, 'YYYY-MM-DD')$$;
    CREATE FUNCTION hour() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN date_trunc('hour', now()) || to_char(now(), ' HH24 OF'); END$$;
    SELECT cache_function('today()', clock => 'day', ttl => '10 days'), cache_function('hour()', clock => 'hour', ttl => '10 days');";

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.try_get(0)?)
}

fn outcome(client: &mut Client, function: &str) -> Result<String> {
    text(
        client,
        &format!("SELECT outcome FROM cache_explain('{function}_cached()')"),
    )
}

/// Asks, twice, and compares with the function itself, in one transaction.
fn right(client: &mut Client, function: &str) -> Result<String> {
    let own = format!(
        "SELECT {function}()::text || ':' || {function}_cached() || ':' || {function}_cached()"
    );
    let answer = text(client, &own)?;
    let parts = answer.len() / 3;
    let (itself, cached) = (&answer[..parts], &answer[parts + 1..2 * parts + 1]);
    ensure!(itself == cached, "{function}: {answer}");
    ensure!(answer.ends_with(itself), "{function}: {answer}");
    Ok(itself.to_owned())
}

/// Two sessions ask before and after a moment at which the answer changes; the transaction of one begins before it and ends after it.
fn crosses(cluster: &Cluster, function: &str, zone: impl Fn(f64) -> String) -> Result<()> {
    let (mut old, mut new) = (cluster.connect(DATABASE)?, cluster.connect(DATABASE)?);
    let mut ahead = 2.0;
    let before = loop {
        let now: f64 = old
            .query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[])?
            .get(0);
        let moment = (now + ahead).ceil();
        let set = zone(moment);
        old.batch_execute(&set)?;
        new.batch_execute(&set)?;
        old.batch_execute("BEGIN")?;
        let before = right(&mut old, function)?;
        let seen = right(&mut new, function)?;
        let found = outcome(&mut new, function)?;
        let late: bool = new
            .query_one("SELECT clock_timestamp() >= to_timestamp($1)", &[&moment])?
            .get(0);
        if !late {
            ensure!(before == seen, "{before} is not {seen}");
            ensure!(found == "hit", "{found}");
            break before;
        }
        // The machine was too slow for that.
        old.batch_execute("ROLLBACK")?;
        ahead *= 2.0;
    };
    wait_until("the answer changes", PATIENCE, || {
        text(&mut new, &format!("SELECT {function}()")).is_ok_and(|now| now != before)
    })?;
    // Each has its own answer, in whatever order they ask.
    for _ in 0..3 {
        let after = right(&mut new, function)?;
        ensure!(after != before, "{function} is {after} still");
        ensure!(right(&mut old, function)? == before);
        ensure!(outcome(&mut old, function)? == "hit");
    }
    old.batch_execute("COMMIT")?;
    ensure!(right(&mut old, function)? == right(&mut new, function)?);
    Ok(())
}

#[test]
fn a_day_ends() -> Result<()> {
    let cluster = with_extension(quiet("clock_day"))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    crosses(&cluster, "today", |moment| {
        let of_day = (moment as i64).rem_euclid(86_400);
        let east = if of_day < 43_200 {
            -of_day
        } else {
            86_400 - of_day
        };
        format!("SET TIME ZONE INTERVAL '{east} seconds'")
    })
}

/// The same hour by local time once more: only the offset tells.
#[test]
fn an_hour_comes_twice() -> Result<()> {
    let cluster = with_extension(quiet("clock_hour"))?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    let mut client = cluster.connect(DATABASE)?;
    let offsets = |zone: &str, moment: f64, client: &mut Client| -> Result<()> {
        client.batch_execute(zone)?;
        let row = client.query_one(
            "SELECT to_char(to_timestamp($1::float8 - 1), 'HH24'), to_char(to_timestamp($1::float8), 'HH24'), to_char(to_timestamp($1::float8 - 1), 'OF'), to_char(to_timestamp($1::float8), 'OF')",
            &[&moment],
        )?;
        let (hour, again, one, other): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        ensure!(
            hour == again && one != other,
            "{zone}: {hour} {again} {one} {other}"
        );
        Ok(())
    };
    let zone = |moment: f64| {
        let moment = moment as i64;
        // West of UTC, so that at least twenty minutes of the hour are left; summer is twenty minutes ahead.
        let west = if moment.rem_euclid(3_600) < 1_800 {
            0
        } else {
            30
        };
        let summer = moment - west * 60 + 20 * 60;
        let (day, time) = (day_of_year(summer), summer.rem_euclid(86_400));
        format!(
            "SET TimeZone = '<A>0:{west:02}<B>{}0:{:02},{}/0,{day}/{:02}:{:02}:{:02}'",
            if west > 20 { "" } else { "-" },
            if west > 20 { west - 20 } else { 20 - west },
            (day + 183) % 365,
            time / 3_600,
            time / 60 % 60,
            time % 60
        )
    };
    let now: f64 = client
        .query_one("SELECT floor(extract(epoch FROM now()))::float8", &[])?
        .get(0);
    offsets(&zone(now), now, &mut client)?;
    crosses(&cluster, "hour", zone)
}

/// The day of the year in UTC, counted from 0.
fn day_of_year(moment: i64) -> i64 {
    let (mut day, mut year) = (moment.div_euclid(86_400), 1970);
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = if leap { 366 } else { 365 };
        if day < length {
            return day;
        }
        (day, year) = (day - length, year + 1);
    }
}
