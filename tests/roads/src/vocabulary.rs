//! The words that are made up: `<k>` a key, `<v>` a number, `<set>` a command that sets any of the server's settings to a value that it
//! takes, `<setting>` the name of one, `<builtin>` a call of any function that the server came with.

use anyhow::Result;
use fastrand::Rng;
use postgres::Client;

/// How the extension's own settings begin.
const OURS: &str = "pg_query_cache.";

/// Settings that decide whether a script can run at all, and those that only fill the log.
const LEFT_ALONE: [&str; 10] = [
    "lock_timeout",
    "statement_timeout",
    "idle_",
    "client_encoding",
    "exit_on_error",
    "temp_buffers",
    "log_",
    "trace_",
    "debug_print",
    "backtrace_functions",
];

/// Values of settings that are texts, by the beginning of their names.
const TEXTS: [(&str, &[&str]); 8] = [
    (
        "DateStyle",
        &["ISO, MDY", "SQL, DMY", "German", "Postgres, YMD"],
    ),
    (
        "TimeZone",
        &["UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin"],
    ),
    ("timezone_abbreviations", &["Default", "Australia", "India"]),
    (
        "search_path",
        &[
            "one, public",
            "two, one, public",
            "public",
            "two, pg_catalog, one",
        ],
    ),
    ("lc_", &["C", "POSIX", "C.UTF-8"]),
    (
        "default_text_search_config",
        &["simple", "english", "german"],
    ),
    ("application_name", &["", "x", "another"]),
    ("default_tablespace", &["", "pg_default"]),
];

/// Built-in functions that would end sessions, stop the server or the script, write files, or look at everything.
const NOT_CALLED: [&str; 24] = [
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_sleep",
    "pg_rotate_logfile",
    "pg_reload_conf",
    "pg_promote",
    "pg_switch_wal",
    "pg_backup_",
    "pg_wal_",
    "pg_create_",
    "pg_drop_replication_slot",
    "pg_copy_",
    "pg_replication_",
    "pg_log_",
    "pg_import_system_collations",
    "pg_stop_making_pinned_objects",
    "pg_extension_config_dump",
    "binary_upgrade_",
    "lo_",
    "lowrite",
    "loread",
    "database_to_",
    "pg_stat_reset",
    // It asks the operating system about every zone.
    "pg_timezone_names",
];

/// Functions whose result is that of a moment: only its age bounds it (docs/consistency.md).
const CLOCKS: [&str; 6] = [
    "now()",
    "transaction_timestamp()",
    "statement_timestamp()",
    "age(timestamp without time zone)",
    "age(timestamp with time zone)",
    "pg_timezone_abbrevs()",
];

/// Values of types, by name.
const VALUES: [(&str, &[&str]); 34] = [
    (
        "text",
        &[
            "'one.things'",
            "'x'",
            "'work_mem'",
            "'one'",
            "'select 1'",
            "'2'",
            "'UTC'",
        ],
    ),
    ("name", &["'things'", "'one'", "'postgres'"]),
    ("integer", &["0", "1", "2", "7"]),
    ("bigint", &["0", "1", "3", "720"]),
    ("smallint", &["0", "1", "2"]),
    ("numeric", &["1.5", "0", "7"]),
    ("real", &["1.25", "0"]),
    ("double precision", &["0.5", "3"]),
    ("boolean", &["true", "false"]),
    (
        "oid",
        &[
            "'one.things'::regclass",
            "'one.things_id'::regclass",
            "(SELECT oid FROM pg_database WHERE datname = current_database())",
            "10",
            "'one.p0()'::regprocedure",
            "1663",
            "'pg_class'::regclass",
        ],
    ),
    (
        "regclass",
        &[
            "'one.things'",
            "'one.things_id'",
            "'one.numbers'",
            "'pg_class'",
        ],
    ),
    ("regprocedure", &["'one.p0()'", "'now()'"]),
    ("regproc", &["'now'"]),
    ("regtype", &["'integer'", "'one.things'"]),
    ("regnamespace", &["'one'"]),
    ("regrole", &["'postgres'"]),
    ("jsonb", &["'{\"a\": [1, 2]}'", "'3'"]),
    ("json", &["'{\"a\": [1, 2]}'", "'[1]'"]),
    ("jsonpath", &["'$.a'"]),
    ("xid", &["(SELECT xmin FROM one.things LIMIT 1)", "'3'"]),
    ("xid8", &["'3'", "'800'"]),
    ("tid", &["'(0,1)'"]),
    ("pg_lsn", &["'0/1'"]),
    ("txid_snapshot", &["'10:20:'"]),
    ("pg_snapshot", &["'10:20:'"]),
    ("timestamp with time zone", &["'2024-02-29 12:00+00'"]),
    ("timestamp without time zone", &["'2024-02-29 12:00'"]),
    ("date", &["'2024-02-29'"]),
    ("time without time zone", &["'12:34'"]),
    ("time with time zone", &["'12:34+02'"]),
    ("interval", &["'1 day 2 hours'"]),
    ("bytea", &["'\\x00ff'", "'abc'"]),
    ("\"char\"", &["'r'", "'x'"]),
    ("inet", &["'192.168.0.1/24'"]),
];

