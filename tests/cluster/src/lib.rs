//! What the tests of whole servers share. Each test has a cluster of its own; the tests are in `tests/`, a file by theme.
//!
//! Needs the extension installed into the PostgreSQL that `pg_config` names.

pub mod documents;
pub mod pool;

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster, wait_until};

/// The database that the tests use.
pub const DATABASE: &str = "postgres";

/// How long to wait for what has to come, on a machine that may be very busy.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// `accounts`, tracked, with `total()` and `balance(id)` and their cached functions.
pub const ACCOUNTS: &str = "
    CREATE TABLE accounts (id integer PRIMARY KEY, owner integer, balance bigint);
    INSERT INTO accounts SELECT i, i % 10, i FROM generate_series(1, 100) AS i;
    CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(balance)::bigint FROM accounts';
    CREATE FUNCTION balance(id integer) RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT a.balance FROM accounts AS a WHERE a.id = $1';
    SELECT cache_track_table('accounts'), cache_function('total()'), cache_function('balance(integer)');";

/// Functions with which tests count computations, keep them waiting, and make results that differ: results that rest on them are stored
/// here, and nowhere else.
pub const TRUSTED: &str = "nextval(regclass), random(), clock_timestamp(), pg_advisory_xact_lock(bigint), \
    pg_advisory_xact_lock_shared(bigint), pg_try_advisory_xact_lock_shared(bigint)";

/// A cluster with nothing of its own going on in the background: tables are tracked, entries written and removed when a test says so, no
/// function rests because the machine was slow when it was measured, and nobody has a transaction open but the test.
pub fn quiet(name: &str) -> Builder {
    Cluster::builder(name)
        .setting("pg_query_cache.auto_track", "off")
        .setting("pg_query_cache.cleanup_interval", "0")
        .setting("pg_query_cache.flush_interval", "0")
        .setting("autovacuum", "off")
        .setting("pg_query_cache.assumed_hit", "500")
        .setting("pg_query_cache.assumed_run", "1000000")
        .setting("pg_query_cache.trusted_functions", TRUSTED)
}

/// Builds the cluster and creates the extension in [`DATABASE`].
pub fn with_extension(builder: Builder) -> Result<Cluster> {
    let cluster = builder.build()?;
    cluster
        .connect(DATABASE)?
        .batch_execute("CREATE EXTENSION pg_query_cache")?;
    Ok(cluster)
}

/// Builds the cluster, creates the extension and the table `accounts`, tracked, with cached `total()` and `balance(id)`.
pub fn with_accounts(builder: Builder) -> Result<Cluster> {
    let cluster = with_extension(builder)?;
    cluster.connect(DATABASE)?.batch_execute(ACCOUNTS)?;
    Ok(cluster)
}

/// Counters of one cached function, as `cache_function_stats` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls answered from the cache.
    pub hits: i64,
    /// Calls that found nothing.
    pub misses: i64,
    /// Results stored.
    pub fills: i64,
    /// Calls answered by the function on purpose.
    pub bypasses: i64,
    /// Calls that waited for another session.
    pub waits: i64,
}

/// The counters of the cached function `name`; zeros if it was not called since the server started.
pub fn counters(client: &mut Client, name: &str) -> Result<Counters> {
    let row = client.query_opt(
        "SELECT s.hits, s.misses, s.fills, s.bypasses, s.waits FROM cache_function_stats AS s
         JOIN pg_proc AS p ON p.oid = s.function WHERE p.proname = $1",
        &[&name],
    )?;
    Ok(row.map_or_else(Counters::default, |row| Counters {
        hits: row.get(0),
        misses: row.get(1),
        fills: row.get(2),
        bypasses: row.get(3),
        waits: row.get(4),
    }))
}

/// A number that a statement returns.
pub fn number(client: &mut Client, sql: &str) -> Result<i64> {
    let row = client.query_one(sql, &[]).with_context(|| sql.to_owned())?;
    row.try_get::<_, Option<i64>>(0)?
        .with_context(|| format!("{sql}: NULL"))
}

/// Whether a statement returns true.
pub fn holds(client: &mut Client, sql: &str) -> Result<bool> {
    let row = client.query_one(sql, &[]).with_context(|| sql.to_owned())?;
    Ok(row.try_get::<_, Option<bool>>(0)? == Some(true))
}

/// Compares `total()` and each `balance(id)` with their cached functions, in one statement, twice: what the first stores the second
/// takes. Returns the total.
pub fn answers_are_right(client: &mut Client) -> Result<i64> {
    for _ in 0..2 {
        let wrong = number(
            client,
            "SELECT count(*) FROM generate_series(0, 101) AS i WHERE balance(i) IS DISTINCT FROM balance_cached(i)",
        )?;
        ensure!(wrong == 0, "{wrong} balances are wrong");
        let row = client.query_one("SELECT total(), total_cached()", &[])?;
        let (plain, cached): (Option<i64>, Option<i64>) = (row.get(0), row.get(1));
        ensure!(plain == cached, "total is {plain:?}, cached {cached:?}");
    }
    number(client, "SELECT total()")
}

