//! What is kept for functions, databases and roles has a bound and an end: ages, rows of statistics, the table tier.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, answers_are_right, holds, number, quiet, with_accounts, with_extension, worker,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::postgres::error::SqlState;
use pg_query_cache_harness::{Cluster, Mode};

const BASE: &str = "CREATE FUNCTION base() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1'";

/// A small area: it has rows for little more than a hundred functions.
fn small(name: &str) -> Result<Cluster> {
    with_extension(quiet(name).setting("pg_query_cache.memory", "4MB"))
}

/// So many of the rows for functions are taken, of how many.
fn rows(client: &mut Client) -> Result<(i64, i64)> {
    let row = client.query_one(
        "SELECT m[2]::bigint, m[1]::bigint FROM analyze_cache_health(),
             regexp_match(value, 'of (\\d+) rows \\d+ are taken by databases, (\\d+) by functions') AS m
         WHERE finding = 'functions without a row'",
        &[],
    )?;
    Ok((row.get(0), row.get(1)))
}

/// Creates functions `<prefix>1` to `<prefix><count>` that return their number, with cached ones.
fn create(client: &mut Client, prefix: &str, count: usize) -> Result<()> {
    client.batch_execute(&format!(
        "DO $$ BEGIN FOR i IN 1..{count} LOOP
             EXECUTE format('CREATE FUNCTION {prefix}%s() RETURNS integer LANGUAGE sql STABLE AS ''SELECT %s + 0''', i, i);
             EXECUTE format('CREATE FUNCTION {prefix}%s_cached() RETURNS integer LANGUAGE cached STABLE AS ''{{\"function\": \"{prefix}%s()\"}}''', i, i);
         END LOOP; END $$"
    ))?;
    Ok(())
}

/// Calls all of them.
fn call(client: &mut Client, prefix: &str, count: usize) -> Result<()> {
    let wrong = number(
        client,
        &format!(
            "SELECT 0 + {}",
            (1..=count)
                .map(|i| format!("({prefix}{i}_cached() <> {i})::integer"))
                .collect::<Vec<_>>()
                .join(" + ")
        )
        .replacen("SELECT 0", "SELECT 0::bigint", 1),
    )?;
    ensure!(wrong == 0, "{wrong} answers of {prefix} are wrong");
    Ok(())
}

/// Each statement in a transaction of its own.
fn each<const N: usize>(client: &mut Client, statements: [&str; N]) -> Result<()> {
    for statement in statements {
        client.batch_execute(statement)?;
    }
    Ok(())
}

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.get(0))
}

fn bypassed_without_row(client: &mut Client) -> Result<i64> {
    number(
        client,
        "SELECT COALESCE((reasons ->> 'no_row')::bigint, 0) FROM cache_stats()",
    )
}

#[test]
fn a_cache_duration_neither_lengthens_a_life_nor_stops_the_writing() -> Result<()> {
    let cluster = with_accounts(quiet("bounds-duration"))?;
    worker(&cluster)?;
    let mut client = cluster.connect(DATABASE)?;
    for (id, duration) in [
        (1, "106751155 days"),
        (2, "106751990 days"),
        (3, "300000 years"),
        (4, "178000000 years"),
        (5, "2147483647 days 2562047788 hours"),
        (
            6,
            "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807",
        ),
        (7, "178956970 years 7 mons -2147483648 days"),
    ] {
        let balance = number(
            &mut client,
            &format!("SELECT balance_cached({id}, '{duration}')"),
        )?;
        assert_eq!(balance, id);
    }
    // Below zero is below zero, whatever it adds up to.
    let refused = client
        .batch_execute("SELECT balance_cached(8, '-178956970 years -2147483648 days')")
        .unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    assert_eq!(number(&mut client, "SELECT flush_cache()")?, 7);
    assert!(holds(
        &mut client,
        "SELECT count(*) = 7 AND bool_and(expires_at - created_at = '10 minutes') FROM query_cache"
    )?);
    // The caller may ask for less, and never for more.
    client.batch_execute("SET pg_query_cache.clock_offset = '11min'")?;
    assert_eq!(
        number(&mut client, "SELECT balance_cached(1, '300000 years')")?,
        1
    );
    assert!(holds(
        &mut client,
        "SELECT expirations = 1 FROM cache_stats()"
    )?);
    client.batch_execute("RESET pg_query_cache.clock_offset")?;
    // The last flush writes what is new since; what it wrote is there after the start.
    assert_eq!(
        number(&mut client, "SELECT balance_cached(9, 'P99999Y')")?,
        9
    );
    drop(client);
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM query_cache WHERE cache_key LIKE 'balance_cached:%'"
        )?,
        8
    );
    answers_are_right(&mut client)?;
    Ok(())
}

