//! The database of a run: subject, cache, cached functions.

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use postgres::Client;

use crate::options::Cache;
use crate::subject::{HELPERS, SUBJECTS, TRACKED};

/// The database that the oracle works in.
pub(crate) const DATABASE: &str = "oracle";

const SUBJECT: &str = include_str!("../sql/subject.sql");
const CLASSICAL: &str = include_str!("../sql/classical.sql");
const NONE: &str = include_str!("../sql/none.sql");

/// Starts a cluster for the cache.
pub(crate) fn cluster(cache: Cache) -> Result<Cluster> {
    let builder = Cluster::builder(&format!("consistency-{cache}"))
        .preload(cache == Cache::Product)
        // Deadlocks that are part of the game shall not take the time of a run.
        .setting("deadlock_timeout", "400ms")
        .setting("max_wal_size", "4GB")
        .setting("synchronous_commit", "off");
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
    execute(&mut client, SUBJECT).context("installing the subject")?;
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
    Ok(())
}

fn execute(client: &mut Client, sql: &str) -> Result<()> {
    client
        .batch_execute(sql)
        .map_err(|error| anyhow::anyhow!("{sql}\n{}", crate::shared::in_full(&error)))
}

/// What the cache says about itself: hits, misses, bypasses.
pub(crate) fn statistics(client: &mut Client) -> Result<[u64; 3]> {
    let row = client.query_one(
        "SELECT hits::bigint, misses::bigint, bypasses::bigint FROM cache_stats()",
        &[],
    )?;
    let number =
        |index: usize| -> Result<u64> { Ok(u64::try_from(row.try_get::<_, i64>(index)?)?) };
    Ok([number(0)?, number(1)?, number(2)?])
}
