//! What sessions do next: transactions drawn from a seed, without touching a database.

use std::time::Duration;

use crate::operations::{Company, OPERATIONS, Operation, Step};
use crate::rng::Rng;
use crate::subject::{FORMS, Form, PERSONAL, SUBJECTS, Subject};

/// The most keys that one statement compares.
const MAX_BATCH: i32 = 24;

/// How a reader asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Prepared statements, each its own transaction.
    Autocommit,
    /// The simple protocol.
    Simple,
    /// SQL's own PREPARE and EXECUTE, with a generic plan.
    Execute,
    /// Several statements at READ COMMITTED.
    ReadCommitted,
    /// Several statements in one snapshot.
    RepeatableRead,
    /// Several statements in one snapshot, READ ONLY.
    ReadOnly,
    /// Several statements at SERIALIZABLE.
    Serializable,
    /// Inside a PL/pgSQL function, one statement for each key.
    PlPgSql,
    /// In PL/pgSQL expressions, several statements in a transaction.
    Expressions,
    /// A cursor, fetched bit by bit between other statements.
    Cursor,
    /// A cursor WITH HOLD, which COMMIT computes to its end and which outlives its transaction.
    HeldCursor,
    /// As a role that may only read.
    OtherRole,
    /// As somebody else in each statement: role, claim, time zone, search path; at READ COMMITTED.
    Identities,
    /// The same in one snapshot.
    IdentitiesRepeatable,
    /// Two sessions with one snapshot, exported and imported.
    Imported,
    /// With parallel workers wherever they may be.
    Parallel,
}

/// All modes, with their weights.
pub const MODES: &[(Mode, i32)] = &[
    (Mode::Autocommit, 36),
    (Mode::Simple, 6),
    (Mode::Execute, 6),
    (Mode::ReadCommitted, 10),
    (Mode::RepeatableRead, 14),
    (Mode::ReadOnly, 8),
    (Mode::Serializable, 3),
    (Mode::PlPgSql, 7),
    (Mode::Expressions, 6),
    (Mode::Cursor, 6),
    (Mode::HeldCursor, 3),
    (Mode::OtherRole, 4),
    (Mode::Identities, 6),
    (Mode::IdentitiesRepeatable, 4),
    (Mode::Imported, 4),
    (Mode::Parallel, 2),
];

/// Who asks, and how answers look to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    role: &'static str,
    claim: &'static str,
    zone: &'static str,
    path: &'static str,
}

impl Identity {
    /// Anybody.
    pub fn next(rng: &mut Rng) -> Self {
        Self {
            role: *rng.pick(&["NONE", "oracle_reader", "tenant_1", "tenant_2"]),
            claim: *rng.pick(&["", "0", "1", "2"]),
            zone: *rng.pick(&["UTC", "UTC", "UTC", "Asia/Tokyo"]),
            path: *rng.pick(&["public", "public", "public", "shadow, public"]),
        }
    }

    /// Becomes it, until the transaction ends.
    pub fn assume(&self) -> String {
        let Self {
            role,
            claim,
            zone,
            path,
        } = self;
        format!(
            "SET LOCAL ROLE {role}; SET LOCAL request.jwt.claim.tenant = '{claim}'; SET LOCAL timezone = '{zone}'; \
             SET LOCAL search_path = {path}"
        )
    }
}

/// One comparing statement.
#[derive(Clone, Debug)]
pub struct Question {
    /// The function.
    pub subject: &'static Subject,
    /// How it is called.
    pub form: Form,
    /// For which keys.
    pub keys: Vec<i32>,
}

/// What a reader does in one transaction.
#[derive(Clone, Debug)]
pub struct Reading {
    /// How.
    pub mode: Mode,
    /// The statements, more than one where the mode has several.
    pub questions: Vec<Question>,
    /// Who asks them, one for each, where the mode has identities.
    pub identities: Vec<Identity>,
    /// Between two statements.
    pub pause: Duration,
}

