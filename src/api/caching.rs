//! SQL functions of the family *caching*: turn functions into cached ones and back. `track`: the tables that these read.

#![allow(unsafe_code)]

use super::{named, track};
use crate::attempt::attempt;
use crate::command;
use crate::compat;
use crate::dependencies::session::Reads;
use crate::dependencies::{clock, declared, functions};
use crate::encoding::{self, Text};
use crate::error::{self, Besides, Error, OrRaise};
use crate::language::binding;
use crate::language::body::{self, Body, Consistency};
use crate::language::likeness;
use crate::language::overloads;
use crate::language::signature::{self, Signature};
use crate::naming;
use pgrx::prelude::*;
use pgrx::{AnyElement, pg_sys};
use serde_json::{Map, Value, json};
use std::ffi::CStr;

/// The argument that a cached function has and its base function has not.
const DURATION: &str = "cache_duration";

/// On a standby: the server's own error, instead of one about transaction ids.
pub(super) fn not_during_recovery(command: &CStr) {
    // SAFETY: a C string.
    unsafe { pg_sys::PreventCommandDuringRecovery(command.as_ptr()) };
}

/// Oid of `LANGUAGE cached` in this database.
fn language() -> pg_sys::Oid {
    // SAFETY: a catalog lookup that allows for its absence.
    unsafe { pg_sys::get_language_oid(c"cached".as_ptr(), true) }
}

/// The signature of a function that must be in `LANGUAGE cached`.
pub fn cached(function: pg_sys::Oid) -> Result<Signature, Error> {
    match Signature::of(function) {
        Some(signature) if signature.language == language() => Ok(signature),
        Some(_) => Err(signature::not_cached(function)),
        None => Err(no_such_oid(function)),
    }
}

fn no_such_oid(function: pg_sys::Oid) -> Error {
    Error::NoSuchFunction(format!("with OID {}", function.to_u32()), String::new())
}

/// Creates the cached function of a function that is given by its oid.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
pub fn cache_function_v0_3(
    function: Option<pg_sys::Oid>,
    ttl: Option<pgrx::datum::Interval>,
    depends_on: Option<AnyElement>,
    tags: Option<Vec<Option<Text>>>,
    class: Option<Text>,
    scope: Option<Text>,
    consistency: Option<Text>,
    priority: Option<i32>,
    name: Option<Text>,
    refresh_ahead: Option<Text>,
    stale_while_revalidate: Option<pgrx::datum::Interval>,
    clock: Option<Text>,
    trust: Option<Vec<Option<Text>>>,
) -> pg_sys::Oid {
    let how = How {
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        refresh_ahead,
        stale_while_revalidate,
        clock,
        trust,
    };
    cache(function, how)
}

/// The same of one that is given by its name and the types of its arguments: a literal is a text, and what is wrong with it is said here.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn cache_function_by_name(
    function: Option<Text>,
    ttl: Option<pgrx::datum::Interval>,
    depends_on: Option<AnyElement>,
    tags: Option<Vec<Option<Text>>>,
    class: Option<Text>,
    scope: Option<Text>,
    consistency: Option<Text>,
    priority: Option<i32>,
    name: Option<Text>,
    refresh_ahead: Option<Text>,
    stale_while_revalidate: Option<pgrx::datum::Interval>,
    clock: Option<Text>,
    trust: Option<Vec<Option<Text>>>,
) -> pg_sys::Oid {
    let function = function.map(|function| named::function(&function.0).or_raise());
    let how = How {
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        refresh_ahead,
        stale_while_revalidate,
        clock,
        trust,
    };
    cache(function, how)
}

/// How a function is to be cached: the arguments of `cache_function()`, each of which may be left out.
#[derive(Default)]
pub struct How {
    /// Time to live of a result.
    pub ttl: Option<pgrx::datum::Interval>,
    /// Tables with their key columns, as JSON.
    pub depends_on: Option<AnyElement>,
    /// Tags of its results.
    pub tags: Option<Vec<Option<Text>>>,
    /// Its class in the configuration.
    pub class: Option<Text>,
    /// Whose results are whose.
    pub scope: Option<Text>,
    /// What keeps a result right.
    pub consistency: Option<Text>,
    /// 0 to 3: what goes first where room is short.
    pub priority: Option<i32>,
    /// Name of the cached function.
    pub name: Option<Text>,
    /// From which age on a result is computed anew.
    pub refresh_ahead: Option<Text>,
    /// How long past its life a result is served meanwhile.
    pub stale_while_revalidate: Option<pgrx::datum::Interval>,
    /// How much of the time is part of the key.
    pub clock: Option<Text>,
    /// Functions that the owner vouches for.
    pub trust: Option<Vec<Option<Text>>>,
}

