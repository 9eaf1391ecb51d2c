//! A session that asks comparing statements and looks at the answers.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::{Client, SimpleQueryMessage, Statement};

use crate::invariants::{self, Repeatable, Row};
use crate::plan::Question;
use crate::report::Difference;
use crate::shared::{Acknowledged, Shared};
use crate::subject::{BEACON, Form, LOCK_GUARD, UNLOCK_GUARD};

/// How a statement gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The extended protocol, the statement prepared once.
    Prepared,
    /// The simple protocol.
    Simple,
    /// SQL's PREPARE once, EXECUTE then.
    Execute,
    /// Through `check_…` in PL/pgSQL.
    PlPgSql,
    /// Through `express_…` in PL/pgSQL, where there is one.
    Expressions,
}

/// A session and what is prepared in it.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) name: String,
    database: &'static str,
    /// What is said to the server first in each connection.
    settings: String,
    /// How often the server had been restarted when the connection was made.
    epoch: u64,
    statements: HashMap<(Extended, &'static str, Form), Statement>,
    executable: HashMap<(&'static str, Form), String>,
}

/// The two ways that use the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Extended {
    Direct,
    PlPgSql,
    Expressions,
}

impl Session {
    pub(crate) fn new(shared: &Shared<'_>, name: String, settings: &str) -> Result<Self> {
        Self::to(shared, crate::install::DATABASE, name, settings)
    }

    /// A session of another database.
    pub(crate) fn to(
        shared: &Shared<'_>,
        database: &'static str,
        name: String,
        settings: &str,
    ) -> Result<Self> {
        let (client, epoch) = shared.connect(database, &name, settings)?;
        Ok(Self {
            client,
            name,
            database,
            settings: settings.to_owned(),
            epoch,
            statements: HashMap::new(),
            executable: HashMap::new(),
        })
    }

    /// Whether the server has been told to stop since the connection was made.
    pub(crate) fn outlived(&self, shared: &Shared<'_>) -> bool {
        self.epoch < shared.epoch()
    }

    /// The same session over a new connection, once the server is there again.
    pub(crate) fn renew(&mut self, shared: &Shared<'_>) -> Result<()> {
        (self.client, self.epoch) = shared.connect(self.database, &self.name, &self.settings)?;
        self.statements.clear();
        self.executable.clear();
        Ok(())
    }

    /// Ends whatever was going on.
    pub(crate) fn reset(&mut self, shared: &Shared<'_>) -> Result<()> {
        let reset = self
            .client
            .batch_execute("ROLLBACK; CLOSE ALL; SELECT pg_advisory_unlock_all()");
        match reset {
            Err(_) if self.outlived(shared) => self.renew(shared),
            reset => reset.context("a session could not go on"),
        }
    }

    /// Asks, behind the guard if the subject needs it.
    pub(crate) fn ask(
        &mut self,
        question: &Question,
        way: Way,
    ) -> Result<Vec<Row>, postgres::Error> {
        if question.subject.guarded {
            self.lock_guard()?;
        }
        let rows = match way {
            Way::Prepared => self.prepared(question, Extended::Direct),
            Way::PlPgSql => self.prepared(question, Extended::PlPgSql),
            Way::Expressions if question.subject.has_expression_check() => {
                self.prepared(question, Extended::Expressions)
            }
            Way::Expressions => self.prepared(question, Extended::Direct),
            Way::Simple => {
                let sql = question
                    .subject
                    .comparison(question.form, &question.literal());
                self.simple(&sql)
            }
            Way::Execute => self.execute(question),
        }?;
        if question.subject.guarded {
            self.unlock_guard()?;
        }
        Ok(rows)
    }

    pub(crate) fn lock_guard(&mut self) -> Result<(), postgres::Error> {
        self.client.batch_execute(LOCK_GUARD)
    }

    pub(crate) fn unlock_guard(&mut self) -> Result<(), postgres::Error> {
        self.client.batch_execute(UNLOCK_GUARD)
    }

    fn prepared(
        &mut self,
        question: &Question,
        way: Extended,
    ) -> Result<Vec<Row>, postgres::Error> {
        let key = (way, question.subject.name, question.form);
        if !self.statements.contains_key(&key) {
            let sql = match way {
                Extended::Direct => question.subject.comparison(question.form, "$1::int[]"),
                Extended::PlPgSql => {
                    format!("SELECT * FROM check_{}($1::int[])", question.subject.name)
                }
                Extended::Expressions => {
                    format!("SELECT * FROM express_{}($1::int[])", question.subject.name)
                }
            };
            let statement = self.client.prepare(&sql)?;
            self.statements.insert(key, statement);
        }
        let rows = self
            .client
            .query(&self.statements[&key], &[&question.keys])?;
        rows.iter()
            .map(|row| {
                Ok(Row {
                    key: row.try_get(0)?,
                    same: row.try_get(1)?,
                    fingerprint: row.try_get(2)?,
                    bare: row.try_get(3)?,
                    cached: row.try_get(4)?,
                })
            })
            .collect()
    }

