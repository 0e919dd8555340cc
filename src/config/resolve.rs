//! What all entries ask together: one [`MappingSet`], and where they contradict each other.

use std::collections::HashSet;

use crate::mapping::{Family, Mapping, MappingSet, Port, Protocol, Scope, Selector, Service};

use super::Facts;
use super::entry::Entry;
use super::report::{Complaint, Concern, Report, grouped};

/// Mappings of all files: each port of each protocol three times over.
const MAPPINGS_MAX: usize = 1_000_000;

/// Mappings of one service, which the kernel tries one after the other.
const SELECTORS_MAX: usize = 256;

/// A mapping and the index of the entry that asks for it.
struct Candidate {
    mapping: Mapping,
    entry: u32,
}

/// Warns of entries that are sound but perhaps not meant.
pub(super) fn warn(entries: &[Entry], facts: &Facts, report: &mut Report) {
    for entry in entries {
        let targets = entry.targets();
        let is_identity = targets.first == entry.ports.first;
        if entry.ports.first.get() >= facts.unprivileged_start {
            report.warn(Concern::NeedsNoPrivilege, entry.spot, || needs_no_privilege(entry));
        }
        if is_identity {
            continue;
        }
        if targets.first.get() < facts.unprivileged_start {
            report.warn(Concern::PrivilegedTarget, entry.to_spot, || {
                Complaint::new(format!("whoever listens on {targets} needs privilege for it"))
                    .help(format!("choose a target from {} on", facts.unprivileged_start))
            });
        }
        let (low, high) = (*facts.ephemeral.start(), *facts.ephemeral.end());
        if targets.last.get() >= low && targets.first.get() <= high {
            report.warn(Concern::EphemeralTarget, entry.to_spot, || {
                ephemeral(&targets.to_string(), low, high)
            });
        }
    }
}

fn needs_no_privilege(entry: &Entry) -> Complaint {
    let (ports, verb) = (entry.ports, if entry.ports.span() == 0 { "needs" } else { "need" });
    Complaint::new(format!("{ports} {verb} no privilege: anyone may listen there"))
        .help(format!("let the application listen on {ports} itself, if it can"))
}

fn ephemeral(targets: &str, low: u16, high: u16) -> Complaint {
    let message = format!("{targets} is in the ephemeral range {low}-{high}");
    Complaint::new(format!("{message}: an outgoing connection may take it first")).help(format!(
        "choose a target outside, or reserve it: `sysctl net.ipv4.ip_local_reserved_ports={targets}`"
    ))
}

/// Merges the entries; `None` if there are too many mappings to hold.
pub(super) fn resolve(entries: &[Entry], report: &mut Report) -> Option<MappingSet> {
    let mut candidates = expand(entries, report)?;
    candidates.sort_by_key(|candidate| candidate.mapping.service);
    let mut check = Check { entries, reported: HashSet::new(), report };
    check.groups(&candidates);
    check.chains(&candidates);
    Some(MappingSet::new(candidates.into_iter().map(|candidate| candidate.mapping).collect()))
}

fn expand(entries: &[Entry], report: &mut Report) -> Option<Vec<Candidate>> {
    let count = |entry: &Entry| {
        let ports = usize::from(entry.ports.span()) + 1;
        ports * entry.protocols.iter().count() * entry.selectors.len()
    };
    let mut total = 0;
    for entry in entries {
        total += count(entry);
        if total > MAPPINGS_MAX {
            let message = format!("more than {} mappings", grouped(MAPPINGS_MAX));
            report.error(entry.spot, Complaint::new(message).help("use fewer or smaller ranges"));
            return None;
        }
    }
    let mut candidates = Vec::with_capacity(total);
    for (index, entry) in entries.iter().enumerate() {
        expand_entry(entry, index as u32, &mut candidates);
    }
    Some(candidates)
}

fn expand_entry(entry: &Entry, index: u32, into: &mut Vec<Candidate>) {
    let pairs = (entry.ports.first.get()..=entry.ports.last.get())
        .zip(entry.to.get()..=u16::MAX)
        .filter_map(|(port, to)| Some((Port::new(port)?, Port::new(to)?)));
    for (port, to) in pairs {
        for protocol in entry.protocols.iter() {
            for selector in entry.selectors.iter() {
                let mapping = Mapping {
                    service: Service { protocol, port },
                    selector: selector.clone(),
                    to,
                    comment: entry.comment.clone(),
                };
                into.push(Candidate { mapping, entry: index });
            }
        }
    }
}

struct Check<'c> {
    entries: &'c [Entry],
    /// Pairs of entries whose conflict is reported: ranges conflict once, not at every port.
    reported: HashSet<(u32, u32)>,
    report: &'c mut Report,
}

