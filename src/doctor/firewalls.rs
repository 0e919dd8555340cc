//! What the rules of others do with the clients that a mapping is meant for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::around::Firewalls;
use super::finding::{Code, Finding, Severity};
use super::others::{self, Other, traffic};
use super::reach::From;
use crate::firewall::value::Truth;
use crate::firewall::{
    self, Answer, Client, Connection, Deciding, How, Interface as Device, Judgement, Rulesets,
    judge,
};
use crate::host::network::Interface;
use crate::mapping::Mapping;
use crate::mapping::words::Run;

/// Mappings for which all rules of this host are gone through, at most: each path of each is a walk.
pub const WALKED_MAX: usize = 64;

/// Networks of clients that are judged one by one, at most; of more, the clients are taken
/// together, as if they could be anybody.
const SOURCES_MAX: usize = 8;

/// Of the clients on one path, those who are meant. `None` is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub interface: Option<String>,
    pub source: Option<IpNet>,
}

/// What becomes of clients on one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    pub from: From,
    pub address: IpAddr,
    pub part: Part,
    pub judgement: Judgement,
}

/// What the rules of others make of one mapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// One for each path, or several where its clients do not fare alike.
    pub ways: Vec<Way>,
    /// Who else translates its clients.
    pub others: Vec<Other>,
}

impl Way {
    /// Why its clients are not served, or may not be.
    pub fn code(&self) -> Option<Code> {
        Some(match self.judgement.answer {
            Answer::Accepts => return None,
            Answer::Blocks(How::NotTracked) => Code::Notrack,
            Answer::Blocks(How::Translated) => Code::OtherNat,
            Answer::Blocks(How::Dropped | How::Rejected) => Code::FirewallBlocks,
            Answer::CannotTell => Code::FirewallUnknown,
        })
    }
}

impl Firewalls {
    /// What becomes of the clients of a mapping on these paths.
    pub fn verdict(
        &self,
        mapping: &Mapping,
        paths: &[(From, IpAddr)],
        interfaces: &[Interface],
    ) -> Verdict {
        let ways = paths.iter().flat_map(|(from, address)| {
            let clients = self.clients(mapping, (*from, *address), interfaces);
            let judged = clients.into_iter().map(|(part, client)| {
                (part, judge(&self.rulesets, &connection(mapping, *address, client)))
            });
            told_apart(judged.collect()).into_iter().map(|(part, judgement)| {
                let (from, address) = (*from, *address);
                Way { from, address, part, judgement }
            })
        });
        Verdict { ways: ways.collect(), others: self.others(mapping, paths, interfaces) }
    }

    /// Whether anybody else translates new connections to this host.
    pub fn translate(&self) -> bool {
        firewall::is_translated_by_others(&self.rulesets)
    }

    /// Who else translates the clients of a mapping.
    pub fn others(
        &self,
        mapping: &Mapping,
        paths: &[(From, IpAddr)],
        interfaces: &[Interface],
    ) -> Vec<Other> {
        if !self.translate() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (from, address) in paths {
            for (_, client) in self.clients(mapping, (*from, *address), interfaces) {
                let connection = connection(mapping, *address, client);
                for nat in firewall::other_nat(&self.rulesets, &connection) {
                    others::note(&mut found, *from, nat);
                }
            }
        }
        found
    }

    fn clients(
        &self,
        mapping: &Mapping,
        (from, address): (From, IpAddr),
        interfaces: &[Interface],
    ) -> Vec<(Part, Client)> {
        if from == From::Here {
            return vec![(Part::default(), Client::Here)];
        }
        let sources = mapping.selector.matches().map(|m| m.sources.as_slice());
        let sources: Vec<_> = match sources.unwrap_or_default() {
            [] => vec![None],
            many if many.len() > SOURCES_MAX => vec![None],
            few => few.iter().copied().map(Some).collect(),
        };
        let by = arriving(mapping, address, interfaces).into_iter().filter_map(|name| {
            let index = *self.indexes.get(name)?;
            Some(Device { name: name.to_owned(), index })
        });
        let each = |interface: Device| {
            sources.clone().into_iter().map(move |source| {
                let part = Part { interface: Some(interface.name.clone()), source };
                (part, Client::Outside { interface: interface.clone(), source })
            })
        };
        by.flat_map(each).collect()
    }
}

/// The interfaces by which clients from outside of a mapping connect to this address: the one that
/// has it, or each, if it is an address of `lo`.
pub fn arriving<'i>(
    mapping: &Mapping,
    address: IpAddr,
    interfaces: &'i [Interface],
) -> Vec<&'i str> {
    let patterns = mapping.selector.matches().map(|m| m.interfaces.as_slice());
    let patterns = patterns.unwrap_or_default();
    let usable = |i: &&Interface| {
        i.name != "lo" && (patterns.is_empty() || patterns.iter().any(|p| p.matches(&i.name)))
    };
    let usable: Vec<_> = interfaces.iter().filter(usable).collect();
    let owners: Vec<_> =
        usable.iter().filter(|i| i.addresses.contains(&address)).copied().collect();
    let by = if owners.is_empty() { usable } else { owners };
    by.into_iter().map(|i| i.name.as_str()).collect()
}

