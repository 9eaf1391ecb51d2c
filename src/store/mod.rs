//! Memory tier: one fixed area of main shared memory, nothing else.
//!
//! ```text
//! area      = header, validity slots, entries by slot, function statistics, times of writers, flights, partitions
//! partition = head, entries by database, buckets, maps of taken blocks and of heads, ghosts, credits, blocks
//! entry     = a chain of extents, mostly one: fixed fields, dependencies, rest of the key, value
//! ```
//!
//! * `layout`: sizes and offsets, computed once from `pg_query_cache.memory`
//! * `area`: attaching to it, at start and after a crash; `hooks`: when that happens
//! * `locks`: what there is to be locked, and how much may be done under a lock
//! * `partition`: entries, buckets, blocks and the bytes in them; what is guarded by what
//! * `lookup`: reading an entry without a lock
//! * `insert`: adding entries; `eviction`: making room for them; `removal`: taking them out
//! * `walk`: looking through entries, a few at a time; `hits`: counting their hits
//! * `flights`: one session computes, the others wait
//! * `posts`: which background processes of ours there are; `turns`: in which databases a warming job waits for one
//! * `progress`: who is warming or refreshing, and how far
//! * `requests`: tables that calls have found untracked
//! * `refreshes`: results that are to be computed anew before they are too old
//! * `rows`: whose row it is in what is kept by function or by relation, and how too few are shared out
//! * `gone`: rows of what is there no more
//! * `statistics`: counters per function, collected per backend; `traits`: what was learned of it; `fill_times`: how long its
//!   computations took
//! * `worth`: whether caching a function pays
//! * `charges`: the time that tracking costs writers, per relation

pub mod area;
pub mod charges;
pub mod eviction;
pub mod fill_times;
pub mod flights;
pub mod gone;
pub mod hits;
pub mod hooks;
pub mod insert;
pub mod layout;
pub mod library_settings;
pub mod locks;
pub mod lookup;
pub mod partition;
pub mod payer;
pub mod posts;
pub mod progress;
pub mod refreshes;
mod removal;
pub mod requests;
pub mod rows;
pub mod statistics;
pub mod traits;
pub mod turns;
pub mod walk;
pub mod worth;
