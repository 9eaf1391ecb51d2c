//! Where the figures were measured: a figure without it says little.

use std::fs;

use anyhow::Result;

use crate::server::{self, SETTINGS, ask, cores};

/// Names and values, in the order in which they are shown.
pub(crate) fn describe() -> Result<Vec<(&'static str, String)>> {
    let cluster = server::start("bench", true)?;
    let mut client = cluster.connect("postgres")?;
    let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
    settings.push(("fsync", "off (through a client: on)"));
    let settings = settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect::<Vec<_>>()
        .join(", ");
    let cache = ask(
        &mut client,
        "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings \
         WHERE name IN ('pg_query_cache.memory', 'pg_query_cache.max_entry_size')",
    )?;
    Ok(vec![
        ("date", ask(&mut client, "SELECT current_date")?),
        ("processor", processor()),
        ("cores", cores().to_string()),
        ("load before", load()),
        ("system", system()),
        ("PostgreSQL", ask(&mut client, "SHOW server_version")?),
        ("settings", settings),
        ("cache", cache),
        (
            "rounds",
            "candidates in turns; the median, and the middle half of the rounds".to_owned(),
        ),
    ])
}

fn processor() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("model name"))
                .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The one-minute load average: what else was running when the run began.
fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next().map(ToOwned::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = release.trim().split('-').next().unwrap_or_default();
    format!("{} {version}", std::env::consts::OS)
}
