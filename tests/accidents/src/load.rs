//! Sessions that read and write all the time, whatever happens to the server, and compare.
//!
//! A reader compares each cached function with its base function in one statement, and within one snapshot over several. A writer
//! changes rows of its own in all ways that leave something behind when it is cut short; prepared transactions outlive a crash and
//! are committed after it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE};
use pg_query_cache_harness::postgres::error::Error;
use pg_query_cache_harness::postgres::{Client, Config, NoTls};
use pg_query_cache_harness::{Cluster, wait_until};

const READERS: usize = 3;
const WRITERS: usize = 2;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    compared: AtomicU64,
    written: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// The load; ends when it is dropped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Begins.
    pub fn begin(cluster: &Cluster) -> Load {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        for number in 0..READERS + WRITERS {
            let mut config = cluster.config(DATABASE, "postgres");
            config.application_name("load");
            let shared = shared.clone();
            threads.push(thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    let outcome = if number < READERS {
                        read(&config, &shared)
                    } else {
                        write(&config, &shared, number - READERS)
                    };
                    if let Err(error) = outcome
                        && !is_of_the_server(&error)
                    {
                        shared.complain(format!("{error}: {:?}", error.as_db_error()));
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }));
        }
        Load { shared, threads }
    }

    /// Waits until everybody has gone on, and nobody has seen anything wrong.
    pub fn goes_on(&self) -> Result<()> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (compared, written) = (of(&self.shared.compared), of(&self.shared.written));
        wait_until("the load goes on", PATIENCE, || {
            of(&self.shared.compared) > compared + 20 && of(&self.shared.written) > written + 10
        })?;
        self.saw_nothing_wrong()
    }

    /// An error with what was seen, if something was.
    pub fn saw_nothing_wrong(&self) -> Result<()> {
        let wrong = self.shared.wrong.lock().map(|wrong| wrong.join("\n"));
        let wrong = wrong.unwrap_or_default();
        ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    }

    /// Comparisons and writing transactions so far.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.compared.load(Ordering::Relaxed),
            self.shared.written.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn complain(&self, what: String) {
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.push(what);
        }
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// The connection was lost, or the server is going down or coming up.
fn is_of_the_server(error: &Error) -> bool {
    error
        .code()
        .is_none_or(|code| code.code().starts_with("57P"))
}

fn read(config: &Config, shared: &Shared) -> Result<(), Error> {
    let mut client = config.connect(NoTls)?;
    let compare = "
        SELECT concat_ws(', ',
            CASE WHEN total() IS DISTINCT FROM total_cached() THEN 'total' END,
            (SELECT 'balance of ' || string_agg(i::text, ' ') FROM generate_series(1, 101) AS i WHERE balance(i) IS DISTINCT FROM balance_cached(i)),
            (SELECT 'held by ' || string_agg(i::text, ' ') FROM generate_series(0, 10) AS i WHERE held_by(i) IS DISTINCT FROM held_by_cached(i)),
            (SELECT 'twice ' || string_agg(i::text, ' ') FROM generate_series(1, 20) AS i WHERE twice(i) IS DISTINCT FROM twice_cached(i)),
            (SELECT 'block ' || string_agg(i::text, ' ') FROM generate_series(1, 20) AS i WHERE block(i) IS DISTINCT FROM block_cached(i)))";
    while shared.going() {
        for statement in [
            "BEGIN",
            compare,
            "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ",
            compare,
            compare,
            "COMMIT",
        ] {
            if statement == compare {
                let wrong: String = client.query_one(compare, &[])?.get(0);
                if !wrong.is_empty() {
                    shared.complain(wrong);
                }
                shared.compared.fetch_add(1, Ordering::Relaxed);
            } else {
                client.batch_execute(statement)?;
            }
        }
    }
    Ok(())
}

/// A writer has the rows whose id leaves its number divided by two, up to 98.
fn write(config: &Config, shared: &Shared, number: usize) -> Result<(), Error> {
    let mut client = config.connect(NoTls)?;
    let row = |n: u64| 2 * (n % 48) + number as u64 + 1;
    let mut n = 0;
    while shared.going() {
        n += 1;
        let (a, b, c) = (row(n), row(n + 1), row(n + 2));
        let add =
            |row: u64| format!("UPDATE accounts SET balance = balance + {n} WHERE id = {row}");
        let new = 1000 + number;
        let work = match n % 5 {
            0 => add(a),
            1 => format!(
                "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT",
                add(a),
                add(b),
                add(c)
            ),
            2 => format!("BEGIN; {}; ROLLBACK", add(a)),
            3 => format!(
                "INSERT INTO accounts VALUES ({new}, {number}, {n}); UPDATE accounts SET owner = (owner + 1) % 10 WHERE id = {a}; DELETE FROM accounts WHERE id = {new}"
            ),
            _ => format!(
                "BEGIN; {}; {}; PREPARE TRANSACTION 'load {number}'",
                add(a),
                add(b)
            ),
        };
        finish_prepared(&mut client, number)?;
        for statement in work.split("; ") {
            client.batch_execute(statement)?;
        }
        // A row that a crash has left between its INSERT and its DELETE.
        client.batch_execute(&format!("DELETE FROM accounts WHERE id = {new}"))?;
        finish_prepared(&mut client, number)?;
        shared.written.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn finish_prepared(client: &mut Client, number: usize) -> Result<(), Error> {
    let gid = format!("load {number}");
    let there = client.query_opt("SELECT FROM pg_prepared_xacts WHERE gid = $1", &[&gid])?;
    match there {
        Some(_) => client.batch_execute(&format!("COMMIT PREPARED '{gid}'")),
        None => Ok(()),
    }
}
