//! A server with the cache and one without, with the same sessions on both.

use anyhow::{Context, Result};
use pg_query_cache_harness::{Cluster, Mode};
use postgres::{Client, NoTls, SimpleQueryMessage};

/// The database of the scripts.
pub const DATABASE: &str = "postgres";

/// How long a session waits for a lock. It waits in vain, since nobody else does anything meanwhile.
const LOCK_TIMEOUT: &str = "100ms";

/// What a statement brought: rows as text, or an SQLSTATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows of the last statement that has some.
    Rows(Vec<String>),
    /// An error.
    Error(String),
    /// The session is gone.
    Gone(String),
}

impl Outcome {
    /// The SQLSTATE of an error, or nothing.
    pub fn state(&self) -> &str {
        match self {
            Self::Error(state) => state,
            Self::Rows(_) | Self::Gone(_) => "",
        }
    }
}

/// One of the two servers.
pub struct Server {
    cluster: Cluster,
    /// It has the cache.
    pub cached: bool,
    sessions: Vec<Client>,
}

impl Server {
    /// A new server.
    pub fn new(name: &str, cached: bool) -> Result<Self> {
        let mut builder = Cluster::builder(name)
            .preload(cached)
            .setting("max_prepared_transactions", "10")
            .setting("max_connections", "30")
            .setting("shared_buffers", "16MB")
            .setting("autovacuum", "off")
            .setting("deadlock_timeout", "1s");
        if cached {
            builder = builder
                .setting("pg_query_cache.memory", "8MB")
                .setting("pg_query_cache.auto_track", "off")
                .setting("pg_query_cache.flush_interval", "0")
                .setting("pg_query_cache.cleanup_interval", "0")
                // No function rests because a machine is slow: all are worth it.
                .setting("pg_query_cache.assumed_hit", "500")
                .setting("pg_query_cache.assumed_run", "1000000");
        }
        let server = Self {
            cluster: builder.build()?,
            cached,
            sessions: Vec::new(),
        };
        if cached {
            server
                .admin()?
                .batch_execute("CREATE EXTENSION pg_query_cache")?;
        }
        Ok(server)
    }

    /// A session that is none of the script's.
    pub fn admin(&self) -> Result<Client> {
        self.cluster.connect(DATABASE)
    }

    /// A text for this server: with the names of cached functions, or of the functions themselves.
    pub fn text(&self, text: &str) -> String {
        text.replace("{}", if self.cached { "_cached" } else { "" })
    }

    /// A new session of a script.
    pub fn session(&self) -> Result<Client> {
        let mut config = self.cluster.config(DATABASE, "postgres");
        config.options(&format!("-c lock_timeout={LOCK_TIMEOUT}"));
        config.connect(NoTls).context("cannot connect")
    }

    /// Ends all sessions, removes what the last script has left, and makes a world; the error of a statement that failed.
    pub fn begin(&mut self, world: &[String], sessions: usize) -> Result<Result<(), String>> {
        self.sessions.clear();
        let mut admin = self.admin()?;
        for row in admin.query("SELECT gid FROM pg_prepared_xacts", &[])? {
            let gid: String = row.get(0);
            admin.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))?;
        }
        admin.batch_execute(
            "SET client_min_messages = error;
             SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();
             DROP SCHEMA IF EXISTS one, two CASCADE; DROP PUBLICATION IF EXISTS pub; CREATE SCHEMA one; CREATE SCHEMA two;
             SET check_function_bodies = off; SET search_path = one, public",
        )?;
        for line in world {
            let line = match line.strip_prefix('@') {
                Some(_) if !self.cached => continue,
                Some(here) => here.to_owned(),
                None => self.text(line),
            };
            if let Err(error) = admin.batch_execute(&line) {
                return Ok(Err(format!("{line}: {error:?}")));
            }
        }
        self.sessions = (0..sessions)
            .map(|_| self.session())
            .collect::<Result<_>>()?;
        Ok(Ok(()))
    }

    /// Stops it like a crash, starts it again, and begins the sessions again.
    pub fn crash(&mut self) -> Result<()> {
        let sessions = self.sessions.len();
        self.sessions.clear();
        self.cluster.restart(Mode::Immediate)?;
        self.sessions = (0..sessions)
            .map(|_| self.session())
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// What a session gets for a text.
    pub fn say(&mut self, session: usize, text: &str) -> Outcome {
        execute(&mut self.sessions[session], text)
    }

    /// What a new session gets that has the settings of another one; nothing if that one has more than settings of its own: a
    /// transaction, or temporary objects.
    pub fn asked_anew(&mut self, session: usize, text: &str) -> Option<Outcome> {
        let no_transaction = Outcome::Error("25P01".to_owned());
        let no = Outcome::Rows(vec!["f".to_owned()]);
        if self.say(session, "SAVEPOINT asked_anew") != no_transaction
            || self.say(session, "SELECT pg_my_temp_schema() <> 0") != no
        {
            return None;
        }
        let settings = self.settings_of(session);
        let mut client = self.session_with(&settings).ok()?;
        Some(execute(&mut client, text))
    }

    /// What makes another session's settings those of a session that is in no failed transaction.
    pub fn settings_of(&mut self, session: usize) -> Vec<String> {
        let settings = "SELECT format('SELECT pg_catalog.set_config(%L, %L, false)', name, setting) FROM pg_catalog.pg_settings
                        WHERE source = 'session' AND name NOT LIKE 'transaction%' ORDER BY name";
        match self.say(session, settings) {
            Outcome::Rows(settings) => settings,
            Outcome::Error(_) | Outcome::Gone(_) => Vec::new(),
        }
    }

    /// A new session with settings.
    pub fn session_with(&self, settings: &[String]) -> Result<Client> {
        let mut client = self.session()?;
        for setting in settings {
            execute(&mut client, setting);
        }
        Ok(client)
    }

    /// Hits so far.
    pub fn hits(&self) -> Result<i64> {
        let row = self
            .admin()?
            .query_one("SELECT hits FROM public.cache_stats()", &[])?;
        Ok(row.get(0))
    }

    /// Lines of the log that no server may write.
    pub fn alarms(&self) -> Vec<String> {
        let never = ["PANIC:", "TRAP:", "was terminated by signal", "panicked at"];
        self.cluster
            .log()
            .lines()
            .filter(|line| never.iter().any(|never| line.contains(never)))
            .map(str::to_owned)
            .collect()
    }

    /// Leaves the files where they are.
    pub fn keep(&self) {
        self.cluster.keep();
    }
}

/// What a session gets for a text.
pub fn execute(client: &mut Client, text: &str) -> Outcome {
    match client.simple_query(text) {
        Ok(messages) => Outcome::Rows(
            messages
                .iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        let columns: Vec<&str> = (0..row.len())
                            .map(|column| row.get(column).unwrap_or("NULL"))
                            .collect();
                        Some(columns.join(" | "))
                    }
                    _ => None,
                })
                .collect(),
        ),
        Err(error) => match error.code() {
            Some(_) if client.is_closed() => Outcome::Gone(format!("{error:?}")),
            Some(state) => Outcome::Error(state.code().to_owned()),
            None => Outcome::Gone(format!("{error:?}")),
        },
    }
}
