//! Rows in shared memory that belong to one object of one database each: found by its number, given back when it is gone, and shared out
//! among databases and roles when there are more objects than rows.
//!
//! A row is looked for from a certain place on by everybody; a search ends at the first row that nobody has ever had since. A row that was
//! given back stays in the way of searches until the one after it is free too.
//!
//! Whoever finds no row free takes one over. Who pays for a database ([`super::payer`]) shares the rows equally with the others, its databases share what it has,
//! and the roles of a database what that has: who has less than that takes from whoever has most, anybody else takes from itself what has
//! been idle for [`IDLE_US`], or from anybody what has been idle for [`UNUSED_US`]. A row that is in use is taken only from who keeps
//! more than the taker then has. So a row that is missing is missed by whoever uses them up. Of those that may be taken the one that was
//! used longest ago goes. Where there are more databases than that each can have a row beside that of the rest, they take turns.
//!
//! Each database has one row more, that of all the others ([`Owner::rest_of`]): what a row has counted is added to it before the row
//! goes, so the sums of a database stay right. It is taken over only if it is the last one of its database, by another payer, from one
//! that has more.
//!
//! Locks: the functions' lock, exclusively for a row that gets or loses its owner, shared for what is written into a row on behalf of its
//! owner and must not reach another one. Everything is atomic, so whoever reads takes no lock; it looks at the owner after what it has
//! read. Whom to take a row from is found out before the lock is taken.

use super::locks::{lock_functions, lock_functions_shared};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// A row that was used more recently is not taken over by its own role, in microseconds.
const IDLE_US: i64 = 10_000_000;
/// A row that was used more recently is not taken over by who has a share already, whosever it is, in microseconds.
const UNUSED_US: i64 = 60_000_000;
/// Others may take each row that is given back; after so many attempts there is none.
const ATTEMPTS: usize = 4;

/// Whose row it is: a database and an object in it, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u64);

/// Nobody has had the row, nor any after it in a search.
const NEVER: u64 = 0;
/// The row was given back.
const GIVEN_BACK: u64 = u64::MAX;

impl Owner {
    /// An object of a database.
    pub fn new(database: u32, object: u32) -> Self {
        Owner(u64::from(database) << 32 | u64::from(object))
    }

    /// All objects of a database that have no row of their own.
    pub fn rest_of(database: u32) -> Self {
        Owner::new(database, 0)
    }

    /// The database.
    pub fn database(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The object, 0 for the rest of the database.
    pub fn object(self) -> u32 {
        self.0 as u32
    }
}

/// Who has a row.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Holder(AtomicU64);

impl Holder {
    /// Who has it now.
    #[inline(always)]
    pub fn get(&self) -> Option<Owner> {
        match self.0.load(Ordering::Acquire) {
            NEVER | GIVEN_BACK => None,
            owner => Some(Owner(owner)),
        }
    }

    /// Whether somebody has it now.
    #[inline(always)]
    pub fn is(&self, owner: Owner) -> bool {
        self.0.load(Ordering::Acquire) == owner.0
    }
}

/// On whose account a row is taken.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The role that it counts for in its database, 0 for nobody.
    pub role: u32,
    /// The role that pays for the database; 0 if that pays for itself.
    pub payer: u32,
}

/// A row.
pub trait Row: 'static {
    /// Whose it is.
    fn holder(&self) -> &Holder;
    /// The role that it counts for.
    fn role(&self) -> &AtomicU32;
    /// The role that pays for its database; 0 if that pays for itself.
    fn payer(&self) -> &AtomicU32;
    /// When it was last used, microseconds since 2000-01-01.
    fn used_at(&self) -> &AtomicI64;
    /// Whether it must not be taken over.
    fn is_kept(&self) -> bool;
    /// Adds what it has counted to the row of the rest.
    fn add_to(&self, rest: &Self);
    /// Makes it as new.
    fn clear(&self);
}

/// All rows of a kind.
pub struct Rows<R: 'static> {
    rows: &'static [R],
    /// Changes whenever a row has got or lost its owner; odd while that happens.
    changes: &'static AtomicU64,
}

impl<R> Clone for Rows<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Rows<R> {}

/// A row as it was seen when one was looked for that can be taken over.
struct Taken<R: 'static> {
    row: &'static R,
    owner: Owner,
    role: u32,
    payer: u64,
    used_at: i64,
}

/// A payer as a number that is none of a role: a database that pays for itself is one too.
fn payer(owner: Owner, role: u32) -> u64 {
    match role {
        0 => u64::from(owner.database()),
        role => u64::from(role) | 1 << 32,
    }
}

