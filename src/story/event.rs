//! What the kernel says of a traced packet at one place: `NFT_MSG_TRACE` as a value.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::mapping::Protocol;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Names the packet, for as long as it is the same buffer in the kernel that arrived on the
    /// same interface. Numbers come again.
    pub id: u32,
    pub place: Place,
    pub said: Said,
    /// The packet as it was when it entered the base chain. Only the first message from a base
    /// chain has it.
    pub packet: Option<Packet>,
    /// The interface on which it arrived, or will leave.
    pub arriving: Option<String>,
    pub leaving: Option<String>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// nft's word for the family of the table: `inet`.
    pub family: &'static str,
    pub table: String,
    pub chain: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}, chain {}", self.family, self.table, self.chain)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The rule with this handle matched.
    Rule { handle: u64, verdict: Verdict },
    /// The end of the chain was reached.
    End,
    /// No rule of the base chain decided.
    Policy(Verdict),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    /// The kernel or another program has taken the packet over.
    Stolen,
    Queue,
    Continue,
    Return,
    Jump(String),
    Goto(String),
    Other(i32),
}

impl Verdict {
    /// nft's word.
    pub const fn name(&self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Stolen => "stolen",
            Verdict::Queue => "queue",
            Verdict::Continue => "continue",
            Verdict::Return => "return",
            Verdict::Jump(_) => "jump",
            Verdict::Goto(_) => "goto",
            Verdict::Other(_) => "other",
        }
    }

    /// The chain that comes next.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ports(Ports),
    /// An ICMP or ICMPv6 error "destination unreachable".
    Unreachable(Unreachable),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub protocol: Protocol,
    pub source: u16,
    pub destination: u16,
    /// Nothing is set unless it is TCP.
    pub flags: TcpFlags,
}

/// The flags of a TCP header, byte 13 (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;

    pub const fn is_reset(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// The answer to a SYN.
    pub const fn accepts(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }
}

/// Why a destination is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    Port,
    Prohibited,
    /// The code of RFC 792 or RFC 4443.
    Other(u8),
}

impl Unreachable {
    /// The code of an ICMP message of type 3 (RFC 792, RFC 1812) or of an ICMPv6 message of type 1
    /// (RFC 4443).
    pub const fn from_code(code: u8, ipv6: bool) -> Self {
        match (code, ipv6) {
            (3, false) | (4, true) => Unreachable::Port,
            (9 | 10 | 13, false) | (1 | 5 | 6, true) => Unreachable::Prohibited,
            (code, _) => Unreachable::Other(code),
        }
    }
}

impl Packet {
    pub fn ports(&self) -> Option<Ports> {
        match self.transport {
            Transport::Ports(ports) => Some(ports),
            _ => None,
        }
    }

    /// From where to where, and by which protocol; `None` without ports.
    pub fn ends(&self) -> Option<(Protocol, SocketAddr, SocketAddr)> {
        let ports = self.ports()?;
        let source = SocketAddr::new(self.source, ports.source);
        Some((ports.protocol, source, SocketAddr::new(self.destination, ports.destination)))
    }
}
