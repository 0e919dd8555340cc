//! Compare and swap on the generation of the ruleset; then a look at what is there.

use std::thread;
use std::time::Duration;

use super::change::Wanted;
use super::error::{Effect, Refusal, Result};
use super::observer::{Event, timed};
use super::session::Session;
use super::view::{View, filled_in};
use crate::kernel::{CommitError, Extent, Kernel};
use crate::mapping::GenerationId;
use crate::plan::{Step, plan, restamp};
use crate::ruleset::{Map, Ruleset, Stamp};

/// How often a commit is tried again because another program committed in between.
pub const ATTEMPTS: u32 = 50;

/// A table with at most so many elements is read back whole.
const READ_BACK_WHOLE: usize = 4096;

impl<K: Kernel> Session<'_, K> {
    /// Commits until the kernel does what is wanted. An error says in its effect whether something
    /// was committed.
    pub(super) fn commit(&mut self, wanted: &Wanted<'_>, stamp: Stamp) -> Result<()> {
        let mut landed = Effect::Unchanged;
        for _ in 0..ATTEMPTS {
            match self.commit_once(wanted, stamp) {
                Ok(Committed::Done) => return Ok(()),
                Ok(Committed::Halfway) => landed = Effect::Partly,
                Ok(Committed::Disturbed) => landed = Effect::Changed,
                Ok(Committed::Raced) => {}
                Err(e) => return Err(e.at_least(landed)),
            }
        }
        let left = wanted.steps(&self.view);
        Err(match (landed, left.first()) {
            // Another program was at our table each time.
            (Effect::Changed, Some(left)) => Refusal::Contested { left: left.to_string() }.into(),
            _ => super::Error::from(Refusal::Restless { attempts: ATTEMPTS }),
        }
        .at_least(landed))
    }

    fn commit_once(&mut self, wanted: &Wanted<'_>, stamp: Stamp) -> Result<Committed> {
        let generation = self.view.generation();
        let ran = self.view.running().is_some();
        let number = stamp.generation;
        let stamp = Stamp { ruleset: successor(generation), ..stamp };
        let table = wanted.table(Some(stamp));
        let observed = self.view.observed();
        let halfway = table.as_ref().filter(|table| table.gate.is_none());
        let halfway = halfway.and_then(|table| table.between(&observed?.ruleset));
        let next = halfway.as_ref().or(table.as_ref());
        let mut steps = timed(self.observer, "plan", || plan(next, observed));
        if steps.is_empty() {
            // The table does what it should, but has no place in the history yet.
            steps = restamp(table.as_ref(), observed);
        }
        self.observer.event(Event::Committing(&steps));
        let committed = timed(self.observer, "commit", || self.kernel.commit(&steps, generation));
        match committed {
            Ok(()) if halfway.is_some() => {
                if ran {
                    // At once: beside its flow of the trial, a client could not keep its port.
                    self.clear_trial_flows();
                }
                // Those that are under way by the rules from before; see `Ruleset::between`.
                self.kernel.wait_for_packets();
                self.read_again().map_err(|e| e.at_least(Effect::Partly))?;
                Ok(Committed::Halfway)
            }
            Ok(()) => {
                self.read_back(table.as_ref())?;
                if wanted.is_reached(&self.view, number) {
                    return Ok(Committed::Done);
                }
                let seen = self.look_again(ran || wanted.goal.trial.is_some());
                seen.map_err(|e| e.at_least(Effect::Changed))?;
                Ok(Committed::Disturbed)
            }
            Err(CommitError::Raced) => {
                // Others have work to do as well.
                thread::sleep(Duration::from_millis(5));
                self.look_again(ran)?;
                Ok(Committed::Raced)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Reads what is in the kernel now. Of a large table everything but the elements of its maps
    /// is read again.
    fn read_back(&mut self, table: Option<&Ruleset>) -> Result<()> {
        let elements = |table: &Ruleset| table.maps.values().map(Map::len).sum::<usize>();
        let large = table.filter(|table| elements(table) > READ_BACK_WHOLE);
        let extent = if large.is_some() { Extent::Outline } else { Extent::Whole };
        let snapshot = timed(self.observer, "read back", || self.kernel.snapshot(extent));
        let snapshot = snapshot.map_err(|e| super::Error::from(e).at_least(Effect::Changed))?;
        self.view = View::new(match large {
            Some(large) => filled_in(snapshot, large),
            None => snapshot,
        });
        Ok(())
    }

    /// After others have committed: what the change was planned for may be no longer so. A trial
    /// that somebody began meanwhile is not ended by the way.
    fn look_again(&mut self, may_run: bool) -> Result<()> {
        self.read_again()?;
        if may_run { Ok(()) } else { self.no_trial_runs() }
    }
}

/// What has become of one attempt.
enum Committed {
    Done,
    /// The first of two commits.
    Halfway,
    /// Committed, and changed again by another program before it was read back.
    Disturbed,
    /// Another program committed first: nothing was done.
    Raced,
}

impl Wanted<'_> {
    /// Whether the kernel does what is wanted, under this number. A short trial may be over by now.
    pub(super) fn is_reached(&self, view: &View, number: Option<GenerationId>) -> bool {
        let mut left = self.steps(view);
        left.retain(|step| !matches!(step, Step::ShutGate | Step::OpenGate { .. }));
        left.is_empty() && (view.observed().is_none() || view.stamped() == number)
    }
}

/// The generation after the next commit: nf_tables skips 0 (`nf_tables_commit`).
fn successor(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}
