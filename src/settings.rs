//! Settings (`pg_query_cache.*`): private statics, typed accessors; unit and range stand in the description.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::ffi::CString;
use std::time::Duration;

/// Whose values `cache_set` and its like read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum ValueNamespace {
    /// Those of everybody in the database.
    #[name = c"shared"]
    Shared,
    /// Those of the present role.
    #[name = c"role"]
    Role,
}

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static AUTO_TRACK: GucSetting<bool> = GucSetting::<bool>::new(true);
static MEMORY_MB: GucSetting<i32> = GucSetting::<i32>::new(64);
static MAX_ENTRY_SIZE_KB: GucSetting<i32> = GucSetting::<i32>::new(1024);
static FILL_WAIT_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CLEANUP_INTERVAL_S: GucSetting<i32> = GucSetting::<i32>::new(60);
static FLUSH_INTERVAL_S: GucSetting<i32> = GucSetting::<i32>::new(10);
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static WARM_JOB_TIMEOUT_S: GucSetting<i32> = GucSetting::<i32>::new(600);
static WARM_JOB_TURN_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static WARM_CALL_TURN_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static WARM_JOBS_SIZE_KB: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);
static WARM_JOBS_PER_ROLE: GucSetting<i32> = GucSetting::<i32>::new(100);
static REFRESH_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static TRACKING_LOCK_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(200);
static TABLE_SIZE_MB: GucSetting<i32> = GucSetting::<i32>::new(1024);
static VERIFY_SAMPLE_RATE: GucSetting<f64> = GucSetting::<f64>::new(0.0);
static DEPENDS_ON: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static TRUSTED_FUNCTIONS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static VALUE_NAMESPACE: GucSetting<ValueNamespace> =
    GucSetting::<ValueNamespace>::new(ValueNamespace::Shared);
static MAX_VALUES: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);
static CLOCK_OFFSET_S: GucSetting<i32> = GucSetting::<i32>::new(0);
static ASSUMED_HIT_NS: GucSetting<i32> = GucSetting::<i32>::new(0);
static ASSUMED_RUN_NS: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Smallest memory tier in MB: one partition with room for the slots, the statistics and a few thousand entries.
pub const MEMORY_MIN_MB: i32 = 4;
/// Largest memory tier in MB.
pub const MEMORY_MAX_MB: i32 = 1024 * 1024;

/// Whether cached functions use the cache in this session.
#[inline(always)]
pub fn enabled() -> bool {
    ENABLED.get()
}

/// Whether tables are tracked that nobody has asked for.
pub fn auto_track() -> bool {
    AUTO_TRACK.get()
}

/// Size of the whole shared memory area in bytes.
pub fn memory_bytes() -> usize {
    MEMORY_MB.get() as usize * 1024 * 1024
}

/// Largest result that is stored, in bytes of key, dependencies and value together.
pub fn max_entry_bytes() -> usize {
    MAX_ENTRY_SIZE_KB.get() as usize * 1024
}

/// How long a call waits for another session that computes the same result, in milliseconds.
pub fn fill_wait_ms() -> i64 {
    i64::from(FILL_WAIT_MS.get())
}

/// How often the worker removes expired and dead entries, in seconds.
pub fn cleanup_interval_s() -> i32 {
    CLEANUP_INTERVAL_S.get()
}

/// How often the worker writes new entries to the table tier, in seconds; 0 = only `flush_cache()` and shutdown.
pub fn flush_interval_s() -> i32 {
    FLUSH_INTERVAL_S.get()
}

/// How many databases have a worker at the same time. The default leaves a server with the default `max_worker_processes` of 8 the
/// processes of a parallel query and of logical replication.
pub fn workers() -> usize {
    WORKERS.get().max(0) as usize
}

/// How long a job of `cache_warm_jobs` may run, in microseconds; 0 = any time.
pub fn warm_job_us() -> i64 {
    i64::from(WARM_JOB_TIMEOUT_S.get()) * 1_000_000
}

/// After how long a job gives way to one that waits; `None` = never. The default is long beside what it takes to start a process again.
pub fn warm_job_turn() -> Option<Duration> {
    let ms = WARM_JOB_TURN_MS.get();
    (ms > 0).then(|| Duration::from_millis(ms as u64))
}

/// After how long a call of a job gives way to another role's job that waits; `None` = never. The default is that of the turn: nobody who
/// waits cares what of a job keeps him waiting.
pub fn warm_call_turn() -> Option<Duration> {
    let ms = WARM_CALL_TURN_MS.get();
    (ms > 0).then(|| Duration::from_millis(ms as u64))
}

/// How many jobs run at the same time in the cluster.
pub fn warm_processes() -> usize {
    (workers() / 2).max(1)
}

/// How many jobs of a role can be waiting in a database; 0 = any number.
pub fn warm_jobs_per_role() -> i64 {
    i64::from(WARM_JOBS_PER_ROLE.get())
}

/// How much the arguments and settings of jobs that a role has in a database, waiting or running, may take, in bytes; 0 = any size. The
/// default is a hundred thousand calls or more.
pub fn warm_jobs_bytes() -> i64 {
    i64::from(WARM_JOBS_SIZE_KB.get()) * 1024
}

