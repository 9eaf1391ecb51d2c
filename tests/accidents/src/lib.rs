//! What happens when a process dies, ends, fails or stands still at a given place in the code (`src/fault.rs` of the extension).
//!
//! * `scenario`: for each place what brings a process there
//! * `load`: sessions that read and write meanwhile, and compare
//!
//! Needs a server whose library has the feature `fault_injection`: `scripts/test accidents` makes one.

pub mod load;
pub mod scenario;

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, number, quiet, wait_for, with_accounts,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, wait_until};

/// What the scenarios call, besides `total()` and `balance(id)`.
const SUBJECTS: &str = "
    CREATE SEQUENCE keys START 100000;
    CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN RETURN n * 2; END';
    CREATE FUNCTION block(n integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT repeat(n::text, 100)';
    CREATE FUNCTION gated(n integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
    BEGIN
        -- Not a wait for a lock, behind which nobody would wait; nor a look at pg_locks, which would be a reason not to store.
        WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN n;
    END $$;
    CREATE FUNCTION held_by(owner integer) RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT sum(a.balance)::bigint FROM accounts AS a WHERE a.owner = $1';
    SELECT cache_function('twice(integer)'), cache_function('block(integer)'), cache_function('gated(integer)'),
           cache_function('held_by(integer)', depends_on => '{\"accounts\": {\"owner\": \"$1\"}}');
    SELECT cache_track_table('accounts', '{owner}');
    -- They cost nothing, and are asked with ever new arguments: such functions would soon rest.
    SELECT set_cache_config('adaptive', 'off');";

/// A cluster with the smallest memory there is, so that entries are evicted.
pub fn cluster(name: &str) -> Result<Cluster> {
    let cluster = with_accounts(quiet(name).setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client
        .batch_execute("LOAD 'pg_query_cache'; SELECT set_config('pg_query_cache.fault_point', 'nowhere', false)")
        .context("this server's library has no fault injection: run scripts/test accidents")?;
    client.batch_execute(SUBJECTS)?;
    Ok(cluster)
}

/// How often a process has acted at `point`, by the server's log.
pub fn faults(cluster: &Cluster, point: &str) -> usize {
    cluster
        .log()
        .matches(&format!("pg_query_cache: fault at {point}: "))
        .count()
}

/// Waits until a process acts at `point` for more than the `before`th time.
pub fn wait_for_fault(cluster: &Cluster, point: &str, before: usize) -> Result<()> {
    wait_until(&format!("the fault at {point}"), PATIENCE, || {
        faults(cluster, point) > before
    })
    .with_context(|| cluster.log())
}

/// How often the server has started anew after a crash of one of its processes.
pub fn crashes(cluster: &Cluster) -> usize {
    cluster
        .log()
        .matches("all server processes terminated; reinitializing")
        .count()
}

/// Whatever has happened: three sessions get right answers, also after writes, and the cache takes and gives.
pub fn is_well(cluster: &Cluster) -> Result<()> {
    let mut clients = (0..3)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            client.batch_execute("SET statement_timeout = '240s'")?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        right(client)?;
    }
    clients[0].batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 99")?;
    for client in &mut clients {
        right(client)?;
    }
    wait_for(
        cluster,
        "the cache is used",
        "WITH before AS MATERIALIZED (SELECT hits, twice_cached(-1) + twice_cached(-1) FROM cache_stats())
         SELECT s.hits > before.hits FROM before, LATERAL (SELECT * FROM cache_stats() WHERE before IS NOT NULL) AS s",
    )?;
    ensure!(!cluster.log_contains("PANIC"), "{}", cluster.log());
    Ok(())
}

/// Compares every cached function with its base function.
pub fn right(client: &mut Client) -> Result<()> {
    answers_are_right(client)?;
    let wrong = number(
        client,
        "SELECT (SELECT count(*) FROM generate_series(-1, 12) AS i WHERE held_by(i) IS DISTINCT FROM held_by_cached(i))
              + (SELECT count(*) FROM generate_series(1, 60) AS i WHERE twice(i) IS DISTINCT FROM twice_cached(i))
              + (SELECT count(*) FROM generate_series(1, 60) AS i WHERE block(i) IS DISTINCT FROM block_cached(i))",
    )?;
    ensure!(wrong == 0, "{wrong} answers are wrong");
    Ok(())
}

/// A session that keeps `gated()` from its end, until it is dropped.
pub fn close_gate(cluster: &Cluster) -> Result<Client> {
    let mut gate = cluster.connect(DATABASE)?;
    gate.batch_execute("SELECT pg_advisory_lock(1)")?;
    Ok(gate)
}

/// Waits until a session is in `gated()`.
pub fn wait_for_computation(cluster: &Cluster) -> Result<()> {
    wait_for(
        cluster,
        "a session computes",
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%gated_cached%' AND wait_event = 'PgSleep')",
    )
}

/// What became of a statement: nothing special, an error with its SQLSTATE, or the end of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It went through.
    Done,
    /// It failed with this SQLSTATE, and the session lives.
    Failed(String),
    /// The session is over.
    Closed,
}

/// Runs statements until one fails.
pub fn run(client: &mut Client, statements: &[&str]) -> Became {
    for statement in statements {
        if let Err(error) = client.batch_execute(statement) {
            let code = error.code().map(|code| code.code().to_owned());
            return match code {
                Some(code) if !client.is_closed() && !code.starts_with("57P") => {
                    Became::Failed(code)
                }
                _ => Became::Closed,
            };
        }
    }
    Became::Done
}
