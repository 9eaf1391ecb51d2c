//! Table tier.
pub mod cleanup;
pub mod row;
pub mod warm;
pub mod write_behind;
