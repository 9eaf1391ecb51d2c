//! One program: linking three would take longer than running them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod ended;
mod killed;
mod locks;
mod paused;
