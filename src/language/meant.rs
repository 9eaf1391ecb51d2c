//! Which columns the names in `depends_on` meant when the function was created.
//!
//! A base function follows a rename, or it does not: a view and `BEGIN ATOMIC` go on reading the column that has another name by now, a text
//! reads the one that has the name. Nobody can tell which from the names. So a key column counts only while its name means the column that
//! it meant when the names were said; else the result depends on the whole table, which is right for both, and the health report says so.
//!
//! What was meant is recorded in rows of `pg_depend` by which the function depends on its language, as all functions do. They keep nobody
//! from anything; the server drops them with the function and when it is replaced. What they say is in `refobjsubid`, for which the server
//! has no use with a language: its two highest bits say which part it is of.
//!
//! | bits | part |
//! |---|---|
//! | 0 | number of a relation (from 1) in 8 bits, the low half of its oid in 16 |
//! | 1 | the same with the high half |
//! | 2 | number of a relation in 8 bits, of a column in 11, of an argument (from 0) in 7 |
//! | 3 | who has said it: 0 is the body, else a hash of what the base function says |
//!
//! Where nothing is recorded (the tables come after the functions when a dump is restored), names with a schema mean what they mean, and a
//! worker records that once they mean something. What the base function says anew is recorded when it says so; where nobody notices (the
//! library is not preloaded) it depends on whole tables until its owner has it recorded.
//!
//! Who writes the rows holds the lock of the function's row in `pg_proc`, which nobody waits for.

#![allow(unsafe_code)]

use super::binding;
use super::body::{Body, argument_number};
use super::signature::{self, Signature, is_qualified};
use crate::compat;
use crate::dependencies::declared::{self, Columns};
use crate::naming;
use pgrx::pg_sys;
use std::collections::BTreeMap;

/// Relations by name, with the key columns of each.
pub type DependsOn = BTreeMap<String, Columns>;

/// A key column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    relation: pg_sys::Oid,
    column: i16,
    argument: usize,
}

/// What is recorded of a function.
#[derive(Debug)]
pub struct Meant {
    /// 0 is the body, else a hash of what the base function says.
    said: u32,
    keys: Vec<Key>,
}

const KIND: u32 = 30;
const LOW: u32 = 0;
const HIGH: u32 = 1;
const COLUMN: u32 = 2;
const SAID: u32 = 3;
const MOST_RELATIONS: usize = 255;

impl Meant {
    /// What is recorded of a function; `None` if nothing is.
    pub fn of(function: pg_sys::Oid) -> Option<Self> {
        let (mut said, mut oids, mut columns) = (None, BTreeMap::new(), Vec::new());
        compat::each_part_of_language(function, |part| {
            let part = part as u32;
            match part >> KIND {
                LOW if part == 0 => (),
                LOW => *oids.entry(part >> 16 & 0xff).or_insert(0) |= part & 0xffff,
                HIGH => *oids.entry(part >> 16 & 0xff).or_insert(0) |= (part & 0xffff) << 16,
                COLUMN => columns.push((part >> 18 & 0xff, part >> 7 & 0x7ff, part & 0x7f)),
                _ => said = Some(part & !(SAID << KIND)),
            }
        });
        let keys = columns
            .into_iter()
            .filter_map(|(number, column, argument)| {
                Some(Key {
                    relation: pg_sys::Oid::from(*oids.get(&number)?),
                    column: column as i16,
                    argument: argument as usize,
                })
            })
            .collect();
        Some(Meant { said: said?, keys })
    }

    /// The parts that say it; `None` if it has more than can be said.
    fn parts(&self) -> Option<Vec<i32>> {
        let mut relations = Vec::new();
        let mut parts = vec![(SAID << KIND | self.said) as i32];
        for key in &self.keys {
            let number = match relations.iter().position(|one| *one == key.relation) {
                Some(at) => at + 1,
                None => {
                    relations.push(key.relation);
                    let (oid, number) = (key.relation.to_u32(), relations.len() as u32);
                    for (kind, half) in [(LOW, oid & 0xffff), (HIGH, oid >> 16)] {
                        parts.push((kind << KIND | number << 16 | half) as i32);
                    }
                    relations.len()
                }
            };
            let (column, argument) = (u32::try_from(key.column).ok()?, key.argument as u32);
            if number > MOST_RELATIONS || column > 0x7ff || argument > 0x7f {
                return None;
            }
            parts.push((COLUMN << KIND | (number as u32) << 18 | column << 7 | argument) as i32);
        }
        Some(parts)
    }

    /// Whether names still mean what they meant.
    fn still(&self, name: &str, columns: &Columns) -> bool {
        keys_of(name, columns).is_some_and(|keys| keys.iter().all(|key| self.keys.contains(key)))
    }
}

/// What a cached function says, or its base function for it.
pub struct Said {
    /// The names.
    pub depends_on: DependsOn,
    /// The base function says it.
    pub by_base: bool,
    /// As [`Meant::said`].
    by: u32,
}

