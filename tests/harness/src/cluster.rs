//! A running cluster.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::iter;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::builder::Builder;
use crate::installation::Installation;
use crate::place::ServerUser;
use crate::process::Process;
use crate::wait::wait_until;

/// The database superuser that `initdb` makes.
const SUPERUSER: &str = "postgres";

/// The file of our settings inside the data folder.
const SETTINGS_FILE: &str = "harness.conf";

/// How long a start, a stop or a recovery may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// How much of the server's log an error message shows.
const LOG_TAIL_LINES: usize = 30;

/// Programs that refuse root or leave files behind that must belong to the server's user.
const SERVER_PROGRAMS: &[&str] = &[
    "initdb",
    "pg_archivecleanup",
    "pg_basebackup",
    "pg_checksums",
    "pg_ctl",
    "pg_receivewal",
    "pg_resetwal",
    "pg_rewind",
    "pg_upgrade",
    "postgres",
];

/// How a server is told to stop; the modes of `pg_ctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Waits until all sessions have ended.
    Smart,
    /// Ends all sessions, writes the shutdown checkpoint.
    Fast,
    /// Like a crash: the next start recovers.
    Immediate,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        })
    }
}

/// A private PostgreSQL cluster; dropping it stops the server, and removes what was made fresh unless a test panics.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    layout: Layout,
    port: u16,
    settings: Mutex<BTreeMap<String, String>>,
    fresh: bool,
    keep: AtomicBool,
    /// Keeps other processes off the cluster of this name; the operating system lets go of it with the process.
    _lock: File,
}

