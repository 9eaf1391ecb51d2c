//! What the sessions of a run share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use pg_query_cache_harness::Cluster;
use postgres::Client;
use postgres::error::{DbError, SqlState};

use crate::comparison::Session;
use crate::invariants::ordinary_deadlock;
use crate::operations;
use crate::options::Options;
use crate::report::{Difference, Report};
use crate::subject::BEACON;

/// How many violations, errors and waits are kept word for word.
const EXAMPLES: usize = 12;

/// How many violations of one invariant by one function are kept.
const EXAMPLES_ALIKE: usize = 2;

/// What ends a transaction in ordinary life, by SQLSTATE, for sessions that write.
const EXPECTED_OF_WRITERS: &[SqlState] = &[
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::LOCK_NOT_AVAILABLE,
    // By statement_timeout, which DETACH CONCURRENTLY has.
    SqlState::QUERY_CANCELED,
    SqlState::UNIQUE_VIOLATION,
    SqlState::FOREIGN_KEY_VIOLATION,
];

/// The same for sessions that read.
const EXPECTED_OF_READERS: &[SqlState] = &[
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::LOCK_NOT_AVAILABLE,
];

/// Kinds of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    Writer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
        }
    }
}

/// The run: where it happens, when it ends, what it found.
pub(crate) struct Shared<'c> {
    pub(crate) cluster: &'c Cluster,
    pub(crate) options: &'c Options,
    stop: AtomicBool,
    /// The server is being restarted.
    away: AtomicBool,
    /// How many restarts have begun.
    epoch: AtomicU64,
    /// Prepared transactions are to stay as they are for a while.
    holding: AtomicBool,
    acknowledged: Vec<AtomicI64>,
    comparisons: AtomicU64,
    differences: AtomicU64,
    tally: Mutex<Report>,
}