/// How long the computation of one result that is refreshed may take, in microseconds; 0 = any time.
pub fn refresh_us() -> i64 {
    i64::from(REFRESH_TIMEOUT_MS.get()) * 1000
}

/// How long the worker, and `cache_function`, wait for a table's lock before it is tried again later, in milliseconds.
pub fn tracking_lock_timeout_ms() -> i32 {
    TRACKING_LOCK_TIMEOUT_MS.get()
}

/// How much the rows of a database's table tier may take, in bytes. By default sixteen times what memory has by default: enough for what
/// an eviction may want back, and little beside the database.
pub fn table_bytes() -> u64 {
    TABLE_SIZE_MB.get() as u64 * 1024 * 1024
}

/// The share of hits that are computed again and compared, 0 to 1.
#[inline(always)]
pub fn verify_sample_rate() -> f64 {
    VERIFY_SAMPLE_RATE.get()
}

/// What `look` says of the functions that the server's administrator vouches for; `None` if there are none.
pub fn with_trusted_functions<R>(look: impl FnOnce(&str) -> R) -> Option<R> {
    let functions = TRUSTED_FUNCTIONS.get()?;
    match functions.to_str() {
        Ok("") | Err(_) => None,
        Ok(functions) => Some(look(functions)),
    }
}

/// Whose values this session reads and writes.
#[inline(always)]
pub fn value_namespace() -> ValueNamespace {
    VALUE_NAMESPACE.get()
}

/// How many values a database keeps; 0 = any number.
pub fn max_values() -> i64 {
    i64::from(MAX_VALUES.get())
}

/// What is added to the clock when ages are measured, in microseconds. For tests.
#[inline(always)]
pub fn clock_offset_us() -> i64 {
    i64::from(CLOCK_OFFSET_S.get()) * 1_000_000
}

/// What a hit that took `ns` nanoseconds is said to have taken. For tests, which must not depend on how fast the machine is.
pub fn hit_ns(ns: u64) -> u64 {
    assumed(&ASSUMED_HIT_NS).unwrap_or(ns)
}

/// The same of a run of the function.
pub fn run_ns(ns: u64) -> u64 {
    assumed(&ASSUMED_RUN_NS).unwrap_or(ns)
}

fn assumed(setting: &GucSetting<i32>) -> Option<u64> {
    u64::try_from(setting.get()).ok().filter(|ns| *ns != 0)
}

