//! The signatures of a cached function and of its base function, and whether they fit.
//!
//! Some of it can change while the cached function depends on the base function (VOLATILE, STRICT, VARIADIC): then calls bypass the cache.
//! The rest cannot without one of the two being created anew, and is an error.

#![allow(unsafe_code)]

use super::binding;
use super::body::{Ahead, Binding, Body, Consistency, MOST_AHEAD};
use crate::call::period::Clock;
use crate::compat;
use crate::encoding::Text;
use crate::error::Error;
use crate::moments::us_of;
use crate::naming;
use pgrx::prelude::*;
use pgrx::{IntoDatum, PgTupleDesc, pg_sys};

/// What matters of a function's catalog row.
pub struct Signature {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Types of the input arguments.
    pub arguments: Vec<pg_sys::Oid>,
    /// Type of the result.
    pub result: pg_sys::Oid,
    /// `SETOF` or `TABLE`.
    pub returns_set: bool,
    /// Types of the columns, if the result is a row described by OUT parameters.
    pub columns: Option<Vec<pg_sys::Oid>>,
    /// How many of the last arguments may be left out.
    pub defaults: usize,
    /// `STRICT`.
    pub strict: bool,
    /// `pg_proc.provolatile`.
    pub volatility: u8,
    /// `pg_proc.proparallel`.
    pub parallel: u8,
    /// `pg_proc.prokind`.
    pub kind: u8,
    /// Element type of a VARIADIC argument, or invalid.
    pub variadic: pg_sys::Oid,
    /// `pg_proc.prosrc`.
    pub source: String,
    /// Oid of its language.
    pub language: pg_sys::Oid,
}

impl Signature {
    /// The signature of the function `oid`, if it exists.
    pub fn of(oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the tuple is pinned by the syscache until it is released; nothing of it is kept.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(oid));
            if tuple.is_null() {
                return None;
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            let arguments = std::slice::from_raw_parts(
                form.proargtypes.values.as_ptr(),
                form.pronargs as usize,
            )
            .to_vec();
            let mut is_null = false;
            let source = pg_sys::SysCacheGetAttr(
                compat::PROC_CACHE as _,
                tuple,
                pg_sys::Anum_pg_proc_prosrc as _,
                &mut is_null,
            );
            let source = Text::from_datum(source, is_null)
                .map(|text| text.0)
                .unwrap_or_default();
            let description = pg_sys::build_function_result_tupdesc_t(tuple);
            let columns = (!description.is_null()).then(|| {
                let description = PgTupleDesc::from_pg_copy(description);
                (0..description.len())
                    .filter_map(|i| description.get(i))
                    .map(|a| a.atttypid)
                    .collect()
            });
            let signature = Signature {
                oid,
                arguments,
                result: form.prorettype,
                returns_set: form.proretset,
                columns,
                defaults: form.pronargdefaults.max(0) as usize,
                strict: form.proisstrict,
                volatility: form.provolatile as u8,
                parallel: form.proparallel as u8,
                kind: form.prokind as u8,
                variadic: form.provariadic,
                source,
                language: form.prolang,
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(signature)
        }
    }
}

/// Whether a parameter of a function, of whatever mode, has a name.
pub fn names_parameter(oid: pg_sys::Oid, name: &str) -> bool {
    let (mut types, mut names, mut modes) = (
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: the tuple is pinned while it is read; the arrays are copies in our memory context, as long as the count says, or NULL.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return false;
        }
        let count = pg_sys::get_func_arg_info(tuple, &mut types, &mut names, &mut modes) as usize;
        pg_sys::ReleaseSysCache(tuple);
        !names.is_null() && (0..count).any(|i| compat::text(*names.add(i)) == name)
    }
}

