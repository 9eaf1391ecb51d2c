//! The slot's single steps, and its words.

#![allow(clippy::panic)]

use pg_query_cache_validity::{Doubt, Effect, FullXid, Slot, SnapshotView};

/// A snapshot that has seen everything below `xmax` finished but `running`.
struct Snapshot<'a> {
    xmax: FullXid,
    running: &'a [FullXid],
    /// Ended, but their effect at commit is still on its way.
    spreading: &'a [FullXid],
}

fn before(xmax: FullXid) -> Snapshot<'static> {
    Snapshot {
        xmax,
        running: &[],
        spreading: &[],
    }
}

impl SnapshotView for Snapshot<'_> {
    fn finished(&self, xid: FullXid) -> bool {
        xid < self.xmax && !self.running.contains(&xid)
    }
    fn xmin(&self) -> FullXid {
        self.running.iter().copied().fold(self.xmax, FullXid::min)
    }
    fn effective(&self, xid: FullXid) -> bool {
        !self.spreading.contains(&xid)
    }
    fn effective_up_to(&self, xid: FullXid) -> bool {
        self.spreading.iter().all(|spreading| *spreading > xid)
    }
}

type Small = Slot<2, 1>;

#[test]
fn an_empty_slot_is_quiet_and_right_for_everybody() {
    let slot = Small::EMPTY;
    assert!(slot.is_quiet() && !slot.is_full() && !slot.needs_latest());
    assert_eq!(slot.newest_settled(), 0);
    assert_eq!(slot.judge(&before(1)), Ok(0));
    assert!(slot.to_words().all(|word| word == 0));
}

#[test]
fn a_writer_is_listed_once() {
    let mut slot = Small::EMPTY;
    assert!(slot.register(10, Effect::Rows));
    assert!(!slot.register(10, Effect::Rows));
    assert!(slot.may_be_writer(10) && !slot.may_be_writer(11) && !slot.may_be_writer(0));
    assert!(!slot.is_quiet() && !slot.needs_latest());
    assert!(
        slot.register(10, Effect::AtCommit),
        "the stronger effect is noted"
    );
    assert!(slot.needs_latest());
    assert!(
        !slot.register(10, Effect::Rows) && slot.needs_latest(),
        "and kept"
    );
}

#[test]
fn settling_moves_the_finished_ones_at_once() {
    let mut slot = Slot::<3, 3>::EMPTY;
    for xid in [12, 10, 11] {
        slot.register(xid, Effect::Rows);
    }
    let view = Snapshot {
        running: &[11],
        ..before(13)
    };
    assert_eq!(
        slot.judge(&view),
        Err(Doubt::Unsettled),
        "judged without settling"
    );
    assert!(slot.settle(&view));
    assert!(!slot.settle(&view), "nothing is left to move");
    assert_eq!(
        (slot.generation, slot.newest_settled(), slot.horizon),
        (1, 12, 0)
    );
    assert_eq!(slot.judge(&view), Ok(1));
    assert_eq!(
        slot.judge(&before(12)),
        Err(Doubt::Unseen),
        "has seen 10 and 11, but not 12"
    );
    assert!(slot.may_be_writer(11) && !slot.may_be_writer(12));
}

#[test]
fn a_batch_drops_the_one_before() {
    let mut slot = Small::EMPTY;
    slot.register(10, Effect::Rows);
    slot.settle(&before(11));
    slot.register(12, Effect::Rows);
    slot.settle(&before(13));
    assert_eq!((slot.generation, slot.newest_settled()), (2, 12));
    assert_eq!(slot.judge(&before(13)), Ok(2));
    assert_eq!(slot.judge(&before(12)), Err(Doubt::Unseen));
}

#[test]
fn a_batch_that_is_too_long_for_the_list_lists_the_newest() {
    for order in [[10, 20], [20, 10]] {
        let mut slot = Small::EMPTY;
        for xid in order {
            slot.register(xid, Effect::Rows);
        }
        slot.settle(&before(21));
        assert_eq!((slot.horizon, slot.newest_settled()), (10, 20));
        assert_eq!(
            slot.judge(&Snapshot {
                running: &[15],
                ..before(21)
            }),
            Ok(1)
        );
        assert_eq!(
            slot.judge(&Snapshot {
                running: &[5],
                ..before(21)
            }),
            Err(Doubt::Unseen),
            "xmin is not above 10"
        );
    }
}

#[test]
fn without_a_list_everything_is_horizon() {
    let mut slot = Slot::<1, 0>::EMPTY;
    slot.register(10, Effect::Rows);
    slot.settle(&before(11));
    assert_eq!((slot.horizon, slot.newest_settled()), (10, 10));
    let mut slot = Slot::<0, 0>::EMPTY;
    slot.register(10, Effect::Rows);
    assert_eq!((slot.overflow, slot.is_full()), (10, true));
}

