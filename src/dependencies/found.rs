//! What a function will read, as far as its text says: the tables in the queries of a function in LANGUAGE sql.

#![allow(unsafe_code)]

use crate::command;
use crate::compat;
use crate::server;
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    /// The server's own: it tells its parser of the parameters of a function.
    fn sql_fn_parser_setup(state: *mut pg_sys::ParseState, parameters: *mut std::ffi::c_void);
}

/// `LANGUAGE sql` in `pg_language`.
const SQL: u32 = 14;

/// The tables that a function of LANGUAGE sql names, those under views included. Nothing for one in another language, or with settings
/// of its own, under which names may mean something else. An ERROR if the text cannot be read.
pub fn relations(function: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is pinned while it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(compat::PROC_CACHE, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return Vec::new();
        }
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let found = match row.prolang.to_u32() {
            SQL if attribute(tuple, pg_sys::Anum_pg_proc_proconfig).is_none() => {
                read_by(&queries(tuple))
            }
            _ => Vec::new(),
        };
        pg_sys::ReleaseSysCache(tuple);
        found
    }
}

unsafe fn attribute(tuple: pg_sys::HeapTuple, number: u32) -> Option<pg_sys::Datum> {
    let mut is_null = false;
    // SAFETY: a row of pg_proc.
    let value = unsafe {
        pg_sys::SysCacheGetAttr(
            compat::PROC_CACHE,
            tuple,
            number as pg_sys::AttrNumber,
            &mut is_null,
        )
    };
    (!is_null).then_some(value)
}

/// The queries of a function, with the server's rules applied, as the server itself gets them before it plans them.
unsafe fn queries(tuple: pg_sys::HeapTuple) -> Vec<*mut pg_sys::List> {
    // SAFETY: a row of pg_proc of a function in LANGUAGE sql; its text and trees are read as `init_sql_fcache` does.
    unsafe {
        if let Some(body) = attribute(tuple, pg_sys::Anum_pg_proc_prosqlbody) {
            let node = pg_sys::stringToNode(pg_sys::text_to_cstring(body.cast_mut_ptr())).cast();
            let list: *mut pg_sys::List = node;
            let statements = if (*node).type_ == pg_sys::NodeTag::T_List {
                pg_sys::list_nth(list, 0).cast()
            } else {
                command::list([node.cast()])
            };
            return compat::cells(statements)
                .iter()
                .map(|cell| {
                    pg_sys::AcquireRewriteLocks(cell.ptr_value.cast(), true, false);
                    pg_sys::pg_rewrite_query(cell.ptr_value.cast())
                })
                .collect();
        }
        let Some(source) = attribute(tuple, pg_sys::Anum_pg_proc_prosrc) else {
            return Vec::new();
        };
        let source = pg_sys::text_to_cstring(source.cast_mut_ptr());
        let parameters = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            server::prepare_sql_fn_parse_info(tuple, std::ptr::null_mut(), pg_sys::InvalidOid)
        });
        let statements = pg_sys::pg_parse_query(source);
        compat::cells(statements)
            .iter()
            .map(|cell| {
                pg_sys::pg_analyze_and_rewrite_withcb(
                    cell.ptr_value.cast(),
                    source,
                    Some(sql_fn_parser_setup),
                    parameters,
                    std::ptr::null_mut(),
                )
            })
            .collect()
    }
}

unsafe fn read_by(queries: &[*mut pg_sys::List]) -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    for queries in queries.iter().filter(|queries| !queries.is_null()) {
        let (mut relations, mut others) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut row_security = false;
        // SAFETY: a list of queries, and out parameters.
        let relations = unsafe {
            pg_sys::extract_query_dependencies(
                queries.cast(),
                &mut relations,
                &mut others,
                &mut row_security,
            );
            compat::oids(relations)
        };
        for relation in relations {
            if !found.contains(&relation) {
                found.push(relation);
            }
        }
    }
    found
}
