//! A change in progress: the kernel as it was read, the history under its lock, and nobody else's
//! portmap that changes anything meanwhile.

use std::rc::Rc;

use super::announce;
use super::error::{Context, Effect, Error, Refusal, Result};
use super::observer::{Event, Observer, timed};
use super::summary::Change;
use super::view::{TrialId, View};

use crate::formats::rules;
use crate::history::{History, Locked, Outcome, Settlement};
use crate::host::boot::System;
use crate::kernel::{Extent, Kernel};
use crate::mapping::{GenerationId, MappingSet, Point};

pub struct Session<'e, K> {
    pub kernel: &'e mut K,
    pub observer: &'e dyn Observer,
    pub system: &'e System,
    pub view: View,
    /// `None` where no history is kept.
    pub history: Option<Locked>,
    /// The lock alone, where no history is kept.
    pub _lock: Option<Locked>,
}

impl<K: Kernel> Session<'_, K> {
    /// What serves when no trial runs; `None` if it is not in the history.
    pub fn active(&self) -> Option<Point> {
        self.history.as_ref()?.active(self.view.seen())
    }

    /// The trial whose layer is in the table, be its time up or not.
    pub fn trial(&self) -> Option<TrialId> {
        self.view.trial().and_then(|trial| trial.id)
    }

    /// Refuses while a trial runs.
    pub fn no_trial_runs(&self) -> Result<()> {
        match self.view.running() {
            Some(trial) => Err(Refusal::OnTrial { left: trial.left }.into()),
            None => Ok(()),
        }
    }

    pub fn read_again(&mut self) -> Result<()> {
        self.view = View::new(self.kernel.snapshot(Extent::Whole)?);
        Ok(())
    }

    /// Writes down how generations ended that killed commands left open, and deletes the flows
    /// that they left behind.
    pub fn settle(&mut self) -> Result<()> {
        for settlement in self.settle_history()? {
            announce::settled(self.system, &settlement);
            self.observer.event(Event::Settled(&settlement));
            self.clean_after(settlement);
        }
        Ok(())
    }

    fn settle_history(&mut self) -> Result<Vec<Settlement>> {
        match &mut self.history {
            Some(history) => Ok(history.settle(self.view.seen())?),
            None => Ok(Vec::new()),
        }
    }

    /// A commit that failed may have reached the kernel all the same, where its answer was lost
    /// or what was read back is not as it should be. Only the stamp tells.
    /// `false` if even that cannot be read.
    pub fn learn_the_outcome(&mut self) -> bool {
        if self.read_again().is_err() {
            return false;
        }
        if let Err(e) = self.settle_history().context("record how it ended") {
            self.observer.event(Event::Shortfall(&e));
        }
        true
    }

    fn clean_after(&mut self, settlement: Settlement) {
        let Some(history) = &self.history else { return };
        if settlement.to == Outcome::Failed {
            return;
        }
        let header = history.header(settlement.number);
        let was_tried = header.is_some_and(|header| header.trial_until.is_some());
        let parent = header.and_then(|header| header.parent);
        let before = [Some(Point::Generation(settlement.number)), parent].into_iter().flatten();
        let before = before.filter_map(|point| mapping_of(history, point).ok()).map(Rc::new);
        let (before, now) = (before.collect::<Vec<_>>(), Rc::clone(self.view.serving()));
        if was_tried && self.view.running().is_none() {
            self.clear_trial_flows();
        }
        self.clean_flows(&before, &now);
    }

    /// Deletes flows that were tracked under mappings that do not serve any more.
    pub fn clean_flows(&mut self, layers: &[Rc<MappingSet>], now: &MappingSet) {
        let observer = self.observer;
        for before in layers {
            let cleaned = timed(observer, "clean flows", || self.kernel.clean_flows(before, now));
            self.tell_of_flows(cleaned.map_err(Error::from));
        }
    }

    /// Deletes the flows of a trial that is over, or of one that begins with none.
    pub fn clear_trial_flows(&mut self) {
        let cleared = self.kernel.clear_trial_flows();
        self.tell_of_flows(cleared.map_err(Error::from));
    }

    /// Deletes flows that a table of an earlier build moved to another address.
    pub fn clean_redirected_flows(&mut self, layers: &[Rc<MappingSet>]) {
        for before in layers {
            let cleaned = self.kernel.clean_redirected_flows(before);
            self.tell_of_flows(cleaned.map_err(Error::from));
        }
    }

    /// Connections that were cut are not ended by anybody: to connection tracking they would live
    /// for days.
    pub fn forget_connections(&mut self) {
        let forgotten = self.kernel.forget_translated_connections();
        if let Err(e) = forgotten {
            self.observer.event(Event::Shortfall(&e.into()));
        }
    }

    /// Tells of what failed after a change that is only a step on the way.
    pub fn tell_shortfall(&self, change: &Change) {
        if let Some(shortfall) = &change.shortfall {
            self.observer.event(Event::Shortfall(shortfall));
        }
    }

    fn tell_of_flows(&self, deleted: Result<usize>) {
        match deleted {
            Ok(0) => {}
            Ok(flows) => self.observer.event(Event::FlowsDeleted(flows)),
            Err(e) => self.observer.event(Event::Shortfall(&e)),
        }
    }

    /// Writes down how a generation ended. The kernel does it already: what fails here is told,
    /// and the next command learns the rest from the stamp.
    pub fn finish(&mut self, number: Option<GenerationId>, outcome: Outcome) -> Result<()> {
        let (Some(history), Some(number)) = (&mut self.history, number) else { return Ok(()) };
        let doing = format!(
            "the kernel does it, but the history does not say so yet: finish \
                             generation {number}"
        );
        let finished = history.finish(number, outcome).context(&doing);
        finished.map_err(|e| e.at_least(Effect::Changed))
    }

    pub fn prune(&mut self) {
        let active = self.active();
        let Some(history) = &mut self.history else { return };
        if let Err(e) = history.prune(active).context("remove old generations") {
            self.observer.event(Event::Shortfall(&e));
        }
    }
}

/// The mapping of a point in the history.
pub fn mapping_of(history: &History, point: Point) -> Result<MappingSet> {
    let Point::Generation(number) = point else { return Ok(MappingSet::default()) };
    let text = history.text(number).context(&format!("read generation {number}"))?;
    if text.is_empty() {
        return Ok(MappingSet::default());
    }
    let mapping = rules::parse_stored(&format!("generation {number}"), text);
    mapping.ok_or_else(|| Refusal::NotRules { number }.into())
}
