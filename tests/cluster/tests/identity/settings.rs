//! Settings that change what a function returns: who asks with another one gets another answer, and both are kept.

use super::house::{both, both_hit, build, enter, ground, kept};
use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

/// A setting, two values of it, and an expression that shows which it is.
const SHOWN: &[(&str, &str, &str, &str)] = &[
    (
        "search_path",
        "house, public",
        "annexe, house, public",
        "(SELECT string_agg(body, ',') FROM notes)",
    ),
    (
        "search_path",
        "house, public",
        "house, public, annexe",
        "to_regclass('only_annexe')",
    ),
    (
        "TimeZone",
        "UTC",
        "Asia/Tokyo",
        "timestamptz '2024-07-01 12:00+00'",
    ),
    (
        "TimeZone",
        "<+05>-5",
        "<+05>-5:30",
        "timestamptz '2024-07-01 12:00+00'",
    ),
    ("DateStyle", "ISO", "German", "date '2024-02-01'"),
    (
        "DateStyle",
        "ISO, MDY",
        "ISO, DMY",
        "'01/02/2024'::text::date",
    ),
    (
        "IntervalStyle",
        "postgres",
        "iso_8601",
        "interval '1 day 2 hours'",
    ),
    ("bytea_output", "hex", "escape", r"'\x00ff'::bytea"),
    ("extra_float_digits", "1", "0", "0.1::float8 + 0.2::float8"),
    (
        "default_text_search_config",
        "simple",
        "english",
        "to_tsvector('running dogs')",
    ),
    (
        "xmlbinary",
        "base64",
        "hex",
        r"xmlelement(name a, '\x00ff'::bytea)",
    ),
    ("xmloption", "content", "document", "'<a/>b'::text::xml"),
    ("array_nulls", "on", "off", "('{NULL}'::text)::text[]"),
    (
        "transform_null_equals",
        "off",
        "on",
        "(SELECT count(*) FROM members WHERE nullif(who, who) = NULL)",
    ),
    ("standard_conforming_strings", "on", "off", r"'a\\b'"),
    ("backslash_quote", "on", "off", r"E'a\'b'"),
    ("quote_all_identifiers", "off", "on", "quote_ident('a')"),
    ("row_security", "on", "off", "(SELECT count(*) FROM kept)"),
    (
        "lc_monetary",
        "C",
        "C.UTF-8",
        "current_setting('lc_monetary')",
    ),
    (
        "lc_numeric",
        "C",
        "C.UTF-8",
        "current_setting('lc_numeric')",
    ),
    ("lc_time", "C", "C.UTF-8", "current_setting('lc_time')"),
    (
        "lc_messages",
        "C",
        "C.UTF-8",
        "current_setting('lc_messages')",
    ),
    (
        "app.tenant",
        "a",
        "b",
        "current_setting('app.tenant', true)",
    ),
    ("app.tenant", "a", "", "current_setting('app.tenant', true)"),
    (
        "request.jwt.claims",
        r#"{"sub": "1"}"#,
        r#"{"sub":"1"}"#,
        "current_setting('request.jwt.claims', true)",
    ),
];

/// Tables that the expressions read.
const TABLES: &str = "
    CREATE TABLE annexe.notes AS SELECT id, 'annexe' AS body FROM notes; GRANT SELECT ON annexe.notes TO ann;
    CREATE TABLE annexe.only_annexe ();
    CREATE TABLE kept AS SELECT 1 AS id; GRANT SELECT ON kept TO ann;
    ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON kept USING (false);
    SELECT cache_track_table('annexe.notes'), cache_track_table('kept')";

/// A session of ann's in which a setting has the value; some only a superuser sets.
fn with_setting(cluster: &Cluster, name: &str, value: &str) -> Result<Client> {
    let mut client = enter(cluster, "postgres")?;
    client.execute("SELECT set_config($1, $2, false)", &[&name, &value])?;
    client.batch_execute("SET SESSION AUTHORIZATION ann")?;
    Ok(client)
}

#[test]
fn each_value_of_a_setting_has_its_answer() -> Result<()> {
    let cluster = ground("settings")?;
    let mut admin = build(&cluster, TABLES)?;
    for (number, (name, one, other, expression)) in SHOWN.iter().enumerate() {
        admin.batch_execute(&format!(
            "SET search_path = house, public; SET check_function_bodies = off;
             CREATE FUNCTION house.show_{number}() RETURNS text LANGUAGE sql STABLE AS $body$SELECT ({expression})::text$body$;
             CREATE FUNCTION house.tell_{number}() RETURNS text LANGUAGE plpgsql STABLE AS $body$BEGIN RETURN ({expression})::text; END$body$;
             SELECT cache_function('house.show_{number}()'), cache_function('house.tell_{number}()')"
        ))?;
        for kind in ["show", "tell"] {
            let call = format!("house.{kind}_{number}()");
            let mut first = with_setting(&cluster, name, one)?;
            let mut second = with_setting(&cluster, name, other)?;
            let what = || format!("{name}, {expression}, {kind}");
            let to_first = kept(&mut first, &call).with_context(what)?;
            let to_second = kept(&mut second, &call).with_context(what)?;
            // PL/pgSQL reads its source when it is first run.
            ensure!(to_first != to_second, "{}: both {to_first:?}", what());
            ensure!(kept(&mut first, &call).with_context(what)? == to_first);
            // For a transaction, the other's; and back.
            if !["lc_messages"].contains(name) {
                first.batch_execute("BEGIN READ ONLY")?;
                first.execute("SELECT set_config($1, $2, true)", &[name, other])?;
                if to_second.is_value() && kind == "show" {
                    ensure!(both_hit(&mut first, &call).with_context(what)? == to_second);
                }
                first.batch_execute("ROLLBACK")?;
                ensure!(kept(&mut first, &call).with_context(what)? == to_first);
            }
        }
    }
    Ok(())
}

