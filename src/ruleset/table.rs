//! The tables of portmap's, by name: the one that files make, one for each run, and those of guards
//! and traces.

use std::fmt;
use std::str::FromStr;

use super::{BaseChain, Layer, Observed, TABLE};
use crate::mapping::{Comment, MappingSet};

/// A table of portmap's, of family inet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    /// `portmap`: what the files say. It stays until it is changed.
    Main,
    /// What `portmap run` makes for one command.
    Run(RunId),
    /// What `portmap guard` has while it runs, by its process. It translates nothing.
    Guard(u32),
    /// What `portmap trace` or a probe has while it runs. It decides nothing.
    Trace(TraceId),
}

/// Names the table of a run: `portmap-run-4711`, by the process that the command was started as.
/// While something that the command has left running holds the table, the number of the process
/// may be given out again: then `portmap-run-4711-2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub pid: u32,
    /// Counts from 1.
    pub nth: u32,
}

/// Names the table of a trace or a probe by its process: `portmap-trace-4711`. Processes of different
/// process namespaces may have the same number: then `portmap-trace-4711-2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId {
    pub pid: u32,
    /// Counts from 1.
    pub nth: u32,
}

/// How long a table lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the netlink socket that made it is closed; nobody else can change it before
    /// (`NFT_TABLE_F_OWNER`, Linux 5.12).
    Socket,
    /// Until a process of portmap's deletes it: once the unix socket that the command has inherited,
    /// or the trace has, is closed for the last time. The number is that of its inode; `None` where
    /// the table does not say, and so is not of portmap's making.
    Supervised { socket: Option<u64> },
}

impl Lifetime {
    /// Whether the table says what it waits for. One that does not has only the name of such a table:
    /// it is for whoever made it to remove.
    pub fn is_told(self) -> bool {
        self != Self::Supervised { socket: None }
    }

    /// What the table says of it in its comment, before what else that says.
    fn comment(self, rest: Option<&Comment>) -> Option<Comment> {
        let Self::Supervised { socket: Some(socket) } = self else { return rest.cloned() };
        let (start, end) = WHILE_OPEN;
        let rest = rest.map(|rest| &**rest).unwrap_or_default();
        Comment::shortened(&format!("{start}{socket}{end}{rest}"))
    }

    /// From what the kernel has of a table, and what else its comment says.
    fn found(is_owned: bool, comment: Option<&str>) -> (Self, Option<&str>) {
        if is_owned {
            return (Self::Socket, comment);
        }
        let (start, end) = WHILE_OPEN;
        let parts = comment.and_then(|comment| comment.strip_prefix(start)?.split_once(end));
        match parts.and_then(|(socket, rest)| Some((socket.parse().ok()?, rest))) {
            Some((socket, rest)) => (Self::Supervised { socket: Some(socket) }, Some(rest)),
            None => (Self::Supervised { socket: None }, comment),
        }
    }
}

/// The table of a run, apart from what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTable {
    pub id: RunId,
    /// The command, cut short where the table's comment has no room for it.
    pub command: Option<Comment>,
    pub lifetime: Lifetime,
}

/// How the comment of a supervised table begins, and how the number in it ends.
const WHILE_OPEN: (&str, &str) = ("while socket ", " is open: ");

impl RunTable {
    /// What the kernel keeps as the table's comment.
    pub fn comment(&self) -> Option<Comment> {
        self.lifetime.comment(self.command.as_ref())
    }

    /// From what the kernel has of it.
    pub fn found(id: RunId, is_owned: bool, comment: Option<&str>) -> Self {
        let (lifetime, command) = Lifetime::found(is_owned, comment);
        let command = command.and_then(|command| Comment::new(command).ok());
        Self { id, command, lifetime }
    }
}

/// The table of a trace or a probe, apart from what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceTable {
    pub id: TraceId,
    pub lifetime: Lifetime,
}

impl TraceTable {
    /// What the kernel keeps as the table's comment.
    pub fn comment(&self) -> Option<Comment> {
        self.lifetime.comment(Comment::new("a trace of portmap's").ok().as_ref())
    }

    /// From what the kernel has of it.
    pub fn found(id: TraceId, is_owned: bool, comment: Option<&str>) -> Self {
        Self { id, lifetime: Lifetime::found(is_owned, comment).0 }
    }
}

/// A run as it was found in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub table: RunTable,
    /// The address of the netlink socket that it lives with (`NFTA_TABLE_OWNER`).
    pub owner: Option<u32>,
    pub observed: Observed,
}

impl Run {
    pub fn mapping(&self) -> MappingSet {
        self.observed.ruleset.mapping(Layer::Active)
    }
}

