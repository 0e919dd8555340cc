//! Work done at the same time, where the machine has a thread to spare for it.

use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does both: `one` on a thread of its own, or after `other` if none can be started.
pub fn at_once<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    // Whoever comes to it takes it: a thread that cannot be started does not give it back.
    let one = Mutex::new(Some(one));
    let take = || {
        let one = one.lock().unwrap_or_else(PoisonError::into_inner).take();
        one.expect("nobody else has taken it")()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, take);
        let other = other();
        let one = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)),
            Err(_) => take(),
        };
        (one, other)
    })
}
