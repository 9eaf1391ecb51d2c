//! A cached function as the catalog has it, ready to be called. Kept per backend until the catalog changes.

#![allow(unsafe_code)]

use super::binding;
use super::body::{Ahead, Binding, Body, Consistency, MOST_AHEAD, Scope};
use super::meant::{self, DependsOn, Said, Standing};
use super::signature::{self, Signature};
use super::standing;
use crate::backend::Backend;
use crate::call::outcome::Reason;
use crate::call::period::Clock;
use crate::compat;
use crate::configuration;
use crate::dependencies::functions;
use crate::error::{Error, OrRaise};
use crate::moments::{self, LONGEST};
use crate::numbers::{NumberMap, number_map};
use crate::store::area::area;
use crate::store::partition::EntryHead;
use crate::store::statistics::OwnRow;
use crate::store::traits::{Learned, Trait};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An argument of a cached function.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Declared type.
    pub type_id: pg_sys::Oid,
    /// Length of the type as `pg_type.typlen` has it.
    pub length: i16,
    /// Whether it is passed by value.
    pub by_value: bool,
    /// Whether its actual type is known only at the call.
    pub polymorphic: bool,
}

/// How the result comes.
#[derive(Clone, Copy, Debug)]
pub struct ResultShape {
    /// `SETOF` or `TABLE`.
    pub set: bool,
    /// Length of the type; meaningless for polymorphic ones.
    pub length: i16,
    /// Whether it is passed by value; meaningless for polymorphic ones.
    pub by_value: bool,
    /// Its actual type is known only at the call.
    pub polymorphic: bool,
    /// A row whose columns are OUT parameters.
    pub record: bool,
}

/// A cached function.
#[derive(Debug)]
pub struct CachedFunction {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Oid of the base function.
    pub base: pg_sys::Oid,
    /// The base function returns NULL when an argument is NULL, without being run.
    pub base_strict: bool,
    /// Arguments that are passed on to the base function.
    pub arguments: Vec<Argument>,
    /// Whether one more argument, `cache_duration`, follows them.
    pub has_duration: bool,
    /// The result.
    pub result: ResultShape,
    /// Time to live of a new entry in microseconds.
    pub ttl_us: i64,
    /// Why it does not use the cache, if the configuration says so or its base function is not what could be cached.
    pub disabled: Option<Reason>,
    /// Whether it may rest when caching it does not pay.
    pub adaptive: bool,
    ahead: Ahead,
    /// For how long after its time to live an entry is still served, in microseconds. 0 unless age alone decides and the owner has said so.
    pub stale_us: i64,
    /// See [`Body::clock`].
    pub clock: Option<Clock>,
    /// See [`Scope`].
    pub scope: Scope,
    /// See [`Consistency`].
    pub consistency: Consistency,
    /// See [`Body::priority`].
    pub priority: u8,
    /// See [`Body::tags`].
    pub tags: Vec<String>,
    /// See [`Body::depends_on`]. If the body says nothing, what the base function says of itself.
    pub depends_on: DependsOn,
    /// What is known of what its names meant.
    pub meant: Standing,
    /// See [`Body::trust`], in plain words.
    trust: Vec<String>,
    /// The base function says it: only of what was read anyway, with the rights of its owner.
    pub said_by_base: bool,
    /// Its row in shared memory, with what has been learned of it.
    row: OwnRow,
    /// The search path and role under which the base function was found, if it is bound late.
    found_under: Option<(Vec<u8>, pg_sys::Oid)>,
}

impl CachedFunction {
    /// How long before it is served no more an entry is to be computed anew; 0 if it is not.
    #[inline(always)]
    pub fn refresh_us(&self) -> i64 {
        match self.ahead {
            Ahead::No => self.stale_us,
            Ahead::Share(share) => self.stale_us + self.ttl_us / 100 * share,
            Ahead::Fixed(us) => self.stale_us + us.min(self.ttl_us / 100 * MOST_AHEAD),
        }
    }

