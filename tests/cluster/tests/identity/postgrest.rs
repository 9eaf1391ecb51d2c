//! Requests as PostgREST makes them: one transaction each, in whichever session is free, the role and what is known of the request
//! set for that transaction. `auth.uid()` and its like are Supabase's.

use super::house::{build, ground};
use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::{DATABASE, counters, wait_for};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::Client;

const SUPABASE: &str = "
    RESET ROLE;
    CREATE ROLE authenticator LOGIN NOINHERIT; CREATE ROLE anon; CREATE ROLE authenticated; GRANT anon, authenticated TO authenticator;
    CREATE SCHEMA attic; GRANT USAGE ON SCHEMA attic TO PUBLIC;
    CREATE FUNCTION attic.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT COALESCE(nullif(current_setting('request.jwt.claim.sub', true), ''),
                        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
    CREATE FUNCTION attic.role() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT COALESCE(nullif(current_setting('request.jwt.claim.role', true), ''),
                        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
    CREATE FUNCTION attic.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
        SELECT COALESCE(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
    SET ROLE landlord;
    CREATE TABLE todos (id integer, who uuid, what text); GRANT SELECT ON todos TO anon, authenticated;
    INSERT INTO todos SELECT i, ('00000000-0000-0000-0000-00000000000' || i % 3)::uuid, 'todo ' || i FROM generate_series(1, 9) AS i;
    ALTER TABLE todos ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON todos TO authenticated USING ((SELECT attic.uid()) = who);
    SELECT cache_track_table('todos');
    CREATE FUNCTION todos(kind text) RETURNS TABLE (id integer, what text) LANGUAGE sql STABLE AS
        $$SELECT t.id, t.what || ' of ' || COALESCE(attic.role(), '?') || COALESCE(attic.jwt() ->> 'email', '') FROM todos AS t WHERE t.what LIKE kind || '%' ORDER BY t.id$$;
    CREATE FUNCTION todos_by_claims(kind text) RETURNS TABLE (id integer, what text) LANGUAGE plpgsql STABLE AS
        $$BEGIN RETURN QUERY SELECT * FROM house.todos(kind); END$$;
    SELECT cache_function('todos(text)'), cache_function('todos_by_claims(text)', scope => 'claims');";

/// A request; everything else of it is as PostgREST sets it.
struct Request<'a> {
    role: &'a str,
    claims: String,
    method: &'a str,
    headers: String,
}

/// Runs the function as an RPC and returns the body of the response.
fn respond(client: &mut Client, request: &Request<'_>, function: &str) -> Result<String> {
    let mode = if request.method == "GET" {
        "READ ONLY"
    } else {
        "READ WRITE"
    };
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED {mode}"))?;
    client.execute(
        r#"SELECT set_config('search_path', '"house", "public"', true), set_config('role', $1, true),
                  set_config('request.jwt.claims', $2, true), set_config('request.method', $3, true),
                  set_config('request.path', $4, true), set_config('request.headers', $5, true), set_config('request.cookies', '{}', true)"#,
        &[&request.role, &request.claims, &request.method, &format!("/rpc/{function}"), &request.headers],
    )?;
    let row = client.query_one(
        &format!(
            r#"WITH pgrst_source AS (SELECT pgrst_call.* FROM "house"."{function}"("kind" := $1) pgrst_call)
               SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total,
                      coalesce(json_agg(_postgrest_t), '[]')::text AS body,
                      nullif(current_setting('response.headers', true), '') AS response_headers,
                      nullif(current_setting('response.status', true), '') AS response_status
               FROM (SELECT "{function}".* FROM pgrst_source AS "{function}") _postgrest_t"#
        ),
        &[&"todo"],
    )?;
    client.batch_execute("COMMIT")?;
    row.try_get("body").context("no body")
}

fn claims(user: usize, token: usize) -> String {
    format!(
        r#"{{"aud":"authenticated","exp":{token},"sub":"00000000-0000-0000-0000-00000000000{user}","email":" user-{user}","role":"authenticated"}}"#
    )
}

fn request(user: usize, headers: &str) -> Request<'static> {
    Request {
        role: "authenticated",
        claims: claims(user, 1_700_000_000),
        method: "GET",
        headers: format!(r#"{{"accept":"application/json","x-request":"{headers}"}}"#),
    }
}

/// Sessions of `authenticator`, which take turns.
struct Pool<'a> {
    cluster: &'a Cluster,
    clients: Vec<Client>,
    turn: usize,
}

impl Pool<'_> {
    /// The answer of the function and of its cached function in the next session; they have to agree.
    fn ask(&mut self, request: &Request<'_>, function: &str) -> Result<String> {
        if self.clients.len() < 3 {
            self.clients
                .push(self.cluster.connect_as(DATABASE, "authenticator")?);
        }
        self.turn += 1;
        let turn = self.turn % self.clients.len();
        let client = &mut self.clients[turn];
        let plain = respond(client, request, function)?;
        let by_cache = respond(client, request, &format!("{function}_cached"))?;
        ensure!(
            plain == by_cache,
            "{function} for {}: {plain}, cached {by_cache}",
            request.claims
        );
        Ok(plain)
    }

    /// Ends the sessions, so that all they counted has arrived.
    fn close(&mut self) -> Result<()> {
        self.clients.clear();
        wait_for(
            self.cluster,
            "the pool's sessions end",
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'authenticator')",
        )
    }
}

