use std::fmt;
use std::str::FromStr;

/// Where the mapping in the kernel comes from. It is the comment of a rule, and so changes in the
/// same transaction as what it describes.
///
/// Text form: `generation 12, ruleset 57, input 1f00c2d3e4f5a6b7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Our own generation, the number in the history; 0 if no history is kept.
    pub generation: u64,
    /// The generation of the whole ruleset (`NFTA_GEN_ID`) that the commit made. While the
    /// kernel still reports it, nobody has committed anything since.
    pub ruleset: u32,
    /// A digest of the input that was applied, if it is known.
    pub input: Option<u64>,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, ruleset {}", self.generation, self.ruleset)?;
        match self.input {
            Some(input) => write!(f, ", input {input:016x}"),
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
        let ruleset = field("ruleset").ok_or(())??.parse().map_err(drop)?;
        let input = match field("input") {
            None => None,
            Some(hex) => Some(u64::from_str_radix(hex?, 16).map_err(drop)?),
        };
        Ok(Self { generation, ruleset, input })
    }
}
