//! The slots across a clean restart.
//!
//! Rows of the table tier are right after a restart only if the slots that they refer to are the ones of before, and if nobody wrote
//! in between without marking. So at a clean shutdown the postmaster, after the shutdown checkpoint, writes the slots to a file,
//! bound to the cluster's system identifier and to that checkpoint's place in the WAL. At the next start the slots come back only
//! if the control file still says that this shutdown is the last thing that happened. A crash, a restored backup, a start without
//! the library: each leaves another checkpoint, the file is ignored, and a new *incarnation* makes all rows of the table worthless.
//! A server that is about to replay WAL although it was shut down cleanly (a primary that comes back as a standby) ignores it too.
//!
//! The file is removed as soon as it was read, so it can never be read twice.

#![allow(unsafe_code)]

use crate::fault::{self, Point};
use crate::server;
use crate::store::area::Area;
use crate::validity::tags::CLUSTER_SLOT;
use crate::validity::view::{self, PgView};
use pg_query_cache_validity::Effect;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ffi::CString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// In the data directory, beside the files of the statistics of other extensions.
const FILE: &str = "pg_stat/pg_query_cache.slots";
/// Files that make a server replay WAL that it has not written, whatever the control file says.
const REPLAY: [&str; 3] = ["standby.signal", "recovery.signal", "backup_label"];
/// First bytes of the file: a name and the version of its format, of which the slot of each tag is a part. After the head come the
/// databases of the slots of definitions, then the slots.
const MAGIC: u64 = u64::from_le_bytes(*b"pgqcslo4");
/// Words before the databases: magic, system identifier, checkpoint, incarnation, first known transaction, number of words.
const HEAD: usize = 6;

/// Set while those that were prepared before this start are not registered yet.
pub const NOT_KNOWN_YET: u64 = u64::MAX;

/// Whether every writer that `snapshot` can see finished is known to the slots, or will be when others see it. After a start without saved
/// slots that is so from the moment on in which somebody has registered the transactions that were prepared before ([`known_from_now_on`]).
///
/// # Safety
/// `snapshot` is the active MVCC snapshot.
#[inline(always)]
pub unsafe fn knows_all_writers(area: Area, snapshot: pg_sys::Snapshot) -> bool {
    match area.header().known_from.load(Ordering::Acquire) {
        0 => true,
        // SAFETY: the caller's snapshot.
        from => unsafe { knows_from(area, from, snapshot) },
    }
}

#[cold]
unsafe fn knows_from(area: Area, from: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's snapshot; inside a transaction.
    unsafe {
        let from = match from {
            NOT_KNOWN_YET => match known_from_now_on(area) {
                Some(from) => from,
                None => return false,
            },
            from => from,
        };
        is_behind(area, from, snapshot)
    }
}

/// Whether `snapshot` sees every transaction before `bound` finished but those that are listed in the cluster's slot.
///
/// Those need not be waited for. On the cluster's slot every result depends: while such a transaction runs, the slot tells who sees it
/// from who does not, and its end makes everything dead that was computed without it. It has been listed before anything was
/// stored or served, or before it ended; one that has left the list has been seen finished, and is waited for by snapshots that have not.
///
/// # Safety
/// `snapshot` is a valid MVCC snapshot, inside a transaction.
pub unsafe fn is_behind(area: Area, bound: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    unsafe { is_behind_but(area, bound, snapshot, |_| false) }
}

/// As [`is_behind`], of the transactions of this database. One that runs in another one has changed nothing here but what the cluster shares,
/// or what a command on this database changes from there; that it marks, once the cluster's bound is passed.
///
/// # Safety
/// As for [`is_behind`].
pub unsafe fn is_behind_here(area: Area, bound: u64, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's.
    unsafe { is_behind_but(area, bound, snapshot, view::runs_elsewhere) }
}

unsafe fn is_behind_but(
    area: Area,
    bound: u64,
    snapshot: pg_sys::Snapshot,
    is_no_matter: impl Fn(u64) -> bool,
) -> bool {
    // SAFETY: the caller's snapshot; reads a variable of the backend.
    unsafe {
        if view::sees_all_before(bound, snapshot) {
            return true;
        }
        let own = view::own_xid();
        if (*snapshot).takenDuringRecovery || own != 0 && own < bound {
            return false;
        }
        let listed = listed(area);
        PgView::new(snapshot)
            .unfinished_before(bound)
            .is_some_and(|mut running| {
                running.all(|xid| listed.contains(&xid) || is_no_matter(xid))
            })
    }
}

/// The transactions that are listed in the cluster's slot as about to end.
pub fn listed(area: Area) -> Vec<u64> {
    area.slots().pending(CLUSTER_SLOT)
}

/// Registers all transactions that run now in the cluster's slot, those that were prepared before the start above all, and notes that
/// transactions from now on are known, unless that has been done. The id of the first known one; `None` if that cannot be done here.
///
/// # Safety
/// Inside a transaction, after recovery.
pub unsafe fn known_from_now_on(area: Area) -> Option<u64> {
    let known_from = &area.header().known_from;
    let present = known_from.load(Ordering::Acquire);
    if present != NOT_KNOWN_YET {
        return Some(present);
    }
    // SAFETY: reads variables of the server; a snapshot can be taken here, and is registered while it is used. One that is assigned an id
    // between the two, or has one that no snapshot lists yet, is not registered, and waited for.
    unsafe {
        if pg_sys::IsInParallelMode() || server::RecoveryInProgress() {
            return None;
        }
        // Whatever was prepared before the start has a smaller id.
        let next = pg_sys::ReadNextFullTransactionId().value;
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        for xid in PgView::new(snapshot).all_running() {
            area.slots().register(CLUSTER_SLOT, xid, Effect::AtCommit);
        }
        pg_sys::UnregisterSnapshot(snapshot);
        // After that: who finds it finds them in the slot.
        let noted =
            known_from.compare_exchange(NOT_KNOWN_YET, next, Ordering::AcqRel, Ordering::Acquire);
        Some(noted.map_or_else(|present| present, |_| next))
    }
}

