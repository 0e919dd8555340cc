//! nft's names of what is looked at, and its ways to write values.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::expr::{Base, Field, Verdict, ct, fib, meta};
use super::super::tables::Family;
use super::super::value::Comparison;
use super::super::xt::{Conntrack, Match, Ports};

/// What a value is, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hex,
    /// In network order.
    Number,
    /// In the machine's own.
    Native,
    Address,
    Name,
    Protocol,
    Family,
    State,
    Status,
    TcpFlags,
    AddressType,
    Direction,
}

/// What is compared or looked up.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    pub kind: Kind,
    /// If it is a constant.
    pub value: Option<Vec<u8>>,
    /// The word says which family, or which protocol, it is about.
    pub covers_family: bool,
    pub covers_protocol: bool,
}

impl Subject {
    pub fn plain(name: &str, kind: Kind) -> Self {
        let name = name.to_owned();
        Subject { name, kind, value: None, covers_family: false, covers_protocol: false }
    }

    pub fn constant(name: String, value: &[u8]) -> Self {
        Subject { value: Some(value.to_vec()), ..Subject::plain(&name, Kind::Hex) }
    }
}

const STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const STATUSES: [(u32, &str); 6] = [
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
];
const TCP_FLAGS: [(u32, &str); 8] = [
    (1, "fin"),
    (2, "syn"),
    (4, "rst"),
    (8, "psh"),
    (16, "ack"),
    (32, "urg"),
    (64, "ecn"),
    (128, "cwr"),
];
const ADDRESS_TYPES: [(u32, &str); 9] = [
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

impl Kind {
    pub fn is_flags(self) -> bool {
        matches!(self, Kind::State | Kind::Status | Kind::TcpFlags)
    }

    pub fn show(self, bytes: &[u8]) -> String {
        let native = || match bytes {
            [a] => Some(u32::from(*a)),
            [a, b] => Some(u16::from_ne_bytes([*a, *b]).into()),
            [a, b, c, d] => Some(u32::from_ne_bytes([*a, *b, *c, *d])),
            _ => None,
        };
        let fallback = || format!("0x{}", hex(bytes));
        let shown = match self {
            Kind::Hex => None,
            Kind::Number if bytes.len() <= 8 => {
                Some(bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte)).to_string())
            }
            Kind::Number => None,
            Kind::Native => native().map(|n| n.to_string()),
            Kind::Address => address(bytes),
            Kind::Name => Some(interface(bytes)),
            Kind::Protocol => bytes.first().and_then(|n| protocol(*n)).map(str::to_owned),
            Kind::Family => match bytes {
                [2] => Some("ipv4".to_owned()),
                [10] => Some("ipv6".to_owned()),
                _ => None,
            },
            Kind::State => native().and_then(|bits| flags(bits, &STATES)),
            Kind::Status => native().and_then(|bits| flags(bits, &STATUSES)),
            Kind::TcpFlags => native().and_then(|bits| flags(bits, &TCP_FLAGS)),
            Kind::AddressType => native().and_then(|kind| {
                let known = ADDRESS_TYPES.iter().find(|(number, _)| *number == kind)?;
                Some(known.1.to_owned())
            }),
            Kind::Direction => match bytes.first() {
                Some(0) => Some("original".to_owned()),
                Some(1) => Some("reply".to_owned()),
                _ => None,
            },
        };
        shown.unwrap_or_else(fallback)
    }
}

fn flags(bits: u32, names: &[(u32, &str)]) -> Option<String> {
    let known = names.iter().fold(0, |all, (bit, _)| all | bit);
    if bits & !known != 0 || bits == 0 {
        return None;
    }
    let set = names.iter().filter(|(bit, _)| bits & bit != 0);
    Some(set.map(|(_, name)| *name).collect::<Vec<_>>().join(","))
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        return Some(Ipv6Addr::from(bytes).to_string());
    }
    // nft compares the first bytes alone where a network ends at one.
    let mut whole = [0; 4];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let shown = Ipv4Addr::from(whole).to_string();
    Some(if bytes.len() == 4 { shown } else { format!("{shown}/{}", bytes.len() * 8) })
}

