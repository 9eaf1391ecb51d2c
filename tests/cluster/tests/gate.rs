//! The gate: what the preloaded library does in databases without the extension (nothing), and that nothing is missed when the extension
//! comes and goes while others work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result};
use pg_query_cache_cluster_tests::{
    Counters, DATABASE, PATIENCE, counters, number, quiet, wait_for, with_accounts,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode, wait_until};

/// A database that has no extension, in a cluster in which another one has.
const PLAIN: &str = "plain";

/// Commands, with what each needs before it. Among them those that a hook could take for a change although nothing changes.
const COMMANDS: &[&str] = &[
    "CREATE TABLE t (a integer PRIMARY KEY, b text)",
    "CREATE TABLE IF NOT EXISTS t (a integer)",
    "CREATE SCHEMA IF NOT EXISTS public",
    "DROP TABLE IF EXISTS missing",
    "DROP FUNCTION IF EXISTS missing()",
    "ALTER TABLE IF EXISTS missing ADD COLUMN c integer",
    "ALTER TABLE t ALTER COLUMN b SET STORAGE EXTENDED",
    "GRANT SELECT ON t TO PUBLIC",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO t SELECT 3, 'c' WHERE false",
    "UPDATE t SET b = 'z' WHERE false",
    "DELETE FROM t WHERE false",
    "UPDATE pg_catalog.pg_proc SET proname = proname WHERE false",
    "CREATE VIEW v AS SELECT * FROM t",
    "CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
    "REFRESH MATERIALIZED VIEW m",
    "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t'",
    "SELECT f(), current_setting('search_path')",
    "DO $$ BEGIN PERFORM f(); END $$",
    "CREATE TEMP TABLE own (a integer)",
    "ALTER TABLE own RENAME TO mine",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "COPY t TO '/dev/null'",
    "COPY t FROM '/dev/null'",
    "LOCK TABLE t",
    "ANALYZE t",
    "EXPLAIN ANALYZE SELECT * FROM t",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SET LOCAL work_mem = '1MB'",
    "SHOW work_mem",
    "NOTIFY n",
    "CREATE ROLE r",
    "ALTER ROLE r SET work_mem = '1MB'",
    "DROP ROLE IF EXISTS missing",
    "DROP ROLE r",
    "TRUNCATE t",
    "DROP TABLE t CASCADE",
];

/// The next transaction id.
fn next_id(client: &mut Client) -> Result<i64> {
    number(
        client,
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
    )
}

/// What each of the commands does to the transaction that runs it, and to a session that runs it alone: whether it has an id then, and
/// how many ids were taken.
fn ids_taken(preload: bool) -> Result<Vec<(&'static str, bool, i64)>> {
    let cluster = Cluster::builder(if preload { "gate-with" } else { "gate-without" })
        .preload(preload)
        .setting("autovacuum", "off")
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    COMMANDS
        .iter()
        .map(|command| {
            let before = next_id(&mut client)?;
            client.batch_execute("BEGIN")?;
            client.batch_execute(command).context(*command)?;
            let has_one = client
                .query_one("SELECT pg_current_xact_id_if_assigned() IS NOT NULL", &[])?
                .get(0);
            client.batch_execute("COMMIT")?;
            Ok((*command, has_one, next_id(&mut client)? - before))
        })
        .collect()
}

#[test]
fn commands_take_no_id_that_they_would_not_take_without_the_library() -> Result<()> {
    assert_eq!(ids_taken(true)?, ids_taken(false)?);
    Ok(())
}

#[test]
fn an_idle_cluster_without_the_extension_leaves_nothing_behind() -> Result<()> {
    let cluster = quiet("gate-idle").build()?;
    let mut client = cluster.connect(DATABASE)?;
    run_each(&mut client)?;
    drop(client);
    let slots = cluster.data_dir().join("pg_stat/pg_query_cache.slots");
    cluster.stop(Mode::Fast)?;
    assert!(
        !slots.exists(),
        "slots were saved though nobody has used the cache"
    );
    Ok(())
}

/// Runs the commands, each in a transaction, but those on roles, which concern all databases.
fn run_each(client: &mut Client) -> Result<()> {
    for command in COMMANDS.iter().filter(|command| !command.contains("ROLE")) {
        client
            .batch_execute(&format!("BEGIN; {command}; COMMIT"))
            .context(*command)?;
    }
    Ok(())
}

