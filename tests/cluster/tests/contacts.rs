//! The sample schema contacts: summaries of enterprises and departments, each invalidated by what concerns it and nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, counters, holds, in_background, number, quiet, wait_for, with_extension,
    worker_turns,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Builder, Cluster, wait_until};

const SAMPLE: &str = include_str!("../../../sql/samples/contacts.sql");

const ENTERPRISE: &str = "get_enterprise_contacts_summary";
const DEPARTMENT: &str = "get_department_contacts_summary";

/// Tables and the key columns that the summaries name.
const KEYS: [(&str, &str); 4] = [
    ("enterprises", "{id}"),
    ("departments", "{enterprise_id,id}"),
    ("employees", "{enterprise_id,department_id}"),
    ("contacts", "{enterprise_id,department_id}"),
];

/// Tells which entries are valid; the summaries of an enterprise or a department as `e7` or `d12`.
const VALID: &str = "
    SELECT 'e' || e.id AS who, (cache_explain(format('get_enterprise_contacts_summary_cached(%s)', e.id))).reason
    FROM contacts.enterprises AS e WHERE e.id <= 3
    UNION ALL
    SELECT 'd' || d.id, (cache_explain(format('get_department_contacts_summary_cached(%s, %s)', d.enterprise_id, d.id))).reason
    FROM contacts.departments AS d WHERE d.enterprise_id <= 3";

fn cluster(builder: Builder) -> Result<Cluster> {
    let cluster = with_extension(builder)?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SET client_min_messages = warning")?;
    client.batch_execute(SAMPLE)?;
    client.batch_execute("SELECT contacts.generate(0.01)")?;
    Ok(cluster)
}

fn tracked(name: &str) -> Result<(Cluster, Client)> {
    let cluster = cluster(quiet(name))?;
    let mut client = cluster.connect(DATABASE)?;
    for (table, columns) in KEYS {
        client.batch_execute(&format!(
            "SELECT cache_track_table('contacts.{table}', '{columns}')"
        ))?;
    }
    Ok((cluster, client))
}

/// Fills what [`VALID`] looks at, and compares all of it with the functions themselves, in one statement each.
fn fill(client: &mut Client) -> Result<()> {
    for sql in [
        format!(
            "SELECT count(*) FROM generate_series(0, 12) AS e WHERE {ENTERPRISE}(e) IS DISTINCT FROM {ENTERPRISE}_cached(e)"
        ),
        format!(
            "SELECT count(*) FROM contacts.departments AS d
             WHERE {DEPARTMENT}(d.enterprise_id, d.id) IS DISTINCT FROM {DEPARTMENT}_cached(d.enterprise_id, d.id)"
        ),
    ] {
        let wrong = number(client, &sql)?;
        ensure!(wrong == 0, "{wrong} wrong answers: {sql}");
    }
    Ok(())
}

/// Those of [`VALID`] whose entries are not valid any more.
fn invalid(client: &mut Client) -> Result<BTreeSet<String>> {
    let rows = client.query(VALID, &[])?;
    ensure!(rows.len() > 10, "only {} summaries", rows.len());
    rows.iter()
        .filter(|row| row.get::<_, String>(1) != "valid")
        .map(|row| {
            let (who, reason): (String, String) = (row.get(0), row.get(1));
            ensure!(reason == "invalidated", "{who}: {reason}");
            Ok(who)
        })
        .collect()
}

/// A write, whose summaries it concerns, and whose were invalid after it.
struct Write {
    sql: String,
    concerned: BTreeSet<String>,
    invalid: BTreeSet<String>,
}

/// Runs a statement between two fills.
fn write(client: &mut Client, sql: &str, whom: &[&str]) -> Result<Write> {
    fill(client)?;
    let before = invalid(client)?;
    ensure!(before.is_empty(), "{before:?} are not valid before {sql}");
    let changed = client.execute(sql, &[])?;
    ensure!(
        changed > 0 || sql.starts_with("TRUNCATE"),
        "{sql} changes nothing"
    );
    let invalid = invalid(client)?;
    fill(client)?;
    Ok(Write {
        sql: sql.to_owned(),
        concerned: whom.iter().map(|who| (*who).to_owned()).collect(),
        invalid,
    })
}

