//! The table is put back where another program has removed or changed it. Who did it is asked of a
//! [`Witness`]; what follows is decided in [`decide`]; it is done on the one path of change.

mod decide;
mod pace;

use std::time::Duration;

use super::boot::restorable;
use super::change::{Connections, Goal, Record};
use super::drift::Drift;
use super::error::{Context, Error, Result};
use super::observer::Event;
use super::session::{Session, mapping_of};
use super::summary::Change;
use super::view::View;
use super::{Engine, Locking};
use crate::history::{self, Guarding, History};
use crate::kernel::{self, Extent, Kernel};
use crate::mapping::{GenerationId, MappingSet, Point};
use crate::ruleset;

pub use decide::{By, Expected};
use decide::{Decision, Facts, Found, Trial};
pub use pace::{AT_ONCE, Pace, WINDOW};

/// Who has followed what was done to the table.
pub trait Witness {
    /// Who made the last change up to this generation of the ruleset; `None` if there has been one
    /// since.
    fn who(&mut self, generation: u32) -> std::result::Result<Option<By>, kernel::Error>;
}

/// What the guard knows.
#[derive(Debug, Default)]
pub struct Vigil {
    expected: Expected,
    /// At which generation of the ruleset the table was last seen.
    generation: u32,
}

/// What a look has shown.
#[derive(Debug)]
pub enum Seen {
    /// Nothing is to be done; what is expected is another thing than before, if `is_news`.
    Well { is_news: bool, mappings: usize },
    /// The mapping was not in the history, and is gone.
    Lost,
    /// Nothing can be told before this time has passed.
    Wait(Duration),
    /// The table is to be put back.
    Damaged,
}

/// What was put back.
#[derive(Debug)]
pub struct Mended {
    pub active: Point,
    /// How the table was found; `None` if it was gone.
    pub damage: Option<String>,
    /// Whether a trial goes on.
    pub is_on_trial: bool,
    pub change: Change,
}

/// A service manager starts one unit after another.
const JUST_NOW: Duration = Duration::from_secs(10);

/// How often the table is read again because it was changed meanwhile.
const ATTEMPTS: u32 = 10;

impl Vigil {
    pub fn expected(&self) -> Expected {
        self.expected
    }

