//! What lives as long as a descriptor is open, whoever holds it.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Above the numbers that programs give to descriptors of their own accord: a shell script says
/// `3>file`, bash takes 10 and up, 63 and down, and 255.
const ABOVE: RawFd = 100;

/// A copy of the socket that programs inherit: one that was opened [for it]. The kernel asks for
/// CAP_NET_ADMIN with every message. With the last copy of it goes what it owns.
///
/// [for it]: crate::kernel::Netlink::open_to_be_inherited
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

/// A copy of the descriptor of this process that has this number (`EBADF` if there is none), which
/// no program inherits.
pub fn given(number: u32) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: fcntl(2) takes any number, and fails where it is nothing's; no memory is passed.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = Errno::result(copy)?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
