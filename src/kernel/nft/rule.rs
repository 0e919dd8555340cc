//! Our rules as the kernel's bytecode, and back. Pure: sets are named, not fetched.
//!
//! The bytecode is nft's, so that `nft list` shows what `nft -f` of our text would have made.

mod decode;

use ipnet::IpNet;

use super::abi::*;
use super::expr::{DROP, Expr, GOTO, RETURN};
use super::interval::{self, Element, Elements, NAME_LEN};
use crate::mapping::{Comment, Family, InterfacePattern, Mapping, Matches, Protocol, Scope};
use crate::ruleset::{ChainName, CheckRule, Counter, GATE, MapName, Rule, TRIAL_ZONE};

pub use decode::{Sets, decode};

/// The name that the kernel turns into `__set0` and so on, whichever is free.
pub const ANONYMOUS_NAME: &str = "__set%d";

/// What an anonymous set is compared with; it decides the type of the keys and the userdata from
/// which newer nft versions read what is looked up (`typeof`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    L4Proto,
    Interface,
    Address { ipv6: bool, source: bool },
}

/// A set to be made together with the rule that uses it.
#[derive(Clone, Debug)]
pub struct AnonymousSet {
    pub id: u32,
    pub field: Field,
    pub elements: Elements,
}

/// A rule as it is sent.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    pub exprs: Vec<Expr>,
    pub sets: Vec<AnonymousSet>,
    pub comment: Option<String>,
}

impl Field {
    /// The lengths of addresses and their offsets in the IP header: RFC 791, RFC 8200.
    fn load(self) -> Expr {
        match self {
            Field::L4Proto => Expr::Meta { key: META_L4PROTO, dreg: REG_1 },
            Field::Interface => Expr::Meta { key: META_IIFNAME, dreg: REG_1 },
            Field::Address { ipv6, source } => {
                let (len, start) = if ipv6 { (16, 8) } else { (4, 12) };
                let offset = if source { start } else { start + len };
                Expr::Payload { base: PAYLOAD_NETWORK, offset, len, dreg: REG_1 }
            }
        }
    }
}

impl Encoded {
    fn meta_is(&mut self, key: u32, op: u32, data: &[u8]) {
        self.exprs.push(Expr::Meta { key, dreg: REG_1 });
        self.exprs.push(Expr::Cmp { op, sreg: REG_1, data: data.to_vec() });
    }

    fn family(&mut self, family: Family) {
        match family {
            Family::Both => {}
            Family::Ipv4 => self.meta_is(META_NFPROTO, CMP_EQ, &[nfproto(false)]),
            Family::Ipv6 => self.meta_is(META_NFPROTO, CMP_EQ, &[nfproto(true)]),
        }
    }

    fn one_of(&mut self, field: Field, elements: Elements, next_id: &mut u32) {
        *next_id += 1;
        self.exprs.push(field.load());
        let (set, id) = (ANONYMOUS_NAME.to_owned(), Some(*next_id));
        self.exprs.push(Expr::Lookup { set, id, sreg: REG_1, dreg: None, inverted: false });
        self.sets.push(AnonymousSet { id: *next_id, field, elements });
    }

    fn interfaces(&mut self, interfaces: &[InterfacePattern], next_id: &mut u32) {
        match interfaces {
            [] => {}
            [InterfacePattern::Name(name)] => {
                let mut key = name.as_bytes().to_vec();
                key.resize(NAME_LEN, 0);
                self.meta_is(META_IIFNAME, CMP_EQ, &key);
            }
            [InterfacePattern::Prefix(prefix)] => {
                self.meta_is(META_IIFNAME, CMP_EQ, prefix.as_bytes());
            }
            many => self.one_of(Field::Interface, interval::of_interfaces(many), next_id),
        }
    }

    fn networks(&mut self, networks: &[IpNet], source: bool, next_id: &mut u32) {
        let [net] = networks else {
            if let Some(net) = networks.first() {
                let field = Field::Address { ipv6: net.addr().is_ipv6(), source };
                self.one_of(field, interval::of_networks(networks), next_id);
            }
            return;
        };
        let mut load = Field::Address { ipv6: net.addr().is_ipv6(), source }.load();
        let mut data = interval::octets(net.network());
        let prefix = usize::from(net.prefix_len());
        let mut masked = None;
        match &mut load {
            // nft loads no more bytes than it needs.
            Expr::Payload { len, .. } if prefix > 0 && prefix % 8 == 0 => {
                data.truncate(prefix / 8);
                *len = data.len() as u32;
            }
            _ => masked = Some(interval::octets(net.netmask())),
        }
        self.exprs.push(load);
        if let Some(mask) = masked {
            let xor = vec![0; mask.len()];
            self.exprs.push(Expr::Bitwise { sreg: REG_1, dreg: REG_1, mask, xor });
        }
        self.exprs.push(Expr::Cmp { op: CMP_EQ, sreg: REG_1, data });
    }

