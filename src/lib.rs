//! pg_query_cache: caches the results of SQL functions inside PostgreSQL, exact by snapshot.
//!
//! A call flows downwards once: `language → call → store, validity`; a write `dependencies → validity`; the worker
//! `table → store`. Start reading at `call`. Values of the application (`values`) are rows with the same memory in front of them;
//! `warming` makes calls for those who would make them.

#![deny(ffi_unwind_calls)]

#[cfg(not(panic = "unwind"))]
compile_error!("the fences between Rust and the server need panic = \"unwind\"");

mod access;
mod api;
mod attempt;
mod backend;
mod behalf;
mod call;
mod command;
mod compat;
mod configuration;
mod dependencies;
mod encoding;
mod error;
mod fault;
mod gate;
mod language;
mod moments;
mod naming;
mod numbers;
mod server;
mod settings;
mod store;
mod table;
mod transaction;
mod validity;
mod values;
mod verification;
mod warming;
mod worker;

use pgrx::prelude::*;

pg_module_magic!();

extension_sql_file!("../sql/language.sql", name = "language");
extension_sql_file!(
    "../sql/tables.sql",
    name = "tables",
    requires = ["language"]
);
extension_sql_file!(
    "../sql/caching.sql",
    name = "caching",
    requires = ["language", "tables"]
);
extension_sql_file!(
    "../sql/configuration.sql",
    name = "configuration",
    requires = ["language"]
);
extension_sql_file!(
    "../sql/domain.sql",
    name = "domain",
    requires = ["language"]
);
extension_sql_file!(
    "../sql/clearing.sql",
    name = "clearing",
    requires = ["caching", "domain"]
);
extension_sql_file!(
    "../sql/explaining.sql",
    name = "explaining",
    requires = ["caching"]
);
extension_sql_file!("../sql/upkeep.sql", name = "upkeep", requires = ["caching"]);
extension_sql_file!(
    "../sql/looking.sql",
    name = "looking",
    requires = ["upkeep"]
);
extension_sql_file!(
    "../sql/maintenance.sql",
    name = "maintenance",
    requires = ["upkeep"]
);
extension_sql_file!("../sql/values.sql", name = "values", requires = ["caching"]);
extension_sql_file!(
    "../sql/warming.sql",
    name = "warming",
    requires = ["caching"]
);
extension_sql_file!("../sql/rights.sql", name = "rights", finalize);

/// Called when the library is loaded: in the postmaster if it is in `shared_preload_libraries`, else in a session.
#[allow(unsafe_code)]
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    // SAFETY: variables that the server sets before it loads libraries.
    let (upgrading, preloading) = unsafe {
        (
            pg_sys::IsBinaryUpgrade,
            pg_sys::process_shared_preload_libraries_in_progress,
        )
    };
    if upgrading {
        return;
    }
    // Errors go to users: pgrx adds a backtrace to their DETAIL if the environment of the server asks for backtraces.
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    settings::define(preloading);
    language::function::watch_catalog();
    if !preloading {
        return;
    }
    gate::watch_catalog();
    dependencies::meaning::watch_catalog();
    dependencies::relations::watch_catalog();
    transaction::watch();
    dependencies::executor::install();
    dependencies::functions::install();
    dependencies::session::install();
    dependencies::planning::install();
    dependencies::touched::install();
    dependencies::utility::install();
    store::hooks::install();
    worker::register_launcher();
}
