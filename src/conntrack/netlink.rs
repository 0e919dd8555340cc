//! The kernel's half: reads the flows of this network namespace and deletes some of them.
//!
//! Messages are those of `linux/netfilter/nfnetlink_conntrack.h`, over NETLINK_NETFILTER. What
//! arrives is input: every length is checked.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::{
    Flow, LocalAddresses, Tuple, contradicts, differing_services, is_connectionless, service_of,
};
use crate::mapping::{MappingSet, Protocol, Service};

/// Deletes the flows that contradict `after`, which is in the kernel already, and says how many
/// there were. `before` is what it replaced.
///
/// If the two differ in nothing connectionless, the kernel is not asked at all.
pub fn clean(before: &MappingSet, after: &MappingSet) -> Result<usize, Error> {
    let mut services = differing_services(before, after);
    services.retain(|s| is_connectionless(s.protocol));
    if services.is_empty() {
        return Ok(0);
    }
    let local = local_addresses().map_err(Error::Addresses)?;
    let outdated = list(&services, |flow| {
        service_of(flow).is_some_and(|s| services.binary_search(&s).is_ok())
            && contradicts(flow, before, after, &local)
    })
    .map_err(Error::List)?;
    delete(&outdated)
}

/// Why outdated flows may still be there. The rules themselves are in force all the same.
#[derive(Debug)]
pub enum Error {
    /// This host's own addresses could not be read.
    Addresses(io::Error),
    /// The flows could not be read; none was deleted.
    List(io::Error),
    /// Some flows could not be deleted; `deleted` others were.
    Delete { deleted: usize, failed: usize, source: io::Error },
}

