//! Step: lets results be computed anew before they are too old, in processes that are connected as the roles of the sessions that
//! asked.

use crate::compat;
use crate::server;
use crate::store::area::Area;
use crate::warming::refresher;
use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::pg_sys;
use std::cell::RefCell;

/// So many processes at the same time in a database, each for another role: one slow function does not hold up all others.
const MOST: usize = 2;

/// The processes that run.
#[derive(Default)]
pub struct Refreshing(RefCell<Vec<Refresher>>);

struct Refresher {
    role: pg_sys::Oid,
    began: i64,
    process: DynamicBackgroundWorker,
}

impl Refreshing {
    /// Starts processes for what was asked. Without a free one it is tried again at the next turn.
    #[allow(unsafe_code)]
    pub fn run(&self, area: Area) {
        let (database, requests) = (compat::database().to_u32(), area.refreshes());
        let mut running = self.0.borrow_mut();
        running.retain(|one| {
            let ended = matches!(one.process.pid(), Err(BackgroundWorkerStatus::Stopped));
            if ended {
                requests.give_up(database, Some((one.role, one.began)));
            }
            !ended
        });
        requests.give_up(database, None);
        while running.len() < MOST {
            let busy: Vec<_> = running.iter().map(|one| one.role).collect();
            let Some(role) = requests.next_role(database, &busy) else {
                break;
            };
            // SAFETY: the clock.
            let began = unsafe { server::GetCurrentTimestamp() };
            let Some(process) = refresher::start(role) else {
                break;
            };
            running.push(Refresher {
                role,
                began,
                process,
            });
        }
    }

    /// The worker leaves, and so have they to.
    pub fn stop(&self) {
        for one in self.0.take() {
            let _ = one.process.terminate().wait_for_shutdown();
        }
    }
}
