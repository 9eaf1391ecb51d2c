//! What can become of a call, and the stable codes of the reasons why it was not served from, or not put into, the cache.

use pgrx::pg_sys;

/// Why a call was answered by the function itself and nothing was stored.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `pg_query_cache.enabled` is off.
    Disabled,
    /// The library is not preloaded.
    NotPreloaded,
    /// The server is in recovery.
    Recovery,
    /// The transaction is SERIALIZABLE.
    Serializable,
    /// The call runs in a parallel worker.
    ParallelWorker,
    /// There is no MVCC snapshot to be exact in.
    NoSnapshot,
    /// The session has temporary objects that names may mean.
    TemporaryObjects,
    /// `session_replication_role` is `replica`: rows that this session applies are marked only after they can be read by it.
    ReplicaRole,
    /// A transaction that nobody marks is not finished, and may have written anything: one prepared before the last start, or one from
    /// before the extension was created ([`crate::gate`]).
    UnknownWriters,
    /// The transaction has written what the result depends on.
    OwnWrites,
    /// The snapshot is older than a write that others see already.
    OldSnapshot,
    /// Too many writers at once to tell apart.
    Crowded,
    /// The result is too large.
    TooLarge,
    /// No room in the memory tier.
    NoRoom,
    /// The function read a relation that is not tracked.
    Untracked,
    /// The function wrote, or ran a utility command.
    Writes,
    /// The function read under a newer snapshot (it called a volatile function).
    NewerSnapshot,
    /// A parallel worker ran queries of its own, which cannot be recorded.
    ParallelReads,
    /// The function fetched from a cursor that was opened before.
    ForeignCursor,
    /// The result rests on an entry that is kept by age only.
    RestsOnAge,
    /// The function depends on more than an entry can hold.
    TooManyDependencies,
    /// The caller accepts no age at all.
    NoAge,
    /// Definitions have changed since the transaction began.
    DefinitionsChanged,
    /// An argument is a row without a named type.
    AnonymousRow,
    /// The function is in quarantine: a stored result of it differed from its own.
    Quarantined,
    /// A stored result is being compared with the function's own, which calls everything that it calls.
    Verification,
    /// The function read what only its session has.
    ReadsSession,
    /// The function read what no transaction covers: a file, a large object, a size.
    ReadsOutside,
    /// The function was seen asking for settings for the first time; from now on they are part of its keys.
    SettingsLearned,
    /// A SQL function on the way ran with a plan that was made for another role or search path.
    OthersPlan,
    /// The configuration has switched the cache off for the database.
    DatabaseDisabled,
    /// … for the class of the function.
    ClassDisabled,
    /// … for the function.
    FunctionDisabled,
    /// The configuration cannot be read right now.
    ConfigurationLocked,
    /// Caching the function does not pay at present.
    NotWorthwhile,
    /// The server acts for the owner of an object: other rows may be visible, other things allowed.
    SecurityContext,
    /// The function has no row in shared memory, where what is known of it is kept.
    NoRow,
    /// The base function cannot be cached as it is now, as it could when the cached function was created.
    BaseNotCacheable,
    /// The function called one that is VOLATILE.
    VolatileFunction,
    /// The function called one of which nobody knows what it reads: in C, or in another language than SQL and PL/pgSQL.
    UnlistedFunction,
    /// The function caught an error that its data did not make: of time, memory, locks, files, the session.
    CaughtError,
    /// The function left a cursor open.
    OpenCursor,
    /// The transaction's snapshot was imported, or the process is a walsender: it need not be a cut through the order of ends.
    ImportedSnapshot,
    /// The caller asked for the rows of a set one by one, and not for all, or something else came in between.
    ReadInParts,
}

/// Number of reasons.
pub const REASONS: usize = 44;

impl Reason {
    /// All reasons, in order of their numbers.
    pub const ALL: [Reason; REASONS] = [
        Reason::Disabled,
        Reason::NotPreloaded,
        Reason::Recovery,
        Reason::Serializable,
        Reason::ParallelWorker,
        Reason::NoSnapshot,
        Reason::TemporaryObjects,
        Reason::ReplicaRole,
        Reason::UnknownWriters,
        Reason::OwnWrites,
        Reason::OldSnapshot,
        Reason::Crowded,
        Reason::TooLarge,
        Reason::NoRoom,
        Reason::Untracked,
        Reason::Writes,
        Reason::NewerSnapshot,
        Reason::ParallelReads,
        Reason::ForeignCursor,
        Reason::RestsOnAge,
        Reason::TooManyDependencies,
        Reason::NoAge,
        Reason::DefinitionsChanged,
        Reason::AnonymousRow,
        Reason::Quarantined,
        Reason::Verification,
        Reason::ReadsSession,
        Reason::ReadsOutside,
        Reason::SettingsLearned,
        Reason::OthersPlan,
        Reason::DatabaseDisabled,
        Reason::ClassDisabled,
        Reason::FunctionDisabled,
        Reason::ConfigurationLocked,
        Reason::NotWorthwhile,
        Reason::SecurityContext,
        Reason::NoRow,
        Reason::BaseNotCacheable,
        Reason::VolatileFunction,
        Reason::UnlistedFunction,
        Reason::CaughtError,
        Reason::OpenCursor,
        Reason::ImportedSnapshot,
        Reason::ReadInParts,
    ];

