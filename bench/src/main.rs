//! `make bench`: what cached calls cost, compared within one run in private clusters.
//!
//! Shows the figures beside their goals and writes them into `docs/benchmarks.md`. The exit status is 0 however slow the machine
//! is, unless `--check` asks for a verdict.

mod callgrind;
mod environment;
mod figure;
mod flame;
mod lines;
mod measure;
mod model;
mod options;
mod pgpool;
mod plot;
mod redis;
mod report;
mod sample;
mod server;
mod service;
mod wire;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::options::{Command, Options};
use crate::report::{Report, Section};

fn main() -> ExitCode {
    let done = match options::parse(env::args_os().skip(1)) {
        Ok(Command::Help) => {
            println!("{}{}", options::HELP, measure::names());
            Ok(true)
        }
        Ok(Command::Flame(name)) => flame(&name),
        Ok(Command::Run(options)) => run(&options),
        Err(error) => Err(error),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes a flame graph for the page.
fn flame(name: &str) -> Result<bool> {
    let file = flame::record(name, Path::new(report::PLOTS))?;
    println!(
        "written to docs/benchmarks/{}",
        file.file_name().unwrap_or_default().display()
    );
    Ok(true)
}

/// Measures and shows; false if a goal was to be met and is clearly missed.
fn run(options: &Options) -> Result<bool> {
    let begin = Instant::now();
    let mut environment = environment::describe()?;
    let mut sections = measure::all(options)?;
    if options.quick {
        sections.iter_mut().for_each(Section::forget_times);
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    environment.push(("took", format!("{minutes:.1} minutes")));
    let report = Report {
        environment,
        sections,
        margin: options.margin(),
    };
    print!("{}", report.text());
    if !options.quick && options.only.is_none() {
        report.write_page()?;
        println!("\nwritten to docs/benchmarks.md");
    } else if report.write_other_plots()? {
        println!("\nplots in target/benchmarks");
    }
    let missed = report.missed();
    if missed > 0 {
        println!("\n{missed} of the goals clearly missed");
    }
    Ok(missed == 0 || !options.check)
}
