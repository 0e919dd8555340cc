//! Bytecode as a rule of ours. Nothing of a rule may be overlooked: what is not understood to the
//! last expression is not ours.

use ipnet::IpNet;

use super::*;
use crate::kernel::netlink::wire::Malformed;
use crate::mapping::{Matches, Port, Selector, Service, Target};
use crate::ruleset::{Check, Hook, Layer};

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
            [Expr::Lookup { set, sreg, dreg: None, inverted: false, .. }, rest @ ..]
                if *sreg == reg =>
            {
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
        let read = select(&mut cursor, sets, comment, service)?;
        cursor.end()?;
        return Ok(read);
    }
    let rule = match (chain, fixed(exprs, chain)) {
        (_, Some(Rule::ForThisHost(_))) => {
            let stamp = comment.map(str::parse).transpose().map_err(|()| Malformed)?;
            return Ok((Rule::ForThisHost(stamp), Counter::default()));
        }
        (_, Some(rule)) => rule,
        (ChainName::Check(..), None) => answers(&mut cursor, sets)?,
        (_, None) => {
            let rule = lookup(&mut cursor, sets)?;
            cursor.end()?;
            rule
        }
    };
    // Only two kinds of rules have comments of ours.
    if comment.is_some() { Err(Malformed) } else { Ok((rule, Counter::default())) }
}

/// The rule of these expressions among those that say the same in every chain of the kind.
fn fixed(exprs: &[Expr], chain: ChainName) -> Option<Rule> {
    let rules = match chain {
        ChainName::Check(_, check) => fixed_of_check(check),
        _ => {
            let [prerouting, output] = Hook::ALL.map(|hook| ChainName::Hook(Layer::Trial, hook));
            let gates = [Rule::Gate(prerouting), Rule::Gate(output)];
            [Rule::ForThisHost(None), Rule::OnlyNewTcp, Rule::Zone]
                .into_iter()
                .chain(gates)
                .collect()
        }
    };
    rules.into_iter().find(|rule| encode(rule, Counter::default(), &mut 0).exprs == exprs)
}

fn fixed_of_check(check: Check) -> Vec<Rule> {
    let mut rules = vec![Rule::Gate(ChainName::Check(Layer::Trial, check))];
    let of_layers = [Layer::Active, Layer::Trial]
        .into_iter()
        .flat_map(|layer| [CheckRule::RefuseTcp(layer), CheckRule::RefuseOther(layer)]);
    let checks: Vec<_> = match check {
        Check::Answers => {
            vec![CheckRule::OnlyTranslated, CheckRule::OnlyReplies, CheckRule::OnlySynAck]
        }
        Check::Direct => {
            [CheckRule::OnlyOutside, CheckRule::OnlyDirect].into_iter().chain(of_layers).collect()
        }
    };
    rules.extend(checks.into_iter().map(Rule::Check));
    rules
}

/// `Answers`, of either layer.
fn answers(cursor: &mut Cursor, sets: &mut dyn Sets) -> Result<Rule, Malformed> {
    let protocol = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    all_protocols_in(cursor.member(protocol).ok_or(Malformed)?, sets)?;
    let rules = [Layer::Active, Layer::Trial].map(|layer| Rule::Check(CheckRule::Answers(layer)));
    // Of the set of protocols only the name differs.
    let rest = |rule: &Rule| encode(rule, Counter::default(), &mut 0).exprs.split_off(2);
    rules.into_iter().find(|rule| rest(rule) == cursor.rest).ok_or(Malformed)
}

fn all_protocols_in(set: &str, sets: &mut dyn Sets) -> Result<(), Malformed> {
    let (mut found, interval) = sets.elements(set)?;
    let mut wanted = all_protocols().list;
    found.sort();
    wanted.sort();
    if interval || found != wanted { Err(Malformed) } else { Ok(()) }
}

/// `Lookup` or `Dispatch`.
fn lookup(cursor: &mut Cursor, sets: &mut dyn Sets) -> Result<Rule, Malformed> {
    let family = cursor.family()?;
    let mut protocol = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    let mut all_checked = false;
    if let Some(set) = cursor.member(protocol) {
        all_protocols_in(set, sets)?;
        all_checked = true;
        protocol = cursor.meta(META_L4PROTO).ok_or(Malformed)?;
    }
    let port = match cursor.next()? {
        Expr::Payload { base: PAYLOAD_TRANSPORT, offset: 2, len: 2, dreg } => *dreg,
        _ => return Err(Malformed),
    };
    let (map, to) = match cursor.next()? {
        Expr::Lookup { set, sreg, dreg: Some(dreg), inverted: false, .. } if *sreg == protocol => {
            (set, *dreg)
        }
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
            let (min, form) = translation(cursor.next()?)?;
            if word(min) == word(to) { Ok(form.of(Rule::Lookup(map))) } else { Err(Malformed) }
        }
        _ => Err(Malformed),
    }
}

/// How a rule translates.
#[derive(Clone, Copy)]
enum Form {
    PortAlone,
    Redirect,
}

impl Form {
    fn of(self, rule: Rule) -> Rule {
        match self {
            Form::PortAlone => rule,
            Form::Redirect => Rule::Redirect(Box::new(rule)),
        }
    }
}

/// The register of the port.
fn translation(expr: &Expr) -> Result<(u32, Form), Malformed> {
    match *expr {
        Expr::Dnat { family: NFPROTO_INET, min, flags: NAT_PROTO_SPECIFIED } => {
            Ok((min, Form::PortAlone))
        }
        Expr::Redirect { min, flags: NAT_PROTO_SPECIFIED } => Ok((min, Form::Redirect)),
        _ => Err(Malformed),
    }
}

fn select(
    cursor: &mut Cursor,
    sets: &mut dyn Sets,
    comment: Option<&str>,
    service: Service,
) -> Result<(Rule, Counter), Malformed> {
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
                    vec![interval::name(key)?]
                }
                key => vec![interval::prefix(key)?],
            },
        };
    }
    let family = cursor.family()?;
    for source in [true, false] {
        let list = networks(cursor, sets, family, source)?;
        if source { matches.sources = list } else { matches.addresses = list }
    }
    let Expr::Counter(counter) = cursor.next()? else { return Err(Malformed) };
    let Expr::Immediate { dreg, data } = cursor.next()? else { return Err(Malformed) };
    let (min, form) = translation(cursor.next()?)?;
    let to = match data[..] {
        [high, low] if word(*dreg) == word(min) => {
            Port::new(u16::from_be_bytes([high, low])).ok_or(Malformed)?
        }
        _ => return Err(Malformed),
    };
    let selector = Selector::new(scope, family, matches).ok_or(Malformed)?;
    let comment = comment.map(Comment::new).transpose().map_err(|_| Malformed)?;
    let mapping = Mapping { selector, comment, ..Mapping::new(service, Target::new(to)) };
    Ok((form.of(Rule::Select(Box::new(mapping))), *counter))
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
