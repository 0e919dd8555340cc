//! The one path by which anything reaches the kernel: assess, record the intent, commit, read back,
//! record how it ended. Apply, rollback, confirm, restore and clear take it, each with another
//! mapping to start from.

use std::rc::Rc;
use std::time::Instant;

use super::error::{Context, Effect, Error, Result};
use super::observer::{Event, Observer, timed};
use super::session::Session;
use super::summary::Change;
use super::view::{TrialId, View};
use super::{Engine, announce};
use crate::formats::rules;
use crate::history::{Draft, History, Outcome};
use crate::kernel::Kernel;
use crate::mapping::Digest;
use crate::mapping::{GenerationId, MappingSet, Point};
use crate::plan::{Step, plan};
use crate::ruleset::{self, Ruleset, Stamp, Trial};

/// What the kernel is to do.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What serves, or, with `trial`, what goes on serving when the trial is over.
    pub mapping: &'a MappingSet,
    pub trial: Option<Trial<'a>>,
    /// What becomes of connections that live through a mapping, where no mapping is left.
    pub connections: Connections,
}

/// The kernel takes the translation away from live connections, and so resets them, when the last
/// NAT chain of the network namespace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// The empty chains stay for as long as there are such connections.
    Live,
    /// The table goes, whatever goes with it.
    Cut,
}

impl<'a> Goal<'a> {
    pub fn mapping(mapping: &'a MappingSet) -> Self {
        Self { mapping, trial: None, connections: Connections::Live }
    }

    /// What answers as soon as it is done.
    pub fn serving(&self) -> &'a MappingSet {
        self.trial.map_or(self.mapping, |trial| trial.mapping)
    }

    fn is_empty(&self) -> bool {
        self.mapping.is_empty() && self.trial.is_none()
    }
}

/// A goal as a table: `None` where there is to be none.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub goal: Goal<'a>,
    /// Whether empty chains stay.
    pub is_idle: bool,
}

impl<'a> Wanted<'a> {
    /// Where no mapping is left, live connections decide whether the table stays. If it cannot be
    /// told whether there are any, it does: it can go later.
    pub fn of(
        goal: Goal<'a>,
        kernel: &mut impl Kernel,
        view: &View,
        observer: &dyn Observer,
    ) -> Self {
        if !goal.is_empty() || view.observed().is_none() {
            return Self { goal, is_idle: false };
        }
        // All of them: some may live through a mapping that an earlier change removed.
        let connections = kernel.translated_connections();
        let is_idle = match (goal.connections, connections) {
            (Connections::Cut, Ok(cut)) => {
                if cut > 0 {
                    observer.event(Event::ConnectionsCut(cut));
                }
                false
            }
            (Connections::Live, Ok(connections)) => connections > 0,
            (connections, Err(e)) => {
                observer.event(Event::Shortfall(&e.into()));
                connections == Connections::Live
            }
        };
        Self { goal, is_idle }
    }

    pub fn table(&self, stamp: Option<Stamp>) -> Option<Ruleset> {
        let any = !self.goal.is_empty() || self.is_idle;
        any.then(|| ruleset::desired(self.goal.mapping, self.goal.trial, stamp))
    }

    /// The steps to it; none for a difference in the stamp alone.
    pub fn steps(&self, view: &View) -> Vec<Step> {
        plan(self.table(view.stamp()).as_ref(), view.observed())
    }
}

/// What a change is called in the history.
#[derive(Clone, Debug)]
pub enum Record {
    /// A new generation.
    New(Draft),
    /// The generation that has this number already; `None` for a table without one.
    Existing(Option<GenerationId>),
}

impl Record {
    /// What the change says of itself; `None` where a generation that exists is active again.
    fn draft(&self) -> Option<&Draft> {
        match self {
            Self::New(draft) => Some(draft),
            Self::Existing(_) => None,
        }
    }
}

