//! A call of a cached function, written as text: parsed as one expression, its arguments evaluated as in any SELECT of the caller.
//!
//! The text never becomes a statement: the parser is told to expect an expression (as PL/pgSQL tells it), what it brings back has to be
//! one call and nothing else, and only the arguments are planned and run, with the caller's rights. The call itself is then made by
//! whoever asked for it, through the function manager, as the executor would.

#![allow(unsafe_code)]

use super::signature::{self, Signature};
use crate::compat;
use crate::dependencies::tokens::{Token, Tokens};
use crate::error::Error;
use crate::server;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A call with its arguments evaluated.
pub struct Expression {
    /// The cached function.
    pub function: pg_sys::Oid,
    fcinfo: pg_sys::FunctionCallInfo,
}

/// The call in a text that is a statement, or ends like one, as it ought to be given; nothing in it is understood. `None` for a text that
/// may be a call.
fn within_statement(text: &str) -> Option<String> {
    const WORDS: [&str; 8] = [
        "select", "table", "values", "with", "call", "explain", "execute", "perform",
    ];
    let mut tokens = Tokens::of(text.as_bytes());
    let first = tokens.next()?;
    let begins = WORDS.iter().any(|word| first.is(word));
    // A function may have such a name.
    let begins = begins && tokens.next() != Some(Token::Sign(b'('));
    let ends = Tokens::of(text.as_bytes()).last() == Some(Token::Sign(b';'));
    if !begins && !ends {
        return None;
    }
    let bare = text.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let call = match begins {
        true => bare
            .trim_start()
            .split_once(char::is_whitespace)
            .filter(|_| first.is("select") || first.is("perform"))
            .map_or("", |(_, rest)| rest.trim_start()),
        false => bare.trim_start(),
    };
    let is_one = call.ends_with(')')
        && !Tokens::of(call.as_bytes()).any(|token| {
            token == Token::Sign(b';') || ["select", "from"].iter().any(|word| token.is(word))
        });
    Some(if is_one {
        call.to_owned()
    } else {
        String::new()
    })
}

/// The shape of a text that is no call.
fn no_call(detail: &str) -> Error {
    Error::NoCall(detail.into())
}

impl Expression {
    /// Reads a call and evaluates its arguments.
    ///
    /// # Safety
    /// Inside a query: there is an active snapshot.
    pub unsafe fn read(text: &str) -> Result<Self, Error> {
        if let Some(call) = within_statement(text) {
            return Err(Error::Statement(call));
        }
        let source =
            crate::encoding::c_string(text).map_err(|_| no_call("The text holds a zero byte."))?;
        // SAFETY: nodes of the parser and the planner live in the memory context of the calling function.
        unsafe {
            let tree = parse(&source)?;
            let query = analyze(tree, &source)?;
            let entry = first((*query).targetList).cast::<pg_sys::TargetEntry>();
            let call = (*entry).expr.cast::<pg_sys::FuncExpr>();
            if (*call).xpr.type_ != pg_sys::NodeTag::T_FuncExpr {
                return Err(no_call("It is not a call of a function."));
            }
            check_function((*call).funcid)?;
            expand(call)?;
            let arguments = nodes((*call).args);
            if arguments
                .iter()
                .any(|argument| pg_sys::expression_returns_set(*argument))
            {
                return Err(no_call("An argument returns a set."));
            }
            let fcinfo = frame(call, arguments.len());
            evaluate(query, &arguments, &source, fcinfo);
            Ok(Expression {
                function: (*call).funcid,
                fcinfo,
            })
        }
    }

    /// Makes the call with `context`; its result is of no interest.
    ///
    /// # Safety
    /// `context` is a node that the function understands, and lives as long as the call.
    pub unsafe fn call(self, context: *mut pg_sys::Node) {
        // SAFETY: the frame is complete; the caller's context. The server's guard turns an ERROR into a panic of ours.
        unsafe {
            (*self.fcinfo).context = context;
            if let Some(function) = (*(*self.fcinfo).flinfo).fn_addr {
                #[allow(
                    ffi_unwind_calls,
                    reason = "the handler of cached functions, whose fence lets no panic out"
                )]
                pg_sys::ffi::pg_guard_ffi_boundary(|| function(self.fcinfo));
            }
        }
    }
}

/// The elements of a list of nodes.
unsafe fn nodes(list: *mut pg_sys::List) -> Vec<*mut pg_sys::Node> {
    // SAFETY: a list of pointers, or NULL for an empty one.
    unsafe {
        if list.is_null() {
            return Vec::new();
        }
        let cells = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        cells.iter().map(|cell| cell.ptr_value.cast()).collect()
    }
}

unsafe fn first(list: *mut pg_sys::List) -> *mut pg_sys::Node {
    // SAFETY: the caller has made sure of the first element.
    unsafe { (*(*list).elements).ptr_value.cast() }
}

/// The statement that the parser makes of an expression, if that is a plain call.
unsafe fn parse(source: &CStr) -> Result<*mut pg_sys::RawStmt, Error> {
    const ONE: &str = "It is not one expression.";
    // SAFETY: the parser's tree; tags tell the structs.
    unsafe {
        let trees = nodes(pg_sys::raw_parser(
            source.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR,
        ));
        let [tree] = trees.as_slice() else {
            return Err(no_call(ONE));
        };
        let raw = tree.cast::<pg_sys::RawStmt>();
        if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(no_call(ONE));
        }
        let select = &*(*raw).stmt.cast::<pg_sys::SelectStmt>();
        let targets = nodes(select.targetList);
        let bare = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ]
        .iter()
        .all(|clause| clause.is_null())
            && select.whereClause.is_null()
            && select.havingClause.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.intoClause.is_null()
            && select.withClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE;
        let ([target], true) = (targets.as_slice(), bare) else {
            return Err(no_call(ONE));
        };
        let target = &*target.cast::<pg_sys::ResTarget>();
        let call = target.val.cast::<pg_sys::FuncCall>();
        if !target.name.is_null()
            || !target.indirection.is_null()
            || (*call).type_ != pg_sys::NodeTag::T_FuncCall
        {
            return Err(no_call("It is not a call of a function and nothing else."));
        }
        if !(*call).over.is_null() || !(*call).agg_filter.is_null() || !(*call).agg_order.is_null()
        {
            return Err(no_call(
                "It has clauses of an aggregate or a window function.",
            ));
        }
        Ok(raw)
    }
}

