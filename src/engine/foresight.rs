//! A look at this host before a change: what its author may not see coming.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use super::error::{Refusal, Result};
use super::observer::{Event, Observer, timed};
use crate::doctor::foresee::{Facts, Firewalls, foresee};
use crate::doctor::{Finding, Severity};
use crate::host::login::SshSession;
use crate::host::{network, user};
use crate::kernel::Kernel;
use crate::mapping::changes::{Change, changes};
use crate::mapping::{Mapping, MappingSet, Port, Protocol, Service};

/// Tells the observer what the change from `before` to `after` will lead to; with `strict`, refuses
/// it if there is anything to warn of. Nothing is looked at where nothing changes.
pub fn look(
    kernel: &mut impl Kernel,
    observer: &dyn Observer,
    before: &Rc<MappingSet>,
    after: &Rc<MappingSet>,
    strict: bool,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let changes = changes(before, after);
    let findings = timed(observer, "look at this host", || findings(kernel, &changes));
    if findings.is_empty() {
        return Ok(());
    }
    let is_warning = |finding: &Finding| finding.severity != Severity::Note;
    if strict && findings.iter().any(is_warning) {
        let warnings = findings.into_iter().filter(is_warning);
        return Err(Refusal::Findings(warnings.collect()).into());
    }
    observer.event(Event::Foreseen(&findings));
    Ok(())
}

fn findings(kernel: &mut impl Kernel, changes: &[Change<'_>]) -> Vec<Finding> {
    let mut facts = facts(kernel, changes.iter().map(Change::mapping), &[]);
    // What others translate is worth a warning; where it cannot be seen, the change goes on.
    if let Ok(rulesets) = kernel.translations_of_others() {
        let indexes = network::indexes(&facts.interfaces);
        facts.firewalls = Firewalls { rulesets, indexes, unseen: None };
    }
    let findings = foresee(changes, &facts);
    // Looking through the processes of the machine takes longer than everything else.
    if !findings.iter().any(Finding::names_listeners) {
        return findings;
    }
    let mappings = changes.iter().map(Change::mapping);
    let ports: HashSet<_> = mappings.flat_map(|m| [m.service.port, m.to.port()]).collect();
    name(&mut facts, &ports);
    foresee(changes, &facts)
}

/// Who listens, as far as it concerns these mappings and services; without the names of programs.
pub fn facts<'m>(
    kernel: &mut impl Kernel,
    mappings: impl Iterator<Item = &'m Mapping> + Clone,
    services: &[Service],
) -> Facts {
    let services = mappings.clone().map(|m| m.service).chain(services.iter().copied());
    let asked: BTreeSet<_> = services.map(|service| service.protocol).collect();
    let mut protocols: Vec<_> = asked.into_iter().flat_map(looked_at).collect();
    protocols.sort();
    protocols.dedup();
    let users: BTreeSet<_> = mappings.filter_map(|m| m.user.as_ref()).collect();
    let session = SshSession::current()
        // What the environment says may be of yesterday.
        .filter(|session| kernel.is_connected(session.server, session.client));
    Facts {
        listening: kernel.listening(&protocols),
        interfaces: network::interfaces().unwrap_or_default(),
        session,
        users: users
            .into_iter()
            .filter_map(|named| Some((named.clone(), user::standing(named).ok()?)))
            .collect(),
        firewalls: Firewalls::default(),
    }
}

/// Looks up the programs on these ports.
pub fn name(facts: &mut Facts, ports: &HashSet<Port>) {
    facts.listening.name(|listener| ports.contains(&listener.port));
}

/// TCP and UDP are often taken for each other.
fn looked_at(protocol: Protocol) -> Vec<Protocol> {
    match protocol {
        Protocol::Tcp | Protocol::Udp => vec![Protocol::Tcp, Protocol::Udp],
        other => vec![other],
    }
}