/// What is to be done, and whether the history has it already.
pub struct Assessment {
    pub steps: Vec<Step>,
    /// Whether the history knows the active generation by this very mapping. It does not if
    /// another program has changed the table, or if the history was lost.
    is_recorded: bool,
}

impl Assessment {
    /// `history` is `None` where none is kept.
    pub fn of(wanted: &Wanted<'_>, view: &View, history: Option<&History>) -> Self {
        let mapping = wanted.goal.mapping;
        let is_recorded = history.is_none_or(|history| match history.active(view.seen()) {
            None => false,
            Some(Point::Beginning) => mapping.is_empty(),
            Some(Point::Generation(number)) => {
                history.header(number).is_some_and(|header| header.holds(&rules::text(mapping)))
            }
        });
        Self { steps: wanted.steps(view), is_recorded }
    }

    /// Where there is to be no table, nothing could bear a number.
    pub fn is_done(&self, goal: &Goal<'_>) -> bool {
        self.steps.is_empty() && (self.is_recorded || goal.is_empty())
    }
}

impl Change {
    /// What `wanted` would change, before anything is.
    fn ahead(wanted: &Wanted<'_>, view: &View, assessment: &Assessment) -> Self {
        let after = Rc::new(wanted.goal.serving().clone());
        let is_committed = !assessment.is_done(&wanted.goal);
        let before = Rc::clone(view.serving());
        let repairs: Vec<_> = match view.foreign() {
            [] => view.repairs().iter().map(Step::to_string).collect(),
            // The table is made anew as a whole.
            _ => Vec::new(),
        };
        let goes = assessment.steps.first() == Some(&Step::DeleteTable);
        let has_effect = before != after || view.running().is_some() || goes || !repairs.is_empty();
        Self {
            before,
            foreign: view.foreign().to_vec(),
            repairs,
            has_effect: is_committed && has_effect,
            is_committed,
            is_idle: wanted.is_idle,
            ..Self::none(after, view.stamped())
        }
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// What `wanted` would change. Needs no lock.
    pub(super) fn preview_of(
        &self,
        wanted: &Wanted<'_>,
        view: &View,
        history: Option<&History>,
    ) -> Change {
        let assessment = Assessment::of(wanted, view, history);
        let change = Change::ahead(wanted, view, &assessment);
        if change.has_effect {
            self.observer.event(Event::Ahead(&assessment.steps));
        }
        change
    }
}

impl<K: Kernel> Session<'_, K> {
    /// Makes the kernel do what `goal` says, in one transaction, or nothing at all. `input` is the
    /// digest of what the mapping was read from.
    pub fn carry_out(
        &mut self,
        goal: Goal<'_>,
        record: Record,
        input: Option<Digest>,
    ) -> Result<Change> {
        let wanted = Wanted::of(goal, self.kernel, &self.view, self.observer);
        let history = self.history.as_deref();
        let assessment = Assessment::of(&wanted, &self.view, history);
        let active = self.active();
        if assessment.is_done(&goal) {
            let serving = Rc::clone(self.view.serving());
            return Ok(Change::none(serving, active.and_then(Point::generation)));
        }
        let mut change = Change::ahead(&wanted, &self.view, &assessment);
        let layers = self.view.layers();
        let redirects = self.view.observed().is_some_and(|table| table.ruleset.redirects());
        self.prepare_flows(&goal);
        let draft = record.draft().cloned();
        let number = self.begin(&goal, record, active, &assessment)?;
        if let Err(e) = self.commit(&wanted, Stamp { generation: number, ruleset: 0, input }) {
            let error = self.after_failed_commit(e, &wanted, number, &layers);
            if error.effect > Effect::Unchanged {
                self.observer.event(Event::Changed(&Change { generation: number, ..change }));
            }
            return Err(error);
        }
        change.committed_at = Some(Instant::now());
        // Before the record is finished: the next command cleans up after one that is killed here.
        self.clean_up_flows(&goal, &layers);
        if redirects {
            self.clean_redirected_flows(&layers);
        }
        if goal.connections == Connections::Cut {
            self.forget_connections();
        }
        let outcome = if goal.trial.is_some() { Outcome::Trial } else { Outcome::Committed };
        change.shortfall = self.finish(number, outcome).err();
        self.prune();
        change.generation = number;
        change.trial = goal.trial.and_then(|trial| Some((TrialId(number?), trial.time)));
        announce::change(self.system, &change, draft.as_ref());
        self.observer.event(Event::Changed(&change));
        Ok(change)
    }

