//! Whose files are believed: as root, only those that no other user can have written or put there.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fgetxattr, getxattr};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::formats::shell_quoted;

use super::accounts::{group_name, is_private, user_name};
use super::acl::{self, Entry, Who};
use super::environment;

/// Who runs portmap, which decides whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who can do no harm but to themselves: nothing is checked.
    Ordinary,
    /// Root, over other users: only files of root are believed, and of whoever asked root.
    Root { invoked_by: Option<u32> },
}

impl Caller {
    /// This process; the one who invoked it by sudo(8)'s `SUDO_UID`. The kernel is asked who it is,
    /// as it is asked whose the files are: fakeroot(1) answers in the place of libc, and a build
    /// under it is an ordinary user's.
    pub fn current() -> Self {
        if !geteuid().is_root() || is_only_user() {
            return Self::Ordinary;
        }
        let invoked_by = environment::var("SUDO_UID").and_then(|uid| uid.parse().ok());
        Self::Root { invoked_by }
    }

    /// The same, where the word of whoever asked root is not enough.
    pub fn alone(self) -> Self {
        match self {
            Self::Ordinary => Self::Ordinary,
            Self::Root { .. } => Self::Root { invoked_by: None },
        }
    }

    pub fn is_root(self) -> bool {
        matches!(self, Self::Root { .. })
    }

    /// The user who asked root, if it was another one.
    pub fn invoker(self) -> Option<u32> {
        match self {
            Self::Root { invoked_by: Some(uid) } if uid != 0 => Some(uid),
            _ => None,
        }
    }

    fn believes(self, owner: u32) -> bool {
        owner == 0 || self.invoker() == Some(owner)
    }

