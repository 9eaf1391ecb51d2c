//! Which functions may run while a result is computed that is to be stored: the list against the catalog.

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;
use std::collections::BTreeMap;

const LIST: &str = include_str!("../../../src/dependencies/pg15.functions");

/// VOLATILE functions that are on the list all the same: they only take time.
const HARMLESS: &[&str] = &["pg_sleep", "pg_sleep_for", "pg_sleep_until"];

/// The list: oid, class and name.
fn list() -> Result<BTreeMap<u32, (&'static str, &'static str)>> {
    let mut known = BTreeMap::new();
    for line in LIST.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [oid, class, name] = words.as_slice() else {
            anyhow::bail!("{line}");
        };
        ensure!(
            ["=", "s", "p", "o", "v", "e", "c"].contains(class),
            "{line}"
        );
        let before = known.insert(oid.parse()?, (*class, *name));
        ensure!(before.is_none(), "{line} comes twice");
    }
    Ok(known)
}

/// Each built-in function is on the list, under its name, and none that is not there; what is VOLATILE is not among those that may run.
#[test]
fn each_built_in_function_is_known() -> Result<()> {
    let cluster = with_extension(quiet("functions"))?;
    let mut known = list()?;
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for row in cluster.connect(DATABASE)?.query(
        "SELECT oid, proname::text, provolatile = 'v' FROM pg_proc WHERE oid < 10000 ORDER BY oid",
        &[],
    )? {
        let (oid, name, is_volatile): (u32, String, bool) = (row.get(0), row.get(1), row.get(2));
        match known.remove(&oid) {
            None => unknown.push(format!("{oid} {name}")),
            Some((_, listed)) if listed != name => wrong.push(format!("{oid} {listed} is {name}")),
            Some(("=" | "s", listed)) if is_volatile && !HARMLESS.contains(&listed) => {
                wrong.push(format!("{listed} is volatile"));
            }
            Some(_) => (),
        }
    }
    ensure!(
        unknown.is_empty(),
        "nobody has said what these do (src/dependencies/pg15.functions): {unknown:?}"
    );
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(
        known.is_empty(),
        "these are not there any more: {:?}",
        known.values()
    );
    Ok(())
}

/// A result that rests on a function without arguments is stored if and only if the list says so.
#[test]
fn what_the_list_says_is_done() -> Result<()> {
    let cluster = with_extension(quiet("listed"))?;
    let known = list()?;
    let mut client = cluster.connect(DATABASE)?;
    // Not those that would end the session or the server, wait, or change what the next ones find.
    let functions = client.query(
        "SELECT oid, proname::text FROM pg_proc
         WHERE oid < 10000 AND pronargs = 0 AND prokind = 'f' AND provolatile <> 'v' AND NOT proretset
             AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype, 'void'::regtype, 'record'::regtype)
             AND proname NOT LIKE 'pg_event_trigger%' AND proname NOT LIKE 'pg_get_%'",
        &[],
    )?;
    ensure!(functions.len() > 20, "{} functions", functions.len());
    for row in functions {
        let (oid, name): (u32, String) = (row.get(0), row.get(1));
        let class = known.get(&oid).with_context(|| name.clone())?.0;
        // Each in a transaction of its own.
        for statement in [
            &format!(
                "CREATE FUNCTION f() RETURNS text LANGUAGE sql STABLE AS 'SELECT pg_catalog.\"{name}\"()::text'"
            ),
            "SELECT cache_function('f()')",
            "SELECT f_cached()",
        ] {
            client
                .batch_execute(statement)
                .with_context(|| name.clone())?;
        }
        let stored: bool = client
            .query_one(
                "SELECT reasons = '{}' FROM cache_function_stats WHERE function::text LIKE 'f_cached(%'",
                &[],
            )?
            .get(0);
        ensure!(
            stored == (class == "="),
            "{name}: {class}, stored: {stored}"
        );
        client.batch_execute("DROP FUNCTION f() CASCADE; SELECT clear_cache()")?;
    }
    Ok(())
}

/// A lock that is not to be had is no result, neither for the one that computes it nor for the one that verifies what is stored.
#[test]
fn a_caught_error_is_nobodys_fault() -> Result<()> {
    let cluster = with_extension(quiet("caught"))?;
    let mut client = cluster.connect(DATABASE)?;
    let mut other = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE busy (id integer);
         INSERT INTO busy VALUES (1);
         CREATE FUNCTION many() RETURNS text LANGUAGE plpgsql STABLE SET lock_timeout = '10ms' AS
             'BEGIN RETURN (SELECT count(*) FROM busy); EXCEPTION WHEN lock_not_available THEN RETURN ''locked''; END';
         SELECT cache_track_table('busy'), cache_function('many()')",
    )?;
    let ask = |client: &mut Client| -> Result<String> {
        Ok(client.query_one("SELECT many_cached()", &[])?.get(0))
    };
    other.batch_execute("BEGIN; LOCK TABLE busy")?;
    ensure!(ask(&mut client)? == "locked");
    other.batch_execute("ROLLBACK")?;
    ensure!(ask(&mut client)? == "1", "what was caught is served");
    ensure!(ask(&mut client)? == "1");
    client.batch_execute("SET pg_query_cache.verify_sample_rate = 1")?;
    other.batch_execute("BEGIN; LOCK TABLE busy")?;
    ensure!(ask(&mut client)? == "locked");
    other.batch_execute("ROLLBACK")?;
    client.batch_execute("RESET pg_query_cache.verify_sample_rate")?;
    let row = client.query_one(
        "SELECT hits, differences, (SELECT count(*) FROM cache_quarantine),
                (SELECT reasons->>'caught_error' FROM cache_function_stats WHERE function::text LIKE 'many_cached(%')
         FROM cache_stats()",
        &[],
    )?;
    let found: (i64, i64, i64, Option<String>) = (row.get(0), row.get(1), row.get(2), row.get(3));
    ensure!(found == (2, 0, 0, Some("1".to_owned())), "{found:?}");
    Ok(())
}