fn connection(mapping: &Mapping, address: IpAddr, client: Client) -> Connection {
    Connection { client, address, service: mapping.service, target: Some(mapping.to.port()) }
}

/// Names the parts of the clients only where they do not fare alike, and then only by what tells
/// them apart.
fn told_apart(mut judged: Vec<(Part, Judgement)>) -> Vec<(Part, Judgement)> {
    let all = |same: &dyn Fn(&(Part, Judgement)) -> bool| judged.iter().all(same);
    let Some((part, judgement)) = judged.first() else { return judged };
    let is_alike = all(&|(_, other)| other == judgement);
    let by_interface = !is_alike && !all(&|(other, _)| other.interface == part.interface);
    let by_source = !is_alike && !all(&|(other, _)| other.source == part.source);
    for (part, _) in &mut judged {
        part.interface.take_if(|_| !by_interface);
        part.source.take_if(|_| !by_source);
    }
    judged.dedup();
    judged
}

/// A finding for each rule that stands in the way of the clients of these mappings, or translates
/// them too.
pub fn findings(run: &Run<'_>, verdict: &Verdict, rulesets: &Rulesets) -> Vec<Finding> {
    let mut findings = others::findings(run, &verdict.others, rulesets);
    // What is told there is not told again.
    let is_told = |way: &Way| {
        let spot = way.judgement.deciding.as_ref().map(|deciding| deciding.spot);
        let told =
            |other: &Other| other.nat.wins != Truth::No && Some(other.nat.deciding.spot) == spot;
        verdict.others.iter().any(told)
    };
    for way in verdict.ways.iter().filter(|way| !is_told(way)) {
        let Some(finding) = finding(run, way, rulesets) else { continue };
        if !findings.iter().any(|f| (f.code, &f.summary) == (finding.code, &finding.summary)) {
            findings.push(finding);
        }
    }
    findings
}

/// `clients from outside by eth0 from 203.0.113.0/24`
fn clients(way: &Way) -> String {
    let who = match way.from {
        From::Outside => "clients from outside",
        From::Here => "clients on this host",
    };
    let by = way.part.interface.iter().map(|name| format!(" by {name}"));
    let of = way.part.source.iter().map(|net| format!(" from {net}"));
    who.to_owned() + &by.chain(of).collect::<String>()
}

fn finding(run: &Run<'_>, way: &Way, rulesets: &Rulesets) -> Option<Finding> {
    let code = way.code()?;
    let Judgement { answer, deciding, .. } = &way.judgement;
    let finding = match (answer, deciding) {
        (Answer::Blocks(how), Some(deciding)) => blocked(run, way, *how, deciding, rulesets),
        _ => unknown(run, way),
    };
    let finding = Finding { code, ..finding };
    let finding = match &way.part.interface {
        Some(interface) => finding.evidence("interface", interface.clone()),
        None => finding,
    };
    let Some(deciding) = deciding else { return Some(finding) };
    Some(
        finding
            .evidence("table", deciding.table.clone())
            .evidence("chain", deciding.chain.clone())
            .evidence("rule", deciding.text.clone())
            .evidence("owner", deciding.owner.name()),
    )
}

fn blocked(
    run: &Run<'_>,
    way: &Way,
    how: How,
    deciding: &Deciding,
    rulesets: &Rulesets,
) -> Finding {
    let detail = match how {
        How::Dropped => "their packets are dropped: they get no answer and time out",
        How::Rejected => "they are refused",
        How::NotTracked => {
            "their packets are exempted from connection tracking, and without it nothing is \
             translated"
        }
        How::Translated => "it translates the port before portmap, or to another place",
    };
    let summary = format!("{}: {} are kept out by {}", run.service(), clients(way), deciding.text);
    let finding = Finding::new(Code::FirewallBlocks, Severity::Error, summary).because(detail);
    if !matches!(how, How::Dropped | How::Rejected) {
        return finding;
    }
    let commands = firewall::remedy(rulesets, deciding, &traffic(run, way.from));
    commands.into_iter().fold(finding, |finding, command| {
        let text = format!("let it in, with {}", deciding.owner.name());
        finding.command(text, format!("sudo {command}"))
    })
}

fn unknown(run: &Run<'_>, way: &Way) -> Finding {
    let (service, Judgement { deciding, why, .. }) = (run.service(), &way.judgement);
    let at = deciding.as_ref().map(|deciding| format!(", at {}", deciding.text));
    let summary = format!(
        "{service}: it cannot be told what a firewall does with {}{}",
        clients(way),
        at.unwrap_or_default()
    );
    Finding::new(Code::FirewallUnknown, Severity::Warning, summary)
        .because(why.clone().unwrap_or_default())
        .command(
            "follow a real connection through the rules",
            format!("sudo portmap trace {service}"),
        )
        .command(
            "make real connections, from here and from outside",
            format!("sudo portmap doctor --probe {service}"),
        )
}
