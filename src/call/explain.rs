//! What a call would do: a question goes the same road as a call and stops at the first fork where a call would act.
//!
//! `decide` is generic over who goes: for a [`Caller`] everything here is nothing, a [`Question`] notes what it meets. Nothing is
//! computed, waited for, counted, published, or kept from eviction. A question comes to the handler like any call, with a node of
//! ours as its context, so that what stands between (a SECURITY DEFINER or SET clause of the cached function) has its effect.

#![allow(unsafe_code)]

use super::advice::{self, Finding};
use super::blame::tags;
use super::frames::Call;
use super::outcome::{Outcome, Reason, Refusal};
use super::scope::{self, Settings};
use super::{Decision, decide};
use crate::compat;
use crate::dependencies::attribution::{self, Attribution};
use crate::dependencies::clock::{self, Use};
use crate::dependencies::{definitions, relations};
use crate::language::body::{Consistency, Scope};
use crate::language::function::CachedFunction;
use crate::naming;
use crate::server;
use crate::store::area::{Area, area};
use crate::store::layout::BLOCK;
use crate::store::lookup::{self, MAX_DEPENDENCIES};
use crate::store::partition::{EntryHead, blocks_for};
use crate::store::walk;
use crate::table::row::Row;
use crate::validity::Dependency;
use pgrx::pg_sys;
use serde_json::{Map, Value, json};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::rc::Rc;

impl From<Outcome> for Finding {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Invalidated => Finding::Invalidated,
            Outcome::Expired => Finding::Expired,
            Outcome::Not(reason) => Finding::Not(reason),
            _ => Finding::Absent,
        }
    }
}

/// Who goes down the road of a call.
pub(super) trait Traveller {
    /// It only wants to know.
    const ASKS: bool;
    /// The function is known.
    fn calls(&mut self, _function: &Rc<CachedFunction>) {}
    /// The key and the greatest age are known.
    fn looks_for(&mut self, _call: &Call<'_>) {}
    /// A row of the table tier would come back to memory.
    fn would_load(&mut self, _row: Row) {}
    /// The end of the road for a question.
    fn finds(&mut self, _finding: Finding) -> Decision {
        Decision::Told
    }
}

/// A call.
pub(super) struct Caller;

impl Traveller for Caller {
    const ASKS: bool = false;
}

/// A question what a call would do.
struct Question {
    function: Option<Rc<CachedFunction>>,
    finding: Option<Finding>,
    hash: Option<u64>,
    key: Vec<u8>,
    snapshot: pg_sys::Snapshot,
    now: i64,
    max_age: i64,
    row: Option<Row>,
}

impl Traveller for Question {
    const ASKS: bool = true;

    fn calls(&mut self, function: &Rc<CachedFunction>) {
        self.function = Some(function.clone());
    }

    fn looks_for(&mut self, call: &Call<'_>) {
        self.hash = Some(call.hash);
        self.key = call.key.to_vec();
        self.snapshot = call.snapshot;
        self.now = call.now;
        self.max_age = call.max_age;
    }

    fn would_load(&mut self, row: Row) {
        self.row = Some(row);
    }

    fn finds(&mut self, finding: Finding) -> Decision {
        self.finding = Some(finding);
        Decision::Told
    }
}

/// What is told about a call.
#[derive(Default)]
pub struct Explanation {
    /// The cached function.
    pub(super) function: pg_sys::Oid,
    /// What becomes of it.
    pub finding: Option<Finding>,
    /// That in a sentence, with what is known of this call.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// `role`, `claims` or `shared`.
    pub scope: &'static str,
    /// What of the session is part of the key.
    pub session: Value,
    /// What the result depends on.
    pub tags: Option<Vec<String>>,
    /// Time to live of a new entry, microseconds.
    pub ttl: i64,
    /// The greatest age that the caller accepts, microseconds.
    pub max_age: Option<i64>,
    /// The entry, if there is one.
    pub entry: Option<Entry>,
    /// The last write to what the result depends on.
    pub writer: Option<Value>,
}

/// An entry, right or not.
pub struct Entry {
    /// Where it is.
    pub tier: &'static str,
    /// Its fixed fields.
    pub head: EntryHead,
    /// Bytes that it takes.
    pub size: i64,
    /// Its age, microseconds.
    pub age: i64,
    /// The time that it has left to live, microseconds.
    pub left: i64,
    dependencies: Vec<Dependency>,
}

/// The context of a call that is a question.
#[repr(C)]
pub struct Node {
    node: pg_sys::ExtensibleNode,
    /// On whose behalf, which decides what it may be told about others.
    asker: pg_sys::Oid,
    /// Only what becomes of it is asked.
    brief: bool,
    answer: Explanation,
}

/// Marks the node as ours: the address, not the text.
static NODE: &CStr = c"pg_query_cache question";

impl Node {
    /// A question on behalf of the present role.
    pub fn new() -> Self {
        let mut node = pg_sys::ExtensibleNode {
            extnodename: NODE.as_ptr(),
            ..Default::default()
        };
        node.type_ = pg_sys::NodeTag::T_ExtensibleNode;
        Node {
            node,
            // SAFETY: a variable of the backend.
            asker: unsafe { server::GetUserId() },
            brief: false,
            answer: Explanation::default(),
        }
    }

