//! For each place what brings a process there.

use std::thread;

use anyhow::Result;
use pg_query_cache_cluster_tests::{DATABASE, in_background};
use pg_query_cache_harness::{Cluster, Mode};

use crate::{Became, close_gate, faults, run, wait_for_computation, wait_for_fault};

/// A way to a place.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The variant of `Point`.
    pub point: &'static str,
    /// Who gets there.
    pub who: Who,
    /// Whether an ERROR may be raised there (`point`, not `fenced`).
    pub may_fail: bool,
}

/// Who gets there, and by what.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// A session: runs `first`, then `last` in a transaction of its own in which the fault is set.
    Session {
        /// Prepares.
        first: &'static str,
        /// Gets there.
        last: &'static str,
    },
    /// A session that runs a command outside of transactions, after `first`.
    Alone {
        /// Prepares.
        first: &'static str,
        /// Gets there.
        last: &'static str,
    },
    /// A session that waits for another one, which computes.
    Waiter,
    /// The worker, once this setting has this value and `first` was run.
    Worker {
        /// Name and value.
        setting: (&'static str, &'static str),
        /// Gives it something to do.
        first: &'static str,
    },
    /// The worker, after a restart of the server, before which `first` was run.
    Restarted {
        /// Prepares.
        first: &'static str,
    },
    /// The launcher, when it has been started again and the worker has ended.
    Launcher,
    /// The postmaster, at the end of a clean shutdown.
    Stop,
    /// The postmaster, at a start after a clean shutdown.
    Start,
}

const fn at(point: &'static str, who: Who) -> Scenario {
    Scenario {
        point,
        who,
        may_fail: true,
    }
}

const fn fenced(point: &'static str, who: Who) -> Scenario {
    Scenario {
        point,
        who,
        may_fail: false,
    }
}

const WRITE: Who = session(
    "",
    "UPDATE accounts SET balance = balance + 1 WHERE id = 100",
);
const ROLL_BACK: Who = session(
    "",
    "UPDATE accounts SET balance = balance + 1 WHERE id = 100; ROLLBACK",
);
/// The first fill of a session may begin twice, when it has seen the definitions; this is about the second.
const FILL: Who = session(
    "SELECT twice_cached(nextval('keys')::integer)",
    "SELECT twice_cached(nextval('keys')::integer)",
);
/// More than memory holds.
const CROWD: &str =
    "SELECT count(*) FROM generate_series(1, 20000) AS i WHERE block_cached(i) IS NULL";
const EVICT: Who = session("", CROWD);
const SOME: &str = "SELECT count(*) FROM generate_series(1, 50) AS i WHERE twice_cached(i) IS NULL";
/// Calls that nobody has made before.
const NEW: &str = "SELECT count(*) FROM generate_series(1, 50) AS i WHERE twice_cached(nextval('keys')::integer) IS NULL";
const FLUSH: Who = session(NEW, "SELECT flush_cache()");
const FLUSH_BY_WORKER: Who = Who::Worker {
    setting: ("pg_query_cache.flush_interval", "1s"),
    first: NEW,
};
/// What the table has and memory has not, since others came after it.
const FROM_TABLE: Who = session(
    "SELECT count(*) FROM generate_series(1, 20000) AS i WHERE block_cached(i) IS NULL; SELECT flush_cache();
     SELECT count(*) FROM generate_series(20001, 40000) AS i WHERE block_cached(i) IS NULL",
    CROWD,
);
const CLEAN: Who = session(SOME, "SELECT cleanup_expired_cache()");
const CLEAN_BY_WORKER: Who = Who::Worker {
    setting: ("pg_query_cache.cleanup_interval", "1s"),
    first: SOME,
};
const NEW_TABLE: &str = "
    DROP TABLE IF EXISTS new CASCADE; CREATE TABLE new (id integer); INSERT INTO new VALUES (1);
    CREATE OR REPLACE FUNCTION new_rows() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM new';
    SELECT cache_function('new_rows()') WHERE to_regprocedure('new_rows_cached(interval)') IS NULL;";
const TRACK: Who = session(NEW_TABLE, "SELECT cache_track_table('new')");
const TRACK_BY_WORKER: Who = Who::Worker {
    setting: ("pg_query_cache.auto_track", "on"),
    first: NEW_TABLE,
};

const fn session(first: &'static str, last: &'static str) -> Who {
    Who::Session { first, last }
}

