//! Who may do what. Closed by default: everything of the extension is taken from everybody, then what is right for an audience is given
//! to it. What is on no list is the owner's.

use super::grant::Grantee;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The audiences and what each may use. The objects of `query_cache_internal` are here only where a view or a policy that somebody may
/// use calls them: nobody can name them, for lack of USAGE on the schema.
pub const AUDIENCES: &[(&str, &[&str])] = &[
    // Creates and drops cached functions with the caller's own rights, or checks a right itself (ownership of the function), or shows
    // what the catalog shows.
    (
        "everybody",
        &[
            "cache_function",
            "uncache_function",
            "cache_tracker",
            "cache_function_resume",
            "cache_reasons",
            "cached_functions",
            "cached_body",
            "cached",
            "cache_key",
            "cache_progress",
            "cache_progress_places",
            "cache_warm_jobs",
        ],
    ),
    // Takes locks on tables and makes their writers do more; checks ownership of the table besides.
    ("developer", &["cache_track_table", "cache_untrack_table"]),
    // The cached functions that come with the extension: they run with the caller's rights, as the functions that they cache.
    (
        "caller",
        &[
            "get_expert_sessions_with_stats_cached",
            "get_product_performance_cached",
            "get_enterprise_contacts_summary_cached",
            "get_department_contacts_summary_cached",
        ],
    ),
    // Evaluates a text with the caller's rights, so it must not be open to the callers of an API.
    ("explainer", &["cache_explain"]),
    // Values: whoever has them reads and writes the values of all. Warming: calls are made for the caller, in the background too.
    (
        "application",
        &[
            "cache_set",
            "cache_set_many",
            "cache_get",
            "cache_get_many",
            "cache_exists",
            "cache_ttl",
            "cache_touch",
            "cache_delete",
            "cache_delete_many",
            "cache_delete_pattern",
            "cache_keys",
            "cache_increment",
            "cache_remember",
            "cache_value_stats",
            "warm_cache",
            "warm_cache_many",
            "warm_cache_in_background",
        ],
    ),
    // Counters, entries without keys and values, health, history.
    (
        "monitor",
        &[
            "cache_stats",
            "cache_function_counters",
            "cache_function_stats",
            "cache_memory_entries",
            "get_top_cache_entries",
            "get_cache_cleanup_stats",
            "analyze_cache_health",
            "cache_analytics",
            "cache_metrics",
            "cache_access_list",
            "cache_config",
            "query_cache",
            "cache_cleanup_log",
            "cache_quarantine",
            "cache_configuration_log",
            "cache_trends",
        ],
    ),
    // What a dump of the database takes along.
    ("dumper", &["cache_configuration"]),
    // Invalidation, clean-up, configuration.
    (
        "maintenance",
        &[
            "invalidate_cache",
            "invalidate_cache_function",
            "invalidate_cache_table",
            "invalidate_cache_pattern",
            "clear_cache",
            "clear_department_cache",
            "cleanup_expired_cache",
            "flush_cache",
            "optimize_cache",
            "emergency_clear_cache",
            "set_cache_config",
        ],
    ),
    (
        "owner",
        &[
            "query_cache_internal",
            "cached_call_handler",
            "cached_validator",
            "cache_row_is_dead",
            "cache_configuration_changed",
            "cache_stays_here",
            "cache_key_matches",
            "cache_value_sum",
            "cache_ranking",
            "cache_access_install",
            "cache_values",
            "grant_cache_access",
            "revoke_cache_access",
        ],
    ),
];

/// What `grant_cache_access(app_role)` gives.
pub const APPLICATION: &[&str] = &["everybody", "caller", "application"];
/// What `grant_cache_access(admin_role)` gives.
pub const ADMIN: &[&str] = &[
    "everybody",
    "developer",
    "caller",
    "explainer",
    "application",
    "monitor",
    "dumper",
    "maintenance",
];

/// An update gives those who have this one …
pub const KEPT_BY_HOLDERS_OF: &str = "clear_cache";
/// … what it takes out of other hands for these audiences.
pub const MAINTAINED: &[&str] = &["everybody", "developer", "dumper"];

/// For whom an object is.
pub fn audience_of(name: &str) -> Option<&'static str> {
    AUDIENCES
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map(|(audience, _)| *audience)
}

/// The columns that may be read, where not all may: neither keys and values, nor the arguments and settings of somebody's calls.
pub fn columns(name: &str) -> &'static [&'static CStr] {
    match name {
        "query_cache" => &[
            c"cache_key",
            c"function",
            c"hit_count",
            c"created_at",
            c"expires_at",
            c"cost_ms",
            c"size_bytes",
            c"priority",
            c"kind",
            c"by_age",
        ],
        "cache_warm_jobs" => &[
            c"id",
            c"state",
            c"function",
            c"name",
            c"role",
            c"session_role",
            c"total",
            c"done",
            c"stored",
            c"failed",
            c"error",
            c"queued_at",
            c"started_at",
            c"finished_at",
            c"pid",
            c"database",
        ],
        _ => &[],
    }
}

/// The roles that an audience is when the extension is created. Where one of Supabase's roles exists, an API may be open to the world
/// as `anon`: then nothing is given to PUBLIC, which `anon` is a part of.
pub fn roles(audience: &str) -> Vec<Grantee> {
    let role = |name: &CStr| {
        // SAFETY: a syscache lookup that allows for absence.
        let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
        (oid != pg_sys::InvalidOid).then_some(Grantee::Role(oid))
    };
    let (anon, authenticated, service) =
        (role(c"anon"), role(c"authenticated"), role(c"service_role"));
    let owner = Grantee::Role(pg_sys::Oid::from(pg_sys::ROLE_PG_DATABASE_OWNER));
    let monitor = Grantee::Role(pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR));
    let has_api = [anon, authenticated, service].iter().any(Option::is_some);
    let roles = match audience {
        "everybody" | "caller" | "explainer" if !has_api => vec![Some(Grantee::Everybody)],
        "everybody" | "caller" => vec![Some(owner), authenticated, service],
        "explainer" | "monitor" => vec![Some(monitor), service],
        "developer" => vec![Some(owner), service],
        "dumper" => vec![Some(owner), Some(monitor), service],
        "application" | "maintenance" => vec![service],
        _ => Vec::new(),
    };
    roles.into_iter().flatten().collect()
}
