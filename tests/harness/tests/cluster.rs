//! The harness against a plain PostgreSQL server, without the extension.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on panics"
)]

use std::time::Duration;

use pg_query_cache_harness::{Cluster, Mode, Signal, wait_until};

fn plain(name: &str) -> Cluster {
    Cluster::builder(name).preload(false).build().unwrap()
}

fn setting(cluster: &Cluster, name: &str) -> String {
    cluster
        .connect("postgres")
        .unwrap()
        .query_one(&format!("SHOW {name}"), &[])
        .unwrap()
        .get(0)
}

#[test]
fn a_cluster_answers_survives_restarts_and_keeps_its_data() {
    let cluster = plain("harness-restart");
    let mut client = cluster.connect("postgres").unwrap();
    client
        .batch_execute("CREATE TABLE t AS SELECT 42 AS answer; CREATE ROLE visitor LOGIN")
        .unwrap();

    for mode in [Mode::Fast, Mode::Immediate] {
        cluster.restart(mode).unwrap();
        let answer: i32 = cluster
            .connect("postgres")
            .unwrap()
            .query_one("SELECT answer FROM t", &[])
            .unwrap()
            .get(0);
        assert_eq!(answer, 42);
    }
    let who: String = cluster
        .connect_as("postgres", "visitor")
        .unwrap()
        .query_one("SELECT current_user::text", &[])
        .unwrap()
        .get(0);
    assert_eq!(who, "visitor");
    drop(client);

    cluster.stop(Mode::Smart).unwrap();
    assert!(!cluster.is_running());
    assert!(cluster.connect("postgres").is_err());
    cluster.start().unwrap();
    assert!(cluster.log_contains("ready to accept connections"));
}

#[test]
fn settings_are_written_changed_and_forgotten_by_nobody() {
    let cluster = Cluster::builder("harness-settings")
        .preload(false)
        .setting("work_mem", "7MB")
        .setting("search_path", "\"it's\", public")
        .build()
        .unwrap();
    assert_eq!(setting(&cluster, "work_mem"), "7MB");
    assert_eq!(setting(&cluster, "max_prepared_transactions"), "20");
    assert_eq!(setting(&cluster, "listen_addresses"), "");
    assert_eq!(setting(&cluster, "search_path"), "\"it's\", public");
    cluster.set("work_mem", "9MB").unwrap();
    wait_until("the setting has changed", Duration::from_secs(240), || {
        setting(&cluster, "work_mem") == "9MB"
    })
    .unwrap();
    cluster.restart(Mode::Fast).unwrap();
    assert_eq!(setting(&cluster, "work_mem"), "9MB");
}

#[test]
fn a_killed_backend_is_a_crash_that_the_server_recovers_from() {
    let cluster = plain("harness-kill");
    let mut victim = cluster.connect("postgres").unwrap();
    let pid: i32 = victim
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(
        cluster.kill(own, Signal::TERM).is_err(),
        "a process of somebody else is left alone"
    );
    cluster.kill(pid, Signal::KILL).unwrap();
    wait_until("the session has ended", Duration::from_secs(240), || {
        victim.simple_query("SELECT 1").is_err()
    })
    .unwrap();
    wait_until("the crash is in the log", Duration::from_secs(240), || {
        cluster.log_contains("terminated by signal 9")
    })
    .unwrap();
    cluster.wait_ready().unwrap();
}

#[test]
fn psql_and_programs_reach_the_cluster() {
    let cluster = plain("harness-programs");
    assert_eq!(
        cluster.psql("postgres", "SELECT 1; SELECT 'two';").unwrap(),
        "1\ntwo\n"
    );
    let error = cluster
        .psql("postgres", "SELECT 1/0; SELECT 2")
        .unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    // Larger than a pipe in both directions.
    let long = format!("SELECT '{}';\n", "x".repeat(1000)).repeat(500);
    assert_eq!(
        cluster.psql("postgres", &long).unwrap().lines().count(),
        500
    );

    assert!(
        cluster
            .program("pgbench")
            .args(["-i", "-q", "postgres"])
            .output()
            .unwrap()
            .status
            .success()
    );
    let run = cluster
        .program("pgbench")
        .args(["-c", "2", "-t", "20", "postgres"])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let status = cluster
        .program("pg_ctl")
        .arg("status")
        .arg("-D")
        .arg(cluster.data_dir())
        .output()
        .unwrap();
    assert!(status.status.success());
}

#[test]
fn a_start_that_fails_shows_the_servers_own_words() {
    let error = Cluster::builder("harness-broken")
        .preload(false)
        .setting("shared_preload_libraries", "no_such_library")
        .build()
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("harness-broken") && text.contains("no_such_library"),
        "{text}"
    );
}

#[test]
fn a_kept_cluster_is_taken_over() {
    let first = plain("harness-keep");
    first.psql("postgres", "CREATE TABLE kept ()").unwrap();
    let (pid, port) = (first.postmaster_pid().unwrap(), first.port());
    first.keep();
    drop(first);
    let second = Cluster::builder("harness-keep")
        .preload(false)
        .fresh(false)
        .build()
        .unwrap();
    assert_eq!(
        (second.postmaster_pid().unwrap(), second.port()),
        (pid, port)
    );
    assert_eq!(
        second
            .psql("postgres", "SELECT count(*) FROM kept")
            .unwrap(),
        "0\n"
    );
    drop(second);
    let third = plain("harness-keep");
    assert!(third.psql("postgres", "SELECT count(*) FROM kept").is_err());
}

#[test]
fn a_standby_follows_its_primary() {
    let primary = plain("harness-primary");
    primary
        .psql("postgres", "CREATE TABLE t AS SELECT 1 AS n")
        .unwrap();
    let standby = Cluster::builder("harness-standby")
        .preload(false)
        .standby_of(&primary)
        .build()
        .unwrap();
    assert_eq!(
        standby
            .psql("postgres", "SELECT pg_is_in_recovery()")
            .unwrap(),
        "t\n"
    );
    primary
        .psql("postgres", "INSERT INTO t VALUES (2)")
        .unwrap();
    wait_until("the row has arrived", Duration::from_secs(240), || {
        standby
            .psql("postgres", "SELECT count(*) FROM t")
            .is_ok_and(|count| count == "2\n")
    })
    .unwrap();
}

#[test]
fn processor_time_counts_sessions_that_have_ended() {
    let cluster = plain("harness-processor-time");
    let before = cluster.processor_time().unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    client
        .batch_execute("SELECT count(*) FROM generate_series(1, 2000000)")
        .unwrap();
    let during = cluster.processor_time().unwrap();
    assert!(during >= before + Duration::from_millis(50));

    client.close().unwrap();
    let mut other = cluster.connect("postgres").unwrap();
    wait_until("the session ends", Duration::from_secs(240), || {
        let sessions: i64 = other
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
                &[],
            )
            .unwrap()
            .get(0);
        sessions == 1
    })
    .unwrap();
    assert!(cluster.processor_time().unwrap() >= during);
}
