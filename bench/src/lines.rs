//! What it costs here that a line of the cache is written, by one core or by two in turn.

use std::hint;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// A counter that has its cache line for itself, and the one that is fetched along with it.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Operations of a burst. Bursts are short, and the best of many counts: a thread that is interrupted, or has no core, spoils one.
const BURST: u64 = 2_000;
const BURSTS: usize = 200;

/// Nanoseconds of an atomic addition to a line that nobody else wants.
pub(crate) fn own() -> f64 {
    let line = Line::default();
    best(|| {
        let begin = Instant::now();
        for _ in 0..BURST {
            line.0.fetch_add(1, Ordering::Relaxed);
        }
        begin.elapsed().as_secs_f64() * 1e9 / BURST as f64
    })
}

/// Nanoseconds for a change to get from one core to another: two threads change the same line in turn, each as soon as it sees the
/// other's change.
pub(crate) fn transfer() -> f64 {
    let line = Line::default();
    best(|| {
        line.0.store(0, Ordering::Relaxed);
        let turns = |first: u64| {
            for turn in (first..BURST).step_by(2) {
                while line
                    .0
                    .compare_exchange_weak(turn, turn + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_err()
                {
                    hint::spin_loop();
                }
            }
        };
        together(turns) / BURST as f64
    })
}

/// Additions in a nanosecond by `threads` threads, all to one line, each with so many steps of work of its own in between; the best of
/// many bursts.
pub(crate) fn additions(threads: u64, steps: u64) -> f64 {
    let line = Line::default();
    let work = || {
        for _ in 0..BURST {
            think(steps);
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    };
    match threads {
        1 => {
            1.0 / best(|| {
                let begin = Instant::now();
                work();
                begin.elapsed().as_secs_f64() * 1e9 / BURST as f64
            })
        }
        _ => 2.0 / best(|| together(|_| work()) / BURST as f64),
    }
}

/// Nanoseconds of so many steps of work that needs no memory.
pub(crate) fn steps(count: u64) -> f64 {
    best(|| {
        let begin = Instant::now();
        for _ in 0..BURST {
            think(count);
        }
        begin.elapsed().as_secs_f64() * 1e9 / BURST as f64
    })
}

fn think(steps: u64) {
    for step in 0..steps {
        hint::black_box(step);
    }
}

/// Nanoseconds from when two threads begin at the same time until both are done.
fn together(work: impl Fn(u64) + Sync) -> f64 {
    let start = Barrier::new(2);
    let timed = |thread: u64| {
        start.wait();
        let begin = Instant::now();
        work(thread);
        (begin, Instant::now())
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| timed(1));
        let (begin, end) = timed(0);
        let (other_begin, other_end) = other.join().unwrap_or((begin, end));
        let took = end.max(other_end) - begin.min(other_begin);
        took.as_secs_f64() * 1e9
    })
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..BURSTS).map(|_| measure()).fold(f64::INFINITY, f64::min)
}
