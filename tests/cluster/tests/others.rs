//! What one role or one database does never keeps another from the cache: neither transactions that are open, nor many that overlap, nor
//! what concerns one session only.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, counters, number, quiet, wait_for, with_accounts};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// More than an ordinary slot lists.
const MANY: usize = 8;
/// A database of somebody else.
const ELSEWHERE: &str = "elsewhere";
/// One without the extension.
const BARE: &str = "bare";

/// `accounts`, a database of somebody else, and a role that may make temporary tables, and others in a schema of its own.
fn with_a_tenant(name: &str) -> Result<Cluster> {
    let cluster = with_accounts(quiet(name).setting("max_prepared_transactions", 40))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE ROLE tenant LOGIN; CREATE SCHEMA tenant AUTHORIZATION tenant")?;
    client.batch_execute(&format!("CREATE DATABASE {ELSEWHERE}"))?;
    cluster.connect(ELSEWHERE)?.batch_execute(
        "CREATE EXTENSION pg_query_cache; CREATE SCHEMA tenant AUTHORIZATION tenant",
    )?;
    client.batch_execute(&format!("CREATE DATABASE {BARE}"))?;
    cluster
        .connect(BARE)?
        .batch_execute("CREATE TABLE accounts (); CREATE SCHEMA tenant AUTHORIZATION tenant")?;
    Ok(cluster)
}

/// Calls `total_cached()` once more, which has to be a hit.
fn is_hit(client: &mut Client, when: &str) -> Result<()> {
    let before = counters(client, "total_cached")?;
    number(client, "SELECT total_cached()")?;
    let after = counters(client, "total_cached")?;
    let reasons = client.query_one(
        "SELECT reasons::text FROM cache_function_stats WHERE function = 'total_cached(interval)'::regprocedure",
        &[],
    )?;
    ensure!(
        after.hits == before.hits + 1 && after.bypasses == before.bypasses,
        "no hit {when}: {before:?}, then {after:?} {:?}",
        reasons.get::<_, Option<String>>(0)
    );
    Ok(())
}

/// Stores the result, and sees that it is served.
fn fill(client: &mut Client) -> Result<()> {
    number(client, "SELECT total_cached()")?;
    is_hit(client, "at all")
}

/// `MANY` transactions of the tenant that ran `commands`, in which `{}` is a number, and are open.
fn open(cluster: &Cluster, database: &str, commands: &str) -> Result<Vec<Client>> {
    (0..MANY)
        .map(|n| {
            let mut session = cluster.connect_as(database, "tenant")?;
            session.batch_execute(&format!(
                "BEGIN; {}",
                commands.replace("{}", &n.to_string())
            ))?;
            Ok(session)
        })
        .collect()
}

fn commit(sessions: Vec<Client>) -> Result<()> {
    for mut session in sessions {
        session.batch_execute("COMMIT")?;
    }
    Ok(())
}

const TEMPORARY: &str = "CREATE TEMP TABLE a (); ALTER TABLE a RENAME TO b";
const MIGRATION: &str = "CREATE TABLE tenant.t{} (a integer); ALTER TABLE tenant.t{} ADD b text;
    ALTER TABLE tenant.t{} RENAME b TO c; GRANT SELECT ON tenant.t{} TO PUBLIC;
    CREATE FUNCTION tenant.f{}() RETURNS integer LANGUAGE sql AS 'SELECT 1'";

#[test]
fn open_transactions_cost_others_nothing() -> Result<()> {
    let cluster = with_a_tenant("others-open")?;
    let mut client = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    for database in [DATABASE, ELSEWHERE] {
        let idle = open(&cluster, database, TEMPORARY)?;
        is_hit(
            &mut client,
            &format!("while temporary tables are renamed in {database}"),
        )?;
        commit(idle)?;
        is_hit(
            &mut client,
            &format!("after temporary tables were renamed in {database}"),
        )?;
        let idle = open(&cluster, database, MIGRATION)?;
        is_hit(
            &mut client,
            &format!("while there are migrations in {database}"),
        )?;
        drop(idle);
        is_hit(
            &mut client,
            &format!("after migrations were rolled back in {database}"),
        )?;
    }
    Ok(())
}

