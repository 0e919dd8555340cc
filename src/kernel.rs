//! The one narrow door to the kernel's ruleset. Values go in and come out; netlink stays behind it.
//!
//! Every question and every change needs CAP_NET_ADMIN over the network namespace: the kernel
//! refuses even to name the generation without it.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use nix::libc;

use crate::mapping::Service;
use crate::nft::batch::Batch;
use crate::nft::read::{self, Extent};
use crate::nft::socket::Socket;
use crate::plan::Step;
use crate::ruleset::{MapName, Observed, Stamp, Target};

/// The table, and the generation of the whole ruleset at which it was read.
#[derive(Debug)]
pub struct Snapshot {
    pub generation: u32,
    /// `None` if the table does not exist.
    pub table: Option<Observed>,
}

/// The ruleset of the network namespace in which it was opened.
pub struct Kernel {
    socket: Socket,
}

/// How often a snapshot is begun again when somebody changes the ruleset meanwhile.
const ATTEMPTS: usize = 32;

impl Kernel {
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()? })
    }

    /// The generation of the whole ruleset (`NFTA_GEN_ID`): one more after each commit, whoever
    /// makes it.
    pub fn generation(&mut self) -> Result<u32, Error> {
        read::generation(&mut self.socket)
    }

    /// The stamp of our table, at the price of one short dump. `None` without a table, or if its
    /// first rule has none.
    pub fn stamp(&mut self) -> Result<Option<Stamp>, Error> {
        for _ in 0..ATTEMPTS {
            match read::stamp(&mut self.socket) {
                Err(Error::Interrupted) => continue,
                other => return other,
            }
        }
        Err(Error::Restless)
    }

    /// Our table as it stood at one generation. Starts again if the ruleset changes meanwhile.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.read(Extent::Whole)
    }

    /// The same without the elements of maps of ports, which are left empty: what it costs does
    /// not depend on how many there are.
    pub fn outline(&mut self) -> Result<Snapshot, Error> {
        self.read(Extent::Outline)
    }

    /// Where a map of ports sends a service, if it holds it.
    pub fn look_up(&mut self, map: MapName, service: Service) -> Result<Option<Target>, Error> {
        read::look_up(&mut self.socket, map, service)
    }

    fn read(&mut self, extent: Extent) -> Result<Snapshot, Error> {
        let mut generation = self.generation()?;
        for _ in 0..ATTEMPTS {
            let table = read::table(&mut self.socket, extent);
            let now = self.generation()?;
            match table {
                Ok(table) if now == generation => return Ok(Snapshot { generation, table }),
                // What a dump failed with while the ruleset moved says nothing: a set that was
                // listed may be gone.
                Err(error) if now == generation && !matches!(error, Error::Interrupted) => {
                    return Err(error);
                }
                _ => generation = now,
            }
        }
        Err(Error::Restless)
    }

    /// Carries out all steps or none, if the ruleset is still at `generation`.
    pub fn commit(&mut self, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        let mut batch = Batch::build(steps, generation);
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.socket.reserve_sequences(batch.origins.len() as u32);
        batch.number(first);
        let answers = self.socket.transact(&batch.writer.bytes).map_err(CommitError::Netlink)?;
        if let Some(refusal) = answers.iter().find(|answer| answer.errno != 0) {
            if refusal.errno == libc::ERESTART {
                return Err(CommitError::Raced);
            }
            return Err(CommitError::refused(&batch, steps, first, refusal));
        }
        // An acknowledgement is no commit; only the generation tells.
        let moved = self.generation().map_err(CommitError::Netlink)? != generation;
        if moved || steps.iter().all(may_change_nothing) {
            Ok(())
        } else {
            Err(CommitError::Netlink(Error::NotCommitted))
        }
    }
}

/// Steps after which the kernel may find that there was nothing to do, and keep the generation.
fn may_change_nothing(step: &Step) -> bool {
    matches!(step, Step::ShutGate | Step::AddTable)
}