impl Said {
    /// Of a body and the base function. Of what the base function says only names with a schema count, which mean the same to everybody.
    pub fn of(body: &Body, base: pg_sys::Oid) -> Self {
        if !body.depends_on.is_empty() {
            return Said {
                depends_on: body.depends_on.clone(),
                by_base: false,
                by: 0,
            };
        }
        let text = signature::setting_of(base, SETTING).unwrap_or_default();
        let mut depends_on = declared::parse(&text);
        depends_on.retain(|name, _| is_qualified(name));
        Said {
            depends_on,
            by_base: true,
            by: hash(&text),
        }
    }

    /// The columns that the names mean by now; `None` if one means nothing.
    fn keys(&self) -> Option<Vec<Key>> {
        let mut keys = Vec::new();
        for (name, columns) in self.keyed() {
            keys.extend(keys_of(name, columns)?);
        }
        Some(keys)
    }

    /// The names of tables that are not depended on as a whole.
    fn keyed(&self) -> impl Iterator<Item = (&String, &Columns)> {
        self.depends_on
            .iter()
            .filter(|(_, columns)| !columns.is_empty())
    }

    fn has_keys(&self) -> bool {
        self.keyed().next().is_some()
    }
}

/// Not 0, and the same for good.
fn hash(text: &str) -> u32 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash ^ hash >> 31) as u32 & !(SAID << KIND)).max(1)
}

/// The columns of a relation that names mean by now.
fn keys_of(name: &str, columns: &Columns) -> Option<Vec<Key>> {
    let relation = declared::find_relation(name)?;
    columns
        .iter()
        .map(|(column, argument)| {
            Some(Key {
                relation,
                column: declared::column_number(relation, column)?,
                argument: argument_number(argument)?,
            })
        })
        .collect()
}

/// Whether the key columns of a relation may be used now, by what is recorded of their function.
pub fn may_use(meant: &Standing, name: &str, columns: &Columns) -> bool {
    match meant {
        _ if columns.is_empty() => true,
        Standing::Recorded(meant) => meant.still(name, columns),
        Standing::NotYet => is_qualified(name),
        Standing::OfOtherNames => false,
    }
}

/// What is known of what the names of a function meant.
#[derive(Debug)]
pub enum Standing {
    /// It is recorded.
    Recorded(Meant),
    /// Nothing is recorded.
    NotYet,
    /// What is recorded was said in other words.
    OfOtherNames,
}

impl Standing {
    /// Of a function and what is said of it.
    pub fn of(function: pg_sys::Oid, said: &Said) -> Self {
        match Meant::of(function) {
            None => Standing::NotYet,
            Some(meant) if meant.said == said.by => Standing::Recorded(meant),
            Some(_) => Standing::OfOtherNames,
        }
    }
}

/// Records what the names mean for a function that is being created, if it is and they all mean something.
pub fn bind(own: &Signature, body: &Body, base: Option<pg_sys::Oid>) {
    let said = Said::of(body, base.unwrap_or(pg_sys::InvalidOid));
    if said.has_keys() && Meant::of(own.oid).is_none() && binding::is_being_written(own.oid) {
        record(own.oid, &said);
    }
}

/// Whether a command on a function says what its `pg_query_cache.depends_on` is: it creates or replaces the function, or sets that.
///
/// # Safety
/// `statement` is the parse tree of a command.
pub unsafe fn says(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the struct, and of an action of ALTER FUNCTION its name.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_AlterFunctionStmt {
            return true;
        }
        let actions = (*statement.cast::<pg_sys::AlterFunctionStmt>()).actions;
        compat::cells(actions).iter().any(|cell| {
            let action = &*cell.ptr_value.cast::<pg_sys::DefElem>();
            if compat::text(action.defname) != "set" {
                return false;
            }
            let set = &*action.arg.cast::<pg_sys::VariableSetStmt>();
            !set.name.is_null() && compat::text(set.name).eq_ignore_ascii_case(SETTING)
        })
    }
}

/// The setting in whose place a base function says what it depends on.
pub const SETTING: &str = "pg_query_cache.depends_on";

/// A base function was changed. What it says of its tables is recorded if it was said by that, `said`, or is not what is recorded. `false`
/// if somebody else is changing the cached function: it depends on whole tables then, if other words were said.
pub fn said_anew(function: pg_sys::Oid, base: pg_sys::Oid, said: bool) -> bool {
    let Some(body) = body_of(function) else {
        return true;
    };
    let now = Said::of(&body, base);
    if !now.by_base || !now.has_keys() || now.keys().is_none() {
        return true;
    }
    let recorded = matches!(Standing::of(function, &now), Standing::Recorded(_));
    !said && recorded || record(function, &now)
}

/// Whether nothing is recorded of a function although all its names mean something, the same to everybody.
pub fn is_unrecorded(function: pg_sys::Oid) -> bool {
    to_record(function).is_some()
}

/// Records what is not recorded yet; `false` if there is nothing, or if somebody else is changing the function.
pub fn record_late(function: pg_sys::Oid) -> bool {
    to_record(function).is_some_and(|said| record(function, &said))
}

