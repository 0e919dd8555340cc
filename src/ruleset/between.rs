//! The table between two others, where one commit would lose packets.
//!
//! To the kernel a packet belongs to the generation in which its first rule was looked up, but the
//! elements of a map are those of the moment. A packet that comes to a map just after the commit
//! that took its element away finds nothing there, and by its rules it may not come to the map
//! where the element is now. So what moves is in both places for a moment: one commit adds it, and
//! when all packets that were under way have passed, another one takes it from its old place. A
//! target that changes within its map needs no such care: the kernel replaces it in one moment (from
//! Linux 6.17 on without a gap, `restart set lookup on base_seq change`).
//!
//! While a trial runs, all packets are in its layer. So it is the layer that stays for a moment: in
//! its old place of the first layer a service would be found by packets that the trial has already
//! sent elsewhere.
//!
//! Who may answer where a packet was sent before stays as it was, too.

use super::layout::lookups;
use super::{Answer, ChainName, Check, Hook, Layer, Map, MapName, Rule, Ruleset, Stamp, checks};
use crate::mapping::Service;
use crate::mapping::merge::{Side, merge};

impl Ruleset {
    /// The table to commit first on the way to this one, in which no trial runs; `None` if one
    /// commit is enough. Its stamp names no input: where it stays, because nobody made the second
    /// commit, that input is not in force.
    pub fn between(&self, before: &Ruleset) -> Option<Ruleset> {
        let mut between = if before.trial_gate().is_some_and(|gate| !gate.left.is_zero()) {
            self.with_last_of_trial(before)
        } else {
            let moved = self.moved(before);
            if moved.is_empty() {
                return None;
            }
            self.with_places(before, &moved)
        };
        between.keep_answers(before, self);
        for rule in between.chains.values_mut().flatten() {
            if let Rule::ForThisHost(Some(stamp)) = rule {
                *stamp = Stamp { input: None, ..*stamp };
            }
        }
        Some(between)
    }

    /// With the trial's layer of another table, to which no packet is sent any more. Packets leave
    /// the zone at once: what is looked up for it is missed by nobody.
    fn with_last_of_trial(&self, before: &Ruleset) -> Ruleset {
        let mut with = self.with_trial_of(before);
        with.maps.remove(&MapName::Zoned);
        with.chains.retain(|name, _| !matches!(name, ChainName::Zone(_)));
        for (_, rules) in with.chains.iter_mut().filter(|(name, _)| name.layer() == Layer::Trial) {
            *rules = modern(rules);
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

    /// Takes over who may answer for what is mapped no longer: a connection may still be on its way
    /// there.
    fn keep_answers(&mut self, before: &Ruleset, after: &Ruleset) {
        let sets = [MapName::Served(Layer::Active), MapName::Guarded(Layer::Active)];
        let old = sets.map(|set| before.maps.get(&set));
        if old == [None, None] {
            return;
        }
        let mapping = after.mapping(Layer::Active);
        let is_gone =
            |answer: &&Answer| mapping.of(answer.service).iter().all(|m| m.to != answer.to);
        for (set, old) in sets.into_iter().zip(old) {
            let Some(Map::Answers(old)) = old else { continue };
            let gone: Vec<_> = old.iter().filter(is_gone).cloned().collect();
            if gone.is_empty() {
                continue;
            }
            let map = self.maps.entry(set).or_insert_with(|| Map::empty(set));
            if let Map::Answers(answers) = map {
                answers.extend(gone);
                answers.sort();
            }
        }
        checks::lay_chains(self, Check::Answers, false);
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
