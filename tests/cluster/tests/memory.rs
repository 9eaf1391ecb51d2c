//! The memory tier stays inside its area, whatever is asked for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;

use anyhow::{Context, Result};
use pg_query_cache_cluster_tests::{DATABASE, counters, holds, number, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;

const LIMIT: i64 = 8 * 1024 * 1024;

/// Memory of a session that is its own, in bytes.
fn own_memory(client: &mut Client) -> Result<u64> {
    of_process(client, "RssAnon:")
}

/// The most memory that a session has had, in bytes.
fn most_memory(client: &mut Client) -> Result<u64> {
    of_process(client, "VmHWM:")
}

fn of_process(client: &mut Client, what: &str) -> Result<u64> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .with_context(|| format!("no {what}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn inside(client: &mut Client) -> Result<()> {
    let row = client.query_one(
        "SELECT memory_bytes, memory_limit_bytes, damaged FROM cache_stats()",
        &[],
    )?;
    let (bytes, limit, damaged): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(bytes <= limit && limit <= LIMIT, "{bytes} of {limit}");
    assert_eq!(damaged, 0);
    Ok(())
}

#[test]
fn a_million_keys_fit_into_eight_megabytes() -> Result<()> {
    let cluster = with_extension(quiet("memory-million").setting("pg_query_cache.memory", "8MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN n * 2; END';
         SELECT cache_function('twice(integer)');
         -- What is not worth it is to be stored all the same.
         SELECT set_cache_config('adaptive', 'off');",
    )?;
    // A hot key, asked for all the time.
    number(&mut client, "SELECT twice_cached(-1)::bigint")?;
    let before = own_memory(&mut client)?;
    for batch in 0..10 {
        let wrong = number(
            &mut client,
            &format!(
                "SELECT count(*) FILTER (WHERE twice_cached(n) <> n * 2 OR n % 10 = 0 AND twice_cached(-1) <> -2)
                 FROM generate_series({batch} * 100000, {batch} * 100000 + 99999) AS n"
            ),
        )?;
        assert_eq!(wrong, 0);
        inside(&mut client)?;
    }
    let grown = own_memory(&mut client)?.saturating_sub(before);
    assert!(
        grown < 32 * 1024 * 1024,
        "the session grew by {grown} bytes"
    );
    assert!(holds(
        &mut client,
        "SELECT evictions > 900000 AND entries BETWEEN 1000 AND 100000 FROM cache_stats()"
    )?);
    let now = counters(&mut client, "twice_cached")?;
    assert!(now.fills > 900_000, "{now:?}");
    // The hot key was spared.
    assert!(now.hits > 90_000, "{now:?}");
    Ok(())
}

#[test]
fn results_of_all_sizes_come_and_go() -> Result<()> {
    let cluster = with_extension(quiet("memory-sizes").setting("pg_query_cache.memory", "8MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION block(n integer, bytes integer) RETURNS text LANGUAGE sql STABLE
             AS $$SELECT rpad(n::text || ':', bytes, 'x')$$;
         SELECT cache_function('block(integer,integer)');
         SET pg_query_cache.max_entry_size = '512MB';",
    )?;
    // Sizes from a few bytes to more than all there is, in an order that leaves holes.
    for round in 0..5 {
        let wrong = number(
            &mut client,
            &format!(
                "SELECT count(*) FROM (SELECT n, (n * 7919 + {round}) % 24 AS power FROM generate_series(1, 400) AS n) AS s
                 WHERE block_cached(n, 1 << power) IS DISTINCT FROM block(n, 1 << power)
                    OR length(block_cached(n, 1 << power)) <> 1 << power"
            ),
        )?;
        assert_eq!(wrong, 0);
        inside(&mut client)?;
    }
    assert!(holds(
        &mut client,
        "SELECT entries > 10 AND hits > 1000 FROM cache_stats()"
    )?);
    // Too large for the area: answered, counted, and never an error.
    for _ in 0..2 {
        assert_eq!(
            number(
                &mut client,
                "SELECT length(block_cached(1, 16000000))::bigint"
            )?,
            16_000_000
        );
    }
    assert!(holds(
        &mut client,
        "SELECT (reasons ->> 'no_room')::int + COALESCE((reasons ->> 'too_large')::int, 0) >= 2 OR (reasons ->> 'too_large')::int >= 2
         FROM cache_function_stats WHERE function::text LIKE 'block%'"
    )?);
    // What is cleared gives its memory back.
    client.batch_execute("SELECT clear_cache()")?;
    client.batch_execute("SELECT cleanup_expired_cache()")?;
    assert_eq!(number(&mut client, "SELECT entries FROM cache_stats()")?, 0);
    assert_eq!(
        number(&mut client, "SELECT memory_bytes FROM cache_stats()")?,
        0
    );
    Ok(())
}

/// Sets are collected while they are computed: no more of them than can be stored.
#[test]
fn a_large_set_does_not_grow_the_session() -> Result<()> {
    let cluster = with_extension(quiet("memory-set"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION many(n integer) RETURNS SETOF text LANGUAGE sql STABLE
             AS $$SELECT repeat(i::text, 20) FROM generate_series(1, n) AS i$$;
         SELECT cache_function('many(integer)');
         SET work_mem = '1MB';",
    )?;
    let count = "SELECT count(*) FROM many_cached(500000)";
    for _ in 0..3 {
        assert_eq!(number(&mut client, count)?, 500_000);
    }
    let before = own_memory(&mut client)?;
    for _ in 0..6 {
        assert_eq!(number(&mut client, count)?, 500_000);
    }
    let grown = own_memory(&mut client)?.saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "the session grew by {grown} bytes");
    // Many small ones in one statement.
    let before = own_memory(&mut client)?;
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM generate_series(1, 200000) AS i, LATERAL many_cached(i % 10 + 1) AS m"
        )?,
        1_100_000
    );
    let grown = own_memory(&mut client)?.saturating_sub(before);
    assert!(
        grown < 32 * 1024 * 1024,
        "the session grew by {grown} bytes"
    );
    Ok(())
}

/// Readers take no lock: while others evict, split and join what they read, they get the entry or none.
#[test]
fn sessions_read_while_others_evict() -> Result<()> {
    const SESSIONS: i32 = 4;
    let cluster = with_extension(quiet("memory-crowd").setting("pg_query_cache.memory", "8MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION block(n integer, bytes integer) RETURNS text LANGUAGE sql STABLE
             AS $$SELECT rpad(n::text || ':', bytes, md5(n::text))$$;
         SELECT cache_function('block(integer,integer)');",
    )?;
    // Few keys that are asked for again, many that come once; sizes from a few bytes to 100 KB.
    let ask = |session: i32, round: i32| {
        format!(
            "SELECT count(*) FROM (SELECT CASE WHEN i % 3 = 0 THEN {session} * 1000000 + {round} * 10000 + i ELSE i % 500 END AS n
                 FROM generate_series(1, 3000) AS i) AS s,
             LATERAL (SELECT (n::bigint * 7919 % 97)::integer AS k) AS t,
             LATERAL (SELECT CASE WHEN k = 0 THEN 100000 WHEN k < 10 THEN k * 1000 ELSE k * 20 END AS bytes) AS u
             WHERE block_cached(n, bytes) IS DISTINCT FROM block(n, bytes)"
        )
    };
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let mut client = cluster.connect(DATABASE)?;
            Ok(std::thread::spawn(move || -> Result<i64> {
                let mut wrong = 0;
                for round in 0..6 {
                    wrong += number(&mut client, &ask(session, round))?;
                }
                Ok(wrong)
            }))
        })
        .collect::<Result<_>>()?;
    for session in sessions {
        assert_eq!(session.join().unwrap()?, 0);
    }
    inside(&mut client)?;
    let now = counters(&mut client, "block_cached")?;
    let evictions = number(&mut client, "SELECT evictions FROM cache_stats()")?;
    assert!(
        now.hits > 10_000 && evictions > 10_000,
        "{now:?}, {evictions} evictions"
    );
    // No block was lost on the way.
    client.batch_execute("SELECT clear_cache()")?;
    client.batch_execute("SELECT cleanup_expired_cache()")?;
    assert!(holds(
        &mut client,
        "SELECT entries = 0 AND memory_bytes = 0 FROM cache_stats()"
    )?);
    Ok(())
}

