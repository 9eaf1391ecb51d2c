//! `cache_tracker()`, the trigger function that marks writes. One function, three kinds of trigger:
//!
//! * `BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE … FOR EACH STATEMENT`: registers the transaction under the relation, before
//!   any row can be seen changed; one without an id owes that (see `own`), and a statement that changes no row leaves it so
//! * `AFTER INSERT | UPDATE | DELETE … REFERENCING … FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('column', …)`: registers it
//!   under the values of the key columns in the old and new rows
//! * `AFTER INSERT OR UPDATE OR DELETE … FOR EACH ROW`, enabled for replica sessions only: logical replication fires no other kind
//!
//! Between the first and the second the transaction's own calls must not take a keyed entry: the first notes the whole relation as
//! written in this backend alone. Between a replicated row and the third they must not take any: replica sessions take none at all.
//!
//! The third does not fire in other sessions, but it is there: a BEFORE trigger of that kind would make COPY insert row by row
//! and UPDATE lock each row before it changes it (measured: COPY 1.7 times as long).
//!
//! Every statement that writes to a tracked table comes by here, some by the thousand a second. So what a trigger has to mark is worked
//! out once ([`Plan`]), and the server's functions are called without a guard each: no value with a destructor is alive meanwhile.

#![allow(unsafe_code)]

use super::{declared, relations};
use crate::backend::Backend;
use crate::compat;
use crate::numbers::{NumberMap, number_map};
use crate::server::{self, guarded};
use crate::store::area::{Area, area};
use crate::store::statistics;
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::view::own_xid;
use crate::validity::writers::{Act, Operation};
use pg_query_cache_validity::{Effect, FullXid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

/// A transaction that marks more than this many slots marks whole relations from then on.
const MANY: usize = 1000;

/// Tells the server that the trigger function follows calling convention version 1.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_cache_tracker() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// The trigger function.
///
/// # Safety
/// Only the server calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cache_tracker(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server's fcinfo; no value with a destructor is alive in this frame.
    unsafe { guarded(|| tracker(fcinfo)) }
}

unsafe fn tracker(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server passes TriggerData to a trigger function; anything else is refused.
    unsafe {
        let data = (*fcinfo).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "function \"cache_tracker\" was not called by trigger manager"
            );
        }
        if !is_ours(&*data) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "function \"cache_tracker\" is called by triggers of cache_track_table() only"
            );
        }
        if let Some(area) = area()
            && !is_temporary(&*data)
        {
            mark(area, &*data);
        }
        let event = (*data).tg_event;
        let row = event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let update = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        match (row, update) {
            (false, _) => pg_sys::Datum::null(),
            (true, true) => pg_sys::Datum::from((*data).tg_newtuple),
            (true, false) => pg_sys::Datum::from((*data).tg_trigtuple),
        }
    }
}

/// Whether a trigger is of one of the three kinds, or marks as one of them does: the first version of the extension made the third as a
/// BEFORE trigger. Another one, of a view or of whole statements without their rows, would mark nothing.
fn is_ours(data: &pg_sys::TriggerData) -> bool {
    let event = data.tg_event;
    let timing = event & pg_sys::TRIGGER_EVENT_TIMINGMASK;
    if event & pg_sys::TRIGGER_EVENT_ROW != 0 {
        return timing != pg_sys::TRIGGER_EVENT_INSTEAD;
    }
    let is_truncate = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
    let has_rows = !data.tg_oldtable.is_null() || !data.tg_newtable.is_null();
    timing == pg_sys::TRIGGER_EVENT_BEFORE || is_truncate || has_rows
}

/// Whether the rows are those of a temporary table: no result rests on one. Everybody may make some, and marks of their keys would reach
/// others' results, whose keys have the same slots.
#[inline(always)]
fn is_temporary(data: &pg_sys::TriggerData) -> bool {
    // SAFETY: the relation of the statement, which is open.
    let persistence = unsafe { (*(*data.tg_relation).rd_rel).relpersistence };
    persistence as u8 == pg_sys::RELPERSISTENCE_TEMP
}