impl<'c> Shared<'c> {
    pub(crate) fn new(cluster: &'c Cluster, options: &'c Options) -> Self {
        Self {
            cluster,
            options,
            stop: AtomicBool::new(false),
            away: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            holding: AtomicBool::new(false),
            acknowledged: (BEACON.keys.0..=BEACON.keys.1)
                .map(|_| AtomicI64::new(0))
                .collect(),
            comparisons: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            tally: Mutex::new(Report::about(options)),
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether prepared transactions are to stay as they are.
    pub(crate) fn holding(&self) -> bool {
        self.holding.load(Ordering::SeqCst)
    }

    pub(crate) fn hold(&self, holding: bool) {
        self.holding.store(holding, Ordering::SeqCst);
    }

    /// How many restarts have begun.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// From here on sessions lose their connections without anybody wondering.
    pub(crate) fn going_away(&self) {
        self.away.store(true, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The server is there again.
    pub(crate) fn back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    /// Connects, as soon as the server is there, and says in which epoch that was.
    pub(crate) fn connect(
        &self,
        database: &str,
        name: &str,
        settings: &str,
    ) -> anyhow::Result<(Client, u64)> {
        let mut config = self.cluster.config(database, "postgres");
        config.application_name(&format!("oracle {name}"));
        loop {
            while self.away.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            let epoch = self.epoch();
            let connected = config.connect(postgres::NoTls).and_then(|mut client| {
                client.batch_execute(settings)?;
                Ok(client)
            });
            match connected {
                Ok(client) => return Ok((client, epoch)),
                // The next restart has begun meanwhile.
                Err(_) if epoch < self.epoch() => {}
                Err(error) => return Err(error).context("cannot connect"),
            }
        }
    }

    /// Counts a transaction that was tried.
    pub(crate) fn tried(&self, role: Role) {
        let mut tally = self.tally();
        let (readers, writers) = &mut tally.transactions;
        *(if role == Role::Reader {
            readers
        } else {
            writers
        }) += 1;
    }

    pub(crate) fn comparisons(&self) -> u64 {
        self.comparisons.load(Ordering::Relaxed)
    }

    pub(crate) fn differences(&self) -> u64 {
        self.differences.load(Ordering::Relaxed)
    }

    /// The tally, for whoever wants to add to it.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Report> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts compared answers.
    pub(crate) fn compared(&self, mode: &str, count: usize) {
        let count = count as u64;
        self.comparisons.fetch_add(count, Ordering::Relaxed);
        *self.tally().by_mode.entry(mode.to_owned()).or_default() += count;
    }

    /// Records a violation.
    pub(crate) fn differs(&self, difference: Difference) {
        self.differences.fetch_add(1, Ordering::Relaxed);
        let mut tally = self.tally();
        *tally
            .by_invariant
            .entry(difference.invariant.to_owned())
            .or_default() += 1;
        *tally
            .by_subject
            .entry(difference.subject.to_owned())
            .or_default() += 1;
        // One of each kind rather than many of the first.
        let alike = |other: &&Difference| {
            other.invariant == difference.invariant && other.subject == difference.subject
        };
        let alike = tally.examples.iter().filter(alike).count();
        if alike < EXAMPLES_ALIKE && tally.examples.len() < EXAMPLES {
            tally.examples.push(difference);
        }
    }

    /// Records a writer's wait for a reader.
    pub(crate) fn waited(&self, what: String) {
        let mut tally = self.tally();
        tally.writers_waiting_for_readers += 1;
        if tally.waits.len() < EXAMPLES && !tally.waits.contains(&what) {
            tally.waits.push(what);
        }
    }

    /// The next call in any session must see this version.
    pub(crate) fn acknowledge(&self, beacon: i32, version: i64) {
        if let Some(known) = self.beacon(beacon) {
            known.fetch_max(version, Ordering::SeqCst);
        }
    }

    /// The versions acknowledged by now.
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        Acknowledged(
            self.acknowledged
                .iter()
                .map(|version| version.load(Ordering::SeqCst))
                .collect(),
        )
    }

    fn beacon(&self, key: i32) -> Option<&AtomicI64> {
        self.acknowledged
            .get(usize::try_from(key - BEACON.keys.0).ok()?)
    }

    /// Counts an error, and makes the session usable again; an error if that is impossible.
    pub(crate) fn recover(
        &self,
        role: Role,
        doing: &str,
        error: &postgres::Error,
        session: &mut Session,
    ) -> anyhow::Result<()> {
        if lost(error) && session.outlived(self) {
            return session.renew(self);
        }
        if let Some(found) = found_by_trigger(error) {
            self.differs(Difference {
                invariant: "differs inside a trigger",
                subject: "routed_state",
                key: 0,
                session: format!("{} ({doing})", session.name),
                statement: String::new(),
                bare: None,
                cached: None,
                remark: found,
            });
            return session.reset(self);
        }
        let state = error.code().map_or("lost", SqlState::code);
        let expected = match role {
            Role::Reader => EXPECTED_OF_READERS,
            Role::Writer => EXPECTED_OF_WRITERS,
        };
        let mut tally = self.tally();
        let report = &mut *tally;
        *report
            .errors
            .entry(format!("{} {state}", role.name()))
            .or_default() += 1;
        let pair = match error.code() {
            Some(code) if *code == SqlState::T_R_DEADLOCK_DETECTED => Some(&mut report.deadlocks),
            Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE => {
                Some(&mut report.serialization_failures)
            }
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Some(&mut report.lock_timeouts),
            _ => None,
        };
        if let Some((readers, writers)) = pair {
            *(if role == Role::Reader {
                readers
            } else {
                writers
            }) += 1;
        }
        if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) {
            let server = error.as_db_error();
            let part = |part: Option<&'_ str>| part.unwrap_or_default().to_owned();
            let detail = part(server.and_then(DbError::detail));
            let context = part(server.and_then(DbError::where_));
            let story = format!("{} doing {doing}: {}", role.name(), in_full(error));
            if !ordinary_deadlock(&detail, &context) {
                report.foreign_deadlocks += 1;
                report.deadlock_stories.insert(0, story);
            } else {
                report.deadlock_stories.push(story);
            }
            report.deadlock_stories.truncate(EXAMPLES);
        }
        if !error.code().is_some_and(|code| expected.contains(code)) {
            report.unexpected_errors += 1;
            if report.unexpected.len() < EXAMPLES {
                report.unexpected.push(format!(
                    "{} doing {doing}: {}",
                    role.name(),
                    in_full(error)
                ));
            }
        }
        drop(tally);
        session.reset(self)
    }

    /// Kinds of write that have not been committed yet.
    pub(crate) fn never_committed(&self) -> Vec<String> {
        let tally = self.tally();
        let missing = operations::all()
            .map(|operation| operation.name.to_owned())
            .filter(|name| {
                !tally.committed.contains_key(name) && !self.options.skip.contains(name)
            });
        missing.collect()
    }

    pub(crate) fn into_report(self) -> Report {
        let never_committed = self.never_committed();
        let (comparisons, differences) = (self.comparisons(), self.differences());
        let report = self
            .tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Report {
            comparisons,
            differences,
            never_committed,
            ..report
        }
    }
}

/// The versions that had been acknowledged at some moment.
pub(crate) struct Acknowledged(Vec<i64>);

impl Acknowledged {
    pub(crate) fn version(&self, key: i32) -> i64 {
        usize::try_from(key - BEACON.keys.0)
            .ok()
            .and_then(|index| self.0.get(index).copied())
            .unwrap_or(0)
    }
}

/// Whether an error may be the end of the connection.
pub(crate) fn lost(error: &postgres::Error) -> bool {
    error.is_closed()
        || error.code().is_none_or(|code| {
            [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
            ]
            .contains(code)
        })
}

/// What a trigger of the subject says that compares answers on its own.
fn found_by_trigger(error: &postgres::Error) -> Option<String> {
    (error.code()?.code() == "OR001").then(|| in_full(error))
}

/// An error with everything that the server said about it.
pub(crate) fn in_full(error: &postgres::Error) -> String {
    let Some(server) = error.as_db_error() else {
        return error.to_string();
    };
    let mut text = format!("{}: {}", server.code().code(), server.message());
    for (name, part) in [
        ("detail", server.detail()),
        ("hint", server.hint()),
        ("where", server.where_()),
    ] {
        if let Some(part) = part {
            text.push_str(&format!("; {name}: {part}"));
        }
    }
    text
}
