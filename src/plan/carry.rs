//! Counters that move with their mapping when it must be made anew.

use std::collections::HashMap;

use crate::mapping::{Port, Selector, Service};
use crate::ruleset::{ChainName, Counter, Layer, Map, MapName, Observed, Rule, Target};

/// The counters that are not zero, by what they count: a service, for whom, to which port. A
/// mapping that starts to go elsewhere starts at zero.
#[derive(Clone, Debug, Default)]
pub struct Carried(HashMap<(Service, Selector, Port), Counter>);

impl Carried {
    /// Where a mapping stands in both layers the active one's counter is taken.
    pub fn from(observed: &Observed) -> Self {
        let mut carried = Self::default();
        for layer in [Layer::Trial, Layer::Active] {
            carried.add_elements(observed, layer);
            carried.add_rules(observed, layer);
        }
        carried
    }

    pub fn element(&self, map: MapName, service: Service, target: &Target) -> Option<Counter> {
        if self.0.is_empty() {
            return None;
        }
        let MapName::Ports(Layer::Active, scope, family) = map else { return None };
        self.0.get(&(service, Selector::of(scope, family), target.to)).copied()
    }

    pub fn rule(&self, chain: ChainName, rule: &Rule) -> Counter {
        let (ChainName::Service(Layer::Active, _), Rule::Select(m)) = (chain, rule) else {
            return Counter::default();
        };
        self.0.get(&(m.service, m.selector.clone(), m.to)).copied().unwrap_or_default()
    }

    fn add_elements(&mut self, observed: &Observed, layer: Layer) {
        for (&(name, service), &counter) in &observed.counters.elements {
            let MapName::Ports(of, scope, family) = name else { continue };
            let Some(Map::Ports(elements)) = observed.ruleset.maps.get(&name) else { continue };
            let found = elements.binary_search_by_key(&service, |(service, _)| *service);
            if let (true, Ok(at)) = (of == layer, found) {
                let selector = Selector::of(scope, family);
                self.0.insert((service, selector, elements[at].1.to), counter);
            }
        }
    }

    fn add_rules(&mut self, observed: &Observed, layer: Layer) {
        for (&(chain, position), &counter) in &observed.counters.rules {
            let rules = observed.ruleset.chains.get(&chain);
            let rule = rules.and_then(|rules| rules.get(position));
            if let (ChainName::Service(of, _), Some(Rule::Select(m))) = (chain, rule)
                && of == layer
            {
                self.0.insert((m.service, m.selector.clone(), m.to), counter);
            }
        }
    }
}