fn with_plain_database(name: &str) -> Result<Cluster> {
    let cluster = with_accounts(quiet(name))?;
    cluster
        .connect(DATABASE)?
        .batch_execute(&format!("CREATE DATABASE {PLAIN} TEMPLATE template0"))?;
    Ok(cluster)
}

#[test]
fn what_a_database_without_the_extension_does_reaches_no_result_of_others() -> Result<()> {
    let cluster = with_plain_database("gate-others")?;
    let mut reader = cluster.connect(DATABASE)?;
    let mut plain = cluster.connect(PLAIN)?;
    reader.batch_execute("SELECT total_cached(); SELECT total_cached()")?;
    let before = counters(&mut reader, "total_cached")?;
    run_each(&mut plain)?;
    plain.batch_execute("UPDATE pg_catalog.pg_proc SET proacl = proacl WHERE proname = 'now'")?;
    reader.batch_execute("SELECT total_cached()")?;
    let after = counters(&mut reader, "total_cached")?;
    assert_eq!(
        (after.hits - before.hits, after.misses - before.misses),
        (1, 0),
        "{before:?} {after:?}"
    );
    Ok(())
}

#[test]
fn roles_changed_in_a_database_without_the_extension_count_in_all_others() -> Result<()> {
    let cluster = with_plain_database("gate-roles")?;
    let mut reader = cluster.connect(DATABASE)?;
    let mut plain = cluster.connect(PLAIN)?;
    reader.batch_execute("SELECT total_cached(); SELECT total_cached()")?;
    for change in [
        "CREATE ROLE one",
        "BEGIN; CREATE ROLE two; GRANT one TO two; COMMIT",
    ] {
        let before = counters(&mut reader, "total_cached")?;
        plain.batch_execute(change)?;
        reader.batch_execute("SELECT total_cached(); SELECT total_cached()")?;
        let after = counters(&mut reader, "total_cached")?;
        assert_eq!(
            (after.hits - before.hits, after.misses - before.misses),
            (1, 1),
            "{change}: {before:?} {after:?}"
        );
    }
    // Rolled back, nothing has changed.
    let before = counters(&mut reader, "total_cached")?;
    plain.batch_execute("BEGIN; CREATE ROLE three; ROLLBACK")?;
    reader.batch_execute("SELECT total_cached()")?;
    assert_eq!(counters(&mut reader, "total_cached")?.hits, before.hits + 1);
    Ok(())
}

/// A cluster with `answer()`, and no extension yet.
fn with_answer(name: &str) -> Result<Cluster> {
    let cluster = quiet(name)
        .setting("max_prepared_transactions", "5")
        .build()?;
    // Whoever runs when the launcher begins is known to it.
    wait_for(
        &cluster,
        "the launcher waits",
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_query_cache launcher' AND wait_event = 'Extension')",
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&answer(1))?;
    client.batch_execute(
        "CREATE FUNCTION answer() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT inner_answer()'",
    )?;
    Ok(cluster)
}

/// The definition of the function that `answer()` calls, so that it returns a number. (The server lets nobody depend on a function that is
/// being replaced.)
fn answer(number: i32) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION inner_answer() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT {number}::bigint'"
    )
}

const CREATE: &str = "CREATE EXTENSION pg_query_cache; SELECT cache_function('answer()')";

fn answers(client: &mut Client) -> Result<(i64, i64)> {
    let cached = number(client, "SELECT answer_cached()")?;
    Ok((number(client, "SELECT answer()")?, cached))
}