/// All ways.
pub const SCENARIOS: &[Scenario] = &[
    at("Registering", WRITE),
    fenced("SlotChanging", WRITE),
    at("Registered", WRITE),
    at("Committing", WRITE),
    fenced("Committed", WRITE),
    fenced("Withdrawing", ROLL_BACK),
    fenced("FlightStarting", FILL),
    at("FillBegins", FILL),
    at("Computed", FILL),
    at("Publishing", FILL),
    fenced("Reserved", FILL),
    fenced("Linking", FILL),
    fenced("Linked", FILL),
    fenced("FlightEnding", FILL),
    fenced("Evicting", EVICT),
    fenced("Releasing", EVICT),
    at("Waiting", Who::Waiter),
    fenced(
        "HandingOver",
        session(SOME, "SELECT hits FROM cache_stats()"),
    ),
    at("Flushing", FLUSH),
    at("Flushed", FLUSH),
    fenced("FlushCommitted", FLUSH),
    at("RowRead", FROM_TABLE),
    at("TrackingMarked", TRACK),
    at("Tracked", TRACK),
    at("CleaningTable", CLEAN),
    at("Cleaned", CLEAN),
    at(
        "Holding",
        Who::Alone {
            first: "DROP DATABASE IF EXISTS other; CREATE DATABASE other",
            last: "DROP DATABASE other",
        },
    ),
    at("Flushing", FLUSH_BY_WORKER),
    at("Flushed", FLUSH_BY_WORKER),
    fenced("FlushCommitted", FLUSH_BY_WORKER),
    at("TrackingMarked", TRACK_BY_WORKER),
    at("Tracked", TRACK_BY_WORKER),
    at("CleaningTable", CLEAN_BY_WORKER),
    at("Cleaned", CLEAN_BY_WORKER),
    at("WarmLoading", Who::Restarted { first: SOME }),
    at("Launching", Who::Launcher),
    fenced("SlotsSaving", Who::Stop),
    fenced("SlotsSaved", Who::Stop),
    fenced("SlotsRead", Who::Start),
    fenced("SlotsRemoved", Who::Start),
];

impl Scenario {
    /// Whether a session gets there.
    pub fn by_session(&self) -> bool {
        matches!(
            self.who,
            Who::Session { .. } | Who::Alone { .. } | Who::Waiter
        )
    }

    /// Whether a background process gets there.
    pub fn in_background(&self) -> bool {
        matches!(
            self.who,
            Who::Worker { .. } | Who::Restarted { .. } | Who::Launcher
        )
    }

    /// Begins: a thread in which a session gets to the place and `action` happens. For scenarios by session.
    pub fn begin(
        &self,
        cluster: &Cluster,
        action: &str,
    ) -> Result<thread::JoinHandle<(Became, pg_query_cache_harness::postgres::Client)>> {
        let mut client = cluster.connect(DATABASE)?;
        let set = |local: &str| {
            format!(
                "SET {local} pg_query_cache.fault_action = {action}; SET {local} pg_query_cache.fault_point = {}",
                self.point
            )
        };
        let (first, begin, last, end) = match self.who {
            Who::Session { first, last } => {
                (first, format!("BEGIN; {}", set("LOCAL")), last, "COMMIT")
            }
            Who::Alone { first, last } => (first, set("SESSION"), last, ""),
            Who::Waiter => (
                "SELECT setval('keys', nextval('keys') + 1)",
                format!("BEGIN; {}", set("LOCAL")),
                "SELECT gated_cached(currval('keys')::integer)",
                "COMMIT",
            ),
            _ => anyhow::bail!("{}: no session gets there", self.point),
        };
        // Commands on databases want to be alone in their message.
        for statement in statements(first, self.who) {
            client.batch_execute(statement)?;
        }
        let mut gate = None;
        let before = faults(cluster, self.point);
        if let Who::Waiter = self.who {
            gate = Some(close_gate(cluster)?);
            drop(in_background(
                cluster,
                "",
                "gated_cached((SELECT last_value FROM keys)::integer)",
            )?);
            wait_for_computation(cluster)?;
        }
        let session = thread::spawn(move || {
            let became = run(&mut client, &[begin.as_str(), last, end]);
            (became, client)
        });
        if gate.is_some() {
            wait_for_fault(cluster, self.point, before)?;
        }
        Ok(session)
    }

    /// Brings a background process to the place, and waits until `action` has happened. The fault is gone from the server's settings
    /// then, and what was set for it.
    pub fn bring_background(&self, cluster: &Cluster, action: &str) -> Result<()> {
        let before = faults(cluster, self.point);
        let first = match self.who {
            Who::Worker { first, .. } | Who::Restarted { first } => first,
            _ => "",
        };
        cluster.connect(DATABASE)?.batch_execute(first)?;
        cluster.set("pg_query_cache.fault_action", action)?;
        cluster.set("pg_query_cache.fault_point", self.point)?;
        match self.who {
            Who::Worker {
                setting: (name, value),
                ..
            } => {
                cluster.set(name, value)?;
                if name == "pg_query_cache.auto_track" {
                    // The worker may be killed, and the server start anew, before this is answered.
                    let mut client = cluster.connect(DATABASE)?;
                    // In a block, so that the call does not do it itself.
                    let _ = client.batch_execute("BEGIN; SELECT new_rows_cached(); COMMIT");
                }
            }
            Who::Restarted { .. } => {
                // The server may be down again before the restart has noticed that it is up.
                let _ = cluster.restart(Mode::Fast);
            }
            Who::Launcher => {
                cluster.connect(DATABASE)?.batch_execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_query_cache %'",
                )?;
            }
            _ => anyhow::bail!("{}: no background process gets there", self.point),
        }
        wait_for_fault(cluster, self.point, before)?;
        cluster.set("pg_query_cache.fault_point", "Nowhere")
    }

    /// Undoes what [`Self::bring_background`] has set.
    pub fn settle_background(&self, cluster: &Cluster) -> Result<()> {
        if let Who::Worker {
            setting: (name, _), ..
        } = self.who
        {
            let quiet = if name == "pg_query_cache.auto_track" {
                "off"
            } else {
                "0"
            };
            cluster.set(name, quiet)?;
        }
        Ok(())
    }
}

fn statements(text: &'static str, who: Who) -> Vec<&'static str> {
    match who {
        Who::Alone { .. } => text.split("; ").collect(),
        _ => vec![text],
    }
}
