//! What SQL functions and health look at together: counters, entries and the time of writers, by function.

#![allow(unsafe_code)]

use crate::call::outcome::Reason;
use crate::compat;
use crate::store::area::Area;
use crate::store::charges::Charge;
use crate::store::layout::BLOCK;
use crate::store::partition::blocks_for;
use crate::store::statistics::{self, Counts};
use crate::store::walk::{Seen, survey};
use pgrx::pg_sys;
use std::collections::BTreeMap;

/// One function.
pub struct FunctionFigures {
    /// The cached function; it may have been dropped since.
    pub function: pg_sys::Oid,
    /// Its counters.
    pub counts: Counts,
    /// Entries in memory.
    pub entries: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Its share of the time of writers, in nanoseconds.
    pub writer_ns: u64,
}

impl FunctionFigures {
    /// Time that its callers were spared, less the time that its writers were charged, in seconds.
    pub fn net_benefit(&self) -> f64 {
        self.counts.saved_us as f64 / 1e6 - self.writer_ns as f64 / 1e9
    }
}

/// A tracked relation that somebody wrote to.
pub struct RelationFigures {
    /// The top of its tree; it may have been dropped since.
    pub relation: pg_sys::Oid,
    /// What tracking it cost.
    pub charge: Charge,
    /// How many functions have read it.
    pub readers: u64,
}

/// Everything of the present database.
pub struct Figures {
    /// By function.
    pub functions: Vec<FunctionFigures>,
    /// Of this database, but of no function that is known any more.
    pub others: Counts,
    /// By relation that was written to.
    pub relations: Vec<RelationFigures>,
    /// All functions together.
    pub total: Counts,
    /// Entries in memory.
    pub entries: Vec<Seen>,
    /// Time of all writers, in nanoseconds.
    pub writer_ns: u64,
    /// Bytes of memory in use, of the whole server.
    pub used: u64,
}

impl Figures {
    /// As they are now: what this session has counted is handed over first, and writers that have ended are settled.
    pub fn of_database(area: Area) -> Self {
        statistics::hand_over(area);
        area.slots().settle_all();
        let database = compat::database();
        let entries = entries_of_database(area);
        let mut by_function: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for entry in &entries {
            let own = by_function.entry(entry.head.function).or_default();
            own.0 += 1;
            own.1 += bytes_of(entry);
        }
        let charges = area.charges().read_all(database);
        let (shares, readers) = shares(area, database, &charges);
        let (mut total, mut others) = (Counts::default(), Counts::default());
        let functions = area
            .functions()
            .read_all(database)
            .into_iter()
            .filter_map(|(function, counts)| {
                total.add(&counts);
                if function == pg_sys::InvalidOid {
                    others = counts;
                    return None;
                }
                let number = function.to_u32();
                let (entries, bytes) = by_function.get(&number).copied().unwrap_or_default();
                Some(FunctionFigures {
                    function,
                    counts,
                    entries,
                    bytes,
                    writer_ns: shares.get(&number).copied().unwrap_or_default(),
                })
            })
            .collect();
        Figures {
            functions,
            others,
            writer_ns: charges.iter().map(|(_, charge)| charge.ns).sum(),
            relations: charges
                .into_iter()
                .filter(|(relation, _)| *relation != pg_sys::InvalidOid)
                .map(|(relation, charge)| RelationFigures {
                    relation,
                    charge,
                    readers: readers.get(&relation.to_u32()).copied().unwrap_or_default(),
                })
                .collect(),
            total,
            entries,
            used: used(area),
        }
    }

    /// Without what was counted of one function.
    pub fn without(mut self, function: pg_sys::Oid) -> Self {
        self.functions
            .retain(|figures| figures.function != function);
        self.total = self.others;
        for figures in &self.functions {
            self.total.add(&figures.counts);
        }
        self
    }

    /// Time that all callers were spared, less the time that all writers were charged, in seconds.
    pub fn net_benefit(&self) -> f64 {
        self.total.saved_us as f64 / 1e6 - self.writer_ns as f64 / 1e9
    }
}

/// The time of the writers of a relation belongs to the functions that have read it, in equal parts. Returns the nanoseconds by
/// function, and the number of functions by relation. Functions that were dropped have no part in it.
fn shares(
    area: Area,
    database: pg_sys::Oid,
    charges: &[(pg_sys::Oid, Charge)],
) -> (BTreeMap<u32, u64>, BTreeMap<u32, u64>) {
    let (mut shares, mut readers) = (BTreeMap::new(), BTreeMap::new());
    let read: Vec<_> = area
        .functions()
        .relations(database)
        .into_iter()
        .filter(|(function, relations)| !relations.is_empty() && exists(*function))
        .collect();
    for (_, relations) in &read {
        for relation in relations {
            *readers.entry(relation.to_u32()).or_default() += 1;
        }
    }
    for (function, relations) in &read {
        let ns = charges
            .iter()
            .filter(|(relation, _)| relations.contains(relation))
            .map(|(relation, charge)| charge.ns / readers.get(&relation.to_u32()).unwrap_or(&1))
            .sum();
        shares.insert(function.to_u32(), ns);
    }
    (shares, readers)
}

pub use crate::compat::function_exists as exists;

/// Entries of this database.
pub fn entries_of_database(area: Area) -> Vec<Seen> {
    let database = compat::database().to_u32();
    area.partitions()
        .flat_map(|partition| survey(partition, |head| head.database == database))
        .collect()
}

/// Bytes of an entry.
pub fn bytes_of(seen: &Seen) -> u64 {
    u64::from(blocks_for(seen.head.payload())) * BLOCK as u64
}

/// Bytes of memory in use, of the whole server.
pub fn used(area: Area) -> u64 {
    area.partitions()
        .map(|partition| u64::from(partition.blocks() - partition.counts().1) * BLOCK as u64)
        .sum()
}

/// Calls answered by the function on purpose, and results not stored, by reason.
pub fn reasons(counts: &Counts) -> Option<pgrx::AnyElement> {
    let reasons = Reason::ALL
        .iter()
        .map(|reason| (reason, counts.reasons[*reason as usize]))
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.code().to_owned(), count.into()))
        .collect();
    crate::encoding::json(&serde_json::Value::Object(reasons))
}
