//! How a cached function is declared beside its arguments and its result, and that it stays as its base function is.
//!
//! Before a call reaches us the server has filled in defaults, matched names, and answered NULL for a STRICT function; the planner has
//! decided by volatility, parallel mark, COST and ROWS how often, where and when it is called. All of that it takes from the cached
//! function's own row. So after a command that changes the base function, whatever was alike before is made alike again: what the owner of
//! the cached function has declared otherwise is his. Three things cannot be otherwise ([`Declared::must`]): a function that is STRICT where its
//! base function is not answers NULL for it, one that is PARALLEL RESTRICTED runs a PARALLEL UNSAFE one where that fails, and one that is
//! STABLE has a VOLATILE one called too seldom.
//!
//! A default is code that runs with the rights of the caller, who trusts the owner of the function that he calls. So a default is taken
//! over if the owner of the base function could write the cached one himself, if the owner of that does it, or if it is a constant. What cannot be taken over is told, and
//! `analyze_cache_health()` shows it.

#![allow(unsafe_code)]

use super::binding;
use super::body::{Binding, Body, Consistency};
use super::meant;
use super::signature::{self, Signature};
use crate::backend::Backend;
use crate::compat;
use crate::dependencies::rights;
use crate::encoding::Text;
use crate::error::{Besides, Error, OrRaise, tell};
use crate::naming;
use pgrx::{FromDatum, IntoDatum, PgLogLevel, PgSqlErrorCode, pg_sys};
use std::cell::RefCell;

/// In what a cached function is not as its base function is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unlike(u8);

impl Unlike {
    /// STRICT where the base function is not.
    pub const STRICT: Unlike = Unlike(1);
    /// Volatility.
    pub const VOLATILITY: Unlike = Unlike(2);
    /// The parallel mark.
    pub const PARALLEL: Unlike = Unlike(4);
    /// COST.
    pub const COST: Unlike = Unlike(8);
    /// ROWS.
    pub const ROWS: Unlike = Unlike(16);
    /// Names of arguments.
    pub const NAMES: Unlike = Unlike(32);
    /// Defaults of arguments.
    pub const DEFAULTS: Unlike = Unlike(64);

    fn add(&mut self, other: Unlike, if_so: bool) {
        self.0 |= if if_so { other.0 } else { 0 };
    }

    fn without(self, other: Unlike) -> Unlike {
        Unlike(self.0 & !other.0)
    }

    fn and(self, other: Unlike) -> Unlike {
        Unlike(self.0 | other.0)
    }

    /// Whether it is in all of these.
    pub fn has(self, other: Unlike) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is in nothing.
    pub fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// In words.
    pub fn words(self) -> String {
        let all = [
            (Unlike::STRICT, "STRICT"),
            (Unlike::VOLATILITY, "volatility"),
            (Unlike::PARALLEL, "parallel mark"),
            (Unlike::COST, "COST"),
            (Unlike::ROWS, "ROWS"),
            (Unlike::NAMES, "names of arguments"),
            (Unlike::DEFAULTS, "defaults of arguments"),
        ];
        let words: Vec<_> = all
            .iter()
            .filter(|(one, _)| self.has(*one))
            .map(|(_, word)| *word)
            .collect();
        words.join(", ")
    }
}

/// How a function is declared.
struct Declared {
    cost: f32,
    rows: f32,
    strict: bool,
    volatility: u8,
    parallel: u8,
    /// Of the arguments that are given: name, if there is one, and default.
    names: Vec<Option<String>>,
    defaults: Vec<Option<*mut pg_sys::Node>>,
}

