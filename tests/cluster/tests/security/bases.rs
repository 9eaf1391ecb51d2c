//! A cached function calls the function that it was created for, whatever that is named by now: nobody gets another one run, as the caller
//! or as the owner of the cached one, by giving it the name.

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, holds, number, quiet, wait_for};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

/// Ann owns what is cached, mallory may create in the same schemas. Whoever calls `rb_cached` runs the base as itself, whoever calls
/// `rb_definer` as ann.
const GROUND: &str = "
    CREATE ROLE ann LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE victim LOGIN SUPERUSER;
    CREATE EXTENSION pg_query_cache;
    CREATE SCHEMA app; GRANT ALL ON SCHEMA app, public TO ann, mallory;
    SET SESSION AUTHORIZATION ann;
    CREATE TYPE app.kind AS (a integer);
    CREATE FUNCTION app.rb(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'right'::text$$;
    CREATE FUNCTION app.of_kind(a app.kind) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'right'::text$$;
    SELECT cache_function('app.rb(integer)'), cache_function('app.of_kind(app.kind)');
    SET search_path = app, public;
    CREATE FUNCTION app.rb_definer(a integer, cache_duration interval DEFAULT NULL) RETURNS text
        LANGUAGE cached STABLE SECURITY DEFINER AS '{\"ttl\": \"1 hour\", \"function\": \"app.rb(integer)\", \"tags\": [\"function\"]}';
    CREATE FUNCTION app.rb_shared(a integer) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"app.rb(integer)\", \"scope\": \"shared\"}';
    RESET search_path;
    RESET SESSION AUTHORIZATION;";

/// What mallory plants: it tells as whom it runs, which nobody must see.
const PLANT: &str = "LANGUAGE sql STABLE AS $$SELECT 'planted, run as '::text || current_user$$";

/// Every road to the base function, from every kind of session.
fn calls_are_right(cluster: &Cluster, database: &str) -> Result<()> {
    for role in ["victim", "ann", "mallory"] {
        for set in [
            "",
            "SET pg_query_cache.enabled = off",
            "SET search_path = public, app",
            "SET search_path = ''",
            "SET pg_query_cache.verify_sample_rate = 1",
            "SET default_transaction_isolation = serializable",
            "SET check_function_bodies = off",
        ] {
            let mut client = cluster.connect_as(database, role)?;
            if set.contains("verify") && role != "victim" {
                continue;
            }
            client.batch_execute(set)?;
            roads(&mut client).with_context(|| format!("{role}, {set}"))?;
        }
    }
    Ok(())
}

fn roads(client: &mut Client) -> Result<()> {
    let kind: String = client
        .query_one(
            "SELECT p.proargtypes[0]::pg_catalog.regtype::text FROM pg_proc AS p WHERE p.proname = 'of_kind_cached'",
            &[],
        )?
        .get(0);
    let schema: String = client
        .query_one(
            "SELECT pronamespace::pg_catalog.regnamespace::text FROM pg_proc WHERE proname = 'rb_cached'",
            &[],
        )?
        .get(0);
    for _ in 0..3 {
        for call in [
            format!("{schema}.rb_cached(1)"),
            format!("{schema}.rb_definer(1)"),
            format!("{schema}.rb_shared(1)"),
            format!("{schema}.of_kind_cached(ROW(1)::{kind})"),
        ] {
            let answer: String = client.query_one(&format!("SELECT {call}"), &[])?.get(0);
            ensure!(answer == "right", "{call}: {answer}");
        }
    }
    Ok(())
}

/// What bodies say and what is depended on.
const BINDINGS: &str = "
    SELECT string_agg(c.function::text || ' ' || c.base_function || ' ' || d.refobjid::regprocedure::text, E'\\n' ORDER BY c.function::text)
    FROM cached_functions AS c
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = c.function AND d.refclassid = 'pg_proc'::regclass";

fn ground(name: &str) -> Result<Cluster> {
    let cluster = quiet(name).build()?;
    cluster.connect(DATABASE)?.batch_execute(GROUND)?;
    calls_are_right(&cluster, DATABASE)?;
    Ok(cluster)
}

fn plant(cluster: &Cluster, what: &str) -> Result<()> {
    cluster
        .connect_as(DATABASE, "mallory")?
        .batch_execute(&what.replace("{planted}", PLANT))?;
    Ok(())
}

/// Dumps the database into another one, in which everything has to be right.
fn restored(cluster: &Cluster, name: &str) -> Result<()> {
    let dump = cluster.program("pg_dump").arg(DATABASE).output()?;
    ensure!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
    cluster.psql(name, &String::from_utf8(dump.stdout)?)?;
    let mut copy = cluster.connect(name)?;
    for client in [&mut admin, &mut copy] {
        client.batch_execute("SET search_path = public")?;
    }
    let of =
        |client: &mut Client| -> Result<String> { Ok(client.query_one(BINDINGS, &[])?.get(0)) };
    let (first, second) = (of(&mut admin)?, of(&mut copy)?);
    ensure!(first == second, "{first}\n{second}");
    calls_are_right(cluster, name).context("restored")
}

#[test]
fn a_name_that_is_free_again() -> Result<()> {
    let cluster = ground("bases-rename")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    // A session that has found the base under its name before.
    let mut before = cluster.connect_as(DATABASE, "victim")?;
    roads(&mut before)?;
    ann.batch_execute("ALTER FUNCTION app.rb(integer) RENAME TO \"r'b \\\"\"\"")?;
    plant(
        &cluster,
        "CREATE FUNCTION app.rb(a integer) RETURNS text {planted}; CREATE FUNCTION public.rb(a integer) RETURNS text {planted}",
    )?;
    roads(&mut before)?;
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "renamed")?;
    // The dependency is true: it is the renamed one that cannot go, and whose namesake can.
    let error = ann
        .batch_execute("DROP FUNCTION app.\"r'b \\\"\"\"(integer)")
        .unwrap_err();
    ensure!(
        error
            .as_db_error()
            .is_some_and(|error| error.code().code() == "2BP01"
                && error
                    .detail()
                    .is_some_and(|detail| detail.contains("rb_definer"))),
        "{error:?}"
    );
    plant(&cluster, "DROP FUNCTION app.rb(integer)")?;
    calls_are_right(&cluster, DATABASE)?;
    // The body is as it was written, but for the name.
    let source: String = cluster
        .connect(DATABASE)?
        .query_one(
            "SELECT prosrc FROM pg_proc WHERE proname = 'rb_definer'",
            &[],
        )?
        .get(0);
    ensure!(
        source
            == r#"{"ttl": "1 hour", "function": "app.\"r'b \\\"\"\"(integer)", "tags": ["function"]}"#,
        "{source}"
    );
    Ok(())
}