    fn execute(&mut self, question: &Question) -> Result<Vec<Row>, postgres::Error> {
        let key = (question.subject.name, question.form);
        if !self.executable.contains_key(&key) {
            let name = format!("q{}", self.executable.len());
            let sql = question.subject.comparison(question.form, "$1");
            self.client
                .batch_execute(&format!("PREPARE {name} (int[]) AS {sql}"))?;
            self.executable.insert(key, name);
        }
        let sql = format!("EXECUTE {} ({})", self.executable[&key], question.literal());
        self.simple(&sql)
    }

    /// Comparing rows through the simple protocol.
    pub(crate) fn simple(&mut self, sql: &str) -> Result<Vec<Row>, postgres::Error> {
        let messages = self.client.simple_query(sql)?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Row {
                key: row
                    .get(0)
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(i32::MIN),
                same: row.get(1) == Some("t"),
                fingerprint: row.get(2).and_then(|text| text.parse().ok()),
                bare: row.get(3).map(ToOwned::to_owned),
                cached: row.get(4).map(ToOwned::to_owned),
            }),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Holds the rows against the invariants; true if they all hold.
    pub(crate) fn examine(&self, shared: &Shared<'_>, seen: &Seen<'_>) -> bool {
        let Seen {
            question,
            mode,
            rows,
            ..
        } = seen;
        shared.compared(mode, rows.len());
        let mut violations: Vec<(&'static str, &Row)> = Vec::new();
        violations
            .extend(invariants::different(rows).map(|row| ("differs from the function", row)));
        if question.subject.name == BEACON.name
            && let Some(acknowledged) = seen.acknowledged
        {
            shared.tally().acknowledged += rows.len() as u64;
            let behind = invariants::behind(rows, |key| acknowledged.version(key));
            violations.extend(behind.map(|row| ("behind an acknowledged commit", row)));
        }
        for (invariant, row) in &violations {
            shared.differs(self.difference(invariant, seen, row));
        }
        let complete = !seen.whole || invariants::complete(&question.keys, rows);
        if !complete {
            let none = Row {
                key: 0,
                same: false,
                fingerprint: None,
                bare: None,
                cached: None,
            };
            shared.differs(self.difference("keys without an answer", seen, &none));
        }
        violations.is_empty() && complete
    }

    /// Holds the rows against what the same snapshot had answered before.
    pub(crate) fn examine_repetition(
        &self,
        shared: &Shared<'_>,
        seen: &Seen<'_>,
        snapshot: &mut Repeatable,
    ) {
        // Guarded subjects change under DDL that PostgreSQL itself shows to old snapshots.
        if seen.question.subject.guarded {
            return;
        }
        for row in snapshot.changed(seen.question.subject.name, seen.rows) {
            shared.differs(self.difference("changes within a snapshot", seen, row));
        }
    }

    fn difference(&self, invariant: &'static str, seen: &Seen<'_>, row: &Row) -> Difference {
        Difference {
            invariant,
            subject: seen.question.subject.name,
            key: row.key,
            session: format!("{} ({}, {})", self.name, seen.mode, seen.context),
            statement: seen
                .question
                .subject
                .comparison(seen.question.form, &seen.question.literal()),
            bare: row.bare.clone(),
            cached: row.cached.clone(),
            remark: seen.remark.to_owned(),
        }
    }

    /// Whether the answers still differ a moment later: stale for good, or only just then.
    pub(crate) fn still_different(&mut self, question: &Question) -> Result<bool, postgres::Error> {
        thread::sleep(Duration::from_millis(50));
        let rows = self.ask(question, Way::Prepared)?;
        Ok(invariants::different(&rows).next().is_some())
    }
}

/// Rows, and how they came about.
pub(crate) struct Seen<'a> {
    pub(crate) question: &'a Question,
    pub(crate) mode: &'a str,
    /// What else was going on in the session.
    pub(crate) context: &'a str,
    pub(crate) rows: &'a [Row],
    /// Whether these are the rows for all keys.
    pub(crate) whole: bool,
    /// What had been acknowledged before the snapshot was taken.
    pub(crate) acknowledged: Option<&'a Acknowledged>,
    pub(crate) remark: &'a str,
}
