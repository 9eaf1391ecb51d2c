//! A role that has been given everything `grant_cache_access()` gives, and wants to act as the owner.

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{ACCOUNTS, DATABASE, answers_are_right, number, quiet};
use pg_query_cache_harness::postgres::Client;

use super::ROLES;

/// A schema of names that hide the catalog's. Whoever runs one of them leaves a name in `evil.caught`, if it is another's than the
/// session's.
const EVIL: &str = "
    CREATE SCHEMA evil; CREATE TABLE evil.caught (who name, how text); GRANT ALL ON evil.caught TO PUBLIC; GRANT USAGE ON SCHEMA evil TO PUBLIC;
    CREATE FUNCTION evil.catch(how text) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN IF current_user OPERATOR(pg_catalog.<>) 'keeper' THEN INSERT INTO evil.caught VALUES (current_user, how); END IF; RETURN true; END$$;
    DO $$
    DECLARE type text; operator text; name text;
    BEGIN
        FOREACH type IN ARRAY ARRAY['text', 'oid', 'name', 'bigint', 'integer', 'timestamptz', 'bytea', 'jsonb', 'text[]', 'interval', 'boolean', '\"char\"'] LOOP
            FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '&&', '~', '-', '+', '->>', '~~'] LOOP
                name := format('f%s', md5(type || operator));
                EXECUTE format('CREATE FUNCTION evil.%s(%s, %s) RETURNS boolean LANGUAGE sql AS $f$SELECT evil.catch(%L)$f$', name, type, type, type || operator);
                EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%s)', operator, type, type, name);
            END LOOP;
        END LOOP;
        FOREACH name IN ARRAY ARRAY['now()', 'clock_timestamp()', 'statement_timestamp()'] LOOP
            EXECUTE format('CREATE FUNCTION evil.%s RETURNS timestamptz LANGUAGE sql AS $f$SELECT pg_catalog.%s WHERE evil.catch(%L)$f$', name, name, name);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['lower(text)', 'quote_ident(text)', 'quote_literal(text)', 'upper(text)', 'current_schema()', 'md5(text)'] LOOP
            EXECUTE format('CREATE FUNCTION evil.%s RETURNS text LANGUAGE sql AS $f$SELECT ''x''::text WHERE evil.catch(%L)$f$', name, name);
        END LOOP;
        CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $f$SELECT 'x'::text WHERE evil.catch('format')$f$;
        CREATE FUNCTION evil.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS $f$SELECT evil.catch('pg_has_role')$f$;
        CREATE FUNCTION evil.has_function_privilege(oid, text) RETURNS boolean LANGUAGE sql AS $f$SELECT evil.catch('has_function_privilege')$f$;
    END $$;
    CREATE FUNCTION evil.cache_access_list() RETURNS TABLE (object_name text, audience text) LANGUAGE sql AS $$SELECT 'cache_stats', 'everybody' WHERE evil.catch('cache_access_list')$$;
    CREATE TABLE evil.pg_extension AS SELECT * FROM pg_catalog.pg_extension WHERE false;
    CREATE FUNCTION evil.caught_by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.catch(TG_TABLE_NAME); RETURN NULL; END$$;
    DO $$
    DECLARE name text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['query_cache', 'cache_cleanup_log', 'cache_quarantine', 'cache_values', 'cache_configuration', 'cache_configuration_log', 'cache_trends', 'cache_warm_jobs'] LOOP
            EXECUTE format('CREATE TABLE evil.%I (key text, cache_key text, name text, value text)', name);
            EXECUTE format('CREATE TEMPORARY TABLE %I (key text, cache_key text, name text, value text)', name);
            EXECUTE format('CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION evil.caught_by_trigger()', name);
        END LOOP;
    END $$;";

/// Every call that the role may make, with arguments that do something.
const CALLS: &[&str] = &[
    "public.cache_stats()",
    "public.cache_function_stats",
    "public.cache_memory_entries()",
    "public.get_top_cache_entries(5)",
    "public.get_cache_cleanup_stats(3)",
    "public.analyze_cache_health()",
    "public.cache_reasons()",
    "public.cache_access_list()",
    "public.cache_explain('public.total_cached()')",
    "public.invalidate_cache('{a,b}')",
    "public.invalidate_cache_function('public.total_cached(interval)')",
    "public.invalidate_cache_table('public.accounts')",
    "public.flush_cache()",
    "public.cleanup_expired_cache()",
    "public.cache_set('a', '{\"b\": 1}', '1 hour', '{t}', 1)",
    "public.cache_set_many('{\"a\": 1, \"b\": 2}')",
    "public.cache_get('a')",
    "public.cache_get_many('{a,b}')",
    "public.cache_exists('a')",
    "public.cache_ttl('a')",
    "public.cache_touch('a', '1 minute')",
    "public.cache_increment('n', 2)",
    "public.cache_remember('r', 'SELECT 1')",
    "public.cache_keys('*')",
    "public.cache_value_stats()",
    "public.cache_delete('a')",
    "public.cache_delete_many('{a,b}')",
    "public.cache_delete_pattern('*')",
    "public.cache_config()",
    "public.set_cache_config('class.mine.ttl', '1 hour')",
    "public.set_cache_config('class.mine.ttl', NULL)",
    "public.warm_cache('public.total_cached(interval)')",
    "public.warm_cache_many('public.total_cached(interval)', '[{}]')",
    "public.warm_cache_in_background('public.total_cached(interval)')",
    "public.cache_progress",
    "public.cache_warm_jobs",
    "public.invalidate_cache_pattern('*')",
    "public.clear_department_cache(1)",
    "public.clear_cache()",
];

