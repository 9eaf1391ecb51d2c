//! `cache_explain` among other sessions: who invalidated last, who may know it, and that it says what the call then does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, counters, holds, number, quiet, with_accounts, with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode, wait_until};

/// What is told about a call, as text.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    outcome: String,
    reason: String,
    detail: String,
    hint: String,
    tier: Option<String>,
    operation: Option<String>,
    relation: Option<String>,
    state: Option<String>,
    role: Option<String>,
    xid: Option<String>,
    pid: Option<String>,
    at: Option<String>,
    applied: Option<String>,
}

fn told(client: &mut Client, call: &str) -> Result<Told> {
    let row = client
        .query_one(
            "SELECT outcome, reason, detail, hint, tier, invalidated_by ->> 'operation', invalidated_by ->> 'relation',
                    invalidated_by ->> 'state', invalidated_by ->> 'role', invalidated_by ->> 'xid', invalidated_by ->> 'pid',
                    invalidated_by ->> 'at', invalidated_by ->> 'applied'
             FROM cache_explain($1)",
            &[&call],
        )
        .with_context(|| call.to_owned())?;
    Ok(Told {
        outcome: row.get(0),
        reason: row.get(1),
        detail: row.get(2),
        hint: row.get(3),
        tier: row.get(4),
        operation: row.get(5),
        relation: row.get(6),
        state: row.get(7),
        role: row.get(8),
        xid: row.get(9),
        pid: row.get(10),
        at: row.get(11),
        applied: row.get(12),
    })
}

impl Told {
    fn is(&self, outcome: &str, reason: &str) -> Result<()> {
        ensure!(
            (self.outcome.as_str(), self.reason.as_str()) == (outcome, reason),
            "not {outcome}, {reason}: {self:?}"
        );
        Ok(())
    }

    /// That `operation` is named, on accounts unless it is about nothing in particular.
    fn names(&self, operation: &str, state: &str) -> Result<()> {
        ensure!(
            self.operation.as_deref() == Some(operation) && self.state.as_deref() == Some(state),
            "not {operation}, {state}: {self:?}"
        );
        Ok(())
    }
}

fn text(client: &mut Client, sql: &str) -> Result<String> {
    Ok(client.query_one(sql, &[])?.get(0))
}

fn sqlstate(client: &mut Client, sql: &str) -> Option<String> {
    let error = client.simple_query(sql).err()?;
    error.code().map(|code| code.code().to_owned())
}

#[test]
fn others_who_write_are_named() -> Result<()> {
    let cluster = with_accounts(quiet("explain-others"))?;
    let mut here = cluster.connect(DATABASE)?;
    here.batch_execute(
        "CREATE ROLE alice LOGIN; GRANT ALL ON accounts TO alice;
         CREATE ROLE bob LOGIN; GRANT ALL ON accounts TO bob;
         GRANT EXECUTE ON FUNCTION invalidate_cache_table(regclass), clear_cache() TO bob;
         CREATE TABLE accounts_owned (); ALTER TABLE accounts_owned OWNER TO bob",
    )?;
    let mut alice = cluster.connect_as(DATABASE, "alice")?;
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    for (role, statement, operation) in [
        ("alice", "INSERT INTO accounts VALUES (900, 1, 1)", "INSERT"),
        (
            "bob",
            "UPDATE accounts SET balance = 5 WHERE id = 900",
            "UPDATE",
        ),
        ("alice", "DELETE FROM accounts WHERE id = 900", "DELETE"),
        (
            "bob",
            "SELECT invalidate_cache_table('accounts')",
            "invalidate_cache_table()",
        ),
        ("bob", "SELECT clear_cache()", "clear_cache()"),
        (
            "bob",
            "ALTER TABLE accounts_owned ADD COLUMN a integer",
            "ALTER TABLE",
        ),
        ("alice", "TRUNCATE accounts", "TRUNCATE"),
    ] {
        let client = if role == "alice" {
            &mut alice
        } else {
            &mut bob
        };
        number(&mut here, "SELECT COALESCE(total_cached(), 0)")?;
        told(&mut here, "total_cached()")?.is("hit", "valid")?;
        let before = text(&mut here, "SELECT to_json(clock_timestamp())#>>'{}'")?;
        client.batch_execute("BEGIN")?;
        client.batch_execute(statement)?;
        let xid = text(client, "SELECT pg_current_xact_id()::text")?;
        let pid = text(client, "SELECT pg_backend_pid()::text")?;
        client.batch_execute("COMMIT")?;
        let told = told(&mut here, "total_cached()")?;
        told.is("miss", "invalidated")?;
        told.names(operation, "committed")?;
        ensure!(
            (
                told.role.as_deref(),
                told.xid.as_deref(),
                told.pid.as_deref()
            ) == (Some(role), Some(xid.as_str()), Some(pid.as_str())),
            "{told:?}"
        );
        let at = told.at.context("no time")?;
        let after = text(&mut here, "SELECT to_json(clock_timestamp())#>>'{}'")?;
        let between = format!("SELECT '{at}'::timestamptz BETWEEN '{before}' AND '{after}'");
        ensure!(holds(&mut here, &between)?, "{before} {at} {after}");
    }
    Ok(())
}

