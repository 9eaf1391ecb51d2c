//! Dump and restore bring everything back; dropping the extension leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Stdio;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, answers_are_right, holds, number, quiet, with_accounts,
};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// What a restored database must have as the first one has it.
const INVENTORY: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT concat_ws(' ', 'function', function, base_function, class, ttl, scope, consistency, priority, depends_on, tags)
        FROM cached_functions
        UNION ALL
        SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(t.oid), d.deptype)
        FROM pg_trigger AS t
        LEFT JOIN pg_depend AS d ON d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_extension'::regclass
        WHERE NOT tgisinternal
        UNION ALL
        SELECT concat_ws(' ', 'dependency', d.objid::regprocedure, d.refobjid::regprocedure)
        FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid JOIN pg_language AS l ON l.oid = p.prolang
        WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_proc'::regclass AND l.lanname = 'cached'
        UNION ALL
        SELECT concat_ws(' ', 'right', p.oid::regprocedure, p.proacl, pg_get_userbyid(p.proowner), obj_description(p.oid))
        FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang WHERE l.lanname = 'cached'
    ) AS all_of_it (line)";

/// Pipes `pg_dump` of one database into another, new one.
fn copy(cluster: &Cluster, to: &str, options: &[&str]) -> Result<()> {
    cluster
        .connect(DATABASE)?
        .batch_execute(&format!("CREATE DATABASE {to} TEMPLATE template0"))?;
    let mut dump = cluster
        .program("pg_dump")
        .args(options)
        .arg(DATABASE)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = cluster
        .program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", to])
        .stdin(dump.stdout.take().unwrap())
        .output()?;
    ensure!(dump.wait()?.success(), "pg_dump failed");
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{errors}");
    Ok(())
}

#[test]
fn a_restored_database_caches_as_the_first_one() -> Result<()> {
    let cluster = with_accounts(quiet("dump-restore"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE ROLE owner_of_more;
         CREATE SCHEMA more AUTHORIZATION owner_of_more;
         CREATE TABLE more.lines (id integer, account integer, kind text) PARTITION BY LIST (kind);
         CREATE TABLE more.lines_a PARTITION OF more.lines FOR VALUES IN ('a');
         CREATE TABLE more.\"Lines B\" PARTITION OF more.lines FOR VALUES IN ('b');
         INSERT INTO more.lines VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'b');
         CREATE FUNCTION more.lines_of(account integer) RETURNS SETOF more.lines LANGUAGE sql STABLE
             AS 'SELECT * FROM more.lines AS l WHERE l.account = $1 ORDER BY id';
         SELECT cache_function('more.lines_of(integer)', ttl => '1 hour', depends_on => '{\"more.lines\": {\"account\": \"$1\"}}',
                               tags => '{lines,account:$1}', class => 'analytics', scope => 'shared', priority => 2);
         ALTER FUNCTION more.lines_of_cached(integer, interval) OWNER TO owner_of_more;
         REVOKE EXECUTE ON FUNCTION more.lines_of_cached(integer, interval) FROM PUBLIC;
         COMMENT ON FUNCTION more.lines_of_cached(integer, interval) IS 'what is dumped';
         -- In the order of their names the cached function would come before what it caches.
         CREATE FUNCTION zzz(a accounts) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT a.balance';
         SELECT cache_function('zzz(accounts)', name => 'aaa');
         CREATE VIEW uses_it AS SELECT total_cached() AS total;
         SELECT flush_cache();",
    )?;
    answers_are_right(&mut client)?;
    let first: String = client.query_one(INVENTORY, &[])?.get(0);
    ensure!(first.lines().count() > 20, "{first}");

    for (name, options) in [
        ("plain", &[][..]),
        ("clean", &["--clean", "--if-exists"][..]),
        ("inserts", &["--inserts"][..]),
    ] {
        copy(&cluster, name, options)?;
        let mut restored = cluster.connect(name)?;
        let second: String = restored.query_one(INVENTORY, &[])?.get(0);
        assert_eq!(first, second);
        assert_eq!(
            number(&mut restored, "SELECT count(*) FROM query_cache")?,
            0
        );
        let total = answers_are_right(&mut restored)?;
        restored.batch_execute(
            "UPDATE accounts SET balance = balance + 1 WHERE id = 1;
             SELECT (SELECT count(*) FROM more.lines_of_cached(1)), (SELECT count(*) FROM more.lines_of_cached(2))",
        )?;
        assert_eq!(answers_are_right(&mut restored)?, total + 1);
        restored.batch_execute("INSERT INTO more.lines VALUES (9, 1, 'a')")?;
        assert!(holds(
            &mut restored,
            "SELECT (SELECT count(*) FROM more.lines_of_cached(1)) = 3 AND (SELECT count(*) FROM more.lines_of_cached(2)) = 1"
        )?);
        assert!(holds(
            &mut restored,
            "SELECT hits > 100 FROM cache_stats()"
        )?);
        // The first database has not noticed.
        assert_eq!(answers_are_right(&mut client)?, total);
    }
    Ok(())
}

