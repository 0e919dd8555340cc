//! What the kernel does to a process that reaches the limit on the size of its files.

use std::sync::OnceLock;

use nix::sys::signal::{SigHandler, Signal, signal};

/// What was to happen when this process was started.
static AT_START: OnceLock<SigHandler> = OnceLock::new();

/// Has a write beyond `ulimit -f` fail, as one to a full disk does. SIGXFSZ would end the process
/// there, perhaps between the kernel and the history (setrlimit(2), `RLIMIT_FSIZE`).
pub fn fail_beyond_the_file_size() {
    // SAFETY: no handler is set, so nothing of this process ever runs in its place.
    if let Ok(before) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
        AT_START.get_or_init(|| before);
    }
}

/// Undoes it, for a program that takes the place of this one: it would inherit it.
pub fn restore_at_the_file_size() {
    if let Some(before) = AT_START.get() {
        // SAFETY: what a process is started with is the default or to ignore the signal: execve(2)
        // leaves no handler.
        let _ = unsafe { signal(Signal::SIGXFSZ, *before) };
    }
}
