//! Definitions: the function itself, whatever it calls or reads through, and types.

use super::change::{Change, change, felt_by, try_all};
use anyhow::Result;

/// A function in SQL, which the planner inlines, below one in PL/pgSQL, which keeps its plans, and the other way round.
const DEEP: &str = "
    CREATE FUNCTION floor_1(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT $1 || ' 1'$$;
    CREATE FUNCTION floor_2(text) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN floor_1($1) || ' 2'; END$$;
    CREATE FUNCTION floor_3(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT floor_2($1) || ' 3'$$;
    CREATE FUNCTION tower() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT floor_3(max(body)) FROM notes); END$$;
    CREATE FUNCTION spire() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(floor_3(body), ',' ORDER BY id) FROM notes$$;
    SELECT cache_function('tower()'), cache_function('spire()');";

macro_rules! deep {
    ($change:literal) => {
        felt_by(&["tower()", "spire()"], DEEP, $change)
    };
}

/// `text_of()` and `said_of()` return an expression over `notes`, in SQL and in PL/pgSQL; `$before` is what the expression needs.
macro_rules! expression {
    ($expression:literal, $before:literal, $change:literal) => {
        felt_by(
            &["text_of()", "said_of()"],
            concat!(
                $before,
                "; CREATE FUNCTION text_of() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg((", $expression,
                ")::text, ',' ORDER BY id) FROM notes$$;
                 CREATE FUNCTION said_of() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg((", $expression,
                ")::text, ',' ORDER BY id) FROM notes); END$$;
                 SELECT cache_function('text_of()'), cache_function('said_of()')"
            ),
            $change,
        )
    };
}

const CHANGES: &[Change] = &[
    // The function itself.
    felt_by(&["list()"], "", "CREATE OR REPLACE FUNCTION list() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'new'$$"),
    felt_by(&["told()"], "", "CREATE OR REPLACE FUNCTION told() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 'new'; END$$"),
    felt_by(&["list()"], "", "ALTER FUNCTION list() SET search_path = annexe"),
    felt_by(
        &["who(1)"],
        "CREATE FUNCTION who(integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT max(owner) FROM notes WHERE id = $1$$;
         SELECT cache_function('who(integer)')",
        "CREATE OR REPLACE FUNCTION who(integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT max(tenant) FROM notes WHERE id = $1$$",
    ),
    // What it calls.
    deep!("CREATE OR REPLACE FUNCTION floor_1(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT $1 || ' one'$$"),
    deep!("CREATE OR REPLACE FUNCTION floor_2(text) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN floor_1($1) || ' two'; END$$"),
    deep!("CREATE OR REPLACE FUNCTION floor_3(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT floor_2($1) || ' three'$$"),
    deep!("ALTER FUNCTION floor_1(text) RENAME TO floor_0"),
    deep!("DROP FUNCTION floor_1(text)"),
    deep!("ALTER FUNCTION floor_3(text) STRICT; UPDATE notes SET body = NULL"),
    expression!(
        "five()",
        "CREATE FUNCTION five() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 5'",
        "CREATE OR REPLACE FUNCTION five() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 6'"
    ),
    expression!(
        "five()",
        "CREATE FUNCTION five() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 5; END'",
        "CREATE OR REPLACE FUNCTION five() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 6; END'"
    ),
    expression!(
        "plus(id)",
        "CREATE FUNCTION plus(integer, integer DEFAULT 1) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'",
        "CREATE OR REPLACE FUNCTION plus(integer, integer DEFAULT 2) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'"
    ),
    expression!(
        "body <+> owner",
        "CREATE FUNCTION joined(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT $1 || $2$$;
         CREATE OPERATOR <+> (FUNCTION = joined, LEFTARG = text, RIGHTARG = text)",
        "CREATE OR REPLACE FUNCTION joined(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT $2 || $1$$"
    ),
    expression!(
        "(SELECT longest(n.body) FROM notes AS n)",
        "CREATE FUNCTION longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT greatest($1, $2)$$;
         CREATE AGGREGATE longest(text) (SFUNC = longer, STYPE = text)",
        "CREATE OR REPLACE FUNCTION longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT least($1, $2)$$"
    ),
    // What it reads through.
    expression!(
        "(SELECT max(body) FROM seen)",
        "CREATE VIEW seen AS SELECT * FROM notes WHERE id < 3; GRANT SELECT ON seen TO ann, bob",
        "CREATE OR REPLACE VIEW seen AS SELECT * FROM notes WHERE id < 2"
    ),
    expression!(
        "(SELECT max(body) FROM seen)",
        "CREATE FUNCTION shown(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1';
         CREATE VIEW seen AS SELECT shown(body) AS body FROM notes; GRANT SELECT ON seen TO ann, bob",
        "CREATE OR REPLACE FUNCTION shown(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT upper($1)'"
    ),
    expression!(
        "(SELECT max(body) FROM seen)",
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob; UPDATE notes SET body = 'z' WHERE id = 1",
        "REFRESH MATERIALIZED VIEW seen"
    ),
    // Columns.
    expression!("notes", "", "ALTER TABLE notes ADD more integer DEFAULT 7"),
    expression!("row_to_json(notes)", "", "ALTER TABLE notes RENAME tenant TO firm"),
    expression!("notes", "", "ALTER TABLE notes DROP tenant"),
    expression!("body", "", "ALTER TABLE notes ALTER body TYPE integer USING 5"),
    expression!(
        "length_of",
        "ALTER TABLE notes ADD length_of integer DEFAULT 1",
        "ALTER TABLE notes DROP length_of, ADD length_of integer GENERATED ALWAYS AS (id * 2) STORED"
    ),
    // Types, casts, domains, collations, dictionaries.
    expression!(
        "'b'::mood",
        "CREATE TYPE mood AS ENUM ('a', 'b')",
        "ALTER TYPE mood RENAME VALUE 'b' TO 'c'"
    ),
    expression!(
        "(id, owner)::pair",
        "CREATE TYPE pair AS (a integer, b text)",
        "ALTER TYPE pair ALTER ATTRIBUTE b TYPE integer"
    ),
    expression!(
        "body::label",
        "CREATE DOMAIN label AS text",
        "ALTER DOMAIN label ADD CHECK (VALUE <> 'of bob')"
    ),
    expression!(
        "body::label",
        "CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE DOMAIN label AS text CHECK (fits(VALUE))",
        "CREATE OR REPLACE FUNCTION fits(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$SELECT $1 <> 'of bob'$$"
    ),
    expression!(
        "body::label",
        "CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END'; CREATE DOMAIN label AS text CHECK (fits(VALUE))",
        "CREATE OR REPLACE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN $1 <> 'of bob'; END$$"
    ),
    expression!(
        "ROW(id)::boxed::text",
        "CREATE TYPE boxed AS (a integer); CREATE FUNCTION text_of(boxed) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'boxed ' || $1.a$$",
        "CREATE CAST (boxed AS text) WITH FUNCTION text_of(boxed)"
    ),
    expression!(
        "ROW(id)::boxed::text",
        "CREATE TYPE boxed AS (a integer); CREATE FUNCTION text_of(boxed) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'boxed ' || $1.a$$;
         CREATE CAST (boxed AS text) WITH FUNCTION text_of(boxed)",
        "DROP CAST (boxed AS text)"
    ),
    expression!(
        "to_tsvector('plain', body)",
        "CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION plain ALTER MAPPING FOR asciiword WITH english_stem"
    ),
    change("", "INSERT INTO notes VALUES (4, 'ann', 'a', 'new')"),
];

#[test]
fn definitions_count_at_once() -> Result<()> {
    try_all("definitions", CHANGES)
}
