//! What a reboot brings back: the pointer to a generation, and its use.

use super::change::{Goal, Record};
use super::drift::Drift;
use super::error::{Context, Effect, Error, Refusal, Result};
use super::next_boot::{self, NextBoot};
use super::observer::Event;
use super::session::{Session, mapping_of};
use super::summary::{Change, Persisted};
use super::{Engine, Locking, announce};
use crate::history::{self, History};
use crate::kernel::{Extent, Kernel};
use crate::mapping::{GenerationId, MappingSet, Point};

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
        /// What was active last, if that was another mapping.
        instead_of: Option<Replaced>,
        change: Box<Change>,
    },
}

/// A mapping that was active, and that another one has replaced although nobody asked for that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// `None` for what is not in the history.
    pub generation: Option<GenerationId>,
    /// Whether it was in the kernel until now, and not gone before.
    pub was_live: bool,
}

/// What became of the wish to have a mapping restored at boot.
#[derive(Debug)]
pub struct Persisting {
    pub persisted: Persisted,
    pub next_boot: NextBoot,
    /// Why boot will not restore it.
    pub shortfall: Option<Error>,
}

/// What [`Engine::forget`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    Nothing,
    Pointer,
}

impl<K: Kernel> Engine<'_, K> {
    /// Makes boot restore the generation that the kernel holds at this moment.
    pub fn persist(&mut self) -> Result<Persisting> {
        let mut session = self.session(Locking::Required)?;
        session.no_trial_runs()?;
        session.tidy()?;
        let active = session.active().and_then(Point::generation);
        session.persist(active)
    }

    /// What boot makes of the generation that is active, and persisted already.
    pub fn persisted(&self, number: GenerationId) -> Result<Persisting> {
        let history = self.history()?;
        let at_boot = next_boot::arranged(&self.system, &self.state_dir);
        let next_boot = NextBoot::of(at_boot, Ok(Some(number)), Some(number.into()), &history);
        let persisted = Persisted { before: Some(number), after: Some(number) };
        Ok(Persisting::new(persisted, next_boot))
    }

    /// Makes boot restore nothing.
    pub fn forget(&mut self) -> Result<Forgotten> {
        // One that cannot be read is not kept either.
        if matches!(self.history()?.boot(), Ok(None)) {
            return Ok(Forgotten::Nothing);
        }
        History::lock(&self.state_dir, self.wait)?.clear_boot().map_err(pointed)?;
        announce::boot(&self.system, None);
        self.observer.event(Event::BootChanged(None));
        Ok(Forgotten::Pointer)
    }

    /// Whether the kernel has no table of portmap's: after a reboot, or a flush by another program.
    pub fn is_gone(&mut self) -> Result<bool> {
        Ok(self.read(Extent::Outline)?.table.is_none())
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
        let instead_of = session.replaced_by(number, &mapping, &history);
        let record = Record::Existing(Some(number));
        let change = session.carry_out(Goal::mapping(&mapping), record, None)?;
        let (mappings, change) = (mapping.len(), Box::new(change));
        Ok(Restored::Generation { number, mappings, instead_of, change })
    }
}

impl Persisting {
    fn new(persisted: Persisted, next_boot: NextBoot) -> Self {
        let shortfall = next_boot.shortfall().map(|error| error.at_least(Effect::Changed));
        Self { persisted, next_boot, shortfall }
    }
}

/// What is in place is what boot finds, unless the power fails before it is on the disk.
fn pointed(error: history::Error) -> Error {
    let is_done = matches!(error, history::Error::Unsynced { .. });
    let effect = if is_done { Effect::Changed } else { Effect::Unchanged };
    Error::from(error).at_least(effect)
}

fn persisted(history: &History) -> Result<Option<GenerationId>> {
    match history.boot() {
        Ok(boot) => Ok(boot),
        // Read again, to own the error.
        Err(_) => {
            Ok(History::open(history.dir())?.into_boot().context("find out what to restore")?)
        }
    }
}

