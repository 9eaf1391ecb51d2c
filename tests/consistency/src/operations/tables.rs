//! Rows of tables that have something special about them: triggers of others, deferred work, generated columns, policies.

use super::{ANY, Operation, SCRATCH, Step, key, operation, sql, value};

pub(super) const UNLOGGED_TABLE: Operation = operation(ANY, "unlogged table", SCRATCH, |r| {
    let k = key(r);
    sql(match r.between(1, 3) {
        1 => format!(
            "INSERT INTO scratch AS s VALUES ({k}, {v}) ON CONFLICT (k) DO UPDATE SET v = s.v + {v}",
            v = value(r)
        ),
        2 => format!("INSERT INTO scratch VALUES ({k}, 0) ON CONFLICT DO NOTHING"),
        _ => format!("UPDATE scratch SET v = {} WHERE k = {k}", value(r)),
    })
});

pub(super) const MERGE_WITH_ALL_BRANCHES: Operation = operation(
    ANY,
    "MERGE with all branches",
    SCRATCH,
    |r| {
        let k = key(r);
        sql(format!(
            "MERGE INTO scratch s USING (SELECT n AS k FROM generate_series({k}, {}) AS n) AS n ON s.k = n.k \
         WHEN MATCHED AND s.v > 100 THEN DELETE \
         WHEN MATCHED THEN UPDATE SET v = s.v + 60 \
         WHEN NOT MATCHED THEN INSERT VALUES (n.k, {})",
            k + 1,
            value(r)
        ))
    },
);

pub(super) const TABLE_THAT_CHANGES_ITS_NAME: Operation =
    operation(ANY, "table that changes its name", &["swapped"], |r| {
        sql(format!(
            "UPDATE {} SET v = v + 1 WHERE k = {}",
            r.pick(&["swap_a", "swap_b"]),
            key(r)
        ))
    });

pub(super) const ROW_TRIGGERS: Operation = operation(
    ANY,
    "somebody's row triggers",
    &["audit_state"],
    |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!("INSERT INTO audited VALUES ({k}, {})", value(r)),
            2 => format!("UPDATE audited SET v = v + 10 WHERE k = {k}"),
            _ => format!(
                "DELETE FROM audited WHERE ctid IN (SELECT ctid FROM audited WHERE k = {k} ORDER BY v OFFSET 2)"
            ),
        })
    },
);

pub(super) const DEFERRED_CONSTRAINT_AND_TRIGGER: Operation = operation(
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
);

pub(super) const BEACON: Operation = Operation {
    weight: 30,
    ..operation(ANY, "beacon", &["beacon"], |_| vec![Step::Beacon])
};

pub(super) const GENERATED_COLUMNS: Operation = operation(
    ANY,
    "generated columns",
    &["priced_in"],
    |r| {
        let k = key(r);
        sql(match r.between(1, 3) {
            1 => format!("INSERT INTO priced (k, amount) VALUES ({k}, {})", value(r)),
            2 => format!(
                "UPDATE priced SET amount = amount + 1 WHERE id = (SELECT min(id) FROM priced WHERE bucket = {k})"
            ),
            _ => format!(
                "DELETE FROM priced WHERE id IN (SELECT id FROM priced WHERE bucket = {k} ORDER BY id DESC OFFSET 5)"
            ),
        })
    },
);

pub(super) const ROWS_REDIRECTED: Operation = operation(
    ANY,
    "rows redirected by triggers",
    &["routed_state"],
    |r| {
        let k = key(r);
        sql(match r.between(1, 4) {
            1 => format!(
                "INSERT INTO routed (k, v) SELECT {k}, {} + n FROM generate_series(0, 3) AS n",
                value(r)
            ),
            2 => format!(
                "UPDATE routed SET v = v + 1 WHERE id = (SELECT min(id) FROM routed WHERE k = {k} AND NOT gone)"
            ),
            3 => format!(
                "DELETE FROM routed WHERE id IN (SELECT id FROM routed WHERE k = {k} ORDER BY id OFFSET 4)"
            ),
            _ => format!(
                "DELETE FROM routed_away WHERE id IN (SELECT id FROM routed_away WHERE k = {k} ORDER BY id DESC OFFSET 3)"
            ),
        })
    },
);

pub(super) const TABLE_MADE_ANEW: Operation =
    operation(ANY, "table that is made anew", &["reborn_value"], |r| {
        sql(format!("UPDATE reborn SET v = v + 1 WHERE k = {}", key(r)))
    });

pub(super) const TURNED_COLUMNS: Operation = operation(
    ANY,
    "table whose columns change names",
    &["turned_total"],
    |r| {
        sql(format!(
            "UPDATE turned SET {} WHERE k = {}",
            r.pick(&["v = v + 1", "v = v - 3", "k = l, l = k"]),
            key(r)
        ))
    },
);
