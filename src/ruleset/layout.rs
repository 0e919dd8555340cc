//! From a mapping to the table, and back.

use std::time::Duration;

use super::checks::{self, Checks};
use super::{ChainName, Gate, Hook, Layer, Map, MapName, PortData, Rule, Ruleset, Stamp};
use crate::mapping::changes::differing_services;
use crate::mapping::{Direct, Family, Mapping, MappingSet, Scope, Selector, Service, is_disjoint};

/// A second mapping that answers while the gate is open.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    pub mapping: &'a MappingSet,
    /// How long the kernel keeps the gate open.
    pub time: Duration,
    /// Whether its connectionless flows are tracked in a zone of their own. Without one, a client
    /// that keeps sending stays with the trial when it is over; but a kernel may have no zones.
    pub zone: bool,
}

/// The table that should be in the kernel. That of no mapping does nothing, but lets connections
/// which were translated go on.
pub fn desired(mapping: &MappingSet, trial: Option<Trial<'_>>, stamp: Option<Stamp>) -> Ruleset {
    let mut ruleset = Ruleset::default();
    lay(&mut ruleset, Layer::Active, mapping);
    if let Some(trial) = trial {
        lay(&mut ruleset, Layer::Trial, trial.mapping);
        ruleset.gate = Some(Gate { timeout: trial.time, left: trial.time });
        if trial.zone {
            lay_zone(&mut ruleset, mapping, trial.mapping);
        }
    }
    if ruleset.maps.is_empty() {
        // Not the chains but the rules that translate keep connection tracking awake
        // (`nf_ct_netns_get` in `nft_nat_init`), and without it nothing is translated.
        let name = MapName::Ports(Layer::Active, Scope::Both, Family::Both);
        ruleset.maps.insert(name, Map::empty(name));
    }
    for hook in Hook::ALL {
        let stamp = stamp.filter(|_| hook == Hook::Prerouting);
        let mut rules = vec![Rule::ForThisHost(stamp), Rule::OnlyNewTcp];
        if trial.is_some() {
            rules.push(Rule::Gate(ChainName::Hook(Layer::Trial, hook)));
            let lookups = lookups(&ruleset, Layer::Trial, hook);
            ruleset.chains.insert(ChainName::Hook(Layer::Trial, hook), lookups);
        }
        rules.extend(lookups(&ruleset, Layer::Active, hook));
        ruleset.chains.insert(ChainName::Hook(Layer::Active, hook), rules);
    }
    checks::lay(&mut ruleset, mapping, trial.map(|trial| trial.mapping));
    ruleset
}

/// Puts the maps and the services' chains of one layer into the table.
fn lay(ruleset: &mut Ruleset, layer: Layer, mapping: &MappingSet) {
    let mut selected = Vec::new();
    for group in mapping.services() {
        let service = group[0].service;
        if is_disjoint(group) {
            for m in group {
                let name = MapName::Ports(layer, m.selector.scope(), m.selector.family());
                let map = ruleset.maps.entry(name).or_insert_with(|| Map::Ports(Vec::new()));
                if let Map::Ports(elements) = map {
                    let target = PortData { to: m.to, comment: m.comment.clone() };
                    elements.push((service, target));
                }
            }
        } else {
            selected.push(service);
            // The filter chains' sets know the rest.
            let plain = |m: Mapping| Mapping { user: None, direct: Direct::Allow, ..m };
            let rules = group.iter().cloned().map(|m| Rule::Select(Box::new(plain(m)))).collect();
            ruleset.chains.insert(ChainName::Service(layer, service), rules);
        }
    }
    if !selected.is_empty() {
        ruleset.maps.insert(MapName::Selected(layer), Map::Selected(selected));
    }
}

/// Flows of connections are never tracked apart: a connection from before must go on.
fn lay_zone(ruleset: &mut Ruleset, mapping: &MappingSet, trial: &MappingSet) {
    let mut services = differing_services(mapping, trial);
    services.retain(|service| service.protocol.is_connectionless());
    if services.is_empty() {
        return;
    }
    ruleset.maps.insert(MapName::Zoned, Map::Services(services));
    for hook in Hook::ALL {
        ruleset.chains.insert(ChainName::Zone(hook), vec![Rule::Zone]);
    }
}

