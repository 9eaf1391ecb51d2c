//! Through PgBouncer in transaction mode: each transaction of a client may run in another session of the server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE, counters, number, quiet, with_accounts};
use pg_query_cache_harness::postgres::{Client, Config, NoTls, SimpleQueryMessage};
use pg_query_cache_harness::{Cluster, wait_until};

/// A running PgBouncer; ends with this value.
struct Pool {
    process: Child,
    folder: PathBuf,
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

const PORT: u16 = 6432;

impl Pool {
    /// Starts PgBouncer before `cluster`, with two server sessions for everybody.
    fn start(cluster: &Cluster) -> Result<Self> {
        let program = [
            "/usr/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
            "/usr/local/bin/pgbouncer",
        ]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .context("pgbouncer is not installed; make setup does that")?;
        // Below the cluster's socket, which is short and belongs to the server's user.
        let folder = cluster.socket_dir().join("pool");
        fs::create_dir_all(&folder)?;
        let owner = fs::metadata(cluster.socket_dir())?;
        let (uid, gid) = (owner.uid(), owner.gid());
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            chown(&path, Some(uid), Some(gid))?;
            Ok(path)
        };
        let users = write("users.txt", "\"postgres\" \"\"\n\"reader\" \"\"\n".into())?;
        let settings = write(
            "pgbouncer.ini",
            format!(
                "[databases]\n{DATABASE} = host={} port={} dbname={DATABASE}\n\
                 [pgbouncer]\nlisten_port = {PORT}\nunix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n\
                 pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n\
                 ignore_startup_parameters = extra_float_digits\nlogfile = {}\n",
                cluster.socket_dir().display(),
                cluster.port(),
                folder.display(),
                users.display(),
                folder.join("log").display(),
            ),
        )?;
        chown(&folder, Some(uid), Some(gid))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        // As the server's user: like PostgreSQL it refuses root.
        let mut command = Command::new(program);
        if uid != fs::metadata("/proc/self")?.uid() {
            // It becomes that user by itself, in this process, so that ending the process ends it.
            command.args(["-u", "postgres"]);
        }
        let process = command
            .arg("-q")
            .arg(&settings)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pool = Self { process, folder };
        wait_until("PgBouncer answers", PATIENCE, || {
            pool.connect("postgres").is_ok()
        })?;
        Ok(pool)
    }

    fn connect(&self, user: &str) -> Result<Client> {
        Ok(Config::new()
            .host_path(&self.folder)
            .port(PORT)
            .user(user)
            .dbname(DATABASE)
            .connect(NoTls)?)
    }
}

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
    let pool = Pool::start(&cluster)?;
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
    let pool = Pool::start(&cluster)?;
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
