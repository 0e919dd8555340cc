//! What can go wrong with the state directory: each error names the file, and has a remedy.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::{GENERATIONS, STATE_DIR, are_generations, are_ours};
use crate::formats::shell_quoted as quoted;
use crate::host::descriptors;
use crate::host::trust::Distrust;
use crate::mapping::GenerationId;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such generation: never made, or pruned.
    #[error("{}: there is no generation {number}", path.display())]
    Missing { number: GenerationId, path: PathBuf },
    /// The operating system refused. Every write goes to a temporary file first, so whatever
    /// `doing` is, the file itself is as it was.
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// The last step: what was written or removed is so, but perhaps not after a power cut.
    #[error("{}: it is done, but may not outlive a power cut: sync the directory", path.display())]
    Unsynced { path: PathBuf, source: io::Error },
    /// The content is not what was written.
    #[error("{}: damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// Of a format that only a later portmap knows.
    #[error("{}: written by a newer portmap (format {version})", path.display())]
    Newer { path: PathBuf, version: u64 },
    /// Longer than anything that portmap writes.
    #[error("{}: too large: {bytes} bytes of at most {limit}", path.display())]
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    /// Another user may write here, so root does not use it.
    #[error("{}: not trusted: {why}", path.display())]
    Untrusted { path: PathBuf, why: String, remedy: String },
    /// Another process holds the lock.
    #[error("{}: locked by {holder}, still after {}", path.display(), humantime::format_duration(*waited))]
    Locked { path: PathBuf, holder: Holder, waited: Duration },
    /// Another process stays to watch over the table.
    #[error("{}: {holder} guards the table already", path.display())]
    Guarded { path: PathBuf, holder: Holder },
    /// Another network namespace, which still exists, keeps its history here.
    #[error("{}: belongs to another network namespace (net:[{inode}])", path.display())]
    OtherNamespace { path: PathBuf, inode: u64 },
    /// A directory with files of other programs, named by mistake.
    #[error("{}: not a state directory: {what}", path.display())]
    NotOurs { path: PathBuf, what: String },
    /// The next generation has no number: something claims the highest there is.
    #[error("{}: the numbers of generations are used up", path.display())]
    Exhausted { path: PathBuf },
}

/// Who holds the lock, as far as can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, and its name in the process table.
    pub process: Option<(i32, Option<String>)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, Some(name))) => write!(f, "process {pid} ({name})"),
            Some((pid, None)) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// `asked` is the path that was to be used, the distrusted one a part of the way to it.
    pub(super) fn untrusted(asked: &Path, distrust: &Distrust) -> Self {
        // Only what portmap made is portmap's to be changed.
        let is_ours = distrust.path == asked && is_ours(asked);
        let remedy = match (is_ours, distrust.remedy()) {
            (true, Some(remedy)) => remedy,
            (true, None) => format!(
                "others may have changed what it says: restore {0} from a backup, or move it away",
                quoted(asked)
            ),
            (false, _) => "use another directory, that only root may write: --state-dir DIR".into(),
        };
        Self::Untrusted { path: distrust.path.clone(), why: format!("it {distrust}"), remedy }
    }

    /// The file or directory concerned.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path, .. }
            | Self::Io { path, .. }
            | Self::Unsynced { path, .. }
            | Self::Damaged { path, .. }
            | Self::Newer { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Untrusted { path, .. }
            | Self::Locked { path, .. }
            | Self::Guarded { path, .. }
            | Self::OtherNamespace { path, .. }
            | Self::NotOurs { path, .. }
            | Self::Exhausted { path } => path,
        }
    }

    /// What to do about it, in a line.
    pub fn help(&self) -> String {
        let path = quoted(self.path());
        match self {
            Self::Missing { .. } => "`portmap history` lists the generations that are kept".into(),
            Self::Io { source, .. } | Self::Unsynced { source, .. } => {
                io_help(source.raw_os_error().map(Errno::from_raw), self.path())
            }
            Self::Damaged { .. } => {
                format!("restore {path} from a backup, or move it away: only what it says is lost")
            }
            Self::Newer { .. } => {
                format!("install that version of portmap again, or move {path} away")
            }
            Self::TooLarge { .. } => {
                format!("portmap does not write such a file: move {path} away, or write less")
            }
            Self::Untrusted { remedy, .. } => remedy.clone(),
            Self::Locked { .. } => "try again later, or wait longer with --wait".into(),
            Self::Guarded { .. } => "one guard is enough: end that one first".into(),
            Self::OtherNamespace { .. } => {
                "use another directory for this namespace: --state-dir DIR".into()
            }
            Self::NotOurs { .. } => "use an empty or a new directory: --state-dir DIR".into(),
            Self::Exhausted { .. } => {
                "find the file with an impossible number in `portmap history`, and move it away"
                    .into()
            }
        }
    }
}

/// Whether it is a file of a state directory, or one itself, and not a directory that was named by
/// mistake.
fn is_ours(path: &Path) -> bool {
    let names = |path: &Path| -> Vec<_> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    let holds_ours = || are_ours(&names(path)) || are_generations(&names(&path.join(GENERATIONS)));
    !path.is_dir() || path.ends_with(GENERATIONS) || path == Path::new(STATE_DIR) || holds_ours()
}

fn io_help(errno: Option<Errno>, path: &Path) -> String {
    let path = quoted(path);
    match errno {
        Some(Errno::EFBIG) => format!(
            "allow larger files: ulimit -f, or LimitFSIZE= of a service; {path} is unchanged"
        ),
        Some(Errno::ENOSPC | Errno::EDQUOT) => format!(
            "free space on the file system of {path} (df -h, df -i); the file there is unchanged"
        ),
        Some(Errno::EMFILE) => descriptors::HELP_TOO_FEW.to_owned(),
        Some(Errno::EROFS) => format!(
            "mount the file system of {path} read-write, or use another directory: --state-dir DIR"
        ),
        // A service without CAP_DAC_OVERRIDE, or `chattr +i`.
        Some(Errno::EACCES | Errno::EPERM) if Uid::effective().is_root() => {
            format!("check its owner, mode and attributes: ls -ld {path}; lsattr -d {path}")
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            format!("run portmap as root (sudo), or check who owns it: ls -ld {path}")
        }
        Some(Errno::EIO) => format!(
            "the disk under {path} fails: see dmesg, and use a directory on another: --state-dir DIR"
        ),
        Some(Errno::ELOOP) => {
            format!("a symbolic link is in the way: check where it leads with ls -ld {path}")
        }
        Some(Errno::ENOTDIR | Errno::EISDIR | Errno::EEXIST) => {
            format!(
                "something else is at {path} or on the way there, such as a link that leads nowhere \
                 (namei -l shows it): move it away"
            )
        }
        _ => format!("check what is there: ls -ld {path}"),
    }
}