/// A setting.
#[derive(Clone, Debug)]
struct Setting {
    name: String,
    values: Vec<String>,
}

/// What the server has, read from its catalogs: what a new version adds is tried too.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    settings: Vec<Setting>,
    /// Built-in functions: name and types of arguments.
    builtins: Vec<(String, Vec<String>)>,
}

impl Vocabulary {
    /// Reads it.
    pub fn read(client: &mut Client) -> Result<Self> {
        let settings = client.query(
            "SELECT name, vartype, enumvals, min_val::float8, max_val::float8, boot_val FROM pg_settings
             WHERE context IN ('user', 'superuser') AND NOT name ^@ ANY ($1) ORDER BY name",
            &[&LEFT_ALONE.as_slice()],
        )?;
        let settings = settings
            .iter()
            .map(|row| {
                let (name, vartype): (String, String) = (row.get(0), row.get(1));
                let boot: Option<String> = row.get(5);
                let mut values: Vec<String> = match vartype.as_str() {
                    "bool" => vec!["on".to_owned(), "off".to_owned()],
                    "enum" => row.get(2),
                    "string" => TEXTS
                        .iter()
                        .find(|(begin, _)| name.starts_with(begin))
                        .map(|(_, values)| values.iter().map(|value| (*value).to_owned()).collect())
                        .unwrap_or_default(),
                    _ => numbers(row.get(3), row.get(4), vartype == "integer"),
                };
                values.extend(boot);
                Setting { name, values }
            })
            .collect();
        let builtins = client.query(
            "SELECT format('%I.%I', n.nspname, p.proname), ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
             FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
             WHERE p.prokind = 'f' AND NOT p.proname ^@ ANY ($1)
               AND p.oid <> ALL (SELECT x::regprocedure FROM unnest($2::text[]) AS x)
               AND (n.nspname = 'pg_catalog' OR p.proname ^@ 'cache_' AND p.provolatile <> 'v')
               AND p.prorettype NOT IN (SELECT oid FROM pg_type WHERE typname IN ('trigger', 'event_trigger', 'internal', 'language_handler',
                                        'index_am_handler', 'table_am_handler', 'fdw_handler', 'tsm_handler'))
             ORDER BY 1, 2",
            &[&NOT_CALLED.as_slice(), &CLOCKS.as_slice()],
        )?;
        let builtins = builtins
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .filter(|(_, types): &(String, Vec<String>)| {
                types.iter().all(|of| !values(of).is_empty())
            })
            .collect();
        Ok(Self { settings, builtins })
    }

    /// How many settings and built-in functions it knows.
    pub fn size(&self) -> (usize, usize) {
        (self.settings.len(), self.builtins.len())
    }

