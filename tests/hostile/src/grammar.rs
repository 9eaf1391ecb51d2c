//! Statements from templates. A template is a line of `moves/*.sql`; a word in angle brackets stands for something that is made up each time,
//! which may hold such words again.

use fastrand::Rng;

use crate::actor::{ACTORS, Actor};
use crate::ground::CALLS;

/// All templates, a statement each.
const MOVES: [&str; 5] = [
    include_str!("../moves/definitions.sql"),
    include_str!("../moves/functions.sql"),
    include_str!("../moves/data.sql"),
    include_str!("../moves/settings.sql"),
    include_str!("../moves/product.sql"),
];

/// So deep a template may hold others.
const DEPTH: u32 = 6;

const ODD: [&str; 9] = [
    "\\'); ALTER ROLE mallory SUPERUSER; --",
    "'); ALTER ROLE mallory SUPERUSER; --",
    "$$",
    "ä ö%s%n",
    "sixty-three bytes are the longest name that a server takes 1234",
    "a",
    "\\",
    "$1",
    "\"\"; DROP TABLE ground.t; --",
];
const TEXTS: [&str; 12] = [
    "''",
    "'x'",
    "'ground.secrets'",
    "NULL",
    "E'\\\\'",
    "$t$\\'); ALTER ROLE mallory SUPERUSER; --$t$",
    "repeat('long', 5000)",
    "'ü€𐍈'",
    "'SELECT ground.trap(''text'')'",
    "'shared'",
    "'*'",
    "'class.x.ttl'",
];
const TYPES: [&str; 14] = [
    "int",
    "text",
    "jsonb",
    "bigint",
    "text[]",
    "interval",
    "name",
    "regclass",
    "regprocedure",
    "oid",
    "boolean",
    "timestamptz",
    "bytea",
    "float8",
];
const INTERVALS: [&str; 8] = [
    "'1 second'",
    "'5 minutes'",
    "'0'",
    "'-1 second'",
    "'106742155 days'",
    "'300000 years'",
    "'178000000 years'",
    "NULL",
];
const JSON: [&str; 8] = [
    "'{}'",
    "'{\"ground.t\": {\"id\": \"$1\"}}'",
    "'{\"ground.vault\": {}}'",
    "'[1, null]'",
    "'null'",
    "('{\"<odd>\": {\"<odd>\": \"$1\"}}')",
    "(repeat('[', 900) || repeat(']', 900))::jsonb",
    "'{\"public.query_cache\": {}}'",
];
const BODIES: [&str; 8] = [
    "'{\"function\": \"<function>\"}'",
    "'{\"function\": \"<cached>\"}'",
    "'{\"function\": \"<function>\", \"scope\": \"shared\", \"ttl\": \"1 hour\"}'",
    "'{\"function\": \"<function>\", \"consistency\": \"ttl\", \"stale_while_revalidate\": \"1 minute\"}'",
    "'{\"function\": \"<function>\", \"tags\": [\"\\u0000\", \"$1\"], \"refresh_ahead\": \"40%\"}'",
    "'{\"function\": \"ground.secrets(int)\", \"scope\": \"shared\"}'",
    "(repeat('[', 20000))",
    "'{\"function\": \"pg_catalog.pg_sleep(float8)\"}'",
];
const VALUES: [&str; 12] = [
    "'on'",
    "'off'",
    "'0'",
    "'1'",
    "'-1'",
    "'100'",
    "'tenant 1'",
    "''",
    "'x'",
    "'DEFAULT'",
    "'1s'",
    "'mallory, public'",
];
const VOLATILITIES: [&str; 4] = [
    "STABLE",
    "IMMUTABLE",
    "VOLATILE",
    "STABLE PARALLEL SAFE STRICT",
];
const OTHER_TABLES: [&str; 12] = [
    "ground.vault",
    "ground.t",
    "ground.child",
    "ground.parent",
    "public.query_cache",
    "public.cache_values",
    "public.cache_trends",
    "public.cache_configuration",
    "pg_catalog.pg_class",
    "pg_catalog.pg_type",
    "pg_catalog.pg_authid",
    "pg_catalog.pg_inherits",
];

