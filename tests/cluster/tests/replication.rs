//! Replication: on a hot standby cached functions answer from the functions, after promotion they cache; on a logical subscriber what
//! is applied invalidates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, counters, holds, number, quiet, with_accounts,
    with_extension,
};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, wait_until};

/// Waits until `check` holds. What goes wrong in it ends the test.
fn soon(what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut outcome = Ok(());
    wait_until(what, PATIENCE, || match check() {
        Ok(holds) => holds,
        Err(error) => {
            outcome = Err(error);
            true
        }
    })?;
    outcome
}

#[test]
fn a_standby_answers_and_caches_once_it_is_promoted() -> Result<()> {
    let primary = with_accounts(quiet("standby-primary"))?;
    let before = answers_are_right(&mut primary.connect(DATABASE)?)?;
    let standby = quiet("standby-replica").standby_of(&primary).build()?;

    let mut on_primary = primary.connect(DATABASE)?;
    let mut on_standby = standby.connect(DATABASE)?;
    soon("the standby to follow", || {
        Ok(number(&mut on_standby, "SELECT total()")? == before)
    })?;
    for change in 1..=3 {
        on_primary.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 7")?;
        soon("the change to arrive", || {
            Ok(number(&mut on_standby, "SELECT total()")? == before + change)
        })?;
        answers_are_right(&mut on_standby)?;
    }
    let counts = counters(&mut on_standby, "total_cached")?;
    // The table is not logged, so the standby has none to read.
    let error = on_standby
        .batch_execute("SELECT get_top_cache_entries()")
        .unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("0A000"));
    number(
        &mut on_standby,
        "SELECT count(*) FROM cache_memory_entries()",
    )?;
    assert!((counts.hits, counts.fills) == (0, 0), "{counts:?}");
    assert!(counts.bypasses > 0, "{counts:?}");

    // What would write says so, in the server's own words.
    for command in [
        "invalidate_cache('{x}')",
        "invalidate_cache_function('total_cached(interval)')",
        "invalidate_cache_table('accounts')",
        "clear_cache()",
        "flush_cache()",
        "cleanup_expired_cache()",
        "cache_track_table('accounts')",
        "cache_function('total()', name => 'another')",
    ] {
        let error = standby
            .connect(DATABASE)?
            .simple_query(&format!("SELECT {command}"))
            .unwrap_err();
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("25006"), "{command}: {error:?}");
    }

    // A snapshot that was taken in recovery and is used after it sees by other rules.
    on_standby.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT total_cached()")?;
    standby
        .connect(DATABASE)?
        .batch_execute("SELECT pg_promote(true, 30)")?;
    soon("the promotion", || {
        holds(
            &mut standby.connect(DATABASE)?,
            "SELECT NOT pg_is_in_recovery()",
        )
    })?;
    let mut new = standby.connect(DATABASE)?;
    new.batch_execute("UPDATE accounts SET balance = balance + 10 WHERE id = 7")?;
    assert!(number(&mut on_standby, "SELECT total_cached()")? == before + 3);
    on_standby.batch_execute("COMMIT")?;

    assert!(answers_are_right(&mut new)? == before + 13);
    assert!(answers_are_right(&mut on_standby)? == before + 13);
    assert!(
        counters(&mut new, "total_cached")?.hits > 0,
        "it caches now"
    );
    Ok(())
}

/// Waits until the standby has replayed what the primary has written.
fn follow(primary: &mut Client, standby: &mut Client) -> Result<()> {
    let written: String = primary
        .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])?
        .get(0);
    soon("the standby to follow", || {
        holds(
            standby,
            &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"),
        )
    })
}

