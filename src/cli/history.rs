//! What `portmap history` is asked for.

use clap::Args;

use super::values::parse_generation;
use crate::mapping::Point;

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show what generation N has changed; with M, what differs in M from N.
    #[arg(long, value_name = "N", value_parser = parse_generation)]
    pub diff: Option<Point>,
    /// With --diff: the generation to compare N with [default: the one before N]
    #[arg(value_name = "M", value_parser = parse_generation, requires = "diff")]
    pub with: Option<Point>,
}
