//! The one narrow door to the kernel's ruleset. Values go in and come out; netlink stays behind it.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::plan::Step;
use crate::ruleset::{Observed, Stamp};

/// The table, and the generation of the whole ruleset at which it was read.
#[derive(Debug)]
pub struct Snapshot {
    pub generation: u32,
    /// `None` if the table does not exist.
    pub table: Option<Observed>,
}
