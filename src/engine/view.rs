//! What the kernel is doing for us, read at one generation of the ruleset.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use crate::history::{self, History, Seen, Stamped};
use crate::kernel::Snapshot;
use crate::mapping::{GenerationId, MappingSet};
use crate::plan::{Step, plan};
use crate::ruleset::{self, Layer, Observed, Ruleset, Stamp, Trial};

/// A snapshot of the kernel, and what it means.
#[derive(Debug)]
pub struct View {
    snapshot: Snapshot,
    active: OnceCell<Rc<MappingSet>>,
    trial: Option<TrialView>,
}

/// The identity of a trial: the generation that was put on trial. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialId(pub GenerationId);

/// The second layer of the table.
#[derive(Debug)]
pub struct TrialView {
    /// `None` if the table bears no stamp that says so.
    pub id: Option<TrialId>,
    pub mapping: Rc<MappingSet>,
    /// Zero once the kernel has gone back.
    pub left: Duration,
}

impl View {
    pub fn new(snapshot: Snapshot) -> Self {
        let ruleset = snapshot.table.as_ref().map(|table| &table.ruleset);
        let trial = ruleset.and_then(|ruleset| {
            ruleset.trial_gate().map(|gate| TrialView {
                id: ruleset.stamp().and_then(|stamp| stamp.generation).map(TrialId),
                mapping: Rc::new(ruleset.mapping(Layer::Trial)),
                left: gate.left,
            })
        });
        Self { snapshot, active: OnceCell::new(), trial }
    }

    pub fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// The generation of the whole ruleset at which it was read.
    pub fn generation(&self) -> u32 {
        self.snapshot.generation
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.snapshot.table.as_ref()
    }

    /// The first layer: what serves when no trial runs. Made out only when asked for.
    pub fn active(&self) -> &Rc<MappingSet> {
        self.active.get_or_init(|| {
            let observed = self.observed();
            Rc::new(observed.map(|o| o.ruleset.mapping(Layer::Active)).unwrap_or_default())
        })
    }

    /// The second layer, be its time up or not.
    pub fn trial(&self) -> Option<&TrialView> {
        self.trial.as_ref()
    }

    /// The trial that is running.
    pub fn running(&self) -> Option<&TrialView> {
        self.trial().filter(|trial| !trial.left.is_zero())
    }

    /// What answers at this moment.
    pub fn serving(&self) -> &Rc<MappingSet> {
        self.running().map_or_else(|| self.active(), |trial| &trial.mapping)
    }

    /// All that may have been in force since the last command: both layers of a trial.
    pub fn layers(&self) -> Vec<Rc<MappingSet>> {
        let trial = self.trial().map(|trial| Rc::clone(&trial.mapping));
        [Rc::clone(self.active())].into_iter().chain(trial).collect()
    }

    pub fn stamp(&self) -> Option<Stamp> {
        self.observed().and_then(|observed| observed.ruleset.stamp())
    }

    /// The generation that the table is stamped with: during a trial, the one on trial. `None`
    /// where there is no table, or where it was made without history.
    pub fn stamped(&self) -> Option<GenerationId> {
        self.stamp().and_then(|stamp| stamp.generation)
    }

    /// What the history needs to know of the kernel.
    pub fn seen(&self) -> Seen {
        let stamp = match (self.observed(), self.stamped()) {
            (None, _) => Stamped::NoTable,
            // Left for connections, where no generation says that nothing is mapped: it is as if
            // there were none.
            (Some(_), None) if self.has_no_mapping() => Stamped::NoTable,
            (Some(_), None) => Stamped::Unrecorded,
            (Some(_), Some(number)) => Stamped::Generation(number),
        };
        let trial = match self.trial() {
            None => history::Trial::None,
            Some(trial) if trial.left.is_zero() => history::Trial::Expired,
            Some(_) => history::Trial::Running,
        };
        Seen { stamp, trial }
    }

    /// What in our table is not ours, or not as we make it; to be removed.
    pub fn foreign(&self) -> &[String] {
        self.observed().map(|observed| observed.foreign.as_slice()).unwrap_or_default()
    }

    /// What would have to be done to the table so that it does what its own maps and chains say:
    /// rules that are missing or doubled, objects of others. Empty for a sound table.
    pub fn repairs(&self) -> Vec<Step> {
        let Some(observed) = self.observed() else { return Vec::new() };
        let gate = observed.ruleset.trial_gate();
        let trial = self.trial().zip(gate);
        let trial = trial.map(|(trial, gate)| Trial {
            mapping: &trial.mapping,
            time: gate.timeout,
            zone: observed.ruleset.has_zone(),
        });
        let sound = ruleset::desired(self.active(), trial, self.stamp());
        // What is left of a trial that has been ended is of no effect; the next change removes it.
        let sound = if trial.is_none() { sound.with_trial_of(&observed.ruleset) } else { sound };
        let mut steps = plan(Some(&sound), Some(observed));
        steps.retain(|step| !matches!(step, Step::ShutGate | Step::OpenGate { .. }));
        steps
    }

    /// Whether the table was left without mappings, so that connections keep their translation:
    /// not by another program that has emptied it.
    pub fn is_idle(&self, history: Option<&History>) -> bool {
        let says_so = |number| {
            let header = history.and_then(|history| history.header(number));
            header.is_some_and(|header| header.is_empty())
        };
        self.has_no_mapping() && self.stamped().is_none_or(says_so)
    }

    fn has_no_mapping(&self) -> bool {
        self.observed().is_some() && self.trial.is_none() && self.active().is_empty()
    }
}

/// Completes an outline with the elements that a commit has just put there. The commit was atomic:
/// where the maps are as they were made, so are their elements.
pub fn filled_in(mut snapshot: Snapshot, made: &Ruleset) -> Snapshot {
    let found = snapshot.table.iter_mut().flat_map(|table| &mut table.ruleset.maps);
    for (name, map) in found {
        if let Some(made) = made.maps.get(name).filter(|_| name.can_be_large()) {
            map.clone_from(made);
        }
    }
    snapshot
}