/// What `reader` may see, and what a call means, changes on the primary; sessions of the standby are open and have asked before.
/// `seen()` and `shown()` are SQL and PL/pgSQL, which keeps its plans; plans may be older than the primary's definitions until the
/// session ends, so what they come to is asked of the function in the same session, and of a new one once there are entries.
#[test]
fn a_standby_follows_definitions_and_forgets_old_ones_when_promoted() -> Result<()> {
    let primary = with_accounts(quiet("standby-definitions"))?;
    let mut there = primary.connect(DATABASE)?;
    there.batch_execute(
        "CREATE ROLE reader LOGIN; GRANT SELECT ON accounts TO reader;
         CREATE FUNCTION part(numeric) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
         CREATE FUNCTION seen() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(part(id))::bigint FROM accounts';
         CREATE FUNCTION shown() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(part(id)) FROM accounts); END';
         SELECT cache_function('seen()'), cache_function('shown()')",
    )?;
    let standby = quiet("standby-definitions-replica")
        .standby_of(&primary)
        .build()?;
    let mut admin = standby.connect(DATABASE)?;
    follow(&mut there, &mut admin)?;
    let mut open = [
        standby.connect_as(DATABASE, "reader")?,
        standby.connect_as(DATABASE, "reader")?,
    ];
    let agree = |client: &mut Client, change: &str| -> Result<()> {
        for name in ["seen", "shown"] {
            let say = |client: &mut Client, name: &str| {
                client
                    .query_one(&format!("SELECT {name}()"), &[])
                    .map(|row| row.get::<_, Option<i64>>(0))
                    .map_err(|error| error.code().map(|code| code.code().to_owned()))
            };
            for _ in 0..2 {
                let by_cache = say(client, &format!("{name}_cached"));
                let plain = say(client, name);
                ensure!(
                    plain == by_cache,
                    "{change}: {name} is {plain:?}, cached {by_cache:?}"
                );
            }
        }
        Ok(())
    };
    for change in [
        "SELECT 1",
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON accounts USING (owner < 3)",
        "ALTER POLICY few ON accounts USING (owner < 4)",
        "INSERT INTO accounts VALUES (1000, 1, 1)",
        "REVOKE SELECT ON accounts FROM reader",
        "GRANT SELECT ON accounts TO reader",
        "CREATE OR REPLACE FUNCTION part(numeric) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 2::bigint'",
        // A plan does not learn of this one.
        "CREATE FUNCTION part(integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 3::bigint'",
    ] {
        there.batch_execute(change)?;
        follow(&mut there, &mut admin)?;
        for client in &mut open {
            agree(client, change)?;
        }
    }
    admin.batch_execute("SELECT pg_promote(true, 30)")?;
    soon("the promotion", || {
        holds(&mut admin, "SELECT NOT pg_is_in_recovery()")
    })?;
    for client in &mut open {
        agree(client, "promoted")?;
    }
    let mut new = standby.connect_as(DATABASE, "reader")?;
    agree(&mut new, "promoted, anew")?;
    ensure!(number(&mut new, "SELECT shown_cached()")? == 3 * 41);
    let counts = counters(&mut admin, "shown_cached")?;
    ensure!(counts.bypasses > 0, "{counts:?}");
    admin.batch_execute("DROP POLICY few ON accounts")?;
    for client in &mut open {
        agree(client, "after the promotion")?;
    }
    // What the sessions counted has arrived when they have ended.
    drop((open, new));
    soon("it caches", || {
        Ok(counters(&mut admin, "shown_cached")?.hits > 0)
    })
}

/// A transaction that was prepared on the primary is finished on the standby after its promotion, which has heard of it from nobody.
#[test]
fn a_prepared_transaction_outlives_the_promotion() -> Result<()> {
    let primary = with_accounts(quiet("standby-prepared"))?;
    let mut there = primary.connect(DATABASE)?;
    let standby = quiet("standby-prepared-replica")
        .standby_of(&primary)
        .build()?;
    let mut here = standby.connect(DATABASE)?;
    there.batch_execute(
        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 1; PREPARE TRANSACTION 'kept';
         BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2; PREPARE TRANSACTION 'undone'",
    )?;
    follow(&mut there, &mut here)?;
    answers_are_right(&mut here)?;
    here.batch_execute("SELECT pg_promote(true, 30)")?;
    soon("the promotion", || {
        holds(&mut here, "SELECT NOT pg_is_in_recovery()")
    })?;
    ensure!(answers_are_right(&mut here)? == 5050);
    here.batch_execute("COMMIT PREPARED 'kept'")?;
    ensure!(answers_are_right(&mut here)? == 5051);
    here.batch_execute("ROLLBACK PREPARED 'undone'")?;
    ensure!(answers_are_right(&mut here)? == 5051);
    ensure!(answers_are_right(&mut here)? == 5051);
    ensure!(
        counters(&mut here, "total_cached")?.hits > 0,
        "it caches now"
    );
    Ok(())
}

