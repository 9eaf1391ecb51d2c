//! SQL on `cache_values`, as its owner and under the server's own search path: the caller need not have any right on the table, and
//! no operator of the caller's is met. Every name has its schema and every value is a parameter with its type, so the texts would mean
//! the same under any search path. Plans are kept for the life of the session.
//!
//! Failure: user and search path come back with the end of the (sub)transaction, as the server itself restores them.

#![allow(unsafe_code)]

use super::Place;
use crate::backend::Backend;
use crate::behalf;
use crate::compat;
use crate::error::Error;
use crate::naming;
use pgrx::pg_sys;
use std::cell::RefCell;

/// What is said. `$1` is the time; what is left over when it has expired counts as not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Key and value of each member of an object, by key.
    Members,
    /// Keeps a value.
    Set,
    /// Keeps all members of an object.
    SetMany,
    /// Keeps a value where none is.
    SetIfAbsent,
    /// Adds.
    Increment,
    /// Sets the end of life.
    Touch,
    /// Removes the value of a key.
    Delete,
    /// Removes the values of some keys.
    DeleteMany,
    /// Removes the values of keys that match a pattern.
    DeletePattern,
    /// Removes the values with one of some tags.
    DeleteTagged,
    /// Removes all values, whoever's.
    DeleteAll,
    /// Removes all values that nobody is changing, whoever's.
    DeleteFree,
    /// Whether there is any value with one of some tags.
    HasTagged,
    /// Whether there is any value.
    HasAny,
    /// Keys that match a pattern.
    Keys,
    /// Number and bytes.
    Figures,
    /// Whether anything has expired, or belonged to a role that is gone.
    HasExpired,
    /// Removes what has expired, and what belonged to a role that is gone.
    CleanExpired,
    /// Number of rows, as far as it exceeds a limit.
    Excess,
    /// Removes so many, the least worth keeping first.
    CleanExcess,
}

/// Number of statements.
const STATEMENTS: usize = Statement::CleanExcess as usize + 1;

const JSONB: pg_sys::Oid = pg_sys::JSONBOID;
const OID: pg_sys::Oid = pg_sys::OIDOID;
const TEXT: pg_sys::Oid = pg_sys::TEXTOID;
const TEXTS: pg_sys::Oid = pg_sys::TEXTARRAYOID;
const TIME: pg_sys::Oid = pg_sys::TIMESTAMPTZOID;
const NUMBER: pg_sys::Oid = pg_sys::INT8OID;

