//! `LANGUAGE cached`: an ordinary function whose body names, in JSON, the function that it caches.
//!
//! * `body`: the JSON
//! * `function`: a cached function as the catalog has it, ready to be called
//! * `standing`: its row in shared memory, without which it does not use the cache
//! * `signature`: finding the base function and comparing the two
//! * `validator`: checks at CREATE FUNCTION
//! * `handler`: the entry point of a call
//! * `expression`: a call written as text; `replay`: a call made again from its values

pub mod body;
pub mod expression;
pub mod function;
mod handler;
pub mod replay;
mod shown;
pub mod signature;
pub mod standing;
mod validator;