#[test]
fn overflow_lasts_until_everything_up_to_it_is_finished() {
    let mut slot = Small::EMPTY;
    for xid in [10, 11, 13, 12] {
        slot.register(xid, Effect::Rows);
    }
    assert_eq!(slot.overflow, 13);
    assert!(slot.may_be_writer(12));
    let held_back = Snapshot {
        running: &[5],
        ..before(14)
    };
    assert!(slot.settle(&held_back), "the listed ones settle");
    assert_eq!(slot.judge(&held_back), Err(Doubt::Overflow));
    assert!(!slot.settle(&held_back));
    assert!(slot.settle(&before(14)));
    assert_eq!((slot.overflow, slot.horizon, slot.generation), (0, 13, 2));
    assert_eq!(slot.judge(&before(14)), Ok(2));
    assert_eq!(slot.judge(&held_back), Err(Doubt::Unseen));
    slot.register(20, Effect::Rows);
    slot.settle(&before(21));
    assert_eq!(
        (slot.horizon, slot.newest_settled()),
        (0, 20),
        "a batch without overflow has no horizon"
    );
}

#[test]
fn an_effect_at_commit_displaces_rows() {
    let mut slot = Small::EMPTY;
    slot.register(10, Effect::Rows);
    slot.register(11, Effect::Rows);
    slot.register(12, Effect::AtCommit);
    assert!(slot.needs_latest());
    assert_eq!(slot.overflow, 10);
    slot.register(13, Effect::AtCommit);
    assert_eq!(slot.overflow, 11);
    slot.register(9, Effect::AtCommit);
    assert_eq!(
        slot.overflow,
        11 | 1 << 63,
        "nobody left to displace: marked"
    );
    let spreading = Snapshot {
        spreading: &[9],
        ..before(20)
    };
    assert!(!slot.settle(&spreading));
    assert!(slot.settle(&before(20)));
    assert_eq!(
        (slot.overflow, slot.horizon, slot.newest_settled()),
        (0, 12, 13)
    );
}

#[test]
fn withdrawing_leaves_no_trace() {
    let mut slot = Small::EMPTY;
    slot.register(10, Effect::AtCommit);
    assert!(slot.withdraw(10));
    assert_eq!(slot, Small::EMPTY);
    assert!(!slot.withdraw(10) && !slot.withdraw(0));
    for xid in [10, 11, 12] {
        slot.register(xid, Effect::Rows);
    }
    assert!(!slot.withdraw(12), "an overflowed one cannot");
}

#[test]
fn an_effect_that_is_still_spreading_holds_everything_back() {
    let mut slot = Small::EMPTY;
    slot.register(10, Effect::Rows);
    slot.register(11, Effect::AtCommit);
    let spreading = Snapshot {
        spreading: &[11],
        ..before(12)
    };
    assert!(!slot.settle(&spreading));
    assert_eq!(slot.judge(&spreading), Err(Doubt::Unsettled));
    let old = before(10);
    assert_eq!(
        slot.ask(&old, || Snapshot {
            spreading: &[11],
            ..before(12)
        }),
        Err(Doubt::Unsettled)
    );
    assert_eq!(
        slot.ask(&old, || before(12)),
        Err(Doubt::Unseen),
        "settled by the latest, which the old one has not seen"
    );
    assert_eq!(
        slot.ask(&before(12), unreachable_view),
        Ok(1),
        "no effect at commit pending: nobody takes a snapshot"
    );
}

fn unreachable_view() -> Snapshot<'static> {
    panic!("took a snapshot without need")
}

#[test]
fn an_impossible_id_makes_the_slot_unknown() {
    for xid in [0, 1 << 63, u64::MAX] {
        let mut slot = Small::EMPTY;
        assert!(slot.register(xid, Effect::Rows));
        assert_eq!(slot, Small::UNKNOWN);
        assert!(!slot.settle(&before(1 << 62)));
        assert_eq!(slot.judge(&before(1 << 62)), Err(Doubt::Overflow));
    }
}

/// splitmix64: as random as this test needs, and the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A word of the kinds that break things: free, small, marked, all ones, anything.
    fn word(&mut self) -> u64 {
        match self.next() % 6 {
            0 => 0,
            1 => self.next() % 8,
            2 => (self.next() % 8) | (1 << 63),
            3 => 1 << 63,
            4 => u64::MAX,
            _ => self.next(),
        }
    }
}