/// The analyzed and rewritten query of a statement.
unsafe fn analyze(tree: *mut pg_sys::RawStmt, source: &CStr) -> Result<*mut pg_sys::Query, Error> {
    // SAFETY: the parser's tree; no parameters.
    unsafe {
        let queries = nodes(pg_sys::pg_analyze_and_rewrite_fixedparams(
            tree,
            source.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        ));
        match queries.as_slice() {
            [query] => Ok(query.cast()),
            _ => Err(no_call("It is not one expression.")),
        }
    }
}

/// The function is a cached one, and the caller may call it.
unsafe fn check_function(function: pg_sys::Oid) -> Result<(), Error> {
    // SAFETY: catalog lookups; aclcheck_error raises.
    unsafe {
        let language = pg_sys::get_language_oid(c"cached".as_ptr(), true);
        if Signature::of(function).is_none_or(|own| own.language != language) {
            return Err(signature::not_cached(function));
        }
        let result =
            pg_sys::pg_proc_aclcheck(function, server::GetUserId(), pg_sys::ACL_EXECUTE as _);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(
                result,
                pg_sys::ObjectType::OBJECT_FUNCTION,
                pg_sys::get_func_name(function),
            );
        }
        Ok(())
    }
}

/// Puts named arguments into their places and adds defaults, as the planner does.
unsafe fn expand(call: *mut pg_sys::FuncExpr) -> Result<(), Error> {
    // SAFETY: the tuple is pinned while it is used.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(compat::PROC_CACHE as _, pg_sys::Datum::from((*call).funcid));
        if tuple.is_null() {
            return Err(no_call("The function is gone."));
        }
        (*call).args =
            pg_sys::expand_function_arguments((*call).args, false, (*call).funcresulttype, tuple);
        pg_sys::ReleaseSysCache(tuple);
        Ok(())
    }
}

/// Room for the call, as the executor makes it.
unsafe fn frame(call: *mut pg_sys::FuncExpr, arguments: usize) -> pg_sys::FunctionCallInfo {
    // SAFETY: plain memory of the present context, filled as InitFunctionCallInfoData does.
    unsafe {
        let finfo = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info((*call).funcid, finfo);
        (*finfo).fn_expr = call.cast();
        let bytes = size_of::<pg_sys::FunctionCallInfoBaseData>()
            + arguments * size_of::<pg_sys::NullableDatum>();
        let fcinfo = pg_sys::palloc0(bytes).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*fcinfo).flinfo = finfo;
        (*fcinfo).fncollation = (*call).inputcollid;
        (*fcinfo).nargs = arguments as i16;
        fcinfo
    }
}

/// Runs a query whose columns are the arguments, in the place of the one that calls, and puts its only row into `fcinfo`.
unsafe fn evaluate(
    query: *mut pg_sys::Query,
    arguments: &[*mut pg_sys::Node],
    source: &CStr,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    if arguments.is_empty() {
        return;
    }
    // SAFETY: the query is ours alone; what it is run with is made and freed here, or with the transaction after an ERROR.
    unsafe {
        let mut columns = std::ptr::null_mut();
        for (i, argument) in arguments.iter().enumerate() {
            let entry = pg_sys::makeTargetEntry(
                argument.cast(),
                i as i16 + 1,
                c"argument".as_ptr().cast_mut(),
                false,
            );
            columns = pg_sys::lappend(columns, entry.cast());
        }
        (*query).targetList = columns;
        (*query).hasTargetSRFs = false;
        let plan = pg_sys::pg_plan_query(query, source.as_ptr(), 0, std::ptr::null_mut());
        let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        server::SetTuplestoreDestReceiverParams(
            receiver,
            store,
            pg_sys::CurrentMemoryContext,
            true,
            std::ptr::null_mut(),
            std::ptr::null(),
        );
        let run = pg_sys::CreateQueryDesc(
            plan,
            source.as_ptr(),
            server::GetActiveSnapshot(),
            std::ptr::null_mut(),
            receiver,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(run, 0);
        pg_sys::ExecutorRun(run, pg_sys::ScanDirection::ForwardScanDirection, 1, true);
        pg_sys::ExecutorFinish(run);
        let description = pg_sys::CreateTupleDescCopy((*run).tupDesc);
        pg_sys::ExecutorEnd(run);
        pg_sys::FreeQueryDesc(run);
        let slot =
            pg_sys::MakeSingleTupleTableSlot(description, &raw const pg_sys::TTSOpsMinimalTuple);
        if pg_sys::tuplestore_gettupleslot(store, true, true, slot) {
            pg_sys::slot_getsomeattrs_int(slot, arguments.len() as i32);
            for i in 0..arguments.len() {
                let argument = &mut *(*fcinfo).args.as_mut_ptr().add(i);
                argument.value = *(*slot).tts_values.add(i);
                argument.isnull = *(*slot).tts_isnull.add(i);
            }
        }
        // The values lie in the slot, whose memory is that of the calling function.
        pg_sys::tuplestore_end(store);
    }
}
