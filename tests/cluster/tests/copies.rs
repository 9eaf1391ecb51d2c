//! Other servers with the same data: base backups, copies of the files, upgrades, standbys that were primaries. Each goes its own way
//! from there, and whatever came along of the cache is right or is not used.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{
    DATABASE, PATIENCE, answers_are_right, counters, holds, number, quiet, wait_for, with_accounts,
    worker,
};
use pg_query_cache_harness::{Cluster, Mode, wait_until};

const CHANGE: &str = "UPDATE accounts SET balance = balance + 1 WHERE id = 1";

/// Answers, changes and answers again; the cache takes and gives.
fn goes_its_own_way(cluster: &Cluster, total: i64) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    ensure!(answers_are_right(&mut client)? == total);
    for change in 1..=2 {
        client.batch_execute(CHANGE)?;
        ensure!(answers_are_right(&mut client)? == total + change);
    }
    client.batch_execute("TRUNCATE accounts; INSERT INTO accounts VALUES (1, 1, 7)")?;
    ensure!(answers_are_right(&mut client)? == 7);
    ensure!(holds(
        &mut client,
        "SELECT hits > 0 AND damaged = 0 FROM cache_stats()"
    )?);
    worker(cluster)?;
    ensure!(!cluster.log_contains("PANIC"), "{}", cluster.log());
    Ok(())
}

fn has_slots(cluster: &Cluster) -> bool {
    let folder = cluster.data_dir().join("pg_stat");
    std::fs::read_dir(folder).is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| {
                file.file_name()
                    .to_string_lossy()
                    .contains("pg_query_cache")
            })
        })
    })
}

#[test]
fn a_base_backup_of_a_busy_server() -> Result<()> {
    let original = with_accounts(quiet("copies-primary"))?;
    let mut client = original.connect(DATABASE)?;
    let before = answers_are_right(&mut client)?;
    client.batch_execute("SELECT flush_cache()")?;
    // Prepared before the backup, and committed in both.
    client.batch_execute(&format!("BEGIN; {CHANGE}; PREPARE TRANSACTION 'both'"))?;

    let backup = quiet("copies-backup")
        .backup_of(&original)
        .stopped()
        .build()?;
    client.batch_execute("UPDATE accounts SET balance = balance + 100 WHERE id = 2")?;
    ensure!(answers_are_right(&mut client)? == before + 100);
    backup.start()?;
    let mut there = backup.connect(DATABASE)?;
    ensure!(number(&mut there, "SELECT count(*) FROM query_cache")? == 0);
    ensure!(answers_are_right(&mut there)? == before);
    there.batch_execute("COMMIT PREPARED 'both'")?;
    ensure!(answers_are_right(&mut there)? == before + 1);
    client.batch_execute("COMMIT PREPARED 'both'")?;
    ensure!(answers_are_right(&mut client)? == before + 101);
    goes_its_own_way(&backup, before + 1)?;
    goes_its_own_way(&original, before + 101)
}

/// Both have the slots and the table of the same shutdown; each is right to use them.
#[test]
fn a_copy_of_the_files_after_a_shutdown() -> Result<()> {
    let original = with_accounts(quiet("copies-files"))?;
    let before = answers_are_right(&mut original.connect(DATABASE)?)?;
    worker(&original)?;
    original.stop(Mode::Fast)?;
    ensure!(has_slots(&original), "the slots are not saved");
    let copy = quiet("copies-files-copy")
        .copy_of(&original)
        .stopped()
        .build()?;
    let late = quiet("copies-files-late")
        .copy_of(&original)
        .stopped()
        .build()?;
    ensure!(has_slots(&copy));

    original.start()?;
    let mut client = original.connect(DATABASE)?;
    client.batch_execute(CHANGE)?;
    ensure!(answers_are_right(&mut client)? == before + 1);
    drop(client);

    copy.start()?;
    let mut client = copy.connect(DATABASE)?;
    ensure!(number(&mut client, "SELECT total_cached()")? == before);
    ensure!(
        counters(&mut client, "total_cached")?.hits == 1,
        "the copy is cold"
    );
    client.batch_execute("UPDATE accounts SET balance = balance + 50 WHERE id = 3")?;
    ensure!(answers_are_right(&mut client)? == before + 50);
    drop(client);
    // The table of one life beside the slots of another: the file alone comes from the original, which has gone on.
    original.stop(Mode::Fast)?;
    put_slots(&original, &late)?;
    late.start()?;
    ensure!(answers_are_right(&mut late.connect(DATABASE)?)? == before);
    goes_its_own_way(&late, before)?;
    goes_its_own_way(&copy, before + 50)?;
    original.start()?;
    goes_its_own_way(&original, before + 1)
}

