//! SQL functions of the family *configuration*: show it, change it.

#![allow(unsafe_code)]

use crate::call::frames;
use crate::compat;
use crate::configuration::reader::{self, Line};
use crate::configuration::{
    self,
    names::{self, Name},
};
use crate::dependencies::session::Reads;
use crate::encoding::{self, Text};
use crate::error::{Error, OrRaise};
use crate::language::body::Body;
use crate::language::signature::{self, Signature};
use crate::naming;
use crate::server;
use crate::table;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;

/// What the names of our settings of the server begin with.
const PREFIX: &str = "pg_query_cache.";

/// Changes the configuration. Returns the value that counts from now on; NULL if a class is gone.
#[pg_extern(sql = false)]
fn set_cache_config(name: Option<Text>, value: Option<Text>) -> Option<Text> {
    let (name, value) = (name.map(|text| text.0), value.map(|text| text.0));
    // SAFETY: a C string; raises the server's own error.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"set_cache_config()".as_ptr()) };
    let text = name
        .ok_or_else(|| {
            Error::InvalidParameter(
                "name must not be null".into(),
                "It is one of the names that cache_config() shows.".into(),
            )
        })
        .or_raise();
    let name = Name::read(&text).ok_or_else(|| unknown(&text)).or_raise();
    let name = resolved(name, value.is_none()).or_raise();
    let value = value.map(|value| name.value(&value).or_raise());
    let mut writer = Writer::lock();
    match &name {
        Name::ClassTtl(class) if value.is_none() && names::default_ttl_us(class).is_none() => {
            writer.check_class(class).or_raise();
            let users = functions_of(class);
            if !users.is_empty() {
                Error::ClassInUse(class.clone(), users).raise();
            }
            writer.write(&Name::ClassEnabled(class.clone()), None);
        }
        Name::ClassTtl(class) if value.is_some() && writer.check_class(class).is_err() => {
            new_class(class)
        }
        Name::ClassEnabled(class) => writer.check_class(class).or_raise(),
        _ => (),
    }
    writer.write(&name, value.as_deref());
    value.or_else(|| name.default_value()).map(Text)
}

/// Says that a class is new: it may be another one with a slip of the pen.
fn new_class(class: &str) {
    let classes = configuration::classes().unwrap_or_default();
    let closest = names::closest(class, classes.iter().map(String::as_str));
    crate::error::tell(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        &format!("class \"{class}\" does not exist yet, it is made"),
        crate::error::Besides::Hint(&match closest {
            Some(closest) => format!(
                "Perhaps you meant \"{closest}\": SELECT set_cache_config('class.{class}.ttl', NULL) drops the new one."
            ),
            None => format!(
                "The classes were {}. SELECT set_cache_config('class.{class}.ttl', NULL) drops it.",
                classes.join(", ")
            ),
        }),
    );
}

/// Why a text is no name that can be configured.
fn unknown(text: &str) -> Error {
    if let Some(setting) = settings()
        .into_iter()
        .find(|setting| setting.name == text || setting.name.strip_prefix(PREFIX) == Some(text))
    {
        let hint = setting.how_to_change("…");
        return Error::FixedSetting(setting.name, hint);
    }
    if text
        .strip_prefix("class.")
        .is_some_and(|rest| rest.ends_with(".ttl") || rest.ends_with(".enabled"))
    {
        return Error::InvalidValue(format!(
            "invalid name of a class in \"{}\": lower-case letters, digits and _, at most 63 bytes",
            names::shortened(text)
        ));
    }
    let known: Vec<String> = lines_by_name().into_keys().collect();
    let hint = match names::closest(text, known.iter().map(String::as_str)) {
        Some(closest) => format!("Perhaps you meant \"{closest}\"."),
        None => format!(
            "The names are {}. cache_config() shows them all.",
            names::NAMES.join(", ")
        ),
    };
    Error::UnknownName(names::shortened(text), hint)
}

