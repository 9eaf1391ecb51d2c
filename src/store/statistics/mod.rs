//! Counters: one row per cached function in shared memory, collected per backend and handed over in batches.
//!
//! * `counts`: the counters of a function as plain numbers, and what is calculated from them
//! * `functions`: the rows in shared memory; beside the counters, what was learned and noted of a function
//! * `pending`: what a backend has counted, and when it hands it over
//! * `samples`: what of the times measured counts
//!
//! ```text
//! call ── count ─▶ pending (this backend) ── hand_over ─▶ functions (shared memory) ── read_all ─▶ Counts
//! ```
//!
//! Locks: counting takes none. Counters in shared memory are atomic; they are added to under the functions' lock, shared.

mod counts;
mod functions;
mod pending;
mod samples;

pub use counts::Counts;
pub use functions::{FUNCTION_BYTES, FunctionRow, Functions, Getting, OwnRow};
pub use pending::{charge, count, count_hit, hand_over, hand_over_if_due, judge, measured};
