//! LRU and FIFO, to the letter: keys in the order of their last request, or of their arrival.

use std::collections::{BTreeMap, HashMap};

use super::Cache;

/// A cache from which the key that is first in a queue leaves.
pub(super) struct Queue {
    room: usize,
    /// Whether a request sends the key to the end of the queue.
    renewed: bool,
    /// The place of each key in the queue.
    places: HashMap<u64, u64>,
    /// The key at each place.
    queue: BTreeMap<u64, u64>,
    requests: u64,
}

impl Queue {
    pub(super) fn lru(room: usize) -> Self {
        Queue {
            room,
            renewed: true,
            places: HashMap::new(),
            queue: BTreeMap::new(),
            requests: 0,
        }
    }

    pub(super) fn fifo(room: usize) -> Self {
        Queue {
            renewed: false,
            ..Queue::lru(room)
        }
    }
}

impl Cache for Queue {
    fn request(&mut self, key: u64) -> bool {
        self.requests += 1;
        let place = self.places.get(&key).copied();
        if let Some(place) = place {
            if !self.renewed {
                return true;
            }
            self.queue.remove(&place);
        } else if self.places.len() == self.room
            && let Some((_, first)) = self.queue.pop_first()
        {
            self.places.remove(&first);
        }
        self.queue.insert(self.requests, key);
        self.places.insert(key, self.requests);
        place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(mut cache: Queue, keys: &[u64]) -> Vec<bool> {
        keys.iter().map(|key| cache.request(*key)).collect()
    }

    #[test]
    fn the_least_recently_requested_key_leaves() {
        assert_eq!(
            hits(Queue::lru(2), &[1, 2, 1, 3, 1, 2, 3]),
            [false, false, true, false, true, false, false]
        );
    }

    #[test]
    fn the_first_in_is_the_first_out() {
        assert_eq!(
            hits(Queue::fifo(2), &[1, 2, 1, 3, 1, 3, 2]),
            [false, false, true, false, false, true, false]
        );
    }
}
