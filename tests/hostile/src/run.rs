//! A run: the ground is made, threads attack, a judge looks on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pg_query_cache_harness::Cluster;

use crate::attacker::{Attacker, Record};
use crate::grammar::{Grammar, Vocabulary};
use crate::ground::{self, ATTACKED, BARE};
use crate::judge::Judge;
use crate::options::Options;

/// What a run has done and found.
#[derive(Debug, Default)]
pub struct Report {
    /// Where it all came from.
    pub seed: u64,
    /// What the threads did, added up.
    pub record: Record,
    /// How many kinds of statements there are.
    pub templates: usize,
    /// Hits of cached functions.
    pub hits: i64,
    /// What was found, by the threads and by the judge.
    pub findings: Vec<String>,
}

/// Lets the attackers at a new cluster.
pub fn run(options: &Options) -> Result<Report> {
    let cluster = Cluster::builder("hostile")
        .setting("pg_query_cache.memory", "4MB")
        .setting("pg_query_cache.flush_interval", "1s")
        .setting("pg_query_cache.cleanup_interval", "2s")
        .setting("pg_query_cache.fill_wait", "1s")
        .setting("pg_query_cache.verify_sample_rate", "0.05")
        .setting("max_prepared_transactions", "20")
        .setting("max_connections", "60")
        .setting("autovacuum_naptime", "1s")
        .setting("log_error_verbosity", "verbose")
        .build()?;
    ground::prepare(&cluster)?;
    let grammar = Arc::new(Grammar::new(vocabulary(&cluster)?));
    let mut report = Report {
        seed: options.seed,
        templates: grammar.len(),
        ..Report::default()
    };
    let cluster = Arc::new(cluster);
    let mut judge = Judge::begin(&cluster)?;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let threads: Vec<_> = (0..options.attackers + options.elsewhere)
        .map(|number| {
            let database = if number < options.attackers {
                ATTACKED
            } else {
                BARE
            };
            let seed = options.seed.wrapping_mul(1000).wrapping_add(number);
            let attacker = Attacker::new(cluster.clone(), grammar.clone(), database, seed);
            thread::spawn(move || attacker.attack(until))
        })
        .collect();
    let mut findings = judge.look_on(until);
    for thread in threads {
        let record = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        report.record.add(record);
    }
    findings.append(&mut report.record.findings);
    // A server that does not stand any more cannot be asked: what is known is told.
    match judge.in_the_end() {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(format!("in the end: {error:#}")),
    }
    match hits(&cluster) {
        Ok(hits) => report.hits = hits,
        Err(error) => findings.push(format!("in the end: {error:#}")),
    }
    report.findings = findings;
    if !report.findings.is_empty() {
        cluster.keep();
    }
    Ok(report)
}

fn hits(cluster: &Cluster) -> Result<i64> {
    let row = cluster
        .connect(ATTACKED)?
        .query_one("SELECT hits FROM public.cache_stats()", &[])?;
    Ok(row.get(0))
}

fn vocabulary(cluster: &Cluster) -> Result<Vocabulary> {
    let mut client = cluster.connect(ATTACKED)?;
    let settings = client.query("SELECT name FROM pg_settings", &[])?;
    let functions = client.query(
        "SELECT format('%I.%I', n.nspname, p.proname), ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
         FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
         JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
         WHERE e.extname = 'pg_query_cache' AND p.prorettype NOT IN ('trigger'::regtype, 'language_handler'::regtype)
         ORDER BY 1, 2",
        &[],
    )?;
    Ok(Vocabulary {
        settings: settings.iter().map(|row| row.get(0)).collect(),
        functions: functions
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    })
}

impl Record {
    fn add(&mut self, other: Record) {
        self.statements += other.statements;
        self.succeeded += other.succeeded;
        self.sessions += other.sessions;
        self.compared += other.compared;
        add_up(&mut self.states, other.states);
        add_up(&mut self.templates, other.templates);
        self.findings.extend(other.findings);
    }
}

fn add_up<K: Ord>(sums: &mut BTreeMap<K, u64>, others: BTreeMap<K, u64>) {
    for (key, count) in others {
        *sums.entry(key).or_default() += count;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = &self.record;
        writeln!(
            f,
            "seed {}: {} statements in {} sessions, {} succeeded, by {} of {} templates; {} calls compared, {} hits",
            self.seed,
            record.statements,
            record.sessions,
            record.succeeded,
            record.templates.len(),
            self.templates,
            record.compared,
            self.hits
        )?;
        let states: Vec<String> = record
            .states
            .iter()
            .map(|(state, count)| format!("{state} {count}"))
            .collect();
        writeln!(f, "errors: {}", states.join(", "))?;
        for finding in &self.findings {
            writeln!(f, "FOUND {finding}")?;
        }
        Ok(())
    }
}
