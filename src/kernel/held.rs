//! A table that lives as long as a descriptor is open, whoever holds it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::Netlink;

/// Above the numbers that programs give to descriptors of their own accord: a shell script says
/// `3>file`, bash takes 10 and up, 63 and down, and 255.
const ABOVE: RawFd = 100;

impl Netlink {
    /// The socket as a descriptor that programs inherit, and that can do nothing: the kernel asks
    /// for CAP_NET_ADMIN with every message. With the last copy of it goes what it owns.
    pub fn into_inherited(self) -> io::Result<OwnedFd> {
        let socket = self.socket.fd();
        // Without FD_CLOEXEC; that of `socket` itself stays as it is. Few descriptors may be
        // allowed: then the lowest that is free.
        let copy = match fcntl(socket, FcntlArg::F_DUPFD(ABOVE)) {
            Err(Errno::EINVAL | Errno::EMFILE) => fcntl(socket, FcntlArg::F_DUPFD(3)),
            result => result,
        }?;
        // SAFETY: fcntl(2) has just made this descriptor, and nothing else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    }
}
