//! Through PgBouncer in transaction mode: each transaction of a client may run in another session of the server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::thread;

use anyhow::Result;
use pg_query_cache_cluster_tests::pool::Pool;
use pg_query_cache_cluster_tests::{DATABASE, counters, number, quiet, with_accounts};
use pg_query_cache_harness::postgres::{Client, SimpleQueryMessage};

/// The first value of a simple query: PgBouncer in transaction mode knows no prepared statements.
fn ask(client: &mut Client, sql: &str) -> Result<Option<String>> {
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(row.get(0).map(str::to_owned));
        }
    }
    Ok(None)
}

#[test]
fn many_clients_share_two_sessions() -> Result<()> {
    let cluster = with_accounts(quiet("pgbouncer"))?;
    let pool = Pool::start(&cluster, &[])?;
    let clients: Vec<_> = (0..20)
        .map(|i| {
            let mut client = pool.connect("postgres")?;
            Ok(thread::spawn(move || -> Result<()> {
                for round in 0..50 {
                    let wrong = ask(
                        &mut client,
                        "SELECT count(*) FROM generate_series(1, 100) AS i WHERE balance(i) IS DISTINCT FROM balance_cached(i)",
                    )?;
                    assert_eq!(wrong.as_deref(), Some("0"), "client {i}, round {round}");
                    let (one, other) = (i * 5 + 1, (i * 5 + round) % 100 + 1);
                    let change = format!(
                        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = {one};
                         SELECT balance({other}) IS NOT DISTINCT FROM balance_cached({other}) AND total() = total_cached()"
                    );
                    assert_eq!(ask(&mut client, &change)?.as_deref(), Some("t"));
                    ask(&mut client, if round % 2 == 0 { "COMMIT" } else { "ROLLBACK" })?;
                }
                Ok(())
            }))
        })
        .collect::<Result<_>>()?;
    for client in clients {
        client.join().unwrap()?;
    }
    let mut direct = cluster.connect(DATABASE)?;
    assert_eq!(
        number(&mut direct, "SELECT total_cached()")?,
        5050 + 20 * 25
    );
    assert!(counters(&mut direct, "balance_cached")?.hits > 0);
    Ok(())
}

/// What a client sets for its transaction is part of whose result it is, and gone for the next client of the same session.
#[test]
fn settings_of_a_transaction_stay_with_it() -> Result<()> {
    let cluster = with_accounts(quiet("pgbouncer-claims"))?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE ROLE reader LOGIN NOINHERIT;
         CREATE ROLE tenant_1; CREATE ROLE tenant_2; GRANT tenant_1, tenant_2 TO reader;
         GRANT SELECT ON accounts TO tenant_1, tenant_2, reader;
         ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
         CREATE POLICY claim ON accounts TO reader
             USING (owner::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'owner');",
    )?;
    cluster.connect(DATABASE)?.batch_execute(
        "CREATE POLICY role_1 ON accounts TO tenant_1 USING (owner = 1);
         CREATE POLICY role_2 ON accounts TO tenant_2 USING (owner = 2);",
    )?;
    let pool = Pool::start(&cluster, &["reader"])?;
    let mut clients: Vec<_> = (0..3)
        .map(|_| pool.connect("reader"))
        .collect::<Result<_>>()?;
    for round in 0..20 {
        for (n, client) in clients.iter_mut().enumerate() {
            let owner = (round + n) % 10;
            let mine = format!(
                "BEGIN; SET LOCAL request.jwt.claims = '{{\"owner\": \"{owner}\"}}'; SELECT total_cached() = total() AND total_cached() = (SELECT sum(balance) FROM accounts WHERE owner = {owner})"
            );
            // Several statements in one message: the last one's answer is what counts.
            let answers: Vec<String> = client
                .simple_query(&format!("{mine}; COMMIT"))?
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
                .collect();
            assert_eq!(answers, ["t"]);
            // The next transaction has no claims, and sees nothing.
            assert_eq!(ask(client, "SELECT total_cached()")?, None);
            let role = round % 2 + 1;
            let answer = ask(
                client,
                &format!(
                    "BEGIN; SET LOCAL ROLE tenant_{role}; SELECT total_cached() = (SELECT sum(i) FROM generate_series({role}, 100, 10) AS i); COMMIT"
                ),
            )?;
            assert_eq!(answer.as_deref(), Some("t"));
        }
    }
    assert!(counters(&mut cluster.connect(DATABASE)?, "total_cached")?.hits > 50);
    Ok(())
}