impl Declared {
    fn of(function: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the tuple is pinned by the syscache until it is released; what is kept of it is copied.
        unsafe {
            let tuple =
                pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(function));
            if tuple.is_null() {
                return None;
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            let inputs = form.pronargs.max(0) as usize;
            let (names, modes) = (
                attribute(tuple, pg_sys::Anum_pg_proc_proargnames),
                attribute(tuple, pg_sys::Anum_pg_proc_proargmodes),
            );
            let mut declared = Declared {
                cost: form.procost,
                rows: form.prorows,
                strict: form.proisstrict,
                volatility: form.provolatile as u8,
                parallel: form.proparallel as u8,
                names: vec![None; inputs],
                defaults: vec![None; inputs],
            };
            let all = names.map(|names| texts(names)).unwrap_or_default();
            let places = input_places(modes, all.len());
            for (name, place) in declared.names.iter_mut().zip(places) {
                *name = all.get(place).cloned().filter(|name| !name.is_empty());
            }
            if let Some(defaults) = attribute(tuple, pg_sys::Anum_pg_proc_proargdefaults) {
                let text = pg_sys::text_to_cstring(defaults.cast_mut_ptr());
                let nodes = compat::cells(pg_sys::stringToNode(text).cast());
                let first = inputs.saturating_sub(nodes.len());
                for (place, cell) in declared.defaults[first..].iter_mut().zip(nodes) {
                    *place = Some(cell.ptr_value.cast());
                }
            }
            pg_sys::ReleaseSysCache(tuple);
            Some(declared)
        }
    }

    /// The parallel mark of what calls it.
    fn parallel_of_cached(&self) -> u8 {
        match self.parallel {
            pg_sys::PROPARALLEL_UNSAFE => pg_sys::PROPARALLEL_UNSAFE,
            _ => pg_sys::PROPARALLEL_RESTRICTED,
        }
    }

    fn volatility_of_cached(&self) -> u8 {
        match self.volatility {
            pg_sys::PROVOLATILE_VOLATILE => pg_sys::PROVOLATILE_VOLATILE,
            _ => pg_sys::PROVOLATILE_STABLE,
        }
    }

    /// In what this function, a cached one, is not as `base` is.
    fn unlike(&self, base: &Declared, consistency: Consistency) -> Unlike {
        let mut unlike = Unlike::default();
        let more = self.names.len() > base.names.len();
        unlike.add(Unlike::STRICT, self.strict && (!base.strict || more));
        // Who lets age decide wants one result for a while.
        unlike.add(
            Unlike::VOLATILITY,
            consistency == Consistency::Strict && self.volatility != base.volatility_of_cached(),
        );
        unlike.add(Unlike::PARALLEL, self.parallel != base.parallel_of_cached());
        unlike.add(Unlike::COST, self.cost != base.cost);
        unlike.add(Unlike::ROWS, self.rows != base.rows);
        let names = self.names.iter().zip(&base.names);
        unlike.add(
            Unlike::NAMES,
            { names }.any(|(own, base)| base.is_some() && own != base),
        );
        let defaults = self.defaults.iter().zip(&base.defaults);
        unlike.add(
            Unlike::DEFAULTS,
            { defaults }.any(|(own, base)| match (own, base) {
                (_, None) => false,
                (None, Some(_)) => true,
                // SAFETY: nodes of the server's.
                (Some(own), Some(base)) => unsafe {
                    !pg_sys::equal(own.cast_const().cast(), base.cast_const().cast())
                },
            }),
        );
        unlike
    }

    /// What of that is no matter of taste.
    fn must(&self, base: &Declared, unlike: Unlike) -> Unlike {
        let mut must = Unlike::default();
        must.add(Unlike::STRICT, unlike.has(Unlike::STRICT));
        must.add(
            Unlike::PARALLEL,
            unlike.has(Unlike::PARALLEL) && base.parallel == pg_sys::PROPARALLEL_UNSAFE,
        );
        must.add(
            Unlike::VOLATILITY,
            unlike.has(Unlike::VOLATILITY) && base.volatility == pg_sys::PROVOLATILE_VOLATILE,
        );
        must
    }
}

/// A cached function and its base function.
struct Pair {
    own: pg_sys::Oid,
    base: pg_sys::Oid,
    consistency: Consistency,
}

impl Pair {
    fn of(own: &Signature) -> Option<Self> {
        let body = Body::parse(&own.source).ok()?;
        match body.binding {
            Binding::Late => None,
            Binding::Early => Some(Pair {
                own: own.oid,
                base: binding::recorded(own, &body)?,
                consistency: body.consistency,
            }),
        }
    }

    /// In what the two differ, and what of it must not be.
    fn unlike(&self) -> Option<(Unlike, Unlike)> {
        let (own, base) = (Declared::of(self.own)?, Declared::of(self.base)?);
        let unlike = own.unlike(&base, self.consistency);
        Some((unlike, own.must(&base, unlike)))
    }

