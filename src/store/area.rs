//! The area in shared memory: requested while the library is preloaded, initialised by the postmaster, inherited by every backend.
//!
//! Failure: after a crash of a backend the postmaster calls the start-up hook again with new, zeroed memory; the pointer in
//! `AREA` is then replaced before any backend can run.

#![allow(unsafe_code)]

use super::charges::Charges;
use super::flights::Flights;
use super::layout::Layout;
use super::library_settings::LibrarySettings;
use super::locks::{LOCKS, NAME, lock_requests};
use super::partition::Partition;
use super::posts::{POSTS_BYTES, Posts};
use super::progress::{PROGRESS_BYTES, Progress};
use super::refreshes::{REFRESHES_BYTES, Refreshes};
use super::requests::{REQUESTS_BYTES, Requests};
use super::statistics::Functions;
use super::turns::Waiting;
use crate::gate::Bounds;
use crate::settings;
use crate::table::trends::Recorded;
use crate::validity::places::Places as DefinitionPlaces;
use crate::validity::reserved;
use crate::validity::slots::Slots;
use crate::validity::tags::RESERVED;
use crate::validity::writers::Writers;
use pgrx::pg_sys;
use std::sync::atomic::{
    AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// Places for what is shared about single databases: so many for each MB of `pg_query_cache.memory`, not less than the least, not more
/// than the most. A database without a place is served all the same: it has no limit of entries, and no history.
const PLACES_PER_MB: usize = 16;
/// A process that found all places taken looks again after so many microseconds.
const NONE_FOR_US: i64 = 1_000_000;
/// See above.
const PLACES: std::ops::RangeInclusive<usize> = 64..=MOST_PLACES;
/// The most.
pub const MOST_PLACES: usize = 4096;

/// What the worker of one database and its backends share.
#[repr(C)]
pub struct DatabaseState {
    /// Oid of the database, 0 if free.
    pub database: AtomicU32,
    /// Since when somebody waits for a worker to come, microseconds since 2000-01-01; 0 if nobody does.
    pub asked_at: AtomicI64,
    /// What was done here, in batches. The worker comes when that is more than it has seen to.
    pub activity: AtomicU64,
    /// [`DatabaseState::activity`] when the table tier was last written, and when that was.
    pub flushed: Seen,
    /// The same of `cache_trends`.
    pub trended: Seen,
    /// The same of the clean-up.
    pub cleaned: Seen,
    /// When a worker was last here, microseconds since 2000-01-01; 0 for never.
    pub visited_at: AtomicI64,
    /// Clean-ups in turn that found nothing to do.
    pub idle: AtomicU32,
    /// 1 once the table tier has been read into memory.
    pub warm: AtomicU32,
    /// 1 if somebody wants a worker.
    pub wanted: AtomicU32,
    /// Commands in progress that need the database without a worker (DROP DATABASE and the like).
    pub held: AtomicU32,
    /// 1 if a job was queued that the worker has not looked for yet.
    pub jobs: AtomicU32,
    /// 1 if the body of a function is to be written that whoever renamed its base function could not write.
    pub misnamed: AtomicU32,
    /// When that was looked for.
    pub named: Seen,
    /// A warming job that waits for a process.
    pub waiting: Waiting,
    /// When its worker was last started, microseconds since 2000-01-01.
    pub started_at: AtomicU64,
    /// About how many rows of the table tier are not in memory. While it is 0 a miss does not look there.
    pub only_in_table: AtomicU64,
    /// Rows of the table tier, and what they take; counted by the clean-up, and added to by who writes.
    pub table_rows: AtomicU64,
    /// See `table_rows`.
    pub table_bytes: AtomicU64,
    /// Rows that left the table tier because it held more than it may.
    pub table_evictions: AtomicU64,
    /// Its entries in memory, and how many it may have.
    pub places: Places,
    /// What of the counters is in `cache_trends`.
    pub recorded: Recorded,
}

/// How much of the activity of a database a step of its worker has seen to, and when.
#[repr(C)]
#[derive(Default)]
pub struct Seen {
    activity: AtomicU64,
    at: AtomicI64,
}

impl Seen {
    /// The step has seen to all of `activity`.
    pub fn set(&self, activity: u64, at: i64) {
        self.activity.store(activity, Ordering::Relaxed);
        self.at.store(at, Ordering::Relaxed);
    }

    /// Whether nothing was done since.
    pub fn is_all(&self, state: &DatabaseState) -> bool {
        self.activity.load(Ordering::Relaxed) == state.activity.load(Ordering::Relaxed)
    }

    /// When the step was last done, microseconds since 2000-01-01; 0 for never.
    pub fn at(&self) -> i64 {
        self.at.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        self.set(0, 0);
    }
}

impl DatabaseState {
    /// Something was done here that a worker sees to, soon enough by itself.
    pub fn is_active(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }

    /// `count` more rows of the table tier are not in memory.
    pub fn left_memory(&self, count: u64) {
        self.only_in_table.fetch_add(count, Ordering::Relaxed);
    }

    /// A row of the table tier came back to memory.
    pub fn came_back(&self) {
        let _ = self
            .only_in_table
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

/// Places for the entries of a database in memory, counted in one word so that they are never more than the limit: in the lower half
/// those that are taken, in the upper half the limit, 0 for none. An entry takes its place before it is added.
#[repr(C)]
pub struct Places {
    word: AtomicU64,
    /// The generation of the configuration that the limit is from. Written under the requests lock.
    limit_from: AtomicU64,
}

/// No entry can be added: the database's place has been given back.
const CLOSED: u64 = u64::MAX;

impl Places {
    fn halves(word: u64) -> (u32, u32) {
        ((word >> 32) as u32, word as u32)
    }

    /// Takes a place. `false` if none is left.
    pub fn take(&self) -> bool {
        let more = |word| {
            let (limit, taken) = Self::halves(word);
            (word != CLOSED && (limit == 0 || taken < limit)).then_some(word + 1)
        };
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Gives a place back.
    pub fn give_back(&self) {
        let less = |word| (word != CLOSED && word as u32 != 0).then_some(word - 1);
        let _ = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// The limit, 0 for none, and how many places are taken.
    pub fn counts(&self) -> (u32, u32) {
        match self.word.load(Ordering::Acquire) {
            CLOSED => (0, 0),
            word => Self::halves(word),
        }
    }

    /// Sets the limit that the configuration of `generation` gives, unless a later one has set it. Returns whether it has changed.
    pub fn limit(&self, limit: u32, generation: u64) -> bool {
        let _guard = lock_requests();
        if generation < self.limit_from.load(Ordering::Relaxed) {
            return false;
        }
        self.limit_from.store(generation, Ordering::Relaxed);
        let other = |word| {
            let (present, taken) = Self::halves(word);
            (word != CLOSED && present != limit)
                .then_some(u64::from(limit) << 32 | u64::from(taken))
        };
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, other)
            .is_ok()
    }

    /// Lets nobody take a place any more. `false` if some are taken.
    fn close(&self) -> bool {
        let close = |word| (word as u32 == 0 || word == CLOSED).then_some(CLOSED);
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, close)
            .is_ok()
    }

    fn open(&self) {
        self.limit_from.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Release);
    }
}

/// A request to start tracking a relation.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TrackingRequest {
    /// Oid of the database.
    pub database: u32,
    /// Oid of the relation.
    pub relation: u32,
    /// Oid of the cached function that read it, whose owner needs the TRIGGER privilege.
    pub function: u32,
    /// Length of `column`.
    pub column_length: u32,
    /// Name of the key column, if the function declared one.
    pub column: ColumnName,
}

impl TrackingRequest {
    /// A request; no column, if its name is empty. `None` if that is too long for one.
    pub fn new(
        database: u32,
        relation: pg_sys::Oid,
        function: pg_sys::Oid,
        column: &str,
    ) -> Option<Self> {
        let name = crate::encoding::to_server(column);
        let mut request = TrackingRequest {
            database,
            relation: relation.to_u32(),
            function: function.to_u32(),
            column_length: name.len() as u32,
            ..TrackingRequest::default()
        };
        request
            .column
            .0
            .get_mut(..name.len())?
            .copy_from_slice(&name);
        Some(request)
    }

    /// The key column.
    pub fn column(&self) -> Option<String> {
        let name = self.column.0.get(..self.column_length as usize)?;
        (!name.is_empty()).then(|| crate::encoding::from_server(name))
    }
}

/// A column name of at most 63 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnName(pub [u8; 64]);

impl Default for ColumnName {
    fn default() -> Self {
        ColumnName([0; 64])
    }
}

/// Header of the area. Counters are totals of the cluster since the start.
#[repr(C)]
pub struct Header {
    /// Identifies one life of the slots: rows of the table tier from another one are worthless. Kept over a clean restart.
    pub incarnation: AtomicU64,
    /// 1 if the slots came back from a clean shutdown.
    pub restored: AtomicU32,
    /// Process id of the launcher.
    pub launcher_pid: AtomicI32,
    /// The first transaction id after a start without saved slots: transactions prepared before it are unknown writers of everything.
    /// Read by each call, so what is written often begins in another cache line.
    pub known_from: AtomicU64,
    apart: [u64; 5],
    /// Entries that left because there was no room.
    pub evictions: AtomicU64,
    /// Entries that the clean-up removed because of their age.
    pub expirations: AtomicU64,
    /// Entries that the clean-up removed because they were invalidated.
    pub dead_removed: AtomicU64,
    /// Results that did not fit.
    pub no_room: AtomicU64,
    /// Reads that found inconsistent bytes and answered from the function instead.
    pub damaged: AtomicU64,
    /// Entries that could not be written to the table tier, and never will be.
    pub not_written: AtomicU64,
    /// Calls that were not cached for want of a row, in databases that have none to count them either.
    pub uncounted: AtomicU64,
    /// Rows of functions that got or lost their owner; see [`super::rows`].
    function_changes: AtomicU64,
    /// … of the times of writers.
    charge_changes: AtomicU64,
    /// Start of this life, microseconds since 2000-01-01.
    pub started_at: AtomicU64,
    /// Who has to be finished before the cache is used; see [`crate::gate`].
    bounds: Bounds,
    /// 1 if a database without a place wants a worker.
    pub without_place: AtomicU32,
    /// Since when no process can be started because the server allows no more, microseconds since 2000-01-01; 0 if they can.
    pub short_since: AtomicI64,
    /// When that was last written to the log.
    pub short_logged_at: AtomicI64,
    /// Which slot the definitions of a database have.
    definitions: DefinitionPlaces,
    /// Queries that parallel workers ran on their own, by the leader's number; see [`Area::parallel_reads`].
    parallel_reads: [AtomicU32; LEADERS],
    /// Committed changes of the configuration of databases, by their oid; see [`Area::configuration`].
    configuration: [AtomicU64; CONFIGURATIONS],
    /// Names of the settings of libraries.
    pub library_settings: LibrarySettings,
}

/// Leaders share these counters by their number; sharing one refuses too much, never too little.
const LEADERS: usize = 256;
/// Databases share these counters by their oid; sharing one makes a session read its configuration once more than it had to.
const CONFIGURATIONS: usize = 64;

const _: () = assert!(size_of::<Header>() <= super::layout::HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(Header, evictions) == 64);

static AREA: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LAYOUT: once_cell::sync::OnceCell<Layout> = once_cell::sync::OnceCell::new();

/// The attached area.
#[derive(Clone, Copy)]
pub struct Area {
    base: *mut u8,
    /// Where everything lies.
    pub layout: &'static Layout,
}

/// The area, if the library was preloaded.
#[inline(always)]
pub fn area() -> Option<Area> {
    let base = AREA.load(Ordering::Relaxed);
    match LAYOUT.get() {
        Some(layout) if !base.is_null() => Some(Area { base, layout }),
        _ => None,
    }
}

/// The tracking requests come after the area itself, then the places of the progress, the refreshes, the posts of processes, the oids of
/// databases, their state, and the lists of the slots of definitions.
fn bytes() -> usize {
    lists_at() + RESERVED as usize * reserved::places() as usize * size_of::<u64>()
}

/// Offset of the lists of the slots of definitions.
fn lists_at() -> usize {
    settings::memory_bytes()
        + REQUESTS_BYTES
        + PROGRESS_BYTES
        + REFRESHES_BYTES
        + POSTS_BYTES
        + (databases() * (size_of::<AtomicU32>() + size_of::<DatabaseState>())).next_multiple_of(8)
}

/// How many databases can have a place.
fn databases() -> usize {
    let places = settings::memory_bytes() / (1024 * 1024) * PLACES_PER_MB;
    places.clamp(*PLACES.start(), *PLACES.end())
}
const _: () = assert!(REFRESHES_BYTES.is_multiple_of(8) && PROGRESS_BYTES.is_multiple_of(8));
const _: () = assert!(POSTS_BYTES.is_multiple_of(8) && PLACES_PER_MB.is_multiple_of(2));

/// Asks for the memory and the locks. In the shared memory request hook.
pub fn request() {
    // SAFETY: called from shmem_request_hook, the one place where requests are allowed.
    unsafe {
        pg_sys::RequestAddinShmemSpace(bytes());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), LOCKS as i32);
    }
}

