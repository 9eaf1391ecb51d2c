//! `LANGUAGE cached`: an ordinary function whose body names, in JSON, the function that it caches.
//!
//! * `body`: the JSON
//! * `binding`: which function is the base function, by oid
//! * `meant`: which columns the names in `depends_on` meant
//! * `likeness`: that it stays declared as that is
//! * `function`: a cached function as the catalog has it, ready to be called
//! * `standing`: its row in shared memory, without which it does not use the cache
//! * `signature`: the two functions as the catalog has them, and whether they fit; `overloads`: whether calls of others would be ambiguous
//! * `validator`: checks at CREATE FUNCTION
//! * `handler`: the entry point of a call
//! * `expression`: a call written as text; `replay`: a call made again from its values

pub mod binding;
pub mod body;
pub mod expression;
pub mod function;
mod handler;
pub mod likeness;
pub mod meant;
pub mod overloads;
pub mod replay;
mod shown;
pub mod signature;
pub mod standing;
mod validator;