    /// Makes the cached function as the base function is in all of `what`. What that could not be done for, and why.
    fn follow(&self, what: Unlike) -> Option<(Unlike, &'static str)> {
        let (own, base) = (Declared::of(self.own)?, Declared::of(self.base)?);
        let (mut changes, mut left) = (Vec::new(), None);
        let mut set = |one, column, value: pg_sys::Datum| {
            if what.has(one) {
                changes.push((column, value));
            }
        };
        set(
            Unlike::STRICT,
            pg_sys::Anum_pg_proc_proisstrict,
            pg_sys::Datum::from(false),
        );
        set(
            Unlike::VOLATILITY,
            pg_sys::Anum_pg_proc_provolatile,
            pg_sys::Datum::from(base.volatility_of_cached()),
        );
        set(
            Unlike::PARALLEL,
            pg_sys::Anum_pg_proc_proparallel,
            pg_sys::Datum::from(base.parallel_of_cached()),
        );
        let float = |value: f32| value.into_datum().unwrap_or(pg_sys::Datum::from(0));
        set(Unlike::COST, pg_sys::Anum_pg_proc_procost, float(base.cost));
        set(Unlike::ROWS, pg_sys::Anum_pg_proc_prorows, float(base.rows));
        if what.has(Unlike::NAMES) {
            match names(self.own, &base.names) {
                Some(names) => changes.push((pg_sys::Anum_pg_proc_proargnames, names)),
                None => left = Some((Unlike::NAMES, "another argument has the name")),
            }
        }
        let mut defaults = std::ptr::null_mut();
        if what.has(Unlike::DEFAULTS) {
            match self.defaults(&own, &base) {
                Ok(list) => {
                    defaults = list;
                    // SAFETY: a list of nodes; the server's own way to keep it.
                    let (text, count) = unsafe {
                        let text = pg_sys::nodeToString(list.cast());
                        (pg_sys::cstring_to_text(text), (*list).length)
                    };
                    changes.push((
                        pg_sys::Anum_pg_proc_proargdefaults,
                        pg_sys::Datum::from(text),
                    ));
                    changes.push((
                        pg_sys::Anum_pg_proc_pronargdefaults,
                        pg_sys::Datum::from(count as i16),
                    ));
                }
                Err(why) => left = Some((Unlike::DEFAULTS, why)),
            }
        }
        if !changes.is_empty() && !binding::write(self.own, &changes) {
            return Some((what, "somebody else is changing it"));
        }
        if !defaults.is_null() && !changes.is_empty() {
            let own = pg_sys::ObjectAddress {
                classId: pg_sys::ProcedureRelationId,
                objectId: self.own,
                objectSubId: 0,
            };
            // SAFETY: an object that exists; inside a transaction that writes.
            unsafe {
                pg_sys::recordDependencyOnExpr(
                    &own,
                    defaults.cast(),
                    std::ptr::null_mut(),
                    pg_sys::DependencyType::DEPENDENCY_NORMAL,
                );
                pg_sys::CommandCounterIncrement();
            }
        }
        left
    }

    /// Whether the owner of the cached function is the one who does this, or the owner of the base function could do it in his place.
    fn may_hand_over_code(&self) -> bool {
        let owner = rights::owner_of_function;
        let (Some(own), Some(base)) = (owner(self.own), owner(self.base)) else {
            return false;
        };
        // SAFETY: a variable of the backend; catalog lookups.
        unsafe { pg_sys::GetUserId() == own || pg_sys::has_privs_of_role(base, own) }
    }

