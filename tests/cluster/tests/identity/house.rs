//! The house: tables, functions and roles that the tests of this folder live in, and how its people ask.

use anyhow::{Context, Result, bail, ensure};
use pg_query_cache_cluster_tests::{DATABASE, quiet, with_extension};
use pg_query_cache_harness::Cluster;
use pg_query_cache_harness::postgres::{Client, SimpleQueryMessage};

/// `notes` and `members`, tracked; `list()` in SQL and `told()` in PL/pgSQL say which notes somebody can read. `landlord` owns all of it;
/// `gate` is who poolers log in as. Everybody may ask for the `hits(name)` of a cached function and the `reasons(name)` why there were none.
const HOUSE: &str = "
    CREATE ROLE landlord; CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE staff; CREATE ROLE crew;
    CREATE ROLE gate LOGIN NOINHERIT; GRANT ann, bob TO gate;
    CREATE SCHEMA house AUTHORIZATION landlord; CREATE SCHEMA annexe AUTHORIZATION landlord;
    GRANT USAGE ON SCHEMA house, annexe TO PUBLIC;
    CREATE OR REPLACE FUNCTION public.hits(name text) RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER AS
        $$SELECT COALESCE(sum(s.hits), 0)::bigint FROM public.cache_function_stats AS s JOIN pg_proc AS p ON p.oid = s.function WHERE p.proname = $1$$;
    CREATE OR REPLACE FUNCTION public.reasons(name text) RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS
        $$SELECT string_agg(s.reasons::text, ' ') FROM public.cache_function_stats AS s JOIN pg_proc AS p ON p.oid = s.function WHERE p.proname = $1$$;
    GRANT EXECUTE ON FUNCTION cache_track_table(regclass, name[]), cache_untrack_table(regclass) TO PUBLIC;
    SET ROLE landlord;
    SET search_path = house, annexe, public;
    CREATE TABLE notes (id integer PRIMARY KEY, owner text, tenant text, body text);
    INSERT INTO notes VALUES (1, 'ann', 'a', 'of ann'), (2, 'bob', 'b', 'of bob'), (3, 'bob', 'a', 'of bob too');
    CREATE TABLE members (tenant text, who text);
    INSERT INTO members VALUES ('a', 'ann'), ('b', 'bob');
    GRANT SELECT ON notes, members TO ann, bob;
    CREATE FUNCTION list() RETURNS text LANGUAGE sql STABLE AS
        $$SELECT string_agg(body, ', ' ORDER BY id) FROM notes$$;
    CREATE FUNCTION told() RETURNS text LANGUAGE plpgsql STABLE AS
        $$DECLARE result text; BEGIN SELECT string_agg(body, ', ' ORDER BY id) INTO result FROM notes; RETURN result; END$$;
    SELECT cache_track_table('notes'), cache_track_table('members'), cache_function('list()'), cache_function('told()');";

/// Ends the house and everybody in it.
const END: &str = "
    RESET ROLE; SET client_min_messages = warning; SET search_path = public;
    DROP SCHEMA IF EXISTS house, annexe, attic, cellar CASCADE;
    DO $$DECLARE who name; BEGIN
        FOR who IN SELECT rolname FROM pg_roles WHERE oid >= 16384 LOOP EXECUTE format('DROP OWNED BY %I CASCADE', who); END LOOP;
        FOR who IN SELECT rolname FROM pg_roles WHERE oid >= 16384 LOOP EXECUTE format('DROP ROLE %I', who); END LOOP;
    END$$;";

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value as text; NULL is `None`.
    Value(Option<String>),
    /// SQLSTATE and message.
    Error(String, String),
}

impl Answer {
    /// Whether the session had to wait for a lock longer than it wanted to.
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Error(code, _) if code == "55P03")
    }

    pub fn is_value(&self) -> bool {
        matches!(self, Self::Value(_))
    }

    /// The answer of a cached function, as the function itself would have given it.
    pub fn of_the_function(self) -> Self {
        match self {
            Self::Error(code, message) => Self::Error(code, message.replace("_cached", "")),
            value @ Self::Value(_) => value,
        }
    }
}

