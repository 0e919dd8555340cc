//! The mappings that serve, each with what is known of it at this moment.

use super::refusals::Refusals;
use crate::doctor::{Holder, holders};
use crate::engine::Status;
use crate::mapping::{Mapping, MappingSet};
use crate::ruleset::{ChainName, Counter, Layer, MapName, Observed};

/// A mapping with its counter, where the kernel keeps one.
pub struct Counted<'a> {
    pub mapping: &'a Mapping,
    pub counter: Option<Counter>,
    pub refusals: Refusals,
    /// Who listens at the target; `None` if that cannot be seen.
    pub holders: Option<Vec<Holder>>,
}

/// The layer that answers at this moment.
pub fn layer(status: &Status) -> Layer {
    if status.view.running().is_some() { Layer::Trial } else { Layer::Active }
}

/// What serves at this moment.
pub fn counted(status: &Status) -> Vec<Counted<'_>> {
    let layer = layer(status);
    let serving: &MappingSet = status.view.serving();
    let Some(observed) = status.view.observed() else { return Vec::new() };
    let holders = |m: &Mapping| {
        let protocol = m.service.protocol;
        let listening = &status.listening;
        listening.is_seen(protocol).then(|| holders(listening, protocol, m.to.port()))
    };
    serving
        .services()
        .flat_map(|group| group.iter().enumerate())
        .map(|(rank, mapping)| Counted {
            mapping,
            counter: counter(observed, layer, mapping, rank),
            refusals: Refusals::of(observed, layer, mapping),
            holders: holders(mapping),
        })
        .collect()
}

pub fn counter(observed: &Observed, layer: Layer, m: &Mapping, rank: usize) -> Option<Counter> {
    let chain = ChainName::Service(layer, m.service);
    if observed.ruleset.chains.contains_key(&chain) {
        return Some(observed.counters.rules.get(&(chain, rank)).copied().unwrap_or_default());
    }
    let map = MapName::Ports(layer, m.selector.scope(), m.selector.family());
    observed.shapes.get(&map).filter(|shape| shape.counted)?;
    Some(observed.counters.elements.get(&(map, m.service)).copied().unwrap_or_default())
}
