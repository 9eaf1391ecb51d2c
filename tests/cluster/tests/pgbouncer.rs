//! Behind PgBouncer in transaction mode: sessions of the server change hands after each transaction, so nothing of one client may
//! stick to the next, and each still gets its hits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE, counters, quiet, with_extension};
use pg_query_cache_harness::postgres::{Client, NoTls, SimpleQueryMessage};
use pg_query_cache_harness::{Cluster, wait_until};

/// Sessions of the server for all clients together.
const SESSIONS: usize = 2;
const CLIENTS: usize = 6;
const ROUNDS: usize = 200;
const PORT: u16 = 6543;

/// What each tenant may see of `bills` is decided by its claims, as PostgREST sets them.
const SUBJECT: &str = "
    CREATE ROLE tenant;
    CREATE TABLE bills (tenant integer, amount bigint);
    INSERT INTO bills SELECT i % 6, i FROM generate_series(1, 600) AS i;
    ALTER TABLE bills ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON bills TO tenant
        USING (tenant = (current_setting('request.jwt.claims', true)::jsonb ->> 'tenant')::integer);
    GRANT SELECT, UPDATE ON bills TO tenant;
    CREATE FUNCTION owed() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(amount)::bigint FROM bills';
    SELECT cache_track_table('bills'), cache_function('owed()');";

struct Bouncer {
    child: Child,
    folder: PathBuf,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts PgBouncer before the cluster. It listens in a folder of its own.
fn bouncer(cluster: &Cluster) -> Result<Bouncer> {
    let folder = cluster.socket_dir().join("bouncer");
    fs::create_dir_all(&folder)?;
    let settings = folder.join("pgbouncer.ini");
    fs::write(
        &settings,
        format!(
            "[databases]\n{DATABASE} = user=postgres host={} port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 100\n",
            cluster.socket_dir().display(),
            cluster.port(),
            folder.display(),
        ),
    )?;
    // It refuses to run as root, and drops to a user that is named.
    let mut command = Command::new("pgbouncer");
    let root = Command::new("id")
        .arg("-u")
        .output()?
        .stdout
        .starts_with(b"0\n");
    if root {
        ensure!(
            Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(&folder)
                .status()?
                .success()
        );
        command.args(["-u", "postgres"]);
    }
    let child = command
        .arg(&settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("pgbouncer is not installed")?;
    let bouncer = Bouncer { child, folder };
    wait_until("PgBouncer to listen", PATIENCE, || client(&bouncer).is_ok())?;
    Ok(bouncer)
}

fn client(bouncer: &Bouncer) -> Result<Client> {
    Ok(Client::configure()
        .host_path(&bouncer.folder)
        .port(PORT)
        .user("postgres")
        .dbname(DATABASE)
        .connect(NoTls)?)
}

/// The first column of each row that a simple query returns.
fn ask(client: &mut Client, sql: &str) -> Result<Vec<Option<String>>> {
    let rows = client
        .simple_query(sql)?
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(row.len() - 1).map(str::to_owned)),
            _ => None,
        });
    Ok(rows.collect())
}

/// One request of a tenant, as PostgREST makes it: a read-only transaction with role and claims, and now and then a write.
fn requests(bouncer: &Bouncer, tenant: usize) -> Result<()> {
    let mut client = client(bouncer)?;
    for round in 0..ROUNDS {
        let who = format!(
            "SET LOCAL ROLE tenant; SELECT set_config('request.jwt.claims', '{{\"tenant\": {tenant}}}', true), NULL;"
        );
        let answer = ask(
            &mut client,
            &format!("BEGIN READ ONLY; {who} SELECT (owed() = owed_cached())::text; COMMIT"),
        )?;
        ensure!(
            answer
                .last()
                .is_some_and(|last| last.as_deref().is_some_and(|text| text == "true")),
            "tenant {tenant}, round {round}: {answer:?}"
        );
        if round % 20 == tenant {
            ask(
                &mut client,
                &format!(
                    "BEGIN; {who} UPDATE bills SET amount = amount + 1 WHERE amount % 100 = {tenant}; COMMIT"
                ),
            )?;
        }
    }
    Ok(())
}

#[test]
fn behind_pgbouncer_in_transaction_mode() -> Result<()> {
    let cluster = with_extension(quiet("pgbouncer"))?;
    let mut direct = cluster.connect(DATABASE)?;
    direct.batch_execute(SUBJECT)?;
    let bouncer = bouncer(&cluster)?;
    thread::scope(|scope| -> Result<()> {
        let tenants: Vec<_> = (0..CLIENTS)
            .map(|tenant| {
                scope.spawn({
                    let bouncer = &bouncer;
                    move || requests(bouncer, tenant)
                })
            })
            .collect();
        for tenant in tenants {
            tenant.join().unwrap()?;
        }
        Ok(())
    })?;
    let counts = counters(&mut direct, "owed_cached")?;
    ensure!(counts.hits > (CLIENTS * ROUNDS) as i64 / 2, "{counts:?}");
    let sessions: i64 = direct
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
            &[],
        )?
        .get(0);
    ensure!(
        sessions <= SESSIONS as i64 + 1,
        "{sessions} sessions: it did not pool"
    );
    Ok(())
}
