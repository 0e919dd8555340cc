//! Variables of the environment that decide what is done, and whether they may.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_FOREIGN: AtomicBool = AtomicBool::new(false);

/// From here on no variable is read: the environment was set by somebody who has fewer privileges
/// than this process.
pub fn distrust() {
    IS_FOREIGN.store(true, Ordering::Relaxed);
}

/// Whether variables are read.
pub fn is_believed() -> bool {
    !IS_FOREIGN.load(Ordering::Relaxed)
}

pub fn var_os(name: &str) -> Option<OsString> {
    if is_believed() { std::env::var_os(name) } else { None }
}

/// The same, if it is text.
pub fn var(name: &str) -> Option<String> {
    var_os(name)?.into_string().ok()
}