fn interface(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
    // A name that is not closed is the beginning of names.
    match end {
        Some(_) => format!("\"{name}\""),
        None => format!("\"{name}*\""),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many bits a mask leaves at the beginning, if it leaves no others.
pub fn prefix(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let full = mask.iter().take_while(|byte| **byte == 0xff).count();
    let leading = full as u32 * 8 + mask.get(full).map_or(0, |byte| byte.leading_ones());
    (leading == ones).then_some(ones)
}

pub fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

pub fn operator(comparison: Comparison, explicit: bool) -> &'static str {
    match comparison {
        Comparison::Equal if explicit => "== ",
        Comparison::Equal => "",
        Comparison::NotEqual => "!= ",
        Comparison::Less => "< ",
        Comparison::LessOrEqual => "<= ",
        Comparison::Greater => "> ",
        Comparison::GreaterOrEqual => ">= ",
    }
}

pub fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Queue => "queue".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Break => "break".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

/// A key of an element: a value, a range or a network, or several of them.
pub fn key(from: &[u8], to: &[u8], kinds: &[Kind]) -> String {
    if let [kind] = kinds {
        return range(from, to, *kind);
    }
    let mut at = 0;
    let mut shown = Vec::new();
    for kind in kinds {
        let len = match kind {
            Kind::Address if kinds.len() > 1 && from.len() - at >= 16 => 16,
            Kind::Name => 16,
            _ => 4,
        };
        let part = at..(at + len).min(from.len());
        let shorter = match kind {
            Kind::Number => 2,
            Kind::Protocol | Kind::Family => 1,
            _ => len,
        };
        let (Some(from), Some(to)) = (from.get(part.clone()), to.get(part)) else { break };
        let shorter = shorter.min(from.len());
        shown.push(range(&from[..shorter], &to[..shorter], *kind));
        at += len;
    }
    shown.join(" . ")
}

fn range(from: &[u8], to: &[u8], kind: Kind) -> String {
    if from == to {
        return kind.show(from);
    }
    let differ: Vec<u8> = from.iter().zip(to).map(|(from, to)| !(from ^ to)).collect();
    match (kind, prefix(&differ)) {
        (Kind::Address, Some(bits)) => format!("{}/{bits}", kind.show(from)),
        _ => format!("{}-{}", kind.show(from), kind.show(to)),
    }
}

pub fn field(field: Field, table: Family, family: &str, protocol: &str) -> Subject {
    let Field { base, offset, len } = field;
    let family = match (family, table) {
        ("", Family::Ip) => "ip",
        ("", Family::Ip6) => "ip6",
        (family, _) => family,
    };
    let raw =
        |base: &str| Subject::plain(&format!("@{base},{},{}", offset * 8, len * 8), Kind::Hex);
    match base {
        Base::Network => {
            let (name, kind) = match (family, offset, len) {
                ("ip", 12, 1..=4) => ("ip saddr", Kind::Address),
                ("ip", 16, 1..=4) => ("ip daddr", Kind::Address),
                ("ip", 9, 1) => ("ip protocol", Kind::Protocol),
                ("ip", 8, 1) => ("ip ttl", Kind::Number),
                ("ip", 6, 2) => ("ip frag-off", Kind::Hex),
                ("ip6", 8, 16) => ("ip6 saddr", Kind::Address),
                ("ip6", 24, 16) => ("ip6 daddr", Kind::Address),
                ("ip6", 6, 1) => ("ip6 nexthdr", Kind::Protocol),
                ("ip6", 7, 1) => ("ip6 hoplimit", Kind::Number),
                _ => return raw("nh"),
            };
            Subject { covers_family: true, ..Subject::plain(name, kind) }
        }
        Base::Transport => {
            let (name, kind) = match (protocol, offset, len) {
                (_, 0, 2) => ("sport", Kind::Number),
                (_, 2, 2) => ("dport", Kind::Number),
                ("tcp", 13, 1) => ("flags", Kind::TcpFlags),
                ("icmp" | "ipv6-icmp", 0, 1) => ("type", Kind::Number),
                _ => return raw("th"),
            };
            let of = if protocol.is_empty() { "th" } else { protocol };
            Subject { covers_protocol: true, ..Subject::plain(&format!("{of} {name}"), kind) }
        }
        Base::Link => raw("ll"),
        Base::Other => raw("ih"),
    }
}

pub fn meta(key: u32) -> Subject {
    let (name, kind) = match key {
        meta::MARK => ("meta mark", Kind::Native),
        meta::IIF => ("iif", Kind::Native),
        meta::OIF => ("oif", Kind::Native),
        meta::IIFNAME => ("iifname", Kind::Name),
        meta::OIFNAME => ("oifname", Kind::Name),
        meta::IIFTYPE => ("iiftype", Kind::Native),
        meta::OIFTYPE => ("oiftype", Kind::Native),
        meta::SKUID => ("meta skuid", Kind::Native),
        meta::SKGID => ("meta skgid", Kind::Native),
        meta::NFPROTO => ("meta nfproto", Kind::Family),
        meta::L4PROTO => ("meta l4proto", Kind::Protocol),
        meta::PROTOCOL => ("meta protocol", Kind::Hex),
        meta::PKTTYPE => ("meta pkttype", Kind::Native),
        meta::CPU => ("meta cpu", Kind::Native),
        meta::NFTRACE => ("meta nftrace", Kind::Native),
        meta::PRIORITY => ("meta priority", Kind::Hex),
        _ => ("meta …", Kind::Hex),
    };
    Subject::plain(name, kind)
}

pub fn ct(key: u32, direction: Option<u8>) -> Subject {
    let (name, kind) = match key {
        ct::STATE => ("state", Kind::State),
        ct::DIRECTION => ("direction", Kind::Direction),
        ct::STATUS => ("status", Kind::Status),
        ct::MARK => ("mark", Kind::Native),
        ct::SRC | ct::SRC_IP | ct::SRC_IP6 => ("saddr", Kind::Address),
        ct::DST | ct::DST_IP | ct::DST_IP6 => ("daddr", Kind::Address),
        ct::PROTOCOL => ("protocol", Kind::Protocol),
        ct::PROTO_SRC => ("proto-src", Kind::Number),
        ct::PROTO_DST => ("proto-dst", Kind::Number),
        ct::ZONE => ("zone", Kind::Native),
        ct::HELPER => ("helper", Kind::Name),
        ct::LABELS => ("label", Kind::Hex),
        _ => ("…", Kind::Hex),
    };
    let direction = match direction {
        Some(0) => "original ",
        Some(_) => "reply ",
        None => "",
    };
    Subject::plain(&format!("ct {direction}{name}"), kind)
}

pub fn fib(result: u32, flags: u32) -> Subject {
    let inputs =
        [(fib::SADDR, "saddr"), (fib::DADDR, "daddr"), (1 << 2, "mark"), (fib::IIF, "iif")];
    let inputs = inputs.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name);
    let inputs: Vec<&str> = inputs.collect();
    let (result, kind) = match result {
        fib::ADDRTYPE => ("type", Kind::AddressType),
        fib::OIFNAME => ("oifname", Kind::Name),
        _ => ("oif", Kind::Native),
    };
    Subject::plain(&format!("fib {} {result}", inputs.join(" . ")), kind)
}

