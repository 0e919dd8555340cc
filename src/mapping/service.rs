//! What a client connects to.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// A transport port, 1 to 65535. Port 0 is reserved (RFC 6335, section 6) and never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The port `distance` further on, if there is one.
    pub const fn further(self, distance: u16) -> Option<Self> {
        match self.0.checked_add(distance) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The transport protocols whose ports the kernel can translate: those for which
/// `nf_nat_proto.c` rewrites a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Dccp,
    Sctp,
    UdpLite,
}

impl Protocol {
    pub const ALL: [Protocol; 5] =
        [Protocol::Tcp, Protocol::Udp, Protocol::Dccp, Protocol::Sctp, Protocol::UdpLite];

    /// The number in the IP header (IANA protocol numbers; `netinet/in.h`).
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Dccp => 33,
            Protocol::Sctp => 132,
            Protocol::UdpLite => 136,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Whether what connection tracking remembers is all there is to a flow, so that forgetting it
    /// does no harm.
    pub const fn is_connectionless(self) -> bool {
        match self {
            Protocol::Udp | Protocol::UdpLite => true,
            Protocol::Tcp | Protocol::Dccp | Protocol::Sctp => false,
        }
    }

    /// The name in the services database, in nft and in our files.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Dccp => "dccp",
            Protocol::Sctp => "sctp",
            Protocol::UdpLite => "udplite",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or(())
    }
}

/// What a client connects to: a protocol and a port of this host. Ordered as shown to people:
/// by protocol, then by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    pub protocol: Protocol,
    pub port: Port,
}

impl fmt::Display for Service {
    /// `80/tcp`, as in services(5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}