/// What the server has: read once, so that what a new version adds is tried too.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Names of all settings.
    pub settings: Vec<String>,
    /// Functions of the extension: name and types of the arguments.
    pub functions: Vec<(String, Vec<String>)>,
}

/// Makes statements for one actor at a time.
pub struct Grammar {
    templates: Vec<&'static str>,
    vocabulary: Vocabulary,
}

impl Grammar {
    /// A grammar over what the server has.
    pub fn new(vocabulary: Vocabulary) -> Self {
        let templates = MOVES
            .iter()
            .flat_map(|moves| moves.lines())
            .filter(|line| !line.is_empty() && !line.starts_with("--"))
            .collect();
        Self {
            templates,
            vocabulary,
        }
    }

    /// Number of templates.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// A statement of `actor`, and the number of its template.
    pub fn statement(&self, rng: &mut Rng, actor: &Actor) -> (usize, String) {
        let number = rng.usize(..self.templates.len());
        (number, self.fill(rng, actor, self.templates[number], 0))
    }

    /// Fills a template in.
    fn fill(&self, rng: &mut Rng, actor: &Actor, template: &str, depth: u32) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some(open) = rest.find('<') {
            text.push_str(&rest[..open]);
            rest = &rest[open..];
            let word = rest
                .find('>')
                .map(|close| &rest[1..close])
                .filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
            match word.and_then(|word| Some((word, self.word(rng, actor, word, depth)?))) {
                Some((word, made)) => {
                    text.push_str(&made);
                    rest = &rest[word.len() + 2..];
                }
                None => {
                    text.push('<');
                    rest = &rest[1..];
                }
            }
        }
        text.push_str(rest);
        text
    }

    /// What a word in angle brackets stands for; `None` if it is none of ours.
    fn word(&self, rng: &mut Rng, actor: &Actor, word: &str, depth: u32) -> Option<String> {
        let pick = |rng: &mut Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
        let made = match word {
            "name" => format!("f{}", rng.u8(..5)),
            "odd" => pick(rng, &ODD),
            "schema" => match rng.u8(..10) {
                0 => pick(
                    rng,
                    &["public", "ground", "pg_catalog", "query_cache_internal"],
                ),
                1 => "pg_temp".to_owned(),
                2 => ACTORS[rng.usize(..ACTORS.len())].schema.to_owned(),
                _ => actor.schema.to_owned(),
            },
            "own" => format!(
                "{}.t{}",
                self.word(rng, actor, "schema", depth)?,
                rng.u8(..4)
            ),
            "table" if rng.bool() => self.word(rng, actor, "own", depth)?,
            "table" => pick(rng, &OTHER_TABLES),
            "fname" => format!(
                "{}.f{}",
                self.word(rng, actor, "schema", depth)?,
                rng.u8(..5)
            ),
            "function" => match rng.u8(..6) {
                0 => pick(
                    rng,
                    &[
                        "ground.secrets(int)",
                        "ground.rows_of(int)",
                        "pg_catalog.now()",
                        "pg_catalog.random()",
                        "public.cache_stats()",
                    ],
                ),
                _ => format!("{}(int)", self.word(rng, actor, "fname", depth)?),
            },
            "cached" => match rng.u8(..3) {
                0 => "ground.secrets_cached(int,interval)".to_owned(),
                _ => format!(
                    "{}_cached(int,interval)",
                    self.word(rng, actor, "fname", depth)?
                ),
            },
            "groundcall" => CALLS[rng.usize(..CALLS.len())].replace("{}", "_cached"),
            "int" => match rng.u8(..8) {
                0 => pick(rng, &["2147483647", "-2147483648", "0", "-1"]),
                _ => rng.i32(0..30).to_string(),
            },
            "boolean" => rng.bool().to_string(),
            "role" => match rng.u8(..8) {
                0 => pick(
                    rng,
                    &["postgres", "owner", "pg_read_all_data", "pg_monitor"],
                ),
                1 => pick(rng, &["anon", "authenticated"]),
                _ => ACTORS[rng.usize(..ACTORS.len())].login.to_owned(),
            },
            "setting" => match rng.u8(..4) {
                0 => pick(
                    rng,
                    &[
                        "app.tenant",
                        "search_path",
                        "role",
                        "standard_conforming_strings",
                        "request.jwt.claims",
                    ],
                ),
                _ if self.vocabulary.settings.is_empty() => "work_mem".to_owned(),
                _ => self.vocabulary.settings[rng.usize(..self.vocabulary.settings.len())].clone(),
            },
            "value" => pick(rng, &VALUES),
            "text" => pick(rng, &TEXTS),
            "type" => pick(rng, &TYPES),
            "interval" => pick(rng, &INTERVALS),
            "json" => pick(rng, &JSON),
            "body" => pick(rng, &BODIES),
            "volatility" => pick(rng, &VOLATILITIES),
            "product" if self.vocabulary.functions.is_empty() => "cache_stats".to_owned(),
            "product" => {
                let (name, _) =
                    &self.vocabulary.functions[rng.usize(..self.vocabulary.functions.len())];
                name.rsplit('.').next().unwrap_or(name).to_owned()
            }
            "call" if self.vocabulary.functions.is_empty() => "public.cache_stats()".to_owned(),
            "call" => {
                let (name, types) =
                    &self.vocabulary.functions[rng.usize(..self.vocabulary.functions.len())];
                let arguments: Vec<_> = types.iter().map(|of| self.argument(rng, of)).collect();
                format!("{name}({})", arguments.join(", "))
            }
            _ => return None,
        };
        if depth >= DEPTH {
            return Some(made);
        }
        Some(self.fill(rng, actor, &made, depth + 1))
    }

    /// An argument of a type.
    fn argument(&self, rng: &mut Rng, of: &str) -> String {
        if rng.u8(..8) == 0 {
            return format!("NULL::{of}");
        }
        match of {
            "text" | "name" => format!("(<text>)::{of}"),
            "text[]" | "name[]" => format!("ARRAY[<text>, <text>]::{of}"),
            "jsonb" => "(<json>)::jsonb".to_owned(),
            "integer" | "bigint" | "double precision" | "smallint" => format!("(<int>)::{of}"),
            "interval" => "(<interval>)::interval".to_owned(),
            "boolean" => "<boolean>".to_owned(),
            "regclass" => "'<table>'::regclass".to_owned(),
            "regprocedure" => if rng.bool() {
                "'<cached>'::regprocedure"
            } else {
                "'<function>'::regprocedure"
            }
            .to_owned(),
            "bytea" => "'\\x00ff'::bytea".to_owned(),
            "oid" => "(<int>)::oid".to_owned(),
            _ => format!("NULL::{of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_left_over() {
        let grammar = Grammar::new(Vocabulary {
            settings: vec!["work_mem".into()],
            functions: vec![(
                "public.cache_set".into(),
                vec!["text".into(), "jsonb".into()],
            )],
        });
        let mut rng = Rng::with_seed(1);
        for template in &grammar.templates {
            let text = grammar.fill(&mut rng, &ACTORS[0], template, 0);
            for word in text.split('<').skip(1) {
                let word = word.split('>').next().unwrap_or_default();
                assert!(
                    word.is_empty() || !word.bytes().all(|b| b.is_ascii_lowercase()),
                    "{template}: {text}"
                );
            }
        }
    }

    #[test]
    fn a_seed_says_everything() {
        let grammar = Grammar::new(Vocabulary::default());
        let draw = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..100)
                .map(|_| grammar.statement(&mut rng, &ACTORS[1]).1)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
