// Calls cached functions as PostgREST does, with node-postgres: a transaction per request, READ ONLY for GET, the role and the claims
// set for the transaction, arguments by name out of one JSON parameter. Each answer is compared with the base function's in the same
// transaction. PGHOST, PGPORT and PGDATABASE say where; the first argument is `direct` or `pooled` (PgBouncer in transaction mode).

import assert from "node:assert/strict";
import pg from "pg";

const pooled = process.argv[2] === "pooled";
const pool = new pg.Pool({ user: "authenticator", max: 6 });

/** A request: who asks and how. */
const as = (role, claims, method = "POST") => ({ role, claims: JSON.stringify({ role, ...claims }), method });
const user = (tenant, method) => as("authenticated", { sub: `user-of-${tenant}`, tenant }, method);
const service = (method) => as("service_role", {}, method);

/** Arguments of the functions, as PostgREST knows them from the catalog. */
const types = { customer: "integer", minimum: "numeric", tenant: "text", amount: "numeric" };

/** Runs `work` in the transaction of a request. */
async function request({ role, claims, method }, work) {
  const client = await pool.connect();
  try {
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${method === "GET" ? "READ ONLY" : "READ WRITE"}`);
    await client.query(
      `SELECT set_config('search_path', '"api", "public"', true), set_config('role', $1, true),
              set_config('request.jwt.claims', $2, true), set_config('request.method', $3, true),
              set_config('request.headers', $4, true)`,
      [role, claims, method, JSON.stringify({ "x-request-id": String(Math.random()) })],
    );
    const answer = await work(client);
    await client.query("COMMIT");
    return answer;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** Calls functions with the same arguments by name, the way PostgREST writes it, all in one statement; their answers. */
async function call(client, functions, args = {}) {
  const names = Object.keys(args);
  const columns = names.map((n) => `"${n}" ${types[n]}`).join(", ");
  const given = names.map((n) => `"${n}" := pgrst_body."${n}"`).join(", ");
  const bodies = functions.map(
    (name) => `(SELECT coalesce(json_agg(_postgrest_t), '[]')::text FROM (
        SELECT pgrst_call.* FROM (SELECT $1::json AS json_data) pgrst_payload,
               LATERAL (SELECT * FROM json_to_record(pgrst_payload.json_data) AS _(${columns}) LIMIT 1) pgrst_body,
               LATERAL "api"."${name}"(${given}) pgrst_call) _postgrest_t)`,
  );
  // A named statement is prepared once per session; PgBouncer in transaction mode wants none.
  const prepared = pooled ? {} : { name: `${functions}(${names})` };
  const { rows } = await client.query({ text: `SELECT ${bodies}`, values: [JSON.stringify(args)], rowMode: "array", ...prepared });
  return rows[0];
}

/** The answer of a cached function, compared with the base function's in the same statement. */
async function compare(client, name, args) {
  const [cached, plain] = await call(client, [`${name}_cached`, name], args);
  assert.equal(cached, plain, `${name} ${JSON.stringify(args)}`);
  return JSON.parse(cached);
}
const same = (who, name, args) => request(who, (client) => compare(client, name, args));
const place = (client, tenant, customer, amount) => call(client, ["place_order"], { tenant, customer, amount });

// Readers and writers, many at a time.
let asked = 0;
let written = 0;
const tenants = ["tenant-0", "tenant-1", "tenant-2"];
await Promise.all(
  Array.from({ length: 12 }, async (_, n) => {
    for (let i = 0; i < 40; i++) {
      const [tenant, customer] = [tenants[(n + i) % 3], (n * 7 + i) % 5];
      if (i % 10 === 9) {
        await request(user(tenant), (client) => place(client, tenant, customer, 1.5 + n));
        written++;
      }
      const lines = await same(user(tenant, i % 2 ? "GET" : "POST"), "order_lines", { customer });
      assert.ok(lines.length > 0 && lines.every((line) => line.labels[0] === tenant), "rows of another tenant");
      await same(user(tenant, "GET"), "customer_summary", i % 2 ? { customer } : { customer, minimum: 10 });
      asked += 2;
    }
  }),
);

// What a request writes it sees at once; who comes later sees it too.
const before = await same(service("GET"), "customer_summary", { customer: 3 });
await request(service(), async (client) => {
  await place(client, "tenant-1", 3, 1000);
  const now = await compare(client, "customer_summary", { customer: 3 });
  assert.equal(now[0].pgrst_call.total - before[0].pgrst_call.total, 1000);
});
const after = await same(service("GET"), "customer_summary", { customer: 3 });
assert.equal(after[0].pgrst_call.total - before[0].pgrst_call.total, 1000);

// A request that fails leaves nothing.
await assert.rejects(
  request(service(), async (client) => {
    await place(client, "tenant-1", 3, 5);
    await call(client, ["order_lines_cached"], { customer: -1 });
  }),
  (error) => error.code === "P0002" && error.detail === "Customers are numbered from 0." && error.hint === "Look at the list.",
);
assert.deepEqual(await same(service("GET"), "customer_summary", { customer: 3 }), after);

// Without a token: not even by name. In a READ ONLY transaction nothing is written.
const code = (expected) => (error) => error.code === expected;
await assert.rejects(request(as("anon", {}, "GET"), (client) => call(client, ["customer_summary_cached"], { customer: 3 })), code("42501"));
await assert.rejects(request(service("GET"), (client) => place(client, "tenant-1", 1, 1)), code("25006"));

// Types arrive as from any function.
const row = await request(service("GET"), async (client) => (await client.query("SELECT * FROM api.order_lines_cached($1) LIMIT 1", [7])).rows[0]);
assert.equal(typeof row.amount, "string");
assert.ok(row.placed instanceof Date && Array.isArray(row.labels) && row.note["ä"] === 'ö"');

// Values: set by one request, got by others, counted by many; nothing of a request that fails; not for those who log in.
const value = (who, sql, values) => request(who, async (client) => (await client.query(sql, values)).rows[0].value);
const basket = { items: [{ id: 7, note: 'ö"' }], total: 12.5 };
await request(service(), (client) => client.query("SELECT cache_set($1, $2, ttl => '1 hour', tags => '{baskets}')", ["basket:7", basket]));
assert.deepEqual(await value(service("GET"), "SELECT cache_get($1) AS value", ["basket:7"]), basket);
const visits = "SELECT cache_increment($1) AS value";
const key = `visits-${process.argv[2]}`;
await Promise.all(Array.from({ length: 30 }, () => value(service(), visits, [key])));
await assert.rejects(request(service(), async (client) => {
  await client.query(visits, [key]);
  throw new Error("the request fails");
}), /the request fails/);
assert.equal(await value(service(), visits, [key]), "31");
assert.equal(await value(service(), "SELECT invalidate_cache('{baskets}') AS value", []), "1");
assert.equal(await value(service("GET"), "SELECT cache_get($1) AS value", ["basket:7"]), null);
await assert.rejects(value(user("tenant-0"), "SELECT cache_get($1) AS value", [key]), code("42501"));
await assert.rejects(value(service("GET"), visits, [key]), code("25006"));

await pool.end();
console.log(JSON.stringify({ asked, written }));
