//! Runs a script and judges.
//!
//! Two judges: the function itself, asked in the same session behind the cached one (`own`), and the other server, where the same was
//! done without a cache. The other one has to go as soon as the two servers have parted: a hit takes no lock, so that a lock may be had
//! here and not there, and a timeout may strike one of them. The first one stays.
//!
//! A session goes on with names that it has looked up for a plan, after a type has been renamed say, and with what PL/pgSQL has compiled.
//! Results that are stored are not made of that. A difference therefore counts only if it is still there when the session has thrown its
//! plans away, and in a new session with the same settings, if the old one has no transaction and no temporary objects.
//!
//! What a function answers by chance says so ([`BY_CHANCE`]); nobody is judged by it, and nobody may be served it where the function
//! itself would not say it.

use std::fmt;

use anyhow::{Context, Result};

use crate::script::{Action, SESSIONS, Script};
use crate::servers::{Outcome, Server, execute};

/// What a function answers where it was a lock or a timeout that made the answer.
const BY_CHANCE: &str = "by chance";

/// SQLSTATE classes of errors that strike one of two servers: a lock, a timeout, a deadlock, too little of something. Then they part.
const PARTING: [&str; 6] = ["55", "57", "40", "53", "54", "58"];

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// At which step; behind the last one if it is found in the end.
    pub step: usize,
    /// What was asked, and what came of it.
    pub text: String,
    /// What kind it is: while a script is made shorter it must stay.
    pub kind: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What running a script has brought.
#[derive(Debug, Default)]
pub struct Played {
    /// The first difference.
    pub difference: Option<Difference>,
    /// Answers that the function itself has judged.
    pub by_own: u64,
    /// Answers that the other server has judged.
    pub by_other: u64,
    /// Answers of functions that were those of a plan that the session had kept.
    pub old_plans: u64,
    /// The servers have parted.
    pub parted: bool,
    /// Why there was no world to run it in.
    pub no_world: Option<String>,
}

/// The two servers.
pub struct Pair {
    /// The one with the cache.
    pub here: Server,
    /// The one without.
    pub there: Server,
}