impl Cluster {
    /// Describes the cluster called `name`; [`Builder::build`] makes it.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn new(
        name: String,
        layout: Layout,
        port: u16,
        settings: BTreeMap<String, String>,
        lock: File,
        fresh: bool,
    ) -> Self {
        Self {
            name,
            layout,
            port,
            settings: Mutex::new(settings),
            fresh,
            keep: AtomicBool::new(false),
            _lock: lock,
        }
    }

    /// The name given to [`Cluster::builder`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The PostgreSQL installation whose programs run the cluster.
    pub fn installation(&self) -> &Installation {
        &self.layout.installation
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.layout.data
    }

    /// The folder of the server's socket, which is what clients call the host.
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket
    }

    /// The port, part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host, port and user as a libpq connection string, without a database.
    pub fn conninfo(&self) -> String {
        format!(
            "host={} port={} user={SUPERUSER}",
            self.layout.socket.display(),
            self.port
        )
    }

    /// Host, port and user as the environment of a child program.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", self.layout.socket.display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
        ]
    }

    /// A new session of the superuser.
    pub fn connect(&self, database: &str) -> Result<Client> {
        self.connect_as(database, SUPERUSER)
    }

    /// A new session of `user`, who needs no password.
    pub fn connect_as(&self, database: &str, user: &str) -> Result<Client> {
        self.config(database, user)
            .connect(NoTls)
            .with_context(|| format!("cannot connect to database \"{database}\" as \"{user}\""))
    }

    /// The connection parameters, for callers that want to add their own.
    pub fn config(&self, database: &str, user: &str) -> Config {
        let mut config = Client::configure();
        config
            .host_path(&self.layout.socket)
            .port(self.port)
            .user(user)
            .dbname(database)
            .application_name("harness")
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// Runs a script through psql (rows unaligned, without headings) and returns what it printed; stops at the first error.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut child = self
            .program("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                "-",
                "-d",
                database,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        let stdin = child.stdin.take();
        let script = sql.to_owned();
        // From a thread of its own: a script and its output may both be larger than a pipe.
        let writer =
            thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(script.as_bytes())));
        let output = child.wait_with_output().context("cannot run psql")?;
        // If psql stops at an error it does not read the rest of the script; its own message says more than the broken pipe.
        drop(writer.join());
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One of PostgreSQL's programs, ready to run against this cluster.
    ///
    /// Programs that touch data folders run as the server's user with `/` as working folder, others as the caller.
    pub fn program(&self, name: &str) -> Command {
        let mut command = if SERVER_PROGRAMS.contains(&name) {
            self.layout.server_program(name)
        } else {
            Command::new(self.layout.installation.bindir().join(name))
        };
        forget_connection(&mut command);
        command.envs(self.env());
        command
    }

    /// Any other program, as the server's user and with `/` as working folder, for what has to be run around the server.
    pub fn as_server(&self, program: &Path) -> Command {
        let mut command = self.layout.user.command(program);
        forget_connection(&mut command);
        command
    }

    /// Starts the server, and returns when it accepts connections.
    pub fn start(&self) -> Result<()> {
        let already_logged = fs::metadata(&self.layout.log).map_or(0, |metadata| metadata.len());
        let patience = PATIENCE.as_secs().to_string();
        let started = run(self
            .layout
            .pg_ctl("start")
            .args(["-w", "-t", &patience, "-l"])
            .arg(&self.layout.log)
            .stdin(Stdio::null()));
        if let Err(error) = started {
            let log = self.log();
            let fresh = log.get(usize::try_from(already_logged)?..).unwrap_or(&log);
            bail!(
                "the server did not start\n{error}\n--- {} ---\n{}",
                self.layout.log.display(),
                tail(fresh)
            );
        }
        self.wait_ready()
    }

    /// Stops the server, and returns when it has ended.
    pub fn stop(&self, mode: Mode) -> Result<()> {
        self.layout
            .stop(mode)
            .with_context(|| format!("the server did not stop\n{}", tail(&self.log())))
    }

    /// Stops the server and starts it again.
    pub fn restart(&self, mode: Mode) -> Result<()> {
        self.stop(mode)?;
        self.start()
    }

    /// Tells the server to read its settings again.
    pub fn reload(&self) -> Result<()> {
        run(&mut self.layout.pg_ctl("reload"))
    }

    /// Changes a server setting and reloads; one that needs a restart waits for it.
    pub fn set(&self, setting: &str, value: impl ToString) -> Result<()> {
        let mut settings = self.settings();
        settings.insert(setting.to_owned(), value.to_string());
        self.layout.write_settings(&settings)?;
        drop(settings);
        if self.is_running() {
            self.reload()
        } else {
            Ok(())
        }
    }

    /// Whether the server's process exists.
    pub fn is_running(&self) -> bool {
        self.layout.is_running()
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> Result<i32> {
        self.layout
            .postmaster_pid()
            .context("the server does not run")
    }

    /// Processor time that the server has used since it was started: all of its processes, those that have ended included, in steps of
    /// the system's clock tick (10 ms) for each.
    pub fn processor_time(&self) -> Result<Duration> {
        let pid = self.postmaster_pid()?;
        let postmaster = || Process::read(pid).context("the server does not run");
        let mut before = postmaster()?;
        loop {
            let children: Duration = Process::all()
                .filter(|process| process.parent == pid)
                .map(|process| process.own)
                .sum();
            let after = postmaster()?;
            // One that ended while the children were looked at may have been seen twice, or not at all.
            if after.ended_children == before.ended_children {
                return Ok(after.own + after.ended_children + children);
            }
            before = after;
        }
    }

    /// Sends a signal to a process of this cluster, the postmaster or one of its children; an error for any other.
    pub fn kill(&self, pid: i32, signal: Signal) -> Result<()> {
        self.owns(pid)?;
        let target = Pid::from_raw(pid).with_context(|| format!("{pid} is no process id"))?;
        kill_process(target, signal).with_context(|| format!("cannot signal process {pid}"))
    }

    /// An error for a process that is neither the postmaster nor one of its children.
    fn owns(&self, pid: i32) -> Result<()> {
        let postmaster = self.postmaster_pid()?;
        if pid != postmaster
            && Process::read(pid).is_none_or(|process| process.parent != postmaster)
        {
            bail!("process {pid} does not belong to cluster \"{}\"", self.name);
        }
        Ok(())
    }

    /// Limits the files that a process of this cluster may write from now on to `bytes`, or takes the limit away: what is written
    /// beyond it fails, as on a full disk. Processes that it starts have the same limit.
    pub fn limit_files(&self, pid: i32, bytes: Option<u64>) -> Result<()> {
        self.owns(pid)?;
        // Only the soft limit, since the hard one could not be raised again; and as the server's user, whose process it is.
        let bytes = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut command = self.layout.user.command(Path::new("prlimit"));
        run(command.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]))
    }

    /// Waits until the server answers a query, after a start or while it recovers from a crash.
    pub fn wait_ready(&self) -> Result<()> {
        let answers = || {
            self.connect("postgres")
                .is_ok_and(|mut client| client.simple_query("SELECT 1").is_ok())
        };
        wait_until("the server accepts connections", PATIENCE, answers).map_err(|error| {
            anyhow::anyhow!(
                "{error}\n--- {} ---\n{}",
                self.layout.log.display(),
                tail(&self.log())
            )
        })
    }

    /// The text of the server's log.
    pub fn log(&self) -> String {
        fs::read(&self.layout.log).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Whether the server's log contains `text`.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Leaves the server running, and its files in place, when this value is dropped.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    fn settings(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep.load(Ordering::Relaxed) {
            return;
        }
        // Nothing is left to be done about an error here; the next build of this name stops what it finds running.
        if self.is_running() {
            drop(self.layout.stop(Mode::Immediate));
        }
        if self.fresh && !thread::panicking() && !self.is_running() {
            if let Some(folder) = self.layout.data.parent() {
                drop(fs::remove_dir_all(folder));
            }
            drop(fs::remove_dir_all(&self.layout.socket));
        }
    }
}