const RUN_PREFIX: &str = "portmap-run-";
const GUARD_PREFIX: &str = "portmap-guard-";
const TRACE_PREFIX: &str = "portmap-trace-";

impl TableName {
    /// The priority of a base chain in this table. A run is one ahead of the files: the first
    /// translation of a connection is the one that counts.
    pub const fn priority(self, base: &BaseChain) -> i32 {
        match self {
            TableName::Main | TableName::Guard(_) | TableName::Trace(_) => base.priority,
            TableName::Run(_) => base.priority - 1,
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableName::Main => f.write_str(TABLE),
            TableName::Run(id) => id.fmt(f),
            TableName::Guard(pid) => write!(f, "{GUARD_PREFIX}{pid}"),
            TableName::Trace(id) => id.fmt(f),
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(RUN_PREFIX, self.pid, self.nth))
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (pid, nth) = numbers(RUN_PREFIX, name).ok_or(())?;
        Ok(Self { pid, nth })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(TRACE_PREFIX, self.pid, self.nth))
    }
}

impl FromStr for TraceId {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (pid, nth) = numbers(TRACE_PREFIX, name).ok_or(())?;
        Ok(Self { pid, nth })
    }
}

/// The name of a table by a process, the `nth` of this name.
fn spelled(prefix: &str, pid: u32, nth: u32) -> String {
    match nth {
        0 | 1 => format!("{prefix}{pid}"),
        nth => format!("{prefix}{pid}-{nth}"),
    }
}

/// The numbers in such a name.
fn numbers(prefix: &str, name: &str) -> Option<(u32, u32)> {
    let numbers = name.strip_prefix(prefix)?;
    let (pid, nth) = numbers.split_once('-').unwrap_or((numbers, "1"));
    let (pid, nth) = (pid.parse().ok()?, nth.parse().ok()?);
    // Not every spelling that parses is ours: `portmap-run-007`.
    (spelled(prefix, pid, nth) == name).then_some((pid, nth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::COMMENT_MAX;

    #[test]
    fn the_comment_says_how_long_a_table_lives() {
        let id = RunId { pid: 7, nth: 1 };
        let command = Comment::new("npm start").ok();
        for (lifetime, comment) in [
            (Lifetime::Socket, "npm start"),
            (Lifetime::Supervised { socket: Some(41) }, "while socket 41 is open: npm start"),
            (Lifetime::Supervised { socket: None }, "npm start"),
        ] {
            let table = RunTable { id, command: command.clone(), lifetime };
            assert_eq!(table.comment().as_deref(), Some(comment));
            let is_owned = lifetime == Lifetime::Socket;
            assert_eq!(RunTable::found(id, is_owned, Some(comment)), table);
        }
        let long = Comment::new(&"ä".repeat(COMMENT_MAX / 2)).ok();
        let lifetime = Lifetime::Supervised { socket: Some(u64::MAX) };
        let table = RunTable { id, command: long, lifetime };
        let comment = table.comment().unwrap();
        assert!(comment.ends_with("ä…"), "{comment}");
        assert_eq!(RunTable::found(id, false, Some(&comment)).lifetime, lifetime);
    }

    #[test]
    fn a_trace_is_told_from_what_only_has_its_name() {
        let id: TraceId = "portmap-trace-7-2".parse().unwrap();
        assert_eq!(
            (id.to_string().as_str(), id),
            ("portmap-trace-7-2", TraceId { pid: 7, nth: 2 })
        );
        assert_eq!("portmap-run-7".parse::<TraceId>(), Err(()));
        let lifetime = Lifetime::Supervised { socket: Some(41) };
        let table = TraceTable { id, lifetime };
        let comment = table.comment().unwrap();
        assert_eq!(&*comment, "while socket 41 is open: a trace of portmap's");
        assert_eq!(TraceTable::found(id, false, Some(&comment)), table);
        assert_eq!(TraceTable::found(id, true, None).lifetime, Lifetime::Socket);
        assert!(!TraceTable::found(id, false, None).lifetime.is_told());
    }

    #[test]
    fn names_of_runs_read_back() {
        for name in ["portmap-run-1", "portmap-run-4711", "portmap-run-4711-2"] {
            assert_eq!(name.parse::<RunId>().map(|id| id.to_string()).as_deref(), Ok(name));
        }
        for name in [
            "portmap",
            "portmap-run-",
            "portmap-run-007",
            "portmap-run-+7",
            "portmap-run-7-1",
            "portmap-run-7-0",
            "portmap-run-7-2-3",
            "portmap-run-99999999999",
        ] {
            assert_eq!(name.parse::<RunId>(), Err(()), "{name}");
        }
    }
}
