//! What a run found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::options::Options;
use crate::subject::PERSONAL;

/// A violated invariant.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Which invariant.
    pub invariant: &'static str,
    /// The function.
    pub subject: &'static str,
    /// The key.
    pub key: i32,
    /// The session that saw it, and what it was doing.
    pub session: String,
    /// The statement.
    pub statement: String,
    /// The function's own answer.
    pub bare: Option<String>,
    /// The cached answer.
    pub cached: Option<String>,
    /// What was found out afterwards.
    pub remark: String,
}

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which cache was asked.
    pub cache: String,
    /// What all sequences came from.
    pub seed: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Cached answers compared with the functions' own.
    pub comparisons: u64,
    /// As many were wanted.
    pub min_comparisons: u64,
    /// Answers out of the cache, as it says itself.
    pub hits: u64,
    /// Computed and stored, as the cache says itself.
    pub misses: u64,
    /// Answered by the function on purpose, as the cache says itself.
    pub bypasses: u64,
    /// Hits that the cache has verified by itself.
    pub verified: u64,
    /// What it found wrong: right or not, there must be nothing.
    pub alarms: Vec<String>,
    /// Hits per comparison.
    pub hit_rate: f64,
    /// Comparisons by readers' mode, and by writers of their own writes.
    pub by_mode: BTreeMap<String, u64>,
    /// Transactions that readers, writers tried.
    pub transactions: (u64, u64),
    /// Restarts of the server, in words.
    pub restarts: Vec<String>,
    /// Answers compared with an earlier one in the same snapshot.
    pub repeated: u64,
    /// Versions compared with an acknowledged one.
    pub acknowledged: u64,
    /// Violations in number.
    pub differences: u64,
    /// The number of violations by invariant.
    pub by_invariant: BTreeMap<String, u64>,
    /// The number of violations by function.
    pub by_subject: BTreeMap<String, u64>,
    /// The first violations.
    pub examples: Vec<Difference>,
    /// Committed transactions by kind of write.
    pub committed: BTreeMap<String, u64>,
    /// Kinds of write that were never committed, without those left out.
    pub never_committed: Vec<String>,
    /// Errors by session kind and SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    /// Deadlocks that readers, writers died of.
    pub deadlocks: (u64, u64),
    /// Those not explained by the rows that the writers themselves write: the cache's doing.
    pub foreign_deadlocks: u64,
    /// The first deadlocks, as the server tells them; the unexplained ones before all.
    pub deadlock_stories: Vec<String>,
    /// Serialization failures of readers, writers.
    pub serialization_failures: (u64, u64),
    /// Lock timeouts of readers, writers.
    pub lock_timeouts: (u64, u64),
    /// Errors that have no place here, in number.
    pub unexpected_errors: u64,
    /// The first of them.
    pub unexpected: Vec<String>,
    /// Times that a writer (not DDL) was seen waiting for a reader's lock.
    pub writers_waiting_for_readers: u64,
    /// Examples of it.
    pub waits: Vec<String>,
    /// Signs of a crash in the server's log.
    pub crashes: Vec<String>,
}

impl Report {
    /// Everything that was wrong, in words; empty if the run passes.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |wrong: bool, text: String| {
            if wrong {
                failures.push(text);
            }
        };
        fail(
            self.differences > 0,
            format!("{} answers were wrong", self.differences),
        );
        fail(
            self.unexpected_errors > 0,
            format!("{} unexpected errors", self.unexpected_errors),
        );
        fail(!self.crashes.is_empty(), "the server crashed".to_owned());
        fail(
            !self.alarms.is_empty(),
            format!("the cache found itself wrong {} times", self.alarms.len()),
        );
        fail(
            self.comparisons < self.min_comparisons,
            format!(
                "only {} of {} comparisons",
                self.comparisons, self.min_comparisons
            ),
        );
        fail(
            self.writers_waiting_for_readers > 0,
            format!(
                "writers waited for readers {} times",
                self.writers_waiting_for_readers
            ),
        );
        fail(
            self.foreign_deadlocks > 0,
            format!(
                "{} deadlocks over other things than the writers' own rows",
                self.foreign_deadlocks
            ),
        );
        failures
    }

    /// The violations that have nothing to do with who asks: stale answers.
    pub fn stale(&self) -> u64 {
        let others = self.by_subject.iter();
        let others = others.filter(|(subject, _)| !PERSONAL.contains(&subject.as_str()));
        others.map(|(_, count)| count).sum()
    }

    /// What the options say about it.
    pub(crate) fn about(options: &Options) -> Self {
        Self {
            cache: options.cache.to_string(),
            seed: options.seed,
            min_comparisons: options.min_comparisons,
            ..Self::default()
        }
    }
}

