-- Sample schema "marketplace": experts who sell sessions, clients who book and
-- review them, and a shop with products and orders. It is what the cached
-- functions get_expert_sessions_with_stats_cached and
-- get_product_performance_cached of pg_query_cache are made for, and it can be
-- used without the extension.
--
--     \i sql/samples/marketplace.sql
--     SELECT marketplace.generate(0.1);     -- a tenth of the full size
--     SELECT get_product_performance(NULL);
--
-- The tables live in schema marketplace. The two functions an application
-- calls live in schema public, because they are looked up by name through the
-- caller's search_path, and that is where such applications have them.
--
-- The file can be run again at any time: tables and rows that exist are kept,
-- functions are replaced, and nothing is ever dropped. generate() is what
-- replaces the rows. A function of the same name that is not this sample's is
-- left alone, with an error; everything is one transaction, so that then
-- nothing happens at all.

BEGIN;

DO $$
DECLARE
    taken regprocedure;
BEGIN
    SELECT p.oid::regprocedure INTO taken
    FROM pg_proc p
    WHERE p.oid IN (to_regprocedure('public.get_expert_sessions_with_stats(uuid)'),
                    to_regprocedure('public.get_product_performance(uuid)'))
      AND obj_description(p.oid, 'pg_proc') IS DISTINCT FROM
          CASE p.proname WHEN 'get_product_performance' THEN 'sample marketplace: sales of one product (null: of all)'
                         ELSE 'sample marketplace: sessions of one expert with statistics (null: of all)' END
    LIMIT 1;
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_function',
            MESSAGE = format('function %s already exists and does not belong to the sample marketplace', taken),
            HINT = 'An application with functions of its own does not need the sample.';
    END IF;
    IF to_regnamespace('marketplace') IS NOT NULL THEN
        RAISE NOTICE 'schema marketplace exists: its tables and rows are kept, its functions are replaced'
            USING HINT = 'SELECT marketplace.generate() makes the rows anew.';
    END IF;
END
$$;

SET LOCAL client_min_messages = warning;        -- "already exists, skipping" was said above

CREATE SCHEMA IF NOT EXISTS marketplace;
COMMENT ON SCHEMA marketplace IS 'pg_query_cache sample: experts, sessions, bookings, reviews, products, orders';

