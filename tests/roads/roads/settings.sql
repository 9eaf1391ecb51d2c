-- Any setting of the server, before, between and behind calls of functions that notice many of them, or show one.
-- world
CREATE TABLE one.moments (k integer, at timestamptz, for_ interval, n double precision, b bytea, x text, m money, d date, r numrange)
INSERT INTO one.moments VALUES (0, '2024-02-29 12:00+00', '1 mon 3 days', 1.0::float8 / 3, '\x5c00ff', '04/05/06', 12.5, '2024-03-04', '[1,2)'), (1, '2024-07-01 00:30+00', '-1 days', 1e20, 'a\\b', '12:00 EST', -3, '2024-12-31', 'empty'), (2, 'infinity', '00:00:01', 'NaN', '', '1 2', 0, 'epoch', '(,)')
CREATE FUNCTION one.written(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg(concat_ws(' ', at::text, for_::text, n::text, b::text, m::text, d::text, to_char(at, 'TMDay TMMonth TZ'), row_to_json(o)::text, to_char(n, 'L9G999D99'), o::text, quote_literal(x), extract(hour FROM at)::text, date_trunc('day', at)::text, format('%L', b), xmlforest(b, at)::text), ';' ORDER BY k) FROM one.moments AS o WHERE k <= n); END$$
CREATE FUNCTION one.written_one(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (SELECT string_agg({at::text|for_::text|n::text|b::text|m::text|d::text|to_char(at, 'TMDay TMMonth TZ')|row_to_json(o)::text|to_char(n, 'L9G999D99')|o::text|quote_literal(x)|extract(hour FROM at)::text|date_trunc('day', at)::text|format('%L', b)|xmlforest(b, at)::text}, ';' ORDER BY k) FROM one.moments AS o WHERE k <= n); END$$
CREATE FUNCTION one.read(n integer) RETURNS text LANGUAGE sql STABLE AS $$SELECT {(x::timestamptz)::text|x::date::text|('2024-01-01 12:00 EST'::text)::timestamptz::text|(concat('2024-01-01 12:00 ', 'IST')::timestamptz)::text|(d::timestamptz)::text|string_to_array('a,NULL', ',')::text|(x::interval)::text|to_tsvector(x)::text|(at::date)::text|make_timestamptz(2024, 7, 1, 1, 2, 3)::text|(x < 'é')::text|upper(x)|xmlparse(CONTENT x)::text|(n::numeric)::text|(NULL = x)::text|(concat(chr(123), 'a,NULL', chr(125))::text[])::text} FROM one.moments WHERE k = n$$
CREATE FUNCTION one.shown() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('<setting>')$$
CREATE FUNCTION one.shown_too(n integer) RETURNS text LANGUAGE plpgsql STABLE AS $$DECLARE x text; BEGIN EXECUTE {'SELECT ''a\\b'''|'SHOW <setting>'|'SELECT current_setting(''<setting>'')'|'SELECT setting FROM pg_settings WHERE name = ''<setting>'''} INTO x; RETURN x; END$$
@SELECT cache_function('one.written(integer)')
@SELECT cache_function('one.written_one(integer)')
@SELECT cache_function('one.read(integer)')
@SELECT cache_function('one.shown()')
@SELECT cache_function('one.shown_too(integer)')
@SELECT cache_track_table('one.moments')
-- calls
one.written{}(<k>)
one.written{}(<k>)
one.written_one{}(2)
one.read{}(<k>)
one.read{}(<k>)
one.shown{}()
one.shown_too{}(1)
-- moves
<set>
<set>
<set>
<set>
<set>
RESET ALL
SET DateStyle = {German|ISO, MDY|SQL, DMY|Postgres, YMD}
SET TimeZone = '{UTC|Asia/Kolkata|America/New_York|Europe/Berlin}'
SET timezone_abbreviations = {'Default'|'India'|'Australia'}
SET {IntervalStyle = iso_8601|extra_float_digits = -3|bytea_output = escape|standard_conforming_strings = off|transform_null_equals = on|xmloption = document|xmlbinary = hex|default_text_search_config = german|array_nulls = off}
SELECT set_config('<setting>', '1', {true|false})
UPDATE one.moments SET x = {'12:00 IST'|'05/04/03'|'running'} WHERE k = <k>
ALTER FUNCTION one.{written(integer)|shown_too(integer)} SET DateStyle = {German|ISO}
