//! The aggregations that come with the extension, as an application calls them, and what its dashboard asks of the cache: each
//! statement as it is written there.

use std::path::Path;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, counters, holds, number, quiet, with_extension};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// The sample at a hundredth of its size, tracked.
fn marketplace(name: &str) -> Result<(Cluster, Client)> {
    let cluster = with_extension(quiet(name))?;
    let mut client = cluster.connect(DATABASE)?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/samples/marketplace.sql");
    client.batch_execute(&std::fs::read_to_string(sample)?)?;
    client.batch_execute(
        "SET client_min_messages = warning; SELECT marketplace.generate(0.01);
         SELECT cache_track_table(c.oid) FROM pg_class AS c
         WHERE c.relnamespace = 'marketplace'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
    )?;
    Ok((cluster, client))
}

#[test]
fn an_application_asks_for_its_aggregations() -> Result<()> {
    let (_cluster, mut client) = marketplace("marketplace-calls")?;
    for (cached, plain) in [
        (
            "get_expert_sessions_with_stats_cached(NULL, '5 minutes')",
            "get_expert_sessions_with_stats(NULL)",
        ),
        (
            "get_product_performance_cached(NULL, '15 minutes')",
            "get_product_performance(NULL)",
        ),
    ] {
        let same = format!("SELECT {cached} = {plain}");
        for _ in 0..2 {
            ensure!(holds(&mut client, &same)?, "{cached}");
        }
        // A sale, a session: the next answer has it.
        client.batch_execute(
            "UPDATE marketplace.products SET price = price + 1 WHERE id = (SELECT min(id::text)::uuid FROM marketplace.products);
             DELETE FROM marketplace.sessions WHERE id = (SELECT min(id::text)::uuid FROM marketplace.sessions)",
        )?;
        for _ in 0..2 {
            ensure!(holds(&mut client, &same)?, "{cached}");
        }
    }
    for name in [
        "get_expert_sessions_with_stats_cached",
        "get_product_performance_cached",
    ] {
        let found = counters(&mut client, name)?;
        ensure!(found.hits >= 2 && found.fills >= 1, "{name}: {found:?}");
    }
    // Each with its own argument.
    ensure!(
        number(
            &mut client,
            "SELECT count(*) FROM (SELECT id FROM marketplace.experts ORDER BY 1 LIMIT 20) AS e
             WHERE get_expert_sessions_with_stats_cached(e.id) IS DISTINCT FROM get_expert_sessions_with_stats(e.id)"
        )? == 0
    );
    Ok(())
}

#[test]
fn a_dashboard_asks_for_the_cache() -> Result<()> {
    let (_cluster, mut client) = marketplace("marketplace-dashboard")?;
    client.batch_execute(
        "SELECT get_product_performance_cached(NULL, '15 minutes') FROM generate_series(1, 5);
         SELECT flush_cache()",
    )?;
    let row = client.query_one(
        "SELECT COUNT(*), COUNT(CASE WHEN hit_count > 0 THEN 1 END), ROUND(AVG(hit_count), 2)::float8, COUNT(CASE WHEN expires_at <= NOW() THEN 1 END) FROM query_cache",
        &[],
    )?;
    let (entries, hit, average, expired): (i64, i64, f64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    ensure!(
        (entries, hit, expired) == (1, 1, 0) && (average - 4.0).abs() < 0.01,
        "{row:?}"
    );
    ensure!(
        !client
            .query("SELECT * FROM analyze_cache_health()", &[])?
            .is_empty()
    );
    ensure!(
        client
            .query("SELECT * FROM get_cache_cleanup_stats(7)", &[])?
            .len()
            == 7
    );
    client.query_one("SELECT cleanup_expired_cache()", &[])?;
    ensure!(holds(
        &mut client,
        "SELECT count(*) = 1 FROM cache_cleanup_log WHERE cleanup_time > NOW() - interval '1 minute'"
    )?);
    ensure!(holds(
        &mut client,
        "SELECT count(*) >= 15 FROM information_schema.routines WHERE routine_schema = 'public' AND routine_name LIKE '%cache%'"
    )?);
    Ok(())
}
