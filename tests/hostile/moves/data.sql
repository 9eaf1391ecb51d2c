-- Rows, transactions, cursors, COPY.
INSERT INTO ground.t VALUES (<int>, <int>, <text>)
UPDATE ground.t SET n = n + 1 WHERE id = <int>
DELETE FROM ground.t WHERE n > 500
INSERT INTO ground.child VALUES (<int>, 1 + abs(<int> % 20))
INSERT INTO ground.child VALUES (<int>, <int>)
DELETE FROM ground.parent WHERE id = <int>
INSERT INTO ground.parent VALUES (1 + abs(<int> % 20)) ON CONFLICT DO NOTHING
DELETE FROM ground.child WHERE id = <int>
UPDATE ground.vault SET secret = secret || '.' WHERE id = <int> AND length(secret) < 60
INSERT INTO <table> SELECT * FROM <table> LIMIT 3
UPDATE <own> SET a = a + 1
DELETE FROM <own>
MERGE INTO ground.t AS x USING (SELECT <int> AS i) AS y ON x.id = y.i WHEN MATCHED THEN UPDATE SET n = n - 1 WHEN NOT MATCHED THEN INSERT VALUES (y.i, 0, '')
WITH w AS (UPDATE ground.t SET n = n + 1 WHERE id = <int> RETURNING n) SELECT count(*), <groundcall> FROM w
SELECT * FROM <table> LIMIT 5
SELECT count(*) FROM <table>
SELECT <groundcall>
SELECT <groundcall>, <groundcall>
BEGIN
BEGIN ISOLATION LEVEL REPEATABLE READ
BEGIN ISOLATION LEVEL SERIALIZABLE
BEGIN READ ONLY
COMMIT
ROLLBACK
COMMIT AND CHAIN
SAVEPOINT s
ROLLBACK TO s
RELEASE s
PREPARE TRANSACTION '<name>'
COMMIT PREPARED '<name>'
ROLLBACK PREPARED '<name>'
DECLARE c CURSOR WITH HOLD FOR SELECT <groundcall>
FETCH ALL FROM c
MOVE 1 IN c
DECLARE s CURSOR FOR SELECT <groundcall>, <groundcall>
FETCH 1 FROM s
FETCH ALL FROM s
SELECT <groundcall> LIMIT 1
CLOSE ALL
PREPARE p AS SELECT <groundcall>
EXECUTE p
DEALLOCATE ALL
DISCARD ALL
DISCARD TEMP
COPY (SELECT <groundcall>) TO STDOUT
COPY <table> TO STDOUT
COPY ground.child FROM STDIN
LISTEN x
NOTIFY x, <text>
SELECT pg_notify('x', <text>)
SELECT pg_advisory_xact_lock_shared(<int>)
SELECT set_config('<setting>', <value>, <boolean>)
SELECT current_setting('<setting>', true)
SELECT pg_catalog.pg_export_snapshot()
SELECT lo_create(0)
VALUES (1)