/// What 0.2.0 could leave behind, and worse.
#[test]
fn views_survive_whatever_the_table_holds() -> Result<()> {
    let cluster = with_accounts(quiet("bounds-damaged"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT balance_cached(i) FROM generate_series(1, 20) AS i")?;
    assert_eq!(number(&mut client, "SELECT flush_cache()")?, 20);
    // Out of memory, so that they are looked for in the table.
    client.batch_execute("SELECT set_cache_config('max_entries', '1')")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT total_cached()")?;
    client.batch_execute(
        "CREATE TEMP TABLE numbered AS SELECT cache_key, row_number() OVER (ORDER BY cache_key) AS n FROM query_cache;
         UPDATE query_cache AS q SET
             expires_at = CASE n % 4 WHEN 0 THEN 'infinity' WHEN 1 THEN '294276-12-31' ELSE q.expires_at END::timestamptz,
             created_at = CASE n % 5 WHEN 0 THEN '-infinity' WHEN 1 THEN '4713-01-01 BC' ELSE q.created_at END::timestamptz,
             hit_count = CASE n % 3 WHEN 0 THEN 9223372036854775807 ELSE -9223372036854775807 END,
             cost_ms = CASE n % 7 WHEN 0 THEN 'NaN' WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE '1e308' END::float8,
             size_bytes = CASE n % 2 WHEN 0 THEN 9223372036854775807 ELSE -9223372036854775807 END,
             priority = CASE n % 2 WHEN 0 THEN 32767 ELSE -32768 END, kind = -1,
             dependencies = CASE n % 6 WHEN 0 THEN 'x' ELSE dependencies END, value = 'y', key = CASE n % 8 WHEN 0 THEN '' ELSE key END
         FROM numbered WHERE numbered.cache_key = q.cache_key;
         DISCARD TEMP",
    )?;
    for look in [
        "SELECT count(*) FROM get_top_cache_entries(100)",
        "SELECT count(*) FROM get_top_cache_entries(100, 'bytes')",
        "SELECT count(*) FROM get_top_cache_entries(100, 'saved')",
        "SELECT count(*) FROM analyze_cache_health()",
        "SELECT length(cache_metrics())::bigint",
        "SELECT calls FROM cache_stats()",
        "SELECT count(*) FROM cache_memory_entries()",
    ] {
        number(&mut client, look)?;
    }
    answers_are_right(&mut client)?;
    each(
        &mut client,
        [
            "SELECT cleanup_expired_cache()",
            "SELECT flush_cache()",
            "SELECT * FROM optimize_cache()",
        ],
    )?;
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM query_cache WHERE NOT isfinite(expires_at) OR NOT isfinite(created_at)"
        )?,
        0
    );
    answers_are_right(&mut client)?;
    Ok(())
}

#[test]
fn a_row_that_cannot_be_written_does_not_keep_others_from_it() -> Result<()> {
    let cluster = with_accounts(quiet("bounds-unwritten"))?;
    let mut client = cluster.connect(DATABASE)?;
    each(
        &mut client,
        [
            "ALTER TABLE query_cache ADD CONSTRAINT no_total CHECK (cache_key NOT LIKE 'total%')",
            "SELECT balance_cached(i) FROM generate_series(1, 20) AS i",
            "SELECT total_cached()",
        ],
    )?;
    assert_eq!(number(&mut client, "SELECT flush_cache()")?, 20);
    let left_out = "SELECT value::bigint FROM analyze_cache_health() WHERE finding = 'entries that could not be written'";
    assert_eq!(number(&mut client, left_out)?, 1);
    // It is in memory, and tried once.
    assert_eq!(number(&mut client, "SELECT flush_cache()")?, 0);
    assert_eq!(number(&mut client, left_out)?, 1);
    assert!(holds(
        &mut client,
        "SELECT entries = 21 FROM cache_stats()"
    )?);
    assert!(cluster.log_contains("could not write 1 of 21 rows of \"query_cache\""));
    // What is not the fault of a row is an error as ever, and tried again.
    each(
        &mut client,
        [
            "ALTER TABLE query_cache DROP CONSTRAINT no_total",
            "ALTER TABLE query_cache RENAME COLUMN kind TO sort",
            "SELECT balance_cached(21)",
        ],
    )?;
    assert!(client.batch_execute("SELECT flush_cache()").is_err());
    each(
        &mut client,
        [
            "ALTER TABLE query_cache RENAME COLUMN sort TO kind",
            "SELECT balance_cached(21)",
        ],
    )?;
    assert_eq!(number(&mut client, "SELECT flush_cache()")?, 1);
    assert_eq!(number(&mut client, left_out)?, 1);
    Ok(())
}

