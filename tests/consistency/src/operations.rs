//! Every way of changing what the functions read.

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
];
const ENTRIES: &[&str] = &[
    "account_total",
    "account_entries",
    "account_summary",
    "rich_total",
    "versioned",
    "overview",
];
const FAMILY: &[&str] = &[
    "account_total",
    "account_entries",
    "account_summary",
    "account_card",
    "rich_total",
    "overview",
    "caught",
];
const ORDERS: &[&str] = &["orders_by_region", "order_sum"];
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
const ALONE: (Company, i32) = (Company::Alone, 3);
const GUARDED: (Company, i32) = (Company::Guarded, 3);

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
    operation(ANY, "UPDATE", ACCOUNTS, |r| {
        sql(format!(
            "UPDATE accounts SET balance = balance + {} WHERE id = {}",
            value(r),
            key(r)
        ))
    }),
    operation(ANY, "upsert", ACCOUNTS, |r| {
        sql(format!(
            "INSERT INTO accounts AS a VALUES ({}, 'account {}', 0) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, balance = a.balance + 1",
            key(r),
            value(r)
        ))
    }),
    operation(ANY, "MERGE", ACCOUNTS, |r| {
        let first = key(r);
        sql(format!(
            "MERGE INTO accounts a USING (VALUES ({first}, 'merged {v}'), ({second}, 'merged {v}')) AS n (id, name) ON a.id = n.id \
             WHEN MATCHED AND a.balance > 0 THEN UPDATE SET name = n.name \
             WHEN MATCHED THEN UPDATE SET balance = 1000 \
             WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.name, 0)",
            second = first + 1,
            v = value(r)
        ))
    }),
    operation(ANY, "updatable view", ACCOUNTS, |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!(
                "UPDATE account_view SET name = 'viewed {}' WHERE id = {k}",
                value(r)
            ),
            2 => format!(
                "UPDATE account_view SET balance = -balance WHERE id BETWEEN {k} AND {}",
                k + 1
            ),
            _ => format!(
                "INSERT INTO account_view SELECT {k}, 'through a view', 1 WHERE NOT EXISTS (SELECT FROM accounts WHERE id = {k})"
            ),
        })
    }),
    Operation {
        weight: 4,
        ..operation(ANY, "FK cascade and SET NULL", FAMILY, |r| {
            let k = key(r);
            let mut steps = sql(format!("DELETE FROM accounts WHERE id = {k}"));
            if r.chance(75) {
                steps.push(Step::Check);
                steps.extend(sql(format!(
                    "INSERT INTO accounts VALUES ({k}, 'again', 1) ON CONFLICT DO NOTHING; \
                     INSERT INTO entries (account_id, amount) SELECT {k}, n FROM generate_series(1, 4) AS n; \
                     INSERT INTO notes (account_id, weight) VALUES ({k}, {})",
                    value(r)
                )));
            }
            steps
        })
    },
    Operation {
        weight: 4,
        ..operation(ANY, "FK cascade of UPDATE", FAMILY, |r| {
            let k = key(r);
            sql(if r.chance(50) {
                format!("UPDATE accounts SET id = id + 1000 WHERE id = {k}")
            } else {
                "UPDATE accounts a SET id = id - 1000 WHERE id > 1000 AND NOT EXISTS (SELECT FROM accounts b WHERE b.id = a.id - 1000)".to_owned()
            })
        })
    },
    operation(ANY, "INSERT", ENTRIES, |r| {
        sql(format!(
            "INSERT INTO entries (account_id, amount, note) \
             SELECT id, {}, 'inserted' FROM accounts, generate_series(1, {}) WHERE id = {}",
            value(r),
            r.between(1, 3),
            key(r)
        ))
    }),
    operation(ANY, "UPDATE of a key column", ENTRIES, |r| {
        sql(format!(
            "UPDATE entries SET account_id = {to} WHERE id = (SELECT min(id) FROM entries WHERE account_id = {from}) \
             AND EXISTS (SELECT FROM accounts WHERE id = {to})",
            from = key(r),
            to = key(r)
        ))
    }),
    Operation {
        weight: 20,
        ..operation(ANY, "DELETE", ENTRIES, |r| {
            // Also what keeps the tables small.
            sql(format!(
                "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE account_id = {} ORDER BY id DESC OFFSET {})",
                key(r),
                r.between(4, 12)
            ))
        })
    },
    operation(ANY, "COPY", ENTRIES, |r| {
        let k = key(r);
        let lines = (0..r.between(1, 4))
            .map(|_| format!("{k}\t{}\tcopied\n", value(r)))
            .collect();
        vec![
            // The account may be missing; then there would be nothing to copy to.
            Step::Sql(format!(
                "INSERT INTO accounts VALUES ({k}, 'for a copy', 0) ON CONFLICT DO NOTHING"
            )),
            Step::Copy(
                "COPY entries (account_id, amount, note) FROM STDIN".to_owned(),
                lines,
            ),
        ]
    }),
    operation(ANY, "data-modifying CTE", FAMILY, |r| {
        sql(if r.chance(50) {
            format!(
                "WITH gone AS (DELETE FROM entries WHERE id = (SELECT max(id) FROM entries WHERE account_id = {}) RETURNING account_id, amount) \
                 INSERT INTO notes (account_id, weight) SELECT account_id, amount FROM gone",
                key(r)
            )
        } else {
            format!(
                "WITH changed AS (UPDATE entries SET amount = amount + 1 WHERE account_id = {} RETURNING 1) SELECT count(*) FROM changed",
                key(r)
            )
        })
    }),
    operation(ANY, "writes in a function", ENTRIES, |r| {
        sql(format!("SELECT write_entries({}, {})", key(r), value(r)))
    }),
    operation(ANY, "writes in DO", ENTRIES, |r| {
        sql(format!(
            "DO $$ DECLARE k int; BEGIN FOR k IN {low}..{high} LOOP PERFORM write_entries(k, {value}); END LOOP; END $$",
            low = key(r).min(6),
            high = 7,
            value = value(r)
        ))
    }),
    operation(ANY, "INSTEAD OF trigger", ENTRIES, |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!(
                "INSERT INTO entries_door (account_id, amount) VALUES ({k}, {})",
                value(r)
            ),
            2 => format!("UPDATE entries_door SET amount = amount + 5 WHERE account_id = {k}"),
            _ => format!(
                "DELETE FROM entries_door WHERE id = (SELECT max(id) FROM entries WHERE account_id = {k})"
            ),
        })
    }),
    operation(
        ANY,
        "replica role",
        &[
            "account_total",
            "account_entries",
            "orders_by_region",
            "order_sum",
        ],
        |r| {
            sql(format!(
                "SET LOCAL session_replication_role = replica; \
             UPDATE entries SET amount = amount - 1 WHERE account_id = {k}; \
             INSERT INTO entries (account_id, amount, note) SELECT id, {v}, 'replicated' FROM accounts WHERE id = {k}; \
             DELETE FROM entries WHERE id = (SELECT min(id) FROM entries WHERE account_id = {k}); \
             UPDATE orders SET amount = amount + 1 WHERE account_id = {k}; \
             INSERT INTO orders_r1 (account_id, region, day, amount) VALUES ({k}, 1, {d}, {v}); \
             SET LOCAL session_replication_role = origin",
                k = key(r),
                v = value(r),
                d = day(r)
            ))
        },
    ),
    operation(
        ANY,
        "write to a child by foreign key",
        &["account_summary", "overview"],
        |r| {
            sql(format!(
                "UPDATE notes SET weight = weight + {} WHERE account_id = {}; \
             DELETE FROM notes WHERE id IN (SELECT id FROM notes ORDER BY id DESC OFFSET 40)",
                value(r),
                key(r)
            ))
        },
    ),
    operation(ANY, "partitions through the parent", ORDERS, |r| {
        sql(format!(
            "INSERT INTO orders (account_id, region, day, amount) SELECT {k}, region, {d}, {v} FROM unnest(ARRAY[0, 1, 2]) AS region; \
             UPDATE orders SET amount = amount + {v} WHERE region = {region} AND account_id = {k}; \
             DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE region < 3 ORDER BY id DESC OFFSET 120)",
            k = key(r),
            d = day(r),
            v = value(r),
            region = r.between(0, 2)
        ))
    }),
    operation(ANY, "directly into leaves", ORDERS, |r| {
        let k = key(r);
        let v = value(r);
        sql(match r.between(1, 5) {
            1 => format!(
                "INSERT INTO orders_r0_a (account_id, region, day, amount) VALUES ({k}, 0, {}, {v})",
                r.between(0, 49)
            ),
            2 => format!("UPDATE orders_r0_b SET amount = amount + {v} WHERE account_id = {k}"),
            3 => format!(
                "DELETE FROM orders_default WHERE id = (SELECT max(id) FROM orders_default WHERE account_id = {k})"
            ),
            4 => format!("UPDATE orders_r0 SET amount = amount - 1 WHERE account_id = {k}"),
            _ => format!(
                "INSERT INTO orders_default (account_id, region, day, amount) VALUES ({k}, 2, {}, {v})",
                day(r)
            ),
        })
    }),
    operation(ANY, "rows moving between partitions", ORDERS, |r| {
        sql(format!(
            "UPDATE orders SET region = (region + 1) % 3, day = {} WHERE region < 3 AND account_id = {}",
            day(r),
            key(r)
        ))
    }),
    operation(ANY, "COPY into partitions", ORDERS, |r| {
        let (table, region) = *r.pick(&[
            ("orders", 0),
            ("orders", 1),
            ("orders", 2),
            ("orders_r1", 1),
            ("orders_r0", 0),
        ]);
        let lines = (0..3)
            .map(|_| format!("{}\t{region}\t{}\t{}\n", key(r), day(r), value(r)))
            .collect();
        vec![Step::Copy(
            format!("COPY {table} (account_id, region, day, amount) FROM STDIN"),
            lines,
        )]
    }),
    operation(ANY, "a table that is sometimes a partition", ORDERS, |r| {
        sql(format!(
            "INSERT INTO orders_extra (account_id, region, day, amount) VALUES ({k}, 3, {}, {}); \
             DELETE FROM orders_extra WHERE id IN (SELECT id FROM orders_extra ORDER BY id DESC OFFSET 12)",
            day(r),
            value(r),
            k = key(r)
        ))
    }),
    operation(ANY, "inheritance", THINGS, |r| {
        let k = key(r);
        sql(match r.between(1, 7) {
            7 => format!(
                "UPDATE things_rare SET label = 'rare {}' WHERE kind = {k}",
                value(r)
            ),
            1 => format!(
                "INSERT INTO things (kind, label) VALUES ({k}, 'thing {}')",
                value(r)
            ),
            2 => format!(
                "INSERT INTO things_special (kind, label, extra) VALUES ({k}, 'special', {})",
                value(r)
            ),
            3 => format!(
                "UPDATE things SET label = 'relabelled {}' WHERE kind = {k}",
                value(r)
            ),
            4 => format!(
                "UPDATE things_special SET label = 'only special {}' WHERE kind = {k}",
                value(r)
            ),
            5 => format!(
                "UPDATE ONLY things SET label = 'only plain {}' WHERE kind = {k}",
                value(r)
            ),
            _ => {
                "DELETE FROM things WHERE id IN (SELECT id FROM things ORDER BY id DESC OFFSET 30)"
                    .to_owned()
            }
        })
    }),
    operation(ANY, "unlogged table", SCRATCH, |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!(
                "INSERT INTO scratch AS s VALUES ({k}, {v}) ON CONFLICT (k) DO UPDATE SET v = s.v + {v}",
                v = value(r)
            ),
            2 => format!("INSERT INTO scratch VALUES ({k}, 0) ON CONFLICT DO NOTHING"),
            _ => format!("UPDATE scratch SET v = {} WHERE k = {k}", value(r)),
        })
    }),
    operation(ANY, "MERGE with all branches", SCRATCH, |r| {
        let k = key(r);
        sql(format!(
            "MERGE INTO scratch s USING (SELECT n AS k FROM generate_series({k}, {}) AS n) AS n ON s.k = n.k \
             WHEN MATCHED AND s.v > 100 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET v = s.v + 60 \
             WHEN NOT MATCHED THEN INSERT VALUES (n.k, {})",
            k + 1,
            value(r)
        ))
    }),
    operation(ANY, "table that changes its name", &["swapped"], |r| {
        sql(format!(
            "UPDATE {} SET v = v + 1 WHERE k = {}",
            r.pick(&["swap_a", "swap_b"]),
            key(r)
        ))
    }),
    operation(ANY, "somebody's row triggers", &["audit_state"], |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!("INSERT INTO audited VALUES ({k}, {})", value(r)),
            2 => format!("UPDATE audited SET v = v + 10 WHERE k = {k}"),
            _ => format!(
                "DELETE FROM audited WHERE ctid IN (SELECT ctid FROM audited WHERE k = {k} ORDER BY v OFFSET 2)"
            ),
        })
    }),
    operation(
        ANY,
        "deferred constraint and trigger",
        &["ledger_state"],
        |r| {
            let k = key(r);
            let mut steps = sql(format!(
                "INSERT INTO accounts VALUES ({k}, 'for the ledger', 0) ON CONFLICT DO NOTHING; \
             INSERT INTO ledger VALUES ({k}, {k}, {}); \
             DELETE FROM ledger WHERE ctid IN (SELECT ctid FROM ledger WHERE k = {k} OFFSET 5)",
                value(r)
            ));
            if r.chance(30) {
                steps.push(Step::Check);
                steps.extend(sql("SET CONSTRAINTS ALL IMMEDIATE".to_owned()));
            }
            steps
        },
    ),
    Operation {
        weight: 30,
        ..operation(ANY, "beacon", &["beacon"], |_| vec![Step::Beacon])
    },
    operation(
        ALONE,
        "TRUNCATE",
        &[
            "account_total",
            "account_entries",
            "things_of",
            "scratch_value",
            "orders_by_region",
        ],
        |r| {
            let (table, refill) = *r.pick(&[
            ("entries", "INSERT INTO entries (account_id, amount) SELECT id, 1 FROM accounts"),
            ("scratch", "INSERT INTO scratch SELECT k, 1 FROM generate_series(1, 8) AS k"),
            ("things", "INSERT INTO things (kind, label) SELECT k, 'new' FROM generate_series(1, 8) AS k"),
            ("ONLY things", "INSERT INTO things_special (kind) SELECT k FROM generate_series(1, 8) AS k"),
            ("orders_r1", "INSERT INTO orders_r1 (account_id, region, day, amount) SELECT k, 1, k, k FROM generate_series(1, 8) AS k"),
            ("orders_r0", "INSERT INTO orders (account_id, region, day, amount) SELECT k, 0, k * 10, k FROM generate_series(1, 8) AS k"),
            ("orders", "INSERT INTO orders (account_id, region, day, amount) SELECT k, k % 3, k * 4, k FROM generate_series(1, 30) AS k"),
        ]);
            vec![
                Step::Sql(format!("TRUNCATE {table}")),
                Step::Check,
                Step::Pause(Duration::from_millis(2)),
                Step::Sql(refill.to_owned()),
            ]
        },
    ),
    Operation {
        weight: 2,
        ..operation(ALONE, "TRUNCATE CASCADE", FAMILY, |_| {
            vec![
                Step::Sql("TRUNCATE accounts CASCADE".to_owned()),
                Step::Sql(
                    "INSERT INTO accounts SELECT k, 'after the flood', k FROM generate_series(1, 8) AS k; \
                     INSERT INTO entries (account_id, amount) SELECT k, k FROM generate_series(1, 8) AS k"
                        .to_owned(),
                ),
            ]
        })
    },
    operation(
        ALONE,
        "REFRESH MATERIALIZED VIEW",
        &["stored_total"],
        |_| sql("REFRESH MATERIALIZED VIEW account_totals".to_owned()),
    ),
    operation(ALONE, "REFRESH CONCURRENTLY", &["stored_total"], |_| {
        sql("REFRESH MATERIALIZED VIEW CONCURRENTLY account_totals".to_owned())
    }),
    operation(ALONE, "ALTER TABLE … TYPE", SCRATCH, |r| {
        sql(format!(
            "ALTER TABLE scratch ALTER COLUMN v TYPE {}",
            r.pick(&["int", "bigint", "numeric"])
        ))
    }),
    operation(ALONE, "table rewritten by ADD COLUMN", SCRATCH, |r| {
        sql(if r.chance(50) {
            "ALTER TABLE scratch ADD COLUMN IF NOT EXISTS noise float8 DEFAULT random()".to_owned()
        } else {
            "ALTER TABLE scratch DROP COLUMN IF EXISTS noise".to_owned()
        })
    }),
    operation(ALONE, "COPY FREEZE", SCRATCH, |r| {
        // Its rows are visible to every snapshot at once; PostgreSQL allows it behind a TRUNCATE and at no stricter level.
        let lines = (1..=8).map(|k| format!("{k}\t{}\n", value(r))).collect();
        vec![
            Step::Sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()),
            Step::Sql("TRUNCATE scratch".to_owned()),
            Step::Copy("COPY scratch (k, v) FROM STDIN (FREEZE)".to_owned(), lines),
        ]
    }),
    operation(ALONE, "writes behind DISABLE TRIGGER", THINGS, |r| {
        let update = format!(
            "UPDATE ONLY things SET label = 'in silence {}' WHERE kind = {}",
            value(r),
            key(r)
        );
        sql(match r.between(1, 3) {
            1 => format!(
                "ALTER TABLE things DISABLE TRIGGER USER; {update}; ALTER TABLE things ENABLE TRIGGER USER"
            ),
            2 => format!("ALTER TABLE things DISABLE TRIGGER USER; {update}"),
            _ => format!("{update}; ALTER TABLE things ENABLE TRIGGER USER"),
        })
    }),
    operation(GUARDED, "INHERIT and NO INHERIT", THINGS, |_| {
        sql("DO $$ BEGIN \
             IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'things_special'::regclass) \
             THEN ALTER TABLE things_special NO INHERIT things; \
             ELSE ALTER TABLE things_special INHERIT things; END IF; END $$"
            .to_owned())
    }),
    operation(GUARDED, "CREATE OR REPLACE FUNCTION", &["versioned"], |r| {
        sql(format!(
            "CREATE OR REPLACE FUNCTION versioned(k int) RETURNS bigint LANGUAGE sql STABLE AS \
             'SELECT {} * count(*) FROM entries WHERE account_id = k'",
            r.between(1, 1000)
        ))
    }),
    operation(GUARDED, "CREATE OR REPLACE VIEW", &["rich_total"], |r| {
        sql(format!(
            "CREATE OR REPLACE VIEW account_amounts AS SELECT account_id, amount * {} AS amount FROM entries",
            r.between(1, 1000)
        ))
    }),
    operation(GUARDED, "ATTACH and DETACH", ORDERS, |_| {
        sql("DO $$ BEGIN \
             IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'orders_extra'::regclass) \
             THEN ALTER TABLE orders DETACH PARTITION orders_extra; \
             ELSE ALTER TABLE orders ATTACH PARTITION orders_extra FOR VALUES IN (3); END IF; END $$"
            .to_owned())
    }),
    operation(GUARDED, "new partition", ORDERS, |r| {
        let insert = format!(
            "INSERT INTO orders (account_id, region, day, amount) VALUES ({}, 0, {}, {})",
            key(r),
            r.between(200, 299),
            value(r)
        );
        vec![
            Step::Sql(
                "DO $$ BEGIN IF to_regclass('orders_r0_new') IS NULL THEN \
                 CREATE TABLE orders_r0_new PARTITION OF orders_r0 FOR VALUES FROM (200) TO (300); END IF; END $$"
                    .to_owned(),
            ),
            Step::Sql(insert),
        ]
    }),
    operation(GUARDED, "DROP of a partition", ORDERS, |_| {
        sql("DROP TABLE IF EXISTS orders_r0_new".to_owned())
    }),
    operation(GUARDED, "tables that change names", &["swapped"], |_| {
        sql("ALTER TABLE swap_a RENAME TO swap_c; ALTER TABLE swap_b RENAME TO swap_a; ALTER TABLE swap_c RENAME TO swap_b"
            .to_owned())
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    #[test]
    fn operations_touch_subjects_that_exist() {
        for operation in OPERATIONS {
            assert!(!operation.touches.is_empty());
            for name in operation.touches {
                assert!(Subject::named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (index, operation) in OPERATIONS.iter().enumerate() {
            assert!(
                OPERATIONS[..index]
                    .iter()
                    .all(|other| other.name != operation.name),
                "{}",
                operation.name
            );
        }
    }
}
