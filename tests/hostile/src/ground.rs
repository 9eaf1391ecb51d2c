//! What the attackers find.
//!
//! `vault` holds a secret of each role behind row-level security, by role and by a setting; `parent` and `child` are tied by a foreign key;
//! `t` is written by everybody. The functions over them belong to `owner`, and nobody else may change them: a cached answer that differs
//! from the function's own is therefore wrong, or somebody else's.

use anyhow::Result;
use pg_query_cache_harness::Cluster;

/// The database that has the extension.
pub const ATTACKED: &str = "attacked";
/// The database that has not.
pub const BARE: &str = "bare";

/// Functions of `owner`, as calls with an argument, that every role may make; each has a cached one.
pub const CALLS: [&str; 5] = [
    "ground.secrets{}(1)",
    "ground.tenants{}(2)",
    "ground.counted{}(3)",
    "ground.shared_sum{}(4)",
    "ground.rows_of{}(5)",
];

const ROLES: &str = "
    CREATE ROLE owner; CREATE ROLE landlord LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE trudy LOGIN;
    CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE app LOGIN; CREATE ROLE keeper LOGIN; CREATE ROLE gate LOGIN NOINHERIT;
    CREATE ROLE anon; CREATE ROLE authenticated; GRANT anon, authenticated TO gate;
    ALTER DATABASE attacked OWNER TO landlord; ALTER DATABASE bare OWNER TO landlord;";

const TABLES: &str = "
    CREATE SCHEMA ground AUTHORIZATION owner; GRANT USAGE ON SCHEMA ground TO PUBLIC;
    CREATE SCHEMA mallory AUTHORIZATION mallory; CREATE SCHEMA trudy AUTHORIZATION trudy; CREATE SCHEMA app AUTHORIZATION app;
    GRANT CREATE ON SCHEMA public TO landlord;
    CREATE TABLE ground.trapped (by_whom name, as_whom name, at timestamptz DEFAULT now());
    CREATE FUNCTION ground.trap(owner name) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
            INSERT INTO ground.trapped (by_whom, as_whom) VALUES (owner, current_user);
        END IF;
    END $$;
    SET ROLE owner;
    CREATE TABLE ground.vault (id integer, owner name, tenant text, secret text);
    INSERT INTO ground.vault SELECT i, r.rolname, 'tenant ' || i % 3, 'secret of ' || r.rolname || ' ' || i
    FROM (VALUES ('nobody'), ('mallory'), ('trudy'), ('landlord'), ('watcher'), ('app'), ('keeper'), ('anon'), ('authenticated')) AS r (rolname),
         generate_series(1, 6) AS i;
    ALTER TABLE ground.vault ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ground.vault FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON ground.vault USING (owner = current_user OR tenant = current_setting('app.tenant', true));
    CREATE POLICY change ON ground.vault FOR UPDATE USING (owner = current_user);
    GRANT SELECT, UPDATE (secret) ON ground.vault TO PUBLIC;
    CREATE TABLE ground.parent (id integer PRIMARY KEY);
    INSERT INTO ground.parent SELECT generate_series(1, 20);
    CREATE TABLE ground.child (id integer, p integer REFERENCES ground.parent);
    GRANT SELECT, INSERT, UPDATE, DELETE ON ground.child TO PUBLIC;
    GRANT SELECT, INSERT, DELETE ON ground.parent TO PUBLIC;
    CREATE TABLE ground.t (id integer, n bigint, note text);
    INSERT INTO ground.t SELECT i % 10, i, 'note ' || i FROM generate_series(1, 50) AS i;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ground.t TO PUBLIC;
    CREATE FUNCTION ground.secrets(n integer) RETURNS text LANGUAGE sql STABLE AS
        $$SELECT string_agg(v.secret, ', ' ORDER BY v.secret) FROM ground.vault AS v WHERE v.id >= n$$;
    CREATE FUNCTION ground.tenants(n integer) RETURNS text LANGUAGE plpgsql STABLE AS
        $$BEGIN RETURN (SELECT string_agg(v.tenant || v.owner, ', ' ORDER BY v.tenant, v.owner) FROM ground.vault AS v WHERE v.id > n); END$$;
    CREATE FUNCTION ground.counted(n integer) RETURNS bigint LANGUAGE sql STABLE AS
        $$SELECT count(*) + n FROM ground.child AS c JOIN ground.parent AS p ON p.id = c.p$$;
    CREATE FUNCTION ground.shared_sum(n integer) RETURNS numeric LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        $$SELECT sum(t.n) FROM ground.t AS t WHERE t.id = shared_sum.n$$;
    CREATE FUNCTION ground.rows_of(n integer) RETURNS SETOF bigint LANGUAGE sql STABLE AS
        $$SELECT t.n FROM ground.t AS t WHERE t.id = rows_of.n ORDER BY t.n$$;
    RESET ROLE;";

const CACHED: &str = "
    CREATE EXTENSION pg_query_cache;
    SELECT grant_cache_access('app', 'keeper'), grant_cache_access('owner', 'owner');
    SET ROLE owner;
    SELECT cache_function('ground.secrets(int)'), cache_function('ground.tenants(int)', ttl => '3 seconds'), cache_function('ground.counted(int)'),
           cache_function('ground.shared_sum(int)', scope => 'shared'), cache_function('ground.rows_of(int)');
    SELECT cache_track_table('ground.vault'), cache_track_table('ground.child'), cache_track_table('ground.parent'), cache_track_table('ground.t', '{id}');
    RESET ROLE;";

/// Makes both databases and all that is in them.
pub fn prepare(cluster: &Cluster) -> Result<()> {
    let mut admin = cluster.connect("postgres")?;
    for database in [ATTACKED, BARE] {
        admin.batch_execute(&format!("CREATE DATABASE {database}"))?;
    }
    admin.batch_execute(ROLES)?;
    for database in [ATTACKED, BARE] {
        let mut client = cluster.connect(database)?;
        client.batch_execute(TABLES)?;
        if database == ATTACKED {
            client.batch_execute("GRANT CREATE ON SCHEMA ground TO owner")?;
            client.batch_execute(CACHED)?;
        }
    }
    Ok(())
}
