//! What is done under a lock has a bound (`src/store/locks.rs` of the extension): this library counts, and ends the process that did more
//! or asked for memory there. Here the cases in which there is most to do.

use anyhow::{Result, ensure};
use pg_query_cache_accidents::{cluster, crashes, is_well};
use pg_query_cache_cluster_tests::{DATABASE, number};
use pg_query_cache_harness::Cluster;

/// Nobody did too much.
fn kept_to_the_bounds(cluster: &Cluster) -> Result<()> {
    ensure!(
        crashes(cluster) == 0 && !cluster.log_contains("too much was done under a lock"),
        "{}",
        cluster.log()
    );
    is_well(cluster)
}

/// Fills memory with small results, each asked for twice, so that eviction would spare all of them.
const FULL: &str = "
    SELECT count(twice_cached(i) + twice_cached(i)) FROM generate_series(1, 30000) AS i;
    SELECT entries FROM cache_stats();
    SELECT count(twice_cached(i)) FROM generate_series(10000, 30000) AS i;";

#[test]
fn a_large_result_among_small_ones() -> Result<()> {
    let cluster = cluster("locks-large")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION large(n integer, bytes integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT rpad(n::text, bytes, 'x')$$;
         SELECT cache_function('large(integer,integer)')",
    )?;
    for round in 0..3 {
        client.batch_execute(FULL)?;
        for bytes in [600_000, 3_000, 900_000] {
            let call = format!("SELECT length(large_cached({round}, {bytes}))");
            ensure!(number(&mut client, &format!("{call}::bigint"))? == bytes);
            ensure!(number(&mut client, &format!("{call}::bigint"))? == bytes);
        }
        // Small ones among the large ones, which lie in many pieces by now.
        client.batch_execute(FULL)?;
    }
    let stored = number(
        &mut client,
        "SELECT fills FROM cache_function_stats WHERE function::text LIKE 'large%'",
    )?;
    ensure!(stored == 9, "{stored} of the large results were stored");
    kept_to_the_bounds(&cluster)
}

#[test]
fn everything_looks_through_all_entries() -> Result<()> {
    let cluster = cluster("locks-walks")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(FULL)?;
    client.batch_execute(
        "SELECT cache_set('k' || i, to_jsonb(i)) FROM generate_series(1, 2000) AS i;
         SELECT count(cache_get('k' || i)) FROM generate_series(1, 2000) AS i;
         SELECT count(*) FROM get_top_cache_entries(1000000);
         SELECT count(*) FROM analyze_cache_health();
         SELECT flush_cache();
         SELECT invalidate_cache('{some,names}');
         SELECT cleanup_expired_cache();
         SELECT set_cache_config('max_entries', '10')",
    )?;
    client.batch_execute(FULL)?;
    client.batch_execute(
        "SELECT set_cache_config('max_entries', '0');
         SELECT clear_cache();
         SELECT cleanup_expired_cache()",
    )?;
    kept_to_the_bounds(&cluster)
}

#[test]
fn all_flights_of_a_session_are_taken() -> Result<()> {
    let cluster = cluster("locks-flights")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "BEGIN; SELECT count(cache_remember('k' || i, 'SELECT 1')) FROM generate_series(1, 300) AS i; COMMIT",
    )?;
    kept_to_the_bounds(&cluster)
}