#[test]
fn who_rolled_back_is_not_to_blame_and_who_runs_is_in_progress() -> Result<()> {
    let cluster = with_accounts(quiet("explain-states").setting("max_prepared_transactions", 5))?;
    let mut here = cluster.connect(DATABASE)?;
    let mut there = cluster.connect(DATABASE)?;
    let start = number(&mut here, "SELECT total_cached()")?;
    let update = "UPDATE accounts SET balance = balance + 1 WHERE id = 1";

    // In progress: the result is right until it commits. The first statement is listed with the next one, or at the commit.
    there.batch_execute(&format!("BEGIN; {update}"))?;
    told(&mut here, "total_cached()")?.is("hit", "valid")?;
    there.batch_execute(update)?;
    let running = told(&mut here, "total_cached()")?;
    running.is("hit", "valid")?;
    running.names("UPDATE", "in progress")?;
    ensure!(running.detail.contains("in progress"), "{running:?}");
    let xid = text(&mut there, "SELECT pg_current_xact_id()::text")?;
    ensure!(running.xid.as_deref() == Some(xid.as_str()), "{running:?}");

    // Rolled back: it was nobody.
    there.batch_execute("ROLLBACK")?;
    let after = told(&mut here, "total_cached()")?;
    after.is("hit", "valid")?;
    after.names("start of tracking", "committed")?;

    // The blame is on the one who committed, not on those who came later and rolled back, or run.
    there.batch_execute(update)?;
    there.batch_execute("BEGIN; DELETE FROM accounts; ROLLBACK")?;
    there.batch_execute("BEGIN; INSERT INTO accounts VALUES (901, 1, 1)")?;
    let blamed = told(&mut here, "total_cached()")?;
    blamed.is("miss", "invalidated")?;
    blamed.names("UPDATE", "committed")?;
    there.batch_execute("ROLLBACK")?;
    ensure!(number(&mut here, "SELECT total_cached()")? == start + 1);

    // Prepared is in progress, by whatever session it is ended.
    there.batch_execute(&format!("BEGIN; {update}; PREPARE TRANSACTION 'p'"))?;
    let prepared = told(&mut here, "total_cached()")?;
    prepared.is("hit", "valid")?;
    prepared.names("UPDATE", "in progress")?;
    cluster
        .connect(DATABASE)?
        .batch_execute("COMMIT PREPARED 'p'")?;
    let committed = told(&mut here, "total_cached()")?;
    committed.is("miss", "invalidated")?;
    ensure!(committed.xid == prepared.xid, "{committed:?}");
    ensure!(number(&mut here, "SELECT total_cached()")? == start + 2);
    there.batch_execute(&format!("BEGIN; {update}; PREPARE TRANSACTION 'q'"))?;
    cluster
        .connect(DATABASE)?
        .batch_execute("ROLLBACK PREPARED 'q'")?;
    // A prepared transaction cannot take back what it registered: it invalidated, though in vain, and is said to have rolled back.
    let undone = told(&mut here, "total_cached()")?;
    undone.is("miss", "invalidated")?;
    undone.names("UPDATE", "rolled back")?;
    ensure!(undone.detail.contains("rolled back"), "{undone:?}");

    // A snapshot that is older than the write of another.
    here.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
    there.batch_execute(update)?;
    ensure!(number(&mut there, "SELECT total_cached()")? == start + 3);
    let old = told(&mut here, "total_cached()")?;
    old.is("bypass", "old_snapshot")?;
    old.names("UPDATE", "committed")?;
    here.batch_execute("COMMIT")?;
    told(&mut here, "total_cached()")?.is("hit", "valid")?;
    Ok(())
}

