//! What follows from the generations on disk and what the kernel says. Reads, and writes nothing.

use std::collections::BTreeSet;
use std::fmt;

use super::History;
use super::header::{Header, Outcome};
use crate::mapping::{GenerationId, Point};

/// What the kernel says of us. It must be read under the lock, if anything is to be changed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub stamp: Stamped,
    pub trial: Trial,
}

/// What our table says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamped {
    NoTable,
    /// A table without a stamp, or one that was made without history.
    Unrecorded,
    Generation(GenerationId),
}

/// The second layer of the table, and the gate before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// There is no second layer: nothing was on trial, or it has been confirmed or removed.
    None,
    /// The gate's elements live: the second layer serves.
    Running,
    /// The kernel has expired them: the first layer serves again.
    Expired,
}

/// An outcome that the kernel decided and the disk does not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub number: GenerationId,
    pub from: Outcome,
    pub to: Outcome,
}

impl fmt::Display for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, from, to } = self;
        match (from, to) {
            (Outcome::Intent, Outcome::Failed) => {
                write!(f, "generation {number} was begun, but never reached the kernel: {to}")
            }
            (Outcome::Intent, _) => {
                write!(f, "generation {number} reached the kernel, but was not recorded: {to}")
            }
            (_, Outcome::Committed) => write!(f, "the trial of generation {number} was confirmed"),
            _ => write!(f, "the trial of generation {number} was not confirmed: {to}"),
        }
    }
}

/// Why there is no generation to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    #[error("nothing came before: no mapping is active")]
    Beginning,
    /// What was active before the active one is not in the history.
    #[error("what was active before generation {active} is not in the history")]
    Unrecorded { active: GenerationId },
    #[error("generation {target}, the one before, is no longer kept")]
    Pruned { target: GenerationId },
    /// The active generation itself is not in the history.
    #[error("the active mapping is not in the history")]
    Unknown,
}

impl History {
    /// How the generations that are still open did end, as the kernel knows.
    pub fn settlements(&self, seen: Seen) -> Vec<Settlement> {
        let open = self.headers().filter(|header| header.is_open());
        open.filter_map(|header| {
            let (number, from, to) = (header.number, header.outcome, ended(header, seen));
            (to != from).then_some(Settlement { number, from, to })
        })
        .collect()
    }

    /// What serves when no trial is running. `None` if what is in the kernel is not in the
    /// history. An open generation counts as [`History::settlements`] would end it.
    pub fn active(&self, seen: Seen) -> Option<Point> {
        match seen.stamp {
            Stamped::Unrecorded => None,
            Stamped::Generation(number) => {
                // A number without a file is a history that was lost: it leads nowhere.
                let known = self.contains(number).then_some(Point::Generation(number));
                match (seen.trial, self.header(number)) {
                    (Trial::None, _) => known,
                    (_, Some(header)) if header.trial_until.is_none() => known,
                    // If it cannot be read, nobody knows what was before it.
                    (_, header) => header?.parent,
                }
            }
            // Either that is what was last asked for, or something (a reboot, a flush) took it.
            Stamped::NoTable => {
                let newest = self.headers().rev().find(|header| {
                    header.outcome == Outcome::Committed
                        || header.outcome == Outcome::Intent && header.is_empty()
                });
                let newest = newest.filter(|header| header.is_empty());
                Some(newest.map_or(Point::Beginning, |header| header.number.into()))
            }
        }
    }

    /// What answers at this moment; `None` if it is not in the history.
    pub fn serving(&self, seen: Seen) -> Option<Point> {
        match (seen.stamp, seen.trial) {
            (Stamped::Generation(number), Trial::Running) => {
                self.contains(number).then_some(number.into())
            }
            _ => self.active(seen),
        }
    }

    /// The last generation that came to stay, if it was not the empty mapping: then nobody wants
    /// anything back.
    pub fn last_served(&self) -> Option<GenerationId> {
        let last = self.last_kept()?;
        (!last.is_empty()).then_some(last.number)
    }

    /// The last generation that came to stay.
    pub fn last_kept(&self) -> Option<&Header> {
        self.headers().rev().find(|header| header.outcome == Outcome::Committed)
    }

