//! The mapping of a generation, from the history.

use anyhow::{Context, Result};

use crate::commands::failure::Refusal;
use crate::config;
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
    let name = format!("generation {number}");
    let loaded = config::parse_stored(&name, text);
    loaded.ok_or_else(|| {
        Refusal::new(
            format!("generation {number} was written down, but cannot be read as a rules file"),
            format!("`portmap show {number}` prints it; `portmap check` says what is wrong"),
        )
        .into()
    })
}
