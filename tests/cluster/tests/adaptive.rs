//! Functions that are not worth caching come to rest and come back, whoever calls them, and every answer is right all the while.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::thread;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, counters, holds, number, quiet, wait_for_end, with_accounts, with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

const SESSIONS: usize = 4;
/// Calls of each session in a round.
const CALLS: usize = 100;
/// A share of the keys has its turn for so many seconds; there are 16 of them.
const TURN: usize = 4;

fn storing(client: &mut Client) -> Result<String> {
    let row = client.query_one(
        "SELECT storing FROM cache_function_stats WHERE function = 'balance_cached(int,interval)'::regprocedure",
        &[],
    )?;
    Ok(row.get(0))
}

/// All sessions at once, each with a key of its own: `before` each call, which is compared with the function's own answer in the same
/// statement. They have ended, and what they counted is known, when this returns.
fn round(cluster: &Cluster, setup: &str, before: &str) -> Result<()> {
    let mut pids = Vec::new();
    let sessions: Vec<_> = (1..=SESSIONS)
        .map(|id| {
            let mut client = cluster.connect(DATABASE)?;
            pids.push(number(&mut client, "SELECT pg_backend_pid()::bigint")?);
            client.batch_execute(setup)?;
            let before = before.replace("$id", &id.to_string());
            let compared = format!("SELECT balance({id}) = balance_cached({id})");
            Ok(thread::spawn(move || -> Result<()> {
                for _ in 0..CALLS {
                    client.batch_execute(&before)?;
                    ensure!(holds(&mut client, &compared)?, "a wrong balance");
                }
                Ok(())
            }))
        })
        .collect::<Result<_>>()?;
    for session in sessions {
        session.join().unwrap()?;
    }
    wait_for_end(cluster, &pids)
}

/// Each session writes before it reads, so its result is never hit, until the function rests.
fn bring_to_rest(cluster: &Cluster) -> Result<()> {
    let write = "UPDATE accounts SET balance = balance + 1 WHERE id = $id;";
    let mut client = cluster.connect(DATABASE)?;
    for _ in 0..30 {
        round(cluster, "", write)?;
        if storing(&mut client)? == "resting: invalidated before hit" {
            return Ok(());
        }
    }
    anyhow::bail!(
        "it does not rest: {:?}",
        counters(&mut client, "balance_cached")?
    )
}

#[test]
fn a_function_comes_to_rest_and_back() -> Result<()> {
    let cluster = with_accounts(quiet("adaptive"))?;
    let mut client = cluster.connect(DATABASE)?;
    bring_to_rest(&cluster)?;
    let at_rest = counters(&mut client, "balance_cached")?;
    // It goes on resting: of the writers' calls few store.
    round(
        &cluster,
        "",
        "UPDATE accounts SET balance = balance - 1 WHERE id = $id",
    )?;
    let later = counters(&mut client, "balance_cached")?;
    ensure!(
        later.fills - at_rest.fills <= 256 && later.bypasses > at_rest.bypasses,
        "{at_rest:?}, then {later:?}"
    );
    // Nobody writes any more. Each key has its turn once in sixteen.
    for turn in 1..=40 {
        let offset = format!("SET pg_query_cache.clock_offset = '{}s'", turn * (TURN + 1));
        round(&cluster, &offset, "")?;
        if storing(&mut client)? == "yes" {
            let back = counters(&mut client, "balance_cached")?;
            round(&cluster, "", "")?;
            let later = counters(&mut client, "balance_cached")?;
            ensure!(
                later.hits - back.hits >= (SESSIONS * CALLS) as i64 - 10,
                "{back:?}, then {later:?}"
            );
            ensure!(
                turn <= 20,
                "after {turn} turns, although there are 16 of them"
            );
            return Ok(());
        }
    }
    anyhow::bail!(
        "it does not come back: {:?}",
        counters(&mut client, "balance_cached")?
    )
}

#[test]
fn a_restart_begins_anew_and_loses_nothing() -> Result<()> {
    let cluster = with_accounts(quiet("adaptive-restart"))?;
    bring_to_rest(&cluster)?;
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    ensure!(
        number(
            &mut client,
            "SELECT count(*) FROM cache_function_stats WHERE storing <> 'yes'"
        )? == 0
    );
    round(&cluster, "", "")?;
    let counters = counters(&mut client, "balance_cached")?;
    ensure!(
        counters.bypasses == 0 && counters.hits > 300,
        "{counters:?}"
    );
    Ok(())
}

#[test]
fn the_switch_reaches_sessions_that_are_open() -> Result<()> {
    let cluster = with_accounts(quiet("adaptive-switch"))?;
    bring_to_rest(&cluster)?;
    let (mut one, mut other) = (cluster.connect(DATABASE)?, cluster.connect(DATABASE)?);
    let reason = "SELECT reason FROM cache_explain('balance_cached(1)')";
    let mut explained = |what: &str| -> Result<bool> {
        // A write, so that the call stores if it may.
        one.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
        one.batch_execute("SELECT balance_cached(1)")?;
        let row = one.query_one(reason, &[])?;
        Ok(row.get::<_, &str>(0) == what)
    };
    // Unless its key is on trial at this moment.
    let resting = explained("not_worthwhile")?;
    let mut configure = |function: &str, value: &str| {
        other.batch_execute(&format!(
            "SELECT set_cache_config('function.{function}.adaptive', '{value}')"
        ))
    };
    configure("total_cached(interval)", "off")?;
    ensure!(explained("not_worthwhile")? || !resting);
    configure("balance_cached(int,interval)", "off")?;
    ensure!(explained("valid")?);
    configure("balance_cached(int,interval)", "on")?;
    // What was found before is forgotten.
    ensure!(explained("valid")?);
    Ok(())
}

#[test]
fn arguments_that_never_repeat_are_noticed_when_memory_is_full() -> Result<()> {
    // Times are what they are.
    let measured = quiet("adaptive-new")
        .setting("pg_query_cache.assumed_hit", "0")
        .setting("pg_query_cache.assumed_run", "0");
    let cluster = with_extension(measured.setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION echoed(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'number ' || n; END $$;
         SELECT cache_function('echoed(integer)')",
    )?;
    let mut first = 1;
    let mut call = |calls: i64| -> Result<String> {
        client.batch_execute(&format!(
            "SELECT count(echoed_cached(n::integer)) FROM generate_series({first}, {}) AS n",
            first + calls - 1
        ))?;
        first += calls;
        let row = client.query_one("SELECT storing FROM cache_function_stats", &[])?;
        Ok(row.get(0))
    };
    // A cache that fills for the first time.
    ensure!(call(10_000)? == "yes");
    ensure!(call(30_000)? == "resting: not asked for again");
    Ok(())
}
