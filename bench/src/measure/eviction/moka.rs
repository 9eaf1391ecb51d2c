//! W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 2017) as `moka` has it.

use std::hash::{BuildHasherDefault, DefaultHasher};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// The cache. What it puts off is done after each request, so that its size is exact and its hits depend on nothing else.
pub(super) struct Moka(Cache<u64, (), BuildHasherDefault<DefaultHasher>>);

impl Moka {
    pub(super) fn new(room: usize) -> Self {
        let cache = Cache::builder()
            .max_capacity(room as u64)
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .build_with_hasher(BuildHasherDefault::default());
        Moka(cache)
    }
}

impl super::Cache for Moka {
    fn request(&mut self, key: u64) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, ());
        }
        self.0.run_pending_tasks();
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cache;
    use super::*;

    #[test]
    fn there_is_never_more_than_there_is_room_for() {
        let mut cache = Moka::new(10);
        for key in 0..1000 {
            cache.request(key % 30);
            assert!(cache.0.iter().count() <= 10);
        }
    }
}
