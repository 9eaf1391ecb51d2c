-- What the oracle looks at: tables of every kind that a function may read, and functions that read them.
-- Keys are small integers, so that sessions meet on the same rows.

CREATE ROLE auditor;
CREATE ROLE oracle_reader;

-- Read by nobody: what sessions lock for a moment to notice what others have done to the catalogs.
CREATE TABLE guard ();

-- Accounts with children by foreign key: one that goes with its account, one that forgets it.
CREATE TABLE accounts (
    id int PRIMARY KEY,
    name text NOT NULL,
    balance bigint NOT NULL DEFAULT 0
);
CREATE TABLE entries (
    id bigserial PRIMARY KEY,
    account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE ON UPDATE CASCADE,
    amount bigint NOT NULL,
    note text
);
CREATE INDEX ON entries (account_id);
CREATE TABLE notes (
    id bigserial PRIMARY KEY,
    account_id int REFERENCES accounts ON DELETE SET NULL ON UPDATE CASCADE,
    weight int NOT NULL
);

-- Two levels of partitions, a default on each.
CREATE TABLE orders (
    id bigserial,
    account_id int NOT NULL,
    region int NOT NULL,
    day int NOT NULL,
    amount bigint NOT NULL
) PARTITION BY LIST (region);
CREATE TABLE orders_r0 PARTITION OF orders FOR VALUES IN (0) PARTITION BY RANGE (day);
CREATE TABLE orders_r0_a PARTITION OF orders_r0 FOR VALUES FROM (0) TO (50);
CREATE TABLE orders_r0_b PARTITION OF orders_r0 FOR VALUES FROM (50) TO (100);
CREATE TABLE orders_r0_default PARTITION OF orders_r0 DEFAULT;
CREATE TABLE orders_r1 PARTITION OF orders FOR VALUES IN (1);
CREATE TABLE orders_default PARTITION OF orders DEFAULT;
-- Attached and detached while the oracle runs; the only place of region 3.
CREATE TABLE orders_extra (LIKE orders INCLUDING DEFAULTS);
ALTER TABLE orders_extra ADD CHECK (region = 3);

CREATE TABLE things (id bigserial, kind int NOT NULL, label text);
CREATE TABLE things_special (extra int) INHERITS (things);
CREATE TABLE things_rare () INHERITS (things_special);

CREATE UNLOGGED TABLE scratch (k int PRIMARY KEY, v bigint NOT NULL);

-- Changes names with its twin.
CREATE TABLE swap_a (k int, v bigint NOT NULL);
CREATE TABLE swap_b (k int, v bigint NOT NULL);

-- Row i belongs to writer i, whose version only grows: an acknowledged one must be seen by everybody.
CREATE TABLE beacons (id int PRIMARY KEY, version bigint NOT NULL);

-- Somebody else's table, whose triggers change rows elsewhere, with their own rights.
CREATE TABLE audited (k int NOT NULL, v bigint NOT NULL);
CREATE TABLE audit_counts (k int PRIMARY KEY, changes bigint NOT NULL);
CREATE TABLE audit_log (id bigserial, k int NOT NULL, what text NOT NULL);
ALTER TABLE audited OWNER TO auditor;
ALTER TABLE audit_counts OWNER TO auditor;
ALTER TABLE audit_log OWNER TO auditor;
CREATE FUNCTION audit_before() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit_counts VALUES (NEW.k, 1) ON CONFLICT (k) DO UPDATE SET changes = audit_counts.changes + 1;
    NEW.v := NEW.v + 1;
    RETURN NEW;
END $$;
CREATE FUNCTION audit_after() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM audit_log WHERE k = coalesce(NEW.k, OLD.k) AND what <> TG_OP;
    INSERT INTO audit_log (k, what) VALUES (coalesce(NEW.k, OLD.k), TG_OP);
    RETURN NULL;
END $$;
ALTER FUNCTION audit_before OWNER TO auditor;
ALTER FUNCTION audit_after OWNER TO auditor;
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION audit_before();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit_after();

