//! The table between two others, where one commit would lose packets.
//!
//! To the kernel a packet belongs to the generation in which its first rule was looked up, but the
//! elements of a map are those of the moment. A packet that comes to a map just after the commit
//! that took its element away finds nothing there, and by its rules it may not come to the map
//! where the element is now. So what moves is in both places for a moment: one commit adds it, and
//! when all packets that were under way have passed, another one takes it from its old place. A
//! target that changes within its map needs no such care.
//!
//! While a trial runs, all packets are in its layer. So it is the layer that stays for a moment, and
//! nothing else: in its old place of the first layer a service would be found by packets that the
//! trial has already sent elsewhere.

use super::layout::lookups;
use super::{ChainName, Hook, Layer, Map, MapName, Rule, Ruleset};
use crate::mapping::Service;
use crate::mapping::merge::{Side, merge};

impl Ruleset {
    /// The table to commit first on the way to this one, in which no trial runs; `None` if one
    /// commit is enough.
    pub fn between(&self, before: &Ruleset) -> Option<Ruleset> {
        if before.trial_gate().is_some_and(|gate| !gate.left.is_zero()) {
            return Some(self.with_last_of_trial(before));
        }
        let moved = self.moved(before);
        (!moved.is_empty()).then(|| self.with_places(before, &moved))
    }

    /// With the trial's layer of another table, to which no packet is sent any more.
    fn with_last_of_trial(&self, before: &Ruleset) -> Ruleset {
        let mut with = Ruleset { gate: before.gate, ..self.clone() };
        for (name, map) in &before.maps {
            // What is looked up for the zone is missed by nobody.
            if name.layer() == Layer::Trial && *name != MapName::Zoned {
                with.maps.insert(*name, map.clone());
            }
        }
        for (name, rules) in &before.chains {
            if name.layer() == Layer::Trial && !matches!(name, ChainName::Zone(_)) {
                with.chains.insert(*name, modern(rules));
            }
        }
        with
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

    /// With what is in these places of another table, and with rules that look there as well.
    fn with_places(&self, before: &Ruleset, places: &[(MapName, Service)]) -> Ruleset {
        let mut with = self.clone();
        for &(name, service) in places {
            let map = with.maps.entry(name).or_insert_with(|| Map::empty(name));
            match (map, before.maps.get(&name)) {
                (Map::Ports(elements), Some(old)) => {
                    elements.extend(old.target(service).map(|target| (service, target.clone())));
                }
                (Map::Selected(services), _) => {
                    services.push(service);
                    let chain = ChainName::Service(name.layer(), service);
                    let rules = before.chains.get(&chain).map(|rules| modern(rules));
                    with.chains.insert(chain, rules.unwrap_or_default());
                }
                _ => {}
            }
        }
        for map in with.maps.values_mut() {
            match map {
                Map::Ports(elements) => elements.sort_by_key(|(service, _)| *service),
                Map::Selected(services) => services.sort(),
                Map::Services(_) | Map::Answers(_) => {}
            }
        }
        for hook in Hook::ALL {
            let lookups = lookups(&with, Layer::Active, hook);
            let rules = with.chains.entry(ChainName::Hook(Layer::Active, hook)).or_default();
            rules.retain(|rule| !matches!(rule, Rule::Lookup(_) | Rule::Dispatch(_)));
            rules.extend(lookups);
        }
        with
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