/// Waits until a statement returns true, each time asked in a new session; an error with the last answer and the end of the server's
/// log if it never does.
pub fn wait_for(cluster: &Cluster, what: &str, sql: &str) -> Result<()> {
    let mut last = String::new();
    let asked = wait_until(what, PATIENCE, || {
        let answer = cluster
            .connect(DATABASE)
            .and_then(|mut client| holds(&mut client, sql));
        last = format!("{answer:?}");
        matches!(answer, Ok(true))
    });
    asked.with_context(|| {
        let log = cluster.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("{sql}\n{last}\n{end}")
    })
}

/// Waits until the sessions with these process ids have ended: what they counted last is known to others only then.
pub fn wait_for_end(cluster: &Cluster, sessions: &[i64]) -> Result<()> {
    let sessions: Vec<_> = sessions.iter().map(i64::to_string).collect();
    wait_for(
        cluster,
        "sessions end",
        &format!(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY ('{{{}}}')",
            sessions.join(",")
        ),
    )
}

/// Waits until the worker of [`DATABASE`] runs, and returns its process id.
pub fn worker(cluster: &Cluster) -> Result<i32> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = '{DATABASE}')"
    );
    wait_for(cluster, "the worker runs", &sql)?;
    let row = cluster.connect(DATABASE)?.query_one(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_query_cache worker' AND datname = $1",
        &[&DATABASE],
    )?;
    Ok(row.get(0))
}

/// Moves the clock by which ages are measured so many seconds ahead. New sessions and new processes of the extension have it then; one
/// that is there has it soon, see [`sees_clock`] and [`worker_turns`].
pub fn set_clock(cluster: &Cluster, seconds: u32) -> Result<()> {
    cluster.set("pg_query_cache.clock_offset", format!("{seconds}s"))?;
    wait_for(cluster, "new sessions have the clock", &has_clock(seconds))
}

/// Waits until a session that is there has the clock of [`set_clock`].
pub fn sees_clock(client: &mut Client, seconds: u32) -> Result<()> {
    wait_until("a session has the clock", PATIENCE, || {
        holds(client, &has_clock(seconds)).unwrap_or(false)
    })
}

fn has_clock(seconds: u32) -> String {
    format!(
        "SELECT extract(epoch FROM current_setting('pg_query_cache.clock_offset')::interval) = {seconds}"
    )
}

/// Waits until the worker of [`DATABASE`] has begun a turn of its loop with the settings that there are now, and ended it.
pub fn worker_turns(cluster: &Cluster) -> Result<()> {
    worker_turns_in(cluster, DATABASE)
}

/// The same of another database's.
pub fn worker_turns_in(cluster: &Cluster, database: &str) -> Result<()> {
    // Each turn begins with a statement. The first that begins now may belong to a turn that has looked at the settings before.
    for _ in 0..3 {
        let mut client = cluster.connect(DATABASE)?;
        let last = format!(
            "SELECT coalesce(max(extract(epoch FROM query_start) * 1000000), 0)::bigint FROM pg_stat_activity
            WHERE backend_type = 'pg_query_cache worker' AND datname = '{database}'"
        );
        let before = number(&mut client, &last)?;
        // It ends the worker's sleep.
        cluster.reload()?;
        wait_until("the worker turns", PATIENCE, || {
            number(&mut client, &last).is_ok_and(|last| last > before)
        })?;
    }
    Ok(())
}

/// Waits until so many sessions wait for the advisory lock 1.
pub fn wait_for_gate(cluster: &Cluster, sessions: usize) -> Result<()> {
    let sql = format!(
        "SELECT count(*) = {sessions} FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted"
    );
    wait_for(
        cluster,
        &format!("{sessions} sessions wait at the gate"),
        &sql,
    )
}

/// Runs the statement in a session of its own, in a thread; the text of its only value, or the error's SQLSTATE.
pub fn in_background(
    cluster: &Cluster,
    setup: &str,
    sql: &str,
) -> Result<thread::JoinHandle<Result<String, String>>> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(setup)?;
    let sql = sql.to_owned();
    Ok(thread::spawn(move || {
        let row = client.query_one(&format!("SELECT ({sql})::text"), &[]);
        match row {
            Ok(row) => Ok(row.get::<_, Option<String>>(0).unwrap_or_default()),
            Err(error) => Err(error
                .code()
                .map_or_else(|| error.to_string(), |code| code.code().to_owned())),
        }
    }))
}
