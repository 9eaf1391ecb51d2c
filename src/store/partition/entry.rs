//! An entry: its fixed fields, after which its dependencies, the rest of its key and its value follow.
//!
//! Database and function are the first bytes of every key. They are kept as fields, and only what follows of the key as bytes.
//!
//! Invariants: the fixed fields lie together in the first extent. Any bytes make a valid [`EntryHead`], since a reader without a lock may
//! copy one that is just being written. The lengths never change while an entry lives.
//!
//! Locks: a field that says so is written under the lock of the partition, and trusted only under it. The others are written before the
//! entry goes live, and read by anyone. There is no reference to an entry in shared memory, only copies of it and its fields
//! (`super::racing`).

use super::racing;
use crate::validity::Dependency;
use pg_query_cache_eviction::{Id, NIL};

/// How a value is kept.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQL NULL.
    Null = 0,
    /// The bytes of one Datum.
    Scalar = 1,
    /// Rows, each with its length.
    Rows = 2,
}

/// In [`EntryHead::persisted`]: the table tier does not want it, for it is in a table anyway (a value of the application).
pub const NEVER_PERSISTED: u8 = 2;

/// In [`EntryHead::persisted`]: the table tier does not have it and will not, because it had no room for it or could not take it.
pub const LEFT_OUT: u8 = 3;

/// Fixed fields of an entry, at the start of its first extent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EntryHead {
    /// Hash of the key.
    pub hash: u64,
    /// When the value was computed, microseconds since 2000-01-01.
    pub created_at: i64,
    /// When it stops being served.
    pub expires_at: i64,
    /// Oid of the database. With that of the function the first bytes of the key.
    pub database: u32,
    /// Oid of the cached function.
    pub function: u32,
    /// Next entry in the bucket. Written under the lock, atomically.
    pub(super) bucket_next: u32,
    /// Bytes of the key after database and function.
    key_rest: u32,
    /// Bytes of the value.
    pub value_length: u32,
    /// Number of dependencies.
    pub dependencies: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// Priority of the function, 0 to 3.
    pub priority: u8,
    /// How long the function took, in microseconds.
    pub cost_us: u32,
    /// Tells the entry from those that had its place before, and will have it.
    pub(super) serial: u32,
    /// Links of the eviction queue. Under the lock.
    pub(super) queue_next: Id,
    pub(super) queue_previous: Id,
    /// Links of the list of its database. Under the lock.
    pub(super) owner_next: Id,
    pub(super) owner_previous: Id,
    /// Hits handed over so far. Under the lock, which may be shared: it is added to.
    pub hits: u32,
    /// The hits that its row in the table tier has. Under the lock.
    pub hits_written: u32,
    /// 1 once the table tier has it, [`NEVER_PERSISTED`] or [`LEFT_OUT`]. Under the lock.
    pub persisted: u8,
    /// 1 if it was kept for age alone (`consistency: ttl`).
    pub by_age: u8,
    /// If it has one of the places of its database ([`crate::store::area::Places`]): one more than the number of that among the
    /// databases. Else 0.
    pub placed: u16,
    /// 1 if the eviction queue has it among the established ones. Under the lock.
    pub(super) established: u8,
    /// 1 if it was computed in a session with planner settings of its own.
    pub own_plan: u8,
}
/// Bytes of the fixed fields.
pub(super) const ENTRY_HEAD: usize = size_of::<EntryHead>();
const _: () = assert!(ENTRY_HEAD == 88 && align_of::<EntryHead>() == 8);

const _: () = assert!(ENTRY_HEAD == racing::FIXED);

/// A copy of an entry whose fields others may be changing.
///
/// # Safety
/// `at` is a place for an entry in memory that lives as long as the process.
#[inline(always)]
pub(super) unsafe fn load(at: *const EntryHead) -> EntryHead {
    let mut entry = std::mem::MaybeUninit::<EntryHead>::uninit();
    // SAFETY: the caller's; any bytes make an entry.
    unsafe {
        racing::copy_fixed(at.cast(), entry.as_mut_ptr().cast());
        entry.assume_init()
    }
}

/// Writes an entry where others may be reading.
///
/// # Safety
/// As above; the place is the caller's.
pub(super) unsafe fn store(at: *mut EntryHead, entry: &EntryHead) {
    // SAFETY: the caller's.
    unsafe { racing::copy_fixed((&raw const *entry).cast(), at.cast()) }
}

impl EntryHead {
    /// Fields of a new entry that is in no list yet.
    pub fn new(
        hash: u64,
        created_at: i64,
        expires_at: i64,
        database: u32,
        function: u32,
        kind: Kind,
    ) -> Self {
        EntryHead {
            hash,
            created_at,
            expires_at,
            database,
            function,
            bucket_next: NIL,
            key_rest: 0,
            value_length: 0,
            dependencies: 0,
            kind: kind as u8,
            priority: 0,
            cost_us: 0,
            serial: 0,
            queue_next: NIL,
            queue_previous: NIL,
            owner_next: NIL,
            owner_previous: NIL,
            hits: 0,
            hits_written: 0,
            persisted: 0,
            by_age: 0,
            placed: 0,
            established: 0,
            own_plan: 0,
        }
    }

    /// What database and function are in a key.
    pub fn key_start(&self) -> [u8; 8] {
        let mut start = [0; 8];
        start[..4].copy_from_slice(&self.database.to_le_bytes());
        start[4..].copy_from_slice(&self.function.to_le_bytes());
        start
    }

    /// What of `key` is kept besides database and function; `None` if it is the key of another database or function.
    pub fn rest_of<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(&self.key_start())
    }

    /// Whether the entry can be the one of `key`: the rest of the key has to be compared with that of the entry.
    #[inline(always)]
    pub fn may_have(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash
            && key.len() == self.key_rest as usize + self.key_start().len()
            && key.starts_with(&self.key_start())
    }

    /// Sets the lengths of what follows the fixed fields. `false` if one is more than can be.
    pub fn measure(&mut self, dependencies: usize, key_rest: usize, value: usize) -> bool {
        match (
            dependencies.try_into(),
            key_rest.try_into(),
            value.try_into(),
        ) {
            (Ok(dependencies), Ok(key_rest), Ok(value)) => {
                (self.dependencies, self.key_rest, self.value_length) =
                    (dependencies, key_rest, value);
                true
            }
            _ => false,
        }
    }

    /// Whether it would be gone for good if it left memory, though it is a result and no value of the application.
    pub fn is_only_in_memory(&self) -> bool {
        matches!(self.persisted, 0 | LEFT_OUT)
    }

    /// Tells the entry from the others that had its place, or will.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Bytes of the dependencies.
    #[inline(always)]
    pub fn dependency_bytes(&self) -> usize {
        self.dependencies as usize * size_of::<Dependency>()
    }

    /// Bytes of the rest of the key.
    #[inline(always)]
    pub fn key_rest(&self) -> usize {
        self.key_rest as usize
    }

    /// Bytes of dependencies, key and value together.
    pub fn payload(&self) -> usize {
        self.dependency_bytes() + self.key_rest() + self.value_length as usize
    }
}