/// A table `accounts` on the subscriber that follows the publisher's.
fn subscribe(publisher: &Cluster, subscriber: &Cluster) -> Result<()> {
    publisher
        .connect(DATABASE)?
        .batch_execute("CREATE PUBLICATION everything FOR TABLE accounts")?;
    let mut client = subscriber.connect(DATABASE)?;
    client.batch_execute("TRUNCATE accounts")?;
    client.batch_execute(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION '{} dbname={DATABASE}' PUBLICATION everything",
        publisher.conninfo()
    ))?;
    Ok(())
}

/// Compares the answers, of an empty table too.
fn same(client: &mut Client) -> Result<()> {
    assert!(holds(
        client,
        "SELECT total() IS NOT DISTINCT FROM total_cached() AND NOT EXISTS
            (SELECT FROM generate_series(0, 60) AS i WHERE balance(i) IS DISTINCT FROM balance_cached(i))"
    )?);
    Ok(())
}

#[test]
fn what_a_subscriber_applies_invalidates() -> Result<()> {
    let publisher = with_accounts(quiet("logical-publisher").setting("wal_level", "logical"))?;
    let subscriber = with_accounts(quiet("logical-subscriber"))?;
    subscriber
        .connect(DATABASE)?
        .batch_execute("SELECT cache_track_table('accounts', '{id}')")?;
    let mut there = publisher.connect(DATABASE)?;
    let mut here = subscriber.connect(DATABASE)?;
    same(&mut here)?;
    subscribe(&publisher, &subscriber)?;
    let total = number(&mut there, "SELECT total()")?;
    soon("the first copy", || {
        same(&mut here)?;
        Ok(number(&mut here, "SELECT COALESCE(total(), 0)")? == total)
    })?;

    for statement in [
        "INSERT INTO accounts VALUES (1001, 1, 1000)",
        "UPDATE accounts SET balance = balance + 5 WHERE id = 7",
        "DELETE FROM accounts WHERE id = 8",
        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 9; UPDATE accounts SET balance = balance + 1 WHERE id = 10; COMMIT",
        "TRUNCATE accounts",
        "INSERT INTO accounts SELECT i, i % 10, 2 * i FROM generate_series(1, 50) AS i",
    ] {
        same(&mut here)?;
        let hits = counters(&mut here, "total_cached")?.hits;
        assert!(number(&mut here, "SELECT COALESCE(total_cached(), 0)")? >= 0);
        assert!(
            counters(&mut here, "total_cached")?.hits == hits + 1,
            "before: {statement}"
        );
        there.batch_execute(statement)?;
        let total = number(&mut there, "SELECT COALESCE(total(), 0)")?;
        soon("the change to be applied", || {
            Ok(number(&mut here, "SELECT COALESCE(total_cached(), 0)")? == total)
        })?;
        same(&mut here)?;
    }
    Ok(())
}