/// The files of a cluster and the means to run its programs.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) installation: Installation,
    pub(crate) user: ServerUser,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Layout {
    /// A program of the installation, run as the server's user.
    pub(crate) fn server_program(&self, name: &str) -> Command {
        let mut command = self.user.command(&self.installation.bindir().join(name));
        forget_connection(&mut command);
        command
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = self.server_program("pg_ctl");
        command.arg(action).arg("-D").arg(&self.data);
        command
    }

    fn stop(&self, mode: Mode) -> Result<()> {
        let (mode, patience) = (mode.to_string(), PATIENCE.as_secs().to_string());
        run(self
            .pg_ctl("stop")
            .args(["-w", "-t", &patience, "-m", &mode]))
    }

    /// Stops a server that an earlier, killed process left behind.
    pub(crate) fn stop_leftover(&self) -> Result<()> {
        if self.is_running() {
            self.stop(Mode::Immediate)
        } else {
            Ok(())
        }
    }

    fn is_running(&self) -> bool {
        // pg_ctl rather than the file alone: after a crash the file names a process that is gone, or another one.
        self.postmaster_pid().is_some() && run(&mut self.pg_ctl("status")).is_ok()
    }

    fn postmaster_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.data.join(SETTINGS_FILE)
    }

    /// Appends to `postgresql.conf` that our settings are to be read last.
    pub(crate) fn include_settings(&self) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let mut file = File::options()
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        writeln!(file, "\ninclude_if_exists = '{SETTINGS_FILE}'")?;
        Ok(())
    }

    /// The port that an earlier run wrote.
    pub(crate) fn port_written(&self) -> Option<u16> {
        let text = fs::read_to_string(self.settings_file()).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix("port = "))?;
        value.trim_matches('\'').parse().ok()
    }

    /// Writes our settings file; true if that changed it.
    pub(crate) fn write_settings(&self, settings: &BTreeMap<String, String>) -> Result<bool> {
        let path = self.settings_file();
        let text: String = settings
            .iter()
            .map(|(name, value)| format!("{name} = {}\n", quote(value)))
            .collect();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        // Written aside and renamed, so that a server reading at this moment sees the old or the new, never half.
        let aside = path.with_extension("new");
        fs::write(&aside, text).with_context(|| format!("cannot write {}", aside.display()))?;
        let owner = fs::metadata(&self.data)?;
        chown(&aside, Some(owner.uid()), Some(owner.gid()))?;
        fs::rename(&aside, &path)?;
        Ok(true)
    }
}

/// Runs a command to its end; an error with its output if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let output = command
        .output()
        .with_context(|| format!("cannot run {line}"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!("{line} failed\n{}", tail(&text))
}

/// Takes away what the caller's environment says about other servers.
fn forget_connection(command: &mut Command) {
    for name in [
        "PGHOST",
        "PGHOSTADDR",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "PGPASSWORD",
        "PGSERVICE",
        "PGOPTIONS",
        "PGDATA",
    ] {
        command.env_remove(name);
    }
}

/// A value as a settings file wants it.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_a_settings_file() {
        assert_eq!(quote(r"it's a \ path"), r"'it''s a \\ path'");
    }

    #[test]
    fn an_error_shows_the_end_of_the_log() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let shown = tail(&text);
        assert_eq!(shown.lines().count(), LOG_TAIL_LINES);
        assert!(shown.ends_with("line 99"));
    }
}