/// The generation that is persisted, if it can be read.
pub(super) fn restorable(history: &History) -> Result<Option<GenerationId>> {
    let boot = persisted(history)?;
    if let Some(number) = boot {
        history.text(number).context("boot could not restore it")?;
    }
    Ok(boot)
}

impl<K: Kernel> Session<'_, K> {
    /// Makes boot restore what a change has made active. The change is in the kernel: what fails
    /// here is its shortfall.
    pub fn persist_change(&mut self, change: &mut Change) {
        match self.persist(change.generation) {
            Ok(Persisting { persisted, next_boot, shortfall }) => {
                change.persisted = Some(persisted);
                change.next_boot = Some(next_boot);
                change.shortfall = change.shortfall.take().or(shortfall);
            }
            Err(e) => {
                let effect = if change.is_committed { Effect::Changed } else { Effect::Unchanged };
                let e = e.context("the mapping is active, but boot does not restore it");
                change.shortfall.get_or_insert(e.at_least(effect));
            }
        }
    }

    fn persist(&mut self, generation: Option<GenerationId>) -> Result<Persisting> {
        let number = generation.ok_or(Refusal::NothingToPersist)?;
        let Some(history) = &mut self.history else { return Err(Refusal::NothingToPersist.into()) };
        if let Some(drift) = Drift::of(&self.view, history)? {
            return Err(Refusal::Drifted { number, drift }.into());
        }
        // A pointer that cannot be read is written anew.
        let before = history.boot().ok().flatten();
        if before != generation {
            history.set_boot(number).map_err(pointed).context("persist")?;
            announce::boot(self.system, generation);
            self.observer.event(Event::BootChanged(generation));
        }
        let at_boot = next_boot::arranged(self.system, history.dir());
        let next_boot = NextBoot::of(at_boot, Ok(generation), Some(number.into()), history);
        let persisted = Persisted { before, after: generation };
        Ok(Persisting::new(persisted, next_boot))
    }

    /// Makes boot restore nothing, after a change that left nothing to restore.
    pub fn forget_after(&mut self, change: &mut Change) {
        let Some(history) = &mut self.history else { return };
        // One that cannot be read is not kept either.
        let (is_none, before) = match history.boot() {
            Ok(before) => (before.is_none(), before),
            Err(_) => (false, None),
        };
        if is_none {
            change.persisted = Some(Persisted { before, after: None });
            return;
        }
        match history.clear_boot().context("nothing is mapped, but boot still restores") {
            Ok(()) => {
                announce::boot(self.system, None);
                self.observer.event(Event::BootChanged(None));
                change.persisted = Some(Persisted { before, after: None });
            }
            Err(e) => {
                let effect = if change.is_committed { Effect::Changed } else { Effect::Unchanged };
                change.shortfall.get_or_insert(e.at_least(effect));
            }
        }
    }

    /// Looks at what boot brings after a change, where there is a history to tell it from.
    pub fn look_ahead(&self, change: &mut Change) {
        let Some(history) = &self.history else { return };
        if change.trial.is_none() {
            let persisted = restorable(history).map_err(drop);
            let at_boot = self.system.at_boot(history.dir());
            change.next_boot = Some(NextBoot::of(at_boot, persisted, self.active(), history));
        }
    }

    /// What is lost by restoring a generation: the mapping that is in the kernel, or was last.
    fn replaced_by(
        &self,
        number: GenerationId,
        mapping: &MappingSet,
        history: &History,
    ) -> Option<Replaced> {
        if self.view.observed().is_some() {
            let is_same = self.view.active().is_empty() || **self.view.active() == *mapping;
            let generation = history.active(self.view.seen()).and_then(Point::generation);
            return (!is_same).then_some(Replaced { generation, was_live: true });
        }
        let last = history.last_served()?;
        let is_same = history.is_same_mapping(last.into(), number.into());
        (!is_same).then_some(Replaced { generation: Some(last), was_live: false })
    }
}
