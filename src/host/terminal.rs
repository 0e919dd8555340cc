//! The terminal of this process.

use std::fs;

use rustix::fs::{Mode, OFlags, open};

/// Whether this process has a controlling terminal into which the kernel lets its programs type
/// (`TIOCSTI`, ioctl_tty(2)): what they type there is another program's input once they are gone.
pub fn can_be_typed_into() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let has_one = open("/dev/tty", flags, Mode::empty()).is_ok();
    // `dev.tty.legacy_tiocsti` is there from Linux 6.2 on; every kernel before lets them.
    let setting = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    has_one && setting.map_or(true, |setting| setting.trim() != "0")
}
