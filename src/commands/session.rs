//! The one path by which anything reaches the kernel: lock, read, plan, write down the intent,
//! commit, read back, write down how it ended. Apply, rollback, confirm, restore and clear all
//! walk it, with another mapping to start from.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::Common;
use crate::commands::failure::{Refusal, chain, on_trial};
use crate::commands::state::{Looked, State, drift, look};
use crate::commands::stored;
use crate::conntrack;
use crate::journal::{self, Draft, Journal, Locked, Mend, Outcome};
use crate::kernel::{CommitError, Kernel};
use crate::mapping::MappingSet;
use crate::output::Ui;
use crate::plan::{Step, plan, restamp};
use crate::ruleset::{self, Map, MapName, Ruleset, Stamp, Trial};

/// How often a commit is tried anew because somebody else committed in between.
const ATTEMPTS: u32 = 50;

/// Longer than any packet takes from its first rule to its last.
const GRACE: Duration = Duration::from_millis(20);

/// A table with at most so many elements is read back whole.
const READ_BACK_WHOLE: usize = 4096;

/// How many elements of each step are looked up in a larger one: several in each message of the
/// transaction, so that no part of it can have gone astray unseen.
const PROBES: usize = 512;

/// What the kernel is to do.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What serves, or, with `trial`, what goes on serving when the trial is over.
    pub mapping: &'a MappingSet,
    pub trial: Option<Trial<'a>>,
}

impl<'a> Goal<'a> {
    pub fn mapping(mapping: &'a MappingSet) -> Self {
        Self { mapping, trial: None }
    }

    /// What answers as soon as the goal is reached.
    pub fn serving(&self) -> &'a MappingSet {
        self.trial.map_or(self.mapping, |trial| trial.mapping)
    }

    fn table(&self, stamp: Option<Stamp>) -> Option<Ruleset> {
        let empty = self.mapping.is_empty() && self.trial.is_none();
        (!empty).then(|| ruleset::desired(self.mapping, self.trial, stamp))
    }

    /// The steps to it, without a stamp.
    pub fn steps(&self, state: &State) -> Vec<Step> {
        let stamp = state.stamp();
        plan(self.table(stamp).as_ref(), state.observed())
    }
}

/// What a change is called in the history.
#[derive(Clone, Debug)]
pub enum Record {
    /// A new generation.
    New(Draft),
    /// The generation that has this number already.
    Number(u64),
}

/// What became of a change.
#[derive(Debug)]
pub struct Reached {
    /// What served before.
    pub before: Rc<MappingSet>,
    /// The generation that the kernel's table is stamped with; `None` without history or table.
    pub generation: Option<u64>,
    /// Whether anything was committed to the kernel.
    pub committed: bool,
    /// Whether it is on trial.
    pub on_trial: bool,
    /// What was found in the table that did not belong there, and has been replaced.
    pub replaced: Vec<String>,
}

/// A change in progress. Nobody else's portmap changes anything while it lives.
pub struct Session<'a> {
    ui: &'a Ui,
    kernel: Kernel,
    history: Option<Locked>,
    /// Where no history is kept.
    _lock: Option<Locked>,
    pub state: State,
}

impl<'a> Session<'a> {
    /// Takes the lock, reads the kernel, and ends what killed commands left open in the history.
    pub fn open(ui: &'a Ui, common: &Common) -> Result<Self> {
        // The kernel first: without the privilege nothing else makes sense.
        Self::open_after(ui, common, look(ui)?)
    }

    /// The same where the kernel has been looked at already; again only if it has moved since.
    pub fn open_after(ui: &'a Ui, common: &Common, looked: Looked) -> Result<Self> {
        let mut session = Self::lock(ui, common, looked)?;
        session.mend_all()?;
        Ok(session)
    }

    /// The same for boot, which needs nothing to be written: a disk that is full or read-only is
    /// no reason to leave the ports unmapped.
    pub fn open_for_boot(ui: &'a Ui, common: &Common) -> Result<Self> {
        let looked = look(ui)?;
        match Journal::at(&common.state_dir).lock(common.wait) {
            Err(e @ journal::Error::Io { .. }) => {
                ui.warn(format_args!("go on without the lock: {}", chain(&e)));
                let (kernel, state) = still(looked)?;
                Ok(Self { ui, kernel, history: None, _lock: None, state })
            }
            other => {
                let mut session = Self::locked(ui, looked, other.context("open the history")?)?;
                if let Err(e) = session.mend_all() {
                    ui.warn(format_args!("{e:#}"));
                }
                Ok(session)
            }
        }
    }

