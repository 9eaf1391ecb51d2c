//! What happens in the other database, and comes here by logical replication.

use super::{ALONE, ANY, Operation, Step, key, operation, sql, value};

const MIRRORED: &[&str] = &["mirror_state"];
const FOLLOWED: &[&str] = &["followed_total", "followed_bucket"];
const PARCELS: &[&str] = &["parcel_total"];

pub(super) const INSERT: Operation = operation(ANY, "replicated INSERT", MIRRORED, |r| {
    sql(format!(
        "INSERT INTO mirrored (k, v) VALUES ({k}, {v}); INSERT INTO followed (k, v) VALUES ({k}, {v}); \
         INSERT INTO parcels (k, part, v) VALUES ({k}, {part}, {v})",
        k = key(r),
        v = value(r),
        part = r.between(0, 3)
    ))
});

pub(super) const UPDATE: Operation = operation(ANY, "replicated UPDATE", FOLLOWED, |r| {
    sql(format!(
        "UPDATE {} SET v = v + {} WHERE k = {}",
        r.pick(&["mirrored", "followed", "followed", "parcels"]),
        value(r),
        key(r)
    ))
});

pub(super) const KEY: Operation =
    operation(ANY, "replicated UPDATE of a key column", FOLLOWED, |r| {
        sql(format!(
            "UPDATE followed SET k = {} WHERE id = (SELECT max(id) FROM followed WHERE k = {})",
            key(r),
            key(r)
        ))
    });

pub(super) const PARTITIONS: Operation = operation(
    ANY,
    "replicated rows moving between partitions",
    PARCELS,
    |r| {
        sql(format!(
            "UPDATE parcels SET part = {} WHERE k = {}",
            r.between(0, 3),
            key(r)
        ))
    },
);

pub(super) const DELETE: Operation = operation(ANY, "replicated DELETE", FOLLOWED, |r| {
    // Also what keeps the tables small.
    sql(["mirrored", "followed", "parcels"]
        .map(|table| {
            format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE k = {} ORDER BY id DESC OFFSET {})",
                key(r),
                r.between(2, 6)
            )
        })
        .join("; "))
});

pub(super) const COPY: Operation = operation(ANY, "replicated COPY", FOLLOWED, |r| {
    let lines = (0..r.between(2, 6))
        .map(|_| format!("{}\t{}\n", key(r), value(r)))
        .collect();
    vec![Step::Copy(
        "COPY followed (k, v) FROM STDIN".to_owned(),
        lines,
    )]
});

pub(super) const TRUNCATE: Operation = Operation {
    // Alone is never prepared: prepared here, it would keep readers waiting until the second phase.
    weight: 2,
    ..operation(ALONE, "replicated TRUNCATE", FOLLOWED, |r| {
        let table = r.pick(&["mirrored", "followed", "parcels"]);
        vec![
            Step::Sql(format!("TRUNCATE {table}")),
            Step::Sql(format!(
                "INSERT INTO {table} (k, v) SELECT k, {} FROM generate_series(1, 8) AS k",
                value(r)
            )),
        ]
    })
};
