//! Findings that take a server of their own, each mended by the statement that comes with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, answers_are_right, holds, number, quiet, with_accounts, with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

/// Status, value, words and SQL of the first finding that begins so.
fn finding(client: &mut Client, name: &str) -> Result<(String, String, String, Option<String>)> {
    let row = client
        .query_opt(
            "SELECT status, value, recommendation, sql FROM analyze_cache_health() WHERE starts_with(finding, $1)",
            &[&name],
        )?
        .with_context(|| format!("no finding {name}"))?;
    Ok((row.get(0), row.get(1), row.get(2), row.get(3)))
}

/// Runs what a finding that is not well recommends.
fn mend(client: &mut Client, name: &str, status: &str) -> Result<String> {
    let (is, value, words, sql) = finding(client, name)?;
    ensure!(
        is == status && !words.is_empty(),
        "{name}: {is}, {value}, {words}"
    );
    let sql = sql.with_context(|| format!("{name}: no SQL"))?;
    client.simple_query(&sql).with_context(|| sql.clone())?;
    Ok(sql)
}

fn is_well(client: &mut Client, name: &str) -> Result<()> {
    let found = finding(client, name)?;
    ensure!(found.0 == "ok", "{name}: {found:?}");
    Ok(())
}

#[test]
fn a_new_server_is_well() -> Result<()> {
    let cluster = with_accounts(quiet("health-new"))?;
    for _ in 0..2 {
        answers_are_right(&mut cluster.connect(DATABASE)?)?;
    }
    pg_query_cache_cluster_tests::worker(&cluster)?;
    let mut client = cluster.connect(DATABASE)?;
    let ill = client.query(
        "SELECT finding || ': ' || value FROM analyze_cache_health() WHERE status <> 'ok'",
        &[],
    )?;
    let ill: Vec<String> = ill.iter().map(|row| row.get(0)).collect();
    ensure!(ill.is_empty(), "{ill:?}");
    Ok(())
}

#[test]
fn a_low_hit_rate_says_whose_and_why() -> Result<()> {
    let cluster = with_accounts(quiet("health-rate"))?;
    let mut client = cluster.connect(DATABASE)?;
    number(
        &mut client,
        "SELECT count(balance_cached(i)) FROM generate_series(1, 99) AS i",
    )?;
    is_well(&mut client, "hit rate")?;
    number(
        &mut client,
        "SELECT count(balance_cached(i)) FROM generate_series(100, 101) AS i",
    )?;
    let (status, value, words, _) = finding(&mut client, "hit rate")?;
    ensure!(
        status == "critical" && value == "0.0 % of 101 calls",
        "{value}"
    );
    ensure!(
        words.contains("100 % of the misses are those of public.balance_cached(integer,interval)"),
        "{words}"
    );
    mend(&mut client, "hit rate", "critical")?;
    // The same, because the time to live is over: a statement gives the class a longer one.
    for hours in 1..=3 {
        client.batch_execute(&format!("SET pg_query_cache.clock_offset = '{hours}h'"))?;
        number(
            &mut client,
            "SELECT count(balance_cached(i)) FROM generate_series(1, 101) AS i",
        )?;
    }
    let sql = mend(&mut client, "hit rate", "critical")?;
    ensure!(
        sql == "SELECT public.set_cache_config('class.default.ttl', '1200s')",
        "{sql}"
    );
    number(
        &mut client,
        "SELECT count(balance_cached(i % 10)) FROM generate_series(1, 5000) AS i",
    )?;
    is_well(&mut client, "hit rate")
}

