//! Which function a cached function caches.
//!
//! One that is bound early is bound by oid, as a view is to its tables: when it is created its body names the base function, and what that
//! name means then is recorded as its dependency, in a row of `pg_depend` of its own kind ([`BASE`]). From then on the row decides, and no
//! name is looked up again: a name can be given to another function, by whoever may create in its schema. PostgreSQL keeps the row true:
//! it refuses to drop the base function, and drops the row with the cached one.
//!
//! A dump says what the body says, so the body has to name the base function whatever that is named by now: with its schema, in the words
//! of the server. It is written that way when the function is created, and again when the base function, its schema or a type of its
//! arguments gets another name ([`follow`]). What cannot be written then, since somebody else is changing the function, a worker writes
//! later. Where nobody notices (the library is not preloaded) it does too, within an hour; until then the body says something else
//! than what is called, and `analyze_cache_health()` tells that.
//!
//! Only who creates or replaces a function binds it: its owner, in the transaction that writes its row.
//!
//! One that is bound late (`"binding": "late"`) looks its base function up at each call, as other languages do, by design.

#![allow(unsafe_code)]

use super::body::{Binding, Body};
use super::likeness;
use super::meant::{self, DependsOn};
use super::signature::{self, Signature};
use crate::attempt::attempt;
use crate::backend::Backend;
use crate::compat;
use crate::encoding::Text;
use crate::error::{Besides, Error, message_of, tell};
use crate::naming;
use crate::store::area::{Area, area};
use pgrx::prelude::*;
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// Catalog and oid of an object.
type Object = (pg_sys::Oid, pg_sys::Oid);

/// `refobjsubid` of the dependency on the base function. Functions have no parts, so the server has no other use of the column, and asks
/// for dependencies of whole objects; what an argument's default calls is a dependency too, without this mark.
const BASE: i32 = 1;

/// The base function of a cached function.
pub fn of(own: &Signature, body: &Body) -> Result<Signature, Error> {
    match body.binding {
        Binding::Late => signature::resolve(body),
        Binding::Early => recorded(own, body)
            .and_then(Signature::of)
            .ok_or_else(|| Error::Unbound(naming::regprocedure(own.oid), body.function.clone())),
    }
}

/// The base function that is recorded for a function that is bound early.
pub fn recorded(own: &Signature, body: &Body) -> Option<pg_sys::Oid> {
    marked(own.oid)
        .or_else(|| built_in(body))
        .or_else(|| match compat::is_this_version() {
            true => None,
            false => unmarked(own),
        })
}

/// The base function that this version has recorded.
pub fn marked(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let mut base = None;
    compat::each_referenced_function(function, |object, part| {
        if part == BASE {
            base = Some(object);
        }
    });
    base
}

/// What earlier versions have recorded: the only function that is depended on and fits. If there are more (one that a default calls, one
/// that somebody has made it depend on) there is no telling, and no guessing.
fn unmarked(own: &Signature) -> Option<pg_sys::Oid> {
    let mut found = Vec::new();
    compat::each_referenced_function(own.oid, |object, _| {
        if !found.contains(&object) {
            found.push(object);
        }
    });
    found.retain(|base| Signature::of(*base).is_some_and(|base| signature::fits(own, &base)));
    match found.as_slice() {
        [base] => Some(*base),
        _ => None,
    }
}

/// Binds a function that is being created to `base`, or lets it be if it is bound already or is not being created: anybody who may call a
/// function may call its validator.
pub fn bind(own: &Signature, base: pg_sys::Oid) {
    if marked(own.oid).is_some() || !is_being_written(own.oid) {
        return;
    }
    // The server locks it as it does what a view depends on.
    if !compat::function_exists(base) {
        Error::NoSuchFunction(format!("with OID {}", base.to_u32()), String::new()).raise();
    }
    record(own.oid, base);
    match marked(own.oid) {
        Some(_) => follow_one(own.oid, true),
        None => name_pinned(own, base),
    }
}

/// The server records nothing about its own functions, which nobody drops or renames: the body alone names one, so it has to name it in
/// full, whatever the search path was.
fn name_pinned(own: &Signature, base: pg_sys::Oid) {
    let source = Body::parse(&own.source)
        .ok()
        .and_then(|body| misnamed(own, &body, base));
    if let Some(source) = source
        && !write_source(own.oid, source)
    {
        Error::BeingChanged(naming::regprocedure(own.oid), present_name(base)).raise();
    }
}

