//! Watches that writers never wait for those who only read.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::comparison::Session;
use crate::shared::{Role, Shared};

/// Writers that wait for a lock of a reader. DDL may: it does so without any cache. Advisory locks are the oracle's
/// own guard. The text of a query is read a moment before its wait, so it can be that of the one before, which locks nothing.
const WAITS: &str = "
    SELECT format('%s waits for %s (%s): %s / %s', w.application_name, r.application_name, w.wait_event,
                  left(w.query, 60), left(r.query, 60))
    FROM pg_stat_activity w CROSS JOIN unnest(pg_blocking_pids(w.pid)) AS blocker JOIN pg_stat_activity r ON r.pid = blocker
    WHERE w.wait_event_type = 'Lock' AND w.wait_event <> 'advisory' AND w.application_name LIKE 'oracle writer%' AND r.application_name LIKE 'oracle reader%'
        AND w.query !~* '^\\s*(rollback|begin|set|do .* alter|do .* create|alter|truncate|refresh|create|drop|select pg_advisory)'";

/// Looks again and again until the run is over.
pub(crate) fn watch(shared: &Shared<'_>) -> Result<()> {
    let mut session = Session::new(shared, "monitor".to_owned(), "")?;
    while !shared.stopped() {
        match session.client.query(WAITS, &[]) {
            Ok(rows) => {
                for row in rows {
                    shared.waited(row.try_get(0)?);
                }
            }
            Err(error) => shared.recover(Role::Reader, "watching", &error, &mut session)?,
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