#[test]
fn an_old_transaction_and_overlapping_ones_cost_others_nothing() -> Result<()> {
    let cluster = with_a_tenant("others-overlap")?;
    let mut client = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    let mut old = cluster.connect_as(ELSEWHERE, "tenant")?;
    old.batch_execute("BEGIN; SELECT txid_current()")?;
    for (database, commands) in [
        (DATABASE, TEMPORARY),
        (ELSEWHERE, TEMPORARY),
        (ELSEWHERE, MIGRATION),
    ] {
        commit(open(&cluster, database, commands)?)?;
        is_hit(&mut client, &format!("after {commands} in {database}"))?;
    }
    // What concerns everybody invalidates, once.
    commit(open(
        &cluster,
        DATABASE,
        &MIGRATION.replace("tenant.", "tenant.m"),
    )?)?;
    fill(&mut client)?;
    let admins: Vec<Client> = (0..MANY)
        .map(|n| {
            let mut admin = cluster.connect(ELSEWHERE)?;
            admin.batch_execute(&format!("BEGIN; CREATE ROLE role{n}"))?;
            Ok(admin)
        })
        .collect::<Result<_>>()?;
    is_hit(&mut client, "while roles are created")?;
    commit(admins)?;
    fill(&mut client)?;
    old.batch_execute("COMMIT")?;
    is_hit(&mut client, "in the end")
}

#[test]
fn prepared_transactions_cost_others_nothing() -> Result<()> {
    let cluster = with_a_tenant("others-prepared")?;
    let mut client = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    for database in [DATABASE, ELSEWHERE] {
        for (n, mut session) in open(&cluster, database, MIGRATION)?.into_iter().enumerate() {
            session.batch_execute(&format!("PREPARE TRANSACTION '{database}{n}'"))?;
        }
        is_hit(
            &mut client,
            &format!("while {MANY} are prepared in {database}"),
        )?;
    }
    for n in 0..MANY {
        cluster
            .connect_as(ELSEWHERE, "tenant")?
            .batch_execute(&format!("COMMIT PREPARED '{ELSEWHERE}{n}'"))?;
    }
    is_hit(&mut client, "after those elsewhere have committed")?;
    cluster
        .connect_as(DATABASE, "tenant")?
        .batch_execute(&format!("COMMIT PREPARED '{DATABASE}0'"))?;
    fill(&mut client)
}

/// Each by a role that owns nothing that others use; or refused, or without effect.
const OF_NO_CONCERN: [&str; 44] = [
    "CREATE TEMP TABLE t (id serial PRIMARY KEY, n integer CHECK (n > 0))",
    "ALTER TABLE t ADD COLUMN v text DEFAULT 'v'",
    "ALTER TABLE t RENAME v TO w",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE u RENAME CONSTRAINT t_n_check TO positive",
    "CREATE INDEX i ON u (n)",
    "CREATE TABLE pg_temp.child () INHERITS (u); ALTER TABLE pg_temp.child NO INHERIT u; DROP TABLE pg_temp.child",
    "ALTER INDEX i RENAME TO j",
    "GRANT SELECT ON u TO PUBLIC",
    "REVOKE SELECT ON u FROM PUBLIC",
    "COMMENT ON TABLE u IS 'mine'",
    "CREATE STATISTICS pg_temp.s ON id, n FROM u",
    "CREATE VIEW v AS SELECT * FROM u",
    "CREATE OR REPLACE VIEW v AS SELECT id, n, w, 1 AS one FROM u",
    "ALTER VIEW v RENAME TO x",
    "CREATE RULE r AS ON INSERT TO x DO INSTEAD NOTHING",
    "CREATE TEMP SEQUENCE q",
    "ALTER SEQUENCE q RESTART 5",
    "CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "ALTER FUNCTION pg_temp.f() COST 5",
    "CREATE OR REPLACE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "GRANT EXECUTE ON FUNCTION pg_temp.f() TO PUBLIC",
    "CREATE TRIGGER g BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION pg_temp.f()",
    "ALTER TRIGGER g ON u RENAME TO h",
    "ALTER TABLE u ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON u USING (n > 1)",
    "ALTER POLICY p ON u RENAME TO o",
    "CREATE TYPE pg_temp.c AS (a integer)",
    "CREATE TYPE pg_temp.e AS ENUM ('a')",
    "ALTER TYPE pg_temp.e ADD VALUE 'b'",
    "CREATE DOMAIN pg_temp.d AS integer CHECK (VALUE > 0)",
    "SET search_path = pg_temp, public; CREATE TABLE k (); ALTER TABLE k RENAME TO l; RESET search_path",
    "DROP POLICY o ON u",
    "DROP VIEW x; DROP TYPE pg_temp.c, pg_temp.e; DROP FUNCTION pg_temp.f() CASCADE; DROP TABLE u, l",
    "DISCARD TEMP",
    "ALTER ROLE tenant PASSWORD 'secret'",
    "ALTER ROLE tenant SET work_mem = '5MB'",
    "ALTER ROLE tenant RESET ALL",
    // Refused, or nothing to do, in a transaction that writes.
    "BEGIN; SELECT txid_current(); DO $$BEGIN ALTER ROLE postgres CREATEDB; EXCEPTION WHEN insufficient_privilege THEN END$$; COMMIT",
    "BEGIN; SELECT txid_current(); DO $$BEGIN ALTER TABLE accounts ADD x integer; EXCEPTION WHEN insufficient_privilege THEN END$$; COMMIT",
    "BEGIN; SELECT txid_current(); SAVEPOINT s; CREATE TABLE tenant.later (); ROLLBACK TO s; COMMIT",
    "BEGIN; SELECT txid_current(); DROP TABLE IF EXISTS tenant.nothing; COMMIT",
    "BEGIN; SELECT txid_current(); REASSIGN OWNED BY tenant TO tenant; COMMIT",
    "BEGIN; SELECT txid_current(); GRANT tenant TO CURRENT_USER; ROLLBACK",
];

