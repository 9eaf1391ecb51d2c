//! A mixed load: operations that are drawn beforehand, so that they are the same each time, and sessions that carry them out.

mod driver;
mod kinds;
mod plan;

pub(crate) use driver::{Latency, Outcome, Session, run};
pub(crate) use kinds::ALL;
pub(crate) use plan::{Keys, arrivals};
