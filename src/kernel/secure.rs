//! Whether this process has more privileges than the one that started it.

use nix::libc;

/// Whether the kernel says so (getauxval(3), `AT_SECURE`): through a set-user-ID or set-group-ID
/// bit, or through capabilities of the file.
pub fn is_secure_execution() -> bool {
    // SAFETY: getauxval(3) takes a number, and reads what the kernel left for this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
