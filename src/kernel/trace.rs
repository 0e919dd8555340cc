//! Tracing: a table of rules that mark the packets of new connections, and the messages in which
//! the kernel says what every chain does with them (`NFT_MSG_TRACE`, `nft_trace.c`).
//!
//! The table decides nothing, and dies with the socket that made it (`NFT_TABLE_F_OWNER`, Linux
//! 5.12), so with the process, whatever ends it. An older kernel has no such flag; there the table
//! is removed when the [`Tracer`] is dropped. Should the process be killed before, the table says
//! that nobody needs it: in its comment is the inode of a unix socket that the process has open
//! ([`Lifetime::Supervised`]), as in those of runs.

#![forbid(unsafe_code)]

mod chart;
pub(super) mod event;
mod table;

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixDatagram;

use nix::libc;
use nix::sys::stat::fstat;

use super::netlink::socket::Socket;
use super::nft::batch::Batch;
use super::{CommitError, Error, describe};
use crate::mapping::Service;
use crate::ruleset::{Lifetime, TraceId, TraceTable};
use crate::story::Event;

pub use chart::chart;

/// `NFNLGRP_NFTRACE` of `linux/netfilter/nfnetlink.h`.
const GROUP: libc::c_int = 9;
/// Tables of the same name that are tried, should others be there: processes of different
/// namespaces may have the same number.
const NAMES_MAX: u32 = 16;

/// The table while it is in the kernel, and an ear for what it causes.
pub struct Tracer {
    /// The owner of the table: it lives as long as this is open.
    owner: Socket,
    table: TraceTable,
    /// The socket that the table names if it has no owner.
    _line: Option<UnixDatagram>,
    events: Socket,
}

/// What the kernel has said.
#[derive(Debug, Default)]
pub struct Overheard {
    pub events: Vec<Event>,
    /// Whether the kernel could not say all of it: it spoke faster than it was listened to.
    pub is_incomplete: bool,
    /// Messages that are none, or lack what they are for.
    pub malformed: usize,
}

/// How one is opened: [`Tracer::open`], or another way in tests.
pub type Open = fn(&[Service]) -> Result<Tracer, CommitError>;

impl Tracer {
    /// Begins to trace new connections to these services of this host, IPv4 and IPv6, from outside
    /// and from here.
    pub fn open(services: &[Service]) -> Result<Self, CommitError> {
        match Self::begin(services, true) {
            Err(CommitError::Refused { errno: libc::EOPNOTSUPP | libc::EINVAL, .. }) => {
                Self::begin(services, false)
            }
            outcome => outcome,
        }
    }

    /// The same as on a kernel that knows no owner of a table.
    pub fn open_without_owner(services: &[Service]) -> Result<Self, CommitError> {
        Self::begin(services, false)
    }

    fn begin(services: &[Service], is_owned: bool) -> Result<Self, CommitError> {
        // Before the first packet is marked.
        let events = Socket::open()?;
        events.join(GROUP).map_err(|e| CommitError::Netlink(Error::Open(e)))?;
        let mut owner = Socket::open()?;
        let (lifetime, line) = if is_owned { (Lifetime::Socket, None) } else { supervised() };
        let mut table = TraceTable { id: TraceId { pid: std::process::id(), nth: 1 }, lifetime };
        loop {
            let batch = table::create(&table, services);
            match commit(&mut owner, batch, &format!("add table inet {}", table.id)) {
                Err(CommitError::Refused { errno: libc::EEXIST, .. })
                    if table.id.nth < NAMES_MAX =>
                {
                    table.id.nth += 1;
                }
                outcome => {
                    outcome?;
                    break;
                }
            }
        }
        Ok(Self { owner, table, _line: line, events })
    }

    /// The table, which is of family inet.
    pub fn table(&self) -> TraceId {
        self.table.id
    }

    /// What is to be done before the process is ended by a signal: the table is removed where the
    /// kernel does not do so by itself.
    pub fn last_work(&self) -> impl FnOnce() + Send + use<> {
        let TraceTable { id, lifetime } = self.table;
        move || {
            if let (false, Ok(mut socket)) = (lifetime == Lifetime::Socket, Socket::open()) {
                remove(&mut socket, id);
            }
        }
    }

    /// Readable when the kernel has said something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// All that has been said and not heard yet.
    pub fn listen(&mut self) -> Result<Overheard, Error> {
        let mut heard = Overheard::default();
        heard.is_incomplete = self.events.overhear(&mut |message| match event::read(&message) {
            Ok(Some(event)) => heard.events.push(event),
            Ok(None) => {}
            Err(_) => heard.malformed += 1,
        })?;
        Ok(heard)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.table.lifetime != Lifetime::Socket {
            remove(&mut self.owner, self.table.id);
        }
    }
}

fn remove(socket: &mut Socket, table: TraceId) {
    // Nobody is left to be told.
    let _ = commit(socket, table::delete(table), "");
}

/// A socket that is closed with this process, and how a table lives that names it. A process that
/// can have no socket more traces all the same.
fn supervised() -> (Lifetime, Option<UnixDatagram>) {
    let line = UnixDatagram::unbound().ok();
    let socket = line.as_ref().and_then(|line| fstat(line).ok()).map(|line| line.st_ino);
    (Lifetime::Supervised { socket }, line)
}

fn commit(socket: &mut Socket, mut batch: Batch, step: &str) -> Result<(), CommitError> {
    let first = socket.reserve_sequences(batch.origins.len() as u32);
    batch.number(first);
    let answers = socket.transact(&batch.writer.bytes)?;
    match answers.iter().find(|answer| answer.errno != 0) {
        None => Ok(()),
        Some(refusal) => Err(CommitError::Refused {
            step: step.to_owned(),
            errno: refusal.errno,
            message: refusal.text.clone(),
            help: Some(help(refusal.errno)),
        }),
    }
}

fn help(errno: i32) -> String {
    match errno {
        libc::EPERM | libc::EACCES => super::remedy::CAPABILITY.to_owned(),
        libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => {
            "a kernel module is probably missing; try `modprobe -a nf_tables nft_fib_inet nft_ct \
             nft_limit`"
                .to_owned()
        }
        _ => format!("tracing needs nftables of Linux 4.10 or newer ({})", describe(errno)),
    }
}
