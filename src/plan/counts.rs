//! What was counted goes on being counted when a mapping is made anew.

use std::collections::HashMap;

use crate::mapping::{Selector, Service, Target};
use crate::ruleset::{Answer, ChainName, Counter, Layer, MapName, Observed, PortData, Rule};

/// The counters that are not zero, by what they count. A mapping that starts to go elsewhere starts
/// at zero. While a trial runs, connections are counted
/// in its layer; with its end the two counts become one.
#[derive(Clone, Debug, Default)]
pub struct OldCounts {
    counts: HashMap<Counted, Layers>,
    /// Whether the trial's layer goes.
    joins: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Counted {
    /// Connections to a service, for whom, to which port.
    Mapped(Service, Selector, Target),
    /// Answers to a service from a port, by other users than the one that may.
    Dropped(Service, Target),
    /// Attempts to use a target directly.
    Refused(Service),
}

#[derive(Clone, Copy, Debug, Default)]
struct Layers {
    active: Counter,
    trial: Counter,
}

impl OldCounts {
    /// `joins`: no trial is to run after.
    pub fn from(observed: &Observed, joins: bool) -> Self {
        let mut carried = Self { counts: HashMap::new(), joins };
        carried.add_elements(observed);
        carried.add_answers(observed);
        carried.add_rules(observed);
        carried
    }

    /// What an element of a map starts with.
    pub fn element(&self, map: MapName, service: Service, target: &PortData) -> Option<Counter> {
        Some(self.start(map.layer(), self.of_element(map, service, target)?))
    }

    /// Whether an element that may stay has more to count than it knows.
    pub fn grows_element(&self, map: MapName, service: Service, target: &PortData) -> bool {
        self.grows(map.layer(), self.of_element(map, service, target))
    }

    /// The same of an element of a set of answers.
    pub fn answer(&self, set: MapName, answer: &Answer) -> Option<Counter> {
        Some(self.start(set.layer(), self.of_answer(set, answer)?))
    }

    pub fn grows_answer(&self, set: MapName, answer: &Answer) -> bool {
        self.grows(set.layer(), self.of_answer(set, answer))
    }

    /// The same of an element of a set of services.
    pub fn service(&self, set: MapName, service: Service) -> Option<Counter> {
        Some(self.start(set.layer(), self.of_service(set, service)?))
    }

    pub fn grows_service(&self, set: MapName, service: Service) -> bool {
        self.grows(set.layer(), self.of_service(set, service))
    }

    /// What a rule starts with.
    pub fn rule(&self, chain: ChainName, rule: &Rule) -> Counter {
        self.of_rule(rule).map(|counts| self.start(chain.layer(), counts)).unwrap_or_default()
    }

    /// Whether a rule that may stay has more to count than it knows.
    pub fn grows_rule(&self, chain: ChainName, rule: &Rule) -> bool {
        self.grows(chain.layer(), self.of_rule(rule))
    }

    fn start(&self, layer: Layer, counts: &Layers) -> Counter {
        match layer {
            Layer::Active if self.joins => sum(counts.active, counts.trial),
            Layer::Active => counts.active,
            Layer::Trial => counts.trial,
        }
    }

    fn grows(&self, layer: Layer, counts: Option<&Layers>) -> bool {
        let tried = counts.is_some_and(|counts| counts.trial != Counter::default());
        self.joins && layer == Layer::Active && tried
    }

    fn of_element(&self, map: MapName, service: Service, target: &PortData) -> Option<&Layers> {
        if self.counts.is_empty() {
            return None;
        }
        let MapName::Ports(_, scope, family) = map else { return None };
        self.counts.get(&Counted::Mapped(service, Selector::of(scope, family), target.to))
    }

    fn of_answer(&self, set: MapName, answer: &Answer) -> Option<&Layers> {
        let MapName::Guarded(_) = set else { return None };
        self.counts.get(&Counted::Dropped(answer.service, answer.to))
    }

    fn of_service(&self, set: MapName, service: Service) -> Option<&Layers> {
        let MapName::Hidden(_) = set else { return None };
        self.counts.get(&Counted::Refused(service))
    }

    fn of_rule(&self, rule: &Rule) -> Option<&Layers> {
        let Rule::Select(m) = rule.modern() else { return None };
        self.counts.get(&Counted::Mapped(m.service, m.selector.clone(), m.to))
    }

    fn add(&mut self, layer: Layer, counted: Counted, counter: Counter) {
        let counts = self.counts.entry(counted).or_default();
        match layer {
            Layer::Active => counts.active = sum(counts.active, counter),
            Layer::Trial => counts.trial = sum(counts.trial, counter),
        }
    }

    fn add_elements(&mut self, observed: &Observed) {
        for (&(name, service), &counter) in &observed.counters.elements {
            if let MapName::Hidden(layer) = name {
                self.add(layer, Counted::Refused(service), counter);
            }
            let MapName::Ports(layer, scope, family) = name else { continue };
            let selector = Selector::of(scope, family);
            let target = observed.ruleset.maps.get(&name).and_then(|map| map.target(service));
            if let Some(target) = target {
                self.add(layer, Counted::Mapped(service, selector, target.to), counter);
            }
        }
    }

    fn add_answers(&mut self, observed: &Observed) {
        for (&(layer, service, target), &counter) in &observed.counters.dropped {
            self.add(layer, Counted::Dropped(service, target), counter);
        }
    }

    fn add_rules(&mut self, observed: &Observed) {
        for (&(chain, position), &counter) in &observed.counters.rules {
            let rules = observed.ruleset.chains.get(&chain);
            let rule = rules.and_then(|rules| rules.get(position));
            if let (ChainName::Service(layer, _), Some(Rule::Select(m))) =
                (chain, rule.map(Rule::modern))
            {
                self.add(layer, Counted::Mapped(m.service, m.selector.clone(), m.to), counter);
            }
        }
    }
}

fn sum(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.saturating_add(b.packets), bytes: a.bytes.saturating_add(b.bytes) }
}
