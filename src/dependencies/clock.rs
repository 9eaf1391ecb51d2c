//! Whether a function uses the clock, as far as its text and the texts of what it calls say.
//!
//! Looked through are functions in SQL and PL/pgSQL, the base functions of cached ones, and views, from one to the next, with an end. Nothing
//! is run, and no relation is locked: bodies that the server keeps as trees are walked; of others the words are read, so a function
//! counts as called if a name before a parenthesis, with as many arguments, can mean it.
//!
//! Not seen: statements put together at run time, functions behind operators and casts, texts such as `'today'`, policies, and functions in
//! other languages. So what is found is so, or nearly always; what is not found may be there all the same.

#![allow(unsafe_code)]

use super::functions::{self, FIRST_UNFIXED};
use super::tokens::{Token, Tokens};
use crate::command;
use crate::compat;
use crate::encoding;
use crate::language::binding;
use crate::language::body::Body;
use crate::language::signature::{self, Signature};
use crate::naming;
use crate::server::{self, guarded};
use pgrx::pg_sys;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};

/// So many functions and views are looked through.
const MANY: usize = 256;
/// So many bytes of texts are read.
const BYTES: usize = 1 << 20;

/// `LANGUAGE sql` in `pg_language`.
const SQL: u32 = 14;

/// Functions that answer from the start of the transaction: `now`, `transaction_timestamp`, and what asks for the offset of a zone now.
const OF_TRANSACTION: [u32; 5] = [1299, 2037, 2038, 2047, 2647];
/// `statement_timestamp`.
const OF_STATEMENT: u32 = 2648;

/// Words that need no parentheses. All answer from the start of the transaction.
const WORDS: [&str; 5] = [
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
];

/// A function or a view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Function(pg_sys::Oid),
    View(pg_sys::Oid),
}

/// A use of the clock: what is used, and where.
#[derive(Clone)]
pub struct Use {
    what: String,
    place: Place,
}

impl Use {
    /// The same in words: `now() in function g(integer)`.
    pub fn words(&self) -> String {
        match self.place {
            Place::Function(function) => {
                format!(
                    "{} in function {}",
                    self.what,
                    naming::regprocedure(function)
                )
            }
            Place::View(view) => format!(
                "{} in view {}",
                self.what,
                naming::relation_name(view).unwrap_or_default()
            ),
        }
    }
}

/// The first uses that were found.
#[derive(Default)]
pub struct Uses {
    /// Of the time at which the transaction began.
    pub transaction: Option<Use>,
    /// Of the time at which the statement began, which is another one if it is not the transaction's first.
    pub statement: Option<Use>,
    /// Cached functions whose keys hold nothing of the clock.
    cached: Vec<pg_sys::Oid>,
}

impl Uses {
    /// What is used of the clock that no key holds, if that of the function itself holds the time at which the transaction began: the time of
    /// statements, and results of others that are bounded by age.
    pub fn beyond_key(&self) -> Option<Use> {
        self.statement.clone().or_else(|| {
            let cached = self.cached.iter().take(MANY_CACHED);
            cached.copied().find_map(|function| {
                let inside = uses(function);
                inside.transaction.or(inside.statement)
            })
        })
    }
}

/// So many of the cached functions are looked through once more.
const MANY_CACHED: usize = 16;

/// What of the clock a function uses.
pub fn uses(function: pg_sys::Oid) -> Uses {
    let mut search = Search {
        seen: vec![Place::Function(function)],
        bytes: BYTES,
        uses: Uses::default(),
    };
    let mut next = 0;
    while let Some(place) = search.seen.get(next).copied() {
        pgrx::check_for_interrupts!();
        next += 1;
        let found = match place {
            Place::Function(function) => search.in_function(function),
            Place::View(view) => in_view(view),
        };
        search.takes(place, &found);
    }
    search.uses
}

/// What a body uses.
#[derive(Default)]
struct Found {
    functions: Vec<pg_sys::Oid>,
    views: Vec<pg_sys::Oid>,
    word: Option<&'static str>,
}

struct Search {
    /// What has been looked through, and then what is to be.
    seen: Vec<Place>,
    /// How much text may still be read.
    bytes: usize,
    uses: Uses,
}