/// What a trigger has to mark.
#[derive(PartialEq, Eq)]
struct Plan {
    roots: Vec<Root>,
    keys: Vec<KeyColumn>,
    /// A key column is not there any more (renamed, dropped): all rows are marked in the place of its values.
    incomplete: bool,
}

/// The top of a tree in which the statement can change rows, and the slots that stand for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Root {
    relation: pg_sys::Oid,
    rows: u32,
    whole: u32,
}

#[derive(PartialEq, Eq)]
struct KeyColumn {
    name: String,
    /// From 1, as `pg_attribute.attnum`.
    number: i32,
    type_id: pg_sys::Oid,
    by_value: bool,
    collation: pg_sys::Oid,
    /// What hashes its values; invalid if nothing does for good.
    hash: pg_sys::Oid,
}

/// Values that were marked a moment ago, each with the number of its column: many rows of one statement tend to have few values.
struct Marked([(u64, i32); MEMORY]);

/// How many values are remembered, on the stack.
const MEMORY: usize = 512;

impl Marked {
    const NOTHING: Marked = Marked([(0, 0); MEMORY]);

    /// Whether a value, as a number that no other value of the column has, was marked; it is from now on.
    #[inline(always)]
    fn replace(&mut self, value: u64, column: i32) -> bool {
        let place = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - MEMORY.ilog2());
        std::mem::replace(&mut self.0[place as usize], (value, column)) == (value, column)
    }
}

/// Plans by trigger, each with the definitions that it was made of. Another one for the same trigger is made only when the table's
/// definition has changed. A plan lives until the transaction has ended, also when another one has taken its place: an ERROR may jump over
/// whoever uses it, and a hash function may write to tracked tables itself.
static PLANS: Backend<RefCell<Plans>> = Backend::new(RefCell::new(Plans {
    present: number_map(),
    replaced: Vec::new(),
}));

struct Plans {
    present: NumberMap<u32, (u64, &'static Plan)>,
    /// Those that have been in the place of a present one.
    replaced: Vec<&'static Plan>,
}

/// With more plans than these a backend begins anew after the transaction: triggers go, and nobody says so.
const MANY_PLANS: usize = 1000;

/// The transaction has ended: nobody uses a plan any more.
pub fn transaction_ended() {
    PLANS.with_borrow_mut(|plans| {
        let all = plans.present.len() > MANY_PLANS;
        if !all && plans.replaced.is_empty() {
            return;
        }
        let forgotten = plans
            .present
            .extract_if(|_, _| all)
            .map(|(_, (_, plan))| plan);
        for plan in plans.replaced.drain(..).chain(forgotten) {
            // SAFETY: made by `Box::leak` in `plan`, and now in neither list.
            drop(unsafe { Box::from_raw(std::ptr::from_ref(plan).cast_mut()) });
        }
    });
}

/// The plan of the trigger that fires.
unsafe fn plan(area: Area, data: &pg_sys::TriggerData) -> &'static Plan {
    // SAFETY: the server's TriggerData.
    let trigger = unsafe { (*data.tg_trigger).tgoid.to_u32() };
    let known = PLANS.with_borrow(|plans| plans.present.get(&trigger).copied());
    let definitions = relations::changes();
    match known {
        Some((made_of, plan)) if made_of == definitions => plan,
        _ => {
            // SAFETY: the caller's.
            let new = unsafe { Plan::make(area, data) };
            let (plan, replaced) = match known {
                Some((_, old)) if *old == new => (old, None),
                known => (&*Box::leak(Box::new(new)), known),
            };
            PLANS.with_borrow_mut(|plans| {
                plans.present.insert(trigger, (definitions, plan));
                plans.replaced.extend(replaced.map(|(_, old)| old));
            });
            plan
        }
    }
}

