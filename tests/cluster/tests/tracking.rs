//! Tables that are tracked by themselves: by the call that found them untracked, or by a worker, and never to the harm of writers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::Result;
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, counters, holds, number, quiet, wait_for, with_accounts,
    with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster, wait_until};

fn automatic(name: &str) -> Builder {
    quiet(name).setting("pg_query_cache.auto_track", "on")
}

fn is_tracked(client: &mut Client, table: &str) -> Result<bool> {
    holds(
        client,
        &format!(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname = 'pg_query_cache_write')"
        ),
    )
}

fn log_lines(cluster: &Cluster, text: &str) -> usize {
    cluster.log().matches(text).count()
}

/// No worker is needed for a call to begin to cache.
#[test]
fn a_call_tracks_what_its_role_may() -> Result<()> {
    let cluster = with_extension(automatic("track-itself").setting("max_worker_processes", "0"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE seen (id integer);
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM seen); END';
         SELECT cache_function('counted()')",
    )?;
    // Neither in a transaction block, nor where nothing is to be written.
    for (begin, end) in [("BEGIN", "COMMIT"), ("BEGIN READ ONLY", "COMMIT")] {
        let mut other = cluster.connect(DATABASE)?;
        other.batch_execute(begin)?;
        assert_eq!(number(&mut other, "SELECT counted_cached()")?, 0);
        other.batch_execute(end)?;
        assert!(!is_tracked(&mut client, "seen")?);
    }
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SET default_transaction_read_only = on")?;
    assert_eq!(number(&mut other, "SELECT counted_cached()")?, 0);
    assert!(!is_tracked(&mut client, "seen")?);
    // Not for a role that may not, nor for one that may because everybody may.
    client.batch_execute(
        "CREATE ROLE guest; GRANT SELECT, TRIGGER ON seen TO PUBLIC; GRANT USAGE ON SCHEMA public TO guest",
    )?;
    let mut guest = cluster.connect(DATABASE)?;
    guest.batch_execute("SET ROLE guest")?;
    assert_eq!(number(&mut guest, "SELECT counted_cached()")?, 0);
    assert!(!is_tracked(&mut client, "seen")?);
    // Not while somebody writes: nobody waits for anybody.
    let mut writer = cluster.connect(DATABASE)?;
    writer.batch_execute("BEGIN; INSERT INTO seen VALUES (1)")?;
    let mut reader = cluster.connect(DATABASE)?;
    reader.batch_execute("SET lock_timeout = '1ms'")?;
    assert_eq!(number(&mut reader, "SELECT counted_cached()")?, 0);
    assert!(!is_tracked(&mut client, "seen")?);
    writer.batch_execute("COMMIT")?;
    // The lock is not kept while the statement runs.
    let mut reader = cluster.connect(DATABASE)?;
    assert!(holds(
        &mut reader,
        "SELECT counted_cached() = 1 AND NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'seen'::regclass AND mode = 'ShareRowExclusiveLock')"
    )?);
    assert!(is_tracked(&mut client, "seen")?);
    wait_for(
        &cluster,
        "a hit",
        "SELECT counted_cached() = 1 AND (SELECT hits > 0 FROM cache_stats())",
    )?;
    writer.batch_execute("INSERT INTO seen VALUES (2)")?;
    assert_eq!(number(&mut reader, "SELECT counted_cached()")?, 2);
    // What the text of a function says is tracked when it is cached.
    client.batch_execute(
        "CREATE TABLE said (id integer); CREATE TABLE said_too (id integer); CREATE TABLE atomic (id integer);
         CREATE VIEW over_it AS SELECT id FROM said_too;
         CREATE FUNCTION says(k integer) RETURNS bigint LANGUAGE sql STABLE AS
             'SELECT count(*) FROM said WHERE id = k AND EXISTS (SELECT FROM over_it)';
         CREATE FUNCTION says_atomic() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM atomic; END;",
    )?;
    client.batch_execute("SELECT cache_function('says(integer)')")?;
    client.batch_execute("SELECT cache_function('says_atomic()')")?;
    for table in ["said", "said_too", "atomic"] {
        assert!(is_tracked(&mut client, table)?, "{table}");
    }
    Ok(())
}

