//! One lock for every change, a state directory each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::error::{Error, Holder};

/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(20);

/// The lock, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock at `path`, waiting up to `wait` for whoever holds it. The directory must
    /// exist.
    pub fn take(path: &Path, wait: Duration) -> Result<Self, Error> {
        let began = Instant::now();
        let failed = || Error::io("lock", path);
        let mut file = open(path).map_err(failed())?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut held) => {
                    if is_at(&held, path).map_err(failed())? {
                        // For the message to those who wait. On a full or read-only disk they
                        // are told less; the lock holds all the same.
                        let _ = held.set_len(0);
                        let _ = writeln!(held, "{}", std::process::id());
                        return Ok(Self { _file: held });
                    }
                    // The directory was removed and made again while we waited: what we hold is
                    // not the lock any more.
                    file = open(path).map_err(failed())?;
                }
                Err((back, Errno::EWOULDBLOCK)) => {
                    file = back;
                    let left = wait.saturating_sub(began.elapsed());
                    if left.is_zero() {
                        let holder = holder(path);
                        return Err(Error::Locked { path: path.to_owned(), holder, waited: wait });
                    }
                    thread::sleep(POLL.min(left));
                }
                Err((back, Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(failed()(errno.into())),
            }
        }
    }
}

/// Readable by root only: whoever can open a file can lock it, and keep everybody out.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    match options.clone().write(true).create(true).open(path) {
        // What changes only the kernel (restore, clear) can be locked on a read-only disk too.
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => options.open(path).or(Err(e)),
        result => result,
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    let pid = text.trim_end().parse().ok().filter(|&pid| pid > 0)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(Holder { pid, name: name.map(|name| name.trim_end().to_owned()) })
}
