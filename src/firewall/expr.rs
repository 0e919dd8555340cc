//! The expressions of which the kernel's rules are made (`linux/netfilter/nf_tables.h`), as far as
//! they can decide about a packet.

use super::value::Comparison;
use super::xt;

/// Where an expression reads or writes: the verdict, or 64 bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Verdict,
    /// The offset of the first byte.
    Data(usize),
}

impl Register {
    /// How many bytes the registers have.
    pub const SIZE: usize = 64;

    /// By its number (`enum nft_registers`), of 16 bytes or of 4.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Register::Verdict),
            1..=4 => Some(Register::Data((number as usize - 1) * 16)),
            8..=23 => Some(Register::Data((number as usize - 8) * 4)),
            _ => None,
        }
    }
}

/// What becomes of the packet (`enum nft_verdicts`, `linux/netfilter.h`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Accept,
    Drop,
    /// To a program.
    Queue,
    Continue,
    Break,
    Return,
    Jump(String),
    Goto(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// `enum nft_payload_bases`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Link,
    Network,
    Transport,
    /// Behind the transport header, or what is not known here.
    Other,
}

/// Part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub base: Base,
    pub offset: usize,
    pub len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bits {
    /// `(value & mask) ^ xor`
    Mask { mask: Vec<u8>, xor: Vec<u8> },
    /// What newer kernels also have: shifts, and operations of two registers.
    Other,
}

/// What the verdict of a NAT expression changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    Source,
    Destination,
    /// `tproxy`: to a local socket, without a change of the packet.
    Socket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Payload {
        dest: usize,
        field: Field,
    },
    PayloadSet {
        field: Field,
    },
    /// `key` is of `enum nft_meta_keys`.
    Meta {
        dest: usize,
        key: u32,
    },
    MetaSet {
        key: u32,
        source: usize,
    },
    /// `key` is of `enum nft_ct_keys`; direction 0 is that of the first packet, 1 the other.
    Ct {
        dest: usize,
        key: u32,
        direction: Option<u8>,
    },
    CtSet {
        key: u32,
        source: usize,
    },
    /// `result` of `enum nft_fib_result`, `flags` of `enum nft_fib_flags`.
    Fib {
        dest: usize,
        result: u32,
        flags: u32,
    },
    /// A header's option, or whether it is there. `length` is that of the register.
    Option {
        dest: usize,
        kind: OptionKind,
        length: usize,
        presence: bool,
    },
    /// A value that changes with every packet or client: `numgen`, `jhash`, `rt`, `socket`, …
    Varying {
        what: &'static str,
        why: &'static str,
        dest: usize,
        length: usize,
        may_break: bool,
    },
    Immediate {
        dest: Register,
        data: Data,
    },
    Bitwise {
        source: usize,
        dest: usize,
        len: usize,
        bits: Bits,
    },
    Byteorder {
        source: usize,
        dest: usize,
        len: usize,
        size: usize,
    },
    Compare {
        source: usize,
        comparison: Comparison,
        data: Vec<u8>,
    },
    Range {
        source: usize,
        inverted: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Lookup {
        set: String,
        source: usize,
        dest: Option<Register>,
        inverted: bool,
    },
    /// Adds to a set or removes from it; with expressions, one of them can end the rule.
    Dynset {
        set: String,
        inverted: bool,
        stateful: bool,
    },
    /// Passes or not, as rates, sums and numbers of connections have it.
    Chance(&'static str),
    /// Changes nothing for this packet: counters, logs.
    Neutral(&'static str),
    Reject,
    Notrack,
    /// `to` are the ports that it translates to, where they are in a register.
    Nat {
        what: &'static str,
        translation: Translation,
        port: Option<usize>,
    },
    Match(xt::Match),
    Target(xt::Target),
    /// Not understood: it may do anything.
    Unknown(String),
}

/// Whose options an expression `exthdr` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// IPv6's extension headers and IPv4's options.
    Network,
    /// TCP's, SCTP's chunks and the like.
    Transport,
}

/// `enum nft_meta_keys`
pub mod meta {
    pub const PROTOCOL: u32 = 1;
    pub const PRIORITY: u32 = 2;
    pub const MARK: u32 = 3;
    pub const IIF: u32 = 4;
    pub const OIF: u32 = 5;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const IIFTYPE: u32 = 8;
    pub const OIFTYPE: u32 = 9;
    pub const SKUID: u32 = 10;
    pub const SKGID: u32 = 11;
    pub const NFTRACE: u32 = 12;
    pub const SECMARK: u32 = 14;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
    pub const PKTTYPE: u32 = 19;
    pub const CPU: u32 = 20;
    pub const CGROUP: u32 = 23;
    pub const PRANDOM: u32 = 24;
    pub const IIFKIND: u32 = 26;
    pub const OIFKIND: u32 = 27;
    pub const TIME_NS: u32 = 30;
    pub const TIME_DAY: u32 = 31;
    pub const TIME_HOUR: u32 = 32;
    pub const SDIFNAME: u32 = 34;
}

/// `enum nft_ct_keys`
pub mod ct {
    pub const STATE: u32 = 0;
    pub const DIRECTION: u32 = 1;
    pub const STATUS: u32 = 2;
    pub const MARK: u32 = 3;
    pub const HELPER: u32 = 6;
    pub const L3PROTOCOL: u32 = 7;
    pub const SRC: u32 = 8;
    pub const DST: u32 = 9;
    pub const PROTOCOL: u32 = 10;
    pub const PROTO_SRC: u32 = 11;
    pub const PROTO_DST: u32 = 12;
    pub const LABELS: u32 = 13;
    pub const PKTS: u32 = 14;
    pub const BYTES: u32 = 15;
    pub const AVGPKT: u32 = 16;
    pub const ZONE: u32 = 17;
    pub const EVENTMASK: u32 = 18;
    pub const SRC_IP: u32 = 19;
    pub const DST_IP: u32 = 20;
    pub const SRC_IP6: u32 = 21;
    pub const DST_IP6: u32 = 22;
    pub const ID: u32 = 23;
}

/// `enum nft_fib_result` and `enum nft_fib_flags`
pub mod fib {
    pub const OIF: u32 = 1;
    pub const OIFNAME: u32 = 2;
    pub const ADDRTYPE: u32 = 3;
    pub const SADDR: u32 = 1 << 0;
    pub const DADDR: u32 = 1 << 1;
    pub const IIF: u32 = 1 << 3;
    pub const OIF_FLAG: u32 = 1 << 4;
    pub const PRESENT: u32 = 1 << 5;
}
