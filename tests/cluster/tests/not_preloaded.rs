//! Without the library in `shared_preload_libraries` nothing is cached, and everything works.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{DATABASE, answers_are_right, holds, with_accounts};
use pg_query_cache_harness::{Cluster, Mode};

/// The settings that exist only with the library would be unknown here, but do no harm.
fn plain(name: &str) -> Result<Cluster> {
    with_accounts(
        Cluster::builder(name)
            .preload(false)
            .setting("pg_query_cache.memory", "32MB"),
    )
}

/// What psql writes to its error output.
fn messages(cluster: &Cluster, sql: &str) -> Result<String> {
    let output = cluster
        .program("psql")
        .args(["-X", "-q", "-d", DATABASE, "-c", sql])
        .output()?;
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
fn cached_functions_answer_with_one_warning_in_each_session() -> Result<()> {
    let cluster = plain("not-preloaded-warning")?;
    let calls = "SELECT total_cached(), total_cached() FROM generate_series(1, 3); SELECT balance_cached(1); BEGIN; SELECT total_cached(); ROLLBACK";
    for _ in 0..2 {
        assert_eq!(
            messages(&cluster, calls)?,
            "WARNING:  pg_query_cache is not loaded via shared_preload_libraries, cached functions are not cached\n\
             HINT:  Add pg_query_cache to shared_preload_libraries and restart the server.\n"
        );
    }
    // Loaded into the session, also by LOAD, is not preloaded.
    assert_eq!(
        messages(&cluster, &format!("LOAD 'pg_query_cache'; {calls}"))?
            .matches("WARNING")
            .count(),
        1
    );
    // It is a warning: who does not want to see it need not.
    assert_eq!(
        messages(
            &cluster,
            &format!("SET client_min_messages = error; {calls}")
        )?,
        ""
    );
    Ok(())
}

#[test]
fn answers_are_right_and_writers_free() -> Result<()> {
    let cluster = plain("not-preloaded-right")?;
    let mut client = cluster.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    client.batch_execute("SELECT cache_track_table('accounts', '{owner}')")?;
    for (sql, change) in [
        ("INSERT INTO accounts VALUES (101, 1, 7)", 7),
        (
            "UPDATE accounts SET balance = balance + 1 WHERE owner = 1",
            7 + 11,
        ),
        ("DELETE FROM accounts WHERE id = 101", 10),
        (
            "SET session_replication_role = replica; UPDATE accounts SET balance = balance - 1 WHERE owner = 1; RESET session_replication_role",
            0,
        ),
        ("BEGIN; TRUNCATE accounts; ROLLBACK", 0),
        ("ALTER TABLE accounts ADD COLUMN note text", 0),
        (
            "BEGIN; UPDATE accounts SET balance = balance + 3 WHERE id = 3; SAVEPOINT s; DELETE FROM accounts; ROLLBACK TO s; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'",
            3,
        ),
    ] {
        for statement in sql.split("; ") {
            client.batch_execute(statement)?;
        }
        assert_eq!(answers_are_right(&mut client)?, before + change, "{sql}");
    }
    // Making, replacing and dropping cached functions works as ever.
    client.batch_execute(
        "CREATE FUNCTION more() RETURNS SETOF accounts LANGUAGE sql STABLE AS 'SELECT * FROM accounts';
         SELECT cache_function('more()', depends_on => '{\"accounts\": {}}', ttl => '1 minute');",
    )?;
    assert!(holds(
        &mut client,
        "SELECT count(*) = 100 FROM more_cached()"
    )?);
    assert!(holds(
        &mut client,
        "SELECT count(*) > 2 FROM cached_functions"
    )?);
    client.batch_execute(
        "SELECT uncache_function('more_cached(interval)'), cache_untrack_table('accounts')",
    )?;
    assert!(holds(
        &mut client,
        "SELECT NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'accounts'::regclass)"
    )?);
    Ok(())
}

#[test]
fn functions_that_need_the_library_say_so() -> Result<()> {
    let cluster = plain("not-preloaded-errors")?;
    let mut client = cluster.connect(DATABASE)?;
    for sql in [
        "SELECT cache_stats()",
        "SELECT * FROM cache_function_stats",
        "SELECT cache_memory_entries()",
        "SELECT invalidate_cache('{x}')",
        "SELECT invalidate_cache_table('accounts')",
        "SELECT invalidate_cache_function('total_cached(interval)')",
        "SELECT clear_cache()",
        "SELECT flush_cache()",
        "SELECT cleanup_expired_cache()",
        "SELECT * FROM get_top_cache_entries(5)",
    ] {
        let error = client.simple_query(sql).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(
            (error.code().code(), error.message(), error.hint()),
            (
                "55000",
                "pg_query_cache must be loaded via shared_preload_libraries",
                Some("Add pg_query_cache to shared_preload_libraries and restart the server.")
            ),
            "{sql}"
        );
    }
    // Health is what one asks for when something is wrong: it answers.
    client.simple_query("SELECT * FROM analyze_cache_health()")?;
    Ok(())
}

#[test]
fn the_extension_comes_and_goes_without_it() -> Result<()> {
    let cluster = plain("not-preloaded-drop")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("DROP EXTENSION pg_query_cache CASCADE")?;
    client.batch_execute(
        "INSERT INTO accounts VALUES (102, 1, 1); CREATE EXTENSION pg_query_cache",
    )?;
    drop(client);
    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT cache_track_table('accounts'), cache_function('total()'), cache_function('balance(integer)')",
    )?;
    answers_are_right(&mut client)?;
    assert!(holds(&mut client, "SELECT hits > 0 FROM cache_stats()")?);
    Ok(())
}

#[test]
fn it_can_be_configured() -> Result<()> {
    let cluster = plain("not-preloaded-configured")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT set_cache_config('class.reports.ttl', '7 s'), set_cache_config('enabled', 'off');
         SELECT cache_function('total()', name => 'report', class => 'reports')",
    )?;
    client.batch_execute("BEGIN; SELECT set_cache_config('max_entries', '7'); ROLLBACK")?;
    answers_are_right(&mut client)?;
    assert!(holds(
        &mut client,
        "SELECT array_agg(name || ' ' || value ORDER BY name) = '{class.reports.ttl 7s,enabled off}'
         FROM cache_config() WHERE source = 'configuration'"
    )?);

    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Fast)?;
    assert!(holds(
        &mut cluster.connect(DATABASE)?,
        "SELECT reason = 'database_disabled' AND ttl = '7 s' FROM cache_explain('report()')"
    )?);
    Ok(())
}