/// The value that a function's `SET` clause gives to a setting.
pub fn setting_of(oid: pg_sys::Oid, name: &str) -> Option<String> {
    // SAFETY: the tuple is pinned by the syscache until it is released; nothing of it is kept.
    let settings = unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let settings = pg_sys::SysCacheGetAttr(
            compat::PROC_CACHE as _,
            tuple,
            pg_sys::Anum_pg_proc_proconfig as _,
            &mut is_null,
        );
        let settings = Vec::<Option<Text>>::from_datum(settings, is_null);
        pg_sys::ReleaseSysCache(tuple);
        settings
    };
    settings?.into_iter().flatten().find_map(|setting| {
        let (set, value) = setting.0.split_once('=')?;
        set.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Whether a name as in [`Body::function`] or [`Body::depends_on`] carries its schema.
pub fn is_qualified(name: &str) -> bool {
    let mut quoted = false;
    for c in name.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => return true,
            '(' if !quoted => return false,
            _ => (),
        }
    }
    false
}

/// Finds the base function that a body names. Only when a function is created, or at each call of one that is bound late.
pub fn resolve(body: &Body) -> Result<Signature, Error> {
    find(&body.function).ok_or_else(|| {
        let hint = match body.binding {
            Binding::Late => format!(
                "This cached function calls the function {} of the application. The samples that come with pg_query_cache \
                 have one: sql/samples/{}.sql.",
                body.function,
                if body.function.contains("_contacts_") { "contacts" } else { "marketplace" }
            ),
            Binding::Early => {
                "Name the base function with its argument types, and with its schema if that is not in the search path."
                    .into()
            }
        };
        Error::NoSuchFunction(body.function.clone(), hint)
    })
}

/// Finds a function by name and argument types.
pub fn find(name: &str) -> Option<Signature> {
    // SAFETY: to_regprocedure takes one text and returns an oid or NULL; a malformed name raises the server's own error.
    let oid = unsafe {
        pgrx::direct_function_call::<pg_sys::Oid>(
            pg_sys::to_regprocedure,
            &[Text::from(name).into_datum()],
        )
    }?;
    Signature::of(oid)
}

/// Checks that a cached function can be called by its handler at all, whatever its base function is: also where bodies are not checked.
/// Functions of other kinds, and those with pseudo-types, are called by the server in ways of its own: one that takes `internal` outside
/// of a transaction, say.
pub fn check_handled(own: &Signature) -> Result<(), Error> {
    let refused = |what: String, detail: &str| {
        Err(Error::NotCacheable(
            what,
            detail.into(),
            "Declare it like a function that returns a value or a set.".into(),
        ))
    };
    if own.kind != b'f' {
        return Err(Error::InvalidDeclaration(
            "only plain functions can be cached functions".into(),
            "Declare it with CREATE FUNCTION, without WINDOW.".into(),
        ));
    }
    let is_strange =
        |type_id: &pg_sys::Oid| compat::is_pseudo(*type_id) && !compat::is_polymorphic(*type_id);
    if let Some(type_id) = own.arguments.iter().find(|type_id| is_strange(type_id)) {
        return refused(
            format!(
                "cached functions cannot accept type {}",
                naming::type_name(*type_id)
            ),
            "Values of this type cannot be part of a key.",
        );
    }
    if is_strange(&own.result) && own.result != pg_sys::RECORDOID {
        return refused(
            format!(
                "cached functions cannot return type {}",
                naming::type_name(own.result)
            ),
            "Values of this type cannot be stored.",
        );
    }
    Ok(())
}

/// Checks that `base` can be called as a function is. What a name means that is looked up late can be of any kind, and whatever is not a
/// plain function expects another caller: a window function, say, the state of its window.
pub fn check_kind(base: &Signature) -> Result<(), Error> {
    match base.kind {
        b'f' => Ok(()),
        _ => Err(Error::NotCacheable(
            format!("{} is not a plain function", naming::regprocedure(base.oid)),
            "Procedures, aggregates and window functions have no result that could be stored."
                .into(),
            "Cache a function that calls it.".into(),
        )),
    }
}

