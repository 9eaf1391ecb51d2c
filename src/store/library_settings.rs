//! Names of the settings that libraries have brought since the server started, each as a hash.
//!
//! A session may give such a setting a value before it has loaded the library: to the server it is then a name like any other. This list
//! tells it from a name of an application, for keys that leave those out. It only grows. A name that finds no room makes every name
//! count as one of a library, which costs hits.
//!
//! Written under the requests lock, read without: a name is there before it is counted.

use super::locks::lock_requests;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// As many names are told apart.
const ROOM: usize = 128;
/// The count of a list that has no room for another name.
const OVERFLOWN: u32 = u32::MAX;

/// The list in shared memory, zeroed at creation.
#[repr(C)]
pub struct LibrarySettings {
    count: AtomicU32,
    hashes: [AtomicU64; ROOM],
}

impl LibrarySettings {
    /// Grows with the list.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The names, in no order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        let count = (self.count() as usize).min(ROOM);
        self.hashes[..count]
            .iter()
            .map(|hash| hash.load(Ordering::Relaxed))
    }

    /// Whether a setting of this name may be a library's.
    pub fn may_have(&self, hash: u64) -> bool {
        self.count() == OVERFLOWN || self.hashes().any(|known| known == hash)
    }

    /// Libraries bring settings of these names.
    pub fn add(&self, hashes: &[u64]) {
        if hashes.iter().all(|hash| self.may_have(*hash)) {
            return;
        }
        let _guard = lock_requests();
        for hash in hashes {
            let count = self.count();
            if self.may_have(*hash) {
                continue;
            }
            match self.hashes.get(count as usize) {
                Some(free) => {
                    free.store(*hash, Ordering::Relaxed);
                    self.count.store(count + 1, Ordering::Release);
                }
                None => self.count.store(OVERFLOWN, Ordering::Release),
            }
        }
    }
}
