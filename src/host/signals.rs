//! Signals that ask a program to end, as data instead of its end.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::proc;

/// Readable when the program is asked to end: Ctrl-C, Ctrl-\, a lost terminal, SIGTERM.
pub struct EndSignals {
    set: SigSet,
    fd: SignalFd,
}

const ALL: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

impl EndSignals {
    /// From here on, the calling thread and those that it starts are not ended by them.
    pub fn block() -> nix::Result<Self> {
        Self::block_some(|_| true)
    }

    /// The same, but for those that would not end the program, as of nohup(1).
    pub fn block_unless_ignored() -> nix::Result<Self> {
        let status = proc::text("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        Self::block_some(|signal| ignored & 1 << (signal as u32 - 1) == 0)
    }

    fn block_some(is_meant: impl Fn(Signal) -> bool) -> nix::Result<Self> {
        let set: SigSet = ALL.into_iter().filter(|signal| is_meant(*signal)).collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { set, fd })
    }

    /// Has them end the program as ever, but not before `work` is done; at once where the machine
    /// has no thread to spare.
    pub fn end_after(self, work: impl FnOnce() + Send + 'static) {
        let set = self.set;
        let watch = move || {
            let mut signals = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            while poll(&mut signals, PollTimeout::NONE) == Err(Errno::EINTR) {}
            work();
            // What has not been read is still to come: it ends the program here.
            let _ = self.set.thread_unblock();
        };
        if thread::Builder::new().spawn(watch).is_err() {
            let _ = set.thread_unblock();
        }
    }
}

impl AsFd for EndSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A bit for each signal, from 1, as the kernel lists them (`SigIgn`, proc(5)).
fn ignored(status: &str) -> u64 {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_known() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!((ignored(status), ignored("")), (1 << (Signal::SIGPIPE as u32 - 1) | 1, 0));
    }
}
