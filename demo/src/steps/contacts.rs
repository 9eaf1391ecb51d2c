//! Summaries of contacts, of many enterprises and departments at once.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::counters::{Answer, Counters};
use crate::steps::crowd;
use crate::steps::speed::median;
use crate::text;
use crate::tour::{Tour, ask, timed};

/// All summaries together take less than this.
const LIMIT: f64 = 100.0 * 1024.0 * 1024.0;

/// Computing the summary of the largest enterprise takes at least so many times as long as a hit.
const TARGET: f64 = 500.0;

/// Tags of keys share the slots that writes are noted in, 17,036 of them in 100 MB: a write may concern so many summaries by chance, which are
/// then computed anew without need.
const CHANCE: f64 = 0.005;

/// So many contacts there are at full size; the largest enterprise of a smaller sample is small.
const FULL: i64 = 1_000_000;

/// How long the warm calls of one kind may take.
const BUDGET: Duration = Duration::from_secs(3);

/// How many summaries are kept.
const KEPT: &str = "SELECT count(*) FROM cache_memory_entries() AS e JOIN pg_proc AS p ON p.oid = e.function \
                     WHERE p.proname LIKE 'get_%_contacts_summary_cached'";

/// Both kinds: what they are called, a query that calls the function for all of them, with and without the cache.
const ALL: [(&str, &str); 2] = [
    (
        "enterprises",
        "SELECT count(get_enterprise_contacts_summary{}(id)) FROM contacts.enterprises",
    ),
    (
        "departments",
        "SELECT count(get_department_contacts_summary{}(enterprise_id, id)) FROM contacts.departments",
    ),
];

/// How many answers are wrong; each of one statement, hence of one snapshot.
const WRONG: [&str; 2] = [
    "SELECT count(*) FROM contacts.enterprises AS e \
     WHERE get_enterprise_contacts_summary(e.id) IS DISTINCT FROM get_enterprise_contacts_summary_cached(e.id)",
    "SELECT count(*) FROM contacts.departments AS d \
     WHERE get_department_contacts_summary(d.enterprise_id, d.id) \
           IS DISTINCT FROM get_department_contacts_summary_cached(d.enterprise_id, d.id)",
];

fn number(tour: &mut Tour<'_>, sql: &str) -> Result<i64> {
    ask(&mut tour.client, sql)?
        .parse()
        .with_context(|| sql.to_owned())
}

/// Whether the samples have their full size; what is claimed of speed is claimed of that.
pub(crate) fn is_full_size(tour: &mut Tour<'_>) -> Result<bool> {
    Ok(number(tour, "SELECT count(*) FROM contacts.contacts")? >= FULL)
}

/// All summaries are computed, and kept in the memory that there is.
pub(crate) fn keep_all(tour: &mut Tour<'_>) -> Result<()> {
    for (table, columns) in [
        ("enterprises", "{id}"),
        ("departments", "{enterprise_id,id}"),
        ("employees", "{enterprise_id,department_id}"),
        ("contacts", "{enterprise_id,department_id}"),
    ] {
        tour.shown(&format!(
            "SELECT cache_track_table('contacts.{table}', '{columns}')"
        ))?;
    }
    let mut rows = Vec::new();
    let mut summaries = 0;
    let progress = tour.screen.progress("computing");
    for (kind, sql) in ALL {
        progress.now(format!("computing the summaries of all {kind}"));
        let count = number(tour, &format!("SELECT count(*) FROM contacts.{kind}"))?;
        let each = |took: Duration| took / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let (_, itself) = timed(|| ask(&mut tour.client, &sql.replace("{}", "")))?;
        let (_, cold) = timed(|| ask(&mut tour.client, &sql.replace("{}", "_cached")))?;
        let (_, warm) = timed(|| ask(&mut tour.client, &sql.replace("{}", "_cached")))?;
        let bytes = number(
            tour,
            &format!(
                "SELECT sum(size_bytes)::bigint FROM cache_memory_entries() AS e JOIN pg_proc AS p ON p.oid = e.function \
                 WHERE p.proname = 'get_{}_contacts_summary_cached'",
                kind.trim_end_matches('s')
            ),
        )?;
        summaries += count;
        rows.push(vec![
            format!("{} {kind}", text::number(count)),
            text::time(each(itself)),
            text::time(each(cold)),
            text::time(each(warm)),
            text::ratio(itself, warm),
            text::bytes(bytes as f64),
        ]);
    }
    drop(progress);
    let header = ["", "itself", "first call", "next call", "faster", "memory"].map(str::to_owned);
    tour.screen.table(&header, &rows);
    tour.screen
        .note("On average, within one statement: the small ones too, which are most.");
    let kept = number(tour, KEPT)?;
    tour.screen.expect(
        format!("{} summaries are kept", text::number(kept)),
        summaries,
        kept,
    );
    let used: f64 = ask(&mut tour.client, "SELECT memory_bytes FROM cache_stats()")?.parse()?;
    tour.screen.check(
        format!(
            "in {}, with all else that the cache holds",
            text::bytes(used)
        ),
        used < LIMIT,
        format!("less than {}", text::bytes(LIMIT)),
        text::bytes(used),
    );
    let area = ask(&mut tour.client, "SHOW pg_query_cache.memory")?;
    let evicted = number(tour, "SELECT evictions FROM cache_stats()")?;
    tour.screen.expect(
        format!("nothing had to go: the whole area has {area}"),
        0,
        evicted,
    );
    all_right(tour)
}

