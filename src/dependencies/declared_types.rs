//! The names of types in the DECLARE sections of a PL/pgSQL function, which can come to mean something else.
//!
//! Read is the text, in which only the words between DECLARE and BEGIN matter. Types for which SQL has words of its own mean the same
//! always. Each other name is listed, with what is asked of it. Of a text that is not understood nothing is known.

use super::tokens::{Token, Tokens};

/// First words of types that mean the same whatever the search path is: the grammar takes them for the server's own.
const TYPES: [&[u8]; 20] = [
    b"bigint",
    b"bit",
    b"boolean",
    b"char",
    b"character",
    b"dec",
    b"decimal",
    b"double",
    b"float",
    b"int",
    b"integer",
    b"interval",
    b"national",
    b"nchar",
    b"numeric",
    b"real",
    b"smallint",
    b"time",
    b"timestamp",
    b"varchar",
];
/// Words that stand behind them.
const BEHIND: [&[u8]; 14] = [
    b"char",
    b"character",
    b"day",
    b"hour",
    b"minute",
    b"month",
    b"precision",
    b"second",
    b"time",
    b"to",
    b"varying",
    b"with",
    b"without",
    b"zone",
];
/// One more, of intervals.
const YEAR: &[u8] = b"year";

/// A name, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// Its bytes, without quotes.
    pub bytes: Vec<u8>,
    /// It stands in quotes, so upper case is meant.
    pub is_quoted: bool,
}

/// What a declaration names: with its schema or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// A type.
    Type(Vec<Identifier>),
    /// The type of a column or variable (`%TYPE`).
    Like(Vec<Identifier>),
    /// The row of a relation (`%ROWTYPE`).
    Row(Vec<Identifier>),
    /// A collation.
    Collation(Vec<Identifier>),
}

/// All names that the declarations of a function have; `None` if one of these is not understood.
pub fn declared(source: &[u8]) -> Option<Vec<Declared>> {
    let mut found = Vec::new();
    let mut tokens = Tokens::of(source);
    while let Some(token) = tokens.next() {
        if is(token, "declare") {
            section(&mut tokens, &mut found)?;
        }
    }
    Some(found)
}

/// A section of declarations, up to BEGIN.
fn section(tokens: &mut Tokens<'_>, found: &mut Vec<Declared>) -> Option<()> {
    loop {
        // The name of what is declared.
        match tokens.next()? {
            token if is(token, "begin") => return Some(()),
            token if is(token, "declare") => (),
            // A label.
            Token::Sign(b'<' | b'>') => (),
            _ => declaration(tokens, found)?,
        }
    }
}

/// What is declared, up to the semicolon.
fn declaration(tokens: &mut Tokens<'_>, found: &mut Vec<Declared>) -> Option<()> {
    let mut first = tokens.next()?;
    if is(first, "alias") {
        return skip_to_end(tokens, first);
    }
    if is(first, "constant") {
        first = tokens.next()?;
    }
    if is(first, "no") {
        first = tokens.next().filter(|token| is(*token, "scroll"))?;
    }
    if is(first, "scroll") {
        first = tokens.next().filter(|token| is(*token, "cursor"))?;
    }
    if is(first, "cursor") {
        let mut end = tokens.next()?;
        if end == Token::Sign(b'(') {
            while end != Token::Sign(b')') {
                // The name of a parameter.
                tokens.next()?;
                let first = tokens.next()?;
                end = data_type(tokens, first, found)?;
                if !matches!(end, Token::Sign(b',' | b')')) {
                    return None;
                }
            }
            end = tokens.next()?;
        }
        return skip_to_end(tokens, end);
    }
    let mut end = data_type(tokens, first, found)?;
    if is(end, "collate") {
        let mut name = vec![identifier(tokens.next()?)?];
        loop {
            end = tokens.next()?;
            if end != Token::Sign(b'.') {
                break;
            }
            name.push(identifier(tokens.next()?)?);
        }
        found.push(Declared::Collation(name));
    }
    // What is assigned is an expression, which is read again when names come to mean something else.
    skip_to_end(tokens, end)
}

/// A type. Returns what stands behind it.
fn data_type<'a>(
    tokens: &mut Tokens<'a>,
    first: Token<'a>,
    found: &mut Vec<Declared>,
) -> Option<Token<'a>> {
    let is_one = |token, of: &[&[u8]]| of.iter().any(|word| is_word(token, word));
    if is_one(first, &TYPES) {
        loop {
            match tokens.next()? {
                token if is_one(token, &BEHIND) || is_word(token, YEAR) => (),
                token => return dimensions(tokens, token),
            }
        }
    }
    let mut name = vec![identifier(first)?];
    loop {
        match tokens.next()? {
            Token::Sign(b'.') => name.push(identifier(tokens.next()?)?),
            Token::Sign(b'%') => {
                let what = tokens.next()?;
                if is(what, "type") {
                    found.push(Declared::Like(name));
                } else if is(what, "rowtype") {
                    found.push(Declared::Row(name));
                } else {
                    return None;
                }
                let token = tokens.next()?;
                return dimensions(tokens, token);
            }
            token => {
                found.push(Declared::Type(name));
                return dimensions(tokens, token);
            }
        }
    }
}

/// What may stand behind the name of a type: `(10, 2)`, `[]`, `ARRAY[3]`. Returns what stands behind that.
fn dimensions<'a>(tokens: &mut Tokens<'a>, mut token: Token<'a>) -> Option<Token<'a>> {
    let mut depth = 0usize;
    loop {
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') if depth > 0 => depth -= 1,
            Token::Sign(b'[' | b']') | Token::Other => {}
            token if is(token, "array") => {}
            _ if depth > 0 => {}
            // `timestamp(3) with time zone`
            token
                if ["with", "without", "time", "zone"]
                    .iter()
                    .any(|word| is(token, word)) => {}
            Token::Sign(b';' | b',' | b')' | b':' | b'=') => return Some(token),
            token
                if ["collate", "default", "not"]
                    .iter()
                    .any(|word| is(token, word)) =>
            {
                return Some(token);
            }
            _ => return None,
        }
        token = tokens.next()?;
    }
}

/// Up to the semicolon, at `token` or behind it.
fn skip_to_end<'a>(tokens: &mut Tokens<'a>, mut token: Token<'a>) -> Option<()> {
    let mut depth = 0usize;
    loop {
        match token {
            Token::Sign(b';') if depth == 0 => return Some(()),
            Token::Sign(b'(' | b'[') => depth += 1,
            Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
            _ => (),
        }
        token = tokens.next()?;
    }
}

fn identifier(token: Token<'_>) -> Option<Identifier> {
    match token {
        Token::Word(word) => Some(Identifier {
            bytes: word.to_owned(),
            is_quoted: false,
        }),
        Token::Quoted(inside) => {
            let mut bytes = Vec::with_capacity(inside.len());
            let mut was_quote = false;
            for byte in inside {
                // A quote inside stands twice.
                was_quote = *byte == b'"' && !was_quote;
                if !was_quote {
                    bytes.push(*byte);
                }
            }
            Some(Identifier {
                bytes,
                is_quoted: true,
            })
        }
        Token::Sign(_) | Token::Other => None,
    }
}

fn is_word(token: Token<'_>, word: &[u8]) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

fn is(token: Token<'_>, word: &str) -> bool {
    token.is(word)
}