/// The name with the signature of its function as the catalog has it. A function that is gone may still be set back to the default.
fn resolved(name: Name, back: bool) -> Result<Name, Error> {
    let Some((given, about)) = name.of_function() else {
        return Ok(name);
    };
    if back && lines_by_name().contains_key(&name.text()) {
        return Ok(name);
    }
    let function = find_cached(given)?;
    Ok(about(naming::regprocedure_qualified(function)))
}

/// The cached function of a signature. Without a schema it is the only one of that signature: the search path of the caller is not
/// known to a SECURITY DEFINER function.
fn find_cached(given: &str) -> Result<pg_sys::Oid, Error> {
    let missing = || {
        Error::NoSuchFunction(
            names::shortened(given),
            "Name a cached function with its argument types, as the view cached_functions shows it."
                .into(),
        )
    };
    if !given.contains('(') || given.len() > 4096 {
        return Err(missing());
    }
    if signature::is_qualified(given) {
        let found = signature::find(given).ok_or_else(missing)?;
        return super::caching::cached(found.oid).map(|signature| signature.oid);
    }
    let cached = compat::cached_functions();
    // SAFETY: syscache lookups of existing functions.
    let schemas: BTreeSet<String> = cached
        .iter()
        .filter_map(|function| unsafe {
            let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(*function));
            (!schema.is_null()).then(|| naming::quote_identifier(&compat::text(schema)))
        })
        .collect();
    let mut found = schemas
        .iter()
        .filter_map(|schema| signature::find(&format!("{schema}.{given}")))
        .map(|signature| signature.oid)
        .filter(|oid| cached.contains(oid));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Error::InvalidValue(format!(
            "more than one cached function is named {}",
            names::shortened(given)
        ))),
        _ => Err(missing()),
    }
}

/// The cached functions whose bodies name a class.
fn functions_of(class: &str) -> Vec<String> {
    let names_it = |function: &pg_sys::Oid| {
        Signature::of(*function)
            .and_then(|signature| Body::parse(&signature.source).ok())
            .is_some_and(|body| body.class() == class)
    };
    compat::cached_functions()
        .into_iter()
        .filter(names_it)
        .map(naming::regprocedure_qualified)
        .collect()
}

/// Writes the table and its log, as the owner of the extension and under a search path that nobody else can write to.
struct Writer {
    schema: String,
    role: String,
    session_role: String,
}

impl Writer {
    /// Changes come one after the other: what the log gives as the old value has been it.
    fn lock() -> Self {
        let schema = compat::extension_schema().unwrap_or_default();
        if let Some(table) = compat::extension_relation(c"cache_configuration") {
            // SAFETY: a table of ours; the lock is the transaction's, and who waits for it can be cancelled.
            unsafe { pg_sys::LockRelationOid(table, pg_sys::ShareRowExclusiveLock as _) };
        }
        // SAFETY: variables of the backend: the role outside of this SECURITY DEFINER function, and the one that logged in.
        let (role, session_role) =
            unsafe { (server::GetOuterUserId(), server::GetSessionUserId()) };
        Writer {
            schema,
            role: compat::role_name(role),
            session_role: compat::role_name(session_role),
        }
    }