impl Search {
    fn takes(&mut self, place: Place, found: &Found) {
        let used = |what: String| Use { what, place };
        if let Some(word) = found.word {
            self.uses
                .transaction
                .get_or_insert_with(|| used(word.into()));
        }
        for function in &found.functions {
            let oid = function.to_u32();
            let kind = if OF_TRANSACTION.contains(&oid) {
                &mut self.uses.transaction
            } else if oid == OF_STATEMENT {
                &mut self.uses.statement
            } else {
                self.goes_to(Place::Function(*function));
                continue;
            };
            kind.get_or_insert_with(|| used(naming::regprocedure(*function)));
        }
        for view in &found.views {
            self.goes_to(Place::View(*view));
        }
    }

    fn goes_to(&mut self, place: Place) {
        let has_body = match place {
            Place::Function(function) => has_body(function),
            Place::View(_) => true,
        };
        if has_body && self.seen.len() < MANY && !self.seen.contains(&place) {
            self.seen.push(place);
        }
    }

    fn in_function(&mut self, function: pg_sys::Oid) -> Found {
        if function.to_u32() >= FIRST_UNFIXED && functions::of(function).is_cached {
            let base = Signature::of(function).and_then(|own| {
                let body = Body::parse(&own.source).ok()?;
                if body.clock.is_none() {
                    self.uses.cached.push(function);
                }
                binding::recorded(&own, &body)
            });
            return Found {
                functions: base.into_iter().collect(),
                ..Found::default()
            };
        }
        let Some(text) = self.text_of(function) else {
            return Found::default();
        };
        match text {
            Text::Tree(tree) => in_tree(tree),
            Text::Words(words) => {
                let names = Names::of(words.to_bytes());
                match signature::setting_of(function, "search_path") {
                    Some(path) => under_path(&path, || names.meaning()),
                    None => names.meaning(),
                }
            }
        }
    }

    /// The body of a function in SQL or PL/pgSQL.
    fn text_of(&mut self, function: pg_sys::Oid) -> Option<Text> {
        // SAFETY: a syscache lookup; the tuple is pinned while it is read, and the texts are copies in our memory context.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
            if tuple.is_null() {
                return None;
            }
            let tree = text(compat::PROC_CACHE, tuple, pg_sys::Anum_pg_proc_prosqlbody);
            let words = text(compat::PROC_CACHE, tuple, pg_sys::Anum_pg_proc_prosrc);
            pg_sys::ReleaseSysCache(tuple);
            let length = tree.or(words)?.to_bytes().len();
            self.bytes = self.bytes.checked_sub(length)?;
            match (tree, words) {
                (Some(tree), _) => Some(Text::Tree(tree)),
                (None, words) => words.map(Text::Words),
            }
        }
    }
}

enum Text {
    Tree(&'static CStr),
    Words(&'static CStr),
}

/// Whether a function is in a language that is read here.
fn has_body(function: pg_sys::Oid) -> bool {
    if function.to_u32() >= FIRST_UNFIXED {
        let known = functions::of(function);
        if known.is_cached || known.compiles.is_some() {
            return true;
        }
    }
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let is_sql = row.prolang.to_u32() == SQL;
        pg_sys::ReleaseSysCache(tuple);
        is_sql
    }
}

/// A text of a row, in memory of the present context, which outlives the search.
///
/// # Safety
/// `tuple` is a row of that cache, and the column a text.
unsafe fn text(cache: i32, tuple: pg_sys::HeapTuple, number: u32) -> Option<&'static CStr> {
    let mut is_null = false;
    // SAFETY: the caller's.
    unsafe {
        let value = pg_sys::SysCacheGetAttr(cache, tuple, number as _, &mut is_null);
        (!is_null).then(|| CStr::from_ptr(pg_sys::text_to_cstring(value.cast_mut_ptr())))
    }
}

/// What the query of a view uses.
fn in_view(view: pg_sys::Oid) -> Found {
    const CACHE: i32 = pg_sys::SysCacheIdentifier::RULERELNAME as i32;
    const RULE: &CStr = c"_RETURN";
    // SAFETY: a syscache lookup by an oid and a name, which is compared as a C string; the tuple is pinned while it is read.
    let tree = unsafe {
        let tuple = pg_sys::SearchSysCache2(
            CACHE,
            pg_sys::Datum::from(view),
            pg_sys::Datum::from(RULE.as_ptr()),
        );
        if tuple.is_null() {
            return Found::default();
        }
        let tree = text(CACHE, tuple, compat::catalog::RULE_ACTION);
        pg_sys::ReleaseSysCache(tuple);
        tree
    };
    tree.map_or_else(Found::default, in_tree)
}

