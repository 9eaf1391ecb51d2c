//! Random attackers. Sessions of many roles send any SQL that a grammar can make, with hostile names, settings, bodies and arguments, to a
//! server with the library preloaded: to a database that has the extension, and to one that has not. A judge looks on.
//!
//! * `ground`: what the attackers find: roles, their schemas, tables with secrets, cached functions of somebody else
//! * `actor`: who attacks
//! * `grammar`: statements from templates (`moves/*.sql`), filled in at random
//! * `attacker`: one session after the other of one thread: sends statements, looks at each error, checks that it can still call
//! * `judge`: what must never happen, asked by a superuser while they attack and in the end
//! * `run`: all of it together; `options`: what a run is told
//!
//! All that a thread does follows from the seed and its number; what the server makes of several threads at once does not. What is found is
//! told with the last statements of the session that met it.

pub mod options;

mod actor;
mod attacker;
mod grammar;
mod ground;
mod judge;
mod run;

pub use options::Options;
pub use run::{Report, run};
