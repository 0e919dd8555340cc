//! All entries together: one [`MappingSet`], and where entries contradict each other.

use std::collections::HashSet;

use crate::mapping::{Family, Mapping, MappingSet, Protocol, Scope, Selector, Service, Target};

use super::agreement;
use super::entry::{Candidate, Entry};
use super::report::{Complaint, Concern, Report, grouped};

/// Mappings of all files: each port of each protocol three times over.
const MAPPINGS_MAX: usize = 1_000_000;

/// Mappings of one service, which the kernel tries one after the other.
const SELECTORS_MAX: usize = 256;

/// Merges the entries; `None` if there are too many mappings to hold.
pub(super) fn resolve(entries: &[Entry], report: &mut Report) -> Option<MappingSet> {
    let mut candidates = expand(entries, report)?;
    candidates.sort_by_key(|candidate| candidate.mapping.service);
    let mut check = Check { entries, reported: HashSet::new(), report };
    check.groups(&candidates);
    check.chains(&candidates);
    agreement::check(entries, &candidates, report);
    Some(set_of(candidates))
}

/// Merges the entries, and finds only what no table could express.
pub(super) fn merge(entries: &[Entry], report: &mut Report) -> Option<MappingSet> {
    let mut candidates = expand(entries, report)?;
    candidates.sort_by_key(|candidate| candidate.mapping.service);
    agreement::check(entries, &candidates, report);
    Some(set_of(candidates))
}

fn set_of(candidates: Vec<Candidate>) -> MappingSet {
    MappingSet::new(candidates.into_iter().map(|candidate| candidate.mapping).collect())
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
    for (port, to) in entry.ports.iter().zip(entry.to.iter()) {
        for protocol in entry.protocols.iter() {
            for selector in entry.selectors.iter() {
                let mapping = Mapping {
                    service: Service { protocol, port },
                    selector: selector.clone(),
                    to: Target::new(to),
                    comment: entry.comment.clone(),
                    user: entry.user.clone(),
                    direct: entry.direct,
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
            // Ranges bring many services with the same entries.
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
        let complaint = Complaint::new(message).help("combine those with the same target into one");
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
                .help("keep one of them, or give them selectors: scope, families, interfaces, …")
                .related(first, "first mapped here")
        } else {
            Complaint::new(format!(
                "this entry is never used: an earlier one matches all of {service}"
            ))
            .help("the first match wins: put the more specific entry first")
            .related(first, format!("{service} is matched here"))
        };
        self.report.error(self.entries[candidate.entry as usize].spot, complaint);
    }

    /// A port that is mapped to itself is only useful as an exception from a later entry.
    fn identity(&mut self, candidate: &Candidate, later: &[Candidate]) {
        let Mapping { service, to, ref selector, .. } = candidate.mapping;
        let excepts = later.iter().any(|l| selector.overlaps(&l.mapping.selector));
        if to.port() != service.port || excepts {
            return;
        }
        if self.reported.insert((candidate.entry, candidate.entry)) {
            let spot = self.entries[candidate.entry as usize].spot;
            self.report.warn(Concern::DoesNothing, spot, || {
                Complaint::new(format!("{service} is mapped to itself, which has no effect"))
                    .help("remove the entry")
            });
        }
    }

    /// Finds targets that are mapped themselves. There are no chains: a connection is translated
    /// once. It does not matter how the two mappings are written: as entries, as a swap or within
    /// one range.
    fn chains(&mut self, candidates: &[Candidate]) {
        let mapped = Services::of(candidates);
        for candidate in candidates {
            let Mapping { service, to, .. } = candidate.mapping;
            let next = Service { protocol: service.protocol, port: to.port() };
            if to.port() != service.port && mapped.contains(next) {
                self.chain(candidate, of_service(candidates, next));
            }
        }
    }

    fn chain(&mut self, candidate: &Candidate, next: &[Candidate]) {
        let Mapping { service, to, ref selector, .. } = candidate.mapping;
        let is_chain =
            |next: &&Candidate| next.mapping.to != to && next.mapping.selector.overlaps(selector);
        let Some(next) = next.iter().find(is_chain) else { return };
        if !self.reported.insert((candidate.entry, next.entry)) {
            return;
        }
        let end = next.mapping.to;
        let message = format!("{service} is mapped to {to}, which is mapped to {end} itself");
        let ports = self.entries[candidate.entry as usize].ports;
        let help = match end.port() == service.port {
            _ if ports.span() > 0 => {
                "a connection is translated once: choose a target range that no entry maps"
                    .to_owned()
            }
            true => "a target cannot be mapped itself: choose one that no entry maps".to_owned(),
            false => format!(
                "a connection is translated once: write `{end}` here if that is meant, otherwise \
                 choose a target that no entry maps"
            ),
        };
        let complaint = Complaint::new(message).help(help).related(
            self.entries[next.entry as usize].spot,
            format!("{to} is mapped to {end} here"),
        );
        self.report.error(self.entries[candidate.entry as usize].to_spot, complaint);
    }
}

fn of_service(candidates: &[Candidate], service: Service) -> &[Candidate] {
    let start = candidates.partition_point(|c| c.mapping.service < service);
    let len = candidates[start..].partition_point(|c| c.mapping.service == service);
    &candidates[start..start + len]
}

/// The combinations of a scope and a family that earlier mappings without further conditions match.
#[derive(Default)]
struct Taken(u8);

impl Taken {
    fn of(selector: &Selector) -> u8 {
        let scopes = match selector.scope() {
            Scope::Both => 0b1111,
            Scope::External => 0b0011,
            Scope::Local => 0b1100,
        };
        let families = match selector.family() {
            Family::Both => 0b1111,
            Family::Ipv4 => 0b0101,
            Family::Ipv6 => 0b1010,
        };
        scopes & families
    }

    fn add(&mut self, selector: &Selector) {
        if selector.matches().is_none() {
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
