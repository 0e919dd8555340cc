//! One lock for every change to a state directory.

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
const POLL: Duration = Duration::from_millis(5);

/// The lock, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock at `path`, waiting up to `wait` for the process that holds it. The directory must
    /// exist.
    ///
    /// A process that waits holds a second lock meanwhile, the queue. Without it, a process that
    /// gives the lock back and wants it again would have it before any other looks.
    pub fn take(path: &Path, wait: Duration) -> Result<Self, Error> {
        let until = Deadline(Instant::now().checked_add(wait));
        let locked = || {
            let holder = Holder { process: holder(path) };
            Error::Locked { path: path.to_owned(), holder, waited: wait }
        };
        let queue = path.with_extension("queue");
        let next = acquire(&queue, until).map_err(Error::io("lock", &queue))?.ok_or_else(locked)?;
        let file = acquire(path, until).map_err(Error::io("lock", path))?.ok_or_else(locked)?;
        drop(next);
        // For the message to those who wait. On a full or read-only disk they are told less; the
        // lock holds all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(&*file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// `None` is later than the clock can say.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

/// `None` if another process still holds it at the end.
fn acquire(path: &Path, until: Deadline) -> io::Result<Option<Flock<File>>> {
    let mut file = open(path)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) if is_at(&held, path)? => return Ok(Some(held)),
            // The directory was removed and made again while we waited: what we hold is not the
            // lock any more.
            Ok(_) => file = open(path)?,
            Err((back, Errno::EWOULDBLOCK)) => {
                file = back;
                let left = until.left();
                if left.is_zero() {
                    return Ok(None);
                }
                thread::sleep(POLL.min(left));
            }
            Err((back, Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

/// Readable by root only: a process that can open a file can lock it, and keep all others out.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = match options.clone().write(true).create(true).open(path) {
        // What changes only the kernel (restore, clear) can be locked on a read-only disk too.
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => options.open(path).or(Err(e)),
        result => result,
    }?;
    // It is truncated later: through a hard link that would be another file.
    if file.metadata()?.nlink() > 1 {
        return Err(Errno::EMLINK.into());
    }
    Ok(file)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn holder(path: &Path) -> Option<(i32, Option<String>)> {
    let mut text = String::new();
    open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    let pid = text.trim_end().parse().ok().filter(|&pid| pid > 0)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some((pid, name.map(|name| name.trim_end().to_owned())))
}