impl Statement {
    fn types(self) -> &'static [pg_sys::Oid] {
        match self {
            Statement::Members => &[JSONB],
            Statement::Set | Statement::SetIfAbsent => {
                &[TIME, OID, TEXT, JSONB, TIME, TEXTS, pg_sys::INT2OID]
            }
            Statement::SetMany => &[TIME, OID, JSONB, TIME, TEXTS, pg_sys::INT2OID],
            Statement::Increment => &[TIME, OID, TEXT, NUMBER, TIME, pg_sys::FLOAT8OID],
            Statement::Touch => &[TIME, OID, TEXT, TIME],
            Statement::Delete => &[TIME, OID, TEXT],
            Statement::DeleteMany | Statement::DeleteTagged => &[TIME, OID, TEXTS],
            Statement::DeletePattern => &[TIME, OID, TEXT, TEXT, TEXT],
            Statement::DeleteAll
            | Statement::DeleteFree
            | Statement::HasAny
            | Statement::HasExpired
            | Statement::CleanExpired => &[TIME],
            Statement::HasTagged => &[TIME, OID, TEXTS],
            Statement::Keys => &[TIME, OID, TEXT, TEXT, TEXT, NUMBER],
            Statement::Figures => &[TIME, OID],
            Statement::Excess | Statement::CleanExcess => &[TIME, NUMBER],
        }
    }

    fn text(self, schema: &str, internal: &str) -> String {
        const ALIVE: &str = "(v.expires_at IS NULL OR v.expires_at OPERATOR(pg_catalog.>) $1)";
        const EXPIRED: &str = "v.expires_at OPERATOR(pg_catalog.<=) $1 OR v.namespace OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
                               AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) v.namespace)";
        const TAGGED: &str = "v.namespace OPERATOR(pg_catalog.=) $2 AND v.tags OPERATOR(pg_catalog.&&) $3 \
                              AND v.tags OPERATOR(pg_catalog.<>) '{}'::pg_catalog.text[]";
        // The bounds are what the index is asked for; the pattern decides.
        let matching = format!(
            "v.namespace OPERATOR(pg_catalog.=) $2 AND v.key OPERATOR(pg_catalog.>=) $4 \
             AND ($5 IS NULL OR v.key OPERATOR(pg_catalog.<) $5) AND {internal}.cache_key_matches(v.key, $3)"
        );
        let table = format!("{schema}.cache_values");
        let new = "(namespace, key, value, expires_at, tags, priority, stored_at)";
        let replace = "ON CONFLICT (namespace, key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at, \
                       tags = EXCLUDED.tags, priority = EXCLUDED.priority, stored_at = EXCLUDED.stored_at";
        // Rows are locked in the order of their keys, so two who remove several never wait for each other in a circle.
        let remove = |which: &str, order: &str, counted: &str| {
            format!(
                "WITH mine AS MATERIALIZED (SELECT v.namespace, v.key FROM {table} AS v WHERE {which} ORDER BY {order}), \
                 gone AS (DELETE FROM {table} AS v USING mine AS m \
                 WHERE v.namespace OPERATOR(pg_catalog.=) m.namespace AND v.key OPERATOR(pg_catalog.=) m.key RETURNING {ALIVE} AS alive) \
                 SELECT pg_catalog.count(*) FILTER (WHERE {counted}) FROM gone AS g"
            )
        };
        let by_key = "v.namespace, v.key FOR UPDATE";
        match self {
            Statement::Members => {
                "SELECT e.key, e.value FROM pg_catalog.jsonb_each($1) AS e ORDER BY e.key COLLATE pg_catalog.\"C\"".into()
            }
            Statement::Set => format!(
                "INSERT INTO {table} AS v {new} VALUES ($2, $3, $4, $5, $6, $7, $1) {replace}"
            ),
            Statement::SetIfAbsent => format!(
                "INSERT INTO {table} AS v {new} VALUES ($2, $3, $4, $5, $6, $7, $1) {replace} WHERE NOT {ALIVE}"
            ),
            Statement::SetMany => format!(
                "INSERT INTO {table} AS v {new} SELECT $2, e.key, e.value, $4, $5, $6, $1 FROM pg_catalog.jsonb_each($3) AS e \
                 ORDER BY e.key COLLATE pg_catalog.\"C\" {replace}"
            ),
            Statement::Increment => {
                // Who waited for the row looks at the clock again.
                let gone = "v.expires_at OPERATOR(pg_catalog.<=) \
                            (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $6))";
                let zero = "'0'::pg_catalog.jsonb";
                let sum = format!("{internal}.cache_value_sum");
                let kept = |column: &str| {
                    format!(
                        "{column} = CASE WHEN {gone} THEN EXCLUDED.{column} ELSE v.{column} END"
                    )
                };
                format!(
                    "INSERT INTO {table} AS v {new} VALUES ($2, $3, {sum}({zero}, $4), $5, \
                     '{{}}'::pg_catalog.text[], 0::pg_catalog.int2, $1) \
                     ON CONFLICT (namespace, key) DO UPDATE SET \
                     value = {sum}(CASE WHEN {gone} THEN {zero} ELSE v.value END, $4), {}, {}, {}, \
                     stored_at = EXCLUDED.stored_at RETURNING v.value::pg_catalog.int8",
                    kept("expires_at"),
                    kept("tags"),
                    kept("priority")
                )
            }
            Statement::Touch => format!(
                "UPDATE {table} AS v SET expires_at = $4 WHERE v.namespace OPERATOR(pg_catalog.=) $2 AND v.key OPERATOR(pg_catalog.=) $3 \
                 AND {ALIVE} RETURNING true"
            ),
            Statement::Delete => format!(
                "DELETE FROM {table} AS v WHERE v.namespace OPERATOR(pg_catalog.=) $2 AND v.key OPERATOR(pg_catalog.=) $3 RETURNING {ALIVE}"
            ),
            Statement::DeleteMany => remove(
                "v.namespace OPERATOR(pg_catalog.=) $2 AND v.key OPERATOR(pg_catalog.=) ANY ($3)",
                by_key,
                "g.alive",
            ),
            Statement::DeletePattern => remove(&matching, by_key, "g.alive"),
            Statement::DeleteTagged => remove(TAGGED, by_key, "g.alive"),
            Statement::DeleteAll => remove("true", by_key, "g.alive"),
            Statement::DeleteFree => remove(
                "true",
                "v.namespace, v.key FOR UPDATE SKIP LOCKED",
                "g.alive",
            ),
            Statement::HasTagged => format!("SELECT FROM {table} AS v WHERE {TAGGED} LIMIT 1"),
            Statement::HasAny => format!("SELECT FROM {table} AS v LIMIT 1"),
            Statement::Keys => format!(
                "SELECT v.key FROM {table} AS v WHERE {matching} AND {ALIVE} ORDER BY v.key LIMIT $6"
            ),
            Statement::Figures => format!(
                "SELECT pg_catalog.count(*) FILTER (WHERE {ALIVE}), \
                 COALESCE(pg_catalog.sum(pg_catalog.pg_column_size(v.key) OPERATOR(pg_catalog.+) pg_catalog.pg_column_size(v.value)), \
                          0::pg_catalog.int8), \
                 pg_catalog.count(*) FILTER (WHERE NOT {ALIVE}) FROM {table} AS v \
                 WHERE $2 IS NULL OR v.namespace OPERATOR(pg_catalog.=) $2"
            ),
            Statement::HasExpired => format!("SELECT FROM {table} AS v WHERE {EXPIRED} LIMIT 1"),
            // What somebody is about to change is left to the next time.
            Statement::CleanExpired => remove(
                EXPIRED,
                "v.namespace, v.key FOR UPDATE OF v SKIP LOCKED",
                "true",
            ),
            Statement::Excess => format!(
                "SELECT pg_catalog.count(*) OPERATOR(pg_catalog.-) $2 FROM {table} AS v"
            ),
            Statement::CleanExcess => remove(
                "true",
                "v.priority, v.stored_at LIMIT $2 FOR UPDATE SKIP LOCKED",
                "true",
            ),
        }
    }

    fn writes(self) -> bool {
        !matches!(
            self,
            Statement::Members
                | Statement::HasTagged
                | Statement::HasAny
                | Statement::HasExpired
                | Statement::Keys
                | Statement::Figures
                | Statement::Excess
        )
    }
}

