//! Real connections, tried and looked at; and which networks a probe may use for itself.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, getsockopt,
    socket, sockopt,
};

use super::proc;
use super::threads::each_at_once;
use crate::mapping::Protocol;

/// How long a connection may take: longer than until the kernel sends a lost SYN again (1 s).
const PATIENCE: Duration = Duration::from_millis(2500);
/// How long an established connection is looked at: whether the program takes it, and keeps it.
const LOOK: Duration = Duration::from_millis(400);

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A TCP connection.
    Connected,
    /// A datagram.
    Answered,
    Refused,
    /// Nothing, for some seconds.
    Silence,
    /// No route, or an ICMP error that says so.
    Unreachable,
    Failed(String),
}

/// What became of an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Open,
    Closed,
    Reset,
}

/// A connection that was tried.
#[derive(Debug)]
pub struct Attempt {
    pub to: SocketAddr,
    /// Our own end; `None` if there was no socket.
    pub client: Option<SocketAddr>,
    pub got: Got,
    stream: Option<TcpStream>,
}

/// Tries all of these at the same time. The sockets belong to the network namespace of the calling
/// thread.
pub fn attempt_all(targets: &[(Protocol, SocketAddr)]) -> Vec<Attempt> {
    const AT_ONCE: usize = 32;
    let mut attempts = Vec::new();
    for part in targets.chunks(AT_ONCE) {
        let outcomes = each_at_once(part.to_vec(), |(protocol, to)| attempt(protocol, to));
        let failed = |to| Attempt::failed(to, "its thread panicked");
        let pairs = outcomes.into_iter().zip(part);
        attempts.extend(pairs.map(|(got, (_, to))| got.unwrap_or_else(|| failed(*to))));
    }
    attempts
}

fn attempt(protocol: Protocol, to: SocketAddr) -> Attempt {
    let outcome = match protocol {
        Protocol::Tcp => connect_tcp(to),
        Protocol::Udp => ask_udp(to),
        _ => return Attempt::failed(to, "only TCP and UDP are tried"),
    };
    outcome.unwrap_or_else(|error| Attempt { got: got(&error), ..Attempt::failed(to, "") })
}

impl Attempt {
    fn failed(to: SocketAddr, why: &str) -> Self {
        Self { to, client: None, got: Got::Failed(why.to_owned()), stream: None }
    }

    /// Whether an established connection is still there after a while.
    pub fn kept(&mut self) -> Option<Kept> {
        let stream = self.stream.as_mut()?;
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(LOOK)).ok()?;
        Some(match stream.read(&mut [0]) {
            Ok(0) => Kept::Closed,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Kept::Reset,
            // It may speak first, or wait for us to.
            _ => Kept::Open,
        })
    }
}

fn got(error: &io::Error) -> Got {
    match error.kind() {
        ErrorKind::ConnectionRefused => Got::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Got::Silence,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Got::Unreachable,
        _ => Got::Failed(error.to_string()),
    }
}

fn any(of: SocketAddr) -> SocketAddr {
    match of {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// With a port that is known before the first packet is sent, so that its story can be found.
fn connect_tcp(to: SocketAddr) -> io::Result<Attempt> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(any(to)))?;
    let outcome = match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(()),
        Err(Errno::EINPROGRESS) => established(&socket),
        Err(errno) => Err(errno.into()),
    };
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    let v6 = || name.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())));
    let client = v4.or_else(v6);
    let (got, stream) = match outcome {
        Ok(()) => (Got::Connected, Some(TcpStream::from(socket))),
        Err(error) => (got(&error), None),
    };
    Ok(Attempt { to, client, got, stream })
}

/// Waits for the end of the handshake.
fn established(socket: &OwnedFd) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {
                return match getsockopt(socket, sockopt::SocketError)? {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
        }
    }
}

/// An empty datagram: many programs do not answer that.
fn ask_udp(to: SocketAddr) -> io::Result<Attempt> {
    let socket = UdpSocket::bind(any(to))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let client = socket.local_addr().ok();
    let outcome = socket.send(&[]).and_then(|_| socket.recv(&mut [0; 16]));
    let got = outcome.map_or_else(|error| got(&error), |_| Got::Answered);
    Ok(Attempt { to, client, got, stream: None })
}

/// Looks at the connections that were established to programs of the calling thread's network
/// namespace: whether each was taken, and whether it was kept.
pub fn look_at(attempts: &mut [Attempt]) -> Vec<(Option<bool>, Option<Kept>)> {
    let look = |attempt: &mut Attempt| match (&attempt.got, attempt.client) {
        (Got::Connected, Some(client)) => (is_taken(client), attempt.kept()),
        _ => (None, None),
    };
    let looks = each_at_once(attempts.iter_mut().collect(), look);
    looks.into_iter().map(|look| look.unwrap_or((None, None))).collect()
}

