//! The engine on a kernel that is a model and a history on a real disk: what is hard to meet on a
//! real kernel (a race, a refusal, a lost answer, a change behind our back) happens when a test
//! says.

mod drift;
mod failures;
mod fake;
mod guard;
mod history;
#[allow(dead_code, reason = "the properties in tests/it use all of it")]
#[path = "../it/support/model.rs"]
mod model;
mod races;
mod restore;
mod run;
mod trial;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use portmap::engine::{
    ApplyRequest, Change, Engine, Error, Event, Observer, Result, RollbackRequest, RolledBack,
};
use portmap::formats::rules;
use portmap::history::{History, Outcome};
use portmap::host::boot::System;
use portmap::mapping::{Digest, GenerationId, MappingSet, Protocol, Service};
use portmap::plan::Step;
use portmap::ruleset::{ChainName, Hook, Layer, MapName, Observed, PortData, Rule};
use tempfile::TempDir;

use fake::FakeKernel;
use model::Model;

/// A kernel, a state directory, and what the engine told while it worked.
struct Host {
    kernel: FakeKernel,
    dir: TempDir,
    diary: Diary,
}

#[derive(Default)]
struct Diary(RefCell<Vec<String>>);

impl Observer for Diary {
    fn timed(&self, _: &str, work: &mut dyn FnMut()) {
        work();
    }

    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::RunRemoved(run) => format!("removed {}", run.table.id),
            Event::TraceRemoved(table) => format!("removed {table}"),
            Event::Locked => return,
            Event::Settled(settlement) => settlement.to_string(),
            Event::ConnectionsCut(n) => format!("{n} connections cut"),
            Event::TrialWithoutZone => "trial without zone".to_owned(),
            Event::FlowsDeleted(n) => format!("{n} flows deleted"),
            Event::Shortfall(error) => format!("shortfall: {error}"),
            // Of no interest here: they depend on the machine.
            Event::Foreseen(_) => return,
            Event::Ahead(_) | Event::Committing(_) => return,
            Event::Changed(_) | Event::BootChanged(_) => return,
        };
        self.0.borrow_mut().push(line);
    }
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { kernel: FakeKernel::new(None), dir, diary: Diary::default() };
        // Boot restores what is persisted, unless a test says otherwise.
        host.system_file("run/systemd/system/started", "");
        host.system_file("usr/bin/portmap", "");
        let state = host.state().display().to_string();
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/portmap restore\nEnvironment=PORTMAP_STATE_DIR={state}\n"
        );
        host.system_file("etc/systemd/system/portmap-nft.service", &unit);
        host.system_file(WANTED, &unit);
        host
    }

    /// Writes a file of this host's system.
    fn system_file(&self, path: &str, text: &str) {
        let path = self.dir.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// With these applied one after the other, as generations 1, 2, …, and at that the kernel counts
    /// our commits from 1 again.
    fn with(mappings: &[&str]) -> Self {
        let mut host = Self::new();
        for mapping in mappings {
            host.apply(mapping).unwrap();
        }
        host.kernel = FakeKernel::new(host.kernel.table().as_ref());
        host
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn engine(&self) -> Engine<'_, FakeKernel> {
        Engine::new(self.kernel.clone(), self.state(), Duration::ZERO, &self.diary)
            .of_system(System::at(self.dir.path().join("root")))
    }

    fn request(&self, request: &ApplyRequest) -> Result<Change> {
        let mut engine = self.engine();
        let snapshot = engine.read_kernel()?;
        engine.apply(request, snapshot)
    }

    fn apply(&self, mapping: &str) -> Result<Change> {
        self.request(&request(mapping))
    }

    fn try_out(&self, mapping: &str) -> Result<Change> {
        self.request(&ApplyRequest { trial: Some(MINUTE), ..request(mapping) })
    }

    fn preview(&self, mapping: &str) -> Change {
        let mut engine = self.engine();
        let snapshot = engine.read_kernel().unwrap();
        engine.preview(&Rc::new(set(mapping)), snapshot, false).unwrap().0
    }

    fn roll_back(&self) -> Result<RolledBack> {
        self.engine().roll_back(&RollbackRequest::default())
    }

    fn history(&self) -> History {
        History::open(self.state()).unwrap()
    }

    /// How each generation ended, the oldest first.
    fn outcomes(&self) -> Vec<Outcome> {
        self.history().headers().map(|header| header.outcome).collect()
    }

    /// What the first layer says: `80:3000 81:3001`.
    fn active(&self) -> String {
        self.layer(Layer::Active)
    }

    fn layer(&self, layer: Layer) -> String {
        let table = self.kernel.table();
        table.map_or(String::new(), |table| words(&table.ruleset.mapping(layer)))
    }

    /// What the table says of itself.
    fn stamped(&self) -> Option<u64> {
        let stamp = self.kernel.table()?.ruleset.stamp()?;
        stamp.generation.map(GenerationId::get)
    }

    fn drift(&self) -> Option<String> {
        self.engine().status().unwrap().drift.map(|drift| drift.to_string())
    }

    /// What the engine told since the last time.
    fn told(&self) -> Vec<String> {
        self.diary.0.take()
    }

    /// Lets the generation with this number not be written.
    fn block(&self, number: u64) -> PathBuf {
        self.state().join(format!("generations/{number:06}.yaml.tmp"))
    }
}