    /// Decides the number, and writes down the intent. `None` without history.
    fn begin(
        &mut self,
        goal: &Goal<'_>,
        record: Record,
        active: Option<Point>,
        assessment: &Assessment,
    ) -> Result<Option<GenerationId>> {
        let draft = match record {
            Record::Existing(number) => return Ok(number),
            Record::New(draft) => draft,
        };
        let same =
            assessment.is_recorded && goal.trial.is_none() && *goal.mapping == **self.view.active();
        let kernel = self.view.stamped();
        let Some(history) = &mut self.history else { return Ok(None) };
        // Nothing but a repair: the mapping that serves stays, and so does its number.
        if let Some(active) = active.filter(|_| same) {
            return Ok(active.generation());
        }
        let draft = Draft { parent: active, ..draft };
        let text = rules::text(goal.serving());
        let begun =
            timed(self.observer, "write the history", || history.begin(draft, &text, kernel));
        begun.context("write the history").map(Some)
    }

    /// What a commit that failed has left behind.
    fn after_failed_commit(
        &mut self,
        error: Error,
        wanted: &Wanted<'_>,
        number: Option<GenerationId>,
        layers: &[Rc<MappingSet>],
    ) -> Error {
        if !self.learn_the_outcome() {
            let unknown = "it is not known whether the kernel has made the change";
            return error.at_least(Effect::Partly).context(unknown);
        }
        // Where all is as it was to be, only the answer was lost.
        let is_there = wanted.is_reached(&self.view, number);
        // The first of two commits that end a trial: nothing leads to its layer any more.
        let is_half = wanted.goal.trial.is_none()
            && layers.len() > 1
            && self.view.trial().is_none()
            && **self.view.active() == *wanted.goal.mapping;
        if is_there || is_half || error.effect != Effect::Unchanged {
            self.clean_up_flows(&wanted.goal, layers);
        }
        match (is_there, is_half) {
            (true, _) => error
                .at_least(Effect::Changed)
                .context("the mapping is in the kernel, but was not verified"),
            (false, true) => error
                .at_least(Effect::Partly)
                .context("the mapping is in the kernel, but so is what is left of the trial"),
            // The first of two commits that move mappings.
            (false, false) if error.effect == Effect::Partly => {
                error.context("the new mapping is in the kernel, but so is what it was to replace")
            }
            (false, false) => error,
        }
    }

    /// What must be gone before the commit.
    fn prepare_flows(&mut self, goal: &Goal<'_>) {
        if goal.trial.is_some() {
            // Those of an earlier trial: this one must not continue them.
            return self.clear_trial_flows();
        }
        let kept = self.view.running().is_some_and(|trial| *trial.mapping == *goal.mapping);
        if kept {
            // Those from before the trial, to which its clients would return for a moment. As long
            // as the trial runs, no packet meets them.
            let before = [Rc::clone(self.view.active())];
            self.clean_flows(&before, goal.mapping);
        }
    }

    /// During a trial its flows are in a zone of their own, and those from before are to be met
    /// again when it is over: only its end deletes any. Where there are no zones, clients come to
    /// the trial like to any other mapping.
    fn clean_up_flows(&mut self, goal: &Goal<'_>, layers: &[Rc<MappingSet>]) {
        if goal.trial.is_some_and(|trial| trial.zone) {
            return;
        }
        if layers.len() > 1 {
            self.clear_trial_flows();
        }
        self.clean_flows(layers, goal.serving());
    }
}