/// Two departments of enterprise 1, one of enterprise 2, and an employee in the first who has contacts.
struct Ground {
    first: i64,
    second: i64,
    other: i64,
    employee: i64,
}

fn ground(client: &mut Client) -> Result<Ground> {
    let of = |client: &mut Client, enterprise: i64, nth: i64| {
        number(
            client,
            &format!(
                "SELECT id FROM contacts.departments WHERE enterprise_id = {enterprise} ORDER BY id OFFSET {nth} LIMIT 1"
            ),
        )
    };
    let first = of(client, 1, 0)?;
    Ok(Ground {
        first,
        second: of(client, 1, 1)?,
        other: of(client, 2, 0)?,
        employee: number(
            client,
            &format!(
                "SELECT employee_id FROM contacts.contacts WHERE department_id = {first} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
            ),
        )?,
    })
}

/// Two tags can share a validity slot. Which ones do differs from database to database, so what is invalid in both is concerned.
#[test]
fn a_write_concerns_its_department_and_its_enterprise() -> Result<()> {
    let (cluster, mut client) = tracked("contacts-matrix")?;
    client.batch_execute("CREATE DATABASE copy TEMPLATE postgres")?;
    let first = writes(&mut client)?;
    let second = writes(&mut cluster.connect("copy")?)?;
    ensure!(first.len() == second.len() && first.len() > 10);
    for (first, second) in first.iter().zip(&second) {
        let both: BTreeSet<_> = first
            .invalid
            .intersection(&second.invalid)
            .cloned()
            .collect();
        ensure!(
            first.sql == second.sql && both == first.concerned,
            "{}: {both:?} instead of {:?}",
            first.sql,
            first.concerned
        );
        let by_chance = first.invalid.len().max(second.invalid.len()) - both.len();
        ensure!(by_chance <= 3, "{}: {:?}", first.sql, first.invalid);
    }
    Ok(())
}

fn writes(client: &mut Client) -> Result<Vec<Write>> {
    let Ground {
        first,
        second,
        other,
        employee,
    } = ground(client)?;
    let (d1, d2, d3) = (
        format!("d{first}"),
        format!("d{second}"),
        format!("d{other}"),
    );
    let mut all = Vec::new();
    let insert = format!(
        "INSERT INTO contacts.contacts (enterprise_id, department_id, employee_id, name, company)
         VALUES (1, {first}, {employee}, 'Ada', 'Analytical Engines')"
    );
    all.push(write(client, &insert, &["e1", &d1])?);
    all.push(write(
        client,
        "UPDATE contacts.contacts SET phone = '1' WHERE name = 'Ada'",
        &["e1", &d1],
    )?);
    all.push(write(
        client,
        "DELETE FROM contacts.contacts WHERE name = 'Ada'",
        &["e1", &d1],
    )?);
    all.push(write(
        client,
        &format!("UPDATE contacts.employees SET name = 'Bob' WHERE id = {employee}"),
        &["e1", &d1],
    )?);
    all.push(write(
        client,
        &format!(
            "INSERT INTO contacts.employees (enterprise_id, department_id, name, email) VALUES (2, {other}, 'Eve', 'eve@x')"
        ),
        &["e2", &d3],
    )?);
    all.push(write(
        client,
        &format!("UPDATE contacts.departments SET name = 'Another' WHERE id = {second}"),
        &["e1", &d2],
    )?);
    all.push(write(
        client,
        "UPDATE contacts.enterprises SET name = 'Another' WHERE id = 3",
        &["e3"],
    )?);

    // Who moves takes the contacts along: both departments and the enterprise; to another enterprise, that too.
    let contacts = number(
        client,
        &format!("SELECT count(*) FROM contacts.contacts WHERE employee_id = {employee}"),
    )?;
    all.push(write(
        client,
        &format!("UPDATE contacts.employees SET department_id = {second} WHERE id = {employee}"),
        &["e1", &d1, &d2],
    )?);
    let moved = number(
        client,
        &format!(
            "SELECT count(*) FROM contacts.contacts WHERE employee_id = {employee} AND department_id = {second}"
        ),
    )?;
    ensure!(contacts > 0 && contacts == moved, "{moved} of {contacts}");
    all.push(write(
        client,
        &format!(
            "UPDATE contacts.employees SET enterprise_id = 2, department_id = {other} WHERE id = {employee}"
        ),
        &["e1", &d2, "e2", &d3],
    )?);
    all.push(write(
        client,
        &format!("DELETE FROM contacts.employees WHERE id = {employee}"),
        &["e2", &d3],
    )?);

    // What concerns others only, and what concerns all.
    all.push(write(
        client,
        "UPDATE contacts.contacts SET phone = NULL WHERE enterprise_id = 10",
        &[],
    )?);
    client.batch_execute("BEGIN; DELETE FROM contacts.contacts; ROLLBACK")?;
    ensure!(
        invalid(client)?.is_empty(),
        "a rollback invalidates nothing"
    );
    let departments = client.query(
        "SELECT 'd' || id FROM contacts.departments WHERE enterprise_id <= 3",
        &[],
    )?;
    let mut everybody: Vec<String> = departments.iter().map(|row| row.get(0)).collect();
    everybody.extend(["e1", "e2", "e3"].map(str::to_owned));
    let everybody: Vec<&str> = everybody.iter().map(String::as_str).collect();
    all.push(write(client, "TRUNCATE contacts.contacts", &everybody)?);
    Ok(all)
}

