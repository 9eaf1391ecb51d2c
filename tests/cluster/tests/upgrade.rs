//! `ALTER EXTENSION pg_query_cache UPDATE`: a database that came from an older version has the same objects, column by column and
//! right by right, as one that begins with this version.

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, answers_are_right, holds, number, quiet};
use pg_query_cache_harness::postgres::Client;

/// Every object of the extension with all that can be said of it, a line each. Names of schemas are left out.
const OBJECTS: &str = r"
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refobjid = e.oid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_query_cache'
    ), relation AS (
        SELECT c.* FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    ), line (what, name, text) AS (
        SELECT 'function', p.oid::regprocedure::text,
               concat_ws(' ', pg_get_functiondef(p.oid), p.prosupport, p.procost, p.prorows, p.probin)
        FROM pg_proc AS p JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        UNION ALL
        SELECT 'comment', pg_describe_object(m.classid, m.objid, 0), obj_description(m.objid, c.relname)
        FROM member AS m JOIN pg_class AS c ON c.oid = m.classid
        UNION ALL
        SELECT 'language', l.lanname, concat_ws(' ', l.lanpltrusted, l.lanplcallfoid::regprocedure, l.lanvalidator::regprocedure)
        FROM pg_language AS l JOIN member AS m ON m.classid = 'pg_language'::regclass AND m.objid = l.oid
        UNION ALL
        SELECT 'relation', r.relname, concat_ws(' ', r.relkind, r.relpersistence, r.relrowsecurity, r.relforcerowsecurity, r.reloptions)
        FROM relation AS r
        UNION ALL
        SELECT 'column', format('%s.%s', r.relname, a.attnum),
               concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
                         a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum))
        FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
        UNION ALL
        SELECT 'view', r.relname, pg_get_viewdef(r.oid) FROM relation AS r WHERE r.relkind = 'v'
        UNION ALL
        SELECT 'constraint', c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint AS c JOIN relation AS r ON r.oid = c.conrelid
        UNION ALL
        SELECT 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
        FROM pg_index AS i JOIN relation AS r ON r.oid = i.indrelid
        UNION ALL
        SELECT 'trigger', t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
        FROM pg_trigger AS t JOIN relation AS r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
        UNION ALL
        SELECT 'policy', format('%s on %s', p.polname, r.relname),
               concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy AS p JOIN relation AS r ON r.oid = p.polrelid
        UNION ALL
        SELECT 'right', pg_describe_object(m.classid, m.objid, 0), a.entry
        FROM member AS m
        LEFT JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
        LEFT JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
        LEFT JOIN pg_language AS l ON m.classid = 'pg_language'::regclass AND l.oid = m.objid
        CROSS JOIN LATERAL (SELECT coalesce(p.proacl, c.relacl, l.lanacl)::text AS acl) AS s
        CROSS JOIN LATERAL (SELECT string_agg(e, ' ' ORDER BY e) AS entry FROM unnest(s.acl::aclitem[]::text[]) AS e) AS a
        UNION ALL
        SELECT 'column right', format('%s.%s', r.relname, a.attname), (SELECT string_agg(e, ' ' ORDER BY e) FROM unnest(a.attacl::text[]) AS e)
        FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid WHERE a.attacl IS NOT NULL
        UNION ALL
        SELECT 'dumped', c.relname, concat_ws(' ', e.extcondition[n.i])
        FROM pg_extension AS e, LATERAL generate_subscripts(e.extconfig, 1) AS n (i), pg_class AS c
        WHERE e.extname = 'pg_query_cache' AND c.oid = e.extconfig[n.i]
    )
    SELECT format('%s %s: %s', what, name, text) FROM line ORDER BY 1";

