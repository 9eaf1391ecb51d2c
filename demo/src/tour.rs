//! What the steps share: the cluster, a session in it, the screen, and ways to ask.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::{Client, SimpleQueryMessage};

use crate::counters::{Answer, Counters};
use crate::screen::Screen;
use crate::{DATABASE, text};

/// What every session of the tour starts with: nothing takes for ever, whatever is broken.
const SESSION: &str =
    "SET application_name = 'demo'; SET statement_timeout = '60s'; SET lock_timeout = '20s'";

/// The tour as it goes.
pub(crate) struct Tour<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) screen: &'a Screen,
    pub(crate) client: Client,
    /// The calls that are measured and watched.
    pub(crate) calls: Vec<Call>,
}

impl<'a> Tour<'a> {
    /// Begins with a session of its own.
    pub(crate) fn begin(cluster: &'a Cluster, screen: &'a Screen) -> Result<Self> {
        let mut client = session(cluster)?;
        let calls = calls(&mut client)?;
        Ok(Self {
            cluster,
            screen,
            client,
            calls,
        })
    }

    /// Shows a statement, runs it, and returns the first column of its only row.
    pub(crate) fn shown(&mut self, sql: &str) -> Result<String> {
        self.screen.statement(&format!("{sql};"));
        ask(&mut self.client, sql)
    }

    /// Asks, and tells how the cache answered. The statement holds one cached call.
    pub(crate) fn observed(&mut self, sql: &str) -> Result<(String, Answer)> {
        let before = Counters::read(&mut self.client)?;
        let value = ask(&mut self.client, sql)?;
        let added = before.since(&mut self.client, |added| added.calls() > 0)?;
        Ok((value, Answer::from(added)))
    }

    /// Shows the answer of a statement as a table; returns how many rows it has.
    pub(crate) fn table(&mut self, sql: &str) -> Result<usize> {
        self.screen.statement(&format!("{sql};"));
        let (header, rows) = rows(&mut self.client, sql)?;
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| {
                header
                    .iter()
                    .zip(row)
                    .map(|(name, value)| readable(name, &value))
                    .collect()
            })
            .collect();
        self.screen.table(&header, &rows);
        Ok(rows.len())
    }

    /// Shows the only row of a statement as pairs of name and value.
    pub(crate) fn pairs(&mut self, sql: &str) -> Result<()> {
        self.screen.statement(&format!("{sql};"));
        let (header, rows) = rows(&mut self.client, sql)?;
        let row = rows.into_iter().next().context("the answer has no row")?;
        let pairs: Vec<(String, String)> = header
            .into_iter()
            .zip(row)
            .map(|(name, value)| {
                let value = readable(&name, &value);
                (name, value)
            })
            .collect();
        self.screen.pairs(&pairs);
        Ok(())
    }
}

/// A base function with its arguments, and the same call cached.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// How the table names it.
    pub(crate) label: String,
    /// `schema.name` of the base function; the cached one has `_cached` at the end.
    pub(crate) function: &'static str,
    /// The arguments, as SQL.
    pub(crate) arguments: String,
    /// Whether it returns a table.
    pub(crate) rows: bool,
}

impl Call {
    /// The call of the function itself.
    pub(crate) fn base(&self) -> String {
        format!("{}({})", self.function, self.arguments)
    }

    /// The call through the cache.
    pub(crate) fn cached(&self) -> String {
        format!("{}_cached({})", self.function, self.arguments)
    }

    /// A statement around one of the two.
    pub(crate) fn statement(&self, call: &str) -> String {
        if self.rows {
            format!("SELECT * FROM {call}")
        } else {
            format!("SELECT {call}")
        }
    }

    /// One statement, hence one snapshot, that compares the two; true if they agree.
    pub(crate) fn comparison(&self) -> String {
        let (base, cached) = (self.base(), self.cached());
        if self.rows {
            format!(
                "SELECT array(SELECT x::text FROM {base} x) IS NOT DISTINCT FROM array(SELECT x::text FROM {cached} x)"
            )
        } else {
            format!("SELECT {base}::text IS NOT DISTINCT FROM {cached}::text")
        }
    }
}

/// Three calls over the flights; two over the marketplace, for the most popular one and for all.
fn calls(client: &mut Client) -> Result<Vec<Call>> {
    let expert = ask(
        client,
        "SELECT expert_id FROM marketplace.sessions GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1",
    )?;
    let product = ask(
        client,
        "SELECT product_id FROM marketplace.orders GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1",
    )?;
    let call = |label: &str, function, arguments: &str, rows| Call {
        label: label.to_owned(),
        function,
        arguments: arguments.to_owned(),
        rows,
    };
    Ok(vec![
        call(
            "flights.carrier_delay_summary('UA')",
            "flights.carrier_delay_summary",
            "'UA'",
            false,
        ),
        call(
            "flights.route_performance('JFK', 'LAX')",
            "flights.route_performance",
            "'JFK', 'LAX'",
            true,
        ),
        call(
            "flights.airport_day('EWR', '2013-02-09')",
            "flights.airport_day",
            "'EWR', '2013-02-09'",
            true,
        ),
        call(
            "get_expert_sessions_with_stats(one expert)",
            "get_expert_sessions_with_stats",
            &format!("'{expert}'"),
            false,
        ),
        call(
            "get_expert_sessions_with_stats(all)",
            "get_expert_sessions_with_stats",
            "NULL",
            false,
        ),
        call(
            "get_product_performance(one product)",
            "get_product_performance",
            &format!("'{product}'"),
            false,
        ),
        call(
            "get_product_performance(all)",
            "get_product_performance",
            "NULL",
            false,
        ),
    ])
}

/// A new session of the superuser.
pub(crate) fn session(cluster: &Cluster) -> Result<Client> {
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(SESSION)?;
    Ok(client)
}

/// The first column of the only row as text; NULL is the word.
pub(crate) fn ask(client: &mut Client, sql: &str) -> Result<String> {
    let (_, rows) = rows(client, sql)?;
    rows.into_iter()
        .next()
        .and_then(|row| row.into_iter().next())
        .context("the answer has no row")
}

/// Runs something and says how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

/// A statement's header and rows as text.
pub(crate) fn rows(client: &mut Client, sql: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let mut header = Vec::new();
    let mut rows = Vec::new();
    for message in client.simple_query(sql).with_context(|| sql.to_owned())? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                header = columns
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
            }
            SimpleQueryMessage::Row(row) => {
                rows.push(
                    (0..row.len())
                        .map(|column| row.get(column).unwrap_or("null").to_owned())
                        .collect(),
                );
            }
            _ => {}
        }
    }
    Ok((header, rows))
}

/// A value as people read it, judged by the name of its column.
fn readable(name: &str, value: &str) -> String {
    match value.parse::<f64>() {
        Ok(count) if name.contains("bytes") || name.ends_with("_size") || name == "size" => {
            text::bytes(count)
        }
        Ok(_) => text::number(value),
        Err(_) if value == "null" => String::new(),
        Err(_) => value.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
