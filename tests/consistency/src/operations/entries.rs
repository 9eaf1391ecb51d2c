//! Rows of entries, in every way that a statement can write.

use super::{ANY, ENTRIES, FAMILY, Operation, Step, day, key, operation, sql, value};

pub(super) const INSERT: Operation = operation(ANY, "INSERT", ENTRIES, |r| {
    sql(format!(
        "INSERT INTO entries (account_id, amount, note) \
         SELECT id, {}, 'inserted' FROM accounts, generate_series(1, {}) WHERE id = {}",
        value(r),
        r.between(1, 3),
        key(r)
    ))
});

pub(super) const UPDATE_OF_A_KEY_COLUMN: Operation = operation(
    ANY,
    "UPDATE of a key column",
    ENTRIES,
    |r| {
        sql(format!(
            "UPDATE entries SET account_id = {to} WHERE id = (SELECT min(id) FROM entries WHERE account_id = {from}) \
         AND EXISTS (SELECT FROM accounts WHERE id = {to})",
            from = key(r),
            to = key(r)
        ))
    },
);

pub(super) const DELETE: Operation = Operation {
    weight: 20,
    ..operation(ANY, "DELETE", ENTRIES, |r| {
        // Also what keeps the tables small.
        sql(format!(
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE account_id = {} ORDER BY id DESC OFFSET {})",
            key(r),
            r.between(4, 12)
        ))
    })
};

pub(super) const COPY: Operation = operation(ANY, "COPY", ENTRIES, |r| {
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
});

pub(super) const DATA_MODIFYING_CTE: Operation = operation(
    ANY,
    "data-modifying CTE",
    FAMILY,
    |r| {
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
    },
);

pub(super) const WRITES_IN_A_FUNCTION: Operation =
    operation(ANY, "writes in a function", ENTRIES, |r| {
        sql(format!("SELECT write_entries({}, {})", key(r), value(r)))
    });

pub(super) const WRITES_IN_DO: Operation = operation(ANY, "writes in DO", ENTRIES, |r| {
    sql(format!(
        "DO $$ DECLARE k int; BEGIN FOR k IN {low}..{high} LOOP PERFORM write_entries(k, {value}); END LOOP; END $$",
        low = key(r).min(6),
        high = 7,
        value = value(r)
    ))
});

pub(super) const INSTEAD_OF_TRIGGER: Operation = operation(
    ANY,
    "INSTEAD OF trigger",
    ENTRIES,
    |r| {
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
    },
);

pub(super) const REPLICA_ROLE: Operation = operation(
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
);

pub(super) const WRITE_TO_A_CHILD_BY_FOREIGN_KEY: Operation = operation(
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
);
