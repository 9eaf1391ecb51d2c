//! Databases whose encoding is not UTF-8: names, tags, keys, values and arguments that are no ASCII are as right in them as anywhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, holds, number, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

/// A database and a word of it, as an expression. The words are bytes that are no UTF-8, but for the first.
struct Ground {
    name: &'static str,
    encoding: &'static str,
    word: &'static str,
}

const GROUNDS: [Ground; 4] = [
    Ground {
        name: "utf8",
        encoding: "UTF8",
        word: "U&'caf\\00e9'",
    },
    Ground {
        name: "latin1",
        encoding: "LATIN1",
        word: "U&'caf\\00e9'",
    },
    Ground {
        name: "euc",
        encoding: "EUC_JP",
        word: "U&'\\5bff\\53f8'",
    },
    Ground {
        name: "ascii",
        encoding: "SQL_ASCII",
        word: "convert_from('\\x636166e9ff62'::bytea, 'SQL_ASCII')",
    },
];

/// Tables, functions and roles with the word in their names. `%1$I` is the word as a name, `%1$L` as a literal.
const OBJECTS: &[&str] = &[
    "CREATE SCHEMA \"s_WORD\"",
    "CREATE TABLE \"s_WORD\".\"t_WORD\" (\"k_WORD\" text, \"v_WORD\" text)",
    "INSERT INTO \"s_WORD\".\"t_WORD\" VALUES (%1$L, %1$L), ('other', 'other')",
    "CREATE FUNCTION \"s_WORD\".\"f_WORD\"(\"a_WORD\" text DEFAULT %1$L) RETURNS SETOF text LANGUAGE sql STABLE AS \
     %2$L",
    "SELECT cache_function('\"s_WORD\".\"f_WORD\"(text)'::regprocedure, tags => ARRAY[%1$L, %1$L || '$1'], \
     depends_on => jsonb_build_object('\"s_WORD\".\"t_WORD\"', jsonb_build_object('k_WORD', '$1')))",
    "CREATE ROLE \"r_WORD\"",
    "GRANT USAGE ON SCHEMA \"s_WORD\" TO \"r_WORD\"",
    "GRANT SELECT ON \"s_WORD\".\"t_WORD\" TO \"r_WORD\"",
];

/// Runs statements in which `WORD` is the word, doubled quotes and all, in one transaction.
fn run(client: &mut Client, ground: &Ground, statements: &[&str]) -> Result<()> {
    for statement in statements {
        client
            .batch_execute(&format!(
                "DO $run$ DECLARE word text := {}; BEGIN EXECUTE format(replace($sql${statement}$sql$, 'WORD', '%1$s'), word, \
                 format('SELECT \"v_%1$s\" FROM \"s_%1$s\".\"t_%1$s\" WHERE \"k_%1$s\" = $1', word)); END $run$",
                ground.word
            ))
            .with_context(|| format!("{}: {statement}", ground.name))?;
    }
    Ok(())
}

/// Whether a condition holds; in it `WORD` is the word.
fn is(client: &mut Client, ground: &Ground, condition: &str) -> Result<()> {
    run(
        client,
        ground,
        &[&format!(
            "DO $do$ BEGIN IF ({condition}) IS NOT TRUE THEN RAISE 'it is not so'; END IF; END $do$"
        )],
    )
}

fn database(cluster: &Cluster, ground: &Ground) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(&format!(
        "CREATE DATABASE {} ENCODING '{}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        ground.name, ground.encoding
    ))?;
    let mut client = cluster.connect(ground.name)?;
    client.batch_execute("CREATE EXTENSION pg_query_cache")?;
    run(&mut client, ground, OBJECTS)
}

const CALL: &str = "\"s_WORD\".\"f_WORD_cached\"(%1$L)";

fn hits(client: &mut Client) -> Result<i64> {
    number(client, "SELECT hits FROM cache_stats()")
}

/// Calls twice: the answer is right, and the second is a hit.
fn is_cached(client: &mut Client, ground: &Ground) -> Result<()> {
    let right = format!(
        "(SELECT array_agg(r) FROM {CALL} AS r) = (SELECT array_agg(r) FROM \"s_WORD\".\"f_WORD\"(%1$L) AS r)"
    );
    is(client, ground, &right)?;
    let before = hits(client)?;
    is(client, ground, &right)?;
    ensure!(hits(client)? == before + 1, "{}: no hit", ground.name);
    Ok(())
}