impl Reading {
    /// The next transaction of a reader.
    pub fn next(rng: &mut Rng) -> Self {
        let mode = MODES[rng.weighted(MODES.iter().map(|(_, weight)| *weight))].0;
        let several = !matches!(
            mode,
            Mode::Autocommit | Mode::Simple | Mode::Execute | Mode::PlPgSql
        );
        let count = if several { rng.between(2, 5) } else { 1 };
        let as_others = matches!(mode, Mode::Identities | Mode::IdentitiesRepeatable);
        let mut questions: Vec<Question> = (0..count)
            .map(|_| match as_others && rng.chance(60) {
                true => Question::about(
                    Subject::named(rng.pick::<&str>(PERSONAL)).unwrap_or(&SUBJECTS[0]),
                    rng,
                ),
                false => Question::next(rng),
            })
            .collect();
        let mut identities: Vec<Identity> = questions
            .iter()
            .filter(|_| as_others)
            .map(|_| Identity::next(rng))
            .collect();
        if as_others {
            // The same question by somebody else.
            questions.push(questions[0].clone());
            identities.push(Identity::next(rng));
        }
        if several {
            // The same again at the end: nothing may have changed in one snapshot.
            questions.push(questions[0].clone());
            identities.extend(identities.first().copied());
        }
        Self {
            mode,
            questions,
            identities,
            pause: Duration::from_micros(u64::from(rng.between(0, 3000).unsigned_abs())),
        }
    }
}

impl Question {
    /// A question about any subject.
    pub fn next(rng: &mut Rng) -> Self {
        let subject = rng.pick(SUBJECTS);
        Self::about(subject, rng)
    }

    /// A question about one subject.
    pub fn about(subject: &'static Subject, rng: &mut Rng) -> Self {
        let (low, high) = subject.keys;
        let keys = (0..rng.between(4, MAX_BATCH))
            .map(|_| rng.hot(low, high))
            .collect();
        Self {
            subject,
            form: *rng.pick(FORMS),
            keys,
        }
    }

    /// A question about all keys of a subject.
    pub fn whole(subject: &'static Subject) -> Self {
        Self {
            subject,
            form: Form::Plain,
            keys: (subject.keys.0..=subject.keys.1).collect(),
        }
    }

    /// The keys as an SQL literal.
    pub fn literal(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        format!("'{{{}}}'::int[]", keys.join(","))
    }
}

/// How a writer's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// COMMIT.
    Commit,
    /// ROLLBACK, and a look at what is left.
    Rollback,
    /// PREPARE TRANSACTION, and COMMIT PREPARED in another session later.
    PrepareCommit(Duration),
    /// PREPARE TRANSACTION, and ROLLBACK PREPARED in another session later.
    PrepareRollback(Duration),
}

/// What a writer does in one transaction.
#[derive(Debug)]
pub struct Writing {
    /// `READ COMMITTED` or stricter.
    pub isolation: &'static str,
    /// Whether it is no transaction at all, but commands that make their own.
    pub outside: bool,
    /// Whether it needs the guard.
    pub guarded: bool,
    /// The operations that it consists of.
    pub operations: Vec<&'static Operation>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// How it ends.
    pub ending: Ending,
    /// Between this transaction and the next.
    pub pause: Duration,
}

impl Writing {
    /// The next transaction of a writer, without the operations that `skip` names.
    pub fn next(rng: &mut Rng, skip: &[String]) -> Self {
        Self::of(OPERATIONS, rng, skip)
    }

    /// The next transaction made of some of `operations`.
    pub fn of(operations: &'static [Operation], rng: &mut Rng, skip: &[String]) -> Self {
        let allowed: Vec<&'static Operation> = operations
            .iter()
            .filter(|operation| !skip.iter().any(|name| name == operation.name))
            .collect();
        let mut draw = || {
            allowed
                .get(rng.weighted(allowed.iter().map(|operation| operation.weight)))
                .copied()
        };
        let first = draw();
        let order = operations;
        let mut operations: Vec<&'static Operation> = first.into_iter().collect();
        let in_company = first.is_some_and(|operation| operation.company == Company::Any);
        if in_company {
            let more = [draw(), draw()].into_iter().flatten();
            operations.extend(more.filter(|operation| operation.company == Company::Any));
            operations.truncate(usize::try_from(rng.between(1, 3)).unwrap_or(1));
        }
        // In one order for all writers, see OPERATIONS.
        operations
            .sort_by_key(|operation| order.iter().position(|other| other.name == operation.name));

        let mut steps = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let body = (operation.steps)(rng);
            let has_beacon = body.contains(&Step::Beacon);
            if in_company && !has_beacon && rng.chance(20) {
                steps.extend(undone(index, body, rng.chance(50)));
            } else {
                steps.extend(body);
            }
            if rng.chance(25) {
                steps.push(Step::Pause(Duration::from_micros(u64::from(
                    rng.between(0, 5000).unsigned_abs(),
                ))));
            }
        }
        if rng.chance(40) {
            steps.push(Step::Check);
        }
        let later = Duration::from_millis(u64::from(rng.between(5, 80).unsigned_abs()));
        let ending = match rng.between(1, 100) {
            ..=66 => Ending::Commit,
            67..=82 => Ending::Rollback,
            83..=94 if in_company => Ending::PrepareCommit(later),
            _ if in_company => Ending::PrepareRollback(later),
            _ => Ending::Commit,
        };
        let outside = operations
            .iter()
            .any(|operation| operation.company == Company::Outside);
        if outside {
            steps.retain(|step| *step == Step::DetachConcurrently);
        }
        let guarded = operations
            .iter()
            .any(|operation| operation.company == Company::Guarded);
        Self {
            outside,
            isolation: match rng.between(1, 100) {
                // What they find in the catalogs must be newer than the guard.
                _ if guarded => "READ COMMITTED",
                ..=88 => "READ COMMITTED",
                89..=97 => "REPEATABLE READ",
                _ => "SERIALIZABLE",
            },
            guarded,
            operations,
            steps,
            ending,
            pause: Duration::from_millis(u64::from(rng.between(5, 45).unsigned_abs())),
        }
    }

    /// The subjects whose answers the transaction may change.
    pub fn touches(&self) -> impl Iterator<Item = &'static Subject> {
        self.operations
            .iter()
            .flat_map(|operation| operation.touches)
            .filter_map(|name| Subject::named(name))
    }
}