    fn lock(ui: &'a Ui, common: &Common, looked: Looked) -> Result<Self> {
        let journal = Journal::at(&common.state_dir);
        let lock = ui.timed("lock", || journal.lock(common.wait)).context("open the history")?;
        Self::locked(ui, looked, lock)
    }

    fn locked(ui: &'a Ui, looked: Looked, history: Locked) -> Result<Self> {
        let (kernel, state) = still(looked)?;
        Ok(Self { ui, kernel, history: Some(history), _lock: None, state })
    }

    /// Ends what killed commands left open in the history.
    fn mend_all(&mut self) -> Result<()> {
        for mend in self.mend().context("mend the history")? {
            self.ui.note(mend);
            self.clean_after(mend);
        }
        Ok(())
    }

    /// Without history: no way back, but also no need of a disk. The lock is taken where there is
    /// a place for it.
    pub fn without_history(ui: &'a Ui, common: &Common, looked: Looked) -> Result<Self> {
        let lock = match Journal::at(&common.state_dir).lock(common.wait) {
            Err(e @ journal::Error::Locked { .. }) => return Err(e.into()),
            other => other.ok(),
        };
        let (kernel, state) = still(looked)?;
        Ok(Self { ui, kernel, history: None, _lock: lock, state })
    }

    /// How the kernel differs from the history; see [`drift`].
    pub fn drift(&self) -> Result<Option<String>> {
        match &self.history {
            Some(history) => Ok(drift(&self.state, history)?),
            None => Ok(None),
        }
    }

    pub fn history(&self) -> Option<&Locked> {
        self.history.as_ref()
    }

    /// The generation that serves when no trial runs; 0 for none, `None` if it is not known.
    pub fn active_generation(&self) -> Result<Option<u64>> {
        let Some(history) = &self.history else { return Ok(None) };
        let entries = history.list()?;
        let active = journal::active(journal::readable(&entries), self.state.seen());
        // A number without a file is a history that was lost: it leads nowhere.
        let known = |n: &u64| *n == 0 || entries.iter().any(|entry| entry.number == *n);
        Ok(active.filter(known))
    }

    /// The generation on trial, be the time up or not.
    pub fn on_trial(&self) -> Option<u64> {
        self.state.trial.as_ref()?;
        self.state.stamp().map(|stamp| stamp.generation)
    }

    /// Makes the kernel do what `goal` says, in one transaction, or nothing at all.
    pub fn reach(&mut self, goal: Goal<'_>, record: Record, input: Option<u64>) -> Result<Reached> {
        let before = Rc::clone(self.state.serving());
        let replaced = self.state.strange().to_vec();
        let active = self.active_generation()?;
        let recorded = self.is_recorded(active, goal.mapping);
        // Where there is to be no table, nothing could bear a number.
        if goal.steps(&self.state).is_empty() && (recorded || goal.mapping.is_empty()) {
            let generation = active.filter(|n| *n > 0);
            return Ok(Reached { before, generation, committed: false, on_trial: false, replaced });
        }
        let layers = self.state.layers();
        let number = self.begin(&goal, record, active, recorded)?;
        if let Err(e) = self.commit(&goal, Stamp { generation: number, ruleset: 0, input }) {
            self.learn_the_outcome();
            let stamped = number > 0 && self.state.stamp().is_some_and(|s| s.generation == number);
            // The number alone does not tell: what is confirmed or restored had it before.
            let trial = self.state.running().is_some();
            if !stamped
                || trial != goal.trial.is_some()
                || **self.state.serving() != *goal.serving()
            {
                return Err(e);
            }
            self.clean_flows(&layers, goal.serving());
            return Err(e.context(format!("generation {number} is in the kernel all the same")));
        }
        // Before the record is finished: who is killed here leaves the flows to `clean_after`.
        self.clean_flows(&layers, goal.serving());
        let outcome = if goal.trial.is_some() { Outcome::Trial } else { Outcome::Committed };
        self.finish(number, outcome);
        self.prune();
        let generation = (number > 0).then_some(number);
        let on_trial = goal.trial.is_some();
        Ok(Reached { before, generation, committed: true, on_trial, replaced })
    }

