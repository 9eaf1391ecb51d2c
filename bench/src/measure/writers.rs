//! What tracking costs those who write.

use anyhow::Result;
use pg_query_cache_harness::Cluster;

use crate::figure::{Figure, Goal, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::{Sample, in_turns};
use crate::server::{self, Load, create_database, timed};

/// Databases that differ in what is tracked: nothing, whole tables, keys.
const KINDS: [&str; 3] = ["untracked", "unkeyed", "keyed"];

/// The tables that TPC-B updates, with their keys. The fourth, which it only inserts into, nobody caches.
const TABLES: [(&str, &str); 3] = [
    ("pgbench_accounts", "aid"),
    ("pgbench_tellers", "tid"),
    ("pgbench_branches", "bid"),
];

/// Rows of the COPY.
const ROWS: u32 = 1_000_000;

pub(super) fn measure(options: &Options) -> Result<Vec<Section>> {
    let cluster = server::start("bench", true)?;
    for kind in KINDS {
        create_database(&cluster, kind, &["CREATE EXTENSION pg_query_cache"])?;
        prepare(&cluster, kind)?;
    }
    Ok(vec![tpcb(&cluster, options)?, copy(&cluster, options)?])
}

/// The call that tracks a table the way of a database, if it does.
fn track(kind: &str, table: &str, key: &str) -> Option<String> {
    match kind {
        "unkeyed" => Some(format!("SELECT cache_track_table('{table}');")),
        "keyed" => Some(format!("SELECT cache_track_table('{table}', '{{{key}}}');")),
        _ => None,
    }
}

fn prepare(cluster: &Cluster, kind: &str) -> Result<()> {
    let status = cluster
        .program("pgbench")
        .args(["--initialize", "--quiet", "--scale=10", kind])
        .stderr(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "pgbench --initialize failed");
    let mut sql = String::from(
        "CREATE TABLE loaded (id int NOT NULL, customer int NOT NULL, note text NOT NULL);\n",
    );
    let tables = TABLES.iter().chain(&[("loaded", "customer")]);
    sql.extend(tables.filter_map(|(table, key)| track(kind, table, key)));
    cluster.psql(kind, &sql)?;
    Ok(())
}

/// pgbench's own read-write load.
fn tpcb(cluster: &Cluster, options: &Options) -> Result<Section> {
    let [untracked, unkeyed, keyed]: [Sample; 3] = in_turns(options.rounds(), |candidate, _| {
        Load {
            clients: 2,
            ..Load::of(cluster, KINDS[candidate], "@tpcb-like")
        }
        .tps()
    })?;
    Ok(Section::new(
        "Writers: pgbench TPC-B, 2 sessions, three tables tracked",
        vec![
            Figure::new("untracked", &untracked, Unit::Tps),
            Figure::new(
                "unkeyed ÷ untracked",
                &unkeyed.over(&untracked),
                Unit::Ratio,
            )
            .goal(Goal::AtLeast(0.97)),
            Figure::new("keyed ÷ untracked", &keyed.over(&untracked), Unit::Ratio)
                .goal(Goal::AtLeast(0.95)),
        ],
    ))
}

/// Loading a million rows in one statement.
fn copy(cluster: &Cluster, options: &Options) -> Result<Section> {
    // Through a file of the server's: neither a client nor a function is to be measured.
    let file = cluster.data_dir().join("bench.tsv").display().to_string();
    cluster.psql(
        KINDS[0],
        &format!(
            "COPY (SELECT i, i % 1000, 'the note of row ' || i FROM generate_series(1, {ROWS}) i) TO '{file}'"
        ),
    )?;
    let [untracked, unkeyed, keyed]: [Sample; 3] = in_turns(options.rounds(), |candidate, _| {
        let mut client = cluster.connect(KINDS[candidate])?;
        client.batch_execute("TRUNCATE loaded")?;
        Ok(timed(&mut client, &format!("COPY loaded FROM '{file}'"))? / 1e3)
    })?;
    Ok(Section::new(
        "Writers: COPY of 1,000,000 rows",
        vec![
            Figure::new("untracked", &untracked, Unit::Ms),
            Figure::new(
                "unkeyed ÷ untracked",
                &unkeyed.over(&untracked),
                Unit::Ratio,
            )
            .goal(Goal::AtMost(1.03)),
            Figure::new("keyed ÷ untracked", &keyed.over(&untracked), Unit::Ratio)
                .goal(Goal::AtMost(1.3)),
        ],
    ))
}
