"""Calls cached functions with psycopg: prepared statements, READ ONLY and REPEATABLE READ transactions, server-side cursors, COPY,
pipelines, binary results. Each answer is compared with the base function's in the same statement. PGHOST, PGPORT and PGDATABASE say
where; the first argument is `direct` or `pooled` (PgBouncer in transaction mode)."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

POOLED = sys.argv[1] == "pooled"
SAME = """SELECT cached, plain IS NOT DISTINCT FROM cached
          FROM api.customer_summary(%(customer)s, %(minimum)s) AS plain, api.customer_summary_cached(%(customer)s, %(minimum)s) AS cached"""
SAME_LINES = """SELECT (SELECT json_agg(line) FROM api.order_lines_cached(%(customer)s) AS line)::text
       IS NOT DISTINCT FROM (SELECT json_agg(line) FROM api.order_lines(%(customer)s) AS line)::text"""
sessions = threading.local()


def session():
    """The thread's own connection. Statements are prepared at their first use, but PgBouncer in transaction mode wants none."""
    if not hasattr(sessions, "connection"):
        sessions.connection = psycopg.connect(user="authenticator", autocommit=True, prepare_threshold=None if POOLED else 0)
    return sessions.connection


@contextmanager
def request(role, tenant=None, read_only=False, isolation="READ COMMITTED"):
    """A transaction as PostgREST begins it."""
    connection = session()
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}" + (" READ ONLY" if read_only else ""))
        cursor.execute(
            "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [role, json.dumps({"role": role, "tenant": tenant})],
        )
        yield cursor


def same(cursor, customer, minimum=Decimal(0)):
    """The cached answer, compared with the base function's in one statement."""
    answer, equal = cursor.execute(SAME, {"customer": customer, "minimum": minimum}).fetchone()
    assert equal, f"customer {customer}: {answer}"
    return answer


def place(cursor, tenant, customer, amount):
    return cursor.execute(
        "INSERT INTO api.orders (tenant, customer, amount, note) VALUES (%s, %s, %s, %s) RETURNING id",
        [tenant, customer, amount, Jsonb({"by": "psycopg"})],
    ).fetchone()[0]


def reader(number):
    for i in range(60):
        tenant = f"tenant-{(number + i) % 3}"
        with request("authenticated", tenant, read_only=i % 2 == 0, isolation=("READ COMMITTED", "REPEATABLE READ")[i % 4 == 3]) as cursor:
            first = same(cursor, i % 5)
            assert cursor.execute(SAME_LINES, {"customer": i % 5}).fetchone()[0], f"lines of customer {i % 5}"
            rows = cursor.execute("SELECT * FROM api.order_lines_cached(%s)", [i % 5]).fetchall()
            assert rows and all(row[4][0] == tenant for row in rows), "rows of another tenant"
            assert first["customer"] == i % 5


def writer(number):
    for i in range(30):
        tenant = f"tenant-{(number + i) % 3}"
        # In one snapshot nobody else's order comes between.
        with request("authenticated", tenant, isolation="REPEATABLE READ") as cursor:
            before = same(cursor, i % 5)
            place(cursor, tenant, i % 5, Decimal("2.50"))
            after = same(cursor, i % 5)
            assert after["orders"] == before["orders"] + 1, (before, after)


with ThreadPoolExecutor(8) as executor:
    for work in [executor.submit(reader, n) for n in range(6)] + [executor.submit(writer, n) for n in range(2)]:
        work.result()

# A snapshot goes on seeing what it saw, whoever writes meanwhile; a savepoint that is rolled back leaves nothing.
other = psycopg.connect(user="authenticator", autocommit=True, prepare_threshold=None)
with request("service_role", read_only=True, isolation="REPEATABLE READ") as cursor:
    before = same(cursor, 4)
    with other.transaction():
        other.execute("SET LOCAL ROLE service_role")
        place(other.cursor(), "tenant-1", 4, Decimal(77))
    assert same(cursor, 4) == before
with request("service_role") as cursor:
    after = same(cursor, 4)
    assert Decimal(str(after["total"])) - Decimal(str(before["total"])) == 77, (before, after)
    try:
        with cursor.connection.transaction():
            place(cursor, "tenant-1", 4, Decimal(1))
            assert same(cursor, 4)["orders"] == after["orders"] + 1
            raise RuntimeError
    except RuntimeError:
        pass
    assert same(cursor, 4) == after

# COPY is a write like any other.
with request("service_role") as cursor:
    with cursor.copy("COPY api.orders (tenant, customer, amount) FROM STDIN") as copy:
        for _ in range(100):
            copy.write_row(("tenant-2", 4, Decimal("0.01")))
with request("service_role", read_only=True) as cursor:
    assert same(cursor, 4)["orders"] == after["orders"] + 100

# Cursors on the server, binary results.
with request("service_role", read_only=True) as cursor:
    with cursor.connection.cursor(name="lines") as lines:
        lines.itersize = 7
        lines.execute("SELECT * FROM api.order_lines_cached(%s)", [4])
        by_cursor = list(lines)
    with cursor.connection.cursor(binary=True) as lines:
        assert by_cursor == lines.execute("SELECT * FROM api.order_lines(%s)", [4]).fetchall()
    assert isinstance(by_cursor[0][1], Decimal) and by_cursor[0][4][1] == "customer 4"

# Statements of a pipeline see each other's writes.
with request("service_role") as cursor, cursor.connection.pipeline():
    first = cursor.connection.execute("SELECT api.customer_summary_cached(4) ->> 'orders'")
    place(cursor.connection.cursor(), "tenant-0", 4, Decimal(1))
    second = cursor.connection.execute("SELECT api.customer_summary_cached(4) ->> 'orders'")
    assert int(second.fetchone()[0]) == int(first.fetchone()[0]) + 1

# Values: many sessions remember one key, one of them asks; what is rolled back never was.
KEY = f"remembered-{sys.argv[1]}"


def remember(_):
    with request("service_role") as cursor:
        return cursor.execute("SELECT cache_remember(%s, 'SELECT count(*) FROM api.orders', '1 hour')", [KEY]).fetchone()[0]


with ThreadPoolExecutor(8) as executor:
    answers = set(executor.map(remember, range(24)))
assert len(answers) == 1, answers
with request("service_role") as cursor:
    cursor.execute("SELECT cache_set('setting', %s)", [Jsonb({"a": [1, None, "ö"]})])
    try:
        with cursor.connection.transaction():
            cursor.execute("SELECT cache_set('setting', '0'), cache_delete(%s)", [KEY])
            raise RuntimeError
    except RuntimeError:
        pass
with request("service_role", read_only=True) as cursor:
    assert cursor.execute("SELECT cache_get('setting'), cache_exists(%s)", [KEY]).fetchone() == ({"a": [1, None, "ö"]}, True)

# Errors keep their class, message, detail and hint.
try:
    with request("service_role") as cursor:
        cursor.execute("SELECT * FROM api.order_lines_cached(-1)")
    raise AssertionError("no error")
except errors.NoDataFound as error:
    assert error.diag.message_detail == "Customers are numbered from 0.", error
for attempt in ("SELECT api.customer_summary_cached(1)", "SELECT count(*) FROM query_cache", "SELECT clear_cache()", "SELECT * FROM cache_stats()", "SELECT cache_get('setting')"):
    try:
        with request("anon") as cursor:
            cursor.execute(attempt)
        raise AssertionError(f"anon may: {attempt}")
    except errors.InsufficientPrivilege:
        pass

print(json.dumps({"orders": after["orders"]}))