-- Work that waits for COMMIT: a constraint, and a trigger that writes at that moment.
CREATE TABLE ledger (
    k int NOT NULL,
    account_id int REFERENCES accounts ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
    amount bigint NOT NULL
);
CREATE TABLE ledger_sums (k int PRIMARY KEY, total bigint NOT NULL);
CREATE FUNCTION ledger_sum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_sums VALUES (NEW.k, NEW.amount)
        ON CONFLICT (k) DO UPDATE SET total = ledger_sums.total + excluded.total;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_sum();

-- Views: one to write through, one over another, one that a trigger writes for.
CREATE VIEW account_view AS SELECT id, name, balance FROM accounts;
CREATE VIEW account_amounts AS SELECT account_id, amount * 1 AS amount FROM entries;
CREATE VIEW rich_accounts AS
    SELECT v.id, v.name, sum(a.amount)::bigint AS total
    FROM account_view v LEFT JOIN account_amounts a ON a.account_id = v.id
    GROUP BY v.id, v.name;
CREATE VIEW entries_door AS SELECT id, account_id, amount FROM entries;
CREATE FUNCTION entries_door_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM entries WHERE id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO entries (account_id, amount, note)
            SELECT id, NEW.amount, 'through the door' FROM accounts WHERE id = NEW.account_id;
        RETURN NEW;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER instead INSTEAD OF INSERT OR UPDATE OR DELETE ON entries_door
    FOR EACH ROW EXECUTE FUNCTION entries_door_write();

CREATE MATERIALIZED VIEW account_totals AS
    SELECT account_id, sum(amount)::bigint AS total FROM entries GROUP BY account_id;
CREATE UNIQUE INDEX ON account_totals (account_id);

-- The functions that are cached.

