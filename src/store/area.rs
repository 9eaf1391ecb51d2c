//! The area in shared memory: requested while the library is preloaded, initialised by the postmaster, inherited by every backend.
//!
//! Failure: after a crash of a backend the postmaster calls the start-up hook again with new, zeroed memory; the pointer in
//! `AREA` is then replaced before any backend can run.

#![allow(unsafe_code)]

use super::charges::Charges;
use super::flights::Flights;
use super::layout::Layout;
use super::locks::{LOCKS, NAME, lock_requests};
use super::partition::Partition;
use super::progress::{PROGRESS_BYTES, Progress};
use super::refreshes::{REFRESHES_BYTES, Refreshes};
use super::requests::{REQUESTS_BYTES, Requests};
use super::statistics::Functions;
use crate::gate::Bounds;
use crate::settings;
use crate::table::trends::Recorded;
use crate::validity::slots::Slots;
use crate::validity::writers::Writers;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Databases that can have a worker at the same time.
pub const DATABASES: usize = 64;

/// What the worker of one database and its backends share.
#[repr(C)]
pub struct DatabaseState {
    /// Oid of the database, 0 if free.
    pub database: AtomicU32,
    /// Process id of its worker, 0 if none runs.
    pub worker_pid: AtomicI32,
    /// 1 once the table tier has been read into memory.
    pub warm: AtomicU32,
    /// 1 if somebody wants a worker.
    pub wanted: AtomicU32,
    /// Commands in progress that need the database without a worker (DROP DATABASE and the like).
    pub held: AtomicU32,
    /// 1 if a job was queued that the worker has not looked for yet.
    pub jobs: AtomicU32,
    /// When its worker was last started, microseconds since 2000-01-01.
    pub started_at: AtomicU64,
    /// About how many rows of the table tier are not in memory. While it is 0 a miss does not look there.
    pub only_in_table: AtomicU64,
    /// Its entries in memory, and how many it may have.
    pub places: Places,
    /// What of the counters is in `cache_trends`.
    pub recorded: Recorded,
}

impl DatabaseState {
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

/// No entry can be added: the database's place in [`Header::databases`] has been given back.
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
        let mut request = TrackingRequest {
            database,
            relation: relation.to_u32(),
            function: function.to_u32(),
            column_length: column.len() as u32,
            ..TrackingRequest::default()
        };
        let name = request.column.0.get_mut(..column.len())?;
        name.copy_from_slice(column.as_bytes());
        Some(request)
    }

    /// The key column.
    pub fn column(&self) -> Option<String> {
        let name = self.column.0.get(..self.column_length as usize)?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
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
    /// Start of this life, microseconds since 2000-01-01.
    pub started_at: AtomicU64,
    /// State of the databases.
    pub databases: [DatabaseState; DATABASES],
    /// Who has to be finished before the cache is used; see [`crate::gate`].
    bounds: Bounds,
    /// Queries that parallel workers ran on their own, by the leader's number; see [`Area::parallel_reads`].
    parallel_reads: [AtomicU32; LEADERS],
    /// Committed changes of the configuration of databases, by their oid; see [`Area::configuration`].
    configuration: [AtomicU64; CONFIGURATIONS],
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

/// The tracking requests come after the area itself, then the places of the progress, and the refreshes.
fn bytes() -> usize {
    settings::memory_bytes() + REQUESTS_BYTES + PROGRESS_BYTES + REFRESHES_BYTES
}

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
        // SAFETY: the layout reserves `slots` zeroed slots there.
        unsafe { Slots::at(self.at(self.layout.slots_at).cast(), self.layout.slots) }
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
            )
        }
    }

    /// The time that tracking has cost writers.
    pub fn charges(&self) -> Charges {
        // SAFETY: the layout reserves `charges` zeroed rows there.
        unsafe { Charges::at(self.at(self.layout.charges_at).cast(), self.layout.charges) }
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

    /// What is shared about `database`; `None` if it has no place yet.
    pub fn database(&self, database: pg_sys::Oid) -> Option<&'static DatabaseState> {
        self.header()
            .databases
            .iter()
            .find(|state| state.database.load(Ordering::Acquire) == database.to_u32())
    }

    /// What is shared about `database`, given a place if there is one left.
    pub fn database_or_new(&self, database: pg_sys::Oid) -> Option<&'static DatabaseState> {
        if let Some(state) = self.database(database) {
            return Some(state);
        }
        let _guard = lock_requests();
        self.database(database).or_else(|| {
            let state = self.database(pg_sys::InvalidOid)?;
            state.places.open();
            state.database.store(database.to_u32(), Ordering::Release);
            Some(state)
        })
    }

    /// The database is gone: its place is free again, unless memory still has entries of it.
    pub fn forget_database(&self, database: pg_sys::Oid) {
        self.tracking_requests().forget(database.to_u32());
        let _guard = lock_requests();
        let Some(state) = self.database(database) else {
            return;
        };
        if database == pg_sys::InvalidOid || !state.places.close() {
            return;
        }
        for word in [&state.wanted, &state.warm, &state.held, &state.jobs] {
            word.store(0, Ordering::Relaxed);
        }
        state.started_at.store(0, Ordering::Relaxed);
        state.only_in_table.store(0, Ordering::Relaxed);
        state.recorded.forget();
        state.database.store(0, Ordering::Release);
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
}
