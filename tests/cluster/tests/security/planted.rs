//! The owner of a database, who may create in the extension's schema, plants functions and operators beside ours that fit a careless
//! call better, before CREATE EXTENSION, before ALTER EXTENSION UPDATE and after, with every setting of the database against us. None of
//! them may ever run as somebody else.

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, quiet};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// What a planted function writes to the server's log when another than its owner runs it. The log forgets nothing in a rollback.
const CAUGHT: &str = "planted ran as";

/// Roles of the cluster. `dbo` owns the databases that are attacked.
const ROLES: &str = "
    CREATE ROLE dbo LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE app LOGIN; CREATE ROLE keeper LOGIN;
    CREATE ROLE nobody LOGIN;";

/// Settings as nobody sane would have them.
const SETTINGS: &[&str] = &[
    "search_path = evil, public, pg_catalog",
    "standard_conforming_strings = off",
    "backslash_quote = on",
    "escape_string_warning = off",
    "quote_all_identifiers = on",
    "transform_null_equals = on",
    "array_nulls = off",
    "check_function_bodies = off",
    "intervalstyle = sql_standard",
    "datestyle = 'Postgres, DMY'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "extra_float_digits = -15",
];

/// The trap, and what hides names where `evil` comes first in the search path.
const TRAP: &str = "
    CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
    CREATE FUNCTION evil.catch(how text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF current_user OPERATOR(pg_catalog.<>) 'dbo' THEN RAISE LOG 'planted ran as %: %', current_user, how; END IF;
        RETURN true;
    END$$;
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT pg_catalog.now() WHERE evil.catch('now')$$;
    CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql
        AS $$SELECT pg_catalog.clock_timestamp() WHERE evil.catch('clock_timestamp')$$;
    CREATE FUNCTION evil.concat(VARIADIC text[]) RETURNS text LANGUAGE sql AS $$SELECT 'x'::text WHERE evil.catch('concat')$$;
    CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS $$SELECT $1[1] WHERE evil.catch('unnest')$$;
    CREATE FUNCTION evil.count(anyelement) RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint WHERE evil.catch('count')$$;
    CREATE FUNCTION evil.jsonb_each(jsonb, OUT key text, OUT value jsonb) RETURNS SETOF record LANGUAGE sql
        AS $$SELECT 'x'::text, $1 WHERE evil.catch('jsonb_each')$$;
    CREATE FUNCTION evil.has_function_privilege(oid, text) RETURNS boolean LANGUAGE sql AS $$SELECT evil.catch('privilege')$$;
    CREATE FUNCTION evil.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS $$SELECT evil.catch('role')$$;
    CREATE DOMAIN evil.regclass AS text; CREATE DOMAIN evil.regprocedure AS text; CREATE DOMAIN evil.jsonb AS text;
    CREATE DOMAIN evil.name AS text; CREATE DOMAIN evil.text AS varchar;
    DO $$
    DECLARE name pg_catalog.text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['pg_extension', 'pg_depend', 'pg_proc', 'pg_class', 'pg_roles', 'pg_settings', 'pg_database',
            'query_cache', 'cache_cleanup_log', 'cache_quarantine', 'cache_values', 'cache_configuration', 'cache_configuration_log',
            'cache_trends', 'cache_warm_jobs'] LOOP
            EXECUTE format('CREATE VIEW evil.%I AS SELECT 1 AS oid, ''x''::pg_catalog.text AS name WHERE evil.catch(%L)', name, name);
        END LOOP;
    END $$;";

/// Overloads of the function `{name}` with `{count}` arguments, in `public`, but for the signatures `{ours}`.
const OVERLOADS: &str = "
    DO $do$
    DECLARE
        types text; shape text; made integer := 0;
    BEGIN
        FOREACH shape IN ARRAY ARRAY['text', 'anyelement', 'fewer', 'more', 'variadic', 'anyvariadic', 'anyarray', 'cstring-like'] LOOP
            types := CASE shape
                WHEN 'text' THEN repeat('text,', {count})
                WHEN 'anyelement' THEN repeat('anyelement,', {count})
                WHEN 'fewer' THEN repeat('text,', {count} - 1)
                WHEN 'more' THEN repeat('text,', {count} + 1)
                WHEN 'variadic' THEN 'VARIADIC text[],'
                WHEN 'anyvariadic' THEN 'VARIADIC anyarray,'
                WHEN 'anyarray' THEN repeat('text,', {count} - 1) || 'text[],'
                ELSE repeat('name,', {count}) END;
            -- What is ours to the letter can be there only once; see below.
            CONTINUE WHEN replace(rtrim(types, ','), 'VARIADIC ', '') = ANY ({ours});
            BEGIN
                EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE sql AS $f$SELECT ''x''::text WHERE evil.catch(%L)$f$',
                               {name}, rtrim(types, ','), {name} || ' ' || shape);
                made := made + 1;
            EXCEPTION WHEN duplicate_function OR invalid_function_definition THEN NULL;
            END;
        END LOOP;
    END $do$;";

