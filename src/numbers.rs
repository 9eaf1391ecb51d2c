//! Maps by numbers that the server or we give out: oids, slots, blocks.
//!
//! Nobody chooses such numbers to make them collide, so the keyed hash of the standard library is not needed here; computing it
//! was one of the larger parts of a hit.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such numbers.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// An empty map, made without running code: good for statics.
pub const fn number_map<K, V>() -> NumberMap<K, V> {
    HashMap::with_hasher(BuildHasherDefault::new())
}

/// Multiplies, and folds the product so that all of its bits count.
#[derive(Clone, Copy, Default)]
pub struct NumberHasher(u64);

/// 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for NumberHasher {
    #[inline(always)]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0.rotate_left(32) ^ number) * u128::from(SPREAD);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline(always)]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}
