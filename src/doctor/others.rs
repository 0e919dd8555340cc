//! Other programs that translate the same port, and who wins.

use super::finding::{Code, Finding, Severity};
use super::reach::From;
use crate::firewall::value::Truth;
use crate::firewall::{self, Hook, OURS, OtherNat, Rulesets};
use crate::mapping::PortRange;
use crate::mapping::words::Run;

/// Somebody else's rule that translates clients of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    pub nat: OtherNat,
    /// Whose clients.
    pub from: Vec<From>,
    pub hooks: Vec<Hook>,
}

/// Adds what was found for one client: a rule that several hooks lead to is told once.
pub fn note(found: &mut Vec<Other>, from: From, nat: OtherNat) {
    let same = |other: &&mut Other| {
        (other.nat.deciding.spot, other.nat.wins) == (nat.deciding.spot, nat.wins)
    };
    let hook = nat.deciding.hook;
    let Some(other) = found.iter_mut().find(same) else {
        found.push(Other { nat, from: vec![from], hooks: vec![hook] });
        return;
    };
    other.nat.certain |= nat.certain;
    if !other.from.contains(&from) {
        other.from.push(from);
    }
    if !other.hooks.contains(&hook) {
        other.hooks.push(hook);
    }
}

/// What a rule for these mappings has to name.
pub fn traffic(run: &Run<'_>, from: From) -> firewall::Traffic {
    let (first, last) = (run.first, run.last);
    let range = |first, last| PortRange::new(first, last).unwrap_or(PortRange::one(first));
    firewall::Traffic {
        protocol: first.service.protocol,
        ports: range(first.service.port, last.service.port),
        targets: Some(range(first.to.port(), last.to.port())),
        is_local: from == From::Here,
    }
}

pub fn findings(run: &Run<'_>, others: &[Other], rulesets: &Rulesets) -> Vec<Finding> {
    others.iter().map(|other| finding(run, other, rulesets)).collect()
}

fn finding(run: &Run<'_>, other: &Other, rulesets: &Rulesets) -> Finding {
    let Other { nat, from, hooks } = other;
    let OtherNat { deciding, priority, certain, wins } = nat;
    let (service, owner) = (run.service(), deciding.owner.name());
    let clients = match from.as_slice() {
        [From::Outside] => "clients from outside",
        [From::Here] => "clients on this host",
        _ => "clients from outside and on this host",
    };
    let hooks: Vec<_> = hooks.iter().map(|hook| hook.name()).collect();
    let (severity, who, detail) = told(run, other, clients, &hooks.join(" and "));
    let winner = match wins {
        Truth::Yes => owner,
        Truth::No => "portmap",
        Truth::Maybe => "unknown",
    };
    let undo = firewall::undo(rulesets, deciding, &traffic(run, from[0]));
    let finding = Finding::new(
        Code::OtherNat,
        severity,
        format!("{service} is translated twice, and {who}: {}", deciding.text),
    )
    .because(detail);
    let finding = match undo.command {
        Some(command) => finding.command(undo.text, format!("sudo {command}")),
        None => finding.advice(undo.text),
    };
    finding
        .advice(format!("leave {service} out of the rules file, if that rule is to have it"))
        .evidence("wins", winner)
        .evidence("certain", *certain)
        .evidence("priority", *priority)
        .evidence("hooks", hooks)
        .evidence("table", deciding.table.clone())
        .evidence("chain", deciding.chain.clone())
        .evidence("rule", deciding.text.clone())
        .evidence("owner", owner)
}

/// How bad it is, who comes first, and what that means for these clients.
fn told(run: &Run<'_>, other: &Other, clients: &str, hooks: &str) -> (Severity, String, String) {
    let OtherNat { deciding, priority, certain, wins } = &other.nat;
    let (target, owner) = (run.target(), deciding.owner.name());
    let at = format!("at priority {priority} of {hooks}");
    let may = if *certain { "" } else { ", for some of them at least" };
    match wins {
        Truth::Yes => (
            if *certain { Severity::Error } else { Severity::Warning },
            format!("a rule of {owner} comes before portmap"),
            format!(
                "it translates {at}, and portmap at {OURS}: {clients} go where it sends them, and \
                 not to {target}{may}"
            ),
        ),
        Truth::Maybe => (
            Severity::Warning,
            format!("it cannot be told whether a rule of {owner} comes before portmap"),
            format!(
                "both translate {at}, and of two chains at one priority the kernel calls that one \
                 first which was put there last: {clients} get {target}, or go where that rule \
                 sends them{may}"
            ),
        ),
        Truth::No => (
            Severity::Warning,
            format!("portmap comes before a rule of {owner}"),
            format!(
                "portmap translates at priority {OURS}, and that rule {at}: {clients} get {target}, \
                 and no longer what that rule is for{may}"
            ),
        ),
    }
}
