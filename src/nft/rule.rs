//! Our rules as the kernel's bytecode, and back. Pure: sets are named, not fetched.
//!
//! The bytecode is nft's, so that `nft list` shows what `nft -f` of our text would have made.

use ipnet::IpNet;

use super::abi::*;
use super::expr::{Expr, GOTO, RETURN};
use super::interval::{self, Element, Elements, NAME_LEN};
use super::wire::Malformed;
use crate::mapping::{Family, InterfacePattern, Mapping, Matches, Port, Protocol, Scope, Selector};
use crate::ruleset::{ChainName, Counter, GATE, Hook, Layer, MapName, Rule};

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
        self.exprs.push(Expr::Lookup { set, id, sreg: REG_1, dreg: None });
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

    /// `meta l4proto . th dport`, looked up in a map, the value into `dreg`.
    fn service_in(&mut self, map: MapName, dreg: u32) {
        self.exprs.extend([
            Expr::Meta { key: META_L4PROTO, dreg: REG_1 },
            Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 2, len: 2, dreg: REG32_01 },
            Expr::Lookup { set: map.to_string(), id: None, sreg: REG_1, dreg: Some(dreg) },
        ]);
    }

    fn redirect(&mut self) {
        self.exprs.push(Expr::Redirect { min: REG_1, flags: NAT_PROTO_SPECIFIED });
    }

    fn select(&mut self, mapping: &Mapping, counter: Counter, next_id: &mut u32) {
        let any = Matches::default();
        let Selector { scope, family, matches } = &mapping.selector;
        let matches = matches.as_deref().unwrap_or(&any);
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
        self.family(*family);
        self.networks(&matches.sources, true, next_id);
        self.networks(&matches.addresses, false, next_id);
        self.exprs.push(Expr::Counter(counter));
        let data = mapping.to.get().to_be_bytes().to_vec();
        self.exprs.push(Expr::Immediate { dreg: REG_1, data });
        self.redirect();
        self.comment = mapping.comment.as_deref().map(str::to_owned);
    }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` of `linux/netfilter.h`.
pub const fn nfproto(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

/// `next_id` numbers the anonymous sets within a batch.
pub fn encode(rule: &Rule, counter: Counter, next_id: &mut u32) -> Encoded {
    let mut made = Encoded::default();
    match rule {
        Rule::ForThisHost(stamp) => {
            made.exprs.extend([
                Expr::Fib { flags: FIB_DADDR, result: FIB_RESULT_ADDRTYPE, dreg: REG_1 },
                Expr::Cmp { op: CMP_NEQ, sreg: REG_1, data: RTN_LOCAL.to_ne_bytes().into() },
                Expr::Verdict { code: RETURN, chain: None },
            ]);
            made.comment = stamp.map(|stamp| stamp.to_string());
        }
        Rule::Gate(hook) => {
            let chain = ChainName::Hook(Layer::Trial, *hook).to_string();
            made.exprs.extend([
                Expr::Meta { key: META_NFPROTO, dreg: REG_1 },
                Expr::Lookup { set: GATE.to_owned(), id: None, sreg: REG_1, dreg: None },
                Expr::Verdict { code: GOTO, chain: Some(chain) },
            ]);
        }
        Rule::Lookup(map) => {
            if let MapName::Ports(_, _, family) = map {
                made.family(*family);
            }
            made.one_of(Field::L4Proto, all_protocols(), next_id);
            made.service_in(*map, REG_1);
            made.redirect();
        }
        Rule::Dispatch(layer) => made.service_in(MapName::Selected(*layer), REG_VERDICT),
        Rule::Select(mapping) => made.select(mapping, counter, next_id),
    }
    made
}

fn all_protocols() -> Elements {
    let list: Vec<_> = Protocol::ALL
        .iter()
        .map(|p| Element { key: vec![p.number()], end: false, open: false })
        .collect();
    Elements { size: list.len() as u32, list, interval: false }
}

/// Where the elements of an anonymous set come from when a rule is read.
pub trait Sets {
    /// The elements and whether they are intervals; an error if it is no anonymous set of values.
    fn elements(&mut self, set: &str) -> Result<(Vec<Element>, bool), Malformed>;
}

/// The expressions of a rule while they are read. Every step either takes what it names or
/// leaves all as it was; a value that is loaded must be the one that is used next.
struct Cursor<'a> {
    rest: &'a [Expr],
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Result<&'a Expr, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    fn meta(&mut self, wanted: u32) -> Option<u32> {
        match self.rest {
            [Expr::Meta { key, dreg }, rest @ ..] if *key == wanted => {
                self.rest = rest;
                Some(*dreg)
            }
            _ => None,
        }
    }

    /// The comparison of a value of `len` bytes.
    fn compared(&mut self, reg: u32) -> Result<(u32, &'a [u8]), Malformed> {
        match self.next()? {
            Expr::Cmp { op, sreg, data } if *sreg == reg => Ok((*op, data)),
            _ => Err(Malformed),
        }
    }

    fn equals(&mut self, reg: u32) -> Result<&'a [u8], Malformed> {
        match self.compared(reg)? {
            (CMP_EQ, data) => Ok(data),
            _ => Err(Malformed),
        }
    }

    /// The name of the set that is asked next for the value in `reg`, if one is.
    fn member(&mut self, reg: u32) -> Option<&'a str> {
        match self.rest {
            [Expr::Lookup { set, sreg, dreg: None, .. }, rest @ ..] if *sreg == reg => {
                self.rest = rest;
                Some(set)
            }
            _ => None,
        }
    }

    fn family(&mut self) -> Result<Family, Malformed> {
        let Some(reg) = self.meta(META_NFPROTO) else { return Ok(Family::Both) };
        match self.equals(reg)? {
            [2] => Ok(Family::Ipv4),
            [10] => Ok(Family::Ipv6),
            _ => Err(Malformed),
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// The number of a register's first 32-bit word.
fn word(reg: u32) -> u32 {
    // NFT_REG_1 to 4 are four words each; NFT_REG32_00 is 8.
    if reg >= 8 { reg - 8 } else { reg.saturating_sub(1) * 4 }
}

/// Reads a rule; the mapping of a `Select` is for the service that `chain` is named after.
/// The counter is zero where the rule has none.
pub fn decode(
    exprs: &[Expr],
    comment: Option<&str>,
    chain: ChainName,
    sets: &mut dyn Sets,
) -> Result<(Rule, Counter), Malformed> {
    let mut cursor = Cursor { rest: exprs };
    if let ChainName::Service(_, service) = chain {
        let (mapping, counter) = select(&mut cursor, sets, comment, service)?;
        cursor.end()?;
        return Ok((Rule::Select(Box::new(mapping)), counter));
    }
    let rule = match exprs.first().ok_or(Malformed)? {
        Expr::Fib { flags: FIB_DADDR, result: FIB_RESULT_ADDRTYPE, dreg } => {
            cursor.next()?;
            let local = (CMP_NEQ, &RTN_LOCAL.to_ne_bytes()[..]);
            if cursor.compared(*dreg)? != local {
                return Err(Malformed);
            }
            match cursor.next()? {
                Expr::Verdict { code: RETURN, chain: None } => {}
                _ => return Err(Malformed),
            }
            let stamp = comment.map(str::parse).transpose().map_err(|()| Malformed)?;
            cursor.end()?;
            return Ok((Rule::ForThisHost(stamp), Counter::default()));
        }
        Expr::Meta { key: META_NFPROTO, dreg }
            if matches!(exprs.get(1), Some(Expr::Lookup { .. })) =>
        {
            cursor.next()?;
            if cursor.member(*dreg) != Some(GATE) {
                return Err(Malformed);
            }
            match cursor.next()? {
                Expr::Verdict { code: GOTO, chain: Some(chain) } => Rule::Gate(gate_hook(chain)?),
                _ => return Err(Malformed),
            }
        }
        _ => lookup(&mut cursor, sets)?,
    };
    cursor.end()?;
    // Only two kinds of rules have comments of ours.
    if comment.is_some() { Err(Malformed) } else { Ok((rule, Counter::default())) }
}

fn gate_hook(chain: &str) -> Result<Hook, Malformed> {
    match chain.parse() {
        Ok(ChainName::Hook(Layer::Trial, hook)) => Ok(hook),
        _ => Err(Malformed),
    }
}

/// `Lookup` or `Dispatch`.
fn lookup(cursor: &mut Cursor, sets: &mut dyn Sets) -> Result<Rule, Malformed> {
    let family = cursor.family()?;
    let mut protocol = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    let mut all_checked = false;
    if let Some(set) = cursor.member(protocol) {
        let (mut found, interval) = sets.elements(set)?;
        let mut wanted = all_protocols().list;
        found.sort();
        wanted.sort();
        if interval || found != wanted {
            return Err(Malformed);
        }
        all_checked = true;
        protocol = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    }
    let port = match cursor.next()? {
        Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 2, len: 2, dreg } => *dreg,
        _ => return Err(Malformed),
    };
    let (map, to) = match cursor.next()? {
        Expr::Lookup { set, sreg, dreg: Some(dreg), .. } if *sreg == protocol => (set, *dreg),
        _ => return Err(Malformed),
    };
    if word(port) != word(protocol) + 1 {
        return Err(Malformed);
    }
    match map.parse().map_err(|()| Malformed)? {
        MapName::Selected(layer) if to == REG_VERDICT && !all_checked && family == Family::Both => {
            Ok(Rule::Dispatch(layer))
        }
        map @ MapName::Ports(_, _, of) if to != REG_VERDICT && all_checked && family == of => {
            match cursor.next()? {
                Expr::Redirect { min, flags: NAT_PROTO_SPECIFIED } if word(*min) == word(to) => {
                    Ok(Rule::Lookup(map))
                }
                _ => Err(Malformed),
            }
        }
        _ => Err(Malformed),
    }
}

fn select(
    cursor: &mut Cursor,
    sets: &mut dyn Sets,
    comment: Option<&str>,
    service: crate::mapping::Service,
) -> Result<(Mapping, Counter), Malformed> {
    let reg = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    if cursor.equals(reg)? != [service.protocol.number()] {
        return Err(Malformed);
    }
    let mut scope = Scope::Both;
    if let Some(reg) = cursor.meta(META_IIF) {
        scope = match cursor.compared(reg)? {
            (CMP_EQ, [0, 0, 0, 0]) => Scope::Local,
            (CMP_NEQ, [0, 0, 0, 0]) => Scope::External,
            _ => return Err(Malformed),
        };
    }
    let mut matches = Matches::default();
    if let Some(reg) = cursor.meta(META_IIFNAME) {
        if scope != Scope::Both {
            return Err(Malformed);
        }
        scope = Scope::External;
        matches.interfaces = match cursor.member(reg) {
            Some(set) => {
                let (found, interval) = sets.elements(set)?;
                interval::to_interfaces(&found, interval)?
            }
            None => match cursor.equals(reg)? {
                key if key.len() == NAME_LEN => {
                    vec![InterfacePattern::Name(interval::name(key)?)]
                }
                key => vec![InterfacePattern::Prefix(interval::prefix(key)?)],
            },
        };
    }
    let family = cursor.family()?;
    for source in [true, false] {
        let list = networks(cursor, sets, family, source)?;
        if source { matches.sources = list } else { matches.addresses = list }
    }
    let Expr::Counter(counter) = cursor.next()? else { return Err(Malformed) };
    let to = match (cursor.next()?, cursor.next()?) {
        (Expr::Immediate { dreg, data }, Expr::Redirect { min, flags: NAT_PROTO_SPECIFIED })
            if word(*dreg) == word(*min) =>
        {
            match data[..] {
                [high, low] => Port::new(u16::from_be_bytes([high, low])).ok_or(Malformed)?,
                _ => return Err(Malformed),
            }
        }
        _ => return Err(Malformed),
    };
    let selector = Selector::new(scope, family, matches).ok_or(Malformed)?;
    let mapping = Mapping { service, selector, to, comment: comment.map(Into::into) };
    Ok((mapping, *counter))
}

/// The networks that the sources or the addresses are compared with, if they are next.
fn networks(
    cursor: &mut Cursor,
    sets: &mut dyn Sets,
    family: Family,
    source: bool,
) -> Result<Vec<IpNet>, Malformed> {
    let ipv6 = match family {
        Family::Both => return Ok(Vec::new()),
        Family::Ipv4 => false,
        Family::Ipv6 => true,
    };
    let Expr::Payload { base, offset, len: full, .. } = (Field::Address { ipv6, source }).load()
    else {
        return Err(Malformed);
    };
    let (len, reg) = match cursor.rest {
        [Expr::Payload { base: b, offset: o, len, dreg }, rest @ ..]
            if (*b, *o) == (base, offset) && (1..=full).contains(len) =>
        {
            cursor.rest = rest;
            (*len, *dreg)
        }
        _ => return Ok(Vec::new()),
    };
    if let Some(set) = cursor.member(reg) {
        let (found, interval) = sets.elements(set)?;
        let networks = interval::to_networks(&found, interval, ipv6)?;
        return if networks.is_empty() || len != full { Err(Malformed) } else { Ok(networks) };
    }
    let mut prefix = len * 8;
    let mut reg = reg;
    if let [Expr::Bitwise { sreg, dreg, mask, xor }, rest @ ..] = cursor.rest {
        if *sreg != reg || mask.len() != len as usize || xor.iter().any(|b| *b != 0) {
            return Err(Malformed);
        }
        prefix = interval::prefix_len(mask)?;
        (reg, cursor.rest) = (*dreg, rest);
    }
    let mut address = cursor.equals(reg)?.to_vec();
    if address.len() != len as usize {
        return Err(Malformed);
    }
    address.resize(full as usize, 0);
    Ok(vec![interval::network(&address, prefix as u8, ipv6)?])
}

#[cfg(test)]
mod tests;