/// Whether the caller owns a function and this transaction has written its row.
pub(super) fn is_being_written(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let header = (*tuple).t_data;
        let written = pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin);
        pg_sys::ReleaseSysCache(tuple);
        written && compat::owns_function(function, pg_sys::GetUserId())
    }
}

/// The base function that a body names, if that is one of the server's own: nothing is recorded about these, which nobody drops. Their
/// schema is the one in which nobody creates.
fn built_in(body: &Body) -> Option<pg_sys::Oid> {
    let name = &body.function;
    if !name.starts_with("pg_catalog.") {
        return None;
    }
    let found = signature::find(name)?.oid;
    (found.to_u32() < pg_sys::FirstUnpinnedObjectId).then_some(found)
}

fn record(function: pg_sys::Oid, base: pg_sys::Oid) {
    let address = |oid, part| pg_sys::ObjectAddress {
        classId: pg_sys::ProcedureRelationId,
        objectId: oid,
        objectSubId: part,
    };
    // SAFETY: both functions exist; inside a transaction that writes, which sees the row from then on.
    unsafe {
        pg_sys::recordDependencyOn(
            &address(function, 0),
            &address(base, BASE),
            pg_sys::DependencyType::DEPENDENCY_NORMAL,
        );
        pg_sys::CommandCounterIncrement();
    }
}

/// What a body should say of a base function.
fn present_name(base: pg_sys::Oid) -> String {
    naming::regprocedure_qualified(base)
}

/// Whether the body of a function that is bound early names another function than it calls, or the same in words that a dump would not
/// understand; and the body that does.
pub fn misnamed(own: &Signature, body: &Body, base: pg_sys::Oid) -> Option<String> {
    let name = present_name(base);
    if body.binding == Binding::Late || body.function == name {
        return None;
    }
    with_value(
        &own.source,
        "function",
        &serde_json::Value::from(name.as_str()).to_string(),
    )
    .filter(|source| Body::parse(source).is_ok_and(|body| body.function == name))
}

/// Writes the body of a function into its row.
fn write_source(function: pg_sys::Oid, source: String) -> bool {
    let source = Text(source).into_datum().unwrap_or(pg_sys::Datum::from(0));
    write(function, &[(pg_sys::Anum_pg_proc_prosrc, source)])
}

/// Writes columns of a function's row. `false` if somebody else is changing that: nobody waits for him, as he may have no right on the
/// function that is being changed.
pub fn write(function: pg_sys::Oid, changes: &[(u32, pg_sys::Datum)]) -> bool {
    // SAFETY: inside a transaction that writes; a copy of the row, changed as ALTER FUNCTION changes one.
    unsafe {
        let catalog =
            pg_sys::table_open(pg_sys::ProcedureRelationId, pg_sys::RowExclusiveLock as _);
        let none = pg_sys::Datum::from(0);
        let old = pg_sys::SearchSysCacheCopy(
            compat::PROC_CACHE as _,
            pg_sys::Datum::from(function),
            none,
            none,
            none,
        );
        let written = !old.is_null() && compat::lock_row_or_skip(catalog, (*old).t_self);
        if written {
            let columns = (*(*catalog).rd_att).natts as usize;
            let (mut values, mut nulls, mut replace) = (
                vec![none; columns],
                vec![false; columns],
                vec![false; columns],
            );
            for (column, value) in changes {
                let column = *column as usize - 1;
                values[column] = *value;
                replace[column] = true;
            }
            let new = pg_sys::heap_modify_tuple(
                old,
                (*catalog).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                replace.as_mut_ptr(),
            );
            pg_sys::CatalogTupleUpdate(catalog, &mut (*old).t_self, new);
        }
        pg_sys::table_close(catalog, pg_sys::RowExclusiveLock as _);
        pg_sys::CommandCounterIncrement();
        written
    }
}

/// Whether a command gives a name or a schema to what the name of a function is made of: itself, its schema, types.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn renames(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::ObjectType::*;
    // SAFETY: the tag tells the struct.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_AlterObjectSchemaStmt => true,
            // What has a name that is part of no function's.
            pg_sys::NodeTag::T_RenameStmt => !matches!(
                (*statement.cast::<pg_sys::RenameStmt>()).renameType,
                OBJECT_COLUMN
                    | OBJECT_ATTRIBUTE
                    | OBJECT_TABCONSTRAINT
                    | OBJECT_DOMCONSTRAINT
                    | OBJECT_TRIGGER
                    | OBJECT_RULE
                    | OBJECT_POLICY
                    | OBJECT_ROLE
                    | OBJECT_DATABASE
                    | OBJECT_TABLESPACE
            ),
            _ => false,
        }
    }
}

