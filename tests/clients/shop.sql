-- What the clients talk to: an API schema as Supabase and PostgREST have it. Roles without rights of their own, one login role that
-- switches to them, row-level security by the token's claims.

CREATE ROLE anon;
CREATE ROLE authenticated;
CREATE ROLE service_role BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon, authenticated, service_role TO authenticator;
CREATE EXTENSION pg_query_cache;
CREATE SCHEMA api;
GRANT USAGE ON SCHEMA api TO anon, authenticated, service_role;
SET search_path = api, public;

CREATE TABLE orders (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant   text NOT NULL,
    customer integer NOT NULL,
    amount   numeric(12, 2) NOT NULL,
    placed   timestamptz NOT NULL DEFAULT now(),
    note     jsonb
);
INSERT INTO orders (tenant, customer, amount, placed, note)
SELECT 'tenant-' || i % 3, i % 20, i * 1.25, '2026-01-01 00:00+00'::timestamptz + i * interval '1 hour', jsonb_build_object('n', i, 'ä', 'ö"')
FROM generate_series(1, 600) AS i;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON orders TO authenticated
    USING (tenant = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant')
    WITH CHECK (tenant = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant');
GRANT SELECT, INSERT, UPDATE ON orders TO authenticated, service_role;

CREATE FUNCTION customer_summary(customer integer, minimum numeric DEFAULT 0) RETURNS jsonb LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT jsonb_build_object('customer', customer_summary.customer, 'orders', count(*), 'total', coalesce(sum(o.amount), 0), 'last', max(o.placed))
    FROM orders AS o WHERE o.customer = customer_summary.customer AND o.amount >= minimum;
END;
CREATE FUNCTION order_lines(customer integer)
RETURNS TABLE (id bigint, amount numeric, placed timestamptz, note jsonb, labels text[]) LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF order_lines.customer < 0 THEN
        RAISE EXCEPTION 'no such customer: %', order_lines.customer
            USING ERRCODE = 'P0002', DETAIL = 'Customers are numbered from 0.', HINT = 'Look at the list.';
    END IF;
    RETURN QUERY SELECT o.id, o.amount, o.placed, o.note, ARRAY[o.tenant, 'customer ' || o.customer]
                 FROM api.orders AS o WHERE o.customer = order_lines.customer ORDER BY o.id;
END $$;
CREATE FUNCTION place_order(tenant text, customer integer, amount numeric) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO orders (tenant, customer, amount) VALUES (place_order.tenant, place_order.customer, place_order.amount) RETURNING id;
END;

SELECT cache_function('customer_summary(integer, numeric)', scope => 'claims', depends_on => '{"orders": {"customer": "$1"}}'),
       cache_function('order_lines(integer)', scope => 'claims', depends_on => '{"orders": {"customer": "$1"}}');
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA api FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA api TO authenticated, service_role;
