//! Ways on which the result of somebody, or of a session that was prepared for it, came to somebody else.

use super::house::{Answer, ask, both, both_hit, build, enter, ground, kept};
use anyhow::{Context, Result, bail, ensure};
use pg_query_cache_harness::postgres::Client;

#[path = "../../../../src/call/indifferent.rs"]
mod indifferent;

/// A session of `role` that a pooler has logged in.
fn become_role(cluster: &pg_query_cache_harness::Cluster, role: &str) -> Result<Client> {
    let mut client = enter(cluster, "postgres")?;
    client.batch_execute(&format!("SET ROLE {role}"))?;
    Ok(client)
}

fn hits(client: &mut Client, name: &str) -> Result<i64> {
    match ask(client, &format!("public.hits('{name}')"))? {
        Answer::Value(Some(number)) => Ok(number.parse()?),
        other => bail!("{other:?}"),
    }
}

/// A transaction frees plans that it made as one role, makes another as a second, and runs that as the first. What was known of the freed
/// ones says nothing about it, wherever it lies.
#[test]
fn a_plan_where_one_of_another_role_lay() -> Result<()> {
    let cluster = ground("plans")?;
    build(
        &cluster,
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY for_ann ON notes TO ann USING (owner = 'ann'); CREATE POLICY for_bob ON notes TO bob USING (owner = 'bob');
         CREATE FUNCTION first() RETURNS text LANGUAGE sql STABLE AS 'SELECT min(body) FROM notes';
         CREATE FUNCTION second() RETURNS text LANGUAGE sql STABLE AS 'SELECT min(body) FROM notes';
         CREATE FUNCTION through() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN second(); END$$;
         CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         SELECT cache_function('through()'), cache_function('one()')",
    )?;
    for freed in 1..=12 {
        let mut client = enter(&cluster, "postgres")?;
        let calls = vec!["first()"; freed].join(" || ");
        // One by one: what a statement needs is freed before the next.
        for statement in [
            "SELECT one_cached()",
            "BEGIN",
            "SET LOCAL ROLE ann",
            "DO $$DECLARE said text; BEGIN said := first(); END$$",
            &format!("SELECT {calls}"),
            "DO $$DECLARE said text; BEGIN said := first(); END$$",
            "SELECT first()",
            "SET LOCAL ROLE bob",
            "DO $$DECLARE said text; BEGIN said := through(); END$$",
            "SET LOCAL ROLE ann",
            "SELECT through_cached()",
            "COMMIT",
        ] {
            client.batch_execute(statement)?;
        }
        let mut ann = become_role(&cluster, "ann")?;
        let answer = both(&mut ann, "through()").with_context(|| format!("{freed} freed"))?;
        ensure!(answer == Answer::Value(Some("of ann".into())), "{answer:?}");
        client.batch_execute("SELECT clear_cache()")?;
    }
    let mut ann = become_role(&cluster, "ann")?;
    both_hit(&mut ann, "through()")?;
    Ok(())
}

