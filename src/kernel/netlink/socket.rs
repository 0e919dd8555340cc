//! One netlink socket: a request and its answers, or a batch and its answers.

use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::wire::{Attrs, Malformed, Message, Messages, Writer, text};
use crate::host::confine::without_the_network;
use crate::kernel::Error;

/// The kernel fills datagrams of a dump up to what the reader offers, at most 32 KiB.
const RECEIVE: usize = 64 * 1024;
/// Room for the answers to a batch whose every message is refused.
const ANSWERS: usize = 8 * 1024 * 1024;

const NLM_F_DUMP_INTR: u16 = 0x10;
/// Of `linux/netlink.h`; in answers: the echoed message is cut off, attributes follow.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// How long the kernel may be silent. It answers at once, unless it is to load a module.
const PATIENCE: Duration = Duration::from_secs(10);

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

pub struct Socket {
    socket: mnl::Socket,
    buffer: Vec<u8>,
    sequence: u32,
    patience: Duration,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The type of the message, with its subsystem.
    pub kind: u16,
    pub family: u8,
    /// Whether the answer is a list of messages with an end; otherwise it is exactly one.
    pub dump: bool,
}

/// What the kernel says to a message: `NLMSG_ERROR`, of which an acknowledgement is one with 0.
#[derive(Debug, Clone)]
pub struct Answer {
    pub sequence: u32,
    pub errno: i32,
    /// Where in the message the attribute begins that it does not like.
    pub offset: Option<usize>,
    pub text: Option<String>,
}