/// Results and arguments that are too large to be stored: the cached function needs what the function needs, and keeps nothing of it.
#[test]
fn what_is_too_large_costs_no_memory() -> Result<()> {
    const MB: u64 = 1024 * 1024;
    let cluster = with_extension(quiet("memory-large"))?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE TABLE docs (id integer, body text);
         INSERT INTO docs SELECT i, repeat('x', 1000000) FROM generate_series(1, 300) AS i;
         CREATE FUNCTION all_docs() RETURNS SETOF docs LANGUAGE sql STABLE AS 'SELECT * FROM docs';
         CREATE FUNCTION each_doc() RETURNS SETOF docs LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT * FROM docs; END';
         CREATE FUNCTION bytes(t text) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN length(t); END';
         CREATE FUNCTION long(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN repeat('x', n); END$$;
         SELECT cache_track_table('docs'), cache_function('all_docs()'), cache_function('each_doc()'),
                cache_function('bytes(text)'), cache_function('long(integer)')",
    )?;
    for (call, expected) in [
        ("SELECT count(*) FROM {f}all_docs{e}()", 300),
        ("SELECT count(*) FROM {f}each_doc{e}()", 300),
        (
            "SELECT {f}bytes{e}(repeat('x', 100000000))::bigint",
            100_000_000,
        ),
        ("SELECT length({f}long{e}(100000000))::bigint", 100_000_000),
    ] {
        let [plain, cached] = ["", "_cached"].map(|ending| {
            let mut client = cluster.connect(DATABASE)?;
            let call = call.replace("{f}", "").replace("{e}", ending);
            for _ in 0..2 {
                assert_eq!(number(&mut client, &call)?, expected);
            }
            anyhow::Ok((most_memory(&mut client)?, own_memory(&mut client)?))
        });
        let ((plain_most, plain_kept), (cached_most, cached_kept)) = (plain?, cached?);
        assert!(
            cached_most < plain_most + 48 * MB,
            "{call}: {cached_most} bytes, {plain_most} without the cache"
        );
        assert!(
            cached_kept < plain_kept + 16 * MB,
            "{call}: {cached_kept} bytes are kept, {plain_kept} without the cache"
        );
    }
    // None of them is stored, and each was counted.
    let mut client = cluster.connect(DATABASE)?;
    assert!(holds(
        &mut client,
        "SELECT entries = 0 AND (reasons ->> 'too_large')::integer = 8 FROM cache_stats()"
    )?);
    Ok(())
}