/// `current_setting()` tells a name that was never given a value from one whose value was reset, in a policy and by an error.
#[test]
fn a_setting_that_was_reset_is_not_one_that_never_was() -> Result<()> {
    const RESET: &str = "BEGIN; SET LOCAL app.tenant = 'b'; COMMIT";
    let cluster = ground("reset")?;
    let script = "
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant', true) OR current_setting('app.tenant', true) IS NULL);
        CREATE FUNCTION stated() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('app.tenant') || max(who) FROM members$$;
        CREATE FUNCTION known() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_setting('app.tenant', true); END$$;
        CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM notes$$;
        CREATE FUNCTION asked() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('request.jwt.claims', true)$$;
        SELECT cache_function('stated()'), cache_function('known()'), cache_function('counted()'), cache_function('asked()', scope => 'claims')";
    let calls = ["list()", "told()", "stated()", "known()", "counted()"];
    for first in ["", RESET] {
        build(&cluster, script)?;
        let second = if first.is_empty() { RESET } else { "" };
        let mut seen = Vec::new();
        for (round, prepare) in [first, second, first, second].into_iter().enumerate() {
            let mut client = enter(&cluster, "ann")?;
            client.batch_execute(prepare)?;
            for call in calls {
                let answer = kept(&mut client, call)
                    .with_context(|| format!("{round}: after {prepare:?}"))?;
                seen.push((prepare, call, answer));
            }
            let claims = prepare.replace("app.tenant", "request.jwt.claims");
            client.batch_execute(&claims)?;
            kept(&mut client, "asked()").with_context(|| format!("{round}: after {claims:?}"))?;
        }
        // They differ, or the test shows nothing.
        for call in calls {
            let told = |prepare| {
                seen.iter()
                    .find(|(of, asked, _)| *of == prepare && *asked == call)
                    .map(|(_, _, answer)| answer)
            };
            ensure!(told("") != told(RESET), "{call}: {:?}", told(""));
        }
        // A name in another case is the same setting.
        let mut client = enter(&cluster, "ann")?;
        client.batch_execute("SET \"APP\".tenant = 'a'; RESET app.tenant")?;
        for call in calls {
            kept(&mut client, call)?;
        }
    }
    Ok(())
}

/// The planner puts a function into the plan of another if the role may run it, and PL/pgSQL keeps the plan for the next role of the
/// session. What comes of it is not stored for that role.
#[test]
fn a_plan_with_what_another_role_may_run() -> Result<()> {
    let cluster = ground("inlined")?;
    build(
        &cluster,
        "CREATE FUNCTION secret(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT $1 || '!'$$;
         REVOKE EXECUTE ON FUNCTION secret(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION secret(text) TO ann;
         CREATE FUNCTION higher() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT secret(max(body)) FROM notes); END$$;
         CREATE FUNCTION simply() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN secret('so'); END$$;
         CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         SELECT cache_function('higher()'), cache_function('simply()'), cache_function('one()')",
    )?;
    for call in ["higher()", "simply()"] {
        for together in ["", "BEGIN;"] {
            let mut client = enter(&cluster, "postgres")?;
            client.batch_execute(&format!(
                "SELECT one_cached(); {together} SET ROLE ann; SELECT {call}; SET ROLE bob"
            ))?;
            ask(&mut client, &super::house::cached(call))?;
            let mut bob = become_role(&cluster, "bob")?;
            let answer = both(&mut bob, call).with_context(|| together.to_owned())?;
            ensure!(!answer.is_value(), "{answer:?}");
        }
    }
    Ok(())
}

/// PL/pgSQL reads the constants of a query once in a session. Under which settings that was is nothing to others.
#[test]
fn a_constant_that_was_read_under_other_settings() -> Result<()> {
    let cluster = ground("constants")?;
    let constants = [
        ("zoned", "TimeZone", "UTC", "Asia/Tokyo", "12:00"),
        (
            "abbreviated",
            "timezone_abbreviations",
            "Default",
            "Australia",
            "12:00 EST",
        ),
    ];
    for (name, setting, one, other, time) in constants {
        build(
            &cluster,
            &format!(
                "CREATE FUNCTION {name}() RETURNS text LANGUAGE plpgsql STABLE AS
                     $$BEGIN RETURN (SELECT extract(epoch FROM timestamptz '2024-07-01 {time}')::text || max(body) FROM notes); END$$;
                 SELECT cache_function('{name}()', scope => 'shared')"
            ),
        )?;
        let function = format!("{name}()");
        // By the function itself, and by the cached one.
        for first in [format!("{name}()"), format!("{name}_cached()")] {
            let mut mallory = enter(&cluster, "ann")?;
            mallory.batch_execute(&format!("SET {setting} = '{other}'"))?;
            ask(&mut mallory, &first)?;
            mallory.batch_execute(&format!("SET {setting} = '{one}'"))?;
            ask(&mut mallory, &format!("{name}_cached()"))?;
        }
        let mut answers = Vec::new();
        for value in [one, other, one] {
            let mut bob = enter(&cluster, "bob")?;
            bob.batch_execute(&format!("SET {setting} = '{value}'"))?;
            answers.push(kept(&mut bob, &function).with_context(|| value.to_owned())?);
        }
        ensure!(
            answers[0] == answers[2] && answers[0] != answers[1],
            "{setting}: {answers:?}"
        );
    }
    Ok(())
}

