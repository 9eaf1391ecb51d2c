//! The oracle as a program; see `--help`.

use std::process::ExitCode;

use pg_query_cache_consistency::options::{HELP, Request};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("consistency: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was wrong.
fn run() -> anyhow::Result<bool> {
    let (options, json) = match Request::parse(std::env::args().skip(1))? {
        Request::Help => {
            print!("{HELP}");
            return Ok(true);
        }
        Request::Run(options, json) => (options, json),
    };
    let report = pg_query_cache_consistency::run(&options)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let failures = report.failures();
    for failure in &failures {
        eprintln!("consistency: {failure}");
    }
    Ok(failures.is_empty())
}
