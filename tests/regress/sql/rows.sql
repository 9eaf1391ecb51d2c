-- The row trigger for replication is left out of statements; those of others are not.
CREATE TABLE goods (id int PRIMARY KEY, price int NOT NULL);
CREATE TABLE seen (what text NOT NULL, id int NOT NULL);
CREATE FUNCTION stock() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(price) FROM goods';
SELECT cache_function('stock()');
SELECT cache_track_table('goods', '{id}');

-- Nobody's but ours.
COPY goods FROM stdin;
1	10
2	20
\.
SELECT stock_cached(), stock_cached();
UPDATE goods SET price = price + 1;
SELECT stock_cached();
COPY goods FROM stdin;
3	30
\.
SELECT stock_cached();
DELETE FROM goods WHERE id = 3;
SELECT stock_cached();

-- A COPY that fails leaves nothing behind.
COPY goods FROM stdin;
4	40
1	1
\.
SELECT stock_cached();

-- Others have row triggers, too.
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (lower(TG_OP), CASE TG_OP WHEN 'DELETE' THEN old.id ELSE new.id END);
    RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON goods FOR EACH ROW EXECUTE FUNCTION look();
COPY goods FROM stdin;
5	50
6	60
\.
UPDATE goods SET price = 0 WHERE id = 5;
DELETE FROM goods WHERE id = 5;
SELECT what, id FROM seen;
SELECT stock_cached();

-- Also those that fire in replica sessions only.
TRUNCATE seen;
ALTER TABLE goods ENABLE REPLICA TRIGGER look;
INSERT INTO goods VALUES (7, 70);
COPY goods FROM stdin;
8	80
\.
SELECT count(*) FROM seen;
SET session_replication_role = replica;
COPY goods FROM stdin;
9	90
\.
UPDATE goods SET price = 1 WHERE id = 9;
RESET session_replication_role;
SELECT what, id FROM seen;
SELECT stock_cached() = stock();

SELECT uncache_function('stock_cached(interval)');
DROP FUNCTION stock();
DROP TABLE goods, seen;
DROP FUNCTION look();