impl Error {
    /// What the user can do.
    pub fn help(&self) -> &'static str {
        let errno = match self {
            Error::Addresses(e) | Error::List(e) | Error::Delete { source: e, .. } => {
                e.raw_os_error().map(Errno::from_raw)
            }
        };
        match errno {
            Some(Errno::EPERM | Errno::EACCES) => "run as root, or with CAP_NET_ADMIN",
            // An unknown subsystem of nfnetlink is EINVAL, an unknown netlink protocol the other.
            Some(Errno::EINVAL | Errno::EPROTONOSUPPORT) => {
                "load the kernel module nf_conntrack_netlink (modprobe nf_conntrack_netlink); \
                 until then, UDP clients may reach the old port until they pause for two minutes"
            }
            _ => {
                "UDP clients may reach the old port until they pause for two minutes; \
                 `conntrack -D -p udp --orig-port-dst PORT` deletes their flows"
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("delete outdated UDP flows: ")?;
        match self {
            Error::Addresses(_) => f.write_str("read this host's addresses"),
            Error::List(_) => f.write_str("read the connection tracking table"),
            Error::Delete { deleted, failed, .. } => {
                write!(f, "{failed} of {} not deleted", deleted + failed)
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Addresses(e) | Error::List(e) | Error::Delete { source: e, .. } => Some(e),
        }
    }
}

fn local_addresses() -> io::Result<LocalAddresses> {
    let addresses = getifaddrs()?.filter_map(|interface| interface.address).filter_map(|a| {
        a.as_sockaddr_in()
            .map(|v4| IpAddr::V4(v4.ip()))
            .or_else(|| a.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(LocalAddresses::new(addresses))
}

/// How often a dump that the kernel calls inconsistent is begun anew.
const ATTEMPTS: usize = 5;

/// Flows that `choose` wants, of those that concern one of `services` (not empty, sorted) and
/// possibly of others. Only they are kept in memory: a table of flows can be large.
fn list(services: &[Service], mut choose: impl FnMut(&Flow) -> bool) -> io::Result<Vec<Handle>> {
    let filter = filter_for(services);
    let mut chosen = Vec::new();
    // One family at a time: the kernel refuses a filter for both (EOPNOTSUPP).
    for family in [AF_INET, AF_INET6] {
        chosen.extend(list_family(family, &filter, &mut choose)?);
    }
    Ok(chosen)
}

fn list_family(
    family: u8,
    filter: &[u8],
    choose: &mut impl FnMut(&Flow) -> bool,
) -> io::Result<Vec<Handle>> {
    let mut filter = filter;
    let mut attempt = 1;
    loop {
        // A socket of its own for each attempt: nothing is left in it of the one before.
        let error = match dump(family, filter, choose) {
            Ok(handles) => return Ok(handles),
            Err(error) => error,
        };
        match error.raw_os_error().map(Errno::from_raw) {
            // A kernel that knows filters, but not this one; none is always right.
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) if !filter.is_empty() => filter = &[],
            Some(Errno::EINTR | Errno::ENOBUFS) if attempt < ATTEMPTS => attempt += 1,
            _ => return Err(error),
        }
    }
}

/// One reading of all flows of a family. EINTR if the table changed its shape meanwhile.
fn dump(
    family: u8,
    filter: &[u8],
    choose: &mut impl FnMut(&Flow) -> bool,
) -> io::Result<Vec<Handle>> {
    let mut socket = Socket::open()?;
    let mut request = Vec::new();
    append_message(&mut request, CT_GET, NLM_F_REQUEST | NLM_F_DUMP, SEQUENCE, family, filter);
    socket.send(&request)?;

    let mut chosen = Vec::new();
    let mut interrupted = false;
    loop {
        for message in Messages(socket.receive()?) {
            let message = message?;
            if message.sequence != SEQUENCE {
                continue;
            }
            interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    message.status()?;
                    return if interrupted { Err(Errno::EINTR.into()) } else { Ok(chosen) };
                }
                CT_NEW => chosen.extend(
                    Entry::parse(message.payload)?.filter(|e| choose(&e.flow)).map(|e| e.handle),
                ),
                _ => {}
            }
        }
    }
}

/// Deletions that go out in one datagram. Each is acknowledged, and all acknowledgements must find
/// room in the receive buffer (by default for about 270).
const BATCH: usize = 64;

fn delete(handles: &[Handle]) -> Result<usize, Error> {
    let mut tally = Tally::default();
    let sent = delete_all(handles, &mut tally);
    let Tally { deleted, gone, refused } = tally;
    match sent.err().or(refused) {
        None => Ok(deleted),
        Some(source) => {
            Err(Error::Delete { deleted, failed: handles.len() - deleted - gone, source })
        }
    }
}

/// What has become of deletions.
#[derive(Default)]
struct Tally {
    deleted: usize,
    /// Timed out by themselves, or another flow has the tuple now: as wanted, but not our doing.
    gone: usize,
    /// The first refusal. The others are tried all the same.
    refused: Option<io::Error>,
}

fn delete_all(handles: &[Handle], tally: &mut Tally) -> io::Result<()> {
    if handles.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open()?;
    let mut requests = Vec::new();
    for (sequence, batch) in (1..).zip(handles.chunks(BATCH)) {
        requests.clear();
        for Handle { family, id } in batch {
            let flags = NLM_F_REQUEST | NLM_F_ACK;
            append_message(&mut requests, CT_DELETE, flags, sequence, *family, id);
        }
        socket.send(&requests)?;
        let mut unanswered = batch.len();
        while unanswered > 0 {
            for message in Messages(socket.receive()?) {
                let message = message?;
                if message.kind != NLMSG_ERROR || message.sequence != sequence {
                    continue;
                }
                match message.status() {
                    Ok(()) => tally.deleted += 1,
                    Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => tally.gone += 1,
                    Err(e) => drop(tally.refused.get_or_insert(e)),
                }
                unanswered = unanswered.saturating_sub(1);
            }
        }
    }
    Ok(())
}

/// Attributes by which the kernel itself passes over flows of another protocol or port, where one
/// protocol or port says it all. Kernels before 5.8 do not know them and give every flow.
fn filter_for(services: &[Service]) -> Vec<u8> {
    // Sorted by protocol: if the first and the last have the same, all have.
    let [Some(protocol), Some(last)] =
        [services.first(), services.last()].map(|s| s.map(|s| s.protocol))
    else {
        return Vec::new();
    };
    if protocol != last {
        return Vec::new();
    }
    let mut flags = FILTER_PROTO_NUM;
    let mut proto = Vec::new();
    append_attribute(&mut proto, CTA_PROTO_NUM, &[protocol.number()]);
    if let [only] = services {
        flags |= FILTER_PROTO_DST_PORT;
        append_attribute(&mut proto, CTA_PROTO_DST_PORT, &only.port.get().to_be_bytes());
    }
    let mut tuple = Vec::new();
    append_attribute(&mut tuple, CTA_TUPLE_PROTO | NLA_F_NESTED, &proto);
    let mut filter = Vec::new();
    append_attribute(&mut filter, CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes());

    let mut attributes = Vec::new();
    append_attribute(&mut attributes, CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
    append_attribute(&mut attributes, CTA_FILTER | NLA_F_NESTED, &filter);
    attributes
}

/// Names one flow for deletion.
#[derive(Debug, PartialEq, Eq)]
struct Handle {
    family: u8,
    /// `CTA_TUPLE_ORIG` (with a zone of its own, perhaps), `CTA_ZONE` and `CTA_ID` as the kernel
    /// gave them. The tuple is always among them: without one, CT_DELETE empties the table.
    id: Vec<u8>,
}

/// A flow and its handle.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    flow: Flow,
    handle: Handle,
}

impl Entry {
    /// Reads what follows the message's header. `None` for a flow that has no ports, or whose
    /// protocol is none of ours.
    fn parse(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (&[family, ..], attributes) =
            payload.split_first_chunk::<NFGENMSG_LEN>().ok_or(Malformed)?;
        let (mut original, mut reply, mut identified) = (None, None, false);
        let mut id = Vec::new();
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind & NLA_TYPE_MASK {
                CTA_TUPLE_ORIG => original = parse_tuple(attribute.payload)?,
                CTA_TUPLE_REPLY => {
                    reply = parse_tuple(attribute.payload)?;
                    continue;
                }
                CTA_ID => identified = true,
                CTA_ZONE => {}
                _ => continue,
            }
            append_attribute(&mut id, attribute.kind, attribute.payload);
        }
        let (Some((protocol, original)), Some((_, reply)), true) = (original, reply, identified)
        else {
            return Ok(None);
        };
        Ok(Some(Entry { flow: Flow { protocol, original, reply }, handle: Handle { family, id } }))
    }
}

fn parse_tuple(payload: &[u8]) -> Result<Option<(Protocol, Tuple)>, Malformed> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, None, None);
    for attribute in Attributes(payload) {
        let attribute = attribute?;
        match attribute.kind & NLA_TYPE_MASK {
            CTA_TUPLE_IP => {
                for ip in Attributes(attribute.payload) {
                    let ip = ip?;
                    match ip.kind & NLA_TYPE_MASK {
                        CTA_IP_V4_SRC => source = Some(Ipv4Addr::from(ip.array()?).into()),
                        CTA_IP_V4_DST => destination = Some(Ipv4Addr::from(ip.array()?).into()),
                        CTA_IP_V6_SRC => source = Some(Ipv6Addr::from(ip.array()?).into()),
                        CTA_IP_V6_DST => destination = Some(Ipv6Addr::from(ip.array()?).into()),
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_PROTO => {
                for proto in Attributes(attribute.payload) {
                    let proto = proto?;
                    match proto.kind & NLA_TYPE_MASK {
                        CTA_PROTO_NUM => {
                            protocol = Protocol::from_number(u8::from_be_bytes(proto.array()?));
                        }
                        CTA_PROTO_SRC_PORT => {
                            source_port = Some(u16::from_be_bytes(proto.array()?));
                        }
                        CTA_PROTO_DST_PORT => {
                            destination_port = Some(u16::from_be_bytes(proto.array()?));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let endpoint = |address: Option<IpAddr>, port| Some(SocketAddr::new(address?, port?));
    Ok(endpoint(source, source_port)
        .zip(endpoint(destination, destination_port))
        .zip(protocol)
        .map(|((source, destination), protocol)| (protocol, Tuple { source, destination })))
}

/// A message or an attribute that does not fit into what contains it, or lacks what it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

impl From<Malformed> for io::Error {
    fn from(_: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")
    }
}

/// A netlink message without its header.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// What NLMSG_ERROR and NLMSG_DONE say: zero, or an error number, negated.
    fn status(&self) -> io::Result<()> {
        let code = self.payload.first_chunk().ok_or(Malformed)?;
        match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        }
    }
}

/// The messages of one datagram. Ends after a malformed one.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let input = mem::take(&mut self.0);
            let &[l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, _, _, _, _] =
                input.first_chunk::<NLMSGHDR_LEN>().ok_or(Malformed)?;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let (payload, rest) = split_item(input, NLMSGHDR_LEN, length)?;
            self.0 = rest;
            Ok(Message {
                kind: u16::from_ne_bytes([k0, k1]),
                flags: u16::from_ne_bytes([f0, f1]),
                sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
                payload,
            })
        })
    }
}

struct Attribute<'a> {
    /// With the flags in its upper bits.
    kind: u16,
    payload: &'a [u8],
}

impl Attribute<'_> {
    /// The payload, if it has this length and no other.
    fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed)
    }
}

