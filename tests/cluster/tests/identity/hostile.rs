//! Somebody who wants the results of others: forged settings, names, plans and cursors of another role, ways around.

use super::house::{Answer, ask, both, both_hit, build, enter, ground};
use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::postgres::Client;

/// `claim()` and `stated()` show the claims; the latter is cached by claims alone.
const CLAIMS: &str = "
    CREATE FUNCTION claim() RETURNS text LANGUAGE sql STABLE AS
        $$SELECT concat_ws('|', current_setting('request.jwt.claims', true), current_setting('app.a', true), current_setting('app.ab', true))$$;
    CREATE FUNCTION stated() RETURNS text LANGUAGE sql STABLE AS
        $$SELECT concat_ws('|', current_setting('request.jwt.claims', true), current_setting('request.jwt.claim.sub', true))$$;
    SELECT cache_function('claim()'), cache_function('stated()', scope => 'claims')";

#[test]
fn no_two_settings_look_alike() -> Result<()> {
    let cluster = ground("forged")?;
    build(&cluster, CLAIMS)?;
    let long = "x".repeat(100_000);
    let longer = format!("{long}x");
    let other_end = format!("{}y", &long[1..]);
    let values = [
        r#"{"sub":"1"}"#,
        r#"{"sub": "1"}"#,
        r#"{"sub":"1" }"#,
        r#" {"sub":"1"}"#,
        r#"{"SUB":"1"}"#,
        r#"{"sub":"1"}{"sub":"2"}"#,
        "",
        " ",
        "\t",
        "'",
        "''",
        "\\",
        "\\\\",
        "app.a",
        "a\u{1}b",
        "a\u{1}",
        "é",
        "e\u{301}",
        "\u{fffd}",
        "1",
        "01",
        "1\n",
        "\r\n",
        "\u{b}\u{0c}",
        "request.jwt.claim.sub",
        &long,
        &longer,
        &other_end,
    ];
    // Each value in each place, next to itself in another: nothing moves from one to the other unseen.
    let places: [&[&str]; 5] = [
        &["request.jwt.claims"],
        &["request.jwt.claim.sub"],
        &["request.jwt.claims", "request.jwt.claim.sub"],
        &["app.a"],
        &["app.ab", "app.a"],
    ];
    let mut clients = [enter(&cluster, "ann")?, enter(&cluster, "ann")?];
    for value in values {
        for names in places {
            for client in &mut clients {
                client.batch_execute("BEGIN READ ONLY")?;
                for name in names {
                    client.execute("SELECT set_config($1, $2, true)", &[name, &value])?;
                }
                for call in ["claim()", "stated()"] {
                    both(client, call).with_context(|| format!("{names:?} = {value:.40}"))?;
                }
                client.batch_execute("COMMIT")?;
            }
        }
    }
    // Two settings whose names and values run together alike.
    for (name, value) in [
        ("app.a", "bc"),
        ("app.ab", "c"),
        ("app.a", "b"),
        ("app.ab", ""),
    ] {
        let mut client = enter(&cluster, "ann")?;
        client.execute("SELECT set_config($1, $2, false)", &[&name, &value])?;
        both_hit(&mut client, "claim()")?;
    }
    Ok(())
}

