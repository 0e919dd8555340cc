//! The way from the table that is to the table that should be, as an ordered list of steps.
//!
//! The room is pure: a plan can be printed, compared and tested without a kernel.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::mapping::{Mapping, Service};
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
