//! Sessions that write, and the one that ends their prepared transactions.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use postgres::Client;
use postgres::error::SqlState;

use crate::comparison::{Seen, Session, Way};
use crate::operations::{Company, Step};
use crate::plan::{Ending, Question, Writing};
use crate::rng::Rng;
use crate::shared::{Role, Shared, lost};
use crate::subject::{BEACON, LOCK_GUARD_EXCLUSIVELY, SUBJECTS, Subject};

/// A transaction that waits for its second phase.
pub(crate) struct Prepared {
    name: String,
    due: Instant,
    commit: bool,
    /// The beacon and its version, if the transaction lit it.
    beacon: Option<(i32, i64)>,
    operations: Vec<&'static str>,
    /// The connection was lost at a moment when nobody can tell whether it was done already.
    perhaps: bool,
}

/// Writes until the run is over.
pub(crate) fn write(shared: &Shared<'_>, index: u64, prepared: &Sender<Prepared>) -> Result<()> {
    let mut rng = Rng::new(shared.options.seed, 2000 + index);
    let mut session = Session::new(shared, format!("writer {index}"), "SET lock_timeout = '3s'")?;
    let mut writer = Writer {
        shared,
        session: &mut session,
        prepared,
        rng: Rng::new(shared.options.seed, 3000 + index),
        beacon: i32::try_from(index)
            .ok()
            .map(|index| index + BEACON.keys.0)
            .filter(|key| *key <= BEACON.keys.1),
        version: 0,
        transactions: 0,
    };
    while !shared.stopped() {
        let writing = Writing::next(&mut rng, &shared.options.skip);
        let names: Vec<&str> = writing
            .operations
            .iter()
            .map(|operation| operation.name)
            .collect();
        shared.tried(Role::Writer);
        if let Err(error) = writer.transact(&writing) {
            shared.recover(Role::Writer, &names.join(" + "), &error, writer.session)?;
        }
        thread::sleep(writing.pause);
    }
    Ok(())
}

struct Writer<'w, 'c> {
    shared: &'w Shared<'c>,
    session: &'w mut Session,
    prepared: &'w Sender<Prepared>,
    /// Chooses what is checked; apart from the plans, which must not depend on what happens.
    rng: Rng,
    beacon: Option<i32>,
    version: i64,
    transactions: u64,
}

impl Writer<'_, '_> {
    fn transact(&mut self, writing: &Writing) -> Result<(), postgres::Error> {
        self.transactions += 1;
        if writing.outside {
            return self.outside(writing);
        }
        self.session
            .client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {}", writing.isolation))?;
        if writing
            .operations
            .iter()
            .any(|operation| operation.company != Company::Any)
        {
            // Rather gives up than makes a long queue, or a deadlock with a reader in a transaction.
            self.session
                .client
                .batch_execute("SET LOCAL lock_timeout = '200ms'")?;
        }
        if writing.guarded {
            self.session.client.batch_execute(LOCK_GUARD_EXCLUSIVELY)?;
        }
        let mut lit = None;
        for step in &writing.steps {
            match step {
                Step::Sql(sql) => self.session.client.batch_execute(sql)?,
                Step::Copy(statement, lines) => copy(&mut self.session.client, statement, lines)?,
                Step::Beacon => lit = self.light()?,
                Step::DetachConcurrently => {}
                Step::Check => self.check(writing, "own writes", "inside the transaction")?,
                Step::Pause(time) => thread::sleep(*time),
            }
        }
        let operations: Vec<&'static str> = writing
            .operations
            .iter()
            .map(|operation| operation.name)
            .collect();
        match writing.ending {
            Ending::Commit => {
                self.session.client.batch_execute("COMMIT")?;
                committed(self.shared, &operations, lit);
            }
            Ending::Rollback => self.session.client.batch_execute("ROLLBACK")?,
            Ending::PrepareCommit(later) | Ending::PrepareRollback(later) => {
                let name = format!("{} {}", self.session.name, self.transactions);
                let done = self
                    .session
                    .client
                    .batch_execute(&format!("PREPARE TRANSACTION '{name}'"));
                let perhaps = done.as_ref().is_err_and(lost);
                if !perhaps {
                    done?;
                }
                let commit = matches!(writing.ending, Ending::PrepareCommit(_));
                let prepared = Prepared {
                    name,
                    due: Instant::now() + later,
                    commit,
                    beacon: lit,
                    operations,
                    perhaps,
                };
                // The other side ends after all writers, so somebody is there to take it.
                drop(self.prepared.send(prepared));
            }
        }
        let ending = format!("after {:?}", writing.ending);
        if self.rng.chance(50) {
            self.check(writing, "after own transaction", &ending)
        } else {
            Ok(())
        }
    }