/// The body that a function should have, if it names another function than it calls.
fn better(function: pg_sys::Oid) -> Option<(pg_sys::Oid, String)> {
    let own = Signature::of(function)?;
    let body = Body::parse(&own.source).ok()?;
    let base = marked(function).or_else(|| built_in(&body))?;
    Some((base, misnamed(&own, &body, base)?))
}

/// After such a command: the bodies of all functions whose base function has another name by now say so. Only those are looked at that
/// cache what the command has changed, if that is known. Whoever renames waits for
/// nobody. An ERROR if a function of his own is being changed by somebody else: a dump of it would say a name that may be another
/// function's by then. For functions of others the command stands, whatever comes of this.
pub fn follow(changed: Option<&[Object]>) {
    // SAFETY: what the command has written becomes visible, and what others have.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::AcceptInvalidationMessages();
    }
    let concerned = changed
        .and_then(concerned)
        .unwrap_or_else(compat::cached_functions);
    for function in concerned {
        // Also for a superuser a function of somebody else is not his own.
        // SAFETY: a variable of the backend.
        let own = compat::is_owner_of_function(function, unsafe { pg_sys::GetUserId() });
        follow_one(function, own);
    }
}

/// The functions that depend on what the name of one of these is a part of the name of: on a function, or on one with an argument of a
/// type. `None` if there is no telling: what a schema holds, and what the server was made with, on which nothing is said to depend.
fn concerned(changed: &[Object]) -> Option<Vec<pg_sys::Oid>> {
    let of = |class, object| compat::dependents(class, object, pg_sys::ProcedureRelationId);
    let (mut types, mut bases) = (Vec::new(), Vec::new());
    for (class, object) in changed {
        if *class == pg_sys::NamespaceRelationId || object.to_u32() < pg_sys::FirstUnpinnedObjectId
        {
            return None;
        }
        match *class {
            pg_sys::ProcedureRelationId => bases.push(*object),
            pg_sys::TypeRelationId => types.push(*object),
            // SAFETY: a syscache lookup that allows for its absence.
            pg_sys::RelationRelationId => types.push(unsafe { pg_sys::get_rel_type_id(*object) }),
            _ => (),
        }
    }
    for type_id in types {
        // SAFETY: as above. An array is named after its elements.
        let array = unsafe { pg_sys::get_array_type(type_id) };
        for type_id in [type_id, array] {
            if type_id != pg_sys::InvalidOid {
                bases.extend(of(pg_sys::TypeRelationId, type_id));
            }
        }
    }
    let mut concerned: Vec<pg_sys::Oid> = bases
        .into_iter()
        .flat_map(|base| of(pg_sys::ProcedureRelationId, base))
        .collect();
    concerned.sort_unstable_by_key(|function| function.to_u32());
    concerned.dedup();
    Some(concerned)
}

/// The body of one function, if that can be written; else a WARNING tells, or an ERROR if it must.
fn follow_one(function: pg_sys::Oid, must: bool) {
    let Some((base, source)) = better(function) else {
        return;
    };
    let problem = match attempt(|| write_source(function, source)) {
        Ok(true) => return,
        Ok(false) if must => {
            Error::BeingChanged(naming::regprocedure(function), present_name(base)).raise()
        }
        Ok(false) => "somebody else is changing it".to_owned(),
        Err(problem) => message_of(&problem),
    };
    LEFT.set(true);
    if let Some(area) = area() {
        crate::transaction::prepare(area);
    }
    tell(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        &format!(
            "could not write the name {} into the body of function {}: {problem}",
            present_name(base),
            naming::regprocedure(function),
        ),
        Besides::Hint(
            "A background worker writes it once it can; until then analyze_cache_health() says how to, so that a dump means the same function.",
        ),
    );
}

/// Something of a function is left to the worker.
pub fn leave_to_worker(area: Area) {
    if let Some(state) = area.database_or_new(compat::database())
        && state.misnamed.swap(1, Ordering::AcqRel) == 0
    {
        crate::worker::wake(area, compat::database());
    }
}

/// The present transaction has left the name of a base function to the worker.
static LEFT: Backend<Cell<bool>> = Backend::new(Cell::new(false));

