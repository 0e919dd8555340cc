//! What is active, as a table or as one document.

mod runs;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::boot::NextBootJson;
use super::escape::visible;
use super::mapping::MappingJson;
use super::refusals::{self, Refusals};
use super::{JSON_VERSION, Table, Ui};
use crate::doctor::{Holder, holders};
use crate::engine::{Drift, Status, TrialStatus};
use crate::mapping::words::{clients, fold};
use crate::mapping::{GenerationId, Mapping, MappingSet, Point};
use crate::ruleset::{ChainName, Counter, Layer, MapName, Observed};

use runs::RunJson;

#[derive(Serialize)]
struct Document {
    version: u32,
    /// Whether our table is in the kernel.
    active: bool,
    generation: Option<GenerationId>,
    /// The generation that is persisted, whether anything restores it or not.
    persisted: Option<GenerationId>,
    /// What the next boot brings; null without history.
    boot: Option<NextBootJson>,
    trial: Option<TrialJson>,
    /// How the table differs from what portmap put there; null if it does not, or if that is
    /// not known.
    drift: Option<String>,
    foreign: Vec<String>,
    /// What of the history cannot be read.
    problems: Vec<String>,
    mappings: Vec<Entry>,
    /// What lives with a command, and takes precedence.
    runs: Vec<RunJson>,
}

#[derive(Serialize)]
struct TrialJson {
    generation: Option<GenerationId>,
    /// 0 if the time is up and the mapping from before serves again.
    left_seconds: f64,
}

#[derive(Serialize)]
struct Entry {
    port: u16,
    protocol: &'static str,
    #[serde(flatten)]
    mapping: MappingJson,
    #[serde(flatten)]
    refusals: Refusals,
    /// Connections, as the kernel's NAT sees each once; null where a map is too large to count.
    connections: Option<u64>,
    bytes: Option<u64>,
    /// Who listens at the target; null if that cannot be seen.
    listeners: Option<Vec<Value>>,
}

impl Ui {
    pub fn status(&self, status: &Status) -> Result<()> {
        let counted = counted(status);
        if self.is_json() {
            return self.print_json(&document(status, &counted));
        }
        if status.view.observed().is_none() {
            let nothing = if status.runs.is_empty() { "nothing" } else { "nothing lasting" };
            self.say(format_args!("{nothing} is mapped: the kernel has no table inet portmap"))?;
            if let Some(number) = status.lost {
                self.note(format_args!(
                    "generation {number} was active; a reboot or another program has removed it, \
                     and `portmap rollback --to {number}` puts it back"
                ));
            }
        } else {
            if counted.is_empty() {
                self.say("nothing is mapped")?;
            } else {
                self.table(&table(&counted))?;
                self.gap()?;
            }
            self.say(generation(status))?;
        }
        if let Some(observed) = status.view.observed() {
            let serving = status.view.serving();
            for sentence in refusals::sentences(observed, layer(status), serving) {
                self.say(sentence)?;
            }
        }
        if let Some(drift) = &status.drift {
            self.drift(drift);
        }
        self.boot(status)?;
        self.runs(&status.runs)?;
        for problem in &status.problems {
            self.warn(problem);
            if let Some(help) = problem.help() {
                self.note(help);
            }
        }
        Ok(())
    }

    fn drift(&self, drift: &Drift) {
        for foreign in &drift.foreign {
            self.warn(format_args!("another program has changed table inet portmap: {foreign}"));
        }
        if !drift.mappings.is_empty() {
            let mappings = drift.mappings.join("; ");
            self.warn(format_args!("another program has changed the mapping: {mappings}"));
        }
        if !drift.repairs.is_empty() {
            let repairs = drift.repairs.join("; ");
            self.warn(format_args!("table inet portmap is not as it should be: {repairs}"));
        }
        self.note("`portmap apply` of the rules file repairs it");
    }
}

