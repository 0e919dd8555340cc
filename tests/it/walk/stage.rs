//! A host that is walked over, its clients, and the look at what has become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use portmap::formats::rules;
use portmap::mapping::{Protocol, Service};

use super::answers::{Other, TAKEN};
use super::model::{Command, Fate, Model, Number, Says};
use super::rules::{SERVICES, SIDES, Side, TARGETS, service};
use crate::support::net::{Ask, Server};
use crate::support::portmap::{Injected, Outcome};
use crate::support::{NoAnswer, PATIENCE, World};

pub struct Stage {
    pub world: World,
    /// Whether nobody but its owner can remove the table of a run.
    pub has_owners: bool,
    _servers: Vec<Server>,
    /// How often somebody has asked.
    connections: AtomicUsize,
}

/// What there is to be seen, without connecting.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    generation: Option<Number>,
    /// The generation on trial, and whether its time is up.
    trial: Option<(Number, bool)>,
    has_drifted: bool,
    boot: Option<Number>,
    runs: usize,
    is_guarded: bool,
    states: BTreeMap<Number, String>,
    /// The generations of which only the intent is on the disk.
    open: BTreeSet<Number>,
    /// Those that are on trial by what the disk says.
    untold: BTreeSet<Number>,
    serving: String,
    other: Other,
    /// What should never be.
    problems: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        let world = World::new().that_boots();
        let serve = |(port, name): (u16, Option<&str>)| Some(world.host.serve(name?, port));
        let (port, name) = TAKEN;
        let servers = TARGETS.into_iter().chain([(port, Some(name))]).filter_map(serve).collect();
        let has_owners = world.host.has_owners();
        Self { world, has_owners, _servers: servers, connections: AtomicUsize::new(0) }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The words of a command; what it reads is in a file.
    pub fn words(&self, command: &Command) -> Vec<String> {
        let file = |mapping| {
            self.world.host.file("new.yaml", &rules::text(mapping));
        };
        let text = match command {
            Command::Apply { mapping, persist } => {
                file(mapping);
                let persist = if *persist { " --persist" } else { "" };
                format!("apply --detailed-exitcode{persist} new.yaml")
            }
            Command::Try(mapping) => {
                file(mapping);
                "apply --detailed-exitcode --confirm 1h new.yaml".to_owned()
            }
            Command::Confirm => "confirm".to_owned(),
            Command::Rollback(None) => "rollback --detailed-exitcode".to_owned(),
            Command::Rollback(Some(to)) => format!("rollback --detailed-exitcode {to}"),
            Command::Persist => "persist".to_owned(),
            Command::Forget => "persist --off".to_owned(),
            Command::Restore { if_missing: false } => "restore".to_owned(),
            Command::Restore { if_missing: true } => "restore --if-missing".to_owned(),
            Command::Clear { persist: false } => "clear --detailed-exitcode".to_owned(),
            Command::Clear { persist: true } => "clear --detailed-exitcode --persist".to_owned(),
        };
        text.split(' ').map(str::to_owned).collect()
    }

    pub fn run(&self, command: &Command) -> Outcome {
        self.world.host.portmap(self.words(command)).run()
    }

    pub fn injected(&self, command: &Command, call: &str, effect: &str, when: usize) -> Injected {
        self.world.host.portmap_injected(call, effect, when, self.words(command))
    }

    /// The exit code that a command should have.
    pub fn code(command: &Command, says: Says) -> i32 {
        let tells = matches!(
            command,
            Command::Apply { .. } | Command::Try(_) | Command::Rollback(_) | Command::Clear { .. }
        );
        match says {
            Says::Refused => 1,
            Says::Done { changed: true } if tells => 2,
            Says::Done { .. } => 0,
        }
    }

    pub fn look(&self) -> Seen {
        let host = &self.world.host;
        let (status, history) = (host.status(), host.history());
        let trial = &status["trial"];
        let trial = trial["generation"].as_u64().map(|n| (n, trial["left_seconds"] == 0.0));
        let states = history
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (g["number"].as_u64().unwrap(), g["state"].as_str().unwrap().to_owned()));
        let outcomes: Vec<_> = states.clone().map(|(n, _)| (n, self.outcome(n))).collect();
        let with_outcome = |outcome: &str| {
            let found = outcomes.iter().filter(|(_, written)| written == outcome);
            found.map(|(number, _)| *number).collect()
        };
        let tables = host.nft("list ruleset");
        let mut problems: Vec<String> = status["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| problem.as_str().unwrap().to_owned())
            .collect();
        problems.extend(self.leftovers());
        Seen {
            generation: status["generation"].as_u64(),
            trial,
            has_drifted: !status["drift"].is_null(),
            boot: status["persisted"].as_u64(),
            runs: status["runs"].as_array().unwrap().len(),
            is_guarded: !status["guard"].is_null(),
            open: with_outcome("intent"),
            untold: with_outcome("trial"),
            states: states.collect(),
            serving: host.portmap(["show"]).run().succeeds().stdout,
            other: Other::of(&tables),
            problems,
        }
    }

    /// The names of all files in the state directory.
    fn files(&self) -> Vec<String> {
        let state = self.world.host.dir().join("state");
        let dirs = [state.join("generations"), state];
        let names = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// How a generation ended, as the disk says.
    fn outcome(&self, number: Number) -> String {
        let path = format!("state/generations/{number:06}.yaml");
        let text = fs::read_to_string(self.world.host.dir().join(path)).unwrap_or_default();
        let outcome = text.lines().find_map(|line| line.strip_prefix("outcome: "));
        outcome.unwrap_or_default().to_owned()
    }

    /// What a killed command may leave, and the next change removes.
    pub fn half_written(&self) -> Vec<String> {
        self.files().into_iter().filter(|name| name.ends_with(".tmp")).collect()
    }

    /// Files in the state directory that nobody knows.
    fn leftovers(&self) -> Vec<String> {
        let known = |name: &str| {
            let name = name.strip_suffix(".tmp").unwrap_or(name);
            let number = name.strip_suffix(".yaml").and_then(|n| n.parse::<u64>().ok());
            number.is_some()
                || ["lock", "lock.queue", "boot", "namespace", "generations", "guard"]
                    .contains(&name)
        };
        let unknown = self.files().into_iter().filter(|name| !known(name));
        unknown.map(|name| format!("left over: {name}")).collect()
    }

    /// Every client asks for everything; panics where an answer is not the model's.
    pub fn ask(&self, model: &Model, what: &str) {
        for side in &SIDES {
            for service in SERVICES {
                self.asked(side, service, model.answer(side, service), what);
            }
        }
        let direct = service(Protocol::Tcp, TARGETS[0].0);
        self.asked(&SIDES[0], direct, model.direct(&SIDES[0], direct), what);
    }

    fn asked(&self, side: &Side, service: Service, expected: Option<&str>, what: &str) {
        let Service { protocol, port } = service;
        let to: SocketAddr = format!("{}:{port}", side.to).parse().unwrap();
        let from = if side.is_outside { &self.world.client } else { &self.world.host };
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let answer = match protocol {
            // From another port each time: connection tracking knows the flows of those before.
            Protocol::Udp => {
                let source = 10000 + (number % 50000) as u16;
                from.udp_client(source, &to.to_string()).ask()
            }
            _ => from.ask_all(&[Ask::Tcp(to)], PATIENCE).remove(0),
        };
        let expected = expected.map(str::to_owned).ok_or(NoAnswer::Refused);
        assert_eq!(answer, expected, "{what}: {service} from {side:?}");
    }
}

