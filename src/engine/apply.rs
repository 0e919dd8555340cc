//! Make the kernel do what a mapping says, at once or on trial; or show what that would change.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::change::{Assessment, Connections, Goal, Record, Wanted};
use super::error::{Context, Effect, Result};
use super::observer::Event;
use super::session::Session;
use super::summary::Change;
use super::view::View;
use super::{Engine, Locking, foresight};
use crate::history::{Command, Draft};
use crate::host::user::Who;
use crate::kernel::{Kernel, Snapshot};
use crate::mapping::Digest;
use crate::mapping::{GenerationId, MappingSet, Point};
use crate::ruleset::Trial;

/// What is to be applied.
#[derive(Debug)]
pub struct ApplyRequest {
    pub mapping: Rc<MappingSet>,
    /// The digest of what the mapping was read from, if that is known.
    pub input: Option<Digest>,
    /// The files that it was read from, as they were named.
    pub sources: Vec<String>,
    pub message: Option<String>,
    /// On trial for this time.
    pub trial: Option<Duration>,
    /// Make boot restore it.
    pub persist: bool,
    /// Whether it is refused if it would lead to something that its author may not see coming.
    pub strict: bool,
    /// Whether a generation is made of it.
    pub keeps_history: bool,
}

impl ApplyRequest {
    fn draft(&self) -> Draft {
        Draft {
            who: Some(Who::invoking()),
            command: Command::Apply,
            sources: self.sources.clone(),
            message: self.message.clone(),
            parent: None,
            restores: None,
            trial_until: self.trial.map(|time| SystemTime::now() + time),
        }
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// The active generation, if the kernel already does what this input says: it was the last to
    /// be applied, that was recorded, and nobody has committed anything since. Then there is
    /// nothing to read, neither the input's meaning nor the table.
    pub fn in_force(&mut self, input: Digest, persist: bool) -> Result<Option<GenerationId>> {
        let Some(stamp) = self.kernel.stamp()? else { return Ok(None) };
        let Some(number) = stamp.generation.filter(|_| stamp.input == Some(input)) else {
            return Ok(None);
        };
        if stamp.ruleset != self.kernel.generation()? {
            return Ok(None);
        }
        // Whatever is wrong with the history, the longer way will tell.
        let Ok(history) = self.history() else { return Ok(None) };
        let is_persisted = || {
            history.boot().is_ok_and(|boot| boot == Some(number)) && history.text(number).is_ok()
        };
        let persisted = !persist || is_persisted();
        Ok(Some(number).filter(|_| persisted && history.is_settled(number)))
    }

    /// Makes the kernel do what the request says. `snapshot` is what [`Engine::read_kernel`] read.
    pub fn apply(&mut self, request: &ApplyRequest, snapshot: Snapshot) -> Result<Change> {
        if snapshot.has_others {
            self.sweep();
        }
        let without_history = !request.persist && request.trial.is_none();
        let (snapshot, unchanged) = self.nothing_to_do(request, snapshot);
        if let Some(unchanged) = unchanged {
            return Ok(unchanged);
        }
        let locking =
            if request.keeps_history { Locking::Required } else { Locking::WithoutHistory };
        self.apply_locked(request, snapshot, locking)
            .map_err(|e| if without_history { e.or_without_history() } else { e })
    }

    /// Where the kernel does it already and the history knows it, no lock is needed to say so.
    fn nothing_to_do(
        &mut self,
        request: &ApplyRequest,
        snapshot: Snapshot,
    ) -> (Snapshot, Option<Change>) {
        let view = View::new(snapshot);
        let unchanged = request.keeps_history.then(|| self.unchanged(request, &view)).flatten();
        (view.into_snapshot(), unchanged)
    }

    fn unchanged(&self, request: &ApplyRequest, view: &View) -> Option<Change> {
        let number = view.stamped().filter(|_| view.trial().is_none() && !request.persist)?;
        let history = self.history().ok()?;
        let goal = Goal::mapping(&request.mapping);
        let assessment = Assessment::of(&Wanted { goal, is_idle: false }, view, Some(&history));
        let is_done = assessment.is_done(&goal) && history.is_settled(number);
        is_done.then(|| Change::none(Rc::clone(&request.mapping), Some(number)))
    }

    fn apply_locked(
        &mut self,
        request: &ApplyRequest,
        snapshot: Snapshot,
        locking: Locking,
    ) -> Result<Change> {
        let mut session = self.session_after(snapshot, locking)?;
        session.no_trial_runs()?;
        let active = Rc::clone(session.view.active());
        foresight::look(
            session.kernel,
            session.observer,
            &active,
            &request.mapping,
            request.strict,
        )?;
        let draft = request.draft();
        if let Some(time) = request.trial.filter(|_| *active != *request.mapping) {
            // A packet that is on its way past the gate of the trial before must not find it open.
            session.tidy()?;
            return session.try_out(&active, &request.mapping, time, draft);
        }
        let draft = Draft { trial_until: None, ..draft };
        let goal = Goal::mapping(&request.mapping);
        let input = request.input.filter(|_| request.trial.is_none());
        let mut change = session.carry_out(goal, Record::New(draft), input)?;
        if request.persist {
            session.persist_change(&mut change);
        } else {
            session.look_ahead(&mut change);
        }
        Ok(change)
    }

    /// What applying the mapping would change. Needs no lock.
    pub fn preview(
        &mut self,
        mapping: &Rc<MappingSet>,
        snapshot: Snapshot,
        strict: bool,
    ) -> Result<(Change, View)> {
        let view = View::new(snapshot);
        foresight::look(&mut self.kernel, self.observer, view.serving(), mapping, strict)?;
        let history = self.history().context("compare with the history")?;
        let wanted = Wanted { goal: Goal::mapping(mapping), is_idle: false };
        Ok((self.preview_of(&wanted, &view, Some(&history)), view))
    }

    /// Removes everything of portmap's from the kernel.
    pub fn clear(&mut self, keeps_history: bool) -> Result<Change> {
        let locking = if keeps_history { Locking::Required } else { Locking::WithoutHistory };
        let cleared = self.session(locking).and_then(|mut session| {
            let mut change = session.clear()?;
            session.look_ahead(&mut change);
            Ok(change)
        });
        let change = cleared.map_err(super::Error::or_without_history)?;
        self.sweep();
        Ok(change)
    }

    /// The same, and boot restores nothing any more.
    pub fn clear_for_good(&mut self) -> Result<Change> {
        let mut session = self.session(Locking::Required)?;
        let mut change = session.clear()?;
        session.forget_after(&mut change);
        session.look_ahead(&mut change);
        drop(session);
        self.sweep();
        Ok(change)
    }

    /// What [`Engine::clear`] would change. Needs no lock.
    pub fn preview_clear(&mut self) -> Result<Change> {
        let view = View::new(self.read_kernel()?);
        let nothing = MappingSet::default();
        let wanted = Wanted::of(clearing(&nothing), &mut self.kernel, &view, self.observer);
        Ok(self.preview_of(&wanted, &view, None))
    }
}

impl<K: Kernel> Session<'_, K> {
    fn clear(&mut self) -> Result<Change> {
        let nothing = MappingSet::default();
        let draft = Draft {
            who: Some(Who::invoking()),
            command: Command::Clear,
            sources: Vec::new(),
            message: None,
            parent: None,
            // A mapping of its own, though an empty one: a rollback undoes it.
            restores: None,
            trial_until: None,
        };
        self.carry_out_ending_trial(clearing(&nothing), draft)
    }

