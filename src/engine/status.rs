//! What is active, what the history says of it, and where the two differ.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::Engine;
use super::boot::restorable;
use super::drift::Drift;
use super::error::{Context, Error, Result};
use super::next_boot::NextBoot;
use super::others::{Others, RunStatus, TraceStatus};
use super::view::View;
use crate::formats::rules;
use crate::history::{Guard, History, Outcome, Seen};
use crate::host::listeners::Listening;
use crate::kernel::{Extent, Kernel};
use crate::mapping::{GenerationId, MappingSet, Point};

/// What is active.
#[derive(Debug)]
pub struct Status {
    pub view: View,
    /// What answers at this moment; `None` if it is not in the history.
    pub serving: Option<Point>,
    pub trial: Option<TrialStatus>,
    pub drift: Option<Drift>,
    /// Whether the table was left without mappings, for connections through an earlier one.
    pub is_idle: bool,
    /// The generation that is persisted, whether anything restores it or not.
    pub boot: Option<GenerationId>,
    /// What the next boot brings; `None` without history.
    pub next_boot: Option<NextBoot>,
    /// The generation that was active before a reboot or another program removed the table.
    pub lost: Option<GenerationId>,
    /// The mappings that live with a command, beside that of the files.
    pub runs: Vec<RunStatus>,
    /// The tables of traces and probes that are under way, or were killed.
    pub traces: Vec<TraceStatus>,
    /// The process that puts the table back if another program removes it.
    pub guard: Option<Guard>,
    /// What of the history cannot be read.
    pub problems: Vec<Error>,
    /// Who listens, with the names of those at a target.
    pub listening: Listening,
}

#[derive(Clone, Copy, Debug)]
pub struct TrialStatus {
    pub number: Option<GenerationId>,
    /// Zero once the kernel has gone back.
    pub left: Duration,
}

/// The history, and what the kernel says of it.
#[derive(Debug)]
pub struct Listing {
    pub history: History,
    /// An ordinary user may read the history, but not the kernel's table.
    pub seen: Result<Seen>,
}

/// How often the history is read again if it was changed meanwhile.
const ATTEMPTS: usize = 20;

impl<K: Kernel> Engine<'_, K> {
    pub fn status(&mut self) -> Result<Status> {
        let view = View::new(self.read_kernel()?);
        let Others { runs, traces } = self.others()?;
        let listening = self.at_targets(view.serving());
        let trial = view.trial().map(|t| TrialStatus { number: t.id.map(|id| id.0), left: t.left });
        let history = match self.history().context("read the history") {
            Ok(history) => history,
            Err(e) => {
                let (serving, drift, boot, lost) = (None, None, None, None);
                let (is_idle, problems, next_boot) = (view.is_idle(None), vec![e], None);
                return Ok(Status {
                    view,
                    serving,
                    trial,
                    drift,
                    is_idle,
                    boot,
                    next_boot,
                    lost,
                    runs,
                    traces,
                    guard: None,
                    problems,
                    listening,
                });
            }
        };
        let mut problems = Vec::new();
        let drift = Drift::of(&view, &history).context("compare with the history");
        let drift = known(drift, &mut problems);
        let before = problems.len();
        let boot = known(restorable(&history), &mut problems);
        let persisted = if problems.len() == before { Ok(boot) } else { Err(()) };
        let seen = view.seen();
        let lost = match (view.observed(), history.active(seen)) {
            (None, Some(Point::Beginning)) => history.last_served(),
            _ => None,
        };
        let serving = history.serving(seen);
        let is_idle = view.is_idle(Some(&history));
        let at_boot = self.system.at_boot(&self.state_dir);
        let next_boot = Some(NextBoot::of(at_boot, persisted, serving, &history));
        Ok(Status {
            serving,
            is_idle,
            trial,
            drift,
            boot,
            next_boot,
            lost,
            runs,
            traces,
            guard: history.guard_of(),
            problems,
            view,
            listening,
        })
    }

    fn at_targets(&mut self, mapping: &MappingSet) -> Listening {
        let mut protocols: Vec<_> = mapping.iter().map(|m| m.service.protocol).collect();
        protocols.dedup();
        let targets: HashSet<_> =
            mapping.iter().map(|m| (m.service.protocol, m.to.port())).collect();
        let mut listening = self.kernel.listening(&protocols);
        listening.name(|l| targets.contains(&(l.protocol, l.port)));
        listening
    }

    /// What is active, by the kernel alone.
    pub fn serving(&mut self) -> Result<Rc<MappingSet>> {
        Ok(Rc::clone(View::new(self.read_kernel()?).serving()))
    }

    /// The generations, and what the kernel says of them.
    pub fn list(&mut self) -> Result<Listing> {
        let mut seen = self.seen();
        for _ in 0..ATTEMPTS {
            let history = self.history().context("read the history")?;
            // All of it, before the kernel is asked again.
            history.entries().for_each(drop);
            let again = self.seen();
            match (&seen, &again) {
                // If somebody made a change meanwhile, the two do not belong together.
                (Ok(before), Ok(after)) if before != after => seen = again,
                _ => return Ok(Listing { history, seen: again }),
            }
        }
        Err(super::Refusal::Busy { attempts: ATTEMPTS as u32 }.into())
    }

    fn seen(&mut self) -> Result<Seen> {
        Ok(View::new(self.kernel.snapshot(Extent::Outline)?).seen())
    }

    /// A generation as a rules file; of what serves, if none is given. `None` for a mapping that
    /// is not in the history.
    pub fn show(&mut self, point: Option<Point>) -> Result<(Option<Point>, String)> {
        match point {
            Some(Point::Beginning) => Ok((point, String::new())),
            Some(Point::Generation(number)) => {
                let text = self.history()?.text(number);
                Ok((point, text.context(&format!("read generation {number}"))?))
            }
            None => {
                let view = View::new(self.read_kernel()?);
                let serving = self.history().ok().and_then(|h| h.serving(view.seen()));
                let serving = serving.filter(|point| *point != Point::Beginning);
                Ok((serving, rules::text(view.serving())))
            }
        }
    }
}

/// What is known, or else one problem more.
fn known<T>(result: Result<Option<T>>, problems: &mut Vec<Error>) -> Option<T> {
    result.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    })
}

impl Listing {
    /// What is active, as far as it is known.
    pub fn active(&self) -> Option<Point> {
        self.history.active(*self.seen.as_ref().ok()?)
    }

    /// How a generation has ended, or will be recorded to have.
    pub fn outcome(&self, number: GenerationId) -> Option<Outcome> {
        let header = self.history.header(number)?;
        let settlements = self.seen.as_ref().map(|seen| self.history.settlements(*seen));
        let settlements = settlements.unwrap_or_default();
        Some(match settlements.iter().find(|s| s.number == number) {
            // It may be on its way to the kernel at this moment.
            Some(s) if (s.from, s.to) == (Outcome::Intent, Outcome::Failed) => Outcome::Intent,
            Some(s) => s.to,
            None => header.outcome,
        })
    }
}
