//! The structures that iptables-nft leaves in a rule: `linux/netfilter/xt_*.h`, in the machine's
//! own order of bytes unless said otherwise. They come from the kernel, padded to eight bytes; no
//! length is trusted.

use super::{
    AnyOf, Conntrack, Flags, Masked, Match, Ports, Side, Target, plain_match, plain_target,
};

/// The structure, read from its beginning.
struct Blob<'a>(&'a [u8]);

impl Blob<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn ports(&mut self) -> Option<Ports> {
        Some(Ports { first: self.u16()?, last: self.u16()?, inverted: false })
    }
}

/// A match by its name and revision.
pub fn read_match(name: &str, revision: u32, info: &[u8]) -> Match {
    let blob = Blob(info);
    let read = match (name, revision) {
        ("tcp", 0) => tcp(blob),
        ("udp" | "udplite", 0) => udp(blob),
        ("multiport", 1) => multiport(blob),
        ("conntrack", 1..=3) => conntrack(blob, revision),
        ("state", 0) => old_state(blob),
        ("addrtype", 1) => addrtype(blob),
        ("comment", _) => Some(Match::Comment(text(info))),
        ("mark", 1) => masked(blob).map(Match::Mark),
        ("connmark", 1) => masked(blob).map(Match::ConnectionMark),
        ("rpfilter", 0) => rpfilter(blob),
        ("pkttype", 0) => packet_type(blob),
        _ => plain_match(name).filter(|found| revision == 0 || matches!(found, Match::Chance(_))),
    };
    read.unwrap_or_else(|| Match::Unknown(name.to_owned()))
}

fn text(info: &[u8]) -> String {
    let end = info.iter().position(|byte| *byte == 0).unwrap_or(info.len());
    String::from_utf8_lossy(&info[..end]).into_owned()
}

fn tcp(mut blob: Blob) -> Option<Match> {
    let (mut source, mut destination) = (blob.ports()?, blob.ports()?);
    let (option, mask, set, inverted) = (blob.u8()?, blob.u8()?, blob.u8()?, blob.u8()?);
    source.inverted = inverted & 1 != 0;
    destination.inverted = inverted & 2 != 0;
    let flags = Flags { mask, set, inverted: inverted & 4 != 0 };
    let flags = (flags.mask != 0 || flags.set != 0 || flags.inverted).then_some(flags);
    Some(Match::Tcp { source, destination, flags, option: (option != 0).then_some(option) })
}

fn udp(mut blob: Blob) -> Option<Match> {
    let (mut source, mut destination) = (blob.ports()?, blob.ports()?);
    let inverted = blob.u8()?;
    source.inverted = inverted & 1 != 0;
    destination.inverted = inverted & 2 != 0;
    Some(Match::Udp { source, destination })
}

/// `struct xt_multiport_v1`: a port whose flag is set begins a range, which the next one ends.
fn multiport(mut blob: Blob) -> Option<Match> {
    const MOST: usize = 15;
    let side = match blob.u8()? {
        0 => Side::Source,
        1 => Side::Destination,
        2 => Side::Either,
        _ => return None,
    };
    let count = usize::from(blob.u8()?);
    let mut numbers = [0; MOST];
    for number in &mut numbers {
        *number = blob.u16()?;
    }
    let begins: [u8; MOST] = blob.take()?;
    let inverted = blob.u8()? != 0;
    let mut ports = Vec::new();
    let mut at = 0;
    while at < count {
        let first = *numbers.get(at)?;
        if begins[at] != 0 {
            at += 1;
        }
        ports.push((first, *numbers.get(at)?));
        at += 1;
    }
    Some(Match::Multiport { side, ports, inverted })
}

const STATE: u16 = 1 << 0;
const STATUS: u16 = 1 << 6;
const ORIGINAL_PORT: u16 = 1 << 9;
const DIRECTION: u16 = 1 << 12;
/// A remark for people: it was written as `-m state`.
const ALIAS: u16 = 1 << 13;

/// `struct xt_conntrack_mtinfo1` to `3`: eight addresses, two times, and then this.
fn conntrack(mut blob: Blob, revision: u32) -> Option<Match> {
    blob.skip(8 * 16 + 2 * 4)?;
    let _protocol = blob.u16()?;
    let _original_source = blob.u16()?;
    let port: [u8; 2] = blob.take()?;
    blob.skip(2 * 2)?;
    let (flags, inverted) = (blob.u16()?, blob.u16()?);
    let (state, status) = match revision {
        1 => (blob.u8()?.into(), blob.u8()?.into()),
        _ => (blob.u16()?, blob.u16()?),
    };
    // Until revision 2 one port, in network order.
    let (first, last) = match revision {
        3 => {
            blob.skip(2)?;
            (u16::from_ne_bytes(port), blob.u16()?)
        }
        _ => (u16::from_be_bytes(port), u16::from_be_bytes(port)),
    };
    let asks = |flag| flags & flag != 0;
    let inverts = |flag| inverted & flag != 0;
    Some(Match::Conntrack(Conntrack {
        state: asks(STATE).then_some(AnyOf { mask: state, inverted: inverts(STATE) }),
        status: asks(STATUS).then_some(AnyOf { mask: status, inverted: inverts(STATUS) }),
        original_port: asks(ORIGINAL_PORT).then_some(Ports {
            first,
            last: last.max(first),
            inverted: inverts(ORIGINAL_PORT),
        }),
        original_direction: asks(DIRECTION).then_some(!inverts(DIRECTION)),
        more: flags & !(STATE | STATUS | ORIGINAL_PORT | DIRECTION | ALIAS) != 0,
    }))
}

