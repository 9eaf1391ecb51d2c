//! Snapshots that may see transactions end in another order than everybody else: those of logical replication slots. That this matters is
//! shown by `crates/validity/tests/slot.rs`; here it is shown that nothing is served and stored with one.

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, number, quiet, with_accounts};
use pg_query_cache_harness::postgres::Client;
use std::io::Write;
use std::process::Stdio;

fn explained(client: &mut Client) -> Result<(String, String)> {
    let sql = "SELECT outcome, reason FROM cache_explain('total_cached()')";
    let row = client.query_one(sql, &[])?;
    Ok((row.get(0), row.get(1)))
}

#[test]
fn an_imported_snapshot_serves_and_fills_nothing() -> Result<()> {
    let cluster = with_accounts(quiet("imported").setting("wal_level", "logical"))?;
    let mut exporter = cluster.connect(DATABASE)?;
    let mut importer = cluster.connect(DATABASE)?;
    for _ in 0..2 {
        number(&mut exporter, "SELECT total_cached()")?;
    }
    exporter.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    let name: String = exporter
        .query_one("SELECT pg_export_snapshot()", &[])?
        .get(0);
    importer.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{name}'"
    ))?;
    let of_importer = explained(&mut importer)?;
    ensure!(
        of_importer == ("bypass".into(), "imported_snapshot".into()),
        "{of_importer:?}"
    );
    ensure!(
        number(&mut importer, "SELECT total_cached()")? == number(&mut importer, "SELECT total()")?
    );
    ensure!(explained(&mut exporter)?.0 == "hit");
    // It ends with the transaction.
    importer.batch_execute("COMMIT")?;
    ensure!(explained(&mut importer)?.0 == "hit");

    // A walsender can have the snapshot of a slot that it creates, and runs SQL with it.
    let mut walsender = cluster
        .program("psql")
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            &format!("dbname={DATABASE} replication=database"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    walsender.stdin.take().context("no input")?.write_all(
        b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
          CREATE_REPLICATION_SLOT early TEMPORARY LOGICAL pgoutput USE_SNAPSHOT \\g /dev/null
          SELECT outcome, reason FROM cache_explain('total_cached()');
          COMMIT;",
    )?;
    let answer = walsender.wait_with_output()?;
    let answer = String::from_utf8(answer.stdout)?;
    ensure!(answer.trim() == "bypass|imported_snapshot", "{answer}");
    Ok(())
}
