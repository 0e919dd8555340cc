//! What the kernel tells of everybody's commits, and by whom the last one was that had to do with our
//! table (`nf_tables_commit`, `nf_tables_gen_notify`).
//!
//! Each commit is a series of messages, one for each object, closed by one with its generation, and
//! with the process that made it. No commit comes between those of another.

#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::Error;
use super::netlink::socket::Socket;
use super::netlink::wire::{Malformed, Message, be_u32, text};
use super::nft::query::{FAMILY, nft_type};
use crate::host::holders::Process;
use crate::ruleset::TABLE;

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`: bit 1 << 6 of a netlink address.
const GROUP: libc::c_int = 7;
/// Of `linux/netfilter/nf_tables.h`, as are the attributes.
const NEWGEN: i32 = 15;
const NFTA_GEN_ID: u16 = 1;
/// Both since Linux 4.14.
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// Every object's message has the name of its table in this attribute: `NFTA_TABLE_NAME`,
/// `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`, `NFTA_SET_ELEM_LIST_TABLE`,
/// `NFTA_OBJ_TABLE`, `NFTA_FLOWTABLE_TABLE`.
const NFTA_ANY_TABLE: u16 = 1;

/// Room for messages that were not read yet. More of them than fit are no loss but of names.
const ROOM: usize = 1024 * 1024;
/// How long to wait for the message of a commit whose effect can be seen already.
const PATIENCE_MS: u16 = 500;

/// A commit that had to do with our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The generation of the whole ruleset that it made.
    pub generation: u32,
    /// Who made it, numbered as the first process namespace does. `None` if the kernel does not say.
    pub process: Option<Process>,
}

/// What has been heard.
#[derive(Debug, Default)]
struct Account {
    /// Up to which generation nothing is missing; `None` if that is not known.
    complete: Option<u32>,
    /// The last commit that had to do with our table; `None` before the first, and after messages
    /// were lost.
    last: Option<Commit>,
    /// Whether our table was in a message of a commit that is not closed yet.
    is_touched: bool,
    /// Whether messages were lost since the last look.
    is_lost: bool,
}

/// An ear for the commits of the network namespace in which it was opened.
pub struct Commits {
    socket: Socket,
    account: Account,
}

impl Commits {
    /// From here on, no commit is missed without notice.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open()?;
        if setsockopt(&socket.fd(), sockopt::RcvBufForce, &ROOM).is_err() {
            setsockopt(&socket.fd(), sockopt::RcvBuf, &ROOM).map_err(|e| Error::Open(e.into()))?;
        }
        socket.join(GROUP).map_err(Error::Open)?;
        Ok(Self { socket, account: Account::default() })
    }

    /// Deaf to the kernel: what it hears is a fuzzer's.
    #[cfg(fuzzing)]
    pub fn deaf() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()?, account: Account::default() })
    }

    #[cfg(fuzzing)]
    pub fn last(&self) -> Option<&Commit> {
        self.account.last.as_ref()
    }

    /// Readable when the kernel has told something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// Takes in all that has been told. Whether our table may be otherwise than at `generation`.
    pub fn listen(&mut self, generation: u32) -> Result<bool, Error> {
        self.hear()?;
        let last = self.account.last.as_ref();
        let is_touched = last.is_some_and(|commit| is_after(commit.generation, generation));
        Ok(std::mem::take(&mut self.account.is_lost) || is_touched)
    }

    fn hear(&mut self) -> Result<(), Error> {
        let Self { socket, account } = self;
        let heard = socket.overhear(&mut |message| {
            if account.take(&message).is_err() {
                account.lose();
            }
        });
        match heard {
            Ok(false) => {}
            // More than there was room for, or not what the kernel sends.
            Ok(true) | Err(Error::Malformed(_)) => account.lose(),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// The last commit that had to do with our table, after all that led to `generation` have been
    /// heard. `None` if that is not known.
    ///
    /// A commit has its effect a moment before it is told of.
    pub fn last_to(&mut self, generation: u32) -> Result<Option<&Commit>, Error> {
        while self.account.complete.is_some_and(|to| is_after(generation, to)) {
            let mut fds = [PollFd::new(self.socket.fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Receive(errno.into())),
                Ok(0) => self.account.lose(),
                Ok(_) => self.hear()?,
            }
        }
        Ok(self.account.last.as_ref())
    }
}

impl Account {
    fn take(&mut self, message: &Message) -> Result<(), Malformed> {
        if message.kind == nft_type(NEWGEN) {
            return self.close(message);
        }
        let subsystem = nft_type(0);
        let is_ours = message.kind & 0xff00 == subsystem && message.family() == Some(FAMILY);
        let table = message.attrs()?.find(NFTA_ANY_TABLE)?;
        self.is_touched |= is_ours && table.map(text) == Some(Ok(TABLE));
        Ok(())
    }

    fn close(&mut self, message: &Message) -> Result<(), Malformed> {
        let (mut generation, mut pid, mut name) = (None, None, None);
        for attr in message.attrs()? {
            match attr? {
                (NFTA_GEN_ID, value) => generation = Some(be_u32(value)?),
                (NFTA_GEN_PROC_PID, value) => pid = Some(be_u32(value)?),
                // Whatever bytes a process calls itself.
                (NFTA_GEN_PROC_NAME, value) => {
                    let name_only = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    name = Some(String::from_utf8_lossy(name_only).into_owned());
                }
                _ => {}
            }
        }
        let generation = generation.ok_or(Malformed)?;
        self.complete = Some(generation);
        if std::mem::take(&mut self.is_touched) {
            let process = pid.zip(name).map(|(pid, name)| Process { pid, name });
            self.last = Some(Commit { generation, process });
        }
        Ok(())
    }

    /// Anything may have happened.
    fn lose(&mut self) {
        *self = Self { is_lost: true, ..Self::default() };
    }
}

/// The numbers of generations begin again after the highest (`nf_tables_commit`).
pub fn is_after(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

/// What the kernel says of a commit that changed objects of these tables.
#[cfg(any(test, fuzzing))]
pub fn told(tables: &[&str], generation: u32, process: Option<(u32, &[u8])>) -> Vec<u8> {
    let mut writer = super::netlink::wire::Writer::default();
    for table in tables {
        let message = writer.begin(nft_type(libc::NFT_MSG_DELRULE), 0, 0, FAMILY, 0);
        writer.attr_str(NFTA_ANY_TABLE, table);
        writer.end(message);
    }
    let message = writer.begin(nft_type(NEWGEN), 0, 0, 0, 0);
    writer.attr_u32(NFTA_GEN_ID, generation);
    if let Some((pid, name)) = process {
        writer.attr_u32(NFTA_GEN_PROC_PID, pid);
        writer.attr(NFTA_GEN_PROC_NAME, name);
    }
    writer.end(message);
    writer.bytes
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::kernel::netlink::wire::{Messages, Writer};
    use crate::kernel::{Kernel, Netlink};
    use crate::plan::Step;

    fn hear(account: &mut Account, bytes: &[u8]) {
        for message in Messages(bytes) {
            account.take(&message.unwrap()).unwrap();
        }
    }

    #[test]
    fn the_last_commit_that_had_to_do_with_our_table_is_known_by_name() {
        let mut account = Account::default();
        hear(&mut account, &told(&["other", "portmap-run-5"], 7, Some((4, b"sh\0"))));
        assert_eq!((account.complete, account.last.as_ref()), (Some(7), None));
        hear(&mut account, &told(&["other", TABLE, "other"], 8, Some((5, b"nft\0"))));
        hear(&mut account, &told(&["other"], 9, Some((6, b"sh\0"))));
        let process = Some(Process { pid: 5, name: "nft".into() });
        assert_eq!(account.last, Some(Commit { generation: 8, process }));
        assert_eq!(account.complete, Some(9));
        // A name is any bytes, at most 16 with the zero.
        hear(&mut account, &told(&[TABLE], 10, Some((7, b"a\xff\x1b[31m"))));
        let name = account.last.take().unwrap().process.unwrap().name;
        assert_eq!(name, "a\u{fffd}\u{1b}[31m");
        hear(&mut account, &told(&[TABLE], 11, None));
        assert_eq!(account.last, Some(Commit { generation: 11, process: None }));
    }

    #[test]
    fn after_a_loss_nothing_is_known() {
        let mut account = Account::default();
        hear(&mut account, &told(&[TABLE], 8, None));
        account.lose();
        assert_eq!((account.complete, account.last.as_ref(), account.is_lost), (None, None, true));
    }

    /// Adds table `inet portmap`, or removes it.
    fn change(kernel: &mut Netlink, step: Step) -> u32 {
        let generation = kernel.generation().unwrap();
        kernel.commit(&[step], generation).unwrap();
        kernel.generation().unwrap()
    }

    #[test]
    fn more_than_there_is_room_for_leads_to_a_look_and_then_it_hears_again() {
        let story = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut kernel = Netlink::open().unwrap();
            let mut commits = Commits::open().unwrap();
            setsockopt(&commits.fd(), sockopt::RcvBuf, &1).unwrap();
            let mut seen = kernel.generation().unwrap();
            for _ in 0..100 {
                change(&mut kernel, Step::AddTable);
                seen = change(&mut kernel, Step::DeleteTable);
            }
            assert!(commits.listen(seen).unwrap(), "the table is looked at");
            assert_eq!(commits.last_to(seen).unwrap(), None, "it is not known who it was");
            assert!(!commits.listen(seen).unwrap(), "one look is enough");

            let generation = change(&mut kernel, Step::AddTable);
            assert!(commits.listen(seen).unwrap());
            let last = commits.last_to(generation).unwrap().cloned().unwrap();
            assert_eq!(last.generation, generation);
            assert!(last.process.is_some());
        };
        std::thread::scope(|scope| scope.spawn(story).join().unwrap());
    }

    #[test]
    fn what_is_no_message_of_the_kernel_is_refused() {
        let mut writer = Writer::default();
        let message = writer.begin(nft_type(NEWGEN), 0, 0, 0, 0);
        writer.attr(NFTA_GEN_ID, &[1, 2, 3]);
        writer.end(message);
        let message = writer.begin(nft_type(NEWGEN), 0, 0, 0, 0);
        writer.end(message);
        for message in Messages(&writer.bytes) {
            assert_eq!(Account::default().take(&message.unwrap()), Err(Malformed));
        }
    }

    #[test]
    fn generations_begin_again() {
        assert!(is_after(2, 1) && !is_after(1, 1) && !is_after(1, 2));
        assert!(is_after(1, u32::MAX) && !is_after(u32::MAX, 1));
    }
}
