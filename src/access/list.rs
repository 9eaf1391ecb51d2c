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
    // Takes locks on tables and makes their writers do more; looks whether the caller has TRIGGER on the table by name, or owns it.
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
    // Values: whoever has them reads and writes the values of all.
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
        ],
    ),
    // Calls made before somebody waits for them. Each looks whether the caller owns the cached function, or was given it by name.
    (
        "warmer",
        &["warm_cache", "warm_cache_many", "warm_cache_in_background"],
    ),
    // Figures of cached functions: of the caller's own, of all for those who were given them by name.
    (
        "figures",
        &["cache_function_counters", "cache_function_stats"],
    ),
    // Looks whether the caller owns the cached function, or was given it by name.
    ("clearer", &["invalidate_cache_function"]),
    // Counters, entries without keys and values, health, history.
    (
        "monitor",
        &[
            "cache_stats",
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
            "cache_function_follow",
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
pub const APPLICATION: &[&str] = &["everybody", "caller", "application", "warmer"];
/// What `grant_cache_access(admin_role)` gives.
pub const ADMIN: &[&str] = &[
    "everybody",
    "developer",
    "caller",
    "explainer",
    "application",
    "warmer",
    "figures",
    "monitor",
    "dumper",
    "clearer",
    "maintenance",
];

/// An update gives those who were given this object what it takes out of other hands for these audiences.
pub const KEPT_BY_HOLDERS_OF: &[(&str, &[&str])] =
    &[("clear_cache", ADMIN), ("cache_get", APPLICATION)];

/// Audiences that are wider than they were, and check themselves who somebody is: what the site has given on their objects stays.
pub const STAYS_GRANTED: &[&str] = &["explainer", "warmer", "figures", "clearer"];

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

/// Supabase's roles, as far as there are any. Where one of them exists an API may be open to the world as `anon`.
pub fn api_roles() -> Vec<pg_sys::Oid> {
    [c"anon", c"authenticated", c"service_role"]
        .into_iter()
        .filter_map(role)
        .collect()
}

fn role(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup that allows for absence.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

const OWNER: Grantee = Grantee::Role(pg_sys::Oid::from_u32(pg_sys::ROLE_PG_DATABASE_OWNER));
const MONITOR: Grantee = Grantee::Role(pg_sys::Oid::from_u32(pg_sys::ROLE_PG_MONITOR));

/// What an audience is in every installation, until it is said what it is [here](roles): PUBLIC and predefined roles.
pub fn everywhere(audience: &str) -> Vec<Grantee> {
    match audience {
        "everybody" | "developer" | "caller" | "explainer" | "warmer" | "clearer" => {
            vec![Grantee::Everybody]
        }
        "figures" => vec![Grantee::Everybody, MONITOR],
        "monitor" => vec![MONITOR],
        "dumper" => vec![OWNER, MONITOR],
        _ => Vec::new(),
    }
}

/// The roles that an audience is when the extension is created. Where one of Supabase's roles exists, an API may be open to the world
/// as `anon`: then nothing is given to PUBLIC, which `anon` is a part of.
pub fn roles(audience: &str) -> Vec<Grantee> {
    if api_roles().is_empty() {
        return everywhere(audience);
    }
    let authenticated = role(c"authenticated").map(Grantee::Role);
    let service = role(c"service_role").map(Grantee::Role);
    let roles = match audience {
        "everybody" | "caller" => vec![Some(OWNER), authenticated, service],
        "developer" | "warmer" | "clearer" => vec![Some(OWNER), service],
        "explainer" | "figures" | "dumper" => vec![Some(OWNER), Some(MONITOR), service],
        "monitor" => vec![Some(MONITOR), service],
        "application" | "maintenance" => vec![service],
        _ => Vec::new(),
    };
    roles.into_iter().flatten().collect()
}