/// All summaries, compared with the functions'.
fn all_right(tour: &mut Tour<'_>) -> Result<()> {
    let progress = tour.screen.progress("comparing all summaries");
    let mut wrong = 0;
    for sql in WRONG {
        wrong += number(tour, sql)?;
    }
    drop(progress);
    tour.screen
        .expect("every one of them equals the function's own", 0, wrong);
    Ok(())
}

/// A write concerns the summaries that it is in.
pub(crate) fn keys(tour: &mut Tour<'_>) -> Result<()> {
    let department = number(
        tour,
        "SELECT min(id) FROM contacts.departments WHERE enterprise_id = 7",
    )?;
    let employee = number(
        tour,
        &format!("SELECT min(id) FROM contacts.employees WHERE department_id = {department}"),
    )?;
    let next = number(
        tour,
        "SELECT max(id) FROM contacts.departments WHERE enterprise_id = 7",
    )?;
    let seven = "SELECT get_enterprise_contacts_summary_cached(7, '5 minutes') ->> 'contacts'";
    let eight = "SELECT get_enterprise_contacts_summary_cached(8, '5 minutes') ->> 'contacts'";
    let here =
        format!("SELECT get_department_contacts_summary_cached(7, {department}) ->> 'contacts'");
    let there = format!("SELECT get_department_contacts_summary_cached(7, {next}) ->> 'contacts'");
    let writes = [
        (
            "A contact of one department: that department, and its enterprise.",
            format!(
                "INSERT INTO contacts.contacts (enterprise_id, department_id, employee_id, name, company) \
                 VALUES (7, {department}, {employee}, 'Ada Lovelace', 'Analytical Engines')"
            ),
            [Answer::Filled, Answer::Filled, Answer::Hit],
        ),
        (
            "An employee moves, with all contacts: both departments, and the enterprise.",
            format!("UPDATE contacts.employees SET department_id = {next} WHERE id = {employee}"),
            [Answer::Filled, Answer::Filled, Answer::Filled],
        ),
    ];
    for (claim, write, expected) in writes {
        tour.screen.statement(&format!("{write};"));
        tour.client.batch_execute(&write)?;
        tour.screen.say(claim);
        for (what, sql, answer) in [
            ("enterprise 7", seven, expected[0]),
            ("the department", &here, expected[1]),
            ("another of its departments", &there, expected[2]),
            ("enterprise 8", eight, Answer::Hit),
        ] {
            let (contacts, got) = tour.observed(sql)?;
            tour.screen
                .expect(format!("{what}: {contacts} contacts, {got}"), answer, got);
        }
        let before = Counters::read(&mut tour.client)?;
        let mut asked = 0;
        for (_, sql) in ALL {
            asked += number(tour, &sql.replace("{}", "_cached"))?;
        }
        let added = before.since(&mut tour.client, |added| added.calls() >= asked)?;
        let by_chance = asked - added.hits;
        tour.screen.check(
            format!(
                "all {} summaries asked for: {} hits, {by_chance} computed anew, which have a tag in the same slot by chance",
                text::number(asked),
                text::number(added.hits)
            ),
            added.calls() == asked && (by_chance as f64) < CHANCE * asked as f64,
            format!("less than {} of a hundred computed anew", 100.0 * CHANCE),
            format!("{by_chance} of {asked}"),
        );
    }
    all_right(tour)
}

/// The largest enterprise: 50 clients at the cold key, then the time of a hit against that of the function.
pub(crate) fn largest(tour: &mut Tour<'_>) -> Result<()> {
    let contacts = number(
        tour,
        "SELECT count(*) FROM contacts.contacts WHERE enterprise_id = 1",
    )?;
    tour.shown("SELECT invalidate_cache('{enterprise:1}')")?;
    let itself = "SELECT get_enterprise_contacts_summary(1)";
    let cached = "SELECT get_enterprise_contacts_summary_cached(1)";
    let (own, alone) = timed(|| ask(&mut tour.client, itself))?;
    let crowd = crowd::gather(tour, cached)?;
    tour.screen.say(format!(
        "{} contacts; the function alone: {}    the last of {} answers: {}",
        text::number(contacts),
        text::time(alone),
        crowd.answers.len(),
        text::time(crowd.last())
    ));
    tour.screen.expect(
        format!("{} clients, one computation", crowd.answers.len()),
        1,
        crowd.added.fills,
    );
    tour.screen.expect(
        "all clients have the function's own answer",
        crowd.answers.len(),
        crowd.equal_to(&own),
    );
    let (base, _) = median(&mut tour.client, itself, 9, BUDGET)?;
    let (warm, calls) = median(&mut tour.client, cached, 2_000, BUDGET)?;
    let ratio = base.as_secs_f64() / warm.as_secs_f64().max(1e-9);
    let told = format!(
        "computing: {}    a hit: {} (the medians, {} bytes sent to the client)    {ratio:.0} times as fast",
        text::time(base),
        text::time(warm),
        text::number(own.len())
    );
    if !is_full_size(tour)? {
        tour.screen.say(told);
        tour.screen
            .note("The sample is a small one, and so is its largest enterprise.");
    } else {
        tour.screen.check(
            told,
            ratio >= TARGET && calls > 100,
            format!("at least {TARGET:.0} times"),
            format!("{ratio:.0} times in {calls} calls"),
        );
    }
    Ok(())
}