#[test]
fn temporary_functions_take_no_rows() -> Result<()> {
    let cluster = small("bounds-temporary")?;
    let mut client = cluster.connect(DATABASE)?;
    let before = rows(&mut client)?;
    client.batch_execute(
        "CREATE FUNCTION pg_temp.base() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         DO $$ BEGIN FOR i IN 1..1000 LOOP
             CREATE FUNCTION pg_temp.cached() RETURNS integer LANGUAGE cached STABLE AS '{\"function\": \"pg_temp.base()\"}';
             PERFORM pg_temp.cached();
             DROP FUNCTION pg_temp.cached();
         END LOOP; END $$",
    )?;
    let (taken, of) = rows(&mut cluster.connect(DATABASE)?)?;
    // One more may be that of all calls without a row.
    ensure!(taken == before.0, "{taken} of {of} rows are taken");
    assert!(holds(
        &mut client,
        "SELECT calls = 1000 AND bypasses = 1000 FROM cache_stats()"
    )?);
    Ok(())
}

#[test]
fn dropped_functions_give_their_rows_back() -> Result<()> {
    let cluster = small("bounds-dropped")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(BASE)?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..300 LOOP
             EXECUTE format('CREATE SCHEMA s%s', i);
             EXECUTE format('CREATE FUNCTION s%s.cached() RETURNS integer LANGUAGE cached STABLE AS ''{\"function\": \"public.base()\"}''', i);
             COMMIT;
             EXECUTE format('SELECT s%s.cached() + s%s.cached()', i, i);
             COMMIT;
             EXECUTE format('DROP SCHEMA s%s CASCADE', i);
             COMMIT;
         END LOOP; END $$",
    )?;
    // Nobody was without a row, and what they counted is not lost with them.
    assert_eq!(bypassed_without_row(&mut client)?, 0);
    assert!(holds(
        &mut client,
        "SELECT calls = 600 AND fills = 300 AND hits = 300 FROM cache_stats()"
    )?);
    // The clean-up finds the last of them.
    client.batch_execute("SELECT cleanup_expired_cache()")?;
    assert_eq!(rows(&mut client)?.0, 0);
    assert!(holds(
        &mut client,
        "SELECT calls = 600 AND fills = 300 AND hits = 300 FROM cache_stats()"
    )?);
    Ok(())
}

#[test]
fn dropped_databases_give_their_rows_back() -> Result<()> {
    let cluster = small("bounds-databases")?;
    let mut client = cluster.connect(DATABASE)?;
    let before = rows(&mut client)?.0;
    for _ in 0..3 {
        client.batch_execute("CREATE DATABASE tenant")?;
        let mut tenant = cluster.connect("tenant")?;
        tenant.batch_execute("CREATE EXTENSION pg_query_cache")?;
        create(&mut tenant, "f", 130)?;
        call(&mut tenant, "f", 130)?;
        let (taken, of) = rows(&mut client)?;
        ensure!(taken > 100, "only {taken} of {of} rows are taken");
        drop(tenant);
        client.batch_execute("DROP DATABASE tenant WITH (FORCE)")?;
        assert_eq!(rows(&mut client)?.0, before);
    }
    Ok(())
}

#[test]
fn functions_of_a_thousand_schemas_are_counted() -> Result<()> {
    let cluster = with_extension(quiet("bounds-schemas"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(BASE)?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..1000 LOOP
             EXECUTE format('CREATE SCHEMA s%s', i);
             FOR j IN 1..2 LOOP
                 EXECUTE format('CREATE FUNCTION s%s.f%s() RETURNS integer LANGUAGE cached STABLE AS ''{\"function\": \"public.base()\"}''', i, j);
             END LOOP;
             IF i % 50 = 0 THEN COMMIT; END IF;
         END LOOP; END $$",
    )?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..1000 LOOP
             EXECUTE format('SELECT s%s.f1() + s%s.f2() + s%s.f2()', i, i, i);
             IF i % 50 = 0 THEN COMMIT; END IF;
         END LOOP; END $$",
    )?;
    assert!(holds(
        &mut client,
        "SELECT count(*) = 2000 AND sum(calls) = 3000 AND sum(hits) = 1000 FROM cache_function_stats"
    )?);
    assert_eq!(bypassed_without_row(&mut client)?, 0);
    Ok(())
}

