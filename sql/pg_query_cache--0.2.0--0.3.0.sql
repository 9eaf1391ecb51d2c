-- Updates 0.2.0 to 0.3.0. What is new is here as it is in the files of the same
-- names; a test compares the outcome with a new installation, object by object.

\echo Use "ALTER EXTENSION pg_query_cache UPDATE" to load this file. \quit