/// A deferred constraint that an event trigger leaves to the end of the transaction is looked at.
#[test]
fn what_event_triggers_do_on_the_way_is_done_in_full() -> Result<()> {
    let cluster = with_extension(automatic("track-event").setting("max_worker_processes", "0"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE seen (id integer);
         CREATE TABLE parent (id integer PRIMARY KEY);
         CREATE TABLE noted (id integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION notes() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (1); END';
         CREATE EVENT TRIGGER notes ON ddl_command_end WHEN tag IN ('CREATE TRIGGER') EXECUTE FUNCTION notes();
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM seen); END';
         SELECT cache_function('counted()')",
    )?;
    // The row has no parent: it must not stay, and the call does not fail for it.
    assert_eq!(number(&mut client, "SELECT counted_cached()")?, 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM noted")?, 0);
    assert!(!is_tracked(&mut client, "seen")?);
    client.batch_execute("INSERT INTO parent VALUES (1)")?;
    wait_for(
        &cluster,
        "it rests no longer",
        "SELECT counted_cached() = 0 AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'seen'::regclass)",
    )?;
    Ok(())
}

/// Where DDL is forbidden a call answers as ever, and the log is told once, not at each call.
#[test]
fn what_fails_rests() -> Result<()> {
    let cluster = with_extension(automatic("track-rests"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE seen (id integer);
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM seen); END';
         SELECT cache_function('counted()');
         CREATE TABLE tried (n bigint);
         CREATE SEQUENCE tries;
         CREATE FUNCTION forbids() RETURNS event_trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM nextval(''public.tries''); RAISE EXCEPTION ''no DDL, please''; END';
         CREATE EVENT TRIGGER forbids ON ddl_command_start WHEN tag IN ('CREATE TRIGGER') EXECUTE FUNCTION forbids();",
    )?;
    for _ in 0..300 {
        let mut other = cluster.connect(DATABASE)?;
        assert_eq!(number(&mut other, "SELECT counted_cached()")?, 0);
    }
    wait_until("the log is told", PATIENCE, || {
        log_lines(
            &cluster,
            "could not track relation public.seen: no DDL, please",
        ) > 0
    })?;
    assert_eq!(
        log_lines(&cluster, "could not track relation public.seen"),
        1
    );
    // A second, two, four …: 300 calls that took less than eight minutes were tried ten times at most.
    assert!(holds(&mut client, "SELECT last_value <= 10 FROM tries")?);
    // In the end it is tried again, when a call asks for it.
    client.batch_execute("DROP EVENT TRIGGER forbids")?;
    wait_for(
        &cluster,
        "it is tracked",
        "SELECT counted_cached() = 0 AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'seen'::regclass)",
    )
}

/// The worker runs no text either, and reads none under the settings of the database.
#[test]
fn the_worker_is_not_injected() -> Result<()> {
    let cluster = with_extension(automatic("track-injected"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        r#"CREATE ROLE mallory; CREATE ROLE caller;
         GRANT USAGE, CREATE ON SCHEMA public TO mallory;
         ALTER DATABASE postgres SET standard_conforming_strings = off;
         ALTER DATABASE postgres SET backslash_quote = on"#,
    )?;
    let mut mallory = cluster.connect(DATABASE)?;
    mallory.batch_execute(
        r#"SET ROLE mallory;
         CREATE TABLE target (a integer, "\'); ALTER ROLE mallory SUPERUSER; --" integer);
         CREATE FUNCTION reads(k integer) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$BEGIN RETURN (SELECT count(*) FROM target); END$$;
         BEGIN;
         CREATE FUNCTION reads_cached(k integer, cache_duration interval DEFAULT NULL) RETURNS bigint LANGUAGE cached STABLE AS
             $${"function": "public.reads(integer)", "depends_on": {"public.target": {"\\'); ALTER ROLE mallory SUPERUSER; --": "$1"}}}$$;
         COMMIT;"#,
    )?;
    // In a block, so that no call does it itself.
    wait_until("the worker has tracked the column", PATIENCE, || {
        let mut other = cluster.connect(DATABASE).unwrap();
        other.batch_execute("BEGIN").unwrap();
        number(&mut other, "SELECT reads_cached(1)").unwrap();
        other.batch_execute("COMMIT").unwrap();
        holds(
            &mut other,
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'target'::regclass AND tgname = 'pg_query_cache_keys_insert')",
        )
        .unwrap()
    })?;
    assert!(holds(
        &mut client,
        "SELECT NOT rolsuper FROM pg_roles WHERE rolname = 'mallory'"
    )?);
    Ok(())
}

/// One role's requests that cannot be served leave room for those of others.
#[test]
fn nobody_fills_the_queue_for_others() -> Result<()> {
    let cluster = with_extension(automatic("track-quota"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE ROLE greedy; GRANT USAGE, CREATE ON SCHEMA public TO greedy;
         CREATE TABLE waiting (id integer);
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM waiting); END';
         SELECT cache_function('counted()');
         CREATE FUNCTION one() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         SELECT cache_function('one()');
         SET ROLE greedy;
         DO $$ BEGIN FOR i IN 1 .. 200 LOOP
             EXECUTE format('CREATE TABLE greedy_%s (id integer)', i);
             EXECUTE format('CREATE FUNCTION greedy_%s() RETURNS bigint LANGUAGE plpgsql STABLE AS ''BEGIN RETURN (SELECT count(*) FROM greedy_%s); END''', i, i);
             PERFORM cache_function(format('greedy_%s()', i)::regprocedure);
         END LOOP; END $$;",
    )?;
    // The first use of the cache waits for the transactions that are running then.
    assert_eq!(number(&mut client, "SELECT one_cached()")?, 1);
    // Its tables are never to be had.
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(
        "SET ROLE greedy; BEGIN;
         DO $$ BEGIN FOR i IN 1 .. 200 LOOP EXECUTE format('INSERT INTO greedy_%s VALUES (1)', i); END LOOP; END $$;",
    )?;
    let mut caller = cluster.connect(DATABASE)?;
    caller.batch_execute(
        "SET ROLE greedy;
         DO $$ BEGIN FOR i IN 1 .. 200 LOOP EXECUTE format('SELECT greedy_%s_cached()', i); END LOOP; END $$;",
    )?;
    // Only the worker may do it for this one: the call is in a block.
    wait_until("the table of somebody else is tracked", PATIENCE, || {
        let mut other = cluster.connect(DATABASE).unwrap();
        other.batch_execute("BEGIN").unwrap();
        number(&mut other, "SELECT counted_cached()").unwrap();
        other.batch_execute("COMMIT").unwrap();
        is_tracked(&mut client, "waiting").unwrap()
    })?;
    drop(owner);
    Ok(())
}

/// The worker waits for one table at a time, and keeps no other one meanwhile.
#[test]
fn the_worker_holds_no_lock_while_it_waits() -> Result<()> {
    let cluster = with_extension(
        automatic("track-waits").setting("pg_query_cache.tracking_lock_timeout", "60s"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE parts (id integer) PARTITION BY LIST (id);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
         CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2);
         CREATE TABLE part_3 PARTITION OF parts FOR VALUES IN (3);
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM parts); END';
         SELECT cache_function('counted()');
         CREATE FUNCTION one() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         SELECT cache_function('one()')",
    )?;
    // The first use of the cache waits for the transactions that are running then.
    assert_eq!(number(&mut client, "SELECT one_cached()")?, 1);
    let mut writer = cluster.connect(DATABASE)?;
    writer.batch_execute("BEGIN; INSERT INTO part_2 VALUES (2)")?;
    client.batch_execute("BEGIN")?;
    assert_eq!(number(&mut client, "SELECT counted_cached()")?, 0);
    client.batch_execute("COMMIT")?;
    wait_for(
        &cluster,
        "the worker waits for one table",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'part_2'::regclass AND mode = 'ShareRowExclusiveLock' AND NOT granted)",
    )?;
    assert!(holds(
        &mut client,
        "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted)"
    )?);
    // The others can be written to.
    client.batch_execute("SET lock_timeout = '240s'; INSERT INTO parts VALUES (1), (3)")?;
    writer.batch_execute("COMMIT")?;
    wait_for(
        &cluster,
        "all are tracked",
        "SELECT count(*) = 4 FROM pg_trigger WHERE tgname = 'pg_query_cache_write' AND tgrelid::regclass::text LIKE 'part%'",
    )
}