    /// Puts a mapping on trial. A kernel without connection tracking zones refuses the rules for
    /// them: then the trial goes without, and whatever else is wrong will show again.
    fn try_out(
        &mut self,
        active: &MappingSet,
        mapping: &MappingSet,
        time: Duration,
        draft: Draft,
    ) -> Result<Change> {
        let goal = |zone| {
            let trial = Some(Trial { mapping, time, zone });
            Goal { mapping: active, trial, connections: Connections::Live }
        };
        match self.carry_out(goal(true), Record::New(draft.clone()), None) {
            Err(e) if e.effect == Effect::Unchanged && e.is_unsupported() => {
                let change = self.carry_out(goal(false), Record::New(draft), None)?;
                self.observer.event(Event::TrialWithoutZone);
                Ok(change)
            }
            result => result,
        }
    }
}

/// That `nothing` is mapped, and nobody goes on through a mapping from before.
fn clearing(nothing: &MappingSet) -> Goal<'_> {
    Goal { connections: Connections::Cut, ..Goal::mapping(nothing) }
}

/// What a point in the history is restored with.
pub(super) fn restoring(command: Command, message: Option<String>, target: Point) -> Draft {
    Draft {
        who: Some(Who::invoking()),
        command,
        sources: Vec::new(),
        message,
        parent: None,
        restores: Some(target),
        trial_until: None,
    }
}