#[test]
fn definitions_that_change_while_the_extension_comes_are_not_missed() -> Result<()> {
    for prepared in [false, true] {
        let cluster = with_answer(if prepared {
            "gate-comes-prepared"
        } else {
            "gate-comes"
        })?;
        let mut writer = cluster.connect(DATABASE)?;
        let mut reader = cluster.connect(DATABASE)?;
        writer.batch_execute(&format!("BEGIN; {}", answer(2)))?;
        if prepared {
            writer.batch_execute("PREPARE TRANSACTION 'p'")?;
        }
        reader.batch_execute(CREATE)?;
        // The writer's commit is not marked, so nothing is stored before it is seen.
        for _ in 0..3 {
            assert_eq!(answers(&mut reader)?, (1, 1));
        }
        assert_eq!(counters(&mut reader, "answer_cached")?.fills, 0);
        writer.batch_execute(if prepared {
            "COMMIT PREPARED 'p'"
        } else {
            "COMMIT"
        })?;
        for _ in 0..3 {
            assert_eq!(answers(&mut reader)?, (2, 2));
        }
        assert_eq!(counters(&mut reader, "answer_cached")?.hits, 2);
    }
    Ok(())
}

/// Somebody's open transaction in another database keeps nobody from the first use of an extension; and what it has changed of what the
/// cluster shares, or of this database, counts when it commits.
#[test]
fn transactions_of_other_databases_are_not_waited_for() -> Result<()> {
    let cluster = with_answer("gate-elsewhere")?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE ROLE one; CREATE ROLE two")?;
    for database in ["idle", "used"] {
        admin.batch_execute(&format!("CREATE DATABASE {database}"))?;
    }
    // The first use of all: whoever runs then is known to the cluster's slot.
    let mut used = cluster.connect("used")?;
    used.batch_execute(&answer(1))?;
    used.batch_execute(
        "CREATE FUNCTION answer() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT inner_answer()'",
    )?;
    used.batch_execute(CREATE)?;
    for _ in 0..2 {
        assert_eq!(answers(&mut used)?, (1, 1));
    }
    admin.batch_execute(
        "CREATE FUNCTION is_member() RETURNS integer LANGUAGE sql STABLE AS $$SELECT pg_has_role('two', 'one', 'member')::integer$$;
         CREATE FUNCTION owner() RETURNS integer LANGUAGE sql STABLE AS $$SELECT pg_has_role('two', 'pg_database_owner', 'member')::integer$$",
    )?;
    let open = |database: &str, sql: &str| -> Result<Client> {
        let mut client = cluster.connect(database)?;
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()")?;
        client.batch_execute(sql)?;
        Ok(client)
    };
    let mut roles = open("idle", "GRANT one TO two")?;
    let mut owner = open("used", &format!("ALTER DATABASE {DATABASE} OWNER TO two"))?;
    let mut later = open("used", "SELECT 1")?;
    let mut reader = cluster.connect(DATABASE)?;
    reader.batch_execute(CREATE)?;
    reader.batch_execute("SELECT cache_function('is_member()'), cache_function('owner()')")?;
    let mut reader = cluster.connect(DATABASE)?;
    for _ in 0..3 {
        reader.batch_execute("SELECT answer_cached(), is_member_cached(), owner_cached()")?;
    }
    for function in ["answer_cached", "is_member_cached", "owner_cached"] {
        assert_eq!(counters(&mut reader, function)?.hits, 2, "{function}");
    }
    let state = "SELECT (10 * is_member_cached() + owner_cached())::bigint";
    assert_eq!(number(&mut reader, state)?, 0);
    roles.batch_execute("COMMIT")?;
    assert_eq!(number(&mut reader, state)?, 10);
    owner.batch_execute("COMMIT")?;
    assert_eq!(number(&mut reader, state)?, 11);
    later.batch_execute(&format!(
        "ALTER DATABASE {DATABASE} OWNER TO postgres; COMMIT"
    ))?;
    assert_eq!(number(&mut reader, state)?, 10);
    Ok(())
}

/// A cluster with `kept()`, whose calls keep what they have planned until the transaction ends: a SQL function that cannot be inlined,
/// with one in it that can, called from PL/pgSQL. And with `picked()`, of which a session keeps for longer which function it calls.
fn with_kept_plans(name: &str) -> Result<Cluster> {
    let cluster = with_answer(name)?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE FUNCTION middle() RETURNS bigint LANGUAGE sql STABLE SET work_mem = '1MB' AS 'SELECT inner_answer()';
         CREATE FUNCTION kept() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN middle(); END';
         CREATE FUNCTION pick(bigint) RETURNS bigint LANGUAGE sql STABLE SET work_mem = '1MB' AS 'SELECT 1::bigint';
         CREATE FUNCTION picked() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN pick(1); END'",
    )?;
    Ok(cluster)
}