/// Caching a function waits neither for writers of what it depends on, nor do others behind it.
#[test]
fn depends_on_does_not_wait_for_writers() -> Result<()> {
    for auto_track in ["on", "off"] {
        let builder = quiet("track-declared")
            .setting("pg_query_cache.auto_track", auto_track)
            .setting("pg_query_cache.tracking_lock_timeout", "20ms");
        let cluster = with_extension(builder)?;
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute(
            "CREATE TABLE busy (id integer, v integer);
             CREATE FUNCTION value(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM busy AS b WHERE b.id = $1'",
        )?;
        let mut writer = cluster.connect(DATABASE)?;
        writer.batch_execute("BEGIN; INSERT INTO busy VALUES (1, 1)")?;
        client.batch_execute(
            r#"SET lock_timeout = '60s'; SELECT cache_function('value(integer)', depends_on => '{"busy": {"id": "$1"}}')"#,
        )?;
        assert!(!is_tracked(&mut client, "busy")?);
        writer.batch_execute("COMMIT")?;
        assert_eq!(number(&mut client, "SELECT value_cached(1)")?, 1);
        if auto_track == "off" {
            assert!(!is_tracked(&mut client, "busy")?);
            client.batch_execute("SELECT cache_track_table('busy', '{id}')")?;
        }
        wait_for(
            &cluster,
            "it is tracked by its key",
            // Each call asks for it again, if the worker has had no luck in its few milliseconds.
            "SELECT CASE WHEN value_cached(1) = 1 THEN
                 EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'busy'::regclass AND tgname = 'pg_query_cache_keys_update') END",
        )?;
    }
    Ok(())
}