/// Defines the settings. Those that size shared memory exist only when the library is preloaded.
pub fn define(preloading: bool) {
    let none = GucFlags::default();
    GucRegistry::define_bool_guc(
        c"pg_query_cache.enabled",
        c"Uses the cache for cached functions.",
        c"When off, cached functions answer from their base functions and store nothing.",
        &ENABLED,
        GucContext::Userset,
        none,
    );
    GucRegistry::define_bool_guc(
        c"pg_query_cache.auto_track",
        c"Starts to track tables that cached functions read, without being asked.",
        c"The role that calls, or the owner of the cached function, needs the TRIGGER privilege on the table.",
        &AUTO_TRACK,
        GucContext::Sighup,
        none,
    );
    if preloading {
        GucRegistry::define_int_guc(
            c"pg_query_cache.memory",
            c"Sets the size of the shared memory area of the cache.",
            c"Entries, validity slots and statistics all live in it; nothing outside it grows.",
            &MEMORY_MB,
            MEMORY_MIN_MB,
            MEMORY_MAX_MB,
            GucContext::Postmaster,
            GucFlags::UNIT_MB,
        );
    }
    let int = |name, short, long, setting: &'static GucSetting<i32>, min, max, context, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, context, flags)
    };
    int(
        c"pg_query_cache.max_entry_size",
        c"Sets the largest result that is stored.",
        c"Larger results are returned to the caller and counted as too large.",
        &MAX_ENTRY_SIZE_KB,
        1,
        512 * 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    int(
        c"pg_query_cache.fill_wait",
        c"Sets how long a call waits for another session that computes the same result.",
        c"After that it computes the result itself. 0 never waits.",
        &FILL_WAIT_MS,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    int(
        c"pg_query_cache.cleanup_interval",
        c"Sets how often the background worker removes expired and invalidated entries.",
        c"0 disables the periodic clean-up; cleanup_expired_cache() still works.",
        &CLEANUP_INTERVAL_S,
        0,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    int(
        c"pg_query_cache.flush_interval",
        c"Sets how often the background worker writes new entries to the table query_cache.",
        c"0 disables the periodic writing; flush_cache() and a clean shutdown still write.",
        &FLUSH_INTERVAL_S,
        0,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    int(
        c"pg_query_cache.workers",
        c"Sets how many databases have a background worker at the same time.",
        c"The workers go round the databases that have something to do. 0 does no upkeep.",
        &WORKERS,
        0,
        crate::store::posts::MOST_WORKERS as i32,
        GucContext::Sighup,
        none,
    );
    int(
        c"pg_query_cache.warm_job_timeout",
        c"Sets how long a job of warm_cache_in_background() may run.",
        c"What it has not computed by then it leaves. 0 means any time.",
        &WARM_JOB_TIMEOUT_S,
        0,
        86_400 * 7,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    int(
        c"pg_query_cache.warm_job_turn",
        c"Sets after how long a job of warm_cache_in_background() gives way to one that waits.",
        c"It goes on behind the others. 0 means never.",
        &WARM_JOB_TURN_MS,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"pg_query_cache.warm_call_turn",
        c"Sets after how long a call of a job gives way to another role's job that waits.",
        c"It is made again later, with twice and four and eight times as long, and then given up. 0 means never.",
        &WARM_CALL_TURN_MS,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"pg_query_cache.warm_jobs_size",
        c"Sets how much the arguments and settings of a role's jobs may take in a database.",
        c"Of jobs that wait or run. 0 means any size.",
        &WARM_JOBS_SIZE_KB,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    int(
        c"pg_query_cache.warm_jobs_per_role",
        c"Sets how many jobs of a role can be waiting in a database.",
        c"A job can have any number of calls. 0 means any number.",
        &WARM_JOBS_PER_ROLE,
        0,
        1000,
        GucContext::Sighup,
        none,
    );
    int(
        c"pg_query_cache.refresh_timeout",
        c"Sets how long the computation of a result that is refreshed may take.",
        c"The role's own statement_timeout counts too. 0 means any time.",
        &REFRESH_TIMEOUT_MS,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"pg_query_cache.table_size",
        c"Sets how much the rows of the table query_cache may take in each database.",
        c"What is least useful leaves by the clean-up; as long as the table is full nothing new is written to it.",
        &TABLE_SIZE_MB,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    int(
        c"pg_query_cache.tracking_lock_timeout",
        c"Sets how long the background worker and cache_function() wait for the lock on a table that they start to track.",
        c"It tries again later, so that it never holds up the application's own lock queue for longer than this.",
        &TRACKING_LOCK_TIMEOUT_MS,
        1,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_float_guc(
        c"pg_query_cache.verify_sample_rate",
        c"Sets the share of hits that are computed again and compared with the stored result.",
        c"A difference is logged and the function is not cached any more until cache_function_resume().",
        &VERIFY_SAMPLE_RATE,
        0.0,
        1.0,
        GucContext::Suset,
        none,
    );
    // Read from the catalog, where a function's SET clause is kept; here so that it may be set at all.
    GucRegistry::define_string_guc(
        c"pg_query_cache.depends_on",
        c"Says, in the SET clause of a function, which rows of the tables it reads its result depends on.",
        c"Cached functions of it take it as their depends_on. It means nothing in a session.",
        &DEPENDS_ON,
        GucContext::Userset,
        GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE,
    );
    GucRegistry::define_string_guc(
        c"pg_query_cache.trusted_functions",
        c"Sets which functions the administrator vouches for: what they do is not missed where a stored result answers, and what they return depends on their arguments and on tables.",
        c"Names with schema and types of arguments, as regprocedure shows them, separated by commas; pg_catalog may be left out.",
        &TRUSTED_FUNCTIONS,
        GucContext::Suset,
        none,
    );
    GucRegistry::define_enum_guc(
        c"pg_query_cache.value_namespace",
        c"Sets whose values cache_set() and its like read and write.",
        c"shared: the same for everybody in the database; role: each role has its own and knows nothing of the others'.",
        &VALUE_NAMESPACE,
        GucContext::Suset,
        none,
    );
    int(
        c"pg_query_cache.max_values",
        c"Sets how many values a database keeps.",
        c"Each clean-up removes what is more: the lowest priority first, of these the longest unwritten. 0 means any number.",
        &MAX_VALUES,
        0,
        i32::MAX,
        GucContext::Sighup,
        none,
    );
    int(
        c"pg_query_cache.clock_offset",
        c"Adds to the clock by which the age of entries is measured.",
        c"For tests of expiry; leave it at 0.",
        &CLOCK_OFFSET_S,
        -86_400 * 365,
        86_400 * 365,
        GucContext::Suset,
        GucFlags::UNIT_S | GucFlags::NO_SHOW_ALL,
    );
    for (name, setting) in [
        (c"pg_query_cache.assumed_hit", &ASSUMED_HIT_NS),
        (c"pg_query_cache.assumed_run", &ASSUMED_RUN_NS),
    ] {
        GucRegistry::define_int_guc(
            name,
            c"Takes the place of measured times when it is judged whether caching a function pays, in nanoseconds.",
            c"For tests of that judgement; 0 measures.",
            setting,
            0,
            1_000_000_000,
            GucContext::Suset,
            GucFlags::NO_SHOW_ALL,
        );
    }
    #[cfg(feature = "fault_injection")]
    crate::fault::define();
    if preloading {
        // Elsewhere not all of the settings exist, and those in the server's file would be complained about in each session.
        reserve_prefix();
    }
}

/// A setting that does not exist is an error from here on.
#[allow(unsafe_code)]
fn reserve_prefix() {
    // SAFETY: a C string.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"pg_query_cache".as_ptr()) };
}
