//! From a mapping to the table, and back.

use std::sync::Arc;
use std::time::Duration;

use super::{ChainName, Gate, Hook, Layer, Map, MapName, Rule, Ruleset, Stamp, Target};
use crate::mapping::{Family, Mapping, MappingSet, Scope, Selector, Service, is_disjoint};

/// A second mapping that answers while the gate is open.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    pub mapping: &'a MappingSet,
    /// How long the kernel keeps the gate open.
    pub time: Duration,
}

/// The table that should be in the kernel.
pub fn desired(mapping: &MappingSet, trial: Option<Trial<'_>>, stamp: Option<Stamp>) -> Ruleset {
    let mut ruleset = Ruleset::default();
    lay(&mut ruleset, Layer::Active, mapping);
    if let Some(trial) = trial {
        lay(&mut ruleset, Layer::Trial, trial.mapping);
        ruleset.gate = Some(Gate { timeout: trial.time, left: trial.time });
    }
    for hook in Hook::ALL {
        let mut rules = vec![Rule::ForThisHost(stamp.filter(|_| hook == Hook::Prerouting))];
        if trial.is_some() {
            rules.push(Rule::Gate(hook));
            let lookups = lookups(&ruleset, Layer::Trial, hook);
            ruleset.chains.insert(ChainName::Hook(Layer::Trial, hook), lookups);
        }
        rules.extend(lookups(&ruleset, Layer::Active, hook));
        ruleset.chains.insert(ChainName::Hook(Layer::Active, hook), rules);
    }
    ruleset
}

/// Puts the maps and the services' chains of one layer into the table.
fn lay(ruleset: &mut Ruleset, layer: Layer, mapping: &MappingSet) {
    let mut selected = Vec::new();
    for group in mapping.services() {
        let service = group[0].service;
        if is_disjoint(group) {
            for m in group {
                let name = MapName::Ports(layer, m.selector.scope, m.selector.family);
                let map = ruleset.maps.entry(name).or_insert_with(|| Map::Ports(Vec::new()));
                if let Map::Ports(elements) = map {
                    let target = Target { to: m.to, comment: m.comment.clone() };
                    elements.push((service, target));
                }
            }
        } else {
            selected.push(service);
            let rules = group.iter().cloned().map(|m| Rule::Select(Box::new(m))).collect();
            ruleset.chains.insert(ChainName::Service(layer, service), rules);
        }
    }
    if !selected.is_empty() {
        ruleset.maps.insert(MapName::Selected(layer), Map::Selected(selected));
    }
}

/// The rules of one hook that consult the maps of one layer. The order among them cannot matter,
/// as no connection is meant by two maps; the one with the plain entries is the first.
fn lookups(ruleset: &Ruleset, layer: Layer, hook: Hook) -> Vec<Rule> {
    let mut rules = Vec::new();
    for name in ruleset.maps.keys().filter(|name| name.layer() == layer) {
        match name {
            MapName::Ports(_, scope, _) if scope.covers(hook.scope()) => {
                rules.push(Rule::Lookup(*name));
            }
            MapName::Ports(..) => {}
            MapName::Selected(_) => rules.push(Rule::Dispatch(layer)),
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
                Map::Ports(_) => &[],
            };
            services.iter().flat_map(|s| self.chains.get(&ChainName::Service(layer, *s))).flatten()
        });
        let selected = selected.filter_map(|rule| match rule {
            Rule::Select(mapping) => Some((**mapping).clone()),
            _ => None,
        });
        MappingSet::new(plain.chain(selected).collect())
    }

    /// The gate, if it stands before the active layer. A gate that no rule asks is what remains of
    /// a trial that has ended.
    pub fn asked_gate(&self) -> Option<Gate> {
        let asked = Hook::ALL.into_iter().any(|hook| {
            let rules = self.chains.get(&ChainName::Hook(Layer::Active, hook));
            rules.into_iter().flatten().any(|rule| matches!(rule, Rule::Gate(_)))
        });
        self.gate.filter(|_| asked)
    }

    /// This table, with the trial of another one beside it that nobody asks any more; `None` if
    /// that one has no trial that runs.
    ///
    /// The way from a trial to the table without it leads over this one. To the kernel a packet
    /// belongs to the generation in which its first rule was looked up, but a map is looked up in
    /// the generation of that moment: one that was sent to the trial's layer just before it
    /// vanished would find the maps there empty, and be refused.
    pub fn beside_trial_of(&self, other: &Ruleset) -> Option<Ruleset> {
        let gate = other.asked_gate().filter(|gate| !gate.left.is_zero())?;
        let mut beside = Ruleset { gate: Some(gate), ..self.clone() };
        let maps = other.maps.iter().filter(|(name, _)| name.layer() == Layer::Trial);
        beside.maps.extend(maps.map(|(name, map)| (*name, map.clone())));
        let chains = other.chains.iter().filter(|(name, _)| name.layer() == Layer::Trial);
        beside.chains.extend(chains.map(|(name, rules)| (*name, rules.clone())));
        Some(beside)
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

fn plain_mappings(scope: Scope, family: Family, elements: &[(Service, Target)]) -> Vec<Mapping> {
    let mapping = |(service, target): &(Service, Target)| Mapping {
        service: *service,
        selector: Selector::of(scope, family),
        to: target.to,
        comment: target.comment.as_ref().map(Arc::clone),
    };
    elements.iter().map(mapping).collect()
}