/// What a tree uses that the server has written down.
fn in_tree(text: &CStr) -> Found {
    let mut found = Found::default();
    // SAFETY: a text from the catalog. The walker's errors, if there are any, are caught here, beyond frames with nothing to drop.
    unsafe {
        let tree = pg_sys::stringToNode(text.as_ptr()).cast::<pg_sys::Node>();
        pg_sys::ffi::pg_guard_ffi_boundary(|| walk(tree, (&raw mut found).cast()));
    }
    found
}

unsafe extern "C" fn walk(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node of a tree, whose tag tells the struct, and the place for what is found. No value with a destructor is alive in this
    // frame.
    unsafe {
        guarded(|| note(node, &mut *found.cast::<Found>()));
        server::check_functions_in_node(node, calls, found);
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            return server::query_tree_walker(node.cast(), walk, found, 0);
        }
        server::expression_tree_walker(node, walk, found)
    }
}

unsafe extern "C" fn calls(function: pg_sys::Oid, found: *mut c_void) -> bool {
    // SAFETY: as in `walk`.
    unsafe { guarded(|| (*found.cast::<Found>()).functions.push(function)) };
    false
}

/// What a node uses that is no function.
///
/// # Safety
/// A node of a tree.
unsafe fn note(node: *mut pg_sys::Node, found: &mut Found) {
    use pg_sys::SQLValueFunctionOp::*;
    // SAFETY: the tag tells the struct; the range table is a list of entries.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_SQLValueFunction => {
                let number = match (*node.cast::<pg_sys::SQLValueFunction>()).op {
                    SVFOP_CURRENT_DATE => 0,
                    SVFOP_CURRENT_TIME | SVFOP_CURRENT_TIME_N => 1,
                    SVFOP_CURRENT_TIMESTAMP | SVFOP_CURRENT_TIMESTAMP_N => 2,
                    SVFOP_LOCALTIME | SVFOP_LOCALTIME_N => 3,
                    SVFOP_LOCALTIMESTAMP | SVFOP_LOCALTIMESTAMP_N => 4,
                    _ => return,
                };
                found.word = WORDS.get(number).copied();
            }
            pg_sys::NodeTag::T_Query => {
                let entries = compat::cells((*node.cast::<pg_sys::Query>()).rtable);
                for cell in entries {
                    let entry = &*cell.ptr_value.cast::<pg_sys::RangeTblEntry>();
                    if entry.rtekind == pg_sys::RTEKind::RTE_RELATION && is_view(entry.relid) {
                        found.views.push(entry.relid);
                    }
                }
            }
            _ => (),
        }
    }
}

fn is_view(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) };
    kind as u8 == pg_sys::RELKIND_VIEW
}

/// A name with its schema, if that stands before it.
type Name = Vec<Vec<u8>>;

/// The names in a text.
#[derive(Default)]
struct Names {
    /// Those before a parenthesis, with the number of what stands in there.
    called: BTreeSet<(Name, usize)>,
    others: BTreeSet<Name>,
    word: Option<&'static str>,
}

/// A parenthesis, or a bracket, that is open.
#[derive(Default)]
struct Open {
    called: Name,
    commas: usize,
    is_empty: bool,
}

impl Names {
    fn of(text: &[u8]) -> Names {
        let mut names = Names::default();
        let (mut open, mut name, mut goes_on) = (Vec::<Open>::new(), Name::new(), false);
        for token in Tokens::of(text) {
            if token == Token::Sign(b')') || token == Token::Sign(b']') {
                names.ends(&mut name);
                if let Some(closed) = open.pop()
                    && !closed.called.is_empty()
                {
                    let count = if closed.is_empty {
                        0
                    } else {
                        closed.commas + 1
                    };
                    names.called.insert((closed.called, count));
                }
                continue;
            }
            if let Some(innermost) = open.last_mut() {
                innermost.is_empty = false;
            }
            let part = match token {
                Token::Word(word) => Some(word.to_ascii_lowercase()),
                Token::Quoted(text) => Some(unquoted(text)),
                _ => None,
            };
            if let Some(part) = part {
                if !goes_on {
                    names.ends(&mut name);
                }
                if let Token::Word(word) = token
                    && name.is_empty()
                {
                    let one = |known: &&&str| word.eq_ignore_ascii_case(known.as_bytes());
                    names.word = names.word.or(WORDS.iter().find(one).copied());
                }
                name.push(part);
                goes_on = false;
                continue;
            }
            goes_on = token == Token::Sign(b'.') && !name.is_empty();
            if goes_on {
                continue;
            }
            match token {
                Token::Sign(b'(' | b'[') => open.push(Open {
                    called: match token {
                        Token::Sign(b'(') => std::mem::take(&mut name),
                        _ => Name::new(),
                    },
                    commas: 0,
                    is_empty: true,
                }),
                Token::Sign(b',') => {
                    if let Some(innermost) = open.last_mut() {
                        innermost.commas += 1;
                    }
                }
                _ => (),
            }
            names.ends(&mut name);
        }
        names.ends(&mut name);
        names
    }

