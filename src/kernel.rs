//! The one narrow door to the kernel's ruleset. Values go in and come out; netlink stays behind it.
//!
//! Every question and every change needs CAP_NET_ADMIN over the network namespace: the kernel
//! refuses even to name the generation without it.

pub mod aside;
mod barrier;
pub mod conntrack;
pub mod events;
pub mod firewall;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod held;
pub mod keeper;
pub mod keyring;
pub mod limits;
pub mod links;
mod netlink;
mod nft;
pub mod outside;
mod remedy;
pub mod secure;
mod sockets;
pub mod trace;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use nix::libc;

use crate::firewall::Rulesets;
use crate::host::listeners::Listening;
use crate::kernel::netlink::socket::{Answer, Socket};
use crate::kernel::nft::batch::Batch;
use crate::kernel::nft::moment::consistent;
use crate::kernel::nft::{encode, explain, read, runs};
use crate::mapping::{MappingSet, Protocol};
use crate::plan::Step;
use crate::ruleset::{Observed, Run, RunTable, Stamp, TableName, TraceTable};

/// The table, and the generation of the whole ruleset at which it was read.
#[derive(Debug)]
pub struct Snapshot {
    pub generation: u32,
    /// `None` if the table does not exist.
    pub table: Option<Observed>,
    /// Whether there are tables of runs or traces as well. It costs nothing to know;
    /// [`Kernel::runs`] reads them.
    pub has_others: bool,
}

pub use crate::kernel::nft::read::Extent;
pub use crate::kernel::remedy::remedy;

/// The tables of runs and traces, and the generation of the whole ruleset at which they were read.
#[derive(Debug)]
pub struct Runs {
    pub generation: u32,
    pub runs: Vec<Run>,
    pub traces: Vec<TraceTable>,
}

/// What portmap asks of the kernel of one network namespace. The program has [`Netlink`]; tests
/// have a model of it.
pub trait Kernel {
    /// The generation of the whole ruleset (`NFTA_GEN_ID`): one more after each commit, by anyone.
    fn generation(&mut self) -> Result<u32, Error>;

    /// The stamp of our table, at the price of one short dump. `None` without a table, or if its
    /// first rule has none.
    fn stamp(&mut self) -> Result<Option<Stamp>, Error>;

    /// Our table as it stood at one generation. Starts again if the ruleset changes meanwhile.
    fn snapshot(&mut self, extent: Extent) -> Result<Snapshot, Error>;

    /// Carries out all steps or none, if the ruleset is still at `generation`.
    fn commit(&mut self, steps: &[Step], generation: u32) -> Result<(), CommitError>;

    /// The tables of runs and traces as they stood at one generation.
    fn runs(&mut self) -> Result<Runs, Error>;

    /// Makes the table of a run by these steps, if the ruleset is still at `generation`. One with
    /// [`Lifetime::Socket`] lives as long as this value, or what inherits its socket.
    ///
    /// [`Lifetime::Socket`]: crate::ruleset::Lifetime::Socket
    fn hold(&mut self, run: &RunTable, steps: &[Step], generation: u32) -> Result<(), CommitError>;

    /// Deletes the table of a run or a trace, if the ruleset is still at `generation`.
    fn release(&mut self, table: TableName, generation: u32) -> Result<(), CommitError>;

    /// What a command is to inherit so that what this value [holds](Kernel::hold) lives as long as
    /// the command.
    fn into_inherited(self) -> io::Result<OwnedFd>
    where
        Self: Sized;

    /// Deletes the tracked flows that contradict `after`, which is in the kernel already and
    /// replaced `before`. Returns how many there were.
    fn clean_flows(
        &mut self,
        before: &MappingSet,
        after: &MappingSet,
    ) -> Result<usize, conntrack::Error>;

    /// Deletes the tracked flows that a table of an earlier build ([`Ruleset::redirects`]) moved to
    /// another address, after it was replaced; `before` is what it did. Returns how many there
    /// were.
    ///
    /// [`Ruleset::redirects`]: crate::ruleset::Ruleset::redirects
    fn clean_redirected_flows(&mut self, before: &MappingSet) -> Result<usize, conntrack::Error>;

    /// How many connections are translated to another port of this host, by any program's rule,
    /// and still open. Removing the last NAT rule of the namespace would reset them. UDP does not
    /// count.
    fn translated_connections(&mut self) -> Result<usize, conntrack::Error>;

    /// Deletes the entries of those connections, which nothing ends any more once they are reset.
    fn forget_translated_connections(&mut self) -> Result<usize, conntrack::Error>;

