//! What a change has done, or would do.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::Error;
use super::next_boot::NextBoot;
use super::view::TrialId;
use crate::mapping::{GenerationId, MappingSet};

/// The generation that boot restores; `None` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Persisted {
    pub before: Option<GenerationId>,
    pub after: Option<GenerationId>,
}

/// What a change has done, or would do.
#[derive(Debug)]
pub struct Change {
    /// What served before.
    pub before: Rc<MappingSet>,
    /// What serves after.
    pub after: Rc<MappingSet>,
    /// The generation that the kernel's table is stamped with; `None` without history or table.
    pub generation: Option<GenerationId>,
    /// Whether anything is committed to the kernel, even if only the number of the generation, or
    /// the removal of what an expired trial has left.
    pub is_committed: bool,
    /// When the kernel began to do it.
    pub committed_at: Option<Instant>,
    /// Whether the kernel does something else after, or does it by a table that is repaired.
    pub has_effect: bool,
    /// What is on trial then, and for how long.
    pub trial: Option<(TrialId, Duration)>,
    /// Objects in the table that did not belong there, and are removed.
    pub foreign: Vec<String>,
    /// What is done to the table although no mapping differs, in words.
    pub repairs: Vec<String>,
    /// Whether the empty chains stay, for connections that live through an earlier mapping.
    pub is_idle: bool,
    /// What became of the generation that boot restores, if that was asked for.
    pub persisted: Option<Persisted>,
    /// What the next boot brings, where a change was made that stays.
    pub next_boot: Option<NextBoot>,
    /// What failed after the kernel was changed.
    pub shortfall: Option<Error>,
}

impl Change {
    /// Nothing to do.
    pub fn none(serving: Rc<MappingSet>, generation: Option<GenerationId>) -> Self {
        Self {
            before: Rc::clone(&serving),
            after: serving,
            generation,
            is_committed: false,
            committed_at: None,
            has_effect: false,
            trial: None,
            foreign: Vec::new(),
            repairs: Vec::new(),
            is_idle: false,
            persisted: None,
            next_boot: None,
            shortfall: None,
        }
    }

    /// Whether anything is otherwise after: in the kernel, or at the next boot.
    pub fn is_change(&self) -> bool {
        self.has_effect || self.persisted.is_some_and(|p| p.before != p.after)
    }
}
