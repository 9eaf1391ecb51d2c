//! From slots back to names: what a result depends on, and who wrote it last. For people who ask (`cache_explain`) and for the log.
//!
//! A slot is a hash, so its name is found by trying: what the function's body names with this call's arguments, then everything in
//! the database that has a slot at all. What nobody names any more (a table dropped since, a key of another function's call) stays
//! without a name. Nothing here is asked on the way of a call.

#![allow(unsafe_code)]

use super::{declared, relations};
use crate::compat;
use crate::language::body::{Body, argument_number};
use crate::language::function::CachedFunction;
use crate::language::signature::Signature;
use crate::naming;
use crate::store::area::Area;
use crate::validity::own;
use crate::validity::places::definitions_slot;
use crate::validity::slots::Listing;
use crate::validity::tags::{CLUSTER_SLOT, Tag, slot_of};
use crate::validity::writers::{Record, State};
use pgrx::datum::datetime_support::ToIsoString;
use pgrx::pg_sys;

/// A dependency with its name and its last writers.
pub struct Attribution {
    /// The slot.
    pub slot: u32,
    /// What it stands for, if that can be named.
    pub tag: Option<Name>,
    /// Who registered in it, the latest first; those who rolled back only if that made the present generation.
    pub writers: Vec<Writer>,
}

/// What a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// In words, the most telling first if these are to be sorted.
    pub text: String,
    /// The kind of it.
    pub kind: Kind,
    /// The relation, or invalid.
    relation: pg_sys::Oid,
}

/// Kinds of names, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A value of a key column.
    Key,
    /// A relation, any row.
    Relation,
    /// A relation, all rows at once.
    WholeRelation,
    /// A tag of a body.
    Tag,
    /// A cached function.
    Function,
    /// Definitions of the database.
    Definitions,
    /// Roles of the cluster.
    Roles,
}

/// A transaction that wrote under a dependency.
pub struct Writer {
    /// What was recorded.
    pub record: Record,
    /// What became of it.
    pub state: State,
    /// How the slot lists it.
    pub listing: Listing,
}

impl Writer {
    /// Whether its end made the generation that the slot has: it invalidated last.
    pub fn was_last(&self) -> bool {
        self.listing == Listing::SettledLast
            && matches!(self.state, State::Committed | State::LongAgo)
    }

    /// Whether it invalidated last although it rolled back: a prepared transaction, which cannot take its registration back.
    pub fn was_last_in_vain(&self) -> bool {
        self.listing == Listing::SettledLast && self.state == State::RolledBack
    }

    /// What it did, in words: "UPDATE of public.orders".
    pub fn act(&self) -> String {
        let mut text = self.record.act.operation.name();
        if let Some(relation) = self.relation() {
            text = format!("{text} on {relation}");
        }
        if self.record.act.applied {
            text.push_str(", applied as a replica");
        }
        if self.state == State::RolledBack {
            text.push_str(", prepared and rolled back");
        }
        text
    }

    /// Name of the relation concerned, if it still has one here.
    pub fn relation(&self) -> Option<String> {
        let here = self.record.database == compat::database();
        let relation = self.record.act.relation;
        (here && relation != pg_sys::InvalidOid)
            .then(|| naming::relation_name(relation))
            .flatten()
    }

    /// When its statement began, as JSON has times.
    pub fn at(&self) -> Option<String> {
        let time = pgrx::datum::TimestampWithTimeZone::try_from(self.record.at).ok()?;
        Some(time.to_iso_string())
    }

    /// Name of its role.
    pub fn role(&self) -> String {
        compat::role_name(self.record.role)
    }
}

/// For the log, with everything that is known; not for everybody's eyes.
impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} by role {}, transaction {}, process {}, at {}, {}",
            self.act(),
            self.role(),
            self.record.xid,
            self.record.pid,
            self.at().unwrap_or_default(),
            self.state.name()
        )
    }
}

/// Takes away what concerns relations that the asker may not read: their names, and that they were written.
pub fn hide(attributions: &mut [Attribution], may_read: impl Fn(pg_sys::Oid) -> bool) {
    let is_hidden = |relation| relation != pg_sys::InvalidOid && !may_read(relation);
    for attribution in attributions {
        if (attribution.tag.as_ref()).is_some_and(|name| is_hidden(name.relation)) {
            attribution.tag = None;
        }
        (attribution.writers).retain(|writer| !is_hidden(writer.record.act.relation));
    }
}