    /// Returns when no packet is under way any more in rules that the last commit has changed.
    fn wait_for_packets(&mut self);

    /// Deletes all flows that were tracked in the zone of trials. Returns how many there were.
    fn clear_trial_flows(&mut self) -> Result<usize, conntrack::Error>;

    /// The sockets of these protocols that wait for clients. Needs no privilege.
    fn listening(&mut self, protocols: &[Protocol]) -> Listening;

    /// Whether somebody has the unix socket with this inode open, in this network namespace. Needs
    /// no privilege. `None` if it cannot be told.
    fn is_open(&mut self, inode: u64) -> Option<bool>;

    /// All rules of this network namespace, if anybody else translates where connections go;
    /// nothing otherwise, at the price of one short dump.
    fn translations_of_others(&mut self) -> Result<Rulesets, Error>;

    /// Whether there is an established TCP connection between these two.
    fn is_connected(&mut self, local: SocketAddr, peer: SocketAddr) -> bool;
}

/// The kernel of the network namespace in which it was opened.
pub struct Netlink {
    socket: Socket,
}

/// How often a snapshot is begun again when somebody changes the ruleset meanwhile.
const ATTEMPTS: usize = 32;

impl Netlink {
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()? })
    }

    /// One whose socket is [passed on](Kernel::into_inherited).
    pub fn open_to_be_inherited() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open_to_be_inherited()? })
    }

    fn send(
        &mut self,
        mut batch: Batch,
        steps: &[Step],
        generation: u32,
    ) -> Result<(), CommitError> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.socket.reserve_sequences(batch.origins.len() as u32);
        batch.number(first);
        let answers = self.socket.transact(&batch.writer.bytes)?;
        if let Some(refusal) = answers.iter().find(|answer| answer.errno != 0) {
            if refusal.errno == libc::ERESTART {
                return Err(CommitError::Raced);
            }
            return Err(CommitError::refused(&batch, steps, first, refusal));
        }
        // An acknowledgement is no commit; only the generation tells.
        let moved = self.generation()? != generation;
        if moved || steps.iter().all(may_change_nothing) {
            Ok(())
        } else {
            Err(CommitError::Netlink(Error::NotCommitted))
        }
    }
}

impl Kernel for Netlink {
    fn generation(&mut self) -> Result<u32, Error> {
        read::generation(&mut self.socket)
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, Error> {
        for _ in 0..ATTEMPTS {
            match read::stamp(&mut self.socket) {
                Err(Error::Interrupted) => continue,
                other => return other,
            }
        }
        Err(Error::Restless)
    }

    fn snapshot(&mut self, extent: Extent) -> Result<Snapshot, Error> {
        let read = |socket: &mut Socket| read::tables(socket, extent);
        let (generation, (table, has_others)) = consistent(&mut self.socket, read)?;
        Ok(Snapshot { generation, table, has_others })
    }

    fn commit(&mut self, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        self.send(encode::batch(steps, generation), steps, generation)
    }

    fn runs(&mut self) -> Result<Runs, Error> {
        let (generation, (runs, traces)) = consistent(&mut self.socket, runs::runs)?;
        Ok(Runs { generation, runs, traces })
    }

    fn hold(&mut self, run: &RunTable, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        self.send(encode::run(run, steps, generation), steps, generation)
    }

    fn release(&mut self, table: TableName, generation: u32) -> Result<(), CommitError> {
        let steps = [Step::DeleteTable];
        self.send(encode::over(table, generation), &steps, generation)
    }

    fn into_inherited(self) -> io::Result<OwnedFd> {
        held::inheritable(self.socket.fd())
    }

    fn clean_flows(
        &mut self,
        before: &MappingSet,
        after: &MappingSet,
    ) -> Result<usize, conntrack::Error> {
        conntrack::clean(before, after)
    }

    fn clean_redirected_flows(&mut self, before: &MappingSet) -> Result<usize, conntrack::Error> {
        conntrack::clean_redirected(before)
    }

    fn translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        conntrack::translated_connections()
    }

    fn forget_translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        conntrack::forget_translated_connections()
    }

    fn wait_for_packets(&mut self) {
        barrier::wait();
    }

    fn clear_trial_flows(&mut self) -> Result<usize, conntrack::Error> {
        conntrack::clear_trial_flows()
    }

    fn listening(&mut self, protocols: &[Protocol]) -> Listening {
        sockets::listening(protocols)
    }

    fn is_open(&mut self, inode: u64) -> Option<bool> {
        sockets::is_open(inode)
    }

    fn translations_of_others(&mut self) -> Result<Rulesets, Error> {
        firewall::translations_of_others()
    }

    fn is_connected(&mut self, local: SocketAddr, peer: SocketAddr) -> bool {
        sockets::is_connected(local, peer)
    }
}

