-- Settings and identities. Not debug5: the server then sends a message within the end of a subtransaction, where a cancelled statement leaves that
-- half done (PostgreSQL 15.20 by itself).
SET <setting> = <value>
SET LOCAL <setting> = <value>
RESET <setting>
RESET ALL
SET search_path = <schema>, pg_catalog, public
SET search_path = pg_temp, <schema>, pg_catalog
SET search_path = ''
SET standard_conforming_strings = off
SET backslash_quote = on
SET row_security = off
SET role = <role>
SET ROLE <role>
RESET ROLE
SET SESSION AUTHORIZATION <role>
RESET SESSION AUTHORIZATION
SET app.tenant = 'tenant 1'
SET LOCAL app.tenant = 'tenant 2'
RESET app.tenant
SET request.jwt.claims = '{"sub": "trudy"}'
SET session_replication_role = replica
SET default_transaction_read_only = on
SET default_transaction_isolation = 'serializable'
SET statement_timeout = <int>
SET lock_timeout = '50ms'
SET work_mem = '64kB'
SET plan_cache_mode = force_generic_plan
SET force_parallel_mode = on
SET max_parallel_workers_per_gather = 2
SET parallel_setup_cost = 0
SET pg_query_cache.enabled = off
SET pg_query_cache.fill_wait = <int>
SET pg_query_cache.max_entry_size = '1kB'
SET pg_query_cache.depends_on = <json>
SET pg_query_cache.verify_sample_rate = 1
SET client_min_messages = debug4
SET log_statement = 'all'
SET client_encoding = 'LATIN1'
SET client_encoding = 'UTF8'
SET DateStyle = 'German'
SET TimeZone = 'Asia/Tokyo'
SET max_stack_depth = '100kB'
SET temp_buffers = '800kB'
SET jit = on
SET jit_above_cost = 0
LOAD 'pg_query_cache'
LOAD '$libdir/plpgsql'
