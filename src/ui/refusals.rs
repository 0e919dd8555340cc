//! What the filter chains have stopped, as far as the kernel counts it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::mapping::{Direct, Mapping, MappingSet, Service};
use crate::ruleset::{Counter, Layer, MapName, Observed};

/// What was stopped at one mapping. Mappings of a service to one target share the count of answers,
/// and those to one target that of direct packets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Refusals {
    /// Answers of other users; absent if any user may answer, null if they are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_answers: Option<Option<u64>>,
    /// Packets of other machines to the target; absent if they are let in, null if not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_directly: Option<Option<u64>>,
}

fn target(m: &Mapping) -> Service {
    Service { port: m.to.port(), ..m.service }
}

impl Refusals {
    pub fn of(observed: &Observed, layer: Layer, m: &Mapping) -> Self {
        let counters = &observed.counters;
        let count = |set: MapName, counter: Option<&Counter>| {
            let counted = observed.shapes.get(&set).is_some_and(|shape| shape.counted);
            counted.then(|| counter.map_or(0, |counter| counter.packets))
        };
        let (guarded, hidden) = (MapName::Guarded(layer), MapName::Hidden(layer));
        let dropped = counters.dropped.get(&(layer, m.service, m.to));
        let refused = counters.elements.get(&(hidden, target(m)));
        Self {
            dropped_answers: m.user.is_some().then(|| count(guarded, dropped)),
            refused_directly: (m.direct == Direct::Refuse).then(|| count(hidden, refused)),
        }
    }
}

/// `80/tcp: 3 answers of users who may not answer were dropped`, for whatever was stopped at all. Not
/// by name: the count goes on where the mapping gets another user.
pub fn sentences(observed: &Observed, layer: Layer, serving: &MappingSet) -> Vec<String> {
    let (mut dropped, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for m in serving {
        let Refusals { dropped_answers, refused_directly } = Refusals::of(observed, layer, m);
        if let Some(Some(count @ 1..)) = dropped_answers {
            dropped.insert((m.service, m.to), count);
        }
        if let Some(Some(count @ 1..)) = refused_directly {
            refused.insert(target(m), count);
        }
    }
    let dropped = dropped.into_iter().map(|((service, _), count)| {
        let (answers, were) = if count == 1 { ("answer", "was") } else { ("answers", "were") };
        format!("{service}: {count} {answers} of users who may not answer {were} dropped")
    });
    let refused = refused.into_iter().map(|(target, count)| {
        let (attempts, were) = if count == 1 { ("attempt", "was") } else { ("attempts", "were") };
        format!("{target}: {count} {attempts} of other machines to use it directly {were} refused")
    });
    dropped.chain(refused).collect()
}