/// The configuration comes along, and functions of classes that exist only by it, which come first.
#[test]
fn the_configuration_comes_along() -> Result<()> {
    let cluster = with_accounts(quiet("dump-configuration"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "SELECT set_cache_config('class.reports.ttl', '7 s'), set_cache_config('max_entries', '50'),
                set_cache_config('function.balance_cached(integer,interval).enabled', 'off');
         SELECT cache_function('total()', name => 'report', class => 'reports');",
    )?;
    let configuration = "
        SELECT string_agg(line, E'\\n' ORDER BY line)
        FROM (SELECT c::text FROM cache_config() AS c WHERE source = 'configuration') AS x (line)";
    let first: String = client.query_one(configuration, &[])?.get(0);
    assert_eq!(first.lines().count(), 3, "{first}");
    for (name, options) in [
        ("plain", &[][..]),
        ("clean", &["--clean", "--if-exists"][..]),
        ("inserts", &["--inserts"][..]),
        ("triggers", &["--disable-triggers"][..]),
    ] {
        copy(&cluster, name, options)?;
        let mut restored = cluster.connect(name)?;
        let second: String = restored.query_one(configuration, &[])?.get(0);
        assert_eq!(first, second);
        answers_are_right(&mut restored)?;
        let asked = "SELECT string_agg(reason || ' ' || ttl, ', ' ORDER BY n)
            FROM (SELECT 1, reason, ttl FROM cache_explain('report()')
                  UNION ALL SELECT 2, reason, ttl FROM cache_explain('balance_cached(1)')) AS x (n)";
        let asked: String = restored.query_one(asked, &[])?.get(0);
        assert_eq!(asked, "absent 00:00:07, function_disabled 00:10:00");
        // Who changed it on the other server is that one's history.
        restored.batch_execute("SELECT set_cache_config('max_entries', NULL)")?;
        assert_eq!(
            number(
                &mut restored,
                "SELECT count(*) FROM cache_configuration_log"
            )?,
            1
        );
    }

    // Rows alone, into a database where a session has its copy already.
    client.batch_execute("CREATE DATABASE rows TEMPLATE template0")?;
    let mut rows = cluster.connect("rows")?;
    rows.batch_execute(
        "CREATE EXTENSION pg_query_cache;
         CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         SELECT cache_function('one()'); SELECT one_cached()",
    )?;
    client.batch_execute("SELECT set_cache_config('enabled', 'off')")?;
    let dump = cluster
        .program("pg_dump")
        .args(["--data-only", "--disable-triggers", DATABASE])
        .args(["--table", "cache_configuration"])
        .output()?;
    ensure!(dump.status.success());
    cluster.psql("rows", &String::from_utf8(dump.stdout)?)?;
    assert!(holds(
        &mut rows,
        "SELECT reason = 'database_disabled' FROM cache_explain('one_cached()')"
    )?);
    Ok(())
}

/// Whoever may dump a database may dump one that has the extension; and what the cache did on one server is not told on another.
#[test]
fn everybody_who_may_dump_can() -> Result<()> {
    let cluster = quiet("dump-roles").build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE ROLE dbo LOGIN; CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader",
    )?;
    for (database, version) in [("shop", ""), ("shop2", "VERSION '0.2.0'")] {
        admin.batch_execute(&format!("CREATE DATABASE {database} OWNER dbo"))?;
        let mut shop = cluster.connect(database)?;
        shop.batch_execute(&format!(
            "CREATE EXTENSION pg_query_cache {version}; SET client_min_messages = error; ALTER EXTENSION pg_query_cache UPDATE"
        ))?;
        cluster.connect_as(database, "dbo")?.batch_execute(
            "CREATE TABLE goods (id integer); CREATE FUNCTION goods() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM goods';
             SELECT cache_function('goods()'); SELECT cache_track_table('goods')",
        )?;
        shop.batch_execute(
            "SELECT set_cache_config('max_entries', '50'); SELECT goods_cached(); SELECT flush_cache(), cleanup_expired_cache();
             INSERT INTO cache_trends SELECT 'minute', now(), 77, 77, 77, 77, 77, 77, 77, 77, 77, 77, 77, 77, 77, 77;
             INSERT INTO cache_quarantine VALUES ('public.f()')",
        )?;
        for (user, options) in [
            ("postgres", &[][..]),
            ("dbo", &[][..]),
            ("reader", &[][..]),
            ("dbo", &["--schema-only"][..]),
            ("reader", &["--data-only", "--inserts"][..]),
        ] {
            let dump = cluster
                .program("pg_dump")
                .args(options)
                .args(["-U", user, database])
                .output()?;
            let errors = String::from_utf8_lossy(&dump.stderr);
            ensure!(dump.status.success(), "{user} {options:?}: {errors}");
            let text = String::from_utf8(dump.stdout)?;
            ensure!(
                options.contains(&"--schema-only") || text.contains("max_entries"),
                "{user} {options:?}: without the configuration"
            );
            for absent in [
                "cache_trends",
                "cache_cleanup_log",
                "configuration_log",
                "warm_jobs",
                "SELECT pg_catalog.setval",
            ] {
                ensure!(!text.contains(absent), "{user} {options:?} dumps {absent}");
            }
            if options.is_empty() {
                admin.batch_execute("CREATE DATABASE copy OWNER dbo TEMPLATE template0")?;
                cluster.psql("copy", &text)?;
                let mut copy = cluster.connect("copy")?;
                ensure!(holds(
                    &mut copy,
                    "SELECT (SELECT count(*) FROM cache_trends) + (SELECT count(*) FROM cache_cleanup_log)
                          + (SELECT count(*) FROM cache_configuration_log) + (SELECT count(*) FROM cache_quarantine) = 0
                        AND goods_cached() = 0
                        AND (SELECT value = '50' FROM cache_config() WHERE name = 'max_entries')"
                )?);
                drop(copy);
                admin.batch_execute("DROP DATABASE copy WITH (FORCE)")?;
            }
        }
    }
    Ok(())
}

