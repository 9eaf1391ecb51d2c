//! What is shipped in SQL means the same under every search path: asked of the catalog of a database that has the extension, and of the
//! files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;

/// Functions that users call. A new one is put here on purpose; what is not here belongs into `query_cache_internal`.
const CONTRACT: &[&str] = &[
    "analyze_cache_health",
    "cache_access_list",
    "cache_analytics",
    "cache_config",
    "cache_delete",
    "cache_delete_many",
    "cache_delete_pattern",
    "cache_exists",
    "cache_explain",
    "cache_function",
    "cache_function_resume",
    "cache_get",
    "cache_get_many",
    "cache_increment",
    "cache_key",
    "cache_keys",
    "cache_memory_entries",
    "cache_metrics",
    "cache_reasons",
    "cache_remember",
    "cache_set",
    "cache_set_many",
    "cache_stats",
    "cache_touch",
    "cache_track_table",
    // Dumps of users' tables name it.
    "cache_tracker",
    "cache_ttl",
    "cache_untrack_table",
    "cache_value_stats",
    "cleanup_expired_cache",
    "clear_cache",
    "clear_department_cache",
    "emergency_clear_cache",
    "flush_cache",
    "get_cache_cleanup_stats",
    "get_department_contacts_summary_cached",
    "get_enterprise_contacts_summary_cached",
    "get_expert_sessions_with_stats_cached",
    "get_product_performance_cached",
    "get_top_cache_entries",
    "grant_cache_access",
    "invalidate_cache",
    "invalidate_cache_function",
    "invalidate_cache_pattern",
    "invalidate_cache_table",
    "optimize_cache",
    "revoke_cache_access",
    "set_cache_config",
    "uncache_function",
    "warm_cache",
    "warm_cache_in_background",
    "warm_cache_many",
];

/// Members of the extension, and what is a part of them.
const OURS: &str = "
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\"
          AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension AS e
                                                 WHERE e.extname OPERATOR(pg_catalog.=) 'pg_query_cache'::pg_catalog.name)
    ), ours AS (
        SELECT m.classid, m.objid FROM member AS m
        UNION
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
        JOIN member AS m ON m.classid OPERATOR(pg_catalog.=) d.refclassid AND m.objid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.deptype OPERATOR(pg_catalog.=) ANY (ARRAY['a'::pg_catalog.\"char\", 'i'::pg_catalog.\"char\"])
    )";

/// Operators, functions, types and casts that something of ours is bound to though they belong neither to the server (nothing that is
/// pinned is in `pg_depend`) nor to us. The query itself means the same under every search path.
pub const STRANGERS: &str = "
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\"
          AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension AS e
                                                 WHERE e.extname OPERATOR(pg_catalog.=) 'pg_query_cache'::pg_catalog.name)
    ), ours AS (
        SELECT m.classid, m.objid FROM member AS m
        UNION
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
        JOIN member AS m ON m.classid OPERATOR(pg_catalog.=) d.refclassid AND m.objid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.deptype OPERATOR(pg_catalog.=) ANY (ARRAY['a'::pg_catalog.\"char\", 'i'::pg_catalog.\"char\"])
    )
    SELECT pg_catalog.concat(pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), ' -> ',
                             pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
    FROM pg_catalog.pg_depend AS d
    JOIN ours AS o ON o.classid OPERATOR(pg_catalog.=) d.classid AND o.objid OPERATOR(pg_catalog.=) d.objid
    WHERE d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_operator'::pg_catalog.regclass,
              'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
              'pg_catalog.pg_cast'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass]::pg_catalog.oid[])
      AND NOT EXISTS (SELECT FROM ours AS r
                      WHERE r.classid OPERATOR(pg_catalog.=) d.refclassid AND r.objid OPERATOR(pg_catalog.=) d.refobjid)";