#[test]
fn a_slow_computation_is_named() -> Result<()> {
    let cluster = with_extension(quiet("health-slow"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION slow(s double precision) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(s); RETURN 1; END';
         SELECT cache_function('slow(double precision)')",
    )?;
    client.batch_execute("SELECT slow_cached(0.1)")?;
    is_well(&mut client, "slow computation")?;
    number(&mut client, "SELECT slow_cached(5.1)::bigint")?;
    let (status, value, ..) = finding(
        &mut client,
        "slow computation: public.slow_cached(double precision,interval)",
    )?;
    let longest = value
        .strip_prefix("longest ")
        .and_then(|rest| rest.split_once(" s,"))
        .and_then(|(seconds, _)| seconds.parse::<f64>().ok());
    ensure!(
        status == "warning" && longest.is_some_and(|seconds| seconds >= 5.1),
        "{value}"
    );
    mend(&mut client, "slow computation", "warning")?;
    Ok(())
}

#[test]
fn a_full_memory_and_large_entries() -> Result<()> {
    let cluster = with_extension(quiet("health-memory").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION text_of(n integer, k integer) RETURNS text LANGUAGE sql STABLE AS $$ SELECT repeat('x', k) || n $$;
         SELECT cache_function('text_of(integer,integer)');",
    )?;
    client.batch_execute(
        "SELECT count(text_of_cached(i, 100000)) FROM generate_series(1, 200) AS i",
    )?;
    mend(&mut client, "memory in use", "warning")?;
    mend(&mut client, "evictions", "warning")?;
    is_well(&mut client, "large entries")?;
    client.batch_execute(
        "SELECT text_of_cached(0, 400000), text_of_cached(1, 400000), text_of_cached(2, 400000)",
    )?;
    let sql = mend(&mut client, "large entries", "warning")?;
    ensure!(sql.contains("max_entry_size"), "{sql}");
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    ensure!(holds(
        &mut client,
        "SELECT setting = '8' FROM pg_settings WHERE name = 'pg_query_cache.memory'"
    )?);
    ensure!(holds(
        &mut client,
        "SELECT setting::integer BETWEEN 100 AND 399 FROM pg_settings WHERE name = 'pg_query_cache.max_entry_size'"
    )?);
    client.batch_execute(
        "SELECT count(text_of_cached(i, 100000)) FROM generate_series(1, 20) AS i",
    )?;
    client.batch_execute("SELECT text_of_cached(0, 400000)")?;
    is_well(&mut client, "memory in use")?;
    is_well(&mut client, "large entries")?;
    // Which has its price, and says so.
    ensure!(finding(&mut client, "too large to be stored")?.0 == "ok");
    client.batch_execute("SELECT text_of_cached(3, 400000) FROM generate_series(1, 10)")?;
    mend(&mut client, "too large to be stored", "warning")?;
    Ok(())
}

/// No process is left for the worker.
#[test]
fn a_worker_that_cannot_start() -> Result<()> {
    let cluster = with_accounts(quiet("health-worker").setting("max_worker_processes", "2"))?;
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    let sql = mend(&mut client, "background worker running", "warning")?;
    ensure!(sql == "ALTER SYSTEM SET max_worker_processes = 10", "{sql}");
    cluster.restart(Mode::Fast)?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    pg_query_cache_cluster_tests::worker(&cluster)?;
    is_well(&mut cluster.connect(DATABASE)?, "background worker running")
}

/// Nobody knows what a prepared transaction wrote before CREATE EXTENSION; what one wrote before a crash is known when it ends.
#[test]
fn a_prepared_transaction_that_was_left() -> Result<()> {
    let cluster = with_accounts(quiet("health-prepared"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "BEGIN; UPDATE accounts SET balance = 0 WHERE id = 1; PREPARE TRANSACTION 'it''s \\ left'",
    )?;
    is_well(&mut client, "prepared transaction")?;
    drop(client);
    cluster.restart(Mode::Immediate)?;
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    is_well(&mut client, "prepared transaction")?;
    for commands in [
        "ROLLBACK PREPARED 'it''s \\ left'",
        "DROP EXTENSION pg_query_cache CASCADE; CREATE TABLE other (a integer)",
        "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'it''s \\ left'",
        "CREATE EXTENSION pg_query_cache",
        "SELECT cache_track_table('accounts'), cache_function('total()'), cache_function('balance(integer)')",
    ] {
        client.batch_execute(commands)?;
    }
    answers_are_right(&mut client)?;
    let first: String = client
        .query_one("SELECT finding FROM analyze_cache_health() LIMIT 1", &[])?
        .get(0);
    ensure!(
        first == "prepared transaction left open: it's \\ left",
        "{first}"
    );
    mend(&mut client, "prepared transaction left open", "critical")?;
    pg_query_cache_cluster_tests::wait_for(
        &cluster,
        "it caches again",
        "SELECT total_cached() = total() AND (SELECT hits > 0 FROM cache_stats())",
    )?;
    is_well(&mut client, "prepared transaction")
}

#[test]
fn without_preloading_one_finding_says_it_all() -> Result<()> {
    let cluster = Cluster::builder("health-not-preloaded")
        .preload(false)
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE EXTENSION pg_query_cache")?;
    ensure!(number(&mut client, "SELECT count(*) FROM analyze_cache_health()")? == 1);
    let page: String = client.query_one("SELECT cache_metrics()", &[])?.get(0);
    ensure!(
        page.ends_with("pg_query_cache_preloaded{database=\"postgres\"} 0\n"),
        "{page}"
    );
    let sql = mend(&mut client, "library not preloaded", "critical")?;
    ensure!(
        sql == "ALTER SYSTEM SET shared_preload_libraries = 'pg_query_cache'",
        "{sql}"
    );
    drop(client);
    cluster.restart(Mode::Fast)?;
    is_well(&mut cluster.connect(DATABASE)?, "caching switched on")
}

/// Everything has a name that needs quotes, and is ill in another way.
const ODD: &str = r#"
    CREATE SCHEMA "Ext Sch"; CREATE EXTENSION pg_query_cache SCHEMA "Ext Sch"; CREATE SCHEMA "we'ird \""x";
    SET search_path = "we'ird \""x", "Ext Sch";
    CREATE TABLE "t'a\b""c" (a integer); CREATE TABLE "un'tr""acked" (a integer); CREATE TYPE "ty'pe"" x" AS ENUM ('a');
    CREATE FUNCTION "f'writes""\r"(x "ty'pe"" x", y integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS
        $$BEGIN UPDATE "t'a\b""c" SET a = a WHERE a = 1; RETURN y; END$$;
    CREATE FUNCTION "f'slow"(x "ty'pe"" x", y float) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(y); RETURN 1; END';
    CREATE FUNCTION "f'large"(x integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT repeat(md5(x::text), 100000)';
    CREATE FUNCTION "f'untracked"(x integer) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM "un'tr""acked"$$;
    CREATE FUNCTION "f'written"(x integer) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM "t'a\b""c"$$;
    CREATE FUNCTION "f'lies"(x integer) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM "t'a\b""c" WHERE a <> x$$;
    CREATE FUNCTION "f'many"(x integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
        BEGIN FOR i IN 1..300 LOOP EXECUTE format('SELECT count(*) FROM "we''ird \""x".m%s', i); END LOOP; RETURN x; END$$;
    DO $$BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE TABLE m%s ()', i); PERFORM cache_track_table('m' || i); END LOOP; END$$;
    SELECT cache_track_table('"t''a\b""c"'),
        cache_function('"f''slow"("ty''pe"" x",float)'), cache_function('"f''large"(integer)'), cache_function('"f''untracked"(integer)'),
        cache_function('"f''written"(integer)'), cache_function('"f''many"(integer)'),
        cache_function('"f''writes""\r"("ty''pe"" x",integer)', consistency => 'ttl'),
        cache_function('"f''lies"(integer)', depends_on => jsonb_build_object('"we''ird \""x"."t''a\b""c"', '{"a": "$1"}'::jsonb));"#;

/// The calls that fail to be stored.
const ILL: &str = r#"SELECT "f'slow_cached"('a', 5.1), count("f'writes""\r_cached"('a', i)), count("f'large_cached"(i)), count("f'untracked_cached"(i)),
        count("f'many_cached"(i)) FROM generate_series(1, 5) AS i"#;

/// What is recommended is run as it stands, by somebody else with another search path.
#[test]
fn every_statement_runs_whatever_the_names() -> Result<()> {
    let cluster = quiet("health-names").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(ODD)?;
    client.batch_execute(ILL)?;
    for i in 0..120 {
        client.batch_execute(&format!(
            r#"SELECT "f'written_cached"(1); INSERT INTO "t'a\b""c" VALUES ({i})"#
        ))?;
    }
    // So that writers are charged enough to be worth a word.
    client.batch_execute(
        r#"DO $$ BEGIN FOR i IN 1..20000 LOOP INSERT INTO "t'a\b""c" VALUES (i); COMMIT; END LOOP; END $$"#,
    )?;
    let lies = r#"SELECT "f'lies_cached"(-1)"#;
    client.batch_execute(lies)?;
    client.batch_execute(r#"INSERT INTO "t'a\b""c" VALUES (1)"#)?;
    client.batch_execute("SET pg_query_cache.verify_sample_rate = 1")?;
    client.batch_execute(&format!("{lies}; {lies}"))?;
    client.batch_execute(
        "SELECT set_cache_config('class.default.enabled', 'off'); SET pg_query_cache.enabled = off",
    )?;
    let rows = client.query(
        "SELECT finding, sql FROM analyze_cache_health() WHERE status <> 'ok'",
        &[],
    )?;
    let ill: Vec<(String, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for expected in [
        "caching switched on",
        "hit rate",
        "quarantined function",
        "configured: class.default.enabled",
        "differences found by verification",
        "slow computation",
        "high invalidation",
        "costs more than it saves",
        "reads an untracked relation",
        "too large to be stored",
        "writes",
        "too many dependencies",
    ] {
        ensure!(
            ill.iter().any(|(finding, _)| finding.starts_with(expected)),
            "no {expected} in {ill:?}"
        );
    }
    for (finding, sql) in ill {
        let sql = sql.with_context(|| format!("{finding}: no SQL"))?;
        let mut other = cluster.connect(DATABASE)?;
        other.simple_query(&sql).with_context(|| sql.clone())?;
    }
    Ok(())
}
