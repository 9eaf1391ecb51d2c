//! How far a number of cores gets if they have to share lines of the cache that they write: a model, not a measurement.
//!
//! A core does work of its own, then changes lines that others change as well. A line can be changed by one core at a time and has to
//! be fetched from the one that had it last, so it is a server with a queue, and all cores together are a closed network of queues. Its
//! throughput comes from mean value analysis (Reiser and Lavenberg, 1980), which is exact for times that vary as
//! exponential ones do and a little too pessimistic for steadier ones.

/// After so many nanoseconds a session hands over its counts.
const HAND_OVER: f64 = 10e6;

/// What it costs to change a line, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// That the core had last itself.
    pub(crate) own: f64,
    /// That another core of the same socket had last.
    pub(crate) near: f64,
    /// That a core of another socket had last.
    pub(crate) far: f64,
    /// Cores of a socket.
    pub(crate) socket: usize,
}

impl Machine {
    /// On average, if all of so many cores change it in turn: each of the others may have had it last.
    fn change(&self, cores: usize) -> f64 {
        if cores < 2 {
            return self.own;
        }
        let near = cores.min(self.socket) - 1;
        let far = cores - 1 - near;
        (near as f64 * self.near + far as f64 * self.far) / (cores - 1) as f64
    }
}

/// A line, or a lock with what is done under it.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// How often an operation comes to it.
    visits: f64,
    /// How long it is then taken, in nanoseconds.
    takes: f64,
}

/// What is done over and over, as far as other cores notice.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Nanoseconds of work of its own.
    pub(crate) own: f64,
    /// Changes to each of the lines that every core changes.
    pub(crate) changes: Vec<f64>,
    /// Nanoseconds of it that only one session can do at a time, whatever the machine.
    pub(crate) serial: f64,
    /// What is counted of it is handed over in batches.
    pub(crate) counted: Option<Counted>,
}

/// What the counts of a batch are of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Hits of one operation.
    pub(crate) hits: f64,
    /// Entries, each hit equally often.
    pub(crate) entries: f64,
    /// Locks under which that is done, one to a partition; 0 if it is done without.
    pub(crate) locks: usize,
}

impl Operation {
    /// Operations per second by so many cores.
    pub(crate) fn per_second(&self, machine: Machine, cores: usize) -> f64 {
        // How much comes together in a batch depends on how fast it goes.
        let mut rate = cores as f64 / (self.own + self.serial).max(1.0);
        for _ in 0..50 {
            let (own, servers) = self.servers(machine, cores, rate / cores as f64);
            rate = (rate + throughput(cores, own, &servers)) / 2.0;
        }
        rate * 1e9
    }

    /// How many times as much so many cores do as one.
    pub(crate) fn gain(&self, machine: Machine, cores: usize) -> f64 {
        self.per_second(machine, cores) / self.per_second(machine, 1)
    }

    /// Where it may have to wait, and how long it takes besides; `rate` is that of one core, in operations per nanosecond.
    fn servers(&self, machine: Machine, cores: usize, rate: f64) -> (f64, Vec<Server>) {
        let mut own = self.own;
        let change = machine.change(cores);
        let mut servers: Vec<Server> = self
            .changes
            .iter()
            .map(|changes| Server {
                visits: *changes,
                takes: change,
            })
            .collect();
        servers.push(Server {
            visits: 1.0,
            takes: self.serial,
        });
        if let Some(counted) = self.counted {
            own += counted.add(change, cores, rate, &mut servers);
        }
        (own, servers)
    }
}

