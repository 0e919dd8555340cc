//! How the table differs from what portmap put there.

use std::fmt;

use super::view::View;
use crate::formats::rules;
use crate::history::{Error, History};
use crate::mapping::changes::{Summary, changes};
use crate::mapping::words::fold_changes;
use crate::mapping::{GenerationId, MappingSet, Point};
use crate::plan::Step;

/// How the table differs from the generations that it says it carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Objects that are not portmap's, or not as portmap makes them.
    pub foreign: Vec<String>,
    /// Mappings that were added, removed or changed, in words.
    pub mappings: Vec<String>,
    /// What would have to be done so that the rules do what the maps say.
    pub repairs: Vec<String>,
}

impl Drift {
    /// `None` if the table is as portmap made it, or if the history does not know how that was.
    pub fn of(view: &View, history: &History) -> Result<Option<Self>, Error> {
        let mut drift = Self { foreign: view.foreign().to_vec(), ..Self::default() };
        // A table with foreign objects is made anew as a whole: those are the news.
        if drift.foreign.is_empty() {
            drift.repairs = view.repairs().iter().map(Step::to_string).collect();
        }
        let Some(stamped) = view.stamped() else { return Ok(drift.some()) };
        match view.trial() {
            None => drift.compare(history, Some(stamped.into()), view.active())?,
            Some(trial) => {
                drift.compare(history, Some(stamped.into()), &trial.mapping)?;
                drift.compare(history, history.active(view.seen()), view.active())?;
            }
        }
        Ok(drift.some())
    }

    /// The first difference, and how many there are.
    pub fn in_short(&self) -> String {
        let mut all = self.lines();
        let first = all.next().unwrap_or_default();
        match all.count() {
            0 => first.to_owned(),
            more => format!("{first}; and {more} more"),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        let all = [&self.foreign, &self.mappings, &self.repairs];
        all.into_iter().flatten().map(String::as_str)
    }

    fn some(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Adds how a layer differs from what was recorded of it.
    fn compare(
        &mut self,
        history: &History,
        recorded: Option<Point>,
        layer: &MappingSet,
    ) -> Result<(), Error> {
        let Some(recorded) = recorded else { return Ok(()) };
        let (written, number) = match recorded {
            Point::Beginning => (Some(MappingSet::default()), None),
            Point::Generation(number) if !history.contains(number) => return Ok(()),
            Point::Generation(number) => {
                let text = history.text(number)?;
                // The text is canonical: the same mapping is always written the same way.
                if rules::text(layer) == text {
                    return Ok(());
                }
                // Another version of portmap may have written it in other words.
                (rules::parse_stored(&format!("generation {number}"), text), Some(number))
            }
        };
        match (written, number) {
            (Some(written), _) => self.mappings.extend(in_words(&written, layer)),
            (None, Some(number)) => self.mappings.push(unreadable(number)),
            (None, None) => {}
        }
        Ok(())
    }
}

fn unreadable(number: GenerationId) -> String {
    format!("generation {number} cannot be read as a rules file")
}

/// The first differences, and how many there are: `+ 22/tcp -> 2222`.
fn in_words(before: &MappingSet, after: &MappingSet) -> Vec<String> {
    const SHOWN: usize = 3;
    let differences = changes(before, after);
    let lines = fold_changes(&differences);
    let mut words: Vec<_> = lines.iter().take(SHOWN).map(|(_, line)| line.clone()).collect();
    if lines.len() > SHOWN {
        words.push(format!("{} in all", Summary::of(&differences)));
    }
    words
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("; "))
    }
}
