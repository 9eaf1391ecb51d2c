//! Requests to compute a result anew before it is too old: a few places in shared memory, with all that makes the call again.
//!
//! A reader leaves a request, once for each key; a refresher takes it, and gives the place back when the result is stored. If it could
//! not be, the place goes on naming the key for a while ([`AGAIN_US`]), so that the readers do not ask again at once. A request that
//! finds no place is not made: the next hit asks again.
//!
//! Locks: the requests' lock guards all fields; a reader first looks for its hash without it.
//! Failure: the worker gives back what a process has taken that is gone. Where there is no worker (its database was dropped, or no process
//! was free for it) whoever finds no other place takes such a one.

#![allow(unsafe_code)]

use super::locks::lock_requests;
use crate::behalf::Pledge;
use crate::server;
use crate::settings;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many keys can be asked for at the same time.
pub const PLACES: usize = 32;
/// Longest key that can be asked for.
pub const MOST_KEY: usize = 1024;
/// Longest list of settings that can be taken along.
pub const MOST_SETTINGS: usize = 3072;
/// A key that could not be refreshed is not asked for again before.
const AGAIN_US: i64 = 60_000_000;

const FREE: u32 = 0;
const WAITS: u32 = 1;
const RUNS: u32 = 2;
const GIVEN_UP: u32 = 3;

#[repr(C)]
struct Place {
    hash: AtomicU64,
    state: AtomicU32,
    database: u32,
    role: u32,
    session_role: u32,
    function: u32,
    /// Process that has taken it.
    pid: i32,
    /// When it was made or given up.
    since: i64,
    key_length: u32,
    settings_length: u32,
    /// What the right to make the call rests on.
    rests_on: [u8; 16],
    key: [u8; MOST_KEY],
    settings: [u8; MOST_SETTINGS],
}
const _: () = assert!(size_of::<Place>() == 64 + MOST_KEY + MOST_SETTINGS);

/// Bytes of all places.
pub const REFRESHES_BYTES: usize = PLACES * size_of::<Place>();

/// A request.
pub struct Request {
    /// Hash of the key.
    pub hash: u64,
    /// Oid of the database.
    pub database: u32,
    /// The cached function, for which role and which role's session, and what that rests on.
    pub pledge: Pledge,
    /// The key.
    pub key: Vec<u8>,
    /// Settings of the session, as `call::carried` writes them.
    pub settings: Vec<u8>,
}

/// A request that was taken.
pub struct Taken {
    /// What is to be done.
    pub request: Request,
    index: usize,
}

/// The places of an area.
#[derive(Clone, Copy)]
pub struct Refreshes(*mut Place);

/// The clock of the entries' ages.
fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() + settings::clock_offset_us() }
}

impl Refreshes {
    /// The places at `base`.
    ///
    /// # Safety
    /// `base` points to [`REFRESHES_BYTES`] of shared memory, zeroed at creation.
    pub unsafe fn at(base: *mut u8) -> Self {
        Refreshes(base.cast())
    }

    fn place(&self, index: usize) -> *mut Place {
        // SAFETY: `index` is below PLACES wherever it comes from.
        unsafe { self.0.add(index) }
    }

    fn word(&self, index: usize) -> (&'static AtomicU64, &'static AtomicU32) {
        // SAFETY: atomic fields of a place, which live as long as the process.
        unsafe {
            let place = self.place(index);
            (&(*place).hash, &(*place).state)
        }
    }

    /// When a place was last changed, read without the lock.
    fn since(&self, index: usize) -> i64 {
        // SAFETY: a word of a place, written whole; an old one only means to ask a moment too early or too late.
        unsafe { (&raw const (*self.place(index)).since).read_volatile() }
    }

    /// Whether a key is asked for, or was in vain a moment ago. Without the lock.
    pub fn knows(&self, hash: u64) -> bool {
        (0..PLACES).any(|index| {
            let (own, state) = self.word(index);
            own.load(Ordering::Relaxed) == hash
                && match state.load(Ordering::Acquire) {
                    FREE => false,
                    GIVEN_UP => now() - self.since(index) < AGAIN_US,
                    _ => true,
                }
        })
    }

    /// Leaves a request. `false` if there is no place, or the request is too long.
    pub fn ask(&self, request: &Request) -> bool {
        if request.key.len() > MOST_KEY || request.settings.len() > MOST_SETTINGS {
            return false;
        }
        let _guard = lock_requests();
        if (0..PLACES).any(|index| {
            let (own, state) = self.word(index);
            own.load(Ordering::Relaxed) == request.hash
                && matches!(state.load(Ordering::Relaxed), WAITS | RUNS)
        }) {
            return false;
        }
        let in_state = |wanted: u32| {
            (0..PLACES).find(|index| self.word(*index).1.load(Ordering::Relaxed) == wanted)
        };
        let same = (0..PLACES).find(|i| self.word(*i).0.load(Ordering::Relaxed) == request.hash);
        let Some(index) = same
            .or_else(|| in_state(FREE))
            .or_else(|| in_state(GIVEN_UP))
            .or_else(|| (0..PLACES).find(|index| self.is_left(*index)))
            .or_else(|| self.of_greediest(request.pledge.session_role))
        else {
            return false;
        };
        // SAFETY: the lock is held; nobody has taken the place; the lengths were looked at.
        unsafe {
            let place = &mut *self.place(index);
            place.hash.store(request.hash, Ordering::Relaxed);
            place.database = request.database;
            place.role = request.pledge.role.to_u32();
            place.session_role = request.pledge.session_role.to_u32();
            place.function = request.pledge.function.to_u32();
            place.rests_on = request.pledge.digest;
            place.pid = 0;
            place.since = now();
            place.key_length = request.key.len() as u32;
            place.settings_length = request.settings.len() as u32;
            place.key[..request.key.len()].copy_from_slice(&request.key);
            place.settings[..request.settings.len()].copy_from_slice(&request.settings);
            place.state.store(WAITS, Ordering::Release);
        }
        true
    }

