//! Which sockets wait for clients: sock_diag(7), the source of ss(8). It needs no privilege.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_indextoname;

use super::Error;
use super::netlink::socket::{Socket, uninterrupted};
use super::netlink::wire::{Attrs, Malformed, Message, array, be_u16};
use crate::host::holders;
use crate::host::listeners::{Listener, Listening};
use crate::mapping::{Port, Protocol};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`: the type of question and answer.
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_msg` of `linux/inet_diag.h`.
const ANSWER: usize = 72;
/// `INET_DIAG_SKV6ONLY`
const V6ONLY: u16 = 11;
/// `TCP_LISTEN` and `TCP_CLOSE` of `linux/tcp_states.h`, which other protocols share. A UDP socket
/// that is not connected to one peer is in the latter.
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;
const ESTABLISHED: u32 = 1 << 1;

/// The listeners of these protocols, in this network namespace.
///
/// A protocol for which the kernel has no diagnosis is reported as unseen: that is no error. Only
/// what is asked for is looked at, since a question about SCTP makes the kernel load its module.
pub fn listening(protocols: &[Protocol]) -> Listening {
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    let Ok(mut socket) = Socket::open_on(mnl::Bus::SockDiag) else {
        return Listening::new(found, protocols.to_vec());
    };
    for protocol in protocols {
        let mut listeners = Vec::new();
        let families = [libc::AF_INET, libc::AF_INET6]
            .map(|family| dump(&mut socket, family as u8, *protocol, &mut listeners));
        match families {
            [Ok(()), Ok(())] => found.extend(listeners),
            _ => unseen.push(*protocol),
        }
    }
    Listening::new(found, unseen)
}

/// Whether there is an established TCP connection between these two.
pub fn is_connected(local: SocketAddr, peer: SocketAddr) -> bool {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let question = question(family as u8, Protocol::Tcp, ESTABLISHED, Some((local, peer)));
    let Ok(mut socket) = Socket::open_on(mnl::Bus::SockDiag) else { return false };
    let mut found = false;
    let asked = socket.ask_plain(BY_FAMILY, false, &question, &mut |message| {
        // Where there is no such connection, the answer is a listener on the port.
        let state = message.payload.get(1).ok_or(Malformed)?;
        found |= message.kind == BY_FAMILY && 1 << state == ESTABLISHED;
        Ok(())
    });
    asked.is_ok() && found
}

/// Whether somebody has the unix socket with this inode open. `None` if it cannot be told.
///
/// Where the kernel has no diagnosis of unix sockets, its list of them has to do, in which a socket
/// can be called like another one's line.
pub fn is_open(inode: u64) -> Option<bool> {
    let mut diagnosis = Socket::open_on(mnl::Bus::SockDiag).ok();
    let found = diagnosis.as_mut().and_then(|socket| has_unix_socket(socket, inode));
    found.or_else(|| holders::is_listed(inode))
}

/// `None` if the kernel has no diagnosis of unix sockets.
fn has_unix_socket(socket: &mut Socket, inode: u64) -> Option<bool> {
    let inode = u32::try_from(inode).ok()?;
    let mut is_there = |inode| {
        let mut found = false;
        let asked = socket.ask_plain(BY_FAMILY, false, &unix_question(inode), &mut |message| {
            found = message.kind == BY_FAMILY;
            Ok(())
        });
        asked.map(|()| found)
    };
    match is_there(inode) {
        Ok(found) => Some(found),
        // The same is said where nobody could have looked. Who can calls 0 invalid.
        Err(Error::Kernel { errno: libc::ENOENT }) => match is_there(0) {
            Err(Error::Kernel { errno: libc::EINVAL }) => Some(false),
            _ => None,
        },
        Err(_) => None,
    }
}

/// `struct unix_diag_req` of `linux/unix_diag.h`: in any state, whatever its cookie.
fn unix_question(inode: u32) -> Vec<u8> {
    let mut question = vec![libc::AF_UNIX as u8, 0, 0, 0];
    question.extend_from_slice(&u32::MAX.to_ne_bytes());
    question.extend_from_slice(&inode.to_ne_bytes());
    question.extend_from_slice(&0u32.to_ne_bytes());
    question.extend_from_slice(&[0xff; 8]);
    question
}

fn dump(
    socket: &mut Socket,
    family: u8,
    protocol: Protocol,
    listeners: &mut Vec<Listener>,
) -> Result<(), Error> {
    let states = if protocol.is_connectionless() { CLOSE } else { LISTEN };
    let question = question(family, protocol, states, None);
    let before = listeners.len();
    uninterrupted(|| {
        listeners.truncate(before);
        socket.ask_plain(BY_FAMILY, true, &question, &mut |message| {
            listeners.extend(read(&message, protocol)?);
            Ok(())
        })
    })
}

/// `struct inet_diag_req_v2`.
fn question(
    family: u8,
    protocol: Protocol,
    states: u32,
    of: Option<(SocketAddr, SocketAddr)>,
) -> Vec<u8> {
    let mut question = vec![family, protocol.number(), 0, 0];
    question.extend_from_slice(&states.to_ne_bytes());
    let (local, peer) = of.unzip();
    for end in [local, peer] {
        question.extend_from_slice(&end.map_or(0, |end| end.port()).to_be_bytes());
    }
    for end in [local, peer] {
        question.extend_from_slice(&bits(end.map(|end| end.ip())));
    }
    question.extend_from_slice(&[0; 4]);
    // `INET_DIAG_NOCOOKIE`: whichever socket has these addresses.
    question.extend_from_slice(&[0xff; 8]);
    question
}

