//! Counted instructions: a server under `valgrind --tool=callgrind`, which writes a profile of each session when it ends.
//!
//! Only what a session executes in user space from `PostgresMain` on is counted, not the kernel's part. What a session costs to begin
//! with is taken away by comparing two that differ only in how often they do the same.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pg_query_cache_harness::{Cluster, Mode, wait_until};

use crate::service;

/// How long a session may take to write its profile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster whose server runs under callgrind. Ends with this value.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    cluster: &'a Cluster,
    valgrind: Child,
    folder: PathBuf,
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        // The cluster is stopped at once by its own end if this fails.
        if self.cluster.stop(Mode::Fast).is_err() {
            drop(self.cluster.stop(Mode::Immediate));
        }
        drop(self.valgrind.wait());
    }
}

/// Instructions by function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// All of them.
    pub(crate) total: u64,
    /// By the functions that executed them.
    pub(crate) own: HashMap<String, u64>,
    /// By function with all that it calls. Recursive ones count themselves more than once.
    pub(crate) inclusive: HashMap<String, u64>,
}

impl<'a> Observed<'a> {
    /// Starts the server of a cluster that is down; nothing if there is no valgrind.
    pub(crate) fn start(cluster: &'a Cluster) -> Result<Option<Self>> {
        let Some(program) = service::program("valgrind") else {
            return Ok(None);
        };
        let data = cluster.data_dir();
        let folder = data
            .parent()
            .context("the data folder is in none")?
            .to_owned();
        let log = fs::File::create(folder.join("valgrind.log"))?;
        let valgrind = cluster
            .as_server(&program)
            .args(["--tool=callgrind", "--toggle-collect=PostgresMain"])
            .arg(format!(
                "--callgrind-out-file={}",
                profile_of(&folder, "%p").display()
            ))
            .arg(cluster.installation().bindir().join("postgres"))
            .arg("-D")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run valgrind")?;
        let observed = Observed {
            cluster,
            valgrind,
            folder,
        };
        cluster.wait_ready().with_context(|| {
            fs::read_to_string(observed.folder.join("valgrind.log")).unwrap_or_default()
        })?;
        Ok(Some(observed))
    }

    /// What the session of this process has executed, which has ended or is about to.
    pub(crate) fn profile(&self, pid: u32) -> Result<Profile> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        wait_until("the session ends", PATIENCE, || !process.exists())?;
        let path = profile_of(&self.folder, &pid.to_string());
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        parse(&text).with_context(|| path.display().to_string())
    }
}

fn profile_of(folder: &Path, process: &str) -> PathBuf {
    folder.join(format!("callgrind.{process}"))
}

/// Reads callgrind's format. Of each function's lines those after `calls=` say what was executed in the function it called.
fn parse(text: &str) -> Result<Profile> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut profile = Profile::default();
    let mut function = "";
    let mut called = false;
    for line in text.lines() {
        if let Some(rest) = line
            .strip_prefix("fn=")
            .or_else(|| line.strip_prefix("cfn="))
        {
            // "(12) name" at the first mention, "(12)" from then on.
            let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            if line.starts_with("fn=") {
                function = names.get(id).copied().unwrap_or(id);
            }
        } else if line.starts_with("calls=") {
            called = true;
        } else if let Some(rest) = line.strip_prefix("summary: ") {
            profile.total = rest.trim().parse()?;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let Some(cost) = line.split(' ').nth(1) else {
                bail!("no cost in \"{line}\"");
            };
            let cost: u64 = cost.parse()?;
            *profile.inclusive.entry(function.to_owned()).or_default() += cost;
            if !called {
                *profile.own.entry(function.to_owned()).or_default() += cost;
            }
            called = false;
        }
    }
    Ok(profile)
}

/// What one time costs, if the second profile is of so many times more.
pub(crate) struct Each<'a> {
    /// Of fewer times.
    pub(crate) fewer: &'a Profile,
    /// Of more.
    pub(crate) more: &'a Profile,
    /// How many more.
    pub(crate) times: f64,
}

impl Each<'_> {
    /// All instructions.
    pub(crate) fn total(&self) -> f64 {
        (self.more.total as f64 - self.fewer.total as f64) / self.times
    }

    /// Those of a function with all that it calls.
    pub(crate) fn inclusive(&self, function: &str) -> f64 {
        self.difference(|profile| profile.inclusive.get(function))
    }

    /// By the functions that execute them.
    pub(crate) fn own(&self) -> HashMap<String, f64> {
        let names = self.more.own.keys();
        let own = |name: &String| self.difference(|profile| profile.own.get(name));
        names.map(|name| (name.clone(), own(name))).collect()
    }

    fn difference(&self, of: impl Fn(&Profile) -> Option<&u64>) -> f64 {
        let count = |profile| of(profile).copied().unwrap_or(0) as f64;
        (count(self.more) - count(self.fewer)) / self.times
    }
}

/// The functions in which the second executes most more than the first, most first.
pub(crate) fn most_more(
    first: &HashMap<String, f64>,
    second: &HashMap<String, f64>,
    count: usize,
) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = second
        .iter()
        .map(|(name, own)| (name.clone(), own - first.get(name).unwrap_or(&0.0)))
        .collect();
    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# callgrind format
positions: line
events: Ir
summary: 100

ob=(1) /lib/one.so
fl=(1) ???
fn=(7) outer
0 10
cob=(2) ???
cfn=(8) inner
calls=3 0
+1 60
* 5

fn=(8)
0 60
-2 25
";

    #[test]
    fn callers_have_what_they_call_and_what_they_do_themselves() {
        let profile = parse(TEXT).unwrap();
        assert_eq!(profile.total, 100);
        assert_eq!((profile.inclusive["outer"], profile.own["outer"]), (75, 15));
        assert_eq!((profile.inclusive["inner"], profile.own["inner"]), (85, 85));
    }

    #[test]
    fn what_both_have_cancels() {
        let fewer = parse(TEXT).unwrap();
        let more = parse(&TEXT.replace("0 10", "0 30").replace(": 100", ": 120")).unwrap();
        let each = Each {
            fewer: &fewer,
            more: &more,
            times: 2.0,
        };
        assert_eq!((each.total(), each.inclusive("outer")), (10.0, 10.0));
        let most = most_more(&HashMap::new(), &each.own(), 1);
        assert_eq!(most, [("outer".to_owned(), 10.0)]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("fn=(1) f\n0 many\n").is_err());
    }
}
