//! Step: lets the jobs of `cache_warm_jobs` run, each in a process of its own.
//!
//! Half as many as there may be workers run at the same time in the cluster, one at least, and of one role's sessions one. Databases in
//! which one waits take turns (`store::turns`), and so do the roles in one ([`jobs::next`]). The worker is
//! woken when a transaction that queued one commits and when one has ended, and looks by itself every [`LOOK`]: a prepared transaction
//! that commits wakes nobody. Without a free process a job goes on waiting.

use super::process::{self, Started};
use crate::compat;
use crate::settings;
use crate::store::area::{Area, DatabaseState};
use crate::store::posts::{self, Duty, Order, Present};
use crate::store::turns;
use crate::warming::jobs;
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the worker looks without being asked to.
const LOOK: Duration = Duration::from_secs(30);

/// When the worker last looked.
#[derive(Default)]
pub struct Jobs {
    looked: Cell<Option<Instant>>,
}

impl Jobs {
    /// Whether there may be something to do.
    pub fn due(&self, state: &DatabaseState) -> bool {
        let asked = state.jobs.swap(0, Ordering::AcqRel) != 0;
        asked || self.looked.get().is_none_or(|last| last.elapsed() >= LOOK)
    }

    /// Closes jobs whose process is gone, and starts the next. In a transaction.
    pub fn run(&self, area: Area, state: &DatabaseState) {
        self.looked.set(Some(Instant::now()));
        let database = compat::database().to_u32();
        for (order, since) in area.posts().ended(database, Duty::Warming) {
            jobs::bury(order.job, Some(since));
        }
        let present = posts::present();
        jobs::abandoned(|id| {
            present
                .iter()
                .any(|one| one.order.database == database && one.order.job == id)
        })
        .into_iter()
        .for_each(|id| jobs::bury(id, None));

        let most = settings::warm_processes();
        let running = |present: &[Present], here: bool| -> Vec<pg_sys::Oid> {
            present
                .iter()
                .filter(|one| one.order.duty == Duty::Warming)
                .filter(|one| !here || one.order.database == database)
                .map(|one| one.order.role.into())
                .collect()
        };
        let busy = running(&present, false);
        let room = most.saturating_sub(busy.len());
        let next = jobs::next(&busy);
        // One of a role whose job runs in another database waits as well.
        match next.or_else(|| jobs::next(&running(&present, true))) {
            Some((_, session_role)) => state.waiting.note(session_role.to_u32()),
            None => state.waiting.forget(),
        }
        let ahead = turns::offer(area, database, &present, room);
        for database in &ahead {
            super::wake(area, (*database).into());
        }
        let Some((id, session_role)) = next else {
            return;
        };
        if room > 0 && ahead.len() >= room {
            state.jobs.store(1, Ordering::Release);
            return;
        }
        let order = Order {
            duty: Duty::Warming,
            database,
            role: session_role.to_u32(),
            job: id,
        };
        let started = process::start(area, order, |present| {
            let busy = running(present, false);
            busy.len() < most && !busy.contains(&session_role)
        });
        if started == Started::Comes {
            state.waiting.forget();
        }
        // There may be room for another one; and where there is none now, there will be.
        if started == Started::Comes || busy.len() < most {
            state.jobs.store(1, Ordering::Release);
        }
    }
}
