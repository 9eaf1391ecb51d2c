//! `cache_tracker()`, the trigger function that marks writes. One function, three kinds of trigger:
//!
//! * `BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE … FOR EACH STATEMENT`: registers the transaction under the relation, before
//!   any row can be seen changed
//! * `AFTER INSERT | UPDATE | DELETE … REFERENCING … FOR EACH STATEMENT EXECUTE FUNCTION cache_tracker('column', …)`: registers it
//!   under the values of the key columns in the old and new rows
//! * `AFTER INSERT OR UPDATE OR DELETE … FOR EACH ROW`, enabled for replica sessions only: logical replication fires no other kind
//!
//! Between the first and the second the transaction's own calls must not take a keyed entry: the first notes the whole relation as
//! written in this backend alone. Between a replicated row and the third they must not take any: replica sessions take none at all.
//!
//! The third does not fire in other sessions, but it is there: a BEFORE trigger of that kind would make COPY insert row by row
//! and UPDATE lock each row before it changes it (measured: COPY 1.7 times as long).

#![allow(unsafe_code)]

use super::{declared, relations};
use crate::server::guarded;
use crate::store::area::{Area, area};
use crate::store::statistics;
use crate::validity::own;
use crate::validity::slots::assign_xid;
use crate::validity::tags::{Tag, slot_of};
use crate::validity::writers::{Act, Operation};
use pg_query_cache_validity::{Effect, FullXid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

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
        if let Some(area) = area() {
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

unsafe fn mark(area: Area, data: &pg_sys::TriggerData) {
    // SAFETY: the server's TriggerData.
    unsafe {
        crate::transaction::prepare(area);
        let xid = assign_xid();
        // What the writer pays for being tracked begins here: a transaction that writes has an id anyway.
        let began = std::time::Instant::now();
        let relation = (*data.tg_relation).rd_id;
        let roots = relations::roots(relation);
        let event = data.tg_event;
        let operation = event & pg_sys::TRIGGER_EVENT_OPMASK;
        let marker = Marker {
            area,
            database: pg_sys::MyDatabaseId,
            xid,
            roots: &roots,
            act: Act {
                operation: match operation {
                    pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
                    pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
                    pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
                    _ => Operation::Truncate,
                },
                relation,
                applied: pg_sys::SessionReplicationRole
                    == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32,
            },
        };
        if event & pg_sys::TRIGGER_EVENT_ROW != 0 {
            marker.rows();
            let keys = Keys::of_relation(data.tg_relation, relations::tracking(relation));
            for tuple in [data.tg_trigtuple, data.tg_newtuple] {
                if !tuple.is_null() {
                    keys.mark_tuple(&marker, tuple, (*data.tg_relation).rd_att);
                }
            }
        } else if operation == pg_sys::TRIGGER_EVENT_TRUNCATE {
            marker.everything(Effect::AtCommit);
        } else if event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE {
            marker.rows();
        } else {
            let keys = Keys::of_trigger(data);
            for table in [data.tg_oldtable, data.tg_newtable] {
                if !table.is_null() {
                    keys.mark_table(&marker, table, (*data.tg_relation).rd_att);
                }
            }
        }
        let ns = began.elapsed().as_nanos() as u64 / roots.len().max(1) as u64;
        for root in &roots {
            statistics::charge(*root, ns);
        }
    }
}

/// Marks slots on behalf of the present transaction.
struct Marker<'a> {
    area: Area,
    database: pg_sys::Oid,
    xid: FullXid,
    roots: &'a [pg_sys::Oid],
    act: Act,
}

impl Marker<'_> {
    fn slot(&self, tag: Tag<'_>) -> u32 {
        slot_of(self.database, tag, self.area.layout.slots)
    }

    /// Some rows of the relation are about to change.
    fn rows(&self) {
        for root in self.roots {
            own::register(
                self.area,
                self.slot(Tag::Relation(*root)),
                self.xid,
                Effect::Rows,
                self.act,
            );
            own::note(self.slot(Tag::WholeRelation(*root)));
        }
    }

    /// All rows of the relation are concerned.
    fn everything(&self, effect: Effect) {
        for root in self.roots {
            own::register(
                self.area,
                self.slot(Tag::Relation(*root)),
                self.xid,
                effect,
                self.act,
            );
            own::register(
                self.area,
                self.slot(Tag::WholeRelation(*root)),
                self.xid,
                effect,
                self.act,
            );
        }
    }

    /// Rows with this value changed.
    fn key(&self, column: &str, value: u64) {
        if own::count() > MANY {
            return self.everything(Effect::Rows);
        }
        for root in self.roots {
            let slot = self.slot(Tag::Key {
                relation: *root,
                column,
                value,
            });
            own::register(self.area, slot, self.xid, Effect::Rows, self.act);
        }
    }
}