#[test]
fn names_of_their_own_serve_nobody_else() -> Result<()> {
    let cluster = ground("shadows")?;
    build(
        &cluster,
        r#"RESET ROLE; CREATE ROLE mallory LOGIN; CREATE ROLE "Ann" LOGIN; CREATE ROLE "ann; --" LOGIN; GRANT CREATE ON DATABASE postgres TO mallory;
           CREATE ROLE "house, public" LOGIN; SET ROLE landlord; GRANT SELECT ON notes TO mallory, "Ann", "ann; --", "house, public";
           ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
           CREATE FUNCTION big() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(upper(body), ',' ORDER BY id) FROM notes WHERE id >= 1); END$$;
           SELECT cache_function('big()')"#,
    )?;
    let calls = ["house.list()", "house.told()", "house.big()"];
    let mut ann = enter(&cluster, "ann")?;
    let mut expected = Vec::new();
    for call in calls {
        expected.push(both_hit(&mut ann, call)?);
    }
    for who in ["mallory", "Ann", "ann; --", "house, public", "bob"] {
        let mut client = enter(&cluster, who)?;
        for call in calls {
            let answer = both_hit(&mut client, call)?;
            ensure!(
                !format!("{answer:?}").to_lowercase().contains("of ann"),
                "{who}: {call} is {answer:?}"
            );
        }
    }
    // A schema with everything that the functions use by name.
    let mut mallory = enter(&cluster, "mallory")?;
    mallory.batch_execute(
        r#"CREATE SCHEMA mallory; SET search_path = mallory, house, public, pg_catalog;
           CREATE TABLE notes AS SELECT 1 AS id, 'of mallory'::text AS body; GRANT USAGE ON SCHEMA mallory TO PUBLIC; GRANT SELECT ON notes TO PUBLIC;
           CREATE FUNCTION list() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'list of mallory'$$;
           CREATE FUNCTION list_cached() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'list of mallory'$$;
           CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'upper of mallory'$$;
           CREATE FUNCTION ge(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$SELECT false$$;
           CREATE OPERATOR >= (FUNCTION = ge, LEFTARG = integer, RIGHTARG = integer);
           SELECT cache_track_table('notes');"#,
    )?;
    for _ in 0..2 {
        for call in calls {
            both(&mut mallory, call)?;
        }
        both(&mut mallory, "list()")?;
        for (call, expected) in calls.iter().zip(&expected) {
            ensure!(both_hit(&mut ann, call)? == *expected, "{call}");
        }
    }
    // The same words in the search path, and what they mean to each.
    for path in [
        r#""$user", house, public"#,
        "house, public",
        "mallory, house",
        r#""house, public", house"#,
    ] {
        let mut seen = Vec::new();
        for who in ["mallory", "ann", "house, public"] {
            let mut client = enter(&cluster, who)?;
            client.batch_execute(&format!("SET search_path = {path}"))?;
            for call in calls {
                seen.push(both(&mut client, call).with_context(|| format!("{who} with {path}"))?);
                both(&mut client, call)?;
            }
        }
        ensure!(
            seen.iter().any(|answer| *answer != seen[0]),
            "{path}: {seen:?}"
        );
    }
    Ok(())
}

/// Runs the statements one by one and returns the first value of the last.
fn last(client: &mut Client, script: &str) -> Result<Answer> {
    let (before, last) = script.rsplit_once(';').unwrap_or(("", script));
    client.batch_execute(before)?;
    let messages = client.simple_query(last);
    use pg_query_cache_harness::postgres::SimpleQueryMessage::Row;
    match messages {
        Ok(messages) => messages
            .into_iter()
            .find_map(|message| match message {
                Row(row) => Some(Answer::Value(row.get(0).map(str::to_owned))),
                _ => None,
            })
            .context("no row"),
        Err(error) => {
            let error = error.as_db_error().with_context(|| format!("{error:?}"))?;
            Ok(Answer::Error(
                error.code().code().to_owned(),
                error.message().replace("_cached", ""),
            ))
        }
    }
}