impl Pair {
    /// Two new servers.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self {
            here: Server::new(&format!("{name}-cache"), true)?,
            there: Server::new(&format!("{name}-plain"), false)?,
        })
    }

    /// Runs a script until it shows a difference.
    pub fn play(&mut self, script: &Script) -> Result<Played> {
        let mut played = Played {
            parted: !script.other,
            ..Played::default()
        };
        for server in [&mut self.here, &mut self.there] {
            if !server.cached && !script.other {
                continue;
            }
            if let Err(why) = server.begin(&script.world, SESSIONS)? {
                played.no_world = Some(why);
                return Ok(played);
            }
        }
        for (number, step) in script.steps.iter().enumerate() {
            let found = match &step.action {
                Action::Crash => {
                    self.here.crash()?;
                    if !played.parted {
                        self.there.crash()?;
                    }
                    None
                }
                Action::Here(text) => {
                    // An error may have ended a transaction here and not there.
                    if !matches!(self.here.say(step.session, text), Outcome::Rows(_)) {
                        played.parted = true;
                    }
                    None
                }
                Action::Say(text) => self.say(&mut played, step.session, text),
                Action::Ask { query, own } => self.ask(&mut played, step.session, query, *own),
            };
            if let Some((kind, text)) = found {
                played.difference = Some(Difference {
                    step: number,
                    text,
                    kind,
                });
                return Ok(played);
            }
        }
        played.difference = self.in_the_end(script, &mut played)?;
        Ok(played)
    }

    fn say(&mut self, played: &mut Played, session: usize, text: &str) -> Option<(String, String)> {
        let here = self.here.say(session, &self.here.text(text));
        if played.parted {
            return gone(text, &here);
        }
        let there = self.there.say(session, &self.there.text(text));
        let found = self.other_judges(played, text, &here, &there);
        let asks = text.starts_with("SELECT") || text.starts_with("BEGIN; SELECT");
        // A cached call has thrown plans away here that the other server has kept.
        if found.is_some() && asks && self.is_of_old(played, session, text, &here) {
            played.old_plans += 1;
            return None;
        }
        found
    }

    fn ask(
        &mut self,
        played: &mut Played,
        session: usize,
        query: &str,
        own: bool,
    ) -> Option<(String, String)> {
        let plain = query.replace("{}", "");
        let here = self.here.say(session, &query.replace("{}", "_cached"));
        let mut found = None;
        if own || played.parted {
            found = own_judges(played, query, &here, &mut || self.here.say(session, &plain));
        }
        if found.is_none() && !played.parted {
            let there = self.there.say(session, &plain);
            played.by_other += 1;
            found = self.other_judges(played, query, &here, &there);
        }
        if found.is_some() && self.is_of_old(played, session, &plain, &here) {
            played.old_plans += 1;
            return None;
        }
        found
    }

    /// Whether the function itself answers otherwise only because of what the session has kept: a plan with names that it has looked up,
    /// or a body that it has compiled.
    fn is_of_old(
        &mut self,
        played: &Played,
        session: usize,
        plain: &str,
        cached: &Outcome,
    ) -> bool {
        self.here.say(session, "DISCARD PLANS");
        let mut anew = self.here.say(session, plain);
        if !played.parted {
            self.there.say(session, "DISCARD PLANS");
            anew = self.there.say(session, plain);
        }
        anew == *cached || self.here.asked_anew(session, plain).as_ref() == Some(cached)
    }

    fn other_judges(
        &mut self,
        played: &mut Played,
        text: &str,
        here: &Outcome,
        there: &Outcome,
    ) -> Option<(String, String)> {
        if here == there {
            return None;
        }
        let parting = |outcome: &Outcome| {
            PARTING
                .iter()
                .any(|class| outcome.state().starts_with(class))
        };
        if parting(here) || parting(there) || by_chance(here) || by_chance(there) {
            played.parted = true;
            return None;
        }
        different("the server without the cache", text, here, there)
    }

    /// New sessions ask everything once more when nobody else is there: one as it comes, and one with the settings of each of the others.
    fn in_the_end(&mut self, script: &Script, played: &mut Played) -> Result<Option<Difference>> {
        let mut settings = vec![Vec::new()];
        for session in 0..SESSIONS {
            self.here.say(session, "ROLLBACK");
            if !played.parted {
                self.there.say(session, "ROLLBACK");
            }
            let of_session = self.here.settings_of(session);
            if !settings.contains(&of_session) {
                settings.push(of_session);
            }
        }
        for settings in settings {
            if let Some((kind, text)) = self.ask_anew(script, played, &settings)? {
                let with = match settings.len() {
                    0 => String::new(),
                    _ => format!(" after {}", settings.join("; ")),
                };
                return Ok(Some(Difference {
                    step: script.steps.len(),
                    text: format!("in the end, a new session{with}: {text}"),
                    kind,
                }));
            }
        }
        Ok(self.here.alarms().first().map(|line| Difference {
            step: script.steps.len(),
            text: format!("the log says {line}"),
            kind: "alarm".to_owned(),
        }))
    }

    fn ask_anew(
        &mut self,
        script: &Script,
        played: &mut Played,
        settings: &[String],
    ) -> Result<Option<(String, String)>> {
        let mut here = self.here.session_with(settings)?;
        let mut there = None;
        if !played.parted {
            there = Some(self.there.session_with(settings)?);
        }
        for query in &script.last {
            let cached = execute(&mut here, &query.replace("{}", "_cached"));
            let plain = query.replace("{}", "");
            if let Some(there) = &mut there {
                let other = execute(there, &plain);
                played.by_other += 1;
                if let Some(found) = self.other_judges(played, query, &cached, &other) {
                    return Ok(Some(found));
                }
            }
            let asked = &mut || execute(&mut here, &plain);
            if let Some(found) = own_judges(played, query, &cached, asked) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Hits of the server with the cache so far.
    pub fn hits(&self) -> Result<i64> {
        self.here.hits().context("hits")
    }
}

/// Asks the function itself, twice: one that does not agree with itself judges nobody.
fn own_judges(
    played: &mut Played,
    query: &str,
    cached: &Outcome,
    ask: &mut dyn FnMut() -> Outcome,
) -> Option<(String, String)> {
    let found = gone(query, cached);
    if found.is_some() {
        return found;
    }
    let own = ask();
    // The transaction has failed, by the cached function's error or before.
    if own.state() == "25P02" {
        return None;
    }
    played.by_own += 1;
    let chance = |outcome: &Outcome| {
        by_chance(outcome)
            || PARTING
                .iter()
                .any(|class| outcome.state().starts_with(class))
    };
    if own == *cached || chance(&own) || ask() != own {
        return None;
    }
    // A timeout may have struck the cached call alone.
    if chance(cached) && !by_chance(cached) {
        return None;
    }
    different("the function itself", query, cached, &own)
}

fn by_chance(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rows(rows) if rows.iter().any(|row| row.contains(BY_CHANCE)))
}

fn gone(text: &str, outcome: &Outcome) -> Option<(String, String)> {
    match outcome {
        Outcome::Gone(why) => Some((
            "gone".to_owned(),
            format!("{text}: the session ended: {why}"),
        )),
        Outcome::Rows(_) | Outcome::Error(_) => None,
    }
}

fn different(judge: &str, text: &str, here: &Outcome, there: &Outcome) -> Option<(String, String)> {
    let kind = match (here, there) {
        (Outcome::Rows(_), Outcome::Rows(_)) => "wrong answer".to_owned(),
        _ => format!("{} for {}", short(here), short(there)),
    };
    Some((
        kind,
        format!(
            "{}: {here:?}; {judge}: {there:?}",
            text.replace("{}", "_cached")
        ),
    ))
}

fn short(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rows(_) => "rows",
        Outcome::Error(state) => state,
        Outcome::Gone(_) => "gone",
    }
}