/// Who restores without being a superuser is told that the configuration does not come along; a superuser brings it.
#[test]
fn without_a_superuser_the_configuration_is_refused() -> Result<()> {
    let cluster = quiet("dump-owner").build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE ROLE dbo LOGIN; CREATE EXTENSION pg_query_cache; SELECT set_cache_config('max_entries', '50')")?;
    admin.batch_execute("CREATE DATABASE site OWNER dbo")?;
    let mut site = cluster.connect("site")?;
    site.batch_execute("CREATE EXTENSION pg_query_cache")?;
    let dump = cluster
        .program("pg_dump")
        .args(["--data-only", "--inserts", DATABASE])
        .output()?;
    ensure!(dump.status.success());
    // What is for psql alone begins with a backslash.
    let dump: String = String::from_utf8(dump.stdout)?
        .lines()
        .filter(|line| !line.starts_with('\\'))
        .map(|line| format!("{line}\n"))
        .collect();
    let error = cluster
        .connect_as("site", "dbo")?
        .batch_execute(&dump)
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(
        error.message(),
        "permission denied for table cache_configuration"
    );
    let value = "SELECT value = '50' FROM cache_config() WHERE name = 'max_entries'";
    ensure!(!holds(&mut site, value)?);
    cluster.connect("site")?.batch_execute(&dump)?;
    ensure!(holds(&mut site, value)?);
    Ok(())
}

/// Who has what on the objects of the extension, a line for each right.
const RIGHTS: &str = "
    SELECT coalesce(string_agg(line, E'\\n' ORDER BY line), '') FROM (
        SELECT format('%s %s: %s', pg_describe_object(m.classid, m.objid, 0), a.attname, item)
        FROM pg_depend AS m JOIN pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'pg_query_cache'
        LEFT JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
        LEFT JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
        LEFT JOIN pg_language AS l ON m.classid = 'pg_language'::regclass AND l.oid = m.objid
        LEFT JOIN pg_namespace AS n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
        CROSS JOIN LATERAL unnest(coalesce(p.proacl, c.relacl, l.lanacl, n.nspacl) || a.attacl) AS item
        WHERE m.refclassid = 'pg_extension'::regclass AND m.deptype = 'e'
    ) AS rights (line)";