fn in_data_directory(file: &str) -> PathBuf {
    // SAFETY: the server's data directory, a C string set before libraries are loaded.
    let directory = unsafe { crate::compat::text(pg_sys::DataDir) };
    PathBuf::from(directory).join(file)
}

fn path() -> PathBuf {
    in_data_directory(FILE)
}

/// System identifier and last checkpoint, if the cluster was shut down cleanly and goes on from there.
fn last_shutdown() -> Option<(u64, u64)> {
    if REPLAY.iter().any(|file| in_data_directory(file).exists()) {
        return None;
    }
    let mut intact = false;
    // SAFETY: reads the control file into our memory context.
    unsafe {
        let control = pg_sys::get_controlfile(pg_sys::DataDir, &mut intact);
        if control.is_null() || !intact || (*control).state != pg_sys::DBState::DB_SHUTDOWNED {
            return None;
        }
        Some(((*control).system_identifier, (*control).checkPoint))
    }
}

/// At the end of a clean shutdown, in the postmaster.
pub fn save(area: Area) {
    // Nobody has used the cache: there is nothing that the slots could tell.
    if !area.bounds().is_used_somewhere() {
        return;
    }
    let Some((system, checkpoint)) = last_shutdown() else {
        return;
    };
    let mut slots = area.definitions().export();
    slots.extend(area.slots().export());
    let header = area.header();
    // A transaction that was prepared before the extension was created outlives the server, and is in no slot: the next start has to
    // register what is prepared, as after a crash.
    let known_from = match area.bounds().are_any() {
        true => NOT_KNOWN_YET,
        false => header.known_from.load(Ordering::Relaxed),
    };
    let mut words = vec![
        MAGIC,
        system,
        checkpoint,
        header.incarnation.load(Ordering::Relaxed),
        known_from,
        slots.len() as u64,
    ];
    words.extend(slots);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    let write = || -> std::io::Result<()> {
        let temporary = path().with_extension("tmp");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fault::fenced(Point::SlotsSaving);
        rename(&temporary, &path())
    };
    if let Err(problem) = write() {
        let _ = std::fs::remove_file(path().with_extension("tmp"));
        crate::error::tell(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            &format!("could not write file \"{FILE}\": {problem}"),
            crate::error::Besides::Nothing,
        );
    }
    fault::fenced(Point::SlotsSaved);
}

/// Renames a file as the server renames its own: after a failure of the machine the folder has the new name or the old one, never a new
/// name of bytes that are not there.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes());
    let (from, to) = (name(from)?, name(to)?);
    // SAFETY: C strings. Failures are told by a message of that level.
    match unsafe { pg_sys::durable_rename(from.as_ptr(), to.as_ptr(), pg_sys::LOG as i32) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// At the start, in the postmaster, with fresh slots.
pub fn restore(area: Area) {
    let header = area.header();
    // SAFETY: the clock.
    header.started_at.store(
        unsafe { pg_sys::GetCurrentTimestamp() } as u64,
        Ordering::Relaxed,
    );
    let file = read();
    fault::fenced(Point::SlotsRead);
    let _ = std::fs::remove_file(path());
    fault::fenced(Point::SlotsRemoved);
    if let Some((incarnation, known_from, slots)) = file
        && let Some(slots) = area.definitions().import(&slots)
        && area.slots().import(slots)
    {
        header.incarnation.store(incarnation, Ordering::Relaxed);
        header.known_from.store(known_from, Ordering::Relaxed);
        header.restored.store(1, Ordering::Relaxed);
        area.bounds().restore();
        return;
    }
    header
        .incarnation
        .store(new_incarnation(), Ordering::Relaxed);
    header.known_from.store(NOT_KNOWN_YET, Ordering::Relaxed);
}

/// Incarnation, first known transaction and slots, if the file belongs to the last shutdown and is whole.
fn read() -> Option<(u64, u64, Vec<u64>)> {
    let mut bytes = Vec::new();
    std::fs::File::open(path())
        .ok()?
        .read_to_end(&mut bytes)
        .ok()?;
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let words: Vec<u64> = body
        .chunks_exact(8)
        .map(|w| w.try_into().map(u64::from_le_bytes))
        .collect::<Result<_, _>>()
        .ok()?;
    let (head, slots) = words.split_at_checked(HEAD)?;
    let whole = head[0] == MAGIC && head[5] == slots.len() as u64;
    (whole && last_shutdown() == Some((head[1], head[2])))
        .then(|| (head[3], head[4], slots.to_vec()))
}

/// A number that no other life of any cluster has.
fn new_incarnation() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: fills the buffer; without randomness the clock and the process id have to do.
    unsafe {
        if !pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) {
            return (pg_sys::GetCurrentTimestamp() as u64).rotate_left(16)
                ^ pg_sys::MyProcPid as u64;
        }
    }
    u64::from_le_bytes(bytes) | 1
}