fn any_words_are_a_slot<const P: usize, const S: usize>(seed: u64) {
    let mut random = Random(seed);
    for _ in 0..20_000 {
        let words: Vec<u64> = (0..Slot::<P, S>::WORDS + 2)
            .map(|_| random.word())
            .collect();
        let mut slot = Slot::<P, S>::from_words(&words);
        let back: Vec<u64> = slot.to_words().collect();
        assert_eq!(back, words[..Slot::<P, S>::WORDS], "every word comes back");
        assert_eq!(Slot::from_words(&back), slot);
        for short in 0..Slot::<P, S>::WORDS {
            assert_eq!(Slot::<P, S>::from_words(&words[..short]), Slot::UNKNOWN);
        }
        // Whatever the words: no panic, and no answer that contradicts itself.
        let view = before(random.word());
        for _ in 0..4 {
            let effect = if random.next().is_multiple_of(2) {
                Effect::Rows
            } else {
                Effect::AtCommit
            };
            let xid = random.word();
            slot.register(xid, effect);
            assert!(xid == 0 || xid >> 63 != 0 || slot.may_be_writer(xid));
            slot.withdraw(random.word());
            let generation = slot.generation;
            let moved = slot.settle(&view);
            assert_eq!(slot.generation, generation.wrapping_add(u64::from(moved)));
            if let Ok(generation) = slot.judge(&view) {
                assert_eq!((generation, slot.overflow), (slot.generation, 0));
                assert!(slot.newest_settled() == 0 || view.finished(slot.newest_settled()));
            }
            let _ = slot.ask(&view, || before(u64::MAX));
            let _ = (slot.is_full(), slot.is_quiet(), slot.needs_latest());
        }
    }
}

#[test]
fn any_words_are_a_slot_of_any_size() {
    any_words_are_a_slot::<0, 0>(1);
    any_words_are_a_slot::<1, 1>(2);
    any_words_are_a_slot::<2, 1>(3);
    any_words_are_a_slot::<6, 6>(4);
}

/// The slot against a plain list of everything that ever happened, far beyond the sizes that can be explored exhaustively: whom
/// `judge` accepts has seen every settled writer and no pending one.
#[test]
fn whoever_is_accepted_sees_exactly_the_settled_writers() {
    let mut random = Random(5);
    let mut accepted = 0;
    for _ in 0..300 {
        let mut slot = Slot::<4, 2>::EMPTY;
        let mut running: Vec<FullXid> = Vec::new();
        let mut next: FullXid = 1;
        // Writers with the generation that settled them, none if still pending.
        let mut writers: Vec<FullXid> = Vec::new();
        let mut snapshots: Vec<(FullXid, Vec<FullXid>)> = Vec::new();
        // What the views that were accepted at a generation have seen.
        let mut seen_at: Vec<(u64, Vec<FullXid>)> = Vec::new();
        for _ in 0..200 {
            match random.next() % 8 {
                0 | 1 if running.len() < 8 => {
                    running.push(next);
                    next += 1;
                }
                2 | 3 if !running.is_empty() => {
                    let xid = running[random.next() as usize % running.len()];
                    slot.register(xid, Effect::Rows);
                    writers.push(xid);
                }
                4 if !running.is_empty() => {
                    let at = random.next() as usize % running.len();
                    running.swap_remove(at);
                }
                5 => snapshots.push((next, running.clone())),
                _ if !snapshots.is_empty() => {
                    let (xmax, running) = &snapshots[random.next() as usize % snapshots.len()];
                    let view = Snapshot {
                        xmax: *xmax,
                        running,
                        spreading: &[],
                    };
                    slot.settle(&view);
                    if let Ok(generation) = slot.judge(&view) {
                        accepted += 1;
                        let mut seen: Vec<FullXid> = writers
                            .iter()
                            .copied()
                            .filter(|xid| view.finished(*xid))
                            .collect();
                        seen.sort_unstable();
                        seen.dedup();
                        match seen_at.iter().find(|(at, _)| *at == generation) {
                            Some((_, others)) => {
                                assert_eq!(*others, seen, "two views of one generation differ")
                            }
                            None => seen_at.push((generation, seen)),
                        }
                    }
                }
                _ => {}
            }
        }
    }
    assert!(accepted > 1000, "{accepted}");
}

/// The rules want snapshots that are cuts through the order of ends. One that is not (of a logical replication slot: it has seen the
/// transaction 1, whose commit record is written, and not 2, which ended before 1 did) is judged to the same generation as one that has seen
/// both. So the caller must not ask with such a snapshot.
#[test]
fn a_snapshot_that_is_no_cut_is_a_counterexample() {
    let mut slot = Slot::<4, 4>::EMPTY;
    slot.register(1, Effect::Rows);
    slot.register(2, Effect::Rows);
    let everybody = Snapshot {
        running: &[1],
        ..before(3)
    };
    slot.settle(&everybody);
    assert_eq!(slot.judge(&everybody), Ok(1));
    let no_cut = Snapshot {
        running: &[2],
        ..before(3)
    };
    slot.settle(&no_cut);
    let later = before(3);
    assert!(!slot.settle(&later));
    assert_eq!(
        (slot.judge(&no_cut), slot.judge(&later)),
        (Ok(2), Ok(2)),
        "one generation, and two sets of writers"
    );
    assert!(!no_cut.finished(2) && later.finished(2));
}
