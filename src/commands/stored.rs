//! The mapping of a generation, from the history.

use anyhow::{Context, Result};

use crate::commands::failure::Refusal;
use crate::config::{self, Facts, Source};
use crate::journal::Journal;
use crate::mapping::MappingSet;

/// 0 is the empty mapping.
pub fn mapping(journal: &Journal, number: u64) -> Result<MappingSet> {
    if number == 0 {
        return Ok(MappingSet::default());
    }
    let (_, text) = journal.read(number).context(format!("read generation {number}"))?;
    if text.is_empty() {
        return Ok(MappingSet::default());
    }
    parse(number, text).ok_or_else(|| {
        Refusal::new(
            format!("generation {number} was written down, but cannot be read as a rules file"),
            format!("`portmap show {number}` prints it; `portmap check` says what is wrong"),
        )
        .into()
    })
}

/// The text under which a mapping is kept: none for the empty one.
pub fn text(mapping: &MappingSet) -> String {
    if mapping.is_empty() { String::new() } else { config::write(mapping) }
}

/// The mapping that the text of a generation says; written by us, it holds no names of services.
pub fn parse(number: u64, text: String) -> Option<MappingSet> {
    let source = Source { name: format!("generation {number}"), text };
    config::load(&[source], &Facts::default(), &|_, _| None).mappings
}
