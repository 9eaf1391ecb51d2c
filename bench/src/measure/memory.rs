//! What an entry takes of the shared memory beyond its value, all included: the area is filled until something has to go.

use anyhow::{Result, ensure};

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::Sample;
use crate::server::{self, DATABASE, ask, total};

/// Bytes of a value as it is stored.
const VALUE: u32 = 1024;

/// A value of that size that depends on a table.
const EXACT: &str = "
    CREATE EXTENSION pg_query_cache;
    CREATE TABLE titles (id int PRIMARY KEY, title text NOT NULL);
    INSERT INTO titles SELECT i, 'title ' || i FROM generate_series(0, 99) i;
    CREATE FUNCTION exact(k int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN (SELECT to_jsonb(rpad(title, 1012, 'x')) FROM titles WHERE id = k % 100); END $$;
    SELECT cache_function('exact(int)', ttl => '1 day'), cache_track_table('titles');";

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut figures = Vec::new();
    for (memory, megabytes) in [("64MB", 64), ("1GB", 1024)] {
        if options.quick && megabytes > 64 {
            continue;
        }
        let cluster = server::start_with(
            "bench",
            &[
                ("pg_query_cache.memory", memory),
                ("pg_query_cache.flush_interval", "0"),
            ],
        )?;
        server::create_database(&cluster, DATABASE, &[EXACT])?;
        let mut client = cluster.connect(DATABASE)?;
        let stored: u32 = ask(&mut client, "SELECT pg_column_size(exact(1))")?.parse()?;
        ensure!(
            stored == VALUE,
            "the values have {stored} bytes, not {VALUE}"
        );
        // As many as would fit if nothing but values were stored.
        let calls = megabytes * 1024;
        client.batch_execute(&format!(
            "SELECT count(exact_cached(k)) FROM generate_series(1, {calls}) k"
        ))?;
        let evictions = total(&mut client, "evictions")?;
        ensure!(evictions > 0.0, "{calls} entries do not fill {memory}");
        let area: f64 = ask(
            &mut client,
            "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'pg_query_cache%'",
        )?
        .parse()?;
        let entries = total(&mut client, "entries")?;
        let overhead = area / entries - f64::from(VALUE);
        figures.push(Figure::new(
            format!("entries, {memory}"),
            &Sample::of(vec![entries]),
            Unit::Count,
        ));
        let figure = Figure::new(
            format!("bytes of the area ÷ entries, less the value, {memory}"),
            &Sample::of(vec![overhead]),
            Unit::Bytes,
        );
        figures.push(figure.goal(Goal::AtMost(256.0)));
    }
    Ok(vec![Section::new(
        "Memory: full of entries of 1,024 bytes",
        figures,
    )])
}
