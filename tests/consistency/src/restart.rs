//! Restarts in the middle of a run: everybody loses the connection, prepared transactions stay.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use pg_query_cache_harness::{Cluster, Mode, wait_until};

use crate::install::{self, DATABASE};
use crate::shared::Shared;

/// How long to wait for a transaction to be prepared before a restart; without one the restart is of less interest.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long readers compare while what was prepared before the restart is still pending.
const PENDING: Duration = Duration::from_millis(400);

/// Restarts the server while all sessions go on, with prepared transactions pending; they are finished later.
pub(crate) fn restart(shared: &Shared<'_>, mode: Mode, statistics: &mut Statistics) -> Result<()> {
    let cluster = shared.cluster;
    shared.hold(true);
    // Without one in time it is done all the same, and the report says so.
    drop(wait_until("a prepared transaction", PATIENCE, || {
        pending(cluster).is_ok_and(|pending| pending > 0)
    }));
    statistics.add(cluster)?;
    shared.going_away();
    cluster.restart(mode)?;
    let pending = pending(cluster)?;
    statistics.begin(cluster)?;
    shared.back();
    let before = shared.comparisons();
    thread::sleep(PENDING);
    shared.tally().restarts.push(format!(
        "{mode}, {pending} prepared transactions pending, {} comparisons until they were finished",
        shared.comparisons() - before
    ));
    shared.hold(false);
    Ok(())
}

fn pending(cluster: &Cluster) -> Result<i64> {
    let sql = "SELECT count(*) FROM pg_prepared_xacts";
    Ok(cluster.connect(DATABASE)?.query_one(sql, &[])?.try_get(0)?)
}

/// Hits, misses and bypasses over all lives of the server.
pub(crate) struct Statistics {
    before: [u64; 4],
    pub(crate) sums: [u64; 4],
}

impl Statistics {
    pub(crate) fn new(cluster: &Cluster) -> Result<Self> {
        let mut statistics = Self {
            before: [0; 4],
            sums: [0; 4],
        };
        statistics.begin(cluster)?;
        Ok(statistics)
    }

    /// The counters may begin anew with the server.
    fn begin(&mut self, cluster: &Cluster) -> Result<()> {
        self.before = install::statistics(&mut cluster.connect(DATABASE)?)?;
        Ok(())
    }

    /// Adds what was counted since the beginning.
    pub(crate) fn add(&mut self, cluster: &Cluster) -> Result<()> {
        let after = install::statistics(&mut cluster.connect(DATABASE)?)?;
        for ((sum, after), before) in self.sums.iter_mut().zip(after).zip(self.before) {
            *sum += after.saturating_sub(before);
        }
        self.before = after;
        Ok(())
    }
}
