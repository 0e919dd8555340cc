//! The number of a generation, and the points in the history that one can go back to.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of one generation in the history, from 1 up, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(NonZeroU64);

impl GenerationId {
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// `None` for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number after this one, if there is one.
    pub const fn successor(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in the history: the beginning, when nothing was mapped, or a generation. People write
/// the beginning as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub enum Point {
    Beginning,
    Generation(GenerationId),
}

impl Point {
    pub const fn generation(self) -> Option<GenerationId> {
        match self {
            Point::Beginning => None,
            Point::Generation(id) => Some(id),
        }
    }
}

impl From<GenerationId> for Point {
    fn from(id: GenerationId) -> Self {
        Point::Generation(id)
    }
}

impl From<u64> for Point {
    fn from(number: u64) -> Self {
        GenerationId::new(number).map_or(Point::Beginning, Point::Generation)
    }
}

impl From<Point> for u64 {
    fn from(point: Point) -> Self {
        point.generation().map_or(0, GenerationId::get)
    }
}

impl FromStr for Point {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u64>().map(Self::from)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u64::from(*self).fmt(f)
    }
}