---------------------------------------------------------------------------
-- Tables
--
-- Bookings and reviews carry the expert whose they are, and the foreign keys
-- keep that right: so each row says by itself whose report it is in, and that
-- is what a keyed dependency needs.
---------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS marketplace.experts (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name        text NOT NULL,
    field       text NOT NULL,
    country     text NOT NULL,
    hourly_rate numeric(8, 2) NOT NULL CHECK (hourly_rate > 0),
    joined_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS marketplace.sessions (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    expert_id    uuid NOT NULL REFERENCES marketplace.experts ON DELETE CASCADE,
    title        text NOT NULL,
    status       text NOT NULL DEFAULT 'scheduled'
                 CHECK (status IN ('scheduled', 'completed', 'cancelled', 'no_show')),
    scheduled_at timestamptz NOT NULL,
    minutes      smallint NOT NULL CHECK (minutes BETWEEN 15 AND 480),
    capacity     smallint NOT NULL DEFAULT 1 CHECK (capacity BETWEEN 1 AND 100),
    price        numeric(10, 2) NOT NULL CHECK (price >= 0),
    UNIQUE (expert_id, id)
);
CREATE INDEX IF NOT EXISTS sessions_expert_idx ON marketplace.sessions (expert_id, scheduled_at);

CREATE TABLE IF NOT EXISTS marketplace.bookings (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    expert_id  uuid NOT NULL,
    session_id uuid NOT NULL,
    client_id  uuid NOT NULL,
    status     text NOT NULL DEFAULT 'confirmed'
               CHECK (status IN ('confirmed', 'attended', 'cancelled', 'no_show', 'refunded')),
    amount     numeric(10, 2) NOT NULL CHECK (amount >= 0),
    booked_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (expert_id, id),
    FOREIGN KEY (expert_id, session_id) REFERENCES marketplace.sessions (expert_id, id)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS bookings_session_idx ON marketplace.bookings (session_id);

CREATE TABLE IF NOT EXISTS marketplace.reviews (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    expert_id  uuid NOT NULL,
    booking_id uuid NOT NULL UNIQUE,
    rating     smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    body       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (expert_id, booking_id) REFERENCES marketplace.bookings (expert_id, id)
        ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS marketplace.products (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    category   text NOT NULL,
    price      numeric(10, 2) NOT NULL CHECK (price > 0),
    cost       numeric(10, 2) NOT NULL CHECK (cost >= 0),
    stock      integer NOT NULL DEFAULT 0 CHECK (stock >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS marketplace.orders (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    product_id uuid NOT NULL REFERENCES marketplace.products ON DELETE CASCADE,
    client_id  uuid NOT NULL,
    status     text NOT NULL DEFAULT 'pending'
               CHECK (status IN ('pending', 'paid', 'shipped', 'delivered', 'returned', 'cancelled')),
    quantity   smallint NOT NULL CHECK (quantity > 0),
    unit_price numeric(10, 2) NOT NULL CHECK (unit_price >= 0),
    ordered_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS orders_product_idx ON marketplace.orders (product_id, ordered_at);

---------------------------------------------------------------------------
-- What the application calls
--
-- The answers depend on rows and on nothing else. Periods are counted back
-- from the latest date in the data and not from now() or current_date: a cache
-- can tell exactly when a row changes, but for an answer that also moves with
-- the clock it can only bound the age. For the same reason months are cut in
-- UTC and not in the session's TimeZone.
--
-- Every list is ordered by something unique and bounded, so that an answer
-- stays a few kilobytes however large the tables grow.
--
-- pg_query_cache.depends_on is what the two functions say of themselves to the
-- cache: of this table the answer depends only on rows whose column equals the
-- argument, or on all if that is null. It has to be true of the queries below;
-- where it says nothing, every write to the table counts. Without the extension
-- it is a setting that nobody reads.
---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION marketplace.expert_report(target uuid)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH own AS (
        SELECT s.id, s.title, s.status, s.scheduled_at, s.minutes, s.capacity, s.price,
               b.bookings, b.attended, b.revenue, b.reviews, b.stars
        FROM marketplace.sessions s
        LEFT JOIN (
            SELECT k.session_id,
                   count(*) AS bookings,
                   count(*) FILTER (WHERE k.status = 'attended') AS attended,
                   sum(k.amount) FILTER (WHERE k.status IN ('confirmed', 'attended', 'no_show')) AS revenue,
                   count(r.rating) AS reviews,
                   sum(r.rating) AS stars
            FROM marketplace.sessions o
            JOIN marketplace.bookings k ON k.session_id = o.id
            LEFT JOIN marketplace.reviews r ON r.booking_id = k.id
            WHERE o.expert_id = target
            GROUP BY k.session_id
        ) b ON b.session_id = s.id
        WHERE s.expert_id = target
    ), totals AS (
        SELECT count(*) AS sessions,
               coalesce(sum(bookings), 0) AS bookings,
               coalesce(sum(attended), 0) AS attended,
               coalesce(sum(revenue), 0) AS revenue,
               coalesce(sum(reviews), 0) AS reviews,
               round(sum(stars)::numeric / nullif(sum(reviews), 0), 2) AS rating,
               round(100.0 * sum(bookings) / nullif(sum(capacity), 0), 1) AS occupancy_percent,
               round(sum(minutes) FILTER (WHERE status = 'completed') / 60.0, 1) AS hours,
               max(scheduled_at) AS latest
        FROM own
    ), statuses AS (
        SELECT jsonb_object_agg(status, n) AS list
        FROM (SELECT status, count(*) AS n FROM own GROUP BY status) x
    ), months AS (
        SELECT jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'sessions', sessions,
                                            'revenue', revenue, 'rating', rating) ORDER BY month) AS list
        FROM (SELECT date_trunc('month', o.scheduled_at AT TIME ZONE 'UTC') AS month,
                     count(*) AS sessions,
                     coalesce(sum(o.revenue), 0) AS revenue,
                     round(sum(o.stars)::numeric / nullif(sum(o.reviews), 0), 2) AS rating
              FROM own o, totals t
              WHERE o.scheduled_at AT TIME ZONE 'UTC'
                    >= date_trunc('month', t.latest AT TIME ZONE 'UTC') - interval '11 months'
              GROUP BY 1) x
    ), topics AS (
        SELECT jsonb_agg(jsonb_build_object('title', title, 'sessions', sessions, 'revenue', revenue)
                         ORDER BY revenue DESC, title) AS list
        FROM (SELECT title, count(*) AS sessions, coalesce(sum(revenue), 0) AS revenue
              FROM own GROUP BY title ORDER BY 3 DESC, title LIMIT 10) x
    ), recent AS (
        SELECT jsonb_agg(jsonb_build_object('id', id, 'title', title, 'status', status,
                                            'scheduled_at', scheduled_at AT TIME ZONE 'UTC', 'price', price,
                                            'bookings', coalesce(bookings, 0), 'revenue', coalesce(revenue, 0),
                                            'rating', round(stars::numeric / nullif(reviews, 0), 2))
                         ORDER BY scheduled_at DESC, id) AS list
        FROM (SELECT * FROM own ORDER BY scheduled_at DESC, id LIMIT 10) x
    )
    SELECT jsonb_build_object(
        'expert', jsonb_build_object('id', e.id, 'name', e.name, 'field', e.field, 'country', e.country,
                                     'hourly_rate', e.hourly_rate),
        'sessions', t.sessions, 'bookings', t.bookings, 'attended', t.attended, 'revenue', t.revenue,
        'reviews', t.reviews, 'rating', t.rating, 'occupancy_percent', t.occupancy_percent,
        'hours', coalesce(t.hours, 0),
        'by_status', coalesce(statuses.list, '{}'),
        'months', coalesce(months.list, '[]'),
        'best_topics', coalesce(topics.list, '[]'),
        'latest_sessions', coalesce(recent.list, '[]'))
    FROM marketplace.experts e, totals t, statuses, months, topics, recent
    WHERE e.id = target;
END;
COMMENT ON FUNCTION marketplace.expert_report(uuid) IS 'sessions of one expert with statistics';

CREATE OR REPLACE FUNCTION marketplace.experts_report()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH sold AS (
        SELECT k.session_id,
               count(*) AS bookings,
               count(*) FILTER (WHERE k.status = 'attended') AS attended,
               sum(k.amount) FILTER (WHERE k.status IN ('confirmed', 'attended', 'no_show')) AS revenue,
               count(r.rating) AS reviews,
               sum(r.rating) AS stars
        FROM marketplace.bookings k
        LEFT JOIN marketplace.reviews r ON r.booking_id = k.id
        GROUP BY k.session_id
    ), cube AS (
        SELECT s.expert_id, s.status, date_trunc('month', s.scheduled_at AT TIME ZONE 'UTC') AS month,
               count(*) AS sessions,
               coalesce(sum(b.bookings), 0) AS bookings,
               coalesce(sum(b.attended), 0) AS attended,
               coalesce(sum(b.revenue), 0) AS revenue,
               coalesce(sum(b.reviews), 0) AS reviews,
               coalesce(sum(b.stars), 0) AS stars
        FROM marketplace.sessions s
        LEFT JOIN sold b ON b.session_id = s.id
        GROUP BY 1, 2, 3
    ), totals AS (
        SELECT coalesce(sum(sessions), 0) AS sessions, coalesce(sum(bookings), 0) AS bookings,
               coalesce(sum(attended), 0) AS attended, coalesce(sum(revenue), 0) AS revenue,
               coalesce(sum(reviews), 0) AS reviews,
               round(sum(stars) / nullif(sum(reviews), 0), 2) AS rating,
               max(month) AS latest
        FROM cube
    ), statuses AS (
        SELECT jsonb_object_agg(status, n) AS list
        FROM (SELECT status, sum(sessions) AS n FROM cube GROUP BY status) x
    ), months AS (
        SELECT jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'sessions', sessions,
                                            'revenue', revenue, 'rating', rating) ORDER BY month) AS list
        FROM (SELECT c.month, sum(c.sessions) AS sessions, sum(c.revenue) AS revenue,
                     round(sum(c.stars) / nullif(sum(c.reviews), 0), 2) AS rating
              FROM cube c, totals t
              WHERE c.month >= t.latest - interval '11 months'
              GROUP BY c.month) x
    ), top AS (
        SELECT jsonb_agg(jsonb_build_object('id', id, 'name', name, 'field', field, 'sessions', sessions,
                                            'bookings', bookings, 'revenue', revenue, 'rating', rating)
                         ORDER BY revenue DESC, id) AS list
        FROM (SELECT e.id, e.name, e.field, x.*
              FROM (SELECT expert_id, sum(sessions) AS sessions, sum(bookings) AS bookings, sum(revenue) AS revenue,
                           round(sum(stars) / nullif(sum(reviews), 0), 2) AS rating
                    FROM cube GROUP BY expert_id) x
              JOIN marketplace.experts e ON e.id = x.expert_id
              ORDER BY x.revenue DESC, e.id
              LIMIT 50) y
    )
    SELECT jsonb_build_object(
        'experts', (SELECT count(*) FROM marketplace.experts),
        'sessions', t.sessions, 'bookings', t.bookings, 'attended', t.attended, 'revenue', t.revenue,
        'reviews', t.reviews, 'rating', t.rating,
        'by_status', coalesce(statuses.list, '{}'),
        'months', coalesce(months.list, '[]'),
        'top_experts', coalesce(top.list, '[]'))
    FROM totals t, statuses, months, top;
END;
COMMENT ON FUNCTION marketplace.experts_report() IS 'all sessions with statistics and the 50 experts with the highest revenue';

CREATE OR REPLACE FUNCTION marketplace.product_report(target uuid)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH own AS (
        SELECT o.status, o.quantity, o.quantity * o.unit_price AS value, o.client_id,
               o.ordered_at AT TIME ZONE 'UTC' AS ordered
        FROM marketplace.orders o
        WHERE o.product_id = target
    ), totals AS (
        SELECT count(*) AS orders,
               coalesce(sum(quantity) FILTER (WHERE status NOT IN ('cancelled', 'returned')), 0) AS units,
               coalesce(sum(value) FILTER (WHERE status NOT IN ('cancelled', 'returned')), 0) AS revenue,
               count(DISTINCT client_id) AS clients,
               round(avg(value), 2) AS mean_order,
               round(100.0 * count(*) FILTER (WHERE status = 'returned') / nullif(count(*), 0), 1) AS return_percent,
               min(ordered)::date AS first_order,
               max(ordered)::date AS latest_order
        FROM own
    ), statuses AS (
        SELECT jsonb_object_agg(status, n) AS list
        FROM (SELECT status, count(*) AS n FROM own GROUP BY status) x
    ), months AS (
        SELECT jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'orders', orders, 'units', units,
                                            'revenue', revenue) ORDER BY month) AS list
        FROM (SELECT date_trunc('month', o.ordered) AS month, count(*) AS orders, sum(o.quantity) AS units,
                     coalesce(sum(o.value) FILTER (WHERE o.status NOT IN ('cancelled', 'returned')), 0) AS revenue
              FROM own o, totals t
              WHERE o.ordered >= date_trunc('month', t.latest_order::timestamp) - interval '11 months'
              GROUP BY 1) x
    )
    SELECT jsonb_build_object(
        'product', jsonb_build_object('id', p.id, 'name', p.name, 'category', p.category, 'price', p.price,
                                      'stock', p.stock),
        'orders', t.orders, 'units', t.units, 'revenue', t.revenue, 'profit', t.revenue - t.units * p.cost,
        'clients', t.clients, 'mean_order', t.mean_order, 'return_percent', t.return_percent,
        'first_order', t.first_order, 'latest_order', t.latest_order,
        'by_status', coalesce(statuses.list, '{}'),
        'months', coalesce(months.list, '[]'))
    FROM marketplace.products p, totals t, statuses, months
    WHERE p.id = target;
