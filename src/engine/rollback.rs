//! Back to what was before.

use std::rc::Rc;

use super::apply::restoring;
use super::change::{Goal, Wanted};
use super::error::{Refusal, Result};
use super::session::mapping_of;
use super::summary::Change;
use super::trial::Ended;
use super::view::View;
use super::{Engine, Locking};
use crate::history::{Command, History};
use crate::kernel::Kernel;
use crate::mapping::{MappingSet, Point};

/// Where to go back to.
#[derive(Clone, Debug, Default)]
pub struct RollbackRequest {
    /// `None`: to what was active before; during a trial, to what serves when it is over.
    pub to: Option<Point>,
    pub message: Option<String>,
}

/// What a rollback has done, or would do.
#[derive(Debug)]
pub enum RolledBack {
    /// A trial was ended.
    Trial(Ended),
    To(Point, Change),
}

impl RolledBack {
    pub fn change(&self) -> &Change {
        let (Self::Trial(Ended { change, .. }) | Self::To(_, change)) = self;
        change
    }

    pub fn into_change(self) -> Change {
        let (Self::Trial(Ended { change, .. }) | Self::To(_, change)) = self;
        change
    }
}

impl<K: Kernel> Engine<'_, K> {
    pub fn roll_back(&mut self, request: &RollbackRequest) -> Result<RolledBack> {
        let mut session = self.session(Locking::Required)?;
        // One that has run out too: who asks for this wants the trial to end, and no more.
        if request.to.is_none() {
            if let Some(ended) = session.end_trial()? {
                return Ok(RolledBack::Trial(ended));
            }
        }
        is_not_on_trial(&session.view, request.to)?;
        let Some(history) = &session.history else { unreachable!("the lock is required") };
        let target = target(history, session.active(), request.to)?;
        let mapping = mapping_of(history, target)?;
        let draft = restoring(Command::Rollback, request.message.clone(), target);
        let mut change = session.carry_out_ending_trial(Goal::mapping(&mapping), draft)?;
        session.look_ahead(&mut change);
        Ok(RolledBack::To(target, change))
    }

    /// What [`Engine::roll_back`] would do. Needs no lock.
    pub fn preview_rollback(&mut self, request: &RollbackRequest) -> Result<RolledBack> {
        let view = View::new(self.read_kernel()?);
        let history = self.history()?;
        if view.trial().is_some() && request.to.is_none() {
            let active = Rc::clone(view.active());
            let change = self.preview_back(&active, &view, &history);
            return Ok(RolledBack::Trial(Ended { change, was_running: view.running().is_some() }));
        }
        is_not_on_trial(&view, request.to)?;
        let target = target(&history, history.active(view.seen()), request.to)?;
        let mapping = mapping_of(&history, target)?;
        Ok(RolledBack::To(target, self.preview_back(&mapping, &view, &history)))
    }

    fn preview_back(&mut self, mapping: &MappingSet, view: &View, history: &History) -> Change {
        let goal = Goal::mapping(mapping);
        let wanted = Wanted::of(goal, &mut self.kernel, view, self.observer);
        self.preview_of(&wanted, view, Some(history))
    }
}

/// A trial ends by itself, or is confirmed: to go back to it is neither.
fn is_not_on_trial(view: &View, to: Option<Point>) -> Result<()> {
    let Some(trial) = view.running() else { return Ok(()) };
    match trial.id.map(|id| Point::Generation(id.0)) {
        Some(point) if to == Some(point) => Err(Refusal::OnTrial { left: trial.left }.into()),
        _ => Ok(()),
    }
}

/// Where a rollback goes to.
fn target(history: &History, active: Option<Point>, to: Option<Point>) -> Result<Point> {
    if let Some(to) = to {
        return Ok(to);
    }
    history.rollback_target(active).map_err(|nowhere| {
        let last = history.last_served().filter(|_| active == Some(Point::Beginning));
        Refusal::Nowhere { nowhere, last }.into()
    })
}
