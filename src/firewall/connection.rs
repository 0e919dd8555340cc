//! What is judged: a connection that does not exist yet, and its packets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::mapping::{Port, Protocol, Service};

use super::value::{Byte, any, exactly};

/// A new connection to one of this host's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub client: Client,
    /// What the client connects to.
    pub address: IpAddr,
    pub service: Service,
    /// Where portmap's rules send it; `None` if they leave it alone.
    pub target: Option<Port>,
}

/// Who connects. By TCP, its port is none that only root may take, as other systems choose it too
/// (RFC 6056, section 3.2); by other protocols a client may well use the server's own (NTP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A program of this host.
    Here,
    /// Another machine. It has an ordinary address of its own: not one of this host's, loopback,
    /// multicast or reserved. Its packets are whole, without IP options or IPv6 extension headers,
    /// and arrive by the interface that this host answers it by.
    Outside {
        interface: Interface,
        /// Where its address lies; `None`: any client.
        source: Option<IpNet>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
}

impl Interface {
    /// The kernel gives `lo` index 1 in every namespace (`LOOPBACK_IFINDEX`).
    pub fn loopback() -> Self {
        Self { name: "lo".to_owned(), index: 1 }
    }
}

impl Connection {
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// By which the packets come in, and the answers leave.
    pub fn interface(&self) -> Interface {
        match &self.client {
            Client::Here => Interface::loopback(),
            Client::Outside { interface, .. } => interface.clone(),
        }
    }

    /// The client's address. A program here has the address that it connects to if that is of
    /// loopback; for others the kernel prefers the first of the interface.
    pub fn client_address(&self) -> Vec<Byte> {
        let unknown = || match (&self.client, self.is_ipv6()) {
            (Client::Here, ipv6) => any(if ipv6 { 16 } else { 4 }),
            (_, false) => first_byte(Byte::one_of((1..=126).chain(128..=223)), 4),
            // Global unicast, unique local and link-local (RFC 4291, RFC 4193).
            (_, true) => first_byte(Byte::one_of((0x20..=0x3f).chain([0xfc, 0xfd, 0xfe])), 16),
        };
        match &self.client {
            Client::Outside { source: Some(net), .. } if net.prefix_len() > 0 => within(*net),
            Client::Here if self.address.is_loopback() => octets(self.address),
            _ => unknown(),
        }
    }
}

fn first_byte(byte: Byte, len: usize) -> Vec<Byte> {
    let mut bytes = any(len);
    bytes[0] = byte;
    bytes
}

/// An address of this network.
fn within(net: IpNet) -> Vec<Byte> {
    let known = octets(net.network()).into_iter().zip(octets(net.netmask()));
    known.map(|(byte, mask)| Byte::masked(byte.least(), mask.least())).collect()
}

pub fn octets(address: IpAddr) -> Vec<Byte> {
    match address {
        IpAddr::V4(address) => exactly(&address.octets()),
        IpAddr::V6(address) => exactly(&address.octets()),
    }
}

/// The packets that a connection needs, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    /// The first packet, a SYN in TCP.
    Open,
    /// The first answer, a SYN and ACK in TCP.
    Answer,
    /// All that follow from the client.
    Later,
    /// And from the server.
    LaterAnswer,
}

impl Leg {
    pub const ALL: [Leg; 4] = [Leg::Open, Leg::Answer, Leg::Later, Leg::LaterAnswer];

    pub fn is_answer(self) -> bool {
        matches!(self, Leg::Answer | Leg::LaterAnswer)
    }
}

/// A packet's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    pub network: Vec<Byte>,
    pub transport: Vec<Byte>,
}

pub const SOURCE_PORT: usize = 0;
pub const DESTINATION_PORT: usize = 2;
/// Of the TCP header.
pub const TCP_FLAGS: usize = 13;

/// `PROT_SOCK` of the kernel's `include/net/sock.h`: what `ip_unprivileged_port_start` is at first.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Where the addresses are in the network header: source, destination, and their length.
pub const fn address_fields(ipv6: bool) -> (usize, usize, usize) {
    if ipv6 { (8, 24, 16) } else { (12, 16, 4) }
}

impl Headers {
    /// As they are before any translation.
    pub fn new(connection: &Connection, leg: Leg) -> Self {
        let ipv6 = connection.is_ipv6();
        let (client, own) = (connection.client_address(), octets(connection.address));
        let protocol = connection.service.protocol;
        let mut network = if ipv6 { ipv6_header(protocol) } else { ipv4_header(protocol) };
        let mut transport = transport_header(protocol, leg);
        let (source, destination, len) = address_fields(ipv6);
        let port = if leg.is_answer() {
            network[source..source + len].copy_from_slice(&own);
            network[destination..destination + len].copy_from_slice(&client);
            SOURCE_PORT
        } else {
            network[source..source + len].copy_from_slice(&client);
            network[destination..destination + len].copy_from_slice(&own);
            DESTINATION_PORT
        };
        // An answer begins where the connection was sent to.
        let server = match connection.target {
            Some(target) if leg.is_answer() => target,
            _ => connection.service.port,
        };
        transport[port..port + 2].copy_from_slice(&exactly(&server.get().to_be_bytes()));
        if protocol == Protocol::Tcp {
            let client = SOURCE_PORT + DESTINATION_PORT - port;
            transport[client] = Byte::one_of((FIRST_UNPRIVILEGED >> 8) as u8..=u8::MAX);
        }
        Self { network, transport }
    }
}

/// RFC 791: no options, not a fragment, not worn out.
fn ipv4_header(protocol: Protocol) -> Vec<Byte> {
    let mut header = any(20);
    header[0] = Byte::of(0x45);
    header[6] = Byte::one_of([0x00, 0x40]);
    header[7] = Byte::ZERO;
    header[8] = Byte::one_of(1..=255);
    header[9] = Byte::of(protocol.number());
    header
}

/// RFC 8200: no extension headers.
fn ipv6_header(protocol: Protocol) -> Vec<Byte> {
    let mut header = any(40);
    header[0] = Byte::masked(0x60, 0xf0);
    header[6] = Byte::of(protocol.number());
    header[7] = Byte::one_of(1..=255);
    header
}

fn transport_header(protocol: Protocol, leg: Leg) -> Vec<Byte> {
    const FIN_OR_RST: u8 = 0x05;
    let mut header = match protocol {
        Protocol::Tcp => any(20),
        Protocol::Udp | Protocol::UdpLite => any(8),
        Protocol::Sctp | Protocol::Dccp => any(12),
    };
    if protocol == Protocol::Tcp {
        // RFC 9293; a client that can do ECN sets both of its bits in a SYN (RFC 3168, 6.1.1).
        header[TCP_FLAGS] = match leg {
            Leg::Open => Byte::one_of([0x02, 0xc2]),
            Leg::Answer => Byte::one_of([0x12, 0x52]),
            Leg::Later | Leg::LaterAnswer => {
                let flags = (0..=255).filter(|flags: &u8| flags & 0x12 == 0x10);
                Byte::one_of(flags.filter(|flags| flags & FIN_OR_RST == 0))
            }
        };
    }
    header
}