/// The key columns to be marked: name, number, type, collation.
struct Keys(Vec<(String, i32, pg_sys::Oid, pg_sys::Oid)>, bool);

impl Keys {
    unsafe fn find(relation: pg_sys::Relation, names: Vec<String>) -> Self {
        let mut keys = Vec::with_capacity(names.len());
        let mut missing = false;
        for name in names {
            // SAFETY: the open relation's description.
            unsafe {
                let description = &*(*relation).rd_att;
                let attributes = std::slice::from_raw_parts(
                    description.attrs.as_ptr(),
                    description.natts as usize,
                );
                match attributes
                    .iter()
                    .find(|a| !a.attisdropped && pgrx::name_data_to_str(&a.attname) == name)
                {
                    Some(a) => keys.push((name, i32::from(a.attnum), a.atttypid, a.attcollation)),
                    None => missing = true,
                }
            }
        }
        Keys(keys, missing)
    }

    /// The columns in the arguments of the trigger.
    unsafe fn of_trigger(data: &pg_sys::TriggerData) -> Self {
        // SAFETY: the server's TriggerData.
        unsafe {
            let trigger = &*data.tg_trigger;
            let names = (0..trigger.tgnargs as usize)
                .map(|i| {
                    CStr::from_ptr(*trigger.tgargs.add(i))
                        .to_string_lossy()
                        .into_owned()
                })
                .collect();
            Self::find(data.tg_relation, names)
        }
    }

    /// The columns that the relation's tree marks.
    unsafe fn of_relation(relation: pg_sys::Relation, tracking: relations::Tracking) -> Self {
        match tracking {
            // SAFETY: the open relation.
            relations::Tracking::Tracked { key_columns, .. } => unsafe {
                Self::find(relation, key_columns)
            },
            _ => Keys(Vec::new(), true),
        }
    }

    /// Marks the values of a row. A column that is not there any more (renamed, dropped) marks everything.
    unsafe fn mark_tuple(
        &self,
        marker: &Marker<'_>,
        tuple: pg_sys::HeapTuple,
        description: pg_sys::TupleDesc,
    ) {
        if self.1 {
            marker.everything(Effect::Rows);
        }
        for (name, number, type_id, collation) in &self.0 {
            let mut is_null = false;
            // SAFETY: a row of the relation.
            unsafe {
                let value = pg_sys::heap_getattr(tuple, *number, description, &mut is_null);
                self.mark_value(marker, name, *type_id, *collation, value, is_null);
            }
        }
    }

    /// Marks the values of all rows of a transition table.
    unsafe fn mark_table(
        &self,
        marker: &Marker<'_>,
        table: *mut pg_sys::Tuplestorestate,
        description: pg_sys::TupleDesc,
    ) {
        if self.1 {
            return marker.everything(Effect::Rows);
        }
        // SAFETY: a transition table holds rows of the relation as minimal tuples. It is shared with other triggers of the
        // statement, each of which reads it from the start.
        unsafe {
            let slot = pg_sys::MakeSingleTupleTableSlot(
                description,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            pg_sys::tuplestore_rescan(table);
            while own::count() <= MANY && pg_sys::tuplestore_gettupleslot(table, true, false, slot)
            {
                for (name, number, type_id, collation) in &self.0 {
                    pg_sys::slot_getsomeattrs_int(slot, *number);
                    let at = *number as usize - 1;
                    let (value, is_null) =
                        (*(*slot).tts_values.add(at), *(*slot).tts_isnull.add(at));
                    self.mark_value(marker, name, *type_id, *collation, value, is_null);
                }
                pg_sys::ExecClearTuple(slot);
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::tuplestore_rescan(table);
            if own::count() > MANY {
                marker.everything(Effect::Rows);
            }
        }
    }

    /// A NULL in a key column equals no argument, so nobody's keyed result holds the row.
    unsafe fn mark_value(
        &self,
        marker: &Marker<'_>,
        name: &str,
        type_id: pg_sys::Oid,
        collation: pg_sys::Oid,
        value: pg_sys::Datum,
        is_null: bool,
    ) {
        if is_null {
            return;
        }
        // SAFETY: a value of the column.
        match unsafe { declared::hash(type_id, collation, value) } {
            Some(hash) => marker.key(name, hash),
            None => marker.everything(Effect::Rows),
        }
    }
}