/// `struct xt_state_info`: the same states, but for one that stands at another place.
fn old_state(mut blob: Blob) -> Option<Match> {
    const UNTRACKED: u32 = 1 << 6;
    let mask = blob.u32()?;
    let mut state = (mask & 0x3f) as u16;
    if mask & UNTRACKED != 0 {
        state |= super::state::UNTRACKED;
    }
    let state = Some(AnyOf { mask: state, inverted: false });
    Some(Match::Conntrack(Conntrack { state, ..Conntrack::default() }))
}

/// `struct xt_addrtype_info_v1`
fn addrtype(mut blob: Blob) -> Option<Match> {
    let (source, destination) = (blob.u16()?, blob.u16()?);
    let flags = blob.u32()?;
    Some(Match::Addrtype {
        source: AnyOf { mask: source, inverted: flags & 1 != 0 },
        destination: AnyOf { mask: destination, inverted: flags & 2 != 0 },
        by_interface: flags & 0xc != 0,
    })
}

/// `struct xt_mark_mtinfo1`, and `struct xt_connmark_mtinfo1`, which is the same.
fn masked(mut blob: Blob) -> Option<Masked> {
    Some(Masked { value: blob.u32()?, mask: blob.u32()?, inverted: blob.u8()? != 0 })
}

fn rpfilter(mut blob: Blob) -> Option<Match> {
    const INVERT: u8 = 1 << 3;
    Some(Match::Rpfilter { inverted: blob.u8()? & INVERT != 0 })
}

fn packet_type(mut blob: Blob) -> Option<Match> {
    Some(Match::PacketType { kind: blob.u32()?, inverted: blob.u32()? != 0 })
}

/// A target by its name and revision.
pub fn read_target(name: &str, revision: u32, info: &[u8]) -> Target {
    let mut blob = Blob(info);
    match (name, revision) {
        ("MARK", 2) => match (blob.u32(), blob.u32()) {
            (Some(value), Some(mask)) => Target::Mark { value, mask },
            _ => Target::Unknown(name.to_owned()),
        },
        ("CT", _) => connection(blob).unwrap_or_else(|| Target::Unknown(name.to_owned())),
        ("SET", 3..) if maps(blob) => Target::Unknown(name.to_owned()),
        _ => plain_target(name).unwrap_or_else(|| Target::Unknown(name.to_owned())),
    }
}

/// `struct xt_set_info_target_v3`, whose third set gives the packet its mark.
fn maps(mut blob: Blob) -> bool {
    const NONE: u16 = u16::MAX;
    blob.skip(2 * 4).and_then(|()| blob.u16()) != Some(NONE)
}

/// `struct xt_ct_target_info_v1`, and the one before, which begins alike.
fn connection(mut blob: Blob) -> Option<Target> {
    const NOTRACK: u16 = 1 << 0;
    const ALIAS: u16 = 1 << 1;
    let (flags, zone) = (blob.u16()?, blob.u16()?);
    Some(match (flags, zone) {
        (flags, _) if flags & NOTRACK != 0 => Target::Notrack,
        (flags, 0) if flags & !ALIAS == 0 => Target::Neutral("CT".to_owned()),
        _ => Target::Zone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_is_not_understood() {
        let long = [0xff; 256];
        for (name, revision, len) in [
            ("tcp", 0, 12),
            ("udp", 0, 9),
            ("multiport", 1, 48),
            ("conntrack", 1, 8 * 16 + 8 + 10 + 4 + 2),
            ("conntrack", 3, 8 * 16 + 8 + 10 + 4 + 4 + 4),
            ("state", 0, 4),
            ("addrtype", 1, 8),
            ("mark", 1, 9),
            ("rpfilter", 0, 1),
            ("pkttype", 0, 8),
        ] {
            let unknown = Match::Unknown(name.to_owned());
            assert_eq!(read_match(name, revision, &long[..len - 1]), unknown, "{name}");
            // A count of 255 ports stays wrong at any length.
            assert_eq!(read_match(name, revision, &long) == unknown, name == "multiport", "{name}");
        }
        assert_eq!(read_match("tcp", 9, &long), Match::Unknown("tcp".to_owned()));
        assert_eq!(read_target("MARK", 2, &long[..7]), Target::Unknown("MARK".to_owned()));
    }

    #[test]
    fn a_range_of_ports_takes_two_numbers() {
        let mut info = [0; 48];
        info[..2].copy_from_slice(&[1, 3]);
        for (at, port) in [80u16, 8000, 8080].into_iter().enumerate() {
            info[2 + 2 * at..4 + 2 * at].copy_from_slice(&port.to_ne_bytes());
        }
        info[32 + 1] = 1;
        let ports = vec![(80, 80), (8000, 8080)];
        let wanted = Match::Multiport { side: Side::Destination, ports, inverted: false };
        assert_eq!(read_match("multiport", 1, &info), wanted);
        // A range that never ends.
        info[1] = 15;
        info[32 + 14] = 1;
        assert_eq!(read_match("multiport", 1, &info), Match::Unknown("multiport".to_owned()));
    }
}