/// A role that calls more functions than there are rows for costs itself results, and neither another role nor another database.
#[test]
fn rows_are_missed_by_who_uses_them_up() -> Result<()> {
    let cluster = small("bounds-shares")?;
    let mut admin = cluster.connect(DATABASE)?;
    each(
        &mut admin,
        [
            "CREATE ROLE greedy LOGIN; CREATE ROLE modest LOGIN",
            "CREATE SCHEMA g AUTHORIZATION greedy; CREATE SCHEMA m AUTHORIZATION modest",
            "CREATE DATABASE other",
        ],
    )?;
    let connect = |role: &str| -> Result<Client> {
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}"))?;
        Ok(client)
    };
    let mut greedy = connect("greedy")?;
    greedy.batch_execute("SET search_path = g")?;
    create(&mut greedy, "f", 200)?;
    for _ in 0..2 {
        call(&mut greedy, "f", 200)?;
    }
    ensure!(bypassed_without_row(&mut admin)? > 0);
    let (taken, of) = rows(&mut admin)?;
    ensure!(taken >= of - 1, "only {taken} of {of} rows are taken");
    // Others get theirs all the same.
    let mut modest = connect("modest")?;
    modest.batch_execute("SET search_path = m")?;
    create(&mut modest, "h", 20)?;
    for _ in 0..3 {
        call(&mut modest, "h", 20)?;
        call(&mut greedy, "f", 200)?;
    }
    // Who asks hands over what it has counted first.
    number(
        &mut modest,
        "SELECT count(*) FROM public.cache_function_stats",
    )?;
    let hits = "SELECT COALESCE(sum(hits), 0)::bigint FROM cache_function_stats WHERE function::text LIKE 'm.%'";
    let counted = "SELECT COALESCE(string_agg(DISTINCT format('%s hits %s fills %s misses %s', hits, fills, misses, reasons), ', '), '')
                   FROM cache_function_stats WHERE function::text LIKE 'm.%'";
    let counted: String = admin.query_one(counted, &[])?.get(0);
    ensure!(number(&mut admin, hits)? == 40, "{counted}");
    let mut other = cluster.connect("other")?;
    other.batch_execute("CREATE EXTENSION pg_query_cache")?;
    create(&mut other, "k", 20)?;
    for _ in 0..3 {
        call(&mut other, "k", 20)?;
        call(&mut greedy, "f", 200)?;
    }
    assert!(holds(
        &mut other,
        "SELECT hits = 40 AND NOT reasons ? 'no_row' FROM cache_stats()"
    )?);
    assert_eq!(number(&mut admin, hits)?, 40);
    ensure!(holds(
        &mut admin,
        "SELECT status = 'warning' FROM analyze_cache_health() WHERE finding = 'functions without a row'"
    )?);
    Ok(())
}

/// A role that has many databases gets no more rows than one that has one; and whoever looks is told that calls were not cached.
#[test]
fn many_databases_of_a_role_are_as_one() -> Result<()> {
    let cluster = small("bounds-owners")?;
    let mut admin = cluster.connect(DATABASE)?;
    each(
        &mut admin,
        [
            "CREATE ROLE rich LOGIN; CREATE ROLE poor LOGIN",
            "CREATE DATABASE model OWNER rich",
            "CREATE DATABASE house OWNER poor",
        ],
    )?;
    for (database, prefix, count) in [("model", "f", 2), ("house", "h", 40)] {
        let mut client = cluster.connect(database)?;
        client.batch_execute("CREATE EXTENSION pg_query_cache")?;
        create(&mut client, prefix, count)?;
    }
    let all = rows(&mut admin)?.1;
    // More databases than rows for one function of each.
    let databases: Vec<String> = (0..all / 2 + 4).map(|i| format!("d{i}")).collect();
    for database in &databases {
        admin.batch_execute(&format!(
            "CREATE DATABASE {database} TEMPLATE model OWNER rich"
        ))?;
    }
    let crowd = || -> Result<()> {
        for database in &databases {
            call(&mut cluster.connect(database)?, "f", 2)?;
        }
        Ok(())
    };
    crowd()?;
    ensure!(rows(&mut admin)?.0 > 0);
    let mut house = cluster.connect("house")?;
    for _ in 0..3 {
        call(&mut house, "h", 40)?;
        crowd()?;
    }
    let told = text(
        &mut house,
        "SELECT format('%s %s %s', calls, hits, reasons ->> 'no_row') FROM cache_stats()",
    )?;
    ensure!(told == "120 80 ", "{told}");
    // And whoever had none is told so.
    let mut bypassed = 0;
    for database in &databases {
        let told = text(
            &mut cluster.connect(database)?,
            "SELECT format('%s %s', COALESCE(reasons ->> 'no_row', '0'), status) FROM cache_stats(), analyze_cache_health()
             WHERE finding = 'functions without a row'",
        )?;
        let (calls, status) = told.split_once(' ').context("two words")?;
        ensure!(
            (status == "warning") == (calls != "0"),
            "{database}: {told}"
        );
        bypassed += i64::from(calls != "0");
    }
    ensure!(bypassed > 0);
    Ok(())
}

