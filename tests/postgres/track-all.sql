-- Every table that is created from now on is tracked, whoever creates it, by statement and by the values of up to two columns.

CREATE FUNCTION public.track_new_tables() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $function$
DECLARE
    new regclass;
BEGIN
    FOR new IN
        SELECT c.oid
        FROM pg_event_trigger_ddl_commands() AS d JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    LOOP
        PERFORM cache_track_table(new, ARRAY(
            SELECT a.attname
            FROM pg_attribute AS a
            WHERE a.attrelid = new AND a.attnum > 0 AND a.atttypid = ANY ('{int4,int8,text,numeric,name}'::regtype[])
            ORDER BY a.attnum LIMIT 2));
    END LOOP;
END
$function$;

CREATE EVENT TRIGGER track_new_tables ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') EXECUTE FUNCTION public.track_new_tables();