/// What makes boot start the unit.
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/portmap-nft.service";

const MINUTE: Duration = Duration::from_secs(60);

fn id(number: u64) -> GenerationId {
    GenerationId::new(number).unwrap()
}

/// `80:3000 81:3001` as tcp mappings.
fn set(words: &str) -> MappingSet {
    let lines = words.split_whitespace().map(|word| {
        let (port, to) = word.split_once(':').unwrap();
        format!("  {port}: {to}\n")
    });
    let lines: String = lines.collect();
    if lines.is_empty() {
        return MappingSet::default();
    }
    rules::parse_stored("test", format!("ports:\n{lines}")).unwrap()
}

fn words(set: &MappingSet) -> String {
    let words = set.iter().map(|m| format!("{}:{}", m.service.port, m.to));
    words.collect::<Vec<_>>().join(" ")
}

fn request(mapping: &str) -> ApplyRequest {
    ApplyRequest {
        mapping: Rc::new(set(mapping)),
        input: Some(digest(mapping)),
        sources: vec!["rules.yaml".to_owned()],
        message: None,
        trial: None,
        persist: false,
        strict: false,
        keeps_history: true,
    }
}

fn digest(mapping: &str) -> Digest {
    Digest::of([mapping.as_bytes()])
}

fn tcp(port: u16) -> Service {
    Service { protocol: Protocol::Tcp, port: portmap::mapping::Port::new(port).unwrap() }
}

/// What somebody does to our table: adds a mapping of his own.
fn add_mapping(service: Service, to: u16) -> impl Fn(&mut Model) + Send + Clone {
    move |model| {
        let map = MapName::Ports(Layer::Active, Default::default(), Default::default());
        let to = portmap::mapping::Target::new(portmap::mapping::Port::new(to).unwrap());
        let data = PortData { to, comment: None };
        model
            .commit(&[
                Step::DeleteElements { map, services: vec![service] },
                Step::AddPorts { map, elements: vec![(service, data.clone(), None)] },
            ])
            .or_else(|_| {
                model.commit(&[Step::AddPorts { map, elements: vec![(service, data, None)] }])
            })
            .unwrap();
    }
}

/// Changes the table as no step of ours does: `nft flush chain inet portmap output`.
fn change_table(change: impl Fn(&mut Observed) + Send) -> impl FnMut(&mut Model) + Send {
    move |model| {
        let mut table = model.observed().unwrap();
        change(&mut table);
        model.replace(Some(&table));
    }
}

fn remove_rules(hook: Hook, which: impl Fn(&Rule) -> bool + Send) -> impl FnMut(&mut Model) + Send {
    change_table(move |table| {
        let name = ChainName::Hook(Layer::Active, hook);
        let rules = table.ruleset.chains[&name].clone();
        let handles = table.handles[&name].clone();
        let kept = rules.into_iter().zip(handles).filter(|(rule, _)| !which(rule));
        let (rules, handles) = kept.unzip();
        table.ruleset.chains.insert(name, rules);
        table.handles.insert(name, handles);
        table.counters = Default::default();
    })
}

#[track_caller]
fn fails<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => error,
    }
}

/// A file of this name is in the way of writing a generation; a command that begins removes it.
fn occupy(path: PathBuf) -> impl FnMut() + Send {
    move || fs::write(&path, "in the way").unwrap()
}