/// Operators of every pair of types, in `evil` and in `public`.
const OPERATORS: &str = "
    DO $$
    DECLARE
        types CONSTANT text[] := ARRAY['text', 'name', 'oid', 'bigint', 'integer', 'smallint', 'double precision', 'timestamptz',
                                       'interval', 'jsonb', 'boolean', 'bytea', 'text[]', 'regclass', 'regprocedure', '\"char\"'];
        left_type text; right_type text; operator text; name text; schema text; result text;
    BEGIN
        FOREACH left_type IN ARRAY types LOOP FOREACH right_type IN ARRAY types LOOP
            FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '&&', '~', '-', '+', '*', '->>', '->'] LOOP
                schema := CASE WHEN left_type = right_type THEN 'evil' ELSE 'public' END;
                result := CASE WHEN operator IN ('||', '->>') THEN 'text' WHEN operator = '->' THEN 'jsonb'
                               WHEN operator = '*' THEN 'double precision' WHEN operator IN ('+', '-') THEN left_type ELSE 'boolean' END;
                name := format('op_%s', md5(left_type || operator || right_type));
                EXECUTE format('CREATE FUNCTION %I.%I(%s, %s) RETURNS %s LANGUAGE sql AS $f$SELECT NULL::%s WHERE evil.catch(%L)$f$',
                               schema, name, left_type, right_type, result, result, left_type || operator || right_type);
                EXECUTE format('CREATE OPERATOR %I.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %I.%I)',
                               schema, operator, left_type, right_type, schema, name);
            END LOOP;
        END LOOP; END LOOP;
    END $$;";

