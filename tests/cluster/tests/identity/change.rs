//! One change, before, during and after its transaction, as seen by all sessions that are open.

use super::house::{Answer, ask, both, build, cached, enter, ground, kept};
use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// A change of what functions answer.
#[derive(Clone, Copy)]
pub struct Change {
    /// What is there before, done by the landlord.
    pub before: &'static str,
    /// The change, done by a superuser.
    pub change: &'static str,
    /// Calls whose answers it may change. At least one does, to somebody.
    pub calls: &'static [&'static str],
}

/// A change that both `list()` and `told()` feel.
pub const fn change(before: &'static str, change: &'static str) -> Change {
    Change {
        before,
        change,
        calls: &["list()", "told()"],
    }
}

/// A change that `calls` feel.
pub const fn felt_by(
    calls: &'static [&'static str],
    before: &'static str,
    change: &'static str,
) -> Change {
    Change {
        before,
        change,
        calls,
    }
}

/// Two sessions of each, so that one finds what another has stored.
const PEOPLE: [&str; 6] = ["ann", "bob", "gate/ann", "ann", "bob", "landlord"];

/// Tries all changes in a cluster of their own, and tells of all that went wrong.
pub fn try_all(name: &str, changes: &[Change]) -> Result<()> {
    let cluster = ground(name)?;
    let mut wrong = Vec::new();
    for change in changes {
        if let Err(error) = try_one(&cluster, change) {
            wrong.push(format!("{}\n    {error:#}", change.change));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} changes:\n{}",
        wrong.len(),
        changes.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// The answers to all sessions.
fn answers(
    sessions: &mut [(&str, Client)],
    calls: &[&str],
    mut how: impl FnMut(&mut Client, &str) -> Result<Answer>,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for (number, (who, client)) in sessions.iter_mut().enumerate() {
        for call in calls {
            answers.push(how(client, call).with_context(|| format!("session {number}, {who}"))?);
        }
    }
    Ok(answers)
}

fn try_one(cluster: &Cluster, change: &Change) -> Result<()> {
    let mut admin = build(cluster, change.before)?;
    let mut sessions = PEOPLE
        .iter()
        .map(|who| Ok((*who, open(cluster, who)?)))
        .collect::<Result<Vec<_>>>()?;
    let old = answers(&mut sessions, change.calls, kept).context("before")?;
    ensure!(
        old.iter().any(Answer::is_value),
        "nobody has an answer before"
    );

    if !change.change.contains(";;") {
        // Others do not see it yet; a table that is locked the cached function may have the answer for.
        admin.batch_execute("BEGIN")?;
        admin.batch_execute(change.change).context("the change")?;
        let mut expected = old.iter();
        answers(&mut sessions, change.calls, |client, call| {
            let old = expected.next().context("as many answers")?;
            let by_cache = ask(client, &cached(call))?;
            let by_cache = by_cache.of_the_function();
            ensure!(
                by_cache.is_lock_timeout() || by_cache == *old,
                "{call} was {old:?}, cached {by_cache:?}"
            );
            let plain = ask(client, call)?;
            if !plain.is_lock_timeout() {
                ensure!(plain == *old, "{call} was {old:?}, is {plain:?}");
            }
            Ok(plain)
        })
        .context("uncommitted")?;
        // Whoever made it does.
        for who in ["ann", "bob", "landlord"] {
            admin.batch_execute("SAVEPOINT here; SET LOCAL search_path = house, annexe, public")?;
            let there = admin
                .batch_execute(&format!("SET LOCAL ROLE {who}"))
                .is_ok();
            for call in change.calls.iter().filter(|_| there) {
                let plain = in_savepoint(&mut admin, call)?;
                let by_cache = in_savepoint(&mut admin, &cached(call))?;
                ensure!(
                    plain == by_cache,
                    "the changing session as {who}: {call} is {plain:?}, cached {by_cache:?}"
                );
            }
            admin.batch_execute("ROLLBACK TO here")?;
        }
        admin.batch_execute("ROLLBACK")?;
        let again = answers(&mut sessions, change.calls, kept).context("rolled back")?;
        ensure!(again == old, "rolled back: {old:?}, {again:?}");
    }

    for part in change
        .change
        .split(";;")
        .filter(|part| !part.trim().is_empty())
    {
        admin.batch_execute(part).context("the change")?;
    }
    let new = answers(&mut sessions, change.calls, both).context("committed")?;
    ensure!(new != old, "it changed nothing: {old:?}");
    let again = answers(&mut sessions, change.calls, kept).context("committed, again")?;
    ensure!(again == new, "committed, again: {new:?}, {again:?}");
    // A session that knows nothing from before is the judge of all.
    for ((number, who), new) in PEOPLE
        .iter()
        .enumerate()
        .zip(new.chunks(change.calls.len()))
    {
        let Ok(mut fresh) = open(cluster, who) else {
            continue;
        };
        for (call, new) in change.calls.iter().zip(new) {
            let answer = both(&mut fresh, call).with_context(|| format!("{who} anew"))?;
            ensure!(
                answer == *new,
                "{call} is {answer:?} to {who} anew, to session {number} {new:?}"
            );
        }
    }
    Ok(())
}

fn open(cluster: &Cluster, who: &str) -> Result<Client> {
    if who == "landlord" {
        let mut client = enter(cluster, "postgres")?;
        client.batch_execute("SET ROLE landlord")?;
        return Ok(client);
    }
    enter(cluster, who)
}

/// The answer inside of a transaction, which goes on after an error.
fn in_savepoint(client: &mut Client, call: &str) -> Result<Answer> {
    client.batch_execute("SAVEPOINT call")?;
    let answer = ask(client, call)?.of_the_function();
    client.batch_execute("ROLLBACK TO call")?;
    Ok(answer)
}
