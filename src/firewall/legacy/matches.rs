//! Matches, in the words in which iptables' extensions print them.

use super::words::{Words, marked};
use crate::firewall::expr::Expr;
use crate::firewall::xt::{
    self, AnyOf, Conntrack, Flags, Masked, Match, Ports, Side, state as ct_state,
};

/// The match of this name, whose options come next.
pub fn read(name: &str, words: &mut Words<'_>) -> Expr {
    let read = match name {
        "tcp" => tcp(words),
        "udp" | "udplite" => udp(words),
        "multiport" => multiport(words),
        "conntrack" => conntrack(words),
        "state" => state(words),
        "addrtype" => addrtype(words),
        "comment" => comment(words),
        "mark" => masked(words).map(Match::Mark),
        "connmark" => masked(words).map(Match::ConnectionMark),
        "rpfilter" => rpfilter(words),
        "pkttype" => packet_type(words),
        _ => xt::plain_match(name),
    };
    let is_whole = read.is_some() && (!words.goes_on() || xt::plain_match(name).is_some());
    let rest = words.rest();
    match read {
        Some(found) if is_whole => Expr::Match(found),
        // It gives the packet the mark of the socket.
        _ if rest.contains(&"--restore-skmark") => Expr::Unknown(format!("-m {name}")),
        _ => Expr::Match(Match::Unknown(name.to_owned())),
    }
}

/// Hands on each option, and whether it is inverted.
fn options<'w>(
    words: &mut Words<'w>,
    mut each: impl FnMut(&str, bool, &mut Words<'w>) -> Option<()>,
) -> Option<()> {
    while words.goes_on() {
        let inverted = words.inverted();
        let option = words.next().filter(|word| !word.quoted)?;
        each(&option.text, inverted, words)?;
    }
    Some(())
}

