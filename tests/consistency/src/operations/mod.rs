//! Every way of changing what the functions read.

mod accounts;
mod definitions;
mod entries;
mod identity;
mod tables;
mod trees;
mod upstream;

use std::time::Duration;

use crate::rng::Rng;

/// A piece of a writer's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Statements, separated by semicolons.
    Sql(String),
    /// `COPY … FROM STDIN` and its lines.
    Copy(String, String),
    /// The next version of the writer's own beacon.
    Beacon,
    /// Compares: one's own writes must be seen.
    Check,
    /// Detaches a partition concurrently, or ends what was begun, or attaches it again.
    DetachConcurrently,
    /// Does nothing for a while, so that others meet a transaction in progress.
    Pause(Duration),
}

/// In what company an operation appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Together with others, in any transaction.
    Any,
    /// Alone in its transaction: it locks whole tables.
    Alone,
    /// Alone, and behind the guard: no lock would keep it away from a running statement.
    Guarded,
    /// In no transaction block at all, and behind the guard.
    Outside,
}

/// One kind of write.
#[derive(Debug)]
pub struct Operation {
    /// What it is called in the report.
    pub name: &'static str,
    /// How often it is chosen, relative to the others.
    pub weight: i32,
    /// In what company it appears.
    pub company: Company,
    /// The subjects whose answers it may change.
    pub touches: &'static [&'static str],
    /// Its statements.
    pub steps: fn(&mut Rng) -> Vec<Step>,
}

const ACCOUNTS: &[&str] = &[
    "account_summary",
    "account_card",
    "rich_total",
    "overview",
    "caught",
    "helped",
];
const ENTRIES: &[&str] = &[
    "account_total",
    "account_entries",
    "account_summary",
    "rich_total",
    "versioned",
    "overview",
    "helped",
];
const FAMILY: &[&str] = &[
    "account_total",
    "account_entries",
    "account_summary",
    "account_card",
    "rich_total",
    "overview",
    "caught",
    "helped",
];
const ORDERS: &[&str] = &["orders_by_region", "order_sum"];
const SECRETS: &[&str] = &["secrets_of", "secrets_by_claim", "secrets_seen"];
const THINGS: &[&str] = &["things_of"];
const SCRATCH: &[&str] = &["scratch_value"];

const fn operation(
    (company, weight): (Company, i32),
    name: &'static str,
    touches: &'static [&'static str],
    steps: fn(&mut Rng) -> Vec<Step>,
) -> Operation {
    Operation {
        name,
        weight,
        company,
        touches,
        steps,
    }
}

const ANY: (Company, i32) = (Company::Any, 10);
const ALONE: (Company, i32) = (Company::Alone, 4);
const GUARDED: (Company, i32) = (Company::Guarded, 4);

fn sql(text: String) -> Vec<Step> {
    vec![Step::Sql(text)]
}

fn key(rng: &mut Rng) -> i32 {
    rng.hot(1, 8)
}

fn value(rng: &mut Rng) -> i32 {
    rng.between(-500, 500)
}

/// A day of a leaf, of the other leaf or of the default partition.
fn day(rng: &mut Rng) -> i32 {
    rng.between(0, 120)
}

/// All operations. Within a transaction they come in this order, which keeps writers from deadlocking each other by
/// themselves: a deadlock that remains has to be explained.
pub static OPERATIONS: &[Operation] = &[
    accounts::UPDATE,
    accounts::UPSERT,
    accounts::MERGE,
    accounts::UPDATABLE_VIEW,
    accounts::FK_CASCADE_AND_SET_NULL,
    accounts::FK_CASCADE_OF_UPDATE,
    entries::INSERT,
    entries::UPDATE_OF_A_KEY_COLUMN,
    entries::DELETE,
    entries::COPY,
    entries::DATA_MODIFYING_CTE,
    entries::WRITES_IN_A_FUNCTION,
    entries::WRITES_IN_DO,
    entries::INSTEAD_OF_TRIGGER,
    entries::REPLICA_ROLE,
    entries::WRITE_TO_A_CHILD_BY_FOREIGN_KEY,
    trees::PARTITIONS_THROUGH_THE_PARENT,
    trees::DIRECTLY_INTO_LEAVES,
    trees::ROWS_MOVING_BETWEEN_PARTITIONS,
    trees::COPY_INTO_PARTITIONS,
    trees::TABLE_THAT_IS_SOMETIMES_A_PARTITION,
    trees::INHERITANCE,
    tables::UNLOGGED_TABLE,
    tables::MERGE_WITH_ALL_BRANCHES,
    tables::TABLE_THAT_CHANGES_ITS_NAME,
    tables::ROW_TRIGGERS,
    tables::DEFERRED_CONSTRAINT_AND_TRIGGER,
    tables::BEACON,
    tables::GENERATED_COLUMNS,
    tables::ROWS_REDIRECTED,
    tables::TABLE_MADE_ANEW,
    tables::TURNED_COLUMNS,
    trees::SHELVES,
    identity::ROWS_BEHIND_A_POLICY,
    identity::WRITES_AS_ANOTHER_ROLE,
    identity::TABLES_OF_ONE_NAME,
    definitions::TRUNCATE,
    definitions::TRUNCATE_CASCADE,
    definitions::REFRESH_MATERIALIZED_VIEW,
    definitions::REFRESH_CONCURRENTLY,
    definitions::ALTER_TABLE_TYPE,
    definitions::TABLE_REWRITTEN_BY_ADD_COLUMN,
    definitions::COPY_FREEZE,
    definitions::WRITES_BEHIND_DISABLE_TRIGGER,
    trees::INHERIT_AND_NO_INHERIT,
    definitions::CREATE_OR_REPLACE_FUNCTION,
    definitions::CREATE_OR_REPLACE_VIEW,
    trees::ATTACH_AND_DETACH,
    trees::NEW_PARTITION,
    trees::DROP_OF_A_PARTITION,
    definitions::TABLES_THAT_CHANGE_NAMES,
    definitions::RENAME_OF_COLUMNS,
    definitions::DROP_AND_CREATE,
    identity::ALTER_POLICY,
    identity::MEMBERSHIP,
    trees::DETACH_CONCURRENTLY,
];

/// What happens in the other database, for logical replication to bring here.
pub static UPSTREAM: &[Operation] = &[
    upstream::INSERT,
    upstream::UPDATE,
    upstream::KEY,
    upstream::PARTITIONS,
    upstream::DELETE,
    upstream::COPY,
    upstream::TRUNCATE,
];

/// All of both kinds.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().chain(UPSTREAM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    #[test]
    fn operations_touch_subjects_that_exist() {
        for operation in all() {
            assert!(!operation.touches.is_empty());
            for name in operation.touches {
                assert!(Subject::named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = all().map(|operation| operation.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
