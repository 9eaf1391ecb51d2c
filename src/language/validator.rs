//! The validator: checks a cached function at CREATE FUNCTION and binds it to its base function.

#![allow(unsafe_code)]

use super::binding;
use super::body::{Binding, Body};
use super::likeness;
use super::meant;
use super::signature::{self, Signature};
use crate::error::OrRaise;
use pgrx::pg_sys;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn cached_validator(function: pg_sys::Oid, fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: the usual checks of a validator: may the caller look at this function, and are bodies to be checked at all?
    let (access, check) = unsafe {
        (
            pg_sys::CheckFunctionValidatorAccess((*(*fcinfo).flinfo).fn_oid, function),
            pg_sys::check_function_bodies,
        )
    };
    if !access {
        return;
    }
    let Some(own) = Signature::of(function) else {
        return;
    };
    signature::check_handled(&own).or_raise();
    // What needs no other object is always checked: the view cached_functions reads every body.
    let body = Body::parse(&own.source).or_raise();
    if let Some(ttl) = &body.ttl {
        signature::parse_ttl(ttl).or_raise();
    }
    signature::parse_ahead(&body).or_raise();
    signature::parse_stale(&body).or_raise();
    if !check {
        // A dump restores functions in the order of their dependencies, so the base function is there if it can be.
        let base = signature::find(&body.function);
        if body.binding == Binding::Early
            && let Some(base) = &base
        {
            binding::bind(&own, base.oid);
        }
        meant::bind(&own, &body, base.map(|base| base.oid));
        settle(function);
        return;
    }
    body.check_class().or_raise();
    if body.binding == Binding::Late && signature::find(&body.function).is_none() {
        meant::bind(&own, &body, None);
        settle(function);
        return;
    }
    let bound = match body.binding {
        Binding::Early => binding::marked(function).and_then(Signature::of),
        Binding::Late => None,
    };
    let base = match bound {
        Some(base) => base,
        None => signature::resolve(&body).or_raise(),
    };
    signature::check(&own, &base, &body).or_raise();
    signature::check_chain(&own, &base).or_raise();
    crate::dependencies::declared::check(&body, &own).or_raise();
    if body.binding == Binding::Early {
        binding::bind(&own, base.oid);
    }
    meant::bind(&own, &body, Some(base.oid));
    settle(function);
}

/// What cannot be declared otherwise than the base function is, is not; anybody who may call a function may call its validator.
fn settle(function: pg_sys::Oid) {
    if binding::is_being_written(function)
        && let Some(own) = Signature::of(function)
    {
        likeness::settle(&own);
    }
}