fn objects(client: &mut Client) -> Result<Vec<String>> {
    Ok(client
        .query(OBJECTS, &[])?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// What one list has and the other has not.
fn difference(old: &[String], new: &[String]) -> String {
    let only = |these: &[String], those: &[String], mark: &str| -> String {
        these
            .iter()
            .filter(|line| !those.contains(line))
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    only(old, new, "updated:") + &only(new, old, "new:")
}

/// Versions that a database can come from, and how many of their functions do not answer under the new library before the update.
const EARLIER: [(&str, usize); 2] = [("0.1.0", 3), ("0.2.0", 0)];

#[test]
fn an_updated_extension_is_as_a_new_one() -> Result<()> {
    for roles in [
        "",
        "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;",
    ] {
        let cluster = quiet(if roles.is_empty() {
            "upgrade"
        } else {
            "upgrade-supabase"
        })
        .build()?;
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute(roles)?;
        client.batch_execute("CREATE EXTENSION pg_query_cache")?;
        let new = objects(&mut client)?;
        ensure!(new.len() > 150, "only {} lines", new.len());
        ensure!(
            number(
                &mut client,
                "SELECT count(*) FROM pg_proc WHERE probin LIKE '%pg_query_cache%' AND probin <> '$libdir/pg_query_cache'"
            )? == 0,
            "the library is looked for along dynamic_library_path"
        );
        for (version, _) in EARLIER {
            client.batch_execute("CREATE DATABASE updated")?;
            client.batch_execute("CREATE DATABASE elsewhere")?;
            // Default privileges are the database's own.
            let mut updated = cluster.connect("updated")?;
            if !roles.is_empty() {
                updated.batch_execute(&roles[roles.find("ALTER").unwrap_or(0)..])?;
            }
            updated.batch_execute(&format!(
                "CREATE EXTENSION pg_query_cache VERSION '{version}'"
            ))?;
            // As these versions named their library.
            updated.batch_execute(
                "UPDATE pg_proc SET probin = 'pg_query_cache' WHERE probin = '$libdir/pg_query_cache'",
            )?;
            updated.batch_execute("ALTER EXTENSION pg_query_cache UPDATE")?;
            let old = objects(&mut updated)?;
            ensure!(new == old, "{version}: {}", difference(&old, &new));
            // In another schema.
            cluster.connect("elsewhere")?.batch_execute(&format!(
                "CREATE SCHEMA \"Ext ensions\"; CREATE EXTENSION pg_query_cache VERSION '{version}' SCHEMA \"Ext ensions\";
                 ALTER EXTENSION pg_query_cache UPDATE; SELECT \"Ext ensions\".clear_cache()",
            ))?;
            drop(updated);
            for database in ["updated", "elsewhere"] {
                client.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn what_was_cached_before_the_update_is_cached_after_it() -> Result<()> {
    for (version, outdated) in EARLIER {
        goes_on_through_the_update(version, outdated)?;
    }
    Ok(())
}

fn goes_on_through_the_update(version: &str, expected: usize) -> Result<()> {
    let cluster = quiet(&format!("upgrade-use-{}", version.replace('.', "-"))).build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!(
        "CREATE EXTENSION pg_query_cache VERSION '{version}'"
    ))?;
    client.batch_execute(pg_query_cache_cluster_tests::ACCOUNTS)?;
    let total = answers_are_right(&mut client)?;
    client.batch_execute(
        "SELECT flush_cache(); GRANT EXECUTE ON FUNCTION total_cached(interval) TO pg_monitor;
         INSERT INTO cache_cleanup_log (removed_by, expired_entries, dead_entries, rows, duration_ms) VALUES ('me', 1, 2, 3, 4)",
    )?;
    // The new library under the old objects: each works, or says what to do.
    let functions = client.query(
        "SELECT format('%s(%s%s)', p.oid::regproc, CASE WHEN p.provariadic <> 0 THEN 'VARIADIC ' END, (SELECT string_agg('NULL::' || t::regtype, ', ') FROM unnest(p.proargtypes) AS t))
         FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_query_cache') AND d.deptype = 'e'
           AND p.prorettype NOT IN ('trigger'::regtype, 'language_handler'::regtype) AND p.proname !~ '^get_.*_cached$'",
        &[],
    )?;
    ensure!(functions.len() > 20);
    let mut outdated = 0;
    for row in functions {
        let call: String = row.get(0);
        match client.simple_query(&format!("SELECT * FROM {call}")) {
            Ok(_) => (),
            Err(error) => match error.code().map(|code| code.code()) {
                Some("55000") => {
                    outdated += 1;
                    let hint = error
                        .as_db_error()
                        .and_then(|error| error.hint())
                        .unwrap_or_default();
                    ensure!(hint.contains("ALTER EXTENSION"), "{call}: {error:?}");
                }
                Some("22023" | "22004") => (),
                _ => anyhow::bail!("{call}: {error:?}"),
            },
        }
    }
    ensure!(
        outdated == expected,
        "{outdated} functions of {version} are outdated"
    );
    // What a call without values does not reach.
    if version == "0.2.0" {
        let warm = "SELECT warm_cache_in_background('total_cached(interval)', '[[]]')";
        let told = client.simple_query(warm).err();
        let state = told.as_ref().and_then(|error| error.code());
        ensure!(state.map(|code| code.code()) == Some("55000"), "{told:?}");
    }
    client.batch_execute("BEGIN; ALTER EXTENSION pg_query_cache UPDATE; ROLLBACK")?;
    answers_are_right(&mut client)?;
    client.batch_execute("ALTER EXTENSION pg_query_cache UPDATE")?;
    ensure!(answers_are_right(&mut client)? == total);
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    ensure!(answers_are_right(&mut client)? == total + 1);
    ensure!(
        number(
            &mut client,
            "SELECT count(*) FROM cache_cleanup_log WHERE removed_by = 'me'"
        )? == 1
    );
    ensure!(holds(
        &mut client,
        "SELECT has_function_privilege('pg_monitor', 'total_cached(interval)', 'EXECUTE')
            AND extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'pg_query_cache')
         FROM pg_extension WHERE extname = 'pg_query_cache'"
    )?);
    Ok(())
}

/// What earlier versions have recorded of base functions has no mark. It decides before the update, which gives it one, and bodies the
/// present name; where two functions could be meant none is called.
#[test]
fn functions_of_earlier_versions_are_bound() -> Result<()> {
    let cluster = quiet("upgrade-bind").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE EXTENSION pg_query_cache VERSION '0.2.0';
         CREATE FUNCTION f(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'right'::text$$;
         CREATE FUNCTION other(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'wrong'::text$$;
         CREATE FUNCTION c(a integer) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"f(integer)\"}';
         CREATE FUNCTION doubtful(a integer) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"f(integer)\"}';
         UPDATE pg_depend SET refobjsubid = 0 WHERE refobjid = 'f(integer)'::regprocedure;
         INSERT INTO pg_depend SELECT classid, objid, objsubid, refclassid, 'other(integer)'::regprocedure, 0, deptype
         FROM pg_depend WHERE objid = 'doubtful(integer)'::regprocedure AND refobjid = 'f(integer)'::regprocedure;
         UPDATE pg_proc SET prosrc = '{\"function\": \"f(integer)\"}' WHERE oid = 'c(integer)'::regprocedure;
         ALTER FUNCTION f(integer) RENAME TO g;
         CREATE FUNCTION f(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'wrong'::text$$;",
    )?;
    let is_right = "SELECT c(1) = 'right'";
    ensure!(holds(&mut cluster.connect(DATABASE)?, is_right)?);
    client.batch_execute("ALTER EXTENSION pg_query_cache UPDATE")?;
    for client in [&mut client, &mut cluster.connect(DATABASE)?] {
        ensure!(holds(client, is_right)?);
        let error = client.batch_execute("SELECT doubtful(1)").unwrap_err();
        ensure!(
            error.code().is_some_and(|code| code.code() == "42883"),
            "{error:?}"
        );
    }
    ensure!(holds(
        &mut client,
        "SELECT base_function = 'public.g(integer)' FROM cached_functions WHERE function = 'c(integer)'::regprocedure"
    )?);
    Ok(())
}
