//! The databases of a run: subject, cache, cached functions; and the one upstream of logical replication.

use std::time::Duration;

use anyhow::{Context, Result};
use pg_query_cache_harness::{Cluster, wait_until};
use postgres::Client;

use crate::options::Cache;
use crate::subject::{HELPERS, SUBJECTS, TRACKED};

/// How long what is under way between the databases may take.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// The database that the oracle works in.
pub(crate) const DATABASE: &str = "oracle";

/// The database that logical replication brings rows from.
pub(crate) const UPSTREAM: &str = "upstream";

/// In this order: the first one gives rights on the tables of all.
const SUBJECT: &[&str] = &[
    include_str!("../sql/subject.sql"),
    include_str!("../sql/identity.sql"),
    include_str!("../sql/special.sql"),
    include_str!("../sql/mirror.sql"),
];
const UPSTREAM_TABLES: &str = include_str!("../sql/upstream.sql");
const CLASSICAL: &str = include_str!("../sql/classical.sql");
const NONE: &str = include_str!("../sql/none.sql");

/// Starts a cluster for the cache.
pub(crate) fn cluster(cache: Cache, verify: f64) -> Result<Cluster> {
    let mut builder = Cluster::builder(&format!("consistency-{cache}"))
        .preload(cache == Cache::Product)
        // Longer than DDL waits before it gives up, so that it is never taken for a part of a deadlock.
        .setting("deadlock_timeout", "1s")
        .setting("max_wal_size", "4GB")
        .setting("wal_level", "logical")
        // The subscriber comes back soon after a restart.
        .setting("wal_retrieve_retry_interval", "100ms");
    if cache == Cache::Product {
        builder = builder.setting("pg_query_cache.verify_sample_rate", verify);
    }
    builder.build()
}

/// Creates the database, the functions and their cached twins, and has everything tracked that they read.
pub(crate) fn install(cluster: &Cluster, cache: Cache) -> Result<()> {
    cluster
        .connect("postgres")?
        .batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut client = cluster.connect(DATABASE)?;
    let interface = match cache {
        Cache::Product => "CREATE EXTENSION pg_query_cache",
        Cache::Classical => CLASSICAL,
        Cache::None => NONE,
    };
    execute(&mut client, interface).context("installing the cache")?;
    for part in SUBJECT {
        execute(&mut client, part).context("installing the subject")?;
    }
    for subject in SUBJECTS {
        let depends_on = subject
            .depends_on
            .map_or(String::new(), |json| format!(", depends_on => '{json}'"));
        execute(
            &mut client,
            &format!(
                "SELECT cache_function('{}(int)'::regprocedure{depends_on})",
                subject.name
            ),
        )?;
        execute(&mut client, &subject.plpgsql_check())?;
        if subject.has_expression_check() {
            execute(&mut client, &subject.expression_check())?;
        }
    }
    for helper in HELPERS {
        execute(
            &mut client,
            &format!("SELECT cache_function('{helper}(int)'::regprocedure)"),
        )?;
    }
    if cache == Cache::Classical {
        for subject in SUBJECTS {
            for relation in subject.reads {
                let insert = format!(
                    "INSERT INTO classical_reads VALUES ('{}(int)'::regprocedure, '{relation}'::regclass)",
                    subject.name
                );
                execute(&mut client, &insert)?;
            }
        }
    }
    for (relation, columns) in TRACKED {
        let columns = if columns.is_empty() {
            String::new()
        } else {
            format!(", '{{{}}}'", columns.join(","))
        };
        execute(
            &mut client,
            &format!("SELECT cache_track_table('{relation}'::regclass{columns})"),
        )?;
    }
    subscribe(cluster, &mut client)
}

/// Connects the two databases by logical replication, prepared transactions included.
fn subscribe(cluster: &Cluster, client: &mut Client) -> Result<()> {
    execute(client, &format!("CREATE DATABASE {UPSTREAM}"))?;
    let mut upstream = cluster.connect(UPSTREAM)?;
    execute(&mut upstream, UPSTREAM_TABLES).context("installing the tables upstream")?;
    // CREATE SUBSCRIPTION would wait for itself if it made the slot in its own cluster.
    execute(
        &mut upstream,
        "SELECT pg_create_logical_replication_slot('oracle', 'pgoutput', false, true)",
    )?;
    execute(
        client,
        &format!(
            "CREATE SUBSCRIPTION oracle CONNECTION '{} dbname={UPSTREAM}' PUBLICATION upstream \
             WITH (create_slot = false, slot_name = 'oracle', copy_data = false, two_phase = true)",
            cluster.conninfo()
        ),
    )?;
    execute(
        &mut upstream,
        "INSERT INTO arrived VALUES (0);
         INSERT INTO mirrored (k, v) SELECT n % 8 + 1, n FROM generate_series(1, 32) AS n;
         INSERT INTO followed (k, v) SELECT n % 8 + 1, n FROM generate_series(1, 32) AS n;
         INSERT INTO parcels (k, part, v) SELECT n % 8 + 1, n % 3, n FROM generate_series(1, 32) AS n",
    )
}

/// Waits until everything that was committed upstream has arrived.
pub(crate) fn settle_replication(cluster: &Cluster) -> Result<()> {
    cluster
        .connect(UPSTREAM)?
        .batch_execute("UPDATE arrived SET n = n + 1")?;
    let number = "SELECT n FROM arrived";
    let wanted: i64 = cluster
        .connect(UPSTREAM)?
        .query_one(number, &[])?
        .try_get(0)?;
    let mut client = cluster.connect(DATABASE)?;
    wait_until("replication has caught up", CATCHING_UP, || {
        client
            .query_opt(number, &[])
            .is_ok_and(|row| row.is_some_and(|row| row.get::<_, i64>(0) == wanted))
    })
}

fn execute(client: &mut Client, sql: &str) -> Result<()> {
    client
        .batch_execute(sql)
        .map_err(|error| anyhow::anyhow!("{sql}\n{}", crate::shared::in_full(&error)))
}

/// What the cache says about itself: hits, misses, bypasses, hits that it verified.
pub(crate) fn statistics(client: &mut Client) -> Result<[u64; 4]> {
    let row = client.query_one(
        "SELECT hits::bigint, misses::bigint, bypasses::bigint, COALESCE((to_jsonb(s) ->> 'verified')::bigint, 0)
         FROM cache_stats() AS s",
        &[],
    )?;
    let number =
        |index: usize| -> Result<u64> { Ok(u64::try_from(row.try_get::<_, i64>(index)?)?) };
    Ok([number(0)?, number(1)?, number(2)?, number(3)?])
}
