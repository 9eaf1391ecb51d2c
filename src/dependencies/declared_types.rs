//! Whether a PL/pgSQL function declares variables of types whose names can come to mean something else.
//!
//! Read is the text, in which only the words between DECLARE and BEGIN matter. A type counts as one of the server's own if it is on the list:
//! names that the grammar takes for these whatever the search path is, and others that lie in `pg_catalog`, which is searched first. Whatever
//! is not understood counts as a name that can mean anything.

/// Words of which a type consists that nobody else's type has, in a search path that begins with `pg_catalog`.
const TYPES: [&str; 62] = [
    "array",
    "bigint",
    "bit",
    "bool",
    "boolean",
    "box",
    "bpchar",
    "bytea",
    "char",
    "character",
    "cidr",
    "circle",
    "date",
    "daterange",
    "day",
    "dec",
    "decimal",
    "double",
    "float",
    "float4",
    "float8",
    "hour",
    "inet",
    "int",
    "int2",
    "int4",
    "int4range",
    "int8",
    "int8range",
    "integer",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "line",
    "macaddr",
    "minute",
    "money",
    "month",
    "name",
    "numeric",
    "numrange",
    "oid",
    "point",
    "precision",
    "real",
    "record",
    "regclass",
    "second",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "to",
    "tsquery",
    "tsrange",
    "tsvector",
    "uuid",
    "varchar",
    "xml",
];
/// Words that stand with them.
const BESIDES: [&str; 7] = [
    "constant",
    "varying",
    "with",
    "without",
    "zone",
    "tstzrange",
    "year",
];

/// A piece of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Sign(u8),
    /// A number, a text, a quoted name.
    Other,
}

/// Whether a function declares anything of a type that is not on the list.
pub fn names_types(source: &[u8]) -> bool {
    let mut tokens = Tokens { rest: source };
    while let Some(token) = tokens.next() {
        if is(token, "declare") && declares_named(&mut tokens) {
            return true;
        }
    }
    false
}

/// A section of declarations, up to BEGIN.
fn declares_named(tokens: &mut Tokens<'_>) -> bool {
    loop {
        // The name of what is declared.
        match tokens.next() {
            None => return false,
            Some(token) if is(token, "begin") => return false,
            Some(token) if is(token, "declare") => continue,
            // A label.
            Some(Token::Sign(b'<' | b'>')) => continue,
            Some(_) => (),
        }
        let mut is_type = true;
        let mut depth = 0usize;
        loop {
            let Some(token) = tokens.next() else {
                return true;
            };
            match token {
                Token::Sign(b';') if depth == 0 => break,
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b')') => depth = depth.saturating_sub(1),
                _ => (),
            }
            if !is_type {
                continue;
            }
            match token {
                // What is assigned is an expression, which is read again when names come to mean something else.
                Token::Sign(b':' | b'=') => is_type = false,
                Token::Word(_)
                    if ["default", "not", "alias"]
                        .iter()
                        .any(|word| is(token, word)) =>
                {
                    is_type = false;
                }
                Token::Word(_) => {
                    if !TYPES.iter().chain(&BESIDES).any(|word| is(token, word)) {
                        return true;
                    }
                }
                // `numeric(10, 2)[]`
                Token::Sign(b'(' | b')' | b'[' | b']' | b',') => (),
                Token::Other if depth > 0 => (),
                // `%TYPE`, a schema, a quoted name, whatever.
                _ => return true,
            }
        }
    }
}

fn is(token: Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
}

/// The tokens of a text, without comments.
struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// What is left after `count` bytes; `None` with nothing left.
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    /// Skips what ends with `end`, which is doubled inside, or escaped by a backslash.
    fn quoted(&mut self, end: u8, escapes: bool) {
        while let Some((first, rest)) = self.rest.split_first() {
            self.rest = rest;
            if escapes && *first == b'\\' {
                self.skip(1);
            } else if *first == end {
                if self.rest.first() != Some(&end) {
                    return;
                }
                self.skip(1);
            }
        }
    }

    fn comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.rest.starts_with(b"/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with(b"*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else if self.rest.is_empty() {
                return;
            } else {
                self.skip(1);
            }
        }
    }

    /// The length of what begins a text in dollars, if one begins here.
    fn dollars(&self) -> Option<usize> {
        let length = self.rest.get(1..)?.iter().position(|c| *c == b'$')? + 2;
        let tag = self.rest.get(1..length - 1)?;
        let right = tag.first().is_none_or(|first| !first.is_ascii_digit())
            && tag.iter().all(|c| is_of_word(*c) && *c != b'$');
        right.then_some(length)
    }
}

fn is_of_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'$' || c >= 0x80
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let first = *self.rest.first()?;
            if first.is_ascii_whitespace() || first == 0x0b {
                self.skip(1);
            } else if self.rest.starts_with(b"--") {
                let end = self.rest.iter().position(|c| [b'\n', b'\r'].contains(c));
                self.skip(end.unwrap_or(self.rest.len()));
            } else if self.rest.starts_with(b"/*") {
                self.comment();
            } else if first == b'\'' || first == b'"' {
                self.skip(1);
                self.quoted(first, false);
                return Some(Token::Other);
            } else if first == b'$'
                && let Some(length) = self.dollars()
            {
                let (tag, rest) = self.rest.split_at(length);
                let end = rest.windows(length).position(|part| part == tag);
                self.rest = rest;
                self.skip(end.map_or(rest.len(), |end| end + length));
                return Some(Token::Other);
            } else if first.is_ascii_digit() {
                let end = self.rest.iter().position(|c| !is_of_word(*c) && *c != b'.');
                self.skip(end.unwrap_or(self.rest.len()));
                return Some(Token::Other);
            } else if is_of_word(first) {
                let end = self.rest.iter().position(|c| !is_of_word(*c));
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                if self.rest.first() == Some(&b'\'') {
                    self.skip(1);
                    self.quoted(b'\'', word.eq_ignore_ascii_case(b"e"));
                    return Some(Token::Other);
                }
                return Some(Token::Word(word));
            } else {
                self.skip(1);
                return Some(Token::Sign(first));
            }
        }
    }
}
