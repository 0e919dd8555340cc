//! Why the engine did not do what was asked, and what that left behind in the kernel.

use std::time::Duration;

use nix::libc;

use super::drift::Drift;
use crate::doctor::Finding;
use crate::history::{self, Nowhere};
use crate::host::boot::Missing;
use crate::host::holders::Process;
use crate::kernel::{self, CommitError, conntrack};
use crate::mapping::{GenerationId, Point, Service};
use crate::ruleset::RunId;

/// What a failure left behind. The exit code follows from it and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The kernel does what it did before.
    Unchanged,
    /// The kernel does part of what was asked, or it is not known whether it does it.
    Partly,
    /// The kernel does what was asked; what was to follow failed.
    Changed,
}

/// A failure, its effect, and what was being done, from the whole to the part.
#[derive(Debug)]
pub struct Error {
    pub effect: Effect,
    context: Vec<String>,
    cause: Cause,
    /// Whether the same can be done without the history that failed.
    has_way_without_history: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Flows(#[from] conntrack::Error),
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What is not done although it could be tried, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("another mapping is on trial for {} more seconds", seconds(*left))]
    OnTrial { left: Duration },
    #[error("nothing is on trial")]
    NothingOnTrial,
    #[error("the trial is over: the kernel has returned to the previous mapping")]
    TrialOver,
    #[error("the trial of generation {number} has been confirmed by another command")]
    Confirmed { number: GenerationId },
    #[error("the trial of generation {number} has been ended by another command")]
    Ended { number: GenerationId },
    /// What the change would lead to, where warnings are errors.
    #[error("{} of what the change would lead to", words_for(.0.len()))]
    Findings(Vec<Finding>),
    #[error("there is no active generation to persist")]
    NothingToPersist,
    #[error("what is active is not generation {number} any more: {drift}")]
    Drifted { number: GenerationId, drift: Drift },
    #[error("generation {number} is persisted, but nothing will restore it at boot: {why}")]
    NotRestored { number: GenerationId, why: Missing },
    #[error("there is no generation to go back to: {nowhere}")]
    Nowhere { nowhere: Nowhere, last: Option<GenerationId> },
    #[error("generation {number} cannot be read as a rules file")]
    NotRules { number: GenerationId },
    #[error("nothing is before generation 0, the empty one")]
    FirstOfAll,
    #[error("it is not known what was active before generation {number}")]
    UnknownParent { number: GenerationId },
    #[error("another program keeps changing the ruleset; gave up after {attempts} attempts")]
    Restless { attempts: u32 },
    #[error("read the history: another portmap changed it in each of {attempts} attempts")]
    Busy { attempts: u32 },
    #[error("another program keeps changing table inet portmap: {left} would have to be done")]
    Contested { left: String },
    #[error("{service} is mapped by another run: {}", run_elsewhere(*pid, command, holders))]
    RunElsewhere { service: Service, pid: u32, command: String, holders: Vec<Process> },
    /// It is called as that of a run, but is of somebody else's making.
    #[error("{service} is mapped by table inet {table}, which is not of portmap's making")]
    TableElsewhere { service: Service, table: RunId },
}