/// A tracked table's triggers keep what they know of their table and its keys; when definitions change they look anew.
#[test]
fn what_triggers_keep_is_given_back() -> Result<()> {
    let cluster = with_extension(quiet("memory-triggers"))?;
    let mut client = cluster.connect(DATABASE)?;
    let columns: Vec<String> = (0..200).map(|i| format!("column_{i} integer")).collect();
    let keys: Vec<String> = (0..200).map(|i| format!("column_{i}")).collect();
    client.batch_execute(&format!(
        "CREATE TABLE wide ({});
         SELECT cache_track_table('wide', '{{{}}}')",
        columns.join(", "),
        keys.join(", ")
    ))?;
    let change = |client: &mut Client, times: usize| -> Result<()> {
        for _ in 0..times {
            client.batch_execute("ALTER TABLE wide ALTER column_0 TYPE bigint")?;
            client.batch_execute("INSERT INTO wide DEFAULT VALUES")?;
            client.batch_execute("TRUNCATE wide; ALTER TABLE wide ALTER column_0 TYPE integer")?;
            client.batch_execute("INSERT INTO wide DEFAULT VALUES")?;
        }
        Ok(())
    };
    change(&mut client, 20)?;
    let before = own_memory(&mut client)?;
    change(&mut client, 300)?;
    let grown = own_memory(&mut client)?.saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "the session grew by {grown} bytes");
    Ok(())
}