    /// The present value.
    fn value(&self, name: &str) -> Option<String> {
        let values = Spi::connect_mut(|client| {
            client
                .update(
                    encoding::statement(&format!(
                        "SELECT value FROM {}.cache_configuration WHERE name OPERATOR(pg_catalog.=) $1",
                        self.schema
                    ))
                    .as_c_str(),
                    None,
                    &[encoding::parameter(name)],
                )?
                .map(|row| encoding::column(&row, 1))
                .collect::<Result<Vec<_>, _>>()
        });
        let seen = done(values).into_iter().flatten().next();
        let present = reader::read()
            .into_iter()
            .flatten()
            .find_map(|line| (line.name == name).then_some(line.value));
        // A transaction with one snapshot for all does not see what others have committed since, and would take it for changed by itself.
        if seen != present {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update"
            );
        }
        seen
    }

    /// A class exists if it is built in or has a time to live.
    fn check_class(&self, class: &str) -> Result<(), Error> {
        let ttl = Name::ClassTtl(class.to_owned()).text();
        if names::default_ttl_us(class).is_some() || self.value(&ttl).is_some() {
            return Ok(());
        }
        Err(Error::NoSuchClass(
            class.to_owned(),
            format!("SELECT set_cache_config('{ttl}', '…'); makes it."),
        ))
    }

    /// Writes a value, or removes it, and says so in both logs. Nothing is written that is so already.
    fn write(&mut self, name: &Name, value: Option<&str>) {
        let text = name.text();
        let old = self.value(&text);
        if old.as_deref() == value {
            return;
        }
        let schema = &self.schema;
        let written = match value {
            Some(value) => encoding::run(
                &format!(
                    "INSERT INTO {schema}.cache_configuration (name, value, changed_by) VALUES ($1, $2, $3::pg_catalog.name)
                     ON CONFLICT (name) DO UPDATE
                     SET value = EXCLUDED.value, changed_at = EXCLUDED.changed_at, changed_by = EXCLUDED.changed_by"
                ),
                &[
                    encoding::parameter(&text),
                    encoding::parameter(value),
                    encoding::parameter(&self.role),
                ],
            ),
            None => encoding::run(
                &format!("DELETE FROM {schema}.cache_configuration WHERE name OPERATOR(pg_catalog.=) $1"),
                &[encoding::parameter(&text)],
            ),
        };
        done(written);
        done(encoding::run(
            &format!(
                "INSERT INTO {schema}.cache_configuration_log (changed_by, session_role, name, old_value, new_value)
                 VALUES ($1::pg_catalog.name, $2::pg_catalog.name, $3, $4, $5)"
            ),
            &[
                encoding::parameter(&self.role),
                encoding::parameter(&self.session_role),
                encoding::parameter(&text),
                old.as_deref().map(Text::from).into(),
                value.map(Text::from).into(),
            ],
        ));
        crate::error::log(&format!(
            "role \"{}\" (session of \"{}\") changes {text} of database \"{}\" from {} to {}",
            self.role,
            self.session_role,
            compat::database_name(),
            old.as_deref().unwrap_or("the default"),
            value.unwrap_or("the default"),
        ));
    }
}

/// Raises what SPI could not do.
fn done<T>(result: Result<T, pgrx::spi::Error>) -> T {
    table::done("write table \"cache_configuration\"", result)
}

/// A setting of the server, ours.
struct Setting {
    name: String,
    value: String,
    unit: String,
    kind: String,
    default_value: String,
    context: String,
    description: String,
}

impl Setting {
    fn how_to_change(&self, value: &str) -> String {
        let system = format!("ALTER SYSTEM SET {} = {value};", self.name);
        match self.context.as_str() {
            "postmaster" => format!("{system} then restart the server."),
            "sighup" => format!("{system} then SELECT pg_reload_conf();"),
            _ => format!(
                "{system} then SELECT pg_reload_conf(); or SET, ALTER ROLE … SET, ALTER DATABASE … SET."
            ),
        }
    }
}

/// Our settings, as `pg_settings` shows them.
fn settings() -> Vec<Setting> {
    // Columns of pg_settings.
    const COLUMNS: usize = 17;
    let text = |values: &[*const std::ffi::c_char; COLUMNS], column: usize| match values[column] {
        value if value.is_null() => String::new(),
        // SAFETY: a C string of the server.
        value => unsafe { compat::text(value) },
    };
    let mut found = Vec::new();
    // SAFETY: numbers below the count; the array has as many places as the view has columns.
    unsafe {
        for number in 0..pg_sys::GetNumConfigOptions() {
            let mut values = [std::ptr::null::<std::ffi::c_char>(); COLUMNS];
            let mut hidden = false;
            pg_sys::GetConfigOptionByNum(number, values.as_mut_ptr(), &mut hidden);
            if hidden
                || values[0].is_null()
                || !CStr::from_ptr(values[0])
                    .to_bytes()
                    .starts_with(PREFIX.as_bytes())
            {
                continue;
            }
            found.push(Setting {
                name: text(&values, 0),
                value: text(&values, 1),
                unit: text(&values, 2),
                description: text(&values, 4),
                context: text(&values, 6),
                kind: text(&values, 7),
                default_value: text(&values, 12),
            });
        }
    }
    found
}

