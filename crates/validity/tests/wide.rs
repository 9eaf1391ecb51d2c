//! The wide slot's single steps, its words, and that few transactions put nobody in doubt.

use pg_query_cache_validity::wide::{Cut, CutView, HEAD_WORDS, LaidOut, WideSlot, quiet};
use pg_query_cache_validity::{Doubt, FullXid, SnapshotView};

/// A snapshot that has seen everything below `xmax` finished but `running`.
#[derive(Clone)]
struct Snapshot {
    xmax: FullXid,
    running: Vec<FullXid>,
    /// Ended, but the effect is still on its way.
    spreading: Vec<FullXid>,
}

fn snapshot(xmax: FullXid, running: &[FullXid]) -> Snapshot {
    Snapshot {
        xmax,
        running: running.to_vec(),
        spreading: Vec::new(),
    }
}

impl SnapshotView for Snapshot {
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

impl CutView for Snapshot {
    fn cut(&self) -> Cut {
        Cut {
            next: self.xmax,
            running: self.running.iter().filter(|xid| **xid < self.xmax).count() as u32,
        }
    }
}

type Hundred = WideSlot<[FullXid; 100], 3>;

#[test]
fn as_many_as_it_has_places_for_put_nobody_in_doubt() {
    let mut slot = Hundred::empty([0; 100]);
    let writers: Vec<FullXid> = (1000..1100).collect();
    for xid in &writers {
        assert!(slot.register(*xid) && !slot.register(*xid));
    }
    assert!(slot.is_full() && slot.overflow == 0);
    let view = snapshot(1200, &writers);
    assert_eq!(slot.ask(&view, || &view), Ok(0), "all of them open");
    assert!(slot.register(1100), "one more than there is room for");
    assert_eq!(slot.ask(&view, || &view), Err(Doubt::Overflow));
}

#[test]
fn an_old_transaction_costs_nobody_anything() {
    let mut slot = Hundred::empty([0; 100]);
    let old = 7;
    for xid in 1000..1005 {
        slot.register(xid);
    }
    let view = snapshot(1005, &[old]);
    assert_eq!(slot.ask(&view, || &view), Ok(1), "five, settled at once");
    assert_eq!(
        slot.cut,
        Cut {
            next: 1005,
            running: 1
        }
    );
    assert_eq!(slot.settled, [0; 3], "more than it names");
    let later = snapshot(1005, &[old]);
    assert_eq!(slot.judge(&later), Ok(1));
    assert_eq!(slot.judge(&snapshot(2000, &[old, 1500])), Ok(1));
    let earlier = snapshot(1005, &[old, 1003]);
    assert_eq!(slot.judge(&earlier), Err(Doubt::Unseen));
    assert_eq!(slot.judge(&snapshot(1004, &[])), Err(Doubt::Unseen));
}

#[test]
fn a_view_that_has_seen_the_batch_need_not_have_seen_more() {
    let mut slot = Hundred::empty([0; 100]);
    slot.register(10);
    let later = snapshot(30, &[]);
    assert!(slot.settle(&later));
    assert_eq!(slot.judge(&snapshot(11, &[])), Ok(1), "10 is named");
    assert_eq!(slot.judge(&snapshot(10, &[])), Err(Doubt::Unseen));
}

#[test]
fn a_view_settles_at_its_own_cut_first() {
    let mut slot = Hundred::empty([0; 100]);
    for xid in 10..15 {
        slot.register(xid);
    }
    slot.register(40);
    let (view, latest) = (snapshot(15, &[]), snapshot(30, &[]));
    assert_eq!(slot.ask(&view, || &latest), Ok(1));
    assert_eq!(slot.cut.next, 15);
}

#[test]
fn nothing_is_settled_while_an_effect_spreads() {
    let mut slot = Hundred::empty([0; 100]);
    slot.register(10);
    slot.register(11);
    let view = Snapshot {
        spreading: vec![11],
        ..snapshot(12, &[])
    };
    assert!(!slot.settle(&view));
    assert_eq!(slot.ask(&view, || &view), Err(Doubt::Unsettled));
    assert!(slot.withdraw(10) && !slot.withdraw(10));
    assert_eq!(slot.pending(), [11]);
    assert_eq!(slot.ask(&snapshot(12, &[]), || snapshot(12, &[])), Ok(1));
}

#[test]
fn an_overflow_lasts_until_everything_up_to_it_is_finished() {
    let mut slot = WideSlot::<[FullXid; 1], 3>::empty([0]);
    for xid in [10, 11, 12] {
        slot.register(xid);
    }
    assert_eq!(slot.overflow, 12);
    assert!(!slot.settle(&snapshot(13, &[10])));
    let spreading = Snapshot {
        spreading: vec![12],
        ..snapshot(13, &[])
    };
    assert!(!slot.settle(&spreading));
    assert!(slot.settle(&snapshot(13, &[])));
    assert_eq!((slot.overflow, slot.count, slot.settled), (0, 0, [0; 3]));
    assert_eq!(slot.judge(&snapshot(13, &[])), Ok(1));
    assert_eq!(slot.judge(&snapshot(12, &[])), Err(Doubt::Unseen));
}

#[test]
fn cuts_are_in_the_order_in_which_snapshots_are_taken() {
    // Ten transactions end in some order; each end is a cut.
    for first in 1..=10_u64 {
        let order: Vec<FullXid> = (0..10).map(|at| (first * 7 + at * 3) % 10 + 1).collect();
        let mut cuts = Vec::new();
        let mut ended = Vec::new();
        for xid in &order {
            ended.push(*xid);
            let xmax = ended.iter().max().copied().unwrap_or(0) + 1;
            let running: Vec<FullXid> = (1..xmax).filter(|xid| !ended.contains(xid)).collect();
            cuts.push(snapshot(xmax, &running).cut());
        }
        for (at, cut) in cuts.iter().enumerate() {
            for (earlier, other) in cuts.iter().enumerate() {
                assert_eq!(cut.reaches(*other), at >= earlier, "{order:?}");
            }
        }
    }
}

#[test]
fn the_words_are_the_slot() {
    let mut slot = LaidOut::empty(vec![0; 4]);
    assert_eq!(slot.head(), [0; HEAD_WORDS]);
    assert_eq!(quiet(&slot.head()), Some((0, Cut::NONE)));
    for xid in [1 << 40, (1 << 40) + 5, 3 << 33] {
        slot.register(xid);
    }
    assert_eq!(quiet(&slot.head()), None);
    assert_eq!(
        LaidOut::from_parts(&slot.head(), slot.pending.clone()),
        slot
    );
    slot.settle(&snapshot(1 << 41, &[9]));
    assert_eq!(
        LaidOut::from_parts(&slot.head(), slot.pending.clone()),
        slot
    );
    assert_eq!(
        quiet(&slot.head()),
        Some((
            1,
            Cut {
                next: 1 << 41,
                running: 1
            }
        ))
    );
    for xid in 0..6 {
        slot.register((1 << 42) + xid);
    }
    slot.count = 0;
    assert!(slot.overflow != 0 && quiet(&slot.head()).is_none());
}

/// Whatever lies in memory, nothing fails.
#[test]
fn any_words_are_a_slot() {
    let view = snapshot(1 << 40, &[17]);
    for words in [
        [0; HEAD_WORDS],
        [u64::MAX; HEAD_WORDS],
        [5; HEAD_WORDS],
        [1 << 33; HEAD_WORDS],
    ] {
        let mut slot = LaidOut::from_parts(&words, vec![3; 2]);
        let _ = slot.ask(&view, || &view);
        slot.register(99);
        slot.withdraw(3);
        let _ = slot.ask(&view, || &view);
        assert_eq!(
            LaidOut::from_parts(&slot.head(), slot.pending.clone()),
            slot
        );
    }
}