#[test]
fn what_concerns_one_session_or_nobody_invalidates_nothing() -> Result<()> {
    let cluster = with_a_tenant("others-temporary")?;
    let mut client = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    for database in [DATABASE, BARE] {
        let mut tenant = cluster.connect_as(database, "tenant")?;
        for command in OF_NO_CONCERN {
            // The last is refused: nobody is a member of itself.
            if let Err(refused) = tenant.batch_execute(command) {
                ensure!(command.contains("TO CURRENT_USER"), "{command}: {refused}");
                tenant.batch_execute("ROLLBACK")?;
            }
            is_hit(&mut client, &format!("after {command} in {database}"))?;
        }
    }
    Ok(())
}

/// Temporary objects that something permanent rests on are no temporary matter.
#[test]
fn what_rests_on_a_temporary_object_is_invalidated() -> Result<()> {
    let cluster = with_a_tenant("others-rest")?;
    let mut client = cluster.connect(DATABASE)?;
    let mut tenant = cluster.connect(DATABASE)?;
    tenant.batch_execute(
        "CREATE FUNCTION pg_temp.inner() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE FUNCTION outer_one() RETURNS integer LANGUAGE sql STABLE BEGIN ATOMIC SELECT pg_temp.inner(); END;
         SELECT cache_function('outer_one()')",
    )?;
    let ask = "SELECT outer_one_cached()::bigint";
    assert_eq!(
        (number(&mut client, ask)?, number(&mut client, ask)?),
        (1, 1)
    );
    tenant.batch_execute(
        "CREATE OR REPLACE FUNCTION pg_temp.inner() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 2'",
    )?;
    assert_eq!(number(&mut client, ask)?, 2);
    Ok(())
}

/// Whatever their oids are.
#[test]
fn databases_do_not_share_their_definitions() -> Result<()> {
    let cluster = with_a_tenant("others-databases")?;
    let mut client = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    let own = number(
        &mut client,
        "SELECT oid::bigint FROM pg_database WHERE datname = current_database()",
    )?;
    for step in [63, 126, 127, 128] {
        // The first oid that users have, and databases as far apart.
        let oid = own.max(20_000) / step * step + own % step + 10 * step;
        client.batch_execute(&format!("CREATE DATABASE far{step} OID {oid}"))?;
        let mut far = cluster.connect(&format!("far{step}"))?;
        far.batch_execute("CREATE EXTENSION pg_query_cache; CREATE TABLE t (); DROP TABLE t")?;
        is_hit(&mut client, &format!("after changes in database {oid}"))?;
    }
    // Names and owners of other databases concern those, wherever they are changed.
    let mut bare = cluster.connect(BARE)?;
    for command in [
        "ALTER DATABASE far63 RENAME TO near63",
        "ALTER DATABASE near63 OWNER TO tenant",
        "REASSIGN OWNED BY tenant TO postgres",
        "ALTER DATABASE near63 SET work_mem = '5MB'",
        "GRANT CREATE ON DATABASE near63 TO tenant",
        "ALTER DATABASE near63 RENAME TO far63",
    ] {
        bare.batch_execute(command)?;
    }
    is_hit(
        &mut client,
        "after changes of another database from a bare one",
    )?;
    for command in [
        "ALTER DATABASE far63 RENAME TO near63",
        "ALTER DATABASE near63 OWNER TO tenant",
    ] {
        client.batch_execute(command)?;
    }
    let mut other = cluster.connect("far126")?;
    for command in [
        "REASSIGN OWNED BY tenant TO postgres",
        "GRANT CREATE ON DATABASE near63 TO tenant",
        "DROP DATABASE near63",
    ] {
        other.batch_execute(command)?;
    }
    is_hit(&mut client, "after changes of another database")
}