impl Counted {
    /// Adds where an operation may have to wait, and returns how long it takes besides.
    fn add(&self, change: f64, cores: usize, rate: f64, servers: &mut Vec<Server>) -> f64 {
        let batch = (HAND_OVER * rate).max(1.0);
        let hits = batch * self.hits;
        let different = self.entries * (1.0 - (1.0 - 1.0 / self.entries).powf(hits));
        // A hand-over adds to the row of the function, and for each entry takes its partition's lock, changes its head and lets go.
        servers.push(Server {
            visits: 1.0 / batch,
            takes: change,
        });
        let mut besides = 0.0;
        match self.locks {
            0 => besides += different / batch * change,
            locks => {
                let lock = Server {
                    visits: different / batch / locks as f64,
                    takes: 3.0 * change,
                };
                servers.resize(servers.len() + locks, lock);
            }
        }
        // A hit has to fetch the head if another core has written it since its last hit of this entry. Those who fetch the same one are
        // served one by one here; a processor that lets several read at once does better. Of those who fetch others nobody waits.
        let written = (cores - 1) as f64 * different / hits;
        let fetched = self.hits * (1.0 - (-written).exp());
        servers.push(Server {
            visits: fetched / self.entries,
            takes: change,
        });
        besides + fetched * (1.0 - 1.0 / self.entries) * change
    }
}

/// Operations per nanosecond of a closed network with one class of customers.
fn throughput(customers: usize, own: f64, servers: &[Server]) -> f64 {
    let mut waiting = vec![0.0; servers.len()];
    let mut rate = 0.0;
    for present in 1..=customers {
        let times: Vec<f64> = servers
            .iter()
            .zip(&waiting)
            .map(|(server, waiting)| server.visits * server.takes * (1.0 + waiting))
            .collect();
        rate = present as f64 / (own + times.iter().sum::<f64>());
        for (waiting, time) in waiting.iter_mut().zip(times) {
            *waiting = rate * time;
        }
    }
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        own: 5.0,
        near: 50.0,
        far: 150.0,
        socket: 64,
    };

    fn near(a: f64, b: f64) {
        assert!((a / b - 1.0).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn it_is_the_known_answer_for_machines_and_a_repairman() {
        // Two machines that run for 10 on average, a repair takes 5: with p0 : p1 : p2 as 1 : 1 : 0.5 repaired, 0.6 of the time.
        let server = Server {
            visits: 1.0,
            takes: 5.0,
        };
        near(throughput(2, 10.0, &[server]), 0.6 / 5.0);
    }

    #[test]
    fn a_line_is_never_more_than_busy() {
        let server = Server {
            visits: 2.0,
            takes: 50.0,
        };
        let rate = throughput(1000, 1000.0, &[server]);
        assert!(rate <= 0.01 && rate > 0.0099, "{rate}");
    }

    #[test]
    fn what_shares_nothing_scales() {
        let alone = Operation {
            own: 1000.0,
            changes: Vec::new(),
            serial: 0.0,
            counted: None,
        };
        near(alone.gain(MACHINE, 256), 256.0);
        near(alone.per_second(MACHINE, 1), 1e6);
    }

    #[test]
    fn what_is_serial_does_not() {
        let serial = Operation {
            own: 0.0001,
            changes: Vec::new(),
            serial: 1000.0,
            counted: None,
        };
        assert!(serial.gain(MACHINE, 256) < 1.01);
    }

    #[test]
    fn a_change_costs_more_the_more_cores_there_are() {
        near(MACHINE.change(1), 5.0);
        near(MACHINE.change(64), 50.0);
        near(MACHINE.change(128), (63.0 * 50.0 + 64.0 * 150.0) / 127.0);
    }

    #[test]
    fn batches_are_cheaper_than_a_change_each_time() {
        let hit = |changes: &[f64], counted| Operation {
            own: 250.0,
            changes: changes.to_vec(),
            serial: 0.0,
            counted,
        };
        let counted = Counted {
            hits: 1.0,
            entries: 1.0,
            locks: 1,
        };
        let without_locks = Counted {
            entries: 10_000.0,
            locks: 0,
            ..counted
        };
        assert!(
            hit(&[], Some(without_locks)).gain(MACHINE, 256)
                > hit(
                    &[],
                    Some(Counted {
                        locks: 1,
                        ..without_locks
                    })
                )
                .gain(MACHINE, 256)
        );
        let batches = hit(&[], Some(counted)).gain(MACHINE, 256);
        let each = hit(&[1.0], None).gain(MACHINE, 256);
        assert!(batches > 10.0 * each, "{batches} and {each}");
        assert!(batches < 256.0);
    }
}
