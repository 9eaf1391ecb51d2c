//! Whether a difference can come from another plan: sums of `float8`, `string_agg` and LIMIT without ORDER BY give what the plan gives, and
//! everybody may choose plans in his session.
//!
//! What a session with planner settings of its own has stored, or looks at, proves nothing. Else the function is run under turned-round
//! settings: statistics may have changed since the result was stored.

#![allow(unsafe_code)]

use crate::language::function;
use crate::server;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Settings beside those of the planner that decide in which order rows come.
const OTHERS: [&CStr; 2] = [c"synchronize_seqscans", c"jit"];

/// Whether this session has planner settings of its own: the role's, the client's or its own. Jobs of the extension have the server's.
pub fn has_own_settings() -> bool {
    use pg_sys::config_group::*;
    // SAFETY: a variable of the backend, and the server's table of settings, which is not changed meanwhile; names are C strings.
    unsafe {
        if !pg_sys::MyBgworkerEntry.is_null() {
            return false;
        }
        (0..server::GetNumConfigOptions() as usize).any(|index| {
            let setting = &**server::get_guc_variables().add(index);
            setting.source >= pg_sys::GucSource::PGC_S_USER
                && (matches!(
                    setting.group,
                    QUERY_TUNING_METHOD
                        | QUERY_TUNING_COST
                        | QUERY_TUNING_GEQO
                        | QUERY_TUNING_OTHER
                        | RESOURCES_MEM
                        | RESOURCES_ASYNCHRONOUS
                ) || OTHERS.contains(&CStr::from_ptr(setting.name)))
        })
    }
}

/// Ways to plan of which each leaves out what the other takes.
pub const WAYS: [&[&CStr]; 2] = [
    &[
        c"enable_seqscan",
        c"enable_hashagg",
        c"enable_hashjoin",
        c"enable_gathermerge",
        c"enable_nestloop",
    ],
    &[
        c"enable_indexscan",
        c"enable_indexonlyscan",
        c"enable_bitmapscan",
        c"enable_sort",
        c"enable_mergejoin",
    ],
];

/// Runs `body` with plans that are made without what `way` names. After an ERROR the subtransaction around it restores the settings.
///
/// # Safety
/// Inside a subtransaction that is the caller's. An ERROR passes by.
pub unsafe fn without<R>(way: &[&CStr], body: impl FnOnce() -> R) -> R {
    // SAFETY: C strings, settings that every role may change; the level ends here or with the subtransaction.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for name in way {
            pg_sys::set_config_option(
                name.as_ptr(),
                c"off".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        make_plans_anew();
        let result = body();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}

/// Plans that the session keeps are of other settings.
pub fn make_plans_anew() {
    function::forget_call_sites();
    // SAFETY: marks plans of the backend.
    unsafe { pg_sys::ResetPlanCache() };
}