#[test]
fn a_writer_is_shown_to_those_who_may_see_it() -> Result<()> {
    let cluster = with_accounts(quiet("explain-rights"))?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(
        "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
         GRANT ALL ON accounts TO alice, bob, watcher;
         REVOKE EXECUTE ON FUNCTION balance_cached(integer, interval) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION balance_cached(integer, interval) TO alice",
    )?;
    let mut alice = cluster.connect_as(DATABASE, "alice")?;
    let mut bob = cluster.connect_as(DATABASE, "bob")?;
    let mut watcher = cluster.connect_as(DATABASE, "watcher")?;
    for client in [&mut alice, &mut bob, &mut watcher] {
        number(client, "SELECT total_cached()")?;
    }
    alice.batch_execute("UPDATE accounts SET balance = 0 WHERE id = 1")?;
    for (client, sees_all) in [(&mut alice, true), (&mut bob, false), (&mut watcher, true)] {
        let told = told(client, "total_cached()")?;
        told.is("miss", "invalidated")?;
        told.names("UPDATE", "committed")?;
        ensure!(
            told.relation.as_deref() == Some("public.accounts"),
            "{told:?}"
        );
        ensure!(told.at.is_some(), "{told:?}");
        let hidden = [&told.role, &told.xid, &told.pid];
        ensure!(
            hidden.iter().all(|field| field.is_some() == sees_all),
            "{told:?}"
        );
    }
    // Each role has results of its own, and is told of these only.
    number(&mut alice, "SELECT total_cached()")?;
    told(&mut alice, "total_cached()")?.is("hit", "valid")?;
    told(&mut bob, "total_cached()")?.is("miss", "invalidated")?;

    // Nor of tables that a function with its owner's rights has read for it: neither their names nor when they were written.
    owner.batch_execute(
        "CREATE SCHEMA hidden; CREATE TABLE hidden.ledger (a integer); SELECT cache_track_table('hidden.ledger');
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS 'BEGIN RETURN (SELECT count(*) FROM hidden.ledger); END';
         SELECT cache_function('counted()')",
    )?;
    for (client, sees_all) in [(&mut alice, false), (&mut watcher, true)] {
        number(client, "SELECT counted_cached()")?;
        owner.batch_execute("INSERT INTO hidden.ledger VALUES (1)")?;
        let asked = "SELECT cache_explain('counted_cached()')::text";
        let text: String = client.query_one(asked, &[])?.get(0);
        ensure!(text.contains("invalidated"), "{text}");
        ensure!(text.contains("ledger") == sees_all, "{text}");
        ensure!(text.contains("INSERT") == sees_all, "{text}");
    }

    // Who may not execute the function may not ask about it; arguments have the caller's rights, and no more.
    told(&mut alice, "balance_cached(1)")?.is("miss", "absent")?;
    let denied = |client: &mut Client, sql: &str| {
        assert_eq!(sqlstate(client, sql).as_deref(), Some("42501"), "{sql}");
    };
    denied(&mut bob, "SELECT cache_explain('balance_cached(1)')");
    owner.batch_execute(
        "CREATE TABLE secret (a integer);
         CREATE FUNCTION peek() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION peek() FROM PUBLIC",
    )?;
    denied(
        &mut alice,
        "SELECT cache_explain('balance_cached((SELECT a FROM secret))')",
    );
    denied(&mut alice, "SELECT cache_explain('balance_cached(peek())')");
    Ok(())
}