    /// Whether the history knows the active generation by this very mapping. It does not if
    /// somebody else has changed the table, or if the history was lost.
    fn is_recorded(&self, active: Option<u64>, mapping: &MappingSet) -> bool {
        match (&self.history, active) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(0)) => mapping.is_empty(),
            (Some(history), Some(active)) => history.holds(active, &stored::text(mapping)),
        }
    }

    /// Decides the number, and writes down the intent. 0 without history. `recorded` is the
    /// active generation, if it is this very mapping.
    fn begin(
        &self,
        goal: &Goal<'_>,
        record: Record,
        active: Option<u64>,
        recorded: bool,
    ) -> Result<u64> {
        let draft = match record {
            Record::Number(number) => return Ok(number),
            Record::New(draft) => draft,
        };
        let Some(history) = &self.history else { return Ok(0) };
        // Nothing but tidying up: the mapping that serves stays, and so does its number.
        let same = recorded && goal.trial.is_none() && *goal.mapping == **self.state.active();
        if let (true, Some(active)) = (same, active) {
            return Ok(active);
        }
        let text = stored::text(goal.serving());
        let kernel = self.state.stamp().map(|stamp| stamp.generation);
        let header = self
            .ui
            .timed("write the history", || {
                history.begin(Draft { parent: active, ..draft }, &text, kernel)
            })
            .context("write the history")?;
        Ok(header.number)
    }

    /// Compare and swap on the generation of the ruleset; then a look at what is there.
    fn commit(&mut self, goal: &Goal<'_>, stamp: Stamp) -> Result<()> {
        for attempt in 1..=ATTEMPTS {
            let generation = self.state.snapshot.generation;
            let stamp = Stamp { ruleset: successor(generation), ..stamp };
            let table = goal.table(Some(stamp));
            let observed = self.state.observed();
            let halfway = table.as_ref().filter(|table| table.gate.is_none());
            let halfway = halfway.and_then(|t| t.beside_trial_of(&observed?.ruleset));
            let next = halfway.as_ref().or(table.as_ref());
            let mut steps = self.ui.timed("plan", || plan(next, observed));
            if steps.is_empty() {
                // The table does what it should, but has no place in the history yet.
                steps = restamp(table.as_ref(), self.state.observed());
            }
            match self.ui.timed("commit", || self.kernel.commit(&steps, generation)) {
                Ok(()) if halfway.is_some() => {
                    thread::sleep(GRACE);
                    self.state = State::read(&mut self.kernel)?;
                }
                Ok(()) => {
                    let Some(wrong) = self.read_back(goal, table, &steps)? else { return Ok(()) };
                    // Somebody was at our table already. It is made right as often as any other.
                    if attempt == ATTEMPTS {
                        bail!(
                            "another program keeps changing table inet portmap: to make it right \
                             would take to {wrong}"
                        );
                    }
                    self.state = State::read(&mut self.kernel)?;
                }
                Err(CommitError::Raced) => {
                    // Others have work to do as well; let them, a little longer each time.
                    thread::sleep(Duration::from_millis(u64::from(attempt.min(10))));
                    self.look_again()?;
                }
                Err(other) => return Err(other.into()),
            }
        }
        let message = format!(
            "commit: another program keeps changing the ruleset; gave up after {ATTEMPTS} tries"
        );
        bail!(Refusal::new(message, "nothing was changed; `nft monitor` shows who changes what"));
    }

    /// Looks at what is in the kernel now. A large table is not read whole again: everything but
    /// the elements of its maps is, and of the elements that were touched as many as tell.
    fn read_back(
        &mut self,
        goal: &Goal<'_>,
        table: Option<Ruleset>,
        steps: &[Step],
    ) -> Result<Option<String>> {
        let ui = self.ui;
        let missing = ui.timed("read back", || match table {
            Some(table) if table.maps.values().map(Map::len).sum::<usize>() > READ_BACK_WHOLE => {
                self.probe(table, steps)
            }
            _ => {
                self.state = State::read(&mut self.kernel)?;
                Ok(None)
            }
        })?;
        let mut left = goal.steps(&self.state);
        // A short trial of a large mapping may be over by now.
        left.retain(|step| !matches!(step, Step::ShutGate | Step::OpenGate { .. }));
        Ok(missing.or_else(|| left.first().map(Step::to_string)))
    }

    /// After others have committed: what the change was planned for may be no longer so.
    fn look_again(&mut self) -> Result<()> {
        let ran = self.state.running().is_some();
        self.state = State::read(&mut self.kernel)?;
        match self.state.running() {
            // A trial that somebody began meanwhile is not ended by the way.
            Some(trial) if !ran => Err(on_trial(trial.left).into()),
            _ => Ok(()),
        }
    }

    /// The state after a commit that made `table`, and what is wrong with it if anything is.
    fn probe(&mut self, table: Ruleset, steps: &[Step]) -> Result<Option<String>> {
        let mut snapshot = self.kernel.outline()?;
        let found = snapshot.table.get_or_insert_default();
        for (name, map) in &table.maps {
            // Compared below, element by element.
            if let (MapName::Ports(..), Some(slot)) = (name, found.ruleset.maps.get_mut(name)) {
                slot.clone_from(map);
            }
        }
        self.state = State::of(snapshot);
        for (name, services) in steps.iter().filter_map(Step::ports) {
            let apart = services.len().div_ceil(PROBES).max(1);
            for service in services.into_iter().step_by(apart) {
                let wanted = table.maps.get(&name).and_then(|map| map.target(service));
                if self.kernel.look_up(name, service)?.as_ref() != wanted {
                    return Ok(Some(format!("put {service} right in map {name}")));
                }
            }
        }
        Ok(None)
    }

    /// Ends what killed commands left open, by what the kernel says.
    fn mend(&mut self) -> Result<Vec<Mend>, journal::Error> {
        match &self.history {
            Some(history) => history.mend(self.state.seen()),
            None => Ok(Vec::new()),
        }
    }

    /// A commit that failed may have reached the kernel all the same, where its answer was lost
    /// or what was read back is not as it should be. Only the stamp tells.
    fn learn_the_outcome(&mut self) {
        let Ok(state) = State::read(&mut self.kernel) else { return };
        self.state = state;
        if let Err(e) = self.mend() {
            self.ui.warn(format_args!("write down how it ended: {}", chain(&e)));
        }
    }

    /// Deletes the flows that a killed command left behind.
    fn clean_after(&self, mend: Mend) {
        let Some(history) = &self.history else { return };
        if mend.to == Outcome::Failed {
            return;
        }
        let parent = history.header(mend.number).ok().and_then(|header| header.parent);
        let before = [Some(mend.number), parent].into_iter().flatten();
        let before = before.filter_map(|n| stored::mapping(history, n).ok()).map(Rc::new);
        self.clean_flows(&before.collect::<Vec<_>>(), self.state.serving());
    }

    /// A record that cannot be finished is no reason to undo what the kernel does: the stamp in
    /// the kernel tells the next command how it ended.
    pub fn finish(&self, number: u64, outcome: Outcome) {
        if let Some(history) = &self.history
            && number > 0
            && let Err(e) = history.finish(number, outcome)
        {
            self.ui.warn(format_args!(
                "the kernel does it, but the history does not say so yet: finish generation \
                 {number}: {}",
                chain(&e)
            ));
            self.ui.note(e.help());
        }
    }

    fn prune(&self) {
        let Some(history) = &self.history else { return };
        let active = self.active_generation().ok().flatten();
        if let Err(e) = history.prune(journal::KEEP, active) {
            self.ui.warn(format_args!("remove old generations: {}", chain(&e)));
        }
    }

    /// Deletes flows that were tracked under a mapping that serves no longer.
    fn clean_flows(&self, layers: &[Rc<MappingSet>], now: &MappingSet) {
        for before in layers {
            match self.ui.timed("clean flows", || conntrack::clean(before, now)) {
                Ok(flows) if flows > 0 && self.ui.verbose => {
                    self.ui.note(format_args!("{flows} outdated UDP flows deleted"));
                }
                Ok(_) => {}
                Err(e) => {
                    self.ui.warn(&e);
                    self.ui.note(e.help());
                }
            }
        }
    }
}

/// What was looked at before the lock was there, or another look if it has changed since. A trial
/// may have run out meanwhile: that is no commit, and no new generation.
fn still(looked: Looked) -> Result<(Kernel, State)> {
    let Looked { mut kernel, mut snapshot } = looked;
    let on_trial = snapshot.table.as_ref().is_some_and(|table| table.ruleset.gate.is_some());
    if on_trial || kernel.generation()? != snapshot.generation {
        snapshot = kernel.snapshot()?;
    }
    Ok((kernel, State::of(snapshot)))
}

/// The generation after the next commit: nf_tables skips 0 (`nf_tables_commit`).
fn successor(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}
