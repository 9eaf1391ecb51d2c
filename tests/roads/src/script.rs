//! A script: all that comes of a seed.

use std::fmt;

use fastrand::Rng;

use crate::road::Road;
use crate::vocabulary::Vocabulary;

/// Sessions that take turns.
pub const SESSIONS: usize = 3;

/// What they are called in a printed script.
const LETTERS: [char; SESSIONS] = ['A', 'B', 'C'];

/// A statement of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which session.
    pub session: usize,
    /// What it does.
    pub action: Action,
}

/// What a session does. In all texts `{}` is where the name of a cached function goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something else than asking; compared with what the other server says.
    Say(String),
    /// Only on the server with the cache, and not compared.
    Here(String),
    /// Asks cached functions. If `own`, then the functions themselves at once.
    Ask { query: String, own: bool },
    /// Both servers stop like in a crash and start again.
    Crash,
}

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it came from.
    pub seed: u64,
    /// The roads that it takes.
    pub roads: Vec<&'static str>,
    /// Statements that make its world; those that begin with `@` only where the cache is.
    pub world: Vec<String>,
    /// What the sessions do, in this order.
    pub steps: Vec<Step>,
    /// What new sessions ask in the end.
    pub last: Vec<String>,
    /// The other server judges too.
    pub other: bool,
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64, roads: &[Road], common: &Road, vocabulary: &Vocabulary) -> Self {
        let mut rng = Rng::with_seed(seed);
        // In turn, so that a short run takes all of them.
        let main = &roads[(seed % roads.len() as u64) as usize];
        let mut taken = vec![main];
        if roads.len() > 1 && rng.u8(..10) < 3 {
            let second = &roads[rng.usize(..roads.len())];
            if second.name != main.name {
                taken.push(second);
            }
        }
        let fill = |rng: &mut Rng, text: &str| vocabulary.fill(rng, text);
        let any = |rng: &mut Rng, of: &[&str]| {
            let one = of[rng.usize(..of.len())];
            vocabulary.fill(rng, one)
        };
        let world = taken
            .iter()
            .flat_map(|road| &road.world)
            .map(|line| fill(&mut rng, line))
            .collect();
        // A few calls, each asked often: only what was asked before can be a hit.
        let asked: Vec<String> = (0..rng.usize(2..6))
            .map(|_| {
                let road = taken[rng.usize(..taken.len())];
                query(&any(&mut rng, &road.calls))
            })
            .collect();
        let mut steps = Vec::new();
        let mut session = 0;
        for _ in 0..rng.usize(10..40) {
            // What a session does rests on what it did before: often the same one goes on.
            if rng.u8(..5) < 3 {
                session = rng.usize(..SESSIONS);
            }
            let mut push = |action| steps.push(Step { session, action });
            match rng.u8(..20) {
                0..=8 => push(Action::Ask {
                    query: asked[rng.usize(..asked.len())].clone(),
                    own: rng.u8(..3) == 0,
                }),
                // The function itself: a session that has run it is another than one that has not.
                9 | 10 => push(Action::Say(
                    asked[rng.usize(..asked.len())].replace("{}", ""),
                )),
                11 | 12 => actions(&any(&mut rng, &common.moves)).for_each(push),
                _ => {
                    let road = taken[rng.usize(..taken.len())];
                    actions(&any(&mut rng, &road.moves)).for_each(push);
                }
            }
        }
        Self {
            seed,
            roads: taken.iter().map(|road| road.name).collect(),
            world,
            steps,
            last: asked,
            other: taken.iter().all(|road| !road.alone),
        }
    }
}

fn query(call: &str) -> String {
    if call.starts_with("SELECT ") || call.starts_with("WITH ") {
        call.to_owned()
    } else {
        format!("SELECT {call}")
    }
}

/// The steps of a move.
fn actions(text: &str) -> impl Iterator<Item = Action> + '_ {
    text.split(" ;; ").map(action)
}

fn action(text: &str) -> Action {
    match (text, text.strip_prefix('@')) {
        ("CRASH", _) => Action::Crash,
        (_, Some(here)) => Action::Here(here.to_owned()),
        _ => Action::Say(text.to_owned()),
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- seed {}, {}", self.seed, self.roads.join(" and "))?;
        for line in &self.world {
            writeln!(
                f,
                "   {};",
                line.trim_start_matches('@').replace("{}", "_cached")
            )?;
        }
        for step in &self.steps {
            let text = match &step.action {
                Action::Say(text) => text.replace("{}", "_cached"),
                Action::Here(text) => text.clone(),
                Action::Ask { query, own: false } => query.replace("{}", "_cached"),
                Action::Ask { query, own: true } => {
                    format!(
                        "{}; {}",
                        query.replace("{}", "_cached"),
                        query.replace("{}", "")
                    )
                }
                Action::Crash => {
                    writeln!(f, "-- immediate stop, start")?;
                    continue;
                }
            };
            writeln!(f, "{}: {text};", LETTERS[step.session])?;
        }
        Ok(())
    }
}