#[test]
fn where_an_api_has_roles_the_text_is_for_maintenance_only() -> Result<()> {
    let cluster = quiet("explain-api").build()?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(
        "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role; CREATE EXTENSION pg_query_cache",
    )?;
    let call = "SELECT cache_explain('get_product_performance_cached()')";
    for (role, code) in [
        ("anon", "42501"),
        ("authenticated", "42501"),
        ("service_role", "42883"),
    ] {
        owner.batch_execute(&format!("SET ROLE {role}"))?;
        assert_eq!(sqlstate(&mut owner, call).as_deref(), Some(code), "{role}");
        let reasons = sqlstate(&mut owner, "SELECT count(*) FROM cache_reasons()");
        assert_eq!(reasons.is_none(), role != "anon", "{role}: {reasons:?}");
        owner.batch_execute("RESET ROLE")?;
    }
    Ok(())
}

#[test]
fn what_is_applied_is_told_apart() -> Result<()> {
    let publisher = with_accounts(quiet("explain-publisher").setting("wal_level", "logical"))?;
    let subscriber = with_accounts(quiet("explain-subscriber"))?;
    publisher
        .connect(DATABASE)?
        .batch_execute("CREATE PUBLICATION everything FOR TABLE accounts")?;
    let mut here = subscriber.connect(DATABASE)?;
    here.batch_execute("TRUNCATE accounts")?;
    here.batch_execute(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION '{} dbname={DATABASE}' PUBLICATION everything",
        publisher.conninfo()
    ))?;
    let arrived = |client: &mut Client, total: i64| {
        wait_until("the change to be applied", PATIENCE, || {
            number(client, "SELECT COALESCE(total(), 0)").is_ok_and(|here| here == total)
        })
    };
    arrived(&mut here, 5050)?;
    number(&mut here, "SELECT total_cached()")?;
    told(&mut here, "total_cached()")?.is("hit", "valid")?;
    publisher
        .connect(DATABASE)?
        .batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    arrived(&mut here, 5051)?;
    let applied = told(&mut here, "total_cached()")?;
    applied.is("miss", "invalidated")?;
    applied.names("UPDATE", "committed")?;
    ensure!(applied.applied.as_deref() == Some("true"), "{applied:?}");
    ensure!(
        applied.relation.as_deref() == Some("public.accounts"),
        "{applied:?}"
    );
    ensure!(
        applied.detail.contains("applied as a replica"),
        "{applied:?}"
    );
    Ok(())
}

#[test]
fn it_answers_where_nothing_is_cached() -> Result<()> {
    let plain = with_accounts(Cluster::builder("explain-plain").preload(false))?;
    let mut client = plain.connect(DATABASE)?;
    let without = told(&mut client, "total_cached()")?;
    without.is("bypass", "not_preloaded")?;
    ensure!(
        without.hint.contains("shared_preload_libraries"),
        "{without:?}"
    );
    ensure!(sqlstate(&mut client, "SELECT cache_explain('total()')").as_deref() == Some("42809"));

    let primary = with_accounts(quiet("explain-primary"))?;
    let standby = quiet("explain-standby").standby_of(&primary).build()?;
    let mut client = standby.connect(DATABASE)?;
    told(&mut client, "balance_cached(1)")?.is("bypass", "recovery")?;
    Ok(())
}

