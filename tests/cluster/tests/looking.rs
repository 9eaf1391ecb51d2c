//! What the cache tells of itself: trends over minutes, restarts and accidents; the page for Prometheus; what is still an entry; who
//! may clear everything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, holds, number, quiet, set_clock, wait_for,
    with_accounts, with_extension, worker, worker_turns,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Mode, wait_until};

fn rows(client: &mut Client, resolution: &str) -> Result<i64> {
    number(
        client,
        &format!("SELECT count(*) FROM cache_trends WHERE resolution = '{resolution}'"),
    )
}

/// All calls that have ever been recorded or counted, by each resolution.
fn all_calls(client: &mut Client) -> Result<i64> {
    let calls = ["2 hours", "4 days", "1 year"]
        .into_iter()
        .map(|period| {
            number(
                client,
                &format!("SELECT sum(calls)::bigint FROM cache_analytics('{period}')"),
            )
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        calls.iter().all(|one| *one == calls[0]),
        "the resolutions differ: {calls:?}"
    );
    Ok(calls[0])
}

#[test]
fn trends_neither_lose_nor_double() -> Result<()> {
    let cluster = with_accounts(quiet("looking-trends"))?;
    let mut client = cluster.connect(DATABASE)?;
    worker(&cluster)?;
    let call = "SELECT count(balance_cached(i)) FROM generate_series(1, 50) AS i";
    ensure!(number(&mut client, call)? == 50);
    ensure!(all_calls(&mut client)? == 50);
    // Three minutes, each with fifty calls, and one without.
    for minute in 1..=3 {
        let before = rows(&mut client, "minute")?;
        set_clock(&cluster, minute * 60)?;
        wait_until("a row for the minute", PATIENCE, || {
            rows(&mut client, "minute").is_ok_and(|rows| rows > before)
        })?;
        ensure!(number(&mut client, call)? == 50);
        ensure!(all_calls(&mut client)? == 50 + 50 * i64::from(minute));
    }
    // The worker is started again, and goes on where it was.
    let first = worker(&cluster)?;
    client.execute("SELECT pg_terminate_backend($1)", &[&first])?;
    wait_until("another worker", PATIENCE, || {
        worker(&cluster).is_ok_and(|pid| pid != first)
    })?;
    ensure!(all_calls(&mut client)? == 200);
    // A restart: what the last minute counted is written when the server stops.
    drop(client);
    cluster.restart(Mode::Fast)?;
    let mut client = cluster.connect(DATABASE)?;
    ensure!(all_calls(&mut client)? == 200);
    ensure!(number(&mut client, call)? == 50);
    ensure!(all_calls(&mut client)? == 250);
    set_clock(&cluster, 4 * 60)?;
    wait_for(
        &cluster,
        "the restarted server records",
        "SELECT sum(hits + misses) = 250 FROM cache_trends WHERE resolution = 'minute'",
    )?;
    ensure!(all_calls(&mut client)? == 250);
    // A crash takes what was not recorded, and nothing else.
    ensure!(number(&mut client, call)? == 50);
    drop(client);
    cluster.restart(Mode::Immediate)?;
    let mut client = cluster.connect(DATABASE)?;
    ensure!(all_calls(&mut client)? == 250);
    ensure!(number(&mut client, call)? == 50);
    ensure!(all_calls(&mut client)? == 300);
    ensure!(holds(
        &mut client,
        "SELECT count(*) = count(DISTINCT (resolution, bucket)) FROM cache_trends"
    )?);
    Ok(())
}

#[test]
fn trends_are_bounded_and_an_idle_database_is_left_alone() -> Result<()> {
    let cluster = with_accounts(quiet("looking-bounds"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "INSERT INTO cache_trends SELECT r, t, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
         FROM (VALUES ('minute', 60, 5000), ('hour', 3600, 2000), ('day', 86400, 1000)) AS v (r, s, n),
              LATERAL (SELECT date_bin(make_interval(secs => s), now(), '2000-01-01 00:00Z') - i * make_interval(secs => s) AS t
                       FROM generate_series(1, n) AS i) AS x",
    )?;
    ensure!(number(&mut client, "SELECT total_cached()")? > 0);
    worker(&cluster)?;
    set_clock(&cluster, 60)?;
    wait_for(
        &cluster,
        "old rows are gone",
        "SELECT count(*) FILTER (WHERE resolution = 'minute') BETWEEN 2878 AND 2880
            AND count(*) FILTER (WHERE resolution = 'hour') BETWEEN 1438 AND 1440
            AND count(*) FILTER (WHERE resolution = 'day') BETWEEN 730 AND 732 FROM cache_trends",
    )?;
    ensure!(
        number(
            &mut client,
            "SELECT count(*) FROM cache_analytics('10 years')"
        )? == 732
    );

    // Nothing happens: nothing is written, whatever the clock says.
    let written = "SELECT max(xmin::text::bigint) FROM cache_trends";
    let xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let (before, first) = (number(&mut client, written)?, number(&mut client, xid)?);
    for minute in [2, 3, 4, 120, 240] {
        set_clock(&cluster, minute * 60)?;
        worker_turns(&cluster)?;
    }
    ensure!(
        number(&mut client, written)? == before,
        "an idle database was written"
    );
    ensure!(
        number(&mut client, xid)? == first,
        "an idle database took transaction ids"
    );
    Ok(())
}

/// Evictions are those of the whole server: in a database where nothing happens they are no reason to write.
#[test]
fn evictions_elsewhere_leave_an_idle_database_alone() -> Result<()> {
    let cluster =
        with_accounts(quiet("looking-evictions").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE DATABASE busy")?;
    let mut busy = cluster.connect("busy")?;
    busy.batch_execute(
        "CREATE EXTENSION pg_query_cache;
         CREATE FUNCTION large(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT repeat('x', 100000) || n$$;
         SELECT cache_function('large(integer)')",
    )?;
    ensure!(number(&mut client, "SELECT total_cached()")? > 0);
    worker(&cluster)?;
    set_clock(&cluster, 60)?;
    wait_for(
        &cluster,
        "the call is recorded",
        "SELECT count(*) > 0 FROM cache_trends",
    )?;
    let written = "SELECT max(xmin::text::bigint) FROM cache_trends";
    let before = number(&mut client, written)?;
    for minute in 2..=4 {
        busy.batch_execute(&format!(
            "SELECT count(large_cached({minute} * 1000 + i)) FROM generate_series(1, 100) AS i"
        ))?;
        set_clock(&cluster, minute * 60)?;
        worker_turns(&cluster)?;
    }
    ensure!(number(&mut busy, "SELECT evictions FROM cache_stats()")? > 100);
    ensure!(
        number(&mut client, written)? == before,
        "an idle database was written"
    );
    Ok(())
}

/// Somebody has the table: the worker says so, goes on, and records all of it later.
#[test]
fn trends_that_cannot_be_written_disturb_nobody() -> Result<()> {
    let cluster =
        with_accounts(quiet("looking-locked").setting("pg_query_cache.flush_interval", "1s"))?;
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    let pid = worker(&cluster)?;
    let mut rude = cluster.connect(DATABASE)?;
    rude.batch_execute("BEGIN; LOCK TABLE cache_trends")?;
    set_clock(&cluster, 60)?;
    wait_until("the worker gives up", PATIENCE, || {
        cluster.log_contains("step \"trends\" failed")
    })?;
    answers_are_right(&mut client)?;
    wait_for(
        &cluster,
        "it goes on writing",
        "SELECT count(*) > 100 FROM query_cache",
    )?;
    rude.batch_execute("ROLLBACK")?;
    let calls = number(&mut client, "SELECT calls FROM cache_stats()")?;
    set_clock(&cluster, 120)?;
    wait_for(
        &cluster,
        "all is recorded",
        &format!(
            "SELECT sum(hits + misses + bypasses) >= {calls} FROM cache_trends WHERE resolution = 'hour'"
        ),
    )?;
    ensure!(worker(&cluster)? == pid, "the worker has ended");
    Ok(())
}

/// The extension is dropped and created again: it begins anew.
#[test]
fn a_new_extension_has_no_past() -> Result<()> {
    let cluster = with_accounts(quiet("looking-anew"))?;
    let mut client = cluster.connect(DATABASE)?;
    answers_are_right(&mut client)?;
    // What this session has counted is handed over before, not after.
    ensure!(number(&mut client, "SELECT calls FROM cache_stats()")? > 100);
    let pid = worker(&cluster)?;
    client.batch_execute("DROP EXTENSION pg_query_cache CASCADE")?;
    wait_for(
        &cluster,
        "the worker is gone",
        &format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"),
    )?;
    client.batch_execute("CREATE EXTENSION pg_query_cache")?;
    ensure!(number(&mut client, "SELECT calls FROM cache_stats()")? == 0);
    ensure!(all_calls(&mut client)? == 0);
    Ok(())
}

/// What is in the table and not in memory is an entry as long as it may be served.
#[test]
fn dead_rows_are_no_entries() -> Result<()> {
    let cluster = with_extension(quiet("looking-dead").setting("pg_query_cache.memory", "4MB"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE t (id integer);
         CREATE FUNCTION text_of(n integer) RETURNS text LANGUAGE sql STABLE
             AS $$ SELECT repeat(md5(n::text), 3000) || (SELECT count(*) FROM t) $$;
         SELECT cache_track_table('t'), cache_function('text_of(integer)')",
    )?;
    number(
        &mut client,
        "SELECT count(text_of_cached(i)) FROM generate_series(1, 20) AS i",
    )?;
    client.batch_execute("SELECT flush_cache()")?;
    number(
        &mut client,
        "SELECT count(text_of_cached(i)) FROM generate_series(21, 60) AS i",
    )?;
    let in_table = "SELECT count(*) FROM get_top_cache_entries(1000, 'bytes') WHERE NOT in_memory";
    ensure!(number(&mut client, in_table)? > 5, "nothing was evicted");
    client.batch_execute("INSERT INTO t VALUES (1)")?;
    ensure!(number(&mut client, in_table)? == 0);
    ensure!(number(&mut client, "SELECT count(*) FROM query_cache")? >= 20);
    ensure!(
        number(
            &mut client,
            "SELECT count(*) FROM get_top_cache_entries(1000)"
        )? == 0
    );
    // Full of what nobody asks for any more.
    ensure!(holds(
        &mut client,
        "SELECT status = 'warning' AND sql = 'ALTER SYSTEM SET pg_query_cache.memory = ''8MB''' FROM analyze_cache_health() WHERE finding = 'memory in use'"
    )?);
    ensure!(
        number(
            &mut client,
            "SELECT affected FROM optimize_cache() WHERE action = 'removed rows'"
        )? >= 20
    );
    Ok(())
}

/// One line of the page.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A name at the begin of a text, and what follows.
fn name_of(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well.then(|| text.split_at(end))
}

/// Labels in braces, if there are any, and after a space the value.
fn labels_of(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return Some((labels, text.strip_prefix(' ')?));
    };
    loop {
        let (name, after) = name_of(rest)?;
        let mut chars = after.strip_prefix("=\"")?.chars();
        let mut value = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                c => value.push(c),
            }
        }
        if labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        rest = chars.as_str();
        if let Some(value) = rest.strip_prefix("} ") {
            return Some((labels, value));
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// Reads the page as Prometheus does, and complains about everything that it would refuse.
fn parse(page: &str) -> Result<(BTreeMap<String, String>, Vec<Sample>)> {
    ensure!(page.ends_with('\n'), "the last line has no end");
    let (mut kinds, mut helped, mut samples) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("HELP without text")?;
            ensure!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("TYPE without a kind")?;
            ensure!(name == current, "{line}");
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            ensure!((kind == "counter") == name.ends_with("_total"), "{line}");
            ensure!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (name, rest) = name_of(line).with_context(|| line.to_owned())?;
            ensure!(
                name == current || kinds[&current] == "histogram" && name.starts_with(&current),
                "{line}: not below its own head"
            );
            let (labels, value) = labels_of(rest).with_context(|| line.to_owned())?;
            samples.push(Sample {
                name: name.to_owned(),
                labels,
                value: value.parse().with_context(|| line.to_owned())?,
            });
        }
    }
    let unique: BTreeSet<_> = samples.iter().map(|s| (&s.name, &s.labels)).collect();
    ensure!(unique.len() == samples.len(), "a series is there twice");
    ensure!(helped.len() == kinds.len());
    Ok((kinds, samples))
}

fn page(client: &mut Client) -> Result<String> {
    Ok(client.query_one("SELECT cache_metrics()", &[])?.get(0))
}

#[test]
fn the_page_is_what_prometheus_reads() -> Result<()> {
    let cluster = with_extension(quiet("looking-metrics"))?;
    // Names that need care.
    cluster
        .connect(DATABASE)?
        .batch_execute("CREATE DATABASE \"a\\b\"\"c\nd\"")?;
    let mut client = cluster.connect("a\\b\"c\nd")?;
    client.batch_execute(
        "CREATE EXTENSION pg_query_cache; CREATE TABLE t (id integer);
         CREATE FUNCTION \"f\\\"\"g\nh\"(n integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) + n FROM t';
         SELECT cache_track_table('t'), cache_function('\"f\\\"\"g\nh\"(integer)', name => 'cached\\');",
    )?;
    let call = "SELECT count(\"cached\\\"(i % 10)) FROM generate_series(1, 100) AS i";
    number(&mut client, call)?;
    client.batch_execute("INSERT INTO t VALUES (1)")?;
    let (kinds, before) = parse(&page(&mut client)?)?;
    number(&mut client, call)?;
    client.batch_execute("SET pg_query_cache.enabled = off")?;
    number(&mut client, call)?;
    let (_, after) = parse(&page(&mut client)?)?;

    let find = |samples: &[Sample], name: &str, label: &str, value: &str| -> Result<f64> {
        let found = samples.iter().find(|s| {
            s.name == format!("pg_query_cache_{name}")
                && (label.is_empty() || s.labels[label] == value)
        });
        Ok(found
            .with_context(|| format!("no {name} {label} {value}"))?
            .value)
    };
    let function = "public.\"cached\\\"(integer,interval)";
    ensure!(before.iter().all(|s| s.labels["database"] == "a\\b\"c\nd"));
    ensure!(find(&before, "preloaded", "", "")? == 1.0);
    ensure!(find(&before, "hits_total", "", "")? == 90.0);
    ensure!(find(&before, "function_hits_total", "function", function)? == 90.0);
    ensure!(find(&before, "function_misses_total", "function", function)? == 10.0);
    ensure!(
        find(
            &before,
            "relation_writer_seconds_total",
            "relation",
            "public.t"
        )? > 0.0
    );
    ensure!(find(&before, "bypasses_total", "reason", "disabled")? == 0.0);
    ensure!(find(&after, "bypasses_total", "reason", "disabled")? == 100.0);
    ensure!(find(&after, "hits_total", "", "")? == 180.0);
    ensure!(find(&after, "entries", "", "")? == 10.0);
    ensure!(
        (find(&after, "start_time_seconds", "", "")?
            - f64::from(u32::try_from(
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)?
                    .as_secs()
            )?))
        .abs()
            < 600.0
    );
    for series in before.iter().filter(|s| {
        let base = s
            .name
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        kinds.get(base).is_some_and(|kind| kind != "gauge")
    }) {
        let later = after
            .iter()
            .find(|s| s.name == series.name && s.labels == series.labels);
        let later = later.with_context(|| format!("{} is gone", series.name))?;
        ensure!(later.value >= series.value, "{} went down", series.name);
    }
    // The histogram: cumulative, and its last bucket is the count.
    let buckets: Vec<_> = after
        .iter()
        .filter(|s| s.name.ends_with("fill_seconds_bucket"))
        .collect();
    ensure!(buckets.len() == 17, "{} buckets", buckets.len());
    ensure!(
        buckets
            .windows(2)
            .all(|pair| pair[0].value <= pair[1].value)
    );
    ensure!(buckets.windows(2).all(|pair| {
        let bound = |s: &Sample| {
            s.labels["le"]
                .replace("+Inf", "inf")
                .parse::<f64>()
                .unwrap()
        };
        bound(pair[0]) < bound(pair[1])
    }));
    ensure!(
        buckets[16].value == 20.0 && find(&after, "function_fill_seconds_count", "", "")? == 20.0
    );
    ensure!(find(&after, "function_fill_seconds_sum", "", "")? > 0.0);
    Ok(())
}

/// Everybody but the owner is kept out, whatever they say; what was said is in the log.
#[test]
fn an_emergency_is_for_the_owner_and_leaves_a_trace() -> Result<()> {
    let cluster = with_accounts(quiet("looking-emergency"))?;
    let mut client = cluster.connect(DATABASE)?;
    let total = answers_are_right(&mut client)?;
    client.batch_execute(
        "SELECT flush_cache(); CREATE ROLE guest LOGIN; CREATE ROLE admin LOGIN;
         GRANT EXECUTE ON FUNCTION emergency_clear_cache(text) TO admin",
    )?;
    let code = |error: pg_query_cache_harness::postgres::Error| {
        error.code().map(|code| code.code().to_owned())
    };
    for (role, token, expected) in [
        ("guest", "EMERGENCY_CLEAR_CONFIRMED", "42501"),
        ("guest", "no", "42501"),
        ("admin", "no", "22023"),
    ] {
        let mut other = cluster.connect_as(DATABASE, role)?;
        let error = other
            .query_one("SELECT emergency_clear_cache($1)", &[&token])
            .unwrap_err();
        ensure!(code(error).as_deref() == Some(expected), "{role} {token}");
    }
    ensure!(cluster.log_contains("refused emergency_clear_cache() to role \"admin\""));
    ensure!(!cluster.log_contains("emergency_clear_cache() by role"));
    ensure!(number(&mut client, "SELECT entries FROM cache_stats()")? > 100);

    // Others see it at the commit at the latest; a snapshot from before answers from the function.
    let mut old = cluster.connect(DATABASE)?;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    ensure!(number(&mut old, "SELECT total_cached()")? == total);
    let mut admin = cluster.connect_as(DATABASE, "admin")?;
    admin.batch_execute("BEGIN")?;
    let removed: i64 = admin
        .query_one(
            "SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED')",
            &[],
        )?
        .get(0);
    ensure!(removed > 100, "{removed}");
    ensure!(answers_are_right(&mut client)? == total);
    ensure!(number(&mut old, "SELECT total_cached()")? == total);
    admin.batch_execute("COMMIT")?;
    ensure!(number(&mut old, "SELECT total_cached()")? == total);
    ensure!(cluster.log_contains("emergency_clear_cache() by role \"admin\" removed"));
    ensure!(holds(
        &mut client,
        "SELECT removed_by = 'admin (emergency_clear_cache)' FROM cache_cleanup_log ORDER BY id DESC LIMIT 1"
    )?);
    ensure!(answers_are_right(&mut client)? == total);
    client.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")?;
    ensure!(answers_are_right(&mut client)? == total + 1);
    // Nobody is waited for who is changing a value.
    client.batch_execute("SELECT cache_set('free', '1'), cache_set('held', '1')")?;
    let mut holder = cluster.connect(DATABASE)?;
    holder.batch_execute("BEGIN; SELECT cache_set('held', '2')")?;
    admin.batch_execute(
        "SET statement_timeout = '1min'; SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED')",
    )?;
    ensure!(holds(
        &mut client,
        "SELECT NOT cache_exists('free') AND cache_exists('held')"
    )?);
    holder.batch_execute("COMMIT")?;
    ensure!(holds(&mut client, "SELECT cache_get('held') = '2'")?);
    admin.batch_execute("SELECT emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED')")?;
    ensure!(holds(&mut client, "SELECT NOT cache_exists('held')")?);
    Ok(())
}