/// Which generation is active, in a sentence.
fn generation(status: &Status) -> String {
    match (status.trial, status.serving) {
        (Some(TrialStatus { number: Some(n), left }), serving) if left.is_zero() => {
            let before = match serving {
                Some(point) => crate::engine::name(point),
                None => "what was before".to_owned(),
            };
            format!("generation {n} was on trial; the time is up, and {before} serves again")
        }
        (Some(TrialStatus { number: Some(n), left }), _) => {
            let left = left.as_secs_f64().ceil();
            format!(
                "generation {n} is on trial for {left} more seconds: `portmap confirm` keeps it"
            )
        }
        (None, _) | (Some(_), _) => match status.view.stamped() {
            Some(n) if status.is_idle => format!(
                "generation {n} is active; the empty table stays for connections through an \
                 earlier mapping"
            ),
            Some(n) => format!("generation {n} is active"),
            None if status.is_idle => {
                "the empty table stays for connections through an earlier mapping".to_owned()
            }
            None => "the active mapping is not in the history".to_owned(),
        },
    }
}

fn document(status: &Status, counted: &[Counted<'_>]) -> Document {
    let foreign = status.view.foreign().to_vec();
    Document {
        version: JSON_VERSION,
        active: status.view.observed().is_some(),
        generation: status.serving.and_then(Point::generation),
        persisted: status.boot,
        boot: status.next_boot.as_ref().map(NextBootJson::from),
        trial: status.trial.map(|trial| TrialJson {
            generation: trial.number,
            left_seconds: trial.left.as_secs_f64(),
        }),
        drift: status.drift.as_ref().map(ToString::to_string),
        foreign,
        problems: status.problems.iter().map(ToString::to_string).collect(),
        mappings: counted.iter().map(Entry::from).collect(),
        runs: status.runs.iter().map(RunJson::from).collect(),
    }
}

impl From<&Counted<'_>> for Entry {
    fn from(counted: &Counted<'_>) -> Self {
        let service = counted.mapping.service;
        Self {
            port: service.port.get(),
            protocol: service.protocol.name(),
            mapping: MappingJson::from(counted.mapping),
            refusals: counted.refusals,
            connections: counted.counter.map(|c| c.packets),
            bytes: counted.counter.map(|c| c.bytes),
            listeners: counted.holders.as_ref().map(|h| h.iter().map(Holder::to_json).collect()),
        }
    }
}

/// A mapping with its counter, where the kernel keeps one.
struct Counted<'a> {
    mapping: &'a Mapping,
    counter: Option<Counter>,
    refusals: Refusals,
    /// Who listens at the target; `None` if that cannot be seen.
    holders: Option<Vec<Holder>>,
}

/// The layer that answers at this moment.
fn layer(status: &Status) -> Layer {
    if status.view.running().is_some() { Layer::Trial } else { Layer::Active }
}

fn counted(status: &Status) -> Vec<Counted<'_>> {
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

fn counter(observed: &Observed, layer: Layer, m: &Mapping, rank: usize) -> Option<Counter> {
    let chain = ChainName::Service(layer, m.service);
    if observed.ruleset.chains.contains_key(&chain) {
        return Some(observed.counters.rules.get(&(chain, rank)).copied().unwrap_or_default());
    }
    let map = MapName::Ports(layer, m.selector.scope(), m.selector.family());
    observed.shapes.get(&map).filter(|shape| shape.counted)?;
    Some(observed.counters.elements.get(&(map, m.service)).copied().unwrap_or_default())
}

/// Who listens, as a cell: `node (pid 812, www-data) on 127.0.0.1`.
fn listener(holders: Option<&[Holder]>) -> String {
    match holders {
        None => "?".to_owned(),
        Some([]) => "nobody".to_owned(),
        Some(holders) => {
            let words = holders.iter().map(|h| match h.addresses.as_slice() {
                [all] if all == "*" => h.to_string(),
                some => format!("{h} on {}", some.join(" ")),
            });
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

fn table(counted: &[Counted<'_>]) -> Table {
    let mut table = Table::new(&["PORT", "TO", "LISTENER", "FOR", ">CONNECTIONS", "COMMENT"]);
    for (run, part) in fold(
        counted,
        |c| c.mapping,
        |a, b| (a.counter.is_some(), &a.holders) == (b.counter.is_some(), &b.holders),
    ) {
        let connections: Option<u64> = part.iter().map(|c| c.counter.map(|c| c.packets)).sum();
        table.row(vec![
            run.service(),
            visible(&format!("{}{}", run.to(), run.terms())),
            visible(&listener(part[0].holders.as_deref())),
            visible(&clients(&run.first.selector)),
            connections.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            visible(run.first.comment.as_deref().unwrap_or_default()),
        ]);
    }
    table
}