/// Steps after which the kernel may find that there was nothing to do, and keep the generation.
fn may_change_nothing(step: &Step) -> bool {
    matches!(step, Step::ShutGate | Step::AddTable)
}

/// What goes wrong on the way to the kernel and back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open a netlink socket: {}", describe_io(.0))]
    Open(io::Error),
    #[error("send to the kernel: {}", describe_io(.0))]
    Send(io::Error),
    #[error("receive from the kernel: {}", describe_io(.0))]
    Receive(io::Error),
    #[error("receive from the kernel: it has not answered for 10 seconds")]
    Silent,
    /// The transaction is longer than a datagram may be for this user.
    #[error("send to the kernel: a transaction of {bytes} bytes is too long")]
    TooLarge { bytes: usize },
    /// The kernel refuses a question.
    #[error("read the ruleset: {}", describe(*.errno))]
    Kernel { errno: i32 },
    /// An answer that is no netlink, or lacks what it is for.
    #[error("receive from the kernel: malformed answer: {0}")]
    Malformed(&'static str),
    #[error("read the ruleset: it changed meanwhile")]
    Interrupted,
    #[error("read the ruleset: it changed in each of {ATTEMPTS} attempts")]
    Restless,
    /// The kernel took the transaction, named no error, and yet did not commit it.
    #[error("commit: the kernel reported no error and committed nothing")]
    NotCommitted,
}

/// Why a transaction was not committed. Nothing of it was applied, unless it is a `Netlink` error:
/// then the answers were lost, and only reading again tells.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another program committed since `generation`: read again.
    #[error("commit: the ruleset changed since it was read")]
    Raced,
    /// The kernel does not accept a step.
    #[error("commit: {step}: {}{}", describe(*.errno), after_colon(.message))]
    Refused {
        /// What was tried: `add element 80/tcp -> 3000 to map ports`.
        step: String,
        errno: i32,
        /// The kernel's own words, if it has any.
        message: Option<String>,
        help: Option<String>,
    },
    /// The kernel cannot tie a table to a socket.
    #[error("commit: the kernel has no tables that live with a process (Linux 5.12)")]
    NoOwner,
    #[error(transparent)]
    Netlink(#[from] Error),
}

impl Error {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EINTR => Error::Interrupted,
            errno => Error::Kernel { errno },
        }
    }

    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Open(e) | Error::Send(e) | Error::Receive(e) => e.raw_os_error(),
            Error::Kernel { errno } => Some(*errno),
            Error::Interrupted => Some(libc::EINTR),
            _ => None,
        }
    }

    /// What to do about it, in one line.
    pub fn help(&self) -> Option<&'static str> {
        match (self, self.errno()) {
            (Error::TooLarge { .. }, _) => Some(
                "the limit for users without CAP_NET_ADMIN in the initial namespace is the sysctl net.core.wmem_max",
            ),
            (Error::Silent, _) => {
                Some("the kernel is busy or waits for a module; see `dmesg`, and try again")
            }
            (Error::Restless, _) => Some("another program keeps changing the ruleset; try again"),
            (_, Some(libc::EPERM | libc::EACCES)) => Some(remedy::CAPABILITY),
            (
                _,
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP),
            ) => Some(remedy::NF_TABLES),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        error.errno().map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
    }
}

impl CommitError {
    fn refused(batch: &Batch, steps: &[Step], first: u32, refusal: &Answer) -> Self {
        let index = refusal.sequence.wrapping_sub(first) as usize;
        let (step, tried) = explain::explain(batch, steps, index, refusal.offset);
        let is_unknown = matches!(refusal.errno, libc::EINVAL | libc::EOPNOTSUPP);
        if is_unknown && matches!(step, Some(Step::AddTable)) && batch.place.flags != 0 {
            return CommitError::NoOwner;
        }
        CommitError::Refused {
            step: tried,
            errno: refusal.errno,
            message: refusal.text.clone(),
            help: remedy(refusal.errno, step).map(str::to_owned),
        }
    }

    /// What to do about it, in one line.
    pub fn help(&self) -> Option<&str> {
        match self {
            CommitError::Raced => Some("another program changed the ruleset meanwhile; try again"),
            CommitError::Refused { help, .. } => help.as_deref(),
            CommitError::NoOwner => Some("it takes Linux 5.12"),
            CommitError::Netlink(error) => error.help(),
        }
    }
}

/// The system's text for an error number, in lower case, with the number.
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

fn describe_io(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), describe)
}

fn after_colon(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
