//! Whether caching a function pays: what its stored results cost against what their hits save, both measured.
//!
//! ```text
//! costs = results stored × (storing one + looking for it in vain)
//! saves = hits × (running the function − a hit)
//! ```
//!
//! A function is judged over *stretches*, by what was counted from the beginning of one to its end. As long as it is stored a stretch ends
//! when enough results have come to their end or, of functions that are asked with ever new arguments, when as many were stored as memory
//! has room for: less may be a cache that fills for the first time ([`judge`]). A function that does not pay *rests*: it runs by itself, and
//! nothing is stored. While it rests a part of its keys is stored all the same, in turns, so that whatever would speak for it is seen
//! ([`try_again`]); keys and not calls, because a call that stores is of no use if the next ones with its key do not look. What rests
//! because it is cheap to run needs no such trial: running it tells ([`has_become_dear`]).
//!
//! To come back takes more than not to be sent to rest, so nothing swings between the two.

#![forbid(unsafe_code)]

/// So many results that were invalidated or expired, and were stored again, tell.
pub const ENOUGH_REPLACED: u64 = 512;
/// So many results stored tell, whatever became of them, if memory has no room for more. A cache that fills for the first time stores
/// much that is hit only later.
pub const ENOUGH_STORED: u64 = 16_384;
/// After so many hits a stretch is over: what was long ago says nothing about now.
pub const ENOUGH_HITS: u64 = 1 << 20;
/// So many measurements make a mean.
pub const ENOUGH_MEASURED: u64 = 16;
/// A trial is over after so many results stored …
pub const TRIAL_STORED: u64 = 128;
/// … and has succeeded only after so many hits.
pub const TRIAL_HITS: u64 = 64;
/// So many runs tell whether a function has become dear.
pub const ENOUGH_RUNS: u64 = 64;

/// A hit takes so many nanoseconds, as long as none was measured.
const ASSUMED_HIT_NS: f64 = 500.0;
/// Saving so many times what it costs makes a resting function come back.
const MARGIN: f64 = 2.0;
/// Running so many times as long as a hit makes one come back that was cheap to run.
const DEARER: f64 = 1.5;
/// From so many times a hit on, running a function is not worth measuring any further, if enough runs say so that a few which the machine
/// held up cannot be the reason …
const CLEARLY_DEAR: f64 = 2.0;
const ENOUGH_TO_BE_CLEAR: u64 = 128;
/// … from so many times on, if some do …
const DEAR: f64 = 16.0;
/// … and from so many times on, the first few runs say so.
const VERY_DEAR: f64 = 50.0;
const FIRST_FEW: u64 = 3;
/// Storing what is not asked for again is worth a rest only if it takes more than this part of running the function.
const NOTICEABLE: f64 = 0.05;

/// What was counted of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Calls answered from the cache.
    pub hits: u64,
    /// Results stored on account of a call.
    pub stored: u64,
    /// Calls that found a result which a write had invalidated.
    pub invalidated: u64,
    /// Calls that found a result which was too old.
    pub expired: u64,
    /// Nanoseconds that the function took for the results stored.
    pub computing_ns: u64,
    /// Nanoseconds that storing them took.
    pub storing_ns: u64,
    /// Hits that were measured.
    pub measured_hits: u64,
    /// Nanoseconds that these took.
    pub hits_ns: u64,
    /// Runs of the function, with nothing recorded, that were measured.
    pub runs: u64,
    /// Nanoseconds that these took.
    pub runs_ns: u64,
}

/// Number of fields.
pub const FIELDS: usize = 10;

impl Counted {
    /// The fields, each in its place.
    fn places(&mut self) -> [&mut u64; FIELDS] {
        [
            &mut self.hits,
            &mut self.stored,
            &mut self.invalidated,
            &mut self.expired,
            &mut self.computing_ns,
            &mut self.storing_ns,
            &mut self.measured_hits,
            &mut self.hits_ns,
            &mut self.runs,
            &mut self.runs_ns,
        ]
    }

    /// The fields, in their order.
    pub fn fields(&self) -> [u64; FIELDS] {
        let mut copy = *self;
        copy.places().map(|field| *field)
    }

    /// What [`Counted::fields`] returns, as it was.
    pub fn from_fields(fields: [u64; FIELDS]) -> Self {
        let mut counted = Counted::default();
        for (place, field) in counted.places().into_iter().zip(fields) {
            *place = field;
        }
        counted
    }

    /// What has been counted since. Counters that were set back have counted nothing.
    pub fn since(&self, before: &Counted) -> Counted {
        let (now, before) = (self.fields(), before.fields());
        Counted::from_fields(std::array::from_fn(|i| now[i].saturating_sub(before[i])))
    }

    /// Nanoseconds of a run of the function; `None` if there was none.
    pub fn run_ns(&self) -> Option<f64> {
        mean(self.computing_ns + self.runs_ns, self.stored + self.runs)
    }

    /// Nanoseconds of a hit; `None` if none was measured.
    pub fn hit_ns(&self) -> Option<f64> {
        mean(self.hits_ns, self.measured_hits)
    }

    /// Nanoseconds that storing a result takes; `None` if there was none.
    pub fn storing_one_ns(&self) -> Option<f64> {
        mean(self.storing_ns, self.stored)
    }

    /// Results that had come to their end and were asked for again.
    fn replaced(&self) -> u64 {
        (self.invalidated + self.expired).min(self.stored)
    }
}

fn mean(sum: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

/// Why a function rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Writes invalidate its results before they are hit.
    Invalidated,
    /// Its results become too old before they are hit.
    Expired,
    /// It is asked with ever new arguments.
    NotAskedAgain,
    /// Running it takes no longer than a hit.
    CheapToRun,
}

