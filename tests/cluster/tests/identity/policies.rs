//! Row-level security: policies, what they read and call, and whom they concern.

use super::change::{Change, change, felt_by, try_all};
use anyhow::Result;

/// Notes are for their owner.
const OWN: &str = "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user)";
/// Notes are for the members of their tenant, and for the staff.
const MEMBERS: &str = "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY staff ON notes TO staff USING (true);
     CREATE POLICY members ON notes USING (EXISTS (SELECT FROM members AS m WHERE m.tenant = notes.tenant AND m.who = current_user))";

const CHANGES: &[Change] = &[
    change(
        "CREATE POLICY own ON notes USING (owner = current_user)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
    ),
    change(OWN, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY"),
    change(OWN, "ALTER TABLE notes FORCE ROW LEVEL SECURITY"),
    change(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user)",
        "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY",
    ),
    change(OWN, "CREATE POLICY more ON notes USING (tenant = 'a')"),
    change(OWN, "CREATE POLICY less ON notes AS RESTRICTIVE USING (tenant = 'a')"),
    change(OWN, "CREATE POLICY for_bob ON notes TO bob USING (true)"),
    change(OWN, "DROP POLICY own ON notes"),
    change(OWN, "ALTER POLICY own ON notes USING (owner <> current_user)"),
    change(OWN, "ALTER POLICY own ON notes TO bob"),
    // Tables that a policy reads.
    change(MEMBERS, "INSERT INTO members VALUES ('b', 'ann')"),
    change(MEMBERS, "DELETE FROM members WHERE who = 'bob'"),
    change(MEMBERS, "TRUNCATE members"),
    change(MEMBERS, "REVOKE SELECT ON members FROM ann"),
    change(MEMBERS, "ALTER TABLE members ENABLE ROW LEVEL SECURITY"),
    change(MEMBERS, "ALTER TABLE members RENAME COLUMN who TO whom; ALTER TABLE members ADD who text; ALTER POLICY members ON notes
         USING (EXISTS (SELECT FROM members AS m WHERE m.tenant = notes.tenant AND m.who = current_user))"),
    // Functions that a policy calls.
    change(
        "CREATE FUNCTION may(text) RETURNS boolean LANGUAGE sql STABLE AS $$SELECT $1 = current_user$$;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (may(owner))",
        "CREATE OR REPLACE FUNCTION may(text) RETURNS boolean LANGUAGE sql STABLE AS $$SELECT $1 <> current_user$$",
    ),
    change(
        "CREATE FUNCTION may(text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RETURN $1 = current_user; END$$;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (may(owner))",
        "CREATE OR REPLACE FUNCTION may(text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RETURN $1 <> current_user; END$$",
    ),
    change(
        "CREATE FUNCTION may(text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = house
             AS $$SELECT EXISTS (SELECT FROM members WHERE tenant = $1 AND who = session_user)$$;
         REVOKE SELECT ON members FROM ann, bob;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (may(tenant))",
        "UPDATE members SET tenant = 'b' WHERE who = 'ann'",
    ),
    change(
        "CREATE FUNCTION may(text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
             AS $$SELECT EXISTS (SELECT FROM house.members WHERE tenant = $1 AND who = session_user)$$;
         REVOKE SELECT ON members FROM ann, bob;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (may(tenant))",
        "ALTER FUNCTION may(text) SECURITY INVOKER",
    ),
    change(
        "CREATE FUNCTION me() RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'ann'$$;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = me())",
        "CREATE OR REPLACE FUNCTION me() RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'bob'$$",
    ),
    // Roles: whom a policy is for is decided when a query is planned, and plans are kept.
    change(MEMBERS, "GRANT staff TO ann"),
    change(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY staff ON notes TO staff USING (true); RESET ROLE; GRANT staff TO ann; SET ROLE landlord",
        "REVOKE staff FROM ann",
    ),
    change(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY staff ON notes TO staff USING (true); RESET ROLE; GRANT crew TO ann; SET ROLE landlord",
        "GRANT staff TO crew",
    ),
    change(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY staff ON notes TO staff USING (true); RESET ROLE; GRANT staff TO ann; SET ROLE landlord",
        "ALTER ROLE ann NOINHERIT",
    ),
    change(OWN, "ALTER ROLE ann BYPASSRLS"),
    change(
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; RESET ROLE; ALTER ROLE ann BYPASSRLS; SET ROLE landlord",
        "ALTER ROLE ann NOBYPASSRLS",
    ),
    change(OWN, "ALTER ROLE bob SUPERUSER"),
    change(OWN, "GRANT landlord TO ann"),
    change(OWN, "ALTER TABLE notes OWNER TO ann; GRANT SELECT ON notes TO landlord"),
    // Views: whose rights and policies count.
    felt_by(
        &["seen()", "shown()"],
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
         CREATE VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION seen() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ',' ORDER BY id) FROM seen$$;
         CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM seen); END$$;
         SELECT cache_function('seen()'), cache_function('shown()')",
        "ALTER VIEW seen SET (security_invoker = on)",
    ),
    felt_by(
        &["seen()", "shown()"],
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
         CREATE VIEW seen WITH (security_invoker = on, security_barrier = on) AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION seen() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ',' ORDER BY id) FROM seen$$;
         CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM seen); END$$;
         SELECT cache_function('seen()'), cache_function('shown()')",
        "ALTER VIEW seen RESET (security_invoker, security_barrier)",
    ),
    felt_by(
        &["seen()", "shown()"],
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
         CREATE VIEW seen AS SELECT * FROM notes; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION seen() RETURNS text LANGUAGE sql STABLE AS $$SELECT string_agg(body, ',' ORDER BY id) FROM seen$$;
         CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(body, ',' ORDER BY id) FROM seen); END$$;
         SELECT cache_function('seen()'), cache_function('shown()')",
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
    ),
    // A leaky function in a query against a barrier: what it tells is an error, or not.
    felt_by(
        &["leak()"],
        "CREATE FUNCTION loud(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS
             $$BEGIN IF $1 = 'of bob' THEN RAISE EXCEPTION 'seen: %', $1; END IF; RETURN true; END$$;
         CREATE VIEW seen WITH (security_barrier) AS SELECT * FROM notes WHERE owner = 'ann'; GRANT SELECT ON seen TO ann, bob;
         CREATE FUNCTION leak() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT max(body) FROM seen WHERE loud(body)); END$$;
         SELECT cache_function('leak()')",
        "ALTER VIEW seen RESET (security_barrier)",
    ),
];

#[test]
fn policies_count_at_once() -> Result<()> {
    try_all("policies", CHANGES)
}
