//! The reference page and the catalog say the same: every object of the extension is on the page with its arguments, every setting in
//! the README, and everything has a comment or a description. And the tests that the consistency page names are there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, quiet, with_extension};
use pg_query_cache_harness::postgres::Client;

const REFERENCE: &str = include_str!("../../../docs/reference.md");
const README: &str = include_str!("../../../README.md");

fn texts(client: &mut Client, sql: &str) -> Result<BTreeSet<String>> {
    Ok(client
        .query(sql, &[])?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// Objects of a catalog that belong to the extension.
fn members(client: &mut Client, catalog: &str, name: &str) -> Result<BTreeSet<String>> {
    texts(
        client,
        &format!(
            "SELECT o.{name}::text FROM pg_depend AS d
             JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
             JOIN {catalog} AS o ON d.classid = '{catalog}'::regclass AND d.objid = o.oid
             WHERE e.extname = 'pg_query_cache'"
        ),
    )
}

#[test]
fn every_function_is_in_the_reference() -> Result<()> {
    let cluster = with_extension(quiet("reference_functions"))?;
    let mut client = cluster.connect(DATABASE)?;
    let functions = members(&mut client, "pg_proc", "proname")?;
    ensure!(functions.len() >= 15, "only {} functions", functions.len());
    for function in &functions {
        ensure!(
            REFERENCE.contains(&format!("`{function}(")),
            "{function} is not in docs/reference.md"
        );
    }
    for relation in members(&mut client, "pg_class", "relname")? {
        ensure!(
            relation.ends_with("_seq") || REFERENCE.contains(&format!("`{relation}`")),
            "{relation} is not in docs/reference.md"
        );
    }
    Ok(())
}

#[test]
fn every_function_of_the_reference_exists() -> Result<()> {
    let cluster = with_extension(quiet("reference_names"))?;
    let mut client = cluster.connect(DATABASE)?;
    let functions = members(&mut client, "pg_proc", "proname")?;
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let named: BTreeSet<&str> = REFERENCE
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('(')?.0))
        .filter(is_name)
        .collect();
    ensure!(
        named.len() >= 15,
        "only {} functions are named",
        named.len()
    );
    for name in named {
        ensure!(
            functions.contains(name),
            "{name} is in docs/reference.md but not in the extension"
        );
    }
    Ok(())
}

#[test]
fn every_code_is_in_the_reference_with_its_words() -> Result<()> {
    let cluster = with_extension(quiet("reference_codes"))?;
    let mut client = cluster.connect(DATABASE)?;
    let told = texts(
        &mut client,
        "SELECT format('| %s | %s | %s | %s |', code, kind, meaning, remedy) FROM cache_reasons()",
    )?;
    ensure!(told.len() >= 30, "only {} codes", told.len());
    let (_, section) = REFERENCE
        .split_once("## Reasons")
        .context("no section on reasons")?;
    let written: BTreeSet<String> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.replace('`', ""))
        .collect();
    let differ: Vec<_> = told.symmetric_difference(&written).collect();
    ensure!(
        differ.is_empty(),
        "docs/reference.md and cache_reasons() differ:\n{differ:#?}"
    );
    Ok(())
}

#[test]
fn everything_has_a_comment() -> Result<()> {
    let cluster = with_extension(quiet("reference_comments"))?;
    let mut client = cluster.connect(DATABASE)?;
    let silent = texts(
        &mut client,
        "SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d
         JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
         LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
         WHERE e.extname = 'pg_query_cache' AND c.relkind IS DISTINCT FROM 'S'
           AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_language'::regclass)
           AND obj_description(d.objid, d.classid::regclass::name) IS NULL",
    )?;
    ensure!(silent.is_empty(), "without a comment: {silent:?}");
    // And what they are made of, but for the triggers that each tracked table has.
    let silent = texts(
        &mut client,
        "WITH relation AS (
             SELECT c.oid, c.relname FROM pg_depend AS d
             JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
             JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind IN ('r', 'v')
             WHERE e.extname = 'pg_query_cache')
         SELECT format('%s.%s', r.relname, a.attname) FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
         WHERE col_description(r.oid, a.attnum) IS NULL
         UNION ALL
         SELECT format('%s on %s', p.polname, r.relname) FROM relation AS r JOIN pg_policy AS p ON p.polrelid = r.oid
         WHERE obj_description(p.oid, 'pg_policy') IS NULL
         UNION ALL
         SELECT format('%s on %s', t.tgname, r.relname) FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
         WHERE NOT t.tgisinternal AND t.tgname !~ '^pg_query_cache_' AND obj_description(t.oid, 'pg_trigger') IS NULL",
    )?;
    ensure!(silent.is_empty(), "without a comment: {silent:?}");
    Ok(())
}