const CREATE_FOR_KEPT: &str = "CREATE EXTENSION pg_query_cache; SELECT cache_function('kept()'); SELECT cache_function('picked()')";

#[test]
fn a_transaction_that_began_before_unmarked_definitions_stores_nothing() -> Result<()> {
    let cluster = with_kept_plans("gate-began")?;
    let mut writer = cluster.connect(DATABASE)?;
    let mut early = cluster.connect(DATABASE)?;
    let mut reader = cluster.connect(DATABASE)?;
    // Prepared, it has looked for the extension for the last time.
    writer.batch_execute(&format!("BEGIN; {}; PREPARE TRANSACTION 'p'", answer(2)))?;
    reader.batch_execute(CREATE_FOR_KEPT)?;
    // The session has called a cached function, so it has thrown away what it kept once, and will not again without a reason.
    assert_eq!(number(&mut early, "SELECT kept_cached()")?, 1);
    early.batch_execute("BEGIN")?;
    assert_eq!(number(&mut early, "SELECT kept()")?, 1);
    writer.batch_execute("COMMIT PREPARED 'p'")?;
    // Every snapshot has passed the bound from here on, but what the transaction has planned is from before.
    let cached = number(&mut early, "SELECT kept_cached()")?;
    assert_eq!(number(&mut early, "SELECT kept()")?, cached);
    for _ in 0..2 {
        assert_eq!(number(&mut reader, "SELECT kept_cached()")?, 2);
    }
    early.batch_execute("COMMIT")?;
    assert_eq!(number(&mut early, "SELECT kept_cached()")?, 2);
    assert_eq!(counters(&mut reader, "kept_cached")?.fills, 1);
    Ok(())
}

