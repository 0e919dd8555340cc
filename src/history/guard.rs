//! Whether somebody stays to watch over the table: a record lock (fcntl(2)) on a file.
//!
//! It ends with its process, however that ends, and the kernel tells who holds it without anybody
//! having to try; so it is never out of date.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::{Error, Holder};
use super::{GUARD, History, lock};

/// The lock, for as long as this process lives: it would also be given back with any other
/// descriptor of the file.
#[derive(Debug)]
pub struct Guarding {
    file: File,
}

/// Who guards the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    pub pid: u32,
    /// When it has put the table back last; `None` if it never had to.
    pub last_repair: Option<SystemTime>,
}

impl Guarding {
    /// The table has been put back.
    pub fn record_repair(&self) {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        // Where it cannot be written, others are told less. The length is always the same.
        let _ = self.file.write_all_at(now.as_bytes(), 0);
    }
}

/// Nobody else shall be at it. A question has the same form.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl History {
    /// Makes the directory if it is missing, and lets others know that this process guards what it
    /// says is active. Refused where another does.
    pub fn stand_guard(dir: impl Into<PathBuf>, wait: Duration) -> Result<Guarding, Error> {
        let locked = Self::lock(dir, wait)?;
        let path = locked.files.path.join(GUARD);
        let gone = || Error::io("lock", &path)(Errno::ENOENT.into());
        let file = lock::open(locked.top(), GUARD)?.ok_or_else(gone)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => {
                // Of an earlier one.
                file.set_len(0).map_err(Error::io("write", &path))?;
                Ok(Guarding { file })
            }
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let pid = holder(&file).and_then(|pid| i32::try_from(pid).ok());
                let process = pid.map(|pid| (pid, lock::name_of(pid)));
                Err(Error::Guarded { path, holder: Holder { process } })
            }
            Err(errno) => Err(Error::io("lock", &path)(errno.into())),
        }
    }

    /// Who guards the table; `None` also if this user may not know.
    pub fn guard_of(&self) -> Option<Guard> {
        let file = self.files.top.as_ref()?.file(GUARD).ok()??;
        let pid = holder(&file)?;
        let mut bytes = Vec::new();
        let read = file.take(lock::TEXT_MAX as u64).read_to_end(&mut bytes);
        let last_repair = read.ok().and_then(|_| lock::moment(&bytes));
        Some(Guard { pid, last_repair })
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    let is_held = i32::from(lock.l_type) != libc::F_UNLCK;
    // 0 where it is of another process namespace.
    if is_held { u32::try_from(lock.l_pid).ok() } else { None }
}
