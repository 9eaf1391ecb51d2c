//! What can be configured: names, values, defaults. Text in, text out.

use crate::error::Error;
use crate::language::signature;

/// The built-in classes, each with its time to live in microseconds.
pub const CLASSES: [(&str, i64); 5] = [
    (DEFAULT_CLASS, 10 * MINUTE),
    ("sessions", 5 * MINUTE),
    ("analytics", 15 * MINUTE),
    ("enterprise", 120 * MINUTE),
    ("department", 60 * MINUTE),
];
/// The class of functions that name none.
pub const DEFAULT_CLASS: &str = "default";

const MINUTE: i64 = 60_000_000;
/// The longest time to live that can be configured.
const LONGEST: i64 = 365 * 24 * 60 * MINUTE;
/// Longest name of a class, in bytes.
const MAX_CLASS_BYTES: usize = 63;

/// Time to live of a built-in class in microseconds; `None` if it is none.
pub fn default_ttl_us(class: &str) -> Option<i64> {
    CLASSES
        .iter()
        .find_map(|(name, us)| (*name == class).then_some(*us))
}

/// Whether a class can have this name.
pub fn is_class_name(name: &str) -> bool {
    (1..=MAX_CLASS_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// What can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `enabled`: the cache of the whole database.
    Enabled,
    /// `max_entries`: the most entries of the database in memory.
    MaxEntries,
    /// `class.….ttl`
    ClassTtl(String),
    /// `class.….enabled`
    ClassEnabled(String),
    /// `function.….enabled`, by the function's signature with its schema.
    FunctionEnabled(String),
    /// `adaptive`: functions of the database rest when caching them does not pay.
    Adaptive,
    /// `function.….adaptive`
    FunctionAdaptive(String),
}

/// How the names are written, for people.
pub const NAMES: [&str; 7] = [
    "enabled",
    "adaptive",
    "max_entries",
    "class.<name>.ttl",
    "class.<name>.enabled",
    "function.<signature>.enabled",
    "function.<signature>.adaptive",
];

/// Makes a name that is about a cached function.
type AboutFunction = fn(String) -> Name;

impl Name {
    /// Reads a name; of a class or function it need not exist.
    pub fn read(text: &str) -> Option<Name> {
        let between = |before: &str, after: &str| {
            let name = text.strip_prefix(before)?.strip_suffix(after)?;
            Some(name.to_owned())
        };
        let class = |after: &str| between("class.", after).filter(|class| is_class_name(class));
        match text {
            "enabled" => Some(Name::Enabled),
            "adaptive" => Some(Name::Adaptive),
            "max_entries" => Some(Name::MaxEntries),
            _ => None
                .or_else(|| class(".ttl").map(Name::ClassTtl))
                .or_else(|| class(".enabled").map(Name::ClassEnabled))
                .or_else(|| between("function.", ".enabled").map(Name::FunctionEnabled))
                .or_else(|| between("function.", ".adaptive").map(Name::FunctionAdaptive)),
        }
    }

    /// The name, as [`Name::read`] reads it.
    pub fn text(&self) -> String {
        match self {
            Name::Enabled => "enabled".into(),
            Name::MaxEntries => "max_entries".into(),
            Name::ClassTtl(class) => format!("class.{class}.ttl"),
            Name::ClassEnabled(class) => format!("class.{class}.enabled"),
            Name::FunctionEnabled(function) => format!("function.{function}.enabled"),
            Name::Adaptive => "adaptive".into(),
            Name::FunctionAdaptive(function) => format!("function.{function}.adaptive"),
        }
    }

    /// The cached function that it is about, and the same name about another one.
    pub fn of_function(&self) -> Option<(&str, AboutFunction)> {
        match self {
            Name::FunctionEnabled(function) => Some((function, Name::FunctionEnabled)),
            Name::FunctionAdaptive(function) => Some((function, Name::FunctionAdaptive)),
            _ => None,
        }
    }

    /// The type of its values.
    pub fn kind(&self) -> &'static str {
        match self {
            Name::MaxEntries => "integer",
            Name::ClassTtl(_) => "interval",
            _ => "boolean",
        }
    }

    /// The value that counts as long as there is no other; `None` for the time to live of a class that is not built in.
    pub fn default_value(&self) -> Option<String> {
        match self {
            Name::MaxEntries => Some("0".into()),
            Name::ClassTtl(class) => default_ttl_us(class).map(duration),
            _ => Some("on".into()),
        }
    }

    /// What it is, in a sentence.
    pub fn description(&self) -> &'static str {
        match self {
            Name::Enabled => "Uses the cache in this database.",
            Name::MaxEntries => "The most entries of this database in memory; 0: no limit.",
            Name::ClassTtl(_) => {
                "Time to live of functions of this class without a ttl of their own."
            }
            Name::ClassEnabled(_) => "Uses the cache for functions of this class.",
            Name::FunctionEnabled(_) => "Uses the cache for this function.",
            Name::Adaptive => {
                "Lets functions of this database rest while caching them does not pay."
            }
            Name::FunctionAdaptive(_) => "Lets this function rest while caching it does not pay.",
        }
    }

    /// Whether a value is one that [`Name::value`] returns.
    pub fn is_sound(&self, value: &str) -> bool {
        match self.kind() {
            "integer" => value.parse::<i32>().is_ok_and(|number| number >= 0),
            "interval" => duration_us(value).is_some(),
            _ => value == "on" || value == "off",
        }
    }

    /// The value that a text stands for, written as it is stored; an error in the server's wording if it is none.
    pub fn value(&self, text: &str) -> Result<String, Error> {
        let name = self.text();
        match self.kind() {
            "integer" => match text.trim().parse::<i64>() {
                Ok(number @ 0..=0x7fff_ffff) => Ok(number.to_string()),
                Ok(number) => Err(Error::InvalidValue(format!(
                    "{number} is outside the valid range for parameter \"{name}\" (0 .. {})",
                    i32::MAX
                ))),
                Err(_) => Err(Error::InvalidValue(format!(
                    "invalid value for parameter \"{name}\": \"{}\"",
                    shortened(text)
                ))),
            },
            "interval" => match signature::read_interval(text)? {
                us @ 1..=LONGEST => Ok(duration(us)),
                _ => Err(Error::InvalidValue(format!(
                    "{} is outside the valid range for parameter \"{name}\" (1us .. 365d)",
                    shortened(text)
                ))),
            },
            _ => switch(text)
                .map(|on| if on { "on" } else { "off" }.to_owned())
                .ok_or_else(|| {
                    Error::InvalidValue(format!("parameter \"{name}\" requires a Boolean value"))
                }),
        }
    }
}