/// Every call that there is, with arguments that do something, their types said. Names of functions that an application is to bring
/// (`get_…_cached`) are the caller's own by design and not here.
const CALLS: &[&str] = &[
    "public.cache_function('public.total()'::pg_catalog.regprocedure, NULL::pg_catalog.interval, NULL::pg_catalog.jsonb, NULL::pg_catalog.text[], \
        NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.int4, 'again'::pg_catalog.text, \
        NULL::pg_catalog.text, NULL::pg_catalog.interval, NULL::pg_catalog.text, NULL::pg_catalog.text[])",
    "public.cache_function('public.total()'::pg_catalog.text, NULL::pg_catalog.interval, NULL::pg_catalog.jsonb, NULL::pg_catalog.text[], \
        NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.int4, 'again_by_name'::pg_catalog.text, \
        NULL::pg_catalog.text, NULL::pg_catalog.interval, NULL::pg_catalog.text, NULL::pg_catalog.text[])",
    "public.uncache_function('public.again(interval)'::pg_catalog.regprocedure)",
    "public.cache_track_table('public.accounts'::pg_catalog.regclass, '{id}'::pg_catalog.name[])",
    "public.cache_stats()",
    "public.cache_function_stats",
    "public.cached_functions",
    "public.cache_memory_entries()",
    "public.get_top_cache_entries(5, 'hits'::pg_catalog.text)",
    "public.get_top_cache_entries(5, 'saved'::pg_catalog.text)",
    "public.get_cache_cleanup_stats(3)",
    "public.analyze_cache_health()",
    "public.cache_reasons()",
    "public.cache_metrics()",
    "public.cache_analytics('1 day'::pg_catalog.interval)",
    "public.cache_access_list()",
    "public.cache_explain('public.total_cached()'::pg_catalog.text)",
    "public.cache_config()",
    "public.set_cache_config('max_entries'::pg_catalog.text, '5000'::pg_catalog.text)",
    "public.set_cache_config('max_entries'::pg_catalog.text, NULL::pg_catalog.text)",
    "public.cache_key(VARIADIC '{a,b}'::pg_catalog.text[])",
    "public.cache_set('a'::pg_catalog.text, '{\"b\": 1}'::pg_catalog.jsonb, '1 hour'::pg_catalog.interval, '{t}'::pg_catalog.text[], 1)",
    "public.cache_set_many('{\"a\": 1, \"b\": 2}'::pg_catalog.jsonb, '1 hour'::pg_catalog.interval, '{t}'::pg_catalog.text[], 1)",
    "public.cache_get('a'::pg_catalog.text)",
    "public.cache_get_many('{a,b}'::pg_catalog.text[])",
    "public.cache_exists('a'::pg_catalog.text)",
    "public.cache_ttl('a'::pg_catalog.text)",
    "public.cache_touch('a'::pg_catalog.text, '1 minute'::pg_catalog.interval)",
    "public.cache_increment('n'::pg_catalog.text, 2::pg_catalog.int8, NULL::pg_catalog.interval)",
    "public.cache_remember('r'::pg_catalog.text, 'SELECT 1'::pg_catalog.text, NULL::pg_catalog.interval, '{t}'::pg_catalog.text[])",
    "public.cache_keys('*'::pg_catalog.text, 10)",
    "public.cache_value_stats()",
    "public.cache_delete('a'::pg_catalog.text)",
    "public.cache_delete_many('{a,b}'::pg_catalog.text[])",
    "public.cache_delete_pattern('*'::pg_catalog.text)",
    "public.warm_cache('public.total_cached(interval)'::pg_catalog.regprocedure, '{}'::pg_catalog.jsonb)",
    "public.warm_cache_many('public.total_cached(interval)'::pg_catalog.regprocedure, '[{}]'::pg_catalog.jsonb)",
    "public.warm_cache_in_background('public.total_cached(interval)'::pg_catalog.regprocedure, '[{}]'::pg_catalog.jsonb)",
    "public.total_cached('1 hour'::pg_catalog.interval)",
    "public.cache_progress",
    "public.cache_warm_jobs",
    "public.query_cache",
    "public.cache_values",
    "public.cache_cleanup_log",
    "public.cache_quarantine",
    "public.cache_configuration",
    "public.cache_configuration_log",
    "public.cache_trends",
    "public.cache_function_resume('public.total_cached(interval)'::pg_catalog.regprocedure)",
    "public.flush_cache()",
    "public.optimize_cache()",
    "public.invalidate_cache('{a,b}'::pg_catalog.text[])",
    "public.invalidate_cache_function('public.total_cached(interval)'::pg_catalog.regprocedure)",
    "public.invalidate_cache_table('public.accounts'::pg_catalog.regclass)",
    "public.invalidate_cache_pattern('*'::pg_catalog.text)",
    "public.clear_department_cache(1::pg_catalog.int8)",
    "public.cleanup_expired_cache()",
    "public.clear_cache()",
    "public.emergency_clear_cache('yes'::pg_catalog.text)",
    "public.grant_cache_access('app'::pg_catalog.regrole, 'keeper'::pg_catalog.regrole)",
    "public.revoke_cache_access('app'::pg_catalog.regrole)",
    "public.grant_cache_access('app'::pg_catalog.regrole, NULL::pg_catalog.regrole)",
    "public.cache_untrack_table('public.accounts'::pg_catalog.regclass)",
];

