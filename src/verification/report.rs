//! What the server's log says of a stored result that differed.

#![allow(unsafe_code)]

use super::suspect::Suspect;
use crate::call::frames::Frame;
use crate::dependencies::{self, attribution};
use crate::language::body::Scope;
use crate::naming;
use crate::store::area::Area;
use crate::table::row;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

/// Writes it to the log. The client hears nothing: it got the right answer.
///
/// # Safety
/// `fcinfo` is the call that the frame belongs to.
pub unsafe fn difference(area: Area, frame: &Frame, fcinfo: pg_sys::FunctionCallInfo) {
    let Some(suspect) = &frame.suspect else {
        return;
    };
    let name = naming::regprocedure_qualified(frame.function.oid);
    // SAFETY: the caller's; the clock.
    let (missing, rests_on, age_us) = unsafe {
        (
            missing(area, frame, suspect, fcinfo),
            rests_on(area, frame, suspect, fcinfo),
            pg_sys::GetCurrentTimestamp() - suspect.created_at,
        )
    };
    let mut detail = format!(
        "Call {}, computed {:.1} s ago.",
        row::key_name(frame.function.oid.to_u32(), frame.hash),
        age_us as f64 / 1e6
    );
    detail += &match missing.as_slice() {
        [] => " It reads nothing now that the stored result does not depend on.".to_owned(),
        names => format!(
            " It reads now what the stored result does not depend on: {}.",
            names.join(", ")
        ),
    };
    detail += &rests_on;
    let cause = match frame.function.scope {
        Scope::Role => "",
        Scope::Shared | Scope::Claims => {
            " Its scope may be too wide: it is shared by callers who should get different answers."
        }
    };
    let shown = |text: String| crate::encoding::shown(&text);
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        shown(format!("pg_query_cache: stored result of function {name} differs from what the function returns")),
        "pg_query_cache",
    )
    .set_detail(shown(detail))
    .set_hint(shown(format!(
        "The function is not cached any more.{cause} Once the reason is found: SELECT cache_function_resume({})",
        quoted(&name)
    )))
    .report(PgLogLevel::LOG);
}

/// What the stored result depends on, and who wrote it last.
unsafe fn rests_on(
    area: Area,
    frame: &Frame,
    suspect: &Suspect,
    fcinfo: pg_sys::FunctionCallInfo,
) -> String {
    let slots: Vec<u32> = suspect
        .dependencies
        .iter()
        .map(|known| known.slot())
        .collect();
    // SAFETY: the caller's.
    let attributions = unsafe { attribution::of_slots(area, &slots, &frame.function, fcinfo) };
    let mut lines = String::new();
    for attribution in attributions {
        let name = match &attribution.tag {
            Some(tag) => tag.without_arguments(),
            None => format!("something without a name, slot {}", attribution.slot),
        };
        let writer = match attribution.writers.first() {
            Some(writer) => format!("last written: {writer}"),
            None => "no writer is known".to_owned(),
        };
        lines += &format!("\nIt depends on {name}; {writer}.");
    }
    lines
}

/// Relations that were read now and that the stored result does not depend on.
unsafe fn missing(
    area: Area,
    frame: &Frame,
    suspect: &Suspect,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Vec<String> {
    frame
        .relations
        .iter()
        .filter(|relation| {
            // SAFETY: the caller's.
            let slots = unsafe { dependencies::slots_of_relation(area, frame, **relation, fcinfo) };
            slots.is_some_and(|slots| {
                !slots.iter().any(|slot| {
                    suspect
                        .dependencies
                        .iter()
                        .any(|known| known.slot() == *slot)
                })
            })
        })
        .map(|relation| {
            naming::relation_name(*relation)
                .unwrap_or_else(|| format!("relation {}", relation.to_u32()))
        })
        .collect()
}

fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}
