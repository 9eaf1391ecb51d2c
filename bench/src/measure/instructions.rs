//! Instructions per hit, counted by callgrind: figures that do not depend on what else the machine does.
//!
//! Sessions come in pairs that differ only in how often they call. Time is more than instructions (memory has to be waited for), but
//! a change of the code shows here first, and to the digit.

use std::collections::HashMap;

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;

use crate::callgrind::{Each, Observed, Profile, most_more};
use crate::figure::{Figure, Unit};
use crate::options::Options;
use crate::report::Section;
use crate::sample::Sample;
use crate::server::{self, DATABASE, ask};
use crate::wire::Target;

/// Calls in the sessions of a pair. Where there are many keys, each session has had all of them before what is compared: what it
/// learns at the first sight of a key is in both.
const CALLS: [u32; 2] = [200, 1_200];
const CALLS_OF_MANY: [u32; 2] = [KEYS, KEYS + 4_000];
const CALLS_OF_SOME: [u32; 2] = [SOME_KEYS, 2 * SOME_KEYS];

/// Keys, when there are many; fewer where each takes a transaction, which callgrind makes slow.
const KEYS: u32 = 10_000;
const SOME_KEYS: u32 = 1_000;

/// Where a cached call begins.
const HANDLER: &str = "cached_call_handler";

/// After so many calls a function is known to be dear.
const ENOUGH: u32 = 4 * KEYS;

/// Functions listed of those that execute most.
const LARGEST: usize = 10;

/// The tags of the functions whose difference gives the cost of one.
const TAGS: [u32; 2] = [1, 16];

pub(super) fn measure(_: &Options) -> Result<Vec<Section>> {
    let title = "Instructions: user space of the session's process, counted by callgrind";
    let cluster = server::start_with("bench", &[("pg_query_cache.flush_interval", "0")])?;
    server::create_database(
        &cluster,
        DATABASE,
        &[include_str!("../../sql/subject.sql"), &tagged()],
    )?;
    let answer = ask(&mut cluster.connect(DATABASE)?, "SELECT page(1, 1024)")?.replace('\'', "''");
    cluster.stop(pg_query_cache_harness::Mode::Fast)?;
    let Some(observed) = Observed::start(&cluster)? else {
        let section = Section::new(title, Vec::new());
        return Ok(vec![
            section.note("valgrind is not installed here, so nothing was counted."),
        ]);
    };
    warm(&cluster)?;
    let counting = Counting {
        cluster: &cluster,
        observed: &observed,
    };

    let nothing = counting.inside("pg_backend_pid()", CALLS)?.each().total();
    let mut figures = Vec::new();
    let mut add = |what: &str, value: f64| {
        figures.push(Figure::new(what, &Sample::of(vec![value]), Unit::Count));
    };
    for (call, what, calls) in [
        ("page_cached(1, 100)", "100 B", CALLS),
        ("page_cached(1, 1024)", "1 KB", CALLS),
        (
            "page_cached(i % 10000, 1024)",
            "1 KB, 10,000 keys",
            CALLS_OF_MANY,
        ),
    ] {
        let pair = counting.inside(call, calls)?;
        add(
            &format!("a hit, {what}, more than a call that returns a constant"),
            pair.each().total() - nothing,
        );
        add(
            &format!("a hit, {what}, inside the handler"),
            pair.each().inclusive(HANDLER),
        );
    }
    let [one, most] = TAGS.map(|tags| {
        let pair = counting.inside(&format!("tagged{tags}_cached(1)"), CALLS);
        pair.map(|pair| pair.each().inclusive(HANDLER))
    });
    add(
        "each tag more",
        (most? - one?) / f64::from(TAGS[1] - TAGS[0]),
    );
    let one = ["1".to_owned()];
    let keys: Vec<String> = (1..=SOME_KEYS).map(|key| key.to_string()).collect();
    let constant = format!("SELECT '{answer}'::jsonb");
    let hit = "SELECT page_cached($1, 1024)";
    let floor = counting.through(&constant, &[], CALLS)?;
    let bound = format!("SELECT CASE WHEN $1::int > 0 THEN '{answer}'::jsonb END");
    let through = counting.through(hit, &one, CALLS)?;
    let (floor, through) = (floor.each(), through.each());
    add("a client's transaction: the floor", floor.total());
    add(
        "the floor that is sent a parameter",
        counting.through(&bound, &one, CALLS)?.each().total(),
    );
    add("a hit, 1 KB, with its transaction", through.total());
    add(
        "the same, 1,000 keys",
        counting.through(hit, &keys, CALLS_OF_SOME)?.each().total(),
    );
    let ratio = Sample::of(vec![floor.total() / through.total()]);
    figures.push(Figure::new("floor ÷ hit, 1 KB", &ratio, Unit::Ratio));

    let nothing = HashMap::new();
    Ok(vec![
        Section::new(title, figures).note(
            "Functions without a name are PostgreSQL's own, whose package has none. What the kernel does for a transaction (socket, \
             scheduling) is not counted.",
        ),
        Section::new(
            "Instructions of the floor's transaction, by function, without what it calls",
            by_function(&nothing, &floor.own()),
        ),
        Section::new(
            "Instructions of a hit's transaction more than the floor's, by function, without what it calls",
            by_function(&floor.own(), &through.own()),
        ),
    ])
}

