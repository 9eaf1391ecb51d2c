//! What must never happen, looked for by a superuser while the attackers are at work.
//!
//! The judge also keeps the attack going: it cancels what runs too long, rolls prepared transactions back, and takes back settings of
//! databases and roles by which nobody could log in any more.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use postgres::Client;

use crate::ground::{ATTACKED, BARE};

/// How often the judge looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Rights of roles, who is in whom, and who owns what was there before: nothing of it changes.
const RIGHTS: &str = "
    SELECT format('%s super=%s createrole=%s createdb=%s replication=%s bypassrls=%s', rolname, rolsuper, rolcreaterole, rolcreatedb,
                  rolreplication, rolbypassrls) FROM pg_catalog.pg_roles
    UNION ALL
    SELECT format('%s in %s, %s', member::regrole, roleid::regrole, admin_option) FROM pg_catalog.pg_auth_members
    UNION ALL
    SELECT format('%s %s of %s', c.relkind, c.oid::regclass, c.relowner::regrole) FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'ground'::regnamespace
       OR c.oid IN (SELECT objid FROM pg_catalog.pg_depend WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass)
    UNION ALL
    SELECT format('function %s of %s, definer=%s', p.oid::regprocedure, p.proowner::regrole, p.prosecdef) FROM pg_catalog.pg_proc AS p
    WHERE (p.pronamespace = 'ground'::regnamespace AND p.proowner <> ALL (ARRAY(
              SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname NOT IN ('owner', 'postgres'))))
       OR p.oid IN (SELECT objid FROM pg_catalog.pg_depend WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass)
    ORDER BY 1";

/// What no server may ever say.
const NEVER: [&str; 6] = [
    "PANIC:",
    "TRAP:",
    "was terminated by signal",
    "terminating any other active server processes",
    "Failed process was running",
    "panicked at",
];

/// Looks on at one cluster.
pub struct Judge<'a> {
    cluster: &'a Cluster,
    databases: Vec<(&'static str, Client, Vec<String>)>,
    read: usize,
}

impl<'a> Judge<'a> {
    /// Begins: what is now is what has to stay.
    pub fn begin(cluster: &'a Cluster) -> Result<Self> {
        let mut databases = Vec::new();
        for database in [ATTACKED, BARE] {
            let mut client = cluster.connect(database)?;
            client.batch_execute("SET search_path = pg_catalog")?;
            let rights = rights(&mut client)?;
            databases.push((database, client, rights));
        }
        Ok(Self {
            cluster,
            databases,
            read: 0,
        })
    }

    /// Looks on until the time has come, or something is found.
    pub fn look_on(&mut self, until: Instant) -> Vec<String> {
        while Instant::now() < until {
            std::thread::sleep(PERIOD.min(until.saturating_duration_since(Instant::now())));
            let found = self.look();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// What is wrong now.
    pub fn look(&mut self) -> Vec<String> {
        let mut found = self.read_log();
        for (database, client, before) in &mut self.databases {
            match in_database(client, before) {
                Ok(wrong) => {
                    found.extend(wrong.into_iter().map(|what| format!("{database}: {what}")))
                }
                Err(error) => found.push(format!("{database}: the judge cannot ask: {error:#}")),
            }
        }
        found
    }

    /// Lines of the log since the last time that no server may write.
    fn read_log(&mut self) -> Vec<String> {
        let log = self.cluster.log();
        let new = log.get(self.read..).unwrap_or(&log);
        let found = new
            .lines()
            .filter(|line| NEVER.iter().any(|never| line.contains(never)))
            .map(|line| format!("log: {line}"))
            .take(5)
            .collect();
        self.read = log.len();
        found
    }

    /// What cannot be seen while they are at work: rows whose parent is gone, functions that were put out of the cache by their own
    /// verification.
    pub fn in_the_end(&mut self) -> Result<Vec<String>> {
        let mut found = self.look();
        for (database, client, _) in &mut self.databases {
            let orphans: i64 = client
                .query_one(
                    "SELECT count(*) FROM ground.child AS c WHERE c.p IS NOT NULL AND NOT EXISTS (SELECT FROM ground.parent AS p WHERE p.id = c.p)",
                    &[],
                )?
                .get(0);
            if orphans > 0 {
                found.push(format!("{database}: {orphans} rows without a parent"));
            }
            if *database == ATTACKED {
                let wrong = client.query(
                    "SELECT q::text FROM public.cache_quarantine AS q WHERE q::text ~ 'ground'",
                    &[],
                )?;
                for row in wrong {
                    found.push(format!("in quarantine: {}", row.get::<_, String>(0)));
                }
            }
        }
        Ok(found)
    }
}

fn rights(client: &mut Client) -> Result<Vec<String>> {
    let rows = client.query(RIGHTS, &[]).context("rights")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn in_database(client: &mut Client, before: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let now = rights(client)?;
    // What is new is told; what an attacker has made in `ground` is not there before and belongs to somebody else.
    let new = now.iter().filter(|line| !before.contains(line));
    found.extend(new.take(3).map(|line| format!("new right: {line}")));
    let gone = before.iter().filter(|line| !now.contains(line));
    found.extend(gone.take(3).map(|line| format!("gone: {line}")));
    for row in client.query(
        "SELECT by_whom::text, as_whom::text FROM ground.trapped",
        &[],
    )? {
        let (whose, who): (String, String) = (row.get(0), row.get(1));
        found.push(format!("code of an attacker ({whose}) ran as {who}"));
    }
    keep_going(client)?;
    Ok(found)
}

/// Cancels, rolls back and resets what would bring the attack to a standstill.
fn keep_going(client: &mut Client) -> Result<()> {
    client.execute(
        "SELECT CASE WHEN now() - query_start > interval '20 s' THEN pg_terminate_backend(pid) ELSE pg_cancel_backend(pid) END
         FROM pg_stat_activity
         WHERE usename <> 'postgres' AND datname = current_database() AND backend_type = 'client backend'
           AND (state = 'active' AND now() - query_start > interval '10 s')",
        &[],
    )?;
    let prepared = client.query(
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND now() - prepared > interval '5 s'",
        &[],
    )?;
    for row in prepared {
        let gid: String = row.get(0);
        // Somebody else may have ended it.
        drop(client.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")));
    }
    let roles = client.query(
        "SELECT format('ALTER ROLE %I RESET ALL', rolname) FROM pg_roles WHERE rolconfig IS NOT NULL AND NOT rolsuper
         UNION ALL
         SELECT format('ALTER DATABASE %I RESET ALL', current_database()) FROM pg_db_role_setting
         WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
        &[],
    )?;
    for row in roles {
        drop(client.batch_execute(row.get(0)));
    }
    Ok(())
}
