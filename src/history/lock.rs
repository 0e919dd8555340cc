//! One lock for every change to a state directory.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

use super::error::{Error, Holder};
use super::{LOCK, QUEUE, store};
use crate::host::dir::{self, Dir};
use crate::host::proc;

/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(5);

/// For its owner alone.
const MODE: u32 = 0o600;

/// No lock has as many bytes in it.
pub(super) const TEXT_MAX: usize = 64;

/// The lock, until it is dropped or the process ends, however it ends. It is given back by closing
/// the file, which cannot fail as unlocking could, after the work is done.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and waits for the process that holds it. `None` if the directory was removed.
    ///
    /// A process that waits holds a second lock meanwhile, the queue. Without it, a process that
    /// gives the lock back and wants it again would have it before any other looks.
    pub fn take(dir: &Dir, until: Deadline) -> Result<Option<Self>, Error> {
        let locked = || {
            let (path, holder) = (dir.path().join(LOCK), Holder { process: holder(dir, LOCK) });
            Error::Locked { path, holder, waited: until.wait }
        };
        let next = match acquire(dir, QUEUE, until)? {
            Acquired::Lock(next) => next,
            Acquired::Late => return Err(locked()),
            Acquired::Gone => return Ok(None),
        };
        let file = match acquire(dir, LOCK, until)? {
            Acquired::Lock(file) => file,
            Acquired::Late => return Err(locked()),
            Acquired::Gone => return Ok(None),
        };
        drop(next);
        // For the message to those who wait. On a full or read-only disk they are told less; the
        // lock holds all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id()));
        Ok(Some(Self { _file: file }))
    }
}

/// Until when to wait.
#[derive(Clone, Copy)]
pub struct Deadline {
    wait: Duration,
    /// `None` is later than the clock can say.
    end: Option<Instant>,
}

impl Deadline {
    pub fn after(wait: Duration) -> Self {
        Self { wait, end: Instant::now().checked_add(wait) }
    }

    fn left(self) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

enum Acquired {
    Lock(File),
    /// Another process still holds it at the end.
    Late,
    /// The directory is not there any more.
    Gone,
}

fn acquire(dir: &Dir, name: &str, until: Deadline) -> Result<Acquired, Error> {
    let path = dir.path().join(name);
    let failed = || Error::io("lock", &path);
    let Some(mut file) = open(dir, name)? else { return Ok(Acquired::Gone) };
    loop {
        match dir::try_lock(&file).map_err(failed())? {
            true => {
                let meta = file.metadata().map_err(failed())?;
                let there = dir.identity(name).map_err(failed())?;
                if there == Some((meta.dev(), meta.ino())) {
                    return Ok(Acquired::Lock(file));
                }
                // It was removed and made again while we waited: what we hold is not the lock any
                // more.
                match open(dir, name)? {
                    Some(new) => file = new,
                    None => return Ok(Acquired::Gone),
                }
            }
            false => {
                let left = until.left();
                if left.is_zero() {
                    return Ok(Acquired::Late);
                }
                thread::sleep(POLL.min(left));
            }
        }
    }
}

/// Readable by root only: a process that can open a file can lock it, and keep all others out.
/// `None` if the directory was removed.
pub(super) fn open(dir: &Dir, name: &str) -> Result<Option<File>, Error> {
    let path = dir.path().join(name);
    // What changes only the kernel (restore, clear) can be locked on a read-only disk too.
    let file = match dir.open_or_create(name, MODE) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        // Root that has given up CAP_DAC_OVERRIDE may not write what is another's: that it is
        // says more.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            dir.file(name).map_err(store::found("lock", &path))?;
            return Err(Error::io("lock", &path)(e));
        }
        result => result.map_err(Error::io("lock", &path))?,
    };
    let meta = file.metadata().map_err(Error::io("lock", &path))?;
    if !meta.is_file() {
        return Err(Error::Damaged { path, what: "it is not a regular file".into() });
    }
    // It is truncated later: through a hard link that would be another file.
    if meta.nlink() > 1 {
        return Err(Error::io("lock", &path)(Errno::EMLINK.into()));
    }
    dir.judge(&file, &path).map_err(store::found("lock", &path))?;
    // Whoever can open it can lock it. On a read-only disk it stays as it is.
    if meta.mode() & 0o077 != 0 {
        let _ = file.set_permissions(Permissions::from_mode(MODE));
    }
    if !holds_what_a_lock_does(&file).map_err(Error::io("lock", &path))? {
        let what = "another program has written to it".into();
        return Err(Error::NotOurs { path, what });
    }
    Ok(Some(file))
}

/// Nothing; the process that holds it; or when a guard has put the table back.
fn holds_what_a_lock_does(file: &File) -> io::Result<bool> {
    let mut bytes = [0; TEXT_MAX];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(is_ours(&bytes[..len]))
}

/// The same of the first [`TEXT_MAX`] bytes of a file.
pub fn is_ours(bytes: &[u8]) -> bool {
    let is_ours = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
    bytes.len() < TEXT_MAX && (text(bytes).is_some_and(is_ours) || moment(bytes).is_some())
}

/// Where the power failed, the file may be as long as it should be, without its bytes.
fn text(bytes: &[u8]) -> Option<&str> {
    Some(std::str::from_utf8(bytes).ok()?.trim_matches(['\0', '\n']))
}

/// The process that holds the lock.
pub fn process(bytes: &[u8]) -> Option<i32> {
    text(bytes)?.parse().ok().filter(|pid| *pid > 0)
}

/// When a guard has put the table back.
pub fn moment(bytes: &[u8]) -> Option<SystemTime> {
    humantime::parse_rfc3339(text(bytes)?).ok()
}

fn holder(dir: &Dir, name: &str) -> Option<(i32, Option<String>)> {
    let mut bytes = Vec::new();
    dir.file(name).ok()??.take(TEXT_MAX as u64).read_to_end(&mut bytes).ok()?;
    let pid = process(&bytes)?;
    Some((pid, name_of(pid)))
}

pub(super) fn name_of(pid: i32) -> Option<String> {
    let name = proc::text(format!("/proc/{pid}/comm")).ok();
    name.map(|name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holds_a_process_a_moment_or_nothing() {
        for ours in ["", "\n", "4711\n", "4711", "\0\0\0\0\0", "2026-01-02T03:04:05.678Z"] {
            assert!(is_ours(ours.as_bytes()), "{ours:?}");
        }
        let long = "\0".repeat(TEXT_MAX);
        for foreign in ["nginx", "4711 ", "-4711", "4711\n4712\n", "\u{e4}", &long] {
            assert!(!is_ours(foreign.as_bytes()), "{foreign:?}");
        }
        assert!(!is_ours(b"\xff"));
        assert_eq!((process(b"4711\n"), process(b"0"), process(b"")), (Some(4711), None, None));
        assert!(moment(b"2026-01-02T03:04:05.678Z").is_some() && moment(b"4711").is_none());
    }
}