#[test]
fn what_a_session_keeps_of_unmarked_definitions_ends_with_the_bound() -> Result<()> {
    let cluster = with_kept_plans("gate-kept")?;
    let mut writer = cluster.connect(DATABASE)?;
    let mut early = cluster.connect(DATABASE)?;
    let mut reader = cluster.connect(DATABASE)?;
    // No message tells a plan of a function that fits better.
    writer.batch_execute(
        "BEGIN;
         CREATE FUNCTION pick(integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 2::bigint';
         PREPARE TRANSACTION 'p'",
    )?;
    reader.batch_execute(CREATE_FOR_KEPT)?;
    for _ in 0..2 {
        assert_eq!(number(&mut early, "SELECT picked_cached()")?, 1);
        assert_eq!(number(&mut early, "SELECT picked()")?, 1);
    }
    writer.batch_execute("COMMIT PREPARED 'p'")?;
    assert_eq!(number(&mut early, "SELECT picked_cached()")?, 2);
    assert_eq!(number(&mut early, "SELECT picked()")?, 2);
    assert_eq!(number(&mut reader, "SELECT picked()")?, 2);
    assert_eq!(number(&mut reader, "SELECT picked_cached()")?, 2);
    assert_eq!(counters(&mut early, "picked_cached")?.fills, 1);
    Ok(())
}

#[test]
fn a_session_that_has_not_heard_of_the_extension_marks_what_it_changes() -> Result<()> {
    let cluster = with_answer("gate-late")?;
    let mut writer = cluster.connect(DATABASE)?;
    let mut reader = cluster.connect(DATABASE)?;
    // No id yet, and a gate that is closed: nothing that follows reads messages.
    writer.batch_execute("BEGIN; SELECT 1")?;
    reader.batch_execute(CREATE)?;
    for _ in 0..2 {
        assert_eq!(answers(&mut reader)?, (1, 1));
    }
    writer.batch_execute(&answer(2))?;
    // Its own calls do not see what others have stored.
    assert_eq!(answers(&mut writer)?, (2, 2));
    assert_eq!(answers(&mut reader)?, (1, 1));
    writer.batch_execute("COMMIT")?;
    assert_eq!(answers(&mut reader)?, (2, 2));
    assert_eq!(answers(&mut writer)?, (2, 2));
    Ok(())
}

#[test]
fn the_gate_is_right_after_rollbacks() -> Result<()> {
    let cluster = with_answer("gate-rollbacks")?;
    let mut one = cluster.connect(DATABASE)?;
    let mut other = cluster.connect(DATABASE)?;
    one.batch_execute(&format!(
        "BEGIN; {CREATE}; SELECT answer_cached(); ROLLBACK"
    ))?;
    one.batch_execute(&format!(
        "BEGIN; SAVEPOINT s; {CREATE}; ROLLBACK TO s; CREATE TABLE x (); DROP TABLE x; COMMIT"
    ))?;
    assert!(one.batch_execute("SELECT answer_cached()").is_err());
    assert!(
        one.batch_execute(&format!("BEGIN; {CREATE}; SELECT 1 / 0"))
            .is_err()
    );
    one.batch_execute("ROLLBACK")?;
    one.batch_execute(CREATE)?;
    let check = |one: &mut Client, other: &mut Client, start: i32| -> Result<()> {
        for (step, session) in [(0, true), (1, false)] {
            let expected = i64::from(start + step);
            let writer = if session { &mut *one } else { &mut *other };
            writer.batch_execute(&answer(start + step))?;
            for _ in 0..2 {
                assert_eq!(answers(one)?, (expected, expected));
                assert_eq!(answers(other)?, (expected, expected));
            }
        }
        Ok(())
    };
    check(&mut one, &mut other, 10)?;
    one.batch_execute("BEGIN; DROP EXTENSION pg_query_cache CASCADE; ROLLBACK")?;
    check(&mut one, &mut other, 20)?;
    one.batch_execute(
        "BEGIN; SAVEPOINT s; DROP EXTENSION pg_query_cache CASCADE; ROLLBACK TO s; COMMIT",
    )?;
    check(&mut one, &mut other, 30)?;
    Ok(())
}

#[test]
fn an_extension_that_comes_again_finds_nothing_of_before() -> Result<()> {
    let cluster = with_answer("gate-again")?;
    let mut one = cluster.connect(DATABASE)?;
    let mut other = cluster.connect(DATABASE)?;
    for round in 0..3 {
        one.batch_execute(CREATE)?;
        one.batch_execute("SELECT cache_set('key', '1')")?;
        let expected = i64::from(10 * round + 1);
        other.batch_execute(&answer(10 * round + 1))?;
        for _ in 0..2 {
            assert_eq!(answers(&mut one)?, (expected, expected));
            assert_eq!(answers(&mut other)?, (expected, expected));
        }
        assert_eq!(number(&mut other, "SELECT cache_get('key')::bigint")?, 1);
        if round % 2 == 0 {
            other.batch_execute("SELECT flush_cache()")?;
        }
        other.batch_execute("DROP EXTENSION pg_query_cache CASCADE")?;
        one.batch_execute(&answer(10 * round + 2))?;
        one.batch_execute(CREATE)?;
        let expected = expected + 1;
        for _ in 0..2 {
            assert_eq!(answers(&mut one)?, (expected, expected));
            assert_eq!(answers(&mut other)?, (expected, expected));
        }
        assert_eq!(
            number(&mut other, "SELECT coalesce(cache_get('key')::bigint, 0)")?,
            0
        );
        one.batch_execute("DROP EXTENSION pg_query_cache CASCADE")?;
    }
    Ok(())
}

#[test]
fn a_database_from_a_template_has_its_gate_open() -> Result<()> {
    let cluster = with_answer("gate-template")?;
    cluster.connect(DATABASE)?.batch_execute(CREATE)?;
    cluster
        .connect("template1")?
        .batch_execute(&format!("CREATE DATABASE copy TEMPLATE {DATABASE}"))?;
    let mut one = cluster.connect("copy")?;
    let mut other = cluster.connect("copy")?;
    for number in [1, 2, 3] {
        one.batch_execute(&answer(number))?;
        for _ in 0..2 {
            assert_eq!(answers(&mut one)?, (number.into(), number.into()));
            assert_eq!(answers(&mut other)?, (number.into(), number.into()));
        }
    }
    // Somebody who was there before the extension may run a moment longer.
    wait_until("calls are hits", PATIENCE, || {
        answers(&mut one).is_ok_and(|both| both == (3, 3))
            && counters(&mut one, "answer_cached").is_ok_and(|now| now.hits >= 6)
    })
}

#[test]
fn a_transaction_that_has_created_the_extension_is_not_prepared() -> Result<()> {
    let cluster = with_answer("gate-prepare")?;
    let mut client = cluster.connect(DATABASE)?;
    let refused = client
        .batch_execute("BEGIN; CREATE EXTENSION pg_query_cache; PREPARE TRANSACTION 'p'")
        .unwrap_err();
    let refused = refused.as_db_error().context("an error of the server")?;
    assert_eq!(
        (refused.code().code(), refused.message()),
        (
            "0A000",
            "cannot PREPARE a transaction that has created extension pg_query_cache"
        )
    );
    client.batch_execute("ROLLBACK")?;
    // One that has done something else is.
    client.batch_execute("BEGIN; CREATE TABLE x (); PREPARE TRANSACTION 'p'")?;
    client.batch_execute("COMMIT PREPARED 'p'")?;
    client.batch_execute(CREATE)?;
    Ok(())
}

#[test]
fn entries_of_before_a_restart_die_by_what_the_first_session_changes() -> Result<()> {
    let cluster = with_answer("gate-restart")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(CREATE)?;
    client.batch_execute("CREATE ROLE reader; GRANT reader TO CURRENT_USER")?;
    for _ in 0..2 {
        assert_eq!(answers(&mut client)?, (1, 1));
    }
    client.batch_execute("SELECT flush_cache()")?;
    drop(client);
    cluster.restart(Mode::Fast)?;
    cluster
        .connect("template1")?
        .batch_execute("CREATE ROLE another")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&answer(2))?;
    for _ in 0..2 {
        assert_eq!(answers(&mut client)?, (2, 2));
    }
    Ok(())
}

