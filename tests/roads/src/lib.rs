//! Random scripts on roads that a list of faults would not name. A script is a few sessions that take turns, a statement at a time, in a
//! small world that is made anew for it; it runs on a server with the cache and, in the same order, on one without. A cached call has to
//! answer as the function itself does in the same session, and as the function does on the other server. A script that shows a difference
//! is made shorter as long as it shows it, and printed with its seed.
//!
//! * `road`: a file of `roads/*.sql`: what its world holds, what is asked, what else is done
//! * `vocabulary`: the words of such a file that stand for something made up: all settings, all built-in functions
//! * `script`: what comes of a seed
//! * `servers`: the two servers, their sessions, what a statement brings
//! * `play`: runs a script and judges
//! * `shrink`: makes it shorter
//! * `run`: many scripts, and what came of them; `options`: what a run is told
//!
//! Because one statement runs at a time, whoever has to wait for a lock waits in vain: `lock_timeout` ends it on both servers however fast
//! the machine is. A script is therefore the same each time it runs. What several sessions do at the same moment is the oracle's
//! (`tests/consistency`).

pub mod options;

mod play;
mod road;
mod run;
mod script;
mod servers;
mod shrink;
mod vocabulary;

pub use options::Options;
pub use road::names;
pub use run::{Report, run};