#[test]
fn schemas_that_change_places() -> Result<()> {
    let cluster = ground("bases-schemas")?;
    let mut before = cluster.connect_as(DATABASE, "victim")?;
    roads(&mut before)?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE SCHEMA next; GRANT ALL ON SCHEMA next TO mallory")?;
    plant(
        &cluster,
        "CREATE TYPE next.kind AS (a integer); CREATE FUNCTION next.rb(a integer) RETURNS text {planted};
         CREATE FUNCTION next.of_kind(a next.kind) RETURNS text {planted}",
    )?;
    admin.batch_execute(
        "BEGIN; ALTER SCHEMA app RENAME TO previous; ALTER SCHEMA next RENAME TO app; COMMIT",
    )?;
    roads(&mut before)?;
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "swapped")?;
    admin.batch_execute("ALTER FUNCTION previous.rb(integer) SET SCHEMA public")?;
    plant(
        &cluster,
        "CREATE FUNCTION previous.rb(a integer) RETURNS text {planted}",
    )?;
    roads(&mut before)?;
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "moved")
}

#[test]
fn types_of_arguments_with_other_names() -> Result<()> {
    let cluster = ground("bases-types")?;
    let mut before = cluster.connect_as(DATABASE, "victim")?;
    roads(&mut before)?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("ALTER TYPE app.kind RENAME TO sort")?;
    plant(
        &cluster,
        "CREATE TYPE app.kind AS (a integer); CREATE FUNCTION app.of_kind(a app.kind) RETURNS text {planted}",
    )?;
    roads(&mut before)?;
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "type_renamed")?;
    admin.batch_execute("ALTER TYPE app.sort SET SCHEMA public; BEGIN; ALTER TYPE public.sort RENAME TO again; ROLLBACK")?;
    roads(&mut before)?;
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "type_moved")
}

