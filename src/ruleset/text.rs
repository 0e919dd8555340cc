//! The table as nft(8) text.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Answer, BaseChain, ChainName, CheckRule, GATE, Layer, Map, MapName, PortData, Rule, Ruleset,
    TABLE, TRIAL_ZONE, desired, map_shape,
};
use crate::mapping::{Family, Mapping, MappingSet, Protocol, Scope, Service};

/// A script for `nft -f` that makes the table of a mapping, whatever was there before.
pub struct Script<'a>(pub &'a MappingSet);

impl Display for Script<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let table = desired(self.0, None, None);
        // The first line makes the second work where there is no table yet.
        writeln!(f, "#!/usr/sbin/nft -f\n")?;
        write!(f, "table inet {TABLE}\ndelete table inet {TABLE}\n\n{table}")
    }
}

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (name, map) in &self.maps {
            write_map(f, *name, map)?;
        }
        if let Some(gate) = &self.gate {
            write_gate(f, gate.timeout)?;
        }
        for (i, (name, rules)) in self.chains.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write_chain(f, *name, rules)?;
        }
        writeln!(f, "}}")
    }
}

fn write_map(f: &mut Formatter<'_>, name: MapName, map: &Map) -> fmt::Result {
    let key_and_data = match name {
        MapName::Ports(..) => "inet_proto . inet_service : inet_service",
        MapName::Selected(_) => "inet_proto . inet_service : verdict",
        MapName::Zoned | MapName::Hidden(_) => "inet_proto . inet_service",
        MapName::Guarded(_) => "inet_proto . inet_service . inet_service",
        MapName::Served(_) => "inet_proto . inet_service . inet_service . uid",
    };
    let shape = map_shape(name, map.len());
    writeln!(f, "\t{} {name} {{", name.kind())?;
    writeln!(f, "\t\ttype {key_and_data}")?;
    writeln!(f, "\t\tsize {}", shape.size)?;
    if shape.counted {
        writeln!(f, "\t\tcounter")?;
    }
    match map {
        Map::Ports(elements) => {
            write_elements(
                f,
                elements.iter().map(|(service, target)| PortElement(service, target)),
            )?;
        }
        Map::Selected(services) => {
            write_elements(f, services.iter().map(|s| SelectedElement(name.layer(), s)))?;
        }
        Map::Services(services) => {
            write_elements(f, services.iter().map(Key))?;
        }
        Map::Answers(answers) => {
            write_elements(f, answers.iter().map(AnswerElement))?;
        }
    }
    writeln!(f, "\t}}\n")
}

fn write_elements(
    f: &mut Formatter<'_>,
    elements: impl ExactSizeIterator<Item = impl Display>,
) -> fmt::Result {
    let last = elements.len().saturating_sub(1);
    for (i, element) in elements.enumerate() {
        f.write_str(if i == 0 { "\t\telements = { " } else { "\t\t             " })?;
        writeln!(f, "{element}{}", if i == last { " }" } else { "," })?;
    }
    Ok(())
}

struct Key<'a>(&'a Service);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.0.protocol, self.0.port)
    }
}

struct PortElement<'a>(&'a Service, &'a PortData);

impl Display for PortElement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(service, target) = self;
        Key(service).fmt(f)?;
        write_comment(f, target.comment.as_deref())?;
        write!(f, " : {}", target.to)
    }
}

struct AnswerElement<'a>(&'a Answer);

impl Display for AnswerElement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Answer { service, to, user } = self.0;
        write!(f, "{} . {to}", Key(service))?;
        let Some(user) = user else { return Ok(()) };
        write!(f, " . {}", user.uid)?;
        write_comment(f, user.name.as_deref())
    }
}

struct SelectedElement<'a>(Layer, &'a Service);

impl Display for SelectedElement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(layer, service) = self;
        let chain = ChainName::Service(*layer, **service);
        write!(f, "{} : goto {chain}", Key(service))
    }
}

fn write_gate(f: &mut Formatter<'_>, timeout: Duration) -> fmt::Result {
    let timeout = timeout.as_secs();
    writeln!(f, "\tset {GATE} {{")?;
    writeln!(f, "\t\ttype nf_proto")?;
    writeln!(f, "\t\tflags timeout")?;
    writeln!(f, "\t\telements = {{ ipv4 timeout {timeout}s, ipv6 timeout {timeout}s }}")?;
    writeln!(f, "\t}}\n")
}

fn write_chain(f: &mut Formatter<'_>, name: ChainName, rules: &[Rule]) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(BaseChain { kind, hook, priority, policy, .. }) = name.base() {
        let (kind, hook, policy) = (kind.name(), hook.name(), policy.name());
        writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy {policy};")?;
    }
    for rule in rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Rule::ForThisHost(stamp) => {
                f.write_str("fib daddr type != local return")?;
                match stamp {
                    Some(stamp) => write!(f, " comment \"{stamp}\""),
                    None => Ok(()),
                }
            }
            Rule::OnlyNewTcp => f.write_str("tcp flags != syn / fin,syn,rst,ack return"),
            Rule::Gate(chain) => write!(f, "meta nfproto @{GATE} goto {chain}"),
            Rule::Lookup(_) | Rule::Select(_) => write_translation(f, self, "dnat"),
            Rule::Redirect(rule) => write_translation(f, rule, "redirect"),
            Rule::Dispatch(layer) => {
                write!(f, "{KEY} vmap @{}", MapName::Selected(*layer))
            }
            Rule::Zone => {
                write!(f, "meta nfproto @{GATE} {KEY} @{} fib daddr type local ", MapName::Zoned)?;
                write!(f, "ct original zone set {TRIAL_ZONE}")
            }
            Rule::Check(rule) => rule.fmt(f),
        }
    }
}

