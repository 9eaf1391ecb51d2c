//! Roads, as the files of `roads/` describe them. A file has sections, each begun by a comment of one word:
//!
//! * `-- world`: statements that make what the road needs, run once by a superuser
//! * `-- calls`: what is asked: an expression, or a whole query
//! * `-- moves`: what else the sessions do
//! * `-- alone`: the other server cannot judge, because answers hold what no two servers have alike (oids, files)
//!
//! A line is a statement, or several steps of one session with ` ;; ` between them. `{}` is where the name of a cached function goes on (`_cached`, or nothing where the function itself is asked);
//! `{a|b|c}` is one of these; a word in angle brackets is made up (`vocabulary`); what follows `@` is for the server with the cache only;
//! `CRASH` stops both servers like a crash and starts them again.

/// The names of all roads, and what their files say.
const ROADS: [(&str, &str); 10] = [
    ("inheritance", include_str!("../roads/inheritance.sql")),
    ("errors", include_str!("../roads/errors.sql")),
    ("settings", include_str!("../roads/settings.sql")),
    ("builtins", include_str!("../roads/builtins.sql")),
    ("crash", include_str!("../roads/crash.sql")),
    ("lazy", include_str!("../roads/lazy.sql")),
    ("names", include_str!("../roads/names.sql")),
    ("defaults", include_str!("../roads/defaults.sql")),
    ("renames", include_str!("../roads/renames.sql")),
    ("compiled", include_str!("../roads/compiled.sql")),
];

/// Moves that every script may make.
const COMMON: &str = include_str!("../roads/common.sql");

/// A road.
#[derive(Clone, Debug, Default)]
pub struct Road {
    /// Its name.
    pub name: &'static str,
    /// Statements that make its world.
    pub world: Vec<&'static str>,
    /// What is asked.
    pub calls: Vec<&'static str>,
    /// What else is done.
    pub moves: Vec<&'static str>,
    /// The other server cannot judge.
    pub alone: bool,
}

/// The names of all roads.
pub fn names() -> Vec<&'static str> {
    ROADS.iter().map(|(name, _)| *name).collect()
}

/// The roads with these names; all if there is none.
pub fn roads(only: &[String]) -> Vec<Road> {
    ROADS
        .iter()
        .filter(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name))
        .map(|(name, text)| read(name, text))
        .collect()
}

/// What every script may do.
pub fn common() -> Road {
    read("common", COMMON)
}

fn read(name: &'static str, text: &'static str) -> Road {
    let mut road = Road {
        name,
        ..Road::default()
    };
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line {
            "-- alone" => road.alone = true,
            "-- world" | "-- calls" | "-- moves" => section = line,
            _ if line.starts_with("--") => {}
            _ => match section {
                "-- world" => road.world.push(line),
                "-- calls" => road.calls.push(line),
                _ => road.moves.push(line),
            },
        }
    }
    road
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_road_has_a_world_calls_and_moves() {
        for road in roads(&[]) {
            assert!(!road.world.is_empty(), "{}", road.name);
            assert!(!road.moves.is_empty(), "{}", road.name);
            assert!(
                road.calls.iter().any(|call| call.contains("{}")),
                "{}",
                road.name
            );
        }
        assert!(!common().moves.is_empty());
    }
}
