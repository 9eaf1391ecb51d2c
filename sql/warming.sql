-- Warming: calls are made before anybody waits for them. With the caller's own rights and settings, because these are part of whose
-- result it is: no SECURITY DEFINER and no SET here.

CREATE FUNCTION warm_cache(function regprocedure, arguments jsonb DEFAULT '{}') RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'warm_cache_wrapper';
COMMENT ON FUNCTION warm_cache(regprocedure, jsonb) IS
    'calls a cached function with arguments in JSON, for its later callers; returns whether the result is in the cache';

CREATE FUNCTION warm_cache_many(
    function regprocedure, calls jsonb,
    OUT arguments jsonb, OUT stored boolean, OUT reason text, OUT cost_ms double precision)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'warm_cache_many_wrapper';
COMMENT ON FUNCTION warm_cache_many(regprocedure, jsonb) IS
    'calls a cached function once for each element of a JSON array of arguments; a call that fails is reported in its row';

-- Jobs: calls that a background process makes later.
CREATE TABLE cache_warm_jobs (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    state        text COLLATE "C"         NOT NULL DEFAULT 'queued',
    function     oid                      NOT NULL,
    name         text                     NOT NULL,
    role         oid                      NOT NULL,
    session_role oid                      NOT NULL,
    total        bigint                   NOT NULL,
    done         bigint                   NOT NULL DEFAULT 0,
    stored       bigint                   NOT NULL DEFAULT 0,
    failed       bigint                   NOT NULL DEFAULT 0,
    error        text,
    queued_at    timestamp with time zone NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at   timestamp with time zone,
    finished_at  timestamp with time zone,
    pid          integer,
    database     oid                      NOT NULL,
    calls        jsonb                    NOT NULL,
    settings     jsonb,
    rests_on     bytea,
    used_us      bigint                   NOT NULL DEFAULT 0,
    cut_short    integer                  NOT NULL DEFAULT 0,
    CONSTRAINT cache_warm_jobs_pkey PRIMARY KEY (id),
    CONSTRAINT cache_warm_jobs_state_check CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['queued'::pg_catalog.text, 'running'::pg_catalog.text,
                                                   'done'::pg_catalog.text, 'failed'::pg_catalog.text]))
);
CREATE INDEX cache_warm_jobs_open_idx ON cache_warm_jobs (id) WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['queued'::pg_catalog.text, 'running'::pg_catalog.text]);
ALTER TABLE cache_warm_jobs ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_warm_jobs
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_warm_jobs ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_warm_jobs IS 'what another server''s cache has written stays there';
COMMENT ON TABLE cache_warm_jobs IS
    'warming in the background: jobs that wait, run or are over; kept for 7 days; each role sees its own';
COMMENT ON COLUMN cache_warm_jobs.id IS 'number, as warm_cache_in_background() returned it';
COMMENT ON COLUMN cache_warm_jobs.state IS 'queued, running, done (all calls were made, whatever came of each) or failed';
COMMENT ON COLUMN cache_warm_jobs.function IS 'oid of the cached function';
COMMENT ON COLUMN cache_warm_jobs.name IS 'its name, with its schema';
COMMENT ON COLUMN cache_warm_jobs.role IS 'oid of the role that asked, for which the calls are made';
COMMENT ON COLUMN cache_warm_jobs.session_role IS 'oid of the role of its session, as which the background process connects';
COMMENT ON COLUMN cache_warm_jobs.total IS 'calls to be made';
COMMENT ON COLUMN cache_warm_jobs.done IS 'calls made in the turns that are over; while the job runs see cache_progress';
COMMENT ON COLUMN cache_warm_jobs.stored IS 'of these, whose result was in the cache then';
COMMENT ON COLUMN cache_warm_jobs.failed IS 'of these, that ended with an error';
COMMENT ON COLUMN cache_warm_jobs.error IS 'why the job failed; of a job that is done, the first call that failed or was not stored';
COMMENT ON COLUMN cache_warm_jobs.queued_at IS 'when it was queued';
COMMENT ON COLUMN cache_warm_jobs.started_at IS 'when its last turn was started';
COMMENT ON COLUMN cache_warm_jobs.finished_at IS 'when it was over';
COMMENT ON COLUMN cache_warm_jobs.pid IS 'the background process';
COMMENT ON COLUMN cache_warm_jobs.database IS 'oid of the database; jobs that came with a template database are not run';
COMMENT ON COLUMN cache_warm_jobs.calls IS 'the arguments of each call, until the job is over';
COMMENT ON COLUMN cache_warm_jobs.settings IS 'settings that the session was given, until the job is over';
COMMENT ON COLUMN cache_warm_jobs.rests_on IS 'digest of functions, roles and their settings when the job was queued; it is not run if they have changed';
COMMENT ON COLUMN cache_warm_jobs.used_us IS 'microseconds that its turns have taken so far; pg_query_cache.warm_job_timeout is for all of them together';
COMMENT ON COLUMN cache_warm_jobs.cut_short IS 'how often the next call was begun and cancelled because others waited; see pg_query_cache.warm_call_turn';

CREATE FUNCTION warm_cache_in_background(function regprocedure, calls jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'warm_cache_in_background_wrapper';
COMMENT ON FUNCTION warm_cache_in_background(regprocedure, jsonb) IS
    'queues calls of a cached function, to be made by a background process for the caller''s role and settings once the transaction has committed; returns the number of the job';

CREATE FUNCTION query_cache_internal.cache_progress_places(
    OUT pid integer, OUT role oid, OUT function oid, OUT command text, OUT phase text, OUT job bigint,
    OUT total bigint, OUT done bigint, OUT stored bigint, OUT failed bigint, OUT started_at timestamp with time zone)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', 'cache_progress_places_wrapper';
COMMENT ON FUNCTION query_cache_internal.cache_progress_places() IS 'who is warming in this database, as far as the caller may see it, as the view cache_progress shows it';

CREATE VIEW cache_progress AS
SELECT p.pid,
       pg_catalog.current_database()                    AS database,
       pg_catalog.pg_get_userbyid(p.role)               AS role,
       p.function::pg_catalog.regprocedure              AS function,
       p.command, p.phase, p.job, p.total, p.done, p.stored, p.failed, p.started_at
FROM query_cache_internal.cache_progress_places() AS p;
COMMENT ON VIEW cache_progress IS
    'who is warming or refreshing the cache of this database right now, and how far it is; of other roles for members of pg_monitor';
COMMENT ON COLUMN cache_progress.pid IS 'process';
COMMENT ON COLUMN cache_progress.database IS 'its database';
COMMENT ON COLUMN cache_progress.role IS 'for which role';
COMMENT ON COLUMN cache_progress.function IS 'of which cached function';
COMMENT ON COLUMN cache_progress.command IS 'warming, background warming or refreshing';
COMMENT ON COLUMN cache_progress.phase IS 'preparing, computing or finishing';
COMMENT ON COLUMN cache_progress.job IS 'number in cache_warm_jobs, of a background job';
COMMENT ON COLUMN cache_progress.total IS 'calls to be made';
COMMENT ON COLUMN cache_progress.done IS 'calls made';
COMMENT ON COLUMN cache_progress.stored IS 'of these, whose result is in the cache';
COMMENT ON COLUMN cache_progress.failed IS 'of these, that ended with an error';
COMMENT ON COLUMN cache_progress.started_at IS 'when it began';