impl Plan {
    unsafe fn make(area: Area, data: &pg_sys::TriggerData) -> Self {
        // SAFETY: the server's TriggerData: an open relation, a trigger with its arguments; a variable of the backend.
        unsafe {
            let relation = (*data.tg_relation).rd_id;
            let slot = |tag| slot_of(pg_sys::MyDatabaseId, tag, area.layout.slots);
            let roots = relations::reached(relation)
                .into_iter()
                .map(|root| Root {
                    relation: root,
                    rows: slot(Tag::Relation(root)),
                    whole: slot(Tag::WholeRelation(root)),
                })
                .collect();
            let names = if data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 {
                match relations::tracking(relation) {
                    relations::Tracking::Tracked { key_columns, .. } => Some(key_columns),
                    _ => None,
                }
            } else {
                let trigger = &*data.tg_trigger;
                let name = |i| compat::text(*trigger.tgargs.add(i));
                Some((0..trigger.tgnargs as usize).map(name).collect())
            };
            let names: Option<Vec<String>> = names;
            let description = &*(*data.tg_relation).rd_att;
            let columns =
                std::slice::from_raw_parts(description.attrs.as_ptr(), description.natts as usize);
            let find = |name: &String| {
                let is = |a: &&pg_sys::FormData_pg_attribute| {
                    !a.attisdropped && compat::text(a.attname.data.as_ptr()) == *name
                };
                columns.iter().find(is).map(|a| KeyColumn {
                    name: name.clone(),
                    number: i32::from(a.attnum),
                    type_id: a.atttypid,
                    by_value: a.attbyval,
                    collation: a.attcollation,
                    hash: declared::hash_function(a.atttypid).unwrap_or(pg_sys::InvalidOid),
                })
            };
            let keys: Vec<_> = names.iter().flatten().filter_map(find).collect();
            Plan {
                roots,
                incomplete: names.is_none_or(|names| names.len() > keys.len()),
                keys,
            }
        }
    }
}

unsafe fn mark(area: Area, data: &pg_sys::TriggerData) {
    // SAFETY: the server's TriggerData.
    unsafe {
        crate::transaction::prepare(area);
        let truncates =
            data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        // TRUNCATE writes in any case, rows or not.
        let xid = if truncates { assign_xid() } else { own_xid() };
        // What the writer pays for being tracked begins here: a transaction that writes has an id anyway.
        let began = std::time::Instant::now();
        let event = data.tg_event;
        let operation = event & pg_sys::TRIGGER_EVENT_OPMASK;
        let marker = Marker {
            area,
            xid,
            plan: plan(area, data),
            act: Act {
                operation: match operation {
                    pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
                    pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
                    pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
                    _ => Operation::Truncate,
                },
                relation: (*data.tg_relation).rd_id,
                applied: pg_sys::SessionReplicationRole
                    == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32,
            },
        };
        let description = (*data.tg_relation).rd_att;
        if event & pg_sys::TRIGGER_EVENT_ROW != 0 {
            marker.rows();
            for tuple in [data.tg_trigtuple, data.tg_newtuple] {
                if !tuple.is_null() {
                    marker.row(tuple, description);
                }
            }
        } else if operation == pg_sys::TRIGGER_EVENT_TRUNCATE {
            marker.truncation();
        } else if event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE {
            marker.rows();
        } else {
            for table in [data.tg_oldtable, data.tg_newtable] {
                if !table.is_null() {
                    marker.table(table, description);
                }
            }
        }
        let roots = &marker.plan.roots;
        let ns = began.elapsed().as_nanos() as u64 / roots.len().max(1) as u64;
        for root in roots {
            statistics::charge(root.relation, ns);
        }
    }
}

/// Marks slots on behalf of the present transaction. Nothing in it has a destructor.
#[derive(Clone, Copy)]
struct Marker {
    area: Area,
    /// 0 if the transaction has none yet.
    xid: FullXid,
    plan: &'static Plan,
    act: Act,
}

