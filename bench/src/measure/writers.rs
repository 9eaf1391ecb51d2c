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
    let mut sections = Vec::new();
    // Where nothing is waited for, what tracking costs shows most.
    let hurried = server::start("bench", true)?;
    prepare(&hurried)?;
    sections.push(tpcb(&hurried, "nothing waits for the disk", options)?);
    let copy = copy(&hurried, options)?;
    drop(hurried);
    if !options.quick {
        let durable = server::start_durable("bench")?;
        prepare(&durable)?;
        sections.push(tpcb(&durable, "commits wait for the disk", options)?);
    }
    sections.push(copy);
    Ok(sections)
}

/// The call that tracks a table the way of a database, if it does.
fn track(kind: &str, table: &str, key: &str) -> Option<String> {
    match kind {
        "unkeyed" => Some(format!("SELECT cache_track_table('{table}');")),
        "keyed" => Some(format!("SELECT cache_track_table('{table}', '{{{key}}}');")),
        _ => None,
    }
}

/// Makes the databases.
fn prepare(cluster: &Cluster) -> Result<()> {
    for kind in KINDS {
        create_database(cluster, kind, &["CREATE EXTENSION pg_query_cache"])?;
        server::initialize_pgbench(cluster, kind, 10)?;
        let mut sql = String::from(
            "CREATE TABLE loaded (id int NOT NULL, customer int NOT NULL, note text NOT NULL);\n",
        );
        let tables = TABLES.iter().chain(&[("loaded", "customer")]);
        sql.extend(tables.filter_map(|(table, key)| track(kind, table, key)));
        cluster.psql(kind, &sql)?;
    }
    Ok(())
}

/// pgbench's own read-write load.
fn tpcb(cluster: &Cluster, waits: &str, options: &Options) -> Result<Section> {
    let [untracked, unkeyed, keyed]: [Sample; 3] =
        in_turns(options.rounds_of(13), |candidate, _| {
            Load {
                clients: 2,
                ..Load::of(cluster, KINDS[candidate], "@tpcb-like")
            }
            .tps()
        })?;
    let ratio = |what: &str, sample: &Sample, goal: f64| {
        Figure::new(what, &sample.over(&untracked), Unit::Ratio).goal(Goal::AtLeast(goal))
    };
    Ok(Section::new(
        format!("Writers: pgbench TPC-B, 2 sessions, three tables tracked, {waits}"),
        vec![
            Figure::new("untracked", &untracked, Unit::Tps),
            ratio("unkeyed ÷ untracked", &unkeyed, 0.97),
            ratio("keyed ÷ untracked", &keyed, 0.95),
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