/// The transaction has ended. The worker looks for bodies that name another function than is called.
pub fn transaction_ended(area: Area, committed: bool) {
    if LEFT.take()
        && committed
        && let Some(state) = area.database_or_new(compat::database())
    {
        state.misnamed.store(1, Ordering::Release);
        crate::worker::wake(area, compat::database());
    }
}

/// The functions whose body names another function than they call.
pub fn misnamed_functions() -> Vec<pg_sys::Oid> {
    let mut functions = compat::cached_functions();
    functions.retain(|function| is_misnamed(*function));
    functions
}

/// Whether the body of a function names another function than it calls, or nothing is recorded yet of the columns that it names.
pub fn is_misnamed(function: pg_sys::Oid) -> bool {
    better(function).is_some() || meant::is_unrecorded(function)
}

/// Writes the present name of its base function into the body of a cached function, and records the columns that it names; `false` if that
/// is done, or if somebody else is changing the function. Nothing of what the body says is run or asked for, whoever calls this.
pub fn write_name(function: pg_sys::Oid) -> bool {
    let named = better(function).is_some_and(|(_, source)| write_source(function, source));
    let recorded = meant::record_late(function);
    named || recorded
}

/// Writes the present name of its base function into the body of a cached function, and declares it as that is declared; `false` if there
/// is nothing to do, or if somebody else is changing the function. What the columns in `depends_on` mean is the owner's word.
#[pg_extern(sql = false)]
fn cache_function_follow(function: pg_sys::Oid) -> bool {
    let named = write_name(function);
    // SAFETY: a variable of the backend.
    let own = compat::function_exists(function)
        && compat::owns_function(function, unsafe { pg_sys::GetUserId() });
    let named = own && meant::mend(function) || named;
    let declared = Signature::of(function).is_some_and(|own| likeness::mend(&own));
    named || declared
}

/// Binds what earlier versions have created, as they have recorded it. For the update script.
#[pg_extern(sql = false)]
fn bind_functions_of_earlier_versions() {
    // SAFETY: a variable of the backend.
    if !unsafe { pg_sys::superuser() } {
        return;
    }
    for function in compat::cached_functions() {
        let Some(own) = Signature::of(function) else {
            continue;
        };
        likeness::settle(&own);
        meant::record_late(function);
        let is_early = Body::parse(&own.source).is_ok_and(|body| body.binding == Binding::Early);
        if is_early
            && marked(function).is_none()
            && let Some(base) = unmarked(&own)
        {
            record(function, base);
            // Whoever is changing it now keeps nobody from the update.
            follow_one(function, false);
        }
    }
}

/// Writes another `depends_on` into the body of a function; `false` if somebody else is changing it.
pub(super) fn write_depends_on(function: pg_sys::Oid, depends_on: &DependsOn) -> bool {
    let source = Signature::of(function).and_then(|own| {
        let text = serde_json::to_string(depends_on).ok()?;
        with_value(&own.source, "depends_on", &text)
            .filter(|source| Body::parse(source).is_ok_and(|body| body.depends_on == *depends_on))
    });
    source.is_some_and(|source| write_source(function, source))
}

/// `source` with another value for a key, and else as it is; `None` if it is no object with one such key.
fn with_value(source: &str, wanted: &str, json: &str) -> Option<String> {
    let bytes = source.as_bytes();
    let mut at = blank(bytes, 0);
    if *bytes.get(at)? != b'{' {
        return None;
    }
    loop {
        at = blank(bytes, at + 1);
        let key_end = string(bytes, at)?;
        let key: String = serde_json::from_str(source.get(at..key_end)?).ok()?;
        at = blank(bytes, key_end);
        if *bytes.get(at)? != b':' {
            return None;
        }
        let begin = blank(bytes, at + 1);
        let end = value(bytes, begin)?;
        if key == wanted {
            return Some([source.get(..begin)?, json, source.get(end..)?].concat());
        }
        at = blank(bytes, end);
        if *bytes.get(at)? != b',' {
            return None;
        }
    }
}

/// Where what follows blanks begins.
fn blank(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|byte| b" \t\r\n".contains(byte))
        .count()
}

/// The end of the string that begins at `at`.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins at `at`.
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut depth) = (at, 0usize);
    loop {
        match *bytes.get(at)? {
            b'"' => at = string(bytes, at)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            byte if depth == 0 && b" \t\r\n".contains(&byte) => return Some(at),
            _ => (),
        }
        at += 1;
        if depth == 0 && matches!(bytes.get(at - 1), Some(b'"' | b'}' | b']')) {
            return Some(at);
        }
    }
}