/// Creates or finds the area. In the start-up hook; `true` if it is new and was initialised.
pub fn attach() -> bool {
    let layout = LAYOUT.get_or_init(|| Layout::new(settings::memory_bytes()));
    let mut found = false;
    // SAFETY: called from shmem_startup_hook. The lock is the one that guards the table of segments.
    let base = unsafe {
        let lock = crate::compat::addin_shmem_init_lock();
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let base = pg_sys::ShmemInitStruct(NAME.as_ptr(), bytes(), &mut found).cast::<u8>();
        if !found {
            std::ptr::write_bytes(base, 0, bytes());
        }
        pg_sys::LWLockRelease(lock);
        base
    };
    AREA.store(base, Ordering::Relaxed);
    if found {
        return false;
    }
    let area = Area { base, layout };
    for index in 0..layout.partitions {
        area.partition(index).initialise();
    }
    area.flights().initialise();
    true
}

impl Area {
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: offsets come from the layout and lie inside the area.
        unsafe { self.base.add(offset) }
    }

    /// The header.
    #[inline(always)]
    pub fn header(&self) -> &'static Header {
        // SAFETY: the area starts with the header, zeroed at creation, and lives as long as the process; all fields are atomic.
        unsafe { &*self.base.cast::<Header>() }
    }

    /// Who has to be finished before the cache is used.
    #[inline(always)]
    pub fn bounds(&self) -> &'static Bounds {
        &self.header().bounds
    }

    /// The validity slots.
    #[inline(always)]
    pub fn slots(&self) -> Slots {
        // SAFETY: the layout reserves `slots` zeroed slots there, and behind the area there is room for their lists.
        unsafe {
            Slots::at(
                self.at(self.layout.slots_at).cast(),
                self.layout.slots,
                self.at(lists_at()).cast(),
                reserved::places(),
            )
        }
    }

    /// Which slot the definitions of a database have.
    pub fn definitions(&self) -> &'static DefinitionPlaces {
        &self.header().definitions
    }

    /// How many entries in memory depend on a slot.
    #[inline(always)]
    pub fn tally(&self, slot: u32) -> &'static AtomicU32 {
        let index = slot.min(self.layout.slots - 1) as usize;
        // SAFETY: the layout reserves a zeroed word for each slot.
        unsafe {
            &*self
                .at(self.layout.tallies_at)
                .cast::<AtomicU32>()
                .add(index)
        }
    }

    /// Who wrote last under each slot.
    pub fn writers(&self) -> Writers {
        // SAFETY: the layout reserves `writers` zeroed sets there.
        unsafe { Writers::at(self.at(self.layout.writers_at).cast(), self.layout.writers) }
    }

    /// The statistics of functions.
    pub fn functions(&self) -> Functions {
        // SAFETY: the layout reserves `functions` zeroed rows there.
        unsafe {
            Functions::at(
                self.at(self.layout.functions_at).cast(),
                self.layout.functions,
                &self.header().function_changes,
            )
        }
    }

    /// The time that tracking has cost writers.
    pub fn charges(&self) -> Charges {
        // SAFETY: the layout reserves `charges` zeroed rows there.
        unsafe {
            Charges::at(
                self.at(self.layout.charges_at).cast(),
                self.layout.charges,
                &self.header().charge_changes,
            )
        }
    }

    /// The flights.
    pub fn flights(&self) -> Flights {
        // SAFETY: the layout reserves their bytes there.
        unsafe { Flights::at(self.at(self.layout.flights_at).cast()) }
    }

    /// The partition of a key's hash, and its number.
    #[inline(always)]
    pub fn partition_of(&self, hash: u64) -> Partition {
        self.partition((hash >> 58) as u32 & (self.layout.partitions - 1))
    }

    /// A partition.
    #[inline(always)]
    pub fn partition(&self, index: u32) -> Partition {
        let offset = self.layout.partitions_at + index as usize * self.layout.partition_bytes;
        // SAFETY: the layout reserves `partition_bytes` for each of `partitions`.
        unsafe { Partition::at(self.at(offset), index, self.layout) }
    }

    /// All partitions.
    pub fn partitions(self) -> impl Iterator<Item = Partition> {
        (0..self.layout.partitions).map(move |index| self.partition(index))
    }

    /// The oids of the databases that have places, 0 where one is free, and beside it what is shared about each.
    pub fn databases(&self) -> (&'static [AtomicU32], &'static [DatabaseState]) {
        let count = databases();
        let offset = self.layout.total.next_multiple_of(8)
            + REQUESTS_BYTES
            + PROGRESS_BYTES
            + REFRESHES_BYTES
            + POSTS_BYTES;
        // SAFETY: room for them was asked for there, zeroed at creation; `count` is the same as long as the server runs; all fields are
        // atomic.
        unsafe {
            (
                std::slice::from_raw_parts(self.at(offset).cast(), count),
                std::slice::from_raw_parts(
                    self.at(offset + count * size_of::<AtomicU32>()).cast(),
                    count,
                ),
            )
        }
    }

    /// What is shared about `database`; `None` if it has no place yet.
    #[inline]
    pub fn database(&self, database: pg_sys::Oid) -> Option<&'static DatabaseState> {
        /// Where this process found the last one: it is mostly its own that it looks for.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let (oids, states) = self.databases();
        let is_it = |oid: &AtomicU32| oid.load(Ordering::Acquire) == database.to_u32();
        let last = LAST.load(Ordering::Relaxed);
        if oids.get(last).is_some_and(is_it) {
            return states.get(last);
        }
        let index = oids.iter().position(is_it)?;
        LAST.store(index, Ordering::Relaxed);
        states.get(index)
    }

    /// What an entry calls its database's place ([`super::partition::EntryHead::placed`]).
    pub fn place_of(&self, state: &DatabaseState) -> u16 {
        let (_, states) = self.databases();
        let bytes = std::ptr::from_ref(state).addr() - states.as_ptr().addr();
        (bytes / size_of::<DatabaseState>()) as u16 + 1
    }

    /// The state of the database that an entry's place belongs to.
    pub fn with_place(&self, place: u16) -> Option<&'static DatabaseState> {
        let (_, states) = self.databases();
        states.get((place as usize).checked_sub(1)?)
    }

    /// What is shared about `database`, given a place if there is one left.
    pub fn database_or_new(&self, database: pg_sys::Oid) -> Option<&'static DatabaseState> {
        if let Some(state) = self.database(database) {
            return Some(state);
        }
        /// All places were taken when this process last looked, some time before this.
        static NONE_UNTIL: AtomicI64 = AtomicI64::new(0);
        // SAFETY: the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        let none_until = NONE_UNTIL.load(Ordering::Relaxed);
        if now < none_until && now > none_until - NONE_FOR_US {
            return None;
        }
        let _guard = lock_requests();
        let found = self.database(database).or_else(|| {
            let (oids, states) = self.databases();
            let is_free = |oid: &AtomicU32| oid.load(Ordering::Relaxed) == 0;
            let index = oids
                .iter()
                .position(is_free)
                .or_else(|| states.iter().position(|state| self.vacate(state, oids)))?;
            let state = &states[index];
            state.places.open();
            state.database.store(database.to_u32(), Ordering::Relaxed);
            oids[index].store(database.to_u32(), Ordering::Release);
            Some(state)
        });
        if found.is_none() {
            NONE_UNTIL.store(now + NONE_FOR_US, Ordering::Relaxed);
        }
        found
    }

    /// Takes the place of a database that does nothing and about which nothing is known that would be lost. The requests lock is held.
    fn vacate(&self, state: &DatabaseState, oids: &[AtomicU32]) -> bool {
        let database = state.database.load(Ordering::Relaxed);
        state.asked_at.load(Ordering::Relaxed) == 0
            && state.held.load(Ordering::Acquire) == 0
            && state.activity.load(Ordering::Relaxed) == 0
            && !state.waiting.is_any()
            && state.only_in_table.load(Ordering::Relaxed) == 0
            && state.visited_at.load(Ordering::Relaxed) != 0
            && !self.posts().any_in(database)
            && self.vacate_if_empty(state, oids)
    }

    /// The requests lock is held.
    fn vacate_if_empty(&self, state: &DatabaseState, oids: &[AtomicU32]) -> bool {
        if !state.places.close() {
            return false;
        }
        let database = state.database.swap(0, Ordering::Relaxed);
        if let Some(oid) = oids
            .iter()
            .find(|oid| oid.load(Ordering::Relaxed) == database)
        {
            oid.store(0, Ordering::Release);
        }
        for word in [
            &state.wanted,
            &state.warm,
            &state.held,
            &state.jobs,
            &state.misnamed,
            &state.idle,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        state.waiting.forget();
        for seen in [&state.flushed, &state.trended, &state.cleaned, &state.named] {
            seen.forget();
        }
        state.activity.store(0, Ordering::Relaxed);
        state.asked_at.store(0, Ordering::Relaxed);
        state.visited_at.store(0, Ordering::Relaxed);
        state.started_at.store(0, Ordering::Relaxed);
        for number in [
            &state.only_in_table,
            &state.table_rows,
            &state.table_bytes,
            &state.table_evictions,
        ] {
            number.store(0, Ordering::Relaxed);
        }
        state.recorded.forget();
        true
    }

    /// The database is gone: its place is free again, unless memory still has entries of it.
    pub fn forget_database(&self, database: pg_sys::Oid) {
        self.tracking_requests().forget(database.to_u32());
        let _guard = lock_requests();
        if database == pg_sys::InvalidOid {
            return;
        }
        if let Some(state) = self.database(database) {
            self.vacate_if_empty(state, self.databases().0);
        }
    }

    /// How often the configuration of `database` was changed since the server started: what a session has read of it is right for as
    /// long as this stays the same.
    #[inline(always)]
    pub fn configuration(&self, database: pg_sys::Oid) -> &'static AtomicU64 {
        &self.header().configuration[database.to_u32() as usize % CONFIGURATIONS]
    }

    /// How many queries of their own the parallel workers of this backend have run. They cannot be recorded: a fill during which
    /// the number changes is not stored.
    pub fn parallel_reads(&self) -> u32 {
        self.parallel_reads_of(crate::compat::my_process_number())
            .load(Ordering::Acquire)
    }

    /// Notes that this parallel worker ran a query of its own.
    pub fn note_parallel_read(&self) {
        if let Some(leader) = crate::compat::lock_group_leader_number() {
            self.parallel_reads_of(leader)
                .fetch_add(1, Ordering::AcqRel);
        }
    }

    fn parallel_reads_of(&self, process: i32) -> &'static AtomicU32 {
        &self.header().parallel_reads[process as usize % LEADERS]
    }

    /// Requests to start to track a table.
    pub fn tracking_requests(&self) -> Requests {
        let offset = self.layout.total.next_multiple_of(8);
        // SAFETY: room for the places was asked for there, zeroed at creation.
        unsafe { Requests::at(self.at(offset)) }
    }

    /// Who is warming or refreshing.
    pub fn progress(&self) -> Progress {
        let offset = self.layout.total.next_multiple_of(8) + REQUESTS_BYTES;
        // SAFETY: room for the places was asked for there, zeroed at creation; all fields are atomic.
        Progress(unsafe { &*self.at(offset).cast() })
    }

    /// What is to be computed anew.
    pub fn refreshes(&self) -> Refreshes {
        let offset = self.layout.total.next_multiple_of(8) + REQUESTS_BYTES + PROGRESS_BYTES;
        // SAFETY: room for the places was asked for there, zeroed at creation.
        unsafe { Refreshes::at(self.at(offset)) }
    }

    /// Which background processes there are.
    pub fn posts(&self) -> Posts {
        let offset = self.layout.total.next_multiple_of(8)
            + REQUESTS_BYTES
            + PROGRESS_BYTES
            + REFRESHES_BYTES;
        // SAFETY: room for the posts was asked for there, zeroed at creation; all fields are atomic.
        Posts(unsafe { &*self.at(offset).cast() })
    }
}