    /// Where `rollback` goes from `active`. Again from there it goes one further back.
    ///
    /// A generation that repaired what others had done repeats the mapping before it: the way
    /// leads past those that would change nothing.
    pub fn rollback_target(&self, active: Option<Point>) -> Result<Point, Nowhere> {
        let is_same = |target: GenerationId| {
            let active = active.filter(|active| *active != Point::Beginning);
            active.is_some_and(|active| self.is_same_mapping(active, target.into()))
        };
        let mut target = self.back(active)?;
        let mut seen = BTreeSet::new();
        while let Point::Generation(number) = target {
            if !is_same(number) || !seen.insert(number) {
                break;
            }
            target = self.back(Some(target))?;
        }
        Ok(target)
    }

    /// Whether two points have the same mapping; `false` for what is not in the history.
    pub fn is_same_mapping(&self, one: Point, other: Point) -> bool {
        let mapping = |point| match point {
            Point::Beginning => Some((0, crc32fast::hash(b""))),
            Point::Generation(number) => {
                self.header(number).map(|header| (header.mapping_bytes, header.mapping_crc32))
            }
        };
        mapping(one).is_some_and(|one| Some(one) == mapping(other))
    }

    fn back(&self, from: Option<Point>) -> Result<Point, Nowhere> {
        let from = match from.ok_or(Nowhere::Unknown)? {
            // A reboot, or a flush by another program: what it took is what came before.
            Point::Beginning => {
                return self.last_served().map(Point::from).ok_or(Nowhere::Beginning);
            }
            Point::Generation(from) => from,
        };
        let header = self.header(from).ok_or(Nowhere::Unknown)?;
        match header.back {
            Some(Point::Beginning) => Ok(Point::Beginning),
            // What is damaged is for the reader of that file to report.
            Some(Point::Generation(target)) if self.contains(target) => Ok(target.into()),
            Some(Point::Generation(target)) => Err(Nowhere::Pruned { target }),
            None if header.restores == Some(Point::Beginning) => Err(Nowhere::Beginning),
            None => Err(Nowhere::Unrecorded { active: from }),
        }
    }

    /// The generations to remove so that `keep` stay: those that served, and of those that never
    /// did as many again, so that a failure every half hour does not drive the good ones out.
    ///
    /// The active one stays, the one that boot restores, those still open, and those that either
    /// of them goes back to.
    pub fn prunable(
        &self,
        keep: usize,
        active: Option<Point>,
        boot: Option<GenerationId>,
    ) -> BTreeSet<GenerationId> {
        if self.numbers().count() <= keep {
            return BTreeSet::new();
        }
        let generation = |point: Option<Point>| point.and_then(Point::generation);
        let needed: BTreeSet<_> = generation(active).into_iter().chain(boot).collect();
        let mut kept = needed.clone();
        for header in self.headers() {
            if header.is_open() || needed.contains(&header.number) {
                kept.insert(header.number);
                kept.extend(generation(header.parent));
                kept.extend(generation(header.back));
            }
        }
        let served = |header: &&Header| header.outcome == Outcome::Committed;
        let (served, others): (Vec<_>, Vec<_>) = self.headers().rev().partition(served);
        let surplus = served.into_iter().skip(keep).chain(others.into_iter().skip(keep));
        surplus.map(|header| header.number).filter(|number| !kept.contains(number)).collect()
    }
}

/// How an open generation did end.
fn ended(header: &Header, seen: Seen) -> Outcome {
    if !reached_the_kernel(header, seen) {
        return match header.outcome {
            Outcome::Intent => Outcome::Failed,
            _ => Outcome::Reverted,
        };
    }
    match seen.trial {
        _ if header.trial_until.is_none() => Outcome::Committed,
        // `confirm` and the end of the trial take the layer away; expiry leaves it.
        Trial::None => Outcome::Committed,
        Trial::Running => Outcome::Trial,
        Trial::Expired => Outcome::Reverted,
    }
}

/// The empty mapping may leave no table, and so no stamp.
fn reached_the_kernel(header: &Header, seen: Seen) -> bool {
    match seen.stamp {
        Stamped::NoTable => header.is_empty(),
        Stamped::Unrecorded => false,
        Stamped::Generation(number) => number == header.number,
    }
}

#[cfg(test)]
mod tests;
