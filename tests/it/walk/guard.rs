//! A guard that comes and goes. While it is there, what somebody else does to our table is put back,
//! and what portmap does is left alone. What it should be waiting for is known after each step, so
//! it is waited for: nothing here hangs on how fast it is.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Walk;
use super::model::{Fate, Model, Number, Record};
use crate::guard::Guard;

/// More often within a minute, and it would take its time.
const REPAIRS: usize = 50;

/// What a guard takes for what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No table.
    Nothing,
    /// A table, of which the history says nothing.
    Unrecorded,
    /// This is active.
    Recorded(Number),
}

/// A guard, how often it has put the table back, and whether it has said last that nothing is mapped.
pub struct Guarding {
    guard: Guard,
    repairs: usize,
    is_idle: bool,
}

impl Guarding {
    /// Chains without a mapping stay for connections that are not quite at their end yet, which no
    /// model knows of. Whether they are there or not, the guard is idle, and may say so once more
    /// when they come or go.
    fn next_but_idle(&self) -> Value {
        loop {
            let event = self.guard.next();
            if event["event"] != "idle" {
                return event;
            }
        }
    }
}

impl Walk {
    pub fn begin_or_end_guard(&mut self) {
        let mut after = self.model.clone();
        if self.guard.is_some() {
            self.end_guard();
            after.guard = None;
            return self.becomes(vec![after]);
        }
        // What a killed command has left open, the next change writes down; the guard is none.
        if after.table.is_none() && after.generations.values().any(|g| g.is_open) {
            return self.command();
        }
        self.says("a guard begins".to_owned());
        let guard = Guard::start(&mut self.stage.world.host.guard_command());
        let event = guard.next();
        let (expected, wanted) = after.guard_begins();
        let is_idle = event["event"] == "idle";
        self.guard = Some(Guarding { guard, repairs: 0, is_idle });
        match wanted {
            Some(wanted) => is_of(&event, "put-back", wanted),
            None => tells(&event, &after, expected),
        }
        after.guard = Some(expected);
        self.becomes(vec![after]);
    }

    pub fn end_guard(&mut self) {
        let Some(Guarding { guard, .. }) = self.guard.take() else { return };
        let signal = self.dice.pick(&[Signal::SIGTERM, Signal::SIGKILL]);
        self.says(format!("a guard ends, by {signal}"));
        guard.kill(signal);
        guard.ends();
        self.model.guard = None;
    }

    /// Somebody else commits something. `after` is what it comes to where no guard runs.
    pub fn somebody_else(&mut self, command: &str, mut after: Model) {
        if self.guard.as_ref().is_some_and(|guarding| guarding.repairs >= REPAIRS) {
            self.end_guard();
            after.guard = None;
        }
        self.says(format!("nft {command}"));
        self.stage.world.host.nft(command);
        if let Some(guarding) = &mut self.guard {
            if let Some(wanted) = after.is_put_back(&self.model) {
                is_of(&guarding.next_but_idle(), "put-back", wanted);
                guarding.is_idle = false;
                guarding.repairs += 1;
                after.guard = Some(after.as_expected());
            }
        }
        self.becomes(vec![after]);
    }

    /// Waits until the guard has taken notice of what a step has come to.
    pub fn guard_follows(&mut self) {
        let (Some(guarding), Some(before)) = (&mut self.guard, self.model.guard) else { return };
        let expected = self.model.as_expected();
        if expected == before {
            return;
        }
        let is_recorded = matches!(expected, Expected::Recorded(_)) && self.model.is_mapped();
        let is_idle = !is_recorded && expected != Expected::Unrecorded;
        if !(is_idle && guarding.is_idle) {
            let event = if is_idle { guarding.guard.next() } else { guarding.next_but_idle() };
            tells(&event, &self.model, expected);
        }
        guarding.is_idle = is_idle;
        self.model.guard = Some(expected);
    }
}

#[track_caller]
fn is_of(event: &Value, kind: &str, number: Number) {
    let seen = (event["event"].as_str(), event["generation"].as_u64());
    let number = Some(number).filter(|number| *number != 0);
    assert_eq!(seen, (Some(kind), number), "{event:#}");
}

#[track_caller]
fn tells(event: &Value, model: &Model, expected: Expected) {
    match expected {
        Expected::Recorded(number) if model.is_mapped() => is_of(event, "guarding", number),
        Expected::Unrecorded => is_of(event, "unrecorded", 0),
        // The same may be told of the loss of what was not recorded.
        _ => assert!(["idle", "lost"].iter().any(|kind| event["event"] == *kind), "{event:#}"),
    }
}

impl Model {
    /// Whether anything is, when no trial runs.
    fn is_mapped(&self) -> bool {
        self.table.as_ref().is_some_and(|table| !table.mapping.is_empty())
    }

    /// What is there, taken for what should be.
    fn as_expected(&self) -> Expected {
        match &self.table {
            None => Expected::Nothing,
            Some(table) if table.stamp.is_none() => Expected::Unrecorded,
            Some(_) => Expected::Recorded(self.active()),
        }
    }

    /// What a guard that begins makes of it: without a past, only what is certain is put back.
    /// Returns what is expected from then on, and what was put back, if that was necessary.
    fn guard_begins(&mut self) -> (Expected, Option<Number>) {
        let newest = self.generations.iter().rev().find(|(_, g)| g.fate == Fate::Kept);
        let newest = newest.filter(|(_, g)| !g.mapping.is_empty()).map(|(n, _)| *n);
        let boot = self.boot.map(|boot| &self.generations[&boot].mapping);
        let wanted = match &self.table {
            None => newest.filter(|newest| boot == Some(&self.generations[newest].mapping)),
            Some(table) => table.stamp.filter(|_| self.has_drifted()).map(|_| self.active()),
        };
        if let Some(wanted) = wanted {
            self.mend(wanted);
        }
        (self.as_expected(), wanted)
    }

    /// What a guard makes of what somebody else has made of `before`: the generation that is active
    /// again, if it puts something back.
    fn is_put_back(&mut self, before: &Self) -> Option<Number> {
        let Some(Expected::Recorded(wanted)) = before.guard else { return None };
        let is_wanted = match &self.table {
            None => !self.generations.get(&wanted).is_none_or(|g| g.mapping.is_empty()),
            Some(_) => self.has_drifted(),
        };
        is_wanted.then(|| self.mend(wanted))?;
        Some(wanted)
    }

    /// Makes the table what the history says; a trial goes on, unless it went with the table.
    fn mend(&mut self, wanted: Number) {
        let mapping = |number| self.generations.get(&number).map(|g| g.mapping.clone());
        let active = mapping(wanted).unwrap_or_default();
        let on_trial = self.table.as_ref().filter(|_| self.is_on_trial());
        let on_trial = on_trial.and_then(|table| mapping(table.stamp?));
        if let Some(on_trial) = on_trial {
            return self.repair(active, on_trial);
        }
        self.carry_out(&active, Record::Existing(wanted));
        if let Some(generation) = self.generations.get_mut(&wanted) {
            generation.fate = Fate::Kept;
            (generation.is_open, generation.is_untold) = (false, false);
        }
    }
}
