//! Partition and inheritance trees: their rows, and their shape.

use super::{
    ANY, Company, GUARDED, ORDERS, Operation, Step, THINGS, day, key, operation, sql, value,
};

pub(super) const PARTITIONS_THROUGH_THE_PARENT: Operation = operation(
    ANY,
    "partitions through the parent",
    ORDERS,
    |r| {
        sql(format!(
            "INSERT INTO orders (account_id, region, day, amount) SELECT {k}, region, {d}, {v} FROM unnest(ARRAY[0, 1, 2]) AS region; \
         UPDATE orders SET amount = amount + {v} WHERE region = {region} AND account_id = {k}; \
         DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE region < 3 ORDER BY id DESC OFFSET 120)",
            k = key(r),
            d = day(r),
            v = value(r),
            region = r.between(0, 2)
        ))
    },
);

pub(super) const DIRECTLY_INTO_LEAVES: Operation = operation(
    ANY,
    "directly into leaves",
    ORDERS,
    |r| {
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
    },
);

pub(super) const ROWS_MOVING_BETWEEN_PARTITIONS: Operation = operation(
    ANY,
    "rows moving between partitions",
    ORDERS,
    |r| {
        sql(format!(
            "UPDATE orders SET region = (region + 1) % 3, day = {} WHERE region < 3 AND account_id = {}",
            day(r),
            key(r)
        ))
    },
);

pub(super) const COPY_INTO_PARTITIONS: Operation =
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
    });

pub(super) const TABLE_THAT_IS_SOMETIMES_A_PARTITION: Operation = operation(
    ANY,
    "a table that is sometimes a partition",
    ORDERS,
    |r| {
        sql(format!(
            "INSERT INTO orders_extra (account_id, region, day, amount) VALUES ({k}, 3, {}, {}); \
         DELETE FROM orders_extra WHERE id IN (SELECT id FROM orders_extra ORDER BY id DESC OFFSET 12)",
            day(r),
            value(r),
            k = key(r)
        ))
    },
);

pub(super) const INHERITANCE: Operation = operation(ANY, "inheritance", THINGS, |r| {
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
        _ => "DELETE FROM things WHERE id IN (SELECT id FROM things ORDER BY id DESC OFFSET 30)"
            .to_owned(),
    })
});

pub(super) const INHERIT_AND_NO_INHERIT: Operation =
    operation(GUARDED, "INHERIT and NO INHERIT", THINGS, |_| {
        sql("DO $$ BEGIN \
         IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'things_special'::regclass) \
         THEN ALTER TABLE things_special NO INHERIT things; \
         ELSE ALTER TABLE things_special INHERIT things; END IF; END $$"
            .to_owned())
    });

pub(super) const ATTACH_AND_DETACH: Operation =
    operation(GUARDED, "ATTACH and DETACH", ORDERS, |_| {
        sql("DO $$ BEGIN \
         IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'orders_extra'::regclass) \
         THEN ALTER TABLE orders DETACH PARTITION orders_extra; \
         ELSE ALTER TABLE orders ATTACH PARTITION orders_extra FOR VALUES IN (3); END IF; END $$"
            .to_owned())
    });

pub(super) const NEW_PARTITION: Operation = operation(GUARDED, "new partition", ORDERS, |r| {
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
});

pub(super) const DROP_OF_A_PARTITION: Operation =
    operation(GUARDED, "DROP of a partition", ORDERS, |_| {
        sql("DROP TABLE IF EXISTS orders_r0_new".to_owned())
    });

pub(super) const SHELVES: Operation = operation(
    ANY,
    "a partition that is detached concurrently",
    &["shelf_total"],
    |r| {
        let (k, v) = (key(r), value(r));
        sql(match r.between(1, 3) {
            1 => format!(
                "INSERT INTO shelves_0 VALUES ({k}, 0, {v}); \
                 DELETE FROM shelves_0 WHERE ctid IN (SELECT ctid FROM shelves_0 ORDER BY v DESC OFFSET 40)"
            ),
            2 => format!(
                "INSERT INTO shelves_1 VALUES ({k}, 1, {v}); \
                 DELETE FROM shelves_1 WHERE ctid IN (SELECT ctid FROM shelves_1 ORDER BY v DESC OFFSET 40)"
            ),
            _ => format!("UPDATE shelves SET v = v + 1 WHERE k = {k}"),
        })
    },
);

pub(super) const DETACH_CONCURRENTLY: Operation = Operation {
    company: Company::Outside,
    // Often in vain: it waits for everybody who uses the table.
    weight: 8,
    ..operation(GUARDED, "DETACH CONCURRENTLY", &["shelf_total"], |_| {
        vec![Step::DetachConcurrently]
    })
};
