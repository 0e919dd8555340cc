//! The tables of portmap's, by name: the one that files make, one for each run, and that of a guard.

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

/// How long a table lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the netlink socket that made it is closed; nobody else can change it before
    /// (`NFT_TABLE_F_OWNER`, Linux 5.12).
    Socket,
    /// Until a process of portmap's deletes it: once the unix socket that the command has inherited
    /// is closed for the last time. The number is that of its inode; `None` where the table does
    /// not say, and so is not of portmap's making.
    Supervised { socket: Option<u64> },
}

impl Lifetime {
    /// Whether the table says what it waits for. One that does not has only the name of such a table:
    /// it is for whoever made it to remove.
    pub fn is_told(self) -> bool {
        self != Self::Supervised { socket: None }
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
        let Lifetime::Supervised { socket: Some(socket) } = self.lifetime else {
            return self.command.clone();
        };
        let (start, end) = WHILE_OPEN;
        let command = self.command.as_deref().unwrap_or_default();
        Comment::shortened(&format!("{start}{socket}{end}{command}"))
    }

    /// From what the kernel has of it.
    pub fn found(id: RunId, is_owned: bool, comment: Option<&str>) -> Self {
        let (lifetime, command) = match is_owned {
            true => (Lifetime::Socket, comment),
            false => supervised(comment),
        };
        let command = command.and_then(|command| Comment::new(command).ok());
        Self { id, command, lifetime }
    }
}

fn supervised(comment: Option<&str>) -> (Lifetime, Option<&str>) {
    let (start, end) = WHILE_OPEN;
    let parts = comment.and_then(|comment| comment.strip_prefix(start)?.split_once(end));
    match parts.and_then(|(socket, command)| Some((socket.parse().ok()?, command))) {
        Some((socket, command)) => (Lifetime::Supervised { socket: Some(socket) }, Some(command)),
        None => (Lifetime::Supervised { socket: None }, comment),
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

impl TableName {
    /// The priority of a base chain in this table. A run is one ahead of the files: the first
    /// translation of a connection is the one that counts.
    pub const fn priority(self, base: &BaseChain) -> i32 {
        match self {
            TableName::Main | TableName::Guard(_) => base.priority,
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
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RUN_PREFIX}{}", self.pid)?;
        match self.nth {
            0 | 1 => Ok(()),
            nth => write!(f, "-{nth}"),
        }
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let numbers = name.strip_prefix(RUN_PREFIX).ok_or(())?;
        let (pid, nth) = numbers.split_once('-').unwrap_or((numbers, "1"));
        let id = Self { pid: pid.parse().map_err(drop)?, nth: nth.parse().map_err(drop)? };
        // Not every spelling that parses is ours: `portmap-run-007`.
        if id.to_string() == name { Ok(id) } else { Err(()) }
    }
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
