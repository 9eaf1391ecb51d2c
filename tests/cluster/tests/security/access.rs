//! The list, the catalog and the roles say the same.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, holds, number, quiet};
use pg_query_cache_harness::postgres::Client;

use super::{ROLES, SUPABASE};

/// The audiences that a role belongs to.
fn audiences(role: &str, supabase: bool) -> &'static [&'static str] {
    match (role, supabase) {
        ("keeper" | "service_role", _) => &[
            "everybody",
            "developer",
            "caller",
            "explainer",
            "application",
            "warmer",
            "figures",
            "monitor",
            "dumper",
            "clearer",
            "maintenance",
        ],
        ("app", false) => &[
            "everybody",
            "developer",
            "caller",
            "explainer",
            "application",
            "warmer",
            "figures",
            "clearer",
        ],
        ("app", true) => &["everybody", "caller", "application", "warmer"],
        ("watcher", false) => &[
            "everybody",
            "developer",
            "caller",
            "explainer",
            "warmer",
            "figures",
            "clearer",
            "monitor",
            "dumper",
        ],
        ("watcher", true) => &["explainer", "figures", "monitor", "dumper"],
        ("authenticated", true) => &["everybody", "caller"],
        ("nobody", false) => &[
            "everybody",
            "developer",
            "caller",
            "explainer",
            "warmer",
            "figures",
            "clearer",
        ],
        _ => &[],
    }
}