/// Plans that the session keeps, and the schemas that they were made for: of the table, of the functions.
struct Plans {
    place: Option<(Place, String, String)>,
    plans: [pg_sys::SPIPlanPtr; STATEMENTS],
}

static PLANS: Backend<RefCell<Plans>> = Backend::new(RefCell::new(Plans {
    place: None,
    plans: [std::ptr::null_mut(); STATEMENTS],
}));

/// The plan of a statement. Inside of SPI.
fn plan(place: Place, statement: Statement) -> pg_sys::SPIPlanPtr {
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL; SPI is connected.
    unsafe {
        let schema = pg_sys::get_namespace_name(place.schema);
        let schema = if schema.is_null() {
            Error::NoValues.raise()
        } else {
            compat::text(schema)
        };
        let Some(internal) = compat::internal_schema() else {
            Error::NoValues.raise()
        };
        PLANS.with_borrow_mut(|kept| {
            if kept.place.as_ref().is_none_or(|(known, name, helpers)| {
                *known != place || *name != schema || *helpers != internal
            }) {
                for plan in &mut kept.plans {
                    if !plan.is_null() {
                        pg_sys::SPI_freeplan(*plan);
                        *plan = std::ptr::null_mut();
                    }
                }
                kept.place = Some((place, schema.clone(), internal.clone()));
            }
            let known = kept.plans[statement as usize];
            if !known.is_null() {
                return known;
            }
            let text = statement.text(&naming::quote_identifier(&schema), &internal);
            let text = crate::encoding::c_string(&text).unwrap_or_default();
            let mut types = statement.types().to_vec();
            let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
            if !plan.is_null() && pg_sys::SPI_keepplan(plan) == 0 {
                kept.plans[statement as usize] = plan;
            }
            plan
        })
    }
}

/// A row that a statement returned; it lives as long as its visit.
#[derive(Clone, Copy)]
pub struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
    /// A column, from 1 on; `None` for NULL.
    pub fn column(&self, number: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: a row of the statement.
        let value =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.description, number, &mut is_null) };
        (!is_null).then_some(value)
    }

    /// A column that is a number; 0 for NULL.
    pub fn number(&self, number: i32) -> i64 {
        self.column(number).map_or(0, |datum| datum.value() as i64)
    }
}

/// Runs a statement and shows its rows to `visit`. Statements that only read do so through the active snapshot. Returns how many rows
/// were written or read.
pub fn run(
    place: Place,
    statement: Statement,
    arguments: &[Option<pg_sys::Datum>],
    mut visit: impl FnMut(Row),
) -> u64 {
    let mut values: Vec<pg_sys::Datum> = arguments
        .iter()
        .map(|value| value.unwrap_or(pg_sys::Datum::null()))
        .collect();
    let nulls: Vec<std::ffi::c_char> = arguments
        .iter()
        .map(|value| if value.is_some() { b' ' } else { b'n' } as std::ffi::c_char)
        .collect();
    let Some(owner) = behalf::owner_of(place.table) else {
        Error::NoValues.raise();
    };
    // SAFETY: inside a transaction. Whatever an ERROR leaves behind is taken back with the (sub)transaction.
    unsafe {
        pg_sys::SPI_connect();
        let processed = behalf::acting_as(owner, || {
            let plan = plan(place, statement);
            let code = pg_sys::SPI_execute_plan(
                plan,
                values.as_mut_ptr(),
                nulls.as_ptr(),
                !statement.writes(),
                0,
            );
            if code < 0 {
                pgrx::ereport!(
                    ERROR,
                    pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    crate::encoding::shown(&format!(
                        "could not run a statement on \"cache_values\": {}",
                        compat::text(pg_sys::SPI_result_code_string(code))
                    ))
                );
            }
            let processed = pg_sys::SPI_processed;
            let rows = pg_sys::SPI_tuptable;
            if !rows.is_null() {
                for index in 0..(*rows).numvals as usize {
                    visit(Row {
                        tuple: *(*rows).vals.add(index),
                        description: (*rows).tupdesc,
                    });
                }
            }
            processed
        });
        pg_sys::SPI_finish();
        processed
    }
}
