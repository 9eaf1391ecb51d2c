//! The PostgreSQL installation under test.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where the programs and libraries of one PostgreSQL installation are, as its `pg_config` says.
#[derive(Clone, Debug)]
pub struct Installation {
    pg_config: OsString,
    bindir: PathBuf,
    major: u32,
}

impl Installation {
    /// The installation of `$PG_CONFIG`, or else of the `pg_config` found in `PATH`.
    pub fn find() -> Result<Self> {
        Self::of(
            env::var_os("PG_CONFIG")
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| "pg_config".into()),
        )
    }

    /// The installation that this `pg_config` describes.
    pub fn of(pg_config: impl Into<OsString>) -> Result<Self> {
        let pg_config = pg_config.into();
        let bindir = PathBuf::from(ask(&pg_config, "--bindir")?);
        if !bindir.join("postgres").exists() {
            bail!(
                "no PostgreSQL server in {} (from {}); install one or set PG_CONFIG",
                bindir.display(),
                pg_config.display()
            );
        }
        let version = ask(&pg_config, "--version")?;
        let major = version
            .split_whitespace()
            .nth(1)
            .map(|number| {
                number
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
            })
            .and_then(|digits| digits.parse().ok())
            .with_context(|| format!("no version number in \"{version}\""))?;
        Ok(Self {
            pg_config,
            bindir,
            major,
        })
    }

    /// The folder of the server's programs.
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What `pg_config` answers to an option such as `--pkglibdir`.
    pub fn ask(&self, option: &str) -> Result<String> {
        ask(&self.pg_config, option)
    }
}

fn ask(pg_config: &OsString, option: &str) -> Result<String> {
    let output = Command::new(pg_config)
        .arg(option)
        .output()
        .with_context(|| {
            format!(
                "cannot run {}; install PostgreSQL's or set PG_CONFIG",
                pg_config.display()
            )
        })?;
    if !output.status.success() {
        bail!(
            "{} {option}: {}",
            pg_config.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
