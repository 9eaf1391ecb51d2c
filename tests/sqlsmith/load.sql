-- What goes on beside the random queries: writes, cached calls, and now and then an invalidation.
\set id random(1, 500)
\set label random(0, 6)
\set often random(1, 100)
UPDATE smith.t SET done = NOT done, label = 'label ' || :label WHERE id = :id;
SELECT count_of_cached(:id), parent_of_cached(:id), label_of_cached(:id), id_of_cached('label ' || :label), known_cached('label ' || :label),
       done_cached(:id), total_cached('2024-01-10'), row_of_cached(:id), part_count_cached('p1'), outer_of_cached(:id), secrets_cached();
SELECT count_of_cached(:id / 2), parent_of_cached(:id / 2), label_of_cached(:id / 2), age_of_cached(:id), tags_of_cached(:id);
\if :often < 5
UPDATE smith.parted SET label = 'p' || :label WHERE id = :id;
SELECT invalidate_cache(ARRAY['label of ' || :id]), cleanup_expired_cache(), flush_cache();
\endif