/// Whatever is written: all answers are the functions' own, in the transaction, after it, and after its rollback.
#[test]
fn answers_are_the_functions_own_after_random_writes() -> Result<()> {
    let (_cluster, mut client) = tracked("contacts-random")?;
    let mut seed: u64 = 4711;
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    fill(&mut client)?;
    for round in 0..40 {
        let (contact, employee, department) =
            (1 + random(10_000), 1 + random(500), 1 + random(100));
        let employees = format!("FROM contacts.employees AS m WHERE m.id = {employee}");
        let department = format!("FROM contacts.departments AS d WHERE d.id = {department}");
        let sql = match random(9) {
            0 | 1 => format!(
                "INSERT INTO contacts.contacts (enterprise_id, department_id, employee_id, name, company, email, created_at)
                 SELECT m.enterprise_id, m.department_id, m.id, 'New', 'Firm {contact}', 'x@y', '2026-02-03' {employees}"
            ),
            2 => format!("DELETE FROM contacts.contacts WHERE id % 100 = {}", contact % 100),
            3 => format!("UPDATE contacts.contacts SET email = 'x@y' WHERE id = {contact}"),
            4 | 5 => format!(
                "UPDATE contacts.employees AS m SET enterprise_id = d.enterprise_id, department_id = d.id
                 {department} AND m.id = {employee}"
            ),
            6 => format!("DELETE FROM contacts.employees WHERE id = {employee}"),
            7 => format!(
                "INSERT INTO contacts.employees (enterprise_id, department_id, name, email)
                 SELECT d.enterprise_id, d.id, 'New', 'new@z' {department}"
            ),
            _ => format!("UPDATE contacts.departments AS d SET name = 'No. {round}' WHERE d.id = {employee} % 100 + 1"),
        };
        let end = if random(3) == 0 { "ROLLBACK" } else { "COMMIT" };
        client.batch_execute(&format!("BEGIN; {sql}"))?;
        if round % 10 == 0 {
            fill(&mut client)?;
        }
        client.batch_execute(end)?;
        fill(&mut client)?;
    }
    let enterprise = counters(&mut client, "get_enterprise_contacts_summary_cached")?;
    let department = counters(&mut client, "get_department_contacts_summary_cached")?;
    ensure!(
        enterprise.hits > enterprise.fills && department.hits > 10 * department.fills,
        "{enterprise:?} {department:?}"
    );
    Ok(())
}