fn by_function(first: &HashMap<String, f64>, second: &HashMap<String, f64>) -> Vec<Figure> {
    most_more(first, second, LARGEST)
        .into_iter()
        .map(|(name, count)| {
            Figure::new(format!("`{name}`"), &Sample::of(vec![count]), Unit::Count)
        })
        .collect()
}

/// Functions whose results carry so many tags.
fn tagged() -> String {
    TAGS.map(|tags| {
        format!(
            "CREATE FUNCTION tagged{tags}(k int) RETURNS jsonb LANGUAGE sql STABLE AS
                 $$ SELECT to_jsonb(repeat('x', 1012)) $$;
             SELECT cache_function('tagged{tags}(int)', tags =>
                 (SELECT array_agg('tag ' || i) FROM generate_series(1, {tags}) i));"
        )
    })
    .concat()
}

/// Has everything computed, and asked for often enough that the functions are known to be dearer than a hit: all that follows are hits,
/// and no run of a function that is measured to find that out is among them.
fn warm(cluster: &Cluster) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("SELECT page_cached(1, 100)")?;
    // Only results whose computation was quick are computed to be measured; the first one of a session was not.
    let [one, most] = TAGS.map(|tags| format!("tagged{tags}_cached(1)"));
    for call in [format!("page_cached(i % {KEYS}, 1024)"), one, most] {
        client.batch_execute(&format!(
            "SELECT count({call}) FROM generate_series(1, {ENOUGH}) i"
        ))?;
    }
    Ok(())
}

/// The sessions of a pair.
struct Pair {
    fewer: Profile,
    more: Profile,
    times: f64,
}

impl Pair {
    /// Runs a session for each number of calls.
    fn of(calls: [u32; 2], session: impl Fn(u32) -> Result<Profile>) -> Result<Self> {
        Ok(Pair {
            fewer: session(calls[0])?,
            more: session(calls[1])?,
            times: f64::from(calls[1] - calls[0]),
        })
    }

    fn each(&self) -> Each<'_> {
        Each {
            fewer: &self.fewer,
            more: &self.more,
            times: self.times,
        }
    }
}

struct Counting<'a> {
    cluster: &'a Cluster,
    observed: &'a Observed<'a>,
}

impl Counting<'_> {
    /// Calls in a loop of one statement.
    fn inside(&self, call: &str, calls: [u32; 2]) -> Result<Pair> {
        Pair::of(calls, |calls| {
            let mut client = self.cluster.connect(DATABASE)?;
            let pid = ask(&mut client, "SELECT pg_backend_pid()")?.parse()?;
            client.simple_query(&format!(
                "SELECT count({call}) FROM generate_series(1, {calls}) AS loop (i)"
            ))?;
            drop(client);
            self.observed.profile(pid)
        })
    }

    /// Transactions of a client.
    fn through(&self, statement: &str, parameters: &[String], calls: [u32; 2]) -> Result<Pair> {
        let socket = server::socket(self.cluster);
        let target = Target::postgres(&socket, DATABASE, statement, parameters);
        Pair::of(calls, |calls| {
            let pid = target.ask_in_one_session(calls)?;
            self.observed
                .profile(pid.context("the server does not say its process")?)
        })
    }
}
