//! Fault injection: places at which a test lets a process be killed, end, fail or stand still.
//!
//! Only the cargo feature `fault_injection` compiles it in, and no release has that. Without it [`point`] and [`fenced`] are empty and
//! inlined and the settings do not exist, so a library holds no trace (`tests/cluster/tests/crash.rs` looks for one).
//!
//! With it `pg_query_cache.fault_point` says where and `pg_query_cache.fault_action` what; a session sets them for itself, the server's
//! file reaches the background processes and the postmaster. A process acts once on what was set, after saying so in the server's log.
//!
//! A new point is a variant of [`Point`], a line at its place, and a scenario in `tests/accidents`, which fails as long as one is
//! missing.

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "fault_injection", derive(pgrx::guc::PostgresGucEnum))]
pub enum Point {
    /// No place: the default of the setting.
    #[cfg(feature = "fault_injection")]
    Nowhere,
    /// A writer is about to register.
    Registering,
    /// The words of a slot are being changed: its sequence number is odd.
    SlotChanging,
    /// A writer has registered and writes next.
    Registered,
    /// A transaction is about to commit.
    Committing,
    /// It has committed, and this backend has not taken notice yet.
    Committed,
    /// It has rolled back, and its registrations are still there.
    Withdrawing,
    /// A flight is given to its leader; the lock is held.
    FlightStarting,
    /// A fill begins: others may wait for it.
    FillBegins,
    /// The base function has answered.
    Computed,
    /// The generations are known under which the result is right; it is stored next.
    Publishing,
    /// Blocks are taken and nobody knows of the entry.
    Reserved,
    /// The entry is in the eviction queue and not in its bucket; the lock is held.
    Linking,
    /// The entry can be found; the lock is held.
    Linked,
    /// An entry is out of the eviction queue and still in its bucket; the lock is held.
    Evicting,
    /// An entry is dead and its blocks are not free yet; the lock is held.
    Releasing,
    /// The flight is over, and those who wait do not know.
    FlightEnding,
    /// A session waits for one that computes.
    Waiting,
    /// Counts are handed over, those of the entries not yet.
    HandingOver,
    /// Entries have been read and are written to the table next.
    Flushing,
    /// They are written, and the transaction goes on.
    Flushed,
    /// They are committed, and memory does not know.
    FlushCommitted,
    /// A row is taken from the table on a miss.
    RowRead,
    /// A row is taken from the table at the start.
    WarmLoading,
    /// The start of tracking is marked, and there are no triggers.
    TrackingMarked,
    /// The triggers are there.
    Tracked,
    /// A clean-up is through with memory.
    CleaningTable,
    /// … and with the table.
    Cleaned,
    /// The launcher is about to start a worker.
    Launching,
    /// A command has asked the worker of a database to leave.
    Holding,
    /// The slots are written, under another name.
    SlotsSaving,
    /// The file of the slots is complete.
    SlotsSaved,
    /// The file has been read and is still there.
    SlotsRead,
    /// The file is gone, and the slots are still empty.
    SlotsRemoved,
}

#[cfg(feature = "fault_injection")]
pub use compiled_in::{define, fenced, point};

/// A place where an ERROR may be raised.
#[cfg(not(feature = "fault_injection"))]
#[inline(always)]
pub fn point(_: Point) {}

/// A place where none may be: a lock is held, or a callback runs. `error` does nothing here.
#[cfg(not(feature = "fault_injection"))]
#[inline(always)]
pub fn fenced(_: Point) {}

#[cfg(feature = "fault_injection")]
#[allow(unsafe_code)]
mod compiled_in {
    use super::Point;
    use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
    use pgrx::prelude::*;
    use std::cell::Cell;

    /// What.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
    enum Action {
        /// SIGKILL.
        Kill,
        /// SIGTERM, obeyed as soon as interrupts are.
        Terminate,
        /// An ERROR.
        Error,
        /// SIGSTOP: stands still until SIGCONT.
        Pause,
    }

    static POINT: GucSetting<Point> = GucSetting::<Point>::new(Point::Nowhere);
    static ACTION: GucSetting<Action> = GucSetting::<Action>::new(Action::Kill);

    /// What this process did last.
    static ACTED: crate::backend::Backend<Cell<Option<(Point, Action)>>> =
        crate::backend::Backend::new(Cell::new(None));

    const SIGKILL: i32 = 9;
    const SIGTERM: i32 = 15;
    const SIGSTOP: i32 = 19;

    unsafe extern "C" {
        fn raise(signal: i32) -> i32;
    }

    /// Defines the settings.
    pub fn define() {
        GucRegistry::define_enum_guc(
            c"pg_query_cache.fault_point",
            c"Sets where something goes wrong.",
            c"For tests.",
            &POINT,
            GucContext::Suset,
            GucFlags::default(),
        );
        GucRegistry::define_enum_guc(
            c"pg_query_cache.fault_action",
            c"Sets what goes wrong.",
            c"For tests.",
            &ACTION,
            GucContext::Suset,
            GucFlags::default(),
        );
    }

    /// A place where an ERROR may be raised.
    pub fn point(here: Point) {
        if act(here) == Some(Action::Error) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
                format!("fault injected at {here:?}")
            );
        }
    }

    /// A place where none may be: a lock is held, or a callback runs. `error` does nothing here.
    pub fn fenced(here: Point) {
        act(here);
    }

    fn act(here: Point) -> Option<Action> {
        if POINT.get() != here {
            return None;
        }
        let action = ACTION.get();
        if ACTED.replace(Some((here, action))) == Some((here, action)) {
            return None;
        }
        eprintln!("pg_query_cache: fault at {here:?}: {action:?}");
        let signal = match action {
            Action::Kill => SIGKILL,
            Action::Terminate => SIGTERM,
            Action::Pause => SIGSTOP,
            Action::Error => return Some(action),
        };
        // SAFETY: a signal to oneself; the server handles SIGTERM, nobody the others.
        unsafe { raise(signal) };
        Some(action)
    }
}
