//! The matches and targets of iptables, which come with rules that iptables-nft made, and with
//! those of legacy iptables.

mod blob;

pub use blob::{read_match, read_target};

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
    pub inverted: bool,
}

impl Ports {
    pub const ALL: Ports = Ports { first: 0, last: u16::MAX, inverted: false };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
    Either,
}

/// Bits to find in what is looked at; any of them will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyOf {
    pub mask: u16,
    pub inverted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    pub value: u32,
    pub mask: u32,
    pub inverted: bool,
}

/// `struct xt_conntrack_mtinfo3`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Of `XT_CONNTRACK_STATE_*`.
    pub state: Option<AnyOf>,
    /// Of `IPS_*`.
    pub status: Option<AnyOf>,
    pub original_port: Option<Ports>,
    /// Whether it wants the direction of the first packet.
    pub original_direction: Option<bool>,
    /// It has criteria besides these.
    pub more: bool,
}

/// `XT_CONNTRACK_STATE_*` of `linux/netfilter/xt_conntrack.h`
pub mod state {
    pub const INVALID: u16 = 1 << 0;
    pub const SNAT: u16 = 1 << 6;
    pub const DNAT: u16 = 1 << 7;
    pub const UNTRACKED: u16 = 1 << 8;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `-m tcp`
    Tcp {
        source: Ports,
        destination: Ports,
        flags: Option<Flags>,
        option: Option<u8>,
    },
    /// `-m udp`
    Udp {
        source: Ports,
        destination: Ports,
    },
    Multiport {
        side: Side,
        ports: Vec<(u16, u16)>,
        inverted: bool,
    },
    Conntrack(Conntrack),
    /// Masks of `XT_ADDRTYPE_*`; 0 for any.
    Addrtype {
        source: AnyOf,
        destination: AnyOf,
        by_interface: bool,
    },
    Comment(String),
    Mark(Masked),
    ConnectionMark(Masked),
    /// Whether the way back leads out by the arriving interface.
    Rpfilter {
        inverted: bool,
    },
    PacketType {
        kind: u32,
        inverted: bool,
    },
    /// Looks for an IPv6 extension header, and does not match without one.
    ExtensionHeader(String),
    /// Passes or not, as rates and chances have it.
    Chance(String),
    Unknown(String),
}

/// TCP flags: `mask` of them are looked at, `set` are to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    pub mask: u8,
    pub set: u8,
    pub inverted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Reject,
    /// Goes on to the next rule: logs, and what changes nothing that is looked at.
    Neutral(String),
    /// `(mark & !mask) ^ value`
    Mark {
        value: u32,
        mask: u32,
    },
    /// `CONNMARK`, of whichever kind: both marks are unknown behind it.
    ConnectionMark,
    Notrack,
    /// `CT` with a zone.
    Zone,
    /// `DNAT`, `REDIRECT`, `SNAT`, `MASQUERADE`, `NETMAP`, `TPROXY`
    Nat(String),
    Unknown(String),
}

/// A match of which its name says all that matters, whatever its options are.
pub fn plain_match(name: &str) -> Option<Match> {
    Some(match name {
        "rt" | "frag" | "hbh" | "dst" => Match::ExtensionHeader(name.to_owned()),
        "limit" | "hashlimit" | "connlimit" | "statistic" | "quota" | "quota2" => {
            Match::Chance(name.to_owned())
        }
        _ => return None,
    })
}

/// A target, the same.
pub fn plain_target(name: &str) -> Option<Target> {
    Some(match name {
        "REJECT" => Target::Reject,
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "TCPMSS" | "TCPOPTSTRIP" | "CHECKSUM"
        | "CLASSIFY" | "SET" | "RATEEST" | "LED" | "IDLETIMER" | "TEE" => {
            Target::Neutral(name.to_owned())
        }
        "CONNMARK" | "CONNSECMARK" => Target::ConnectionMark,
        "NOTRACK" => Target::Notrack,
        "DNAT" | "REDIRECT" | "SNAT" | "MASQUERADE" | "NETMAP" | "TPROXY" => {
            Target::Nat(name.to_owned())
        }
        _ => return None,
    })
}