CREATE FUNCTION account_total(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT sum(amount)::bigint FROM entries WHERE account_id = k';

CREATE FUNCTION account_summary(k int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    account accounts;
    summary jsonb;
BEGIN
    SELECT * INTO account FROM accounts WHERE id = k;
    SELECT jsonb_build_object('entries', count(*), 'largest', max(amount)) INTO summary FROM entries WHERE account_id = k;
    RETURN summary || jsonb_build_object(
        'name', account.name,
        'balance', account.balance,
        'weight', (SELECT sum(weight) FROM notes WHERE account_id = k),
        'forgotten', (SELECT count(*) FROM notes WHERE account_id IS NULL));
END $$;

CREATE FUNCTION account_entries(k int) RETURNS TABLE (id bigint, amount bigint, note text) LANGUAGE sql STABLE AS
    'SELECT e.id, e.amount, e.note FROM entries e WHERE e.account_id = k ORDER BY e.id';

CREATE TYPE card AS (id int, name text, balance bigint);
CREATE FUNCTION account_card(k int) RETURNS card LANGUAGE sql STABLE SET search_path = public AS
    'SELECT id, name, balance FROM accounts WHERE id = k';

CREATE FUNCTION orders_by_region(k int) RETURNS jsonb LANGUAGE sql STABLE AS
    'SELECT jsonb_object_agg(day, total) FROM (SELECT day, sum(amount) AS total FROM orders WHERE region = k GROUP BY day) AS by_day';

CREATE FUNCTION order_sum(k int) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sum(amount) FROM orders WHERE account_id = k);
END $$;

CREATE FUNCTION things_of(k int) RETURNS SETOF things LANGUAGE sql STABLE AS
    'SELECT * FROM things WHERE kind = k ORDER BY id';

CREATE FUNCTION scratch_value(k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT s.v::bigint FROM scratch s WHERE s.k = scratch_value.k);
END $$;

CREATE FUNCTION swapped(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT sum(v)::bigint FROM swap_a WHERE swap_a.k = swapped.k';

CREATE FUNCTION rich_total(k int) RETURNS text LANGUAGE sql STABLE AS
    'SELECT name || '': '' || coalesce(total, 0) FROM rich_accounts WHERE id = k';

CREATE FUNCTION stored_total(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT total FROM account_totals WHERE account_id = k';

CREATE FUNCTION audit_state(k int) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'values', (SELECT jsonb_agg(v ORDER BY v) FROM audited a WHERE a.k = audit_state.k),
        'changes', (SELECT changes FROM audit_counts c WHERE c.k = audit_state.k),
        'log', (SELECT jsonb_agg(l.id ORDER BY l.id) FROM audit_log l WHERE l.k = audit_state.k))
$$;

CREATE FUNCTION ledger_state(k int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    rows bigint;
    total bigint;
BEGIN
    SELECT count(*) INTO rows FROM ledger l WHERE l.k = ledger_state.k;
    SELECT s.total INTO total FROM ledger_sums s WHERE s.k = ledger_state.k;
    RETURN ARRAY[rows, total];
END $$;

CREATE FUNCTION versioned(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT 1 * count(*) FROM entries WHERE account_id = k';

CREATE FUNCTION beacon(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT version FROM beacons WHERE id = k';

-- A cached function that calls cached functions, and the same without any cache to compare it with.
CREATE FUNCTION overview(k int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN jsonb_build_object('total', account_total_cached(k), 'summary', account_summary_cached(k),
                              'accounts', (SELECT count(*) FROM accounts));
END $$;
CREATE FUNCTION overview_uncached(k int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN jsonb_build_object('total', account_total(k), 'summary', account_summary(k),
                              'accounts', (SELECT count(*) FROM accounts));
END $$;

-- A cached function that fails, and others that make a result of that, with and without the cache.
CREATE FUNCTION strict_name(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer text;
BEGIN
    SELECT name INTO STRICT answer FROM accounts WHERE id = k;
    RETURN answer;
END $$;
CREATE FUNCTION caught(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN strict_name_cached(k);
EXCEPTION WHEN no_data_found THEN
    RETURN 'nobody';
END $$;
CREATE FUNCTION caught_uncached(k int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN strict_name(k);
EXCEPTION WHEN no_data_found THEN
    RETURN 'nobody';
END $$;

-- Writes that happen inside a function, half of them in a subtransaction that fails.
CREATE FUNCTION write_entries(k int, value int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE entries SET amount = amount + value WHERE account_id = k;
    BEGIN
        INSERT INTO entries (account_id, amount, note) SELECT id, value, 'by a function' FROM accounts WHERE id = k;
        IF value % 2 = 0 THEN
            RAISE EXCEPTION 'on purpose';
        END IF;
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
END $$;

INSERT INTO accounts SELECT k, 'account ' || k, 100 * k FROM generate_series(1, 8) AS k;
INSERT INTO entries (account_id, amount, note)
    SELECT k, 10 * k + n, 'first' FROM generate_series(1, 8) AS k, generate_series(1, 6) AS n;
INSERT INTO notes (account_id, weight) SELECT k, n FROM generate_series(1, 8) AS k, generate_series(1, 3) AS n;
INSERT INTO orders (account_id, region, day, amount)
    SELECT n % 8 + 1, n % 3, (n * 7) % 120, n FROM generate_series(1, 90) AS n;
INSERT INTO orders_extra (account_id, region, day, amount) SELECT n % 8 + 1, 3, n, n FROM generate_series(1, 10) AS n;
INSERT INTO things (kind, label) SELECT n % 8 + 1, 'thing ' || n FROM generate_series(1, 24) AS n;
INSERT INTO things_special (kind, label, extra) SELECT n % 8 + 1, 'special ' || n, n FROM generate_series(1, 16) AS n;
INSERT INTO things_rare (kind, label, extra) SELECT n, 'rare ' || n, n FROM generate_series(1, 8) AS n;
INSERT INTO scratch SELECT k, k FROM generate_series(1, 8) AS k;
INSERT INTO swap_a SELECT k, k FROM generate_series(1, 8) AS k;
INSERT INTO swap_b SELECT k, 1000 + k FROM generate_series(1, 8) AS k;
INSERT INTO beacons SELECT k, 0 FROM generate_series(1, 64) AS k;
INSERT INTO audited SELECT k, k FROM generate_series(1, 8) AS k;
INSERT INTO ledger SELECT k, k, k FROM generate_series(1, 8) AS k;
REFRESH MATERIALIZED VIEW account_totals;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO oracle_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO oracle_reader;
