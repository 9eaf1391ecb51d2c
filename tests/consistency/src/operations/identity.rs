//! What looks different to each role: rows behind policies, the policies, memberships, tables of the same name.

use super::{ANY, GUARDED, Operation, SECRETS, Step, key, operation, sql, value};

pub(super) const ROWS_BEHIND_A_POLICY: Operation = operation(
    ANY,
    "rows behind a policy",
    SECRETS,
    |r| {
        let k = key(r);
        sql(match r.between(1, 4) {
            1 => format!(
                "INSERT INTO secrets (k, owner, tenant, v) VALUES ({k}, 'tenant_{}', {}, {})",
                r.between(0, 2),
                r.between(0, 3),
                value(r)
            ),
            2 => format!("UPDATE secrets SET v = v + 1, at = at + '1 hour' WHERE k = {k}"),
            3 => format!(
                "UPDATE secrets SET owner = 'tenant_{}', tenant = {} WHERE id = (SELECT max(id) FROM secrets WHERE k = {k})",
                r.between(0, 2),
                r.between(0, 3)
            ),
            _ => format!(
                "DELETE FROM secrets WHERE id IN (SELECT id FROM secrets WHERE k = {k} ORDER BY id DESC OFFSET 6)"
            ),
        })
    },
);

pub(super) const WRITES_AS_ANOTHER_ROLE: Operation = operation(
    ANY,
    "writes as another role",
    SECRETS,
    |r| {
        let (k, v) = (key(r), value(r));
        vec![
            Step::Sql(format!(
                "SET LOCAL ROLE tenant_{}; \
                 INSERT INTO secrets (k, tenant, v) VALUES ({k}, {}, {v}); \
                 UPDATE secrets SET v = v - 1 WHERE k = {k}; \
                 DELETE FROM secrets WHERE id IN (SELECT id FROM secrets WHERE k = {k} ORDER BY id OFFSET 3)",
                r.between(1, 2),
                r.between(0, 3)
            )),
            Step::Check,
            Step::Sql("SET LOCAL ROLE NONE".to_owned()),
        ]
    },
);

pub(super) const TABLES_OF_ONE_NAME: Operation =
    operation(ANY, "tables of one name", &["located"], |r| {
        sql(format!(
            "UPDATE {}.places SET v = {} WHERE k = {}",
            r.pick(&["public", "shadow"]),
            value(r),
            key(r)
        ))
    });

pub(super) const ALTER_POLICY: Operation = Operation {
    // Often in vain: it needs a moment in which nobody uses the table.
    weight: 9,
    ..operation(GUARDED, "ALTER POLICY", SECRETS, |r| {
        sql(format!(
            "ALTER POLICY of_owner ON secrets USING ({})",
            r.pick(&[
                "owner = current_user",
                "owner = current_user AND id % 2 = 0",
                "owner <> current_user",
            ])
        ))
    })
};

pub(super) const MEMBERSHIP: Operation =
    operation(GUARDED, "GRANT and REVOKE of a role", SECRETS, |r| {
        sql(r
            .pick(&[
                "GRANT vip TO tenant_1",
                "REVOKE vip FROM tenant_1",
                "GRANT vip TO tenant_2",
                "REVOKE vip FROM tenant_2",
            ])
            .to_string())
    });
