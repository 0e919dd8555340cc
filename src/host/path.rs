//! The one walk along a path: every component is opened below the one before, and judged.
//!
//! Whoever may write a directory on the way, or owns it, or a link there, decides what is found at
//! the end; so each is judged as sshd's StrictModes does it. From then on work goes by descriptors:
//! a path that is walked twice can lead to two places.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf, absolute};
use std::rc::Rc;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, readlinkat, stat,
};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::umask;

use super::acl::{Entry, Who};
use super::trust::{self, Caller, Distrust, Node};

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The mode of what is made on the way: for everybody to read.
const MADE: Mode = Mode::from_raw_mode(0o755);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody else decides what is there.
    #[error("{} {_0}", _0.path.display())]
    Distrust(Distrust),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// What a path leads to, by a way that was judged.
#[derive(Debug)]
pub struct Found {
    /// Absolute and without links, if the way was judged; otherwise as it was given.
    pub path: PathBuf,
    pub stat: Stat,
    caller: Caller,
    /// From the root to the directory that was found, or that the file is in; empty where nothing
    /// was judged.
    trail: Vec<Rc<Way>>,
    /// Of the file, in the last directory of the trail.
    name: OsString,
}

/// A directory on the way.
#[derive(Debug)]
struct Way {
    handle: OwnedFd,
    path: PathBuf,
    stat: Stat,
    /// Whether others may put things there.
    is_among_others: bool,
    /// Whether the user who asked root could come here too; always, where nobody has.
    is_open_to_invoker: bool,
}

/// Finds what is at `path`. The way is judged, and so is what is found, unless it is a file: that is
/// judged when it is opened.
pub fn find(path: &Path, caller: Caller) -> Result<Found> {
    match caller {
        Caller::Ordinary => by_kernel(path),
        Caller::Root { .. } => Walk::begin(path, caller, false)?.run(),
    }
}

/// The same, making the directories that are not there.
pub fn make(path: &Path, caller: Caller) -> Result<Found> {
    match caller {
        Caller::Ordinary => {
            make_all(path)?;
            by_kernel(path)
        }
        Caller::Root { .. } => Walk::begin(path, caller, true)?.run(),
    }
}

/// Where nothing is judged, the kernel follows the links, or does not (proc_sys_fs(5),
/// `protected_symlinks`).
fn by_kernel(path: &Path) -> Result<Found> {
    let stat = stat(path)?;
    let (path, caller, name) = (path.to_owned(), Caller::Ordinary, OsString::new());
    Ok(Found { path, stat, caller, trail: Vec::new(), name })
}

fn make_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    readable(|| DirBuilder::new().recursive(true).mode(MADE.bits()).create(path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Makes a directory for everybody to read.
pub(super) fn make_readable(at: impl AsFd, name: impl Arg) -> rustix::io::Result<()> {
    readable(|| mkdirat(at, name, MADE))
}

/// What is made gets its mode, whatever the umask says. Not afterwards: whoever owns a directory on
/// the way could put something else in the place of what was made, and have that opened to all.
fn readable<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::WGRP | Mode::WOTH);
    let made = make();
    umask(before);
    made
}

struct Step {
    name: OsString,
    /// Whether it is what a link says, and not the user.
    is_of_link: bool,
}

struct Walk {
    caller: Caller,
    makes: bool,
    rest: VecDeque<Step>,
    /// From the root to where we are.
    trail: Vec<Rc<Way>>,
    links: usize,
}

impl Walk {
    fn begin(path: &Path, caller: Caller, makes: bool) -> Result<Self> {
        let path = absolute(path)?;
        let mut walk = Self { caller, makes, rest: VecDeque::new(), trail: Vec::new(), links: 0 };
        walk.start()?;
        walk.expect(&path, false);
        Ok(walk)
    }

    fn start(&mut self) -> Result<()> {
        let root = Path::new("/");
        let handle = open_directory(CWD, root.as_os_str())?;
        let stat = fstat(&handle)?;
        self.trail.clear();
        self.enter(handle, root.to_owned(), stat)
    }

    /// Puts the components of `path` before what is left of the way.
    fn expect(&mut self, path: &Path, is_of_link: bool) {
        for component in path.components().rev() {
            if matches!(component, Component::Normal(_) | Component::ParentDir) {
                let name = component.as_os_str().to_owned();
                self.rest.push_front(Step { name, is_of_link });
            }
        }
    }

