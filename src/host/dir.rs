//! A directory that only this process's user writes, and the files in it: all by descriptor, so
//! that what is done is done in the directory that was judged.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::path::{self, Error, Result};
use super::trust::{Caller, Node};

/// A directory that was found by a way that was judged.
#[derive(Debug)]
pub struct Dir {
    handle: OwnedFd,
    /// As the user named it.
    path: PathBuf,
    caller: Caller,
}

impl Dir {
    /// `None` if there is none.
    pub fn open(path: &Path, caller: Caller) -> Result<Option<Self>> {
        match path::find(path, caller) {
            Ok(found) => Self::of(&found, path, caller).map(Some),
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes it, with those above it, so that it outlives a crash.
    pub fn make(path: &Path, caller: Caller) -> Result<Self> {
        Self::of(&path::make(path, caller)?, path, caller)
    }

    fn of(found: &path::Found, path: &Path, caller: Caller) -> Result<Self> {
        if found.kind() != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Self { handle: found.directory(true)?, path: path.to_owned(), caller })
    }

    /// The directory of this name in it; `None` if there is none.
    pub fn open_dir(&self, name: &str) -> Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match openat(&self.handle, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        let dir = Self { path: self.path.join(name), handle, caller: self.caller };
        self.judge(&dir.handle, &dir.path)?;
        Ok(Some(dir))
    }

    /// The same; makes it if there is none.
    pub fn make_dir(&self, name: &str) -> Result<Self> {
        if let Some(dir) = self.open_dir(name)? {
            return Ok(dir);
        }
        let made = match path::make_readable(&self.handle, name) {
            Err(Errno::EXIST) => false,
            result => result.map(|()| true)?,
        };
        let dir = self.open_dir(name)?.ok_or(Errno::NOENT)?;
        if made {
            self.sync()?;
        }
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is still the directory that its path leads to.
    pub fn is_at_its_path(&self) -> Result<bool> {
        let there = match path::find(&self.path, self.caller) {
            Ok(there) => there,
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let stat = fstat(&self.handle)?;
        Ok(there.identity() == (stat.st_dev, stat.st_ino))
    }

    /// A file of this name to read, which nobody else may have written; `None` if there is none. It
    /// may be something else than a regular file: nothing here waits for one.
    pub fn file(&self, name: &str) -> Result<Option<File>> {
        // Without O_NONBLOCK, a FIFO put in its place would hold us up for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.handle, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
            self.judge(&file, &self.path.join(name))?;
        }
        Ok(Some(file.into()))
    }

    /// Whether nobody else can have written what is open as `handle`, which is at `path`.
    pub fn judge(&self, handle: impl AsFd, path: &Path) -> Result<()> {
        let stat = fstat(&handle)?;
        let node = Node { path, stat: &stat, is_among_others: false, is_content: true };
        self.caller.judge(&node, &handle)?.map_err(Error::Distrust)
    }

    /// Opens a file to read and write, and makes it where it is missing, with this mode whatever the
    /// umask says. It is neither truncated nor judged.
    pub fn open_or_create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let open = |more| openat(&self.handle, name, flags | more, mode);
        loop {
            let file = match open(OFlags::RDWR) {
                Err(Errno::NOENT) => match open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                    // By another process, just now.
                    Err(Errno::EXIST) => continue,
                    made => made.and_then(|file| fchmod(&file, mode).map(|()| file)),
                },
                Err(Errno::ROFS) => open(OFlags::RDONLY).map_err(|_| Errno::ROFS),
                result => result,
            };
            return Ok(file?.into());
        }
    }

    /// A new file to write, with this mode whatever the umask says.
    pub fn create_new(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = openat(&self.handle, name, flags, mode)?;
        fchmod(&file, mode)?;
        Ok(file.into())
    }

    /// Device and inode of what has this name; a link itself, not what it leads to.
    pub fn identity(&self, name: &str) -> io::Result<Option<(u64, u64)>> {
        match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Replaces what has the name `to`, if anything has.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Whether there was one.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.handle)?)
    }

    /// The names in it, without `.` and `..`, in no order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.handle)
    }
}

/// Takes the lock of a file, which is given back when it is closed; `false` if somebody else has it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The names in a directory, without `.` and `..`, in no order.
pub fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}
