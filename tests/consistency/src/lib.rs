//! The consistency oracle: is a cached call ever different from the function itself, whatever others write meanwhile?
//!
//! One statement computes `f(k)` and `f_cached(k)`, the bare function first, so both see the same snapshot and the
//! answers must be equal. Reader sessions ask in every way a client can ([`plan::Mode`]); writer sessions change what
//! the functions read in every way PostgreSQL offers ([`operations::OPERATIONS`]); every sequence comes from a seed.
//! What must hold is in [`invariants`]:
//!
//! 1. a cached answer equals the function's own answer in the same statement, also after one's own writes;
//! 2. within one snapshot an answer repeats itself;
//! 3. once a COMMIT is acknowledged, the next call in any session sees it;
//! 4. writers never wait for those who only read.
//!
//! Rows come by logical replication too, from a second database ([`operations::UPSTREAM`]), and the server may be restarted
//! in the middle of everything ([`Options::restarts`]).
//!
//! The same run against the usual table cache ([`Cache::Classical`]) finds differences, and against no cache at all
//! ([`Cache::None`]) finds none: so the oracle can see, and does not see ghosts.
//!
//! Some DDL changes what a function does without any lock that a running statement would notice (another function
//! body, another partition). Subjects exposed to it are *guarded*: a shared advisory lock around the comparing
//! statement keeps that DDL between statements, but not out of older snapshots.

pub mod invariants;
pub mod operations;
pub mod options;
pub mod plan;
pub mod report;
pub mod rng;
pub mod run;
pub mod soak;
pub mod subject;

mod comparison;
mod install;
mod monitor;
mod publisher;
mod reader;
mod restart;
mod shared;
mod writer;

pub use options::{Cache, Options};
pub use report::Report;
pub use run::run;