#[test]
fn calls_of_functions_with_any_names_are_cached_and_invalidated() -> Result<()> {
    let cluster = with_extension(quiet("encodings-calls"))?;
    for ground in &GROUNDS {
        database(&cluster, ground)?;
        let client = &mut cluster.connect(ground.name)?;
        is_cached(client, ground)?;
        // What a write changes of the key is seen, and what it changes of another key spares the entry.
        let before = hits(client)?;
        run(
            client,
            ground,
            &["UPDATE \"s_WORD\".\"t_WORD\" SET \"v_WORD\" = 'new' WHERE \"k_WORD\" = 'other'"],
        )?;
        is(
            client,
            ground,
            &format!("(SELECT r FROM {CALL} AS r) = %1$L"),
        )?;
        ensure!(hits(client)? == before + 1, "{}: another key", ground.name);
        run(
            client,
            ground,
            &["UPDATE \"s_WORD\".\"t_WORD\" SET \"v_WORD\" = 'new' WHERE \"k_WORD\" = %1$L"],
        )?;
        is(
            client,
            ground,
            &format!("(SELECT r FROM {CALL} AS r) = 'new'"),
        )?;
        is_cached(client, ground)?;
        for invalidation in [
            "invalidate_cache(ARRAY[%1$L])",
            "invalidate_cache(ARRAY[%1$L || %1$L])",
            "invalidate_cache_pattern('f_WORD_*')",
            "invalidate_cache_pattern('f_' || repeat('?', length(%1$L)) || '_*')",
            "invalidate_cache_table('\"s_WORD\".\"t_WORD\"')",
            "invalidate_cache_function('\"s_WORD\".\"f_WORD_cached\"(text,interval)')",
        ] {
            is(client, ground, &format!("{invalidation} > 0"))
                .with_context(|| invalidation.to_owned())?;
            is_cached(client, ground)?;
        }
        // One `?` is one character, however many bytes it has.
        is(
            client,
            ground,
            "invalidate_cache_pattern('f_' || repeat('?', length(%1$L) + 1) || '_*') = 0
             AND query_cache_internal.cache_key_matches(%1$L, repeat('?', length(%1$L)))
             AND NOT query_cache_internal.cache_key_matches(%1$L, repeat('?', length(%1$L) + 1))
             AND query_cache_internal.cache_key_matches(%1$L, '*' || right(%1$L, 1))
             AND query_cache_internal.cache_key_matches(%1$L, repeat('?', length(%1$L) - 1) || '[' || right(%1$L, 1) || ']')",
        )?;
        run(
            client,
            ground,
            &[
                "SELECT uncache_function('\"s_WORD\".\"f_WORD_cached\"(text,interval)')",
                "SELECT cache_untrack_table('\"s_WORD\".\"t_WORD\"')",
                "SELECT cache_track_table('\"s_WORD\".\"t_WORD\"', ARRAY['k_WORD']::name[])",
            ],
        )?;
    }
    Ok(())
}

#[test]
fn what_is_told_of_them_can_be_read() -> Result<()> {
    let cluster = with_extension(quiet("encodings-told"))?;
    for ground in &GROUNDS {
        database(&cluster, ground)?;
        let client = &mut cluster.connect(ground.name)?;
        is_cached(client, ground)?;
        is(
            client,
            ground,
            "(SELECT outcome = 'hit' AND tags @> ARRAY['tag ' || %1$L] FROM cache_explain($call$\"s_WORD\".\"f_WORD_cached\"(%1$L)$call$))",
        )?;
        is(
            client,
            ground,
            "EXISTS (SELECT FROM cached_functions AS f WHERE f::text LIKE '%%WORD%%')",
        )?;
        is(
            client,
            ground,
            "(SELECT count(*) = 1 FROM get_top_cache_entries() AS e WHERE e::text LIKE '%%f_WORD_cached%%')",
        )?;
        is(client, ground, "cache_metrics() LIKE '%%WORD%%'")?;
        let before = hits(client)?;
        run(
            client,
            ground,
            &[
                "SELECT count(*) FROM analyze_cache_health() AS h WHERE h::text = %1$L",
                "SELECT count(*) FROM cache_config() AS c WHERE c::text = %1$L",
                "SELECT count(*) FROM optimize_cache() AS o WHERE o::text = %1$L",
                "SELECT count(*) FROM cache_function_stats AS s WHERE s::text = %1$L",
                "SET ROLE \"r_WORD\"",
            ],
        )?;
        for _ in 0..2 {
            is(
                client,
                ground,
                &format!("(SELECT r FROM {CALL} AS r) = %1$L"),
            )?;
        }
        client.batch_execute("RESET ROLE")?;
        ensure!(
            hits(client)? == before + 1,
            "{}: no hit for the role",
            ground.name
        );
        is(
            client,
            ground,
            "set_cache_config('function.\"s_WORD\".\"f_WORD_cached\"(text,interval).enabled', 'off') IS NOT NULL",
        )?;
        is(
            client,
            ground,
            "EXISTS (SELECT FROM cache_config() AS c WHERE c.name LIKE '%%WORD%%' AND c.value = 'off')",
        )?;
        is(
            client,
            ground,
            "(SELECT reason = 'function_disabled' OR outcome = 'bypass' FROM cache_explain($call$\"s_WORD\".\"f_WORD_cached\"(%1$L)$call$))",
        )?;
        // Errors are those of UTF-8 databases, whatever the text that they are about. They are caught in the server: a client with another
        // encoding cannot be told of all of them.
        for (wrong, state) in [
            ("cache_explain('nothing_WORD()')", "42883"),
            ("invalidate_cache_function('nothing_WORD()')", "42883"),
            ("set_cache_config('class.WORD.ttl', '1 day')", "22023"),
            ("set_cache_config(%1$L, %1$L)", "42704"),
            ("get_top_cache_entries(1, %1$L)", "22023"),
        ] {
            run(
                client,
                ground,
                &[&format!(
                    "DO $do$ BEGIN PERFORM {wrong}; RAISE 'no error'; EXCEPTION WHEN OTHERS THEN
                         IF SQLSTATE <> '{state}' THEN RAISE 'it is %%', SQLSTATE; END IF; END $do$"
                )],
            )?;
        }
    }
    Ok(())
}