    /// A question of which only the finding is answered.
    pub fn brief() -> Self {
        Node {
            brief: true,
            ..Node::new()
        }
    }

    /// What the handler answered.
    pub fn answer(self) -> Explanation {
        self.answer
    }
}

/// The question that a call is, if it is one.
///
/// # Safety
/// `fcinfo` is the server's call of a cached function.
#[inline(always)]
pub unsafe fn question(fcinfo: pg_sys::FunctionCallInfo) -> Option<*mut Node> {
    // SAFETY: the context of a call is a node or NULL; the tag tells the struct.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_ExtensibleNode {
            return None;
        }
        let extensible = context.cast::<pg_sys::ExtensibleNode>();
        std::ptr::eq((*extensible).extnodename, NODE.as_ptr()).then_some(context.cast())
    }
}

/// Answers a question: the result of the call is NULL, the answer is in the node.
///
/// # Safety
/// `fcinfo` is a call of a cached function with `node` as its context.
#[cold]
pub unsafe fn answer(fcinfo: pg_sys::FunctionCallInfo, node: *mut Node) {
    let mut question = Question {
        function: None,
        finding: None,
        hash: None,
        key: Vec::new(),
        snapshot: std::ptr::null_mut(),
        now: 0,
        max_age: 0,
        row: None,
    };
    // SAFETY: the caller's; nobody else has the node while the call lasts.
    unsafe {
        let _: Decision = decide(fcinfo, &mut question);
        if (*node).brief {
            (*node).answer.finding = question.finding;
        } else if let Some(answer) = question.explain(fcinfo, (*node).asker) {
            (*node).answer = answer;
        }
        (*fcinfo).isnull = true;
    }
}

impl Question {
    unsafe fn explain(
        self,
        fcinfo: pg_sys::FunctionCallInfo,
        asker: pg_sys::Oid,
    ) -> Option<Explanation> {
        let (function, finding) = (self.function.clone()?, self.finding?);
        let area = area();
        let entry = area.and_then(|area| self.entry(area));
        let finding = match (finding, &entry) {
            (Finding::Expired, Some(entry)) if entry.left > 0 => Finding::TooOld,
            _ => finding,
        };
        let used = by_clock(&function);
        let finding = match finding {
            Finding::Valid if used.is_some() => Finding::BoundedByAge,
            other => other,
        };
        let mut told = Explanation {
            function: function.oid,
            finding: Some(finding),
            detail: sentence(finding.meaning()),
            hint: finding.remedy().into(),
            scope: match function.scope {
                Scope::Role => "role",
                Scope::Claims => "claims",
                Scope::Shared => "shared",
            },
            session: session(&function),
            ttl: function.ttl_us,
            max_age: self.hash.map(|_| self.max_age),
            ..Explanation::default()
        };
        if let Some(area) = area {
            // First, because it settles the slots, and how these list a writer is asked then.
            let moved = self.moved(area, &entry);
            // SAFETY: the caller's call of this function.
            let mut attributions = unsafe { self.attributions(area, &function, fcinfo, &entry) };
            if !reads_all_stats(asker) {
                attribution::hide(&mut attributions, |relation| may_read(asker, relation));
            }
            told.tags = Some(tags(&attributions));
            told.blame(finding, &attributions, &moved, asker);
            if finding.kind() == "miss" {
                self.foresee(area, &function, asker, &mut told);
            }
            if finding == Finding::Not(Reason::NotWorthwhile)
                && let Some((rest, _)) = area.functions().rest(compat::database(), function.oid)
            {
                let figures = match reads_all_stats(asker) {
                    true => advice::figures(&rest),
                    false => String::new(),
                };
                let back = advice::return_of(&rest);
                told.detail = format!(
                    "Caching the function does not pay at present ({}), so it rests. {figures} {back}",
                    rest.why.words()
                );
            }
        }
        if let Some(used) = used {
            match finding.kind() {
                "hit" => told.detail.push_str(&format!(" It uses {}.", used.words())),
                "miss" => told.detail.push_str(&format!(
                    " The result is bounded by age: the function uses {}.",
                    used.words()
                )),
                _ => (),
            }
        }
        told.entry = entry;
        Some(told)
    }