/// A server that does not load the library when it starts notices no rename. Calls are right all the same, and what a dump would say is
/// told, with what mends it.
#[test]
fn a_rename_that_nobody_noticed() -> Result<()> {
    let cluster = ground("bases-unnoticed")?;
    cluster.set("shared_preload_libraries", "")?;
    cluster.restart(Mode::Fast)?;
    cluster
        .connect_as(DATABASE, "ann")?
        .batch_execute("ALTER FUNCTION app.rb(integer) RENAME TO other")?;
    plant(
        &cluster,
        "CREATE FUNCTION app.rb(a integer) RETURNS text {planted}",
    )?;
    calls_are_right(&cluster, DATABASE)?;
    cluster.set("shared_preload_libraries", "pg_query_cache")?;
    cluster.restart(Mode::Fast)?;
    calls_are_right(&cluster, DATABASE)?;
    let mut admin = cluster.connect(DATABASE)?;
    let remedies: Vec<String> = admin
        .query(
            "SELECT sql FROM analyze_cache_health() WHERE status = 'critical' AND finding LIKE 'body names another function: %'",
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    ensure!(remedies.len() == 3, "{remedies:?}");
    // Whoever runs it may be a superuser, and what it names may be gone by then: nothing is created in his name.
    ensure!(
        remedies.iter().all(|sql| !sql.contains("CREATE")),
        "{remedies:?}"
    );
    for remedy in remedies {
        admin.batch_execute(&remedy)?;
    }
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "mended")
}

/// Mallory caches what ann owns, and leaves a transaction open in which she changes the cached function. Ann renames what is hers, and
/// waits for nobody.
#[test]
fn whoever_owns_the_base_waits_for_nobody() -> Result<()> {
    let cluster = ground("bases-waits")?;
    let mut mallory = cluster.connect_as(DATABASE, "mallory")?;
    mallory.batch_execute(
        "CREATE FUNCTION public.mine(a integer) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"app.rb(integer)\"}'",
    )?;
    mallory.batch_execute("BEGIN; ALTER FUNCTION public.mine(integer) COST 7")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("SET lock_timeout = '10s'; ALTER FUNCTION app.rb(integer) RENAME TO other; ALTER FUNCTION app.other(integer) SET SCHEMA public")?;
    // Nor does a superuser, who may do with mallory's function what he likes.
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "ALTER FUNCTION public.other(integer) COST 9 PARALLEL RESTRICTED; ALTER FUNCTION public.other(integer) RENAME TO another;
         ALTER FUNCTION public.another(integer) RENAME TO other; ALTER FUNCTION public.other(integer) PARALLEL UNSAFE",
    )?;
    mallory.batch_execute("COMMIT")?;
    // Somebody may keep a function of hers busy: then she is told, and no body says a name that is free.
    admin.batch_execute("BEGIN")?;
    admin.batch_execute("ALTER FUNCTION app.rb_definer(integer, interval) COST 7")?;
    let refused = ann.batch_execute("ALTER FUNCTION public.other(integer) RENAME TO third");
    let state = refused.err().and_then(|error| error.code().cloned());
    ensure!(state.is_some_and(|state| state.code() == "55P03"));
    admin.batch_execute("ROLLBACK")?;
    ann.batch_execute("ALTER FUNCTION public.other(integer) RENAME TO third")?;
    restored(&cluster, "third")
}

