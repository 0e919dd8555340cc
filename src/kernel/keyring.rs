//! The keys that a process passes on to those that it starts, session-keyring(7).

use std::io;
use std::ptr;

use nix::errno::Errno;
use nix::libc;

/// `KEYCTL_JOIN_SESSION_KEYRING` of `linux/keyctl.h`
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// This process gets a new, empty session keyring. Where the kernel has none, or lets nobody here
/// ask for them, there is nothing to leave.
///
/// # Errors
///
/// Those of keyctl(2), such as `EDQUOT`: the process still has the keyring that it had.
pub fn leave_session() -> io::Result<()> {
    // SAFETY: keyctl(2) with this operation takes a name, of which a null pointer is the absence.
    let outcome = unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    };
    match Errno::result(outcome) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// `KEYCTL_GET_KEYRING_ID`, and `KEY_SPEC_SESSION_KEYRING`.
    fn session() -> nix::Result<libc::c_long> {
        // SAFETY: this operation takes numbers alone.
        Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) })
    }

    #[test]
    fn the_session_is_another_one_afterwards() {
        let on_thread = || {
            let Ok(before) = session() else { return };
            leave_session().unwrap();
            assert_ne!(session().unwrap(), before);
        };
        thread::scope(|scope| scope.spawn(on_thread).join()).unwrap();
    }
}