#[test]
fn each_user_has_an_entry() -> Result<()> {
    let cluster = ground("postgrest")?;
    let mut admin = build(&cluster, SUPABASE)?;
    let mut pool = Pool {
        cluster: &cluster,
        clients: Vec::new(),
        turn: 0,
    };

    // The same request again and again: an entry for each user, in whichever session.
    for round in 0..6 {
        for user in 0..3 {
            let body = pool.ask(&request(user, "same"), "todos")?;
            ensure!(
                body.matches(&format!("user-{user}")).count() == 3
                    && body.matches("user-").count() == 3,
                "round {round}, user {user}: {body}"
            );
        }
    }
    // Without a token: nothing, whatever others have asked for in the session before.
    let nobody = Request {
        role: "anon",
        claims: r#"{"role":"anon"}"#.into(),
        ..request(0, "same")
    };
    ensure!(pool.ask(&nobody, "todos")? == "[]");
    let no_claims = Request {
        claims: String::new(),
        ..request(0, "same")
    };
    ensure!(pool.ask(&no_claims, "todos")? == "[]");
    // The first call of all learns that the function reads settings, and is not kept.
    pool.close()?;
    let counted = counters(&mut admin, "todos_cached")?;
    ensure!(
        (counted.fills, counted.hits) == (5, 14),
        "three users, nobody and no claims: {counted:?}"
    );

    // Headers that differ by request make each request its own by default …
    for round in 0..4 {
        for user in 0..3 {
            pool.ask(&request(user, &format!("{round}")), "todos")?;
        }
    }
    pool.close()?;
    let counted = counters(&mut admin, "todos_cached")?;
    ensure!(
        (counted.fills, counted.hits) == (17, 14),
        "twelve requests more: {counted:?}"
    );
    // … and not with "scope": "claims".
    for round in 0..6 {
        for user in 0..3 {
            let mut request = request(user, &format!("{round}"));
            if round % 2 == 1 {
                request.method = "POST";
            }
            let body = pool.ask(&request, "todos_by_claims")?;
            ensure!(
                body.matches(&format!("user-{user}")).count() == 3
                    && body.matches("user-").count() == 3,
                "round {round}, user {user}: {body}"
            );
        }
    }
    ensure!(pool.ask(&nobody, "todos_by_claims")? == "[]");
    ensure!(pool.ask(&no_claims, "todos_by_claims")? == "[]");
    pool.close()?;
    let counted = counters(&mut admin, "todos_by_claims_cached")?;
    ensure!((counted.fills, counted.hits) == (5, 15), "{counted:?}");
    // A new token of the same user is another value.
    let mut again = request(1, "token");
    again.claims = claims(1, 1_700_003_600);
    ensure!(pool.ask(&again, "todos_by_claims")?.contains("user-1"));

    // A policy, a right, a row: for everybody's next request.
    for (change, rows) in [
        (
            "INSERT INTO todos VALUES (10, '00000000-0000-0000-0000-000000000001', 'todo more')",
            4,
        ),
        (
            "CREATE POLICY all_of_it ON todos TO authenticated USING (id < 3)",
            5,
        ),
        ("DROP POLICY own ON todos", 2),
        ("UPDATE todos SET what = 'done' WHERE id = 1", 1),
        (
            "CREATE OR REPLACE FUNCTION attic.uid() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT NULL::uuid$$; CREATE POLICY own ON todos USING (attic.uid() IS NULL)",
            9,
        ),
        ("TRUNCATE todos", 0),
    ] {
        admin.batch_execute(change)?;
        for function in ["todos", "todos_by_claims"] {
            for _ in 0..3 {
                let body = pool.ask(&request(1, "same"), function)?;
                ensure!(body.matches("user-1").count() == rows, "{change}: {body}");
            }
        }
    }
    Ok(())
}
