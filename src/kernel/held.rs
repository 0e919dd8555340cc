//! What lives as long as a descriptor is open, whoever holds it.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Above the numbers that programs give to descriptors of their own accord: a shell script says
/// `3>file`, bash takes 10 and up, 63 and down, and 255.
const ABOVE: RawFd = 100;

/// A copy of the socket that programs inherit. A netlink socket can do nothing without privilege:
/// the kernel asks for CAP_NET_ADMIN with every message. With the last copy of it goes what it
/// owns.
pub fn inheritable(socket: impl AsFd) -> io::Result<OwnedFd> {
    // Without FD_CLOEXEC; that of `socket` itself stays as it is. Few descriptors may be allowed:
    // then the lowest that is free.
    let copy = match fcntl(&socket, FcntlArg::F_DUPFD(ABOVE)) {
        Err(Errno::EINVAL | Errno::EMFILE) => fcntl(&socket, FcntlArg::F_DUPFD(3)),
        result => result,
    }?;
    // SAFETY: fcntl(2) has just made this descriptor, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