impl Marker {
    fn register(&self, slot: u32) {
        own::register_if_it_writes(self.area, slot, self.xid, self.act);
    }

    /// Some rows of the relation are about to change.
    fn rows(&self) {
        for root in &self.plan.roots {
            self.register(root.rows);
            own::note(root.whole);
        }
    }

    /// Any rows of the relation can have changed.
    fn everything(&self) {
        for root in &self.plan.roots {
            self.register(root.rows);
            self.register(root.whole);
        }
    }

    /// All rows of the relation are about to go, for old snapshots too.
    fn truncation(&self) {
        for root in &self.plan.roots {
            for slot in [root.rows, root.whole] {
                own::register(self.area, slot, self.xid, Effect::AtCommit, self.act);
            }
        }
    }

    /// Marks the values of a row.
    ///
    /// # Safety
    /// `row` is a row of the relation.
    unsafe fn row(&self, row: pg_sys::HeapTuple, description: pg_sys::TupleDesc) {
        if self.plan.incomplete {
            self.everything();
        }
        let mut marked = Marked::NOTHING;
        for column in &self.plan.keys {
            let mut is_null = false;
            // SAFETY: the caller's.
            unsafe {
                let value = pg_sys::heap_getattr(row, column.number, description, &mut is_null);
                self.value(column, value, is_null, &mut marked);
            }
        }
    }

    /// Marks the values of all rows of a transition table.
    ///
    /// # Safety
    /// `table` holds rows of the relation.
    unsafe fn table(&self, table: *mut pg_sys::Tuplestorestate, description: pg_sys::TupleDesc) {
        if self.plan.incomplete {
            return self.everything();
        }
        // SAFETY: a transition table holds rows of the relation as minimal tuples. It is shared with other triggers of the
        // statement, each of which reads it from the start.
        unsafe {
            let slot = server::MakeSingleTupleTableSlot(
                description,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            server::tuplestore_rescan(table);
            let mut marked = Marked::NOTHING;
            while own::count() <= MANY && server::tuplestore_gettupleslot(table, true, false, slot)
            {
                pgrx::check_for_interrupts!();
                for column in &self.plan.keys {
                    if i32::from((*slot).tts_nvalid) < column.number {
                        server::slot_getsomeattrs_int(slot, column.number);
                    }
                    let at = column.number as usize - 1;
                    let (value, is_null) =
                        (*(*slot).tts_values.add(at), *(*slot).tts_isnull.add(at));
                    self.value(column, value, is_null, &mut marked);
                }
            }
            server::ExecDropSingleTupleTableSlot(slot);
            server::tuplestore_rescan(table);
        }
        if own::count() > MANY {
            self.everything();
        }
    }

    /// Rows with this value changed. A NULL in a key column equals no argument, so nobody's keyed result holds the row.
    ///
    /// # Safety
    /// `value` is one of the column.
    unsafe fn value(
        &self,
        column: &KeyColumn,
        value: pg_sys::Datum,
        is_null: bool,
        marked: &mut Marked,
    ) {
        if is_null || column.by_value && marked.replace(value.value() as u64, column.number) {
            return;
        }
        if column.hash == pg_sys::InvalidOid {
            return self.everything();
        }
        // SAFETY: the caller's.
        let hash = unsafe {
            declared::hash_unguarded(column.type_id, column.hash, column.collation, value)
        };
        let Some(value) = hash.filter(|_| own::count() <= MANY) else {
            return self.everything();
        };
        if !column.by_value && marked.replace(value, column.number) {
            return;
        }
        for root in &self.plan.roots {
            let tag = Tag::Key {
                relation: root.relation,
                column: &column.name,
                value,
            };
            // SAFETY: a variable of the backend.
            let database = unsafe { pg_sys::MyDatabaseId };
            self.register(slot_of(database, tag, self.area.layout.slots));
        }
    }
}
