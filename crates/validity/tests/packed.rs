//! A slot in seven words is the slot.

use pg_query_cache_validity::packed::{FARTHEST, PackedSlot, WORDS};
use pg_query_cache_validity::{Effect, FullXid, SnapshotView};

/// A snapshot that has seen everything below `xmax` finished but `running`.
struct Snapshot {
    xmax: FullXid,
    running: Vec<FullXid>,
}

impl SnapshotView for Snapshot {
    fn finished(&self, xid: FullXid) -> bool {
        xid < self.xmax && !self.running.contains(&xid)
    }
    fn xmin(&self) -> FullXid {
        self.running.iter().copied().fold(self.xmax, FullXid::min)
    }
}

/// The same numbers each time (Marsaglia's xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[test]
fn nothing_is_lost_on_the_way() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for start in [1, 1 << 31, (1 << 32) - 20, 1 << 33, 1 << 47] {
        let mut slot = PackedSlot::EMPTY;
        let (mut next, mut running) = (start, Vec::new());
        for _ in 0..20_000 {
            match numbers.below(5) {
                0 | 1 => {
                    next += numbers.below(3);
                    let effect = [Effect::Rows, Effect::AtCommit][numbers.below(2) as usize];
                    slot.register(next, effect);
                    running.push(next);
                }
                2 if !running.is_empty() => {
                    let ended = running.swap_remove(numbers.below(running.len() as u64) as usize);
                    if numbers.below(2) == 0 {
                        slot.withdraw(ended);
                    }
                }
                _ => {
                    let view = Snapshot {
                        xmax: next + 1,
                        running: running.clone(),
                    };
                    slot.settle(&view);
                }
            }
            let words = slot.pack();
            assert_eq!(PackedSlot::unpack(&words), slot);
            let quiet = PackedSlot::quiet(&words);
            assert_eq!(quiet.is_some(), slot.is_quiet());
            if let Some(quiet) = quiet {
                assert_eq!(quiet, (slot.generation, slot.newest_settled()));
            }
        }
    }
}

#[test]
fn an_empty_slot_is_zeros_and_an_unknown_one_stays_unknown() {
    assert_eq!(PackedSlot::EMPTY.pack(), [0; WORDS]);
    let words = PackedSlot::UNKNOWN.pack();
    assert_eq!(PackedSlot::unpack(&words), PackedSlot::UNKNOWN);
    assert_eq!(PackedSlot::quiet(&words), None);
    let mut slot = PackedSlot::EMPTY;
    slot.register(7, Effect::Rows);
    slot.register(0, Effect::Rows);
    let back = PackedSlot::unpack(&slot.pack());
    assert_eq!((back, back.overflow), (slot, u64::MAX));
}

/// A writer that nobody asked about for 2^31 transactions and more.
#[test]
fn what_ended_long_ago_stays_ended() {
    for distance in [FARTHEST, FARTHEST + 1, 1 << 31, 1 << 32, 1 << 40] {
        let (old, new) = (1000, 1000 + distance);
        for effect in [Effect::Rows, Effect::AtCommit] {
            let mut slot = PackedSlot::EMPTY;
            slot.register(old, effect);
            slot.register(new, Effect::Rows);
            let mut packed = PackedSlot::unpack(&slot.pack());
            assert_eq!(packed.needs_latest(), slot.needs_latest());
            // The server lets nobody fall 2^31 transactions behind.
            let view = Snapshot {
                xmax: new + 5,
                running: vec![new, new + 1],
            };
            assert_eq!(slot.ask(&view, || &view), packed.ask(&view, || &view));
            assert_eq!(packed.generation, 1, "the old one is settled");
            assert!(packed.is_pending(new), "the new one is not");
            packed = PackedSlot::unpack(&packed.pack());
            assert_eq!(packed.judge(&view), slot.judge(&view));
        }
    }
}

#[test]
fn any_words_are_a_slot() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let view = Snapshot {
        xmax: 1 << 40,
        running: vec![17],
    };
    for _ in 0..200_000 {
        let words: [u64; WORDS] = std::array::from_fn(|_| match numbers.below(5) {
            0 => 0,
            1 => numbers.below(8),
            2 => u64::MAX,
            3 => numbers.below(8) << 32 | numbers.below(8),
            _ => numbers.below(u64::MAX),
        });
        let mut slot = PackedSlot::unpack(&words);
        if PackedSlot::quiet(&words).is_some() {
            assert!(slot.is_quiet() || slot == PackedSlot::UNKNOWN);
        }
        slot.register(numbers.below(1 << 48), Effect::Rows);
        let _ = slot.ask(&view, || &view);
        assert_eq!(PackedSlot::unpack(&slot.pack()).generation, slot.generation);
    }
}
