//! Tracing: a table of rules that mark the packets of new connections, and the messages in which
//! the kernel says what every chain does with them (`NFT_MSG_TRACE`, `nft_trace.c`).
//!
//! The table decides nothing, and dies with the socket that made it (`NFT_TABLE_F_OWNER`, Linux
//! 5.12), so with the process, whatever ends it. An older kernel has no such flag; there the table
//! is removed when the [`Tracer`] is dropped.

#![forbid(unsafe_code)]

mod chart;
pub(super) mod event;
mod table;

use std::os::fd::BorrowedFd;

use nix::libc;

use super::netlink::socket::Socket;
use super::nft::batch::Batch;
use super::{CommitError, Error, describe};
use crate::mapping::Service;
use crate::story::{Event, TABLE_PREFIX};

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
    name: String,
    is_owned: bool,
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
        let mut number = 1;
        let name = loop {
            let name = name(number);
            let batch = table::create(&name, services, is_owned);
            match commit(&mut owner, batch, &format!("add table inet {name}")) {
                Err(CommitError::Refused { errno: libc::EEXIST, .. }) if number < NAMES_MAX => {
                    number += 1;
                }
                outcome => break outcome.map(|()| name)?,
            }
        };
        Ok(Self { owner, name, is_owned, events })
    }

    /// The name of the table, which is of family inet.
    pub fn table(&self) -> &str {
        &self.name
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
        if !self.is_owned {
            // Nobody is left to be told.
            let _ = commit(&mut self.owner, table::delete(&self.name), "");
        }
    }
}

fn name(number: u32) -> String {
    let process = std::process::id();
    match number {
        1 => format!("{TABLE_PREFIX}{process}"),
        number => format!("{TABLE_PREFIX}{process}-{number}"),
    }
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
