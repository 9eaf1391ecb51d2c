//! Errors that users can meet, and the one place that turns them into SQLSTATE, message, detail and hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The body of a cached function: what is wrong, and what would be right.
    InvalidBody(String, String),
    /// The base function does not exist: its name, and a hint.
    NoSuchFunction(String, String),
    /// A cached function whose base function was not there when it was created: the cached function, and the name in its body.
    Unbound(String, String),
    /// A cached function whose body cannot be written now: the function, and the name of its base function.
    BeingChanged(String, String),
    /// A row of a set is not what the query expects: detail.
    OtherRow(String),
    /// A function that would make calls of another one of the same name ambiguous: the new one, the other.
    Ambiguous(String, String),
    /// A function with the name and the arguments that a cached one would have: its name, whose results it caches, a hint.
    Taken(String, Option<String>, String),
    /// The two functions do not fit: what differs, and a hint.
    Mismatch(String, String),
    /// The base function cannot be cached: message, detail, hint.
    NotCacheable(String, String, String),
    /// The cached function itself is declared in a way that cannot work: message, hint.
    InvalidDeclaration(String, String),
    /// The function is not in LANGUAGE cached: its name, and those that cache it.
    NotCached(String, Vec<String>),
    /// What an argument of `cache_function()` says cannot be in a body: its name, what is wrong, and what would be right.
    InvalidArgument(String, String, Option<String>),
    /// A text that is to be a call of a cached function, and is none: detail.
    NoCall(String),
    /// A text that is to be a call of a cached function, and is a statement: the call in it, if there is just one.
    Statement(String),
    /// A parameter value: message, detail.
    InvalidParameter(String, String),
    /// A value that cannot be configured: message.
    InvalidValue(String),
    /// A name that cannot be configured: the name, a hint.
    UnknownName(String, String),
    /// A setting of the server, which is not changed by us: its name, a hint.
    FixedSetting(String, String),
    /// A class that functions name: its name, and theirs.
    ClassInUse(String, Vec<String>),
    /// A class that does not exist: its name, a hint.
    NoSuchClass(String, String),
    /// A parameter value: message, hint.
    InvalidChoice(String, String),
    /// A relation cannot be tracked: message, detail.
    NotTrackable(String, String),
    /// The library is not preloaded.
    NotPreloaded,
    /// A transaction that has created the extension is to be prepared.
    CreatedHere,
    /// Something is NULL that must not be: message.
    NullValue(String),
    /// Larger than what is allowed: message, detail.
    TooLarge(String, String),
    /// A number that a type cannot hold: message.
    OutOfRange(String),
    /// A query that is not of the kind that is wanted: message, hint.
    InvalidQuery(String, String),
    /// A query that returned more than one row: hint.
    TooManyRows(String),
    /// The database has no table for values: the extension's objects are from before there were any.
    NoValues,
    /// A function of an earlier version of the extension: its name.
    Outdated(&'static str),
    /// What was asked for later rests on something that has changed: the cached function.
    Changed(String),
    /// A column does not exist: column, relation.
    NoSuchColumn(String, String),
    /// A relation does not exist, or not any more.
    NoSuchRelation(pgrx::pg_sys::Oid),
    /// The extension does not exist any more.
    NoExtension,
    /// A trigger of somebody else has the name of one of ours: trigger, relation.
    TriggerInTheWay(String, String),
    /// The tables of a tree change all the time: one of them.
    TreeChanges(String),
}

/// The hint for a server without the library in `shared_preload_libraries`.
pub const PRELOAD_HINT: &str =
    "Add pg_query_cache to shared_preload_libraries and restart the server.";