/// The rules of one hook that consult the maps of one layer. The order among them cannot matter,
/// as no connection is meant by two maps; the one with the plain entries is the first.
pub(super) fn lookups(ruleset: &Ruleset, layer: Layer, hook: Hook) -> Vec<Rule> {
    let mut rules = Vec::new();
    for name in ruleset.maps.keys().filter(|name| name.layer() == layer) {
        match name {
            MapName::Ports(_, scope, _) if scope.covers(hook.scope()) => {
                rules.push(Rule::Lookup(*name));
            }
            MapName::Ports(..) => {}
            MapName::Selected(_) => rules.push(Rule::Dispatch(layer)),
            MapName::Zoned | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => {}
        }
    }
    rules
}

impl Ruleset {
    /// The mapping that a layer carries: the inverse of [`desired`].
    pub fn mapping(&self, layer: Layer) -> MappingSet {
        let plain = self.maps.iter().filter(|(name, _)| name.layer() == layer).flat_map(
            |(name, map)| match (name, map) {
                (MapName::Ports(_, scope, family), Map::Ports(elements)) => {
                    plain_mappings(*scope, *family, elements)
                }
                _ => Vec::new(),
            },
        );
        let selected = self.maps.get(&MapName::Selected(layer)).into_iter().flat_map(|map| {
            let services: &[Service] = match map {
                Map::Selected(services) => services,
                Map::Ports(_) | Map::Services(_) | Map::Answers(_) => &[],
            };
            services.iter().flat_map(|s| self.chains.get(&ChainName::Service(layer, *s))).flatten()
        });
        let selected = selected.filter_map(|rule| match rule.modern() {
            Rule::Select(mapping) => Some((**mapping).clone()),
            _ => None,
        });
        let checks = Checks::of(self, layer);
        MappingSet::new(plain.chain(selected).map(|m| checks.complete(m)).collect())
    }

    /// The gate, if the active layer is behind it. A gate that no rule names is what remains of a
    /// trial that has ended.
    pub fn trial_gate(&self) -> Option<Gate> {
        let named = Hook::ALL.into_iter().any(|hook| {
            let rules = self.chains.get(&ChainName::Hook(Layer::Active, hook));
            rules.into_iter().flatten().any(|rule| matches!(rule, Rule::Gate(_)))
        });
        self.gate.filter(|_| named)
    }

    /// Whether flows of a trial are tracked in a zone of their own.
    pub fn has_zone(&self) -> bool {
        self.maps.contains_key(&MapName::Zoned)
    }

    /// Whether rules of an earlier build translate the address too.
    pub fn redirects(&self) -> bool {
        self.chains.values().flatten().any(|rule| matches!(rule, Rule::Redirect(_)))
    }

    /// This table, with all that another one holds of a trial.
    pub fn with_trial_of(&self, other: &Ruleset) -> Ruleset {
        let mut with = Ruleset { gate: other.gate, ..self.clone() };
        let maps = other.maps.iter().filter(|(name, _)| name.layer() == Layer::Trial);
        with.maps.extend(maps.map(|(name, map)| (*name, map.clone())));
        let chains = other.chains.iter().filter(|(name, _)| name.layer() == Layer::Trial);
        with.chains.extend(chains.map(|(name, rules)| (*name, rules.clone())));
        with
    }

    /// The stamp that the table carries.
    pub fn stamp(&self) -> Option<Stamp> {
        let rules = self.chains.get(&ChainName::Hook(Layer::Active, Hook::Prerouting))?;
        rules.iter().find_map(|rule| match rule {
            Rule::ForThisHost(stamp) => *stamp,
            _ => None,
        })
    }
}

fn plain_mappings(scope: Scope, family: Family, elements: &[(Service, PortData)]) -> Vec<Mapping> {
    let mapping = |(service, target): &(Service, PortData)| Mapping {
        selector: Selector::of(scope, family),
        comment: target.comment.clone(),
        ..Mapping::new(*service, target.to)
    };
    elements.iter().map(mapping).collect()
}
