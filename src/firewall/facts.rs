//! What the expressions that look at a packet find: `nft_payload.c`, `nft_meta.c`, `nft_ct.c`,
//! `nft_fib_ipv4.c` and `nft_fib_ipv6.c` of the kernel.

use super::connection::{Client, Connection, Interface, Leg, octets};
use super::expr::{Base, Field, OptionKind, ct, fib, meta};
use super::state::{Done, State};
use super::tables::{Family, Hook};
use super::value::{Byte, any, either, exactly};

/// What an expression loads. A register's rest is filled with zeros.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    Value(Vec<Byte>),
    /// This, or nothing, and then the rule does not match.
    Perhaps(Vec<Byte>),
    /// The rule does not match.
    Nothing,
}

impl Loaded {
    fn number(value: u32) -> Self {
        Loaded::Value(exactly(&value.to_ne_bytes()))
    }

    fn byte(value: u8) -> Self {
        Loaded::Value(exactly(&[value]))
    }

    /// One of the two.
    fn or(self, other: Self) -> Self {
        use Loaded::{Nothing, Perhaps, Value};
        match (self, other) {
            (Nothing, Nothing) => Nothing,
            (Value(a), Value(b)) => Value(either(&a, &b)),
            (Value(a) | Perhaps(a), Value(b) | Perhaps(b)) => Perhaps(either(&a, &b)),
            (Value(a) | Perhaps(a), Nothing) | (Nothing, Value(a) | Perhaps(a)) => Perhaps(a),
        }
    }
}

/// Where on its way a packet is.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub connection: &'a Connection,
    pub leg: Leg,
    pub hook: Hook,
    /// Of the table that looks.
    pub family: Family,
}

/// `RTN_UNICAST`, `RTN_LOCAL` of `linux/rtnetlink.h`
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;

/// `IFNAMSIZ`
const NAME: usize = 16;