/// Writes the CREATE FUNCTION that caches `function` and runs it. Returns the oid of the new function.
pub fn cache(function: Option<pg_sys::Oid>, how: How) -> pg_sys::Oid {
    let How {
        ttl,
        depends_on,
        tags,
        class,
        scope,
        consistency,
        priority,
        name,
        refresh_ahead,
        stale_while_revalidate,
        clock,
        trust,
    } = how;
    not_during_recovery(c"cache_function()");
    let function = function
        .ok_or_else(|| {
            Error::InvalidParameter(
                "function must not be null".into(),
                "It is the function whose results are to be cached.".into(),
            )
        })
        .or_raise();
    let base = Signature::of(function)
        .ok_or_else(|| no_such_oid(function))
        .or_raise();
    let mut body = Map::new();
    body.insert(
        "function".into(),
        json!(naming::regprocedure_qualified(function)),
    );
    if let Some(ttl) = ttl {
        body.insert("ttl".into(), json!(interval_text(ttl)));
    }
    if let Some(depends_on) = depends_on {
        // SAFETY: the declared type of the argument is jsonb.
        let depends_on = unsafe { json(depends_on) }.or_raise();
        body.insert("depends_on".into(), qualified(depends_on));
    }
    for (key, texts) in [("tags", tags), ("trust", trust)] {
        if let Some(texts) = texts {
            let texts: Vec<_> = texts.into_iter().flatten().map(|text| text.0).collect();
            body.insert(key.into(), json!(texts));
        }
    }
    for (key, value) in [
        ("class", class),
        ("scope", scope),
        ("consistency", consistency),
        ("refresh_ahead", refresh_ahead),
        (
            "stale_while_revalidate",
            stale_while_revalidate.map(interval_text).map(Text),
        ),
        ("clock", clock),
    ] {
        if let Some(value) = value {
            body.insert(key.into(), Value::String(value.0));
        }
    }
    if let Some(priority) = priority {
        body.insert("priority".into(), json!(priority));
    }
    let name = name.as_ref().map(|name| name.0.as_str());
    if let Some(name) = name.filter(|name| name.contains('.')) {
        Error::InvalidArgument(
            "name".into(),
            format!("\"{name}\" has a dot"),
            Some(
                "Give the name alone: the function is made in the schema of the one that it caches. ALTER FUNCTION moves and renames it."
                    .into(),
            ),
        )
        .raise();
    }
    let parsed = checked(&base, &body).or_raise();
    let source = Value::Object(body).to_string();
    let target = target(&base, name);
    let (schema, new_name) = (target.0.as_str(), target.1.as_str());
    if let Some(other) = overloads::in_the_way(&base, schema, new_name, language()) {
        Error::Ambiguous(
            overloads::words(&base, schema, new_name),
            naming::regprocedure_qualified(other),
        )
        .raise();
    }
    check_free(&base, &target).or_raise();
    let command = declaration(&base, &target, &source);
    if let Err(problem) = encoding::run(&command, &[]) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            crate::encoding::shown(&format!("could not create the cached function: {problem}"))
        );
    }
    let created = new_function(&base, &target).unwrap_or(pg_sys::InvalidOid);
    let bound = Signature::of(created).and_then(|own| {
        let body = Body::parse(&own.source).ok()?;
        binding::recorded(&own, &body)
    });
    if bound != Some(function) {
        Error::Mismatch(
            "The name of the base function was given to another function meanwhile.".into(),
            "Try again.".into(),
        )
        .raise();
    }
    track::declared(&parsed, created);
    track::found(function, created);
    tell_of_language(&base, &parsed);
    tell_of_clock(&base, &parsed);
    created
}