    /// `meta l4proto . th dport`, looked up in a map, the value into `dreg`; or in a set.
    fn service_in(&mut self, map: MapName, dreg: Option<u32>) {
        self.exprs.extend([
            Expr::Meta { key: META_L4PROTO, dreg: REG_1 },
            Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 2, len: 2, dreg: REG32_01 },
            Expr::Lookup { set: map.to_string(), id: None, sreg: REG_1, dreg, inverted: false },
        ]);
    }

    /// `meta l4proto . ct original proto-dst . th sport`, and with `served` the user of the socket;
    /// asked whether it is in the set, or for `served`, whether it is not.
    fn answer_in(&mut self, map: MapName) {
        let served = matches!(map, MapName::Served(_));
        let direction = Some(CT_DIR_ORIGINAL);
        self.exprs.extend([
            Expr::Meta { key: META_L4PROTO, dreg: REG_1 },
            Expr::Ct { key: CT_PROTO_DST, direction, dreg: REG32_01 },
            Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 0, len: 2, dreg: REG32_02 },
        ]);
        if served {
            self.exprs.push(Expr::Meta { key: META_SKUID, dreg: REG32_03 });
        }
        let (set, id, sreg, dreg) = (map.to_string(), None, REG_1, None);
        self.exprs.push(Expr::Lookup { set, id, sreg, dreg, inverted: served });
    }

    fn lookup(&mut self, map: MapName, translate: Expr, next_id: &mut u32) {
        if let MapName::Ports(_, _, family) = map {
            self.family(family);
        }
        self.one_of(Field::L4Proto, all_protocols(), next_id);
        self.service_in(map, Some(REG_1));
        self.exprs.push(translate);
    }

    fn check(&mut self, rule: CheckRule, next_id: &mut u32) {
        match rule {
            CheckRule::OnlyTranslated => self.exprs.extend(is_translated(CMP_EQ)),
            CheckRule::OnlyReplies => self.exprs.extend(is_original()),
            CheckRule::OnlySynAck => self.exprs.extend(tcp_flags(CMP_NEQ, SYN | ACK)),
            CheckRule::OnlyOutside => self.meta_is(META_IIF, CMP_EQ, &IFINDEX_LO.to_ne_bytes()),
            CheckRule::OnlyDirect => self.exprs.extend(is_translated(CMP_NEQ)),
            CheckRule::Answers(layer) => {
                self.one_of(Field::L4Proto, all_protocols(), next_id);
                self.answer_in(MapName::Served(layer));
                self.answer_in(MapName::Guarded(layer));
            }
            CheckRule::RefuseTcp(layer) => {
                self.exprs.extend(tcp_flags(CMP_EQ, SYN));
                self.service_in(MapName::Hidden(layer), None);
            }
            CheckRule::RefuseOther(layer) => {
                self.meta_is(META_L4PROTO, CMP_NEQ, &[Protocol::Tcp.number()]);
                self.exprs.extend(is_original());
                self.service_in(MapName::Hidden(layer), None);
            }
        }
        self.exprs.push(match rule {
            CheckRule::Answers(_) => Expr::Verdict { code: DROP, chain: None },
            CheckRule::RefuseTcp(_) => Expr::Reject { kind: REJECT_TCP_RESET, code: 0 },
            CheckRule::RefuseOther(_) => {
                Expr::Reject { kind: REJECT_ICMPX, code: REJECT_PORT_UNREACHABLE }
            }
            _ => PASS,
        });
    }

    fn select(&mut self, mapping: &Mapping, counter: Counter, translate: Expr, next_id: &mut u32) {
        let any = Matches::default();
        let (scope, family) = (mapping.selector.scope(), mapping.selector.family());
        let matches = mapping.selector.matches().unwrap_or(&any);
        self.meta_is(META_L4PROTO, CMP_EQ, &[mapping.service.protocol.number()]);
        match scope {
            Scope::External if matches.interfaces.is_empty() => {
                self.meta_is(META_IIF, CMP_NEQ, &[0; 4]);
            }
            Scope::Local => self.meta_is(META_IIF, CMP_EQ, &[0; 4]),
            Scope::External | Scope::Both => {}
        }
        self.interfaces(&matches.interfaces, next_id);
        // With networks it is what nft puts before them of its own accord.
        self.family(family);
        self.networks(&matches.sources, true, next_id);
        self.networks(&matches.addresses, false, next_id);
        self.exprs.push(Expr::Counter(counter));
        let data = mapping.to.port().get().to_be_bytes().to_vec();
        self.exprs.push(Expr::Immediate { dreg: REG_1, data });
        self.exprs.push(translate);
        self.comment = mapping.comment.as_deref().map(str::to_owned);
    }
}

