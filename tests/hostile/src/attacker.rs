//! One attacking thread: session after session, each of another actor.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use fastrand::Rng;
use pg_query_cache_harness::Cluster;
use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};

use crate::actor::{ACTORS, Actor};
use crate::grammar::Grammar;
use crate::ground::{ATTACKED, CALLS};

/// So many of the last statements of a session are told with a finding.
const REMEMBERED: usize = 60;

/// Internal errors of the server's own code that concurrent definitions provoke without the extension too, by their message.
const SERVERS_OWN: [&str; 9] = [
    "tuple concurrently updated",
    "tuple concurrently deleted",
    "cache lookup failed for ",
    "could not open relation with OID ",
    "could not find tuple for ",
    "unexpected number of ",
    "missing partition key information",
    "attempt to redefine parameter",
    "invalid attribute number ",
];

/// SQLSTATEs by which a call may end although the same call without the cache did not: what both wait for, in one or the other.
const BY_CHANCE: [&str; 7] = [
    "57014", "55P03", "40P01", "40001", "25P02", "54001", "57P01",
];

/// What one thread has done and found.
#[derive(Debug, Default)]
pub struct Record {
    /// Statements sent.
    pub statements: u64,
    /// Of which these succeeded.
    pub succeeded: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Calls compared with the function's own answer.
    pub compared: u64,
    /// SQLSTATEs met, and how often.
    pub states: BTreeMap<String, u64>,
    /// Templates sent, and how often each succeeded.
    pub templates: BTreeMap<usize, u64>,
    /// What was found.
    pub findings: Vec<String>,
}

/// An attacking thread.
pub struct Attacker {
    cluster: Arc<Cluster>,
    grammar: Arc<Grammar>,
    database: &'static str,
    rng: Rng,
    said: VecDeque<String>,
    /// The client may take an answer for that to another statement.
    out_of_step: bool,
    record: Record,
}

impl Attacker {
    /// The thread `number`, in a database.
    pub fn new(
        cluster: Arc<Cluster>,
        grammar: Arc<Grammar>,
        database: &'static str,
        seed: u64,
    ) -> Self {
        Self {
            cluster,
            grammar,
            database,
            rng: Rng::with_seed(seed),
            said: VecDeque::new(),
            out_of_step: false,
            record: Record::default(),
        }
    }

    /// Attacks until the time has come.
    pub fn attack(mut self, until: Instant) -> Record {
        while Instant::now() < until && self.record.findings.len() < 20 {
            let actor = ACTORS[self.rng.usize(..ACTORS.len())];
            self.said.clear();
            self.out_of_step = false;
            self.said
                .push_back(format!("-- as {} in {}", actor.login, self.database));
            // Who comes in vain (the role's own settings may keep it out) comes again.
            if let Ok(mut client) = self.cluster.connect_as(self.database, actor.login) {
                self.record.sessions += 1;
                self.session(&mut client, &actor, until);
            }
        }
        self.record
    }

    fn session(&mut self, client: &mut Client, actor: &Actor, until: Instant) {
        if !actor.first.is_empty() {
            self.send(client, None, actor.first);
        }
        for step in 0..self.rng.u32(20..120) {
            if client.is_closed() || self.out_of_step || Instant::now() >= until {
                return;
            }
            let (template, sql) = self.grammar.statement(&mut self.rng, actor);
            self.send(client, Some(template), &sql);
            if step % 8 == 7 && self.database == ATTACKED && !self.out_of_step {
                self.compare(client);
            }
        }
        if self.database == ATTACKED && !client.is_closed() && !self.out_of_step {
            self.send(client, None, "ROLLBACK");
            self.compare(client);
        }
    }

    /// Sends a statement and looks at what comes of it.
    fn send(&mut self, client: &mut Client, template: Option<usize>, sql: &str) {
        if self.said.len() == REMEMBERED {
            self.said.remove(1);
        }
        self.said.push_back(sql.to_owned());
        self.record.statements += 1;
        let outcome = execute(client, &mut self.rng, sql);
        match &outcome {
            Ok(()) => {
                self.record.succeeded += 1;
                if let Some(template) = template {
                    *self.record.templates.entry(template).or_default() += 1;
                }
            }
            Err(error) => {
                // A COPY that ends before the server has asked for rows leaves the client one answer behind.
                self.out_of_step = sql.starts_with("COPY");
                if let Some(error) = error.as_db_error() {
                    self.judge_error(error);
                }
            }
        }
    }