/// A result that depends on the clock is right by its age alone, unless the key holds as much of the time as the result depends on.
fn tell_of_clock(base: &Signature, body: &Body) {
    if body.consistency != Consistency::Strict {
        return;
    }
    let uses = clock::uses(base.oid);
    const OF_STATEMENT: &str =
        "\"clock\" goes by now(). Use that, if the time at which the transaction began will do.";
    let (used, hint) = match (body.clock, uses.statement.clone()) {
        (None, statement) => match (uses.transaction, statement) {
            (Some(used), _) => (
                used,
                "If only the day matters, give clock => 'day' (or 'hour', 'minute'): then it is part of the key. If the age of a result matters, give a ttl.",
            ),
            (None, Some(used)) => (used, OF_STATEMENT),
            (None, None) => return,
        },
        (Some(_), Some(used)) => (used, OF_STATEMENT),
        (Some(_), None) => match uses.beyond_key() {
            Some(used) => (
                used,
                "It calls a cached function that has no \"clock\". Give that one too.",
            ),
            None => return,
        },
    };
    error::tell(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        &format!(
            "results of function {} are bounded by age only",
            naming::regprocedure(base.oid)
        ),
        Besides::Both(&format!("It uses {}.", used.words()), hint),
    );
}

/// A function of which nobody knows what it reads is cached, and its results are not stored: who caches it hears of it.
fn tell_of_language(base: &Signature, body: &Body) {
    let is_unlisted = body.consistency == Consistency::Strict
        && functions::reads_of(base.oid).has(Reads::UNLISTED)
        && !functions::is_trusted(base.oid)
        && !body
            .trust
            .iter()
            .any(|one| functions::plain(one) == functions::plain_name(base.oid));
    if is_unlisted {
        error::tell(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            &format!(
                "results of function {} are not stored",
                naming::regprocedure(base.oid)
            ),
            Besides::Hint(
                "Nobody knows what a function in its language reads. Name it in \"trust\" in the body, or in pg_query_cache.trusted_functions, if its result depends on its arguments and on tables alone.",
            ),
        );
    }
}

/// Whoever writes `$2` in a tag means an argument. (In a body one that there is not stays as it is, as it always has.)
fn check_tags(base: &Signature, body: &Body) -> Result<(), Error> {
    let wrong = |tag: &String| declared::names_no_argument(tag, base.arguments.len());
    match body.tags.iter().find_map(wrong) {
        Some(argument) => Err(signature::no_argument(base, &argument)),
        None => Ok(()),
    }
}

/// The body that the arguments make. What is wrong is said of the argument, as nobody has written a body.
fn checked(base: &Signature, body: &Map<String, Value>) -> Result<Body, Error> {
    let read = |body: &Map<String, Value>| -> Result<Body, Error> {
        let parsed = Body::parse(&Value::Object(body.clone()).to_string())?;
        if let Some(ttl) = &parsed.ttl {
            signature::parse_ttl(ttl)?;
        }
        signature::parse_ahead(&parsed)?;
        signature::parse_stale(&parsed)?;
        parsed.check_class()?;
        signature::check_base(base, &parsed)?;
        signature::check_key_arguments(base, &parsed)?;
        check_tags(base, &parsed)?;
        declared::check(&parsed, base)?;
        Ok(parsed)
    };
    if let Some(ahead) = body.get("refresh_ahead").and_then(Value::as_str)
        && !ahead.trim_end().ends_with('%')
        && let Err(problem) = attempt(|| signature::read_interval(ahead))
    {
        let what = error::message_of(&problem);
        let right = signature::ahead_hint();
        return Err(Error::InvalidArgument(
            "refresh_ahead".into(),
            what,
            Some(right),
        ));
    }
    let error = match read(body) {
        Err(Error::InvalidBody(what, right)) => Error::InvalidBody(what, right),
        other => return other,
    };
    // The first that is wrong beside the function alone. What "consistency" says others rest on.
    const FIRST: &str = "consistency";
    let alone = |key: &str| {
        let mut alone = body.clone();
        alone.retain(|other, _| ["function", FIRST, key].contains(&other.as_str()));
        match read(&alone) {
            Err(Error::InvalidBody(what, right)) => Some(Error::InvalidArgument(
                key.to_owned(),
                what,
                Some(right).filter(|right| *right != body::keys_hint()),
            )),
            _ => None,
        }
    };
    let others = body
        .keys()
        .map(String::as_str)
        .filter(|key| *key != "function");
    Err([FIRST]
        .into_iter()
        .chain(others)
        .find_map(alone)
        .unwrap_or(error))
}