impl Why {
    /// All there are.
    pub const ALL: [Why; 4] = [
        Why::Invalidated,
        Why::Expired,
        Why::NotAskedAgain,
        Why::CheapToRun,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Why::Invalidated => "invalidated before hit",
            Why::Expired => "expired before hit",
            Why::NotAskedAgain => "not asked for again",
            Why::CheapToRun => "cheaper to run",
        }
    }
}

/// Why a function rests, and the figures that say so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest {
    /// Why.
    pub why: Why,
    /// Results that were stored …
    pub stored: u64,
    /// … and hits of them.
    pub hits: u64,
    /// Nanoseconds of a run of the function.
    pub run_ns: f64,
    /// Nanoseconds of a hit.
    pub hit_ns: f64,
    /// Nanoseconds that storing a result takes.
    pub storing_ns: f64,
}

/// What a stretch says of a function that is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judgement {
    /// Nothing yet.
    Open,
    /// Caching it pays; a new stretch begins.
    Pays,
    /// It is to rest.
    Rest(Rest),
}

/// Judges a function that is stored by what was counted in the present stretch. Memory has room for `room` results.
pub fn judge(counted: &Counted, room: u64) -> Judgement {
    let hit_ns = counted.hit_ns().unwrap_or(ASSUMED_HIT_NS);
    let rest = |why, stored, run_ns| {
        Judgement::Rest(Rest {
            why,
            stored,
            hits: counted.hits,
            run_ns,
            hit_ns,
            storing_ns: counted.storing_one_ns().unwrap_or_default(),
        })
    };
    // Only runs that were measured by themselves: those of a few results stored are often the first of a session, which plan and compile.
    if let Some(run_ns) = measured_run(counted)
        && run_ns < hit_ns
    {
        return rest(Why::CheapToRun, counted.stored, run_ns);
    }
    let run_ns = mean(counted.computing_ns, counted.stored).unwrap_or_default();
    let saves = counted.hits as f64 * (run_ns - hit_ns);
    let costs = |stored: u64| stored as f64 * (counted.storing_one_ns().unwrap_or(0.0) + hit_ns);
    let replaced = counted.replaced();
    if replaced >= ENOUGH_REPLACED {
        return if saves >= costs(replaced) {
            Judgement::Pays
        } else if run_ns < hit_ns {
            rest(Why::CheapToRun, replaced, run_ns)
        } else if counted.invalidated >= counted.expired {
            rest(Why::Invalidated, replaced, run_ns)
        } else {
            rest(Why::Expired, replaced, run_ns)
        };
    }
    if counted.stored >= ENOUGH_STORED.max(room) {
        let all = counted.stored;
        return if saves >= costs(all) || costs(all) < NOTICEABLE * run_ns * all as f64 {
            Judgement::Pays
        } else if run_ns < hit_ns {
            rest(Why::CheapToRun, all, run_ns)
        } else {
            rest(Why::NotAskedAgain, all, run_ns)
        };
    }
    if counted.hits >= ENOUGH_HITS {
        return Judgement::Pays;
    }
    Judgement::Open
}

/// The mean of runs that were measured by themselves, if there are enough, and hits to compare them with.
fn measured_run(counted: &Counted) -> Option<f64> {
    let enough = counted.runs >= ENOUGH_MEASURED && counted.measured_hits >= ENOUGH_MEASURED;
    mean(counted.runs_ns, counted.runs).filter(|_| enough)
}

/// Whether running the function is known to take clearly longer than a hit: no more of its hits are run to find out.
pub fn is_clearly_dear(counted: &Counted) -> bool {
    let hit_ns = counted.hit_ns().unwrap_or(ASSUMED_HIT_NS);
    let very = counted.runs >= FIRST_FEW
        && mean(counted.runs_ns, counted.runs).is_some_and(|run_ns| run_ns > VERY_DEAR * hit_ns);
    let times = match counted.runs {
        ENOUGH_TO_BE_CLEAR.. => CLEARLY_DEAR,
        _ => DEAR,
    };
    very || measured_run(counted).is_some_and(|run_ns| run_ns > times * hit_ns)
}

/// What a trial of a resting function says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing yet.
    Open,
    /// It does not pay: no more is stored in this turn.
    Failed,
    /// It pays again.
    Succeeded,
}

/// Judges a resting function by what was counted of the keys that were on trial, and of its runs.
pub fn try_again(counted: &Counted, rest: &Rest) -> Trial {
    const FEW: u64 = 8;
    let known = |count: u64, mean: Option<f64>, before: f64| match mean {
        Some(mean) if count >= FEW => mean,
        _ => before,
    };
    let run_ns = known(counted.stored + counted.runs, counted.run_ns(), rest.run_ns);
    let hit_ns = known(counted.measured_hits, counted.hit_ns(), rest.hit_ns);
    let storing_ns = known(counted.stored, counted.storing_one_ns(), rest.storing_ns);
    let saves = counted.hits as f64 * (run_ns - hit_ns);
    let costs = counted.stored as f64 * (storing_ns + hit_ns);
    if counted.hits >= TRIAL_HITS && saves > MARGIN * costs {
        Trial::Succeeded
    } else if counted.stored >= TRIAL_STORED {
        Trial::Failed
    } else {
        Trial::Open
    }
}

/// Whether a function that rests because it is cheap to run is so no more; `None` as long as too few runs were measured.
pub fn has_become_dear(counted: &Counted, rest: &Rest) -> Option<bool> {
    let run_ns = mean(counted.runs_ns, counted.runs)?;
    (counted.runs >= ENOUGH_RUNS).then_some(run_ns > DEARER * rest.hit_ns)
}
