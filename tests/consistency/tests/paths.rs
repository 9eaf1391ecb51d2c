//! Single paths on which an answer could go wrong that the oracle's readers and writers meet seldom or never. Each was found by
//! reading, and each test fails without its remedy.
//!
//! Needs the extension installed into the PostgreSQL that `pg_config` names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_harness::{Cluster, postgres::Client};

const TABLES: &str = "
    CREATE EXTENSION pg_query_cache;
    CREATE TABLE t (k int, v int);
    INSERT INTO t VALUES (1, 10), (2, 20);
    SELECT cache_track_table('t');";

fn cluster(name: &str, sql: &str) -> Cluster {
    let cluster = Cluster::builder(name)
        .preload(true)
        .setting("deadlock_timeout", "400ms")
        .build()
        .unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    client.batch_execute(TABLES).unwrap();
    client.batch_execute(sql).unwrap();
    cluster
}

fn number(client: &mut Client, sql: &str) -> Option<i32> {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// The function catches an error of a cached function inside it: that there was one rests on what that had read.
#[test]
fn what_a_failed_inner_call_read_counts() {
    let cluster = cluster(
        "paths-failed-inner",
        "CREATE FUNCTION inner_value(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$
             DECLARE found_v int;
             BEGIN SELECT v INTO STRICT found_v FROM t WHERE k = n; RETURN found_v; END $$;
         SELECT cache_function('inner_value(int)');
         CREATE FUNCTION outer_value(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$
             BEGIN RETURN inner_value_cached(n); EXCEPTION WHEN no_data_found THEN RETURN -1; END $$;
         SELECT cache_function('outer_value(int)');",
    );
    let mut client = cluster.connect("postgres").unwrap();
    for _ in 0..2 {
        assert_eq!(
            number(&mut client, "SELECT outer_value_cached(3)"),
            Some(-1)
        );
    }
    client
        .batch_execute("INSERT INTO t VALUES (3, 30)")
        .unwrap();
    assert_eq!(
        number(&mut client, "SELECT outer_value_cached(3)"),
        Some(30)
    );
}

/// Planning `CREATE TEMP TABLE … AS` calls the function before there is a temporary table, which then hides the one it reads.
#[test]
fn a_temporary_table_that_hides_another_is_noticed() {
    let cluster = cluster(
        "paths-temporary",
        "CREATE FUNCTION total(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS
             'BEGIN RETURN (SELECT sum(v) FROM t WHERE k = n); END';
         SELECT cache_function('total(int)');
         ANALYZE t;",
    );
    let mut client = cluster.connect("postgres").unwrap();
    client
        .query("SELECT total_cached(1), total_cached(1)", &[])
        .unwrap();
    client
        .batch_execute(
            "BEGIN; CREATE TEMP TABLE t AS SELECT k, v + 1 AS v FROM t WHERE v = total_cached(1)",
        )
        .unwrap();
    let row = client
        .query_one("SELECT total(1), total_cached(1)", &[])
        .unwrap();
    assert_eq!(row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1));
    assert_eq!(row.get::<_, Option<i64>>(0), Some(11));
}

/// A call site that lives as long as its transaction (an expression in PL/pgSQL) follows a new body of the base function.
#[test]
fn an_expression_follows_a_new_function_body() {
    let cluster = cluster(
        "paths-body",
        "CREATE FUNCTION version(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1 FROM (SELECT count(*) FROM t) AS c';
         SELECT cache_function('version(int)');
         CREATE FUNCTION ask(n int) RETURNS int LANGUAGE plpgsql STABLE AS 'DECLARE x int; BEGIN x := version_cached(n); RETURN x; END';",
    );
    let mut client = cluster.connect("postgres").unwrap();
    let mut other = cluster.connect("postgres").unwrap();
    client.batch_execute("BEGIN").unwrap();
    assert_eq!(number(&mut client, "SELECT ask(1)"), Some(1));
    other
        .batch_execute("CREATE OR REPLACE FUNCTION version(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 2 FROM (SELECT count(*) FROM t) AS c'")
        .unwrap();
    assert_eq!(number(&mut client, "SELECT ask(1)"), Some(2));
    assert_eq!(number(&mut other, "SELECT version_cached(1)"), Some(2));
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(number(&mut client, "SELECT version_cached(1)"), Some(2));
}

/// A plan that the server itself keeps until the transaction ends is this session's affair: nobody else gets its results.
#[test]
fn plans_of_an_older_definition_are_not_published() {
    let cluster = cluster(
        "paths-plans",
        "CREATE FUNCTION part(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
         -- Not inlined itself, because it groups; its own plan inlines part().
         CREATE FUNCTION middle(n int) RETURNS bigint LANGUAGE sql STABLE AS
             'SELECT part(n) * count(*) FROM t WHERE k = n GROUP BY k LIMIT 1';
         CREATE FUNCTION top(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN middle(n); END';
         SELECT cache_function('top(int)');",
    );
    let mut client = cluster.connect("postgres").unwrap();
    let mut other = cluster.connect("postgres").unwrap();
    client.batch_execute("BEGIN").unwrap();
    client.query("SELECT top(1)", &[]).unwrap();
    other
        .batch_execute(
            "CREATE OR REPLACE FUNCTION part(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'",
        )
        .unwrap();
    client.query("SELECT top_cached(1)", &[]).unwrap();
    let row = other
        .query_one("SELECT top(1), top_cached(1)", &[])
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    assert_eq!(row.get::<_, i64>(1), 2);
}

/// A generic plan that was made under an old snapshot goes on reading a partition that is being detached: in that session, until it
/// fills. Then it forgets its plans, and what it stores is right for others.
#[test]
fn plans_from_before_a_detachment_are_not_published() {
    let cluster = cluster(
        "paths-detachment",
        "CREATE TABLE p (k int, v int) PARTITION BY LIST (v);
         CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
         INSERT INTO p VALUES (1, 1), (1, 2);
         SELECT cache_track_table('p');
         CREATE FUNCTION rows(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM p WHERE k = n); END';
         SELECT cache_function('rows(int)');",
    );
    let [mut old, mut holder, mut ddl, mut fresh] =
        [(); 4].map(|()| cluster.connect("postgres").unwrap());
    old.batch_execute(
        "SET plan_cache_mode = force_generic_plan; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    )
    .unwrap();
    holder.batch_execute("BEGIN; SELECT rows(1)").unwrap();
    ddl.batch_execute("SET lock_timeout = '200ms'").unwrap();
    // Commits its first part, and gives up waiting for the others.
    let detached = ddl.batch_execute("ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY");
    assert!(detached.is_err());
    old.batch_execute("SELECT rows(1); COMMIT").unwrap();
    holder.batch_execute("COMMIT").unwrap();
    let mut asked = |call: &str| -> i64 {
        old.query_one(&format!("SELECT {call}"), &[])
            .unwrap()
            .get(0)
    };
    assert_eq!(asked("rows(1)"), 2, "the plan reads both partitions");
    assert_eq!(asked("rows_cached(1)"), 1);
    let row = fresh
        .query_one("SELECT rows(1), rows_cached(1)", &[])
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
}

/// Two sessions with one snapshot: neither is served what is newer.
#[test]
fn an_imported_snapshot_sees_what_its_exporter_does() {
    let cluster = cluster(
        "paths-imported",
        "CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM t';
         SELECT cache_function('total()');",
    );
    let [mut exporter, mut importer, mut writer] =
        [(); 3].map(|()| cluster.connect("postgres").unwrap());
    let hits = |client: &mut Client| -> i64 {
        let sql = "SELECT sum(hits)::bigint FROM cache_function_stats";
        client.query_one(sql, &[]).unwrap().get(0)
    };
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    // Whether the entry was stored before a commit that the snapshot does not see, or after it.
    for (round, before) in [(0, true), (1, false)] {
        let ask = |client: &mut Client, expected: i64| {
            let row = client
                .query_one("SELECT total(), total_cached()", &[])
                .unwrap();
            assert_eq!((row.get(0), row.get(1)), (expected, expected));
        };
        let old = 30 + round;
        exporter.batch_execute(begin).unwrap();
        let name: String = exporter
            .query_one("SELECT pg_export_snapshot()", &[])
            .unwrap()
            .get(0);
        if before {
            ask(&mut exporter, old);
        }
        writer
            .batch_execute("UPDATE t SET v = v + 1 WHERE k = 1")
            .unwrap();
        if !before {
            ask(&mut writer, old + 1);
        }
        importer
            .batch_execute(&format!("{begin}; SET TRANSACTION SNAPSHOT '{name}'"))
            .unwrap();
        ask(&mut importer, old);
        ask(&mut exporter, old);
        ask(&mut writer, old + 1);
        ask(&mut importer, old);
        exporter.batch_execute("COMMIT").unwrap();
        importer.batch_execute("COMMIT").unwrap();
    }
    // Without a writer too: nobody knows where an imported snapshot comes from, so nothing that is stored serves it.
    writer
        .batch_execute("UPDATE t SET v = v + 1 WHERE k = 1")
        .unwrap();
    exporter.batch_execute(begin).unwrap();
    let row = exporter
        .query_one("SELECT pg_export_snapshot(), total_cached()", &[])
        .unwrap();
    let name: String = row.get(0);
    importer
        .batch_execute(&format!("{begin}; SET TRANSACTION SNAPSHOT '{name}'"))
        .unwrap();
    let known = hits(&mut importer);
    let row = importer
        .query_one("SELECT total(), total_cached()", &[])
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
    assert_eq!(hits(&mut importer), known);
}

/// What a SQL function has planned outlives, in an expression, a change of role or of the search path: such a result is not for
/// others with the present role.
#[test]
fn plans_of_another_role_are_not_published() {
    let cluster = cluster(
        "paths-roles",
        "CREATE ROLE tenant;
         CREATE TABLE s (k int, owner name);
         INSERT INTO s VALUES (1, 'tenant'), (1, 'other');
         ALTER TABLE s ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON s USING (owner = current_user);
         GRANT SELECT ON s TO tenant;
         CREATE SCHEMA shadow;
         CREATE TABLE shadow.s (k int, owner name);
         GRANT USAGE ON SCHEMA shadow TO tenant;
         GRANT SELECT ON shadow.s TO tenant;
         SELECT cache_track_table('s'), cache_track_table('shadow.s');
         CREATE FUNCTION rows(n int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM s WHERE k = n';
         CREATE FUNCTION wrapping(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN rows(n); END';
         SELECT cache_function('rows(int)'), cache_function('wrapping(int)');
         CREATE FUNCTION ask(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN rows_cached(n); END';",
    );
    let compare = |path: &str| {
        let mut fresh = cluster.connect("postgres").unwrap();
        fresh
            .batch_execute(&format!("SET ROLE tenant; SET search_path = {path}"))
            .unwrap();
        let row = fresh
            .query_one(
                "SELECT rows(1), rows_cached(1), wrapping(1), wrapping_cached(1)",
                &[],
            )
            .unwrap();
        let answers: Vec<i64> = (0..4).map(|index| row.get(index)).collect();
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[2], answers[3]);
        answers[0]
    };
    let mut client = cluster.connect("postgres").unwrap();
    for (change, path, expected) in [
        ("SET LOCAL ROLE tenant", "public", 1),
        (
            "SET LOCAL ROLE tenant; SET LOCAL search_path = shadow, public",
            "shadow, public",
            0,
        ),
    ] {
        // The call site of the cached function, and one inside the function.
        for asked in ["ask(1)", "wrapping_cached(1)"] {
            client
                .batch_execute(&format!(
                    "BEGIN; SELECT ask(1), wrapping(1); {change}; SELECT {asked}; COMMIT"
                ))
                .unwrap();
        }
        assert_eq!(compare(path), expected);
    }
}

/// A writer of a grandchild has marked the old top of the tree; the tree gets a new top before the writer commits.
#[test]
fn a_new_top_of_an_inheritance_tree_waits_for_writers_below() {
    let cluster = cluster(
        "paths-inheritance",
        "CREATE TABLE m () INHERITS (t);
         ALTER TABLE m NO INHERIT t;
         CREATE TABLE leaf () INHERITS (m);
         INSERT INTO leaf VALUES (1, 1);
         SELECT cache_track_table('m');
         SELECT cache_track_table('t');
         CREATE FUNCTION total(n int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM t WHERE k = n';
         SELECT cache_function('total(int)');",
    );
    let mut writer = cluster.connect("postgres").unwrap();
    let mut ddl = cluster.connect("postgres").unwrap();
    let mut reader = cluster.connect("postgres").unwrap();
    let compare = |reader: &mut Client| {
        for _ in 0..2 {
            let row = reader
                .query_one("SELECT total(1), total_cached(1)", &[])
                .unwrap();
            assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
        }
    };
    compare(&mut reader);
    writer
        .batch_execute("BEGIN; UPDATE leaf SET v = v + 100")
        .unwrap();
    ddl.batch_execute("SET lock_timeout = '300ms'").unwrap();
    let early = ddl.batch_execute("ALTER TABLE m INHERIT t");
    compare(&mut reader);
    writer.batch_execute("COMMIT").unwrap();
    compare(&mut reader);
    if early.is_err() {
        ddl.batch_execute("ALTER TABLE m INHERIT t").unwrap();
    }
    compare(&mut reader);
}

/// The bytes of a row without a named type mean something else in each session.
#[test]
fn anonymous_rows_are_no_keys() {
    let cluster = cluster(
        "paths-anonymous",
        "CREATE FUNCTION shown(a anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT a::text FROM (SELECT count(*) FROM t) AS c';
         SELECT cache_function('shown(anyelement)');",
    );
    let mut one = cluster.connect("postgres").unwrap();
    let mut other = cluster.connect("postgres").unwrap();
    for _ in 0..2 {
        let row = one
            .query_one("SELECT shown_cached(ROW(1, 2))", &[])
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), "(1,2)");
        let row = other
            .query_one("SELECT shown_cached(ROW(1::int, '2000-01-03'::date))", &[])
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), "(1,2000-01-03)");
    }
    let refused = one.batch_execute(
        "CREATE FUNCTION rows() RETURNS TABLE (r record) LANGUAGE sql STABLE AS 'SELECT ROW(1, 2)';
         SELECT cache_function('rows()')",
    );
    assert!(refused.is_err());
}

/// A trigger with a condition does not mark every write.
#[test]
fn a_conditional_trigger_does_not_track() {
    let cluster = cluster(
        "paths-condition",
        "CREATE TABLE u (k int, v int);
         INSERT INTO u VALUES (1, 1);
         SELECT cache_track_table('u');
         DROP TRIGGER pg_query_cache_write ON u;
         CREATE TRIGGER pg_query_cache_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON u
             FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION cache_tracker();
         ALTER TABLE u ENABLE ALWAYS TRIGGER pg_query_cache_write;
         CREATE FUNCTION total(n int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM u WHERE k = n';
         SELECT cache_function('total(int)');",
    );
    let mut client = cluster.connect("postgres").unwrap();
    for _ in 0..3 {
        let row = client
            .query_one("SELECT total(1), total_cached(1)", &[])
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
        client.batch_execute("UPDATE u SET v = v + 1").unwrap();
    }
}