#[test]
fn inheritance_of_what_is_not_ones_own_is_refused_in_the_servers_words() -> Result<()> {
    let cluster = with_plain_database("gate-inherit")?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE ROLE nobody LOGIN; CREATE TABLE theirs (a integer); CREATE SCHEMA own AUTHORIZATION nobody",
    )?;
    for database in [PLAIN, DATABASE] {
        let mut nobody = cluster.connect_as(database, "nobody")?;
        let mut refused = |sql: &str| -> Result<(String, String)> {
            let error = nobody.batch_execute(sql).unwrap_err();
            let error = error.as_db_error().context("an error of the server")?;
            Ok((error.code().code().to_owned(), error.message().to_owned()))
        };
        assert_eq!(
            refused("ALTER TABLE pg_catalog.pg_class INHERIT pg_catalog.pg_type")?,
            (
                "42501".to_owned(),
                "must be owner of table pg_class".to_owned()
            )
        );
        assert_eq!(
            refused("ALTER TABLE missing INHERIT pg_catalog.pg_type")?,
            (
                "42P01".to_owned(),
                "relation \"missing\" does not exist".to_owned()
            )
        );
    }
    let mut nobody = cluster.connect_as(DATABASE, "nobody")?;
    let theirs = nobody
        .batch_execute("ALTER TABLE public.theirs INHERIT public.accounts")
        .unwrap_err();
    assert_eq!(
        theirs
            .as_db_error()
            .context("an error of the server")?
            .message(),
        "must be owner of table theirs"
    );
    nobody.batch_execute(
        "CREATE TABLE own.top (a integer); CREATE TABLE own.low (a integer);
         ALTER TABLE own.low INHERIT own.top; ALTER TABLE own.low NO INHERIT own.top",
    )?;
    Ok(())
}

#[test]
fn an_entry_from_the_future_is_not_served() -> Result<()> {
    let cluster = with_accounts(quiet("gate-clock"))?;
    let mut ahead = cluster.connect(DATABASE)?;
    let mut client = cluster.connect(DATABASE)?;
    ahead.batch_execute("SET pg_query_cache.clock_offset = '2 h'")?;
    ahead.batch_execute("SELECT total_cached()")?;
    client.batch_execute("SELECT total_cached(); SELECT total_cached()")?;
    let counts: Counters = counters(&mut client, "total_cached")?;
    assert_eq!(counts.hits, 1, "{counts:?}");
    Ok(())
}