impl<R: Row> Rows<R> {
    /// The rows, and where their changes are counted.
    pub fn new(rows: &'static [R], changes: &'static AtomicU64) -> Self {
        Rows { rows, changes }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Those that somebody has.
    pub fn taken(&self) -> impl Iterator<Item = (Owner, &'static R)> + use<R> {
        self.rows
            .iter()
            .filter_map(|row| Some((row.holder().get()?, row)))
    }

    /// Those of a database, without that of the rest.
    pub fn of_database(&self, database: u32) -> impl Iterator<Item = (u32, &'static R)> + use<R> {
        self.taken()
            .filter(move |(owner, _)| owner.database() == database && owner.object() != 0)
            .map(|(owner, row)| (owner.object(), row))
    }

    /// The places in the order in which a row is looked for.
    fn places(&self, owner: Owner) -> impl Iterator<Item = usize> + use<R> {
        let count = self.rows.len();
        let start = (owner.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % count;
        (start..count).chain(0..start)
    }

    /// The row of an owner, and the first place that it could get.
    fn search(&self, owner: Owner) -> (Option<&'static R>, Option<usize>) {
        let mut free = None;
        for place in self.places(owner) {
            let row = &self.rows[place];
            match row.holder().0.load(Ordering::Acquire) {
                NEVER => return (None, free.or(Some(place))),
                GIVEN_BACK => free = free.or(Some(place)),
                present if present == owner.0 => return (Some(row), free),
                _ => (),
            }
        }
        (None, free)
    }

    /// The row of an owner.
    pub fn find(&self, owner: Owner) -> Option<&'static R> {
        self.search(owner).0
    }

    /// Writes into the row of an owner with no chance that it becomes another's meanwhile. `None` if it has none.
    pub fn with<T>(&self, owner: Owner, write: impl FnOnce(&'static R) -> T) -> Option<T> {
        let row = self.find(owner)?;
        self.with_row(row, owner, write)
    }

    /// As [`Rows::with`], of a row that was found before.
    pub fn with_row<T>(
        &self,
        row: &'static R,
        owner: Owner,
        write: impl FnOnce(&'static R) -> T,
    ) -> Option<T> {
        let _guard = lock_functions_shared();
        row.holder().is(owner).then(|| write(row))
    }

    /// The row of an owner, or a free one. `None` if none is free.
    pub fn find_or_free(&self, owner: Owner, account: Account, now: i64) -> Option<&'static R> {
        let changes = self.changes.load(Ordering::Acquire);
        let (found, mut free) = self.search(owner);
        if found.is_some() {
            return found;
        }
        let _guard = lock_functions();
        if self.changes.load(Ordering::Relaxed) != changes {
            let (found, other) = self.search(owner);
            if found.is_some() {
                return found;
            }
            free = other;
        }
        let row = &self.rows[free?];
        self.changing(|| {
            row.used_at().store(now, Ordering::Relaxed);
            row.role().store(account.role, Ordering::Relaxed);
            row.payer().store(account.payer, Ordering::Relaxed);
            row.holder().0.store(owner.0, Ordering::Release);
        });
        Some(row)
    }

    /// The row of an owner, a free one, or one that is taken over. In need one is taken over however recently it was used.
    pub fn find_or_take(
        &self,
        owner: Owner,
        account: Account,
        now: i64,
        in_need: bool,
    ) -> Option<&'static R> {
        for _ in 0..ATTEMPTS {
            if let Some(row) = self.find_or_free(owner, account, now) {
                return Some(row);
            }
            let victim = self.victim(owner, account, now, in_need)?;
            self.give_back_if(victim.row, |row| {
                row.holder().is(victim.owner)
                    && row.used_at().load(Ordering::Relaxed) == victim.used_at
                    && !row.is_kept()
            });
        }
        None
    }

    /// The row that is best taken over.
    fn victim(&self, owner: Owner, account: Account, now: i64, in_need: bool) -> Option<Taken<R>> {
        let taken: Vec<Taken<R>> = self
            .taken()
            .map(|(owner, row)| Taken {
                row,
                owner,
                role: row.role().load(Ordering::Relaxed),
                payer: payer(owner, row.payer().load(Ordering::Relaxed)),
                used_at: row.used_at().load(Ordering::Relaxed),
            })
            .collect();
        let own = payer(owner, account.payer);
        let paid_by = count(taken.iter().map(|one| one.payer));
        let of_database = count(taken.iter().map(|one| one.owner.database()));
        let many = |counts: &BTreeMap<u64, usize>, key| counts.get(&key).copied().unwrap_or(0);
        let rows_of = |database: u32| many(&of_database, database.into());
        let may_go = |one: &&Taken<R>| {
            let is_last = one.payer != own && rows_of(one.owner.database()) == 1;
            (one.owner.object() != 0 || is_last) && !one.row.is_kept()
        };
        // One that has nothing but the row of the rest has less than its share, however small that is.
        let payers = whom_from(own, self.rows.len(), 2, paid_by.clone());
        let pays_itself = payers == [own];
        // The databases of another payer, and the roles of another database, share nothing with this one.
        let asks = |is_so: bool, own: u32| if is_so { own.into() } else { u64::MAX };
        let mut candidates = Vec::new();
        for payer in payers {
            let of_payer = || taken.iter().filter(|one| one.payer == payer);
            let databases = whom_from(
                asks(pays_itself, owner.database()),
                of_payer().count(),
                2,
                count(of_payer().map(|one| one.owner.database())),
            );
            let from_itself = pays_itself && databases == [u64::from(owner.database())];
            for database in databases {
                let of_database =
                    || of_payer().filter(|one| u64::from(one.owner.database()) == database);
                let roles = whom_from(
                    asks(from_itself, account.role),
                    of_database().count(),
                    1,
                    count(of_database().filter(may_go).map(|one| one.role)),
                );
                candidates.extend(
                    of_database()
                        .filter(may_go)
                        .filter(|one| roles.contains(&one.role.into()))
                        .min_by_key(|one| one.used_at),
                );
            }
        }
        let oldest = candidates.into_iter().min_by_key(|one| one.used_at);
        let idle = |one: &Taken<R>, us| !(0..us).contains(&now.saturating_sub(one.used_at));
        // Where the two part: the payer, the database, the role.
        let has_enough = |oldest: &Taken<R>| {
            let database = oldest.owner.database();
            if oldest.payer != own {
                many(&paid_by, oldest.payer) > many(&paid_by, own) + 1
            } else if database != owner.database() {
                rows_of(database) > rows_of(owner.database()) + 1
            } else {
                oldest.role != account.role
            }
        };
        // Who uses more than a share does so at the cost of nobody who uses his.
        let unused = || {
            let unused = taken.iter().filter(may_go).min_by_key(|one| one.used_at);
            unused.filter(|unused| idle(unused, UNUSED_US))
        };
        oldest
            .filter(|oldest| in_need || has_enough(oldest) || idle(oldest, IDLE_US))
            .or_else(unused)
            .map(|victim| Taken { ..*victim })
    }

    /// Gives back the rows of which `is_gone` says so; what they have counted is kept in that of the rest.
    pub fn give_back(&self, mut is_gone: impl FnMut(Owner, &R) -> bool) -> usize {
        let gone: Vec<(Owner, &'static R)> = self
            .taken()
            .filter(|(owner, row)| is_gone(*owner, row))
            .collect();
        gone.into_iter()
            .filter(|(owner, row)| self.give_back_if(row, |row| row.holder().is(*owner)))
            .count()
    }

    /// Gives a row back if it is still as it was. Returns whether it was.
    fn give_back_if(&self, row: &'static R, is_so: impl FnOnce(&R) -> bool) -> bool {
        let rest = row
            .holder()
            .get()
            .and_then(|owner| self.find(Owner::rest_of(owner.database())));
        let _guard = lock_functions();
        let Some(owner) = row.holder().get().filter(|_| is_so(row)) else {
            return false;
        };
        let rest = rest.filter(|rest| {
            owner.object() != 0 && rest.holder().is(Owner::rest_of(owner.database()))
        });
        self.changing(|| {
            row.holder().0.store(GIVEN_BACK, Ordering::Release);
            if let Some(rest) = rest {
                row.add_to(rest);
            }
            row.clear();
        });
        self.tidy(row);
        true
    }

    /// A row that was given back is in nobody's way if the one after it is free and always was. The lock is held.
    fn tidy(&self, row: &'static R) {
        let count = self.rows.len();
        let offset = std::ptr::from_ref(row) as usize - self.rows.as_ptr() as usize;
        let mut place = offset / size_of::<R>();
        let word = |place: usize| &self.rows[place].holder().0;
        if word((place + 1) % count).load(Ordering::Relaxed) != NEVER {
            return;
        }
        while word(place).load(Ordering::Relaxed) == GIVEN_BACK {
            word(place).store(NEVER, Ordering::Release);
            place = (place + count - 1) % count;
        }
    }

    /// Tells those who read meanwhile. The lock is held.
    fn changing(&self, change: impl FnOnce()) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        change();
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Reads rows again until none has got or lost its owner meanwhile, so that nothing is seen twice or missed.
    pub fn read<T>(&self, read: impl Fn() -> T) -> T {
        const READS: usize = 10;
        for _ in 1..READS {
            let before = self.changes.load(Ordering::Acquire);
            let value = read();
            std::sync::atomic::fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.changes.load(Ordering::Relaxed) == before {
                return value;
            }
        }
        read()
    }
}

/// How many there are of each.
fn count(owners: impl Iterator<Item = impl Into<u64>>) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner.into()).or_default() += 1;
    }
    counts
}

/// From whom `asking` takes a row: from itself if it has its equal share of so many rows or more, else from those who have most. A share
/// is of `least` rows or more.
fn whom_from(asking: u64, rows: usize, least: usize, mut have: BTreeMap<u64, usize>) -> Vec<u64> {
    let own = *have.entry(asking).or_default();
    let share = rows / have.len();
    if own >= share.max(least) {
        return vec![asking];
    }
    let most = have.values().copied().max().unwrap_or(0);
    have.into_iter()
        .filter(|(_, count)| *count == most)
        .map(|(owner, _)| owner)
        .collect()
}
