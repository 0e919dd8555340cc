//! The table between two others, where one commit would lose packets.
//!
//! To the kernel a packet belongs to the generation in which its first rule was looked up, but the
//! elements of a map are those of the moment. A packet that comes to a map just after the commit
//! that took its element away finds nothing there, and by its rules it may not come to the map
//! where the element is now. So what moves is in both places for a moment: one commit adds it, and
//! when all packets that were under way have passed, another one takes it from its old place. A
//! target that changes within its map needs no such care.

use super::layout::lookups;
use super::{ChainName, Hook, Layer, Map, MapName, Rule, Ruleset};
use crate::mapping::Service;
use crate::mapping::merge::{Side, merge};

impl Ruleset {
    /// The table to commit first on the way to this one, in which no trial runs; `None` if one
    /// commit is enough.
    pub fn between(&self, before: &Ruleset) -> Option<Ruleset> {
        let moved = self.moved(before);
        let trial = before.trial_gate().filter(|gate| !gate.left.is_zero());
        if trial.is_none() && moved.is_empty() {
            return None;
        }
        let mut between = Ruleset { gate: trial, ..self.clone() };
        if trial.is_some() {
            between.keep_trial_of(before);
        }
        if !moved.is_empty() {
            between.keep_places(before, &moved);
        }
        Some(between)
    }

    /// Takes over the trial's layer of another table, to which no packet is sent any more.
    fn keep_trial_of(&mut self, before: &Ruleset) {
        for (name, map) in &before.maps {
            // What is looked up for the zone is missed by nobody.
            if name.layer() == Layer::Trial && *name != MapName::Zoned {
                self.maps.insert(*name, map.clone());
            }
        }
        for (name, rules) in &before.chains {
            if name.layer() == Layer::Trial && !matches!(name, ChainName::Zone(_)) {
                self.chains.insert(*name, modern(rules));
            }
        }
    }

    /// What has a place among the active maps in both tables, but not all of its new ones yet,
    /// and not all of its old ones any more: by its old place.
    fn moved(&self, before: &Ruleset) -> Vec<(MapName, Service)> {
        let mut left = Vec::new();
        for (name, map) in before.places() {
            let now = self.maps.get(name).into_iter().flat_map(Map::services);
            let sides = merge(map.services(), now, |s| *s, |s| *s);
            left.extend(sides.filter_map(|side| match side {
                Side::Left(service) => Some((*name, service)),
                Side::Right(_) | Side::Both(..) => None,
            }));
        }
        left.retain(|(_, service)| {
            self.places().any(|(name, map)| {
                map.contains(*service)
                    && !before.maps.get(name).is_some_and(|map| map.contains(*service))
            })
        });
        left
    }

    /// Takes over what is in these places of another table, and looks it up there as well.
    fn keep_places(&mut self, before: &Ruleset, places: &[(MapName, Service)]) {
        for &(name, service) in places {
            let map = self.maps.entry(name).or_insert_with(|| Map::empty(name));
            match (map, before.maps.get(&name)) {
                (Map::Ports(elements), Some(old)) => {
                    elements.extend(old.target(service).map(|target| (service, target.clone())));
                }
                (Map::Selected(services), _) => {
                    services.push(service);
                    let chain = ChainName::Service(name.layer(), service);
                    let rules = before.chains.get(&chain).map(|rules| modern(rules));
                    self.chains.insert(chain, rules.unwrap_or_default());
                }
                _ => {}
            }
        }
        for map in self.maps.values_mut() {
            match map {
                Map::Ports(elements) => elements.sort_by_key(|(service, _)| *service),
                Map::Selected(services) => services.sort(),
                Map::Services(_) | Map::Answers(_) => {}
            }
        }
        for hook in Hook::ALL {
            let lookups = lookups(self, Layer::Active, hook);
            let rules = self.chains.entry(ChainName::Hook(Layer::Active, hook)).or_default();
            rules.retain(|rule| !matches!(rule, Rule::Lookup(_) | Rule::Dispatch(_)));
            rules.extend(lookups);
        }
    }

    /// The maps where an active mapping can be.
    fn places(&self) -> impl Iterator<Item = (&MapName, &Map)> {
        self.maps.iter().filter(|(name, _)| match name {
            MapName::Ports(layer, ..) | MapName::Selected(layer) => *layer == Layer::Active,
            _ => false,
        })
    }
}

impl Map {
    /// The services that it translates.
    fn services(&self) -> impl Iterator<Item = Service> {
        let (ports, selected): (&[_], &[_]) = match self {
            Map::Ports(elements) => (elements, &[]),
            Map::Selected(services) => (&[], services),
            Map::Services(_) | Map::Answers(_) => (&[], &[]),
        };
        ports.iter().map(|(service, _)| *service).chain(selected.iter().copied())
    }

    fn contains(&self, service: Service) -> bool {
        match self {
            Map::Ports(_) => self.target(service).is_some(),
            Map::Selected(services) => services.binary_search(&service).is_ok(),
            Map::Services(_) | Map::Answers(_) => false,
        }
    }
}

fn modern(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().map(Rule::modern).cloned().collect()
}
