//! What people are told about the codes of outcomes and reasons: what each means and what to do about it. The one place for these
//! words; `cache_reasons()` shows them, and a test holds the reference page against it.

use super::outcome::Reason;
use crate::error::PRELOAD_HINT;
use pg_query_cache_worth::{Rest, Why};

/// What a question about a call can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A stored result is right.
    Valid,
    /// A stored result is young enough, and no more is known: the function uses the clock.
    BoundedByAge,
    /// Nothing is stored for the call.
    Absent,
    /// What is stored has been invalidated.
    Invalidated,
    /// What is stored is at the end of its life.
    Expired,
    /// What is stored is older than the caller accepts.
    TooOld,
    /// The function is strict, and an argument is NULL.
    NullArgument,
    /// The function itself answers, or what it computes is not stored.
    Not(Reason),
}

impl Finding {
    /// All that are no [`Reason`].
    const OWN: [Finding; 7] = [
        Finding::Valid,
        Finding::BoundedByAge,
        Finding::Absent,
        Finding::Invalidated,
        Finding::Expired,
        Finding::TooOld,
        Finding::NullArgument,
    ];

    /// All findings.
    pub fn all() -> impl Iterator<Item = Finding> {
        Self::OWN
            .into_iter()
            .chain(Reason::ALL.into_iter().map(Finding::Not))
    }

    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Finding::Valid => "valid",
            Finding::BoundedByAge => "bounded_by_age",
            Finding::Absent => "absent",
            Finding::Invalidated => "invalidated",
            Finding::Expired => "expired",
            Finding::TooOld => "too_old",
            Finding::NullArgument => "null_argument",
            Finding::Not(reason) => reason.code(),
        }
    }

    /// What becomes of a call: `hit`, `miss`, `bypass`; or `not stored`, which is found out by a miss only after it was computed.
    pub fn kind(self) -> &'static str {
        match self {
            Finding::Valid | Finding::BoundedByAge => "hit",
            Finding::Absent | Finding::Invalidated | Finding::Expired | Finding::TooOld => "miss",
            Finding::NullArgument => "bypass",
            Finding::Not(reason) if reason.is_bypass() => "bypass",
            Finding::Not(_) => "not stored",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Finding::Valid => "a stored result is right for the caller's snapshot and young enough",
            Finding::BoundedByAge => {
                "a stored result is right but for the time, and young enough: the function uses the clock, so its result is bounded by age"
            }
            Finding::Absent => {
                "nothing is stored for these arguments, this role and these settings"
            }
            Finding::Invalidated => {
                "a result is stored, but what it depends on has been written since"
            }
            Finding::Expired => "a result is stored, but its time to live is over",
            Finding::TooOld => {
                "a result is stored, but it is older than cache_duration, or the present time to live, accepts"
            }
            Finding::NullArgument => "an argument is NULL and the function is STRICT",
            Finding::Not(reason) => reason.meaning(),
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Finding::Valid => "Nothing to do: the call is answered from the cache.",
            Finding::BoundedByAge => {
                "If of the time only the minute, the hour or the day matters, give \"clock\": \"minute\", \"hour\" or \"day\"; if the age of a result matters, a shorter ttl."
            }
            Finding::Absent => "Nothing to do: the next call computes the result and stores it.",
            Finding::Invalidated => {
                "Nothing to do: the next call computes it anew. If other rows than the ones it needs are written often, give key columns in depends_on."
            }
            Finding::Expired => {
                "Nothing to do: the next call computes it anew. If the results stay right for longer, give a longer ttl."
            }
            Finding::TooOld => {
                "Give a longer cache_duration, or leave it out; without one the time to live has become shorter."
            }
            Finding::NullArgument => "Nothing to do: the answer is NULL, or no rows, at once.",
            Finding::Not(reason) => reason.remedy(),
        }
    }
}