/// `body` below a savepoint to which the transaction returns, and perhaps `body` once more, for good.
fn undone(level: usize, body: Vec<Step>, again: bool) -> Vec<Step> {
    let mut steps = vec![Step::Sql(format!("SAVEPOINT s{level}"))];
    steps.extend(body.clone());
    steps.push(Step::Check);
    steps.push(Step::Sql(format!("ROLLBACK TO SAVEPOINT s{level}")));
    steps.push(Step::Check);
    if again {
        steps.extend(body);
        steps.push(Step::Sql(format!("RELEASE SAVEPOINT s{level}")));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_what_sessions_do() {
        let reading = |seed| {
            format!(
                "{:?}",
                (0..20)
                    .scan(Rng::new(seed, 1), |rng, _| Some(Reading::next(rng)))
                    .collect::<Vec<_>>()
            )
        };
        let writing = |seed| {
            format!(
                "{:?}",
                (0..20)
                    .scan(Rng::new(seed, 1), |rng, _| Some(
                        Writing::next(rng, &[]).steps
                    ))
                    .collect::<Vec<_>>()
            )
        };
        assert_eq!(reading(5), reading(5));
        assert_ne!(reading(5), reading(6));
        assert_eq!(writing(5), writing(5));
        assert_ne!(writing(5), writing(6));
    }

    #[test]
    fn every_operation_and_every_ending_comes_up() {
        let mut rng = Rng::new(1, 1);
        let plans: Vec<Writing> = (0..3000).map(|_| Writing::next(&mut rng, &[])).collect();
        for operation in OPERATIONS {
            assert!(
                plans.iter().any(|plan| plan
                    .operations
                    .iter()
                    .any(|other| other.name == operation.name)),
                "{}",
                operation.name
            );
        }
        assert!(
            plans
                .iter()
                .any(|plan| matches!(plan.ending, Ending::PrepareCommit(_)))
        );
        assert!(
            plans
                .iter()
                .any(|plan| matches!(plan.ending, Ending::PrepareRollback(_)))
        );
        assert!(plans.iter().any(|plan| {
            plan.steps
                .iter()
                .any(|step| matches!(step, Step::Sql(sql) if sql.starts_with("ROLLBACK TO")))
        }));
    }

    #[test]
    fn what_locks_whole_tables_is_alone_and_never_prepared() {
        let mut rng = Rng::new(2, 1);
        for plan in (0..3000).map(|_| Writing::next(&mut rng, &[])) {
            if plan
                .operations
                .iter()
                .any(|operation| operation.company != Company::Any)
            {
                assert_eq!(plan.operations.len(), 1);
                assert!(matches!(plan.ending, Ending::Commit | Ending::Rollback));
            }
        }
    }

    #[test]
    fn writers_work_in_one_order() {
        let mut rng = Rng::new(4, 1);
        let place = |name| {
            OPERATIONS
                .iter()
                .position(|operation| operation.name == name)
        };
        for plan in (0..1000).map(|_| Writing::next(&mut rng, &[])) {
            assert!(
                plan.operations
                    .iter()
                    .is_sorted_by_key(|operation| place(operation.name))
            );
        }
    }

    #[test]
    fn operations_can_be_left_out() {
        let mut rng = Rng::new(3, 1);
        let skip = ["TRUNCATE".to_owned()];
        assert!((0..3000).all(|_| {
            Writing::next(&mut rng, &skip)
                .operations
                .iter()
                .all(|operation| operation.name != "TRUNCATE")
        }));
    }
}