/// `list()` → `list_cached()`.
pub fn cached(call: &str) -> String {
    call.replacen('(', "_cached(", 1)
}

/// What `SELECT (expression)::text` comes to.
pub fn ask(client: &mut Client, expression: &str) -> Result<Answer> {
    match client.simple_query(&format!("SELECT ({expression})::text")) {
        Ok(messages) => messages
            .into_iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(Answer::Value(row.get(0).map(str::to_owned))),
                _ => None,
            })
            .context("no row"),
        Err(error) => {
            let error = error.as_db_error().with_context(|| format!("{error:?}"))?;
            let code = error.code().code().to_owned();
            Ok(Answer::Error(code, error.message().to_owned()))
        }
    }
}

/// Asks a function and its cached function, which comes first; they have to agree, in value or in SQLSTATE and message.
pub fn both(client: &mut Client, call: &str) -> Result<Answer> {
    let by_cache = ask(client, &cached(call))?.of_the_function();
    let plain = ask(client, call)?;
    ensure!(
        by_cache == plain,
        "{call} is {plain:?}, cached {by_cache:?}"
    );
    Ok(plain)
}

/// [`both`], and the cached function has its answer from the cache; an error, which is not kept, is passed on.
pub fn kept(client: &mut Client, call: &str) -> Result<Answer> {
    let name = cached(call);
    let name = name.split('(').next().unwrap_or(&name);
    let name = name.rsplit('.').next().unwrap_or(name);
    let hits = |client: &mut Client| match ask(client, &format!("public.hits('{name}')"))? {
        Answer::Value(Some(number)) => Ok(number.parse::<i64>()?),
        other => bail!("{other:?}"),
    };
    let mut before = hits(client)?;
    // The first call may learn that the function reads settings, the second stores, the third has it.
    for _ in 0..3 {
        let answer = both(client, call)?;
        let after = hits(client)?;
        if after == before + 1 || !answer.is_value() {
            return Ok(answer);
        }
        before = after;
    }
    let reasons = ask(client, &format!("public.reasons('{name}')"))?;
    bail!("{call}: not from the cache; {reasons:?}")
}

/// [`kept`], and it is a value.
pub fn both_hit(client: &mut Client, call: &str) -> Result<Answer> {
    let answer = kept(client, call)?;
    ensure!(answer.is_value(), "{call}: {answer:?}");
    Ok(answer)
}

/// A cluster with the extension, for houses to be built in.
pub fn ground(name: &str) -> Result<Cluster> {
    with_extension(quiet(&format!("identity-{name}")))
}

/// The house in `cluster`, with `extra` done by its landlord; an earlier one is torn down. Returns the superuser's session.
pub fn build(cluster: &Cluster, extra: &str) -> Result<Client> {
    let mut admin = cluster.connect(DATABASE)?;
    admin.batch_execute(END).context("tearing down")?;
    admin.batch_execute(HOUSE).context("building")?;
    for statement in statements(extra) {
        admin
            .batch_execute(statement)
            .with_context(|| statement.to_owned())?;
    }
    admin.batch_execute("RESET ROLE")?;
    Ok(admin)
}

/// Splits at lines that hold nothing but `;;`, so that a script may have statements that cannot share a transaction.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    script.split(";;").filter(|part| !part.trim().is_empty())
}

/// A session of `user`, who looks at the house; of `gate/ann` it is one of `gate` that has become `ann`.
pub fn enter(cluster: &Cluster, user: &str) -> Result<Client> {
    let (login, role) = user.split_once('/').unwrap_or((user, ""));
    let mut client = cluster.connect_as(DATABASE, login)?;
    client.batch_execute("SET search_path = house, annexe, public; SET lock_timeout = '10ms'")?;
    if !role.is_empty() {
        client.batch_execute(&format!("SET ROLE {role}"))?;
    }
    Ok(client)
}