    /// The defaults that the cached function is to have: those of the base function, and its own where that has none.
    fn defaults(&self, own: &Declared, base: &Declared) -> Result<*mut pg_sys::List, &'static str> {
        let trusted = self.may_hand_over_code();
        let mut defaults = own.defaults.clone();
        for (place, default) in defaults.iter_mut().zip(&base.defaults) {
            let Some(default) = default else { continue };
            // SAFETY: as above.
            let is_constant = unsafe { (**default).type_ == pg_sys::NodeTag::T_Const };
            if !trusted && !is_constant {
                return Err("the default is not a constant, and the function is another role's");
            }
            *place = Some(*default);
        }
        let all: Vec<_> = { defaults.iter() }
            .skip_while(|default| default.is_none())
            .copied()
            .collect();
        let mut list = std::ptr::null_mut();
        for default in all {
            let node = default.unwrap_or_else(|| {
                // Only `cache_duration` can follow: NULL means the time to live of the function.
                // SAFETY: plain arguments.
                let null =
                    unsafe { pg_sys::makeNullConst(pg_sys::INTERVALOID, -1, pg_sys::InvalidOid) };
                null.cast()
            });
            // SAFETY: a list of nodes.
            list = unsafe { pg_sys::lappend(list, node.cast()) };
        }
        match list.is_null() {
            true => Err("there is none"),
            false => Ok(list),
        }
    }
}

/// The names of all arguments of a cached function with those of its base function in their places; `None` if two would be the same.
fn names(own: pg_sys::Oid, base: &[Option<String>]) -> Option<pg_sys::Datum> {
    // SAFETY: the tuple is pinned by the syscache until it is released; what is kept of it is copied.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(own));
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let modes = attribute(tuple, pg_sys::Anum_pg_proc_proargmodes);
        let count = modes.map_or(form.pronargs as usize, |modes| chars(modes).len());
        let mut all = attribute(tuple, pg_sys::Anum_pg_proc_proargnames)
            .map(|names| texts(names))
            .unwrap_or_default();
        all.resize(count, String::new());
        let places = input_places(modes, count);
        for (place, name) in places.into_iter().zip(base) {
            if let (Some(name), Some(slot)) = (name, all.get_mut(place)) {
                slot.clone_from(name);
            }
        }
        pg_sys::ReleaseSysCache(tuple);
        let mut given: Vec<_> = all.iter().filter(|name| !name.is_empty()).collect();
        given.sort_unstable();
        if given.windows(2).any(|two| two[0] == two[1]) {
            return None;
        }
        let mut elements: Vec<_> = all
            .into_iter()
            .map(|name| Text(name).into_datum().unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as _,
        );
        Some(pg_sys::Datum::from(array))
    }
}

unsafe fn attribute(tuple: pg_sys::HeapTuple, number: u32) -> Option<pg_sys::Datum> {
    let mut is_null = false;
    // SAFETY: a row of pg_proc.
    let value = unsafe {
        pg_sys::SysCacheGetAttr(compat::PROC_CACHE as _, tuple, number as _, &mut is_null)
    };
    (!is_null).then_some(value)
}

/// The elements of a `text[]`.
unsafe fn texts(array: pg_sys::Datum) -> Vec<String> {
    // SAFETY: the caller's.
    let texts = unsafe { Vec::<Option<Text>>::from_datum(array, false) };
    let texts = texts.unwrap_or_default().into_iter();
    texts
        .map(|text| text.map(|text| text.0).unwrap_or_default())
        .collect()
}

/// The elements of a `"char"[]`.
unsafe fn chars(array: pg_sys::Datum) -> Vec<u8> {
    // SAFETY: the caller's.
    let chars = unsafe { Vec::<Option<i8>>::from_datum(array, false) };
    let chars = chars.unwrap_or_default().into_iter();
    chars.map(|char| char.unwrap_or_default() as u8).collect()
}

/// Where among all arguments those stand that are given.
unsafe fn input_places(modes: Option<pg_sys::Datum>, all: usize) -> Vec<usize> {
    let Some(modes) = modes else {
        return (0..all).collect();
    };
    // SAFETY: the column of modes.
    let modes = unsafe { chars(modes) };
    let given = |mode: &u8| !matches!(*mode, b'o' | b't');
    (0..modes.len()).filter(|i| given(&modes[*i])).collect()
}

/// What the pairs of a function that a command is about differed in before, by the address of the command.
static BEFORE: Backend<RefCell<Vec<(usize, Concerned)>>> = Backend::new(RefCell::new(Vec::new()));
/// Commands that an ERROR ended are forgotten when there are so many.
const MANY: usize = 100;

/// The function that a command is about, and the pairs that it is the base function of.
struct Concerned {
    function: pg_sys::Oid,
    pairs: Vec<(Pair, Unlike)>,
}

