//! What follows from the generations on disk and what the kernel says. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::record::{Header, Outcome};

/// What the kernel says of us. It must be read under the lock, if anything is to be changed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The generation in the stamp; `None` if there is no table. 0 is a table made without
    /// history.
    pub generation: Option<u64>,
    pub trial: Trial,
}

/// The second layer of the table, and the gate before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// There is no second layer: nothing was on trial, or it has been confirmed or tidied away.
    None,
    /// The gate's elements live: the second layer serves.
    Running,
    /// The kernel has expired them: the first layer serves again.
    Expired,
}

/// An outcome that the kernel decided and the disk does not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mend {
    pub number: u64,
    pub from: Outcome,
    pub to: Outcome,
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, from, to } = self;
        match (from, to) {
            (Outcome::Intent, Outcome::Failed) => {
                write!(f, "generation {number} was begun, but never reached the kernel: {to}")
            }
            (Outcome::Intent, _) => {
                write!(f, "generation {number} reached the kernel, but nobody wrote it down: {to}")
            }
            (_, Outcome::Committed) => write!(f, "the trial of generation {number} was confirmed"),
            _ => write!(f, "the trial of generation {number} ended without a confirm: {to}"),
        }
    }
}

/// How the generations that are still open did end, as the kernel knows.
pub fn recover<'a>(headers: impl IntoIterator<Item = &'a Header>, seen: Seen) -> Vec<Mend> {
    let mut mends = Vec::new();
    for header in headers.into_iter().filter(|header| header.is_open()) {
        let to = if !reached(header, seen) {
            match header.outcome {
                Outcome::Intent => Outcome::Failed,
                _ => Outcome::Reverted,
            }
        } else if header.trial_until.is_none() {
            Outcome::Committed
        } else {
            match seen.trial {
                // `confirm` and the end of the trial take the layer away; expiry leaves it.
                Trial::None => Outcome::Committed,
                Trial::Running => Outcome::Trial,
                Trial::Expired => Outcome::Reverted,
            }
        };
        if to != header.outcome {
            mends.push(Mend { number: header.number, from: header.outcome, to });
        }
    }
    mends
}

/// The empty mapping may leave no table, and so no stamp.
fn reached(header: &Header, seen: Seen) -> bool {
    match seen.generation {
        Some(generation) => generation == header.number,
        None => header.is_empty(),
    }
}

/// The generation that serves when no trial is running: 0 for no mapping, `None` if what is in
/// the kernel is not in the history.
///
/// An open generation counts as [`recover`] would end it. Headers come in the order of their
/// numbers.
pub fn active<'a>(
    headers: impl IntoIterator<Item = &'a Header, IntoIter: DoubleEndedIterator>,
    seen: Seen,
) -> Option<u64> {
    let mut headers = headers.into_iter().rev();
    match seen.generation {
        Some(0) => None,
        Some(generation) => {
            let on_trial = seen.trial != Trial::None;
            match headers.find(|header| header.number == generation) {
                Some(header) if on_trial && header.trial_until.is_some() => header.parent,
                _ => Some(generation),
            }
        }
        // No table: either that is what was last asked for, or somebody (a reboot, a flush)
        // took it.
        None => {
            let newest = headers.find(|header| {
                matches!(header.outcome, Outcome::Intent if header.is_empty())
                    || header.outcome == Outcome::Committed
            });
            Some(newest.filter(|header| header.is_empty()).map_or(0, |header| header.number))
        }
    }
}

/// The last generation that came to stay, if it was not the empty mapping: then nobody wants
/// anything back.
pub fn last_served<'a>(
    headers: impl IntoIterator<Item = &'a Header, IntoIter: DoubleEndedIterator>,
) -> Option<u64> {
    let mut headers = headers.into_iter().rev();
    let last = headers.find(|header| header.outcome == Outcome::Committed)?;
    (!last.is_empty()).then_some(last.number)
}

/// Why there is no generation to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// Before the active one was nothing.
    Beginning,
    /// What was active before the active one is not in the history.
    Unrecorded { active: u64 },
    /// It has been pruned.
    Pruned { target: u64 },
    /// The active generation itself is not in the history.
    Unknown,
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("nothing came before: no mapping is active"),
            Self::Unrecorded { active } => {
                write!(f, "what was active before generation {active} is not in the history")
            }
            Self::Pruned { target } => {
                write!(f, "generation {target}, the one before, is no longer kept")
            }
            Self::Unknown => f.write_str("what is active is not in the history"),
        }
    }
}

impl std::error::Error for Nowhere {}

/// Where `rollback` goes from `active`: 0 is the empty mapping. Again from there it goes one
/// further back.
///
/// `present` are the numbers of all generations with a file, readable or not: what is damaged is
/// for the reader of that file to report.
pub fn rollback_target<'a>(
    headers: impl IntoIterator<Item = &'a Header, IntoIter: DoubleEndedIterator>,
    present: &BTreeSet<u64>,
    active: Option<u64>,
) -> Result<u64, Nowhere> {
    let mut headers = headers.into_iter();
    let active = active.ok_or(Nowhere::Unknown)?;
    if active == 0 {
        // A reboot, or somebody's flush: what they took is what came before.
        return last_served(headers).ok_or(Nowhere::Beginning);
    }
    let header = headers.find(|header| header.number == active);
    let header = header.ok_or(Nowhere::Unknown)?;
    match header.back {
        Some(0) => Ok(0),
        Some(target) if present.contains(&target) => Ok(target),
        Some(target) => Err(Nowhere::Pruned { target }),
        None if header.restores == Some(0) => Err(Nowhere::Beginning),
        None => Err(Nowhere::Unrecorded { active }),
    }
}

/// The generations to remove so that `keep` stay: those that served, and of those that never did
/// as many again, lest a failure every half hour drive the good ones out.
///
/// The active one stays, the one that boot restores, those still open, and those that either of
/// them goes back to.
pub fn prunable<'a>(
    headers: impl IntoIterator<Item = &'a Header>,
    keep: usize,
    active: Option<u64>,
    boot: Option<u64>,
) -> Vec<u64> {
    let mut headers: Vec<&Header> = headers.into_iter().collect();
    headers.sort_by_key(|header| std::cmp::Reverse(header.number));

    let needed: BTreeSet<u64> = active.into_iter().chain(boot).collect();
    let mut kept = needed.clone();
    for header in &headers {
        if header.is_open() || needed.contains(&header.number) {
            kept.insert(header.number);
            kept.extend(header.parent);
            kept.extend(header.back);
        }
    }
    let (served, others): (Vec<&Header>, Vec<&Header>) =
        headers.into_iter().partition(|header| header.outcome == Outcome::Committed);
    let surplus = served.into_iter().skip(keep).chain(others.into_iter().skip(keep));
    let mut surplus: Vec<u64> = surplus.map(|header| header.number).collect();
    surplus.retain(|number| !kept.contains(number));
    surplus.sort_unstable();
    surplus
}

#[cfg(test)]
mod tests;