    /// Stable code of the reason.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Disabled => "disabled",
            Reason::NotPreloaded => "not_preloaded",
            Reason::Recovery => "recovery",
            Reason::Serializable => "serializable",
            Reason::ParallelWorker => "parallel_worker",
            Reason::NoSnapshot => "no_snapshot",
            Reason::TemporaryObjects => "temporary_objects",
            Reason::ReplicaRole => "replica_role",
            Reason::UnknownWriters => "unknown_writers",
            Reason::OwnWrites => "own_writes",
            Reason::OldSnapshot => "old_snapshot",
            Reason::Crowded => "crowded",
            Reason::TooLarge => "too_large",
            Reason::NoRoom => "no_room",
            Reason::Untracked => "untracked",
            Reason::Writes => "writes",
            Reason::NewerSnapshot => "newer_snapshot",
            Reason::ParallelReads => "parallel_reads",
            Reason::ForeignCursor => "foreign_cursor",
            Reason::RestsOnAge => "rests_on_age",
            Reason::TooManyDependencies => "too_many_dependencies",
            Reason::NoAge => "no_age",
            Reason::DefinitionsChanged => "definitions_changed",
            Reason::AnonymousRow => "anonymous_row",
            Reason::Quarantined => "quarantined",
            Reason::Verification => "verification",
            Reason::ReadsSession => "reads_session",
            Reason::ReadsOutside => "reads_outside",
            Reason::SettingsLearned => "settings_learned",
            Reason::OthersPlan => "others_plan",
            Reason::DatabaseDisabled => "database_disabled",
            Reason::ClassDisabled => "class_disabled",
            Reason::FunctionDisabled => "function_disabled",
            Reason::ConfigurationLocked => "configuration_locked",
            Reason::NotWorthwhile => "not_worthwhile",
            Reason::SecurityContext => "security_context",
            Reason::NoRow => "no_row",
            Reason::BaseNotCacheable => "base_not_cacheable",
            Reason::VolatileFunction => "volatile_function",
            Reason::UnlistedFunction => "unlisted_function",
            Reason::CaughtError => "caught_error",
            Reason::OpenCursor => "open_cursor",
            Reason::ImportedSnapshot => "imported_snapshot",
            Reason::ReadInParts => "read_in_parts",
        }
    }

    /// Whether a function is to blame.
    pub fn blames_function(self) -> bool {
        matches!(
            self,
            Reason::VolatileFunction
                | Reason::UnlistedFunction
                | Reason::ReadsSession
                | Reason::ReadsOutside
        )
    }

    /// Whether the call did not look for an entry at all, or could not use one: a bypass. The others are misses that were not stored.
    pub fn is_bypass(self) -> bool {
        (self as u8) <= Reason::Crowded as u8
            || matches!(
                self,
                Reason::AnonymousRow
                    | Reason::Quarantined
                    | Reason::Verification
                    | Reason::DatabaseDisabled
                    | Reason::ClassDisabled
                    | Reason::FunctionDisabled
                    | Reason::ConfigurationLocked
                    | Reason::NotWorthwhile
                    | Reason::SecurityContext
                    | Reason::NoRow
                    | Reason::BaseNotCacheable
                    | Reason::ImportedSnapshot
            )
    }
}

/// Why a computed result was not stored.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The relation that is to blame, or the function if [`Reason::blames_function`]; or invalid.
    pub relation: pg_sys::Oid,
}

impl<R: Into<Reason>> From<R> for Refusal {
    fn from(reason: R) -> Self {
        Refusal {
            reason: reason.into(),
            relation: pg_sys::InvalidOid,
        }
    }
}

/// What became of a call, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// No entry.
    Miss,
    /// An entry that a write had invalidated.
    Invalidated,
    /// An entry that was too old.
    Expired,
    /// Waited for another session's computation.
    Waited,
    /// The function was run.
    Computed {
        /// How long it took, in microseconds.
        us: u64,
    },
    /// The result was stored.
    Stored,
    /// What a result that was stored on account of a call has cost.
    Cost {
        /// Nanoseconds in the function.
        computing_ns: u64,
        /// Nanoseconds that storing it took.
        storing_ns: u64,
    },
    /// How long a hit took, of one that was measured.
    Hit {
        /// In nanoseconds.
        ns: u64,
    },
    /// How long the function took by itself, of a run that was measured.
    Ran {
        /// In nanoseconds.
        ns: u64,
    },
    /// A hit of a result past its time to live.
    Stale,
    /// A stored result is computed anew before it is too old.
    Refreshed,
    /// Answered by the function on purpose, or not stored.
    Not(Reason),
    /// A stored result was compared with the function's own.
    Verified(Verdict),
}

/// What comparing a stored result with the function's own came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are equal.
    Same,
    /// They differ because the function does not repeat itself: it gave two results in a row.
    Nondeterministic,
    /// They differ, and the function depends on the clock: it gave another result under the time of the stored one.
    TimeDependent,
    /// They differ, and neither explains it: the stored result should not have been served.
    Different,
}