    /// When an entry has lived as long as the time to live, and what is allowed beyond, say. One with a period of the clock in its key may be
    /// kept less long.
    #[inline(always)]
    pub fn end_of_life(&self, head: &EntryHead) -> i64 {
        match self.clock {
            None => head.expires_at,
            Some(_) => moments::after(head.created_at, self.ttl_us + self.stale_us),
        }
    }

    /// All that has been learned of it; `None` if it has no row, without which it does not use the cache.
    #[inline(always)]
    pub fn learned(&self) -> Option<Learned> {
        self.row.learned().or_else(|| self.look_for_row())
    }

    #[cold]
    #[inline(never)]
    fn look_for_row(&self) -> Option<Learned> {
        // SAFETY: the clock.
        let now = unsafe { crate::server::GetCurrentTimestamp() };
        self.row.look_again(now, || standing::find(self.oid))
    }

    /// Whether it has a trait.
    #[inline(always)]
    pub fn has(&self, one: Trait) -> bool {
        self.row.learned().is_some_and(|learned| learned.has(one))
    }

    /// It has a trait from now on, in all sessions. Returns whether that is new; `None` if it has no row.
    pub fn learn(&self, one: Trait) -> Option<bool> {
        area()?.functions().learn(compat::database(), self.oid, one)
    }

    /// Whether its owner vouches for a function.
    pub fn trusts(&self, function: pg_sys::Oid) -> bool {
        !self.trust.is_empty() && self.trust.contains(&functions::plain_name(function))
    }

    /// Whether the base function would still be found under its name.
    fn still_found(&self) -> bool {
        match &self.found_under {
            None => true,
            // SAFETY: variables of the backend; the search path is a C string.
            Some((path, role)) => unsafe {
                *role == crate::server::GetUserId()
                    && CStr::from_ptr(pg_sys::namespace_search_path).to_bytes() == path.as_slice()
            },
        }
    }
}

static FUNCTIONS: Backend<RefCell<NumberMap<u32, Rc<CachedFunction>>>> =
    Backend::new(RefCell::new(number_map()));
static ANY: AtomicBool = AtomicBool::new(false);
static STALE: AtomicBool = AtomicBool::new(false);
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Changes whenever this backend learns that a function or another definition may have changed.
#[inline(always)]
pub fn epoch() -> u64 {
    EPOCH.load(Ordering::Relaxed)
}

/// What call sites keep of functions, plans above all, is made anew.
pub fn forget_call_sites() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}

/// Whether this session has called a cached function.
#[inline(always)]
pub fn any_called() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// The cached function `oid`. Raises an ERROR if it cannot be called.
#[inline(always)]
pub fn get(oid: pg_sys::Oid) -> Rc<CachedFunction> {
    if !STALE.load(Ordering::Relaxed)
        && let Some(found) =
            FUNCTIONS.with_borrow(|functions| functions.get(&oid.to_u32()).cloned())
        && found.still_found()
    {
        return found;
    }
    load(oid)
}

#[cold]
fn load(oid: pg_sys::Oid) -> Rc<CachedFunction> {
    if STALE.swap(false, Ordering::Relaxed) {
        FUNCTIONS.with_borrow_mut(NumberMap::clear);
    }
    ANY.store(true, Ordering::Relaxed);
    // SAFETY: a variable of the backend.
    if !unsafe { pg_sys::IsTransactionState() } {
        end_silently();
    }
    let function = Rc::new(read(oid).or_raise());
    FUNCTIONS.with_borrow_mut(|functions| functions.insert(oid.to_u32(), function.clone()));
    function
}

/// The server calls a function outside of a transaction, where no catalog can be looked at: an older version has let one be made that
/// converts encodings. Whatever is said to the client would call it again.
#[cold]
fn end_silently() {
    // SAFETY: a variable of the backend.
    unsafe { pg_sys::whereToSendOutput = pg_sys::CommandDest::DestNone };
    pgrx::ereport!(
        FATAL,
        pgrx::PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "function in LANGUAGE cached called outside of a transaction"
    );
}

