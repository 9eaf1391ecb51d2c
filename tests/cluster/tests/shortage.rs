//! What there is too little of: places in shared memory, the server's own locks, room on the disk. Calls go on and are right.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, holds, in_background, number, quiet, wait_for,
    with_accounts, with_extension, worker,
};
use pg_query_cache_harness::{Mode, wait_until};

/// Two hundred sessions with a computation of their own each, more than there are places for.
#[test]
fn more_computations_than_flights() -> Result<()> {
    let cluster = with_extension(quiet("shortage-flights"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION gated(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
         BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN n; END $$;
         SELECT cache_function('gated(integer)');
         SELECT pg_advisory_lock(1)",
    )?;
    let sessions: Vec<_> = (0..150)
        .map(|n| in_background(&cluster, "", &format!("gated_cached({n})")))
        .collect::<Result<_>>()?;
    wait_for(
        &cluster,
        "all compute",
        "SELECT count(*) = 150 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
    )?;
    client.batch_execute("SELECT pg_advisory_unlock_all()")?;
    for (n, session) in sessions.into_iter().enumerate() {
        assert_eq!(session.join().unwrap(), Ok(n.to_string()));
    }
    // All were stored, with a flight or without.
    wait_for(
        &cluster,
        "all are stored",
        "SELECT fills = 150 AND entries = 150 FROM cache_stats()",
    )
}

/// Ten times as many keys are written as there are slots, and more names invalidated. Results that depend on another table as a whole
/// share a function and a table, but no key and no name with them: all stay. The slots of two tables can be the same one by chance: then
/// another table is asked.
#[test]
fn more_keys_and_names_than_slots() -> Result<()> {
    let cluster = with_extension(quiet("shortage-slots").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE orders (customer integer, amount integer);
         CREATE FUNCTION constant(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n + 0';
         SELECT cache_track_table('orders', '{customer}'), cache_function('constant(integer)')",
    )?;
    let fills = "SELECT fills FROM cache_stats()";
    loop {
        client.batch_execute(
            "CREATE TABLE rates (currency integer PRIMARY KEY, rate integer);
             INSERT INTO rates SELECT i, i FROM generate_series(1, 20) AS i;
             CREATE FUNCTION rate(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT rate FROM rates WHERE currency = n';
             SELECT cache_track_table('rates'), cache_function('rate(integer)')",
        )?;
        let ask = "SELECT rate_cached(1)::bigint";
        number(&mut client, ask)?;
        // A table of the extension's own is written too.
        client.batch_execute(
            "INSERT INTO orders VALUES (0, 0); SELECT invalidate_cache('{other:0}')",
        )?;
        let before = number(&mut client, fills)?;
        number(&mut client, ask)?;
        if number(&mut client, fills)? == before {
            break;
        }
        client.batch_execute("DROP FUNCTION rate CASCADE; DROP TABLE rates")?;
    }
    let ask = "SELECT sum(rate_cached(i) + constant_cached(i)) FROM generate_series(1, 20) AS i";
    let expected = number(&mut client, ask)?;
    let before = number(&mut client, fills)?;
    // Not too many at once, or the table as a whole is noted as written in their place.
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 0..39 LOOP
             INSERT INTO orders SELECT i * 500 + k, 0 FROM generate_series(1, 500) AS k;
             COMMIT;
         END LOOP; END $$",
    )?;
    assert_eq!(number(&mut client, ask)?, expected);
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM invalidate_cache(ARRAY['other:' || i]); COMMIT; END LOOP; END $$",
    )?;
    assert_eq!(number(&mut client, ask)?, expected);
    assert_eq!(number(&mut client, fills)?, before);
    // What was written is noticed all the same.
    client.batch_execute("UPDATE rates SET rate = rate + 1 WHERE currency = 1")?;
    assert_eq!(number(&mut client, ask)?, expected + 1);
    assert_eq!(number(&mut client, fills)?, before + 20);
    Ok(())
}

/// More functions than have rows of statistics, and more relations than can be asked for at once.
#[test]
fn more_functions_and_requests_than_places() -> Result<()> {
    let cluster = with_extension(
        quiet("shortage-functions")
            .setting("pg_query_cache.memory", "4MB")
            .setting("pg_query_cache.auto_track", "on"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "DO $$ BEGIN FOR i IN 1..150 LOOP
             EXECUTE format('CREATE TABLE t%s (v integer); INSERT INTO t%s VALUES (%s)', i, i, i);
             EXECUTE format('CREATE FUNCTION f%s() RETURNS bigint LANGUAGE sql STABLE AS ''SELECT sum(v) FROM t%s''', i, i);
             PERFORM cache_function(format('f%s()', i)::regprocedure);
         END LOOP; END $$",
    )?;
    let all: Vec<_> = (1..=150)
        .map(|i| format!("(f{i}_cached() IS NOT DISTINCT FROM f{i}())"))
        .collect();
    let right = format!("SELECT {}", all.join(" AND "));
    // A function without a row is answered by itself, so nobody asks for its table.
    wait_until(
        "the tables of all that have a row are tracked",
        PATIENCE * 2,
        || {
            holds(&mut client, &right).unwrap()
            && holds(
                &mut client,
                "SELECT count(DISTINCT t.tgrelid) BETWEEN 100 AND 149
                        AND count(DISTINCT t.tgrelid) >= (SELECT count(*) FROM cache_function_stats WHERE function::text ~ '^f[0-9]')
                 FROM pg_trigger AS t WHERE t.tgname = 'pg_query_cache_write' AND t.tgrelid <> 'cache_values'::regclass",
            )
            .unwrap()
        },
    )?;
    for i in [1, 70, 150] {
        client.batch_execute(&format!("UPDATE t{i} SET v = v + 1"))?;
        ensure!(holds(&mut client, &right)?);
    }
    ensure!(holds(
        &mut client,
        "SELECT hits > 0 AND damaged = 0 FROM cache_stats()"
    )?);
    Ok(())
}

/// More writers of one table at once than a slot can tell apart.
#[test]
fn more_writers_than_a_slot_lists() -> Result<()> {
    let cluster = with_accounts(quiet("shortage-writers"))?;
    let mut client = cluster.connect(DATABASE)?;
    // What is measured on a busy machine must not bring the functions to rest.
    client.batch_execute("SELECT set_cache_config('adaptive', 'off')")?;
    let before = answers_are_right(&mut client)?;
    let mut writers = (1..=20)
        .map(|id| {
            let mut writer = cluster.connect(DATABASE)?;
            writer.batch_execute(&format!(
                "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = {id}"
            ))?;
            Ok(writer)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut old = cluster.connect(DATABASE)?;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    ensure!(answers_are_right(&mut old)? == before);
    for (n, writer) in writers.iter_mut().enumerate() {
        ensure!(answers_are_right(&mut client)? == before + n as i64);
        writer.batch_execute("COMMIT")?;
        ensure!(answers_are_right(&mut old)? == before);
    }
    ensure!(answers_are_right(&mut client)? == before + 20);
    let hits = number(&mut client, "SELECT hits FROM cache_stats()")?;
    answers_are_right(&mut client)?;
    let now = number(&mut client, "SELECT hits FROM cache_stats()")?;
    let reasons = "SELECT reasons::text FROM cache_stats()";
    let reasons: String = client.query_one(reasons, &[])?.get(0);
    ensure!(now > hits + 100, "{now} hits after {hits}: {reasons}");
    Ok(())
}

/// Somebody has all of the server's locks. What the function itself can do without one, the cached one can.
#[test]
fn the_lock_table_is_full() -> Result<()> {
    let cluster =
        with_accounts(quiet("shortage-locks").setting("max_locks_per_transaction", "10"))?;
    let mut client = cluster.connect(DATABASE)?;
    let mut writer = cluster.connect(DATABASE)?;
    let mut greedy = cluster.connect(DATABASE)?;
    for change in [
        "UPDATE accounts SET balance = balance + 1 WHERE id = 1",
        "DELETE FROM accounts WHERE id = 7; TRUNCATE accounts; INSERT INTO accounts VALUES (1, 1, 5)",
        "ALTER TABLE accounts ADD COLUMN note text",
    ] {
        answers_are_right(&mut client)?;
        writer.batch_execute("SELECT flush_cache()")?;
        writer.batch_execute(change)?;
        // What the session keeps of the catalogs is up to date: opening those of the whole cluster takes a lock of that table.
        number(&mut client, "SELECT total()")?;
        let error = greedy
            .batch_execute(
                "SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) AS i",
            )
            .unwrap_err();
        ensure!(
            error.code().map(|code| code.code()) == Some("53200"),
            "{error}"
        );
        // The first call of the cached function since the change.
        let plain = number(&mut client, "SELECT total()");
        let cached = number(&mut client, "SELECT total_cached()");
        greedy.batch_execute("SELECT pg_advisory_unlock_all()")?;
        let (plain, cached) = (plain.context("plain"), cached.context("cached"));
        ensure!(
            plain.context(change)? == cached.context(change)?,
            "{change}"
        );
        answers_are_right(&mut client)?;
    }
    ensure!(holds(&mut client, "SELECT damaged = 0 FROM cache_stats()")?);
    Ok(())
}

/// No room for the table: sessions notice nothing, the worker says so and tries again, and writes when there is room.
#[test]
fn the_disk_is_full_for_the_table() -> Result<()> {
    let cluster =
        with_accounts(quiet("shortage-disk").setting("pg_query_cache.flush_interval", "1s"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION text_of(n integer) RETURNS text LANGUAGE sql STABLE AS $$
             SELECT string_agg(md5((n * 10000 + i)::text), '') FROM generate_series(1, 6400) AS i $$;
         SELECT cache_function('text_of(integer)')",
    )?;
    let worker_pid = worker(&cluster)?;
    // A segment of the WAL has to fit.
    let limit = Some(16 << 20);
    cluster.limit_files(worker_pid, limit)?;
    cluster.limit_files(cluster.postmaster_pid()?, limit)?;
    let right = "SELECT count(*) FILTER (WHERE text_of_cached(n) IS DISTINCT FROM text_of(n)) = 0 FROM generate_series(1, 120) AS n";
    ensure!(holds(&mut client, right)?);
    let failures = || cluster.log().matches("step \"flush\" failed").count();
    wait_until("the worker fails twice", PATIENCE, || failures() >= 2)?;
    ensure!(
        cluster.log_contains("could not extend file"),
        "{}",
        cluster.log()
    );
    ensure!(holds(&mut client, right)?);
    let total = answers_are_right(&mut client)?;
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    ensure!(answers_are_right(&mut client)? == total + 1);
    ensure!(holds(&mut client, "SELECT hits > 100 FROM cache_stats()")?);
    // Who writes it by hand is told; its session goes on.
    let mut by_hand = cluster.connect(DATABASE)?;
    let error = by_hand.batch_execute("SELECT flush_cache()").unwrap_err();
    ensure!(
        error.to_string().contains("db error") || error.code().is_some(),
        "{error}"
    );
    ensure!(holds(&mut by_hand, right)?);
    ensure!(worker(&cluster)? == worker_pid, "the worker has ended");

    cluster.limit_files(cluster.postmaster_pid()?, None)?;
    cluster.limit_files(worker_pid, None)?;
    wait_for(
        &cluster,
        "all are in the table",
        "SELECT count(*) >= 120 FROM query_cache WHERE size_bytes > 200000",
    )?;
    ensure!(!cluster.log_contains("PANIC"));
    Ok(())
}

/// No room for the slots at a shutdown: the next start is a cold one.
#[test]
fn the_disk_is_full_for_the_slots() -> Result<()> {
    let cluster = with_accounts(quiet("shortage-slots"))?;
    let mut client = cluster.connect(DATABASE)?;
    let total = answers_are_right(&mut client)?;
    client.batch_execute("SELECT flush_cache()")?;
    drop(client);
    cluster.limit_files(cluster.postmaster_pid()?, Some(64 << 10))?;
    cluster.stop(Mode::Fast)?;
    ensure!(cluster.log_contains("could not write file \"pg_stat/pg_query_cache.slots\""));
    let left = std::fs::read_dir(cluster.data_dir().join("pg_stat"))?
        .filter_map(|file| file.ok())
        .filter(|file| {
            file.file_name()
                .to_string_lossy()
                .contains("pg_query_cache")
        })
        .count();
    ensure!(left == 0, "half a file is left");
    cluster.start()?;
    let mut client = cluster.connect(DATABASE)?;
    ensure!(answers_are_right(&mut client)? == total);
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    ensure!(answers_are_right(&mut client)? == total + 1);
    worker(&cluster)?;
    Ok(())
}