/// The statistics of writers, likewise.
#[test]
fn dropped_tables_give_their_rows_back() -> Result<()> {
    let cluster = small("bounds-tables")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..200 LOOP
             CREATE TABLE written (v integer);
             PERFORM cache_track_table('written');
             COMMIT;
             INSERT INTO written VALUES (1);
             COMMIT;
             DROP TABLE written;
             COMMIT;
         END LOOP; END $$",
    )?;
    each(
        &mut client,
        [
            "SELECT writer_seconds FROM cache_stats()",
            "SELECT cleanup_expired_cache()",
        ],
    )?;
    let taken = "SELECT (regexp_match(value, 'rows (\\d+) are taken'))[1]::bigint FROM analyze_cache_health()
                 WHERE finding = 'written tables without a row'";
    // The clean-up itself writes one.
    ensure!(number(&mut client, taken)? <= 1);
    // Their writers' time is that of the database.
    ensure!(holds(
        &mut client,
        "SELECT writer_seconds > 0 FROM cache_stats()"
    )?);
    Ok(())
}

#[test]
fn the_table_tier_keeps_to_its_size() -> Result<()> {
    let cluster =
        with_extension(quiet("bounds-table").setting("pg_query_cache.table_size", "1MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE ROLE modest; GRANT CREATE ON SCHEMA public TO modest;
         CREATE FUNCTION wide(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT repeat(n::text, 100)';
         SELECT cache_function('wide(integer)');
         SET ROLE modest;
         CREATE FUNCTION small(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT repeat(n::text, 100)';
         SELECT cache_function('small(integer)');",
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT count(small_cached(i)) FROM generate_series(1000, 1099) AS i; SELECT flush_cache();
         SELECT count(wide_cached(i)) FROM generate_series(1000, 8999) AS i; SELECT flush_cache()",
    )?;
    let taken = "SELECT sum(size_bytes + 256)::bigint FROM query_cache";
    let most = 1024 * 1024;
    let holds_now = number(&mut client, taken)?;
    ensure!(
        holds_now <= most && holds_now > most / 2,
        "{holds_now} bytes"
    );
    // Who has little keeps it.
    let of_modest = "SELECT count(*) FROM query_cache WHERE cache_key LIKE 'small_cached:%'";
    assert_eq!(number(&mut client, of_modest)?, 100);
    ensure!(holds(
        &mut client,
        "SELECT value ~ '[1-9][0-9]* rows have left to make room' FROM analyze_cache_health() WHERE finding = 'table query_cache in use'"
    )?);
    // Again and again, and with what is asked for most kept longest.
    client.batch_execute(
        "SELECT wide_cached(8999) FROM generate_series(1, 50); SELECT flush_cache()",
    )?;
    let kept = number(
        &mut client,
        "SELECT count(*) FROM query_cache WHERE hit_count >= 50",
    )?;
    for round in 1..=3 {
        client.batch_execute(&format!(
            "SELECT count(wide_cached(i + 10000 * {round})) FROM generate_series(0, 3999) AS i;
             SELECT flush_cache(); SELECT cleanup_expired_cache()"
        ))?;
        let holds_now = number(&mut client, taken)?;
        ensure!(holds_now <= most, "{holds_now} bytes");
        assert_eq!(number(&mut client, of_modest)?, 100);
    }
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM query_cache WHERE hit_count >= 50"
        )?,
        kept
    );
    // After a restart what is there is loaded, and nothing else.
    drop(client);
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    let holds_now = number(&mut client, taken)?;
    ensure!(holds_now <= most, "{holds_now} bytes");
    ensure!(holds(
        &mut client,
        "SELECT bool_and(wide_cached(i) = wide(i)) FROM generate_series(8900, 8999) AS i"
    )?);
    client
        .query_one("SELECT count(*) FROM get_top_cache_entries(10)", &[])
        .context("the entries can be looked at")?;
    Ok(())
}
