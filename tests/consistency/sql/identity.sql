-- What looks different to each role, under each claim, and through each search path.

CREATE ROLE tenant_1;
CREATE ROLE tenant_2;
CREATE ROLE vip;
GRANT oracle_reader TO tenant_1, tenant_2;

CREATE TABLE secrets (
    id bigserial PRIMARY KEY,
    k int NOT NULL,
    owner name NOT NULL DEFAULT current_user,
    tenant int NOT NULL,
    v bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT '2024-01-01 12:00+00'
);
CREATE INDEX ON secrets (k);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_owner ON secrets USING (owner = current_user) WITH CHECK (true);
CREATE POLICY of_claim ON secrets FOR SELECT USING (tenant::text = current_setting('request.jwt.claim.tenant', true));
CREATE POLICY of_vip ON secrets FOR SELECT USING (v % 7 = 0 AND pg_has_role(current_user, 'vip', 'member'));
GRANT INSERT, UPDATE, DELETE ON secrets TO tenant_1, tenant_2;
GRANT USAGE ON SEQUENCE secrets_id_seq TO tenant_1, tenant_2;

CREATE FUNCTION secrets_of(k int) RETURNS text LANGUAGE sql STABLE AS
    'SELECT format(''%s in %s, last %s'', sum(v), count(*), max(at)) FROM secrets WHERE secrets.k = secrets_of.k';

-- Sees every row, and picks by the claim; its role is the owner's, the session's is the caller's.
CREATE FUNCTION secrets_by_claim(k int) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$
BEGIN
    RETURN (SELECT format('%s for %s: %s', current_user, session_user, sum(v)) FROM secrets s
            WHERE s.k = secrets_by_claim.k AND s.tenant::text = current_setting('request.jwt.claim.tenant', true));
END $$;

-- One inside the other, with the cache and without. In statements: an expression would keep the plan of secrets_of, and with it the
-- policies of the first caller, until the transaction ends, in PostgreSQL itself.
CREATE FUNCTION secrets_seen(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer text;
BEGIN
    SELECT format('%s / %s', secrets_of_cached(k), secrets_by_claim_cached(k)) INTO answer;
    RETURN answer;
END $$;
CREATE FUNCTION secrets_seen_uncached(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer text;
BEGIN
    SELECT format('%s / %s', secrets_of(k), secrets_by_claim(k)) INTO answer;
    RETURN answer;
END $$;
-- Asked by nobody's comparison, only for what it leaves behind: an expression that several roles use in one transaction.
CREATE FUNCTION secrets_in_expressions(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN secrets_of_cached(k);
END $$;

-- Two tables of one name; the search path decides.
CREATE SCHEMA shadow;
GRANT USAGE ON SCHEMA shadow TO PUBLIC;
CREATE TABLE places (k int PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE shadow.places (k int PRIMARY KEY, v bigint NOT NULL);
GRANT SELECT ON shadow.places TO PUBLIC;
CREATE FUNCTION located(k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT p.v FROM places p WHERE p.k = located.k);
END $$;

INSERT INTO secrets (k, owner, tenant, v)
    SELECT n % 8 + 1, 'tenant_' || n % 3, n % 4, n FROM generate_series(1, 48) AS n;
INSERT INTO places SELECT k, k FROM generate_series(1, 8) AS k;
INSERT INTO shadow.places SELECT k, -k FROM generate_series(1, 8) AS k;
