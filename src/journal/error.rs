//! What can go wrong with the state directory: each error names the file, and has a remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

#[derive(Debug)]
pub enum Error {
    /// There is no state directory. On a machine where nothing was ever applied that is as it
    /// should be; where the kernel holds a generation, its history is lost.
    Absent { path: PathBuf },
    /// No such generation: never made, or pruned.
    Missing { number: u64, path: PathBuf },
    /// The operating system refused. Every write goes to a temporary file first, so whatever
    /// `doing` is, the file itself is as it was.
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// The content is not what was written.
    Damaged { path: PathBuf, what: String },
    /// Of a format that only a later portmap knows.
    Newer { path: PathBuf, version: u64 },
    /// Longer than anything that portmap writes.
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    /// Somebody else may write here, so root does not believe it.
    Untrusted { path: PathBuf, why: String },
    /// Another process holds the lock.
    Locked { path: PathBuf, holder: Option<Holder>, waited: Duration },
    /// The next generation has no number: something claims the highest there is.
    Exhausted { path: PathBuf },
}

/// Who holds the lock, as far as can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    /// Its name in the process table; `None` if it cannot be seen from here.
    pub name: Option<String>,
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// The file or directory concerned.
    pub fn path(&self) -> &Path {
        match self {
            Self::Absent { path }
            | Self::Missing { path, .. }
            | Self::Io { path, .. }
            | Self::Damaged { path, .. }
            | Self::Newer { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Untrusted { path, .. }
            | Self::Locked { path, .. }
            | Self::Exhausted { path } => path,
        }
    }

    /// What to do about it, in a line.
    pub fn help(&self) -> String {
        let path = self.path().display();
        match self {
            Self::Absent { .. } => {
                "the first `portmap apply` makes it; if history was kept elsewhere, name that \
                 with --state-dir"
                    .into()
            }
            Self::Missing { .. } => "`portmap history` lists the generations that are kept".into(),
            Self::Io { source, .. } => match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => format!(
                    "make room on the file system of {path} (df -h, df -i); what was there is \
                     unchanged"
                ),
                Some(Errno::EROFS) => format!(
                    "mount the file system of {path} read-write, or name another directory with \
                     --state-dir"
                ),
                Some(Errno::EACCES | Errno::EPERM) => {
                    "run portmap as root (sudo), or see who owns it (ls -ld)".into()
                }
                Some(Errno::EIO) => format!(
                    "the disk under {path} fails: see dmesg, and name a directory on another with \
                     --state-dir"
                ),
                Some(Errno::ELOOP) => {
                    format!("{path} must be a file, not a symbolic link: put the file there")
                }
                Some(Errno::ENOTDIR | Errno::EISDIR | Errno::EEXIST) => {
                    format!("something else stands at {path}: move it away")
                }
                _ => format!("see what stands in its way at {path} (ls -ld)"),
            },
            Self::Damaged { .. } => {
                format!("put {path} back from a backup, or move it away: only what it says is lost")
            }
            Self::Newer { .. } => {
                format!("install that version of portmap again, or move {path} away")
            }
            Self::TooLarge { .. } => {
                format!("portmap does not write such a file: move {path} away, or write less")
            }
            Self::Untrusted { .. } => {
                format!("look at what it holds, then: chown root {path} && chmod go-w {path}")
            }
            Self::Locked { .. } => "wait for it, longer with --wait".into(),
            Self::Exhausted { .. } => {
                "see `portmap history` for a number out of the line, and move that file away".into()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { path } => {
                write!(f, "{}: no history: the directory does not exist", path.display())
            }
            Self::Missing { number, path } => {
                write!(f, "{}: there is no generation {number}", path.display())
            }
            // The source is the next link of the chain, not part of this one.
            Self::Io { doing, path, .. } => write!(f, "{doing} {}", path.display()),
            Self::Damaged { path, what } => write!(f, "{}: damaged: {what}", path.display()),
            Self::Newer { path, version } => write!(
                f,
                "{}: written by a newer portmap (format {version}, this one knows up to {})",
                path.display(),
                super::record::VERSION
            ),
            Self::TooLarge { path, bytes, limit } => {
                write!(f, "{}: too large: {bytes} bytes of at most {limit}", path.display())
            }
            Self::Untrusted { path, why } => {
                write!(f, "{}: not to be trusted: {why}", path.display())
            }
            Self::Locked { path, holder, waited } => {
                write!(f, "{}: ", path.display())?;
                match holder {
                    Some(Holder { pid, name: Some(name) }) => {
                        write!(f, "locked by process {pid} ({name})")?;
                    }
                    Some(Holder { pid, name: None }) => write!(f, "locked by process {pid}")?,
                    None => f.write_str("locked by another process")?,
                }
                write!(f, ", still after {}", humantime::format_duration(*waited))
            }
            Self::Exhausted { path } => {
                write!(f, "{}: the numbers of generations are used up", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