/// Whether a program of this network namespace has taken the TCP connection from `client`:
/// waits a moment for it. `None` if that cannot be seen.
pub fn is_taken(client: SocketAddr) -> Option<bool> {
    let deadline = Instant::now() + LOOK;
    loop {
        let taken = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
            .into_iter()
            .find_map(|path| taken(&fs::read_to_string(path).ok()?, client));
        if taken != Some(false) || Instant::now() > deadline {
            return taken;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// In the lines of proc(5), `/proc/net/tcp`, a connection that waits in the listener's queue has
/// no inode yet. Established ones have state 1.
pub(super) fn taken(table: &str, client: SocketAddr) -> Option<bool> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (remote, state) = (words.nth(2)?, words.next()?);
        let inode = words.nth(5)?;
        (state == "01" && end(remote)? == client).then(|| inode != "0")
    })
}

/// `0100007F:0050`: words of 32 bits in the machine's order.
pub(super) fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect();
    let bytes = words?.concat();
    let address: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// The addresses of this host by which a client can reach it; link-local ones need an interface,
/// and are left out.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for entry in getifaddrs()? {
        let Some(address) = entry.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        addresses.extend(v4.or_else(v6).filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }));
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Networks for documentation (RFC 5737, RFC 3849) with which no address and no route of this host
/// has to do: of each family one, if there is one.
pub fn unused_networks() -> io::Result<Vec<IpNet>> {
    let read = |path| proc::text(path).unwrap_or_default();
    let mut used: Vec<IpNet> = own_addresses()?.into_iter().map(IpNet::from).collect();
    used.extend(routes4(&read("/proc/thread-self/net/route")));
    used.extend(routes6(&read("/proc/thread-self/net/ipv6_route")));
    let is_free = |net: &IpNet| {
        // A default route has to do with everything, and is meant for nothing.
        !used.iter().any(|u| u.prefix_len() > 0 && (u.contains(net) || net.contains(u)))
    };
    let networks = |list: &[&str]| -> Option<IpNet> {
        list.iter().map(|net| net.parse().expect("a network")).find(is_free)
    };
    let v4 = networks(&["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"]);
    let v6 = networks(&["2001:db8:706d:1::/64", "2001:db8:706d:2::/64"]);
    Ok(v4.into_iter().chain(v6).collect())
}

/// Columns 2 and 8 are destination and mask (proc(5) has the form; `fib_route_seq_show`).
pub(super) fn routes4(table: &str) -> Vec<IpNet> {
    let line = |line: &str| -> Option<IpNet> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let destination = Ipv4Addr::from(number(1)?.to_ne_bytes());
        let mask = Ipv4Addr::from(number(7)?.to_ne_bytes());
        Some(Ipv4Net::with_netmask(destination, mask).ok()?.into())
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The first two columns are destination and length of the prefix.
pub(super) fn routes6(table: &str) -> Vec<IpNet> {
    let line = |line: &str| -> Option<IpNet> {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let len = u8::from_str_radix(words.next()?, 16).ok()?;
        Some(Ipv6Net::new(Ipv6Addr::from(address), len).ok()?.into())
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:0BB8 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 40513 1 0 100 0 0 10 0\n   \
        1: 0100007F:0BB8 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n   \
        2: 0100007F:0BB8 0200007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 40517 1 0 20 4 30 10 -1\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_connection_without_an_inode_is_not_taken() {
        let client = |text: &str| taken(TCP, text.parse().unwrap());
        assert_eq!(client("127.0.0.2:50000"), Some(false));
        assert_eq!(client("127.0.0.2:50001"), Some(true));
        assert_eq!(client("127.0.0.2:50002"), None);
        assert_eq!(taken("", "127.0.0.2:1".parse().unwrap()), None);
        let mapped = end("0000000000000000FFFF00000200007F:C350");
        assert_eq!(mapped, Some("127.0.0.2:50000".parse().unwrap()));
    }

    #[test]
    fn a_listener_that_never_accepts_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut attempt = attempt(Protocol::Tcp, listener.local_addr().unwrap());
        assert_eq!(attempt.got, Got::Connected);
        let client = attempt.client.unwrap();
        assert_eq!(is_taken(client), Some(false));
        let taken = listener.accept().unwrap();
        assert_eq!(is_taken(client), Some(true));
        assert_eq!(attempt.kept(), Some(Kept::Open));
        drop(taken);
        assert_eq!(attempt.kept(), Some(Kept::Closed));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read() {
        let v4 =
            "Iface\tDestination\tGateway\nlo\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n";
        assert_eq!(routes4(v4), ["198.51.100.0/24".parse().unwrap()]);
        let v6 = "20010db8000000000000000000000000 40 0000 00 0000 00000100 00000001 00000000 00000001 eth0\n";
        assert_eq!(routes6(v6), ["2001:db8::/64".parse().unwrap()]);
        let odd = v4.replace("lo\t", "\u{2003}\t");
        assert_eq!(routes4(&odd), routes4(v4), "an interface is called by a space of Unicode");
        assert!(routes4("x\ny").is_empty() && routes6("zz").is_empty());
    }
}