END;
COMMENT ON FUNCTION marketplace.product_report(uuid) IS 'sales of one product';

CREATE OR REPLACE FUNCTION marketplace.products_report()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH cube AS (
        SELECT o.product_id, o.status, date_trunc('month', o.ordered_at AT TIME ZONE 'UTC') AS month,
               count(*) AS orders, sum(o.quantity) AS units, sum(o.quantity * o.unit_price) AS value
        FROM marketplace.orders o
        GROUP BY 1, 2, 3
    ), sold AS (
        SELECT product_id, sum(orders) AS orders,
               coalesce(sum(units) FILTER (WHERE status NOT IN ('cancelled', 'returned')), 0) AS units,
               coalesce(sum(value) FILTER (WHERE status NOT IN ('cancelled', 'returned')), 0) AS revenue,
               coalesce(sum(orders) FILTER (WHERE status = 'returned'), 0) AS returned
        FROM cube
        GROUP BY product_id
    ), totals AS (
        SELECT coalesce(sum(orders), 0) AS orders, coalesce(sum(units), 0) AS units,
               coalesce(sum(revenue), 0) AS revenue,
               round(100.0 * sum(returned) / nullif(sum(orders), 0), 1) AS return_percent
        FROM sold
    ), statuses AS (
        SELECT jsonb_object_agg(status, n) AS list
        FROM (SELECT status, sum(orders) AS n FROM cube GROUP BY status) x
    ), months AS (
        SELECT jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'orders', orders, 'units', units,
                                            'revenue', revenue) ORDER BY month) AS list
        FROM (SELECT month, sum(orders) AS orders, sum(units) AS units,
                     coalesce(sum(value) FILTER (WHERE status NOT IN ('cancelled', 'returned')), 0) AS revenue
              FROM cube
              WHERE month >= (SELECT max(month) FROM cube) - interval '11 months'
              GROUP BY month) x
    ), categories AS (
        SELECT jsonb_agg(jsonb_build_object('category', category, 'products', products, 'orders', orders,
                                            'revenue', revenue, 'profit', profit)
                         ORDER BY revenue DESC, category) AS list
        FROM (SELECT p.category, count(*) AS products, coalesce(sum(s.orders), 0) AS orders,
                     coalesce(sum(s.revenue), 0) AS revenue, coalesce(sum(s.revenue - s.units * p.cost), 0) AS profit
              FROM marketplace.products p
              LEFT JOIN sold s ON s.product_id = p.id
              GROUP BY p.category) x
    ), top AS (
        SELECT jsonb_agg(jsonb_build_object('id', id, 'name', name, 'category', category, 'orders', orders,
                                            'units', units, 'revenue', revenue, 'profit', profit)
                         ORDER BY revenue DESC, id) AS list
        FROM (SELECT p.id, p.name, p.category, s.orders, s.units, s.revenue, s.revenue - s.units * p.cost AS profit
              FROM sold s
              JOIN marketplace.products p ON p.id = s.product_id
              ORDER BY s.revenue DESC, p.id
              LIMIT 50) x
    )
    SELECT jsonb_build_object(
        'products', (SELECT count(*) FROM marketplace.products),
        'orders', t.orders, 'units', t.units, 'revenue', t.revenue, 'return_percent', t.return_percent,
        'by_status', coalesce(statuses.list, '{}'),
        'months', coalesce(months.list, '[]'),
        'categories', coalesce(categories.list, '[]'),
        'top_products', coalesce(top.list, '[]'))
    FROM totals t, statuses, months, categories, top;
