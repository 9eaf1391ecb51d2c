//! SQL functions, a file per family: decode, call, return.

pub mod caching;
pub mod configuration;
pub mod explain;
pub mod health;
pub mod invalidation;
pub mod looking;
pub mod upkeep;
pub mod values;
pub mod verification;
pub mod warming;