/// What `depends_on` says. `jsonb` allows deeper and larger things than a body can have.
///
/// # Safety
/// `value` is a `jsonb`.
unsafe fn json(value: AnyElement) -> Result<Value, Error> {
    // SAFETY: the caller's; an output function returns a C string.
    let text = unsafe {
        compat::text(pg_sys::OidOutputFunctionCall(
            pg_sys::F_JSONB_OUT.into(),
            value.datum(),
        ))
    };
    serde_json::from_str(&text).map_err(|problem| {
        let problem = problem.to_string();
        let what = problem.split(" at line ").next().unwrap_or_default();
        Error::InvalidParameter(
            "depends_on cannot be part of the body of a function".into(),
            format!("It has more than can be read back: {what}."),
        )
    })
}

/// Relation names of `depends_on` with their schemas, so that the body means the same under every search path.
fn qualified(depends_on: Value) -> Value {
    match depends_on {
        Value::Object(relations) => Value::Object(
            relations
                .into_iter()
                .map(|(name, columns)| {
                    let name = declared::find_relation(&name)
                        .and_then(naming::relation_name)
                        .unwrap_or(name);
                    (name, columns)
                })
                .collect(),
        ),
        other => other,
    }
}

fn interval_text(interval: pgrx::datum::Interval) -> String {
    let (micros, second) = (interval.micros(), 1_000_000);
    let (time, unit) = match micros % second {
        0 => (micros / second, "seconds"),
        _ => (micros, "microseconds"),
    };
    let parts: Vec<String> = [
        (i64::from(interval.months()), "months"),
        (i64::from(interval.days()), "days"),
        (time, unit),
    ]
    .iter()
    .filter(|(number, _)| *number != 0)
    .map(|(number, unit)| format!("{number} {unit}"))
    .collect();
    if parts.is_empty() {
        "0".into()
    } else {
        parts.join(" ")
    }
}

/// Schema and name of the cached function of `base`: its own schema, or that in which new objects are made if that is the catalog,
/// which no dump holds.
fn target(base: &Signature, name: Option<&str>) -> (String, String) {
    const SUFFIX: &str = "_cached";
    const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;
    // SAFETY: syscache lookups of an existing function.
    let (schema, own) = unsafe {
        let schema = pg_sys::get_func_namespace(base.oid);
        (
            (schema != pg_sys::PG_CATALOG_NAMESPACE.into())
                .then(|| compat::text(pg_sys::get_namespace_name(schema))),
            compat::text(pg_sys::get_func_name(base.oid)),
        )
    };
    let schema = schema
        .or_else(|| {
            // SAFETY: a list of schemas that exist, or did a moment ago; a syscache lookup that returns a C string, or NULL.
            unsafe {
                let schemas = compat::oids(pg_sys::fetch_search_path(false));
                let name = pg_sys::get_namespace_name(*schemas.first()?);
                (!name.is_null()).then(|| compat::text(name))
            }
        })
        .unwrap_or_default();
    let name = match name {
        Some(name) => encoding::clip(name, LONGEST).to_owned(),
        None => encoding::clip(&own, LONGEST - SUFFIX.len()).to_owned() + SUFFIX,
    };
    (schema, name)
}

/// The CREATE FUNCTION, which runs with the caller's own rights. The server has written the arguments as it would read them again under
/// the present settings; names and the body are quoted so that they are read the same under all.
fn declaration(base: &Signature, (schema, name): &(String, String), body: &str) -> String {
    let ask = |function: u32| {
        // SAFETY: a function of the server that takes an oid and returns a text, for a function that exists.
        unsafe {
            let text = pg_sys::OidFunctionCall1Coll(
                function.into(),
                pg_sys::InvalidOid,
                pg_sys::Datum::from(base.oid),
            );
            compat::text(pg_sys::text_to_cstring(text.cast_mut_ptr()))
        }
    };
    let mut arguments = ask(pg_sys::F_PG_GET_FUNCTION_ARGUMENTS);
    let result = ask(pg_sys::F_PG_GET_FUNCTION_RESULT);
    // No argument may follow a VARIADIC one.
    if base.variadic == pg_sys::InvalidOid {
        if !arguments.is_empty() {
            arguments.push_str(", ");
        }
        arguments.push_str(DURATION);
        arguments.push_str(" interval DEFAULT NULL");
    }
    format!(
        "CREATE FUNCTION {}.{}({arguments}) RETURNS {result} LANGUAGE cached STABLE {} AS {}",
        naming::quote_identifier(schema),
        naming::quote_identifier(name),
        likeness::clauses(base),
        naming::quote_literal(body)
    )
}

