//! Posts: which background processes of ours there are, and for whom. Nobody starts one without having taken a post, so there are never
//! more of them than the posts of their kind allow, and whoever needs a database for itself finds all that are in it.
//!
//! A post is taken for a process that has been asked for ([`ASKED`]); the process takes it over when it comes ([`Posts::arrive`]) and
//! gives it back when it exits, however that happens. One that comes so late that the post was taken away from it finds another turn of
//! it, and ends. A post that was given back keeps what it was for, as a note for the worker of its database, until it is taken again.
//!
//! Locks: posts are taken under the requests' lock. All fields are atomic; only the process whose number is in a post gives it back.

#![allow(unsafe_code)]

use super::area::area;
use super::locks::lock_requests;
use crate::server;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering};

/// The most workers that can be allowed.
pub const MOST_WORKERS: usize = 16;
/// Posts of processes that call functions for others, with room for the notes of those that have ended.
const OTHERS: usize = 48;
/// All posts; the first are those of workers.
pub const POSTS: usize = MOST_WORKERS + OTHERS;

/// The process was asked for and has not come yet.
const ASKED: i32 = -1;
/// A process that was asked for comes within this time, or not at all.
const COMES_US: i64 = 30_000_000;

/// What a process does.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// The upkeep of a database.
    Worker = 1,
    /// A job of `cache_warm_jobs`.
    Warming = 2,
    /// Computes results anew.
    Refreshing = 3,
}

/// A post.
#[repr(C)]
pub struct Post {
    /// Number of the process, 0 if the post is free.
    pid: AtomicI32,
    /// How often the post was taken.
    turn: AtomicU32,
    duty: AtomicU32,
    database: AtomicU32,
    /// The role as which it connects.
    role: AtomicU32,
    /// Whether the process is to go.
    leave: AtomicU32,
    job: AtomicI64,
    since: AtomicI64,
    /// When what it does has taken too long, or 0.
    deadline: AtomicI64,
    /// A note that the worker of the database has not read yet.
    note: AtomicU32,
    unused: u32,
}
const _: () = assert!(size_of::<Post>() == 56);

/// Bytes of all posts.
pub const POSTS_BYTES: usize = POSTS * size_of::<Post>();

/// What a post is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What the process does.
    pub duty: Duty,
    /// Oid of its database.
    pub database: u32,
    /// As whom it connects; no role for a worker.
    pub role: u32,
    /// Number of the job, or 0.
    pub job: i64,
}

/// A post that was taken: which, and the how manieth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which.
    pub index: u32,
    /// The how manieth time it was taken.
    pub turn: u32,
}

impl Ticket {
    /// As one number.
    pub fn number(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.index)
    }

    /// Out of [`Ticket::number`].
    pub fn of(number: u64) -> Self {
        Ticket {
            index: number as u32,
            turn: (number >> 32) as u32,
        }
    }
}

/// A process that is there, or was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its post.
    pub index: usize,
    /// Its number, 0 if it has not come yet.
    pub pid: i32,
    /// What it was asked to do.
    pub order: Order,
    /// Whether it was told to go.
    pub leaves: bool,
    /// Since when, microseconds since 2000-01-01.
    pub since: i64,
}

