//! Commands by chance, one after another, killed ones and other people's doings among them. After
//! each, the kernel, the history and a small model agree, every client gets the answer that the
//! model gives, and the exit code told the effect. Changes are shown before they are made; the host is
//! started anew; a guard comes and goes.
//!
//! Says its seed when it fails. `PORTMAP_WALK=STEPS[:SEED]` walks as far, and the same way again;
//! `make walk` goes far, and writes down how far.

mod answers;
mod edits;
mod foresight;
mod guard;
pub mod model;
mod reboot;
pub mod rules;
pub mod stage;

use std::env;
use std::iter;
use std::thread;
use std::time::Instant;

use self::answers::Other;
use self::guard::Guarding;
use self::model::{Command, Model};
use self::rules::{Dice, SERVICES, TARGETS, any_rules};
use self::stage::Stage;
use crate::run::{Run, waiting};
use crate::support::chance::count_and_seed;
use crate::support::record::record;
use crate::support::share::share;
use crate::support::wait_until;
use nix::sys::signal::Signal;

/// So many steps of one host, then another one is walked over.
const STEPS_OF_A_HOST: usize = 500;

const STEPS: usize = 1000;
const SEED: u64 = 1;

/// The calls before which a command is killed, and how many of each it may make first.
const KILLED_AT: [&str; 10] = [
    "mkdir",
    "openat",
    "fchmod",
    "ftruncate",
    "write",
    "fsync",
    "rename",
    "sendto",
    "unlink",
    "flock",
];
const CALLS: usize = 12;

struct Walk {
    seed: u64,
    dice: Dice,
    stage: Stage,
    model: Model,
    run: Option<Run>,
    guard: Option<Guarding>,
    /// What was done, to be told if it ends badly.
    done: Vec<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, done, .. } = self;
            let steps = done.len();
            eprintln!("--- the last of {steps} steps; again: PORTMAP_WALK={steps}:{seed}");
            done.iter().skip(steps.saturating_sub(25)).for_each(|step| eprintln!("{step}"));
        }
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let (dice, stage, model) = (Dice::new(seed), Stage::new(), Model::default());
        Self { seed, dice, stage, model, run: None, guard: None, done: Vec::new() }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..49 => self.command(),
            49..57 => self.foreseen(),
            57..60 => self.begin_or_end_guard(),
            60..76 => self.killed(),
            76..80 => self.flush(),
            80..88 => self.edit(),
            88..91 => self.other(),
            91..97 => self.begin_or_end_run(),
            97 => self.reboot(),
            98 => self.no_step_of_a_run_is_taken_twice(),
            _ => self.time_is_up(),
        }
    }

    fn says(&mut self, what: String) {
        self.done.push(what);
    }

    fn any_command(&mut self) -> Command {
        let dice = &mut self.dice;
        // Often what there is already, or was.
        let known: Vec<_> = self.model.generations.values().map(|g| &g.mapping).collect();
        let known: Vec<_> = known.into_iter().filter(|m| !m.is_empty()).collect();
        let mapping = match dice.below(4) {
            0 if !self.model.serving().is_empty() => self.model.serving(),
            1 if !known.is_empty() => dice.pick(&known).clone(),
            _ => any_rules(dice),
        };
        match dice.below(20) {
            0..5 => Command::Apply { mapping, persist: false },
            5 => Command::Apply { mapping, persist: true },
            6..9 => Command::Try(mapping),
            9 | 10 => Command::Confirm,
            11..14 => Command::Rollback(None),
            14 => {
                let newest = self.model.next_number();
                Command::Rollback(Some(dice.next() % (newest + 1)))
            }
            15 => Command::Persist,
            16 => {
                if dice.one_in(3) {
                    Command::Forget
                } else {
                    Command::Persist
                }
            }
            17 => Command::Restore { if_missing: dice.one_in(2) },
            18 => Command::Restore { if_missing: false },
            _ => Command::Clear { persist: dice.one_in(4) },
        }
    }

    fn command(&mut self) {
        let command = self.any_command();
        self.done.push(self.stage.words(&command).join(" "));
        let outcome = self.stage.run(&command);
        let (after, says) = self.model.done(&command);
        let expected = Stage::code(&command, says);
        assert_eq!(outcome.code, Some(expected), "{command:?}: {outcome}");
        self.becomes(vec![after]);
    }

    fn killed(&mut self) {
        let command = self.any_command();
        let (call, when) = (self.dice.pick(&KILLED_AT), 1 + self.dice.below(CALLS));
        let words = self.stage.words(&command).join(" ");
        self.says(format!("{words}, killed before call {when} of {call}"));
        let injected = self.stage.injected(&command, call, "signal=KILL", when);
        let (after, says) = self.model.done(&command);
        if injected.hit {
            assert_eq!(injected.outcome.code, None, "{}", injected.outcome);
            self.becomes(self.model.may_be(&command));
        } else {
            let expected = Some(Stage::code(&command, says));
            assert_eq!(injected.outcome.code, expected, "{command:?}: {}", injected.outcome);
            self.becomes(vec![after]);
        }
        // Nobody deletes the flows of those that were not cleaned up after, up to the next change.
        self.stage.world.host.conntrack(&["-F"]);
    }

    /// What is seen is one of these.
    fn becomes(&mut self, models: Vec<Model>) {
        let seen = self.stage.look();
        let mut why = Vec::new();
        for model in models {
            match model.agreeing(&seen) {
                Ok(model) => {
                    self.model = model;
                    let step = self.done.last().expect("a step");
                    self.stage.ask(&self.model, step);
                    // A connection that was refused halfway stays new for two minutes, and the chains
                    // stay for it, of which the model knows nothing.
                    if self.model.other == Other::Refuses {
                        self.stage.world.host.conntrack(&["-F"]);
                    }
                    return self.guard_follows();
                }
                Err(differs) => why.push(differs),
            }
        }
        panic!("{}: {seen:#?}\n{}", self.done.last().expect("a step"), why.join("\n"));
    }

    fn flush(&mut self) {
        let mut after = self.model.clone();
        let command = self.dice.pick(&["flush ruleset", "delete table inet portmap"]);
        if command == "flush ruleset" {
            after.other = Other::None;
            if !self.stage.has_owners {
                after.run = None;
            }
        } else if self.model.table.is_none() {
            return self.command();
        }
        after.flush();
        self.somebody_else(command, after);
        self.stage.world.host.conntrack(&["-F"]);
    }

    fn other(&mut self) {
        let mut after = self.model.clone();
        after.other = match after.other {
            Other::None => self.dice.pick(&[Other::Idle, Other::Takes, Other::Refuses]),
            _ => Other::None,
        };
        self.says(format!("a table of somebody else: {:?}", after.other));
        self.stage.world.host.nft_script(&after.other.script());
        self.becomes(vec![after]);
    }

    fn begin_or_end_run(&mut self) {
        let mut after = self.model.clone();
        let host = &self.stage.world.host;
        match self.run.take() {
            Some(run) => {
                let is_killed = self.dice.one_in(2);
                if is_killed {
                    run.kill(Signal::SIGKILL);
                }
                run.ends();
                host.has_no_runs_soon();
                host.conntrack(&["-F"]);
                after.run = None;
                self.done.push(format!("a run ends, killed: {is_killed}"));
            }
            None => {
                let (service, to) = (self.dice.pick(&SERVICES), self.dice.pick(&TARGETS).0);
                let mapping = format!("{service}:{to}");
                let words = waiting(&[&mapping, "--user", "root"]).join(" ");
                self.done.push(format!("run {words}"));
                self.run = Some(host.start_run(&waiting(&[&mapping, "--user", "root"])));
                after.run = Some((service, to));
            }
        }
        self.becomes(vec![after]);
    }

    fn no_step_of_a_run_is_taken_twice(&mut self) {
        let Some((service, _)) = self.model.run else { return self.begin_or_end_run() };
        let mapping = format!("{service}:3000");
        self.says(format!("run {mapping} beside a run"));
        let words = ["run", &mapping, "--user", "root", "--", "true"];
        self.stage.world.host.portmap(words).run().fails_with(1);
        self.becomes(vec![self.model.clone()]);
    }

    fn time_is_up(&mut self) {
        let command = Command::Try(any_rules(&mut self.dice));
        let (mut after, _) = self.model.done(&command);
        let is_begun = after.is_on_trial() && !self.model.is_on_trial();
        if !is_begun {
            return self.command();
        }
        let words = self.stage.words(&command);
        let words = words.iter().map(|word| if word == "1h" { "1s" } else { word });
        self.done.push("a trial that ends by itself".to_owned());
        let host = &self.stage.world.host;
        host.portmap(words).run().fails_with(2);
        let left = || host.status()["trial"]["left_seconds"].as_f64();
        wait_until("the trial ends", || left() == Some(0.0));
        after.time_is_up();
        self.becomes(vec![after]);
    }
}