/// `f` in the script is the function, and then its cached function.
const WAYS: &[&str] = &[
    // Planned as one, run as another.
    "SET ROLE ann; PREPARE p AS SELECT f(); EXECUTE p; SET ROLE bob; EXECUTE p",
    "SET ROLE ann; SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT f(); EXECUTE p; EXECUTE p; RESET ROLE; SET ROLE bob; EXECUTE p",
    "BEGIN; SET LOCAL ROLE ann; SELECT f(); SET LOCAL ROLE bob; SELECT f()",
    "BEGIN; SET LOCAL ROLE ann; SELECT f(); SAVEPOINT s; SET LOCAL ROLE bob; SELECT f(); ROLLBACK TO s; SELECT f()",
    "SET ROLE ann; SELECT f(); RESET ROLE; SELECT f()",
    "SET ROLE ann; SELECT f(); SET ROLE crew; SELECT f()",
    // Opened by one, fetched by another.
    "BEGIN; SET LOCAL ROLE ann; DECLARE c CURSOR FOR SELECT f() FROM generate_series(1, 3); FETCH c; SET LOCAL ROLE bob; FETCH c",
    "SET ROLE ann; DECLARE c CURSOR WITH HOLD FOR SELECT f() FROM generate_series(1, 3); SET ROLE bob; FETCH c",
    // Plans kept by PL/pgSQL, from one role to the next in one session, in one transaction.
    "SET ROLE ann; SELECT through_f(); SET ROLE bob; SELECT through_f()",
    "BEGIN; SET LOCAL ROLE ann; SELECT through_f(); SET LOCAL ROLE bob; SELECT through_f(); SET LOCAL ROLE ann; SELECT through_f()",
    "BEGIN; SET LOCAL ROLE bob; SELECT definer_f(); SET LOCAL ROLE ann; SELECT definer_f()",
    "SET ROLE bob; SELECT f(); SELECT definer_f()",
    "SET ROLE bob; SELECT definer_f(); SELECT f()",
    "SET ROLE ann; SELECT as_bob_f()",
    "SET ROLE bob; SELECT in_attic_f(); SELECT f()",
    "SET ROLE bob; SELECT f(); SELECT in_attic_f()",
    // Through views, with the rights of their owner or of who asks: functions in them run as who asks.
    "SET ROLE ann; TABLE view_f; SET ROLE bob; TABLE view_f",
    "SET ROLE bob; SELECT f(); TABLE invoker_f",
    // In defaults, checks, triggers.
    "SET ROLE bob; INSERT INTO default_f DEFAULT VALUES RETURNING said",
    "SET ROLE ann; INSERT INTO default_f DEFAULT VALUES; SET ROLE bob; INSERT INTO default_f DEFAULT VALUES RETURNING said",
    "SET ROLE bob; INSERT INTO check_f VALUES ('of bob, of bob too') RETURNING said",
    "SET ROLE ann; INSERT INTO check_f VALUES ('of ann'); SET ROLE bob; INSERT INTO check_f VALUES ('of ann') RETURNING said",
    "SET ROLE ann; INSERT INTO trigger_f VALUES (''); SET ROLE bob; INSERT INTO trigger_f VALUES ('') RETURNING said",
    "BEGIN; SET LOCAL ROLE bob; WITH new AS (INSERT INTO trigger_f VALUES ('') RETURNING said) SELECT said || f() FROM new",
    "CREATE INDEX ON notes ((f()))",
    "ALTER TABLE trigger_f ADD more text GENERATED ALWAYS AS (f()) STORED",
    "BEGIN; CREATE MATERIALIZED VIEW kept AS SELECT f() AS said; REFRESH MATERIALIZED VIEW kept; TABLE kept",
    // In a query with parallel workers.
    "SET ROLE bob; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET force_parallel_mode = on;
     SELECT count(*) || max(body) FROM notes WHERE body <> f()",
    // As the session's user.
    "SET ROLE ann; SELECT f(); RESET ROLE; SET SESSION AUTHORIZATION bob; SELECT f()",
    "SET SESSION AUTHORIZATION ann; SELECT f(); RESET SESSION AUTHORIZATION; SET SESSION AUTHORIZATION bob; SELECT f()",
    "SET row_security = off; SET ROLE bob; SELECT f()",
];

/// What the ways of [`WAYS`] go through; `f` as there.
const THINGS: &str = "
    CREATE FUNCTION through_f() RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE said text; BEGIN said := f(); RETURN said || (SELECT f()); END$$;
    CREATE FUNCTION definer_f() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$BEGIN RETURN f(); END$$;
    CREATE FUNCTION as_bob_f() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN f(); END$$;
    ALTER FUNCTION as_bob_f() SECURITY DEFINER; ALTER FUNCTION as_bob_f() OWNER TO bob;
    CREATE FUNCTION in_attic_f() RETURNS text LANGUAGE plpgsql STABLE SET search_path = annexe, house AS $$BEGIN RETURN f(); END$$;
    CREATE VIEW view_f AS SELECT f() AS said; CREATE VIEW invoker_f WITH (security_invoker) AS SELECT f() AS said;
    CREATE TABLE default_f (said text DEFAULT f()); CREATE TABLE check_f (said text CHECK (said = f())); CREATE TABLE trigger_f (said text);
    CREATE FUNCTION fire_f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.said := f(); RETURN NEW; END$$;
    CREATE TRIGGER fire BEFORE INSERT ON trigger_f FOR EACH ROW EXECUTE FUNCTION fire_f();
    GRANT SELECT ON view_f, invoker_f TO PUBLIC; GRANT SELECT, INSERT ON default_f, check_f, trigger_f TO PUBLIC;";

