//! `cache_remember`: the value of a key, or that of a query, which is kept.
//!
//! ```text
//! look ── there ─▶ the value
//!   └ absent ─ may this transaction write? ─ no ─▶ run the query, answer
//!        └ somebody computing it? ─ no ─▶ lead: run the query, keep, answer; others wait until this transaction ends
//!              └ yes ─ may it wait? ─ no ─▶ run the query, answer
//!                    └ wait, once ─ look again ─ still absent and somebody else computing it ─▶ run the query, answer
//! ```
//!
//! Only who leads keeps the value, so two transactions never wait for each other's rows through this function alone. The lead lasts
//! until others can see the row, which is the end of the top transaction, or until it has gone: the end of the subtransaction that
//! took it, if that rolls back. A transaction that leads as many as it may ([`crate::store::flights`]) answers further keys and keeps
//! nothing for them.
//!
//! Nobody waits who would wait in vain or make others wait: who leads a flight, is part of a fill, has written (its row locks would be
//! held meanwhile), or has one snapshot for the whole transaction, which never sees what another one commits.
//!
//! The query runs between two guarded parts, outside of them, so that an ERROR of it reaches the caller as it is. What an ERROR leaves
//! behind the transaction callbacks clear.

#![allow(unsafe_code)]

use super::arguments::{Arguments, check_size};
use super::{Key, Place, memory_key, namespace, now, read, write};
use crate::backend::Backend;
use crate::call::frames;
use crate::call::outcome::Reason;
use crate::error::{Error, OrRaise};
use crate::server::{self, guarded};
use crate::settings;
use crate::store::area::{Area, area};
use crate::store::flights::{Lead, Part};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::c_char;

/// Flights that this session leads, with the nesting level of the (sub)transaction that would undo what it keeps.
static LEADS: Backend<RefCell<Vec<(i32, u64, Lead)>>> = Backend::new(RefCell::new(Vec::new()));

/// The top transaction ended: others see what it kept, or never will.
pub fn transaction_ended() {
    if LEADS.with_borrow(|leads| !leads.is_empty()) {
        drop(LEADS.take());
    }
}

/// The subtransaction at `level` ended.
pub fn subtransaction_ended(level: i32, committed: bool) {
    LEADS.with_borrow_mut(|leads| {
        if committed {
            for (at, _, _) in leads.iter_mut() {
                *at = (*at).min(level - 1);
            }
        } else {
            leads.retain(|(at, _, _)| *at < level);
        }
    });
}

/// How a call goes on.
#[derive(Clone, Copy)]
enum Step {
    /// With this answer.
    Answer(pg_sys::Datum),
    /// By running the query. Its value is kept if `keep`; if it is not, or there is none, the lead that was taken for it ends.
    Compute {
        query: *const c_char,
        keep: bool,
        lead: Option<u64>,
    },
}

/// `cache_remember(key, query, ttl, tags)`
///
/// # Safety
/// `fcinfo` is the server's call; no value with a destructor is alive in the frames up to the server.
pub unsafe fn remember(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the caller's; SPI is connected and finished here, and by the server after an ERROR. No value with a destructor is
    // alive in this frame across the calls that run the query.
    unsafe {
        server::check_stack_depth();
        let (query, keep, lead) = match guarded(|| begin(Arguments::new(fcinfo))) {
            Step::Answer(value) => return value,
            Step::Compute { query, keep, lead } => (query, keep, lead),
        };
        server::SPI_connect();
        let plan = server::SPI_prepare(query, 0, std::ptr::null_mut());
        guarded(|| check(plan).or_raise());
        // Two rows are enough to know that there is more than one.
        let code = server::SPI_execute_plan(plan, std::ptr::null_mut(), std::ptr::null(), false, 2);
        let value = guarded(|| answer(code));
        server::SPI_finish();
        guarded(|| {
            let kept = match value {
                Some(value) if keep => store(Arguments::new(fcinfo), value),
                _ => false,
            };
            if !kept && let Some(lead) = lead {
                give_up(lead);
            }
        });
        match value {
            None => {
                (*fcinfo).isnull = true;
                pg_sys::Datum::null()
            }
            Some(value) => value,
        }
    }
}