/// `PORTMAP_WALK=STEPS[:SEED]`. Where nothing is asked for, it is the same walk each time: what makes
/// it fail is the change that it is found with. `make walk` takes another one each time.
fn asked_for() -> (usize, u64) {
    match env::var("PORTMAP_WALK") {
        Ok(asked) => count_and_seed(Some(&asked), STEPS),
        Err(_) => (STEPS, SEED),
    }
}

/// The seed of each host, and how far it is walked over. The first is walked by the seed that was
/// asked for, so that what fails can be walked again alone.
fn hosts(steps: usize, seed: u64) -> Vec<(u64, usize)> {
    let mut dice = Dice::new(seed);
    let lengths = (0..steps).step_by(STEPS_OF_A_HOST).map(|at| STEPS_OF_A_HOST.min(steps - at));
    let seeds = iter::once(seed).chain(iter::repeat_with(|| dice.next()));
    seeds.zip(lengths).collect()
}

/// Returns how often somebody connected.
fn walk_over(seed: u64, steps: usize) -> usize {
    let mut walk = Walk::new(seed);
    (0..steps).for_each(|_| walk.step());
    walk.stage.connections()
}

#[test]
fn a_random_walk() {
    let (steps, seed) = asked_for();
    let start = Instant::now();
    let connections = share(hosts(steps, seed), || (), |(), (seed, steps)| walk_over(seed, steps));
    let connections = connections.into_iter().sum();
    let seconds = start.elapsed().as_secs();
    let counts = [("steps", steps), ("connections", connections), ("seconds", seconds as usize)];
    record("walk", &counts);
    println!("{steps} steps, {connections} connections, {seconds} s, seed {seed}");
}
