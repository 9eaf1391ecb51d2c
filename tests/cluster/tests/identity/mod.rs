//! Whose result it is: whatever changes what a function answers to somebody (rights, policies, roles, definitions, names, settings),
//! every session answers as the function itself would, at once, also those that are open and have the answer cached.
//!
//! * `house`: the roles and tables that the tests live in, sessions, and `both`: a function and its cached function compared
//! * `change`: one change, before, during and after its transaction, in all open sessions
//! * `rights`, `policies`, `definitions`, `names`: tables of changes
//! * `settings`: sessions that differ in a setting
//! * `postgrest`: requests as PostgREST makes them
//! * `hostile`: somebody who wants the results of others; `leaks`: ways on which they were had
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod change;
mod definitions;
mod hostile;
mod house;
mod leaks;
mod names;
mod policies;
mod postgrest;
mod rights;
mod settings;
