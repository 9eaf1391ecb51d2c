//! Commands that change whole tables, and what names and functions mean.

use std::time::Duration;

use super::{ALONE, FAMILY, GUARDED, Operation, SCRATCH, Step, THINGS, key, operation, sql, value};

pub(super) const TRUNCATE: Operation = operation(
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
);

pub(super) const TRUNCATE_CASCADE: Operation = Operation {
    weight: 4,
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
};

pub(super) const REFRESH_MATERIALIZED_VIEW: Operation = operation(
    ALONE,
    "REFRESH MATERIALIZED VIEW",
    &["stored_total"],
    |_| sql("REFRESH MATERIALIZED VIEW account_totals".to_owned()),
);

pub(super) const REFRESH_CONCURRENTLY: Operation =
    operation(ALONE, "REFRESH CONCURRENTLY", &["stored_total"], |_| {
        sql("REFRESH MATERIALIZED VIEW CONCURRENTLY account_totals".to_owned())
    });

pub(super) const ALTER_TABLE_TYPE: Operation =
    operation(ALONE, "ALTER TABLE … TYPE", SCRATCH, |r| {
        sql(format!(
            "ALTER TABLE scratch ALTER COLUMN v TYPE {}",
            r.pick(&["int", "bigint", "numeric"])
        ))
    });

pub(super) const TABLE_REWRITTEN_BY_ADD_COLUMN: Operation =
    operation(ALONE, "table rewritten by ADD COLUMN", SCRATCH, |r| {
        sql(if r.chance(50) {
            "ALTER TABLE scratch ADD COLUMN IF NOT EXISTS noise float8 DEFAULT random()".to_owned()
        } else {
            "ALTER TABLE scratch DROP COLUMN IF EXISTS noise".to_owned()
        })
    });

pub(super) const COPY_FREEZE: Operation = operation(ALONE, "COPY FREEZE", SCRATCH, |r| {
    // Its rows are visible to every snapshot at once; PostgreSQL allows it behind a TRUNCATE and at no stricter level.
    let lines = (1..=8).map(|k| format!("{k}\t{}\n", value(r))).collect();
    vec![
        Step::Sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()),
        Step::Sql("TRUNCATE scratch".to_owned()),
        Step::Copy("COPY scratch (k, v) FROM STDIN (FREEZE)".to_owned(), lines),
    ]
});

pub(super) const WRITES_BEHIND_DISABLE_TRIGGER: Operation = operation(
    ALONE,
    "writes behind DISABLE TRIGGER",
    THINGS,
    |r| {
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
    },
);

pub(super) const CREATE_OR_REPLACE_FUNCTION: Operation =
    operation(GUARDED, "CREATE OR REPLACE FUNCTION", &["versioned"], |r| {
        sql(format!(
            "CREATE OR REPLACE FUNCTION versioned(k int) RETURNS bigint LANGUAGE sql STABLE AS \
         'SELECT {} * count(*) FROM entries WHERE account_id = k'",
            r.between(1, 1000)
        ))
    });

pub(super) const CREATE_OR_REPLACE_VIEW: Operation = operation(
    GUARDED,
    "CREATE OR REPLACE VIEW",
    &["rich_total"],
    |r| {
        sql(format!(
            "CREATE OR REPLACE VIEW account_amounts AS SELECT account_id, amount * {} AS amount FROM entries",
            r.between(1, 1000)
        ))
    },
);

pub(super) const TABLES_THAT_CHANGE_NAMES: Operation = operation(
    GUARDED,
    "tables that change names",
    &["swapped"],
    |_| {
        sql("ALTER TABLE swap_a RENAME TO swap_c; ALTER TABLE swap_b RENAME TO swap_a; ALTER TABLE swap_c RENAME TO swap_b"
        .to_owned())
    },
);

pub(super) const DROP_AND_CREATE: Operation = operation(
    GUARDED,
    "DROP and CREATE of a table",
    &["reborn_value"],
    |r| {
        let v = value(r);
        let mut text = String::from("DROP TABLE reborn; ");
        text += &if r.chance(50) {
            format!(
                "CREATE TABLE reborn (k int NOT NULL, v bigint NOT NULL); \
                 INSERT INTO reborn SELECT k, {v} FROM generate_series(1, 8) AS k"
            )
        } else {
            format!(
                "CREATE TABLE reborn AS SELECT k, {v}::bigint AS v FROM generate_series(1, 8) AS k"
            )
        };
        // Else the cache has to find out by itself.
        if r.chance(60) {
            text += "; SELECT cache_track_table('reborn')";
        }
        sql(text)
    },
);

pub(super) const RENAME_OF_COLUMNS: Operation = operation(
    GUARDED,
    "columns that change names",
    &["turned_total"],
    |_| {
        sql("ALTER TABLE turned RENAME k TO m; ALTER TABLE turned RENAME l TO k; ALTER TABLE turned RENAME m TO l"
            .to_owned())
    },
);