/// All that can be configured in this database by name, with what the table has of it.
fn lines_by_name() -> BTreeMap<String, Option<Line>> {
    let classes = names::CLASSES.iter().flat_map(|(class, _)| {
        [
            Name::ClassTtl((*class).into()),
            Name::ClassEnabled((*class).into()),
        ]
    });
    let functions = compat::cached_functions().into_iter().flat_map(|function| {
        let name = naming::regprocedure_qualified(function);
        [
            Name::FunctionEnabled(name.clone()),
            Name::FunctionAdaptive(name),
        ]
    });
    let mut lines: BTreeMap<String, Option<Line>> =
        [Name::Enabled, Name::Adaptive, Name::MaxEntries]
            .into_iter()
            .chain(classes)
            .chain(functions)
            .map(|name| (name.text(), None))
            .collect();
    for line in reader::read().unwrap_or_default() {
        if let Some(Name::ClassTtl(class)) = Name::read(&line.name) {
            lines.entry(Name::ClassEnabled(class).text()).or_default();
        }
        lines.insert(line.name.clone(), Some(line));
    }
    lines
}

/// The configuration of this database, and the settings of the server.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn cache_config() -> TableIterator<
    'static,
    (
        name!(name, Text),
        name!(value, Option<Text>),
        name!(default_value, Option<Text>),
        name!(kind, Option<Text>),
        name!(source, &'static str),
        name!(changed_at, Option<TimestampWithTimeZone>),
        name!(changed_by, Option<Text>),
        name!(description, Text),
    ),
> {
    // Read past every snapshot: a cached function that asks is not stored.
    if frames::filling() {
        frames::reads(Reads::OUTSIDE);
    }
    let functions: BTreeSet<String> = compat::cached_functions()
        .into_iter()
        .map(naming::regprocedure_qualified)
        .collect();
    let configured = lines_by_name().into_iter().map(move |(text, line)| {
        let name = Name::read(&text);
        let (value, description) = match (&name, line.as_ref().map(|line| &line.value)) {
            (None, _) => (None, "Nothing that is known: it has no effect.".into()),
            (Some(name), Some(value)) if !name.is_sound(value) => (
                None,
                format!(
                    "{} The table has \"{}\", which cannot be read: the default counts.",
                    name.description(),
                    names::shortened(value)
                ),
            ),
            (Some(name), value)
                if name
                    .of_function()
                    .is_some_and(|(function, _)| !functions.contains(function)) =>
            {
                let description = format!("{} There is no such function.", name.description());
                (value, description)
            }
            (Some(name), value) => (value, name.description().into()),
        };
        let default_value = name.as_ref().and_then(Name::default_value);
        (
            Text(text),
            value.cloned().or_else(|| default_value.clone()).map(Text),
            default_value.map(Text),
            name.as_ref().map(|name| name.kind().into()),
            match line {
                Some(_) => "configuration",
                None => "default",
            },
            line.as_ref()
                .and_then(|line| TimestampWithTimeZone::try_from(line.changed_at?).ok()),
            line.as_ref()
                .and_then(|line| line.changed_by.clone().map(Text)),
            Text(description),
        )
    });
    let settings = settings().into_iter().map(|setting| {
        let description = format!("{} {}", setting.description, setting.how_to_change("…"));
        let kind = match (setting.kind.as_str(), setting.unit.as_str()) {
            ("bool", _) => "boolean".to_owned(),
            (kind, "") => kind.to_owned(),
            (kind, unit) => format!("{kind} ({unit})"),
        };
        (
            Text(setting.name),
            Some(Text(setting.value + &setting.unit)),
            Some(Text(setting.default_value + &setting.unit)),
            Some(Text(kind)),
            "server setting",
            None,
            None,
            Text(description),
        )
    });
    TableIterator::new(configured.chain(settings).collect::<Vec<_>>())
}