    /// Fills a template in.
    pub fn fill(&self, rng: &mut Rng, template: &str) -> String {
        let mut text = template.to_owned();
        // What is chosen may hold words and choices again; the innermost choice is made first.
        while let Some((from, to)) = choice(&text) {
            let chosen = {
                let of: Vec<&str> = text[from + 1..to].split('|').collect();
                of[rng.usize(..of.len())].to_owned()
            };
            text.replace_range(from..=to, &chosen);
        }
        let mut filled = String::new();
        let mut rest = text.as_str();
        while let Some(open) = rest.find('<') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let word = rest.find('>').map(|close| &rest[1..close]);
            match word.and_then(|word| Some((word, self.word(rng, word)?))) {
                Some((word, made)) => {
                    filled.push_str(&made);
                    rest = &rest[word.len() + 2..];
                }
                None => {
                    filled.push('<');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn word(&self, rng: &mut Rng, word: &str) -> Option<String> {
        Some(match word {
            "k" => rng.u8(..3).to_string(),
            "v" => rng.i8(-2..9).to_string(),
            "setting" => loop {
                let name = &self.settings[rng.usize(..self.settings.len())].name;
                // The server without the cache has none of ours.
                if !name.starts_with(OURS) {
                    break name.clone();
                }
            },
            "set" => {
                let setting = &self.settings[rng.usize(..self.settings.len())];
                let value = match setting.values.len() {
                    0 => String::new(),
                    values => setting.values[rng.usize(..values)].replace('\'', "''"),
                };
                let here = if setting.name.starts_with(OURS) {
                    "@"
                } else {
                    ""
                };
                let local = if rng.u8(..4) == 0 { "LOCAL " } else { "" };
                let value = match setting.name.as_str() {
                    "search_path" | "DateStyle" => value,
                    _ => format!("'{value}'"),
                };
                format!("{here}SET {local}{} = {value}", setting.name)
            }
            "builtin" => {
                let (name, types) = &self.builtins[rng.usize(..self.builtins.len())];
                let arguments: Vec<String> = types
                    .iter()
                    .map(|of| {
                        let values = values(of);
                        format!("({})::{of}", values[rng.usize(..values.len())])
                    })
                    .collect();
                format!("{name}({})", arguments.join(", "))
            }
            _ => return None,
        })
    }
}

/// Where the innermost `{a|b}` begins and ends.
fn choice(text: &str) -> Option<(usize, usize)> {
    text.match_indices('}').find_map(|(to, _)| {
        let from = text[..to].rfind('{')?;
        text[from..to].contains('|').then_some((from, to))
    })
}

fn values(of: &str) -> &'static [&'static str] {
    match of {
        "anyelement" | "anynonarray" | "anycompatible" | "anycompatiblenonarray" | "\"any\"" => {
            &["7", "'x'::text", "'{1,2}'::integer[]"]
        }
        "anyarray" | "anycompatiblearray" | "integer[]" => &["'{1,2}'::integer[]"],
        "text[]" => &["'{a,b}'::text[]"],
        _ => VALUES
            .iter()
            .find(|(name, _)| *name == of)
            .map_or(&[], |(_, values)| values),
    }
}

fn numbers(min: Option<f64>, max: Option<f64>, whole: bool) -> Vec<String> {
    let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(1.0));
    let step = if whole { 1.0 } else { 0.125 };
    [min, (min + step).min(max), (min + 100.0).min(max), max]
        .iter()
        .map(f64::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road;

    fn small() -> Vocabulary {
        Vocabulary {
            settings: vec![Setting {
                name: "work_mem".to_owned(),
                values: vec!["64".to_owned()],
            }],
            builtins: vec![("pg_catalog.abs".to_owned(), vec!["integer".to_owned()])],
        }
    }

    #[test]
    fn no_word_and_no_choice_is_left_over() {
        let (vocabulary, mut rng) = (small(), Rng::with_seed(1));
        let mut all = road::roads(&[]);
        all.push(road::common());
        for road in all {
            for template in road.world.iter().chain(&road.calls).chain(&road.moves) {
                let text = vocabulary.fill(&mut rng, template);
                assert!(choice(&text).is_none(), "{}: {text}", road.name);
                for word in ["<k>", "<v>", "<set>", "<setting>", "<builtin>"] {
                    assert!(!text.contains(word), "{}: {text}", road.name);
                }
            }
        }
    }

    #[test]
    fn choices_hold_choices() {
        let text = small().fill(&mut Rng::with_seed(3), "{a{b|b}|a{b|b}}{}");
        assert_eq!(text, "ab{}");
    }
}