#[test]
fn every_setting_is_in_the_readme() -> Result<()> {
    let cluster = with_extension(quiet("reference_settings"))?;
    let mut client = cluster.connect(DATABASE)?;
    let settings = client.query(
        "SELECT name, short_desc FROM pg_settings WHERE name LIKE 'pg\\_query\\_cache.%'",
        &[],
    )?;
    ensure!(settings.len() >= 10, "only {} settings", settings.len());
    for row in settings {
        let (name, description): (String, String) = (row.get(0), row.get(1));
        let short = name.trim_start_matches("pg_query_cache.");
        ensure!(
            README.contains(&format!("`{name}`")) || README.contains(&format!("`{short}`")),
            "{name} is not in the README"
        );
        ensure!(
            description.ends_with('.'),
            "{name}: the description is no sentence: {description}"
        );
    }
    Ok(())
}

/// In backquotes: a file below `tests`, or one and a test in it.
#[test]
fn every_test_that_the_documents_name_exists() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut named = 0;
    for page in std::fs::read_dir(root.join("docs"))? {
        let page = page?.path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page)?;
        let in_quotes = text.split('`').skip(1).step_by(2);
        for name in
            in_quotes.filter(|name| name.starts_with("tests/") || name.starts_with("crates/"))
        {
            named += 1;
            let (file, test) = name.split_once(':').unwrap_or((name, ""));
            ensure!(
                root.join(file).exists(),
                "{}: {file} does not exist",
                page.display()
            );
            if !test.is_empty() {
                let source = std::fs::read_to_string(root.join(file))?;
                ensure!(
                    source.contains(&format!("fn {}()", test.trim())),
                    "{}: {file} has no test {test}",
                    page.display()
                );
            }
        }
    }
    ensure!(named > 100, "only {named} tests are named");
    Ok(())
}

/// Conditions are told as the server names them; what a client can meet has to be on the page.
#[test]
fn every_error_is_in_the_reference() -> Result<()> {
    const NEVER_SENT: [&str; 7] = [
        // Of injected faults.
        "SYSTEM_ERROR",
        // Of errors that were caught, to be told apart.
        "QUERY_CANCELED",
        "ADMIN_SHUTDOWN",
        "CRASH_SHUTDOWN",
        "CANNOT_CONNECT_NOW",
        "DATABASE_DROPPED",
        "SUCCESSFUL_COMPLETION",
    ];
    let errors = REFERENCE
        .split_once("## Errors")
        .and_then(|(_, after)| after.split("\n## ").next())
        .context("no section of errors")?;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src")];
    let mut seen = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path)?;
            for rest in source.split("ERRCODE_").skip(1) {
                let end = rest
                    .find(|c: char| !c.is_ascii_uppercase() && c != '_')
                    .unwrap_or(rest.len());
                seen.insert(rest[..end].to_owned());
            }
        }
    }
    ensure!(seen.len() > 15, "only {} conditions", seen.len());
    for name in seen {
        let plain = name
            .trim_start_matches("E_R_I_E_")
            .trim_start_matches("T_R_")
            .to_lowercase();
        ensure!(
            NEVER_SENT.contains(&name.as_str()) || errors.contains(&format!("`{plain}`")),
            "{plain} is not among the errors of docs/reference.md"
        );
    }
    Ok(())
}