/// `80`, `1024:65535`
fn range(text: &str) -> Option<(u16, u16)> {
    match text.split_once(':') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

fn ports(words: &mut Words<'_>, inverted: bool) -> Option<Ports> {
    let (first, last) = range(words.value()?)?;
    Some(Ports { first, last, inverted })
}

fn tcp(words: &mut Words<'_>) -> Option<Match> {
    let (mut source, mut destination) = (Ports::ALL, Ports::ALL);
    let (mut flags, mut option) = (None, None);
    options(words, |name, inverted, words| {
        match name {
            "--sport" => source = ports(words, inverted)?,
            "--dport" => destination = ports(words, inverted)?,
            "--tcp-flags" => {
                let (mask, set) = (tcp_flags(words.value()?)?, tcp_flags(words.value()?)?);
                flags = Some(Flags { mask, set, inverted });
            }
            "--tcp-option" => option = Some(words.value()?.parse().ok()?),
            _ => return None,
        }
        Some(())
    })?;
    Some(Match::Tcp { source, destination, flags, option })
}

fn tcp_flags(text: &str) -> Option<u8> {
    const NAMES: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let bit = |name: &str| match name {
        "NONE" => Some(0),
        "ALL" => Some(0x3f),
        _ => NAMES.iter().position(|known| *known == name).map(|bit| 1 << bit),
    };
    text.split(',').map(bit).try_fold(0, |all, bit| Some(all | bit?))
}

fn udp(words: &mut Words<'_>) -> Option<Match> {
    let (mut source, mut destination) = (Ports::ALL, Ports::ALL);
    options(words, |name, inverted, words| {
        match name {
            "--sport" => source = ports(words, inverted)?,
            "--dport" => destination = ports(words, inverted)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(Match::Udp { source, destination })
}

fn multiport(words: &mut Words<'_>) -> Option<Match> {
    let mut found = None;
    options(words, |name, inverted, words| {
        let side = match name {
            "--sports" => Side::Source,
            "--dports" => Side::Destination,
            "--ports" => Side::Either,
            _ => return None,
        };
        let ports: Option<Vec<_>> = words.value()?.split(',').map(range).collect();
        let before = found.replace(Match::Multiport { side, ports: ports?, inverted });
        before.is_none().then_some(())
    })?;
    found
}

/// Words with a bit each, with commas between them.
fn bits(text: &str, names: &[(&str, u16)]) -> Option<u16> {
    let bit = |name: &str| names.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit);
    text.split(',').map(bit).try_fold(0, |all, bit| Some(all | bit?))
}

/// `XT_CONNTRACK_STATE_*`
const STATES: [(&str, u16); 7] = [
    ("INVALID", ct_state::INVALID),
    ("ESTABLISHED", 1 << 1),
    ("RELATED", 1 << 2),
    ("NEW", 1 << 3),
    ("SNAT", ct_state::SNAT),
    ("DNAT", ct_state::DNAT),
    ("UNTRACKED", ct_state::UNTRACKED),
];

/// `IPS_*` of `linux/netfilter/nf_conntrack_common.h`
const STATUSES: [(&str, u16); 5] = [
    ("NONE", 0),
    ("EXPECTED", 1 << 0),
    ("SEEN_REPLY", 1 << 1),
    ("ASSURED", 1 << 2),
    ("CONFIRMED", 1 << 3),
];

fn conntrack(words: &mut Words<'_>) -> Option<Match> {
    let mut found = Conntrack::default();
    options(words, |name, inverted, words| {
        let value = words.value()?;
        match name {
            "--ctstate" => found.state = Some(AnyOf { mask: bits(value, &STATES)?, inverted }),
            "--ctstatus" => found.status = Some(AnyOf { mask: bits(value, &STATUSES)?, inverted }),
            "--ctorigdstport" => {
                let (first, last) = range(value)?;
                found.original_port = Some(Ports { first, last, inverted });
            }
            "--ctdir" if !inverted => {
                found.original_direction = Some(match value {
                    "ORIGINAL" => true,
                    "REPLY" => false,
                    _ => return None,
                });
            }
            "--ctproto" | "--ctorigsrc" | "--ctorigdst" | "--ctreplsrc" | "--ctrepldst"
            | "--ctorigsrcport" | "--ctreplsrcport" | "--ctrepldstport" | "--ctexpire" => {
                found.more = true;
            }
            _ => return None,
        }
        Some(())
    })?;
    Some(Match::Conntrack(found))
}

fn state(words: &mut Words<'_>) -> Option<Match> {
    let mut found = Conntrack::default();
    options(words, |name, inverted, words| {
        let mask = bits(words.value()?, &STATES)?;
        found.state = Some(AnyOf { mask, inverted });
        (name == "--state").then_some(())
    })?;
    Some(Match::Conntrack(found))
}

/// `XT_ADDRTYPE_*` of `linux/netfilter/xt_addrtype.h`
const ADDRESS_TYPES: [(&str, u16); 12] = [
    ("UNSPEC", 1 << 0),
    ("UNICAST", 1 << 1),
    ("LOCAL", 1 << 2),
    ("BROADCAST", 1 << 3),
    ("ANYCAST", 1 << 4),
    ("MULTICAST", 1 << 5),
    ("BLACKHOLE", 1 << 6),
    ("UNREACHABLE", 1 << 7),
    ("PROHIBIT", 1 << 8),
    ("THROW", 1 << 9),
    ("NAT", 1 << 10),
    ("XRESOLVE", 1 << 11),
];

fn addrtype(words: &mut Words<'_>) -> Option<Match> {
    let any = AnyOf { mask: 0, inverted: false };
    let (mut source, mut destination, mut by_interface) = (any, any, false);
    options(words, |name, inverted, words| {
        match name {
            "--src-type" => {
                source = AnyOf { mask: bits(words.value()?, &ADDRESS_TYPES)?, inverted };
            }
            "--dst-type" => {
                destination = AnyOf { mask: bits(words.value()?, &ADDRESS_TYPES)?, inverted };
            }
            "--limit-iface-in" | "--limit-iface-out" => by_interface = true,
            _ => return None,
        }
        Some(())
    })?;
    Some(Match::Addrtype { source, destination, by_interface })
}

fn comment(words: &mut Words<'_>) -> Option<Match> {
    let option = words.next()?;
    let text = words.value()?;
    option.is("--comment").then(|| Match::Comment(text.to_owned()))
}

fn masked(words: &mut Words<'_>) -> Option<Masked> {
    let inverted = words.inverted();
    let option = words.next()?;
    let (value, mask) = marked(words.value()?)?;
    option.is("--mark").then_some(Masked { value, mask, inverted })
}

fn rpfilter(words: &mut Words<'_>) -> Option<Match> {
    let mut inverts = false;
    options(words, |name, inverted, _| {
        match name {
            "--invert" => inverts = true,
            "--loose" | "--validmark" | "--accept-local" => {}
            _ => return None,
        }
        (!inverted).then_some(())
    })?;
    Some(Match::Rpfilter { inverted: inverts })
}

/// `PACKET_*` of `linux/if_packet.h`
fn packet_type(words: &mut Words<'_>) -> Option<Match> {
    let inverted = words.inverted();
    let option = words.next()?;
    let kind = match words.value()? {
        "unicast" | "host" => 0,
        "broadcast" => 1,
        "multicast" => 2,
        "otherhost" => 3,
        _ => return None,
    };
    option.is("--pkt-type").then_some(Match::PacketType { kind, inverted })
}
