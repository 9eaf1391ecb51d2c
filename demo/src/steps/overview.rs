//! What an administrator looks at.

use anyhow::{Context, Result};

use crate::steps::TO_TRY;
use crate::tour::{Tour, ask};

/// Statistics, entries, health, functions.
pub(crate) fn look(tour: &mut Tour<'_>) -> Result<()> {
    tour.pairs("SELECT * FROM cache_stats()")?;
    let inside = ask(
        &mut tour.client,
        "SELECT entries > 0 AND memory_bytes BETWEEN 1 AND memory_limit_bytes FROM cache_stats()",
    )?;
    tour.screen.expect(
        "there are entries, and they are within the memory that was given",
        "t",
        &inside,
    );

    let entries = tour.table(
        "SELECT function, hit_count, size_bytes, cost_ms, saved_ms FROM get_top_cache_entries(5)",
    )?;
    tour.screen.check(
        "the most used entries",
        (1..=5).contains(&entries),
        "1 to 5",
        entries,
    );

    let findings = tour.table("SELECT * FROM analyze_cache_health()")?;
    tour.screen.check(
        "the health check has findings",
        findings > 0,
        "some",
        findings,
    );

    let functions = tour.table("SELECT function, class, scope FROM cached_functions")?;
    tour.screen.check(
        "every cached function is listed",
        functions >= 6,
        "6 or more",
        functions,
    );

    for statement in TO_TRY {
        tour.client.batch_execute(statement).context(statement)?;
    }
    Ok(())
}