/// Names and last writers of `slots`, in their order.
///
/// # Safety
/// `fcinfo` is a call of `function`; inside a transaction.
pub unsafe fn of_slots(
    area: Area,
    slots: &[u32],
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Vec<Attribution> {
    let mut names = Names::new(area);
    // SAFETY: the caller's.
    unsafe { names.add_declared(function, fcinfo) };
    let mut attributions: Vec<_> = slots
        .iter()
        .map(|slot| Attribution {
            slot: *slot,
            tag: None,
            writers: writers(area, *slot),
        })
        .collect();
    // What was written names itself, also if nothing tracks it any more.
    for writer in attributions.iter().flat_map(|a| &a.writers) {
        if writer.relation().is_some() {
            for root in relations::reached(writer.record.act.relation) {
                names.add_relation(root);
            }
        }
    }
    if !slots.iter().all(|slot| names.has(*slot)) {
        names.add_everything();
    }
    for attribution in &mut attributions {
        attribution.tag = names.of(attribution.slot);
    }
    attributions
}

/// What is known beforehand of the dependencies of a call: what the body names, and what every result depends on.
///
/// # Safety
/// As [`of_slots`].
pub unsafe fn declared_slots(
    area: Area,
    function: &CachedFunction,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Vec<u32> {
    let mut names = Names::new(area);
    // SAFETY: the caller's.
    unsafe { names.add_declared(function, fcinfo) };
    names.known.into_iter().map(|(slot, _)| slot).collect()
}

fn writers(area: Area, slot: u32) -> Vec<Writer> {
    // Others do not know yet what this transaction owes.
    let owed = own::owed(slot)
        .and_then(|(xid, act)| (xid != 0).then(|| Record::of_this_transaction(slot, xid, act)));
    owed.into_iter()
        .chain(area.writers().of(slot))
        .map(|record| Writer {
            state: record.state(),
            listing: area.slots().listing(slot, record.xid),
            record,
        })
        .filter(|w| w.state != State::RolledBack || w.listing == Listing::SettledLast)
        .collect()
}

/// Names by slot.
struct Names {
    area: Area,
    database: pg_sys::Oid,
    known: Vec<(u32, Name)>,
}

impl Names {
    fn new(area: Area) -> Self {
        Names {
            area,
            database: compat::database(),
            known: Vec::new(),
        }
    }

    fn has(&self, slot: u32) -> bool {
        self.known.iter().any(|(known, _)| *known == slot)
    }

    /// The first name that was found for a slot.
    fn of(&self, slot: u32) -> Option<Name> {
        let known = self.known.iter().find(|(known, _)| *known == slot)?;
        Some(known.1.clone())
    }

    fn add(&mut self, slot: u32, kind: Kind, relation: pg_sys::Oid, text: String) {
        let name = Name {
            text,
            kind,
            relation,
        };
        if !self.known.iter().any(|(_, known)| *known == name) {
            self.known.push((slot, name));
        }
    }

    fn add_tag(&mut self, tag: Tag<'_>, text: String) {
        let slot = slot_of(self.database, tag, self.area.layout.slots);
        let (kind, relation) = match tag {
            Tag::Relation(relation) => (Kind::Relation, relation),
            Tag::WholeRelation(relation) => (Kind::WholeRelation, relation),
            Tag::Key { relation, .. } => (Kind::Key, relation),
            Tag::Function(_) => (Kind::Function, pg_sys::InvalidOid),
            Tag::Named(_) => (Kind::Tag, pg_sys::InvalidOid),
        };
        self.add(slot, kind, relation, text);
    }

    fn add_relation(&mut self, relation: pg_sys::Oid) {
        if let Some(name) = naming::relation_name(relation) {
            self.add_tag(Tag::Relation(relation), name.clone());
            self.add_tag(Tag::WholeRelation(relation), format!("{name} as a whole"));
        }
    }

    fn add_function(&mut self, function: pg_sys::Oid) {
        let name = naming::regprocedure_qualified(function);
        self.add_tag(Tag::Function(function), format!("function {name}"));
    }

    /// What every result depends on, and what the body names with the arguments of this call.
    unsafe fn add_declared(&mut self, function: &CachedFunction, fcinfo: pg_sys::FunctionCallInfo) {
        // SAFETY: the caller's fcinfo; a catalog lookup.
        unsafe {
            for (relation, columns) in declared::relations(function) {
                let relations::Tracking::Tracked { roots, key_columns } =
                    relations::tracking(relation)
                else {
                    continue;
                };
                let keys = declared::keys(relation, columns, &key_columns, function, fcinfo);
                for root in roots {
                    let Some(name) = naming::relation_name(root) else {
                        continue;
                    };
                    let Some(keys) = &keys else {
                        self.add_tag(Tag::Relation(root), name);
                        continue;
                    };
                    for (column, value) in keys {
                        let text = columns
                            .get(*column)
                            .and_then(|argument| argument_number(argument))
                            .map(|number| declared::argument_text(function, fcinfo, number));
                        self.add_tag(
                            Tag::Key {
                                relation: root,
                                column,
                                value: *value,
                            },
                            format!(
                                "{name}.{} = {}",
                                naming::quote_identifier(column),
                                text.unwrap_or_default()
                            ),
                        );
                    }
                    self.add_tag(Tag::WholeRelation(root), format!("{name} as a whole"));
                }
            }
            for tag in declared::tags(function, fcinfo) {
                self.add_tag(Tag::Named(&tag), format!("tag {tag}"));
            }
            self.add_function(function.oid);
            let database = compat::database_name();
            self.add(
                definitions_slot(),
                Kind::Definitions,
                pg_sys::InvalidOid,
                format!("definitions of database {database}"),
            );
            self.add(
                CLUSTER_SLOT,
                Kind::Roles,
                pg_sys::InvalidOid,
                "roles of the cluster".into(),
            );
        }
    }

    /// Everything in the database that has a slot: tracked relations, materialized views, cached functions and their plain tags.
    fn add_everything(&mut self) {
        let relations = tracked_relations().into_iter().chain(materialized_views());
        for relation in relations {
            for root in relations::roots(relation) {
                self.add_relation(root);
            }
        }
        for function in compat::cached_functions() {
            self.add_function(function);
            let body = Signature::of(function).and_then(|own| Body::parse(&own.source).ok());
            for tag in body.into_iter().flat_map(|body| body.tags) {
                if !tag.contains('$') {
                    self.add_tag(Tag::Named(&tag), format!("tag {tag}"));
                }
            }
        }
    }
}

impl Name {
    /// In words that say nothing of what a call was given, for the log.
    pub fn without_arguments(&self) -> String {
        match self.kind {
            Kind::Key => match naming::relation_name(self.relation) {
                Some(relation) => format!("a key of {relation}"),
                None => "a key".into(),
            },
            Kind::Tag => "a tag".into(),
            _ => self.text.clone(),
        }
    }

    /// Whether the record is of another name that shares the slot.
    pub fn is_foreign_to(&self, writer: &Writer) -> bool {
        let act = writer.record.act;
        let relation = act.relation;
        let elsewhere = writer.record.database != compat::database();
        match self.kind {
            Kind::Definitions | Kind::Roles => false,
            _ if elsewhere => true,
            Kind::Key | Kind::Relation | Kind::WholeRelation => {
                naming::relation_name(relation).is_some()
                    && !relations::reached(relation).contains(&self.relation)
            }
            Kind::Function | Kind::Tag => relation != pg_sys::InvalidOid,
        }
    }
}

/// Relations with a tracking trigger.
fn tracked_relations() -> Vec<pg_sys::Oid> {
    let Some(tracker) = relations::tracker_function() else {
        return Vec::new();
    };
    let triggers = compat::dependents(
        pg_sys::ProcedureRelationId,
        tracker,
        pg_sys::TriggerRelationId,
    );
    let mut found = Vec::new();
    for trigger in triggers {
        // SAFETY: pg_trigger and its index by oid.
        unsafe {
            compat::catalog_rows(
                pg_sys::TriggerRelationId,
                pg_sys::Oid::from_u32(pg_sys::TriggerOidIndexId),
                pg_sys::Anum_pg_trigger_oid,
                trigger,
                |tuple, _| {
                    let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
                    if !found.contains(&row.tgrelid) {
                        found.push(row.tgrelid);
                    }
                },
            );
        }
    }
    found
}

fn materialized_views() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: all of pg_class.
    unsafe {
        compat::all_catalog_rows(pg_sys::RelationRelationId, |tuple| {
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
            if row.relkind as u8 == pg_sys::RELKIND_MATVIEW {
                found.push(row.oid);
            }
        });
    }
    found
}
