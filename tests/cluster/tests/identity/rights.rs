//! Rights, roles, memberships, owners.

use super::change::{Change, change, felt_by, try_all};
use super::house::{build, enter, ground};
use anyhow::{Result, ensure};
use pg_query_cache_harness::postgres::Client;

const CHANGES: &[Change] = &[
    // Rights on tables and columns.
    change("", "REVOKE SELECT ON notes FROM ann"),
    change("GRANT SELECT ON notes TO PUBLIC", "REVOKE SELECT ON notes FROM ann, bob, PUBLIC"),
    change("REVOKE SELECT ON notes FROM ann", "GRANT SELECT ON notes TO ann"),
    change("REVOKE SELECT ON notes FROM ann", "GRANT SELECT (id, body) ON notes TO ann"),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT (id, body) ON notes TO ann",
        "REVOKE SELECT (id) ON notes FROM ann",
    ),
    change("", "REVOKE ALL ON ALL TABLES IN SCHEMA house FROM ann"),
    change("", "REVOKE USAGE ON SCHEMA house FROM PUBLIC"),
    change(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA house GRANT SELECT ON TABLES TO bob",
        "DROP TABLE notes; SET ROLE landlord; CREATE TABLE notes (id integer, owner text, tenant text, body text); SELECT cache_track_table('notes'); RESET ROLE",
    ),
    // Rights on functions: the base, and one below it that the planner inlines, or not.
    felt_by(
        &["list()", "told()"],
        "",
        "REVOKE EXECUTE ON FUNCTION list(), told() FROM PUBLIC",
    ),
    felt_by(
        &["list()"],
        "REVOKE EXECUTE ON FUNCTION list() FROM PUBLIC; GRANT EXECUTE ON FUNCTION list() TO bob",
        "GRANT EXECUTE ON FUNCTION list() TO ann",
    ),
    felt_by(
        &["above()", "higher()"],
        "CREATE FUNCTION below(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT $1 || '!'$$;
         CREATE FUNCTION above() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(below(body), ',') FROM notes$$;
         CREATE FUNCTION higher() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN below((SELECT max(body) FROM notes)); END$$;
         SELECT cache_function('above()'), cache_function('higher()')",
        "REVOKE EXECUTE ON FUNCTION below(text) FROM PUBLIC",
    ),
    felt_by(
        &["above()", "higher()"],
        "CREATE FUNCTION below(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT $1 || '!'$$;
         REVOKE EXECUTE ON FUNCTION below(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION below(text) TO crew;
         CREATE FUNCTION above() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(below(body), ',') FROM notes$$;
         CREATE FUNCTION higher() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN below((SELECT max(body) FROM notes)); END$$;
         SELECT cache_function('above()'), cache_function('higher()');
         RESET ROLE; GRANT crew TO ann; SET ROLE landlord",
        "REVOKE crew FROM ann",
    ),
    felt_by(
        &["seen()"],
        "CREATE VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION seen() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM seen); END$$;
         SELECT cache_function('seen()')",
        "REVOKE SELECT ON seen FROM ann",
    ),
    // Memberships: direct, over another role, not inherited.
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff",
        "GRANT staff TO ann",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT staff TO ann; SET ROLE landlord",
        "REVOKE staff FROM ann",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT crew TO ann; SET ROLE landlord",
        "GRANT staff TO crew",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT crew TO ann; GRANT staff TO crew; SET ROLE landlord",
        "REVOKE staff FROM crew",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT staff TO ann; SET ROLE landlord",
        "ALTER ROLE ann NOINHERIT",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT crew TO ann; GRANT staff TO crew;
         ALTER ROLE crew NOINHERIT; SET ROLE landlord",
        "ALTER ROLE crew INHERIT",
    ),
    change(
        "REVOKE SELECT ON notes FROM ann; GRANT SELECT ON notes TO staff; RESET ROLE; GRANT staff TO ann; SET ROLE landlord",
        "DROP OWNED BY staff",
    ),
    change("REVOKE SELECT ON notes FROM ann", "ALTER ROLE ann SUPERUSER"),
    change("REVOKE SELECT ON notes FROM bob", "GRANT pg_read_all_data TO bob"),
    // Owners.
    change("REVOKE SELECT ON notes FROM ann", "ALTER TABLE notes OWNER TO ann"),
    change("", "ALTER TABLE notes OWNER TO crew"),
    change("REVOKE SELECT ON notes FROM ann", "REASSIGN OWNED BY landlord TO ann"),
    felt_by(
        &["list()"],
        "REVOKE SELECT ON notes FROM ann",
        "ALTER FUNCTION list() SECURITY DEFINER",
    ),
    felt_by(
        &["list()"],
        "ALTER FUNCTION list() SECURITY DEFINER",
        "ALTER FUNCTION list() SECURITY INVOKER; REVOKE SELECT ON notes FROM ann",
    ),
    felt_by(
        &["list()"],
        "ALTER FUNCTION list() SECURITY DEFINER",
        "ALTER FUNCTION list() OWNER TO crew",
    ),
    felt_by(
        &["seen()"],
        "CREATE VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob; REVOKE SELECT ON notes FROM ann;
         CREATE FUNCTION seen() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM seen); END$$;
         SELECT cache_function('seen()')",
        "ALTER VIEW seen SET (security_invoker = true)",
    ),
    felt_by(
        &["seen()"],
        "CREATE VIEW seen WITH (security_invoker) AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob; REVOKE SELECT ON notes FROM ann;
         CREATE FUNCTION seen() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ',' ORDER BY id) FROM seen$$;
         SELECT cache_function('seen()')",
        "ALTER VIEW seen RESET (security_invoker)",
    ),
    felt_by(
        &["seen()"],
        "CREATE VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION seen() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ',' ORDER BY id) FROM seen$$;
         SELECT cache_function('seen()')",
        "ALTER VIEW seen OWNER TO crew",
    ),
    // A role goes, and another one comes under its name.
    change(
        "",
        "DROP OWNED BY ann;; DROP ROLE ann;; CREATE ROLE ann LOGIN;; GRANT ann TO gate",
    ),
    felt_by(
        &["me()", "we()"],
        "CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$SELECT session_user || ' as ' || current_user$$;
         CREATE FUNCTION we() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_user::text || max(id) FROM notes; END$$;
         SELECT cache_function('me()'), cache_function('we()')",
        "ALTER ROLE ann RENAME TO anna",
    ),
];

