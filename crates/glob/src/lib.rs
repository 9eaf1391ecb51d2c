//! Patterns of keys as Redis has them: `*` any characters, `?` one, `[abc]`, `[a-z]`, `[^a-z]` one of a class, `\` takes the next
//! character as it is.
//!
//! Bytes in, bytes compared: what a character is, the caller says by the length of the one at the start of some bytes, so that
//! every encoding of the server works. Characters are compared as their bytes, which is the order of code points in UTF-8.
//!
//! Matching cannot run away: only the last `*` is ever tried again, which is enough (whatever an earlier one could take in addition, the
//! last one can take as well), so it takes at most (characters of the key) × (parts of the pattern) steps.

#![forbid(unsafe_code)]

/// Length in bytes of the character at the start of some bytes, of which there is at least one.
pub type CharacterLength = fn(&[u8]) -> usize;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A `[` that no `]` closes.
    OpenClass,
    /// It ends with a `\` that takes nothing.
    LoneEscape,
}

/// A range of characters in a class, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: Vec<u8>,
    last: Vec<u8>,
}

/// What one place of a pattern wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    One(Vec<u8>),
    /// Any character.
    AnyOne,
    /// A character of one of the ranges, or of none of them.
    Class { ranges: Vec<Range>, without: bool },
    /// Any number of characters.
    Any,
}

impl Part {
    fn takes(&self, character: &[u8]) -> bool {
        match self {
            Part::One(wanted) => wanted == character,
            Part::AnyOne => true,
            Part::Class { ranges, without } => {
                let within = |range: &Range| {
                    range.first.as_slice() <= character && character <= range.last.as_slice()
                };
                ranges.iter().any(within) != *without
            }
            Part::Any => false,
        }
    }
}

/// A pattern, read.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Part>,
    length: CharacterLength,
}

/// Takes characters off the front of some bytes.
struct Characters<'a> {
    rest: &'a [u8],
    length: CharacterLength,
}

impl<'a> Iterator for Characters<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        // A character that is cut short, or of which nothing is known, is what there is of it, and at least one byte.
        let length = (self.length)(self.rest).clamp(1, self.rest.len());
        let (character, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(character)
    }
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &[u8], length: CharacterLength) -> Result<Self, Malformed> {
        let mut characters = Characters { rest: text, length };
        let mut parts = Vec::new();
        while let Some(character) = characters.next() {
            parts.push(match character {
                // Two in a row are one.
                b"*" if parts.last() == Some(&Part::Any) => continue,
                b"*" => Part::Any,
                b"?" => Part::AnyOne,
                b"[" => class(&mut characters)?,
                b"\\" => Part::One(characters.next().ok_or(Malformed::LoneEscape)?.to_vec()),
                character => Part::One(character.to_vec()),
            });
        }
        Ok(Pattern { parts, length })
    }

    /// Whether the pattern wants this key, as a whole.
    pub fn matches(&self, key: &[u8]) -> bool {
        let characters = |rest| Characters {
            rest,
            length: self.length,
        };
        let (mut part, mut rest) = (0, key);
        // After the last `*` so far: the part that follows it, and what is left of the key once it has taken one more character.
        let mut again: Option<(usize, &[u8])> = None;
        loop {
            let mut here = characters(rest);
            let character = here.next();
            match (self.parts.get(part), character) {
                (Some(Part::Any), _) => {
                    part += 1;
                    again = Some((part, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(wanted), Some(character)) if wanted.takes(character) => {
                    part += 1;
                    rest = here.rest;
                    continue;
                }
                _ => (),
            }
            let Some((after, from)) = again else {
                return false;
            };
            let mut one_more = characters(from);
            if one_more.next().is_none() {
                return false;
            }
            (part, rest) = (after, one_more.rest);
            again = Some((after, rest));
        }
    }

    /// What every key that matches begins with.
    pub fn prefix(&self) -> Vec<u8> {
        self.parts
            .iter()
            .map_while(|part| match part {
                Part::One(character) => Some(character.as_slice()),
                _ => None,
            })
            .flatten()
            .copied()
            .collect()
    }
}

/// The rest of a class, whose `[` has been taken.
fn class(characters: &mut Characters<'_>) -> Result<Part, Malformed> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut next = || characters.next().ok_or(Malformed::OpenClass);
    let mut character = next()?;
    let without = character == b"^";
    if without {
        character = next()?;
    }
    while character != b"]" {
        let first = if character == b"\\" {
            next()?
        } else {
            character
        };
        character = next()?;
        let mut last = first;
        if character == b"-" {
            character = next()?;
            if character == b"]" {
                // A `-` at the end stands for itself.
                ranges.push(Range {
                    first: b"-".to_vec(),
                    last: b"-".to_vec(),
                });
            } else {
                last = if character == b"\\" {
                    next()?
                } else {
                    character
                };
                character = next()?;
            }
        }
        let (first, last) = (first.min(last), first.max(last));
        ranges.push(Range {
            first: first.to_vec(),
            last: last.to_vec(),
        });
    }
    Ok(Part::Class { ranges, without })
}

/// The least bytes that are greater than everything that begins with `prefix`; `None` if nothing is.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=end].to_vec();
    after[end] += 1;
    Some(after)
}
