//! What one role or one database does never keeps another from the cache: neither transactions that are open, nor many that overlap, nor
//! what concerns one session only.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, counters, number, quiet, with_accounts};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// More than an ordinary slot lists.
const MANY: usize = 8;
/// A database of somebody else.
const ELSEWHERE: &str = "elsewhere";

/// `accounts`, a database of somebody else, and a role that may make temporary tables, and others in a schema of its own.
fn with_a_tenant(name: &str) -> Result<Cluster> {
    let cluster = with_accounts(quiet(name).setting("max_prepared_transactions", 40))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE ROLE tenant LOGIN; CREATE SCHEMA tenant AUTHORIZATION tenant")?;
    client.batch_execute(&format!("CREATE DATABASE {ELSEWHERE}"))?;
    cluster.connect(ELSEWHERE)?.batch_execute(
        "CREATE EXTENSION pg_query_cache; CREATE SCHEMA tenant AUTHORIZATION tenant",
    )?;
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
    let mut tenant = cluster.connect_as(DATABASE, "tenant")?;
    for command in OF_NO_CONCERN {
        // The last is refused: nobody is a member of itself.
        if let Err(refused) = tenant.batch_execute(command) {
            ensure!(command.contains("TO CURRENT_USER"), "{command}: {refused}");
            tenant.batch_execute("ROLLBACK")?;
        }
        is_hit(&mut client, &format!("after {command}"))?;
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
    // Names and owners of other databases concern those.
    for command in [
        "ALTER DATABASE far63 RENAME TO near63",
        "ALTER DATABASE near63 OWNER TO tenant",
        "ALTER DATABASE near63 SET work_mem = '5MB'",
        "GRANT CREATE ON DATABASE near63 TO tenant",
        "DROP DATABASE near63",
    ] {
        client.batch_execute(command)?;
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
    owns(false)
}
