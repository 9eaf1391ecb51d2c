//! Tags: names that a write marks and a result depends on. A tag is never stored, only the slot that it hashes to; two tags in
//! one slot invalidate too much, never too little.
//!
//! Slot 0 stands for what the whole cluster shares (roles, memberships), the others of the first [`RESERVED`] for the definitions of
//! one database each (see `places`). The rest is divided by how many results a tag of a kind concerns and how often it is written: functions and
//! tables as a whole, which all entries of a function share and hardly anybody writes; the rows of a table, which every writer of it
//! writes; names; keys, half of them. So writers of many keys, each of which meets a slot by chance, never empty a function.
//! Kinds and hash have to be the same after a restart: slots are saved at a clean shutdown (whoever changes them changes the magic of
//! the file in `saved.rs`).

use pgrx::pg_sys::Oid;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// The slot of roles and memberships.
pub const CLUSTER_SLOT: u32 = 0;
/// Number of slots for the cluster and the definitions of databases; tags are hashed to the others.
pub const RESERVED: u32 = 128;
/// The slot of the definitions of all databases that have none of their own.
pub const OTHER_DATABASES: u32 = RESERVED - 1;

/// What a write is about.
#[derive(Clone, Copy, Debug)]
pub enum Tag<'a> {
    /// Any row of the relation (top of its partition or inheritance tree).
    Relation(Oid),
    /// What concerns all rows at once: TRUNCATE, definition, start of tracking. Keyed results depend on it.
    WholeRelation(Oid),
    /// The rows of the relation whose column holds a value, given by the hash of its type.
    Key {
        relation: Oid,
        column: &'a str,
        value: u64,
    },
    /// All results of a cached function.
    Function(Oid),
    /// A name of the user's own.
    Named(&'a str),
}

/// Bytes to be hashed, without memory to be had for them: a column's name has at most 63.
struct Name {
    bytes: [u8; 96],
    length: usize,
}

impl Name {
    fn new(database: Oid, kind: u8, oid: Oid) -> Self {
        let mut name = Name {
            bytes: [0; 96],
            length: 0,
        };
        name.append(&database.to_u32().to_le_bytes());
        name.append(&[kind]);
        name.append(&oid.to_u32().to_le_bytes());
        name
    }

    fn append(&mut self, bytes: &[u8]) {
        // What does not fit is left out: two tags may then share a slot.
        let room = &mut self.bytes[self.length..];
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.length += length;
    }

    fn hash(&self) -> u64 {
        xxh3_64(&self.bytes[..self.length])
    }
}

/// The part of the slots, `slots` in all, that tags of the kind of `tag` are hashed to.
fn part(tag: Tag<'_>, slots: u32) -> Range<u32> {
    let hashed = slots - RESERVED;
    let tables = RESERVED + hashed / 4;
    let names = tables + hashed / 8;
    let keys = names + hashed / 8;
    match tag {
        Tag::Function(_) | Tag::WholeRelation(_) => RESERVED..tables,
        Tag::Relation(_) => tables..names,
        Tag::Named(_) => names..keys,
        Tag::Key { .. } => keys..slots,
    }
}

/// The slot of `tag` in `database`, given the number of slots in use.
pub fn slot_of(database: Oid, tag: Tag<'_>, slots: u32) -> u32 {
    let hash = match tag {
        Tag::Relation(relation) => Name::new(database, b'r', relation).hash(),
        Tag::WholeRelation(relation) => Name::new(database, b'w', relation).hash(),
        Tag::Key {
            relation,
            column,
            value,
        } => {
            let mut name = Name::new(database, b'k', relation);
            name.append(&value.to_le_bytes());
            name.append(column.as_bytes());
            name.hash()
        }
        Tag::Function(function) => Name::new(database, b'f', function).hash(),
        Tag::Named(name) => {
            let start = Name::new(database, b'n', Oid::INVALID);
            xxh3_64(&[&start.bytes[..start.length], name.as_bytes()].concat())
        }
    };
    let part = part(tag, slots);
    part.start + (hash % part.len() as u64) as u32
}