    /// Whether nobody but those who are believed can have written what is open as `handle`, or, of
    /// a directory, can have put there what is in it.
    pub fn judge(self, node: &Node<'_>, handle: impl AsFd) -> io::Result<Result<(), Distrust>> {
        if self == Self::Ordinary {
            return Ok(Ok(()));
        }
        let stat = node.stat;
        let distrust = |reason| {
            let (path, kind) = (node.path.to_owned(), FileType::from_raw_mode(stat.st_mode));
            Ok(Err(Distrust { path, kind, mode: stat.st_mode & 0o7777, reason }))
        };
        if !self.believes(stat.st_uid) {
            let is_invoker_believed = self.invoker().is_some();
            return distrust(Reason::Owner { uid: stat.st_uid, is_invoker_believed });
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let has_names = stat.st_nlink > 1 && kind != FileType::Directory;
        if node.is_among_others && has_names {
            return distrust(Reason::Names);
        }
        // The mode of a link says nothing: who may replace it, the directory says.
        if kind == FileType::Symlink {
            return Ok(Ok(()));
        }
        // In a sticky directory, such as /tmp, only the owners of an entry and of the directory can
        // replace it (inode(7)): the entry's owner is judged next.
        if !node.is_content && is_sticky(stat) {
            return Ok(Ok(()));
        }
        match access(stat, handle)? {
            None => distrust(Reason::Unreadable),
            Some(list) => match self.foreign_writer(stat.st_uid, stat.st_gid, &list) {
                Some(writer) => distrust(Reason::Writer(writer)),
                None => Ok(Ok(())),
            },
        }
    }

    fn foreign_writer(self, owner: u32, group: u32, list: &[Entry]) -> Option<Writer> {
        let is_foreign = |who: &Who| match who {
            Who::Owner => false,
            Who::User(uid) => *uid != owner && !self.believes(*uid),
            Who::OwningGroup => !is_private(group, owner),
            Who::Group(_) | Who::Others => true,
        };
        let writers = list.iter().filter(|entry| entry.may_write).map(|entry| entry.who);
        let foreign: Vec<_> = writers.filter(is_foreign).collect();
        let widest = foreign.iter().find(|who| **who == Who::Others).or(foreign.first());
        Some(match *widest? {
            Who::OwningGroup => Writer::Group(group),
            Who::Others => Writer::Everybody,
            listed => Writer::Listed(listed),
        })
    }
}

/// Whether this is a user namespace that maps a single user (user_namespaces(7)), as `unshare -Ur`
/// makes it: root there is that user, and rules over nobody.
fn is_only_user() -> bool {
    maps_one(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

/// Lines of a number inside, one outside, and how many there are from these on.
pub(super) fn maps_one(uid_map: &str) -> bool {
    let lines: Vec<Vec<_>> =
        uid_map.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    matches!(&lines[..], [line] if matches!(line[..], [_, _, "1"]))
}

/// A component of a path, to be judged.
pub struct Node<'n> {
    pub path: &'n Path,
    pub stat: &'n Stat,
    /// Whether it is in a directory where others may put things, though not replace it.
    pub is_among_others: bool,
    /// Whether all that it holds is believed, and not only what is found there and judged itself.
    pub is_content: bool,
}

pub fn is_sticky(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_mode & 0o1000 != 0
}

/// Who may do what with the file; `None` if its access list makes no sense.
pub fn access(stat: &Stat, handle: impl AsFd) -> io::Result<Option<Vec<Entry>>> {
    // The kernel limits an attribute to 64 KiB (xattr(7)).
    let mut room = Vec::with_capacity(64 << 10);
    let handle = handle.as_fd();
    let read = match fgetxattr(handle, acl::ATTRIBUTE, rustix::buffer::spare_capacity(&mut room)) {
        // A descriptor that is only a place (O_PATH).
        Err(Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
            getxattr(path, acl::ATTRIBUTE, rustix::buffer::spare_capacity(&mut room))
        }
        read => read,
    };
    match read {
        Ok(_) => Ok(acl::parse(&room)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Some(acl::of_mode(stat.st_mode))),
        Err(e) => Err(e.into()),
    }
}

/// Why a component of a path is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// Without links.
    pub path: PathBuf,
    kind: FileType,
    mode: u32,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Owner {
        uid: u32,
        is_invoker_believed: bool,
    },
    Writer(Writer),
    /// A link to it could have been made by anybody who may make files there.
    Names,
    /// It has an access list that cannot be understood.
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Writer {
    Group(u32),
    Everybody,
    /// By an entry of its access list.
    Listed(Who),
}

impl Distrust {
    pub fn is_of_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// How to make it one that is believed, if it is the user's to change. `None` for a file, which
    /// cannot be made one: whoever has it open goes on writing it, whatever its mode is by then.
    pub fn remedy(&self) -> Option<String> {
        let path = shell_quoted(&self.path);
        match &self.reason {
            _ if self.kind == FileType::Symlink => {
                Some(format!("name what it leads to: `readlink -f {path}`"))
            }
            _ if self.kind != FileType::Directory => None,
            Reason::Owner { .. } => {
                Some(format!("check what is in it, then run `chown root {path}`"))
            }
            // The group's permissions are the mask of an access list (acl(5)).
            Reason::Writer(Writer::Group(_) | Writer::Listed(_)) => {
                Some(format!("run `chmod g-w {path}`"))
            }
            Reason::Writer(Writer::Everybody) => Some(format!("run `chmod go-w {path}`")),
            Reason::Unreadable => Some(format!("run `setfacl --remove-all {path}`")),
            Reason::Names => None,
        }
    }
}

/// What follows the path: `belongs to eve (uid 1001), not to root (mode 0755)`.
impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_of_directory() { "replace files in it" } else { "write it" };
        match &self.reason {
            Reason::Owner { uid, is_invoker_believed } => {
                let owner = user_name(*uid);
                match is_invoker_believed {
                    true => write!(
                        f,
                        "belongs to {owner}, neither to root nor to the user who ran sudo"
                    )?,
                    false => write!(f, "belongs to {owner}, not to root")?,
                }
            }
            Reason::Writer(Writer::Everybody) => {
                write!(f, "is open to all: every user may {what}")?
            }
            Reason::Writer(Writer::Group(gid)) => {
                write!(f, "is open to a group: {} may {what}", group_name(*gid))?;
            }
            Reason::Writer(Writer::Listed(who)) => {
                let name = match who {
                    Who::User(uid) => format!("user {}", user_name(*uid)),
                    Who::Group(gid) => format!("group {}", group_name(*gid)),
                    _ => "another user".to_owned(),
                };
                write!(f, "has an access list (see getfacl): {name} may {what}")?;
            }
            Reason::Names => write!(
                f,
                "has several names, and is in a directory where every user could have made one"
            )?,
            Reason::Unreadable => f.write_str("has an access list that cannot be understood")?,
        }
        if self.kind == FileType::Symlink {
            return f.write_str(" (a symbolic link)");
        }
        write!(f, " (mode {:04o})", self.mode)
    }
}
