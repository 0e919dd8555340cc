//! `portmap status`: what is active.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::cli::Common;
use crate::commands::failure::chain;
use crate::commands::state::{State, drift, serving_generation};
use crate::journal::{self, Journal, Outcome};
use crate::kernel::Kernel;
use crate::mapping::{Mapping, MappingSet};
use crate::output::{JSON_VERSION, MappingJson, Table, Ui, clients, fold};
use crate::ruleset::{ChainName, Counter, Layer, MapName, Observed};

#[derive(Serialize)]
struct Document {
    version: u32,
    /// Whether our table stands in the kernel.
    active: bool,
    generation: Option<u64>,
    /// What boot would bring back.
    persisted: Option<u64>,
    trial: Option<TrialJson>,
    /// How the table differs from what portmap put there; null if it does not, or if that is
    /// not known.
    drift: Option<String>,
    foreign: Vec<String>,
    /// What of the history cannot be read.
    problems: Vec<String>,
    mappings: Vec<Entry>,
}

#[derive(Serialize)]
struct TrialJson {
    generation: Option<u64>,
    /// 0 if the time is up and the mapping from before serves again.
    left_seconds: f64,
}

#[derive(Serialize)]
struct Entry {
    port: u16,
    protocol: &'static str,
    #[serde(flatten)]
    mapping: MappingJson,
    /// Connections, as the kernel's NAT sees each once; null where a map is too large to count.
    connections: Option<u64>,
    bytes: Option<u64>,
}

pub fn run(ui: &Ui, common: &Common) -> Result<ExitCode> {
    let state = State::read(&mut Kernel::open()?)?;
    let journal = Journal::at(&common.state_dir);
    if ui.is_json() {
        ui.print_json(&document(&state, &journal))?;
    } else {
        show(ui, &state, &journal)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(state: &State, journal: &Journal) -> Document {
    let stamp = state.stamped();
    let counted = counted(state);
    let mut problems = Vec::new();
    let persisted = boot(journal).unwrap_or_else(|e| {
        problems.push(chain(&e));
        None
    });
    let drift = drift(state, journal).unwrap_or_else(|e| {
        problems.push(chain(&e));
        None
    });
    Document {
        version: JSON_VERSION,
        active: state.observed().is_some(),
        generation: serving_generation(state, journal),
        persisted,
        trial: state
            .trial
            .as_ref()
            .map(|trial| TrialJson { generation: stamp, left_seconds: trial.left.as_secs_f64() }),
        drift,
        problems,
        foreign: state.observed().map(|o| o.foreign.clone()).unwrap_or_default(),
        mappings: counted.iter().map(Entry::from).collect(),
    }
}

impl From<&Counted<'_>> for Entry {
    fn from(counted: &Counted<'_>) -> Self {
        let service = counted.mapping.service;
        Self {
            port: service.port.get(),
            protocol: service.protocol.name(),
            mapping: MappingJson::from(counted.mapping),
            connections: counted.counter.map(|c| c.packets),
            bytes: counted.counter.map(|c| c.bytes),
        }
    }
}

fn show(ui: &Ui, state: &State, journal: &Journal) -> Result<()> {
    let Some(observed) = state.observed() else {
        ui.print("nothing is mapped: the kernel has no table inet portmap\n")?;
        if let Some(number) = removed_by_others(state, journal) {
            ui.note(format_args!(
                "generation {number} was active; a reboot or another program has removed it, and \
                 `portmap rollback --to {number}` puts it back"
            ));
        }
        return show_boot(ui, None, journal);
    };
    let counted = counted(state);
    if counted.is_empty() {
        ui.print("nothing is mapped\n")?;
    } else {
        ui.print(table(&counted))?;
    }
    let stamp = state.stamped();
    let generation = serving_generation(state, journal);
    match (stamp, &state.trial) {
        (Some(n), Some(trial)) if trial.left.is_zero() => ui.say(format_args!(
            "\ngeneration {n} was on trial; the time is up, and {} serves again",
            generation.map_or_else(
                || "what was before".to_owned(),
                |before| format!("generation {before}")
            )
        ))?,
        (Some(n), Some(trial)) => {
            let left = trial.left.as_secs_f64().ceil();
            ui.say(format_args!(
                "\ngeneration {n} is on trial for {left} more seconds: `portmap confirm` keeps it"
            ))?;
        }
        (Some(n), None) => ui.say(format_args!("\ngeneration {n} is active"))?,
        (None, _) => ui.say("\nthe active mapping is not in the history")?,
    }
    for foreign in &observed.foreign {
        ui.warn(format_args!("another program has changed table inet portmap: {foreign}"));
    }
    match drift(state, journal) {
        Ok(None) => {}
        // Said above.
        Ok(Some(_)) if !observed.foreign.is_empty() => {
            ui.note("`portmap apply` of the rules file puts it right");
        }
        Ok(Some(drift)) => {
            ui.warn(format_args!("the mapping was changed behind portmap's back: {drift}"));
            ui.note("`portmap apply` of the rules file puts it right");
        }
        Err(e) => {
            ui.warn(format_args!("compare with the history: {}", chain(&e)));
            ui.note(e.help());
        }
    }
    show_boot(ui, generation, journal)
}

/// What boot restores; where there is no state directory, that is nothing.
fn boot(journal: &Journal) -> Result<Option<u64>, journal::Error> {
    match journal.boot() {
        Err(journal::Error::Absent { .. }) => Ok(None),
        other => other,
    }
}

fn show_boot(ui: &Ui, active: Option<u64>, journal: &Journal) -> Result<()> {
    match (boot(journal), active) {
        (Ok(None), None) => Ok(()),
        (Ok(None), Some(_)) => ui.say("boot restores nothing: `portmap persist` changes that"),
        (Ok(boot), active) if boot == active => ui.say("boot restores it"),
        (Ok(Some(boot)), Some(_)) => {
            ui.say(format_args!("boot restores another one: generation {boot}"))
        }
        (Ok(Some(boot)), None) => ui.say(format_args!("boot restores generation {boot}")),
        (Err(e), _) => {
            ui.warn(format_args!("what boot restores is not known: {}", chain(&e)));
            ui.note(e.help());
            Ok(())
        }
    }
}

/// The generation that should be active, where there is no table at all.
fn removed_by_others(state: &State, journal: &Journal) -> Option<u64> {
    let entries = journal.list().ok()?;
    let lost = journal::active(journal::readable(&entries), state.seen()) == Some(0);
    let mut headers = journal::readable(&entries).rev();
    let last = headers.find(|header| header.outcome == Outcome::Committed);
    last.filter(|_| lost).map(|header| header.number)
}

/// A mapping with its counter, where the kernel keeps one.
struct Counted<'a> {
    mapping: &'a Mapping,
    counter: Option<Counter>,
}