/// Reads a cached function from the catalog.
fn read(oid: pg_sys::Oid) -> Result<CachedFunction, Error> {
    let own = Signature::of(oid).ok_or_else(|| {
        Error::NoSuchFunction(format!("with OID {}", oid.to_u32()), String::new())
    })?;
    let body = Body::parse(&own.source)?;
    signature::check_handled(&own)?;
    let base = binding::of(&own, &body)?;
    signature::check_kind(&base)?;
    let has_duration = signature::check_shape(&own, &base, &body)?;
    let arguments = own.arguments[..base.arguments.len()]
        .iter()
        .map(|type_id| argument(*type_id))
        .collect();
    let (length, by_value) = compat::type_length(own.result);
    let class = body.class();
    let ttl_us = match &body.ttl {
        Some(ttl) => signature::parse_ttl(ttl)?,
        None => configuration::class_ttl_us(class),
    }
    .min(LONGEST);
    // What it was when the cached function was created it need not be any more.
    let present = signature::check_present(&own, &base, &body);
    let (disabled, clock) = match present.and_then(|()| Clock::of(&body, base.oid)) {
        Ok(clock) => (configuration::disabled(oid, class), clock),
        Err(_) => (Some(Reason::BaseNotCacheable), None),
    };
    let (ahead, stale_us) = (
        signature::parse_ahead(&body)?,
        signature::parse_stale(&body)?.min(LONGEST),
    );
    // SAFETY: variables of the backend; the search path is a C string.
    let found_under = (body.binding == Binding::Late).then(|| unsafe {
        (
            CStr::from_ptr(pg_sys::namespace_search_path)
                .to_bytes()
                .to_vec(),
            crate::server::GetUserId(),
        )
    });
    let said = Said::of(&body, base.oid);
    let meant = Standing::of(oid, &said);
    if matches!(meant, Standing::NotYet)
        && meant::is_unrecorded(oid)
        && let Some(area) = area()
    {
        binding::leave_to_worker(area);
    }
    Ok(CachedFunction {
        oid,
        base: base.oid,
        base_strict: base.strict,
        arguments,
        has_duration,
        result: ResultShape {
            set: own.returns_set,
            length,
            by_value,
            polymorphic: compat::is_polymorphic(own.result),
            record: own.result == pg_sys::RECORDOID,
        },
        ttl_us,
        disabled,
        // The callers of one that is volatile may count on its result to stay the same for a while.
        adaptive: base.volatility != pg_sys::PROVOLATILE_VOLATILE
            && configuration::is_adaptive(oid),
        ahead,
        stale_us,
        clock,
        scope: body.scope,
        consistency: body.consistency,
        priority: body.priority as u8,
        tags: body.tags,
        trust: body.trust.iter().map(|one| functions::plain(one)).collect(),
        said_by_base: said.by_base,
        depends_on: said.depends_on,
        meant,
        row: standing::of(oid),
        found_under,
    })
}

fn argument(type_id: pg_sys::Oid) -> Argument {
    let polymorphic = compat::is_polymorphic(type_id);
    let (length, by_value) = if polymorphic {
        (0, false)
    } else {
        compat::type_length(type_id)
    };
    Argument {
        type_id,
        length,
        by_value,
        polymorphic,
    }
}

/// What this session keeps of cached functions is read again: the configuration has changed, and is worked into it.
pub fn forget() {
    STALE.store(true, Ordering::Relaxed);
}

/// Forgets what was read whenever a function or a schema changes. Once per backend.
pub fn watch_catalog() {
    // SAFETY: registers a function with the signature that the server wants.
    unsafe {
        for cache in [compat::PROC_CACHE, compat::NAMESPACE_CACHE] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache,
                Some(catalog_changed),
                pg_sys::Datum::from(0),
            );
        }
    }
}

unsafe extern "C-unwind" fn catalog_changed(_: pg_sys::Datum, _: i32, _: u32) {
    // No fence: two stores.
    STALE.store(true, Ordering::Relaxed);
    EPOCH.fetch_add(1, Ordering::Relaxed);
}
