//! The marketplace of sql/samples.

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::{Client, NoTls};

use crate::screen::Progress;
use crate::{DATABASE, SUPERUSER};

/// Tables, functions, generator.
const SCHEMA: &str = include_str!("../../../sql/samples/marketplace.sql");

/// Whether the data of this scale is there.
pub(crate) fn loaded(client: &mut Client, scale: f64) -> Result<bool> {
    let exists: bool = client
        .query_one(
            "SELECT to_regclass('marketplace.sessions') IS NOT NULL",
            &[],
        )?
        .get(0);
    if !exists {
        return Ok(false);
    }
    let sessions: i64 = client
        .query_one("SELECT count(*) FROM marketplace.sessions", &[])?
        .get(0);
    Ok(sessions == (500_000.0 * scale).round() as i64)
}

/// Makes the schema and its data; the generator's own notices are the progress.
pub(crate) fn load(cluster: &Cluster, scale: f64, progress: &Progress) -> Result<()> {
    progress.now("marketplace: tables and functions");
    let mut config = cluster.config(DATABASE, SUPERUSER);
    let line = progress.clone();
    config
        .notice_callback(move |notice| line.now(format!("marketplace: made {}", notice.message())));
    let mut client = config.connect(NoTls)?;
    client
        .batch_execute(SCHEMA)
        .context("sql/samples/marketplace.sql")?;
    progress.now("marketplace: sessions");
    client
        .batch_execute(&format!("SELECT marketplace.generate({scale})"))
        .context("marketplace.generate")?;
    progress.now("marketplace: statistics");
    for table in [
        "experts", "sessions", "bookings", "reviews", "products", "orders",
    ] {
        client.batch_execute(&format!("VACUUM (ANALYZE) marketplace.{table}"))?;
    }
    Ok(())
}