/// Checks that the results of `base` can be cached at all.
pub fn check_base(base: &Signature, body: &Body) -> Result<(), Error> {
    check_kind(base)?;
    let base_name = naming::regprocedure(base.oid);
    let not_cacheable = |what: String, detail: &str, hint: &str| {
        Err(Error::NotCacheable(what, detail.into(), hint.into()))
    };
    if base.result == pg_sys::VOIDOID {
        return not_cacheable(
            format!("function {base_name} returns void"),
            "There is no result to be cached.",
            "Cache a function that returns a value or a set.",
        );
    }
    if base.result == pg_sys::RECORDOID && base.columns.is_none() {
        return not_cacheable(
            format!("function {base_name} returns record without OUT parameters"),
            "The columns of the result are known only to each calling query.",
            "Declare the columns with OUT parameters or RETURNS TABLE.",
        );
    }
    let pseudo =
        |type_id: &pg_sys::Oid| compat::is_pseudo(*type_id) && !compat::is_polymorphic(*type_id);
    if let Some(type_id) = base.arguments.iter().find(|t| pseudo(t)) {
        return not_cacheable(
            format!(
                "function {base_name} takes an argument of pseudo-type {}",
                naming::type_name(*type_id)
            ),
            "Values of this type cannot be part of a key.",
            "Cache a function whose argument types are plain or polymorphic.",
        );
    }
    if pseudo(&base.result) && base.result != pg_sys::RECORDOID {
        return not_cacheable(
            format!(
                "function {base_name} returns pseudo-type {}",
                naming::type_name(base.result)
            ),
            "Values of this type cannot be stored.",
            "Cache a function that returns a plain or polymorphic type.",
        );
    }
    let anonymous =
        |type_id: &pg_sys::Oid| [pg_sys::RECORDOID, pg_sys::RECORDARRAYOID].contains(type_id);
    if base.columns.iter().flatten().any(anonymous) {
        return not_cacheable(
            format!("function {base_name} returns a column of type record"),
            "Rows without a named type mean something in the session only that made them.",
            "Give the column a composite type.",
        );
    }
    if base
        .columns
        .iter()
        .flatten()
        .chain([&base.result])
        .any(|type_id| compat::contains_type(*type_id, pg_sys::REFCURSOROID))
    {
        return not_cacheable(
            format!("function {base_name} returns cursors"),
            "A stored result would name a cursor that is not there.",
            "Let the function return the rows.",
        );
    }
    if base.volatility == pg_sys::PROVOLATILE_VOLATILE && body.consistency == Consistency::Strict {
        return not_cacheable(
            format!("function {base_name} is volatile"),
            "A volatile function can return another result at each call, or change data.",
            "Declare it STABLE if it only reads, or give \"consistency\": \"ttl\" if its age alone decides.",
        );
    }
    Clock::of(body, base.oid).map(|_| ())
}

/// Checks that `own` can be a cached function of `base`. Returns whether it has the additional argument `cache_duration`.
pub fn check(own: &Signature, base: &Signature, body: &Body) -> Result<bool, Error> {
    check_itself(own, base)?;
    check_base(base, body)?;
    let has_duration = check_shape(own, base, body)?;
    check_present(own, base, body)?;
    Ok(has_duration)
}

/// Checks what `CREATE OR REPLACE` and `ALTER FUNCTION` can change of the base function: that its results can be cached as it is now.
pub fn check_present(own: &Signature, base: &Signature, body: &Body) -> Result<(), Error> {
    check_base(base, body)?;
    if own.strict && (!base.strict || own.arguments.len() > base.arguments.len()) {
        return Err(must_not_be_strict());
    }
    if base.variadic != own.variadic {
        return mismatch(format!(
            "Only one of the base function {} and the cached function is VARIADIC.",
            naming::regprocedure(base.oid)
        ));
    }
    Ok(())
}

/// That the server itself would answer NULL.
pub fn must_not_be_strict() -> Error {
    Error::InvalidDeclaration(
        "cached function must not be declared STRICT".into(),
        "Leave it out: the base function decides what a NULL means, and NULL as cache_duration means the time to live of the function."
            .into(),
    )
}

fn check_itself(own: &Signature, base: &Signature) -> Result<(), Error> {
    if base.oid != own.oid {
        return Ok(());
    }
    Err(Error::NotCacheable(
        format!(
            "function {} cannot cache itself",
            naming::regprocedure(base.oid)
        ),
        "The body names the cached function as its own base function.".into(),
        "Name the function whose results are to be cached.".into(),
    ))
}

fn mismatch<T>(what: String) -> Result<T, Error> {
    Err(Error::Mismatch(what, "Declare the cached function like its base function, with an additional argument cache_duration interval if wanted.".into()))
}