    /// The entry under the key, in memory or in the table.
    fn entry(&self, area: Area) -> Option<Entry> {
        let in_memory = || {
            let found = lookup::find(area, self.hash?, &self.key)?;
            let mut buffer = [const { MaybeUninit::uninit() }; MAX_DEPENDENCIES];
            let dependencies = found.dependencies(&mut buffer)?.to_vec();
            Some(("memory", found.head, dependencies))
        };
        let in_table = || {
            let row = self.row.as_ref()?;
            Some(("table", row.head, row.dependencies.clone()))
        };
        let (tier, head, dependencies) = in_memory().or_else(in_table)?;
        Some(Entry {
            tier,
            head,
            size: i64::from(blocks_for(head.payload())) * BLOCK as i64,
            age: self.now - head.created_at,
            left: head.expires_at - self.now,
            dependencies,
        })
    }

    /// Names and writers of what the entry depends on; without an entry, of what is known beforehand.
    unsafe fn attributions(
        &self,
        area: Area,
        function: &CachedFunction,
        fcinfo: pg_sys::FunctionCallInfo,
        entry: &Option<Entry>,
    ) -> Vec<Attribution> {
        // SAFETY: the caller's.
        unsafe {
            let slots = match entry {
                Some(entry) => entry.dependencies.iter().map(|d| d.slot()).collect(),
                None => attribution::declared_slots(area, function, fcinfo),
            };
            attribution::of_slots(area, &slots, function, fcinfo)
        }
    }

    /// The slots of the entry that stand in the way: another generation than the entry's, or in doubt.
    fn moved(&self, area: Area, entry: &Option<Entry>) -> Vec<u32> {
        let Some(entry) = entry.as_ref().filter(|_| !self.snapshot.is_null()) else {
            return Vec::new();
        };
        let stands = |dependency: &&Dependency| {
            // SAFETY: the snapshot is the active one, as it was when the question came.
            let seen = unsafe {
                area.slots()
                    .generation_for(dependency.slot(), self.snapshot)
            };
            seen.is_ok_and(|generation| dependency.has(generation))
        };
        let dependencies = entry.dependencies.iter();
        dependencies
            .filter(|d| !stands(d))
            .map(|d| d.slot())
            .collect()
    }

    /// Of a miss: what would become of the result.
    fn foresee(
        &self,
        area: Area,
        function: &CachedFunction,
        asker: pg_sys::Oid,
        told: &mut Explanation,
    ) {
        let database = compat::database();
        if self.hash.is_some_and(|hash| area.flights().has(hash)) {
            told.detail
                .push_str(" Another session computes it right now; the call would wait for it.");
        }
        // What others have stored is theirs, unless the owner says that it is everybody's.
        let may_know = function.scope == Scope::Shared || reads_all_stats(asker);
        if told.finding == Some(Finding::Absent) && may_know {
            let others = stored_results(area, function.oid);
            if others > 0 {
                told.detail.push_str(&format!(
                    " The function has {others} stored result{} for other arguments, roles or settings.",
                    if others == 1 { "" } else { "s" }
                ));
            }
        }
        let foreseen = if self.max_age <= 0 {
            Some(Refusal::from(Reason::NoAge))
        } else if !definitions::unchanged_for(area, self.snapshot) {
            Some(Refusal::from(Reason::DefinitionsChanged))
        } else {
            let last = area.functions().refusal(database, function.oid);
            last.filter(|last| !is_over(function, last))
        };
        let Some(refusal) = foreseen else { return };
        told.hint = refusal.reason.remedy().into();
        told.detail.push_str(&match refusal.reason {
            Reason::NoAge => " The result is not stored: the caller accepts no age.".into(),
            Reason::DefinitionsChanged => format!(
                " The result is not stored in this transaction: {}.",
                refusal.reason.meaning()
            ),
            reason if reason.blames_function() && compat::function_exists(refusal.relation) => {
                format!(
                    " The last result of this function was not stored ({}): {}. It called {}.",
                    reason.code(),
                    reason.meaning(),
                    naming::regprocedure(refusal.relation)
                )
            }
            reason => format!(
                " The last result of this function was not stored ({}): {}.",
                reason.code(),
                match naming::relation_name(refusal.relation) {
                    // Somebody else may have made the call.
                    Some(_) if !reads_all_stats(asker) && !may_read(asker, refusal.relation) => {
                        "it read what is not tracked".into()
                    }
                    Some(relation) => {
                        told.hint = untracked_remedy(refusal.relation, &relation);
                        format!("it read {relation}, which is not tracked")
                    }
                    None => reason.meaning().into(),
                }
            ),
        });
    }
}