END;
COMMENT ON FUNCTION marketplace.products_report() IS 'all sales by month and category and the 50 products with the highest revenue';

CREATE OR REPLACE FUNCTION public.get_expert_sessions_with_stats(expert_id uuid DEFAULT NULL)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
SET pg_query_cache.depends_on = '{"marketplace.experts": {"id": "$1"}, "marketplace.sessions": {"expert_id": "$1"}, "marketplace.bookings": {"expert_id": "$1"}, "marketplace.reviews": {"expert_id": "$1"}}'
BEGIN ATOMIC
    SELECT CASE WHEN expert_id IS NULL THEN marketplace.experts_report()
                ELSE marketplace.expert_report(expert_id) END;
END;
COMMENT ON FUNCTION public.get_expert_sessions_with_stats(uuid) IS
    'sample marketplace: sessions of one expert with statistics (null: of all)';

CREATE OR REPLACE FUNCTION public.get_product_performance(product_id uuid DEFAULT NULL)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
SET pg_query_cache.depends_on = '{"marketplace.products": {"id": "$1"}, "marketplace.orders": {"product_id": "$1"}}'
BEGIN ATOMIC
    SELECT CASE WHEN product_id IS NULL THEN marketplace.products_report()
                ELSE marketplace.product_report(product_id) END;
