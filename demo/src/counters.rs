//! How a call was answered, as the cache itself counts it.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use pg_query_cache_harness::postgres::{Client, Row};
use pg_query_cache_harness::wait_until;

/// How long figures of other sessions may take to arrive; sessions hand them over in batches.
const PATIENCE: Duration = Duration::from_secs(5);

/// The columns, of all functions or of one.
const COLUMNS: &str = "hits::bigint, misses::bigint, bypasses::bigint, fills::bigint";

/// The part of `cache_stats()` that tells how calls were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) hits: i64,
    pub(crate) misses: i64,
    pub(crate) bypasses: i64,
    pub(crate) fills: i64,
}

impl Counters {
    /// The figures of now.
    pub(crate) fn read(client: &mut Client) -> Result<Self> {
        let sql = format!("SELECT {COLUMNS} FROM cache_stats()");
        Ok(Self::from(client.query_one(&sql, &[])?))
    }

    /// The figures of one cached function.
    pub(crate) fn of(client: &mut Client, function: &str) -> Result<Self> {
        let sql = format!(
            "SELECT {COLUMNS} FROM cache_function_stats WHERE function::oid = $1::text::regproc"
        );
        let row = client.query_opt(&sql, &[&function])?;
        Ok(row.map_or_else(Self::default, Self::from))
    }

    /// What was added since, as soon as it satisfies `arrived`; what there is, if it does not in time.
    pub(crate) fn since(
        self,
        client: &mut Client,
        arrived: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let mut added = Ok(Self::default());
        let waited = wait_until("the counters arrive", PATIENCE, || {
            added = Self::read(client).map(|now| now.minus(self));
            added.as_ref().map_or(true, &arrived)
        });
        // In vain or not, the caller judges what is there.
        drop(waited);
        added
    }

    /// How many calls these are.
    pub(crate) fn calls(&self) -> i64 {
        self.hits + self.misses + self.bypasses
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            bypasses: self.bypasses + other.bypasses,
            fills: self.fills + other.fills,
        }
    }

    /// What was added since.
    pub(crate) fn minus(self, earlier: Self) -> Self {
        Self {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            bypasses: self.bypasses - earlier.bypasses,
            fills: self.fills - earlier.fills,
        }
    }
}

impl From<Row> for Counters {
    fn from(row: Row) -> Self {
        Self {
            hits: row.get(0),
            misses: row.get(1),
            bypasses: row.get(2),
            fills: row.get(3),
        }
    }
}

/// How one call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// From the cache.
    Hit,
    /// By the function; the result is in the cache now.
    Filled,
    /// By the function; the result was not stored.
    NotStored,
    /// By the function, on purpose.
    Bypassed,
    /// The counters do not say.
    Unknown,
}

impl From<Counters> for Answer {
    fn from(added: Counters) -> Self {
        match added {
            Counters { bypasses: 1.., .. } => Self::Bypassed,
            Counters { fills: 1.., .. } => Self::Filled,
            Counters { misses: 1.., .. } => Self::NotStored,
            Counters { hits: 1.., .. } => Self::Hit,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "a hit",
            Self::Filled => "computed and stored",
            Self::NotStored => "computed, not stored",
            Self::Bypassed => "computed, the cache left aside",
            Self::Unknown => "not counted",
        })
    }
}
