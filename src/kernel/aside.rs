//! A process beside this one.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that there was.
    Before,
    /// The new one: it is nobody's child, so that this process, whatever it becomes, does not have
    /// to wait for it.
    Aside,
}

/// Makes a second process, a copy of this one.
pub fn step_aside() -> io::Result<Side> {
    // SAFETY: where a command is run no other thread of this program is at work that could hold a
    // lock at this moment, so the copy may go on as the original does.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => wait_for(child).map(|()| Side::Before),
        // SAFETY: as above; this is the copy's only thread.
        ForkResult::Child => match unsafe { fork() } {
            Ok(ForkResult::Child) => Ok(Side::Aside),
            Ok(ForkResult::Parent { .. }) => leave(0),
            Err(e) => leave(e as i32),
        },
    }
}

/// Without what a process does at its end: that is for the original to do.
fn leave(status: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe { libc::_exit(status) }
}

fn wait_for(child: Pid) -> io::Result<()> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            // Where SIGCHLD is ignored nobody can tell how it ended.
            Err(Errno::ECHILD) | Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Ok(other) => return Err(io::Error::other(format!("a process has ended: {other:?}"))),
            Err(e) => return Err(e.into()),
        }
    }
}
