//! Requests to start to track a table: what calls have found untracked, until a worker has served it, and for a while what could not be.
//!
//! A request that fails rests: each time for twice as long, at most [`LONGEST_US`], and it is tried again only when a call still asks for it.
//! A failure that is the table's (its lock, an event trigger) lets all requests for it rest. What nobody has asked for in
//! [`FORGOTTEN_US`] is forgotten.
//!
//! Quotas: one database has at most [`OF_DATABASE`] places, one role in it [`OF_ROLE`], so that none keeps the others from being served.
//! A place that rests no longer may be taken by somebody else. A request that finds no place is not made: a later call asks again.
//!
//! Locks: the requests' lock guards all places; what is done under it is bounded by their number.

#![allow(unsafe_code)]

use super::area::TrackingRequest;
use super::locks::lock_requests;

/// How many requests there can be.
pub const PLACES: usize = 512;
/// How many of one database.
pub const OF_DATABASE: usize = PLACES / 4;
/// How many of one role in a database.
pub const OF_ROLE: usize = OF_DATABASE * 3 / 4;

/// How long the first failure lets a request rest.
const FIRST_US: i64 = 1_000_000;
/// The longest rest.
const LONGEST_US: i64 = 300_000_000;
/// A request that was taken and about which nothing was heard is made again: who took it is gone.
const LOST_US: i64 = 60_000_000;
/// How long is remembered what nobody asks for any more.
const FORGOTTEN_US: i64 = 3_600_000_000;

/// Why a request failed: the role may not create triggers there. Everything else is a SQLSTATE.
pub const NO_RIGHT: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    Free = 0,
    Waits = 1,
    Taken = 2,
    Rests = 3,
}

#[repr(C)]
struct Place {
    request: TrackingRequest,
    /// The role on whose behalf: the owner of the function.
    role: u32,
    state: State,
    failures: u32,
    /// Of the last failure.
    reason: u32,
    /// When it was made, taken, or asked for last.
    since: i64,
    /// Not tried before.
    rests_until: i64,
}

/// Bytes of all places.
pub const REQUESTS_BYTES: usize = PLACES * size_of::<Place>();
const _: () = assert!(REQUESTS_BYTES.is_multiple_of(8));

/// The places of an area.
#[derive(Clone, Copy)]
pub struct Requests(*mut Place);

impl Requests {
    /// # Safety
    /// `base` has [`REQUESTS_BYTES`], zeroed at creation, and is never freed.
    pub unsafe fn at(base: *mut u8) -> Self {
        Requests(base.cast())
    }

    /// All places. The requests' lock is held.
    #[allow(clippy::mut_from_ref)]
    fn places(&self) -> &mut [Place] {
        // SAFETY: the constructor's; the caller holds the lock, so nobody else looks. Zeroes are a free place.
        unsafe { std::slice::from_raw_parts_mut(self.0, PLACES) }
    }

    /// Asks for a table on behalf of `role`. Whether a worker is to be told.
    pub fn ask(&self, request: TrackingRequest, role: u32, now: i64) -> bool {
        let _guard = lock_requests();
        let places = self.places();
        if let Some(place) = places.iter_mut().find(|place| place.is(&request)) {
            let quiet = now - place.since;
            return match place.state {
                State::Waits => {
                    place.since = now;
                    quiet > FIRST_US
                }
                State::Taken if quiet <= LOST_US => false,
                State::Rests if now < place.rests_until => {
                    place.since = now;
                    false
                }
                _ => {
                    (place.state, place.since) = (State::Waits, now);
                    true
                }
            };
        }
        // What is known of the table holds for this request too.
        let before = places
            .iter()
            .find(|place| place.concerns(&request) && place.rests_as_a_whole(now))
            .map(|place| (place.failures, place.reason, place.rests_until));
        let Some(place) = room(places, request.database, role, now) else {
            return false;
        };
        let (failures, reason, rests_until) = before.unwrap_or_default();
        *place = Place {
            request,
            role,
            state: if before.is_some() {
                State::Rests
            } else {
                State::Waits
            },
            failures,
            reason,
            since: now,
            rests_until,
        };
        before.is_none()
    }