/// What goes wrong on the way to the kernel and back.
#[derive(Debug)]
pub enum Error {
    /// No netlink socket.
    Open(io::Error),
    Send(io::Error),
    Receive(io::Error),
    /// The transaction is longer than a datagram may be for this user.
    TooLarge {
        bytes: usize,
    },
    /// The kernel refuses a question.
    Kernel {
        errno: i32,
    },
    /// An answer that is no netlink, or lacks what it is for.
    Malformed(&'static str),
    /// The ruleset changed during a dump.
    Interrupted,
    /// The ruleset changed in every attempt to read it.
    Restless,
    /// The kernel took the transaction, named no error, and yet did not commit it.
    NotCommitted,
}

/// Why a transaction was not committed. Nothing of it was applied, unless a `Netlink` error says
/// otherwise by nature: answers that cannot be received.
#[derive(Debug)]
pub enum CommitError {
    /// Somebody else committed since `generation`: read again.
    Raced,
    /// The kernel does not accept a step.
    Refused {
        /// What was tried: `add element 80/tcp -> 3000 to map ports`.
        step: String,
        errno: i32,
        /// The kernel's own words, if it has any.
        message: Option<String>,
        help: Option<String>,
    },
    Netlink(Error),
}

impl Error {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EINTR => Error::Interrupted,
            errno => Error::Kernel { errno },
        }
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Error::Open(e) | Error::Send(e) | Error::Receive(e) => e.raw_os_error(),
            Error::Kernel { errno } => Some(*errno),
            _ => None,
        }
    }

    /// What to do about it, in one line.
    pub fn help(&self) -> Option<&'static str> {
        match (self, self.errno()) {
            (Error::TooLarge { .. }, _) => Some(
                "the limit for users without CAP_NET_ADMIN in the initial namespace is the sysctl net.core.wmem_max",
            ),
            (Error::Restless, _) => Some("another program keeps changing the ruleset; try again"),
            (_, Some(libc::EPERM | libc::EACCES)) => Some(HELP_CAPABILITY),
            (
                _,
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP),
            ) => Some(HELP_NF_TABLES),
            _ => None,
        }
    }
}

const HELP_CAPABILITY: &str = "the capability CAP_NET_ADMIN is missing; run with sudo";
const HELP_NF_TABLES: &str = "the kernel has no nftables (CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET); try `modprobe nf_tables`";

impl CommitError {
    fn refused(
        batch: &Batch,
        steps: &[Step],
        first: u32,
        refusal: &crate::nft::socket::Answer,
    ) -> Self {
        let index = refusal.sequence.wrapping_sub(first) as usize;
        let (step, tried) = batch.explain(steps, index, refusal.offset);
        CommitError::Refused {
            step: tried,
            errno: refusal.errno,
            message: refusal.text.clone(),
            help: help(refusal.errno, step).map(str::to_owned),
        }
    }

    /// What to do about it, in one line.
    pub fn help(&self) -> Option<&str> {
        match self {
            CommitError::Raced => Some("another program changed the ruleset meanwhile; try again"),
            CommitError::Refused { help, .. } => help.as_deref(),
            CommitError::Netlink(error) => error.help(),
        }
    }
}

/// The remedy for an error number at a step. `ENOENT` where something is made means that the
/// kernel lacks a module that it could not load.
fn help(errno: i32, step: Option<&Step>) -> Option<&'static str> {
    use crate::ruleset::{ChainName, Layer, Rule};
    match (errno, step) {
        (libc::EPERM | libc::EACCES, _) => Some(HELP_CAPABILITY),
        (
            libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT,
            None | Some(Step::AddTable),
        ) => Some(HELP_NF_TABLES),
        (
            libc::ENOENT | libc::EOPNOTSUPP,
            Some(Step::AddChain(ChainName::Hook(Layer::Active, _))),
        ) => Some("a kernel module is probably missing; try `modprobe nft_chain_nat nf_nat`"),
        (libc::ENOENT | libc::EOPNOTSUPP, Some(Step::AddRule { rule, .. })) => Some(match rule {
            Rule::ForThisHost(_) => {
                "a kernel module is probably missing; try `modprobe -a nft_fib_inet nft_fib`"
            }
            _ => "a kernel module is probably missing; try `modprobe -a nft_redir nf_nat`",
        }),
        (libc::ENFILE, _) => Some("the map is full: it has to be made anew with a larger size"),
        (libc::EEXIST, _) => {
            Some("something of that name or key is there already, with other content")
        }
        (libc::ENOENT, _) => Some("it is not there, or not any more; read the table again"),
        (libc::EBUSY, _) => Some("it is still in use by a rule or an element of the table"),
        (libc::ENOMEM, _) => Some("the kernel has no memory for it"),
        _ => None,
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let io = |e: &io::Error| e.raw_os_error().map_or_else(|| e.to_string(), describe);
        match self {
            Error::Open(e) => write!(f, "open a netlink socket: {}", io(e)),
            Error::Send(e) => write!(f, "send to the kernel: {}", io(e)),
            Error::Receive(e) => write!(f, "receive from the kernel: {}", io(e)),
            Error::TooLarge { bytes } => {
                write!(f, "send to the kernel: a transaction of {bytes} bytes is too long")
            }
            Error::Kernel { errno } => write!(f, "read the ruleset: {}", describe(*errno)),
            Error::Malformed(what) => write!(f, "read the ruleset: malformed answer: {what}"),
            Error::Interrupted => f.write_str("read the ruleset: it changed meanwhile"),
            Error::Restless => {
                write!(f, "read the ruleset: it changed in each of {ATTEMPTS} attempts")
            }
            Error::NotCommitted => {
                f.write_str("commit: the kernel reported no error and committed nothing")
            }
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Raced => f.write_str("commit: the ruleset changed since it was read"),
            CommitError::Refused { step, errno, message, .. } => {
                write!(f, "commit: {step}: {}", describe(*errno))?;
                message.iter().try_for_each(|message| write!(f, ": {message}"))
            }
            CommitError::Netlink(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommitError {}
