//! Names with quotes, SQL, format characters, letters of other alphabets, and of the greatest length.

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, holds, number, quiet};
use pg_query_cache_harness::postgres::types::ToSql;

const NAMES: &[&str] = &[
    "Mixed Case",
    "it's \"quoted\"",
    "x\"; DROP TABLE precious; --",
    "%s%n%1$s %d",
    "日本語の表 ñ ß",
    "$1",
    "\\x00 \\n",
    "select",
    // 63 bytes, the most; `_cached` is appended to what fits.
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk",
    // 62 bytes in two-byte letters.
    "äöüäöüäöüäöüäöüäöüäöüäöüäöüäöüä",
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn any_name_will_do() -> Result<()> {
    let cluster = quiet("names").build()?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE precious (); CREATE SCHEMA \"Ext ensiön; %s\"; CREATE EXTENSION pg_query_cache SCHEMA \"Ext ensiön; %s\";
         SET search_path = \"Ext ensiön; %s\", public",
    )?;
    for name in NAMES {
        let id = quoted(name);
        client
            .batch_execute(&format!(
                "CREATE ROLE {id}; CREATE SCHEMA {id} AUTHORIZATION {id}; CREATE TABLE {id}.{id} ({id} text, n integer);
                 INSERT INTO {id}.{id} VALUES ('a', 1), ('b', 2);
                 CREATE FUNCTION {id}.{id}({id} text) RETURNS bigint LANGUAGE sql STABLE AS $x$SELECT sum(n) FROM {id}.{id} AS t WHERE t.{id} = $1$x$;
                 ALTER TABLE {id}.{id} OWNER TO {id}; ALTER FUNCTION {id}.{id}(text) OWNER TO {id};"
            ))
            .with_context(|| (*name).to_owned())?;
        let text: &(dyn ToSql + Sync) = name;
        let cached: String = client
            .query_one(
                "SELECT cache_function(format('%1$I.%1$I(text)', $1::text)::regprocedure, depends_on => jsonb_build_object(format('%1$I.%1$I', $1::text), jsonb_build_object($1::text, '$1')),
                                       tags => ARRAY[replace($1, '$', '') || '!', $1 || ':$1'])::text",
                &[text],
            )
            .with_context(|| (*name).to_owned())?
            .get(0);
        let function = cached.split('(').next().unwrap_or_default();
        ensure!(
            cached.contains("_cached") && !function.is_empty(),
            "{cached}"
        );
        let call = format!(
            "{}('a')",
            cached
                .strip_suffix("(text,interval)")
                .context(cached.clone())?
        );
        for (sum, change) in [
            (1, format!("UPDATE {id}.{id} SET n = 10 WHERE {id} = 'a'")),
            (10, format!("UPDATE {id}.{id} SET n = 20 WHERE {id} = 'b'")),
            (10, format!("ALTER TABLE {id}.{id} ADD COLUMN x integer")),
            (
                10,
                format!("TRUNCATE {id}.{id}; INSERT INTO {id}.{id} VALUES ('a', 5)"),
            ),
        ] {
            for _ in 0..2 {
                ensure!(
                    number(&mut client, &format!("SELECT {call}"))? == sum,
                    "{call}"
                );
            }
            client.batch_execute(&change)?;
        }
        ensure!(
            number(&mut client, &format!("SELECT {call}"))? == 5,
            "{call}"
        );
        // Everything that names it.
        let oid = "(SELECT $1::text::regprocedure)";
        let of_this: &[&(dyn ToSql + Sync)] = &[&cached];
        let explained: String = client
            .query_one("SELECT outcome FROM cache_explain($1)", &[&call])
            .with_context(|| call.clone())?
            .get(0);
        ensure!(explained == "hit", "{call}: {explained}");
        ensure!(
            client
                .query_one(
                    &format!("SELECT hits > 0 FROM cache_function_stats WHERE function = {oid}"),
                    of_this
                )?
                .get::<_, bool>(0)
        );
        ensure!(client.query_one(&format!("SELECT owner::text = current_user FROM cached_functions WHERE function = {oid}"), of_this)?.get::<_, bool>(0));
        ensure!(
            client
                .query_one(
                    &format!(
                        "SELECT count(*) > 0 FROM get_top_cache_entries(100) WHERE function = {oid}"
                    ),
                    of_this
                )?
                .get::<_, bool>(0)
        );
        ensure!(
            client
                .query_one(
                    "SELECT invalidate_cache(ARRAY[replace($1::text, '$', '') || '!'])",
                    &[text]
                )?
                .get::<_, i64>(0)
                > 0,
            "{name}"
        );
        client.query_one(&format!("SELECT invalidate_cache_function({oid}), invalidate_cache_table(format('%1$I.%1$I', $2::text)::regclass)"), &[&cached, text])?;
        ensure!(number(&mut client, &format!("SELECT {call}"))? == 5);
        client.batch_execute(&format!(
            "SELECT flush_cache(); SELECT grant_cache_access('{}')",
            id.replace('\'', "''")
        ))?;
        client.query("SELECT * FROM analyze_cache_health()", &[])?;
    }
    // As long as they are all there: names that are the same in their beginnings are not the same.
    ensure!(
        number(
            &mut client,
            "SELECT count(DISTINCT function) FROM cached_functions WHERE base_function !~ '^get_'"
        )? == NAMES.len() as i64
    );
    // Over a dump: see the suite of dumps. Over a restart here.
    drop(client);
    cluster.restart(pg_query_cache_harness::Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SET search_path = \"Ext ensiön; %s\", public")?;
    for function in client.query("SELECT function::text, split_part(function::text, '(text,', 1) || '(''a'')' FROM cached_functions WHERE base_function !~ '^get_'", &[])? {
        let (function, call): (String, String) = (function.get(0), function.get(1));
        ensure!(number(&mut client, &format!("SELECT {call}"))? == 5, "{call}");
        client.query_one("SELECT uncache_function($1::text::regprocedure)", &[&function])?;
    }
    ensure!(holds(
        &mut client,
        "SELECT to_regclass('public.precious') IS NOT NULL"
    )?);
    Ok(())
}

/// The view shows the bodies of all functions, so none may be an error: not one with a zero byte, which no text holds, nor one with a
/// character that the database's encoding does not have.
#[test]
fn bodies_that_a_text_cannot_hold() -> Result<()> {
    let cluster = quiet("names-bodies").build()?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute("CREATE ROLE nobody LOGIN")?;
    let shown = "[\"a?b\", \"\u{20ac}\", \"\u{e9}\", \"\u{1f600}\", \"\\\\u0000\"]";
    admin.batch_execute(
        "CREATE DATABASE as_utf8 ENCODING UTF8 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )?;
    let mut client = cluster.connect("as_utf8")?;
    client.batch_execute(
        r#"CREATE EXTENSION pg_query_cache; GRANT CREATE ON SCHEMA public TO nobody; SET ROLE nobody;
           CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
           CREATE FUNCTION strange() RETURNS integer LANGUAGE cached STABLE PARALLEL RESTRICTED AS
               $${"function": "one()", "tags": ["a\u0000b", "\u20ac", "\u00e9", "\ud83d\ude00", "\\u0000"]}$$;
           RESET ROLE"#,
    )?;
    let row = client.query_one(
        "SELECT tags::text, base_function, (SELECT count(*) FROM cached_functions) > 4 FROM cached_functions
         WHERE function = 'strange()'::regprocedure",
        &[],
    )?;
    let (tags, base, all): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
    ensure!(
        tags == shown && base == "public.one()" && all,
        "{tags} {base}"
    );
    Ok(())
}
