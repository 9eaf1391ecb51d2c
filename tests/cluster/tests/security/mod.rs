//! Who may do what, and what becomes of those who try more. `docs/security.md` is the text to it.
//!
//! * `access`: each object of the extension, each kind of role: what `cache_access_list()` says is what the catalog says
//! * `rows`: row-level security of the tables, asked as each kind of role
//! * `hostile`: a role that maintains the cache and wants more: names that hide others, keys that are made up, values of others
//! * `lent`: a role whose functions a superuser runs, and tables in the place of the extension's
//! * `planted`: functions and operators beside ours, before and after CREATE EXTENSION and ALTER EXTENSION UPDATE
//! * `bases`: what a cached function calls, whatever has its name by now
//! * `bound`: what is shipped in SQL means the same under every search path
//! * `names`: names and texts as nobody should give them
//! * `told`: what messages, the log and `cache_explain` tell of others

mod access;
mod bases;
mod bound;
mod hostile;
mod lent;
mod names;
mod planted;
mod rows;
mod told;

/// Supabase's roles, and rights on new objects as Supabase gives them.
const SUPABASE: &str = "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;";

/// The extension, and roles of an application that have been given rights on it.
const ROLES: &str = "CREATE ROLE nobody; CREATE ROLE watcher; GRANT pg_monitor TO watcher; CREATE ROLE app; CREATE ROLE keeper;
    CREATE EXTENSION pg_query_cache; SELECT grant_cache_access('app', 'keeper');";
