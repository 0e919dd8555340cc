//! A process that has nothing to do with the terminal, the files and the signals of the one that
//! made it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

/// Leaves the session, and closes every descriptor but `kept`: another process must not wait in
/// vain for the end of a pipe that this one has no use for. Of all signals only SIGKILL and SIGSTOP
/// are left. Values of this process that own a descriptor must not be used or dropped any more.
pub fn detach(kept: &OwnedFd) -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    SigSet::all().thread_block()?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let entries = fs::read_dir("/proc/self/fd")?.flatten();
    let numbers: Vec<RawFd> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|n| *n > 2 && *n != kept.as_raw_fd()) {
        // That of the listing is closed already.
        let _ = close(number);
    }
    // Closed with the others.
    std::mem::forget(null);
    Ok(())
}
