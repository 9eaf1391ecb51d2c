-- Explaining: what a call would do and why.

-- VOLATILE, so that it looks through the snapshot that a call in its place would have.
CREATE FUNCTION cache_explain(
    call text,
    OUT function regprocedure, OUT outcome text, OUT reason text, OUT detail text, OUT hint text,
    OUT scope text, OUT session jsonb, OUT tags text[], OUT tier text,
    OUT computed_at timestamp with time zone, OUT age interval, OUT max_age interval, OUT ttl interval, OUT expires_in interval,
    OUT size_bytes bigint, OUT hits bigint, OUT cost_ms double precision, OUT invalidated_by jsonb)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', 'cache_explain_wrapper';
COMMENT ON FUNCTION cache_explain(text) IS
    'what a call of a cached function, given as text, would do now (hit, miss, bypass) and why; evaluates its arguments, computes nothing';

CREATE FUNCTION cache_reasons(OUT code text, OUT kind text, OUT meaning text, OUT remedy text)
RETURNS SETOF record
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 30 AS 'MODULE_PATHNAME', 'cache_reasons_wrapper';
COMMENT ON FUNCTION cache_reasons() IS
    'the codes of outcomes and reasons that cache_explain() and cache_function_stats show: what each means and what to do about it';
