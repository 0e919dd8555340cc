//! Whose files are read: as root, only those that no other user can have written.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::formats::shell_quoted;

use super::problem::{Outcome, cannot, whole};

/// Who runs portmap, which decides whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The effective user. Only for root, 0, are files checked: anyone else can do no harm.
    pub user: u32,
    /// Who asked root to run it; their files are believed as well.
    pub invoked_by: Option<u32>,
}

impl Caller {
    /// This process; the one who invoked it by sudo(8)'s `SUDO_UID`.
    pub fn current() -> Self {
        let invoked_by = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        Self { user: Uid::effective().as_raw(), invoked_by }
    }

    fn believes(self, owner: u32) -> bool {
        owner == 0 || Some(owner) == self.invoked_by
    }

    /// As root: a user who can write the file decides where root sends this host's connections.
    pub(super) fn check(
        self,
        file: &File,
        path: &Path,
        name: &str,
        metadata: &Metadata,
    ) -> Outcome<()> {
        if self.user != 0 {
            return Ok(());
        }
        let real = real_path(file, path).map_err(|error| cannot("resolve", name, &error))?;
        self.check_owner(name, &real, metadata)?;
        if let Some(who) = foreign_writers(metadata) {
            let help = format!("run `chmod {} {}`", who.chmod(), shell_quoted(&real));
            return Err(whole(name, &format!("{} may write the file", who.name())).help(help));
        }
        let directory = real.parent().unwrap_or(Path::new("/"));
        let metadata = fs::metadata(directory)
            .map_err(|error| cannot("read the attributes of", name, &error))?;
        self.check_owner(name, directory, &metadata)?;
        // In a sticky directory, such as /tmp, only the owners of the file and of the directory
        // can replace it (inode(7)), and both are believed by now.
        let is_sticky = metadata.mode() & 0o1000 != 0;
        match foreign_writers(&metadata) {
            Some(who) if !is_sticky => {
                let shown = directory.display();
                let message = format!("{} may replace files in {shown}", who.name());
                let command = format!("chmod {} {}", who.chmod(), shell_quoted(directory));
                let help = format!("run `{command}`, or move the file");
                Err(whole(name, &message).help(help))
            }
            _ => Ok(()),
        }
    }

    fn check_owner(self, name: &str, path: &Path, metadata: &Metadata) -> Outcome<()> {
        let owner = metadata.uid();
        if self.believes(owner) {
            return Ok(());
        }
        let user = User::from_uid(Uid::from_raw(owner)).ok().flatten();
        let user = user.map_or_else(|| format!("user {owner}"), |user| user.name);
        let shown = path.display();
        let message = format!(
            "{shown} belongs to {user}: root uses only files of root and of the user who ran sudo"
        );
        let command = format!("chown root {}", shell_quoted(path));
        Err(whole(name, &message).help(format!("check what it says, then run `{command}`")))
    }
}

/// Who else may write.
#[derive(Clone, Copy)]
enum Writers {
    Group,
    Others,
}

impl Writers {
    fn name(self) -> &'static str {
        match self {
            Writers::Group => "its group",
            Writers::Others => "every user",
        }
    }

    fn chmod(self) -> &'static str {
        match self {
            Writers::Group => "g-w",
            Writers::Others => "go-w",
        }
    }
}

/// `None` if only the owner may write, including through a group that has no other member,
/// as distributions make for each user together with the umask 002.
fn foreign_writers(metadata: &Metadata) -> Option<Writers> {
    match metadata.mode() {
        mode if mode & 0o002 != 0 => Some(Writers::Others),
        mode if mode & 0o020 != 0 && !is_private_group(metadata) => Some(Writers::Group),
        _ => None,
    }
}

fn is_private_group(metadata: &Metadata) -> bool {
    let user = User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
    let (Some(user), Some(group)) = (user, group) else { return false };
    user.gid == group.gid
        && user.name == group.name
        && group.mem.iter().all(|member| *member == user.name)
}

/// The path of what is open, whatever links led there or have changed since.
fn real_path(file: &File, path: &Path) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| fs::canonicalize(path))
}