END;
COMMENT ON FUNCTION public.get_product_performance(uuid) IS
    'sample marketplace: sales of one product (null: of all)';

---------------------------------------------------------------------------
-- The generator
--
-- Everything random is a hash of (row number, seed, what it is for): the same
-- seed gives the same rows whatever plan, parallelism or version of random()
-- is behind them. checksum() shows it.
---------------------------------------------------------------------------

-- A number in [0, 1) for row i. Salts tell a row's independent numbers apart;
-- the generator takes them from the seed's own thousand.
CREATE OR REPLACE FUNCTION marketplace.uniform(i bigint, salt bigint)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hashint8extended(i, salt) & 4503599627370495) / 4503599627370496.0::double precision;
COMMENT ON FUNCTION marketplace.uniform(bigint, bigint) IS 'generator: a number in [0, 1) for row i';

-- A rank in 1 … n, the low ones far more often: rank r has a weight of
-- 1 / (r + flat). A marketplace's popularity looks so: a few stars, a long tail.
CREATE OR REPLACE FUNCTION marketplace.zipf(u double precision, n bigint, flat double precision)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(n, 1 + floor(flat * (power(1 + n / flat, u) - 1))::bigint);
COMMENT ON FUNCTION marketplace.zipf(double precision, bigint, double precision) IS
    'generator: a rank in 1 … n with weight 1 / (rank + flat), from u in [0, 1)';

-- The id of row i of a kind.
CREATE OR REPLACE FUNCTION marketplace.row_id(kind text, i bigint, seed bigint)
RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5(kind || '/' || seed || '/' || i)::uuid;
COMMENT ON FUNCTION marketplace.row_id(text, bigint, bigint) IS 'generator: the id of row i of a kind';