/// Departments are cleared at commit, of one enterprise or of all, and nothing else is.
#[test]
fn departments_are_cleared() -> Result<()> {
    let (cluster, mut client) = tracked("contacts-clear")?;
    let of = |client: &mut Client, condition: &str| -> Result<BTreeSet<String>> {
        Ok(client
            .query(
                &format!("SELECT 'd' || id FROM contacts.departments WHERE enterprise_id <= 3 AND {condition}"),
                &[],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect())
    };
    let mut other = cluster.connect(DATABASE)?;
    fill(&mut client)?;
    client.batch_execute("BEGIN")?;
    let own = number(&mut client, "SELECT clear_department_cache(1)")?;
    let expected = of(&mut client, "enterprise_id = 1")?;
    // Others may share a slot by chance.
    let few = |more: i64| (0..=2).contains(&more);
    ensure!(
        few(own - expected.len() as i64),
        "{own} instead of {}",
        expected.len()
    );
    ensure!(invalid(&mut other)?.is_empty(), "before the commit");
    client.batch_execute("COMMIT")?;
    let cleared = invalid(&mut other)?;
    ensure!(
        cleared.is_superset(&expected) && few((cleared.len() - expected.len()) as i64),
        "{cleared:?}"
    );

    fill(&mut client)?;
    client.batch_execute("BEGIN; SELECT clear_department_cache(); ROLLBACK")?;
    ensure!(invalid(&mut client)?.is_empty(), "after a rollback");
    let all = number(&mut client, "SELECT clear_department_cache()")?;
    let departments = number(&mut client, "SELECT count(*) FROM contacts.departments")?;
    ensure!(few(all - departments), "{all} are cleared");
    let (cleared, expected) = (invalid(&mut client)?, of(&mut client, "true")?);
    ensure!(
        cleared.is_superset(&expected) && few((cleared.len() - expected.len()) as i64),
        "{cleared:?}"
    );
    fill(&mut client)
}

/// The worker adds the key triggers that the owner of the function may have, and no others.
#[test]
fn keys_are_tracked_for_those_who_may() -> Result<()> {
    let cluster = cluster(Cluster::builder("contacts-worker"))?;
    let mut client = cluster.connect(DATABASE)?;
    // The sample's own, by superuser: nobody has said cache_track_table.
    let call = format!("{ENTERPRISE}_cached(7)");
    let keyed = format!(
        "SELECT {call} IS NOT NULL AND tags @> '{{contacts.contacts.enterprise_id = 7,contacts.employees.enterprise_id = 7}}'
                AND outcome = 'hit' FROM cache_explain('{call}')"
    );
    wait_for(&cluster, "the entry is keyed", &keyed)?;

    // A function of the same name, by somebody who may read and may not have triggers.
    client.batch_execute(
        "CREATE ROLE mallory;
         CREATE SCHEMA mallory AUTHORIZATION mallory;
         CREATE TABLE target (id bigint, secret text, amount integer);
         GRANT SELECT ON target TO mallory;
         SET ROLE mallory;
         CREATE FUNCTION mallory.get_enterprise_contacts_summary(e bigint) RETURNS jsonb LANGUAGE sql STABLE
             SET pg_query_cache.depends_on = '{\"public.target\": {\"id\": \"$1\"}, \"contacts.contacts\": {\"id\": \"$1\"}}'
             AS 'SELECT to_jsonb(count(*)) FROM public.target WHERE id = e';
         RESET ROLE;",
    )?;
    let triggers = |client: &mut Client, table: &str| {
        number(
            client,
            &format!(
                "SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal AND tgname LIKE '%keys%'
                 AND encode(tgargs, 'escape') ~ '(^|000)id\\\\000'"
            ),
        )
    };
    let mut mallory = cluster.connect(DATABASE)?;
    mallory.batch_execute("SET ROLE mallory; SET search_path = mallory, public")?;
    let ask = format!("SELECT {call} = '0'");
    ensure!(holds(&mut mallory, &ask)?, "the function's own answer");
    wait_for(
        &cluster,
        "the table is tracked, for the owner of the cached function",
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'target'::regclass)",
    )?;
    for _ in 0..2 {
        ensure!(holds(&mut mallory, &ask)?, "the function's own answer");
        worker_turns(&cluster)?;
    }
    ensure!(
        triggers(&mut client, "target")? == 0 && triggers(&mut client, "contacts.contacts")? == 0,
        "mallory has triggers on what is not hers"
    );
    // It is exact all the same.
    client.batch_execute("INSERT INTO target VALUES (7)")?;
    ensure!(!holds(&mut mallory, &ask)?, "the new row is counted");
    // With the right, they come.
    client.batch_execute("GRANT TRIGGER ON target TO mallory")?;
    ensure!(!holds(&mut mallory, &ask)?, "the new row is counted");
    // What has failed rests before it is tried again, and then somebody has to compute a result.
    let tracked = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'target'::regclass AND tgname LIKE '%keys%')";
    wait_until("the keys are tracked", PATIENCE, || {
        client
            .batch_execute("INSERT INTO target VALUES (7)")
            .is_ok()
            && holds(&mut mallory, &ask).is_ok_and(|empty| !empty)
            && holds(&mut client, tracked).unwrap_or(false)
    })
}