/// A command begins.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn begins(statement: *mut pg_sys::Node) {
    // SAFETY: the caller's.
    let Some(function) = (unsafe { target(statement) }) else {
        return;
    };
    let class = pg_sys::ProcedureRelationId;
    let pairs = compat::dependents(class, function, class)
        .into_iter()
        .filter_map(|own| Pair::of(&cached(own)?))
        .filter(|pair| pair.base == function)
        .filter_map(|pair| {
            let (unlike, _) = pair.unlike()?;
            Some((pair, unlike))
        })
        .collect();
    BEFORE.with_borrow_mut(|before| {
        before.retain(|(address, _)| *address != statement.addr());
        if before.len() >= MANY {
            before.clear();
        }
        before.push((statement.addr(), Concerned { function, pairs }));
    });
}

/// A command has run. An ERROR if it has made of a cached function what that cannot be.
///
/// # Safety
/// `statement` is its parse tree.
pub unsafe fn ends(statement: *mut pg_sys::Node) {
    let concerned = BEFORE.with_borrow_mut(|before| {
        let found = before.iter().position(|(at, _)| *at == statement.addr())?;
        Some(before.swap_remove(found).1)
    });
    let Some(concerned) = concerned else { return };
    // SAFETY: what the command has written becomes visible.
    unsafe { pg_sys::CommandCounterIncrement() };
    // SAFETY: every node has a tag. CREATE FUNCTION asks the validator.
    if unsafe { (*statement).type_ } == pg_sys::NodeTag::T_AlterFunctionStmt
        && let Some(own) = cached(concerned.function)
    {
        check(&own).or_raise();
    }
    // SAFETY: the parse tree of the command.
    let says_keys = unsafe { meant::says(statement) };
    for (pair, before) in concerned.pairs {
        if !meant::said_anew(pair.own, pair.base, says_keys)
            // SAFETY: a variable of the backend.
            && compat::is_owner_of_function(pair.own, unsafe { pg_sys::GetUserId() })
        {
            let base = naming::regprocedure_qualified(pair.base);
            Error::BeingChanged(naming::regprocedure(pair.own), base).raise();
        }
        let Some((unlike, must)) = pair.unlike() else {
            continue;
        };
        let wanted = unlike.without(before).and(must);
        if !wanted.is_nothing() {
            follow(&pair, wanted);
        }
    }
}

fn follow(pair: &Pair, wanted: Unlike) {
    let Some((left, why)) = pair.follow(wanted) else {
        return;
    };
    let name = naming::regprocedure(pair.own);
    // SAFETY: a variable of the backend.
    if left == wanted && compat::is_owner_of_function(pair.own, unsafe { pg_sys::GetUserId() }) {
        Error::BeingChanged(name, naming::regprocedure_qualified(pair.base)).raise();
    }
    tell(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        &format!(
            "function {name} is not declared as its base function any more ({}): {why}",
            left.words()
        ),
        Besides::Hint(
            "Its owner can declare it anew with CREATE OR REPLACE FUNCTION; analyze_cache_health() shows it.",
        ),
    );
}

/// The clauses of a CREATE FUNCTION that declares a cached function as `base` is declared.
pub fn clauses(base: &Signature) -> String {
    let Some(declared) = Declared::of(base.oid) else {
        return "PARALLEL UNSAFE".into();
    };
    let parallel = match declared.parallel_of_cached() {
        pg_sys::PROPARALLEL_UNSAFE => "PARALLEL UNSAFE",
        _ => "PARALLEL RESTRICTED",
    };
    let cost = declared.cost;
    let rows = match base.returns_set {
        true => format!(" ROWS {}", declared.rows),
        false => String::new(),
    };
    format!("{parallel} COST {cost}{rows}")
}

/// A function in LANGUAGE cached.
fn cached(function: pg_sys::Oid) -> Option<Signature> {
    // SAFETY: a catalog lookup that allows for its absence.
    let language = unsafe { pg_sys::get_language_oid(c"cached".as_ptr(), true) };
    Signature::of(function).filter(|own| own.language == language)
}