#[test]
fn they_are_warmed_kept_on_disk_and_come_back() -> Result<()> {
    let cluster = with_extension(quiet("encodings-kept").setting("pg_query_cache.workers", "4"))?;
    for ground in &GROUNDS {
        database(&cluster, ground)?;
    }
    for ground in &GROUNDS {
        let client = &mut cluster.connect(ground.name)?;
        is(
            client,
            ground,
            "warm_cache('\"s_WORD\".\"f_WORD_cached\"(text,interval)', jsonb_build_object('a_WORD', %1$L))",
        )?;
        is_cached(client, ground)?;
        is(
            client,
            ground,
            "(SELECT bool_and(w.stored) FROM warm_cache_many('\"s_WORD\".\"f_WORD_cached\"(text,interval)', jsonb_build_array(jsonb_build_array(%1$L))) AS w)",
        )?;
        is(
            client,
            ground,
            "warm_cache_in_background('\"s_WORD\".\"f_WORD_cached\"(text,interval)', jsonb_build_object('a_WORD', %1$L)) > 0",
        )?;
        ensure!(
            number(client, "SELECT flush_cache()")? > 0,
            "{}: nothing written",
            ground.name
        );
        is(
            client,
            ground,
            "EXISTS (SELECT FROM query_cache AS q WHERE q.cache_key LIKE 'f_WORD_cached:%%')",
        )?;
    }
    cluster.restart(Mode::Fast)?;
    for ground in &GROUNDS {
        let client = &mut cluster.connect(ground.name)?;
        let before = hits(client)?;
        is(
            client,
            ground,
            &format!("(SELECT r FROM {CALL} AS r) = %1$L"),
        )?;
        ensure!(hits(client)? == before + 1, "{}: not kept", ground.name);
    }
    Ok(())
}

#[test]
fn escapes_in_a_body_are_characters_of_the_database() -> Result<()> {
    let cluster = with_extension(quiet("encodings-escapes"))?;
    for ground in &GROUNDS {
        database(&cluster, ground)?;
        let client = &mut cluster.connect(ground.name)?;
        let create = |name: &str, tag: &str| {
            format!(
                "CREATE FUNCTION {name}() RETURNS integer LANGUAGE cached STABLE AS '{{\"function\": \"{name}_base()\", \"tags\": [\"{tag}\"]}}'"
            )
        };
        for name in ["known", "strange"] {
            client.batch_execute(&format!(
                "CREATE FUNCTION {name}_base() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1'"
            ))?;
        }
        // A character of the database is the same whether it is written as itself or not.
        let (escape, tag) = match ground.name {
            "euc" => ("\\u5bff", "U&'\\5bff'"),
            "ascii" => ("\\u00e9", "convert_from('\\xc3a9'::bytea, 'SQL_ASCII')"),
            _ => ("\\u00E9", "U&'\\00e9'"),
        };
        client
            .batch_execute(&create("known", escape))
            .context(ground.name)?;
        for _ in 0..2 {
            ensure!(number(client, "SELECT known()::bigint")? == 1);
        }
        let found = number(client, &format!("SELECT invalidate_cache(ARRAY[{tag}])"))?;
        ensure!(found > 0, "{}: the tag is another one", ground.name);
        // One that it does not have is refused, and where it got in by itself it stops nobody.
        let created = client.batch_execute(&create("strange", "\\ud83d\\ude00"));
        if ["utf8", "ascii"].contains(&ground.name) {
            created?;
            continue;
        }
        let code = created
            .unwrap_err()
            .code()
            .map(|code| code.code().to_owned());
        ensure!(
            code.as_deref() == Some("42P13"),
            "{}: {code:?}",
            ground.name
        );
        client.batch_execute(&create("strange", "x"))?;
        client.batch_execute(
            "UPDATE pg_proc SET prosrc = replace(prosrc, '\"x\"', '\"\\ud83d\\ude00\"') WHERE proname = 'strange'",
        )?;
        number(
            client,
            "SELECT count(*) FROM cached_functions AS f WHERE f::text <> ''",
        )?;
        number(
            client,
            "SELECT count(*) FROM cache_function_stats AS s WHERE s::text <> ''",
        )?;
        ensure!(number(client, "SELECT known()::bigint")? == 1);
    }
    Ok(())
}