impl Check<'_> {
    /// Checks the mappings of each service against each other.
    fn groups(&mut self, candidates: &[Candidate]) {
        let mut previous: &[Candidate] = &[];
        for group in candidates.chunk_by(|a, b| a.mapping.service == b.mapping.service) {
            // Ranges bring many services that the same entries ask for.
            let is_known = group.len() == previous.len()
                && group.iter().zip(previous).all(|(a, b)| a.entry == b.entry);
            if !is_known {
                self.group(group);
            }
            previous = group;
        }
    }

    fn group(&mut self, group: &[Candidate]) {
        if group.len() > SELECTORS_MAX {
            return self.too_many(group);
        }
        let mut taken = Taken::default();
        for (i, candidate) in group.iter().enumerate() {
            let selector = &candidate.mapping.selector;
            let by_one = group[..i].iter().find(|e| e.mapping.selector.covers(selector));
            if let Some(earlier) = by_one {
                self.unreachable(candidate, earlier);
            } else if taken.covers(selector) {
                self.unreachable(candidate, &group[i - 1]);
            }
            taken.add(selector);
            self.identity(candidate, &group[i + 1..]);
        }
    }

    fn too_many(&mut self, group: &[Candidate]) {
        let candidate = &group[SELECTORS_MAX];
        let message =
            format!("{} has more than {SELECTORS_MAX} mappings", candidate.mapping.service);
        let complaint = Complaint::new(message).help("join those with the same target");
        self.report.error(self.entries[candidate.entry as usize].spot, complaint);
    }

    fn unreachable(&mut self, candidate: &Candidate, earlier: &Candidate) {
        if !self.reported.insert((earlier.entry, candidate.entry)) {
            return;
        }
        let service = candidate.mapping.service;
        let first = self.entries[earlier.entry as usize].spot;
        let complaint = if earlier.mapping.selector == candidate.mapping.selector {
            Complaint::new(format!("{service} is mapped twice"))
                .help("keep one of them, or tell them apart by scope, families, interfaces, …")
                .related(first, "first mapped here")
        } else {
            Complaint::new(format!("{service} never gets here: an entry before takes it all"))
                .help("the first that matches wins: put the more special one before")
                .related(first, format!("{service} is taken here"))
        };
        self.report.error(self.entries[candidate.entry as usize].spot, complaint);
    }

    /// A port that goes to itself is only of use as an exception from a later entry.
    fn identity(&mut self, candidate: &Candidate, later: &[Candidate]) {
        let Mapping { service, to, ref selector, .. } = candidate.mapping;
        let excepts = later.iter().any(|l| selector.overlaps(&l.mapping.selector));
        if to != service.port || excepts {
            return;
        }
        if self.reported.insert((candidate.entry, candidate.entry)) {
            let spot = self.entries[candidate.entry as usize].spot;
            self.report.warn(Concern::DoesNothing, spot, || {
                Complaint::new(format!("{service} goes to itself, which does nothing"))
                    .help("remove the entry")
            });
        }
    }

    /// Finds targets that another entry sends on.
    fn chains(&mut self, candidates: &[Candidate]) {
        let mapped = Services::of(candidates);
        for candidate in candidates {
            let Mapping { service, to, .. } = candidate.mapping;
            let next = Service { protocol: service.protocol, port: to };
            if to != service.port && mapped.contains(next) {
                self.chain(candidate, of_service(candidates, next));
            }
        }
    }

    fn chain(&mut self, candidate: &Candidate, next: &[Candidate]) {
        let Mapping { service, to, ref selector, .. } = candidate.mapping;
        let is_chain = |next: &&Candidate| {
            let Mapping { to: end, selector: ref other, .. } = next.mapping;
            let is_exchange = end == service.port;
            next.entry != candidate.entry && end != to && !is_exchange && other.overlaps(selector)
        };
        let Some(next) = next.iter().find(is_chain) else { return };
        if !self.reported.insert((candidate.entry, next.entry)) {
            return;
        }
        let end = next.mapping.to;
        let message = format!("{service} goes to {to} and stays there, it does not go on to {end}");
        let complaint = Complaint::new(message)
            .help(format!(
                "a connection is redirected once: write `{end}` here if that is meant, or let \
                 {service} go to a port that no entry redirects"
            ))
            .related(self.entries[next.entry as usize].spot, format!("{to} goes to {end} here"));
        self.report.error(self.entries[candidate.entry as usize].to_spot, complaint);
    }
}

fn of_service(candidates: &[Candidate], service: Service) -> &[Candidate] {
    let start = candidates.partition_point(|c| c.mapping.service < service);
    let len = candidates[start..].partition_point(|c| c.mapping.service == service);
    &candidates[start..start + len]
}

/// The combinations of a scope and a family that earlier mappings without further conditions take.
#[derive(Default)]
struct Taken(u8);

impl Taken {
    fn of(selector: &Selector) -> u8 {
        let scopes = match selector.scope {
            Scope::Both => 0b1111,
            Scope::External => 0b0011,
            Scope::Local => 0b1100,
        };
        let families = match selector.family {
            Family::Both => 0b1111,
            Family::Ipv4 => 0b0101,
            Family::Ipv6 => 0b1010,
        };
        scopes & families
    }

    fn add(&mut self, selector: &Selector) {
        if selector.matches.is_none() {
            self.0 |= Self::of(selector);
        }
    }

    fn covers(&self, selector: &Selector) -> bool {
        Self::of(selector) & !self.0 == 0
    }
}

/// A set of services, a bit for each.
struct Services(Vec<u64>);

impl Services {
    fn of(candidates: &[Candidate]) -> Self {
        let mut set = Self(vec![0; Protocol::ALL.len() << 10]);
        for candidate in candidates {
            let (word, bit) = Self::place(candidate.mapping.service);
            set.0[word] |= bit;
        }
        set
    }

    fn contains(&self, service: Service) -> bool {
        let (word, bit) = Self::place(service);
        self.0[word] & bit != 0
    }

    fn place(service: Service) -> (usize, u64) {
        let index = (service.protocol as usize) << 16 | usize::from(service.port.get());
        (index >> 6, 1 << (index & 63))
    }
}