/// The posts of an area.
#[derive(Clone, Copy)]
pub struct Posts(pub(super) &'static [Post; POSTS]);

fn now() -> i64 {
    // SAFETY: the clock.
    unsafe { server::GetCurrentTimestamp() }
}

impl Post {
    fn duty(&self) -> Option<Duty> {
        match self.duty.load(Ordering::Relaxed) {
            1 => Some(Duty::Worker),
            2 => Some(Duty::Warming),
            3 => Some(Duty::Refreshing),
            _ => None,
        }
    }

    fn order(&self) -> Option<Order> {
        Some(Order {
            duty: self.duty()?,
            database: self.database.load(Ordering::Relaxed),
            role: self.role.load(Ordering::Relaxed),
            job: self.job.load(Ordering::Relaxed),
        })
    }
}

impl Posts {
    /// Takes a post if `may` says so of those who are there; `None` if it does not, or all posts are taken.
    pub fn take(self, order: Order, may: impl FnOnce(&[Present]) -> bool) -> Option<Ticket> {
        let mut present = Vec::with_capacity(POSTS);
        let _guard = lock_requests();
        self.note_present(&mut present);
        let range = match order.duty {
            Duty::Worker => 0..MOST_WORKERS,
            _ => MOST_WORKERS..POSTS,
        };
        let free = |post: &Post| post.pid.load(Ordering::Acquire) == 0;
        let index = range
            .clone()
            .find(|i| free(&self.0[*i]) && self.0[*i].note.load(Ordering::Relaxed) == 0)
            .or_else(|| range.clone().find(|i| free(&self.0[*i])))?;
        if !may(&present) {
            return None;
        }
        let post = &self.0[index];
        post.duty.store(order.duty as u32, Ordering::Relaxed);
        post.database.store(order.database, Ordering::Relaxed);
        post.role.store(order.role, Ordering::Relaxed);
        post.job.store(order.job, Ordering::Relaxed);
        post.leave.store(0, Ordering::Relaxed);
        post.note.store(0, Ordering::Relaxed);
        post.deadline.store(0, Ordering::Relaxed);
        post.since.store(now(), Ordering::Relaxed);
        let turn = post.turn.load(Ordering::Relaxed).wrapping_add(1);
        post.turn.store(turn, Ordering::Relaxed);
        post.pid.store(ASKED, Ordering::Release);
        Some(Ticket {
            index: index as u32,
            turn,
        })
    }

    fn note_present(self, present: &mut Vec<Present>) {
        for (index, post) in self.0.iter().enumerate() {
            let pid = post.pid.load(Ordering::Acquire);
            if pid == 0 {
                continue;
            }
            if let Some(order) = post.order() {
                present.push(Present {
                    index,
                    pid: pid.max(0),
                    order,
                    leaves: post.leave.load(Ordering::Relaxed) != 0,
                    since: post.since.load(Ordering::Relaxed),
                });
            }
        }
    }

    /// Those that are there, or were asked for.
    pub fn present(self) -> Vec<Present> {
        let mut present = Vec::with_capacity(POSTS);
        self.note_present(&mut present);
        present
    }

    /// What those are for that run jobs, or were asked for. Allocates nothing.
    pub fn jobs(self) -> impl Iterator<Item = Order> {
        let is_taken = |post: &&Post| post.pid.load(Ordering::Acquire) != 0;
        let orders = self.0.iter().filter(is_taken).filter_map(Post::order);
        orders.filter(|order| order.duty == Duty::Warming)
    }

    /// The number of the process that does the upkeep of a database; `None` if none does.
    pub fn worker_of(self, database: u32) -> Option<i32> {
        self.0[..MOST_WORKERS]
            .iter()
            .find(|post| {
                post.pid.load(Ordering::Acquire) > 0
                    && post.database.load(Ordering::Relaxed) == database
            })
            .map(|post| post.pid.load(Ordering::Acquire))
            .filter(|pid| *pid > 0)
    }

    /// Whether a process of ours is in a database, or on its way.
    pub fn any_in(self, database: u32) -> bool {
        self.0.iter().any(|post| {
            post.pid.load(Ordering::Acquire) != 0
                && post.database.load(Ordering::Relaxed) == database
        })
    }

    /// This process has come for its ticket. `None` if that is not valid any more.
    pub fn arrive(self, ticket: Ticket) -> Option<&'static Post> {
        let _guard = lock_requests();
        let post = self.0.get(ticket.index as usize)?;
        // SAFETY: a variable of the process.
        let own = unsafe { pg_sys::MyProcPid };
        (post.turn.load(Ordering::Relaxed) == ticket.turn
            && post
                .pid
                .compare_exchange(ASKED, own, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok())
        .then_some(post)
    }

    /// The process could not be asked for.
    pub fn give_back(self, ticket: Ticket) {
        let _guard = lock_requests();
        if let Some(post) = self.0.get(ticket.index as usize)
            && post.turn.load(Ordering::Relaxed) == ticket.turn
        {
            let _ = post
                .pid
                .compare_exchange(ASKED, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes posts away from processes that have not come, and returns the numbers of those whose time is over since `grace`.
    pub fn inspect(self, grace: i64) -> Vec<i32> {
        let now = now();
        let mut over = Vec::new();
        for post in self.0 {
            match post.pid.load(Ordering::Acquire) {
                0 => (),
                ASKED => {
                    if (now - post.since.load(Ordering::Relaxed)).abs() > COMES_US {
                        let _guard = lock_requests();
                        post.note.store(1, Ordering::Relaxed);
                        let _ = post.pid.compare_exchange(
                            ASKED,
                            0,
                            Ordering::AcqRel,
                            Ordering::Relaxed,
                        );
                    }
                }
                pid => {
                    let deadline = post.deadline.load(Ordering::Relaxed);
                    if deadline != 0 && now > deadline.saturating_add(grace) {
                        over.push(pid);
                    }
                }
            }
        }
        over
    }

    /// Tells one to go, by its post.
    pub fn relieve(self, index: usize) {
        if let Some(post) = self.0.get(index) {
            post.leave.store(1, Ordering::Release);
        }
    }

    /// What those of a database were for that have ended since this was asked last: what each does, its role, its job, since when.
    pub fn ended(self, database: u32, duty: Duty) -> Vec<(Order, i64)> {
        let mut ended = Vec::new();
        let _guard = lock_requests();
        for post in &self.0[MOST_WORKERS..] {
            if post.pid.load(Ordering::Acquire) == 0
                && post.database.load(Ordering::Relaxed) == database
                && post.duty() == Some(duty)
                && post.note.swap(0, Ordering::Relaxed) != 0
                && let Some(order) = post.order()
            {
                ended.push((order, post.since.load(Ordering::Relaxed)));
            }
        }
        ended
    }
}

impl Post {
    /// Whether this process was told to go.
    pub fn is_to_leave(&self) -> bool {
        self.leave.load(Ordering::Acquire) != 0
    }

    /// What the process was asked to do.
    pub fn what(&self) -> Option<Order> {
        self.order()
    }

    /// What it does now may take so many microseconds; 0 for any time.
    pub fn has_until(&self, us: i64) {
        let deadline = if us == 0 { 0 } else { now().saturating_add(us) };
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// The process exits.
    pub fn leave(&self) {
        // SAFETY: a variable of the process.
        let own = unsafe { pg_sys::MyProcPid };
        self.deadline.store(0, Ordering::Relaxed);
        self.note.store(1, Ordering::Relaxed);
        let _ = self
            .pid
            .compare_exchange(own, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Those that are there, if the library is preloaded.
pub fn present() -> Vec<Present> {
    area().map_or_else(Vec::new, |area| area.posts().present())
}
