//! What a test leaves out, because this machine cannot do it.

use std::io::{self, Write};
use std::thread;

/// Says on standard error that the rest of this test is left out, and why. `make test-kernels` names
/// in its table what begins with `this kernel cannot`.
pub fn skip(why: &str) {
    let thread = thread::current();
    let test = thread.name().map(|name| format!(" [{name}]")).unwrap_or_default();
    // Not by a macro: what those print is not shown of a test that holds.
    let _ = io::stderr().write_all(format!("skip: {why}{test}\n").as_bytes());
}