/// `pg_database_owner` has one member in each database: its owner.
#[test]
fn the_owner_of_a_database_counts_there() -> Result<()> {
    let cluster = with_a_tenant("others-owner")?;
    let mut there = cluster.connect(ELSEWHERE)?;
    there.batch_execute(
        "CREATE FUNCTION owns() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT pg_has_role(''tenant'', ''pg_database_owner'', ''member'')';
         SELECT cache_function('owns()')",
    )?;
    let mut owns = move |expected: bool| -> Result<()> {
        for _ in 0..2 {
            let row = there.query_one("SELECT owns_cached()", &[])?;
            ensure!(row.get::<_, bool>(0) == expected, "{expected} expected");
        }
        Ok(())
    };
    owns(false)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!("ALTER DATABASE {ELSEWHERE} OWNER TO tenant"))?;
    owns(true)?;
    client.batch_execute("CREATE ROLE other; REASSIGN OWNED BY tenant TO other")?;
    owns(false)?;
    // From a database without the extension.
    let mut bare = cluster.connect(BARE)?;
    bare.batch_execute(&format!("ALTER DATABASE {ELSEWHERE} OWNER TO tenant"))?;
    owns(true)?;
    bare.batch_execute("REASSIGN OWNED BY tenant TO other")?;
    owns(false)
}

/// What a role may do that can log in, and owns nothing that others have. Each is a transaction of its own.
const OF_EVERYBODY: [&str; 30] = [
    "DROP OWNED BY CURRENT_USER",
    "CREATE TEMP TABLE dropped (a integer); DROP OWNED BY CURRENT_USER",
    "CREATE TEMP TABLE granted (a integer); GRANT SELECT ON granted TO friends; DROP OWNED BY CURRENT_USER",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; DROP OWNED BY CURRENT_USER",
    "REASSIGN OWNED BY CURRENT_USER TO CURRENT_USER",
    "CREATE TEMP TABLE given (a integer); REASSIGN OWNED BY CURRENT_USER TO friends",
    "CREATE FUNCTION pg_temp.f(integer, integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
     CREATE OPERATOR pg_temp.<+> (FUNCTION = pg_temp.f, LEFTARG = integer, RIGHTARG = integer);
     ALTER OPERATOR pg_temp.<+> (integer, integer) SET (RESTRICT = NONE); DROP OPERATOR pg_temp.<+> (integer, integer)",
    "CREATE COLLATION pg_temp.c FROM \"C\"; ALTER COLLATION pg_temp.c RENAME TO d; DROP COLLATION pg_temp.d",
    "CREATE TEXT SEARCH CONFIGURATION pg_temp.c (COPY = simple);
     ALTER TEXT SEARCH CONFIGURATION pg_temp.c ALTER MAPPING FOR word WITH simple; DROP TEXT SEARCH CONFIGURATION pg_temp.c",
    "CREATE TEXT SEARCH DICTIONARY pg_temp.d (TEMPLATE = simple);
     ALTER TEXT SEARCH DICTIONARY pg_temp.d (accept = false); DROP TEXT SEARCH DICTIONARY pg_temp.d",
    "CREATE AGGREGATE pg_temp.a (integer) (SFUNC = int4pl, STYPE = integer); DROP AGGREGATE pg_temp.a (integer)",
    "CREATE CONVERSION pg_temp.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; DROP CONVERSION pg_temp.c",
    "CREATE TYPE pg_temp.e AS ENUM ('a'); CREATE DOMAIN pg_temp.d AS integer; DROP TYPE pg_temp.e; DROP DOMAIN pg_temp.d",
    "CREATE TYPE pg_temp.r AS RANGE (SUBTYPE = integer); DROP TYPE pg_temp.r",
    "CREATE TYPE pg_temp.e AS (a integer); CREATE FUNCTION pg_temp.g(pg_temp.e) RETURNS integer LANGUAGE sql AS 'SELECT 1';
     CREATE CAST (pg_temp.e AS integer) WITH FUNCTION pg_temp.g(pg_temp.e); DROP CAST (pg_temp.e AS integer)",
    "CREATE TEMP TABLE s (a integer, b integer); CREATE STATISTICS pg_temp.st ON a, b FROM s; DROP STATISTICS pg_temp.st",
    "CREATE FUNCTION pg_temp.h() RETURNS integer LANGUAGE sql AS 'SELECT 1';
     ALTER FUNCTION pg_temp.h() DEPENDS ON EXTENSION plpgsql",
    "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;
     ALTER LARGE OBJECT 4711 OWNER TO friends; SELECT lo_unlink(4711)",
    "SELECT lo_create(4712); DROP OWNED BY CURRENT_USER",
    // No privileges were granted.
    "GRANT INSERT ON pg_class TO PUBLIC",
    "GRANT SELECT (relname) ON pg_class TO PUBLIC",
    "REVOKE SELECT ON information_schema.tables FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION pg_catalog.abs(integer) TO friends",
    "REVOKE ALL ON FUNCTION pg_catalog.abs(integer) FROM PUBLIC",
    "GRANT USAGE ON LANGUAGE sql TO friends",
    "REVOKE USAGE ON SCHEMA pg_catalog FROM PUBLIC",
    "GRANT USAGE ON TYPE pg_catalog.int4 TO friends",
    "REVOKE SELECT ON ALL TABLES IN SCHEMA shown FROM PUBLIC",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA information_schema TO friends",
];