fn paths(client: &mut Client, path: &str) -> Result<()> {
    client.batch_execute(&format!("SET search_path = {path}"))?;
    for call in CALLS {
        // An error is as good as an answer: the names that are found belong to the one who asks.
        drop(client.batch_execute(&format!("SELECT * FROM {call}")));
    }
    client.batch_execute("RESET search_path")?;
    Ok(())
}

#[test]
fn names_that_hide_others_run_as_nobody_else() -> Result<()> {
    let cluster = quiet("hostile-names").build()?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(ROLES)?;
    owner.batch_execute("ALTER ROLE keeper LOGIN")?;
    owner.batch_execute(ACCOUNTS)?;
    owner.batch_execute("GRANT SELECT ON accounts TO keeper")?;
    answers_are_right(&mut owner)?;
    let mut keeper = cluster.connect_as(DATABASE, "keeper")?;
    owner.batch_execute("GRANT CREATE, TEMPORARY ON DATABASE postgres TO keeper")?;
    let evil = EVIL
        .split_once("SET ROLE keeper;")
        .map_or(EVIL, |(_, evil)| evil);
    keeper.batch_execute(evil)?;
    ensure!(
        number(
            &mut keeper,
            "SELECT count(*) FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace"
        )? > 100
    );
    for path in [
        "evil, pg_catalog, public",
        "pg_temp, evil, pg_catalog, public",
        "evil",
        "''",
    ] {
        paths(&mut keeper, path)?;
    }
    // The trap works.
    owner.batch_execute("SELECT evil.catch('a test of the trap')")?;
    let caught: Vec<String> = owner
        .query("SELECT who || ': ' || how FROM evil.caught", &[])?
        .iter()
        .map(|row| row.get(0))
        .collect();
    ensure!(caught == ["postgres: a test of the trap"], "{caught:?}");
    answers_are_right(&mut owner)?;
    Ok(())
}

#[test]
fn what_is_stored_cannot_be_made_up() -> Result<()> {
    let cluster = quiet("hostile-keys").build()?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(ROLES)?;
    owner.batch_execute(ACCOUNTS)?;
    answers_are_right(&mut owner)?;
    owner.batch_execute("SELECT flush_cache()")?;
    for role in ["nobody", "app", "watcher", "keeper"] {
        for attempt in [
            "UPDATE query_cache SET value = 'x'",
            "UPDATE query_cache SET expires_at = 'infinity'",
            "INSERT INTO query_cache SELECT * FROM query_cache",
            "DELETE FROM query_cache",
            "TRUNCATE query_cache",
            "SELECT key FROM query_cache",
            "SELECT value FROM query_cache",
            "SELECT query_cache FROM query_cache",
            "CREATE TRIGGER t BEFORE INSERT ON query_cache FOR EACH ROW EXECUTE FUNCTION cache_tracker()",
            "ALTER TABLE query_cache DISABLE ROW LEVEL SECURITY",
            "CREATE POLICY mine ON query_cache USING (true)",
            "DELETE FROM cache_quarantine",
            "SELECT query_cache_internal.cached_call_handler()",
            "SELECT query_cache_internal.cache_row_is_dead('\\x00')",
            "CREATE OR REPLACE FUNCTION cache_stats() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "DROP LANGUAGE cached",
        ] {
            owner.batch_execute(&format!("SET ROLE {role}"))?;
            let error = owner.batch_execute(attempt).err();
            owner.batch_execute("RESET ROLE")?;
            let code = error
                .as_ref()
                .and_then(|error| error.code())
                .map_or("none", |code| code.code());
            ensure!(
                ["42501", "0A000"].contains(&code),
                "{role}: {attempt}: {error:?}"
            );
        }
    }
    // A row that somebody with every right has changed is no entry.
    owner.batch_execute("UPDATE query_cache SET value = '\\x00112233', expires_at = 'infinity'")?;
    cluster.restart(pg_query_cache_harness::Mode::Fast)?;
    answers_are_right(&mut cluster.connect(DATABASE)?)?;
    Ok(())
}