/// `sales` by region in partitions, `of_region(n)` by key and `all_sales()`.
const SALES: &str = "
    CREATE TABLE sales (id integer, region integer, amount bigint, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE sales_1 PARTITION OF sales FOR VALUES IN (1);
    CREATE TABLE sales_2 PARTITION OF sales FOR VALUES IN (2);
    CREATE TABLE sales_3 PARTITION OF sales DEFAULT;
    CREATE FUNCTION of_region(region integer) RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT COALESCE(sum(amount), 0)::bigint FROM sales AS s WHERE s.region = $1';
    CREATE FUNCTION all_sales() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT COALESCE(sum(amount), 0)::bigint FROM sales';
    SELECT cache_track_table('sales', '{region}'), cache_function('all_sales()'),
           cache_function('of_region(integer)', depends_on => '{\"sales\": {\"region\": \"$1\"}}');";

/// The sums of all regions; each is what the function says, asked twice.
fn sales(client: &mut Client) -> Result<Vec<i64>> {
    let mut sums = Vec::new();
    for _ in 0..2 {
        sums.clear();
        for call in [
            ("all_sales", ""),
            ("of_region", "1"),
            ("of_region", "2"),
            ("of_region", "3"),
        ] {
            let (name, argument) = call;
            // In one statement, so under one snapshot, whatever is applied meanwhile.
            let row = client.query_one(
                &format!("SELECT {name}({argument}), {name}_cached({argument})"),
                &[],
            )?;
            let (plain, by_cache): (i64, i64) = (row.get(0), row.get(1));
            ensure!(plain == by_cache, "{call:?}: {plain}, cached {by_cache}");
            sums.push(by_cache);
        }
    }
    Ok(sums)
}

/// Whether the subscriber has applied and committed all that was written. The sums alone do not tell: they may be right while a
/// change that leaves them as they are is still on its way, or read in part before and in part after it.
fn applied(publisher: &mut Client) -> Result<bool> {
    holds(
        publisher,
        "SELECT COALESCE(bool_and(state = 'streaming' AND replay_lsn >= pg_current_wal_lsn()), false) FROM pg_stat_replication
         WHERE application_name = 'sold'",
    )
}

/// Whether the first copy of all tables has ended.
fn copied(subscriber: &mut Client) -> Result<bool> {
    holds(
        subscriber,
        "SELECT COALESCE(bool_and(srsubstate = 'r'), false) FROM pg_subscription_rel",
    )
}

#[test]
fn keys_partitions_and_filters_are_applied() -> Result<()> {
    for via_root in ["false", "true"] {
        let name = |who: &str| format!("partitioned-{who}-{via_root}");
        let publisher = with_extension(quiet(&name("publisher")).setting("wal_level", "logical"))?;
        let subscriber = with_extension(quiet(&name("subscriber")))?;
        let mut there = publisher.connect(DATABASE)?;
        let mut here = subscriber.connect(DATABASE)?;
        for client in [&mut there, &mut here] {
            client.batch_execute(SALES)?;
        }
        there.batch_execute(
            "INSERT INTO sales SELECT i, i % 4, i FROM generate_series(1, 40) AS i",
        )?;
        // What is empty is cached as such before the first copy.
        ensure!(sales(&mut here)? == [0, 0, 0, 0]);
        ensure!(counters(&mut here, "all_sales_cached")?.hits > 0);
        let filter = if via_root == "true" {
            "WHERE (id < 1000)"
        } else {
            ""
        };
        there.batch_execute(&format!(
            "CREATE PUBLICATION sold FOR TABLE sales {filter} WITH (publish_via_partition_root = {via_root})"
        ))?;
        here.batch_execute(&format!(
            "CREATE SUBSCRIPTION sold CONNECTION '{} dbname={DATABASE}' PUBLICATION sold",
            publisher.conninfo()
        ))?;
        // How many of the three regions are touched: the results of the others stay.
        for (statement, touched) in [
            // The first copy, of each partition by itself.
            ("SELECT 1", 9),
            ("INSERT INTO sales VALUES (100, 1, 1000)", 1),
            ("UPDATE sales SET amount = amount + 7 WHERE region = 2", 1),
            ("UPDATE sales SET region = 2 WHERE id = 100", 2),
            ("DELETE FROM sales WHERE id = 100", 1),
            (
                "COPY sales FROM PROGRAM 'echo 101,3,50' WITH (FORMAT csv)",
                1,
            ),
            (
                "BEGIN; SAVEPOINT s; UPDATE sales SET amount = 0; ROLLBACK TO s; UPDATE sales SET amount = 1 WHERE region = 3; COMMIT",
                1,
            ),
            // Out of the filter, and back.
            ("UPDATE sales SET id = id + 2000 WHERE region = 1", 1),
            ("UPDATE sales SET id = id - 2000 WHERE region = 1", 1),
            // Of one partition it is not published as one of the whole.
            (
                if via_root == "true" {
                    "SELECT 1"
                } else {
                    "TRUNCATE sales_2"
                },
                3,
            ),
            ("TRUNCATE sales", 3),
            (
                "INSERT INTO sales SELECT i, i % 4, i FROM generate_series(1, 40) AS i",
                3,
            ),
        ] {
            let before = counters(&mut here, "of_region_cached")?;
            there.batch_execute(statement)?;
            let filtered = if filter.is_empty() {
                "true"
            } else {
                "id < 1000"
            };
            let expected = number(
                &mut there,
                &format!("SELECT COALESCE(sum(amount), 0)::bigint FROM sales WHERE {filtered}"),
            )?;
            let twos = number(
                &mut there,
                &format!(
                    "SELECT COALESCE(sum(amount), 0)::bigint FROM sales WHERE region = 2 AND {filtered}"
                ),
            )?;
            soon("the change to be applied", || {
                // A first copy ends at another moment for each partition: until all have ended nothing is read.
                Ok(applied(&mut there)? && copied(&mut here)? && {
                    let sums = sales(&mut here)?;
                    sums[0] == expected && sums[2] == twos
                })
            })
            .with_context(|| statement.to_owned())?;
            let fills = counters(&mut here, "of_region_cached")?.fills - before.fills;
            ensure!(fills <= touched, "{statement}: {fills} results anew");
        }
        // Without its triggers a table is not tracked, and right; with them again, it is.
        for (change, hit) in [
            ("ALTER TABLE sales_1 DISABLE TRIGGER ALL", false),
            ("ALTER TABLE sales_1 ENABLE TRIGGER ALL", false),
            ("SELECT cache_track_table('sales', '{region}')", true),
        ] {
            here.batch_execute(change)?;
            for step in 1..=2 {
                let before = number(&mut there, "SELECT all_sales()")?;
                soon("the change to be applied", || {
                    Ok(sales(&mut here)?[0] == before)
                })?;
                there.batch_execute("UPDATE sales SET amount = amount + 1 WHERE region = 1")?;
                let expected = number(&mut there, "SELECT all_sales()")?;
                ensure!(expected != before);
                soon("the change to be applied", || {
                    Ok(sales(&mut here)?[0] == expected)
                })
                .with_context(|| format!("{change}, {step}"))?;
            }
            let before = counters(&mut here, "all_sales_cached")?.hits;
            sales(&mut here)?;
            let hits = counters(&mut here, "all_sales_cached")?.hits - before;
            ensure!((hits > 0) == hit, "{change}: {hits} hits");
        }
    }
    Ok(())
}

/// A publication of all tables has the extension's logged ones too. Neither side may be stopped by that, and each keeps its own
/// configuration and history.
#[test]
fn a_publication_of_all_tables_leaves_the_cache_alone() -> Result<()> {
    let publisher = with_accounts(quiet("all-tables-publisher").setting("wal_level", "logical"))?;
    let subscriber = with_accounts(quiet("all-tables-subscriber"))?;
    let mut there = publisher.connect(DATABASE)?;
    let mut here = subscriber.connect(DATABASE)?;
    there.batch_execute(
        "SELECT set_cache_config('max_entries', '11'), set_cache_config('class.theirs.ttl', '1 hour');
         SELECT warm_cache_in_background('total_cached(interval)');
         CREATE PUBLICATION everything FOR ALL TABLES",
    )?;
    here.batch_execute("SELECT set_cache_config('max_entries', '22'), set_cache_config('class.ours.ttl', '1 hour'); TRUNCATE accounts")?;
    let ours = "
        SELECT string_agg(line, E'\n' ORDER BY line)
        FROM (SELECT 'configuration ' || c::text FROM cache_configuration AS c UNION ALL SELECT 'log ' || l::text FROM cache_configuration_log AS l
              UNION ALL SELECT 'trend ' || t::text FROM cache_trends AS t UNION ALL SELECT 'clean-up ' || l::text FROM cache_cleanup_log AS l
              UNION ALL SELECT 'job ' || j::text FROM cache_warm_jobs AS j UNION ALL SELECT 'quarantine ' || q::text FROM cache_quarantine AS q)
              AS x (line)";
    let before: Option<String> = here.query_one(ours, &[])?.get(0);
    here.batch_execute(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION '{} dbname={DATABASE}' PUBLICATION everything",
        publisher.conninfo()
    ))?;
    soon("the first copies", || {
        Ok(number(&mut here, "SELECT count(*) FROM accounts")? == 100
            && holds(
                &mut here,
                "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel",
            )?)
    })?;
    // All that can happen to the tables there, rows that are here too among it.
    for (number_of, statement) in [
        "SELECT set_cache_config('max_entries', '33'), set_cache_config('class.ours.ttl', '2 hours'), set_cache_config('class.theirs.ttl', NULL)",
        "SELECT set_cache_config('max_entries', NULL), set_cache_config('enabled', 'off')",
        "INSERT INTO cache_trends SELECT 'minute', '2026-01-01', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1",
        "UPDATE cache_trends SET hits = hits + 1",
        "SELECT cleanup_expired_cache(); UPDATE cache_cleanup_log SET rows = 5",
        "INSERT INTO cache_quarantine VALUES ('public.f()')",
        "UPDATE cache_warm_jobs SET state = 'failed'; DELETE FROM cache_warm_jobs; DELETE FROM cache_trends; DELETE FROM cache_quarantine",
        "DELETE FROM cache_cleanup_log; DELETE FROM cache_configuration_log; DELETE FROM cache_configuration",
    ]
    .into_iter()
    .enumerate()
    {
        there.batch_execute(statement)?;
        let id = 1000 + number_of as i64;
        there.batch_execute(&format!("INSERT INTO accounts VALUES ({id}, 1, 1)"))?;
        soon(statement, || {
            Ok(number(&mut here, &format!("SELECT count(*) FROM accounts WHERE id = {id}"))? == 1)
        })?;
    }
    let after: Option<String> = here.query_one(ours, &[])?.get(0);
    ensure!(before == after, "{before:?}\n{after:?}");
    // And it goes on here.
    here.batch_execute("SELECT set_cache_config('max_entries', '44')")?;
    ensure!(holds(
        &mut here,
        "SELECT value = '44' FROM cache_config() WHERE name = 'max_entries'"
    )?);
    Ok(())
}