/// What mallory kept busy meanwhile a worker writes as soon as it can.
#[test]
fn what_was_busy_is_written_later() -> Result<()> {
    let cluster = ground("bases-later")?;
    let mut mallory = cluster.connect_as(DATABASE, "mallory")?;
    mallory.batch_execute(
        "CREATE FUNCTION public.mine(a integer) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"app.rb(integer)\"}'",
    )?;
    mallory.batch_execute("BEGIN; ALTER FUNCTION public.mine(integer) COST 7")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute("BEGIN; ALTER FUNCTION app.rb(integer) RENAME TO undone; ROLLBACK")?;
    ann.batch_execute("ALTER FUNCTION app.rb(integer) RENAME TO other")?;
    plant(
        &cluster,
        "CREATE FUNCTION app.rb(a integer) RETURNS text {planted}",
    )?;
    let mut admin = cluster.connect(DATABASE)?;
    ensure!(number(&mut admin, MISNAMED)? == 1);
    mallory.batch_execute("COMMIT")?;
    wait_for(
        &cluster,
        "the name is written",
        "SELECT prosrc LIKE '%app.other(integer)%' AND procost = 7 FROM pg_proc WHERE proname = 'mine'",
    )?;
    ensure!(number(&mut admin, MISNAMED)? == 0);
    calls_are_right(&cluster, DATABASE)?;
    restored(&cluster, "later")
}

/// Functions whose body names another function than they call.
const MISNAMED: &str = "SELECT count(*) FROM analyze_cache_health() WHERE status = 'critical' AND finding LIKE 'body names another function%'";

