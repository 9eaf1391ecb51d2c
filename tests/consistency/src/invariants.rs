//! What must hold, as functions of what was seen.

use std::collections::HashMap;

use crate::subject::TRACKED;

/// One row of a comparing statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key asked for.
    pub key: i32,
    /// Whether both answers were equal.
    pub same: bool,
    /// A fingerprint of the cached answer; none for NULL.
    pub fingerprint: Option<i64>,
    /// The function's own answer, if shown.
    pub bare: Option<String>,
    /// The cached answer, if shown.
    pub cached: Option<String>,
}

/// The rows whose cached answer is not the function's own.
pub fn different(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| !row.same)
}

/// Whether each key asked for was answered exactly once.
pub fn complete(keys: &[i32], rows: &[Row]) -> bool {
    let mut asked = keys.to_vec();
    let mut answered: Vec<i32> = rows.iter().map(|row| row.key).collect();
    asked.sort_unstable();
    answered.sort_unstable();
    asked == answered
}

/// The rows whose version is older than one whose commit had been acknowledged before the statement began.
///
/// `acknowledged` gives that version for a key.
pub fn behind(rows: &[Row], acknowledged: impl Fn(i32) -> i64) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| {
        let seen = row
            .cached
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(i64::MIN);
        seen < acknowledged(row.key)
    })
}

/// The answers of one snapshot, which do not change.
#[derive(Debug, Default)]
pub struct Repeatable {
    first: HashMap<(&'static str, i32), Option<i64>>,
    /// How many answers have been compared with an earlier one.
    pub repeated: u64,
}

impl Repeatable {
    /// The rows that differ from what the same snapshot had answered before.
    pub fn changed<'r>(&mut self, subject: &'static str, rows: &'r [Row]) -> Vec<&'r Row> {
        let mut changed = Vec::new();
        for row in rows {
            match self.first.insert((subject, row.key), row.fingerprint) {
                Some(before) => {
                    self.repeated += 1;
                    if before != row.fingerprint {
                        changed.push(row);
                    }
                }
                None => continue,
            }
        }
        changed
    }
}

/// Whether a deadlock is one that the writers would have had without any cache: all wait for a transaction or for a row,
/// and the row is one of the subject's tables; or somebody waits for the oracle's own guard, an advisory lock, of which the
/// extension takes none.
///
/// Both texts are the server's own: the detail (`Process 1 waits for ShareLock on transaction 2; …`, a line for each
/// process) and the context (`while updating tuple (0,1) in relation "entries"`).
pub fn ordinary_deadlock(detail: &str, context: &str) -> bool {
    let for_guard = |line: &str| line.contains("on advisory lock [") && line.contains(",0,1,1]");
    if detail.lines().any(for_guard) {
        return true;
    }
    let for_rows = detail
        .lines()
        .all(|line| line.contains("on transaction") || line.contains("on tuple"));
    let relation = context
        .split_once("in relation \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(name, _)| name);
    let ours = |name: &str| {
        let tables = TRACKED.iter().map(|(table, _)| *table);
        let mut of =
            tables.filter(|table| name == *table || name.starts_with(&format!("{table}_")));
        of.next().is_some()
    };
    for_rows && relation.is_some_and(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: i32, same: bool, fingerprint: i64, cached: &str) -> Row {
        Row {
            key,
            same,
            fingerprint: Some(fingerprint),
            bare: None,
            cached: Some(cached.to_owned()),
        }
    }

    #[test]
    fn a_difference_is_found() {
        let rows = [row(1, true, 0, ""), row(2, false, 0, "")];
        assert_eq!(different(&rows).map(|row| row.key).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_lost_or_invented_answer_is_found() {
        let rows = [row(1, true, 0, ""), row(2, true, 0, "")];
        assert!(complete(&[2, 1], &rows));
        assert!(!complete(&[1, 2, 2], &rows));
        assert!(!complete(&[1], &rows));
    }

    #[test]
    fn an_answer_behind_an_acknowledged_commit_is_found() {
        let rows = [row(1, true, 0, "7"), row(2, true, 0, "8")];
        let behind: Vec<i32> = behind(&rows, |_| 8).map(|row| row.key).collect();
        assert_eq!(behind, [1]);
        let missing = Row {
            cached: None,
            ..row(1, true, 0, "")
        };
        assert_eq!(super::behind(&[missing], |_| 0).count(), 1);
    }

    #[test]
    fn an_answer_that_changes_within_a_snapshot_is_found() {
        let mut snapshot = Repeatable::default();
        assert!(snapshot.changed("f", &[row(1, true, 5, "")]).is_empty());
        assert!(snapshot.changed("g", &[row(1, true, 6, "")]).is_empty());
        assert!(snapshot.changed("f", &[row(1, true, 5, "")]).is_empty());
        assert_eq!(snapshot.changed("f", &[row(1, true, 6, "")]).len(), 1);
        assert_eq!(snapshot.repeated, 2);
    }
    #[test]
    fn a_deadlock_over_anything_else_than_own_rows_is_told_apart() {
        let rows = "Process 1 waits for ShareLock on transaction 805; blocked by process 2.\n\
                    Process 2 waits for ExclusiveLock on tuple (1,7) of relation 9 of database 5; blocked by process 1.";
        let entries = "while updating tuple (0,45) in relation \"entries\"";
        let leaf = "while deleting tuple (0,57) in relation \"orders_r0_default\"";
        assert!(ordinary_deadlock(rows, entries) && ordinary_deadlock(rows, leaf));
        assert!(!ordinary_deadlock(
            rows,
            "while inserting index tuple (3,4) in relation \"query_cache\""
        ));
        assert!(!ordinary_deadlock(rows, ""));
        let table = "Process 1 waits for ShareRowExclusiveLock on relation 9 of database 5; blocked by process 2.";
        assert!(!ordinary_deadlock(table, entries));
        let guard = "Process 1 waits for ShareLock on advisory lock [5,0,1,1]; blocked by process 2.\n\
                     Process 2 waits for AccessExclusiveLock on relation 9 of database 5; blocked by process 1.";
        assert!(ordinary_deadlock(guard, ""));
        assert!(!ordinary_deadlock(&guard.replace(",0,1,1]", ",0,2,1]"), ""));
    }
}
