//! The body of a cached function: JSON, checked strictly.

use crate::configuration::{self, names};
use crate::encoding;
use crate::error::Error;
use crate::store::lookup::MAX_DEPENDENCIES;
use pg_query_cache_clock::Unit;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whose results are kept apart from whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The owner says that the result is the same for everybody who may call the function.
    Shared,
    /// Per role, and per all that a session can set for itself.
    #[default]
    Role,
    /// Per role and per `request.jwt.…` settings; other settings of extensions do not matter.
    Claims,
}

/// What makes an entry right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The snapshot: every relation read is tracked.
    #[default]
    Strict,
    /// Age, and the tags given, alone.
    Ttl,
}

/// To which unit the time is part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The minute.
    Minute,
    /// The hour.
    Hour,
    /// The day.
    Day,
}

impl Clock {
    /// The unit.
    pub fn unit(self) -> Unit {
        match self {
            Clock::Minute => Unit::Minute,
            Clock::Hour => Unit::Hour,
            Clock::Day => Unit::Day,
        }
    }
}

/// When the base function is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// At CREATE FUNCTION, which records the dependency.
    #[default]
    Early,
    /// At the call, by the caller's search path.
    Late,
}

/// The keys of the body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The base function with its argument types, as `regprocedure` reads it.
    pub function: String,
    /// Time to live, as `interval` reads it.
    #[serde(default)]
    pub ttl: Option<String>,
    /// Class that gives the time to live if `ttl` does not.
    #[serde(default)]
    pub class: Option<String>,
    /// Relations read, each with its key columns and the argument (`$1` …) that holds the value: `{"t": {"column": "$1"}}`.
    #[serde(default)]
    pub depends_on: BTreeMap<String, BTreeMap<String, String>>,
    /// Tags of the user's own, for `invalidate_cache`. `$1` … stand for the arguments.
    #[serde(default)]
    pub tags: Vec<String>,
    /// See [`Scope`].
    #[serde(default)]
    pub scope: Scope,
    /// See [`Consistency`].
    #[serde(default)]
    pub consistency: Consistency,
    /// How long an entry is spared by eviction: 0 (default) to 3.
    #[serde(default)]
    pub priority: i64,
    /// See [`Binding`].
    #[serde(default)]
    pub binding: Binding,
    /// The last part of an entry's life, in which a hit has it computed anew: a share of the time to live ("20%"), or an interval.
    #[serde(default)]
    pub refresh_ahead: Option<String>,
    /// For how long after its time to live an entry is still served while it is computed anew. Only if age decides.
    #[serde(default)]
    pub stale_while_revalidate: Option<String>,
    /// The owner says that of the time the result depends only on so much ([`crate::call::period`]).
    #[serde(default)]
    pub clock: Option<Clock>,
    /// Functions for which the owner vouches: that a hit misses nothing by not calling them, and that what they return depends on their
    /// arguments and on tables alone. Each with its schema and the types of its arguments, as `regprocedure` shows it.
    #[serde(default)]
    pub trust: Vec<String>,
}

const KEYS: &str = "function, ttl, class, depends_on, tags, scope, consistency, priority, binding, refresh_ahead, stale_while_revalidate, clock, trust";

/// What a body is.
pub fn keys_hint() -> String {
    format!("The body is a JSON object with the keys {KEYS}.")
}

/// [`Body::refresh_ahead`], read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Not at all.
    No,
    /// So many per cent of the time to live.
    Share(i64),
    /// So many microseconds.
    Fixed(i64),
}

/// The largest share of an entry's life in which it is computed anew, in per cent.
pub const MOST_AHEAD: i64 = 50;