fn bits(address: Option<IpAddr>) -> [u8; 16] {
    let mut bits = [0; 16];
    match address {
        Some(IpAddr::V4(v4)) => bits[..4].copy_from_slice(&v4.octets()),
        Some(IpAddr::V6(v6)) => bits = v6.octets(),
        None => {}
    }
    bits
}

/// `None` for a message of another kind, and for a socket without a port of its own.
fn read(message: &Message, protocol: Protocol) -> Result<Option<Listener>, Malformed> {
    if message.kind != BY_FAMILY {
        return Ok(None);
    }
    let (answer, attributes) = message.payload.split_first_chunk::<ANSWER>().ok_or(Malformed)?;
    let family = i32::from(answer[0]);
    let address: IpAddr = match family {
        libc::AF_INET => Ipv4Addr::from(array::<4>(&answer[8..12])?).into(),
        // `::ffff:192.0.2.1` serves clients of that IPv4 address.
        libc::AF_INET6 => Ipv6Addr::from(array::<16>(&answer[8..24])?).to_canonical(),
        _ => return Ok(None),
    };
    let Some(port) = Port::new(be_u16(&answer[4..6])?) else { return Ok(None) };
    let number = |at: usize| array(&answer[at..at + 4]).map(u32::from_ne_bytes);
    let v6only = match Attrs(attributes).find(V6ONLY)? {
        Some(value) => array(value)? != [0u8],
        None => false,
    };
    let interface = match number(40)? {
        0 => None,
        // One that has gone meanwhile.
        index => Some(if_indextoname(index).map_or_else(
            |_: Errno| format!("interface {index}"),
            |name| name.to_string_lossy().into_owned(),
        )),
    };
    Ok(Some(Listener {
        protocol,
        address,
        v6only: address.is_ipv6() && v6only,
        port,
        interface,
        uid: number(64)?,
        user: None,
        inode: number(68)?,
        program: None,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::kernel::netlink::wire::Writer;

    fn answer(payload: &[u8]) -> Message<'_> {
        Message { kind: BY_FAMILY, flags: 0, sequence: 1, payload }
    }

    /// Port 3000 of `::`, bound to interface 1, of user 33, inode 77.
    fn dual_stack() -> Vec<u8> {
        let mut bytes = vec![0; ANSWER];
        bytes[0] = libc::AF_INET6 as u8;
        bytes[4..6].copy_from_slice(&3000u16.to_be_bytes());
        bytes[64..68].copy_from_slice(&33u32.to_ne_bytes());
        bytes[68..72].copy_from_slice(&77u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_unix_socket_is_open_until_it_is_closed() {
        let (one, other) = UnixStream::pair().unwrap();
        let number = fs::metadata(format!("/proc/self/fd/{}", one.as_raw_fd())).unwrap().ino();
        assert_eq!(is_open(number), Some(true));
        drop(one);
        assert_eq!(is_open(number), Some(false));
        // In the list, that one is like the socket that is gone.
        let dir = tempfile::tempdir().unwrap();
        let line = format!("\n0: 00000003 00000000 00000000 0001 03 {number}");
        let _like = UnixListener::bind(dir.path().join(line)).unwrap();
        assert_eq!(holders::is_listed(number), Some(true));
        assert_eq!(is_open(number), Some(false));
        drop(other);
    }

    #[test]
    fn a_listener_is_read() {
        let mut bytes = dual_stack();
        let listener = read(&answer(&bytes), Protocol::Tcp).unwrap().unwrap();
        assert_eq!((listener.port.get(), listener.uid, listener.inode), (3000, 33, 77));
        assert_eq!(listener.address, IpAddr::from(Ipv6Addr::UNSPECIFIED));
        assert!(!listener.v6only);
        let mut attributes = Writer::default();
        attributes.attr(V6ONLY, &[1]);
        bytes.append(&mut attributes.bytes);
        assert!(read(&answer(&bytes), Protocol::Tcp).unwrap().unwrap().v6only);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_one_of_ipv4() {
        let mut bytes = dual_stack();
        bytes[8..24].copy_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        let listener = read(&answer(&bytes), Protocol::Tcp).unwrap().unwrap();
        assert_eq!(listener.address, "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_is_too_short_is_an_error_and_what_has_no_port_no_listener() {
        let bytes = dual_stack();
        for len in 0..ANSWER {
            assert!(read(&answer(&bytes[..len]), Protocol::Tcp).is_err(), "{len}");
        }
        let mut none = bytes.clone();
        none[4..6].fill(0);
        assert_eq!(read(&answer(&none), Protocol::Udp), Ok(None));
        let mut cut = bytes;
        cut.extend_from_slice(&[9, 0, V6ONLY as u8, 0, 1]);
        assert!(read(&answer(&cut), Protocol::Tcp).is_err());
    }
}
