//! How two generations differ.

use super::Engine;
use super::error::{Refusal, Result};
use super::session::mapping_of;
use crate::kernel::Kernel;
use crate::mapping::{MappingSet, Point};

#[derive(Debug)]
pub struct Difference {
    pub from: Point,
    pub to: Point,
    pub before: MappingSet,
    pub after: MappingSet,
}

impl<K: Kernel> Engine<'_, K> {
    /// From one generation to another; without `from`, from the one that `to` was made from.
    pub fn difference(&self, from: Option<Point>, to: Point) -> Result<Difference> {
        let history = self.history()?;
        let after = mapping_of(&history, to)?;
        let parent = || {
            let Point::Generation(number) = to else { return Err(Refusal::FirstOfAll) };
            let parent = history.header(number).and_then(|header| header.parent);
            parent.ok_or(Refusal::UnknownParent { number })
        };
        let from = from.map_or_else(parent, Ok)?;
        let before = mapping_of(&history, from)?;
        Ok(Difference { from, to, before, after })
    }
}
