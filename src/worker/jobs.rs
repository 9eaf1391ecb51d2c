//! Step: lets the jobs of `cache_warm_jobs` run, one at a time, each in a process of its own.
//!
//! The worker is woken when a transaction that queued one commits, and looks by itself every [`LOOK`]: a prepared transaction that
//! commits wakes nobody. Without a free worker process a job goes on waiting.

use crate::store::area::DatabaseState;
use crate::warming::{jobs, runner};
use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the worker looks without being asked to.
const LOOK: Duration = Duration::from_secs(30);

/// The job that runs, if one does.
#[derive(Default)]
pub struct Jobs {
    running: RefCell<Option<(i64, DynamicBackgroundWorker)>>,
    looked: Cell<Option<Instant>>,
}

impl Jobs {
    /// Whether there may be something to do.
    pub fn due(&self, state: &DatabaseState) -> bool {
        let asked = state.jobs.swap(0, Ordering::AcqRel) != 0;
        asked
            || self.running.borrow().is_some()
            || self.looked.get().is_none_or(|last| last.elapsed() >= LOOK)
    }

    /// Starts the next job once the last one is over. In a transaction.
    pub fn run(&self, state: &DatabaseState) {
        let first = self.looked.replace(Some(Instant::now())).is_none();
        let running = self.running.take();
        if let Some((id, process)) = running {
            if !matches!(process.pid(), Err(BackgroundWorkerStatus::Stopped)) {
                self.running.replace(Some((id, process)));
                return;
            }
            jobs::bury(id);
        }
        if first {
            jobs::abandoned().into_iter().for_each(jobs::bury);
        }
        if let Some((id, session_role)) = jobs::next() {
            match runner::start(id, session_role) {
                Some(process) => drop(self.running.replace(Some((id, process)))),
                None => state.jobs.store(1, Ordering::Release),
            }
        }
    }

    /// The worker leaves, and so has to the process that runs a job.
    pub fn stop(&self) {
        if let Some((_, process)) = self.running.take() {
            let _ = process.terminate().wait_for_shutdown();
        }
    }
}