/// The beginning of a text, for a message.
pub fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A Boolean as a setting reads it.
#[allow(unsafe_code)]
fn switch(text: &str) -> Option<bool> {
    let text = crate::encoding::c_string(text).ok()?;
    let mut on = false;
    // SAFETY: a C string and an out parameter.
    unsafe { pgrx::pg_sys::parse_bool(text.as_ptr(), &mut on) }.then_some(on)
}

const UNITS: [(&str, i64); 6] = [
    ("d", 24 * 60 * MINUTE),
    ("h", 60 * MINUTE),
    ("min", MINUTE),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];

/// Microseconds in the largest unit that divides them, as SHOW writes settings; an interval reads it.
pub fn duration(us: i64) -> String {
    UNITS
        .iter()
        .find(|(_, length)| us % length == 0)
        .map_or_else(
            || us.to_string(),
            |(unit, length)| format!("{}{unit}", us / length),
        )
}

/// The microseconds of a text that [`duration`] wrote; `None` for any other text, and for times that cannot be configured.
pub fn duration_us(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let us = number.parse::<i64>().ok()?.checked_mul(*length)?;
    (1..=LONGEST).contains(&us).then_some(us)
}

/// The name among `names` that differs least from `text`, if it is not quite another one.
pub fn closest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONG: usize = 200;
    if text.len() > LONG {
        return None;
    }
    names
        .filter(|name| name.len() <= LONG)
        .map(|name| (distance(text, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 4))
        .map(|(_, name)| name)
}

/// How many characters have to be added, removed or replaced to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