#[test]
fn rights_count_at_once() -> Result<()> {
    try_all("rights", CHANGES)
}

/// Rights on what the cluster shares are given in any database.
#[test]
fn rights_come_from_other_databases() -> Result<()> {
    let cluster = ground("other-database")?;
    build(
        &cluster,
        "CREATE FUNCTION may() RETURNS text LANGUAGE sql STABLE AS $$SELECT concat_ws(' ', has_database_privilege('postgres', 'CREATE'),
             has_parameter_privilege('log_min_messages', 'SET'), has_tablespace_privilege('pg_default', 'CREATE'), max(id)) FROM notes$$;
         SELECT cache_function('may()')",
    )?;
    let mut ann = enter(&cluster, "ann")?;
    let mut elsewhere = cluster.connect("template1")?;
    // What belongs to the cluster is asked of the function each time: no other database's rights mark anything here.
    let answer = |client: &mut Client| -> Result<String> {
        let row = client.query_one("SELECT may(), may_cached()", &[])?;
        let (plain, cached): (String, String) = (row.get(0), row.get(1));
        ensure!(plain == cached, "{plain}, cached {cached}");
        Ok(plain)
    };
    let mut old = answer(&mut ann)?;
    for change in [
        "GRANT CREATE ON DATABASE postgres TO ann",
        "GRANT SET ON PARAMETER log_min_messages TO ann",
        "GRANT CREATE ON TABLESPACE pg_default TO ann",
        "REVOKE CREATE ON TABLESPACE pg_default FROM ann",
        "DROP OWNED BY ann",
        "ALTER DATABASE postgres OWNER TO bob",
        "GRANT bob TO ann",
        "REASSIGN OWNED BY bob TO landlord",
    ] {
        elsewhere.batch_execute(change)?;
        let new = answer(&mut ann)?;
        ensure!(new != old || change.contains("OWNER"), "{change}: {new:?}");
        old = new;
    }
    let reasons: Option<String> = ann
        .query_one("SELECT public.reasons('may_cached')", &[])?
        .get(0);
    ensure!(
        reasons
            .as_deref()
            .is_some_and(|reasons| reasons.contains("reads_outside")),
        "{reasons:?}"
    );
    Ok(())
}
