//! What a reboot brings back: the pointer to a generation, and its use.

use super::change::{Goal, Record};
use super::drift::Drift;
use super::error::{Context, Effect, Refusal, Result};
use super::observer::Event;
use super::session::{Session, mapping_of};
use super::summary::{Change, Persisted};
use super::{Engine, Locking};
use crate::history::History;
use crate::kernel::Kernel;
use crate::mapping::{GenerationId, Point};

/// What [`Engine::restore`] has done.
#[derive(Debug)]
pub enum Restored {
    /// No mapping is persisted.
    Nothing,
    /// The kernel has a table of portmap's already, and only a missing one was to be restored.
    Present,
    Generation {
        number: GenerationId,
        mappings: usize,
        change: Box<Change>,
    },
}

/// What [`Engine::forget`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    Nothing,
    Pointer,
}

impl<K: Kernel> Engine<'_, K> {
    /// Makes boot restore the generation that the kernel holds at this moment.
    pub fn persist(&mut self) -> Result<Persisted> {
        let mut session = self.session(Locking::Required)?;
        session.no_trial_runs()?;
        session.tidy()?;
        let active = session.active().and_then(Point::generation);
        session.persist(active)
    }

    /// Makes boot restore nothing.
    pub fn forget(&mut self) -> Result<Forgotten> {
        // One that cannot be read is not kept either.
        if matches!(self.history()?.boot(), Ok(None)) {
            return Ok(Forgotten::Nothing);
        }
        History::lock(&self.state_dir, self.wait)?.clear_boot()?;
        self.observer.event(Event::BootChanged(None));
        Ok(Forgotten::Pointer)
    }

    /// Puts the persisted mapping back; with `if_missing` only where the kernel has no table.
    pub fn restore(&mut self, if_missing: bool) -> Result<Restored> {
        // Before the lock: where there is nothing to restore, nothing is made either.
        if persisted(&self.history()?)?.is_none() {
            return Ok(Restored::Nothing);
        }
        let state_dir = self.state_dir.clone();
        let mut session = self.session(Locking::BestEffort)?;
        let is_idle = session.view.is_idle(session.history.as_deref());
        if if_missing && session.view.observed().is_some() && !is_idle {
            return Ok(Restored::Present);
        }
        session.no_trial_runs()?;
        // Again: another may have been persisted while this one waited for the lock.
        let history = History::open(state_dir)?;
        let Some(number) = persisted(&history)? else { return Ok(Restored::Nothing) };
        let mapping = mapping_of(&history, number.into())?;
        let record = Record::Existing(Some(number));
        let change = session.carry_out(Goal::mapping(&mapping), record, None)?;
        Ok(Restored::Generation { number, mappings: mapping.len(), change: Box::new(change) })
    }
}

pub(super) fn persisted(history: &History) -> Result<Option<GenerationId>> {
    match history.boot() {
        Ok(boot) => Ok(boot),
        // Read again, to own the error.
        Err(_) => {
            Ok(History::open(history.dir())?.into_boot().context("find out what to restore")?)
        }
    }
}

impl<K: Kernel> Session<'_, K> {
    /// Makes boot restore what a change has made active. The change is in the kernel: what fails
    /// here is its shortfall.
    pub fn persist_change(&mut self, change: &mut Change) {
        match self.persist(change.generation) {
            Ok(persisted) => change.persisted = Some(persisted),
            Err(e) => {
                let effect = if change.is_committed { Effect::Changed } else { Effect::Unchanged };
                let e = e.context("the mapping is active, but boot does not restore it");
                change.shortfall.get_or_insert(e.at_least(effect));
            }
        }
    }

    fn persist(&mut self, generation: Option<GenerationId>) -> Result<Persisted> {
        let number = generation.ok_or(Refusal::NothingToPersist)?;
        let Some(history) = &mut self.history else { return Err(Refusal::NothingToPersist.into()) };
        if let Some(drift) = Drift::of(&self.view, history)? {
            return Err(Refusal::Drifted { number, drift }.into());
        }
        // A pointer that cannot be read is written anew.
        let before = history.boot().ok().flatten();
        if before != generation {
            history.set_boot(number).context("persist")?;
            self.observer.event(Event::BootChanged(generation));
        }
        Ok(Persisted { before, after: generation })
    }
}