    /// An internal error is a bug: of ours, if our code raised it or if the server's own code does not raise it by itself.
    fn judge_error(&mut self, error: &DbError) {
        let state = error.code().code();
        *self.record.states.entry(state.to_owned()).or_default() += 1;
        let ours = error.file().is_some_and(|file| file.ends_with(".rs"));
        let known = SERVERS_OWN
            .iter()
            .any(|known| error.message().starts_with(known));
        if state.starts_with("XX") && (ours || !known) {
            self.found(&format!(
                "{state} {} ({}:{})",
                error.message(),
                error.file().unwrap_or_default(),
                error.line().unwrap_or_default()
            ));
        }
    }

    /// The functions of somebody else give the same with the cache and without, in one statement, and the session can call them.
    fn compare(&mut self, client: &mut Client) {
        for call in CALLS {
            let (plain, cached) = (call.replace("{}", ""), call.replace("{}", "_cached"));
            let list = |call: &str| format!("ARRAY(SELECT x::pg_catalog.text FROM {call} AS x)");
            let both = format!("SELECT {}, {}", list(&plain), list(&cached));
            match rows(client, &both) {
                Ok(row) => {
                    self.record.compared += 1;
                    if row.first() != row.get(1) {
                        self.found(&format!(
                            "{cached} is {:?} where the function says {:?}",
                            row.get(1),
                            row.first()
                        ));
                    }
                }
                Err(error) => {
                    let Some(error) = error.as_db_error().cloned() else {
                        return;
                    };
                    self.judge_error(&error);
                    if error.code().code() == "25P02" {
                        self.send(client, None, "ROLLBACK");
                        continue;
                    }
                    self.judge_refusal(client, &plain, &cached, &error);
                }
            }
            if client.is_closed() {
                return;
            }
        }
    }

    /// A call failed. The function fails in the same way, or the cached one has taken something away.
    fn judge_refusal(&mut self, client: &mut Client, plain: &str, cached: &str, error: &DbError) {
        if BY_CHANCE.contains(&error.code().code()) || error.code().code().starts_with("53") {
            return;
        }
        let mut ask = |call: &str| {
            // Inside a transaction that failed nothing can be asked.
            drop(client.batch_execute("ROLLBACK"));
            rows(
                client,
                &format!("SELECT x::pg_catalog.text FROM {call} AS x"),
            )
            .map(drop)
            .map_err(|error| error.code().map(|code| code.code().to_owned()))
        };
        let answers = [ask(plain), ask(cached), ask(plain)];
        if let [Ok(()), Err(Some(state)), Ok(())] = &answers
            && !BY_CHANCE.contains(&state.as_str())
        {
            self.found(&format!("{cached} fails where {plain} does not: {error}"));
        }
    }

    fn found(&mut self, what: &str) {
        let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
        self.record
            .findings
            .push(format!("{what}\n    {}", said.join(";\n    ")));
    }
}

/// The columns of the first row, as text.
fn rows(client: &mut Client, sql: &str) -> Result<Vec<Option<String>>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    Ok(messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).map(ToOwned::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .unwrap_or_default())
}

/// Runs a statement; COPY with its data.
fn execute(client: &mut Client, rng: &mut Rng, sql: &str) -> Result<(), postgres::Error> {
    if sql.starts_with("COPY") && sql.ends_with("FROM STDIN") {
        let mut copy = client.copy_in(sql)?;
        for _ in 0..rng.u8(1..5) {
            let line = format!("{}\t{}\n", rng.i32(0..30), rng.i32(1..22));
            if copy.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        return copy.finish().map(drop);
    }
    if sql.starts_with("COPY") && sql.ends_with("TO STDOUT") {
        let mut text = Vec::new();
        // What the server says instead is asked for again by the next statement.
        drop(client.copy_out(sql)?.read_to_end(&mut text));
        return Ok(());
    }
    client.simple_query(sql).map(drop)
}
