-- Configuration: what can be changed while the server runs, for all sessions of a database at once.

CREATE TABLE cache_configuration (
    name       text COLLATE "C"         NOT NULL,
    value      text COLLATE "C"         NOT NULL,
    changed_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    changed_by name                     NOT NULL DEFAULT CURRENT_USER,
    CONSTRAINT cache_configuration_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE cache_configuration IS
    'what of the configuration differs from the defaults; set_cache_config() writes it, cache_config() shows the whole';
COMMENT ON COLUMN cache_configuration.name IS 'what is configured, as cache_config() names it';
COMMENT ON COLUMN cache_configuration.value IS 'its value; one that cannot be read counts as the default';
COMMENT ON COLUMN cache_configuration.changed_at IS 'when it was changed last';
COMMENT ON COLUMN cache_configuration.changed_by IS 'the role that changed it last';

CREATE TABLE cache_configuration_log (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    changed_at   timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
    changed_by   name                     NOT NULL,
    session_role name                     NOT NULL,
    name         text COLLATE "C"         NOT NULL,
    old_value    text COLLATE "C",
    new_value    text COLLATE "C",
    CONSTRAINT cache_configuration_log_pkey PRIMARY KEY (id)
);
CREATE INDEX cache_configuration_log_changed_at_idx ON cache_configuration_log (changed_at);
ALTER TABLE cache_configuration_log ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE cache_configuration_log IS 'who changed what of the configuration by set_cache_config(); kept for 400 days';
COMMENT ON COLUMN cache_configuration_log.id IS 'number of the change';
COMMENT ON COLUMN cache_configuration_log.changed_at IS 'when the transaction that changed it began';
COMMENT ON COLUMN cache_configuration_log.changed_by IS 'the role that changed it';
COMMENT ON COLUMN cache_configuration_log.session_role IS 'the role that had logged in';
COMMENT ON COLUMN cache_configuration_log.name IS 'what was changed, as cache_config() names it';
COMMENT ON COLUMN cache_configuration_log.old_value IS 'the value before; NULL: the default';
COMMENT ON COLUMN cache_configuration_log.new_value IS 'the value after; NULL: the default';

-- The configuration is all that a dump takes along: history and statistics are the server's that wrote them. It has no row-level
-- security, under which pg_dump refuses to work for all but superusers; rights.sql says who may read it.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.cache_configuration'::pg_catalog.regclass, ''::pg_catalog.text);

CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_configuration
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_configuration ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_configuration IS 'what another server''s cache has written stays there';
CREATE TRIGGER cache_stays_here BEFORE INSERT OR UPDATE OR DELETE ON cache_configuration_log
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_stays_here();
ALTER TABLE cache_configuration_log ENABLE REPLICA TRIGGER cache_stays_here;
COMMENT ON TRIGGER cache_stays_here ON cache_configuration_log IS 'what another server''s cache has written stays there';

-- Whoever writes the table, a restore for example: all sessions learn of it at commit.
CREATE FUNCTION query_cache_internal.cache_configuration_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'cache_configuration_changed';
COMMENT ON FUNCTION query_cache_internal.cache_configuration_changed() IS 'trigger function that tells all sessions of a change of cache_configuration';
CREATE TRIGGER cache_configuration_changed AFTER INSERT OR UPDATE OR DELETE ON cache_configuration
    FOR EACH ROW EXECUTE FUNCTION query_cache_internal.cache_configuration_changed();
CREATE TRIGGER cache_configuration_emptied AFTER TRUNCATE ON cache_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION query_cache_internal.cache_configuration_changed();
COMMENT ON TRIGGER cache_configuration_changed ON cache_configuration IS 'all sessions learn of a change at commit';
COMMENT ON TRIGGER cache_configuration_emptied ON cache_configuration IS 'all sessions learn of a change at commit';
ALTER TABLE cache_configuration ENABLE ALWAYS TRIGGER cache_configuration_changed;
ALTER TABLE cache_configuration ENABLE ALWAYS TRIGGER cache_configuration_emptied;

-- The role that calls it need not have any right on the tables: the function
-- does one thing, and who may call it is said in rights.sql.
CREATE FUNCTION set_cache_config(name text, value text) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'set_cache_config_wrapper';
COMMENT ON FUNCTION set_cache_config(text, text) IS
    'changes the configuration of this database, when the transaction commits for all sessions; NULL: back to the default. Returns the value';

CREATE FUNCTION cache_config(
    OUT name text, OUT value text, OUT default_value text, OUT kind text, OUT source text,
    OUT changed_at timestamp with time zone, OUT changed_by text, OUT description text)
RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT ROWS 50 AS 'MODULE_PATHNAME', 'cache_config_wrapper';
COMMENT ON FUNCTION cache_config() IS
    'the configuration of this database: what set_cache_config() changes, and the settings of the server with how to change them';