-- Days from 2023-01-01 to 2025-12-31, each as often as its share of the
-- business: growth, a season of twelve monthly weights, weekends, an
-- occasional peak. Element u * 8192 of it is a plausible day.
CREATE OR REPLACE FUNCTION marketplace.calendar(season numeric[], weekend numeric)
RETURNS integer[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH days AS (
        SELECT d,
               (1 + d / 900.0) * season[extract(month FROM date '2023-01-01' + d)::integer]
               * CASE WHEN extract(isodow FROM date '2023-01-01' + d) >= 6 THEN weekend ELSE 1 END
               * CASE WHEN extract(day FROM date '2023-01-01' + d) = 24
                       AND extract(month FROM date '2023-01-01' + d) = 11 THEN 3 ELSE 1 END AS weight
        FROM generate_series(0, 1095) AS d
    ), shares AS (
        SELECT d, sum(weight) OVER (ORDER BY d) / sum(weight) OVER () AS upto FROM days
    ), spans AS (
        SELECT d, ceil(coalesce(lag(upto) OVER (ORDER BY d), 0) * 8192)::integer AS first,
               ceil(upto * 8192)::integer AS beyond
        FROM shares
    )
    SELECT array_agg(d ORDER BY d, n) FROM spans, generate_series(first, beyond - 1) AS n;
END;
COMMENT ON FUNCTION marketplace.calendar(numeric[], numeric) IS
    'generator: 8192 day numbers since 2023-01-01, busy days more often';

CREATE OR REPLACE FUNCTION marketplace.generate(scale numeric DEFAULT 1, seed bigint DEFAULT 42)
RETURNS bigint LANGUAGE plpgsql
SET search_path = marketplace, pg_temp
SET timezone = 'UTC'
SET work_mem = '64MB'
SET maintenance_work_mem = '256MB'
AS $$
DECLARE
    n_experts  bigint := greatest(1, round(2000 * scale));
    n_sessions bigint := greatest(1, round(500000 * scale));
    n_products bigint := greatest(1, round(20000 * scale));
    n_orders   bigint := greatest(1, round(1000000 * scale));
    n_clients  bigint := greatest(1, round(120000 * scale));

    salt    bigint := seed * 1000;
    epoch   timestamptz := '2023-01-01 00:00+00';
    today   timestamptz := '2026-01-01 00:00+00';       -- the data's, not the clock's
    office  integer[] := calendar('{1.1,1.1,1.1,1.0,1.0,0.9,0.7,0.6,1.1,1.2,1.1,0.7}', 0.35);
    shop    integer[] := calendar('{0.9,0.8,0.9,0.9,1.0,0.9,0.9,0.8,0.9,1.0,1.5,1.9}', 1.25);

    given_names text[] := '{Amira,Anders,Aoife,Beatriz,Bogdan,Camille,Chen,Daria,Dmitri,Elena,Emeka,Farah,Felix,Giulia,Hana,Hugo,Ines,Ivan,Jamal,Jonas,Kaori,Karim,Leila,Liam,Lucia,Mads,Maya,Mei,Nadia,Noah,Olga,Omar,Paula,Priya,Quentin,Rafael,Rosa,Sana,Sofia,Tariq,Thandi,Tomas,Uma,Viktor,Wanjiru,Yara,Yusuf,Zofia}';
    family_names text[] := '{Abebe,Almeida,Andersson,Bauer,Bianchi,Castillo,Chowdhury,Cohen,Dubois,Eriksen,Fernandes,Fischer,Garcia,Haddad,Hansen,Ibrahim,Ito,Jensen,Kapoor,Kim,Kowalski,Kumar,Lambert,Larsen,Lopez,Martin,Mbeki,Moreau,Murphy,Nakamura,Nguyen,Novak,Okafor,Oliveira,Papadopoulos,Petrov,Rahman,Rossi,Sato,Schmidt,Silva,Singh,Suzuki,Tanaka,Torres,Varga,Wang,Weber,Yilmaz,Zhang}';
    countries text[] := '{Brazil,Canada,Denmark,France,Germany,India,Italy,Japan,Kenya,Mexico,Nigeria,Poland,Portugal,Spain,Sweden,Turkey,United Kingdom,United States}';
    fields  text[] := '{Career,Data,Design,Finance,Health,Languages,Law,Marketing,Music,Software}';
    rates   numeric[] := '{85,120,95,150,70,35,180,90,45,130}';     -- an hour, by field
    topics  text[] := '{first steps,interview training,portfolio review,strategy,case study,deep dive,question hour,code and craft,progress check,workshop,mock exam,planning}';
    goods   text[] := '{Backpack,Blender,Board game,Bookshelf,Camera strap,Coffee grinder,Desk lamp,Headphones,Jacket,Keyboard,Kettle,Notebook,Office chair,Running shoes,Sketch set,Sleeping bag,Teapot,Tent,Water bottle,Yoga mat}';
    kinds   text[] := '{Outdoor,Kitchen,Games,Furniture,Photo,Kitchen,Furniture,Audio,Clothing,Computer,Kitchen,Stationery,Furniture,Sports,Stationery,Outdoor,Kitchen,Outdoor,Sports,Sports}';
    prices  numeric[] := '{69,79,35,189,19,99,49,129,119,89,45,9,249,109,29,99,39,229,25,32}';
    styles  text[] := '{Aurora,Basalt,Cedar,Delta,Ember,Fjord,Granite,Harbour,Indigo,Juniper,Kestrel,Linden,Meridian,Nimbus,Onyx,Prairie,Quartz,Rowan,Saffron,Tundra,Umber,Vesper,Willow,Zephyr}';
    remarks text[] := '{Not what was announced,Too rushed for the price,Decent but nothing new,Clear and well prepared,Changed how I work}';

    rebuild text[];
    command text;
    started timestamptz;
    made    bigint;
    total   bigint := 0;
BEGIN
    IF scale <= 0 OR scale > 100 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('scale %s is out of range', scale),
            HINT = 'Scale 1 makes 500,000 sessions and 1,000,000 orders; up to 100 is allowed.';
    END IF;

    -- Keys and indexes are built once, after the rows: several times faster
    -- than keeping them up row by row. Foreign keys go first and come last.
    SELECT array_agg(c.command ORDER BY c.turn, c.command)
    INTO rebuild
    FROM (SELECT CASE contype WHEN 'f' THEN 3 ELSE 1 END AS turn,
                 format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
                        pg_get_constraintdef(oid)) AS command
          FROM pg_constraint
          WHERE connamespace = 'marketplace'::regnamespace AND contype IN ('f', 'p', 'u')
          UNION ALL
          SELECT 2, pg_get_indexdef(x.indexrelid)
          FROM pg_index x
          JOIN pg_class t ON t.oid = x.indrelid
          WHERE t.relnamespace = 'marketplace'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_constraint k
                            WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u'))) c;

    TRUNCATE experts, sessions, bookings, reviews, products, orders;

    FOR command IN
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
        FROM pg_constraint
        WHERE connamespace = 'marketplace'::regnamespace AND contype IN ('f', 'p', 'u')
        ORDER BY contype <> 'f'
    LOOP
        EXECUTE command;
    END LOOP;
    FOR command IN
        SELECT format('DROP INDEX %s', indexrelid::regclass)
        FROM pg_index x
        JOIN pg_class c ON c.oid = x.indrelid
        WHERE c.relnamespace = 'marketplace'::regnamespace
    LOOP
        EXECUTE command;
    END LOOP;

    -- experts: the lower the number, the more popular and the better rated
    started := clock_timestamp();
    INSERT INTO experts (id, name, field, country, hourly_rate, joined_at)
    SELECT row_id('expert', i, seed),
           given_names[1 + floor(uniform(i, salt) * cardinality(given_names))::integer] || ' ' ||
               family_names[1 + floor(uniform(i, salt + 1) * cardinality(family_names))::integer],
           fields[f],
           countries[1 + floor(uniform(i, salt + 2) * cardinality(countries))::integer],
           round(rates[f] * (0.6 + 0.8 * uniform(i, salt + 3))::numeric / 5) * 5,
           epoch - interval '1 day' * floor(700 * uniform(i, salt + 4))
    FROM (SELECT i, 1 + floor(uniform(i, salt + 5) * cardinality(fields))::integer AS f
          FROM generate_series(1, n_experts) AS i) e;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'experts: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);

    -- sessions
    started := clock_timestamp();
    CREATE TEMPORARY TABLE pg_query_cache_sample_sessions ON COMMIT DROP AS
    SELECT i, e, f, at, minutes, capacity,
           -- a seat in a group costs a third
           round(round(rates[f] * (0.6 + 0.8 * uniform(e, salt + 3))::numeric / 5) * 5 * minutes / 60
                 / CASE WHEN capacity = 1 THEN 1 ELSE 3 END, 2) AS price,
           CASE WHEN at >= today - interval '2 days' AND u < 0.8 THEN 'scheduled'
                WHEN u < 0.84 THEN 'completed'
                WHEN u < 0.96 THEN 'cancelled'
                ELSE 'no_show' END AS status
    FROM (SELECT i, e,
                 1 + floor(uniform(e, salt + 5) * cardinality(fields))::integer AS f,
                 epoch + interval '1 day' * office[1 + floor(uniform(i, salt + 11) * 8192)::integer]
                       + interval '30 minutes' * floor(14 + 24 * (uniform(i, salt + 12) + uniform(i, salt + 13)) / 2) AS at,
                 (array[30, 45, 60, 60, 60, 90, 120])[1 + floor(uniform(i, salt + 14) * 7)::integer] AS minutes,
                 CASE WHEN uniform(i, salt + 15) < 0.88 THEN 1
                      ELSE (array[4, 6, 8, 12])[1 + floor(uniform(i, salt + 16) * 4)::integer] END AS capacity,
                 uniform(i, salt + 17) AS u
          FROM (SELECT i, zipf(uniform(i, salt + 10), n_experts, 40) AS e
                FROM generate_series(1, n_sessions) AS i) x) y;

    INSERT INTO sessions (id, expert_id, title, status, scheduled_at, minutes, capacity, price)
    SELECT row_id('session', i, seed), row_id('expert', e, seed),
           fields[f] || ': ' || topics[zipf(uniform(i, salt + 18), cardinality(topics), 3)],
           status, at, minutes, capacity, price
    FROM pg_query_cache_sample_sessions
    ORDER BY i;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'sessions: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);

    -- bookings: most single sessions are booked, groups about half; row number
    -- 100 * session + seat
    started := clock_timestamp();
    INSERT INTO bookings (id, expert_id, session_id, client_id, status, amount, booked_at)
    SELECT row_id('booking', b, seed), row_id('expert', e, seed), row_id('session', i, seed),
           row_id('client', zipf(uniform(b, salt + 20), n_clients, 2000), seed),
           CASE WHEN status = 'scheduled' THEN 'confirmed'
                WHEN status = 'cancelled' THEN CASE WHEN u < 0.7 THEN 'refunded' ELSE 'cancelled' END
                WHEN status = 'no_show' THEN 'no_show'
                WHEN u < 0.93 THEN 'attended'
                WHEN u < 0.97 THEN 'cancelled'
                ELSE 'no_show' END,
           price,
           at - interval '1 hour' * (1 + floor(500 * power(uniform(b, salt + 21), 2)))
    FROM (SELECT s.*, 100 * i + seat AS b, uniform(100 * i + seat, salt + 22) AS u
          FROM pg_query_cache_sample_sessions s, generate_series(1, capacity) AS seat
          WHERE uniform(100 * i + seat, salt + 23) < CASE WHEN capacity = 1 THEN 0.9 ELSE 0.45 END) x
    ORDER BY b;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'bookings: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);

    -- reviews: of a third of what was attended; each expert has a level
    started := clock_timestamp();
    INSERT INTO reviews (id, expert_id, booking_id, rating, body, created_at)
    SELECT row_id('review', b, seed), row_id('expert', e, seed), row_id('booking', b, seed), rating,
           CASE WHEN uniform(b, salt + 32) < 0.4 THEN remarks[rating] END,
           at + interval '1 hour' * (2 + floor(200 * uniform(b, salt + 33)))
    FROM (SELECT e, at, b,
                 least(5, greatest(1, round(3.1 + 1.5 * uniform(e, salt + 34)
                                            + 2.4 * (uniform(b, salt + 35) + uniform(b, salt + 36) - 1))))::smallint AS rating
          FROM (SELECT s.*, 100 * i + seat AS b
                FROM pg_query_cache_sample_sessions s, generate_series(1, capacity) AS seat
                WHERE s.status = 'completed') x
          WHERE uniform(b, salt + 23) < CASE WHEN capacity = 1 THEN 0.9 ELSE 0.45 END
            AND uniform(b, salt + 22) < 0.93
            AND uniform(b, salt + 31) < 0.35) y
    ORDER BY b;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'reviews: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);
    DROP TABLE pg_query_cache_sample_sessions;

    -- products
    started := clock_timestamp();
    INSERT INTO products (id, name, category, price, cost, stock, created_at)
    SELECT row_id('product', i, seed),
           styles[1 + floor(uniform(i, salt + 40) * cardinality(styles))::integer] || ' ' || goods[g] || ' ' || (100 + i % 900),
           kinds[g],
           price,
           round(price * (0.35 + 0.3 * uniform(i, salt + 41))::numeric, 2),
           floor(400 * power(uniform(i, salt + 42), 2))::integer,
           epoch - interval '1 day' * floor(500 * uniform(i, salt + 43))
    FROM (SELECT i, g, round(prices[g] * (0.5 + 1.5 * power(uniform(i, salt + 44), 2))::numeric) - 0.05 AS price
          FROM (SELECT i, 1 + floor(uniform(i, salt + 45) * cardinality(goods))::integer AS g
                FROM generate_series(1, n_products) AS i) x) p;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'products: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);

    -- orders: at the product's price, a fifth of them with a discount
    started := clock_timestamp();
    INSERT INTO orders (id, product_id, client_id, status, quantity, unit_price, ordered_at)
    SELECT row_id('order', i, seed), row_id('product', p, seed),
           row_id('client', zipf(uniform(i, salt + 51), n_clients, 2000), seed),
           CASE WHEN u < 0.05 THEN 'cancelled'
                WHEN u < 0.11 THEN 'returned'
                WHEN at >= today - interval '2 days' THEN CASE WHEN u < 0.3 THEN 'pending' ELSE 'paid' END
                WHEN at >= today - interval '6 days' THEN 'shipped'
                ELSE 'delivered' END,
           (array[1, 1, 1, 1, 1, 1, 2, 2, 3, 5])[1 + floor(uniform(i, salt + 52) * 10)::integer],
           round(price * CASE WHEN uniform(i, salt + 53) < 0.2 THEN 0.85 ELSE 1 END, 2),
           at
    FROM (SELECT i, p, uniform(i, salt + 54) AS u,
                 round(prices[1 + floor(uniform(p, salt + 45) * cardinality(goods))::integer]
                       * (0.5 + 1.5 * power(uniform(p, salt + 44), 2))::numeric) - 0.05 AS price,
                 epoch + interval '1 day' * shop[1 + floor(uniform(i, salt + 55) * 8192)::integer]
                       + interval '1 second' * floor(86400 * (uniform(i, salt + 56) + uniform(i, salt + 57)) / 2) AS at
          FROM (SELECT i, zipf(uniform(i, salt + 50), n_products, 50) AS p
                FROM generate_series(1, n_orders) AS i) x) o;
    GET DIAGNOSTICS made = ROW_COUNT;
    total := total + made;
    RAISE NOTICE 'orders: % rows in % s', made, round(extract(epoch FROM clock_timestamp() - started), 1);

    started := clock_timestamp();
    FOREACH command IN ARRAY rebuild LOOP
        EXECUTE command;
    END LOOP;
    RAISE NOTICE 'keys and indexes: % in % s', cardinality(rebuild), round(extract(epoch FROM clock_timestamp() - started), 1);

    started := clock_timestamp();
    ANALYZE experts, sessions, bookings, reviews, products, orders;
    RAISE NOTICE 'statistics in % s', round(extract(epoch FROM clock_timestamp() - started), 1);
    RETURN total;
END
$$;
COMMENT ON FUNCTION marketplace.generate(numeric, bigint) IS
    'replaces all rows: scale 1 is 2,000 experts, 500,000 sessions, 20,000 products and 1,000,000 orders; the same seed gives the same rows; returns how many';

CREATE OR REPLACE FUNCTION marketplace.checksum()
RETURNS TABLE (relation text, row_count bigint, checksum text)
LANGUAGE sql STABLE
SET search_path = marketplace, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT 'experts', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM experts t
    UNION ALL SELECT 'sessions', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM sessions t
    UNION ALL SELECT 'bookings', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM bookings t
    UNION ALL SELECT 'reviews', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM reviews t
    UNION ALL SELECT 'products', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM products t
    UNION ALL SELECT 'orders', count(*), to_hex(bit_xor(hashtextextended(t::text, 0))) FROM orders t
    ORDER BY 1
$$;
COMMENT ON FUNCTION marketplace.checksum() IS 'rows and contents of the sample''s tables, independent of their order';

COMMIT;