/// Whether arguments and result are such that one function can be the cached one of the other.
pub fn fits(own: &Signature, base: &Signature) -> bool {
    own.oid != base.oid
        && own.returns_set == base.returns_set
        && own.result == base.result
        && own.columns == base.columns
        && duration(own, base).is_some()
}

/// Whether the argument `cache_duration` follows those of the base function; `None` if these differ.
fn duration(own: &Signature, base: &Signature) -> Option<bool> {
    match own.arguments.strip_prefix(base.arguments.as_slice())? {
        [] => Some(false),
        [pg_sys::INTERVALOID] => Some(true),
        _ => None,
    }
}

/// Checks what has to be as it is whatever becomes of the base function: how the cached function is declared, and that arguments and
/// result are those of the base function. Returns whether it has the additional argument `cache_duration`.
pub fn check_shape(own: &Signature, base: &Signature, body: &Body) -> Result<bool, Error> {
    let base_name = naming::regprocedure(base.oid);
    check_itself(own, base)?;
    if own.volatility == pg_sys::PROVOLATILE_IMMUTABLE {
        return Err(Error::InvalidDeclaration(
            "cached function must not be declared IMMUTABLE".into(),
            "Declare it STABLE: the planner keeps results of immutable functions for ever.".into(),
        ));
    }
    if own.parallel == pg_sys::PROPARALLEL_SAFE {
        return Err(Error::InvalidDeclaration(
            "cached function must not be declared PARALLEL SAFE".into(),
            "Declare it as the base function is, but PARALLEL RESTRICTED at most: parallel workers cannot record what a function reads."
                .into(),
        ));
    }
    if body.binding == Binding::Late && compat::definer(own.oid).is_some() {
        return Err(Error::InvalidDeclaration(
            "cached function that is bound late must not be declared SECURITY DEFINER".into(),
            "Leave \"binding\" out: what it calls with the rights of its owner must not be what the caller's search path finds."
                .into(),
        ));
    }
    if own.returns_set != base.returns_set {
        let word = |set: bool| if set { "a set" } else { "one value" };
        return mismatch(format!(
            "The base function {base_name} returns {}, the cached function {}.",
            word(base.returns_set),
            word(own.returns_set)
        ));
    }
    if own.result != base.result || own.columns != base.columns {
        return mismatch(format!(
            "The base function {base_name} returns {}, the cached function {}.",
            result_name(base),
            result_name(own)
        ));
    }
    let Some(has_duration) = duration(own, base) else {
        let names = |types: &[pg_sys::Oid]| {
            types
                .iter()
                .map(|t| naming::type_name(*t))
                .collect::<Vec<_>>()
                .join(", ")
        };
        return mismatch(format!(
            "The base function {base_name} takes ({}), the cached function ({}).",
            names(&base.arguments),
            names(&own.arguments)
        ));
    };
    check_key_arguments(base, body)?;
    Ok(has_duration)
}

/// What is said of an argument that a base function does not have.
pub fn no_argument(base: &Signature, argument: &str) -> Error {
    Error::InvalidBody(
        format!(
            "{argument} is not an argument of the base function {}",
            naming::regprocedure(base.oid)
        ),
        "Arguments are numbered from $1; cache_duration is not one of them.".into(),
    )
}

/// Checks that key columns are compared with arguments that the base function has.
pub fn check_key_arguments(base: &Signature, body: &Body) -> Result<(), Error> {
    for columns in body.depends_on.values() {
        for argument in columns.values() {
            if super::body::argument_number(argument).is_none_or(|i| i >= base.arguments.len()) {
                return Err(no_argument(base, argument));
            }
        }
    }
    Ok(())
}

/// How many base functions, each cached itself, are followed one after the other.
const CHAIN: usize = 100;

