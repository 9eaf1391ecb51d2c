-- refused(command): the error that a command raises, with all the fields that a client gets; without the place in the server's
-- sources, which differs between versions.
CREATE FUNCTION refused(command text) RETURNS SETOF text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    state text; message text; detail text; hint text; context text;
    schema_name text; table_name text; column_name text; type_name text; constraint_name text; named text;
BEGIN
    EXECUTE command;
    RETURN NEXT 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT, schema_name = SCHEMA_NAME, table_name = TABLE_NAME,
        column_name = COLUMN_NAME, type_name = PG_DATATYPE_NAME, constraint_name = CONSTRAINT_NAME;
    RETURN NEXT state || ': ' || message;
    IF detail <> '' THEN RETURN NEXT 'DETAIL: ' || detail; END IF;
    IF hint <> '' THEN RETURN NEXT 'HINT: ' || hint; END IF;
    named := concat_ws(', ', 'schema ' || nullif(schema_name, ''), 'table ' || nullif(table_name, ''),
                       'column ' || nullif(column_name, ''), 'type ' || nullif(type_name, ''),
                       'constraint ' || nullif(constraint_name, ''));
    IF named <> '' THEN RETURN NEXT 'NAMES: ' || named; END IF;
    -- Without the lines that are about this function and its callers.
    context := regexp_replace(context, '\n?(SQL statement "[^\n]*\n)?PL/pgSQL function refused.*', '');
    IF context <> '' THEN RETURN NEXT 'CONTEXT: ' || context; END IF;
END $$;
