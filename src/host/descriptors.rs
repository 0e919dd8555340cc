//! What a process has open (proc_pid_fd(5)).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, RawDir};
use rustix::io;

/// What to do where a process may open nothing more (EMFILE).
pub const HELP_TOO_FEW: &str = "allow more open files: ulimit -n, or LimitNOFILE= of a service";

/// As many are looked at, at most, in all processes together: a machine may have millions.
pub const DESCRIPTORS_MAX: usize = 500_000;

/// Passes on of each descriptor of a process, which is a directory of /proc, the inode of the socket
/// that it is; `None` where it is something else, an error where it has gone or may not be looked
/// at. Nothing of a process that has ended, or that this user may not look into.
pub fn each(process: &Path, mut each: impl FnMut(io::Result<Option<u32>>) -> ControlFlow<()>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(open) = fs::open(process.join("fd"), flags, Mode::empty()) else { return };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut descriptors = RawDir::new(&open, &mut buffer);
    while let Some(Ok(descriptor)) = descriptors.next() {
        let name = descriptor.file_name();
        let is_descriptor = !name.to_bytes().starts_with(b".");
        if is_descriptor && each(socket(&open, name)).is_break() {
            return;
        }
    }
}

/// By its name in the open directory: there may be ten thousand, and a path takes the kernel longer
/// to walk than what it finds takes to be read.
fn socket(directory: &OwnedFd, name: &CStr) -> io::Result<Option<u32>> {
    // Enough for `socket:[4294967295]`; what is longer is something else.
    let mut target = [0; 32];
    let length = fs::readlinkat_raw(directory, name, &mut target)?;
    Ok(std::str::from_utf8(&target[..length]).ok().and_then(inode))
}

/// Of `socket:[1234]`.
pub fn inode(target: &str) -> Option<u32> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
