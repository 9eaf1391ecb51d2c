//! What the operating system tells of a process.

use std::fs;
use std::time::Duration;

/// One process, as it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// The process that has to wait for it.
    pub(crate) parent: i32,
    /// Processor time of its own, in the program and in the system.
    pub(crate) own: Duration,
    /// Processor time of those of its children that have ended, and of theirs.
    pub(crate) ended_children: Duration,
}

impl Process {
    /// None if there is no such process.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        parse(
            &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?,
            rustix::param::clock_ticks_per_second(),
        )
    }

    /// All processes that there are.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Self::read)
    }
}

/// Reads `/proc/<pid>/stat`: fields 4 and 14 to 17 of proc(5). The second one, the name in parentheses, may hold anything, so they are
/// counted from its end.
fn parse(stat: &str, ticks_per_second: u64) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let time = |user: usize, system: usize| {
        let ticks = number(user)?.checked_add(number(system)?)?;
        Some(Duration::from_secs(ticks) / u32::try_from(ticks_per_second).ok()?)
    };
    Some(Process {
        parent: i32::try_from(number(4)?).ok()?,
        own: time(14, 15)?,
        ended_children: time(16, 17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let stat =
            "42 (a) b (c) S 7 42 42 0 -1 4194560 900 5000 0 3 120 30 400 50 20 0 1 0 100 0 0";
        let expected = Process {
            parent: 7,
            own: Duration::from_millis(1500),
            ended_children: Duration::from_millis(4500),
        };
        assert_eq!(parse(stat, 100), Some(expected));
        assert_eq!(parse("42 (a) S 7", 100), None);
    }

    #[test]
    fn this_process_is_one_of_them() {
        let own = i32::try_from(std::process::id()).ok();
        let parent = own.and_then(Process::read).map(|process| process.parent);
        assert!(parent.is_some());
        assert!(Process::all().any(|process| Some(process.parent) == parent));
    }
}