/// A table and functions of the application, made by the superuser.
const APPLICATION: &str = "
    CREATE TABLE public.accounts (id integer PRIMARY KEY, balance bigint); INSERT INTO public.accounts VALUES (1, 1), (2, 2);
    GRANT SELECT ON public.accounts TO PUBLIC;
    CREATE FUNCTION public.total() RETURNS bigint LANGUAGE sql STABLE
        BEGIN ATOMIC SELECT pg_catalog.sum(a.balance)::pg_catalog.int8 FROM public.accounts AS a; END;
    CREATE FUNCTION public.total_cached(cache_duration interval DEFAULT NULL) RETURNS bigint LANGUAGE cached STABLE PARALLEL RESTRICTED
        AS $${\"function\": \"public.total()\"}$$;";

/// A function of the extension: name, number of arguments, signatures of its name.
type Function = (String, i32, Vec<String>);

/// The functions of the extension, of this version and earlier ones.
fn functions(cluster: &Cluster) -> Result<Vec<Function>> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE EXTENSION pg_query_cache")?;
    let rows = client.query(
        "SELECT p.proname::text, p.pronargs::integer,
                array_agg(replace(oidvectortypes(p.proargtypes), ', ', ',')) OVER (PARTITION BY p.proname)
         FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e'
         WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_query_cache') AND p.proname NOT LIKE 'get\\_%\\_cached'
         UNION ALL SELECT 'cache_access_apply', 3, '{\"text,text[],text\"}'
         UNION ALL SELECT 'get_top_cache_entries', 1, '{integer,\"integer,text\"}'
         UNION ALL SELECT 'cache_function', 9, '{\"regprocedure,interval,jsonb,text[],text,text,text,integer,text\"}'",
        &[],
    )?;
    ensure!(rows.len() > 60, "{} functions", rows.len());
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// All that is planted, as the owner of the database.
fn plant(cluster: &Cluster, database: &str, functions: &[Function]) -> Result<()> {
    let mut dbo = cluster.connect_as(database, "dbo")?;
    dbo.batch_execute(TRAP)?;
    dbo.batch_execute(OPERATORS)?;
    for (name, count, ours) in functions {
        let ours: Vec<String> = ours.iter().map(|types| format!("'{types}'")).collect();
        dbo.batch_execute(
            &OVERLOADS
                .replace("{name}", &format!("'{name}'::text"))
                .replace("{count}", &count.to_string())
                .replace("{ours}", &format!("ARRAY[{}]::text[]", ours.join(", "))),
        )
        .with_context(|| name.clone())?;
    }
    for setting in SETTINGS {
        dbo.batch_execute(&format!("ALTER DATABASE {database} SET {setting}"))?;
    }
    Ok(())
}

fn calls(cluster: &Cluster, database: &str, role: &str) -> Result<()> {
    let mut client = cluster.connect_as(database, role)?;
    for call in CALLS {
        for settings in ["", "SET row_security = off; "] {
            let answer = client.batch_execute(&format!("{settings}SELECT * FROM {call}"));
            client.batch_execute("RESET row_security")?;
            let code = answer
                .as_ref()
                .err()
                .and_then(|error| error.code().map(|code| code.code().to_owned()));
            let refused = match code.as_deref() {
                None => answer.is_err(),
                // A confirmation that is wrong; a transaction that is not the first to change the configuration.
                Some("22023" | "40001") => false,
                // It is made by a role that may, and is there from the second call on.
                Some(_) if call.contains("again") => false,
                Some("42501") => role == "postgres",
                Some(_) => true,
            };
            ensure!(!refused, "{role}: {call}: {answer:?}");
        }
    }
    Ok(())
}

/// The extension's objects are bound to what belongs to the extension, or to the server.
fn bound_to_our_own(client: &mut Client) -> Result<()> {
    let strangers = client.query(super::bound::STRANGERS, &[])?;
    let strangers: Vec<String> = strangers.iter().map(|row| row.get(0)).collect();
    ensure!(strangers.is_empty(), "{strangers:?}");
    Ok(())
}

fn nobody_was_caught(cluster: &Cluster) -> Result<()> {
    let log = cluster.log();
    let caught: Vec<&str> = log.lines().filter(|line| line.contains(CAUGHT)).collect();
    ensure!(caught.is_empty(), "{:#?}", &caught[..caught.len().min(20)]);
    Ok(())
}

fn use_everything(cluster: &Cluster, database: &str) -> Result<()> {
    let mut admin = cluster.connect(database)?;
    admin.batch_execute(APPLICATION)?;
    bound_to_our_own(&mut admin)?;
    for role in ["postgres", "watcher", "app", "keeper", "nobody"] {
        calls(cluster, database, role).with_context(|| database.to_owned())?;
        nobody_was_caught(cluster)?;
    }
    admin.batch_execute("SELECT * FROM public.cache_track_table('public.accounts'::pg_catalog.regclass, '{}'::pg_catalog.name[])")?;
    admin.batch_execute("UPDATE public.accounts SET balance = 3; TRUNCATE public.accounts")?;
    nobody_was_caught(cluster)
}

#[test]
fn nothing_planted_runs_as_somebody_else() -> Result<()> {
    let cluster = quiet("security-planted")
        .setting("max_locks_per_transaction", 512)
        .build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(ROLES)?;
    let functions = functions(&cluster)?;

    for (database, version) in [("fresh", ""), ("second", "0.2.0"), ("first", "0.1.0")] {
        admin.batch_execute(&format!("CREATE DATABASE {database} OWNER dbo"))?;
        if version.is_empty() {
            plant(&cluster, database, &functions)?;
            cluster
                .connect(database)?
                .batch_execute("CREATE EXTENSION pg_query_cache SCHEMA public")?;
        } else {
            cluster.connect(database)?.batch_execute(&format!(
                "CREATE EXTENSION pg_query_cache SCHEMA public VERSION '{version}'"
            ))?;
            plant(&cluster, database, &functions)?;
            cluster
                .connect(database)?
                .batch_execute("ALTER EXTENSION pg_query_cache UPDATE")?;
        }
        nobody_was_caught(&cluster).with_context(|| database.to_owned())?;
        use_everything(&cluster, database)?;
    }

    // The worker writes and cleans as a superuser.
    cluster.set("pg_query_cache.flush_interval", "1s")?;
    cluster.set("pg_query_cache.cleanup_interval", "1s")?;
    cluster.connect("fresh")?.batch_execute(
        "SELECT * FROM public.total_cached('1 hour'::pg_catalog.interval);
         SELECT * FROM public.cache_set('gone'::pg_catalog.text, '1'::pg_catalog.jsonb, '1 millisecond'::pg_catalog.interval,
                                        '{}'::pg_catalog.text[], 0)",
    )?;
    pg_query_cache_harness::wait_until(
        "the worker to clean up",
        pg_query_cache_cluster_tests::PATIENCE,
        || {
            cluster.connect("fresh").is_ok_and(|mut client| {
                client
                    .query("SELECT FROM public.cache_values", &[])
                    .is_ok_and(|rows| rows.is_empty())
            })
        },
    )?;
    nobody_was_caught(&cluster)?;

    // The trap works: the objects of 0.2.0 are caught in it.
    admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE DATABASE caught OWNER dbo")?;
    plant(&cluster, "caught", &functions)?;
    drop(
        cluster
            .connect("caught")?
            .batch_execute("CREATE EXTENSION pg_query_cache SCHEMA public VERSION '0.2.0'"),
    );
    ensure!(cluster.log_contains(CAUGHT), "the trap does not work");
    Ok(())
}

/// What is there already under one of our names is not taken, and says what is in the way.
#[test]
fn what_is_there_already_is_refused() -> Result<()> {
    let cluster = quiet("security-in-the-way").build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(ROLES)?;
    for (number, (planted, code, named)) in [
        (
            "CREATE SCHEMA query_cache_internal",
            "42P06",
            "query_cache_internal",
        ),
        (
            "CREATE FUNCTION public.cache_tracker() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "42723",
            "cache_tracker",
        ),
        (
            "CREATE FUNCTION public.cache_track_table(regclass, name[]) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "42723",
            "cache_track_table",
        ),
        (
            "CREATE VIEW public.cached_functions AS SELECT 1 AS one",
            "42P07",
            "cached_functions",
        ),
        (
            "CREATE TABLE public.query_cache (cache_key text)",
            "42P07",
            "query_cache",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("taken{number}");
        admin.batch_execute(&format!("CREATE DATABASE {database} OWNER dbo"))?;
        cluster
            .connect_as(&database, "dbo")?
            .batch_execute(planted)?;
        let error = cluster
            .connect(&database)?
            .batch_execute("CREATE EXTENSION pg_query_cache")
            .err()
            .with_context(|| planted.to_owned())?;
        ensure!(
            error.code().is_some_and(|found| found.code() == code)
                && error.to_string().contains(named) | format!("{error:?}").contains(named),
            "{planted}: {error:?}"
        );
    }
    // The same before an update.
    admin.batch_execute("CREATE DATABASE taken OWNER dbo")?;
    let mut taken = cluster.connect("taken")?;
    taken.batch_execute("CREATE EXTENSION pg_query_cache VERSION '0.2.0'")?;
    cluster
        .connect_as("taken", "dbo")?
        .batch_execute("CREATE SCHEMA query_cache_internal")?;
    let error = taken
        .batch_execute("ALTER EXTENSION pg_query_cache UPDATE")
        .err()
        .context("the update went through")?;
    ensure!(
        error.code().is_some_and(|found| found.code() == "42P06"),
        "{error:?}"
    );
    Ok(())
}
