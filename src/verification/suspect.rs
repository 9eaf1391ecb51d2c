//! The stored result that is being verified, copied out of the memory tier.

#![allow(unsafe_code)]

use crate::dependencies::definitions;
use crate::server;
use crate::store::lookup::{Found, MAX_DEPENDENCIES};
use crate::store::partition::Kind;
use crate::validity::Dependency;
use std::mem::MaybeUninit;

/// A result as bytes, in the form that the memory tier keeps it in.
#[derive(Debug, PartialEq, Eq)]
pub enum Bytes {
    /// NULL.
    Null,
    /// One value.
    Scalar(Vec<u8>),
    /// Rows.
    Rows(Vec<u8>),
    /// More than is stored.
    TooLarge,
}

impl Bytes {
    /// Whether two results are the same. The order of rows is not part of a result: a function that does not sort may return
    /// them in any.
    pub fn equals(&self, other: &Bytes) -> bool {
        match (self, other) {
            (Bytes::Rows(one), Bytes::Rows(other)) => one == other || sorted(one) == sorted(other),
            _ => self == other,
        }
    }
}

fn sorted(rows: &[u8]) -> Vec<&[u8]> {
    let mut rows: Vec<&[u8]> = crate::call::value::rows(rows).collect();
    rows.sort_unstable();
    rows
}

/// A stored result under verification.
#[derive(Debug)]
pub struct Suspect {
    /// What would have been served.
    pub stored: Bytes,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// When it was computed, microseconds since 2000-01-01.
    pub created_at: i64,
    /// It was computed in a session with planner settings of its own.
    pub own_plan: bool,
    /// What the function returned now.
    pub first: Option<Bytes>,
}

impl Suspect {
    /// Whether definitions are those of the transaction's first query: this session may use plans from then until its end.
    pub fn rests_on_known_definitions(&self) -> bool {
        self.dependencies
            .iter()
            .all(|known| definitions::unchanged(*known))
    }

    /// A copy of an entry; `None` if it went away meanwhile.
    pub fn of(found: &Found) -> Option<Suspect> {
        let mut buffer = [const { MaybeUninit::uninit() }; MAX_DEPENDENCIES];
        let dependencies = found.dependencies(&mut buffer)?.to_vec();
        let kind = found.kind()?;
        // SAFETY: on the backend's main thread; as many bytes as the head says were copied.
        let bytes = unsafe {
            let value = found.value()?;
            let bytes =
                std::slice::from_raw_parts(value, found.head.value_length as usize).to_vec();
            server::pfree(value.cast());
            bytes
        };
        Some(Suspect {
            stored: match kind {
                Kind::Null => Bytes::Null,
                Kind::Scalar => Bytes::Scalar(bytes),
                Kind::Rows => Bytes::Rows(bytes),
            },
            dependencies,
            created_at: found.head.created_at,
            own_plan: found.head.own_plan != 0,
            first: None,
        })
    }
}