#[test]
fn a_result_in_the_table_is_a_hit_and_stays_there() -> Result<()> {
    let cluster = with_extension(quiet("explain-table").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE t (id integer); SELECT cache_track_table('t');
         CREATE FUNCTION blob(n integer) RETURNS text LANGUAGE sql STABLE
             AS 'SELECT repeat(n::text, 5000) || (SELECT count(*) FROM t)';
         SELECT cache_function('blob(integer)')",
    )?;
    let fill = |client: &mut Client, from: i32, to: i32| {
        number(
            client,
            &format!("SELECT sum(length(blob_cached(n))) FROM generate_series({from}, {to}) AS n"),
        )
    };
    fill(&mut client, 1, 50)?;
    client.batch_execute("SELECT flush_cache()")?;
    fill(&mut client, 1000, 1500)?;
    let evicted = told(&mut client, "blob_cached(7)")?;
    evicted.is("hit", "valid")?;
    ensure!(evicted.tier.as_deref() == Some("table"), "{evicted:?}");
    ensure!(told(&mut client, "blob_cached(7)")?.tier.as_deref() == Some("table"));
    let before = counters(&mut client, "blob_cached")?;
    fill(&mut client, 7, 7)?;
    let after = counters(&mut client, "blob_cached")?;
    ensure!(
        (after.hits, after.fills) == (before.hits + 1, before.fills),
        "{before:?} {after:?}"
    );
    ensure!(told(&mut client, "blob_cached(7)")?.tier.as_deref() == Some("memory"));

    // A row that a write has made worthless is none.
    client.batch_execute("INSERT INTO t VALUES (1)")?;
    told(&mut client, "blob_cached(7)")?.is("miss", "invalidated")?;
    told(&mut client, "blob_cached(8)")?.is("miss", "absent")?;
    Ok(())
}

/// Asks, calls, and compares what was said with what was counted.
fn agrees(client: &mut Client, call: &str, at: &str) -> Result<()> {
    let name = call.split('(').next().unwrap_or_default();
    let before = counters(client, name)?;
    let told = told(client, call)?;
    let asked = counters(client, name)?;
    ensure!(
        asked == before,
        "{at}: asking was counted: {before:?} {asked:?}"
    );
    client.simple_query(&format!("SELECT {call}"))?;
    let after = counters(client, name)?;
    let done = (
        after.hits - before.hits,
        after.misses - before.misses,
        after.bypasses - before.bypasses,
    );
    let said = match told.outcome.as_str() {
        "hit" => (1, 0, 0),
        "miss" => (0, 1, 0),
        _ => (0, 0, 1),
    };
    ensure!(done == said, "{at}: {told:?}, but {done:?}");
    if told.outcome == "bypass" {
        let counted = format!(
            "SELECT s.reasons ? '{}' FROM cache_function_stats AS s JOIN pg_proc AS p ON p.oid = s.function WHERE p.proname = '{name}'",
            told.reason
        );
        ensure!(holds(client, &counted)?, "{at}: {told:?} was not counted");
    }
    Ok(())
}

