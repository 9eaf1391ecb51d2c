//! Tags: names that a write marks and a result depends on. A tag is never stored, only the slot that it hashes to; two tags in
//! one slot invalidate too much, never too little.
//!
//! Slot 0 stands for what the whole cluster shares (roles, memberships), the next `DATABASES` slots for the definitions of one
//! database each, the rest for everything else, so that a busy table never shares a slot with the definitions.
//! The hash has to be the same after a restart: slots are saved at a clean shutdown.

use pgrx::pg_sys::Oid;
use xxhash_rust::xxh3::xxh3_64;

/// The slot of roles and memberships.
pub const CLUSTER_SLOT: u32 = 0;
/// Number of slots reserved for the definitions of databases.
const DATABASES: u32 = 63;
/// Number of slots for the cluster and the definitions of databases; tags are hashed to the others.
pub const RESERVED: u32 = 1 + DATABASES;

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

/// The slot of the definitions of `database` (tables, functions, rights, policies …).
pub fn definitions_slot(database: Oid) -> u32 {
    1 + database.to_u32() % DATABASES
}

/// The slot of `tag` in `database`, given the number of slots in use.
pub fn slot_of(database: Oid, tag: Tag<'_>, slots: u32) -> u32 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&database.to_u32().to_le_bytes());
    match tag {
        Tag::Relation(relation) => {
            bytes.push(b'r');
            bytes.extend_from_slice(&relation.to_u32().to_le_bytes());
        }
        Tag::WholeRelation(relation) => {
            bytes.push(b'w');
            bytes.extend_from_slice(&relation.to_u32().to_le_bytes());
        }
        Tag::Key {
            relation,
            column,
            value,
        } => {
            bytes.push(b'k');
            bytes.extend_from_slice(&relation.to_u32().to_le_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes.extend_from_slice(column.as_bytes());
        }
        Tag::Function(function) => {
            bytes.push(b'f');
            bytes.extend_from_slice(&function.to_u32().to_le_bytes());
        }
        Tag::Named(name) => {
            bytes.push(b'n');
            bytes.extend_from_slice(name.as_bytes());
        }
    }
    RESERVED + (xxh3_64(&bytes) % u64::from(slots - RESERVED)) as u32
}