    /// The generation of the whole ruleset that the last look was at.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// Lets others know that this process guards the table. Where there is no place for that, it is
    /// told, and no hindrance.
    pub fn stand_guard(&mut self) -> Result<Option<Guarding>> {
        match History::stand_guard(&self.state_dir, self.wait) {
            Ok(guarding) => Ok(Some(guarding)),
            Err(e @ history::Error::Io { .. }) => {
                let error = Error::from(e).context("go on, though nobody is told of the guard");
                self.observer.event(Event::Shortfall(&error));
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a guard has put the table back, so shortly ago that whoever removed it may not have
    /// come to its next step yet.
    pub fn was_just_put_back(&self) -> bool {
        let guard = self.history().ok().and_then(|history| history.guard_of());
        let last = guard.and_then(|guard| guard.last_repair);
        last.is_some_and(|at| at.elapsed().is_ok_and(|since| since < JUST_NOW))
    }

    /// Looks at the table, and changes nothing. Needs no lock.
    pub fn watch_over(&mut self, vigil: &mut Vigil, witness: &mut dyn Witness) -> Result<Seen> {
        let (view, by) = self.testified(witness)?;
        let history = self.history().context("read the history")?;
        let (facts, _) = facts(&view, &history)?;
        vigil.generation = view.generation();
        let before = vigil.expected;
        Ok(match facts.decide(before, by) {
            Decision::Leave(expected) => {
                vigil.expected = expected;
                let is_lost = before == Expected::Unrecorded && facts.found == Found::Absent;
                match is_lost && by != By::Portmap {
                    true => Seen::Lost,
                    false => Seen::Well {
                        is_news: !expected.is_like(before),
                        mappings: view.active().len(),
                    },
                }
            }
            Decision::Wait(time) => Seen::Wait(time),
            Decision::PutBack(_) | Decision::PutBackTrial { .. } => Seen::Damaged,
        })
    }

    /// The table as it is, and who made the last change to it.
    fn testified(&mut self, witness: &mut dyn Witness) -> Result<(View, By)> {
        for _ in 0..ATTEMPTS {
            let view = View::new(self.read(Extent::Whole)?);
            if let Some(by) = witness.who(view.generation())? {
                return Ok((view, by));
            }
        }
        Ok((View::new(self.read(Extent::Whole)?), By::Unknown))
    }

    /// Puts the table back; `None` if it turns out that there is nothing to put back.
    pub fn mend(&mut self, vigil: &mut Vigil, witness: &mut dyn Witness) -> Result<Option<Mended>> {
        let state_dir = self.state_dir.clone();
        let mut session = self.session(Locking::BestEffort)?;
        // Under the lock, no other portmap changes anything any more.
        let by = session.testimony(witness)?;
        // Where no history is kept, it may be readable all the same.
        let history = History::open(state_dir).context("read the history")?;
        let (facts, drift) = facts(&session.view, &history)?;
        let (active, trial) = match facts.decide(vigil.expected, by) {
            Decision::Leave(expected) => {
                vigil.expected = expected;
                vigil.generation = session.view.generation();
                return Ok(None);
            }
            Decision::Wait(_) => return Ok(None),
            Decision::PutBack(active) => (active, None),
            Decision::PutBackTrial { active, trial } => (active, Some(trial)),
        };
        let mapping = mapping_of(&history, active)?;
        let on_trial = trial.map(|trial| mapping_of(&history, trial.into())).transpose()?;
        let goal = session.goal(&mapping, on_trial.as_ref());
        let number = trial.or(active.generation());
        let change = session.carry_out(goal, Record::Existing(number), None)?;
        let newest = facts.newest.map(|(number, _)| number);
        vigil.expected = Expected::Recorded { active, newest };
        vigil.generation = session.view.generation();
        if !change.is_committed {
            return Ok(None);
        }
        let damage = drift.map(|drift| drift.in_short());
        Ok(Some(Mended { active, damage, is_on_trial: trial.is_some(), change }))
    }
}

impl<K: Kernel> Session<'_, K> {
    /// Who made the last change, after the table has been read again if need be.
    fn testimony(&mut self, witness: &mut dyn Witness) -> Result<By> {
        for _ in 0..ATTEMPTS {
            if let Some(by) = witness.who(self.view.generation())? {
                return Ok(by);
            }
            self.read_again()?;
        }
        Ok(By::Unknown)
    }

    /// A trial that is put back has no more time than it had left. A gate that is sound is not
    /// touched.
    fn goal<'m>(&self, mapping: &'m MappingSet, on_trial: Option<&'m MappingSet>) -> Goal<'m> {
        let observed = self.view.observed();
        let gate = observed.and_then(|observed| observed.ruleset.trial_gate());
        let is_remade = !self.view.foreign().is_empty();
        let trial = on_trial.zip(gate).map(|(mapping, gate)| ruleset::Trial {
            mapping,
            time: if is_remade { gate.left } else { gate.timeout },
            zone: observed.is_some_and(|observed| observed.ruleset.has_zone()),
        });
        Goal { mapping, trial, connections: Connections::Live }
    }
}

/// How the table is, and how it differs from what the history says of it.
fn facts(view: &View, history: &History) -> Result<(Facts, Option<Drift>)> {
    let drift = Drift::of(view, history).context("compare with the history")?;
    let found = match (view.observed(), &drift) {
        (None, _) => Found::Absent,
        (Some(_), None) => Found::Sound,
        (Some(_), Some(_)) => Found::Changed,
    };
    let newest = history.last_kept().map(|header| (header.number, header.is_empty()));
    // What cannot be read is not put back either.
    let boots = |number: GenerationId| {
        let boot = restorable(history).ok().flatten();
        boot.is_some_and(|boot| history.is_same_mapping(boot.into(), number.into()))
    };
    let is_persisted = found == Found::Absent && newest.is_some_and(|(number, _)| boots(number));
    let running = view.running();
    let trial = running.map(|t| Trial { number: t.id.map(|id| id.0), left: t.left });
    Ok((Facts { found, active: history.active(view.seen()), newest, is_persisted, trial }, drift))
}