#[test]
fn it_says_what_the_call_then_does() -> Result<()> {
    let cluster = with_accounts(quiet("explain-agrees"))?;
    let mut here = cluster.connect(DATABASE)?;
    let mut there = cluster.connect(DATABASE)?;
    here.batch_execute(
        "CREATE FUNCTION of_owner(owner integer) RETURNS bigint LANGUAGE sql STABLE
             AS 'SELECT sum(a.balance)::bigint FROM accounts AS a WHERE a.owner = $1';
         SELECT cache_function('of_owner(integer)', depends_on => '{\"accounts\": {\"owner\": \"$1\"}}');
         CREATE TABLE loose (a integer);
         CREATE FUNCTION loose_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM loose';
         SELECT cache_function('loose_count()'), cache_function('total()', scope => 'shared', name => 'total_shared'),
                cache_function('total()', consistency => 'ttl', ttl => '1 min', name => 'total_by_age')",
    )?;
    let steps: &[(&str, &str)] = &[
        (
            "",
            "UPDATE accounts SET balance = balance + 1 WHERE owner = 1",
        ),
        (
            "",
            "UPDATE accounts SET balance = balance + 1 WHERE owner = 2",
        ),
        ("SET pg_query_cache.clock_offset = '2 min'", ""),
        ("SET pg_query_cache.clock_offset = '2 h'", ""),
        ("RESET pg_query_cache.clock_offset", ""),
        ("SET pg_query_cache.enabled = off", ""),
        (
            "RESET pg_query_cache.enabled",
            "INSERT INTO accounts VALUES (500, 2, 1)",
        ),
        ("BEGIN", ""),
        ("UPDATE accounts SET balance = 1 WHERE owner = 2", ""),
        ("ROLLBACK", "DELETE FROM accounts WHERE id = 500"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", ""),
        (
            "",
            "UPDATE accounts SET balance = balance + 1 WHERE owner = 2",
        ),
        ("", "SELECT of_owner_cached(2), total_cached()"),
        ("COMMIT", ""),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", ""),
        (
            "COMMIT",
            "BEGIN; UPDATE accounts SET balance = 0 WHERE owner = 2",
        ),
        ("", "COMMIT"),
        ("SET DateStyle = 'German'", ""),
        (
            "SET app.tenant = 'a'",
            "CREATE TABLE more (); DROP TABLE more",
        ),
        ("SET ROLE pg_read_all_data", ""),
        ("RESET ROLE", "TRUNCATE accounts"),
        ("CREATE TEMPORARY TABLE mine ()", ""),
        ("DISCARD TEMP", ""),
        ("SET session_replication_role = replica", ""),
        ("RESET session_replication_role", ""),
    ];
    for round in 0..2 {
        for (i, (own, others)) in steps.iter().enumerate() {
            here.batch_execute(own)?;
            there.batch_execute(others)?;
            for call in [
                "of_owner_cached(1)",
                "of_owner_cached(2)",
                "of_owner_cached(2, '30 s')",
                "of_owner_cached(NULL)",
                "total_cached()",
                "total_cached('0')",
                "total_shared()",
                "total_by_age()",
                "loose_count_cached()",
            ] {
                // A role without rights on the statistics asks nobody.
                if steps[i].0.starts_with("SET ROLE") {
                    told(&mut here, call)?;
                    continue;
                }
                for again in 0..2 {
                    agrees(
                        &mut here,
                        call,
                        &format!("round {round}, step {i} ({own}; {others}), {call}, {again}"),
                    )?;
                }
            }
        }
    }
    // After a restart too: entries come from the table, or are in memory already.
    drop((here, there));
    cluster.restart(Mode::Fast)?;
    let mut here = cluster.connect(DATABASE)?;
    for call in ["of_owner_cached(1)", "total_cached()"] {
        agrees(&mut here, call, "after a restart")?;
    }
    Ok(())
}

/// How much others use a function is a statistic.
#[test]
fn how_much_others_store_is_for_monitors() -> Result<()> {
    let cluster = with_accounts(quiet("explain-others"))?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE ROLE plain; CREATE ROLE watcher; GRANT pg_monitor TO watcher; GRANT SELECT ON accounts TO PUBLIC",
    )?;
    // Results are not stored in the transaction that has changed a right.
    admin.batch_execute("SELECT balance_cached(1), balance_cached(2)")?;
    for (role, told) in [("plain", false), ("watcher", true)] {
        admin.batch_execute(&format!("SET ROLE {role}"))?;
        let detail: String = admin
            .query_one("SELECT detail FROM cache_explain('balance_cached(3)')", &[])?
            .get(0);
        admin.batch_execute("RESET ROLE")?;
        ensure!(
            detail.starts_with("Nothing is stored for these arguments")
                && detail.contains("2 stored results") == told,
            "{role}: {detail}"
        );
    }
    Ok(())
}
