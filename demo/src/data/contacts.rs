//! The contacts of sql/samples.

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::{Client, NoTls};

use crate::screen::Progress;
use crate::{DATABASE, SUPERUSER};

/// Tables, functions, generator.
const SCHEMA: &str = include_str!("../../../sql/samples/contacts.sql");

/// The size at which there are a thousand enterprises; more are not shown, since their summaries are to fit into the memory.
const FULL: f64 = 1.0;

/// Whether the data of this scale is there.
pub(crate) fn loaded(client: &mut Client, scale: f64) -> Result<bool> {
    let exists: bool = client
        .query_one("SELECT to_regclass('contacts.contacts') IS NOT NULL", &[])?
        .get(0);
    if !exists {
        return Ok(false);
    }
    let departments: i64 = client
        .query_one("SELECT count(*) FROM contacts.departments", &[])?
        .get(0);
    Ok(departments == (10_000.0 * scale.min(FULL)).round() as i64)
}

/// Makes the schema and its data; the generator's own notices are the progress.
pub(crate) fn load(cluster: &Cluster, scale: f64, progress: &Progress) -> Result<()> {
    progress.now("contacts: tables and functions");
    let mut config = cluster.config(DATABASE, SUPERUSER);
    let line = progress.clone();
    config.notice_callback(move |notice| line.now(format!("contacts: made {}", notice.message())));
    let mut client = config.connect(NoTls)?;
    client
        .batch_execute(SCHEMA)
        .context("sql/samples/contacts.sql")?;
    progress.now("contacts: enterprises");
    client
        .batch_execute(&format!("SELECT contacts.generate({})", scale.min(FULL)))
        .context("contacts.generate")?;
    progress.now("contacts: statistics");
    for table in ["enterprises", "departments", "employees", "contacts"] {
        client.batch_execute(&format!("VACUUM (ANALYZE) contacts.{table}"))?;
    }
    Ok(())
}