/// What the server takes for rights that every installation gives, of a role of the site or of one that is gone.
const NOT_OF_EVERY_INSTALLATION: &str = "
    SELECT count(*) FROM pg_init_privs AS i, aclexplode(i.initprivs) AS a
    WHERE i.privtype = 'e' AND (a.grantee >= 16384 OR a.grantor >= 16384)";

/// Rights of the site's own roles are in a dump, whichever version the extension began with and whether roles of an API were there; a role that
/// has gone is not.
#[test]
fn rights_come_along_and_roles_may_go() -> Result<()> {
    let cluster = quiet("dump-rights").build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE ROLE app; CREATE ROLE keeper; CREATE ROLE leaves; CREATE ROLE auditor",
    )?;
    let rights = |client: &mut Client| -> Result<Vec<String>> {
        let all: String = client.query_one(RIGHTS, &[])?.get(0);
        Ok(all.lines().map(str::to_owned).collect())
    };
    let mut version_of_api = Vec::new();
    for api in [false, true] {
        if api {
            admin.batch_execute(
                "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role",
            )?;
        }
        for version in ["0.2.0", "0.3.0"] {
            let database = format!("site_{api}_{}", version.replace('.', "_"));
            admin.batch_execute(&format!("CREATE DATABASE {database}"))?;
            let mut site = cluster.connect(&database)?;
            site.batch_execute(&format!(
                "CREATE EXTENSION pg_query_cache VERSION '{version}';
                 SELECT grant_cache_access('app', 'keeper'), grant_cache_access('leaves', 'leaves');
                 GRANT SELECT ON cache_trends TO auditor WITH GRANT OPTION; GRANT INSERT, SELECT ON cache_cleanup_log TO auditor;
                 GRANT EXECUTE ON FUNCTION cache_analytics TO auditor; REVOKE EXECUTE ON FUNCTION cache_metrics FROM pg_monitor;
                 SET client_min_messages = error; ALTER EXTENSION pg_query_cache UPDATE"
            ))?;
            for role in ["auditor=", "keeper=", "app=", "leaves="] {
                ensure!(
                    rights(&mut site)?.iter().any(|line| line.contains(role)),
                    "{database}: {role}"
                );
            }
            ensure!(
                number(&mut site, NOT_OF_EVERY_INSTALLATION)? == 0,
                "{database}: initial privileges name roles of the site"
            );
            site.batch_execute("DROP OWNED BY leaves")?;
            ensure!(
                rights(&mut site)?
                    .iter()
                    .any(|line| line.contains("cache_trends") && line.contains("auditor=r*/")),
                "{database}: grant option"
            );
            if api {
                ensure!(
                    !rights(&mut site)?.iter().any(|line| line.contains(": =")),
                    "{database}: something is open to PUBLIC"
                );
                version_of_api.push(database);
            } else {
                restored_rights_are_the_same(&cluster, &database, rights)?;
            }
        }
    }
    for database in &version_of_api {
        restored_rights_are_the_same(&cluster, database, rights)?;
    }
    // Roles go; what is dumped afterwards does not name them.
    for database in &version_of_api {
        cluster
            .connect(database)?
            .batch_execute("DROP OWNED BY anon, authenticated, service_role")?;
    }
    for database in ["site_false_0_2_0", "site_false_0_3_0"] {
        cluster
            .connect(database)?
            .batch_execute("DROP OWNED BY leaves")?;
    }
    admin.batch_execute("DROP ROLE leaves, anon, authenticated, service_role")?;
    for database in version_of_api
        .iter()
        .map(String::as_str)
        .chain(["site_false_0_2_0", "site_false_0_3_0"])
    {
        restored_rights_are_the_same(&cluster, database, rights)?;
    }
    Ok(())
}

fn restored_rights_are_the_same(
    cluster: &Cluster,
    database: &str,
    rights: impl Fn(&mut Client) -> Result<Vec<String>>,
) -> Result<()> {
    let first = rights(&mut cluster.connect(database)?)?;
    let dump = cluster.program("pg_dump").arg(database).output()?;
    ensure!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE DATABASE copy TEMPLATE template0")?;
    cluster.psql("copy", &String::from_utf8(dump.stdout)?)?;
    let second = rights(&mut cluster.connect("copy")?)?;
    admin.batch_execute("DROP DATABASE copy WITH (FORCE)")?;
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these
            .iter()
            .filter(|line| !those.contains(line))
            .cloned()
            .collect()
    };
    ensure!(
        first == second,
        "{database}: lost {:#?}, gained {:#?}",
        only(&first, &second),
        only(&second, &first)
    );
    Ok(())
}

