//! What the rules of others do with the clients that a mapping is meant for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding::{Code, Finding, Severity};
use super::reach::From;
use crate::firewall::{
    Answer, Client, Connection, How, Interface as Device, Judgement, Rulesets, judge,
};
use crate::host::network::Interface;
use crate::mapping::Mapping;

/// All rules of this network namespace, and the interfaces that packets arrive by.
#[derive(Clone, Debug, Default)]
pub struct Firewalls {
    pub rulesets: Rulesets,
    /// By the name of the interface (if_nametoindex(3)).
    pub indexes: BTreeMap<String, u32>,
    /// Why the rules could not be read: then nothing is said of them.
    pub unseen: Option<String>,
}

/// What stands in the way of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Obstacle {
    pub from: From,
    pub address: IpAddr,
    pub judgement: Judgement,
}

impl Obstacle {
    pub fn is_certain(&self) -> bool {
        self.judgement.answer != Answer::CannotTell
    }

    pub fn code(&self) -> Code {
        match self.judgement.answer {
            Answer::Blocks(How::NotTracked) => Code::Notrack,
            Answer::Blocks(How::Translated) => Code::OtherNat,
            Answer::Blocks(How::Dropped | How::Rejected) => Code::FirewallBlocks,
            Answer::Accepts | Answer::CannotTell => Code::FirewallUnknown,
        }
    }
}

impl Firewalls {
    /// What stands in the way of these paths of a mapping. Nothing for a path that is free.
    pub fn obstacles(
        &self,
        mapping: &Mapping,
        paths: &[(From, IpAddr)],
        interfaces: &[Interface],
    ) -> Vec<Obstacle> {
        let obstacle = |(from, address): &(From, IpAddr)| {
            let clients = match from {
                From::Here => vec![Client::Here],
                From::Outside => self.outside(mapping, *address, interfaces),
            };
            let judged = clients.into_iter().map(|client| {
                judge(
                    &self.rulesets,
                    &Connection {
                        client,
                        address: *address,
                        service: mapping.service,
                        target: Some(mapping.to.port()),
                    },
                )
            });
            // By several interfaces, the way that is blocked for sure counts most.
            let rank = |judgement: &Judgement| match judgement.answer {
                Answer::Blocks(_) => 0,
                Answer::CannotTell => 1,
                Answer::Accepts => 2,
            };
            let judgement = judged.min_by_key(rank)?;
            let (from, address) = (*from, *address);
            (judgement.answer != Answer::Accepts).then_some(Obstacle { from, address, judgement })
        };
        paths.iter().filter_map(obstacle).collect()
    }

    /// Clients from outside who connect to this address: by the interface that has it, or by each,
    /// if it is an address of `lo`.
    fn outside(&self, mapping: &Mapping, address: IpAddr, interfaces: &[Interface]) -> Vec<Client> {
        let patterns = mapping.selector.matches().map(|m| m.interfaces.as_slice());
        let patterns = patterns.unwrap_or_default();
        let usable = |i: &&Interface| {
            i.name != "lo" && (patterns.is_empty() || patterns.iter().any(|p| p.matches(&i.name)))
        };
        let usable: Vec<_> = interfaces.iter().filter(usable).collect();
        let owners: Vec<_> =
            usable.iter().filter(|i| i.addresses.contains(&address)).copied().collect();
        let by = if owners.is_empty() { usable } else { owners };
        by.into_iter()
            .filter_map(|i| {
                let index = *self.indexes.get(&i.name)?;
                let interface = Device { name: i.name.clone(), index };
                Some(Client::Outside { interface, address: None })
            })
            .collect()
    }
}

/// A finding for each rule that stands in the way of `service`.
pub fn findings(service: &str, obstacles: &[Obstacle]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for obstacle in obstacles {
        let finding = finding(service, obstacle);
        if !findings.iter().any(|f| (f.code, &f.summary) == (finding.code, &finding.summary)) {
            findings.push(finding);
        }
    }
    findings
}

fn finding(service: &str, obstacle: &Obstacle) -> Finding {
    let clients = match obstacle.from {
        From::Outside => "clients from outside",
        From::Here => "clients on this host",
    };
    let Judgement { answer, deciding, why } = &obstacle.judgement;
    let rule = deciding.as_ref().map(|deciding| deciding.text.as_str());
    let port = service.split('/').next().unwrap_or(service);
    let code = obstacle.code();
    let finding = match (answer, rule) {
        (Answer::Blocks(how), Some(rule)) => {
            let detail = match how {
                How::Dropped => "their packets are dropped, and they wait in vain",
                How::Rejected => "they are refused",
                How::NotTracked => {
                    "their packets are exempted from connection tracking, and without it nothing is \
                     translated"
                }
                How::Translated => "it translates the port before portmap, or to another place",
            };
            let summary = format!("{service}: {clients} are kept out by {rule}");
            Finding::new(code, Severity::Error, summary).because(detail)
        }
        _ => {
            let at = rule.map(|rule| format!(", at {rule}")).unwrap_or_default();
            let summary =
                format!("{service}: it cannot be told what a firewall does with {clients}{at}");
            let finding = Finding::new(code, Severity::Warning, summary);
            let finding = match why {
                Some(why) => finding.because(why.clone()),
                None => finding,
            };
            finding.command(
                "follow a real connection through the rules",
                format!("sudo portmap trace {port}"),
            )
        }
    };
    let Some(deciding) = deciding else { return finding };
    let owner = deciding.owner.name();
    let finding = deciding.remedy.iter().fold(finding, |finding, command| {
        finding.command(format!("let it in, with {owner}"), format!("sudo {command}"))
    });
    finding
        .evidence("table", deciding.table.clone())
        .evidence("chain", deciding.chain.clone())
        .evidence("rule", deciding.text.clone())
        .evidence("owner", owner)
}
