//! Upkeep by pg_cron: the jobs that the operations page proposes, run by a role that maintains the cache and is nobody special otherwise.

use std::time::Duration;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{ACCOUNTS, DATABASE, answers_are_right, holds, quiet};
use pg_query_cache_harness::{Cluster, wait_until};

/// pg_cron starts jobs at full minutes.
const PATIENCE: Duration = Duration::from_secs(240);

const JOBS: &[(&str, &str)] = &[
    ("clean up", "SELECT public.cleanup_expired_cache()"),
    ("write", "SELECT public.flush_cache()"),
    (
        "statistics",
        "SELECT * FROM public.get_cache_cleanup_stats(7)",
    ),
    ("invalidate", "SELECT public.invalidate_cache('{nightly}')"),
    ("health", "SELECT * FROM public.analyze_cache_health()"),
];

#[test]
fn jobs_maintain_the_cache() -> Result<()> {
    let cluster: Cluster = quiet("pg_cron")
        .setting("shared_preload_libraries", "pg_cron,pg_query_cache")
        .setting("cron.database_name", DATABASE)
        .setting("cron.use_background_workers", "on")
        .build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE EXTENSION pg_query_cache; CREATE EXTENSION pg_cron; CREATE ROLE keeper LOGIN;
         SELECT grant_cache_access(admin_role => 'keeper'); GRANT USAGE ON SCHEMA cron TO keeper;",
    )?;
    client.batch_execute(ACCOUNTS)?;
    answers_are_right(&mut client)?;
    // Written since: the clean-up has something to remove. One result that is right: there is something to write.
    client.batch_execute("UPDATE accounts SET balance = balance + 1")?;
    client.batch_execute("SELECT total_cached()")?;
    let mut keeper = cluster.connect_as(DATABASE, "keeper")?;
    for (name, command) in JOBS {
        keeper.execute(
            "SELECT cron.schedule($1, '* * * * *', $2)",
            &[name, command],
        )?;
    }
    keeper.execute("SELECT cron.schedule('not theirs', '* * * * *', 'SELECT * FROM cron.job, public.grant_cache_access(''keeper'')')", &[])?;
    let ended = format!(
        "SELECT count(DISTINCT jobid) = {} FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')",
        JOBS.len() + 1
    );
    wait_until("the jobs have run", PATIENCE, || {
        cluster
            .connect(DATABASE)
            .and_then(|mut client| holds(&mut client, &ended))
            .unwrap_or(false)
    })?;
    for row in client.query(
        "SELECT j.jobname, d.status, coalesce(d.return_message, '') FROM cron.job_run_details AS d JOIN cron.job AS j USING (jobid)",
        &[],
    )? {
        let (job, status, message): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let expected = if job == "not theirs" { "failed" } else { "succeeded" };
        ensure!(status == expected, "{job}: {status}, {message}");
    }
    ensure!(holds(
        &mut client,
        "SELECT sum(dead_entries) > 0 FROM cache_cleanup_log WHERE removed_by = 'keeper'"
    )?);
    ensure!(holds(&mut client, "SELECT count(*) > 0 FROM query_cache")?);
    answers_are_right(&mut client)?;
    Ok(())
}
