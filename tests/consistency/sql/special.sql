-- Tables that have something special about them, and the functions that read them.

-- A column that the server computes, and a dependency keyed by it.
CREATE TABLE priced (
    id bigserial,
    k int NOT NULL,
    amount bigint NOT NULL,
    bucket int GENERATED ALWAYS AS (1 + abs(k + amount) % 8) STORED
);
CREATE FUNCTION priced_in(k int) RETURNS jsonb LANGUAGE sql STABLE AS
    'SELECT jsonb_build_object(''amount'', sum(amount), ''rows'', count(*)) FROM priced WHERE bucket = priced_in.k';

-- Somebody's BEFORE triggers: they move rows to another key or another table, suppress them, and turn DELETE into UPDATE.
CREATE TABLE routed (id bigserial PRIMARY KEY, k int NOT NULL, v bigint NOT NULL, gone bool NOT NULL DEFAULT false);
CREATE TABLE routed_away (id bigserial, k int NOT NULL, v bigint NOT NULL);
CREATE INDEX ON routed (k);
CREATE FUNCTION routed_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.gone THEN
            RETURN OLD;
        END IF;
        UPDATE routed SET gone = true WHERE id = OLD.id;
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' AND NEW.v % 3 = 0 THEN
        INSERT INTO routed_away (k, v) VALUES (NEW.k, NEW.v);
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' AND NEW.v % 5 = 0 AND NOT NEW.gone THEN
        RETURN NULL;
    ELSIF NEW.v % 3 = 1 AND NOT NEW.gone THEN
        NEW.k := 1 + NEW.k % 8;
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION routed_state(k int) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'here', (SELECT jsonb_agg(r.v ORDER BY r.id) FROM routed r WHERE r.k = routed_state.k AND NOT r.gone),
        'gone', (SELECT count(*) FROM routed r WHERE r.k = routed_state.k AND r.gone),
        'away', (SELECT sum(a.v) FROM routed_away a WHERE a.k = routed_state.k))
$$;
-- Compares in the middle of the statement that writes; what differs is an error of a class of its own.
CREATE FUNCTION routed_after() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bare text;
    cached text;
    key int := CASE WHEN TG_OP = 'DELETE' THEN OLD.k ELSE NEW.k END;
BEGIN
    SELECT routed_state(key), routed_state_cached(key) INTO bare, cached;
    IF bare IS DISTINCT FROM cached THEN
        RAISE EXCEPTION 'routed_state(%) is %, cached %', key, bare, cached USING ERRCODE = 'OR001';
    END IF;
    RETURN NULL;
END $$;

-- Dropped and created again.
CREATE TABLE reborn (k int NOT NULL, v bigint NOT NULL);
CREATE FUNCTION reborn_value(k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sum(r.v) FROM reborn r WHERE r.k = reborn_value.k);
END $$;

-- Its columns change names, the one that a dependency is keyed by too.
CREATE TABLE turned (k int NOT NULL, l int NOT NULL, v bigint NOT NULL);
CREATE FUNCTION turned_total(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT sum(v)::bigint FROM turned WHERE turned.k = turned_total.k';

-- Without a default partition, which DETACH CONCURRENTLY does not suffer.
CREATE TABLE shelves (k int NOT NULL, part int NOT NULL, v bigint NOT NULL) PARTITION BY LIST (part);
CREATE TABLE shelves_0 PARTITION OF shelves FOR VALUES IN (0);
CREATE TABLE shelves_1 PARTITION OF shelves FOR VALUES IN (1);
-- With plans of its own for each call: while a partition is being detached a generic plan, made under an old snapshot, goes on
-- reading it under newer ones, in PostgreSQL itself.
CREATE FUNCTION shelf_total(k int) RETURNS jsonb LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN (SELECT jsonb_object_agg(part, total)
            FROM (SELECT part, sum(v) AS total FROM shelves s WHERE s.k = shelf_total.k GROUP BY part) AS by_part);
END $$;

-- Reads in a function that a parallel worker may run.
CREATE FUNCTION entry_sum(k int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT sum(amount) FROM entries WHERE account_id = k);
END $$;
CREATE FUNCTION helped(k int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT sum(entry_sum(a.id)) FROM accounts a WHERE a.id BETWEEN k AND k + 1);
END $$;

INSERT INTO priced (k, amount) SELECT n % 8 + 1, n FROM generate_series(1, 40) AS n;
INSERT INTO routed (k, v) SELECT n % 8 + 1, n FROM generate_series(1, 40) AS n;
INSERT INTO routed_away (k, v) SELECT n, n FROM generate_series(1, 8) AS n;
INSERT INTO reborn SELECT k, k FROM generate_series(1, 8) AS k;
INSERT INTO turned SELECT k, 9 - k, k FROM generate_series(1, 8) AS k;
INSERT INTO shelves SELECT k, k % 2, k FROM generate_series(1, 8) AS k;

CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OR DELETE ON routed FOR EACH ROW EXECUTE FUNCTION routed_before();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON routed FOR EACH ROW EXECUTE FUNCTION routed_after();