    /// A name ends, and no parenthesis follows.
    fn ends(&mut self, name: &mut Name) {
        if !name.is_empty() {
            self.others.insert(std::mem::take(name));
        }
    }

    /// What the names mean now.
    fn meaning(&self) -> Found {
        let mut found = Found {
            word: self.word,
            ..Found::default()
        };
        for (name, count) in &self.called {
            pgrx::check_for_interrupts!();
            found.functions.extend(functions_of(name, *count));
        }
        for name in &self.others {
            pgrx::check_for_interrupts!();
            found
                .views
                .extend(relation_of(name).filter(|relation| is_view(*relation)));
        }
        found
    }
}

/// A quoted name as it is: a quote in it is doubled.
fn unquoted(text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        name.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    name
}

/// The parts of a name for the server: the schema, if it is given, and the name. `None` for what is longer than a name can be.
fn parts(name: &Name) -> Option<(Option<CString>, CString)> {
    const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;
    let text = |part: &Vec<u8>| match part.len() <= LONGEST {
        // Bytes of the function's text, so they are in the server's encoding.
        true => CString::from_vec_with_nul([part.as_slice(), &[0]].concat()).ok(),
        false => None,
    };
    match name.as_slice() {
        [name] => Some((None, text(name)?)),
        [schema, name] => Some((Some(text(schema)?), text(name)?)),
        _ => None,
    }
}

/// A schema in which the present role may look for names.
fn schema_of(name: &CStr) -> Option<pg_sys::Oid> {
    const OK: pg_sys::AclResult::Type = pg_sys::AclResult::ACLCHECK_OK;
    // SAFETY: syscache lookups, the first of which allows for absence.
    unsafe {
        let schema = pg_sys::get_namespace_oid(name.as_ptr(), true);
        let may_look = schema != pg_sys::InvalidOid
            && pg_sys::pg_namespace_aclcheck(schema, pg_sys::GetUserId(), pg_sys::ACL_USAGE as _)
                == OK;
        may_look.then_some(schema)
    }
}

/// The functions that a call with so many arguments can mean.
fn functions_of(name: &Name, count: usize) -> Vec<pg_sys::Oid> {
    let Some((schema, name)) = parts(name) else {
        return Vec::new();
    };
    let schema = schema.as_deref();
    if schema.is_some_and(|schema| schema_of(schema).is_none()) || count > i16::MAX as usize {
        return Vec::new();
    }
    let words: Vec<_> = schema
        .into_iter()
        .chain([name.as_c_str()])
        .map(CStr::as_ptr)
        .collect();
    // SAFETY: C strings; a list of candidates in our memory context, each with the next.
    unsafe {
        let mut candidate = pg_sys::FuncnameGetCandidates(
            command::names(&words),
            count as i32,
            std::ptr::null_mut(),
            true,
            true,
            false,
            true,
        );
        let mut found = Vec::new();
        while !candidate.is_null() {
            found.push((*candidate).oid);
            candidate = (*candidate).next;
        }
        found
    }
}

/// The relation that a name means.
fn relation_of(name: &Name) -> Option<pg_sys::Oid> {
    let (schema, name) = parts(name)?;
    // SAFETY: syscache lookups that allow for absence.
    let relation = unsafe {
        match schema {
            Some(schema) => pg_sys::get_relname_relid(name.as_ptr(), schema_of(&schema)?),
            None => pg_sys::RelnameGetRelid(name.as_ptr()),
        }
    };
    (relation != pg_sys::InvalidOid).then_some(relation)
}

/// Runs `body` under another search path. An ERROR in it sets the path back as it does all settings.
fn under_path(path: &str, body: impl FnOnce() -> Found) -> Found {
    let Ok(path) = encoding::c_string(path) else {
        return Found::default();
    };
    // SAFETY: the frame in which the server sets what a function's SET clause says.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            path.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let found = body();
        pg_sys::AtEOXact_GUC(true, level);
        found
    }
}
