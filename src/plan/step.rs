//! One operation on an object of our table.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::mapping::Service;
use crate::ruleset::{ChainName, Counter, GATE, Layer, MapName, MapShape, Rule, TABLE, Target};

/// One operation on an object of our table. The steps of a plan are committed in one transaction,
/// in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The table and all that is in it.
    DeleteTable,
    AddTable,
    AddMap {
        name: MapName,
        shape: MapShape,
    },
    DeleteMap(MapName),
    /// The set of the gate, without elements.
    AddGate,
    DeleteGate,
    /// The gate's elements (ipv4, ipv6), which live for `timeout`.
    OpenGate {
        timeout: Duration,
    },
    /// Those elements, whichever of them are left.
    ShutGate,
    /// A base chain if it is the active layer's `Hook`, else a regular one.
    AddChain(ChainName),
    /// An empty chain.
    DeleteChain(ChainName),
    /// Elements of a map of ports. A counter is given where one is carried over.
    AddPorts {
        map: MapName,
        elements: Vec<(Service, Target, Option<Counter>)>,
    },
    DeletePorts {
        map: MapName,
        services: Vec<Service>,
    },
    /// Elements of the verdict map, each `goto` the chain of its service.
    AddSelected {
        layer: Layer,
        services: Vec<Service>,
    },
    DeleteSelected {
        layer: Layer,
        services: Vec<Service>,
    },
    /// Appended, or put before the rule with the given handle.
    AddRule {
        chain: ChainName,
        before: Option<u64>,
        rule: Rule,
        counter: Counter,
    },
    DeleteRule {
        chain: ChainName,
        handle: u64,
    },
}

impl Step {
    /// The services whose elements in a map of ports it adds or deletes, and the map.
    pub fn ports(&self) -> Option<(MapName, Vec<Service>)> {
        match self {
            Step::AddPorts { map, elements } => {
                Some((*map, elements.iter().map(|(service, ..)| *service).collect()))
            }
            Step::DeletePorts { map, services } => Some((*map, services.clone())),
            _ => None,
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::DeleteTable => write!(f, "delete table inet {TABLE}"),
            Step::AddTable => write!(f, "add table inet {TABLE}"),
            Step::AddMap { name, .. } => write!(f, "add map {name}"),
            Step::DeleteMap(name) => write!(f, "delete map {name}"),
            Step::AddGate => write!(f, "add set {GATE}"),
            Step::DeleteGate => write!(f, "delete set {GATE}"),
            Step::OpenGate { timeout } => {
                write!(f, "open set {GATE} for {} seconds", timeout.as_secs())
            }
            Step::ShutGate => write!(f, "empty set {GATE}"),
            Step::AddChain(name) => write!(f, "add chain {name}"),
            Step::DeleteChain(name) => write!(f, "delete chain {name}"),
            Step::AddPorts { map, elements } => {
                write!(f, "add {} to map {map}", count(elements.len()))
            }
            Step::DeletePorts { map, services } => {
                write!(f, "delete {} from map {map}", count(services.len()))
            }
            Step::AddSelected { layer, services } => {
                write!(f, "add {} to map {}", count(services.len()), MapName::Selected(*layer))
            }
            Step::DeleteSelected { layer, services } => {
                let map = MapName::Selected(*layer);
                write!(f, "delete {} from map {map}", count(services.len()))
            }
            Step::AddRule { chain, rule, .. } => write!(f, "add to chain {chain}: {rule}"),
            Step::DeleteRule { chain, handle } => {
                write!(f, "delete rule (handle {handle}) from chain {chain}")
            }
        }
    }
}

fn count(elements: usize) -> String {
    match elements {
        1 => "1 element".to_owned(),
        n => format!("{n} elements"),
    }
}
