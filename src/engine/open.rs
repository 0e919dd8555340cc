//! How a change begins: the lock, a look at the kernel, and what earlier commands have left.

use super::change::{Goal, Record};
use super::error::{Context, Error, Result};
use super::observer::{Event, timed};
use super::session::Session;
use super::view::View;
use super::{Engine, Locking};
use crate::history::{self, History};
use crate::kernel::{Extent, Kernel, Snapshot};
use crate::mapping::{MappingSet, Point};

impl<K: Kernel> Engine<'_, K> {
    /// Takes the lock, reads the kernel, and settles what killed commands left open.
    ///
    /// The kernel is read first: without the privilege for it nothing else makes sense. It is read
    /// again only if it has changed since.
    pub(super) fn session(&mut self, locking: Locking) -> Result<Session<'_, K>> {
        let snapshot = self.read(Extent::Whole)?;
        self.session_after(snapshot, locking)
    }

    pub(super) fn session_after(
        &mut self,
        snapshot: Snapshot,
        locking: Locking,
    ) -> Result<Session<'_, K>> {
        let observer = self.observer;
        let lock = timed(observer, "lock", || History::lock(&self.state_dir, self.wait));
        observer.event(Event::Locked);
        let (history, lock) = match (locking, lock) {
            (Locking::Required, lock) => (Some(lock.context("open the history")?), None),
            // What changes only the kernel needs nothing to be written.
            (
                Locking::BestEffort,
                Err(e @ (history::Error::Io { .. } | history::Error::Unsynced { .. })),
            ) => {
                let error = Error::from(e).context("go on without the lock");
                observer.event(Event::Shortfall(&error));
                (None, None)
            }
            (Locking::BestEffort, lock) => (Some(lock.context("open the history")?), None),
            (Locking::WithoutHistory, Err(e @ history::Error::Locked { .. })) => {
                return Err(e.into());
            }
            (Locking::WithoutHistory, lock) => (None, lock.ok()),
        };
        let view = still_current(&mut self.kernel, snapshot)?;
        let (kernel, system) = (&mut self.kernel, &self.system);
        let mut session = Session { kernel, observer, system, view, history, _lock: lock };
        match (session.settle().context("settle the history"), locking) {
            (Err(e), Locking::BestEffort) => observer.event(Event::Shortfall(&e)),
            (result, _) => result?,
        }
        if locking == Locking::Required {
            session.remove_idle_table()?;
        }
        Ok(session)
    }
}

/// The view of what was read before the lock was taken, or of another look if it has changed since.
/// A trial may have run out meanwhile: that is no commit, and no new generation.
fn still_current(kernel: &mut impl Kernel, snapshot: Snapshot) -> Result<View> {
    let on_trial = snapshot.table.as_ref().is_some_and(|table| table.ruleset.gate.is_some());
    if on_trial || kernel.generation()? != snapshot.generation {
        return Ok(View::new(kernel.snapshot(Extent::Whole)?));
    }
    Ok(View::new(snapshot))
}

impl<K: Kernel> Session<'_, K> {
    /// Removes a table that was left without mappings for connections, if they have ended.
    pub fn remove_idle_table(&mut self) -> Result<()> {
        if !self.view.is_idle(self.history.as_deref()) {
            return Ok(());
        }
        let number = self.active().and_then(Point::generation);
        let nothing = MappingSet::default();
        let change = self.carry_out(Goal::mapping(&nothing), Record::Existing(number), None)?;
        self.tell_shortfall(&change);
        Ok(())
    }
}