impl Model {
    /// What is to be seen of it.
    pub fn seen(&self) -> Seen {
        let trial = self
            .table
            .as_ref()
            .and_then(|table| Some((table.stamp?, table.trial.as_ref()?.is_over)));
        let active = self.active();
        let state = |number: Number, fate| match fate {
            Fate::Kept if number == active => "active",
            Fate::Kept => "past",
            Fate::OnTrial => "on trial",
            Fate::Reverted => "reverted",
            Fate::Begun => "unfinished",
            Fate::Failed => "failed",
        };
        let states = self.generations.iter().map(|(n, g)| (*n, state(*n, g.fate).to_owned()));
        Seen {
            generation: self.serving_number(),
            trial,
            has_drifted: self.has_drifted(),
            boot: self.boot,
            runs: usize::from(self.run.is_some()),
            states: states.collect(),
            is_guarded: self.guard.is_some(),
            open: self.generations.iter().filter(|(_, g)| g.is_open).map(|(n, _)| *n).collect(),
            untold: self.generations.iter().filter(|(_, g)| g.is_untold).map(|(n, _)| *n).collect(),
            serving: rules::text(&self.serving()),
            other: self.other,
            problems: Vec::new(),
        }
    }

    /// This model, if it is what is seen. What may be one way or the other, it takes over: what was
    /// pruned, and whether an end has been written down yet.
    pub fn agreeing(mut self, seen: &Seen) -> Result<Self, String> {
        let listed: Vec<_> = seen.states.keys().copied().collect();
        self.prune(&listed)?;
        for (number, generation) in &mut self.generations {
            generation.is_open = seen.open.contains(number);
            if generation.fate != Fate::Kept || generation.is_untold {
                generation.is_untold = seen.untold.contains(number);
            }
            let has_failed = seen.states.get(number).is_some_and(|state| state == "failed");
            if generation.fate == Fate::Begun && has_failed {
                generation.fate = Fate::Failed;
            }
        }
        let expected = self.seen();
        if expected == *seen { Ok(self) } else { Err(format!("expected {expected:#?}")) }
    }
}