/// What ALTER FUNCTION can have made of a cached function.
fn check(own: &Signature) -> Result<(), Error> {
    let Ok(body) = Body::parse(&own.source) else {
        return Ok(());
    };
    if body.binding == Binding::Late {
        return match own.parallel {
            pg_sys::PROPARALLEL_UNSAFE => Ok(()),
            _ => Err(too_parallel("what it will be is not known before the call")),
        };
    }
    let Some(pair) = Pair::of(own) else {
        return Ok(());
    };
    let Some(base) = Signature::of(pair.base) else {
        return Ok(());
    };
    signature::check_shape(own, &base, &body)?;
    let must = pair.unlike().map_or(Unlike::default(), |(_, must)| must);
    if must.has(Unlike::STRICT) {
        return Err(signature::must_not_be_strict());
    }
    if must.has(Unlike::PARALLEL) {
        return Err(too_parallel("it is PARALLEL UNSAFE"));
    }
    Ok(())
}

fn too_parallel(why: &str) -> Error {
    Error::InvalidDeclaration(
        "cached function must be declared PARALLEL UNSAFE".into(),
        format!("Its base function runs where it does, and {why}."),
    )
}

/// What a cached function that is being created must not be it is not from now on: nobody has to know what its base function is.
pub fn settle(own: &Signature) {
    let late = Body::parse(&own.source).is_ok_and(|body| body.binding == Binding::Late);
    if late && own.parallel == pg_sys::PROPARALLEL_RESTRICTED {
        let unsafe_mark = pg_sys::Datum::from(pg_sys::PROPARALLEL_UNSAFE);
        binding::write(own.oid, &[(pg_sys::Anum_pg_proc_proparallel, unsafe_mark)]);
    }
    if let Some(pair) = Pair::of(own)
        && let Some((_, must)) = pair.unlike()
        && !must.is_nothing()
    {
        pair.follow(must);
    }
}

/// In what a cached function is not declared as its base function is, as far as that shows in answers.
pub fn shows(own: &Signature) -> Unlike {
    let unlike = Pair::of(own).and_then(|pair| pair.unlike());
    let (unlike, must) = unlike.unwrap_or_default();
    let kept = Unlike::COST
        .and(Unlike::ROWS)
        .and(Unlike::PARALLEL)
        .and(Unlike::VOLATILITY);
    unlike.without(kept).and(must)
}

/// Makes a cached function as its base function is. Whether anything was to be done, and was done.
pub fn mend(own: &Signature) -> bool {
    let what = shows(own);
    match Pair::of(own) {
        Some(pair) if !what.is_nothing() => pair.follow(what).is_none_or(|(left, _)| left != what),
        _ => false,
    }
}

/// The function that a command creates anew or alters, if it is there.
unsafe fn target(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: the tag tells the struct; catalog lookups, of which one that fails would fail the command itself in the same words.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_AlterFunctionStmt => {
                let alter = &*statement.cast::<pg_sys::AlterFunctionStmt>();
                let function = pg_sys::LookupFuncWithArgs(alter.objtype, alter.func, true);
                (function != pg_sys::InvalidOid).then_some(function)
            }
            pg_sys::NodeTag::T_CreateFunctionStmt => {
                let create = &*statement.cast::<pg_sys::CreateFunctionStmt>();
                if !create.replace || create.is_procedure {
                    return None;
                }
                let names = compat::cells(create.funcname);
                let text =
                    |cell: &pg_sys::ListCell| (*cell.ptr_value.cast::<pg_sys::String>()).sval;
                let (schema, name) = match names {
                    [name] => (
                        *compat::oids(pg_sys::fetch_search_path(false)).first()?,
                        text(name),
                    ),
                    [schema, name] => (pg_sys::get_namespace_oid(text(schema), true), text(name)),
                    _ => return None,
                };
                let mut types = Vec::new();
                for cell in compat::cells(create.parameters) {
                    let parameter = &*cell.ptr_value.cast::<pg_sys::FunctionParameter>();
                    use pg_sys::FunctionParameterMode::*;
                    if matches!(parameter.mode, FUNC_PARAM_OUT | FUNC_PARAM_TABLE) {
                        continue;
                    }
                    types.push(pg_sys::LookupTypeNameOid(
                        std::ptr::null_mut(),
                        parameter.argType,
                        true,
                    ));
                }
                compat::find_function(schema, std::ffi::CStr::from_ptr(name), &types)
            }
            _ => None,
        }
    }
}