#[test]
fn dropping_the_extension_leaves_nothing_behind() -> Result<()> {
    let cluster = with_accounts(quiet("dump-drop"))?;
    let mut client = cluster.connect(DATABASE)?;
    let objects = "
        SELECT string_agg(o.name, ' ' ORDER BY o.name) FROM (
            SELECT proname FROM pg_proc WHERE oid >= 16384
            UNION ALL SELECT relname FROM pg_class WHERE oid >= 16384
            UNION ALL SELECT tgname FROM pg_trigger WHERE oid >= 16384
            UNION ALL SELECT evtname FROM pg_event_trigger
            UNION ALL SELECT lanname FROM pg_language WHERE oid >= 16384
            UNION ALL SELECT typname FROM pg_type WHERE oid >= 16384
            UNION ALL SELECT polname FROM pg_policy
            UNION ALL SELECT 'default acl' FROM pg_default_acl
            UNION ALL SELECT 'a dependency' FROM pg_depend WHERE objid >= 16384 OR refobjid >= 16384
        ) AS o (name)";
    client.batch_execute("CREATE DATABASE pristine")?;
    let mut pristine = cluster.connect("pristine")?;
    pristine.batch_execute(
        "CREATE TABLE accounts (id integer PRIMARY KEY, owner integer, balance bigint);
         CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(balance)::bigint FROM accounts';
         CREATE FUNCTION balance(id integer) RETURNS bigint LANGUAGE sql STABLE
             AS 'SELECT a.balance FROM accounts AS a WHERE a.id = $1'",
    )?;
    answers_are_right(&mut client)?;
    client.batch_execute("SELECT cache_track_table('accounts', '{owner}'), flush_cache()")?;

    // As long as cached functions of the user's depend on it, the usual error.
    let error = client
        .batch_execute("DROP EXTENSION pg_query_cache")
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "2BP01");
    assert!(
        error
            .detail()
            .unwrap()
            .contains("function total_cached(interval) depends on language cached")
    );
    answers_are_right(&mut client)?;

    client.batch_execute(
        "SELECT uncache_function('total_cached(interval)'), uncache_function('balance_cached(integer,interval)');
         DROP EXTENSION pg_query_cache",
    )?;
    let left =
        |client: &mut Client| -> Result<String> { Ok(client.query_one(objects, &[])?.get(0)) };
    assert_eq!(left(&mut client)?, left(&mut pristine)?);
    client.batch_execute(
        "UPDATE accounts SET balance = 0; TRUNCATE accounts; INSERT INTO accounts VALUES (2, 2, 0)",
    )?;

    // It can come back, also in the same session and in the same transaction, and begins with nothing.
    client.batch_execute(
        "BEGIN; CREATE EXTENSION pg_query_cache;
         SELECT cache_track_table('accounts'), cache_function('total()'), cache_function('balance(integer)');
         SELECT total_cached(); COMMIT",
    )?;
    answers_are_right(&mut client)?;
    client.batch_execute("INSERT INTO accounts VALUES (1, 1, 5)")?;
    assert_eq!(answers_are_right(&mut client)?, 5);
    client.batch_execute(
        "BEGIN; DROP EXTENSION pg_query_cache CASCADE; CREATE EXTENSION pg_query_cache; ROLLBACK",
    )?;
    assert_eq!(answers_are_right(&mut client)?, 5);

    // In a schema of its own, which is then not in the search path.
    client.batch_execute(
        "DROP EXTENSION pg_query_cache CASCADE; CREATE SCHEMA caching; CREATE EXTENSION pg_query_cache SCHEMA caching;
         SELECT caching.cache_track_table('accounts', '{id}'), caching.cache_function('total()'), caching.cache_function('balance(integer)', depends_on => '{\"accounts\": {\"id\": \"$1\"}}');",
    )?;
    assert_eq!(answers_are_right(&mut client)?, 5);
    client.batch_execute("UPDATE accounts SET balance = 6 WHERE id = 1")?;
    assert_eq!(answers_are_right(&mut client)?, 6);
    assert!(holds(&mut client, "SELECT caching.flush_cache() > 0")?);
    assert!(holds(
        &mut client,
        "SELECT hits > 0 FROM caching.cache_stats()"
    )?);
    Ok(())
}