fn ports(option: &str, ports: Ports) -> Option<String> {
    let Ports { first, last, inverted } = ports;
    if ports == Ports::ALL {
        return None;
    }
    let not = if inverted { "! " } else { "" };
    Some(match first == last {
        true => format!(" {not}--{option} {first}"),
        false => format!(" {not}--{option} {first}:{last}"),
    })
}

/// As on the command line of iptables, as far as it is often seen.
pub fn match_name(found: &Match) -> String {
    let transport = |name: &str, source: Ports, destination: Ports| {
        let sport = ports("sport", source).unwrap_or_default();
        let dport = ports("dport", destination).unwrap_or_default();
        format!("{name}{sport}{dport}")
    };
    match found {
        Match::Tcp { source, destination, .. } => transport("tcp", *source, *destination),
        Match::Udp { source, destination } => transport("udp", *source, *destination),
        Match::Multiport { ports, inverted, .. } => {
            let shown = ports.iter().map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}:{last}"),
            });
            let not = if *inverted { "! " } else { "" };
            format!("multiport {not}--ports {}", shown.collect::<Vec<_>>().join(","))
        }
        Match::Conntrack(criteria) => conntrack(criteria),
        Match::Addrtype { .. } => "addrtype".to_owned(),
        Match::Comment(_) => "comment".to_owned(),
        Match::Mark(_) => "mark".to_owned(),
        Match::ConnectionMark(_) => "connmark".to_owned(),
        Match::Rpfilter { .. } => "rpfilter".to_owned(),
        Match::PacketType { .. } => "pkttype".to_owned(),
        Match::ExtensionHeader(name) | Match::Chance(name) | Match::Unknown(name) => name.clone(),
    }
}

fn conntrack(criteria: &Conntrack) -> String {
    const NAMES: [(u16, &str); 7] = [
        (1, "INVALID"),
        (2, "ESTABLISHED"),
        (4, "RELATED"),
        (8, "NEW"),
        (64, "SNAT"),
        (128, "DNAT"),
        (256, "UNTRACKED"),
    ];
    let mut shown = "conntrack".to_owned();
    if let Some(state) = criteria.state {
        let names = NAMES.iter().filter(|(bit, _)| state.mask & bit != 0).map(|(_, name)| *name);
        let not = if state.inverted { "! " } else { "" };
        shown += &format!(" {not}--ctstate {}", names.collect::<Vec<_>>().join(","));
    }
    if let Some(original) = criteria.original_port {
        shown += &ports("ctorigdstport", original).unwrap_or_default();
    }
    shown
}
