//! The oracle as a program; see `--help`.

use std::fmt::Display;
use std::process::ExitCode;

use pg_query_cache_consistency::options::{HELP, Request};
use pg_query_cache_consistency::soak::soak;
use serde::Serialize;

fn main() -> ExitCode {
    match run() {
        Ok(failures) => {
            for failure in &failures {
                eprintln!("consistency: {failure}");
            }
            ExitCode::from(u8::from(!failures.is_empty()))
        }
        Err(error) => {
            eprintln!("consistency: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Everything that was wrong.
fn run() -> anyhow::Result<Vec<String>> {
    match Request::parse(std::env::args().skip(1))? {
        Request::Help => {
            print!("{HELP}");
            Ok(Vec::new())
        }
        Request::Run(options, json) => {
            let report = pg_query_cache_consistency::run(&options)?;
            show(&report, json)?;
            Ok(report.failures())
        }
        Request::Soak(options, json) => {
            let soak = soak(&options)?;
            show(&soak, json)?;
            Ok(soak.failures())
        }
    }
}

fn show(report: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
