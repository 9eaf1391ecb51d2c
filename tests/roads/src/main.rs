//! The scripts as a program; see `--help`.

use std::process::ExitCode;

use pg_query_cache_roads::{Options, options::HELP, run};

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1)).and_then(|options| match options {
        None => {
            print!("{HELP}");
            Ok(true)
        }
        Some(options) => {
            let report = run(&options)?;
            print!("{report}");
            Ok(report.findings.is_empty())
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("roads: {error:#}");
            ExitCode::from(2)
        }
    }
}
