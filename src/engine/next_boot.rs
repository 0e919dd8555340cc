//! What the next boot brings: which generation is persisted is one fact, whether anything restores it
//! another.

use std::path::Path;

use super::error::{Error, Refusal};
use crate::history::History;
use crate::host::boot::{AtBoot, Missing};
use crate::mapping::{GenerationId, Point};

/// What the next boot brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBoot {
    pub brings: Brings,
    /// Whether what serves now serves after it; `None` if that cannot be told.
    pub is_same: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brings {
    /// Nothing is persisted, and nothing applies rules files.
    Nothing,
    /// The persisted generation.
    Generation { number: GenerationId, is_empty: bool, by: String },
    /// A generation is persisted, and nothing restores it.
    NotRestored { number: GenerationId, is_empty: bool, why: Missing },
    /// What rules files say then, whatever is persisted.
    Files { by: String },
    /// What is persisted cannot be read.
    Unknown,
}

impl NextBoot {
    /// With the persisted generation, if it could be read, and what serves now.
    pub(super) fn of(
        at_boot: AtBoot,
        persisted: Result<Option<GenerationId>, ()>,
        serving: Option<Point>,
        history: &History,
    ) -> Self {
        let empty = |number| history.header(number).is_some_and(|header| header.is_empty());
        let serves = |point| serving.map(|serving| history.is_same_mapping(serving, point));
        if let Some(by) = at_boot.applies {
            return Self { brings: Brings::Files { by }, is_same: None };
        }
        let Ok(persisted) = persisted else {
            return Self { brings: Brings::Unknown, is_same: None };
        };
        match (persisted, at_boot.restores) {
            (None, _) => Self { brings: Brings::Nothing, is_same: serves(Point::Beginning) },
            (Some(number), Ok(by)) => Self {
                brings: Brings::Generation { number, is_empty: empty(number), by },
                is_same: serves(number.into()),
            },
            (Some(number), Err(why)) => Self {
                brings: Brings::NotRestored { number, is_empty: empty(number), why },
                is_same: serves(Point::Beginning),
            },
        }
    }

    /// Whether boot brings a mapping that is not what serves now.
    pub fn brings_another(&self) -> bool {
        match &self.brings {
            Brings::Generation { is_empty: false, .. } => self.is_same == Some(false),
            Brings::Files { .. } => true,
            _ => false,
        }
    }

    /// Why what was persisted is not restored. An empty mapping needs nothing to be.
    pub(super) fn shortfall(&self) -> Option<Error> {
        match &self.brings {
            Brings::NotRestored { number, is_empty: false, why } => {
                Some(Refusal::NotRestored { number: *number, why: why.clone() }.into())
            }
            _ => None,
        }
    }
}

/// What boot starts for a state directory, after trying to have it restore what is persisted there.
pub(super) fn arranged(system: &crate::host::boot::System, state_dir: &Path) -> AtBoot {
    let at_boot = system.at_boot(state_dir);
    match &at_boot.restores {
        Err(missing) if missing.can_be_enabled() => match system.enable() {
            Ok(()) => system.at_boot(state_dir),
            Err(why) => AtBoot { restores: Err(Missing::NotEnabling(why)), ..at_boot },
        },
        _ => at_boot,
    }
}