/// Nothing will be kept under a key: nobody need wait.
fn give_up(hash: u64) {
    LEADS.with_borrow_mut(|leads| leads.retain(|(_, led, _)| *led != hash));
}

/// Looks, and takes the turn.
fn begin(call: Arguments) -> Step {
    let area = area().ok_or(Error::NotPreloaded).or_raise();
    crate::transaction::prepare(area);
    // Whether it writes is not for the caller to see.
    frames::refuse(Reason::Writes);
    let key = call.key(0);
    let query = call.text(1, "query");
    // Wrong arguments are wrong, whether they are needed this time or not.
    call.expiry(2, now());
    call.tags(3);
    let place = Place::of_function(call.function()).or_raise();
    let reader = place.reader();
    let compute = |keep, lead| Step::Compute {
        // SAFETY: copies the text into the memory context of the call.
        query: unsafe { pg_sys::text_to_cstring(query.text.cast_mut_ptr()) },
        keep,
        lead,
    };
    let mut waited = false;
    loop {
        if let Some(value) = look(reader, key) {
            return Step::Answer(value);
        }
        // SAFETY: reads the backend's state.
        if write::read_only() || unsafe { server::RecoveryInProgress() } {
            return compute(false, None);
        }
        let mut room = Vec::new();
        let hash = memory_key(reader, namespace(), key.bytes, &mut room);
        match take_turn(area, hash, waited) {
            Turn::Leads => {
                // Who led before may have committed between the look and the turn.
                if let Some(value) = look(reader, key) {
                    give_up(hash);
                    return Step::Answer(value);
                }
                return compute(is_absent_for_all(place, key), Some(hash));
            }
            Turn::LedBefore => return compute(is_absent_for_all(place, key), None),
            Turn::LookAgain => waited = true,
            Turn::Alone => return compute(false, None),
        }
    }
}

/// The value as the newest snapshot sees it that this transaction may have.
fn look(reader: pg_sys::Oid, key: Key<'_>) -> Option<pg_sys::Datum> {
    // SAFETY: inside a transaction that is not parallel, as the function is marked; what an ERROR leaves the server pops.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let value = read::get(reader, key);
        pg_sys::PopActiveSnapshot();
        value
    }
}

/// Whether the newest state has no value either. A transaction with one snapshot for all must not write a row that it does not see.
fn is_absent_for_all(place: Place, key: Key<'_>) -> bool {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::XactIsoLevel } as u32 <= pg_sys::XACT_READ_COMMITTED {
        return true;
    }
    // SAFETY: as in `look`.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let there = read::row(place, namespace(), key, i64::MIN).is_some();
        pg_sys::PopActiveSnapshot();
        !there
    }
}

/// Whether this transaction will see what another one commits, and holds nobody up while it waits for that.
fn may_wait() -> bool {
    // SAFETY: variables of the backend.
    unsafe {
        pg_sys::XactIsoLevel as u32 <= pg_sys::XACT_READ_COMMITTED
            && server::GetTopFullTransactionIdIfAny().value == 0
    }
}

enum Turn {
    /// It computes and keeps; others wait.
    Leads,
    /// The same, since an earlier call of this transaction.
    LedBefore,
    /// Somebody else has kept it, or given up.
    LookAgain,
    /// It computes for itself.
    Alone,
}

fn take_turn(area: Area, hash: u64, waited: bool) -> Turn {
    let leads = |wanted: Option<u64>| {
        LEADS.with_borrow(|leads| {
            leads
                .iter()
                .any(|(_, led, _)| wanted.is_none_or(|hash| hash == *led))
        })
    };
    if leads(Some(hash)) {
        // What it kept under this key was removed since, or has expired.
        return Turn::LedBefore;
    }
    match area.flights().join(hash) {
        Part::Leads(lead) => {
            // SAFETY: a variable of the backend.
            let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
            LEADS.with_borrow_mut(|leads| leads.push((level, hash, lead)));
            Turn::Leads
        }
        Part::Waits(ticket)
            if !waited
                && !frames::filling()
                && !leads(None)
                && may_wait()
                && area.flights().wait(ticket, settings::fill_wait_ms()) =>
        {
            Turn::LookAgain
        }
        Part::Waits(_) | Part::Alone => Turn::Alone,
    }
}

