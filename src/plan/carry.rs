//! Counters that move with their mapping when it must be made anew.

use std::collections::HashMap;

use crate::mapping::{Port, Selector, Service};
use crate::ruleset::{ChainName, Counter, Layer, MapName, Observed, Rule, Target};

/// The counters that are not zero, by what they count: a service, for whom, to which port. A
/// mapping that starts to go elsewhere starts at zero. While a trial runs, connections are counted
/// in its layer; with its end the two counts become one.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    counts: HashMap<Counted, Carry>,
    /// Whether the trial's layer goes.
    joins: bool,
}

type Counted = (Service, Selector, Port);

#[derive(Clone, Copy, Debug, Default)]
struct Carry {
    active: Counter,
    trial: Counter,
}

impl Carried {
    /// `joins`: no trial is to run after.
    pub fn from(observed: &Observed, joins: bool) -> Self {
        let mut carried = Self { counts: HashMap::new(), joins };
        carried.add_elements(observed);
        carried.add_rules(observed);
        carried
    }

    /// What an element of a map starts with.
    pub fn element(&self, map: MapName, service: Service, target: &Target) -> Option<Counter> {
        Some(self.start(map.layer(), self.of_element(map, service, target)?))
    }

    /// Whether an element that may stay has more to count than it knows.
    pub fn grows_element(&self, map: MapName, service: Service, target: &Target) -> bool {
        self.grows(map.layer(), self.of_element(map, service, target))
    }

    /// What a rule starts with.
    pub fn rule(&self, chain: ChainName, rule: &Rule) -> Counter {
        self.of_rule(rule).map(|carry| self.start(chain.layer(), carry)).unwrap_or_default()
    }

    /// Whether a rule that may stay has more to count than it knows.
    pub fn grows_rule(&self, chain: ChainName, rule: &Rule) -> bool {
        self.grows(chain.layer(), self.of_rule(rule))
    }

    fn start(&self, layer: Layer, carry: &Carry) -> Counter {
        match layer {
            Layer::Active if self.joins => sum(carry.active, carry.trial),
            Layer::Active => carry.active,
            Layer::Trial => carry.trial,
        }
    }

    fn grows(&self, layer: Layer, carry: Option<&Carry>) -> bool {
        let tried = carry.is_some_and(|carry| carry.trial != Counter::default());
        self.joins && layer == Layer::Active && tried
    }

    fn of_element(&self, map: MapName, service: Service, target: &Target) -> Option<&Carry> {
        if self.counts.is_empty() {
            return None;
        }
        let MapName::Ports(_, scope, family) = map else { return None };
        self.counts.get(&(service, Selector::of(scope, family), target.to))
    }

    fn of_rule(&self, rule: &Rule) -> Option<&Carry> {
        let Rule::Select(m) = rule else { return None };
        self.counts.get(&(m.service, m.selector.clone(), m.to))
    }

    fn add(&mut self, layer: Layer, counted: Counted, counter: Counter) {
        let carry = self.counts.entry(counted).or_default();
        match layer {
            Layer::Active => carry.active = sum(carry.active, counter),
            Layer::Trial => carry.trial = sum(carry.trial, counter),
        }
    }

    fn add_elements(&mut self, observed: &Observed) {
        for (&(name, service), &counter) in &observed.counters.elements {
            let MapName::Ports(layer, scope, family) = name else { continue };
            let target = observed.ruleset.maps.get(&name).and_then(|map| map.target(service));
            if let Some(target) = target {
                self.add(layer, (service, Selector::of(scope, family), target.to), counter);
            }
        }
    }

    fn add_rules(&mut self, observed: &Observed) {
        for (&(chain, position), &counter) in &observed.counters.rules {
            let rules = observed.ruleset.chains.get(&chain);
            let rule = rules.and_then(|rules| rules.get(position));
            if let (ChainName::Service(layer, _), Some(Rule::Select(m))) = (chain, rule) {
                self.add(layer, (m.service, m.selector.clone(), m.to), counter);
            }
        }
    }
}

fn sum(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.saturating_add(b.packets), bytes: a.bytes.saturating_add(b.bytes) }
}
