//! Sessions that compare.

use std::collections::HashMap;
use std::thread;

use anyhow::Result;

use crate::comparison::{Seen, Session, Way};
use crate::invariants::Repeatable;
use crate::plan::{Identity, Mode, Question, Reading};
use crate::rng::Rng;
use crate::shared::{Acknowledged, Role, Shared};

/// A transaction whose queries run in parallel workers wherever the server allows it.
const PARALLEL: &str = "BEGIN; SET LOCAL force_parallel_mode = on; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; \
     SET LOCAL min_parallel_table_scan_size = 0";

/// Compares until the run is over.
pub(crate) fn read(shared: &Shared<'_>, index: u64) -> Result<()> {
    let mut rng = Rng::new(shared.options.seed, 1000 + index);
    let settings = if index % 2 == 1 {
        "SET lock_timeout = '5s'; SET plan_cache_mode = force_generic_plan"
    } else {
        "SET lock_timeout = '5s'"
    };
    let mut session = Session::new(shared, format!("reader {index}"), settings)?;
    let mut other = Session::new(shared, format!("reader {index}, importing"), settings)?;
    while !shared.stopped() {
        let reading = Reading::next(&mut rng);
        let mut reader = Reader {
            shared,
            session: &mut session,
            other: &mut other,
            mode: format!("{:?}", reading.mode),
        };
        shared.tried(Role::Reader);
        if let Err(error) = reader.transact(&reading) {
            let doing = format!("{:?}", reading.mode);
            shared.recover(Role::Reader, &doing, &error, &mut session)?;
            other.reset(shared)?;
        }
    }
    Ok(())
}

struct Reader<'r, 'c> {
    shared: &'r Shared<'c>,
    session: &'r mut Session,
    /// Imports the snapshots that the first one exports.
    other: &'r mut Session,
    mode: String,
}

impl Reader<'_, '_> {
    fn transact(&mut self, reading: &Reading) -> Result<(), postgres::Error> {
        match reading.mode {
            Mode::Autocommit => self.single(&reading.questions[0], Way::Prepared),
            Mode::Simple => self.single(&reading.questions[0], Way::Simple),
            Mode::Execute => self.single(&reading.questions[0], Way::Execute),
            Mode::PlPgSql => self.single(&reading.questions[0], Way::PlPgSql),
            Mode::ReadCommitted | Mode::Expressions | Mode::Identities => {
                self.several("BEGIN", false, reading)
            }
            Mode::OtherRole => self.several("BEGIN; SET LOCAL ROLE oracle_reader", false, reading),
            Mode::Parallel => self.several(PARALLEL, false, reading),
            Mode::RepeatableRead | Mode::IdentitiesRepeatable => {
                self.several("BEGIN ISOLATION LEVEL REPEATABLE READ", true, reading)
            }
            Mode::ReadOnly => self.several(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                true,
                reading,
            ),
            Mode::Serializable => self.several("BEGIN ISOLATION LEVEL SERIALIZABLE", true, reading),
            Mode::Cursor | Mode::HeldCursor => self.cursor(reading),
            Mode::Imported => self.imported(reading),
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
        // What one may not see, the other may.
        let mut snapshots: HashMap<Option<Identity>, Repeatable> = HashMap::new();
        self.session.client.batch_execute(begin)?;
        let way = if reading.mode == Mode::Expressions {
            Way::Expressions
        } else {
            Way::Prepared
        };
        for (number, question) in reading.questions.iter().enumerate() {
            let identity = reading.identities.get(number).copied();
            if let Some(identity) = identity {
                self.session.client.batch_execute(&identity.assume())?;
                self.session.client.batch_execute(
                    "SELECT secrets_in_expressions(k) FROM generate_series(1, 8) AS k",
                )?;
            }
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
                let snapshot = snapshots.entry(identity).or_default();
                self.session
                    .examine_repetition(self.shared, &seen, snapshot);
            }
            thread::sleep(reading.pause);
        }
        let repeated: u64 = snapshots.values().map(|snapshot| snapshot.repeated).sum();
        self.shared.tally().repeated += repeated;
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
        let held = reading.mode == Mode::HeldCursor;
        let hold = if held { "WITH HOLD" } else { "WITHOUT HOLD" };
        self.session
            .client
            .batch_execute(&format!("DECLARE c NO SCROLL CURSOR {hold} FOR {sql}"))?;
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
        if held {
            self.session.client.batch_execute("COMMIT")?;
            thread::sleep(reading.pause);
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
        if held {
            return Ok(());
        }
        self.session.client.batch_execute("COMMIT")
    }

    /// Two sessions with one snapshot get the same answers.
    fn imported(&mut self, reading: &Reading) -> Result<(), postgres::Error> {
        let acknowledged = self.shared.acknowledged();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        self.session.client.batch_execute(begin)?;
        let exported = self
            .session
            .client
            .query_one("SELECT pg_export_snapshot()", &[])?;
        let name: String = exported.try_get(0)?;
        self.other
            .client
            .batch_execute(&format!("{begin}; SET TRANSACTION SNAPSHOT '{name}'"))?;
        let mut snapshot = Repeatable::default();
        for question in &reading.questions {
            for (session, context) in [
                (&mut *self.session, "the exporter"),
                (&mut *self.other, "the importer"),
            ] {
                let rows = session.ask(question, Way::Prepared)?;
                let seen = Seen {
                    question,
                    mode: &self.mode,
                    context,
                    rows: &rows,
                    whole: true,
                    acknowledged: Some(&acknowledged),
                    remark: "",
                };
                session.examine(self.shared, &seen);
                session.examine_repetition(self.shared, &seen, &mut snapshot);
            }
            thread::sleep(reading.pause);
        }
        self.shared.tally().repeated += snapshot.repeated;
        self.other.client.batch_execute("COMMIT")?;
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