/// Attributes one after another. Ends after a malformed one.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let input = mem::take(&mut self.0);
            let &[l0, l1, k0, k1] = input.first_chunk::<NLATTR_LEN>().ok_or(Malformed)?;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let (payload, rest) = split_item(input, NLATTR_LEN, length)?;
            self.0 = rest;
            Ok(Attribute { kind: u16::from_ne_bytes([k0, k1]), payload })
        })
    }
}

/// Splits `input` into what the first `length` bytes hold behind their header, and what follows
/// them and their padding, which the last one may lack.
fn split_item(input: &[u8], header: usize, length: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let payload = input.get(header..length).ok_or(Malformed)?;
    let rest = input.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    Ok((payload, rest))
}

/// The payload must be shorter than 64 KiB. Ours are below 200 bytes, and those that are passed on
/// have come out of an attribute.
fn append_attribute(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = (NLATTR_LEN + payload.len()) as u16;
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

fn append_message(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    attributes: &[u8],
) {
    let length = (NLMSGHDR_LEN + NFGENMSG_LEN + attributes.len()) as u32;
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]); // the sender's port: the kernel knows it
    out.extend([family, NFNETLINK_V0, 0, 0]);
    out.extend(attributes);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// A netlink socket that listens to nobody but the kernel.
struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// More than the kernel puts into one datagram of a dump (32 KiB, `netlink_dump`).
const BUFFER_LEN: usize = 64 * 1024;