fn texts(client: &mut Client, sql: &str) -> Result<Vec<String>> {
    Ok(client
        .query(sql, &[])
        .with_context(|| sql.to_owned())?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

#[test]
fn the_catalog_of_the_extension_is_bound() -> Result<()> {
    let cluster = with_extension(quiet("security-bound"))?;
    let mut client = cluster.connect(DATABASE)?;
    let none = |client: &mut Client, what: &str, sql: &str| -> Result<()> {
        let found = texts(client, sql)?;
        ensure!(found.is_empty(), "{what}: {found:?}");
        Ok(())
    };
    let functions = |condition: &str| {
        format!(
            "{OURS} SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN ours AS o ON o.classid = 'pg_proc'::regclass AND o.objid = p.oid
             JOIN pg_language AS l ON l.oid = p.prolang WHERE {condition}"
        )
    };
    ensure!(texts(&mut client, &functions("true"))?.len() > 60);
    none(
        &mut client,
        "bodies that are read when they run",
        &functions("l.lanname NOT IN ('c', 'cached') AND p.prosqlbody IS NULL"),
    )?;
    none(
        &mut client,
        "defined by their owner under a search path of the caller's",
        &functions(
            "p.prosecdef AND p.proconfig IS DISTINCT FROM '{\"search_path=pg_catalog, pg_temp\"}'",
        ),
    )?;
    let contract = CONTRACT.join(",");
    none(
        &mut client,
        "where anybody may create, though nobody calls them by name",
        &functions(&format!(
            "p.pronamespace <> 'query_cache_internal'::regnamespace AND p.proname <> ALL ('{{{contract}}}')"
        )),
    )?;
    none(
        &mut client,
        "in the schema of what nobody calls by name",
        &functions(&format!(
            "p.pronamespace = 'query_cache_internal'::regnamespace AND p.proname = ANY ('{{{contract}}}')"
        )),
    )?;
    none(&mut client, "bound to others", STRANGERS)?;
    none(
        &mut client,
        "may use query_cache_internal",
        "SELECT rolname::text FROM pg_roles WHERE NOT rolsuper AND rolname NOT LIKE 'pg\\_%'
             AND has_schema_privilege(oid, 'query_cache_internal', 'USAGE, CREATE')",
    )?;
    // The questions find what they look for.
    client.batch_execute(
        "CREATE FUNCTION stranger(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = stranger);
         CREATE VIEW strange AS SELECT 'a'::text === 'b'::text AS x; ALTER EXTENSION pg_query_cache ADD VIEW strange;
         ALTER EXTENSION pg_query_cache ADD FUNCTION stranger(text, text)",
    )?;
    ensure!(texts(&mut client, STRANGERS)?.len() == 1);
    ensure!(
        texts(
            &mut client,
            &functions("l.lanname NOT IN ('c', 'cached') AND p.prosqlbody IS NULL")
        )?
        .len()
            == 1
    );
    Ok(())
}

/// SQL without its comments, the insides of its strings and its quoted names.
fn bare(sql: &str) -> String {
    let mut out = String::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '-' if chars.peek() == Some(&'-') => {
                for c in chars.by_ref() {
                    if c == '\n' {
                        break;
                    }
                }
                out.push('\n');
            }
            '\'' | '"' => {
                out.push(c);
                for inner in chars.by_ref() {
                    if inner == c {
                        break;
                    }
                }
                out.push(c);
            }
            '@' => {
                // @extschema@
                for c in chars.by_ref() {
                    if c == '@' {
                        break;
                    }
                }
                out.push_str("extschema");
            }
            _ => out.push(c),
        }
    }
    out
}

/// What in a file of SQL is resolved by the search path, a line each.
fn loose(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in bare(sql).lines() {
        let words = line
            .replace("search_path =", "search_path")
            .replace("fillfactor =", "fillfactor")
            .replace("MESSAGE =", "MESSAGE")
            .replace(":=", "")
            .replace("%s", "")
            .replace("count(*)", "count()")
            .replace("\\echo", "")
            .replace("\\quit", "")
            .replace("=>", "");
        let mut rest = words.as_str();
        while let Some(at) = rest.find("OPERATOR(pg_catalog.") {
            let end = rest[at..].find(')').map_or(rest.len(), |end| at + end + 1);
            check(&rest[..at], line, &mut found);
            rest = &rest[end..];
        }
        check(rest, line, &mut found);
    }
    found
}

fn check(part: &str, line: &str, found: &mut Vec<String>) {
    let upper = part.to_uppercase();
    let keyword = [
        " IN (",
        " LIKE ",
        " ILIKE ",
        " BETWEEN ",
        " SIMILAR ",
        " IS DISTINCT FROM ",
        "NULLIF(",
    ]
    .iter()
    .any(|word| upper.contains(word));
    let operator = part.contains(['=', '<', '>', '+', '*', '/', '|', '&', '~', '#', '%', '^'])
        || part.contains(" - ");
    let cast = part
        .split("::")
        .skip(1)
        .any(|after| !after.starts_with("pg_catalog."));
    if keyword || operator || cast {
        found.push(line.trim().to_owned());
    }
}

#[test]
fn shipped_sql_says_what_it_means() -> Result<()> {
    ensure!(loose("SELECT a = b").len() == 1 && loose("SELECT a::text").len() == 1);
    ensure!(loose("SELECT a OPERATOR(pg_catalog.=) b::pg_catalog.text -- a = b").is_empty());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let mut files = 0;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        files += 1;
        let found = loose(&fs::read_to_string(&path)?);
        ensure!(found.is_empty(), "{}: {found:#?}", path.display());
    }
    ensure!(files > 10, "{files} files");
    Ok(())
}
