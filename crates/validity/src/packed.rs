//! A slot in seven words, so that with its sequence number it fills one cache line.
//!
//! ```text
//! word 0      generation
//! word 1      newest: the newest transaction that is listed anywhere in the slot, 0 if none is
//! words 2..7  ten places of 32 bits: overflow, pending (5), horizon, settled (3)
//! ```
//!
//! A place holds 0 for none, else how far below `newest` the transaction lies, plus one; its highest bit is the mark of an
//! [`Effect::AtCommit`](crate::Effect) writer. Nothing is lost but this: transactions more than [`FARTHEST`] below the newest one
//! become the one that lies just so far below. PostgreSQL lets no transaction run that is 2^31 ids behind, and a snapshot's `xmin` is at
//! most that far behind too, so both the true id and the one in its place are finished for every snapshot: all questions about them have
//! the same answers.

use crate::{AT_COMMIT, FullXid, Slot};

/// Words of a packed slot.
pub const WORDS: usize = 7;

/// A slot with the lists that fit: five writers at once, and three settled ones.
pub type PackedSlot = Slot<5, 3>;

/// Transactions farther below the newest one than this are taken for the one just so far below.
pub const FARTHEST: u64 = (1 << 31) - 3;

const PLACES: usize = 10;
const FIRST: usize = 2;
/// The places of `overflow` and `pending` fill words of their own.
const WAITING: std::ops::Range<usize> = FIRST..FIRST + 3;
const MARK: u32 = 1 << 31;
/// In the place of `overflow`: the writers are unknown.
const UNKNOWN: u32 = u32::MAX;

impl PackedSlot {
    /// The slot as words.
    pub fn pack(&self) -> [u64; WORDS] {
        let unknown = self.overflow == u64::MAX;
        let [p0, p1, p2, p3, p4] = self.pending;
        let [s0, s1, s2] = self.settled;
        let overflow = if unknown { 0 } else { self.overflow };
        let fields = [overflow, p0, p1, p2, p3, p4, self.horizon, s0, s1, s2];
        let newest = fields
            .iter()
            .map(|word| word & !AT_COMMIT)
            .fold(0, FullXid::max);
        let mut words = [self.generation, newest, 0, 0, 0, 0, 0];
        for (at, word) in fields.into_iter().enumerate() {
            let mut place = match word & !AT_COMMIT {
                0 => 0,
                xid => (newest - xid).min(FARTHEST) as u32 + 1,
            };
            if place != 0 && word & AT_COMMIT != 0 {
                place |= MARK;
            }
            if at == 0 && unknown {
                place = UNKNOWN;
            }
            words[FIRST + at / 2] |= u64::from(place) << (at % 2 * 32);
        }
        words
    }

    /// The slot that [`pack`](Self::pack) wrote. Words that it cannot have written are [`UNKNOWN`](Slot::UNKNOWN).
    pub fn unpack(words: &[u64; WORDS]) -> Self {
        let newest = words[1];
        let mut fields = [0; PLACES];
        for (at, field) in fields.iter_mut().enumerate() {
            let place = (words[FIRST + at / 2] >> (at % 2 * 32)) as u32;
            *field = match place {
                0 => 0,
                UNKNOWN if at == 0 => u64::MAX,
                place => {
                    let below = u64::from(place & !MARK);
                    match newest.checked_sub(below.wrapping_sub(1)) {
                        Some(xid) if xid != 0 && xid & AT_COMMIT == 0 => {
                            xid | if place & MARK != 0 { AT_COMMIT } else { 0 }
                        }
                        _ => return Self::UNKNOWN,
                    }
                }
            };
        }
        let [overflow, p0, p1, p2, p3, p4, horizon, s0, s1, s2] = fields;
        Slot {
            generation: words[0],
            overflow,
            horizon,
            pending: [p0, p1, p2, p3, p4],
            settled: [s0, s1, s2],
        }
    }

    /// Without unpacking: generation and newest settled transaction of a slot that [is quiet](Slot::is_quiet), which most are most of
    /// the time.
    #[inline(always)]
    pub fn quiet(words: &[u64; WORDS]) -> Option<(u64, FullXid)> {
        (words[WAITING].iter().fold(0, |all, word| all | word) == 0).then_some((words[0], words[1]))
    }
}