/// What a foreign key does it does as the owner of the table, whom FORCE ROW LEVEL SECURITY does not bind meanwhile. Nothing of that is
/// stored for the owner, nor from plans that the session keeps of it; nor is anything served there.
#[test]
fn what_a_foreign_key_does_is_not_what_the_owner_may() -> Result<()> {
    let cluster = ground("actions")?;
    let mut admin = build(
        &cluster,
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY;
         CREATE POLICY part ON notes USING (tenant = 'a');
         CREATE TABLE parents (id integer PRIMARY KEY);
         CREATE TABLE children (parent integer REFERENCES parents ON DELETE CASCADE, asks text);
         CREATE TABLE answers (asked text, said text);
         CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE said text;
             BEGIN EXECUTE 'SELECT ' || OLD.asks || '::text' INTO said; INSERT INTO answers VALUES (OLD.asks, said); RETURN OLD; END$$;
         CREATE TRIGGER fire BEFORE DELETE ON children FOR EACH ROW EXECUTE FUNCTION fire();
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT count(*) FROM notes); END$$;
         CREATE FUNCTION one() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';
         SELECT cache_function('counted()'), cache_function('one()')",
    )?;
    let fired = |client: &mut Client, asks: &str| -> Result<String> {
        client.batch_execute(&format!(
            "TRUNCATE answers; INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, '{asks}'); DELETE FROM parents"
        ))?;
        Ok(client.query_one("SELECT said FROM answers", &[])?.get(0))
    };
    for call in ["list()", "told()", "counted()"] {
        let cached = super::house::cached(call);
        let ask_again = |what: &str| -> Result<Answer> {
            let mut fresh = become_role(&cluster, "landlord")?;
            kept(&mut fresh, call).with_context(|| format!("{call} {what}"))
        };
        // Filled there.
        let mut owner = become_role(&cluster, "landlord")?;
        let by_cache = fired(&mut owner, &cached)?;
        let plain = fired(&mut owner, call)?;
        ensure!(by_cache == plain, "{call}: {plain}, cached {by_cache}");
        let bound = ask_again("after a call in the action")?;
        ensure!(
            bound != Answer::Value(Some(plain.clone())),
            "{call}: not bound"
        );
        // Found there.
        ensure!(
            fired(&mut owner, &cached)? == plain,
            "{call}: served in the action"
        );
        // Filled by a session that has kept what it planned there.
        admin.batch_execute("SELECT clear_cache()")?;
        let mut owner = become_role(&cluster, "landlord")?;
        owner.batch_execute("SELECT one_cached()")?;
        fired(&mut owner, call)?;
        owner.batch_execute(&format!("SELECT {cached}"))?;
        ensure!(ask_again("after plans of the action")? == bound);
        // The same, in the transaction.
        admin.batch_execute("SELECT clear_cache()")?;
        owner.batch_execute("SELECT one_cached(); BEGIN")?;
        fired(&mut owner, call)?;
        owner.batch_execute(&format!("SELECT {cached}; COMMIT"))?;
        ensure!(ask_again("in the transaction of the action")? == bound);
    }
    let reasons = ask(&mut admin, "public.reasons('counted_cached')")?;
    ensure!(
        format!("{reasons:?}").contains("security_context"),
        "{reasons:?}"
    );
    // Work for the owner of an object counts as doubtful too, and is answered all the same.
    admin.batch_execute(
        "SET search_path = house, public; CREATE MATERIALIZED VIEW kept AS SELECT list_cached() AS said; REFRESH MATERIALIZED VIEW kept",
    )?;
    Ok(())
}

