//! Matches of iptables, on a packet of which not everything is known.

use super::connection::{Client, DESTINATION_PORT, SOURCE_PORT, TCP_FLAGS};
use super::expr::ct;
use super::facts::{Loaded, Moment};
use super::state::State;
use super::value::{Byte, Truth, Why, equal, within};
use super::xt::{AnyOf, Conntrack, Flags, Masked, Match, Ports, Side, state as ct_state};

/// Whether the rule goes on behind this match; and, where that is open, why.
pub fn matches(moment: &Moment, state: &State, found: &Match) -> (Truth, Why) {
    let transport = &state.headers.transport;
    let truth = match found {
        Match::Tcp { option: Some(_), .. } => return perhaps("depends on options in the packet"),
        Match::Tcp { source, destination, flags, option: None } => {
            let ports = at(transport, SOURCE_PORT, *source).and(at(
                transport,
                DESTINATION_PORT,
                *destination,
            ));
            ports.and(flags.map_or(Truth::Yes, |flags| has_flags(transport, flags)))
        }
        Match::Udp { source, destination } => {
            at(transport, SOURCE_PORT, *source).and(at(transport, DESTINATION_PORT, *destination))
        }
        Match::Multiport { side, ports, inverted } => {
            several(transport, *side, ports).invert_if(*inverted)
        }
        Match::Conntrack(criteria) => conntrack(moment, state, criteria),
        Match::Addrtype { by_interface: true, .. } => {
            return perhaps("depends on the interface that an address belongs to");
        }
        Match::Addrtype { source, destination, .. } => {
            address_type(moment, *source, true).and(address_type(moment, *destination, false))
        }
        Match::Comment(_) => Truth::Yes,
        Match::Mark(masked) => is_marked(&state.mark, *masked),
        Match::ConnectionMark(masked) => match state.tracking.tracked {
            false => Truth::No,
            true => {
                let marked = is_marked(&state.connection_mark, *masked);
                marked.and(sure(!state.tracking.absent && !state.tracking.untracked))
            }
        },
        // By its definition, the client is answered by the interface that it arrives by.
        Match::Rpfilter { inverted } => Truth::from(!inverted),
        Match::PacketType { kind, inverted } => match moment.connection.client {
            Client::Outside { .. } if !moment.leg.is_answer() => {
                Truth::from((*kind == 0) != *inverted)
            }
            _ => Truth::Maybe,
        },
        Match::ExtensionHeader(_) => Truth::No,
        Match::Chance(what) => return perhaps(format!("depends on a rate or on chance ({what})")),
        Match::Unknown(what) => return perhaps(format!("depends on `-m {what}`")),
    };
    let why = match found {
        Match::Mark(_) | Match::ConnectionMark(_) => "depends on a mark from elsewhere",
        Match::Addrtype { .. } => "depends on the kind of an address",
        Match::PacketType { .. } => "depends on the kind of packet",
        Match::Conntrack(_) => "depends on what is not known of the connection",
        _ => "depends on the client's port",
    };
    (truth, why.into())
}

fn perhaps(why: impl Into<Why>) -> (Truth, Why) {
    (Truth::Maybe, why.into())
}

fn sure(sure: bool) -> Truth {
    if sure { Truth::Yes } else { Truth::Maybe }
}

fn in_range(transport: &[Byte], offset: usize, first: u16, last: u16) -> Truth {
    match transport.get(offset..offset + 2) {
        Some(port) => within(port, &first.to_be_bytes(), &last.to_be_bytes()),
        None => Truth::Maybe,
    }
}

fn at(transport: &[Byte], offset: usize, ports: Ports) -> Truth {
    in_range(transport, offset, ports.first, ports.last).invert_if(ports.inverted)
}

fn several(transport: &[Byte], side: Side, ports: &[(u16, u16)]) -> Truth {
    let one = |offset| {
        let each = ports.iter().map(|(first, last)| in_range(transport, offset, *first, *last));
        each.fold(Truth::No, Truth::or)
    };
    match side {
        Side::Source => one(SOURCE_PORT),
        Side::Destination => one(DESTINATION_PORT),
        Side::Either => one(SOURCE_PORT).or(one(DESTINATION_PORT)),
    }
}

fn has_flags(transport: &[Byte], flags: Flags) -> Truth {
    match transport.get(TCP_FLAGS) {
        Some(byte) => {
            let masked = byte.map(|value| value & flags.mask);
            equal(&[masked], &[flags.set]).invert_if(flags.inverted)
        }
        None => Truth::Maybe,
    }
}