    /// The newest request of the role whose sessions have most of the places, if those of `role` have less by more than one: who uses
    /// them up has less, and nobody else. The lock is held.
    fn of_greediest(&self, role: pg_sys::Oid) -> Option<usize> {
        // SAFETY: the lock is held.
        let place = |index: usize| unsafe { &*self.place(index) };
        let waits = |index: &usize| place(*index).state.load(Ordering::Relaxed) == WAITS;
        let count = |role: u32| {
            (0..PLACES)
                .filter(|index| waits(index) && place(*index).session_role == role)
                .count()
        };
        let most = (0..PLACES)
            .filter(waits)
            .map(|index| place(index).session_role)
            .max_by_key(|role| count(*role))?;
        if count(most) <= count(role.to_u32()) + 1 {
            return None;
        }
        (0..PLACES)
            .filter(|index| waits(index) && place(*index).session_role == most)
            .max_by_key(|index| place(*index).since)
    }

    /// A refresher for sessions of a role has come so far that it can take requests: those that wait for it do not wait in vain.
    pub fn arrived(&self, database: u32, session_role: pg_sys::Oid) {
        let _guard = lock_requests();
        for index in 0..PLACES {
            // SAFETY: the lock is held.
            let place = unsafe { &mut *self.place(index) };
            if place.state.load(Ordering::Relaxed) == WAITS
                && (place.database, place.session_role) == (database, session_role.to_u32())
            {
                place.since = now();
            }
        }
    }

    /// Takes the oldest request of a database and of sessions of a role.
    pub fn take(&self, database: u32, session_role: pg_sys::Oid) -> Option<Taken> {
        let mut key = Vec::with_capacity(MOST_KEY);
        let mut settings = Vec::with_capacity(MOST_SETTINGS);
        let _guard = lock_requests();
        let index = self.waiting(|place| {
            place.database == database && place.session_role == session_role.to_u32()
        })?;
        // SAFETY: the lock is held; a variable of the process.
        unsafe {
            let place = &mut *self.place(index);
            key.extend_from_slice(&place.key[..place.key_length as usize]);
            settings.extend_from_slice(&place.settings[..place.settings_length as usize]);
            place.pid = pg_sys::MyProcPid;
            place.state.store(RUNS, Ordering::Release);
            Some(Taken {
                request: Request {
                    hash: place.hash.load(Ordering::Relaxed),
                    database,
                    pledge: Pledge {
                        function: place.function.into(),
                        role: place.role.into(),
                        session_role,
                        digest: place.rests_on,
                    },
                    key,
                    settings,
                },
                index,
            })
        }
    }

    /// The oldest waiting request for which `wanted` says so. The lock is held.
    fn waiting(&self, wanted: impl Fn(&Place) -> bool) -> Option<usize> {
        (0..PLACES)
            // SAFETY: the lock is held.
            .map(|index| (index, unsafe { &*self.place(index) }))
            .filter(|(_, place)| place.state.load(Ordering::Relaxed) == WAITS && wanted(place))
            .min_by_key(|(_, place)| place.since)
            .map(|(index, _)| index)
    }

    /// The role of the sessions whose request waits for longest in a database, besides these roles.
    pub fn next_role(&self, database: u32, besides: &[pg_sys::Oid]) -> Option<pg_sys::Oid> {
        let _guard = lock_requests();
        let index = self.waiting(|place| {
            place.database == database && !besides.contains(&place.session_role.into())
        })?;
        // SAFETY: the lock is held.
        Some(unsafe { (*self.place(index)).session_role }.into())
    }

    /// A request is served, or in vain.
    pub fn done(&self, taken: &Taken, stored: bool) {
        let _guard = lock_requests();
        self.close(taken.index, stored);
    }

    /// The place is free, or names its key for a while. What it knew of a session is gone. The lock is held.
    fn close(&self, index: usize, stored: bool) {
        // SAFETY: the lock is held.
        let place = unsafe { &mut *self.place(index) };
        place.key = [0; MOST_KEY];
        place.settings = [0; MOST_SETTINGS];
        place.since = now();
        place
            .state
            .store(if stored { FREE } else { GIVEN_UP }, Ordering::Release);
    }

    /// Whether nobody will do what a place asks for: the process that has taken it is gone, or none has come. The lock is held.
    fn is_left(&self, index: usize) -> bool {
        // SAFETY: the lock is held; looks through the table of processes.
        unsafe {
            let place = &*self.place(index);
            match place.state.load(Ordering::Relaxed) {
                RUNS => pg_sys::BackendPidGetProc(place.pid).is_null(),
                WAITS => now() - place.since > AGAIN_US,
                _ => false,
            }
        }
    }

    /// Gives up what nobody will do; also what was asked for before `began` by sessions of a role whose refresher, started then, has
    /// ended without arriving (a role that may not log in).
    pub fn give_up(&self, database: u32, ended: Option<(pg_sys::Oid, i64)>) {
        let _guard = lock_requests();
        for index in 0..PLACES {
            // SAFETY: the lock is held.
            let place = unsafe { &*self.place(index) };
            let in_vain = ended.is_some_and(|(role, began)| {
                place.state.load(Ordering::Relaxed) == WAITS
                    && place.session_role == role.to_u32()
                    && place.since < began
            });
            if place.database == database && (in_vain || self.is_left(index)) {
                self.close(index, false);
            }
        }
    }
}