    /// Takes what waits for a worker of `database`.
    pub fn take(&self, database: u32, now: i64) -> Vec<TrackingRequest> {
        let mut taken = Vec::with_capacity(OF_DATABASE);
        let _guard = lock_requests();
        for place in self.places() {
            let lost = place.state == State::Taken && now - place.since > LOST_US;
            if place.request.database == database
                && (place.state == State::Waits || lost)
                && taken.len() < OF_DATABASE
            {
                (place.state, place.since) = (State::Taken, now);
                taken.push(place.request);
            }
        }
        taken
    }

    /// The request was served, or has become pointless.
    pub fn served(&self, request: &TrackingRequest) {
        let _guard = lock_requests();
        for place in self.places().iter_mut().filter(|place| place.is(request)) {
            place.state = State::Free;
        }
    }

    /// The request failed on behalf of `role`; [`NO_RIGHT`] concerns it alone, other reasons the table. Whether that is worth a line in
    /// the log: the reason is not that of the last failure.
    pub fn failed(&self, request: &TrackingRequest, role: u32, reason: u32, now: i64) -> bool {
        let _guard = lock_requests();
        let places = self.places();
        if !places.iter().any(|place| place.is(request)) {
            let Some(place) = room(places, request.database, role, now) else {
                return false;
            };
            *place = Place {
                request: *request,
                role,
                state: State::Taken,
                failures: 0,
                reason: 0,
                since: now,
                rests_until: 0,
            };
        }
        let concerned = |place: &&mut Place| match reason {
            NO_RIGHT => place.is(request),
            _ => place.state != State::Free && place.concerns(request),
        };
        let (mut failures, mut known) = (0, false);
        for place in places.iter_mut().filter(concerned) {
            failures = failures.max(place.failures);
            known |= place.reason == reason;
        }
        failures += 1;
        for place in places.iter_mut().filter(concerned) {
            place.state = State::Rests;
            place.failures = failures;
            place.reason = reason;
            place.rests_until = now + rest(failures);
        }
        !known
    }

    /// Whether a table is to be left alone for now.
    pub fn rests(&self, request: &TrackingRequest, now: i64) -> bool {
        let _guard = lock_requests();
        self.places()
            .iter()
            .any(|place| place.concerns(request) && place.rests_as_a_whole(now))
    }

    /// The database is gone.
    pub fn forget(&self, database: u32) {
        let _guard = lock_requests();
        for place in self.places() {
            if place.request.database == database {
                place.state = State::Free;
            }
        }
    }
}

impl Place {
    fn is(&self, request: &TrackingRequest) -> bool {
        self.state != State::Free && self.request == *request
    }

    /// Whether it is about the same table.
    fn concerns(&self, request: &TrackingRequest) -> bool {
        (self.request.database, self.request.relation) == (request.database, request.relation)
    }

    fn rests_as_a_whole(&self, now: i64) -> bool {
        self.state == State::Rests && self.reason != NO_RIGHT && now < self.rests_until
    }

    /// Whether somebody else may have the place.
    fn is_spare(&self, now: i64) -> bool {
        match self.state {
            State::Free => true,
            State::Rests => now >= self.rests_until || now - self.since > FORGOTTEN_US,
            State::Waits | State::Taken => now - self.since > FORGOTTEN_US,
        }
    }
}

/// How long to rest after so many failures.
fn rest(failures: u32) -> i64 {
    (FIRST_US << failures.saturating_sub(1).min(16)).min(LONGEST_US)
}

/// A place for a request of `role` in `database`, within the quotas of both.
fn room(places: &mut [Place], database: u32, role: u32, now: i64) -> Option<&mut Place> {
    let (mut of_database, mut of_role) = (0, 0);
    for place in places.iter() {
        if place.state != State::Free && place.request.database == database {
            of_database += 1;
            of_role += usize::from(place.role == role);
        }
    }
    let fits = |place: &Place| {
        let used = place.state != State::Free;
        let of_same_database = used && place.request.database == database;
        place.is_spare(now)
            && (of_role < OF_ROLE || of_same_database && place.role == role)
            && (of_database < OF_DATABASE || of_same_database)
    };
    // A free one first, so that as much as possible is remembered.
    let number = places
        .iter()
        .position(|place| place.state == State::Free && fits(place))
        .or_else(|| places.iter().position(fits))?;
    places.get_mut(number)
}