/// Refuses all but one query that returns one column.
fn check(plan: pg_sys::SPIPlanPtr) -> Result<(), Error> {
    let refused = |message: &str, hint: &str| Err(Error::InvalidQuery(message.into(), hint.into()));
    let no_query = || {
        refused(
            "query must be one SELECT, VALUES or WITH that only reads",
            "Write it as in cache_remember('orders:7', 'SELECT count(*) FROM orders WHERE customer = 7').",
        )
    };
    // SAFETY: a plan that SPI has just made; its lists live as long as it does.
    unsafe {
        let sources = match plan.is_null() {
            true => std::ptr::null_mut(),
            false => pg_sys::SPI_plan_get_plan_sources(plan),
        };
        if sources.is_null() || (*sources).length != 1 {
            return no_query();
        }
        let source = &*(*(*sources).elements)
            .ptr_value
            .cast::<pg_sys::CachedPlanSource>();
        if source.query_list.is_null() || (*source.query_list).length != 1 {
            return no_query();
        }
        let query = &*(*(*source.query_list).elements)
            .ptr_value
            .cast::<pg_sys::Query>();
        if query.commandType != pg_sys::CmdType::CMD_SELECT
            || query.hasModifyingCTE
            || source.resultDesc.is_null()
        {
            return no_query();
        }
        match (*source.resultDesc).natts {
            1 => Ok(()),
            count => refused(
                &format!("query must return one column, not {count}"),
                "Make one of them, for example SELECT to_jsonb(q) FROM (…) AS q.",
            ),
        }
    }
}

/// The one value of the query as `jsonb`, in the memory context outside of SPI; `None` for no row, and for NULL.
fn answer(code: i32) -> Option<pg_sys::Datum> {
    // SAFETY: SPI has run the query, and is still connected.
    unsafe {
        if code != pg_sys::SPI_OK_SELECT as i32 {
            Error::InvalidQuery(
                "query must be one SELECT, VALUES or WITH that only reads".into(),
                "SELECT … INTO is none.".into(),
            )
            .raise();
        }
        let rows = &*pg_sys::SPI_tuptable;
        match rows.numvals {
            0 => return None,
            1 => (),
            _ => Error::TooManyRows(
                "Make one value of the rows, for example SELECT jsonb_agg(q) FROM (…) AS q.".into(),
            )
            .raise(),
        }
        let mut is_null = false;
        let value = pg_sys::SPI_getbinval(*rows.vals, rows.tupdesc, 1, &mut is_null);
        if is_null {
            return None;
        }
        let column = pg_sys::SPI_gettypeid(rows.tupdesc, 1);
        let value = if column == pg_sys::JSONBOID {
            value
        } else {
            to_jsonb(value, column)
        };
        let plain = pg_sys::pg_detoast_datum(value.cast_mut_ptr());
        Some(pg_sys::SPI_datumTransfer(
            pg_sys::Datum::from(plain),
            false,
            -1,
        ))
    }
}

/// The server's `to_jsonb`, which asks its call for the type of its argument.
unsafe fn to_jsonb(value: pg_sys::Datum, of: pg_sys::Oid) -> pg_sys::Datum {
    // SAFETY: a value of the type; the nodes live in SPI's memory context.
    unsafe {
        let mut function = pg_sys::FmgrInfo::default();
        pg_sys::fmgr_info(pg_sys::F_TO_JSONB.into(), &mut function);
        let argument = pg_sys::makeNullConst(of, -1, pg_sys::InvalidOid);
        function.fn_expr = pg_sys::makeFuncExpr(
            pg_sys::F_TO_JSONB.into(),
            pg_sys::JSONBOID,
            pg_sys::lappend(std::ptr::null_mut(), argument.cast()),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        )
        .cast();
        pg_sys::FunctionCall1Coll(&mut function, pg_sys::InvalidOid, value)
    }
}

/// Keeps what the query returned, unless it is too large to be kept: it is the answer all the same. Returns whether it was kept.
fn store(call: Arguments, value: pg_sys::Datum) -> bool {
    let place = Place::of_function(call.function()).or_raise();
    // SAFETY: a jsonb.
    if unsafe { check_size(value) }.is_err() {
        return false;
    }
    write::set_if_absent(
        place,
        call.key(0),
        value,
        call.expiry(2, now()),
        call.tags(3),
    );
    true
}
