//! The session that writes in the other database; logical replication brings it here.
//!
//! One session alone, so that nothing it prepares stands in the way of what it writes later: the subscriber applies one
//! transaction after the other and would wait for itself.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use postgres::error::SqlState;

use crate::comparison::Session;
use crate::install::UPSTREAM;
use crate::operations::{self, Step};
use crate::plan::{Ending, Writing};
use crate::rng::Rng;
use crate::shared::{Role, Shared, lost};
use crate::writer::{committed, copy};

/// The name of the one prepared transaction that there may be.
const NAME: &str = "upstream";

/// Writes until the run is over.
pub(crate) fn publish(shared: &Shared<'_>) -> Result<()> {
    let mut rng = Rng::new(shared.options.seed, 4000);
    let mut session = Session::to(shared, UPSTREAM, "publisher".to_owned(), "")?;
    // What to do with the prepared transaction, if there may be one.
    let mut second_phase: Option<(&str, Vec<&'static str>)> = None;
    while !shared.stopped() || second_phase.is_some() {
        if shared.holding() && !shared.stopped() && second_phase.is_some() {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let done = match &second_phase {
            Some((verb, operations)) => {
                let done = session
                    .client
                    .batch_execute(&format!("{verb} PREPARED '{NAME}'"));
                match done {
                    Ok(()) => {
                        if *verb == "COMMIT" {
                            committed(shared, operations, None);
                        }
                        second_phase = None;
                        Ok(())
                    }
                    // It had been done when the connection was lost, or had not been prepared yet.
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {
                        second_phase = None;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            None => {
                let writing = Writing::of(operations::UPSTREAM, &mut rng, &shared.options.skip);
                let done = transact(shared, &mut session, &writing);
                if let Ending::PrepareCommit(later) | Ending::PrepareRollback(later) =
                    writing.ending
                    && done.as_ref().map_or_else(lost, |()| true)
                {
                    let commit = matches!(writing.ending, Ending::PrepareCommit(_));
                    let verb = if commit { "COMMIT" } else { "ROLLBACK" };
                    let names = writing.operations.iter().map(|operation| operation.name);
                    second_phase = Some((verb, names.collect()));
                    thread::sleep(later);
                }
                thread::sleep(writing.pause);
                done
            }
        };
        if let Err(error) = done {
            shared.recover(Role::Writer, "publishing", &error, &mut session)?;
        }
    }
    Ok(())
}

fn transact(
    shared: &Shared<'_>,
    session: &mut Session,
    writing: &Writing,
) -> Result<(), postgres::Error> {
    let client = &mut session.client;
    client.batch_execute("BEGIN")?;
    for step in &writing.steps {
        match step {
            Step::Sql(sql) => client.batch_execute(sql)?,
            Step::Copy(statement, lines) => copy(client, statement, lines)?,
            Step::Pause(time) => thread::sleep(*time),
            // Nothing is cached there.
            Step::Check | Step::Beacon | Step::DetachConcurrently => {}
        }
    }
    match writing.ending {
        Ending::Commit => {
            client.batch_execute("COMMIT")?;
            let names: Vec<&str> = writing
                .operations
                .iter()
                .map(|operation| operation.name)
                .collect();
            committed(shared, &names, None);
            Ok(())
        }
        Ending::Rollback => client.batch_execute("ROLLBACK"),
        Ending::PrepareCommit(_) | Ending::PrepareRollback(_) => {
            client.batch_execute(&format!("PREPARE TRANSACTION '{NAME}'"))
        }
    }
}
