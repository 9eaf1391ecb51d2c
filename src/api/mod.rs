//! SQL functions, a file per family: decode, call, return.

mod access;
pub mod caching;
pub mod configuration;
mod emergency;
pub mod explain;
mod figures;
pub mod health;
pub mod invalidation;
pub mod looking;
mod metrics;
mod named;
mod outdated;
mod track;
mod trends;
pub mod upkeep;
pub mod values;
pub mod verification;
pub mod warming;