/// The command may have ended, and what it started hold the mapping; and where it was started, its
/// process may have had another number than here (pid_namespaces(7)).
fn run_elsewhere(pid: u32, command: &str, holders: &[Process]) -> String {
    match holders {
        [] => format!("`{command}`, whose processes cannot be seen from here"),
        [first, ..] if holders.iter().all(|holder| holder.pid != pid) => {
            format!("process {} ({}) holds it, of `{command}`", first.pid, first.name)
        }
        _ => format!("process {pid} (`{command}`)"),
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().ceil()
}

fn words_for(warnings: usize) -> String {
    if warnings == 1 { "1 warning".to_owned() } else { format!("{warnings} warnings") }
}

impl Refusal {
    fn help(&self) -> String {
        match self {
            Self::OnTrial { .. } => {
                "keep it with `portmap confirm`, or end the trial with `portmap rollback`".into()
            }
            Self::NothingOnTrial => "`portmap apply --confirm 60s FILE` starts a trial".into(),
            Self::TrialOver => "apply the file again, with more time to confirm it".into(),
            Self::Confirmed { .. } => {
                "`portmap rollback` goes back to the mapping before it".into()
            }
            Self::Ended { .. } => "`portmap status` shows what is active".into(),
            Self::Findings(_) => "without --strict the change is made all the same".into(),
            Self::NothingToPersist => {
                "apply a rules file first: portmap apply --persist FILE".into()
            }
            Self::Drifted { .. } => {
                "apply the rules file again: portmap apply --persist FILE".into()
            }
            Self::NotRestored { why, .. } => why.help(),
            // A reboot, or a flush by another program.
            Self::Nowhere { last: Some(last), .. } => {
                format!("`portmap rollback --to {last}` puts back what was active last")
            }
            Self::Nowhere { last: None, .. } => {
                "`portmap history` lists the generations, `portmap rollback --to N` goes to any \
                 of them, 0 is the empty one"
                    .into()
            }
            Self::NotRules { number } => {
                format!("`portmap show {number} | portmap check -` says what is wrong with it")
            }
            Self::FirstOfAll => "`portmap history --diff 0 N` shows how N differs from it".into(),
            Self::UnknownParent { number } => {
                format!("name both: portmap history --diff N {number}")
            }
            Self::Busy { .. } => "try again later".into(),
            Self::RunElsewhere { pid, holders, .. } => {
                let pids: Vec<_> = holders.iter().map(|holder| holder.pid.to_string()).collect();
                match pids.as_slice() {
                    [] => format!(
                        "end it where it was started, as process {pid} there; or choose another \
                         port"
                    ),
                    _ if pids.contains(&pid.to_string()) => {
                        format!("`kill {pid}` ends it; or choose another port")
                    }
                    _ => format!("`kill {}` ends it; or choose another port", pids.join(" ")),
                }
            }
            Self::TableElsewhere { table, .. } => format!(
                "`nft list table inet {table}` shows it, `nft delete table inet {table}` removes \
                 it; or choose another port"
            ),
            Self::Restless { .. } | Self::Contested { .. } => {
                "`nft monitor` shows which program changes what".into()
            }
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

impl<E: Into<Cause>> From<E> for Error {
    fn from(cause: E) -> Self {
        Self {
            effect: Effect::Unchanged,
            context: Vec::new(),
            cause: cause.into(),
            has_way_without_history: false,
        }
    }
}

impl Error {
    /// Names what was being done.
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.context.insert(0, doing.into());
        self
    }

    /// The effect, unless a greater one is known already.
    pub fn at_least(mut self, effect: Effect) -> Self {
        self.effect = self.effect.max(effect);
        self
    }

    /// The same change can be made without a history. A lock will be free again, and the directory
    /// of another namespace is a mistake.
    pub fn or_without_history(mut self) -> Self {
        self.has_way_without_history = self.effect == Effect::Unchanged
            && matches!(
                &self.cause,
                Cause::History(e) if !matches!(
                    e,
                    history::Error::Locked { .. } | history::Error::OtherNamespace { .. }
                )
            );
        self
    }

    /// Whether the kernel cannot tie a table to a socket.
    pub fn lacks_owner(&self) -> bool {
        matches!(&self.cause, Cause::Commit(CommitError::NoOwner))
    }

    /// Whether the kernel refused something that it may lack a module or an option for.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            &self.cause,
            Cause::Commit(CommitError::Refused { errno, .. })
                if [libc::EOPNOTSUPP, libc::ENOENT, libc::EINVAL].contains(errno)
        )
    }

    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What the user can do, in a line.
    pub fn help(&self) -> Option<String> {
        let help = match &self.cause {
            Cause::Kernel(e) => e.help().map(str::to_owned),
            Cause::Commit(e) => e.help().map(str::to_owned),
            Cause::Flows(e) => Some(e.help().to_owned()),
            Cause::History(e) => Some(e.help()),
            Cause::Refused(e) => Some(e.help()),
        };
        match self.has_way_without_history {
            true => help.map(|help| format!("{help}; or do without a way back: --no-history")),
            false => help,
        }
    }
}

impl std::fmt::Display for Error {
    /// What was being done to what, then why it failed, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for doing in &self.context {
            write!(f, "{doing}: ")?;
        }
        write!(f, "{}", self.cause)?;
        let mut source = std::error::Error::source(&self.cause);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The text of a point in the history, for people.
pub fn name(point: Point) -> String {
    match point {
        Point::Beginning => "generation 0, the empty one".to_owned(),
        Point::Generation(number) => format!("generation {number}"),
    }
}

/// The same where the sentence goes on.
pub fn name_within(point: Point) -> String {
    let comma = if point == Point::Beginning { "," } else { "" };
    name(point) + comma
}

/// Names what was being done, where it fails.
pub trait Context<T> {
    fn context(self, doing: &str) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: &str) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }
}