fn counted(state: &State) -> Vec<Counted<'_>> {
    let layer = if state.running().is_some() { Layer::Trial } else { Layer::Active };
    let serving: &MappingSet = state.serving();
    let Some(observed) = state.observed() else { return Vec::new() };
    serving
        .services()
        .flat_map(|group| group.iter().enumerate())
        .map(|(rank, mapping)| Counted {
            mapping,
            counter: counter(observed, layer, mapping, rank),
        })
        .collect()
}

fn counter(observed: &Observed, layer: Layer, m: &Mapping, rank: usize) -> Option<Counter> {
    let chain = ChainName::Service(layer, m.service);
    if observed.ruleset.chains.contains_key(&chain) {
        return Some(observed.counters.rules.get(&(chain, rank)).copied().unwrap_or_default());
    }
    let map = MapName::Ports(layer, m.selector.scope, m.selector.family);
    let shape = observed.shapes.get(&map).filter(|shape| shape.counted)?;
    let counter = observed.counters.elements.get(&(map, m.service)).copied();
    shape.counted.then(|| counter.unwrap_or_default())
}

fn table(counted: &[Counted<'_>]) -> Table {
    let mut table = Table::new(&["PORT", "TO", "FOR", ">CONNECTIONS", "COMMENT"]);
    for (run, part) in
        fold(counted, |c| c.mapping, |a, b| a.counter.is_some() == b.counter.is_some())
    {
        let connections: Option<u64> = part.iter().map(|c| c.counter.map(|c| c.packets)).sum();
        table.row(vec![
            run.service(),
            run.to(),
            clients(&run.first.selector),
            connections.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            run.first.comment.as_deref().unwrap_or_default().to_owned(),
        ]);
    }
    table
}