/// The report is for looking: it takes no transaction id, so it works where there is none to be had.
#[test]
fn the_report_works_on_a_standby() -> Result<()> {
    let primary = with_accounts(quiet("health-primary"))?;
    let mut there = primary.connect(DATABASE)?;
    let taken = holds(
        &mut there,
        "SELECT pg_current_xact_id_if_assigned() IS NOT NULL FROM analyze_cache_health() OFFSET 0 LIMIT 1",
    )?;
    ensure!(!taken, "it takes a transaction id");
    there.batch_execute("BEGIN READ ONLY; SELECT * FROM analyze_cache_health(); COMMIT; SET pg_query_cache.enabled = off")?;
    ensure!(number(&mut there, "SELECT count(*) FROM analyze_cache_health()")? > 0);
    let standby = quiet("health-replica").standby_of(&primary).build()?;
    let mut here = standby.connect(DATABASE)?;
    follow(&mut there, &mut here)?;
    for settings in ["", "SET pg_query_cache.enabled = off;"] {
        here.batch_execute(settings)?;
        ensure!(number(&mut here, "SELECT count(*) FROM analyze_cache_health()")? > 5);
    }
    for looking in [
        "cache_stats()",
        "cache_function_stats",
        "cached_functions",
        "cache_config()",
        "cache_metrics()",
        "cache_analytics()",
        "get_cache_cleanup_stats()",
        "cache_explain('total_cached()')",
        "cache_progress",
        "cache_warm_jobs",
    ] {
        here.batch_execute(&format!("SELECT * FROM {looking}"))?;
    }
    Ok(())
}
