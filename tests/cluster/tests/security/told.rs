//! What messages, the log and `cache_explain` tell: of the caller's own, and no bytes of keys and results.

use anyhow::{Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, PATIENCE, quiet, with_extension};
use pg_query_cache_harness::wait_until;

/// Neither as text nor as the bytes that a row shows.
fn is_silent(text: &str) -> Result<()> {
    let bytes: String = "sesame".bytes().map(|byte| format!("{byte:02x}")).collect();
    for part in ["sesame", &bytes] {
        ensure!(!text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn no_bytes_of_results_are_told() -> Result<()> {
    let cluster = with_extension(
        quiet("told-bytes")
            .setting("log_error_verbosity", "verbose")
            .setting("pg_query_cache.verify_sample_rate", "1"),
    )?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE TABLE these (k text, v text);
         CREATE TABLE those (k text, v text);
         SELECT cache_track_table('these', '{k}'), cache_track_table('those', '{k}');
         CREATE FUNCTION picked(k text) RETURNS text LANGUAGE plpgsql STABLE AS $$
         BEGIN
             IF current_setting('pick.those', true) = 'yes' THEN RETURN 'of those ' || (SELECT count(*) FROM those AS t WHERE t.k = picked.k); END IF;
             RETURN 'open ' || picked.k || (SELECT count(*) FROM these AS t WHERE t.k = picked.k);
         END $$;
         SELECT cache_function('picked(text)', scope => 'shared', depends_on => '{\"these\": {\"k\": \"$1\"}}', tags => '{of $1}'),
                cache_function('picked(text)', name => 'picked_by_role');
         ALTER TABLE query_cache ADD CHECK (size_bytes < 0) NOT VALID",
    )?;
    // Parameters, so that the statement itself says nothing in the log.
    for _ in 0..3 {
        client.query("SELECT picked_by_role($1)", &[&"sesame"])?;
    }
    // Each row is refused, and left out by itself; why is told without it.
    client.batch_execute("SELECT flush_cache()")?;
    wait_until("what was left out is told", PATIENCE, || {
        cluster.log_contains("could not write 1 of 1 rows of \"query_cache\"")
    })?;
    is_silent(&cluster.log())?;
    // A result that should not have been served.
    client.query("SELECT picked_cached($1)", &[&"sesame"])?;
    let mut other = cluster.connect(DATABASE)?;
    other.batch_execute("SET pick.those = 'yes'")?;
    other.query("SELECT picked_cached($1)", &[&"sesame"])?;
    let log = cluster.log();
    ensure!(
        log.contains("differs from what the function returns"),
        "{log}"
    );
    ensure!(log.contains("It depends on a key of public.these"), "{log}");
    is_silent(&log)
}

#[test]
fn a_role_is_told_of_its_own() -> Result<()> {
    let cluster = with_extension(quiet("told-others"))?;
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(
        "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watch LOGIN IN ROLE pg_read_all_stats;
         CREATE TABLE shown (id integer); CREATE TABLE hidden (id integer); GRANT SELECT ON shown TO PUBLIC; GRANT SELECT ON hidden TO ann;
         SELECT cache_track_table('shown');
         CREATE FUNCTION counted(id integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM shown WHERE shown.id = $1';
         CREATE FUNCTION peeked() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
             BEGIN IF current_user = 'ann' THEN RETURN (SELECT count(*) FROM hidden); END IF; RETURN (SELECT count(*) FROM shown); END$$;
         SELECT cache_function('counted(integer)'), cache_function('peeked()'),
                cache_function('counted(integer)', scope => 'shared', name => 'counted_for_all')",
    )?;
    let mut ann = cluster.connect_as(DATABASE, "ann")?;
    ann.batch_execute(
        "SELECT counted_cached(1), counted_cached(2), counted_for_all(1), peeked_cached()",
    )?;
    let told = |who: &str, call: &str| -> Result<String> {
        let mut client = cluster.connect_as(DATABASE, who)?;
        let row = client.query_one(
            "SELECT detail || ' ' || COALESCE(hint, '') FROM cache_explain($1)",
            &[&call],
        )?;
        Ok(row.get(0))
    };
    for (who, call, part, is_told) in [
        ("bob", "counted_cached(3)", "stored result", false),
        ("watch", "counted_cached(3)", "2 stored results", true),
        ("bob", "counted_for_all(3)", "1 stored result", true),
        ("bob", "peeked_cached()", "hidden", false),
        ("bob", "peeked_cached()", "(untracked)", true),
        ("watch", "peeked_cached()", "hidden", true),
        ("ann", "peeked_cached()", "hidden", true),
    ] {
        let text = told(who, call)?;
        ensure!(text.contains(part) == is_told, "{who}, {call}: {text}");
    }
    Ok(())
}