#[test]
fn without_the_application_there_is_a_hint() -> Result<()> {
    let cluster = with_extension(quiet("contacts-missing"))?;
    let mut client = cluster.connect(DATABASE)?;
    for call in [
        format!("{ENTERPRISE}_cached(7, '5 minutes')"),
        format!("{DEPARTMENT}_cached(7, 1)"),
    ] {
        let Err(error) = client.query_one(&format!("SELECT {call}"), &[]) else {
            return Err(anyhow!("{call} answers"));
        };
        let error = error
            .as_db_error()
            .ok_or_else(|| anyhow!("no error of the server: {error}"))?;
        ensure!(error.code().code() == "42883", "{error:?}");
        ensure!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("sql/samples/contacts.sql")),
            "{error:?}"
        );
    }
    // The sample can come before the extension as well as after it, and twice.
    let sum = format!("SELECT ({ENTERPRISE}_cached(1) -> 'contacts')::bigint");
    client.batch_execute("SET client_min_messages = warning; DROP EXTENSION pg_query_cache")?;
    client.batch_execute(SAMPLE)?;
    client.batch_execute("SELECT contacts.generate(0.001); CREATE EXTENSION pg_query_cache")?;
    ensure!(
        number(&mut client, &sum)? == 1_000,
        "one enterprise has them all"
    );
    client.batch_execute(SAMPLE)?;
    ensure!(number(&mut client, &sum)? == 1_000, "after another run");
    Ok(())
}

#[test]
fn fifty_sessions_ask_for_a_cold_enterprise_and_one_computes() -> Result<()> {
    let (cluster, mut client) = tracked("contacts-fifty")?;
    let call = format!("{ENTERPRISE}_cached(1)");
    let own = client
        .query_one(&format!("SELECT {ENTERPRISE}(1)::text"), &[])?
        .get::<_, String>(0);
    let start = Arc::new(Barrier::new(50));
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let mut client = cluster.connect(DATABASE)?;
            let (start, sql) = (start.clone(), format!("SELECT {call}::text"));
            Ok(thread::spawn(move || -> Result<String> {
                client.batch_execute("SELECT 1")?;
                start.wait();
                Ok(client.query_one(&sql, &[])?.get(0))
            }))
        })
        .collect::<Result<_>>()?;
    for session in sessions {
        let answer = session.join().map_err(|_| anyhow!("a client died"))??;
        ensure!(answer == own, "another answer");
    }
    wait_for(
        &cluster,
        "all have handed their counts over",
        "SELECT hits = 49 AND fills = 1 FROM cache_stats()",
    )?;
    // A session that begins later finds it.
    let late = in_background(&cluster, "", &call)?;
    late.join()
        .map_err(|_| anyhow!("a client died"))?
        .map_err(|code| anyhow!(code))?;
    ensure!(
        counters(&mut client, "get_enterprise_contacts_summary_cached")?.fills == 1,
        "one computation"
    );
    Ok(())
}
