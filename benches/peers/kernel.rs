//! What the kernel's answers cost: a reader that asks for the generation of the ruleset, dumps the
//! whole of portmap's table as any process would have to, and asks for the generation again. It
//! copies the answers and interprets no more of them than the names of the sets.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::libc::{
    NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFT_MSG_GETCHAIN, NFT_MSG_GETGEN, NFT_MSG_GETRULE,
    NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const TABLE: &str = "portmap";

// Of linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
const HEADER: usize = 16;
const FAMILY: usize = 4;
/// The name of the table, in each of the requests; that of a set, in an answer and in a request.
const NAME_OF_TABLE: u16 = 1;
const NAME_OF_SET: u16 = 2;
const GENERATION: u16 = 1;

pub struct Reading {
    pub generation: u32,
    /// From opening the socket to closing it.
    pub took: Duration,
}

/// Of the network namespace that this thread is in.
pub fn read() -> Result<Reading> {
    let start = Instant::now();
    let mut reader = Reader::open()?;
    let generation = reader.generation()?;
    let table = [(NAME_OF_TABLE, TABLE)];
    reader.ask(NFT_MSG_GETTABLE, 0, &table, |_| {})?;
    reader.ask(NFT_MSG_GETCHAIN, NLM_F_DUMP, &table, |_| {})?;
    reader.ask(NFT_MSG_GETRULE, NLM_F_DUMP, &table, |_| {})?;
    let mut sets = Vec::new();
    reader.ask(NFT_MSG_GETSET, NLM_F_DUMP, &table, |message| {
        let name = attribute(message, NAME_OF_SET).and_then(|name| name.strip_suffix(b"\0"));
        sets.extend(name.map(|name| String::from_utf8_lossy(name).into_owned()));
    })?;
    if sets.is_empty() {
        bail!("table inet {TABLE} has no maps: there is nothing to read");
    }
    for set in &sets {
        let set = [table[0], (NAME_OF_SET, set.as_str())];
        reader.ask(NFT_MSG_GETSETELEM, NLM_F_DUMP, &set, |_| {})?;
    }
    if reader.generation()? != generation {
        bail!("somebody else changes the ruleset of the bench's own namespace");
    }
    drop(reader);
    Ok(Reading { generation, took: start.elapsed() })
}

struct Reader {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Reader {
    fn open() -> Result<Reader> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        Ok(Reader { socket, buffer: vec![0; 64 * 1024], sequence: 0 })
    }

    fn generation(&mut self) -> Result<u32> {
        let mut generation = None;
        self.ask(NFT_MSG_GETGEN, 0, &[], |message| {
            let value = attribute(message, GENERATION).and_then(|value| value.try_into().ok());
            generation = value.map(u32::from_be_bytes);
        })?;
        generation.ok_or_else(|| anyhow::anyhow!("the kernel does not tell its generation"))
    }

    /// One answer, or those of a dump.
    fn ask(
        &mut self,
        kind: i32,
        flags: i32,
        attributes: &[(u16, &str)],
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        self.sequence += 1;
        let request = request(kind, flags, self.sequence, attributes);
        sendto(self.socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        loop {
            let got = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                got => got?,
            };
            let mut rest = &self.buffer[..got];
            while let Some(len) = rest.first_chunk().map(|len| u32::from_ne_bytes(*len) as usize) {
                if len < HEADER || len > rest.len() {
                    bail!("the kernel sends a message of {len} bytes in {}", rest.len());
                }
                let (message, after) = rest.split_at(len);
                rest = after.get(len.next_multiple_of(4) - len..).unwrap_or_default();
                match i32::from(u16::from_ne_bytes([message[4], message[5]])) {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => bail!("the kernel refuses request {kind}: {message:?}"),
                    _ if flags == 0 => {
                        each(message);
                        return Ok(());
                    }
                    _ => each(message),
                }
            }
        }
    }
}

fn request(kind: i32, flags: i32, sequence: u32, attributes: &[(u16, &str)]) -> Vec<u8> {
    let kind = (NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    // Family, version, resource.
    let family = if kind as i32 & 0xff == NFT_MSG_GETGEN { 0 } else { NFPROTO_INET as u8 };
    bytes.extend([family, 0, 0, 0]);
    for (kind, text) in attributes {
        bytes.extend(((4 + text.len() + 1) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(text.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = (bytes.len() as u32).to_ne_bytes();
    bytes[..4].copy_from_slice(&len);
    bytes
}

/// The first one of a kind in a message.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER + FAMILY..)?;
    loop {
        let (header, _) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([header[2], header[3]]) == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}