/// Refuses a cached function whose base function is cached too and leads back to it. What is not found here (a name that comes to mean
/// another function where it is bound late, a check that was switched off) the server's limit of the stack ends at the call.
pub fn check_chain(own: &Signature, base: &Signature) -> Result<(), Error> {
    let next_of = |function: &Signature| {
        if function.language != own.language {
            return None;
        }
        let body = Body::parse(&function.source).ok()?;
        match body.binding {
            Binding::Early => binding::recorded(function, &body).and_then(Signature::of),
            Binding::Late => find(&body.function),
        }
    };
    let mut next = next_of(base);
    for _ in 0..CHAIN {
        let Some(function) = next else {
            return Ok(());
        };
        if function.oid == own.oid {
            let (own, base) = (
                naming::regprocedure(own.oid),
                naming::regprocedure(base.oid),
            );
            return Err(Error::NotCacheable(
                format!("function {own} cannot cache itself"),
                format!("Its base function {base} caches {own}, directly or by way of others."),
                "Name the function whose results are to be cached.".into(),
            ));
        }
        next = next_of(&function);
    }
    Ok(())
}

fn result_name(signature: &Signature) -> String {
    match &signature.columns {
        Some(columns) => format!(
            "({})",
            columns
                .iter()
                .map(|type_id| naming::type_name(*type_id))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        None => naming::type_name(signature.result),
    }
}

/// Reads a time to live. Microseconds, more than zero.
pub fn parse_ttl(text: &str) -> Result<i64, Error> {
    parse_interval("time to live", "A time to live is longer than zero.", text)
}

/// That a function is not a cached one, with those that cache it.
pub fn not_cached(function: pg_sys::Oid) -> Error {
    // SAFETY: a catalog lookup that allows for its absence.
    let language = unsafe { pg_sys::get_language_oid(c"cached".as_ptr(), true) };
    let class = pg_sys::ProcedureRelationId;
    let caching = compat::dependents(class, function, class)
        .into_iter()
        .filter(|one| Signature::of(*one).is_some_and(|own| own.language == language))
        .map(naming::regprocedure)
        .collect();
    Error::NotCached(naming::regprocedure(function), caching)
}

/// Reads [`Body::stale_while_revalidate`]. Microseconds.
pub fn parse_stale(body: &Body) -> Result<i64, Error> {
    const KEY: &str = "stale_while_revalidate";
    let text = body.stale_while_revalidate.as_deref();
    text.map_or(Ok(0), |text| parse_interval(KEY, LONGER, text))
}

/// Reads [`Body::refresh_ahead`].
pub fn parse_ahead(body: &Body) -> Result<Ahead, Error> {
    let Some(text) = body.refresh_ahead.as_deref() else {
        return Ok(Ahead::No);
    };
    let Some(share) = text.trim().strip_suffix('%') else {
        return parse_interval("refresh_ahead", LONGER, text).map(Ahead::Fixed);
    };
    match share.trim().parse() {
        Ok(share) if (1..=MOST_AHEAD).contains(&share) => Ok(Ahead::Share(share)),
        _ => Err(Error::InvalidBody(
            format!("\"refresh_ahead\" is \"{text}\""),
            ahead_hint(),
        )),
    }
}

/// What `refresh_ahead` can be.
pub fn ahead_hint() -> String {
    format!("Give an interval, or from 1% to {MOST_AHEAD}% of the time to live.")
}

const LONGER: &str = "It is longer than zero.";

/// Reads an interval of the body. Microseconds, more than zero.
fn parse_interval(what: &str, longer: &str, text: &str) -> Result<i64, Error> {
    match read_interval(text)? {
        us if us > 0 => Ok(us),
        _ => Err(Error::InvalidParameter(
            format!("invalid {what} \"{text}\""),
            longer.into(),
        )),
    }
}

/// Reads an interval, in microseconds.
pub fn read_interval(text: &str) -> Result<i64, Error> {
    let source = crate::encoding::c_string(text).map_err(|_| {
        Error::InvalidBody(
            "an interval holds a zero byte".into(),
            "Give an interval, for example \"5 minutes\".".into(),
        )
    })?;
    // SAFETY: interval_in takes a C string, an oid and a type modifier; a malformed interval raises the server's own error.
    let interval = unsafe {
        pgrx::direct_function_call::<Interval>(
            pg_sys::interval_in,
            &[
                source.as_c_str().into_datum(),
                pg_sys::InvalidOid.into_datum(),
                (-1i32).into_datum(),
            ],
        )
    };
    Ok(interval.map_or(0, |interval| us_of(&interval)))
}