/// How long the kernel may be silent. It answers at once, unless it is to load a module.
const PATIENCE: TimeVal = TimeVal::new(10, 0);

impl Socket {
    fn open() -> nix::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &PATIENCE)?;
        Ok(Self { fd, buffer: vec![0; BUFFER_LEN] })
    }

    /// An unconnected netlink socket sends to the kernel.
    fn send(&self, messages: &[u8]) -> io::Result<()> {
        let sent = retry(|| send(self.fd.as_raw_fd(), messages, MsgFlags::empty()))?;
        if sent == messages.len() { Ok(()) } else { Err(Errno::EMSGSIZE.into()) }
    }

    /// One datagram of the kernel's.
    fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            let (len, sender) =
                retry(|| recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut self.buffer))?;
            if sender.is_none_or(|s| s.pid() != 0) {
                continue;
            }
            // The rest, if there was one, is lost.
            if len == self.buffer.len() {
                return Err(Errno::EMSGSIZE.into());
            }
            return Ok(&self.buffer[..len]);
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            result => return result,
        }
    }
}

// linux/netlink.h
const ALIGN: usize = 4;
const NLMSGHDR_LEN: usize = 16;
const NLATTR_LEN: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

// linux/netfilter/nfnetlink.h
const NFGENMSG_LEN: usize = 4;
const NFNETLINK_V0: u8 = 0;
const NFNL_SUBSYS_CTNETLINK: u16 = 1;

// linux/socket.h
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

// linux/netfilter/nfnetlink_conntrack.h
const CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
const CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;

// net/netfilter/nf_internals.h in the kernel: the meaning of the flags has no public header.
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// A dump is the only one on its socket.
const SEQUENCE: u32 = 1;

#[cfg(test)]
mod tests;