/// However a setting comes to its value, it is the value that counts.
#[test]
fn settings_come_by_many_ways() -> Result<()> {
    const MOMENT: &str = "timestamptz ''2024-07-01 12:00+00''::text || max(id) FROM notes";
    let cluster = ground("setting-ways")?;
    let mut admin = build(
        &cluster,
        &format!(
            "CREATE FUNCTION show() RETURNS text LANGUAGE sql STABLE AS 'SELECT {MOMENT}';
             CREATE FUNCTION show_in_tokyo() RETURNS text LANGUAGE sql STABLE SET TimeZone = 'Asia/Tokyo' AS 'SELECT {MOMENT}';
             SELECT cache_function('show()'), cache_function('show_in_tokyo()');
             CREATE FUNCTION around() RETURNS text LANGUAGE plpgsql STABLE SET TimeZone = 'Asia/Tokyo' AS 'BEGIN RETURN house.show(); END';
             CREATE FUNCTION around_cached() RETURNS text LANGUAGE plpgsql STABLE SET TimeZone = 'Asia/Tokyo' AS 'BEGIN RETURN house.show_cached(); END';
             CREATE FUNCTION shown() RETURNS text LANGUAGE sql STABLE SET TimeZone = 'Asia/Tokyo' AS 'SELECT {MOMENT}';
             CREATE FUNCTION shown_cached() RETURNS text LANGUAGE cached STABLE SET TimeZone = 'Asia/Tokyo' AS '{{\"function\": \"house.show()\"}}'"
        ),
    )?;
    let mut open = enter(&cluster, "ann")?;
    let in_utc = both_hit(&mut open, "show()")?;
    let in_tokyo = both_hit(&mut open, "show_in_tokyo()")?;
    ensure!(in_utc != in_tokyo);
    for call in ["around()", "shown()"] {
        ensure!(both(&mut open, call)? == in_tokyo, "{call}");
        ensure!(both(&mut open, call)? == in_tokyo, "{call}");
    }
    ensure!(both_hit(&mut open, "show()")? == in_utc);
    for (change, undo) in [
        (
            "ALTER ROLE ann SET TimeZone = 'Asia/Tokyo'",
            "ALTER ROLE ann RESET TimeZone",
        ),
        (
            "ALTER DATABASE postgres SET TimeZone = 'Asia/Tokyo'",
            "ALTER DATABASE postgres RESET TimeZone",
        ),
        (
            "ALTER ROLE ann IN DATABASE postgres SET TimeZone = 'Asia/Tokyo'",
            "ALTER ROLE ann IN DATABASE postgres RESET TimeZone",
        ),
        (
            "ALTER ROLE ALL SET TimeZone = 'Asia/Tokyo'",
            "ALTER ROLE ALL RESET TimeZone",
        ),
    ] {
        admin.batch_execute(change)?;
        let mut fresh = enter(&cluster, "ann")?;
        ensure!(both_hit(&mut fresh, "show()")? == in_tokyo, "{change}");
        ensure!(both_hit(&mut open, "show()")? == in_utc, "{change}");
        admin.batch_execute(undo)?;
        ensure!(both_hit(&mut fresh, "show()")? == in_tokyo, "{undo}");
        fresh.batch_execute("SET TimeZone = 'UTC'")?;
        ensure!(both_hit(&mut fresh, "show()")? == in_utc, "{undo}");
        fresh.batch_execute("RESET TimeZone")?;
        ensure!(both_hit(&mut fresh, "show()")? == in_tokyo, "{undo}");
    }
    Ok(())
}

/// What the session's connection makes of a setting, which its variable does not say.
#[test]
fn what_is_shown_counts() -> Result<()> {
    let cluster = pg_query_cache_cluster_tests::with_extension(
        pg_query_cache_cluster_tests::quiet("identity-shown")
            .setting("listen_addresses", "127.0.0.1"),
    )?;
    let database = pg_query_cache_cluster_tests::DATABASE;
    let mut socket = cluster.connect(database)?;
    socket.batch_execute(
        "CREATE FUNCTION shown() RETURNS text LANGUAGE sql STABLE AS
             $$SELECT concat_ws(' ', current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),
                                current_setting('tcp_keepalives_count'))$$;
         SELECT cache_function('shown()')",
    )?;
    let mut tcp = Client::connect(
        &format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} application_name=harness",
            cluster.port()
        ),
        pg_query_cache_harness::postgres::NoTls,
    )?;
    let mut seen = Vec::new();
    for client in [&mut socket, &mut tcp] {
        for _ in 0..3 {
            let row = client.query_one("SELECT shown(), shown_cached()", &[])?;
            let (own, cached): (String, String) = (row.get(0), row.get(1));
            ensure!(own == cached, "{cached} instead of {own}");
            seen.push(own);
        }
    }
    ensure!(
        seen[0] != seen[5],
        "the two connections are alike: {}",
        seen[0]
    );
    Ok(())
}