/// Whether the cached function can have its name and its last argument.
fn check_free(base: &Signature, target: &(String, String)) -> Result<(), Error> {
    if base.variadic == pg_sys::InvalidOid && signature::names_parameter(base.oid, DURATION) {
        if cached(base.oid).is_ok() {
            return Err(Error::NotCacheable(
                format!(
                    "function {} is a cached function already",
                    naming::regprocedure_qualified(base.oid)
                ),
                "Its results are stored when it is called.".into(),
                "Call it. CREATE OR REPLACE FUNCTION changes how it caches.".into(),
            ));
        }
        return Err(Error::NotCacheable(
            format!(
                "cannot cache function {}",
                naming::regprocedure_qualified(base.oid)
            ),
            format!("It has a parameter \"{DURATION}\", as a cached function has one of its own."),
            "Give the parameter another name.".into(),
        ));
    }
    let Some(taken) = new_function(base, target) else {
        return Ok(());
    };
    let caches = cached(taken).ok().and_then(|own| {
        let body = Body::parse(&own.source).ok()?;
        binding::recorded(&own, &body)
    });
    let hint = match caches {
        Some(caches) if caches == base.oid => {
            "CREATE OR REPLACE FUNCTION changes how it caches; or drop it with uncache_function() and call cache_function() again."
        }
        _ => "Give the cached function another name: cache_function(…, name => '…').",
    };
    Err(Error::Taken(
        target.1.clone(),
        caches.map(naming::regprocedure_qualified),
        hint.into(),
    ))
}

/// The function that has the name and the arguments that [`declaration`] gives.
fn new_function(base: &Signature, (schema, name): &(String, String)) -> Option<pg_sys::Oid> {
    let mut types = base.arguments.clone();
    if base.variadic == pg_sys::InvalidOid {
        types.push(pg_sys::INTERVALOID);
    }
    let (schema, name) = (
        crate::encoding::c_string(schema),
        crate::encoding::c_string(name),
    );
    let (schema, name) = (schema.ok()?, name.ok()?);
    // SAFETY: the catalog row of the command before becomes visible; a syscache lookup that allows for its absence.
    let schema = unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::get_namespace_oid(schema.as_ptr(), true)
    };
    compat::find_function(schema, &name, &types)
}

/// Drops a cached function. Its base function stays.
#[pg_extern(sql = false)]
fn uncache_function(function: pg_sys::Oid) {
    not_during_recovery(c"uncache_function()");
    let cached = cached(function).or_raise();
    // SAFETY: a parse tree as DROP FUNCTION has it, of names from the catalog.
    unsafe {
        let (schema, name) = (
            pg_sys::get_namespace_name(pg_sys::get_func_namespace(function)),
            pg_sys::get_func_name(function),
        );
        if schema.is_null() || name.is_null() {
            no_such_oid(function).raise();
        }
        let object: *mut pg_sys::ObjectWithArgs = command::node(pg_sys::NodeTag::T_ObjectWithArgs);
        (*object).objname = command::names(&[schema, name]);
        (*object).objargs = command::list(
            cached
                .arguments
                .iter()
                .map(|type_id| pg_sys::makeTypeNameFromOid(*type_id, -1).cast()),
        );
        let statement: *mut pg_sys::DropStmt = command::node(pg_sys::NodeTag::T_DropStmt);
        (*statement).objects = command::list([object.cast()]);
        (*statement).removeType = pg_sys::ObjectType::OBJECT_FUNCTION;
        (*statement).behavior = pg_sys::DropBehavior::DROP_RESTRICT;
        command::run(statement, c"DROP FUNCTION of pg_query_cache");
    }
}