/// … and may use a foreign server.
const OF_USERS_OF_A_SERVER: [&str; 2] = [
    "CREATE USER MAPPING FOR CURRENT_USER SERVER server; ALTER USER MAPPING FOR CURRENT_USER SERVER server OPTIONS (a 'b');
     DROP USER MAPPING FOR CURRENT_USER SERVER server",
    "CREATE FOREIGN TABLE pg_temp.far (a integer) SERVER server; ALTER FOREIGN TABLE pg_temp.far RENAME TO near; DROP FOREIGN TABLE pg_temp.near",
];

#[test]
fn what_everybody_may_do_invalidates_nothing_of_others() -> Result<()> {
    let cluster = with_a_tenant("others-may")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE ROLE friends; GRANT friends TO tenant")?;
    for database in [DATABASE, BARE] {
        cluster.connect(database)?.batch_execute(
            "CREATE SCHEMA shown; CREATE VIEW shown.it AS SELECT 1 AS a;
             GRANT USAGE ON SCHEMA shown TO PUBLIC; GRANT SELECT ON shown.it TO PUBLIC; DROP SCHEMA tenant;
             CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER server FOREIGN DATA WRAPPER wrapper;
             GRANT USAGE ON FOREIGN SERVER server TO tenant",
        )?;
        fill(&mut client)?;
        for commands in OF_USERS_OF_A_SERVER.iter().chain(&OF_EVERYBODY) {
            if *commands == OF_EVERYBODY[0] {
                // DROP OWNED would take it away, which concerns others.
                cluster
                    .connect(database)?
                    .batch_execute("REVOKE USAGE ON FOREIGN SERVER server FROM tenant")?;
                fill(&mut client)?;
            }
            let mut tenant = cluster.connect_as(database, "tenant")?;
            tenant
                .batch_execute(&format!("BEGIN; {commands}; COMMIT"))
                .map_err(|error| anyhow::anyhow!("{commands}: {error:?}"))?;
            is_hit(&mut client, &format!("after {commands} in {database}"))?;
        }
    }
    Ok(())
}