fn list<K: fmt::Display>(map: &BTreeMap<K, u64>) -> String {
    let items: Vec<String> = map
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = if self.seconds > 0.0 {
            self.comparisons as f64 / self.seconds
        } else {
            0.0
        };
        writeln!(
            f,
            "cache            {} (seed {}, {:.1} s)",
            self.cache, self.seed, self.seconds
        )?;
        writeln!(
            f,
            "comparisons      {} ({per_second:.0}/s)",
            self.comparisons
        )?;
        writeln!(f, "  by mode        {}", list(&self.by_mode))?;
        writeln!(
            f,
            "  hits           {} ({:.1} %)",
            self.hits,
            100.0 * self.hit_rate
        )?;
        writeln!(
            f,
            "  misses         {}, bypasses {}",
            self.misses, self.bypasses
        )?;
        if self.verified > 0 {
            writeln!(f, "  verified       {} by itself", self.verified)?;
        }
        writeln!(f, "  repeated       {} in the same snapshot", self.repeated)?;
        writeln!(f, "  acknowledged   {} versions", self.acknowledged)?;
        writeln!(f, "differences      {}", self.differences)?;
        if self.differences > 0 {
            writeln!(f, "  by invariant   {}", list(&self.by_invariant))?;
            writeln!(f, "  by function    {}", list(&self.by_subject))?;
        }
        writeln!(
            f,
            "transactions     readers {}, writers {}",
            self.transactions.0, self.transactions.1
        )?;
        for restart in &self.restarts {
            writeln!(f, "  restarted      {restart}")?;
        }
        writeln!(f, "committed        {}", list(&self.committed))?;
        if !self.never_committed.is_empty() {
            writeln!(f, "  never          {}", self.never_committed.join(", "))?;
        }
        writeln!(f, "errors           {}", list(&self.errors))?;
        writeln!(
            f,
            "  deadlocks      readers {}, writers {}; not over the writers' own rows {}",
            self.deadlocks.0, self.deadlocks.1, self.foreign_deadlocks
        )?;
        let (readers, writers) = self.serialization_failures;
        writeln!(f, "  serialization  readers {readers}, writers {writers}")?;
        writeln!(
            f,
            "  lock timeouts  readers {}, writers {}",
            self.lock_timeouts.0, self.lock_timeouts.1
        )?;
        writeln!(f, "  unexpected     {}", self.unexpected_errors)?;
        writeln!(
            f,
            "writers waiting for readers: {}",
            self.writers_waiting_for_readers
        )?;
        for text in self
            .deadlock_stories
            .iter()
            .chain(&self.unexpected)
            .chain(&self.waits)
            .chain(&self.crashes)
            .chain(&self.alarms)
        {
            writeln!(f, "  {text}")?;
        }
        for difference in &self.examples {
            writeln!(
                f,
                "\n{}: {}({}) in {}, seed {}\n  {}\n  function {}\n  cached   {}\n  {}",
                difference.invariant,
                difference.subject,
                difference.key,
                difference.session,
                self.seed,
                difference.statement,
                difference.bare.as_deref().unwrap_or("NULL"),
                difference.cached.as_deref().unwrap_or("NULL"),
                difference.remark,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_faults_passes() {
        let report = Report {
            comparisons: 10,
            min_comparisons: 10,
            ..Report::default()
        };
        assert!(report.failures().is_empty());
    }

    #[test]
    fn each_fault_is_named() {
        let report = Report {
            differences: 1,
            unexpected_errors: 1,
            min_comparisons: 1,
            writers_waiting_for_readers: 1,
            crashes: vec!["PANIC".to_owned()],
            foreign_deadlocks: 1,
            ..Report::default()
        };
        assert_eq!(report.failures().len(), 6);
    }
}
