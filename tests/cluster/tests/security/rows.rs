//! Row-level security: who sees rows of the extension's tables. A right on a table is not enough.

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{ACCOUNTS, DATABASE, answers_are_right, quiet};

use super::{ROLES, SUPABASE};

#[test]
fn rows_are_for_those_who_may_look() -> Result<()> {
    let cluster = quiet("rows").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(SUPABASE)?;
    client.batch_execute(ROLES)?;
    client.batch_execute(ACCOUNTS)?;
    answers_are_right(&mut client)?;
    client.batch_execute(
        "SELECT flush_cache(), cleanup_expired_cache();
         INSERT INTO cache_quarantine VALUES ('public.f()');
         SELECT warm_cache_in_background('total_cached(interval)')",
    )?;
    let tables: Vec<String> = client
        .query(
            "SELECT c.relname::text FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_query_cache'
             JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'r'
             WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'",
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    ensure!(tables.len() >= 3);
    let mut seen = 0;
    for table in &tables {
        let all: i64 = client
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])?
            .get(0);
        seen += usize::from(all > 0);
        for (role, looks) in [
            ("anon", false),
            ("authenticated", false),
            ("nobody", false),
            ("app", false),
            ("watcher", true),
            ("service_role", true),
            ("keeper", true),
        ] {
            client.batch_execute(&format!("SET ROLE {role}"))?;
            let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]);
            client.batch_execute("RESET ROLE")?;
            let count: Option<i64> = count.ok().map(|row| row.get(0));
            // A role may ask for its own jobs, and has none. What is set and got is for the owner.
            let queues = ["authenticated", "app", "service_role", "keeper"].contains(&role);
            let expected = match (table.as_str(), looks) {
                ("cache_values", _) => None,
                ("cache_warm_jobs", _) => queues.then_some(0),
                (_, true) => Some(all),
                _ => None,
            };
            ensure!(
                count == expected,
                "{role} counts {count:?} rows of {table}, there are {all}"
            );
            // Somebody gave the role a right on the table; the rows are not given with it. The configuration is dumped, so there the
            // rights alone decide.
            if table == "cache_configuration" {
                continue;
            }
            client.batch_execute(&format!("GRANT ALL ON {table} TO {role}; SET ROLE {role}"))?;
            let count: i64 = client
                .query_one(&format!("SELECT count(*) FROM {table}"), &[])?
                .get(0);
            let changed = client.execute(&format!("DELETE FROM {table}"), &[])?;
            client.batch_execute(&format!("RESET ROLE; REVOKE ALL ON {table} FROM {role}"))?;
            let rows = looks && table != "cache_warm_jobs";
            ensure!(
                count == if rows { all } else { 0 } && changed == 0,
                "{role}, given {table}, counts {count} rows and deletes {changed}"
            );
        }
    }
    ensure!(seen >= 3, "only {seen} tables had rows");
    Ok(())
}