/// A rename looks at the functions that cache what was renamed, whatever else is cached; and at all of these.
#[test]
fn a_rename_looks_at_what_it_concerns() -> Result<()> {
    let cluster = ground("bases-concerned")?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE TABLE app.things (a integer); CREATE VIEW app.seen AS SELECT * FROM app.things;
         CREATE TYPE app.mood AS ENUM ('good'); CREATE DOMAIN app.size AS integer; CREATE TYPE app.span AS RANGE (subtype = integer);
         CREATE FUNCTION app.of_thing(a app.things) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE FUNCTION app.of_seen(a app.seen) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE FUNCTION app.of_moods(a app.mood[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE FUNCTION app.of_size(a app.size, b app.size[]) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE FUNCTION app.of_span(a app.span) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         SELECT cache_function('app.of_thing(app.things)'), cache_function('app.of_seen(app.seen)'), cache_function('app.of_moods(app.mood[])'),
             cache_function('app.of_size(app.size, app.size[])'), cache_function('app.of_span(app.span)')",
    )?;
    admin.batch_execute(
        "CREATE SCHEMA crowd; SET search_path = crowd, public;
         DO $$ BEGIN FOR i IN 1..300 LOOP
             EXECUTE format('CREATE FUNCTION f%s() RETURNS integer LANGUAGE sql STABLE AS ''SELECT 1''', i);
             EXECUTE format('CREATE FUNCTION f%s_cached() RETURNS integer LANGUAGE cached STABLE AS ''{\"function\": \"crowd.f%s()\"}''', i, i);
         END LOOP; END $$",
    )?;
    let scans = "SELECT (seq_scan + idx_scan)::bigint FROM pg_stat_xact_sys_tables WHERE relid = 'pg_depend'::regclass";
    for rename in [
        "ALTER FUNCTION app.rb(integer) RENAME TO other",
        "ALTER FUNCTION app.rb(integer) SET SCHEMA public",
        "ALTER TABLE app.things RENAME TO stuff",
        "ALTER TABLE app.things SET SCHEMA public",
        "ALTER TABLE app.seen RENAME TO stuff",
        "ALTER VIEW app.seen SET SCHEMA public",
        "ALTER TYPE app.mood RENAME TO temper",
        "ALTER TYPE app.mood SET SCHEMA public",
        "ALTER DOMAIN app.size RENAME TO extent",
        "ALTER DOMAIN app.size SET SCHEMA public",
        "ALTER TYPE app.span RENAME TO bridge",
        "ALTER TYPE app.kind SET SCHEMA public",
        "ALTER FUNCTION crowd.f7_cached() RENAME TO other",
        "ALTER FUNCTION crowd.f7() RENAME TO other",
    ] {
        admin.batch_execute("BEGIN")?;
        let before = number(&mut admin, scans)?;
        admin.batch_execute(rename)?;
        let looks = number(&mut admin, scans)? - before;
        ensure!(looks < 150, "{rename}: {looks} looks");
        let misnamed = number(&mut admin, MISNAMED)?;
        ensure!(misnamed == 0, "{rename}: {misnamed}");
        admin.batch_execute("ROLLBACK")?;
    }
    // A schema holds many.
    admin.batch_execute("BEGIN; ALTER SCHEMA crowd RENAME TO throng")?;
    ensure!(number(&mut admin, MISNAMED)? == 0);
    Ok(())
}

/// The validator can be called by anybody who may call the function. It changes nothing then.
#[test]
fn nobody_binds_what_is_not_his() -> Result<()> {
    let cluster = ground("bases-validator")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    // Without its base, as a restore of some objects leaves it.
    ann.batch_execute(
        "SET check_function_bodies = off;
         CREATE FUNCTION app.lost(a integer) RETURNS text LANGUAGE cached STABLE SECURITY DEFINER AS '{\"function\": \"gone(integer)\"}'",
    )?;
    let mut admin = cluster.connect(DATABASE)?;
    plant(
        &cluster,
        "CREATE FUNCTION public.gone(a integer) RETURNS text {planted}; CREATE FUNCTION public.rb(a integer) RETURNS text {planted}",
    )?;
    admin.batch_execute("GRANT USAGE ON SCHEMA query_cache_internal TO PUBLIC")?;
    let mut mallory = cluster.connect_as(DATABASE, "mallory")?;
    mallory.batch_execute("SET search_path = public, app")?;
    let bindings =
        |admin: &mut Client| -> Result<String> { Ok(admin.query_one(BINDINGS, &[])?.get(0)) };
    let before = bindings(&mut admin)?;
    for function in [
        "app.lost(integer)",
        "app.rb_cached(integer,interval)",
        "app.rb_definer(integer,interval)",
    ] {
        // Refused or not is the server's matter.
        let _ = mallory.batch_execute(&format!(
            "SELECT query_cache_internal.cached_validator('{function}'::regprocedure)"
        ));
    }
    ensure!(bindings(&mut admin)? == before);
    calls_are_right(&cluster, DATABASE)
}

/// A function without a base is one that cannot be called, not one that calls whatever has the name by now.
#[test]
fn a_base_that_was_not_there() -> Result<()> {
    let cluster = ground("bases-absent")?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute(
        "SET check_function_bodies = off;
         -- What a default calls is a dependency too, and no base.
         CREATE FUNCTION app.number(a integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'wrong'::text$$;
         CREATE FUNCTION app.early(a integer, b text DEFAULT app.number(1)) RETURNS text LANGUAGE cached STABLE AS '{\"function\": \"app.comes(integer,text)\"}';
         CREATE FUNCTION app.absent(a integer) RETURNS text LANGUAGE cached STABLE SECURITY DEFINER AS '{\"function\": \"app.comes(integer)\"}'",
    )?;
    plant(
        &cluster,
        "CREATE FUNCTION app.comes(a integer) RETURNS text {planted}; CREATE FUNCTION app.comes(a integer, b text) RETURNS text {planted}",
    )?;
    let mut victim = cluster.connect_as(DATABASE, "victim")?;
    for call in ["app.absent(1)", "app.early(1)"] {
        let error = victim
            .batch_execute(&format!("SELECT {call}"))
            .err()
            .context(call)?;
        ensure!(
            error
                .as_db_error()
                .is_some_and(|error| error.code().code() == "42883"),
            "{error:?}"
        );
    }
    let mut admin = cluster.connect(DATABASE)?;
    ensure!(holds(
        &mut admin,
        "SELECT count(*) = 2 FROM analyze_cache_health() WHERE status = 'critical' AND finding LIKE 'no base function: %'"
    )?);
    Ok(())
}
