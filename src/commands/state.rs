//! What the kernel is doing for us, as the commands see it.

use std::cell::OnceCell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::changes::{self, Change};
use crate::commands::stored;
use crate::journal::{self, Journal, Seen};
use crate::kernel::{Kernel, Snapshot};
use crate::mapping::MappingSet;
use crate::output::{Ui, fold_changes};
use crate::ruleset::{Layer, Observed, Stamp};

/// What the kernel is doing for us, read at one generation of the ruleset.
#[derive(Debug)]
pub struct State {
    pub(super) snapshot: Snapshot,
    active: OnceCell<Rc<MappingSet>>,
    /// The second layer, if there is one.
    pub trial: Option<TrialState>,
}

#[derive(Debug)]
pub struct TrialState {
    pub mapping: Rc<MappingSet>,
    /// Zero once the kernel has gone back.
    pub left: Duration,
}

impl State {
    pub fn read(kernel: &mut Kernel) -> Result<Self> {
        Ok(Self::of(kernel.snapshot()?))
    }

    pub fn of(snapshot: Snapshot) -> Self {
        let ruleset = snapshot.table.as_ref().map(|table| &table.ruleset);
        let trial = ruleset.and_then(|ruleset| {
            ruleset.asked_gate().map(|gate| TrialState {
                mapping: Rc::new(ruleset.mapping(Layer::Trial)),
                left: gate.left,
            })
        });
        Self { snapshot, active: OnceCell::new(), trial }
    }

    /// The first layer: what serves when no trial runs. Made out only when asked for.
    pub fn active(&self) -> &Rc<MappingSet> {
        self.active.get_or_init(|| {
            let observed = self.observed();
            Rc::new(observed.map(|o| o.ruleset.mapping(Layer::Active)).unwrap_or_default())
        })
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.snapshot.table.as_ref()
    }

    pub fn stamp(&self) -> Option<Stamp> {
        self.observed().and_then(|observed| observed.ruleset.stamp())
    }

    /// The generation that the table is stamped with: during a trial, the one on trial. `None`
    /// where there is no table, or where it was made without history.
    pub fn stamped(&self) -> Option<u64> {
        self.stamp().map(|stamp| stamp.generation).filter(|number| *number > 0)
    }

    /// The trial that is running.
    pub fn running(&self) -> Option<&TrialState> {
        self.trial.as_ref().filter(|trial| !trial.left.is_zero())
    }

    /// What answers at this moment.
    pub fn serving(&self) -> &Rc<MappingSet> {
        self.running().map_or_else(|| self.active(), |trial| &trial.mapping)
    }

    /// All that may have been in force since somebody last looked: both layers of a trial.
    pub(super) fn layers(&self) -> Vec<Rc<MappingSet>> {
        let trial = self.trial.as_ref().map(|trial| Rc::clone(&trial.mapping));
        [Rc::clone(self.active())].into_iter().chain(trial).collect()
    }

    /// What the journal needs to know of the kernel.
    pub fn seen(&self) -> Seen {
        Seen {
            generation: self.observed().map(|_| self.stamp().map_or(0, |s| s.generation)),
            trial: match &self.trial {
                None => journal::Trial::None,
                Some(trial) if trial.left.is_zero() => journal::Trial::Expired,
                Some(_) => journal::Trial::Running,
            },
        }
    }

    /// What in our table is not ours, or not as we make it; to be replaced.
    pub fn strange(&self) -> &[String] {
        self.observed().map(|observed| observed.foreign.as_slice()).unwrap_or_default()
    }
}

/// The kernel, and what it holds at one generation.
pub struct Looked {
    pub kernel: Kernel,
    pub snapshot: Snapshot,
}

/// Reads the kernel while `other` is done: neither needs the other, and each can be long.
/// What went wrong in `other` comes first.
pub fn look_while<T: Send>(
    ui: &Ui,
    other: impl FnOnce() -> Result<T> + Send,
) -> Result<(Looked, T)> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let looked = look(ui);
        match other.join() {
            Ok(other) => {
                let other = other?;
                Ok((looked?, other))
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Reads the kernel.
pub fn look(ui: &Ui) -> Result<Looked> {
    let mut kernel = Kernel::open()?;
    let snapshot = ui.timed("read the kernel", || kernel.snapshot())?;
    Ok(Looked { kernel, snapshot })
}

/// The generation that answers at this moment; `None` if nothing does, or if it has no place in
/// the history.
pub fn serving_generation(state: &State, journal: &Journal) -> Option<u64> {
    let stamp = state.stamp()?.generation;
    let number = match &state.trial {
        Some(trial) if trial.left.is_zero() => journal.header(stamp).ok()?.parent?,
        _ => stamp,
    };
    Some(number).filter(|n| *n > 0)
}

/// How the active layer differs from the generation that it is stamped with; `None` if it does
/// not, or if it has no place in the history.
pub fn drift(state: &State, journal: &Journal) -> Result<Option<String>, journal::Error> {
    let Some(observed) = state.observed() else { return Ok(None) };
    if let Some(foreign) = observed.foreign.first() {
        return Ok(Some(foreign.clone()));
    }
    let Some(number) = state.stamped() else {
        return Ok(None);
    };
    let text = match journal.read(number) {
        Ok((_, text)) => text,
        Err(journal::Error::Missing { .. } | journal::Error::Absent { .. }) => return Ok(None),
        Err(e) => return Err(e),
    };
    let stamped = state.trial.as_ref().map_or(state.active(), |trial| &trial.mapping);
    // The text is canonical: the same mapping is always written the same way.
    if stored::text(stamped) == text {
        return Ok(None);
    }
    let Some(written) = stored::parse(number, text) else {
        return Ok(Some(format!("generation {number} cannot be read as a rules file")));
    };
    // Another version of portmap may have written it in other words.
    if written == **stamped {
        return Ok(None);
    }
    Ok(Some(in_words(&changes::changes(&written, stamped))))
}

/// The first differences, and how many there are: `+ 22/tcp -> 2222`.
fn in_words(differences: &[Change<'_>]) -> String {
    const SHOWN: usize = 3;
    let lines = fold_changes(differences);
    let mut words: Vec<_> = lines.iter().take(SHOWN).map(|(_, line)| line.clone()).collect();
    if lines.len() > SHOWN {
        words.push(format!("{} in all", changes::Summary::of(differences)));
    }
    words.join("; ")
}
