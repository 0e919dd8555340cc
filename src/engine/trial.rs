//! The ends of a trial: it is kept, it is ended, or its time is up. A command that watches one acts on
//! that trial, and on no other.

use std::rc::Rc;
use std::time::Duration;

use super::change::{Goal, Record};
use super::error::{Refusal, Result};
use super::session::Session;
use super::summary::Change;
use super::view::{TrialId, View};
use super::{Engine, Locking};
use crate::history::{Draft, History, Outcome};
use crate::kernel::{Extent, Kernel};
use crate::mapping::Point;

/// What has become of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Running {
        left: Duration,
    },
    /// The time is up: the kernel has gone back by itself.
    Expired,
    /// Confirmed, by whichever command.
    Confirmed,
    /// Ended before its time, by whichever command, or overtaken by another change.
    Ended,
}

/// A trial that has been ended, and how it had ended before.
#[derive(Debug)]
pub struct Ended {
    pub change: Change,
    /// Whether it was running until then.
    pub was_running: bool,
}

impl Fate {
    fn of(trial: TrialId, view: &View, history: &History) -> Self {
        if view.stamped() == Some(trial.0) {
            return match view.trial() {
                Some(trial) if trial.left.is_zero() => Fate::Expired,
                Some(trial) => Fate::Running { left: trial.left },
                None => Fate::Confirmed,
            };
        }
        // Confirmed and then overtaken, or reverted: only the history can tell.
        match history.header(trial.0).map(|header| header.outcome) {
            Some(Outcome::Committed) => Fate::Confirmed,
            _ => Fate::Ended,
        }
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// What has become of a trial that was begun by [`Engine::apply`].
    pub fn fate(&mut self, trial: TrialId) -> Result<Fate> {
        let view = View::new(self.kernel.snapshot(Extent::Outline)?);
        Ok(Fate::of(trial, &view, &self.history()?))
    }

    /// What is on trial becomes the active mapping; if a trial is named, that one and no other.
    pub fn confirm(&mut self, expected: Option<TrialId>, persist: bool) -> Result<Change> {
        let mut session = self.session(Locking::Required)?;
        let Some(trial) = session.view.running() else {
            return Err(session.nothing_on_trial(expected));
        };
        if expected.is_some() && expected != trial.id {
            return Err(session.nothing_on_trial(expected));
        }
        let (mapping, number) = (Rc::clone(&trial.mapping), trial.id.map(|id| id.0));
        let goal = Goal::mapping(&mapping);
        let mut change = session.carry_out(goal, Record::Existing(number), None)?;
        if persist {
            session.persist_change(&mut change);
        } else {
            session.look_ahead(&mut change);
        }
        Ok(change)
    }

    /// The mapping from before the trial serves again, at once.
    pub fn end_trial(&mut self, expected: TrialId) -> Result<Ended> {
        let mut session = self.session(Locking::Required)?;
        if session.trial() != Some(expected) {
            return Err(session.nothing_on_trial(Some(expected)));
        }
        match session.end_trial()? {
            Some(ended) => Ok(ended),
            None => Err(Refusal::NothingOnTrial.into()),
        }
    }

    /// Takes what an expired trial left out of the kernel. Says what has become of the trial.
    pub fn tidy_trial(&mut self, trial: TrialId) -> Result<Fate> {
        let mut session = self.session(Locking::Required)?;
        let fate = session.fate(trial)?;
        if fate == Fate::Expired {
            session.tidy()?;
        }
        Ok(fate)
    }
}

impl<K: Kernel> Session<'_, K> {
    fn fate(&self, trial: TrialId) -> Result<Fate> {
        let history = self.history.as_deref().ok_or(Refusal::NothingOnTrial)?;
        Ok(Fate::of(trial, &self.view, history))
    }

    /// Ends the trial, running or over; `None` if there is none.
    pub fn end_trial(&mut self) -> Result<Option<Ended>> {
        if self.view.trial().is_none() {
            return Ok(None);
        }
        let was_running = self.view.running().is_some();
        let trial = self.trial();
        let active = Rc::clone(self.view.active());
        let number = self.active().and_then(Point::generation);
        let mut change = self.carry_out(Goal::mapping(&active), Record::Existing(number), None)?;
        let reverted = self.finish(trial.map(|id| id.0), Outcome::Reverted);
        change.shortfall = change.shortfall.or(reverted.err());
        Ok(Some(Ended { change, was_running }))
    }

    /// A new generation, which also ends whatever trial there is.
    pub fn carry_out_ending_trial(&mut self, goal: Goal<'_>, draft: Draft) -> Result<Change> {
        let trial = self.trial();
        let mut change = self.carry_out(goal, Record::New(draft), None)?;
        let reverted = self.finish(trial.map(|id| id.0), Outcome::Reverted);
        change.shortfall = change.shortfall.or(reverted.err());
        Ok(change)
    }

    /// Why there is nothing to confirm or to end. Removes what an expired trial left.
    fn nothing_on_trial(&mut self, expected: Option<TrialId>) -> super::Error {
        if let Some(trial) = expected {
            match self.fate(trial) {
                Ok(Fate::Confirmed) => return Refusal::Confirmed { number: trial.0 }.into(),
                Ok(Fate::Ended) => return Refusal::Ended { number: trial.0 }.into(),
                Ok(Fate::Expired | Fate::Running { .. }) => {}
                Err(e) => return e,
            }
        }
        match self.end_trial() {
            Err(e) => e,
            Ok(None) => Refusal::NothingOnTrial.into(),
            Ok(Some(ended)) => {
                self.tell_shortfall(&ended.change);
                Refusal::TrialOver.into()
            }
        }
    }

    /// Removes what is left of a trial whose time is up.
    pub fn tidy(&mut self) -> Result<()> {
        if let Some(ended) = self.end_trial()? {
            self.tell_shortfall(&ended.change);
        }
        Ok(())
    }
}