/// `NFPROTO_INET` of `linux/netfilter.h`.
const NFPROTO_INET: u32 = 1;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` of `linux/netfilter.h`.
pub const fn nfproto(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

/// To another port of the same address.
const TRANSLATE: Expr = Expr::Dnat { family: NFPROTO_INET, min: REG_1, flags: NAT_PROTO_SPECIFIED };

/// As earlier builds did.
const REDIRECT: Expr = Expr::Redirect { min: REG_1, flags: NAT_PROTO_SPECIFIED };

/// The 14th byte of a TCP header (RFC 9293, section 3.1) without PSH, URG, ECE and CWR, and what it
/// is in the first segment of a connection.
const TCP_FLAGS: Expr = Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 13, len: 1, dreg: REG_1 };
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const PASS: Expr = Expr::Verdict { code: RETURN, chain: None };

/// `next_id` numbers the anonymous sets within a batch.
pub fn encode(rule: &Rule, counter: Counter, next_id: &mut u32) -> Encoded {
    let mut made = Encoded::default();
    match rule {
        Rule::ForThisHost(stamp) => {
            made.exprs.extend(is_local(CMP_NEQ));
            made.exprs.push(PASS);
            made.comment = stamp.map(|stamp| stamp.to_string());
        }
        Rule::OnlyNewTcp => {
            made.exprs.extend(tcp_flags(CMP_NEQ, SYN));
            made.exprs.push(PASS);
        }
        Rule::Gate(chain) => {
            made.exprs.extend(gate_is_open());
            made.exprs.push(Expr::Verdict { code: GOTO, chain: Some(chain.to_string()) });
        }
        Rule::Lookup(map) => made.lookup(*map, TRANSLATE, next_id),
        Rule::Dispatch(layer) => made.service_in(MapName::Selected(*layer), Some(REG_VERDICT)),
        Rule::Select(mapping) => made.select(mapping, counter, TRANSLATE, next_id),
        Rule::Redirect(rule) => match &**rule {
            Rule::Lookup(map) => made.lookup(*map, REDIRECT, next_id),
            Rule::Select(mapping) => made.select(mapping, counter, REDIRECT, next_id),
            other => return encode(other, counter, next_id),
        },
        Rule::Zone => {
            made.exprs.extend(gate_is_open());
            made.service_in(MapName::Zoned, None);
            made.exprs.extend(is_local(CMP_EQ));
            let data = TRIAL_ZONE.to_ne_bytes().into();
            let (key, direction, sreg) = (CT_ZONE, CT_DIR_ORIGINAL, REG_1);
            made.exprs.push(Expr::Immediate { dreg: REG_1, data });
            made.exprs.push(Expr::SetCt { key, direction, sreg });
        }
        Rule::Check(rule) => made.check(*rule, next_id),
    }
    made
}

fn is_local(op: u32) -> [Expr; 2] {
    [
        Expr::Fib { flags: FIB_DADDR, result: FIB_RESULT_ADDRTYPE, dreg: REG_1 },
        Expr::Cmp { op, sreg: REG_1, data: RTN_LOCAL.to_ne_bytes().into() },
    ]
}

fn gate_is_open() -> [Expr; 2] {
    [
        Expr::Meta { key: META_NFPROTO, dreg: REG_1 },
        Expr::Lookup { set: GATE.to_owned(), id: None, sreg: REG_1, dreg: None, inverted: false },
    ]
}

/// `tcp flags FLAGS / fin,syn,rst,ack`
fn tcp_flags(op: u32, flags: u8) -> [Expr; 5] {
    [
        Expr::Meta { key: META_L4PROTO, dreg: REG_1 },
        Expr::Cmp { op: CMP_EQ, sreg: REG_1, data: vec![Protocol::Tcp.number()] },
        TCP_FLAGS,
        Expr::Bitwise { sreg: REG_1, dreg: REG_1, mask: vec![FIN_SYN_RST_ACK], xor: vec![0] },
        Expr::Cmp { op, sreg: REG_1, data: vec![flags] },
    ]
}

/// `ct status dnat`, or with `CMP_EQ` `ct status ! dnat`
fn is_translated(op: u32) -> [Expr; 3] {
    let (mask, zero) = (CT_STATUS_DNAT.to_ne_bytes().to_vec(), vec![0; 4]);
    [
        Expr::Ct { key: CT_STATUS, direction: None, dreg: REG_1 },
        Expr::Bitwise { sreg: REG_1, dreg: REG_1, mask, xor: zero.clone() },
        Expr::Cmp { op, sreg: REG_1, data: zero },
    ]
}

/// `ct direction original`
fn is_original() -> [Expr; 2] {
    [
        Expr::Ct { key: CT_DIRECTION, direction: None, dreg: REG_1 },
        Expr::Cmp { op: CMP_EQ, sreg: REG_1, data: vec![CT_DIR_ORIGINAL] },
    ]
}

fn all_protocols() -> Elements {
    let list: Vec<_> = Protocol::ALL
        .iter()
        .map(|p| Element { key: vec![p.number()], end: false, open: false })
        .collect();
    Elements { size: list.len() as u32, list, interval: false }
}

#[cfg(test)]
mod tests;
