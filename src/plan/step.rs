//! One operation on an object of our table.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::time::Duration;

use crate::mapping::Service;
use crate::ruleset::{
    Answer, ChainName, Counter, GATE, MapName, MapShape, PortData, Rule, TableName,
};

/// One operation on an object of a table of ours. The steps of a plan are committed in one transaction,
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
    /// A base chain or a regular one, as its name says ([`ChainName::base`]).
    AddChain(ChainName),
    /// An empty chain.
    DeleteChain(ChainName),
    /// Elements of a map of ports. A counter is given where one is carried over.
    AddPorts {
        map: MapName,
        elements: Vec<(Service, PortData, Option<Counter>)>,
    },
    /// Elements of a map to chains, each `goto` the chain of its service, or of a set of services.
    AddServices {
        map: MapName,
        services: Vec<(Service, Option<Counter>)>,
    },
    /// Elements of any map or set whose keys are services.
    DeleteElements {
        map: MapName,
        services: Vec<Service>,
    },
    /// Elements of a set of answers.
    AddAnswers {
        map: MapName,
        answers: Vec<(Answer, Option<Counter>)>,
    },
    DeleteAnswers {
        map: MapName,
        answers: Vec<Answer>,
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
            Step::DeleteElements { map: map @ MapName::Ports(..), services } => {
                Some((*map, services.clone()))
            }
            _ => None,
        }
    }
}

/// A step, as far as it is about these of its elements: what one message of it does.
pub struct Part<'a> {
    step: &'a Step,
    elements: Range<usize>,
    table: TableName,
}

impl Step {
    /// How many elements it brings or takes, as far as they can be many.
    pub fn element_count(&self) -> usize {
        match self {
            Step::AddPorts { elements, .. } => elements.len(),
            Step::AddServices { services, .. } => services.len(),
            Step::DeleteElements { services, .. } => services.len(),
            Step::AddAnswers { answers, .. } => answers.len(),
            Step::DeleteAnswers { answers, .. } => answers.len(),
            _ => 0,
        }
    }

    /// The step without all but these of its elements, for people. A single one is named.
    pub fn part(&self, elements: Range<usize>) -> Part<'_> {
        Part { step: self, elements, table: TableName::Main }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.part(0..self.element_count()).fmt(f)
    }
}

impl Display for Part<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::DeleteTable => write!(f, "delete table inet {}", self.table),
            Step::AddTable => write!(f, "add table inet {}", self.table),
            Step::AddMap { name, .. } => write!(f, "add {} {name}", name.kind()),
            Step::DeleteMap(name) => write!(f, "delete {} {name}", name.kind()),
            Step::AddGate => write!(f, "add set {GATE}"),
            Step::DeleteGate => write!(f, "delete set {GATE}"),
            Step::OpenGate { timeout } => {
                write!(f, "open set {GATE} for {} seconds", timeout.as_secs())
            }
            Step::ShutGate => write!(f, "empty set {GATE}"),
            Step::AddChain(name) => write!(f, "add chain {name}"),
            Step::DeleteChain(name) => write!(f, "delete chain {name}"),
            Step::AddPorts { map, elements } => {
                let text = |(service, data, _): &(Service, PortData, _)| {
                    format!("{service} -> {}", data.to)
                };
                write!(f, "add {} to map {map}", self.elements(elements, text))
            }
            Step::AddServices { map, services } => {
                let elements = self.elements(services, |(service, _)| service.to_string());
                write!(f, "add {elements} to {} {map}", map.kind())
            }
            Step::DeleteElements { map, services } => {
                let elements = self.elements(services, Service::to_string);
                write!(f, "delete {elements} from {} {map}", map.kind())
            }
            Step::AddAnswers { map, answers } => {
                let elements = self.elements(answers, |(answer, _)| in_words(answer));
                write!(f, "add {elements} to {} {map}", map.kind())
            }
            Step::DeleteAnswers { map, answers } => {
                let elements = self.elements(answers, in_words);
                write!(f, "delete {elements} from {} {map}", map.kind())
            }
            Step::AddRule { chain, rule, .. } => write!(f, "add to chain {chain}: {rule}"),
            Step::DeleteRule { chain, handle } => {
                write!(f, "delete rule (handle {handle}) from chain {chain}")
            }
        }
    }
}

/// `80/tcp -> 3000 by www-data`
fn in_words(answer: &Answer) -> String {
    let Answer { service, to, user } = answer;
    match user {
        Some(user) => format!("{service} -> {to} by {user}"),
        None => format!("{service} -> {to}"),
    }
}

impl Part<'_> {
    /// The same in another table than the one that files make.
    pub fn within(self, table: TableName) -> Self {
        Self { table, ..self }
    }

    fn elements<T>(&self, all: &[T], text: impl Fn(&T) -> String) -> String {
        match all.get(self.elements.clone()) {
            Some([one]) => format!("element {}", text(one)),
            _ => format!("{} elements", self.elements.len()),
        }
    }
}