#[test]
fn values_have_any_keys_and_tags() -> Result<()> {
    let cluster = with_extension(quiet("encodings-values"))?;
    for ground in &GROUNDS {
        database(&cluster, ground)?;
        let client = &mut cluster.connect(ground.name)?;
        run(
            client,
            ground,
            &["SELECT cache_set(%1$L, to_jsonb(%1$L::text), tags => ARRAY[%1$L])"],
        )?;
        is(client, ground, "cache_get(%1$L) = to_jsonb(%1$L::text)")?;
        is(
            client,
            ground,
            "(SELECT k FROM cache_keys('*') AS k) = %1$L",
        )?;
        is(client, ground, "cache_key(%1$L, 'a') IS NOT NULL")?;
        is(
            client,
            ground,
            "cache_remember('r_WORD', format('SELECT %%L', %1$L)) = to_jsonb(%1$L::text)",
        )?;
        is(client, ground, "cache_increment('n_WORD') = 1")?;
        is(client, ground, "cache_delete_pattern('r_WORD*') = 1")?;
        is(client, ground, "invalidate_cache(ARRAY[%1$L]) >= 1")?;
        is(client, ground, "cache_get(%1$L) IS NULL")?;
    }
    Ok(())
}

#[test]
fn the_extension_can_be_in_a_schema_of_any_name() -> Result<()> {
    let cluster = with_extension(quiet("encodings-schema"))?;
    for ground in &GROUNDS {
        cluster.connect(DATABASE)?.batch_execute(&format!(
            "CREATE DATABASE {} ENCODING '{}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
            ground.name, ground.encoding
        ))?;
        let client = &mut cluster.connect(ground.name)?;
        run(
            client,
            ground,
            &[
                "CREATE SCHEMA \"WORD\"",
                "CREATE EXTENSION pg_query_cache SCHEMA \"WORD\"",
                "SET search_path = public, \"WORD\"",
            ],
        )?;
        run(client, ground, OBJECTS)?;
        is_cached(client, ground)?;
        ensure!(
            number(client, "SELECT flush_cache()")? > 0,
            "nothing written"
        );
        run(
            client,
            ground,
            &[
                "SELECT cleanup_expired_cache()",
                "SELECT cache_set(%1$L, '1')",
                "SELECT set_cache_config('class.hot.ttl', '1 hour')",
                "SELECT count(*) FROM optimize_cache()",
                "SELECT count(*) FROM analyze_cache_health()",
            ],
        )?;
        ensure!(
            holds(client, "SELECT count(*) > 0 FROM query_cache")?,
            "no row"
        );
    }
    Ok(())
}

/// The server's log and messages have what is no UTF-8 byte by byte, and nothing that is neither.
#[test]
fn messages_show_bytes() -> Result<()> {
    let cluster = with_extension(quiet("encodings-messages"))?;
    let shown = [
        "r_caf\u{e9}",
        "r_caf\\xe9",
        "r_\\xbc\\xf7\\xbb\\xca",
        "r_caf\\xe9\\xffb",
    ];
    for (ground, role) in GROUNDS.iter().zip(shown) {
        database(&cluster, ground)?;
        let client = &mut cluster.connect(ground.name)?;
        run(
            client,
            ground,
            &[
                "GRANT EXECUTE ON FUNCTION emergency_clear_cache, set_cache_config TO \"r_WORD\"",
                "SET ROLE \"r_WORD\"",
                "SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED')",
                "SELECT set_cache_config('enabled', 'off')",
            ],
        )?;
        for line in [
            format!("emergency_clear_cache() by role \"{role}\" removed"),
            format!("role \"{role}\" (session of \"postgres\") changes enabled"),
        ] {
            ensure!(
                cluster.log_contains(&line),
                "{}: no line {line}",
                ground.name
            );
        }
    }
    Ok(())
}
