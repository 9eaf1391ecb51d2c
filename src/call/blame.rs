//! Of the last writes to what a call depends on: which stands in the way, who it was, and what to do about it, in words.

#![allow(unsafe_code)]

use super::advice::Finding;
use super::explain::Explanation;
use super::outcome::Reason;
use crate::dependencies::attribution::{Attribution, Kind, Writer};
use crate::naming;
use crate::validity::slots::Listing;
use crate::validity::view::own_xid;
use crate::validity::writers::{Operation, State};
use pgrx::pg_sys;
use serde_json::{Map, Value, json};

/// Names of what a result depends on, the most telling first; what has no name is counted.
pub fn tags(attributions: &[Attribution]) -> Vec<String> {
    let mut names: Vec<_> = attributions.iter().filter_map(|a| a.tag.clone()).collect();
    names.sort_by(|a, b| (a.kind, &a.text).cmp(&(b.kind, &b.text)));
    let unnamed = attributions.len() - names.len();
    let mut tags: Vec<String> = names.into_iter().map(|name| name.text).collect();
    if unnamed > 0 {
        tags.push(format!(
            "{unnamed} more without a name here: {}",
            "a key or tag of another function's call, or something dropped since"
        ));
    }
    tags
}

impl Explanation {
    /// Says who wrote last, and which dependency stands in the way.
    pub(super) fn blame(
        &mut self,
        finding: Finding,
        attributions: &[Attribution],
        moved: &[u32],
        asker: pg_sys::Oid,
    ) {
        // SAFETY: a variable of the backend.
        let own_xid = unsafe { own_xid() };
        let latest = |wanted: &dyn Fn(&Writer) -> bool| {
            attributions
                .iter()
                .filter(|a| moved.is_empty() || moved.contains(&a.slot))
                .flat_map(|a| a.writers.iter().map(move |writer| (a, writer)))
                .filter(|(_, writer)| wanted(writer))
                .max_by_key(|(_, writer)| (writer.record.at, writer.record.xid))
        };
        let own = || latest(&|writer| writer.record.xid == own_xid);
        let last = || latest(&Writer::was_last);
        let in_vain = || latest(&Writer::was_last_in_vain);
        let running = || latest(&|writer| writer.state == State::InProgress);
        let unseen = || latest(&|w| w.state == State::Committed && w.listing == Listing::Pending);
        let chosen = match finding {
            Finding::Invalidated => last().or_else(in_vain),
            Finding::Not(Reason::OwnWrites) => own(),
            Finding::Not(Reason::OldSnapshot) => unseen().or_else(last),
            Finding::Not(Reason::Crowded) => running().or_else(last),
            // Nothing was looked for.
            _ if finding.kind() == "bypass" => None,
            _ => running().or_else(unseen).or_else(last),
        };
        self.writer = chosen.map(|(attribution, writer)| seen_by(asker, attribution, writer));
        match finding {
            Finding::Invalidated => {
                let others = moved.len() - usize::from(chosen.is_some()).min(moved.len());
                let what = match chosen {
                    Some((attribution, writer)) => {
                        self.hint = remedy_after(attribution, writer);
                        in_words(attribution, writer) + &and_others(others)
                    }
                    None => {
                        let named = attributions.iter().filter(|a| moved.contains(&a.slot));
                        let names: Vec<_> = named.map(name_of).collect();
                        format!("{}; by whom is not known any more", names.join(", "))
                    }
                };
                self.detail = format!("{} {what}.", self.detail.replace("since.", "since:"));
            }
            Finding::Not(Reason::OwnWrites | Reason::OldSnapshot | Reason::Crowded) => {
                if let Some((attribution, writer)) = chosen {
                    self.detail.pop();
                    self.detail = format!("{}: {}.", self.detail, in_words(attribution, writer));
                }
            }
            Finding::Not(Reason::Quarantined) => {
                let name = naming::regprocedure_qualified(self.function);
                self.hint = self.hint.replace('…', &name.replace('\'', "''"));
            }
            Finding::Valid => {
                if let Some((attribution, writer)) = running() {
                    self.detail = format!(
                        "{} A transaction in progress has written {}: whoever sees it committed gets a new result.",
                        self.detail,
                        in_words(attribution, writer)
                    );
                }
            }
            _ => (),
        }
    }
}

fn name_of(attribution: &Attribution) -> String {
    match &attribution.tag {
        Some(name) => name.text.clone(),
        None => "something without a name here".into(),
    }
}

/// What was written, and how: "public.orders.customer = 7 (INSERT on public.orders)".
fn in_words(attribution: &Attribution, writer: &Writer) -> String {
    let shared = attribution
        .tag
        .as_ref()
        .is_some_and(|name| name.is_foreign_to(writer));
    format!(
        "{} ({}{})",
        name_of(attribution),
        writer.act(),
        if shared {
            ", which shares its validity slot"
        } else {
            ""
        }
    )
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ", and 1 other dependency".into(),
        _ => format!(", and {count} other dependencies"),
    }
}

/// What to do about an invalidation, by what was invalidated.
fn remedy_after(attribution: &Attribution, writer: &Writer) -> String {
    let kind = attribution.tag.as_ref().map(|name| name.kind);
    let anew = "Nothing to do: the next call computes it anew.";
    match (kind, writer.record.act.operation) {
        (Some(Kind::Relation), Operation::Insert | Operation::Update | Operation::Delete) => {
            Finding::Invalidated.remedy().into()
        }
        (Some(Kind::Definitions | Kind::Roles), Operation::Command(_)) => format!(
            "{anew} Commands that change definitions empty the cache of their database: put those of a migration into one transaction."
        ),
        _ => anew.into(),
    }
}

/// A writer as `asker` may see it: everybody may know that a relation was written, and when; by whom, as in `pg_stat_activity`, who
/// has the privileges of that role or reads all statistics.
fn seen_by(asker: pg_sys::Oid, attribution: &Attribution, writer: &Writer) -> Value {
    // SAFETY: syscache lookups.
    let all = unsafe {
        pg_sys::has_privs_of_role(asker, pg_sys::ROLE_PG_READ_ALL_STATS.into())
            || pg_sys::has_privs_of_role(asker, writer.record.role)
    };
    let mut fields = Map::new();
    let mut field = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.into(), value);
        }
    };
    field("tag", attribution.tag.as_ref().map(|name| json!(name.text)));
    field("operation", Some(json!(writer.record.act.operation.name())));
    field("relation", writer.relation().map(|name| json!(name)));
    field("at", writer.at().map(|at| json!(at)));
    field("state", Some(json!(writer.state.name())));
    if writer.record.act.applied {
        field("applied", Some(json!(true)));
    }
    if all {
        field("role", Some(json!(writer.role())));
        field("xid", Some(json!(writer.record.xid)));
        field("pid", Some(json!(writer.record.pid)));
    }
    Value::Object(fields)
}