/// A result for everybody is what the settings of its libraries make of it, whoever loads them, and whenever.
#[test]
fn a_shared_result_is_not_made_by_settings_of_one() -> Result<()> {
    const ASKED: &str = "alike('of anm')";
    let cluster = ground("libraries")?;
    let mut admin = build(
        &cluster,
        "RESET ROLE; CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public; SET ROLE landlord;
         CREATE FUNCTION alike(word text) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT count(*) FROM notes WHERE body % word$$;
         CREATE FUNCTION moment() RETURNS text LANGUAGE sql STABLE AS $$SELECT ('2024-07-01 12:00 EST'::text)::timestamptz::text || max(id) FROM notes$$;
         SELECT cache_function('alike(text)', scope => 'shared'), cache_function('moment()', scope => 'shared')",
    )?;
    let mut usual = None;
    for prepare in [
        // The library comes with the call.
        "SET pg_trgm.similarity_threshold = 1.0",
        "SELECT public.similarity('a', 'b'); SET pg_trgm.similarity_threshold = 1.0",
        "SET pg_trgm.similarity_threshold = 1.0; SELECT public.similarity('a', 'b')",
        "SELECT public.set_limit(1.0)",
        "SET PG_trgm.Similarity_Threshold = 1.0",
        "SET pg_trgm.similarity_threshold = 1.0; RESET pg_trgm.similarity_threshold",
        "",
    ] {
        let mut mallory = enter(&cluster, "ann")?;
        mallory.batch_execute(prepare)?;
        let to_mallory = both(&mut mallory, ASKED).with_context(|| prepare.to_owned())?;
        both(&mut mallory, ASKED).with_context(|| prepare.to_owned())?;
        for _ in 0..2 {
            let mut bob = enter(&cluster, "bob")?;
            let to_bob = kept(&mut bob, ASKED).with_context(|| format!("after {prepare:?}"))?;
            ensure!(*usual.get_or_insert(to_bob.clone()) == to_bob, "{prepare}");
        }
        if prepare.contains("1.0") && !prepare.contains("RESET") {
            ensure!(Some(to_mallory) != usual, "{prepare} changes nothing");
        }
        // What is stored for the usual settings is not for those of the next one, who has not loaded anything yet.
        let mut mallory = enter(&cluster, "ann")?;
        mallory.batch_execute(prepare)?;
        both(&mut mallory, ASKED).with_context(|| format!("stored, {prepare}"))?;
    }
    // All share it: the second session finds what the first has stored.
    admin.batch_execute("SELECT clear_cache()")?;
    for (who, found) in [("ann", 0), ("bob", 1)] {
        let mut client = enter(&cluster, who)?;
        client.batch_execute(&format!("SET app.tenant = '{who}'"))?;
        let before = hits(&mut client, "alike_cached")?;
        both(&mut client, ASKED)?;
        ensure!(
            hits(&mut client, "alike_cached")? == before + found,
            "{who}"
        );
    }
    // The names that a zone may have.
    let mut seen = Vec::new();
    for names in ["Default", "Australia", "Default"] {
        let mut client = enter(&cluster, "ann")?;
        client.batch_execute(&format!("SET timezone_abbreviations = '{names}'"))?;
        seen.push(kept(&mut client, "moment()").with_context(|| names.to_owned())?);
    }
    ensure!(seen[0] == seen[2] && seen[0] != seen[1], "{seen:?}");
    Ok(())
}

/// Known to change results, hence part of each key. What is neither here nor on the list is part of each key too; the test wants somebody
/// to have thought about it.
const IN_EACH_KEY: &[&str] = &[
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "composite_type_mismatch",
    "default_text_search_config",
    "default_toast_compression",
    "dynamic_library_path",
    "extra_float_digits",
    "gin_fuzzy_search_limit",
    "ignore_checksum_failure",
    "ignore_invalid_pages",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lo_compat_privileges",
    "local_preload_libraries",
    "quote_all_identifiers",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path",
    "session_preload_libraries",
    "standard_conforming_strings",
    "stats_fetch_consistency",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
    "zero_damaged_pages",
];