impl Reason {
    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Reason::Disabled => "pg_query_cache.enabled is off",
            Reason::NotPreloaded => {
                "the library is not in shared_preload_libraries (one WARNING per session)"
            }
            Reason::Recovery => "the server is in recovery, or the snapshot was taken there",
            Reason::Serializable => "the transaction is SERIALIZABLE",
            Reason::ParallelWorker => "the call runs in a parallel worker",
            Reason::NoSnapshot => "there is no snapshot to be exact in",
            Reason::TemporaryObjects => "the session has temporary objects, which names may mean",
            Reason::ReplicaRole => {
                "session_replication_role is replica: rows are marked only after they changed"
            }
            Reason::UnknownWriters => {
                "a transaction that nobody marks is not finished: one from before the extension was created"
            }
            Reason::OwnWrites => "the transaction has written what the result depends on",
            Reason::OldSnapshot => "the snapshot is older than a write that others see",
            Reason::Crowded => {
                "more writers at once than can be told apart, or a definition is changing right now"
            }
            Reason::TooLarge => {
                "larger than pg_query_cache.max_entry_size or a quarter of a partition; or an argument of the call is larger than the former"
            }
            Reason::NoRoom => "no memory could be had, or no place below max_entries",
            Reason::Untracked => "a relation that was read is not tracked",
            Reason::Writes => {
                "the function wrote, locked rows, changed a setting, or ran a command"
            }
            Reason::NewerSnapshot => {
                "a part of the function read under a newer snapshot (a VOLATILE function inside)"
            }
            Reason::ParallelReads => "a parallel worker ran queries of its own",
            Reason::ForeignCursor => {
                "the function fetched from a cursor that was opened outside, or a cursor WITH HOLD is open"
            }
            Reason::RestsOnAge => "a strict function used a result that is kept by age",
            Reason::TooManyDependencies => "more than 64 dependencies",
            Reason::NoAge => "the caller accepts no age",
            Reason::DefinitionsChanged => {
                "a definition has changed since the transaction began; this session may still use plans from before"
            }
            Reason::OthersPlan => {
                "a function inside was planned or compiled for another role, under other settings, or when names in it meant something else: a SQL function earlier in the transaction, one in PL/pgSQL earlier in the session, whose declarations name types that are others by now or in another search path"
            }
            Reason::AnonymousRow => "an argument is a row without a named type",
            Reason::Quarantined => "a stored result of the function was wrong; it is in quarantine",
            Reason::Verification => {
                "a function around it is being verified, with all that it calls"
            }
            Reason::DatabaseDisabled => "the configuration has the cache off for this database",
            Reason::ClassDisabled => {
                "the configuration has the cache off for the class of the function"
            }
            Reason::FunctionDisabled => "the configuration has the cache off for the function",
            Reason::ConfigurationLocked => {
                "somebody has the table cache_configuration locked, so the configuration cannot be read"
            }
            Reason::NotWorthwhile => {
                "caching the function does not pay at present, so it rests: its results come to their end before they are hit, or it is as cheap to run"
            }
            Reason::SecurityContext => {
                "the server acts for the owner of an object: an action of a foreign key, a materialized view, an index on an expression"
            }
            Reason::NoRow => {
                "the function has no row in shared memory, where what is known of it would be kept: there are more cached functions than rows, it is temporary, or cache_quarantine is locked"
            }
            Reason::BaseNotCacheable => {
                "the base function has been replaced or altered so that its results cannot be cached any more: it is VOLATILE by now, say"
            }
            Reason::VolatileFunction => {
                "the function called one that is VOLATILE: its result may change at any time, or a hit would not do what it does"
            }
            Reason::UnlistedFunction => {
                "the function called one in C, or in another language than SQL and PL/pgSQL, of which nobody has said what it reads"
            }
            Reason::CaughtError => {
                "the function caught an error that its data did not make: a lock, time, memory, a file, something of the session"
            }
            Reason::OpenCursor => {
                "the function left a cursor open, which would not be there at a hit"
            }
            Reason::ReadInParts => {
                "the caller asked for the rows of the set one by one, in a SELECT list, and not for all of them, or began something else before the last"
            }
            Reason::ImportedSnapshot => {
                "the transaction has imported its snapshot (SET TRANSACTION SNAPSHOT), or the process is a walsender: such a snapshot may be one of a logical replication slot, which sees transactions in another order than everybody else"
            }
            Reason::ReadsSession => {
                "the function read what only this session has: pg_backend_pid(), lastval(), pg_settings, the stack of its callers and the like"
            }
            Reason::ReadsOutside => {
                "the function read what no transaction covers: a file, a large object, a size, statistics, where a row lies"
            }
            Reason::SettingsLearned => {
                "the function asked for settings, or loaded a library with settings that no key knew, for the first time since the server started; from the next call on they are part of its keys"
            }
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Reason::Disabled => "SET pg_query_cache.enabled = on;",
            Reason::NotPreloaded => PRELOAD_HINT,
            Reason::Recovery => "Ask the primary: a standby answers from the functions themselves.",
            Reason::Serializable => {
                "Use REPEATABLE READ or READ COMMITTED where SERIALIZABLE is not needed."
            }
            Reason::ParallelWorker => {
                "Declare the function that calls it PARALLEL RESTRICTED, like the cached one."
            }
            Reason::NoSnapshot => "Call the function in a query.",
            Reason::TemporaryObjects => {
                "DISCARD TEMP; or use temporary tables in a session of their own."
            }
            Reason::ReplicaRole => "SET session_replication_role = origin; in sessions that read.",
            Reason::UnknownWriters => {
                "COMMIT PREPARED or ROLLBACK PREPARED what SELECT gid FROM pg_prepared_xacts; shows."
            }
            Reason::OwnWrites => "Nothing to do: it is over with the transaction.",
            Reason::OldSnapshot => {
                "Nothing to do: a newer snapshot is answered from the cache. Keep REPEATABLE READ transactions and cursors short."
            }
            Reason::Crowded => {
                "Nothing to do: it is over when they end. Look for transactions that were left open in pg_stat_activity and pg_prepared_xacts."
            }
            Reason::TooLarge => {
                "Raise pg_query_cache.max_entry_size, or pg_query_cache.memory, or let the function return less."
            }
            Reason::NoRoom => "Raise pg_query_cache.memory, or max_entries by set_cache_config().",
            Reason::Untracked => {
                "SELECT cache_track_table('…'); with the TRIGGER privilege on the table. What cannot be tracked takes \"consistency\": \"ttl\"."
            }
            Reason::Writes => "Cache a function that only reads.",
            Reason::NewerSnapshot => {
                "Declare the functions that it calls STABLE, if they only read."
            }
            Reason::ParallelReads => {
                "Declare the functions in its queries that run queries themselves PARALLEL RESTRICTED."
            }
            Reason::ForeignCursor => "Open the cursor in the function, close those WITH HOLD.",
            Reason::RestsOnAge => {
                "Give this function \"consistency\": \"ttl\" too, or let it call the uncached function."
            }
            Reason::TooManyDependencies => {
                "Let the function read fewer tables, or cache parts of it by themselves."
            }
            Reason::NoAge => "Give a longer cache_duration, or leave it out.",
            Reason::DefinitionsChanged => "Nothing to do: the next transaction stores the result.",
            Reason::OthersPlan => {
                "Nothing to do: the next transaction stores the result, or another session. If a session works under many search paths, give the functions their own: ALTER FUNCTION … SET search_path."
            }
            Reason::AnonymousRow => "Cast the argument to a named composite type.",
            Reason::Quarantined => {
                "Look for the reason in the server's log, then SELECT cache_function_resume('…');"
            }
            Reason::Verification => "Nothing to do: it is over with the call that is verified.",
            Reason::DatabaseDisabled => "SELECT set_cache_config('enabled', 'on');",
            Reason::ClassDisabled => "SELECT set_cache_config('class.….enabled', 'on');",
            Reason::FunctionDisabled => "SELECT set_cache_config('function.….enabled', 'on');",
            Reason::ConfigurationLocked => {
                "Nothing to do: it is over when the lock is released; pg_locks shows who has it."
            }
            Reason::NotWorthwhile => {
                "Nothing to do: it is stored again when that pays. Give key columns in depends_on if writes to other rows invalidate it; SELECT set_cache_config('function.….adaptive', 'off'); stores it all the same."
            }
            Reason::SecurityContext => {
                "Nothing to do: the function itself answers there, because it may see other rows than elsewhere."
            }
            Reason::NoRow => {
                "Drop cached functions that nobody needs, or raise pg_query_cache.memory; analyze_cache_health() says how many rows there are."
            }
            Reason::BaseNotCacheable => {
                "Look at what analyze_cache_health() says of the function: mend the base function, or do not cache it."
            }
            Reason::VolatileFunction => {
                "If it only reads, declare it STABLE, or give \"consistency\": \"ttl\" if age alone decides. If it does something (nextval() and the like), do not cache what calls it: a hit would not do it."
            }
            Reason::UnlistedFunction => {
                "If its result depends on its arguments and on tables alone, name it in \"trust\" or in pg_query_cache.trusted_functions; or give \"consistency\": \"ttl\" if age alone decides."
            }
            Reason::CaughtError => {
                "Nothing to do: a call in which there is no such error is stored."
            }
            Reason::OpenCursor => "Let the function close its cursors.",
            Reason::ReadInParts => {
                "Call the function in FROM, where all rows are read at once: its result is stored, and then served in a SELECT list too."
            }
            Reason::ImportedSnapshot => {
                "Nothing to do: the function itself answers until the transaction ends."
            }
            Reason::ReadsSession => {
                "Hand it to the function as an argument, or give \"scope\": \"shared\" or \"claims\" if the result does not depend on it."
            }
            Reason::ReadsOutside => "Give \"consistency\": \"ttl\" if age alone decides.",
            Reason::SettingsLearned => "Nothing to do: the next call stores its result.",
        }
    }
}

/// The figures because of which a function rests, in sentences.
pub fn figures(rest: &Rest) -> String {
    let stored = match rest.why {
        Why::Invalidated => Some("that writes had invalidated were stored again"),
        Why::Expired => Some("that had become too old were stored again"),
        Why::NotAskedAgain => Some("were stored"),
        Why::CheapToRun => None,
    };
    let stored = stored.map_or_else(String::new, |what| {
        format!(
            "{} results {what}, with {} hit{} in the same time. ",
            rest.stored,
            rest.hits,
            if rest.hits == 1 { "" } else { "s" }
        )
    });
    let us = |ns: f64| ns / 1000.0;
    format!(
        "{stored}Running the function takes {:.1} us, a hit {:.1} us, storing a result {:.1} us.",
        us(rest.run_ns),
        us(rest.hit_ns),
        us(rest.storing_ns)
    )
}

/// What would bring a resting function back, in a sentence.
pub fn return_of(rest: &Rest) -> &'static str {
    match rest.why {
        Why::CheapToRun => "Its runs are measured on: it is stored again when they take longer.",
        _ => "A part of its keys is stored in turns: if they are hit, all are stored again.",
    }
}