fn to_record(function: pg_sys::Oid) -> Option<Said> {
    let said = said_of(function)?;
    let can_be = said.has_keys()
        && Meant::of(function).is_none()
        && said.keyed().all(|(name, _)| is_qualified(name))
        && said.keys().is_some();
    can_be.then_some(said)
}

fn body_of(function: pg_sys::Oid) -> Option<Body> {
    Body::parse(&Signature::of(function)?.source).ok()
}

/// What is said of a cached function that is bound to a base function.
fn said_of(function: pg_sys::Oid) -> Option<Said> {
    let own = Signature::of(function)?;
    let body = Body::parse(&own.source).ok()?;
    let base = match body.depends_on.is_empty() {
        true => binding::of(&own, &body).ok()?.oid,
        false => pg_sys::InvalidOid,
    };
    Some(Said::of(&body, base))
}

/// `false` if somebody else is changing the function, or if there is nothing to record.
fn record(function: pg_sys::Oid, said: &Said) -> bool {
    let parts = said.keys().and_then(|keys| {
        Meant {
            said: said.by,
            keys,
        }
        .parts()
    });
    let Some(parts) = parts else { return false };
    // A row that says the same makes the other sessions read the function again.
    let held = binding::write(function, &[]);
    if held {
        compat::write_parts_of_language(function, &parts);
    }
    held
}

/// Why a key column is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No name means anything else by now, and what they meant has other names.
    Renamed,
    /// A name means something else, and what it meant is there too: which of the two the function reads nobody can tell.
    Moved,
    /// What was meant is gone, or was said in words that are not recorded.
    Gone,
}

/// Names in `depends_on` that do not mean what they meant.
pub struct Misfit {
    /// The first relation, as it is named.
    pub name: String,
    /// Why.
    pub lost: Lost,
    /// The base function, if it says the names.
    pub base: Option<pg_sys::Oid>,
    /// What can be said instead without a key being wrong.
    instead: DependsOn,
}

/// What is wrong with the names of a function. Names without a schema mean to each caller what they do.
pub fn misfit(function: pg_sys::Oid) -> Option<Misfit> {
    let own = Signature::of(function)?;
    let body = Body::parse(&own.source).ok()?;
    let base = binding::of(&own, &body).map_or(pg_sys::InvalidOid, |base| base.oid);
    let said = Said::of(&body, base);
    let standing = Standing::of(function, &said);
    let (wrong, right): (Vec<_>, Vec<_>) = said
        .depends_on
        .iter()
        .partition(|(name, columns)| is_qualified(name) && !may_use(&standing, name, columns));
    let name = wrong.first()?.0.clone();
    let mut left = match standing {
        Standing::Recorded(meant) => meant.keys,
        Standing::NotYet | Standing::OfOtherNames => Vec::new(),
    };
    let of_right: Vec<Key> = right
        .iter()
        .flat_map(|(name, columns)| keys_of(name, columns).unwrap_or_default())
        .collect();
    let means_another = wrong.iter().any(|(name, columns)| {
        columns.iter().any(|one| {
            let key = keys_of(name, &BTreeMap::from([(one.0.clone(), one.1.clone())]));
            key.is_some_and(|key| key.iter().any(|key| !left.contains(key)))
        })
    });
    left.retain(|key| !of_right.contains(key));
    left.retain(|key| declared::column_name(key.relation, key.column).is_some());
    let lost = match (means_another, left.is_empty()) {
        (_, true) => Lost::Gone,
        (true, false) => Lost::Moved,
        (false, false) => Lost::Renamed,
    };
    let mut instead: DependsOn = right
        .into_iter()
        .map(|(name, columns)| (name.clone(), columns.clone()))
        .collect();
    match lost {
        Lost::Renamed => {
            for key in left {
                if let Some(name) = naming::relation_name(key.relation)
                    && let Some(column) = declared::column_name(key.relation, key.column)
                {
                    let columns = instead.entry(name).or_default();
                    columns.insert(column, format!("${}", key.argument + 1));
                }
            }
        }
        Lost::Moved | Lost::Gone => {
            for (name, columns) in wrong {
                if lost == Lost::Gone && keys_of(name, columns).is_some() {
                    instead.insert(name.clone(), columns.clone());
                } else if declared::find_relation(name).is_some() {
                    instead.insert(name.clone(), Columns::new());
                }
            }
        }
    }
    Some(Misfit {
        name,
        lost,
        base: said.by_base.then_some(base),
        instead,
    })
}

/// Makes the names of a body mean something again, with the word of the function's owner. `false` if there is nothing to do, or if somebody
/// else is changing the function.
pub fn mend(function: pg_sys::Oid) -> bool {
    let Some(misfit) = misfit(function).filter(|misfit| misfit.base.is_none()) else {
        return false;
    };
    let mended = binding::write_depends_on(function, &misfit.instead);
    if mended && let Some(said) = said_of(function) {
        record(function, &said);
    }
    mended
}
