//! State of this backend.
//!
//! A server process runs our code on one thread only, so what belongs to the process can be a plain static. `thread_local!` would do the
//! same by a detour: in a library that is loaded at run time each access calls `__tls_get_addr`, and asks whether the value is still
//! there. A cached call has a dozen of them.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Deref;

/// A value that this process has for itself. A forked process begins with a copy.
pub struct Backend<T>(T);

// SAFETY: the one thread of the process; signal handlers of ours touch atomics only.
unsafe impl<T> Sync for Backend<T> {}

impl<T> Backend<T> {
    /// The value at the start of the process.
    pub const fn new(value: T) -> Self {
        Backend(value)
    }
}

impl<T> Deref for Backend<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Backend<RefCell<T>> {
    /// Looks at the value.
    #[inline(always)]
    pub fn with_borrow<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.borrow())
    }

    /// Changes the value.
    #[inline(always)]
    pub fn with_borrow_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.borrow_mut())
    }
}
