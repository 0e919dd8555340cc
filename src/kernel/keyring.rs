//! The keys that a process passes on to those that it starts, session-keyring(7).

use std::io;
use std::ptr;

use nix::errno::Errno;
use nix::libc;

/// `KEYCTL_JOIN_SESSION_KEYRING` and `KEYCTL_DESCRIBE` of `linux/keyctl.h`
const JOIN_SESSION_KEYRING: libc::c_int = 1;
const DESCRIBE: libc::c_int = 6;
/// `KEY_SPEC_SESSION_KEYRING`
const SESSION: libc::c_int = -3;

/// Unless the session keyring is this user's own, this process gets a new, empty one. Where the
/// kernel has none, or lets nobody here ask for them, there is nothing to leave.
///
/// # Errors
///
/// Those of keyctl(2), such as `EDQUOT`: the process still has the keyring that it had.
pub fn leave_session_of_others(user: u32) -> io::Result<()> {
    if owner() == Some(user) {
        return Ok(());
    }
    // SAFETY: keyctl(2) with this operation takes a name, of which a null pointer is the absence.
    let outcome = unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    };
    match Errno::result(outcome) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Of the session keyring; `None` if that cannot be told.
fn owner() -> Option<u32> {
    let mut text = [0u8; 256];
    // SAFETY: keyctl(2) with this operation writes to the buffer, and no further than its length.
    let outcome = unsafe {
        libc::syscall(libc::SYS_keyctl, DESCRIBE, SESSION, text.as_mut_ptr(), text.len())
    };
    // What does not fit is not written, and its length returned.
    let text = text.get(..usize::try_from(Errno::result(outcome).ok()?).ok()?)?;
    // `keyring;1000;1000;3f1b0000;_ses`
    std::str::from_utf8(text).ok()?.split(';').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// `KEYCTL_GET_KEYRING_ID`
    fn session() -> nix::Result<libc::c_long> {
        // SAFETY: this operation takes numbers alone.
        Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, 0, SESSION, 0) })
    }

    #[test]
    fn only_ones_own_session_is_kept() {
        let own = nix::unistd::geteuid().as_raw();
        let on_thread = || {
            let Ok(before) = session() else { return };
            leave_session_of_others(own + 1).unwrap();
            let left = session().unwrap();
            assert_ne!(left, before);
            assert_eq!(owner(), Some(own));
            leave_session_of_others(own).unwrap();
            assert_eq!(session().unwrap(), left);
        };
        thread::scope(|scope| scope.spawn(on_thread).join()).unwrap();
    }
}
