//! The limits, and whether they are kept.

use crate::noise::Twins;
use crate::report::Table;

pub struct Check {
    pub what: &'static str,
    pub value: f64,
    pub limit: f64,
    pub unit: &'static str,
    /// `None` where noise plays no part.
    pub noise: Option<Noise>,
}

/// How alike identical contenders were meanwhile.
pub struct Noise {
    pub twins: Twins,
    /// Of what the noise is a part: the value itself, or what it is a difference of.
    pub of: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Missed,
    TooNoisy,
}

impl Check {
    /// On a noisy machine no limit is missed, and one is kept only if noise cannot be the reason.
    pub fn verdict(&self) -> Verdict {
        let Check { value, limit, .. } = *self;
        match &self.noise {
            Some(Noise { twins, of }) if !twins.agree() => match value + of * twins.noise() {
                most if most <= limit => Verdict::Kept,
                _ => Verdict::TooNoisy,
            },
            _ if value <= limit => Verdict::Kept,
            _ => Verdict::Missed,
        }
    }
}

pub fn table(checks: &[Check]) -> Table {
    let row = |check: &Check| {
        vec![
            check.what.to_string(),
            format!("{:.2}{}", check.value, check.unit),
            format!("{}{}", check.limit, check.unit),
            check.noise.as_ref().map_or("-".to_string(), |noise| noise.twins.to_string()),
            match check.verdict() {
                Verdict::Kept => "yes",
                Verdict::Missed => "NO",
                Verdict::TooNoisy => "too noisy",
            }
            .to_string(),
        ]
    };
    Table {
        head: vec!["limit", "measured", "at most", "twins", "kept"],
        rows: checks.iter().map(row).collect(),
    }
}