/// What a function that is to be exact uses of the clock that is not in its keys, as far as can be seen.
fn by_clock(function: &CachedFunction) -> Option<Use> {
    if function.consistency != Consistency::Strict {
        return None;
    }
    let uses = clock::uses(function.base);
    match function.clock {
        None => uses.transaction.or(uses.statement),
        Some(_) => uses.beyond_key(),
    }
}

/// Whether a role may see what others do.
fn reads_all_stats(role: pg_sys::Oid) -> bool {
    // SAFETY: syscache lookups.
    unsafe { pg_sys::has_privs_of_role(role, pg_sys::ROLE_PG_READ_ALL_STATS.into()) }
}

/// Whether a role may read a relation, or part of it; not one that is gone.
fn may_read(role: pg_sys::Oid, relation: pg_sys::Oid) -> bool {
    const OK: pg_sys::AclResult::Type = pg_sys::AclResult::ACLCHECK_OK;
    const SELECT: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;
    // SAFETY: syscache lookups; the last two are of a relation that exists.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        schema != pg_sys::InvalidOid
            && pg_sys::pg_namespace_aclcheck(schema, role, pg_sys::ACL_USAGE as _) == OK
            && (pg_sys::pg_class_aclcheck(relation, role, SELECT) == OK
                || pg_sys::pg_attribute_aclcheck_all(
                    relation,
                    role,
                    SELECT,
                    pg_sys::AclMaskHow::ACLMASK_ANY,
                ) == OK)
    }
}

/// Whether the reason for a refusal is gone.
fn is_over(function: &CachedFunction, refusal: &Refusal) -> bool {
    match refusal.reason {
        Reason::NoAge
        | Reason::DefinitionsChanged
        | Reason::SettingsLearned
        | Reason::OthersPlan
        | Reason::CaughtError => true,
        Reason::Untracked => {
            let can_be = !matches!(
                relations::tracking(refusal.relation),
                relations::Tracking::Untracked | relations::Tracking::Never
            );
            can_be || function.consistency == Consistency::Ttl
        }
        reason => reason.is_bypass(),
    }
}

fn untracked_remedy(relation: pg_sys::Oid, name: &str) -> String {
    match relations::tracking(relation) {
        relations::Tracking::Never => format!(
            "Writes to {name} cannot be tracked: let the function not read it, or give \"consistency\": \"ttl\" if age alone decides."
        ),
        _ => format!("SELECT cache_track_table('{}');", name.replace('\'', "''")),
    }
}

/// How many results of a function memory has.
fn stored_results(area: Area, function: pg_sys::Oid) -> u64 {
    let database = compat::database().to_u32();
    walk::count(area, |head| {
        head.database == database && head.function == function.to_u32()
    })
}

/// What of the session is part of the key: roles, names of settings, and settings of formats that the session has changed.
fn session(function: &CachedFunction) -> Value {
    let mut session = Map::new();
    let settings = Settings::of(function);
    let given = settings.given();
    if settings != Settings::None || !given.is_empty() {
        session.insert("settings".into(), json!(given));
    }
    if settings != Settings::None {
        // SAFETY: variables of the backend.
        let (role, session_role) = unsafe { (server::GetUserId(), server::GetSessionUserId()) };
        session.insert("role".into(), json!(compat::role_name(role)));
        session.insert(
            "session_role".into(),
            json!(compat::role_name(session_role)),
        );
        if settings == Settings::All {
            session.insert("all_settings".into(), json!(true));
        }
    }
    let changed: Map<String, Value> = scope::FORMAT
        .iter()
        .filter_map(|name| {
            // SAFETY: names of settings that every server with this library has; C strings of the server, used at once.
            unsafe {
                let text = |pointer: *const std::ffi::c_char| {
                    (!pointer.is_null()).then(|| compat::text(pointer))
                };
                let present = text(pg_sys::GetConfigOption(name.as_ptr(), true, false))?;
                let normal = text(pg_sys::GetConfigOptionResetString(name.as_ptr()));
                (normal.as_ref() != Some(&present)).then(|| {
                    (
                        crate::encoding::from_server(name.to_bytes()),
                        json!(present),
                    )
                })
            }
        })
        .collect();
    if let Some(clock) = function.clock {
        session.insert(
            "clock".into(),
            json!({ clock.name(): clock.period().to_string() }),
        );
    }
    session.insert("formats".into(), Value::Object(changed));
    Value::Object(session)
}

fn sentence(meaning: &str) -> String {
    let mut chars = meaning.chars();
    let first: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    // A sentence may begin with the name of a setting.
    let first = if meaning.starts_with("pg_") || meaning.starts_with("session_") {
        meaning.chars().take(1).collect()
    } else {
        first
    };
    format!("{first}{}.", chars.as_str())
}