fn is_marked(mark: &[Byte; 4], wanted: Masked) -> Truth {
    let masks = mark.iter().zip(wanted.mask.to_ne_bytes());
    let masked: Vec<Byte> = masks.map(|(byte, mask)| byte.map(|value| value & mask)).collect();
    equal(&masked, &wanted.value.to_ne_bytes()).invert_if(wanted.inverted)
}

/// `XT_ADDRTYPE_UNICAST`, `XT_ADDRTYPE_LOCAL`; a mask of 0 is any.
fn address_type(moment: &Moment, wanted: AnyOf, of_source: bool) -> Truth {
    const UNICAST: u16 = 1 << 1;
    const LOCAL: u16 = 1 << 2;
    if wanted.mask == 0 {
        return Truth::Yes;
    }
    let of_client = of_source != moment.leg.is_answer();
    let kind = match of_client && moment.connection.client != Client::Here {
        true => UNICAST,
        false => LOCAL,
    };
    Truth::from((wanted.mask & kind != 0) != wanted.inverted)
}

/// The bits that a loaded value may have at all, and those that it has for sure.
fn bits(loaded: &Loaded) -> (u32, u32) {
    let Loaded::Value(bytes) = loaded else { return (u32::MAX, 0) };
    let (mut may, mut must) = ([0; 4], [0; 4]);
    for (at, byte) in bytes.iter().take(4).enumerate() {
        may[at] = byte.values().fold(0, |all, value| all | value);
        must[at] = byte.values().fold(0xff, |all, value| all & value);
    }
    (u32::from_ne_bytes(may), u32::from_ne_bytes(must))
}

fn any_of(may: u32, must: u32, wanted: AnyOf) -> Truth {
    let mask = u32::from(wanted.mask);
    let truth = match (may & mask != 0, must & mask != 0) {
        (_, true) => Truth::Yes,
        (false, _) => Truth::No,
        _ => Truth::Maybe,
    };
    truth.invert_if(wanted.inverted)
}

/// `conntrack_mt` of the kernel's `xt_conntrack.c`, for one thing that tracking can know.
fn conntrack(moment: &Moment, state: &State, criteria: &Conntrack) -> Truth {
    let tracking = state.tracking;
    let without = |bit: u16| match criteria.state {
        Some(wanted) => any_of(bit.into(), bit.into(), wanted),
        None => Truth::No,
    };
    let cases = [
        (tracking.absent, without(ct_state::INVALID)),
        (tracking.untracked, without(ct_state::UNTRACKED)),
        (tracking.template, Truth::Maybe),
        (tracking.tracked, tracked(moment, state, criteria)),
    ];
    let possible = cases.into_iter().filter(|(possible, _)| *possible).map(|(_, truth)| truth);
    let truth = possible.reduce(|one, other| if one == other { one } else { Truth::Maybe });
    truth.unwrap_or(Truth::Maybe)
}

fn tracked(moment: &Moment, state: &State, criteria: &Conntrack) -> Truth {
    let mut known = state.clone();
    known.tracking.absent = false;
    known.tracking.untracked = false;
    known.tracking.template = false;
    let mut truth = if criteria.more { Truth::Maybe } else { Truth::Yes };
    if let Some(wanted) = criteria.state {
        let (state_bit, _) = bits(&moment.ct(&known, ct::STATE, None));
        let (may, must) = bits(&moment.ct(&known, ct::STATUS, None));
        const SRC_NAT: u32 = 1 << 4;
        const DST_NAT: u32 = 1 << 5;
        let nat = |status: u32| {
            let source = if status & SRC_NAT != 0 { ct_state::SNAT } else { 0 };
            let destination = if status & DST_NAT != 0 { ct_state::DNAT } else { 0 };
            state_bit | u32::from(source | destination)
        };
        truth = truth.and(any_of(nat(may), nat(must), wanted));
    }
    if let Some(wanted) = criteria.status {
        let (may, must) = bits(&moment.ct(&known, ct::STATUS, None));
        truth = truth.and(any_of(may, must, wanted));
    }
    if let Some(ports) = criteria.original_port {
        let asked = moment.connection.service.port.get();
        let inside = (ports.first..=ports.last).contains(&asked);
        truth = truth.and(Truth::from(inside != ports.inverted));
    }
    if let Some(original) = criteria.original_direction {
        truth = truth.and(Truth::from(original != moment.leg.is_answer()));
    }
    truth
}
