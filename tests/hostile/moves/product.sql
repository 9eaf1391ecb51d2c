-- The extension's own functions, views and tables.
SELECT <call>
SELECT * FROM <call>
SELECT <call>, <call>
SELECT public.cache_track_table('<table>')
SELECT public.cache_track_table('<table>', ARRAY['a', '<odd>']::name[])
SELECT public.cache_track_table('<own>', (SELECT array_agg(attname) FROM pg_attribute WHERE attrelid = '<own>'::regclass AND attnum > 0))
SELECT public.cache_untrack_table('<table>')
SELECT * FROM public.cache_explain('<groundcall>')
SELECT * FROM public.cached_functions
SELECT * FROM public.query_cache
SELECT * FROM public.cache_function_stats
SELECT * FROM public.cache_warm_jobs
SELECT * FROM public.cache_progress
SELECT * FROM public.cache_values
UPDATE public.cache_values SET value = '1'
UPDATE public.query_cache SET value = ''
SELECT public.cache_set(<text>, <json>, <interval>)
SELECT public.cache_get(<text>)
SELECT public.cache_increment(<text>, <int>)
SELECT public.cache_remember(<text>, 'SELECT <groundcall>')
SELECT public.cache_remember(<text>, 'SELECT public.cache_remember(''x'', ''SELECT 1'')')
SELECT public.warm_cache('<cached>', '{"n": 1}')
SELECT public.warm_cache_many('<cached>', '[[1], [2], [3]]')
SELECT public.warm_cache_in_background('<cached>', '[[1], [2], [3]]')
SELECT public.invalidate_cache(ARRAY[<text>])
SELECT public.clear_cache()
SELECT public.flush_cache()
SELECT public.cleanup_expired_cache()
SELECT public.set_cache_config('max_entries', '<int>')
SELECT public.set_cache_config(<text>, <text>)
SELECT public.emergency_clear_cache('EMERGENCY_CLEAR_CONFIRMED')
SELECT public.grant_cache_access(<text>, <text>)
SELECT public.cache_function_resume('<cached>')
SELECT * FROM public.analyze_cache_health()
SELECT public.cache_metrics()