#[test]
fn no_way_leads_to_the_answer_of_another() -> Result<()> {
    let cluster = ground("ways")?;
    let of = |script: &str, function: &str| {
        script
            .replace("f()", &format!("{function}()"))
            .replace("_f", &format!("_{function}"))
    };
    let functions = ["list", "list_cached", "told", "told_cached"];
    let things = functions.map(|function| of(THINGS, function));
    let script = format!(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user); GRANT SELECT ON notes TO crew;
         CREATE TABLE annexe.notes AS SELECT id, 'annexe' AS body FROM notes; GRANT SELECT ON annexe.notes TO PUBLIC;
         SELECT cache_track_table('annexe.notes'); RESET ROLE; {}",
        things.join("\n")
    );
    build(&cluster, &script)?;
    for who in ["ann", "bob", "crew"] {
        let mut client = enter(&cluster, "postgres")?;
        client.batch_execute(&format!("SET ROLE {who}"))?;
        for call in ["list()", "told()"] {
            both_hit(&mut client, call)?;
        }
    }
    for way in WAYS {
        for name in ["list", "told"] {
            for round in 0..2 {
                // Each in a session of its own, so that both begin alike.
                let plain = last(&mut enter(&cluster, "postgres")?, &of(way, name))?;
                let by_cache = last(
                    &mut enter(&cluster, "postgres")?,
                    &of(way, &format!("{name}_cached")),
                )?;
                ensure!(
                    plain == by_cache,
                    "{round}, {name}: {way}\n{plain:?}, cached {by_cache:?}"
                );
            }
        }
    }
    let mut bob = enter(&cluster, "bob")?;
    ensure!(both_hit(&mut bob, "list()")? == Answer::Value(Some("of bob, of bob too".into())));
    ensure!(ask(&mut bob, "definer_list_cached()")? == ask(&mut bob, "definer_list()")?);
    Ok(())
}

/// Settings have names in any case, and a schema in the search path may be another one to each.
#[test]
fn no_session_is_prepared_for_another() -> Result<()> {
    let cluster = ground("prepared")?;
    let mut admin = build(
        &cluster,
        &format!(
            "{CLAIMS}; SELECT cache_function('told()', scope => 'shared', name => 'told_to_all_cached');
             CREATE FUNCTION told_to_all() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN told(); END$$;
             CREATE FUNCTION chosen() RETURNS integer LANGUAGE plpgsql STABLE AS $$DECLARE id integer := 7; BEGIN RETURN (SELECT max(id) FROM notes); END$$;
             SELECT cache_function('chosen()'); RESET ROLE;
             CREATE SCHEMA attic AUTHORIZATION ann; ALTER SCHEMA attic RENAME TO ann; SET ROLE ann;
             CREATE TABLE ann.notes AS SELECT 1 AS id, 'of nobody'::text AS body; SELECT cache_track_table('ann.notes'); SET ROLE landlord"
        ),
    )?;
    // Whoever has the session of a pool before may name a setting as they like.
    let mut client = enter(&cluster, "gate")?;
    client.batch_execute("SELECT set_config('Request.JWT.Claims', 'of ann', false)")?;
    for claims in ["of ann", "of bob", "of ann"] {
        client.batch_execute(&format!("SET request.jwt.claims = '{claims}'"))?;
        for call in ["claim()", "stated()"] {
            both_hit(&mut client, call).with_context(|| format!("claims {claims}"))?;
        }
    }
    // "$user" is another schema to each, under the same name.
    for who in ["ann", "bob", "ann"] {
        let mut client = enter(&cluster, who)?;
        client.batch_execute(r#"SET search_path = "$user", house, public"#)?;
        both(&mut client, "told_to_all()").with_context(|| who.to_owned())?;
        both(&mut client, "told_to_all()").with_context(|| who.to_owned())?;
    }
    // What PL/pgSQL does about a name that may mean two things.
    for way in ["use_column", "use_variable", "use_column"] {
        let mut client = enter(&cluster, "postgres")?;
        client.batch_execute(&format!(
            "LOAD 'plpgsql'; SET plpgsql.variable_conflict = {way}; SET ROLE bob"
        ))?;
        both_hit(&mut client, "chosen()").with_context(|| way.to_owned())?;
    }
    admin.batch_execute("DROP SCHEMA ann CASCADE")?;
    Ok(())
}
