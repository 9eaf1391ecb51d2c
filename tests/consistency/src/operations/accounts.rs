//! Rows of accounts, and what follows them by foreign key.

use super::{ACCOUNTS, ANY, FAMILY, Operation, Step, key, operation, sql, value};

pub(super) const UPDATE: Operation = operation(ANY, "UPDATE", ACCOUNTS, |r| {
    sql(format!(
        "UPDATE accounts SET balance = balance + {} WHERE id = {}",
        value(r),
        key(r)
    ))
});

pub(super) const UPSERT: Operation = operation(ANY, "upsert", ACCOUNTS, |r| {
    sql(format!(
        "INSERT INTO accounts AS a VALUES ({}, 'account {}', 0) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, balance = a.balance + 1",
        key(r),
        value(r)
    ))
});

pub(super) const MERGE: Operation = operation(ANY, "MERGE", ACCOUNTS, |r| {
    let first = key(r);
    sql(format!(
        "MERGE INTO accounts a USING (VALUES ({first}, 'merged {v}'), ({second}, 'merged {v}')) AS n (id, name) ON a.id = n.id \
         WHEN MATCHED AND a.balance > 0 THEN UPDATE SET name = n.name \
         WHEN MATCHED THEN UPDATE SET balance = 1000 \
         WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.name, 0)",
        second = first + 1,
        v = value(r)
    ))
});

pub(super) const UPDATABLE_VIEW: Operation = operation(ANY, "updatable view", ACCOUNTS, |r| {
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
});

pub(super) const FK_CASCADE_AND_SET_NULL: Operation = Operation {
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
};

pub(super) const FK_CASCADE_OF_UPDATE: Operation = Operation {
    weight: 4,
    ..operation(ANY, "FK cascade of UPDATE", FAMILY, |r| {
        let k = key(r);
        sql(if r.chance(50) {
            format!("UPDATE accounts SET id = id + 1000 WHERE id = {k}")
        } else {
            "UPDATE accounts a SET id = id - 1000 WHERE id > 1000 AND NOT EXISTS (SELECT FROM accounts b WHERE b.id = a.id - 1000)".to_owned()
        })
    })
};