/// Of each setting of the server and of the libraries that are loaded somebody has said whether it can change a result; those that may
/// are part of the key of a result that everybody shares, all others are not.
#[test]
fn each_setting_is_part_of_the_key_or_cannot_matter() -> Result<()> {
    let cluster = ground("all-settings")?;
    let mut admin = build(
        &cluster,
        "SELECT cache_function('list()', scope => 'shared', name => 'shared_cached')",
    )?;
    admin
        .batch_execute("SET search_path = house, annexe, public; LOAD 'plpgsql'; LOAD 'pg_trgm'")?;
    for (reason, names) in indifferent::INDIFFERENT {
        ensure!(!reason.is_empty());
        for name in *names {
            ensure!(!IN_EACH_KEY.contains(name), "{name} is on both lists");
            ensure!(indifferent::is_indifferent(name.as_bytes()), "{name}");
        }
    }
    let settings = admin.query(
        "SELECT name, context, vartype, setting, min_val, max_val, enumvals FROM pg_settings ORDER BY name",
        &[],
    )?;
    let (mut unknown, mut wrong, mut tried) = (Vec::new(), Vec::new(), 0);
    for row in &settings {
        let (name, context, kind, present): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let part_of_key = !indifferent::is_indifferent(name.as_bytes());
        if part_of_key && !name.contains('.') && !IN_EACH_KEY.contains(&name.as_str()) {
            unknown.push(name);
            continue;
        }
        let other = match kind.as_str() {
            "bool" => Some(if present == "on" { "off" } else { "on" }.to_owned()),
            "enum" => row
                .get::<_, Vec<String>>(6)
                .into_iter()
                .find(|value| *value != present),
            "string" => None,
            _ => [row.get::<_, Option<String>>(4), row.get(5)]
                .into_iter()
                .flatten()
                .find(|value| *value != present),
        };
        let Some(other) = other.filter(|_| ["user", "superuser"].contains(&context.as_str()))
        else {
            continue;
        };
        // Ours may switch the cache off; with these it does not answer.
        let bypassing = [
            "session_replication_role",
            "transaction_deferrable",
            "transaction_isolation",
        ];
        if name.starts_with("pg_query_cache.") || bypassing.contains(&name.as_str()) {
            continue;
        }
        ask(&mut admin, "shared_cached()")?;
        ask(&mut admin, "shared_cached()")?;
        let before = hits(&mut admin, "shared_cached")?;
        admin
            .batch_execute("BEGIN")
            .and_then(|()| {
                admin.execute("SELECT set_config($1, $2, true)", &[&name, &other])?;
                admin.batch_execute("SELECT shared_cached(); ROLLBACK")
            })
            .with_context(|| format!("{name} = {other}"))?;
        let hit = hits(&mut admin, "shared_cached")? - before == 1;
        tried += 1;
        if hit == part_of_key {
            wrong.push(format!(
                "{name} = {other}: {}",
                if hit { "hit" } else { "miss" }
            ));
        }
    }
    ensure!(
        unknown.is_empty(),
        "nobody has said what these do to a result (src/call/indifferent.rs): {unknown:?}"
    );
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(tried > 100, "{tried} settings");
    // A name that is not there any more is no reason.
    let known: Vec<String> = settings.iter().map(|row| row.get(0)).collect();
    let hidden = ["is_superuser", "role", "session_authorization", "seed"];
    for (_, names) in indifferent::INDIFFERENT {
        for name in *names {
            ensure!(
                hidden.contains(name)
                    || name.starts_with("transaction_")
                    || known.iter().any(|setting| setting == name),
                "{name} is no setting of this server"
            );
        }
    }
    Ok(())
}