impl Body {
    /// Reads a body. What it says of other objects (function, relations, interval) is not checked here.
    pub fn parse(source: &str) -> Result<Self, Error> {
        // The view and the health report read all bodies, whoever has written them.
        if source.len() > MAX_BODY_BYTES {
            return Err(Error::InvalidBody(
                format!("the body has {} bytes", source.len()),
                format!("At most {MAX_BODY_BYTES} bytes are allowed."),
            ));
        }
        let source = encoding::resolved(source).map_err(|c| {
            Error::InvalidBody(
                format!(
                    "the encoding of the database has no character U+{:04X}",
                    c as u32
                ),
                "Use characters of the database's encoding.".into(),
            )
        })?;
        let body: Body = serde_json::from_str(&source)
            .map_err(|problem| Error::InvalidBody(wording(&problem), keys_hint()))?;
        if !body.function.contains('(') {
            return Err(Error::InvalidBody(
                format!("\"function\" is \"{}\"", body.function),
                "Name the base function with its argument types, for example \"f(integer)\"."
                    .into(),
            ));
        }
        if !(0..=pg_query_cache_eviction::MAX_CREDIT.into()).contains(&body.priority) {
            return Err(Error::InvalidBody(
                format!("\"priority\" is {}", body.priority),
                "The priority lies between 0 and 3.".into(),
            ));
        }
        if body.stale_while_revalidate.is_some() && body.consistency == Consistency::Strict {
            return Err(Error::InvalidBody(
                "\"stale_while_revalidate\" is given for a function that is exact".into(),
                "Results that are too old are served only where age decides: \"consistency\": \"ttl\".".into(),
            ));
        }
        if !names::is_class_name(body.class()) {
            return Err(Error::InvalidBody(
                format!(
                    "class \"{}\" does not exist",
                    names::shortened(body.class())
                ),
                "A name of a class has lower-case letters, digits and _.".into(),
            ));
        }
        if let Some(tag) = body
            .tags
            .iter()
            .find(|tag| tag.is_empty() || encoding::length(tag) > MAX_TAG_BYTES)
        {
            return Err(Error::InvalidBody(
                format!(
                    "tag \"{}\" is empty or longer than {MAX_TAG_BYTES} bytes",
                    tag.chars().take(64).collect::<String>()
                ),
                "Give each tag a short name.".into(),
            ));
        }
        if let Some(function) = body.trust.iter().find(|one| !is_qualified(one)) {
            return Err(Error::InvalidBody(
                format!(
                    "\"{}\" in \"trust\" is not a function with its schema",
                    function.chars().take(64).collect::<String>()
                ),
                "Name each with its schema and the types of its arguments, for example \"public.f(integer)\"."
                    .into(),
            ));
        }
        if body.trust.len() > MAX_TRUSTED {
            return Err(Error::InvalidBody(
                format!("there are {} functions in \"trust\"", body.trust.len()),
                format!("At most {MAX_TRUSTED} are allowed."),
            ));
        }
        if body.tags.len() > MAX_TAGS {
            return Err(Error::InvalidBody(
                format!("there are {} tags", body.tags.len()),
                format!("At most {MAX_TAGS} tags are allowed."),
            ));
        }
        if body.depends_on.len() > MAX_RELATIONS {
            return Err(Error::InvalidBody(
                format!(
                    "there are {} relations in \"depends_on\"",
                    body.depends_on.len()
                ),
                format!("At most {MAX_RELATIONS} are allowed."),
            ));
        }
        for (relation, columns) in &body.depends_on {
            for (column, argument) in columns {
                argument_number(argument).ok_or_else(|| {
                    Error::InvalidBody(
                        format!("\"{argument}\" of column \"{column}\" of \"{relation}\" is not an argument"),
                        "Key columns are compared with an argument of the function: {\"table\": {\"column\": \"$1\"}}.".into(),
                    )
                })?;
            }
        }
        Ok(body)
    }

    /// The class, the default one if none is named.
    pub fn class(&self) -> &str {
        self.class.as_deref().unwrap_or(names::DEFAULT_CLASS)
    }

    /// Checks that the class exists. Where bodies are not to be checked it need not: a dump brings functions before the configuration.
    pub fn check_class(&self) -> Result<(), Error> {
        let class = self.class();
        if names::default_ttl_us(class).is_some() {
            return Ok(());
        }
        match configuration::classes() {
            Some(classes) if !classes.iter().any(|one| one == class) => Err(Error::InvalidBody(
                format!("class \"{class}\" does not exist"),
                format!(
                    "The classes are {}. SELECT set_cache_config('class.{class}.ttl', '…'); makes another one.",
                    classes.join(", ")
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// What the parser says, in words of JSON instead of Rust. A position helps only where the text itself is no JSON.
fn wording(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    if !problem.is_data() {
        return text;
    }
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    if text.contains("struct Body") {
        return "the body is not an object".into();
    }
    let text = match text.split_once(", expected one of") {
        // The hint lists the keys.
        Some((unknown, _)) if text.starts_with("unknown field") => unknown,
        _ => text,
    };
    [
        ("`", "\""),
        ("field", "key"),
        ("unknown variant", "unknown value"),
        ("a sequence", "an array"),
        ("sequence", "array"),
        ("a map", "an object"),
        ("map", "object"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (rust, json)| {
        text.replace(rust, json)
    })
}

/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 255;
/// Most bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Most relations in `depends_on`: a result depends on no more.
pub const MAX_RELATIONS: usize = MAX_DEPENDENCIES;
/// Most functions that an owner vouches for.
pub const MAX_TRUSTED: usize = 64;
/// Most tags of a function.
pub const MAX_TAGS: usize = 16;

/// Whether a text looks like a function with its schema and its arguments.
fn is_qualified(function: &str) -> bool {
    super::signature::is_qualified(function) && function.ends_with(')')
}

/// The index, from 0, of the argument that `$n` names.
pub fn argument_number(text: &str) -> Option<usize> {
    text.strip_prefix('$')?
        .parse::<usize>()
        .ok()?
        .checked_sub(1)
}