impl Answer {
    fn read(message: &Message) -> Result<Self, Malformed> {
        const ECHO: usize = 4 + super::wire::HEADER;
        let (errno, rest) = message.payload.split_first_chunk::<4>().ok_or(Malformed)?;
        let mut answer = Answer {
            sequence: message.sequence,
            errno: i32::from_ne_bytes(*errno).wrapping_neg(),
            offset: None,
            text: None,
        };
        if message.flags & NLM_F_ACK_TLVS == 0 {
            return Ok(answer);
        }
        let echoed = rest.first_chunk::<4>().ok_or(Malformed)?;
        let start = match message.flags & NLM_F_CAPPED {
            0 => 4 + (u32::from_ne_bytes(*echoed) as usize).next_multiple_of(4),
            _ => ECHO,
        };
        for attr in Attrs(message.payload.get(start..).ok_or(Malformed)?) {
            match attr? {
                (NLMSGERR_ATTR_MSG, value) => answer.text = Some(text(value)?.to_owned()),
                (NLMSGERR_ATTR_OFFS, value) => {
                    let value = value.try_into().map_err(|_| Malformed)?;
                    answer.offset = Some(u32::from_ne_bytes(value) as usize);
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

impl Socket {
    /// For the subsystems of netfilter.
    pub fn open() -> Result<Self, Error> {
        Self::open_on(mnl::Bus::Netfilter)
    }

    /// The same, for a program to inherit that is not trusted. The kernel asks for CAP_NET_ADMIN of
    /// who sends, and, where no address is named, also of who opened the socket
    /// (`netlink_ns_capable`, `NETLINK_SKB_DST`). This one's opener did not have it: so nothing
    /// comes of it if a program that has it takes the socket for its standard output.
    pub fn open_to_be_inherited() -> Result<Self, Error> {
        let socket = without_the_network(|| mnl::Socket::new(mnl::Bus::Netfilter));
        let socket = socket.unwrap_or_else(|why| Err(io::Error::other(why)));
        Self::prepare(socket.map_err(Error::Open)?)
    }

    pub fn open_on(bus: mnl::Bus) -> Result<Self, Error> {
        Self::prepare(mnl::Socket::new(bus).map_err(Error::Open)?)
    }

    fn prepare(socket: mnl::Socket) -> Result<Self, Error> {
        let this = Self { socket, buffer: vec![0; RECEIVE], sequence: 0, patience: PATIENCE };
        // mnl has no flag for it. Nothing of portmap's starts a program at the same time.
        fcntl(this.fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|e| Error::Open(e.into()))?;
        let patience = TimeVal::new(PATIENCE.as_secs() as _, 0);
        setsockopt(&this.fd(), sockopt::ReceiveTimeout, &patience)
            .map_err(|e| Error::Open(e.into()))?;
        // Both only make answers better (Linux 4.12, 4.3): without them it works as well.
        let _ = this.netlink_option(libc::NETLINK_EXT_ACK, 1);
        let _ = this.netlink_option(libc::NETLINK_CAP_ACK, 1);
        let fd = this.fd();
        if setsockopt(&fd, sockopt::RcvBufForce, &ANSWERS).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &ANSWERS);
        }
        Ok(this)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: mnl keeps the descriptor open as long as `self.socket` lives, which the
        // lifetime of the result does not exceed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    fn netlink_option(&self, option: libc::c_int, value: libc::c_int) -> nix::Result<()> {
        // SAFETY: the pointer is that of an int that outlives the call, the length is its size.
        let outcome = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        Errno::result(outcome).map(drop)
    }

    /// From now on hears what the kernel tells the members of a multicast group.
    pub fn join(&self, group: libc::c_int) -> io::Result<()> {
        Ok(self.netlink_option(libc::NETLINK_ADD_MEMBERSHIP, group)?)
    }

    /// Passes on what the kernel has told the groups, and returns at once. True if it had more to
    /// say than there was room for (ENOBUFS, netlink(7)).
    pub fn overhear(&mut self, each: &mut dyn FnMut(Message)) -> Result<bool, Error> {
        let mut overrun = false;
        loop {
            let len = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(overrun),
                Err(Error::Receive(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for message in Messages(&self.buffer[..len]) {
                each(message.map_err(|Malformed| Error::Malformed("a message's length"))?);
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// One datagram from the kernel, or `None` if there is none and `flags` say not to wait.
    /// [`Error::Silent`] if none comes in [`PATIENCE`], whatever others write meanwhile.
    fn receive(&mut self, flags: MsgFlags) -> Result<Option<usize>, Error> {
        #[cfg(fuzzing)]
        if super::replay::is_on() {
            let waits = !flags.contains(MsgFlags::MSG_DONTWAIT);
            let len = super::replay::next(&mut self.buffer, waits.then_some(self.sequence));
            return if waits { len.map(Some).ok_or(Error::Silent) } else { Ok(len) };
        }
        let mut until = None;
        loop {
            let fd = self.socket.as_raw_fd();
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let got = match recvmsg::<NetlinkAddr>(fd, &mut slices, None, flags) {
                Ok(got) => got,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) if flags.contains(MsgFlags::MSG_DONTWAIT) => {
                    #[cfg(fuzzing)]
                    super::replay::received(&[]);
                    return Ok(None);
                }
                Err(Errno::EAGAIN) => return Err(Error::Silent),
                Err(errno) => return Err(Error::Receive(errno.into())),
            };
            // Port 0 is the kernel; other programs may write to this socket if they are root.
            if got.address.is_none_or(|from| from.pid() != 0) {
                // What they write is no sign of life of the kernel's.
                let until = *until.get_or_insert_with(|| Instant::now() + self.patience);
                if Instant::now() > until {
                    return Err(Error::Silent);
                }
                continue;
            }
            if got.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(Error::Malformed("a datagram longer than the buffer"));
            }
            let len = got.bytes;
            #[cfg(fuzzing)]
            super::replay::received(&self.buffer[..len]);
            #[cfg(test)]
            super::tests::meddle_with(&mut self.buffer[..len])?;
            return Ok(Some(len));
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        #[cfg(fuzzing)]
        if super::replay::is_on() {
            return Ok(());
        }
        self.socket.send(message).map(drop)
    }

    /// Sends a request and passes each message of the answer on.
    pub fn ask(
        &mut self,
        request: Request,
        attrs: &dyn Fn(&mut Writer),
        each: &mut dyn FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let Request { kind, family, dump } = request;
        let mut writer = Writer::with_capacity(256);
        let sequence = self.next_sequence();
        let message = writer.begin(kind, flags(dump), sequence, family, 0);
        attrs(&mut writer);
        writer.end(message);
        self.exchange(&writer.bytes, sequence, dump, each)
    }

    /// The same of a subsystem that is not netfilter's: `body` is what follows the header.
    pub fn ask_plain(
        &mut self,
        kind: u16,
        dump: bool,
        body: &[u8],
        each: &mut dyn FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let mut writer = Writer::with_capacity(256);
        let sequence = self.next_sequence();
        let message = writer.begin_plain(kind, flags(dump), sequence);
        writer.bytes.extend_from_slice(body);
        writer.end(message);
        self.exchange(&writer.bytes, sequence, dump, each)
    }

    fn exchange(
        &mut self,
        request: &[u8],
        sequence: u32,
        dump: bool,
        each: &mut dyn FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        self.send(request).map_err(Error::Send)?;
        // The answer is read to its end whatever is in it: the socket is used again.
        let mut outcome = Ok(());
        loop {
            let len = self.receive(MsgFlags::empty())?.unwrap_or(0);
            for message in Messages(&self.buffer[..len]) {
                let Ok(message) = message else {
                    return Err(Error::Malformed("a message's length"));
                };
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    outcome = Err(Error::Interrupted);
                }
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => {
                        let answer = Answer::read(&message)
                            .map_err(|Malformed| Error::Malformed("an error message"))?;
                        return Err(Error::from_errno(answer.errno));
                    }
                    libc::NLMSG_DONE => {
                        return end(&message).and(outcome);
                    }
                    _ => {
                        if each(message).is_err() && outcome.is_ok() {
                            outcome = Err(Error::Malformed("an attribute's length"));
                        }
                        if !dump {
                            return outcome;
                        }
                    }
                }
            }
        }
    }

    /// The sequence numbers of a batch of `messages` start behind the one returned.
    pub fn reserve_sequences(&mut self, messages: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(messages);
        first
    }

    /// Sends a batch as one datagram, which the kernel wants to find whole, and returns the
    /// answers. The kernel works within the call: all answers are there when it returns.
    pub fn transact(&mut self, batch: &[u8]) -> Result<Vec<Answer>, Error> {
        // The size of the datagram plus what the kernel takes off for itself.
        let wanted = batch.len() + 4096;
        let fd = self.fd();
        if setsockopt(&fd, sockopt::SndBufForce, &wanted).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &wanted);
        }
        self.send(batch).map_err(|e| match e.raw_os_error() {
            Some(libc::EMSGSIZE) => Error::TooLarge { bytes: batch.len() },
            _ => Error::Send(e),
        })?;
        let mut answers = Vec::new();
        let mut overrun = false;
        loop {
            let len = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(Some(len)) => len,
                Ok(None) => break,
                // Some answers were dropped; the first ones are still there.
                Err(Error::Receive(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for message in Messages(&self.buffer[..len]) {
                let answer = message
                    .and_then(|m| match i32::from(m.kind) {
                        libc::NLMSG_ERROR => Answer::read(&m).map(Some),
                        _ => Ok(None),
                    })
                    .map_err(|Malformed| Error::Malformed("an answer to a batch"))?;
                answers.extend(answer);
            }
        }
        if overrun && answers.is_empty() {
            return Err(Error::Receive(io::Error::from_raw_os_error(libc::ENOBUFS)));
        }
        Ok(answers)
    }
}

/// How often a dump that the kernel calls inconsistent is asked for at most.
pub const ATTEMPTS: usize = 5;

/// Asks for a dump until one is not interrupted by a change of what is dumped.
pub fn uninterrupted<T>(mut ask: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match ask() {
            Err(Error::Interrupted) => thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    ask()
}

/// What the end of a dump says (`NLMSG_DONE`): 0, or the number of an error, negated.
fn end(message: &Message) -> Result<(), Error> {
    match message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
        code @ ..0 => Err(Error::from_errno(code.wrapping_neg())),
        _ => Ok(()),
    }
}

fn flags(dump: bool) -> u16 {
    if dump { libc::NLM_F_DUMP as u16 } else { 0 }
}

#[cfg(test)]
mod tests;
