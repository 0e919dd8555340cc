//! What can be done to a command at each of its system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::support::Namespace;
use crate::support::portmap::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// `effect` in the place of the `when`th call of each thread.
    Call { call: String, effect: &'static str, when: usize },
    /// An option of prlimit(1).
    Limit(String),
}

/// How it may fail, where a program can be expected to meet that: the manual pages of the calls.
fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "openat" | "open" | "openat2" => &["error=EIO", "error=EACCES", "error=EMFILE"],
        "mkdir" | "mkdirat" => &["error=ENOSPC", "error=EROFS"],
        "write" => &["error=ENOSPC", "error=EIO", "error=EINTR"],
        "read" | "pread64" => &["error=EIO"],
        "fsync" | "fdatasync" => &["error=EIO", "error=ENOSPC"],
        "rename" | "renameat" | "renameat2" => &["error=EIO", "error=ENOSPC"],
        "unlink" | "unlinkat" => &["error=EIO", "error=EROFS"],
        "fchmod" | "fchmodat" | "ftruncate" => &["error=EIO", "error=EROFS"],
        "flock" => &["error=ENOLCK", "error=EINTR"],
        "socket" => &["error=EMFILE", "error=EPERM", "error=EPROTONOSUPPORT"],
        "bind" | "setsockopt" | "getsockopt" | "getsockname" => &["error=EPERM", "error=ENOBUFS"],
        "sendto" | "sendmsg" => &["error=ENOBUFS", "error=EPERM", "error=EINTR"],
        "recvfrom" | "recvmsg" => &["error=ENOBUFS", "error=ENOMEM", "error=EINTR"],
        "getdents64" | "fstat" | "statx" | "newfstatat" | "readlink" | "readlinkat" | "lseek" => {
            &["error=EIO"]
        }
        "connect" => &["error=ECONNREFUSED"],
        "ppoll" | "poll" => &["error=EINTR", "error=ENOMEM"],
        "clone3" | "clone" => &["error=EAGAIN"],
        "mmap" | "mprotect" | "brk" => &["error=ENOMEM"],
        "getrandom" | "membarrier" | "unshare" | "setns" => &["error=EPERM"],
        "fgetxattr" | "getxattr" | "lgetxattr" => &["error=EIO"],
        "execve" => &["error=ENOMEM"],
        _ => &[],
    }
}

/// Nothing is written before the first of these, and by then the libraries are loaded.
const MAIN: &str = "rt_sigaction(SIGPIPE";

const KILL: &str = "signal=KILL";

/// From here on, the calls of a kind are of a kind.
const SOME: usize = 20;

/// Whether there may be more after a call than before. Only there it matters to be killed: between
/// two of them, everything is as it was.
fn leaves_something(line: &str) -> bool {
    const LEAVING: [&str; 12] = [
        "mkdir",
        "write",
        "fsync",
        "rename",
        "unlink",
        "fchmod",
        "ftruncate",
        "flock",
        "sendto",
        "sendmsg",
        "setns",
        "exit_group",
    ];
    LEAVING.iter().any(|call| line.starts_with(call)) || line.contains("O_CREAT")
}

/// What a log of strace(1) shows can be done. `is_killed`: its death is of interest, too.
pub fn points(log: &str, is_killed: bool) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut points = BTreeSet::new();
    let mut has_begun = false;
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let Some((call, _)) = rest.split_once('(') else { continue };
        if call.is_empty() || call.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            continue;
        }
        has_begun |= rest.starts_with(MAIN);
        let when = counts.entry((thread, call)).or_default();
        *when += 1;
        if !has_begun {
            continue;
        }
        let killed = is_killed.then_some(KILL);
        let mut errors = errors_of(call).iter().copied();
        // Of what is called again and again, each call fails in one way.
        let errors: Vec<_> = match (errors.len(), *when > SOME) {
            (0, _) => Vec::new(),
            (n, true) => errors.nth(*when % n).into_iter().collect(),
            (_, false) => errors.collect(),
        };
        let killed = killed.filter(|_| leaves_something(rest));
        for effect in errors.into_iter().chain(killed) {
            points.insert(Point::Call { call: call.to_owned(), effect, when: *when });
        }
    }
    assert!(has_begun, "no {MAIN} in {log}");
    let limits =
        [("fsize", 0, 1200, 60), ("nofile", 3, 20, 1), ("as", 6_000_000, 30_000_000, 800_000)];
    let limits = limits.into_iter().flat_map(|(of, from, to, step)| {
        (from..to).step_by(step).map(move |n| Point::Limit(format!("--{of}={n}")))
    });
    points.into_iter().chain(limits).collect()
}

impl Point {
    pub fn is_kill(&self) -> bool {
        matches!(self, Self::Call { effect: KILL, .. })
    }

    pub fn strike(&self, host: &Namespace, words: &[String]) -> Outcome {
        match self {
            Self::Call { call, effect, when } => {
                host.portmap_injected(call, effect, *when, words).outcome
            }
            Self::Limit(limit) => host.portmap_limited(limit, words).run(),
        }
    }

    /// Without memory a program in Rust ends at once (SIGABRT), and without descriptors or memory
    /// it may not even be loaded; what it was doing is lost no more than by a kill.
    pub fn may_abort(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Call { call, .. } => {
                let is_memory = ["mmap", "mprotect", "brk", "execve"].contains(&call.as_str());
                is_memory && matches!(outcome.code, Some(127 | 134))
            }
            Self::Limit(_) => matches!(outcome.code, Some(126 | 127 | 134)),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { call, effect, when } => write!(f, "{effect} at call {when} of {call}"),
            Self::Limit(limit) => write!(f, "prlimit {limit}"),
        }
    }
}
