//! The tokens of a text in SQL or PL/pgSQL, as far as names are concerned.
//!
//! What matters is where names stand and where they do not: comments, literals and texts in dollars are passed over. Settings that change
//! how literals are read do not count.

/// A piece of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name or a keyword.
    Word(&'a [u8]),
    /// What stands between double quotes, as it stands there.
    Quoted(&'a [u8]),
    /// A character of any other kind.
    Sign(u8),
    /// A number, a text.
    Other,
}

impl Token<'_> {
    /// Whether it is a word, in whatever case.
    pub fn is(self, word: &str) -> bool {
        matches!(self, Token::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// The tokens of a text, without comments.
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Of a text.
    pub fn of(text: &'a [u8]) -> Self {
        Tokens { rest: text }
    }

    /// What is left after `count` bytes; `None` with nothing left.
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    /// Takes what ends with `end`, which is doubled inside, or escaped by a backslash.
    fn quoted(&mut self, end: u8, escapes: bool) -> &'a [u8] {
        let all = self.rest;
        while let Some((first, rest)) = self.rest.split_first() {
            self.rest = rest;
            if escapes && *first == b'\\' {
                self.skip(1);
            } else if *first == end {
                if self.rest.first() != Some(&end) {
                    let length = all.len() - self.rest.len() - 1;
                    return all.get(..length).unwrap_or_default();
                }
                self.skip(1);
            }
        }
        all
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
            } else if first == b'\'' {
                self.skip(1);
                self.quoted(first, false);
                return Some(Token::Other);
            } else if first == b'"' {
                self.skip(1);
                return Some(Token::Quoted(self.quoted(first, false)));
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