/// Statements that change no row of `accounts`, which is tracked, with keys too.
const NO_ROWS: [&str; 5] = [
    "UPDATE accounts SET balance = balance + 1 WHERE id < 0",
    "DELETE FROM accounts WHERE id < 0",
    "INSERT INTO accounts SELECT * FROM accounts WHERE id < 0",
    "SAVEPOINT s; UPDATE accounts SET balance = 0 WHERE false; ROLLBACK TO s",
    "SAVEPOINT s; UPDATE accounts SET balance = 0 WHERE false; RELEASE s",
];

/// Whoever changes no row writes nothing, and invalidates nothing.
#[test]
fn a_statement_of_no_rows_takes_no_transaction_id() -> Result<()> {
    let cluster = with_accounts(quiet("track-no-rows"))?;
    let mut client = cluster.connect(DATABASE)?;
    let mut writer = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT cache_track_table('accounts', '{id,owner}')")?;
    number(&mut client, "SELECT total_cached()")?;
    for end in ["COMMIT", "ROLLBACK"] {
        writer.batch_execute("BEGIN")?;
        for statement in NO_ROWS {
            writer.batch_execute(statement)?;
            assert!(
                holds(
                    &mut writer,
                    "SELECT pg_current_xact_id_if_assigned() IS NULL"
                )?,
                "{statement} took a transaction id"
            );
        }
        // It may have changed rows for all that it knows.
        let before = counters(&mut writer, "total_cached")?;
        number(&mut writer, "SELECT total_cached()")?;
        let after = counters(&mut writer, "total_cached")?;
        assert_eq!(after.bypasses, before.bypasses + 1);
        writer.batch_execute(end)?;
        number(&mut client, "SELECT total_cached()")?;
        let served = counters(&mut client, "total_cached")?;
        assert_eq!(served.hits, after.hits + 1, "after {end}");
    }
    Ok(())
}

/// And whoever changes one later has marked it when it can be seen, whatever came before and however the transaction ends.
#[test]
fn what_follows_a_statement_of_no_rows_is_marked() -> Result<()> {
    let builder = quiet("track-rows-later").setting("max_prepared_transactions", 4);
    let cluster = with_accounts(builder)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT cache_track_table('accounts', '{id}');
         CREATE TABLE untracked (a integer);
         CREATE FUNCTION later() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             BEGIN UPDATE accounts SET balance = balance + 1; RAISE 'back'; EXCEPTION WHEN raise_exception THEN END;
             UPDATE accounts SET balance = balance + 1 WHERE id = 5;
         END $$;
         CREATE TABLE deferring (a integer);
         CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE accounts SET balance = balance + 1 WHERE id = 6; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deferring DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION late()",
    )?;
    let update = "UPDATE accounts SET balance = balance + 1 WHERE id = 4";
    let more = [
        update.to_owned(),
        format!("SAVEPOINT a; {update}; RELEASE a"),
        format!("SAVEPOINT a; {update}; ROLLBACK TO a; {update}"),
        format!(
            "SAVEPOINT a; UPDATE accounts SET balance = 0 WHERE false; ROLLBACK TO a; {update}"
        ),
        format!("INSERT INTO untracked VALUES (1); {update}"),
        format!("WITH w AS ({update} RETURNING 1) SELECT count(*) FROM w"),
        "SELECT later()".to_owned(),
        "INSERT INTO deferring VALUES (1)".to_owned(),
        "DELETE FROM accounts WHERE id = (SELECT max(id) FROM accounts)".to_owned(),
        "INSERT INTO accounts SELECT max(id) + 1, 1, 1 FROM accounts".to_owned(),
    ];
    let ends = ["COMMIT", "PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'"];
    let mut total = answers_are_right(&mut client)?;
    for first in NO_ROWS {
        for then in &more {
            for end in ends {
                let mut writer = cluster.connect(DATABASE)?;
                writer.batch_execute(&format!("BEGIN; {first}; {then}"))?;
                assert_eq!(answers_are_right(&mut client)?, total, "{first}; {then}");
                for step in end.split(';') {
                    writer.batch_execute(step)?;
                }
                let now = answers_are_right(&mut client)?;
                assert_ne!(now, total, "{first}; {then}; {end}");
                total = now;
            }
        }
    }
    let truncated = format!("BEGIN; {}; TRUNCATE accounts; COMMIT", NO_ROWS[0]);
    client.batch_execute(&truncated)?;
    assert!(holds(
        &mut client,
        "SELECT total() IS NULL AND total_cached() IS NULL"
    )?);
    Ok(())
}