    fn run(mut self) -> Result<Found> {
        while let Some(step) = self.rest.pop_front() {
            if step.name == ".." {
                // Above the root is the root.
                if self.trail.len() > 1 {
                    self.trail.pop();
                }
                continue;
            }
            let handle = self.open(&step)?;
            let stat = fstat(&handle)?;
            let path = self.here().path.join(&step.name);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.enter(handle, path, stat)?,
                FileType::Symlink => self.follow(&handle, &path, &stat)?,
                _ if self.rest.is_empty() => {
                    let Self { caller, trail, .. } = self;
                    return Ok(Found { path, stat, caller, trail, name: step.name });
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        let (path, stat) = (self.here().path.clone(), self.here().stat);
        let Self { caller, trail, .. } = self;
        Ok(Found { path, stat, caller, trail, name: OsString::new() })
    }

    fn here(&self) -> &Way {
        self.trail.last().expect("where it began")
    }

    fn open(&self, step: &Step) -> Result<OwnedFd> {
        let here = &self.here().handle;
        // A directory that is mounted on demand is mounted if it is opened as a directory.
        match open_directory(here, &step.name) {
            Err(Errno::NOTDIR) => {}
            Err(Errno::NOENT) if self.makes => return self.make(step),
            result => return Ok(result?),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(here, &step.name, flags, Mode::empty())?)
    }

    fn make(&self, step: &Step) -> Result<OwnedFd> {
        // Where a link leads nowhere, something else was meant than to have a directory made there.
        if step.is_of_link {
            return Err(Errno::EXIST.into());
        }
        let here = &self.here().handle;
        let made = match make_readable(here, &step.name) {
            Ok(()) => true,
            // By another process, just now.
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e.into()),
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(here, &step.name, flags, Mode::empty())?;
        if made {
            fsync(openat(here, ".", flags, Mode::empty())?)?;
        }
        Ok(handle)
    }

    fn enter(&mut self, handle: OwnedFd, path: PathBuf, stat: Stat) -> Result<()> {
        let node = Node { path: &path, stat: &stat, is_among_others: false, is_content: false };
        self.caller.judge(&node, &handle)?.map_err(Error::Distrust)?;
        let is_among_others = trust::is_sticky(&stat);
        let is_open_to_invoker = match self.caller.invoker() {
            None => true,
            Some(invoker) => {
                let before = self.trail.last().is_none_or(|way| way.is_open_to_invoker);
                let list = trust::access(&stat, &handle)?;
                let passes = |list: &[Entry]| may(list, stat.st_uid == invoker, |e| e.may_execute);
                before && list.as_deref().is_some_and(passes)
            }
        };
        let way = Way { handle, path, stat, is_among_others, is_open_to_invoker };
        self.trail.push(Rc::new(way));
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd, path: &Path, stat: &Stat) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let is_among_others = self.here().is_among_others;
        let node = Node { path, stat, is_among_others, is_content: false };
        self.caller.judge(&node, link)?.map_err(Error::Distrust)?;
        let target = readlinkat(link, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.start()?;
        }
        self.expect(&target, true);
        Ok(())
    }
}

/// To be read, so that its access list can be; as a place only where that is not allowed, as to root
/// on a disk of another host.
fn open_directory(at: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => openat(&at, name, flags | OFlags::PATH, Mode::empty()),
        result => result,
    }
}

impl Found {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Device and inode.
    pub fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// The directory, to be read. With `is_content`, everything in it is believed, so that nobody
    /// else may put anything there.
    pub fn directory(&self, is_content: bool) -> Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = match self.trail.last() {
            Some(way) => openat(&way.handle, ".", flags, Mode::empty())?,
            None => openat(CWD, &self.path, flags, Mode::empty())?,
        };
        if is_content {
            self.judge(&handle, &self.stat)?;
        }
        Ok(handle)
    }

    /// What has this name in the directory.
    pub fn entry(&self, name: &OsStr) -> Result<Self> {
        if self.trail.is_empty() {
            return by_kernel(&self.path.join(name));
        }
        let step = Step { name: name.to_owned(), is_of_link: false };
        let (caller, trail) = (self.caller, self.trail.clone());
        Walk { caller, makes: false, rest: [step].into(), trail, links: 0 }.run()
    }

    /// The file, opened to read if it is a regular one, and judged.
    pub fn file(&self) -> Result<File> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match self.trail.last() {
            Some(way) => openat(&way.handle, &self.name, flags | OFlags::NOFOLLOW, Mode::empty())?,
            None => openat(CWD, &self.path, flags, Mode::empty())?,
        };
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != self.identity() {
            return Err(io::Error::other("it was replaced while it was opened").into());
        }
        self.judge(&file, &stat)?;
        Ok(file.into())
    }

    fn judge(&self, handle: &OwnedFd, stat: &Stat) -> Result<()> {
        let is_among_others = self.trail.last().is_some_and(|way| way.is_among_others);
        let node = Node { path: &self.path, stat, is_among_others, is_content: true };
        self.caller.judge(&node, handle)?.map_err(Error::Distrust)
    }

    /// Whether the user who asked root could read the file without root: for sure, as their groups
    /// are not looked at. True where nobody has asked.
    pub fn is_readable_by_invoker(&self, file: &File) -> bool {
        let Some(invoker) = self.caller.invoker() else { return true };
        let way_is_open = self.trail.last().is_some_and(|way| way.is_open_to_invoker);
        let list = trust::access(&self.stat, file).ok().flatten();
        let is_owner = self.stat.st_uid == invoker;
        way_is_open && list.is_some_and(|list| may(&list, is_owner, |entry| entry.may_read))
    }
}

/// Whether the owner is allowed something for sure, or somebody else: who that is may be anybody
/// else whom the list names.
fn may(list: &[Entry], is_owner: bool, allows: impl Fn(&Entry) -> bool) -> bool {
    list.iter().filter(|entry| (entry.who == Who::Owner) == is_owner).all(allows)
}

#[cfg(test)]
mod tests;
