-- Tables that logical replication writes to; nobody else does.

CREATE TABLE mirrored (id bigint, k int, v bigint);
CREATE TABLE mirror_log (id bigserial, k int, what text);
-- Keyed by a column that comes over the wire, and by one that the server computes here.
CREATE TABLE followed (id bigint, k int, v bigint, bucket int GENERATED ALWAYS AS (1 + abs(k + v) % 8) STORED);
-- A plain table there, a partitioned one here.
CREATE TABLE parcels (id bigint, k int, part int, v bigint) PARTITION BY LIST (part);
CREATE TABLE parcels_0 PARTITION OF parcels FOR VALUES IN (0);
CREATE TABLE parcels_1 PARTITION OF parcels FOR VALUES IN (1);
CREATE TABLE parcels_default PARTITION OF parcels DEFAULT;
CREATE TABLE arrived (n bigint);

-- Somebody's trigger that fires for replicated rows too, and writes itself.
CREATE FUNCTION mirror_after() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    key int := CASE WHEN TG_OP = 'DELETE' THEN OLD.k ELSE NEW.k END;
BEGIN
    DELETE FROM public.mirror_log l WHERE l.k = key AND l.what = TG_OP;
    INSERT INTO public.mirror_log (k, what) VALUES (key, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON mirrored FOR EACH ROW EXECUTE FUNCTION mirror_after();
ALTER TABLE mirrored ENABLE ALWAYS TRIGGER after_row;

CREATE FUNCTION mirror_state(k int) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'sum', (SELECT sum(m.v) FROM mirrored m WHERE m.k = mirror_state.k),
        'log', (SELECT jsonb_agg(l.id ORDER BY l.id) FROM mirror_log l WHERE l.k = mirror_state.k))
$$;
CREATE FUNCTION followed_total(k int) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT sum(v)::bigint FROM followed WHERE followed.k = followed_total.k';
CREATE FUNCTION followed_bucket(k int) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sum(f.v) FROM followed f WHERE f.bucket = followed_bucket.k);
END $$;
CREATE FUNCTION parcel_total(k int) RETURNS jsonb LANGUAGE sql STABLE AS
    'SELECT jsonb_object_agg(coalesce(part, -1), total) FROM (SELECT part, sum(v) AS total FROM parcels WHERE parcels.k = parcel_total.k GROUP BY part) AS by_part';