impl Error {
    fn parts(self) -> (PgSqlErrorCode, String, Option<String>, Option<String>) {
        use PgSqlErrorCode::*;
        match self {
            Error::InvalidBody(what, right) => (
                ERRCODE_INVALID_FUNCTION_DEFINITION,
                "invalid body of cached function".into(),
                Some(sentence(&what)),
                Some(right),
            ),
            Error::NoSuchFunction(name, hint) => (
                ERRCODE_UNDEFINED_FUNCTION,
                format!("function {name} does not exist"),
                None,
                Some(hint).filter(|hint| !hint.is_empty()),
            ),
            Error::Unbound(function, name) => (
                ERRCODE_UNDEFINED_FUNCTION,
                format!("function {function} has no base function"),
                Some(format!(
                    "There was no function {name} when it was created. What has the name by now may be anybody's."
                )),
                Some("Create it anew with CREATE OR REPLACE FUNCTION.".into()),
            ),
            Error::OtherRow(detail) => (
                ERRCODE_DATATYPE_MISMATCH,
                "function return row and query-specified return row do not match".into(),
                Some(detail),
                None,
            ),
            Error::Ambiguous(function, other) => (
                ERRCODE_AMBIGUOUS_FUNCTION,
                format!("function {function} would make calls of function {other} ambiguous"),
                Some(
                    "The argument cache_duration may be left out or stand where the other has another one."
                        .into(),
                ),
                Some("Give it another name: cache_function(…, name => '…').".into()),
            ),
            Error::Taken(name, caches, hint) => (
                ERRCODE_DUPLICATE_FUNCTION,
                format!("function \"{name}\" already exists with same argument types"),
                caches.map(|base| format!("It caches {base}.")),
                Some(hint),
            ),
            Error::Mismatch(what, hint) => (
                ERRCODE_INVALID_FUNCTION_DEFINITION,
                "cached function does not match its base function".into(),
                Some(what),
                Some(hint),
            ),
            Error::NotCacheable(message, detail, hint) => (
                ERRCODE_INVALID_FUNCTION_DEFINITION,
                message,
                Some(detail),
                Some(hint),
            ),
            Error::InvalidDeclaration(message, hint) => (
                ERRCODE_INVALID_FUNCTION_DEFINITION,
                message,
                None,
                Some(hint),
            ),
            Error::NotCached(name, caching) => (
                ERRCODE_WRONG_OBJECT_TYPE,
                format!("function {name} is not a cached function"),
                None,
                Some(match caching.as_slice() {
                    [] => "Cached functions are listed in the view cached_functions.".into(),
                    all => format!("It is cached by {}.", all.join(", ")),
                }),
            ),
            Error::InvalidArgument(argument, what, right) => (
                ERRCODE_INVALID_PARAMETER_VALUE,
                format!("invalid value for argument \"{argument}\" of cache_function()"),
                Some(sentence(&what)),
                right,
            ),
            Error::NoCall(detail) => (
                ERRCODE_INVALID_PARAMETER_VALUE,
                "text must be one call of a cached function".into(),
                Some(detail),
                Some(
                    "Write it as in SELECT, for example cache_explain('revenue_cached(7)').".into(),
                ),
            ),
            Error::Statement(call) => (
                ERRCODE_INVALID_PARAMETER_VALUE,
                "text must be one call of a cached function".into(),
                Some("It is a statement.".into()),
                Some(format!(
                    "Give the call alone: cache_explain('{}').",
                    match call.as_str() {
                        "" => "revenue_cached(7)".into(),
                        call => call.replace('\'', "''"),
                    }
                )),
            ),
            Error::InvalidParameter(message, detail) => {
                (ERRCODE_INVALID_PARAMETER_VALUE, message, Some(detail), None)
            }
            Error::InvalidValue(message) => (ERRCODE_INVALID_PARAMETER_VALUE, message, None, None),
            Error::UnknownName(name, hint) => (
                ERRCODE_UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
                None,
                Some(hint),
            ),
            Error::FixedSetting(name, hint) => (
                ERRCODE_CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{name}\" is a setting of the server"),
                None,
                Some(hint),
            ),
            Error::ClassInUse(class, functions) => (
                ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop class {class} because other objects depend on it"),
                Some(
                    functions
                        .iter()
                        .map(|function| format!("function {function} depends on class {class}"))
                        .collect::<Vec<_>>()
                        .join("\n"),
                ),
                Some("Drop the functions, or create them anew with another class.".into()),
            ),
            Error::NoSuchClass(class, hint) => (
                ERRCODE_UNDEFINED_OBJECT,
                format!("class \"{class}\" does not exist"),
                None,
                Some(hint),
            ),
            Error::InvalidChoice(message, hint) => {
                (ERRCODE_INVALID_PARAMETER_VALUE, message, None, Some(hint))
            }
            Error::Changed(function) => (
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("function {function} was not called for another session"),
                Some(
                    "What it runs, or as whom, or the role has changed since that was asked for."
                        .into(),
                ),
                None,
            ),
            Error::NotTrackable(message, detail) => {
                (ERRCODE_WRONG_OBJECT_TYPE, message, Some(detail), None)
            }
            Error::NotPreloaded => (
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "pg_query_cache must be loaded via shared_preload_libraries".into(),
                None,
                Some(PRELOAD_HINT.into()),
            ),
            Error::CreatedHere => (
                ERRCODE_FEATURE_NOT_SUPPORTED,
                "cannot PREPARE a transaction that has created extension pg_query_cache".into(),
                None,
                None,
            ),
            Error::NullValue(message) => (ERRCODE_NULL_VALUE_NOT_ALLOWED, message, None, None),
            Error::TooLarge(message, detail) => {
                (ERRCODE_PROGRAM_LIMIT_EXCEEDED, message, Some(detail), None)
            }
            Error::OutOfRange(message) => (ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message, None, None),
            Error::InvalidQuery(message, hint) => (ERRCODE_SYNTAX_ERROR, message, None, Some(hint)),
            Error::TooManyRows(hint) => (
                ERRCODE_CARDINALITY_VIOLATION,
                "query returned more than one row".into(),
                None,
                Some(hint),
            ),
            Error::NoValues => (
                ERRCODE_UNDEFINED_TABLE,
                "table \"cache_values\" of extension pg_query_cache does not exist".into(),
                None,
                Some("Run ALTER EXTENSION pg_query_cache UPDATE.".into()),
            ),
            Error::Outdated(function) => (
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "function {function} belongs to an earlier version of extension pg_query_cache"
                ),
                None,
                Some("Use ALTER EXTENSION pg_query_cache UPDATE.".into()),
            ),
            Error::NoSuchRelation(relation) => (
                ERRCODE_UNDEFINED_TABLE,
                format!("relation with OID {} does not exist", relation.to_u32()),
                None,
                None,
            ),
            Error::NoExtension => (
                ERRCODE_UNDEFINED_OBJECT,
                "extension \"pg_query_cache\" does not exist".into(),
                None,
                Some("It was dropped by a concurrent transaction.".into()),
            ),
            Error::TriggerInTheWay(trigger, relation) => (
                ERRCODE_DUPLICATE_OBJECT,
                format!("trigger \"{trigger}\" for relation \"{relation}\" already exists"),
                Some("It is not a trigger of pg_query_cache, so it is left as it is.".into()),
                Some("Give it another name with ALTER TRIGGER … RENAME TO.".into()),
            ),
            Error::BeingChanged(function, name) => (
                ERRCODE_LOCK_NOT_AVAILABLE,
                format!("could not obtain lock on function {function}"),
                Some(format!(
                    "It caches {name} and has to name it so, but another transaction is changing it."
                )),
                Some("Try again when that has ended.".into()),
            ),
            Error::TreeChanges(relation) => (
                ERRCODE_LOCK_NOT_AVAILABLE,
                format!("could not obtain locks on the tables of \"{relation}\""),
                Some("Its partitions or children changed again and again meanwhile.".into()),
                None,
            ),
            Error::NoSuchColumn(column, relation) => (
                ERRCODE_UNDEFINED_COLUMN,
                format!("column \"{column}\" of relation \"{relation}\" does not exist"),
                None,
                None,
            ),
        }
    }

    /// Its message.
    pub fn message(&self) -> String {
        self.clone().parts().1
    }

    /// Its SQLSTATE, as a number.
    pub fn code(&self) -> u32 {
        self.clone().parts().0 as u32
    }

    /// Raises the error.
    pub fn raise(self) -> ! {
        let (code, message, detail, hint) = self.parts();
        let shown = |text: String| crate::encoding::shown(&text);
        let mut report = ErrorReport::new(code, shown(message), "pg_query_cache");
        if let Some(detail) = detail {
            report = report.set_detail(shown(detail));
        }
        if let Some(hint) = hint {
            report = report.set_hint(shown(hint));
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// A line of the server's log. Texts of the server are in it as [`crate::encoding::shown`] has them.
pub fn log(text: &str) {
    pgrx::log!("pg_query_cache: {}", crate::encoding::shown(text));
}

/// What a NOTICE or WARNING says besides its message.
pub enum Besides<'a> {
    /// Nothing.
    Nothing,
    /// What else is so.
    Detail(&'a str),
    /// What can be done.
    Hint(&'a str),
    /// Both.
    Both(&'a str, &'a str),
}

/// Tells the caller something that is no ERROR. Texts are shown as in [`log`].
pub fn tell(level: PgLogLevel, code: PgSqlErrorCode, message: &str, besides: Besides<'_>) {
    let shown = crate::encoding::shown;
    let report = ErrorReport::new(code, shown(message), "pg_query_cache");
    match besides {
        Besides::Nothing => report,
        Besides::Detail(detail) => report.set_detail(shown(detail)),
        Besides::Hint(hint) => report.set_hint(shown(hint)),
        Besides::Both(detail, hint) => report.set_detail(shown(detail)).set_hint(shown(hint)),
    }
    .report(level);
}

/// `Result` in which the error is one for the user.
pub trait OrRaise<T> {
    /// The value, or raises the error.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}

/// The message of an error that was caught, for the log.
pub fn message_of(error: &pgrx::pg_sys::panic::CaughtError) -> String {
    use pgrx::pg_sys::panic::CaughtError::*;
    match error {
        PostgresError(report)
        | ErrorReport(report)
        | RustPanic {
            ereport: report, ..
        } => report.message().to_owned(),
    }
}

/// The SQLSTATE of an error that was caught, as a number.
pub fn code_of(error: &pgrx::pg_sys::panic::CaughtError) -> u32 {
    use pgrx::pg_sys::panic::CaughtError::*;
    match error {
        PostgresError(report)
        | ErrorReport(report)
        | RustPanic {
            ereport: report, ..
        } => report.sql_error_code() as u32,
    }
}

/// Runs `body`, whose parameters are bytes of keys and results. An ERROR in it is raised again as its SQLSTATE and message only: what the
/// server adds, such as the row that a constraint refused, shows those bytes.
pub fn without_data<R>(body: impl FnOnce() -> R + std::panic::UnwindSafe) -> R {
    pgrx::PgTryBuilder::new(body)
        .catch_others(|error| {
            use pgrx::pg_sys::panic::CaughtError::*;
            let (PostgresError(report)
            | ErrorReport(report)
            | RustPanic {
                ereport: report, ..
            }) = &error;
            pgrx::pg_sys::panic::ErrorReport::new(
                report.sql_error_code(),
                report.message().to_owned(),
                "pg_query_cache",
            )
            .report(PgLogLevel::ERROR);
            unreachable!("an ERROR does not return")
        })
        .execute()
}

/// Whether an error that was caught says that somebody does not want to wait any more, or that the server stops.
pub fn gave_up(error: &pgrx::pg_sys::panic::CaughtError) -> bool {
    use PgSqlErrorCode::*;
    use pgrx::pg_sys::panic::CaughtError::*;
    match error {
        PostgresError(report)
        | ErrorReport(report)
        | RustPanic {
            ereport: report, ..
        } => matches!(
            report.sql_error_code(),
            ERRCODE_QUERY_CANCELED
                | ERRCODE_ADMIN_SHUTDOWN
                | ERRCODE_CRASH_SHUTDOWN
                | ERRCODE_CANNOT_CONNECT_NOW
                | ERRCODE_DATABASE_DROPPED
        ),
    }
}

/// Whether an ERROR is about what was written, and not about where: a value out of its range, a constraint, a limit of the server.
pub fn is_of_data(error: &pgrx::pg_sys::panic::CaughtError) -> bool {
    use pgrx::pg_sys::panic::CaughtError::*;
    const SIX_BITS: i32 = 0x3f;
    match error {
        PostgresError(report)
        | ErrorReport(report)
        | RustPanic {
            ereport: report, ..
        } => {
            let code = report.sql_error_code() as i32;
            // The first two characters of the SQLSTATE, six bits each.
            matches!((code & SIX_BITS, code >> 6 & SIX_BITS), (2, 2 | 3) | (5, 4))
        }
    }
}

/// Warns, once per session, that cached functions do not cache because the library is not preloaded.
pub fn warn_not_preloaded() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            "pg_query_cache is not loaded via shared_preload_libraries, cached functions are not cached",
            "pg_query_cache",
        )
        .set_hint(PRELOAD_HINT)
        .report(PgLogLevel::WARNING);
    }
}

/// Writes to the server's log that it has no process left for us.
pub fn log_no_process() {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "pg_query_cache could not start a background worker: all worker processes are in use",
        "pg_query_cache",
    )
    .set_hint(
        "Until one is free nothing is cleaned up, written behind, refreshed or tracked by itself. Increase max_worker_processes.",
    )
    .report(PgLogLevel::LOG);
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().collect::<String>())
        .unwrap_or_default();
    let rest = chars.as_str();
    if rest.ends_with('.') {
        format!("{first}{rest}")
    } else {
        format!("{first}{rest}.")
    }
}