impl Moment<'_> {
    fn interface(&self) -> Interface {
        self.connection.interface()
    }

    fn has_in(&self) -> bool {
        matches!(self.hook, Hook::Ingress | Hook::Prerouting | Hook::Input)
    }

    fn has_out(&self) -> bool {
        matches!(self.hook, Hook::Output | Hook::Postrouting | Hook::Egress)
    }

    fn is_here(&self) -> bool {
        self.connection.client == Client::Here
    }

    pub fn payload(&self, state: &State, field: Field) -> Loaded {
        let header = match field.base {
            Base::Network => &state.headers.network,
            Base::Transport => &state.headers.transport,
            Base::Link | Base::Other => return Loaded::Perhaps(any(field.len)),
        };
        match header.get(field.offset..field.offset.saturating_add(field.len)) {
            Some(bytes) => Loaded::Value(bytes.to_vec()),
            None => Loaded::Perhaps(any(field.len)),
        }
    }

    /// No header has options in the network layer; of others nothing is known.
    pub fn option(&self, kind: OptionKind, length: usize, presence: bool) -> Loaded {
        match (kind, presence) {
            (OptionKind::Network, true) => Loaded::byte(0),
            (OptionKind::Network, false) => Loaded::Nothing,
            (OptionKind::Transport, true) => Loaded::Value(vec![Byte::one_of([0, 1])]),
            (OptionKind::Transport, false) => Loaded::Perhaps(any(length)),
        }
    }

    pub fn meta(&self, state: &State, key: u32) -> Loaded {
        let ipv6 = self.connection.is_ipv6();
        match key {
            meta::PROTOCOL => {
                let ethertype: u16 = if ipv6 { 0x86dd } else { 0x0800 };
                Loaded::Value(exactly(&ethertype.to_be_bytes()))
            }
            meta::MARK => Loaded::Value(state.mark.to_vec()),
            meta::NFPROTO if self.family == Family::Netdev => Loaded::byte(5),
            meta::NFPROTO => Loaded::byte(if ipv6 { 10 } else { 2 }),
            meta::L4PROTO => Loaded::byte(self.connection.service.protocol.number()),
            meta::IIF | meta::IIFNAME => self.device(self.has_in(), key == meta::IIFNAME),
            meta::OIF | meta::OIFNAME => self.device(self.has_out(), key == meta::OIFNAME),
            // An arriving packet is nobody's before it is delivered.
            meta::SKUID | meta::SKGID if self.has_in() && self.leg == Leg::Open => {
                Loaded::Perhaps(any(4))
            }
            meta::IIFTYPE if self.has_out() => Loaded::Perhaps(any(2)),
            meta::OIFTYPE if self.has_in() => Loaded::Nothing,
            meta::IIFTYPE | meta::OIFTYPE if self.is_here() => {
                /// `ARPHRD_LOOPBACK`
                const LOOPBACK: u16 = 772;
                Loaded::Value(exactly(&LOOPBACK.to_ne_bytes()))
            }
            meta::IIFTYPE | meta::OIFTYPE => Loaded::Value(any(2)),
            // `PACKET_HOST`
            meta::PKTTYPE if self.has_in() && !self.is_here() => Loaded::byte(0),
            meta::IIFKIND | meta::OIFKIND | meta::SDIFNAME => Loaded::Perhaps(any(NAME)),
            meta::TIME_NS => Loaded::Value(any(8)),
            _ => Loaded::Perhaps(any(4)),
        }
    }

    /// Its index or name; where there is none, zeros.
    fn device(&self, there: bool, by_name: bool) -> Loaded {
        // What is said of the other side differs between kernels, except where it is asked
        // often: in the hooks of arriving and leaving packets.
        if !there && matches!(self.hook, Hook::Postrouting | Hook::Egress) {
            return Loaded::Perhaps(any(if by_name { NAME } else { 4 }));
        }
        let interface = self.interface();
        match (there, by_name) {
            (true, false) => Loaded::number(interface.index),
            (true, true) => Loaded::Value(exactly(&name(&interface.name))),
            (false, false) => Loaded::number(0),
            (false, true) => Loaded::Value(exactly(&[0; NAME])),
        }
    }

    pub fn ct(&self, state: &State, key: u32, direction: Option<u8>) -> Loaded {
        const INVALID: u32 = 1 << 0;
        const UNTRACKED: u32 = 1 << 6;
        let without = |state| match key {
            ct::STATE => Loaded::number(state),
            _ => Loaded::Nothing,
        };
        let tracking = state.tracking;
        let cases = [
            (tracking.absent, without(INVALID)),
            (tracking.untracked, without(UNTRACKED)),
            (tracking.template, Loaded::Perhaps(any(16))),
            (tracking.tracked, self.tracked(state, key, direction)),
        ];
        let possible = cases.into_iter().filter(|(possible, _)| *possible).map(|(_, case)| case);
        possible.reduce(Loaded::or).unwrap_or(Loaded::Nothing)
    }

    fn tracked(&self, state: &State, key: u32, direction: Option<u8>) -> Loaded {
        let service = self.connection.service;
        match key {
            ct::STATE => {
                const ESTABLISHED: u32 = 1 << 1;
                const NEW: u32 = 1 << 3;
                Loaded::number(if self.leg == Leg::Open { NEW } else { ESTABLISHED })
            }
            ct::DIRECTION => Loaded::byte(self.leg.is_answer().into()),
            ct::STATUS => Loaded::Value(self.status(state)),
            ct::MARK => Loaded::Value(state.connection_mark.to_vec()),
            ct::L3PROTOCOL => Loaded::byte(if self.connection.is_ipv6() { 10 } else { 2 }),
            ct::PROTOCOL => Loaded::byte(service.protocol.number()),
            ct::SRC | ct::SRC_IP | ct::SRC_IP6 => self.tuple_address(state, direction, true),
            ct::DST | ct::DST_IP | ct::DST_IP6 => self.tuple_address(state, direction, false),
            ct::PROTO_SRC => self.tuple_port(state, direction, true),
            ct::PROTO_DST => self.tuple_port(state, direction, false),
            ct::PKTS | ct::BYTES | ct::AVGPKT => Loaded::Perhaps(any(8)),
            ct::HELPER | ct::LABELS => Loaded::Perhaps(any(16)),
            _ => Loaded::Perhaps(any(4)),
        }
    }

    /// `enum ip_conntrack_status`
    fn status(&self, state: &State) -> Vec<Byte> {
        const EXPECTED: u32 = 1 << 0;
        const SEEN_REPLY: u32 = 1 << 1;
        const SRC_NAT: u32 = 1 << 4;
        const DST_NAT: u32 = 1 << 5;
        let (mut value, mut sure) = (0, EXPECTED | SEEN_REPLY);
        if self.leg != Leg::Open {
            value |= SEEN_REPLY;
        }
        for (bit, done) in [(DST_NAT, state.translated), (SRC_NAT, state.source_translated)] {
            match done {
                Done { no: true, yes: false } => sure |= bit,
                Done { no: false, yes: true } => {
                    sure |= bit;
                    value |= bit;
                }
                _ => {}
            }
        }
        let bytes = u32::to_ne_bytes(value).into_iter().zip(u32::to_ne_bytes(sure));
        bytes.map(|(value, sure)| Byte::masked(value, sure)).collect()
    }

    /// The end of the tuple of a direction that belongs to the client: the source of the first
    /// packets, the destination of the others. `None` if no direction is given.
    fn is_client(&self, direction: Option<u8>, source: bool) -> Option<bool> {
        match direction {
            Some(0) => Some(source),
            Some(1) => Some(!source),
            _ => None,
        }
    }

    fn tuple_address(&self, state: &State, direction: Option<u8>, source: bool) -> Loaded {
        let own = octets(self.connection.address);
        match self.is_client(direction, source) {
            Some(false) => Loaded::Value(own),
            // A translated source shows in the tuple of the answers.
            Some(true) if direction == Some(1) && state.source_translated.yes => {
                Loaded::Value(any(own.len()))
            }
            Some(true) => Loaded::Value(self.connection.client_address()),
            None => Loaded::Perhaps(any(16)),
        }
    }

    fn tuple_port(&self, state: &State, direction: Option<u8>, source: bool) -> Loaded {
        let port = |port: u16| Loaded::Value(exactly(&port.to_be_bytes()));
        let asked = self.connection.service.port.get();
        let served = self.connection.target.map_or(asked, |target| target.get());
        match (self.is_client(direction, source), direction) {
            (Some(false), Some(0)) => port(asked),
            (Some(false), _) => match state.translated {
                Done { no: true, yes: false } => port(asked),
                Done { no: false, yes: true } => port(served),
                _ => port(asked).or(port(served)),
            },
            _ => Loaded::Value(any(2)),
        }
    }

    pub fn fib(&self, result: u32, flags: u32) -> Loaded {
        // The address that is looked up.
        let of_source = flags & fib::SADDR != 0;
        let of_client = of_source != self.leg.is_answer();
        let by_interface = flags & (fib::IIF | fib::OIF_FLAG) != 0;
        if result == fib::ADDRTYPE {
            let kind = match (of_client && !self.is_here(), by_interface) {
                (true, false) => UNICAST,
                (false, false) => LOCAL,
                _ => return Loaded::Value(any(4)),
            };
            return Loaded::number(kind.into());
        }
        let (presence, by_name) = (flags & fib::PRESENT != 0, result == fib::OIFNAME);
        let way_back = of_source && self.has_in() && flags & fib::OIF_FLAG == 0;
        // By its definition, the client is answered by the interface that it arrives by; and
        // what arrives by lo has come from here, which the kernel takes into account early.
        let known = way_back && (!self.is_here() || self.hook == Hook::Prerouting);
        match (known, presence) {
            (true, true) => Loaded::number(1),
            (true, false) => self.device(true, by_name),
            (false, true) => {
                let mut bytes = exactly(&[0; 4]);
                bytes[if cfg!(target_endian = "big") { 3 } else { 0 }] = Byte::one_of([0, 1]);
                Loaded::Value(bytes)
            }
            (false, false) => Loaded::Value(any(if by_name { NAME } else { 4 })),
        }
    }
}

/// A name as it stands in a register.
pub fn name(text: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    // The last byte stays zero.
    let len = text.len().min(NAME - 1);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    bytes
}