/// Keys of all tables have slots in common; those of temporary tables have none, whatever triggers somebody makes for them.
#[test]
fn keys_of_temporary_tables_are_nobodys() -> Result<()> {
    let cluster = with_a_tenant("others-keys")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE keyed (k integer, v integer); INSERT INTO keyed SELECT k, k FROM generate_series(1, 300) AS k;
         CREATE FUNCTION of_key(x integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM keyed WHERE k = x';
         SELECT cache_function('of_key(integer)', depends_on => '{\"keyed\": {\"k\": \"$1\"}}')",
    )?;
    let ask = "SELECT sum(of_key_cached(k))::bigint FROM generate_series(1, 300) AS k";
    number(&mut client, ask)?;
    let mut tenant = cluster.connect_as(DATABASE, "tenant")?;
    tenant.batch_execute(
        "CREATE TEMP TABLE own (a integer);
         CREATE TRIGGER before BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON own FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker();
         CREATE TRIGGER keys AFTER INSERT ON own REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('a')",
    )?;
    tenant.batch_execute(
        "DO $$BEGIN FOR n IN 0..199 LOOP INSERT INTO own SELECT generate_series(900 * n, 900 * n + 899); COMMIT; END LOOP; END$$",
    )?;
    let before = counters(&mut client, "of_key_cached")?;
    number(&mut client, ask)?;
    let after = counters(&mut client, "of_key_cached")?;
    ensure!(
        after.hits == before.hits + 300,
        "{before:?}, then {after:?}"
    );
    Ok(())
}

/// The same kinds of commands where they do concern others.
const OF_CONCERN: [&str; 9] = [
    "GRANT SELECT ON shown.it TO tenant",
    "GRANT SELECT (a) ON shown.it TO tenant",
    "REVOKE SELECT ON ALL TABLES IN SCHEMA shown FROM tenant",
    "GRANT USAGE ON SCHEMA shown TO tenant",
    "DROP OWNED BY tenant",
    "CREATE FUNCTION pg_temp.f(integer, integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
     CREATE OPERATOR pg_temp.<+> (FUNCTION = pg_temp.f, LEFTARG = integer, RIGHTARG = integer, COMMUTATOR = OPERATOR(public.<+>))",
    "CREATE TYPE shown.e AS (a integer); CREATE FUNCTION pg_temp.g(shown.e) RETURNS integer LANGUAGE sql AS 'SELECT 1';
     CREATE CAST (shown.e AS integer) WITH FUNCTION pg_temp.g(shown.e)",
    "CREATE COLLATION shown.c FROM \"C\"",
    "REVOKE EXECUTE ON FUNCTION pg_catalog.abs(integer) FROM PUBLIC",
];

#[test]
fn what_concerns_others_still_invalidates() -> Result<()> {
    let cluster = with_a_tenant("others-concern")?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE SCHEMA shown; CREATE VIEW shown.it AS SELECT 1 AS a")?;
    for commands in OF_CONCERN {
        fill(&mut client)?;
        let mut owner = cluster.connect(DATABASE)?;
        owner
            .batch_execute(&format!("BEGIN; {commands}; COMMIT"))
            .map_err(|error| anyhow::anyhow!("{commands}: {error:?}"))?;
        let before = counters(&mut client, "total_cached")?;
        number(&mut client, "SELECT total_cached()")?;
        let after = counters(&mut client, "total_cached")?;
        ensure!(after.hits == before.hits, "a hit after {commands}");
        // What its end takes along invalidates once more.
        drop(owner);
        wait_for(
            &cluster,
            "the session has ended",
            "SELECT count(*) <= 2 FROM pg_stat_activity WHERE backend_type = 'client backend'",
        )?;
    }
    Ok(())
}

/// A column of somebody's table that has a type of the session goes with the session.
#[test]
fn what_the_end_of_a_session_takes_along_is_seen() -> Result<()> {
    let cluster = with_a_tenant("others-end")?;
    let mut client = cluster.connect(DATABASE)?;
    let mut session = cluster.connect(DATABASE)?;
    session.batch_execute(
        "CREATE TYPE pg_temp.short AS (i integer);
         CREATE TABLE wide (a integer, b pg_temp.short); INSERT INTO wide VALUES (1);
         CREATE FUNCTION columns() RETURNS bigint LANGUAGE sql STABLE
             AS 'SELECT count(*) FROM (SELECT jsonb_object_keys(to_jsonb(w)) FROM wide AS w) AS k';
         SELECT cache_track_table('wide'), cache_function('columns()')",
    )?;
    for _ in 0..2 {
        ensure!(number(&mut client, "SELECT columns_cached()")? == 2);
    }
    drop(session);
    wait_for(
        &cluster,
        "the session has ended",
        "SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attname = 'b')",
    )?;
    ensure!(number(&mut client, "SELECT columns()")? == 1);
    ensure!(number(&mut client, "SELECT columns_cached()")? == 1);
    Ok(())
}
