use std::fmt;
use std::str::FromStr;

use crate::mapping::{Digest, GenerationId};

/// Where the mapping in the kernel comes from. It is the comment of a rule, and so changes in the
/// same transaction as what it describes.
///
/// Text form: `generation 12, ruleset 57, input 1f00c2d3e4f5a6b78091a2b3c4d5e6f7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Our own generation in the history; `None` (written as 0) if no history is kept.
    pub generation: Option<GenerationId>,
    /// The generation of the whole ruleset (`NFTA_GEN_ID`) that the commit made. While the
    /// kernel still reports it, nobody has committed anything since.
    pub ruleset: u32,
    /// A digest of the input that was applied, if it is known.
    pub input: Option<Digest>,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.generation.map_or(0, GenerationId::get);
        write!(f, "generation {generation}, ruleset {}", self.ruleset)?;
        match self.input {
            Some(input) => write!(f, ", input {input}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(", ");
        let mut field = |name: &str| {
            parts
                .next()
                .map(|part| part.strip_prefix(name).and_then(|v| v.strip_prefix(' ')).ok_or(()))
        };
        let generation = field("generation").ok_or(())??.parse().map_err(drop)?;
        let generation = GenerationId::new(generation);
        let ruleset = field("ruleset").ok_or(())??.parse().map_err(drop)?;
        let input = match field("input") {
            None => None,
            // Of an earlier build: its digests, of 64 bits, are none of ours.
            Some(Ok(hex)) if is_short_digest(hex) => None,
            Some(hex) => Some(hex?.parse()?),
        };
        Ok(Self { generation, ruleset, input })
    }
}

fn is_short_digest(hex: &str) -> bool {
    hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_an_earlier_build_names_its_generation() {
        let stamp: Stamp = "generation 12, ruleset 57, input 1f00c2d3e4f5a6b7".parse().unwrap();
        assert_eq!(stamp, Stamp { generation: GenerationId::new(12), ruleset: 57, input: None });
        for text in ["generation 12, ruleset 57, input 1f00", "generation 12, ruleset 57, input "] {
            assert_eq!(text.parse::<Stamp>(), Err(()), "{text}");
        }
    }
}
