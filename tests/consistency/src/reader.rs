//! Sessions that compare.

use std::thread;

use anyhow::Result;

use crate::comparison::{Seen, Session, Way};
use crate::invariants::Repeatable;
use crate::plan::{Mode, Question, Reading};
use crate::rng::Rng;
use crate::shared::{Acknowledged, Role, Shared};

/// Compares until the run is over.
pub(crate) fn read(shared: &Shared<'_>, index: u64) -> Result<()> {
    let mut rng = Rng::new(shared.options.seed, 1000 + index);
    let mut session = Session::new(shared, format!("reader {index}"))?;
    session.client.batch_execute("SET lock_timeout = '5s'")?;
    if index % 2 == 1 {
        session
            .client
            .batch_execute("SET plan_cache_mode = force_generic_plan")?;
    }
    while !shared.stopped() {
        let reading = Reading::next(&mut rng);
        let mut reader = Reader {
            shared,
            session: &mut session,
            mode: format!("{:?}", reading.mode),
        };
        if let Err(error) = reader.transact(&reading) {
            let doing = format!("{:?}", reading.mode);
            shared.recover(Role::Reader, &doing, &error, &mut session.client)?;
        }
    }
    Ok(())
}

struct Reader<'r, 'c> {
    shared: &'r Shared<'c>,
    session: &'r mut Session,
    mode: String,
}

impl Reader<'_, '_> {
    fn transact(&mut self, reading: &Reading) -> Result<(), postgres::Error> {
        match reading.mode {
            Mode::Autocommit => self.single(&reading.questions[0], Way::Prepared),
            Mode::Simple => self.single(&reading.questions[0], Way::Simple),
            Mode::Execute => self.single(&reading.questions[0], Way::Execute),
            Mode::PlPgSql => self.single(&reading.questions[0], Way::PlPgSql),
            Mode::ReadCommitted | Mode::Expressions => self.several("BEGIN", false, reading),
            Mode::OtherRole => self.several("BEGIN; SET LOCAL ROLE oracle_reader", false, reading),
            Mode::RepeatableRead => {
                self.several("BEGIN ISOLATION LEVEL REPEATABLE READ", true, reading)
            }
            Mode::ReadOnly => self.several(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                true,
                reading,
            ),
            Mode::Serializable => self.several("BEGIN ISOLATION LEVEL SERIALIZABLE", true, reading),
            Mode::Cursor => self.cursor(reading),
        }
    }

    /// One statement that is its own transaction.
    fn single(&mut self, question: &Question, way: Way) -> Result<(), postgres::Error> {
        let acknowledged = self.shared.acknowledged();
        let rows = self.session.ask(question, way)?;
        let different = rows.iter().any(|row| !row.same);
        let remark = if !different {
            ""
        } else if self.session.still_different(question)? {
            "the answers still differed 50 ms later"
        } else {
            "the answers were equal again 50 ms later"
        };
        self.examine(
            question,
            &rows,
            "one statement",
            true,
            &acknowledged,
            remark,
        );
        Ok(())
    }

    /// Several statements in one transaction, of one snapshot or not.
    fn several(
        &mut self,
        begin: &str,
        one_snapshot: bool,
        reading: &Reading,
    ) -> Result<(), postgres::Error> {
        let mut acknowledged = self.shared.acknowledged();
        let mut snapshot = Repeatable::default();
        self.session.client.batch_execute(begin)?;
        let way = if reading.mode == Mode::Expressions {
            Way::Expressions
        } else {
            Way::Prepared
        };
        for (number, question) in reading.questions.iter().enumerate() {
            if !one_snapshot {
                acknowledged = self.shared.acknowledged();
            }
            let rows = self.session.ask(question, way)?;
            let context = format!("statement {} of {}", number + 1, reading.questions.len());
            self.examine(question, &rows, &context, true, &acknowledged, "");
            if one_snapshot {
                let seen = Seen {
                    question,
                    mode: &self.mode,
                    context: &context,
                    rows: &rows,
                    whole: true,
                    acknowledged: None,
                    remark: "",
                };
                self.session
                    .examine_repetition(self.shared, &seen, &mut snapshot);
            }
            thread::sleep(reading.pause);
        }
        self.shared.tally().repeated += snapshot.repeated;
        self.session.client.batch_execute("COMMIT")
    }

    /// A cursor, whose snapshot grows older while other statements run between its fetches.
    fn cursor(&mut self, reading: &Reading) -> Result<(), postgres::Error> {
        let Some((first, others)) = reading.questions.split_first() else {
            return Ok(());
        };
        let acknowledged = self.shared.acknowledged();
        self.session.client.batch_execute("BEGIN")?;
        if first.subject.guarded {
            self.session.lock_guard()?;
        }
        let sql = first.subject.comparison(first.form, &first.literal());
        self.session
            .client
            .batch_execute(&format!("DECLARE c NO SCROLL CURSOR FOR {sql}"))?;
        let mut all = Vec::new();
        for question in others {
            let rows = self.session.simple("FETCH 4 FROM c")?;
            self.examine(first, &rows, "fetched", false, &acknowledged, "");
            all.extend(rows);
            thread::sleep(reading.pause);
            let newer = self.shared.acknowledged();
            let rows = self.session.ask(question, Way::Prepared)?;
            self.examine(question, &rows, "between fetches", true, &newer, "");
        }
        let rows = self.session.simple("FETCH ALL FROM c")?;
        self.examine(first, &rows, "fetched last", false, &acknowledged, "");
        all.extend(rows);
        let mut snapshot = Repeatable::default();
        let seen = Seen {
            question: first,
            mode: &self.mode,
            context: "whole cursor",
            rows: &all,
            whole: true,
            acknowledged: None,
            remark: "",
        };
        self.session
            .examine_repetition(self.shared, &seen, &mut snapshot);
        self.shared.tally().repeated += snapshot.repeated;
        self.session.client.batch_execute("CLOSE c")?;
        if first.subject.guarded {
            self.session.unlock_guard()?;
        }
        self.session.client.batch_execute("COMMIT")
    }

    fn examine(
        &self,
        question: &Question,
        rows: &[crate::invariants::Row],
        context: &str,
        whole: bool,
        acknowledged: &Acknowledged,
        remark: &str,
    ) {
        let acknowledged = Some(acknowledged);
        let seen = Seen {
            question,
            mode: &self.mode,
            context,
            rows,
            whole,
            acknowledged,
            remark,
        };
        self.session.examine(self.shared, &seen);
    }
}