/// Functions, tables, views, the language and the schema of the extension: how the catalog names them, the name, and whether a role may use them.
const MEMBERS: &str = "
    SELECT p.oid::regprocedure::text, p.proname::text, has_function_privilege($1, p.oid, 'EXECUTE'), false
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_query_cache'
    JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    UNION ALL
    SELECT c.oid::regclass::text, c.relname, has_any_column_privilege($1, c.oid, 'SELECT'),
           has_table_privilege($1, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
               OR has_any_column_privilege($1, c.oid, 'INSERT, UPDATE, REFERENCES')
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_query_cache'
    JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind IN ('r', 'v')
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    UNION ALL
    SELECT l.lanname, l.lanname, has_language_privilege($1, l.oid, 'USAGE'), false FROM pg_language AS l WHERE l.lanname = 'cached'
    UNION ALL
    SELECT n.nspname, n.nspname, has_schema_privilege($1, n.oid, 'USAGE'), has_schema_privilege($1, n.oid, 'CREATE')
    FROM pg_namespace AS n WHERE n.nspname = 'query_cache_internal'";

/// The audience of each object, by name.
fn list(client: &mut Client) -> Result<Vec<(String, String)>> {
    Ok(client
        .query("SELECT object_name, audience FROM cache_access_list()", &[])?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect())
}

#[test]
fn every_object_is_on_the_list_once() -> Result<()> {
    let cluster = quiet("access-list").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(ROLES)?;
    let listed = list(&mut client)?;
    let names: BTreeSet<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    ensure!(names.len() == listed.len(), "a name is on the list twice");
    let members: BTreeSet<String> = client
        .query(MEMBERS, &[&"nobody"])?
        .iter()
        .map(|row| row.get(1))
        .collect();
    ensure!(
        names == members,
        "only on the list: {:?}; not on it: {:?}",
        names.difference(&members).collect::<Vec<_>>(),
        members.difference(&names).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn roles_have_what_the_list_says() -> Result<()> {
    for supabase in [false, true] {
        let cluster = quiet(if supabase {
            "access-supabase"
        } else {
            "access"
        })
        .build()?;
        let mut client = cluster.connect(DATABASE)?;
        if supabase {
            client.batch_execute(SUPABASE)?;
        }
        client.batch_execute(ROLES)?;
        let listed = list(&mut client)?;
        let mut roles = vec!["nobody", "watcher", "app", "keeper"];
        if supabase {
            roles.extend(["anon", "authenticated", "service_role"]);
        }
        for role in roles {
            for row in client.query(MEMBERS, &[&role])? {
                let (object, name): (String, String) = (row.get(0), row.get(1));
                let (has, writes): (bool, bool) = (row.get(2), row.get(3));
                let audience = listed
                    .iter()
                    .find(|(listed, _)| *listed == name)
                    .map_or("", |(_, audience)| audience);
                let should = audiences(role, supabase).contains(&audience);
                ensure!(
                    has == should && !writes,
                    "{role} on {object} ({audience}, with Supabase's roles: {supabase}): has {has}, should {should}, writes {writes}"
                );
            }
        }
        // And back.
        client.batch_execute("SELECT revoke_cache_access('keeper'), revoke_cache_access('app')")?;
        for role in ["app", "keeper"] {
            for (row, of_nobody) in client
                .query(MEMBERS, &[&role])?
                .iter()
                .zip(client.query(MEMBERS, &[&"nobody"])?)
            {
                let (object, has): (String, bool) = (row.get(0), row.get(2));
                ensure!(
                    has == of_nobody.get::<_, bool>(2),
                    "{role} still has {object}"
                );
            }
        }
    }
    Ok(())
}

/// Only the owner gives rights, and everything that comes with them.
#[test]
fn rights_are_given_by_the_owner() -> Result<()> {
    let cluster = quiet("access-owner").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(ROLES)?;
    let code = |client: &mut Client, sql: &str| {
        client
            .batch_execute(sql)
            .err()
            .and_then(|error| error.code().map(|code| code.code().to_owned()))
            .unwrap_or_default()
    };
    for (sql, expected) in [
        (
            "SET ROLE keeper; SELECT grant_cache_access('keeper')",
            "42501",
        ),
        (
            "SET ROLE keeper; SELECT revoke_cache_access('app')",
            "42501",
        ),
        (
            "SET ROLE keeper; SELECT query_cache_internal.cache_access_install('{}')",
            "42501",
        ),
        (
            "SELECT query_cache_internal.cache_access_install('{}')",
            "55000",
        ),
        ("SELECT grant_cache_access('missing')", "42704"),
        ("SELECT grant_cache_access('public')", "42704"),
        (
            "SELECT grant_cache_access(admin_role => '\"a\"; DROP ROLE app; --')",
            "42602",
        ),
    ] {
        let found = code(&mut client, sql);
        client.batch_execute("RESET ROLE")?;
        ensure!(found == expected, "{sql}: {found}");
    }
    // Even with EXECUTE, it is the owner's rights that are given.
    client.batch_execute(
        "GRANT EXECUTE ON FUNCTION grant_cache_access, cache_access_list TO keeper",
    )?;
    ensure!(
        code(
            &mut client,
            "SET ROLE keeper; SELECT grant_cache_access('nobody', 'nobody')"
        ) == "42501"
    );
    client.batch_execute(
        "RESET ROLE; CREATE ROLE \"Rôle \"\"x\"\"; --\"; SELECT grant_cache_access('\"Rôle \"\"x\"\"; --\"'), grant_cache_access(), grant_cache_access(NULL, NULL);
         SET ROLE \"Rôle \"\"x\"\"; --\"; SELECT get_product_performance_cached(NULL) WHERE false",
    )?;
    Ok(())
}

/// Owners look after what is theirs, and after nothing else: tables are tracked, cached functions warmed, cleared and looked at.
#[test]
fn owners_look_after_their_own() -> Result<()> {
    for api in [false, true] {
        let cluster = quiet(if api {
            "access-owners-api"
        } else {
            "access-owners"
        })
        .build()?;
        let mut admin = cluster.connect(DATABASE)?;
        if api {
            admin.batch_execute(
                "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role",
            )?;
        }
        admin.batch_execute(
            "CREATE EXTENSION pg_query_cache; CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE app LOGIN; CREATE ROLE keeper LOGIN;
             CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; SELECT grant_cache_access('app', 'keeper');
             GRANT CREATE ON SCHEMA public TO ann, bob",
        )?;
        // Where an API has roles it is the owner of the database whose the ground is.
        if api {
            admin.batch_execute(&format!("ALTER DATABASE {DATABASE} OWNER TO ann"))?;
        }
        let mut ann = cluster.connect_as(DATABASE, "ann")?;
        ann.batch_execute(
            "CREATE TABLE t (id integer); INSERT INTO t VALUES (1);
             CREATE FUNCTION f() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM t';
             SELECT cache_function('f()'), cache_track_table('t'), cache_untrack_table('t'), cache_track_table('t');
             GRANT SELECT ON t TO PUBLIC",
        )?;
        admin.batch_execute("CREATE FUNCTION g() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1'; SELECT cache_function('g()'); SELECT g_cached()")?;
        let warm = "SELECT warm_cache('f_cached(interval)', '{}')";
        ensure!(holds(&mut ann, warm)?);
        ensure!(holds(
            &mut ann,
            "SELECT bool_and(stored) FROM warm_cache_many('f_cached(interval)', '[{}]')"
        )?);
        ensure!(holds(
            &mut ann,
            "SELECT warm_cache_in_background('f_cached(interval)', '[{}]') > 0"
        )?);
        ensure!(holds(
            &mut ann,
            "SELECT f_cached() = 1 AND outcome = 'hit' FROM cache_explain('f_cached()')"
        )?);
        let seen = "SELECT count(*) FROM cache_function_stats";
        ensure!(number(&mut ann, seen)? == 1, "figures of others");
        ensure!(
            number(
                &mut ann,
                "SELECT invalidate_cache_function('f_cached(interval)')"
            )? >= 1
        );
        // Others may not, with the server's words, be the function there or not.
        let mut bob = cluster.connect_as(DATABASE, "bob")?;
        for sql in [
            warm,
            "SELECT warm_cache_many('f_cached(interval)', '[{}]')",
            "SELECT warm_cache_in_background('f_cached(interval)', '[{}]')",
            "SELECT invalidate_cache_function('f_cached(interval)')",
            "SELECT invalidate_cache_function(1)",
            "SELECT warm_cache(0, '{}')",
            "SELECT cache_track_table('t')",
            "SELECT cache_untrack_table('t')",
            "SELECT invalidate_cache('{a}')",
            "SELECT cache_stats()",
        ] {
            let code = bob
                .batch_execute(sql)
                .err()
                .and_then(|error| error.code().map(|code| code.code().to_owned()));
            ensure!(code.as_deref() == Some("42501"), "{sql}: {code:?}");
        }
        ensure!(api || number(&mut bob, seen)? == 0);
        // Who was given it by name may for all functions, as before.
        let mut app = cluster.connect_as(DATABASE, "app")?;
        ensure!(holds(&mut app, warm)?);
        ensure!(
            app.batch_execute("SELECT invalidate_cache_function('f_cached(interval)')")
                .is_err()
        );
        let mut keeper = cluster.connect_as(DATABASE, "keeper")?;
        ensure!(holds(
            &mut keeper,
            "SELECT invalidate_cache_function('f_cached(interval)') >= 0"
        )?);
        for name in ["keeper", "watcher"] {
            ensure!(
                number(&mut cluster.connect_as(DATABASE, name)?, seen)? >= 2,
                "{name}"
            );
        }
        // Nobody is lent it: whose rights a function has, those count.
        ann.batch_execute(
            "CREATE FUNCTION lends() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$SELECT invalidate_cache_function('g_cached(interval)')$$",
        )?;
        ensure!(admin.batch_execute("SELECT lends()").is_err());
        if api {
            for role in ["anon", "authenticated"] {
                admin.batch_execute(&format!("SET ROLE {role}"))?;
                for sql in [
                    warm,
                    seen,
                    "SELECT cache_track_table('t')",
                    "SELECT invalidate_cache_function('f_cached(interval)')",
                ] {
                    ensure!(admin.batch_execute(sql).is_err(), "{role}: {sql}");
                }
                admin.batch_execute("RESET ROLE")?;
            }
        }
    }
    Ok(())
}