    /// Commands that make their own transactions, behind the guard.
    fn outside(&mut self, writing: &Writing) -> Result<(), postgres::Error> {
        let client = &mut self.session.client;
        // Not lock_timeout, which would begin anew with each transaction that a command waits for.
        client.batch_execute("SET statement_timeout = '500ms'")?;
        let done = reshape(client);
        let left = client.batch_execute("SELECT pg_advisory_unlock_all(); RESET statement_timeout");
        done?;
        left?;
        let operations: Vec<&str> = writing
            .operations
            .iter()
            .map(|operation| operation.name)
            .collect();
        committed(self.shared, &operations, None);
        self.check(writing, "after own transaction", "in no transaction block")
    }

    fn light(&mut self) -> Result<Option<(i32, i64)>, postgres::Error> {
        let Some(beacon) = self.beacon else {
            return Ok(None);
        };
        self.version += 1;
        let version = self.version;
        self.session.client.batch_execute(&format!(
            "UPDATE beacons SET version = {version} WHERE id = {beacon}"
        ))?;
        Ok(Some((beacon, version)))
    }

    /// Compares some of what the transaction may have changed, and one thing more.
    fn check(
        &mut self,
        writing: &Writing,
        mode: &str,
        context: &str,
    ) -> Result<(), postgres::Error> {
        let touched: Vec<&'static Subject> = writing.touches().collect();
        let mut subjects = vec![
            *self.rng.pick(&touched),
            *self.rng.pick(&touched),
            self.rng.pick(SUBJECTS),
        ];
        subjects.dedup_by_key(|subject| subject.name);
        let operations: Vec<&str> = writing
            .operations
            .iter()
            .map(|operation| operation.name)
            .collect();
        let context = format!("{context}, {}", operations.join(" + "));
        for subject in subjects {
            let question = Question::whole(subject);
            let rows = self.session.ask(&question, Way::Prepared)?;
            let seen = Seen {
                question: &question,
                mode,
                context: &context,
                rows: &rows,
                whole: true,
                acknowledged: None,
                remark: "",
            };
            self.session.examine(self.shared, &seen);
        }
        Ok(())
    }
}

/// The next step in the life of a partition that comes and goes. DETACH CONCURRENTLY may have given up on its way.
fn reshape(client: &mut Client) -> Result<(), postgres::Error> {
    client.batch_execute("SELECT pg_advisory_lock(1)")?;
    let pending = client.query_opt(
        "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'shelves_1'::regclass",
        &[],
    )?;
    let command = match pending.map(|row| row.get::<_, bool>(0)) {
        None => "ATTACH PARTITION shelves_1 FOR VALUES IN (1)",
        Some(false) => "DETACH PARTITION shelves_1 CONCURRENTLY",
        Some(true) => "DETACH PARTITION shelves_1 FINALIZE",
    };
    client.batch_execute(&format!("ALTER TABLE shelves {command}"))
}

pub(crate) fn copy(
    client: &mut Client,
    statement: &str,
    lines: &str,
) -> Result<(), postgres::Error> {
    let mut sink = client.copy_in(statement)?;
    // A failed write shows itself, with the server's reason, when the copy is finished.
    drop(sink.write_all(lines.as_bytes()));
    sink.finish()?;
    Ok(())
}

pub(crate) fn committed(
    shared: &Shared<'_>,
    operations: &[&'static str],
    beacon: Option<(i32, i64)>,
) {
    if let Some((key, version)) = beacon {
        shared.acknowledge(key, version);
    }
    let mut tally = shared.tally();
    for name in operations {
        *tally.committed.entry((*name).to_owned()).or_default() += 1;
    }
}

/// Ends prepared transactions when they are due, and all that are left when the writers have gone.
pub(crate) fn resolve(shared: &Shared<'_>, prepared: &Receiver<Prepared>) -> Result<()> {
    let mut session = Session::new(shared, "resolver".to_owned(), "")?;
    let mut waiting: Vec<Prepared> = Vec::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        if open {
            match prepared.recv_timeout(Duration::from_millis(2)) {
                Ok(one) => waiting.push(one),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        }
        let now = Instant::now();
        let holding = shared.holding();
        let (due, later) = waiting
            .into_iter()
            .partition(|one| !open || !holding && one.due <= now);
        waiting = later;
        let due: Vec<Prepared> = due;
        for mut one in due {
            let verb = if one.commit { "COMMIT" } else { "ROLLBACK" };
            let ended = session
                .client
                .batch_execute(&format!("{verb} PREPARED '{}'", one.name));
            match ended {
                Ok(()) if one.commit => committed(shared, &one.operations, one.beacon),
                Ok(()) => {}
                // It had been done, or had never been prepared.
                Err(error) if one.perhaps && error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {}
                Err(error) => {
                    if lost(&error) && session.outlived(shared) {
                        one.perhaps = true;
                        waiting.push(one);
                    }
                    shared.recover(Role::Writer, verb, &error, &mut session)?;
                }
            }
        }
    }
    Ok(())
}
