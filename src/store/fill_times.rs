//! How long computations took: a histogram of 32 buckets, each twice as wide as the one before. Bucket 0 is below a microsecond,
//! bucket *n* from 2^(n-1) to 2^n microseconds, the last one 18 minutes and more.
//!
//! A percentile is interpolated inside its bucket, so it is wrong by less than a factor of two, and never above the longest time,
//! which is exact.

/// Number of buckets.
pub const BUCKETS: usize = 32;

/// Computations by the time they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct FillTimes {
    /// How many, by bucket.
    pub buckets: [u64; BUCKETS],
    /// Microseconds of the longest one.
    pub longest_us: u64,
}

impl FillTimes {
    /// Counts one that took `us` microseconds.
    pub fn count(&mut self, us: u64) {
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.longest_us = self.longest_us.max(us);
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many took less than 2^`exponent` microseconds.
    pub fn below(&self, exponent: usize) -> u64 {
        self.buckets[..=exponent.min(BUCKETS - 1)].iter().sum()
    }

    /// Microseconds below which the share `share` of them stayed; `None` without any.
    pub fn percentile_us(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        let mut before = 0.0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && before + count >= wanted {
                let (low, high) = bounds(bucket);
                let inside = ((wanted - before) / count).clamp(0.0, 1.0);
                return Some((low + inside * (high - low)).min(self.longest_us as f64));
            }
            before += count;
        }
        Some(self.longest_us as f64)
    }
}

fn bounds(bucket: usize) -> (f64, f64) {
    let high = (1u64 << bucket) as f64;
    (if bucket == 0 { 0.0 } else { high / 2.0 }, high)
}
