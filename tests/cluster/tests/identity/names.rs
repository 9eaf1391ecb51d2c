//! Names: the same words come to mean something else.

use super::change::{Change, change, felt_by, try_all};
use super::house::{both, both_hit, build, enter, ground};
use anyhow::{Result, ensure};

/// Another table of the name, and other functions, in a schema that comes later in the search path.
const ANNEXE: &str = "CREATE TABLE annexe.notes AS SELECT id, owner, tenant, 'annexe' AS body FROM notes; GRANT SELECT ON annexe.notes TO ann, bob;
     SELECT cache_track_table('annexe.notes')";

/// `here()` and `said_here()`, which are not in the schemas that change, read `notes`.
macro_rules! here {
    ($before:literal, $change:literal) => {
        felt_by(
            &["here()", "said_here()"],
            concat!(
                "CREATE TABLE annexe.things AS SELECT 'annexe'::text AS thing; GRANT SELECT ON annexe.things TO ann, bob;
                 CREATE FUNCTION annexe.part(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1';
                 CREATE FUNCTION house.here() RETURNS text LANGUAGE sql STABLE AS 'SELECT string_agg(thing, '','' ORDER BY thing) FROM things';
                 CREATE FUNCTION house.said_here() RETURNS text LANGUAGE plpgsql STABLE AS
                     $$BEGIN RETURN (SELECT string_agg(part(thing), ',' ORDER BY thing) FROM things); END$$;
                 SELECT cache_track_table('annexe.things'); ",
                $before,
                "; SELECT cache_function('here()'), cache_function('said_here()')"
            ),
            $change,
        )
    };
}

const CHANGES: &[Change] = &[
    // Something of the name comes into an earlier schema, or goes.
    here!("", "CREATE TABLE house.things AS SELECT 'house'::text AS thing; GRANT SELECT ON house.things TO ann, bob; SELECT cache_track_table('house.things')"),
    here!("", "CREATE VIEW house.things AS SELECT 'house'::text AS thing; GRANT SELECT ON house.things TO ann, bob"),
    here!("", "CREATE FUNCTION house.part(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'house: ' || $1$$; ALTER TABLE annexe.things SET SCHEMA house"),
    felt_by(
        &["parts()"],
        "CREATE FUNCTION annexe.part(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1';
         CREATE FUNCTION parts() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(part(body), ',') FROM notes); END$$;
         SELECT cache_function('parts()')",
        "CREATE FUNCTION house.part(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'house: ' || $1$$",
    ),
    // A function that fits better.
    felt_by(
        &["parts()", "pieces()"],
        "CREATE FUNCTION part(numeric) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'numeric ' || $1$$;
         CREATE FUNCTION parts() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(part(id), ',' ORDER BY id) FROM notes); END$$;
         CREATE FUNCTION pieces() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(part(id), ',' ORDER BY id) FROM notes$$;
         SELECT cache_function('parts()'), cache_function('pieces()')",
        "CREATE FUNCTION part(integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'integer ' || $1$$",
    ),
    felt_by(
        &["parts()", "pieces()"],
        "CREATE FUNCTION far(numeric, numeric) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'numeric'$$;
         CREATE OPERATOR annexe.<~> (FUNCTION = far, LEFTARG = numeric, RIGHTARG = numeric);
         CREATE FUNCTION near(integer, integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'integer'$$;
         CREATE FUNCTION parts() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT max(id <~> id) FROM notes); END$$;
         CREATE FUNCTION pieces() RETURNS text LANGUAGE sql STABLE AS $$SELECT max(id <~> id) FROM notes$$;
         SELECT cache_function('parts()'), cache_function('pieces()')",
        "CREATE OPERATOR house.<~> (FUNCTION = near, LEFTARG = integer, RIGHTARG = integer)",
    ),
    here!("CREATE TABLE house.things AS SELECT 'house'::text AS thing; GRANT SELECT ON house.things TO ann, bob; SELECT cache_track_table('house.things')", "DROP TABLE house.things"),
    here!("CREATE TABLE house.other AS SELECT 'house'::text AS thing; GRANT SELECT ON house.other TO ann, bob; SELECT cache_track_table('house.other')", "ALTER TABLE house.other RENAME TO things"),
    here!("CREATE TABLE house.other AS SELECT 'other'::text AS thing; GRANT SELECT ON house.other TO ann, bob; SELECT cache_track_table('house.other')",
        "ALTER TABLE annexe.things RENAME TO old; ALTER TABLE house.other RENAME TO things; ALTER TABLE house.things SET SCHEMA annexe"
    ),
    // Schemas.
    change(ANNEXE, "ALTER TABLE house.notes RENAME TO put_away"),
    change(ANNEXE, "ALTER TABLE house.notes SET SCHEMA public; GRANT SELECT ON public.notes TO ann"),
    here!("", "ALTER SCHEMA annexe RENAME TO cellar"),
    here!(
        "RESET ROLE; CREATE SCHEMA attic AUTHORIZATION landlord; SET ROLE landlord; CREATE TABLE attic.things AS SELECT 'attic'::text AS thing;
         CREATE FUNCTION attic.part(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'; GRANT USAGE ON SCHEMA attic TO PUBLIC;
         GRANT SELECT ON attic.things TO ann, bob; SELECT cache_track_table('attic.things')",
        "ALTER SCHEMA annexe RENAME TO cellar; ALTER SCHEMA attic RENAME TO annexe"
    ),
    here!(
        "RESET ROLE; REVOKE USAGE ON SCHEMA annexe FROM PUBLIC; SET ROLE landlord; CREATE TABLE house.things AS SELECT 'house'::text AS thing;
         CREATE FUNCTION part(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'; GRANT SELECT ON house.things TO PUBLIC;
         SELECT cache_track_table('house.things')",
        "ALTER TABLE house.things RENAME TO other; GRANT USAGE ON SCHEMA annexe TO ann"
    ),
];

#[test]
fn names_count_at_once() -> Result<()> {
    try_all("names", CHANGES)
}

/// Which schemas of the search path somebody may look into is decided when it is set, and PostgreSQL keeps what it found.
#[test]
fn a_schema_opens_and_closes_by_membership() -> Result<()> {
    let cluster = ground("membership")?;
    let mut admin = build(
        &cluster,
        "RESET ROLE; CREATE SCHEMA attic AUTHORIZATION landlord; GRANT USAGE ON SCHEMA attic TO staff; SET ROLE landlord;
         CREATE TABLE attic.notes AS SELECT id, owner, tenant, 'attic' AS body FROM notes; GRANT SELECT ON attic.notes TO PUBLIC;
         SELECT cache_track_table('attic.notes')",
    )?;
    let path = "SET search_path = attic, house, public";
    let mut open = enter(&cluster, "ann")?;
    open.batch_execute(path)?;
    for (change, in_attic) in [
        ("SELECT 1", false),
        ("GRANT staff TO ann", true),
        ("REVOKE staff FROM ann", false),
        ("GRANT staff TO crew; GRANT crew TO ann", true),
        ("ALTER ROLE ann NOINHERIT", false),
    ] {
        admin.batch_execute(change)?;
        let mut fresh = enter(&cluster, "ann")?;
        fresh.batch_execute(path)?;
        for call in ["list()", "told()"] {
            // The open one first: what it stores the fresh one finds.
            let before = both(&mut open, call)?;
            let after = both_hit(&mut fresh, call)?;
            ensure!(
                before == after,
                "{change}: {call} is {before:?} in an open session, {after:?} in a new one"
            );
            ensure!(
                format!("{after:?}").contains("attic") == in_attic,
                "{change}: {call} is {after:?}"
            );
        }
    }
    Ok(())
}

/// A temporary table hides another one from the session that has it, and from no other.
#[test]
fn temporary_tables_hide_others() -> Result<()> {
    let cluster = ground("temporary")?;
    let columns = "1 AS id, 'me' AS owner, 'a' AS tenant, 'temporary' AS body";
    for make in [
        format!("CREATE TEMPORARY TABLE notes AS SELECT {columns}"),
        format!("CREATE TABLE pg_temp.notes AS SELECT {columns}"),
        format!("CREATE TEMPORARY VIEW notes AS SELECT {columns}"),
        format!("SELECT {columns} INTO TEMPORARY notes"),
        format!("EXPLAIN (ANALYZE) CREATE TEMPORARY TABLE notes AS SELECT {columns}"),
        format!("DO $$BEGIN CREATE TEMPORARY TABLE notes AS SELECT {columns}; END$$"),
        format!("PREPARE columns AS SELECT {columns}; CREATE TEMPORARY TABLE notes AS EXECUTE columns"),
        format!("PREPARE columns AS SELECT {columns}; EXPLAIN (ANALYZE) CREATE TEMPORARY TABLE notes AS EXECUTE columns"),
        format!("SET search_path = pg_temp, house, public; CREATE TABLE notes AS SELECT {columns}"),
        format!("CREATE TEMPORARY TABLE another AS SELECT {columns}; ALTER TABLE another RENAME TO notes"),
    ].iter() {
        build(&cluster, "RESET ROLE; GRANT TEMPORARY ON DATABASE postgres TO PUBLIC; SET ROLE landlord")?;
        let mut ann = enter(&cluster, "ann")?;
        let mut other = enter(&cluster, "ann")?;
        for call in ["list()", "told()"] {
            let old = both_hit(&mut ann, call)?;
            ann.batch_execute("BEGIN")?;
            ann.batch_execute(make)?;
            let new = both(&mut ann, call)?;
            // PL/pgSQL keeps the plan that it has.
            ensure!(new != old || call == "told()", "{make}: {call} is {new:?}");
            ensure!(both_hit(&mut other, call)? == old);
            ann.batch_execute("ROLLBACK; DEALLOCATE ALL")?;
            ensure!(both(&mut ann, call)? == old, "{make}: rolled back");
            ann.batch_execute(make)?;
            let new = both(&mut ann, call)?;
            ensure!(new != old || call == "told()", "{make}: {call} is {new:?}");
            ensure!(both(&mut other, call)? == old);
            ann.batch_execute("DISCARD ALL")?;
            ann.batch_execute("SET search_path = house, annexe, public")?;
            ensure!(both_hit(&mut ann, call)? == old, "{make}: discarded");
        }
    }
    Ok(())
}