/// Puts the file of the slots of one cluster into another one, which is down.
fn put_slots(from: &Cluster, to: &Cluster) -> Result<()> {
    let name = Path::new("pg_stat/pg_query_cache.slots");
    // Into the file that is there, so that it belongs to the server's user.
    let bytes = std::fs::read(from.data_dir().join(name))?;
    std::fs::write(to.data_dir().join(name), bytes)?;
    Ok(())
}

#[test]
fn pg_upgrade() -> Result<()> {
    let old = with_accounts(quiet("copies-old"))?;
    let mut client = old.connect(DATABASE)?;
    client.batch_execute(
        "CREATE FUNCTION rows_of(owner integer) RETURNS SETOF accounts LANGUAGE sql STABLE
             AS 'SELECT * FROM accounts AS a WHERE a.owner = $1 ORDER BY id';
         SELECT cache_function('rows_of(integer)', depends_on => '{\"accounts\": {\"owner\": \"$1\"}}');
         SELECT cache_track_table('accounts', '{owner}')",
    )?;
    let before = answers_are_right(&mut client)?;
    client.batch_execute("SELECT count(*) FROM rows_of_cached(1); SELECT flush_cache()")?;
    drop(client);
    worker(&old)?;
    old.stop(Mode::Fast)?;
    ensure!(has_slots(&old));

    let new = quiet("copies-new").upgrade_of(&old).build()?;
    let mut client = new.connect(DATABASE)?;
    let rows =
        "SELECT (SELECT count(*) FROM rows_of(1)) = (SELECT count(*) FROM rows_of_cached(1))";
    ensure!(answers_are_right(&mut client)? == before);
    ensure!(holds(&mut client, rows)?);
    ensure!(
        holds(
            &mut client,
            "SELECT count(*) = 0 FROM query_cache WHERE created_at < pg_postmaster_start_time()"
        )?,
        "rows of the old cluster are there"
    );
    client.batch_execute("INSERT INTO accounts VALUES (101, 1, 1)")?;
    ensure!(holds(&mut client, rows)?);
    ensure!(answers_are_right(&mut client)? == before + 1);
    drop(client);
    goes_its_own_way(&new, before + 1)?;

    // The old one is as it was: pg_upgrade has started and stopped it without the library at work.
    old.start()?;
    let mut client = old.connect(DATABASE)?;
    ensure!(answers_are_right(&mut client)? == before);
    drop(client);
    goes_its_own_way(&old, before)
}

fn promote(standby: &Cluster) -> Result<()> {
    standby
        .connect(DATABASE)?
        .batch_execute("SELECT pg_promote(true, 30)")?;
    wait_for(standby, "the promotion", "SELECT NOT pg_is_in_recovery()")
}

/// A server that was shut down cleanly and comes back as a standby, as after a switchover: it has the slots of its shutdown, and then
/// replays what others wrote, prepared transactions among it, that are committed when it is a primary again.
#[test]
fn a_primary_that_was_a_standby_in_between() -> Result<()> {
    let primary = with_accounts(quiet("copies-switch"))?;
    let before = answers_are_right(&mut primary.connect(DATABASE)?)?;
    worker(&primary)?;
    primary.stop(Mode::Fast)?;
    ensure!(has_slots(&primary));
    let standby = quiet("copies-switched")
        .standby_from_copy_of(&primary)
        .stopped()
        .build()?;
    primary.start()?;
    standby.start()?;
    let mut client = primary.connect(DATABASE)?;
    client.batch_execute(CHANGE)?;
    client.batch_execute(&format!("BEGIN; {CHANGE}; PREPARE TRANSACTION 'later'"))?;
    let position: String = client
        .query_one("SELECT pg_current_wal_lsn()::text", &[])?
        .get(0);
    let mut there = standby.connect(DATABASE)?;
    wait_until("the standby to follow", PATIENCE, || {
        holds(
            &mut there,
            &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"),
        )
        .unwrap_or(false)
    })?;
    promote(&standby)?;

    ensure!(answers_are_right(&mut there)? == before + 1);
    there.batch_execute("COMMIT PREPARED 'later'")?;
    ensure!(answers_are_right(&mut there)? == before + 2);
    drop(there);
    goes_its_own_way(&standby, before + 2)
}
