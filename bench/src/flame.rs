//! A flame graph: where the time of a session goes that answers nothing but hits, kernel included if `perf` may look there.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use inferno::collapse::{Collapse, perf};
use inferno::flamegraph;

use crate::measure::expect_at_least;
use crate::server::{self, DATABASE, total};
use crate::service;
use crate::wire::Target;

/// Seconds of looking, and looks per second. A rate that no clock of the server's keeps step with.
const SECONDS: u32 = 10;
const RATE: u32 = 4_999;

/// How much of the stack is kept at each look: the server is built without frame pointers.
const STACK: u32 = 8_192;

/// Fewer looks than this say nothing.
const ENOUGH: usize = 1_000;

/// What is asked.
const HIT: &str = "SELECT page_cached($1, 1024)";

/// Records a session and writes `flame-NAME.svg` into the folder; returns its path.
pub(crate) fn record(name: &str, folder: &Path) -> Result<PathBuf> {
    ensure!(
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
        "the name of a flame graph consists of letters, digits and hyphens"
    );
    let program =
        service::program("perf").context("perf is not installed; make bench installs it")?;
    let cluster = server::start("bench", true)?;
    server::create_database(&cluster, DATABASE, &[include_str!("../sql/subject.sql")])?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT page_cached(1, 1024)")?;
    let before = total(&mut client, "hits")?;
    let data = cluster.socket_dir().join("perf.data");
    let target = Target::postgres(&server::socket(&cluster), DATABASE, HIT, &["1".to_owned()]);
    let asked = target.ask_during(|pid| watch(&program, pid, &data))?;
    expect_at_least(
        "hits",
        total(&mut client, "hits")? - before,
        0.99 * asked as f64,
    )?;
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("flame-{name}.svg"));
    fs::write(&file, draw(name, &program, &data)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Samples the stack of a process for a while.
fn watch(program: &Path, pid: u32, data: &Path) -> Result<()> {
    let output = Command::new(program)
        .args(["record", "--quiet", "--event=cpu-clock"])
        .arg(format!("--freq={RATE}"))
        .arg(format!("--call-graph=dwarf,{STACK}"))
        .arg(format!("--pid={pid}"))
        .arg(format!("--output={}", data.display()))
        .args(["--", "sleep", &SECONDS.to_string()])
        .output()
        .context("cannot run perf")?;
    if !output.status.success() {
        bail!("perf record: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The samples as a flame graph.
fn draw(name: &str, program: &Path, data: &Path) -> Result<Vec<u8>> {
    let mut script = Command::new(program)
        // Functions that are part of others by inlining are found by a program per address, which takes minutes.
        .args(["script", "--no-inline"])
        .arg(format!("--input={}", data.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run perf")?;
    let mut samples = String::new();
    let mut output = script.stdout.take().context("perf has no output")?;
    output.read_to_string(&mut samples)?;
    ensure!(script.wait()?.success(), "perf script failed");
    let count = samples.matches("cpu-clock:").count();
    ensure!(
        count >= ENOUGH,
        "{count} samples are too few; the machine has too much else to do"
    );
    let mut options = perf::Options::default();
    // How a session came to be is the same for all.
    options.skip_after = vec!["PostgresMain".to_owned()];
    let mut stacks = Vec::new();
    perf::Folder::from(options).collapse(samples.as_bytes(), &mut stacks)?;

    let mut options = flamegraph::Options::default();
    options.title = format!("A session that answers hits of 1 KB: {name}");
    // Each look stands for as many nanoseconds as have passed since the last one.
    options.count_name = "ms of processor time".to_owned();
    options.factor = 1e-6;
    // Narrower ones cannot be read anyway.
    options.min_width = 0.15;
    options.deterministic = true;
    let mut drawn = Vec::new();
    flamegraph::from_reader(&mut options, stacks.as_slice(), &mut drawn)?;
    Ok(drawn)
}