impl Display for CheckRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            CheckRule::OnlyTranslated => f.write_str("ct status ! dnat return"),
            CheckRule::OnlyReplies => f.write_str("ct direction original return"),
            CheckRule::OnlySynAck => f.write_str("tcp flags != syn,ack / fin,syn,rst,ack return"),
            CheckRule::Answers(layer) => {
                let (served, guarded) = (MapName::Served(*layer), MapName::Guarded(*layer));
                write_protocols(f)?;
                write!(f, "{ANSWER} . meta skuid != @{served} {ANSWER} @{guarded} drop")
            }
            CheckRule::OnlyOutside => f.write_str("iif \"lo\" return"),
            CheckRule::OnlyDirect => f.write_str("ct status dnat return"),
            CheckRule::RefuseTcp(layer) => {
                f.write_str("tcp flags syn / fin,syn,rst,ack ")?;
                let hidden = MapName::Hidden(*layer);
                write!(f, "meta l4proto . tcp dport @{hidden} reject with tcp reset")
            }
            CheckRule::RefuseOther(layer) => {
                let hidden = MapName::Hidden(*layer);
                write!(f, "meta l4proto != tcp ct direction original {KEY} @{hidden} reject")
            }
        }
    }
}

/// What tells an answer: who was asked, and where it comes from.
const ANSWER: &str = "meta l4proto . ct original proto-dst . th sport";

/// What maps are looked up by.
const KEY: &str = "meta l4proto . th dport";

fn write_translation(f: &mut Formatter<'_>, rule: &Rule, statement: &str) -> fmt::Result {
    match rule {
        Rule::Lookup(map) => write_lookup(f, *map, statement),
        Rule::Select(mapping) => write_select(f, mapping, statement),
        other => other.fmt(f),
    }
}

fn write_lookup(f: &mut Formatter<'_>, map: MapName, statement: &str) -> fmt::Result {
    if let MapName::Ports(_, _, family) = map {
        write_family(f, family)?;
    }
    write_protocols(f)?;
    write!(f, "{statement} to :{KEY} map @{map}")
}

fn write_protocols(f: &mut Formatter<'_>) -> fmt::Result {
    let protocols: Vec<_> = Protocol::ALL.iter().map(|p| p.name()).collect();
    write!(f, "meta l4proto {{ {} }} ", protocols.join(", "))
}

fn write_select(f: &mut Formatter<'_>, mapping: &Mapping, statement: &str) -> fmt::Result {
    let selector = &mapping.selector;
    write!(f, "meta l4proto {} ", mapping.service.protocol)?;
    let matches = selector.matches();
    let interfaces = matches.map(|m| m.interfaces.as_slice()).unwrap_or_default();
    // A packet made on this machine has no arriving interface. That is how one chain serves
    // both hooks.
    match selector.scope() {
        Scope::External if interfaces.is_empty() => f.write_str("iif != 0 ")?,
        Scope::Local => f.write_str("iif 0 ")?,
        Scope::External | Scope::Both => {}
    }
    write_alternatives(f, "iifname", interfaces, |i| format!("\"{i}\""))?;
    let sources = matches.map(|m| m.sources.as_slice()).unwrap_or_default();
    let addresses = matches.map(|m| m.addresses.as_slice()).unwrap_or_default();
    let ip = if selector.family() == Family::Ipv6 { "ip6" } else { "ip" };
    if sources.is_empty() && addresses.is_empty() {
        write_family(f, selector.family())?;
    }
    write_alternatives(f, &format!("{ip} saddr"), sources, network)?;
    write_alternatives(f, &format!("{ip} daddr"), addresses, network)?;
    write!(f, "counter {statement} to :{}", mapping.to)?;
    write_comment(f, mapping.comment.as_deref())
}

fn write_family(f: &mut Formatter<'_>, family: Family) -> fmt::Result {
    match family {
        Family::Both => Ok(()),
        Family::Ipv4 | Family::Ipv6 => write!(f, "meta nfproto {} ", family.name()),
    }
}

/// A match against one value, or a set of them; nothing for none, which means "any".
fn write_alternatives<T>(
    f: &mut Formatter<'_>,
    key: &str,
    values: &[T],
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    match values {
        [] => Ok(()),
        [one] => write!(f, "{key} {} ", text(one)),
        several => {
            let several: Vec<_> = several.iter().map(text).collect();
            write!(f, "{key} {{ {} }} ", several.join(", "))
        }
    }
}

/// A network, a host address without its prefix length: as nft writes them.
fn network(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn write_comment(f: &mut Formatter<'_>, comment: Option<&str>) -> fmt::Result {
    match comment {
        Some(comment) => write!(f, " comment \"{comment}\""),
        None => Ok(()),
    }
}
